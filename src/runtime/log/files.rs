//! The files of one log, opened once and then independent of their names.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::SystemTime;

use nix::libc;

use super::line::{LogLine, MAX_ENTRY};
use super::{ROTATIONS, rotated};

/// Bytes read at a time.
const BLOCK: usize = 64 * 1024;

/// An open log file.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) file: File,
    /// Device and inode: what it is, whatever it is called.
    pub(super) id: (u64, u64),
    /// Length when it was opened.
    pub(super) length: u64,
    pub(super) modified: Option<SystemTime>,
}

impl LogFile {
    /// Opens a log file; `None` when there is none.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::options()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
        {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        Ok(Some(Self {
            file,
            id: (meta.dev(), meta.ino()),
            length: meta.len(),
            modified: meta.modified().ok(),
        }))
    }

    /// All files of a log, oldest first. They are opened youngest first: a
    /// rotation in between then shows a file twice rather than hiding one.
    pub(super) fn all(path: &Path) -> io::Result<Vec<Self>> {
        let mut files: Vec<Self> = Vec::new();
        for n in 0..=ROTATIONS {
            if let Some(file) = Self::open(&rotated(path, n))?
                && files.iter().all(|f| f.id != file.id)
            {
                files.push(file);
            }
        }
        files.reverse();
        Ok(files)
    }

    /// What a name leads to now; `None` when to nothing.
    pub(super) fn identity(path: &Path) -> io::Result<Option<(u64, u64)>> {
        match std::fs::symlink_metadata(path) {
            Ok(meta) => Ok(Some((meta.dev(), meta.ino()))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// Assembles entries from blocks of bytes.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    rest: Vec<u8>,
    /// Inside something too long to be an entry (a hole left by a power cut).
    skipping: bool,
}

impl Assembler {
    /// Takes the next bytes, hands out the entries they complete. Damaged ones
    /// are left out.
    pub(super) fn push(&mut self, bytes: &[u8], mut each: impl FnMut(LogLine)) {
        for piece in bytes.split_inclusive(|&b| b == b'\n') {
            let Some(end) = piece.strip_suffix(b"\n") else {
                if self.rest.len() + piece.len() > MAX_ENTRY {
                    self.skipping = true;
                    self.rest.clear();
                } else if !self.skipping {
                    self.rest.extend_from_slice(piece);
                }
                continue;
            };
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            let line = if self.rest.is_empty() {
                LogLine::parse(end)
            } else {
                self.rest.extend_from_slice(end);
                LogLine::parse(&self.rest)
            };
            self.rest.clear();
            if let Some(line) = line {
                each(line);
            }
        }
    }

    /// Forgets an entry that was begun: its file is over.
    pub(super) fn reset(&mut self) {
        self.rest.clear();
        self.skipping = false;
    }
}

/// A place in the files of a log: index of the file, and offset in it.
pub(super) type Place = (usize, u64);

/// Where the last `lines` lines begin, looking from the end and no further than
/// needed. A line in several entries counts once; one that has not ended yet counts.
pub(super) fn tail(files: &[LogFile], lines: u64) -> io::Result<Place> {
    let end = (
        files.len().saturating_sub(1),
        files.last().map_or(0, |f| f.length),
    );
    if lines == 0 {
        return Ok(end);
    }
    let mut left = lines;
    let mut youngest = true;
    let mut start = end;
    for (index, file) in files.iter().enumerate().rev() {
        let mut backwards = Backwards::new(file);
        while let Some((offset, entry)) = backwards.next()? {
            let Some(line) = LogLine::parse(&entry) else {
                continue;
            };
            if !line.partial || youngest {
                if left == 0 {
                    return Ok(start);
                }
                left -= 1;
            }
            youngest = false;
            start = (index, offset);
        }
    }
    Ok(start)
}

/// Entries of a file from its end to its beginning.
struct Backwards<'a> {
    file: &'a LogFile,
    /// Everything from here on is in `buffer` or was handed out.
    from: u64,
    /// Bytes from `from` on; they end behind a line break.
    buffer: Vec<u8>,
    /// Whether the torn end has been cut off.
    begun: bool,
}

impl<'a> Backwards<'a> {
    fn new(file: &'a LogFile) -> Self {
        Self {
            file,
            from: file.length,
            buffer: Vec::new(),
            begun: false,
        }
    }

    /// The entry before those handed out, with its offset; without its line break.
    fn next(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        loop {
            if !self.begun {
                // What stands behind the last line break is torn or being written.
                match self.buffer.iter().rposition(|&b| b == b'\n') {
                    Some(at) => {
                        self.buffer.truncate(at + 1);
                        self.begun = true;
                    }
                    None => self.buffer.clear(),
                }
            }
            if let Some((_, body)) = self.buffer.split_last() {
                let before = body.iter().rposition(|&b| b == b'\n');
                if before.is_some() || self.from == 0 {
                    let at = before.map_or(0, |b| b + 1);
                    let entry = body[at..].to_vec();
                    self.buffer.truncate(at);
                    return Ok(Some((self.from + at as u64, entry)));
                }
                if body.len() > MAX_ENTRY {
                    // Not an entry: keep its end only, which nobody will parse.
                    self.buffer.truncate(1);
                    self.buffer[0] = b'\n';
                }
            }
            if self.from == 0 {
                return Ok(None);
            }
            let size = (self.from).min(BLOCK as u64) as usize;
            let mut block = vec![0; size];
            self.file
                .file
                .read_exact_at(&mut block, self.from - size as u64)?;
            self.from -= size as u64;
            block.extend_from_slice(&self.buffer);
            self.buffer = block;
        }
    }
}
