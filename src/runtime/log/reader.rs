//! Reads logs, from any place in them, with or without following.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use futures::Stream;
use jiff::Timestamp;

use super::files::{Assembler, LogFile, tail};
use super::watch::Watcher;
use super::{LogLine, ReadOptions, lock, rotated};
use crate::runtime::{Error, Result};

/// How long a follower waits for the writer after the container's end.
const DRAIN: Duration = Duration::from_secs(10);

/// Entries of a log with its rotations, oldest first. Without `follow` it ends
/// where the log ended when it was opened; a log that does not exist is empty.
/// With `follow`, a log that does not exist yet is waited for.
pub fn read(path: PathBuf, options: ReadOptions) -> impl Stream<Item = Result<LogLine>> + Send {
    let state = State {
        cursor: Some(Cursor::new(
            path.clone(),
            options.follow.is_some(),
            &options,
        )),
        path,
        follow: options.follow,
        lines: VecDeque::new(),
        watcher: None,
        drain_until: None,
        failed: false,
    };
    futures::stream::unfold(state, |mut state| async move {
        let item = state.next().await?;
        Some((item, state))
    })
}

/// The last lines of a log, for error messages; empty when there is none.
/// Blocks for a few file operations. Lines in several entries are joined.
pub fn last_lines(path: &Path, n: usize) -> Vec<String> {
    let options = ReadOptions {
        tail: Some(n as u64),
        ..ReadOptions::default()
    };
    let mut cursor = Cursor::new(path.to_owned(), false, &options);
    let mut lines = Vec::new();
    let mut open: [Vec<u8>; 2] = Default::default();
    let mut batch = VecDeque::new();
    // A log that cannot be read has no last lines; the message it was for says enough.
    while let Ok(true) = cursor.step(&mut batch) {
        for line in batch.drain(..) {
            let text = &mut open[usize::from(line.stderr)];
            text.extend_from_slice(&line.data);
            if !line.partial {
                lines.push(String::from_utf8_lossy(text).into_owned());
                text.clear();
            }
        }
    }
    for rest in open.iter().filter(|rest| !rest.is_empty()) {
        lines.push(String::from_utf8_lossy(rest).into_owned());
    }
    lines.split_off(lines.len().saturating_sub(n))
}

/// Waits until no writer has the log open any more, or `patience` is over. After
/// a container's exit this takes a few milliseconds; then all of its output is
/// in the log.
pub async fn settled(path: &Path, patience: Duration) {
    let until = Instant::now() + patience;
    while written(path) && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a writer has the log open. In the middle of a rotation it is the
/// first rotated file that carries its mark.
fn written(path: &Path) -> bool {
    [0, 1]
        .iter()
        .any(|&n| match LogFile::open(&rotated(path, n)) {
            Ok(Some(log)) => lock::marked(&log.file).unwrap_or(false),
            _ => false,
        })
}

struct State {
    path: PathBuf,
    /// Away while it reads on a blocking thread.
    cursor: Option<Cursor>,
    follow: Option<tokio::sync::watch::Receiver<bool>>,
    lines: VecDeque<LogLine>,
    watcher: Option<Watcher>,
    drain_until: Option<Instant>,
    failed: bool,
}

impl State {
    async fn next(&mut self) -> Option<Result<LogLine>> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(Ok(line));
            }
            if self.failed {
                return None;
            }
            // Asked before reading: what was written before the end is then read.
            let over = self.over();
            match self.step().await {
                Ok(true) => continue,
                Ok(false) if over => return None,
                Ok(false) => self.wait().await,
                Err(e) => {
                    self.failed = true;
                    return Some(Err(Error::Other {
                        what: format!("read log {}", self.path.display()),
                        cause: e.to_string(),
                    }));
                }
            }
        }
    }

    /// Whether nothing will be written any more.
    fn over(&mut self) -> bool {
        let Some(ended) = &self.follow else {
            return true;
        };
        // A sender that is gone can no longer tell: the same as an end.
        if !*ended.borrow() && ended.has_changed().is_ok() {
            return false;
        }
        let until = *self
            .drain_until
            .get_or_insert_with(|| Instant::now() + DRAIN);
        !written(&self.path) || Instant::now() >= until
    }

    /// Reads on; false at the end of what is there.
    async fn step(&mut self) -> io::Result<bool> {
        let Some(mut cursor) = self.cursor.take() else {
            return Ok(false);
        };
        let mut lines = std::mem::take(&mut self.lines);
        let (cursor, lines, result) = tokio::task::spawn_blocking(move || {
            let result = cursor.step(&mut lines);
            (cursor, lines, result)
        })
        .await
        .map_err(io::Error::other)?;
        self.cursor = Some(cursor);
        self.lines = lines;
        result
    }

    async fn wait(&mut self) {
        if self.drain_until.is_some() {
            // The writer is emptying the pipes of a container that has ended.
            tokio::time::sleep(Duration::from_millis(10)).await;
            return;
        }
        if self.watcher.is_none() {
            // The look after this one finds what came before the watch stood.
            self.watcher = Some(Watcher::new(&self.path));
            return;
        }
        let (Some(watcher), Some(ended)) = (&mut self.watcher, &mut self.follow) else {
            return;
        };
        tokio::select! {
            () = watcher.changed(&self.path) => {}
            _ = ended.changed() => {}
        }
    }
}

/// A place in a log that moves towards its end. Blocking.
struct Cursor {
    path: PathBuf,
    follow: bool,
    tail: Option<u64>,
    since: Option<Timestamp>,
    /// The files still to be read, the one being read first.
    files: VecDeque<LogFile>,
    offset: u64,
    begun: bool,
    assembler: Assembler,
    block: Vec<u8>,
}

impl Cursor {
    fn new(path: PathBuf, follow: bool, options: &ReadOptions) -> Self {
        Self {
            path,
            follow,
            tail: options.tail,
            since: options.since,
            files: VecDeque::new(),
            offset: 0,
            begun: false,
            assembler: Assembler::default(),
            block: Vec::new(),
        }
    }

    /// Opens the log and goes to where reading starts. False when there is none.
    fn begin(&mut self) -> io::Result<bool> {
        let mut files = LogFile::all(&self.path)?;
        if files.is_empty() {
            return Ok(false);
        }
        let (first, offset) = match self.tail {
            Some(lines) => tail(&files, lines)?,
            None => (0, 0),
        };
        files.drain(..first);
        self.offset = offset;
        if let Some(since) = self.since {
            let since = SystemTime::from(since);
            // What was last written before that moment need not be read at all.
            while files.len() > 1 && files[0].modified.is_some_and(|m| m < since) {
                files.remove(0);
                self.offset = 0;
            }
        }
        self.files = files.into();
        self.begun = true;
        Ok(true)
    }

    /// Reads one block; false at the end of what is there.
    fn step(&mut self, lines: &mut VecDeque<LogLine>) -> io::Result<bool> {
        if !self.begun && !self.begin()? {
            return Ok(false);
        }
        loop {
            // Known before reading: nothing is written to a file after it was rotated.
            let finished = self.finished()?;
            if self.read_block(lines)? {
                return Ok(true);
            }
            if !finished || !self.advance()? {
                return Ok(false);
            }
        }
    }

    /// Whether the file being read will not grow.
    fn finished(&self) -> io::Result<bool> {
        if self.files.len() > 1 {
            return Ok(true);
        }
        let Some(file) = self.files.front() else {
            return Ok(true);
        };
        // In the gap of a rotation the name leads nowhere: not yet.
        Ok(self.follow && LogFile::identity(&self.path)?.is_some_and(|id| id != file.id))
    }

    /// Goes to the next younger file; false when there is none.
    fn advance(&mut self) -> io::Result<bool> {
        let over = self.files.pop_front();
        if self.files.is_empty() && self.follow {
            let mut files = LogFile::all(&self.path)?;
            if let Some(over) = &over
                && let Some(at) = files.iter().position(|f| f.id == over.id)
            {
                files.drain(..=at);
            }
            self.files = files.into();
        }
        if self.files.is_empty() {
            self.files.extend(over);
            return Ok(false);
        }
        self.offset = 0;
        self.assembler.reset();
        Ok(true)
    }

    fn read_block(&mut self, lines: &mut VecDeque<LogLine>) -> io::Result<bool> {
        let Some(file) = self.files.front() else {
            return Ok(false);
        };
        let mut size = 64 * 1024;
        if self.follow {
            if file.file.metadata()?.len() < self.offset {
                // Someone emptied the file.
                self.offset = 0;
                self.assembler.reset();
            }
        } else {
            size = size.min(file.length.saturating_sub(self.offset) as usize);
        }
        self.block.resize(size, 0);
        let n = file.file.read_at(&mut self.block, self.offset)?;
        self.offset += n as u64;
        let since = self.since;
        self.assembler.push(&self.block[..n], |line| {
            if since.is_none_or(|since| line.timestamp >= since) {
                lines.push_back(line);
            }
        });
        Ok(n > 0)
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
