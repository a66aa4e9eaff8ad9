//! Locks between tasks and between processes.
//!
//! An object's lock is `flock(2)` on a stable file, so that the kernel drops it
//! when a process dies, however it dies. Taking it exclusively also takes every
//! ancestor's lock shared, from the top down: who holds a realm exclusively has
//! everything below to himself.
//!
//! Within the process a fair, asynchronous lock comes before the file lock, so
//! that only one task at a time asks the kernel, in the order of asking. Between
//! processes a waiting writer closes a gate (an open-file-description lock on
//! the same file, fcntl(2)) that readers pass, or a stream of short shared locks
//! would keep it out for ever.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use tokio::time::Instant;

use super::{Error, Result, Store};
use crate::model::delivery::ReleaseRef;
use crate::model::{Name, ObjectRef};

/// Pauses between two questions to the kernel while another process holds a lock.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LAST_PAUSE: Duration = Duration::from_millis(20);

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Together with other shared holders; keeps the object from being removed.
    Shared,
    /// Alone, with everything below the object.
    Exclusive,
}

/// A held lock with those of the ancestors; dropping it frees them.
#[derive(Debug)]
#[must_use = "the lock is freed when the guard is dropped"]
pub struct LockGuard {
    // Freed from the object upwards: fields drop in order.
    levels: Vec<Level>,
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        while self.levels.pop().is_some() {}
    }
}

#[derive(Debug)]
struct Level {
    // The file lock goes first, then the next task of this process may ask.
    _file: OwnedFd,
    _task: TaskGuard,
}

#[derive(Debug)]
enum TaskGuard {
    Shared { _guard: OwnedRwLockReadGuard<()> },
    Exclusive { _guard: OwnedRwLockWriteGuard<()> },
}

/// The process's own locks, by lock file.
#[derive(Debug, Default)]
pub(super) struct Locks {
    by_name: Mutex<HashMap<String, Arc<RwLock<()>>>>,
}

impl Locks {
    fn get(&self, name: &str) -> Arc<RwLock<()>> {
        let mut all = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() > 1024 {
            all.retain(|_, lock| Arc::strong_count(lock) > 1);
        }
        Arc::clone(all.entry(name.to_owned()).or_default())
    }
}

impl Store {
    /// Takes the lock of an object, and those above it shared.
    ///
    /// A task must hold no other guard of the same branch while it waits: with
    /// the exclusive lock of an object, lock nothing above or below it.
    /// Dropping the future gives up at once and holds nothing.
    ///
    /// [`Error::LockTimeout`] when it takes longer than `deadline`.
    pub async fn lock(
        &self,
        at: &ObjectRef,
        mode: LockMode,
        deadline: Duration,
    ) -> Result<LockGuard> {
        let start = Instant::now();
        let until = start + deadline;
        let mut guard = LockGuard { levels: Vec::new() };
        for object in branch(at) {
            let mode = if object == *at {
                mode
            } else {
                LockMode::Shared
            };
            match self.level(&lock_name(&object), mode, until).await? {
                Some(level) => guard.levels.push(level),
                None => {
                    return Err(Error::LockTimeout {
                        object: object.to_string(),
                        holders: self.holders(&lock_name(&object)),
                        waited_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
                    });
                }
            }
        }
        Ok(guard)
    }

    /// Takes the lock of the address pool: subnets are given out one at a time,
    /// whatever realm they are for.
    pub async fn lock_pool(&self, deadline: Duration) -> Result<LockGuard> {
        self.alone(POOL, "the address pool", deadline).await
    }

    /// Takes the lock of a release object, for a controller that works on it:
    /// one at a time, in whatever process. Writing does not need it.
    pub async fn lock_release(&self, at: &ReleaseRef, deadline: Duration) -> Result<LockGuard> {
        // `_` is in no name, so this is the lock of no runtime object.
        let kind = at.kind.plural();
        let name = format!(".locks/_{kind}.{}.{}", at.namespace, at.name);
        self.alone(&name, &at.to_string(), deadline).await
    }

    /// One exclusive lock that has none above it.
    async fn alone(&self, name: &str, object: &str, deadline: Duration) -> Result<LockGuard> {
        let start = Instant::now();
        match self
            .level(name, LockMode::Exclusive, start + deadline)
            .await?
        {
            Some(level) => Ok(LockGuard {
                levels: vec![level],
            }),
            None => Err(Error::LockTimeout {
                object: object.to_owned(),
                holders: self.holders(name),
                waited_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
            }),
        }
    }

    /// One level; none when the time is over.
    async fn level(&self, name: &str, mode: LockMode, until: Instant) -> Result<Option<Level>> {
        let lock = self.inner.locks.get(name);
        let task = async {
            match mode {
                LockMode::Shared => TaskGuard::Shared {
                    _guard: lock.read_owned().await,
                },
                LockMode::Exclusive => TaskGuard::Exclusive {
                    _guard: lock.write_owned().await,
                },
            }
        };
        let Ok(task) = tokio::time::timeout_at(until, task).await else {
            return Ok(None);
        };
        let path = self.inner.root.join(name);
        let file = self.inner.root.lock_file(name)?;
        let failed = |e| Error::io(&path, "lock", e);
        let gate = |kind| try_gate(&file, kind);
        let gate_kind = match mode {
            LockMode::Shared => libc::F_RDLCK,
            LockMode::Exclusive => libc::F_WRLCK,
        };
        if !poll(until, || gate(gate_kind)).await.map_err(failed)? {
            return Ok(None);
        }
        if !poll(until, || try_flock(&file, mode))
            .await
            .map_err(failed)?
        {
            return Ok(None);
        }
        gate(libc::F_UNLCK).map_err(failed)?;
        Ok(Some(Level {
            _file: file,
            _task: task,
        }))
    }

    /// Processes that hold the file lock, as far as /proc/locks (proc(5)) tells.
    fn holders(&self, name: &str) -> Vec<u32> {
        let Ok(Some(stat)) = self.inner.root.stat(name) else {
            return Vec::new();
        };
        let (major, minor) = (
            rustix::fs::major(stat.st_dev),
            rustix::fs::minor(stat.st_dev),
        );
        let id = format!("{major:02x}:{minor:02x}:{}", stat.st_ino);
        let table = std::fs::read_to_string("/proc/locks").unwrap_or_default();
        parse_holders(&table, &id)
    }
}

/// Asks until the answer is yes; false when the time is over.
async fn poll(until: Instant, mut ask: impl FnMut() -> Result<bool, Errno>) -> Result<bool, Errno> {
    let mut pause = FIRST_PAUSE;
    loop {
        if ask()? {
            return Ok(true);
        }
        let now = Instant::now();
        if now >= until {
            return Ok(false);
        }
        tokio::time::sleep_until(until.min(now + pause)).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

fn try_flock(file: &OwnedFd, mode: LockMode) -> Result<bool, Errno> {
    let operation = match mode {
        LockMode::Shared => FlockOperation::NonBlockingLockShared,
        LockMode::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    match rustix::fs::flock(file, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
        Err(e) => Err(e),
    }
}

fn try_gate(file: &OwnedFd, kind: libc::c_int) -> Result<bool, Errno> {
    let request = libc::flock {
        // The kernel's constants fit: they are 0, 1 and 2.
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    };
    match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&request)) {
        Ok(_) => Ok(true),
        Err(nix::Error::EAGAIN | nix::Error::EACCES | nix::Error::EINTR) => Ok(false),
        Err(e) => Err(Errno::from_raw_os_error(e as i32)),
    }
}

/// Lock of the address pool; `_` is in no name.
const POOL: &str = ".locks/_pool";

/// The object and those above it, the highest first.
fn branch(at: &ObjectRef) -> Vec<ObjectRef> {
    let mut all: Vec<ObjectRef> =
        std::iter::successors(Some(at.clone()), ObjectRef::parent).collect();
    all.reverse();
    all
}

/// Four names of 63 characters and three dots are 255, the longest file name there is.
fn lock_name(at: &ObjectRef) -> String {
    if let ObjectRef::Kept(kept) = at {
        // A fifth name would be too long. `_` is in no name, so this is the
        // lock of no scope.
        let hash = Sha256::digest(at.to_string());
        let hex: String = hash.iter().take(16).map(|b| format!("{b:02x}")).collect();
        return format!(".locks/_{}.{hex}", kept.kind.as_str().to_ascii_lowercase());
    }
    let names: Vec<&str> = at.names().into_iter().map(Name::as_str).collect();
    format!(".locks/{}", names.join("."))
}

fn parse_holders(table: &str, id: &str) -> Vec<u32> {
    let mut found: Vec<u32> = table
        .lines()
        .filter_map(|line| {
            // `3: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF`; a waiter has `->` after the number.
            let mut words = line.split_whitespace().skip(1);
            (words.next() == Some("FLOCK")).then_some(())?;
            let pid = words.nth(2)?.parse().ok()?;
            (words.next() == Some(id)).then_some(pid)
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_holders_of_one_file() {
        let table = "1: FLOCK  ADVISORY  WRITE 4711 fe:00:12 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 4712 fe:00:12 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 4713 fe:00:12 0 EOF\n\
                     3: FLOCK  ADVISORY  READ 4714 fe:00:123 0 EOF\n\
                     4: FLOCK  ADVISORY  READ 4710 fe:00:12 0 EOF\n";
        assert_eq!(parse_holders(table, "fe:00:12"), [4710, 4711]);
    }

    #[test]
    fn the_longest_lock_name_is_a_file_name() {
        let n: Name = "a".repeat(63).parse().unwrap();
        let at: ObjectRef = crate::model::RealmRef { realm: n.clone() }
            .space(n.clone())
            .stack(n.clone())
            .cell(n)
            .into();
        assert_eq!(lock_name(&at).len(), ".locks/".len() + 255);
        assert_eq!(branch(&at).len(), 4);
    }
}
