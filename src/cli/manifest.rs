//! Manifests from files, directories and standard input.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::api::v1::ManifestFile;
use crate::api::{Code, Error, Result};

/// Most bytes one file or stream of documents may have.
pub const LIMIT: u64 = crate::api::MAX_INPUT as u64;

/// Reads every `-f` argument. Nothing is applied when one cannot be read.
///
/// # Errors
/// Files that cannot be opened, are too large, alone or together, or directories
/// without manifests.
pub fn read_all(files: &[String]) -> Result<Vec<ManifestFile>> {
    if files.iter().filter(|file| *file == "-").count() > 1 {
        return Err(Error::invalid("Usage", "-f - can be given only once"));
    }
    let mut manifests = Vec::new();
    for file in files {
        if file == "-" {
            manifests.push(read("standard input", std::io::stdin().lock())?);
            continue;
        }
        let path = Path::new(file);
        if path.is_dir() {
            for path in in_directory(path)? {
                manifests.push(open(&path)?);
            }
        } else {
            manifests.push(open(path)?);
        }
    }
    let whole: u64 = manifests.iter().map(|m| m.text.len() as u64).sum();
    if whole > LIMIT {
        let what = format!(
            "{} are larger than {} MiB",
            files.join(", "),
            LIMIT / 1024 / 1024
        );
        return Err(Error::invalid("ManifestTooLarge", what).hint("give fewer files at a time"));
    }
    Ok(manifests)
}

/// The manifests in a directory, sorted by name.
fn in_directory(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory).map_err(|e| unreadable(directory, &e))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| unreadable(directory, &e))?.path();
        let known = path
            .extension()
            .is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        if known && path.is_file() {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        let what = format!(
            "no documents found: directory {} has no *.yaml, *.yml or *.json file",
            directory.display()
        );
        return Err(Error::invalid("NoDocuments", what));
    }
    paths.sort();
    Ok(paths)
}

fn open(path: &Path) -> Result<ManifestFile> {
    let file = File::open(path).map_err(|e| unreadable(path, &e))?;
    read(&path.display().to_string(), file)
}

fn read(source: &str, from: impl Read) -> Result<ManifestFile> {
    let mut bytes = Vec::new();
    from.take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| unreadable(Path::new(source), &e))?;
    if bytes.len() as u64 > LIMIT {
        let what = format!("{source} is larger than {} MiB", LIMIT / 1024 / 1024);
        return Err(Error::invalid("ManifestTooLarge", what)
            .hint("split it: that is the limit of one request"));
    }
    Ok(ManifestFile {
        source: source.to_owned(),
        text: bytes,
    })
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    let code = match error.kind() {
        std::io::ErrorKind::NotFound => Code::NotFound,
        std::io::ErrorKind::PermissionDenied => Code::Permission,
        _ => Code::Failed,
    };
    let what = format!("failed to open file {}: {error}", path.display());
    Error::new(code, "FileUnreadable", what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_read_sorted_and_only_manifests() {
        let dir = tempfile::tempdir().expect("directory");
        for name in ["b.yml", "a.yaml", "c.json", "d.txt"] {
            std::fs::write(dir.path().join(name), name).expect("write");
        }
        let read = read_all(&[dir.path().display().to_string()]).expect("manifests");
        let bytes: Vec<_> = read.iter().map(|m| m.text.as_slice()).collect();
        assert_eq!(bytes, [&b"a.yaml"[..], b"b.yml", b"c.json"]);
    }

    #[test]
    fn an_endless_stream_is_refused() {
        let error = read("zeros", std::io::repeat(b'a')).expect_err("too large");
        assert_eq!(error.reason, "ManifestTooLarge");
        assert!(read("fits", std::io::repeat(b'a').take(LIMIT)).is_ok());
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = read_all(&["/nonexistent.yaml".into()]).expect_err("missing");
        assert_eq!(error.code, Code::NotFound);
        assert!(error.message.contains("/nonexistent.yaml"));
        let dir = tempfile::tempdir().expect("directory");
        let error = read_all(&[dir.path().display().to_string()]).expect_err("empty");
        assert_eq!(error.reason, "NoDocuments");
        assert!(read_all(&["-".into(), "-".into()]).is_err());
    }
}
