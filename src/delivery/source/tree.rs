//! The files of a source, in memory, within limits.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::delivery::failure::{Failure, Reason, Result};
use crate::oci::{Algorithm, Digest, Hasher};

/// Most bytes of a source, unpacked.
pub const MAX_BYTES: usize = 64 << 20;
/// Most entries of a source, directories counted.
pub const MAX_ENTRIES: usize = 10_000;
/// PATH_MAX; longer names are an attack.
const MAX_PATH: usize = 4096;

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Content.
    pub bytes: Vec<u8>,
    /// Whether it may be executed.
    pub executable: bool,
}

/// Regular files by relative path, in byte order of the path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    files: BTreeMap<String, File>,
    bytes: usize,
    entries: usize,
}

impl Tree {
    /// Puts a file in; one at the same path is replaced. Refused
    /// (`SourceInvalid`): paths that leave the tree, and more than fits.
    pub fn insert(&mut self, path: &str, file: File) -> Result<()> {
        let path = clean(path)?;
        if path.is_empty() {
            return Err(invalid("a file without a name"));
        }
        self.count(file.bytes.len())?;
        if let Some(old) = self.files.insert(path, file) {
            self.bytes -= old.bytes.len();
        }
        Ok(())
    }

    /// Counts an entry and its bytes against the limits.
    pub(super) fn count(&mut self, bytes: usize) -> Result<()> {
        self.entries += 1;
        self.bytes += bytes;
        if self.entries > MAX_ENTRIES {
            return Err(invalid(format!("more than {MAX_ENTRIES} entries")));
        }
        if self.bytes > MAX_BYTES {
            return Err(invalid(format!("more than {MAX_BYTES} bytes")));
        }
        Ok(())
    }

    /// How many bytes still fit.
    pub(super) fn room(&self) -> usize {
        MAX_BYTES.saturating_sub(self.bytes)
    }

    /// The file at a path.
    pub fn get(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }

    /// Paths and files, in byte order of the paths.
    pub fn files(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// The files by path.
    pub fn into_files(self) -> BTreeMap<String, File> {
        self.files
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// What is below a directory; `SourceNotFound` where nothing is. A file's
    /// own path gives that file alone.
    pub fn below(&self, path: &str) -> Result<Tree> {
        let path = clean(path)?;
        if path.is_empty() {
            return Ok(self.clone());
        }
        let mut out = Tree::default();
        let front = format!("{path}/");
        for (name, file) in &self.files {
            let inner = match name.strip_prefix(&front) {
                Some(inner) => inner,
                None if *name == path => path.rsplit('/').next().unwrap_or(&path),
                None => continue,
            };
            out.insert(inner, file.clone())?;
        }
        match out.is_empty() {
            true => Err(Failure::new(
                Reason::SourceNotFound,
                format!("the source has nothing at {path:?}"),
            )),
            false => Ok(out),
        }
    }

    /// Digest of all paths, execute bits and contents, `sha256:…`.
    pub fn digest(&self) -> String {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        for (path, file) in &self.files {
            let mode: &[u8] = if file.executable { b"\0x\0" } else { b"\0-\0" };
            hasher.update(path.as_bytes());
            hasher.update(mode);
            hasher.update(Digest::sha256(&file.bytes).as_str().as_bytes());
            hasher.update(b"\n");
        }
        hasher.finish().to_string()
    }

    /// Writes all files below a directory that nobody else can reach.
    pub(crate) fn write_to(&self, dir: &Path) -> std::io::Result<()> {
        for (path, file) in &self.files {
            let path = dir.join(path);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            let mode = if file.executable { 0o755 } else { 0o644 };
            let mut out = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(path)?;
            out.write_all(&file.bytes)?;
        }
        Ok(())
    }
}

/// A relative path without `.` and empty parts; `..` and `/` in front are refused.
pub(crate) fn clean(path: &str) -> Result<String> {
    if path.starts_with('/') || path.len() > MAX_PATH || path.contains('\0') {
        return Err(invalid(format!("the path {path:?} leaves the source")));
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(invalid(format!("the path {path:?} leaves the source"))),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// Content that cannot be used.
pub(super) fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(Reason::SourceInvalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn file(text: &str) -> File {
        File {
            bytes: text.as_bytes().to_vec(),
            executable: false,
        }
    }

    #[test]
    fn paths_stay_inside() {
        let mut tree = Tree::default();
        for path in ["/a", "../a", "a/../../b", "a/..", "", ".", "a\0b"] {
            assert!(tree.insert(path, file("x")).is_err(), "{path:?}");
        }
        tree.insert("./a//b/./c.yaml", file("x")).unwrap();
        assert!(tree.get("a/b/c.yaml").is_some());
        assert_eq!(
            tree.below("a/").unwrap().files().next().unwrap().0,
            "b/c.yaml"
        );
        assert_eq!(
            tree.below("a/b/c.yaml").unwrap().files().next().unwrap().0,
            "c.yaml"
        );
        assert_eq!(tree.below("x").unwrap_err().reason, Reason::SourceNotFound);
        assert_eq!(
            tree.below("../x").unwrap_err().reason,
            Reason::SourceInvalid
        );
    }

    #[test]
    fn the_digest_covers_path_mode_and_content() {
        let make = |path: &str, text: &str, executable| {
            let mut tree = Tree::default();
            tree.insert("z", file("z")).unwrap();
            let bytes = text.as_bytes().to_vec();
            tree.insert(path, File { bytes, executable }).unwrap();
            tree.digest()
        };
        let all = [
            make("a", "x", false),
            make("b", "x", false),
            make("a", "y", false),
            make("a", "x", true),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(!all[..i].contains(one));
        }
        // A changed algorithm would change every configuration hash.
        assert_eq!(
            all[0],
            "sha256:2c13170cb1552094812a966a49840a088450d83b4c2aa3f91883b032d6cf3417"
        );
    }

    #[test]
    fn limits() {
        let mut tree = Tree::default();
        for n in 0..MAX_ENTRIES {
            tree.insert(&format!("{n}"), file("")).unwrap();
        }
        assert!(tree.insert("more", file("")).is_err());
        let mut tree = Tree::default();
        let bytes = vec![0; MAX_BYTES];
        tree.insert(
            "a",
            File {
                bytes,
                executable: false,
            },
        )
        .unwrap();
        assert!(tree.insert("b", file("x")).is_err());
    }
}
