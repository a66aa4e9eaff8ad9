//! Container output: the log writer role, and reading.
//!
//! A shim starts one writer per container and hands it the read ends of the
//! container's pipes. Neither containerd nor kukeond is on the way, so output is
//! kept while either is down.

mod files;
mod inherited;
mod line;
mod lock;
mod reader;
mod sink;
mod watch;
mod writer;

use std::path::{Path, PathBuf};

pub use line::{LogLine, MAX_CONTENT};
pub use reader::{last_lines, read, settled};
pub use writer::writer_main;

use super::{Error, Result};

/// Role argument of the log writer, and the key of the logger URI's one parameter.
pub const WRITER_ROLE: &str = "log-writer";

/// Rotated files beside the current one: `.1` is the younger.
pub const ROTATIONS: u32 = 2;

/// Size in bytes at which the current file is rotated: a log takes at most three times that.
pub const ROTATE_BYTES: u64 = 10 * 1024 * 1024;

/// What to read of a log.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// Goes on with new lines until the watched value is true (the container has
    /// ended) or its sender is gone, and the file is drained.
    pub follow: Option<tokio::sync::watch::Receiver<bool>>,
    /// Only this many of the last lines.
    pub tail: Option<u64>,
    /// Only lines from this moment on.
    pub since: Option<jiff::Timestamp>,
}

/// The task's stdout URI with which the shim starts the log writer. The shim
/// turns the one parameter into the program's two arguments.
pub fn uri(program: &Path, log: &Path) -> String {
    format!(
        "binary://{}?{WRITER_ROLE}={}",
        escape(program, b"/"),
        escape(log, b"/")
    )
}

/// Percent-encodes everything but RFC 3986's unreserved characters and `keep`.
fn escape(path: &Path, keep: &[u8]) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt as _;

    let mut out = String::new();
    for &b in path.as_os_str().as_bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) || keep.contains(&b) {
            out.push(char::from(b));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{b:02X}");
        }
    }
    out
}

/// The `n`th file of a log: 0 is the current one, higher is older.
fn rotated(path: &Path, n: u32) -> PathBuf {
    if n == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}

/// Removes a log with its rotations. What is gone already is no error.
pub fn remove(path: &Path) -> Result<()> {
    let mut half_made = path.as_os_str().to_owned();
    half_made.push(".new");
    let files = (0..=ROTATIONS).rev().map(|n| rotated(path, n));
    for file in files.chain([PathBuf::from(half_made)]) {
        match std::fs::remove_file(&file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::Other {
                    what: format!("remove log {}", file.display()),
                    cause: e.to_string(),
                });
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uri_carries_any_path() {
        assert_eq!(
            uri(
                Path::new("/usr/local/bin/kuke"),
                Path::new("/run/a b/c+d&e=f%;é/log")
            ),
            "binary:///usr/local/bin/kuke?log-writer=/run/a%20b/c%2Bd%26e%3Df%25%3B%C3%A9/log"
        );
    }

    #[test]
    fn removal_takes_the_rotations_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["log", "log.1", "log.2", "log.new", "logbook"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        remove(&dir.path().join("log")).unwrap();
        remove(&dir.path().join("log")).unwrap();
        let left: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, ["logbook"]);
    }
}
