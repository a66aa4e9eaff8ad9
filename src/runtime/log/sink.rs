//! The file side of the log writer: appending, rotation, full disks.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::libc;

use super::line::{put, stamp};
use super::{ROTATIONS, lock, rotated};

/// A log file that rotates. Writing never fails: what cannot be written is
/// dropped, counted, and reported in the log as soon as that is possible again.
#[derive(Debug)]
pub(super) struct Sink {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    limit: u64,
    /// Size at which the next rotation is tried.
    rotate_at: u64,
    dropped_entries: u64,
    dropped_bytes: u64,
    reason: String,
}

impl Sink {
    /// Opens or makes the log; `limit` is the size in bytes at which it rotates.
    pub(super) fn new(path: PathBuf, limit: u64) -> Self {
        let mut sink = Self {
            path,
            file: None,
            size: 0,
            limit,
            rotate_at: limit,
            dropped_entries: 0,
            dropped_bytes: 0,
            reason: String::new(),
        };
        if let Err(e) = sink.open() {
            sink.reason = e.to_string();
        }
        sink
    }

    fn open(&mut self) -> io::Result<()> {
        let file = options().open(&self.path)?;
        lock::mark(&file);
        let mut size = file.metadata()?.len();
        // A power cut may have torn the last entry: the next one starts a line.
        let mut last = [b'\n'];
        if size > 0 {
            file.read_exact_at(&mut last, size - 1)?;
        }
        if last != *b"\n" {
            (&file).write_all(b"\n")?;
            size += 1;
        }
        self.file = Some(file);
        self.size = size;
        self.rotate_at = self.limit;
        Ok(())
    }

    /// Appends whole entries.
    pub(super) fn write(&mut self, entries: &[u8]) {
        if let Err(e) = self.try_write(entries) {
            self.dropped_entries += entries.iter().filter(|&&b| b == b'\n').count() as u64;
            self.dropped_bytes += entries.len() as u64;
            self.reason = e.to_string();
        }
    }

    fn try_write(&mut self, entries: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            self.open()?;
        }
        if self.size > 0 && self.size + entries.len() as u64 > self.rotate_at {
            // Without room for a second file the first one goes on; tried again later.
            if self.rotate().is_err() {
                self.rotate_at = self.size + self.limit / 8;
            }
        }
        if self.dropped_entries == 0 {
            return self.append(entries);
        }
        // Notice and entries together: notices alone shall not fill a disk that
        // has room for nothing else.
        let text = format!(
            "kukeon: {} entries ({} bytes) of output are lost: {}",
            self.dropped_entries, self.dropped_bytes, self.reason
        );
        let now = stamp(Timestamp::now());
        let mut all = Vec::with_capacity(entries.len() + 256);
        put(&mut all, &now, "stderr", false, text.as_bytes());
        all.extend_from_slice(entries);
        self.append(&all)?;
        self.dropped_entries = 0;
        self.dropped_bytes = 0;
        Ok(())
    }

    /// Appends all of it or nothing.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut out = file;
        if let Err(e) = out.write_all(bytes) {
            // A full disk takes a part; readers shall not see half an entry.
            let _ = file.set_len(self.size);
            return Err(e);
        }
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Current file becomes `.1`, that becomes `.2`. The new file is made first:
    /// when that fails nothing has changed.
    fn rotate(&mut self) -> io::Result<()> {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".new");
        let new = PathBuf::from(name);
        remove_if_there(&new)?;
        let file = options().create_new(true).open(&new)?;
        lock::mark(&file);
        for n in (0..ROTATIONS).rev() {
            match std::fs::rename(rotated(&self.path, n), rotated(&self.path, n + 1)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        std::fs::rename(&new, &self.path)?;
        self.file = Some(file);
        self.size = 0;
        self.rotate_at = self.limit;
        Ok(())
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(libc::O_NOFOLLOW);
    options
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::LogLine;
    use super::*;

    fn entries(path: &Path) -> Vec<String> {
        std::fs::read(path)
            .unwrap()
            .split(|&b| b == b'\n')
            .filter_map(LogLine::parse)
            .map(|l| String::from_utf8(l.data).unwrap())
            .collect()
    }

    fn entry(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        put(
            &mut out,
            "2026-11-22T04:28:00.000000001Z",
            "stdout",
            false,
            text.as_bytes(),
        );
        out
    }

    #[test]
    fn rotation_keeps_two_older_files_and_loses_nothing_between() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let one = entry("000").len() as u64;
        let mut sink = Sink::new(path.clone(), 3 * one);
        for n in 0..11 {
            sink.write(&entry(&format!("{n:03}")));
        }
        assert_eq!(entries(&rotated(&path, 2)), ["003", "004", "005"]);
        assert_eq!(entries(&rotated(&path, 1)), ["006", "007", "008"]);
        assert_eq!(entries(&path), ["009", "010"]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn an_existing_log_is_continued_after_its_torn_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut old = entry("whole");
        old.extend_from_slice(b"2026-11-22T04:2");
        std::fs::write(&path, old).unwrap();
        Sink::new(path.clone(), 1000).write(&entry("next"));
        assert_eq!(entries(&path), ["whole", "next"]);
    }

    #[test]
    fn output_that_cannot_be_written_is_dropped_counted_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("later");
        let path = sub.join("log");
        let mut sink = Sink::new(path.clone(), 1000);
        sink.write(&entry("lost"));
        sink.write(&entry("lost"));
        std::fs::create_dir(&sub).unwrap();
        sink.write(&entry("kept"));
        let got = entries(&path);
        assert_eq!(got.len(), 2, "{got:?}");
        assert!(got[0].starts_with("kukeon: 2 entries"), "{got:?}");
        assert!(got[0].contains("No such file"), "{got:?}");
        assert_eq!(got[1], "kept");
    }

    #[test]
    fn a_full_disk_is_outlived() {
        let mut sink = Sink::new("/dev/full".into(), 1000);
        for _ in 0..3 {
            sink.write(&entry("lost"));
        }
        assert_eq!(sink.dropped_entries, 3);
        assert!(sink.reason.contains("No space left"), "{}", sink.reason);
        // Room again.
        let dir = tempfile::tempdir().unwrap();
        sink.path = dir.path().join("log");
        sink.file = None;
        sink.write(&entry("kept"));
        sink.write(&entry("too"));
        let got = entries(&sink.path);
        assert!(got[0].starts_with("kukeon: 3 entries"), "{got:?}");
        assert_eq!(got[1..], ["kept", "too"]);
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        std::fs::write(&target, "untouched").unwrap();
        let path = dir.path().join("log");
        std::os::unix::fs::symlink(&target, &path).unwrap();
        Sink::new(path, 1000).write(&entry("x"));
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "untouched");
    }
}
