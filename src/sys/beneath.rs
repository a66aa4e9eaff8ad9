//! Files below a root directory. Every open goes through `openat2` with
//! `RESOLVE_BENEATH`, so that neither a name nor a symbolic link that somebody
//! put into the tree leads a root process out of it (openat2(2)).

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// Result of a look or a change below a root.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong with a file below a root.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The directory cannot serve as a root.
    #[error("{path}: {cause}")]
    Root {
        /// The directory.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// Not a regular file, or far too large.
    #[error("{path} is damaged: {cause}")]
    Corrupt {
        /// File.
        path: PathBuf,
        /// Why; never holds content of the file.
        cause: String,
    },
    /// What the kernel says.
    #[error("{path}: {action}: {cause}")]
    Io {
        /// File.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why.
        cause: Errno,
    },
}

impl Error {
    fn io(path: impl AsRef<Path>, action: &'static str, cause: Errno) -> Self {
        Self::Io {
            path: path.as_ref().to_path_buf(),
            action,
            cause,
        }
    }
}

/// Mode of every directory.
pub const DIR_MODE: u32 = 0o750;
/// Front of the names of files that are being written.
const TEMP: &str = ".tmp-";
/// A temporary file of this age has lost its writer.
const TEMP_AGE: Duration = Duration::from_secs(60);
/// More than this is no document of ours.
const READ_LIMIT: u64 = 16 << 20;
/// How often a lookup is repeated that raced with a rename (`EAGAIN`).
const RACES: usize = 64;

/// The root directory: its resolved path, for messages and for other programs,
/// and the descriptor that everything is opened from.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    path: PathBuf,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

fn open(at: BorrowedFd<'_>, rel: &str, flags: OFlags, mode: u32) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let rel = if rel.is_empty() { "." } else { rel };
    let mut races = 0;
    loop {
        let flags = flags | OFlags::CLOEXEC;
        match rustix::fs::openat2(at, rel, flags, Mode::from_raw_mode(mode), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if races < RACES => races += 1,
            other => return other,
        }
    }
}

impl Root {
    /// Opens the root, making it (0750) when it is missing. A symbolic link in
    /// `path` is resolved here, once.
    pub fn open(path: &Path) -> Result<Self> {
        let bad = |cause: String| Error::Root {
            path: path.to_path_buf(),
            cause,
        };
        if !path.is_absolute() {
            return Err(bad("it must be absolute".to_owned()));
        }
        if !path.exists() {
            make_root(path).map_err(|e| match e.raw_os_error() {
                Some(n) => Error::io(path, "create", Errno::from_raw_os_error(n)),
                None => bad(e.to_string()),
            })?;
        }
        let path = path.canonicalize().map_err(|e| bad(e.to_string()))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| match e {
            Errno::NOTDIR => bad("it is not a directory".to_owned()),
            e => Error::io(&path, "open", e),
        })?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| Error::io(&path, "stat", e))?;
        let own = rustix::process::geteuid().as_raw();
        if stat.st_uid != own {
            return Err(bad(format!(
                "it belongs to user {}, not to user {own}",
                stat.st_uid
            )));
        }
        if stat.st_mode & 0o002 != 0 {
            return Err(bad("everybody may write to it".to_owned()));
        }
        let group = stat.st_gid;
        if stat.st_mode & 0o020 != 0 && group != rustix::process::getegid().as_raw() {
            return Err(bad(format!("group {group} may write to it")));
        }
        Ok(Self { fd, path })
    }

    /// The resolved path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of something below, for messages and other programs.
    pub fn join(&self, rel: &str) -> PathBuf {
        self.path.join(rel)
    }

    fn error(&self, rel: &str, action: &'static str) -> impl FnOnce(Errno) -> Error {
        let path = self.join(rel);
        move |cause| Error::io(path, action, cause)
    }

    /// Opens a directory; none when there is nothing or something else.
    pub fn dir(&self, rel: &str) -> Result<Option<OwnedFd>> {
        match open(self.fd.as_fd(), rel, OFlags::RDONLY | OFlags::DIRECTORY, 0) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(self.error(rel, "open")(e)),
        }
    }

    /// Opens a directory, making what is missing of the path. Not yet durable.
    pub fn make_dir(&self, rel: &str) -> Result<OwnedFd> {
        self.make_dirs(rel, &mut Vec::new())
    }

    /// Opens a directory, making what is missing of the path. The parents of
    /// what was made are added to `unsynced`.
    fn make_dirs(&self, rel: &str, unsynced: &mut Vec<OwnedFd>) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match open(self.fd.as_fd(), rel, flags, 0) {
            Err(Errno::NOENT) if !rel.is_empty() => {}
            other => return other.map_err(self.error(rel, "open")),
        }
        let (above, name) = rel.rsplit_once('/').unwrap_or(("", rel));
        let parent = self.make_dirs(above, unsynced)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(DIR_MODE)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(self.error(rel, "create")(e)),
        }
        let fd = open(parent.as_fd(), name, flags, 0).map_err(self.error(rel, "open"))?;
        // The process's umask must not decide.
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(DIR_MODE))
            .map_err(self.error(rel, "set mode"))?;
        unsynced.push(parent);
        Ok(fd)
    }

    /// What a path leads to; none when there is nothing.
    pub fn stat(&self, rel: &str) -> Result<Option<Stat>> {
        let fd = match open(self.fd.as_fd(), rel, OFlags::PATH, 0) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(e) => return Err(self.error(rel, "open")(e)),
        };
        rustix::fs::fstat(&fd)
            .map(Some)
            .map_err(self.error(rel, "stat"))
    }

    /// Reads a regular file; none when there is none.
    pub fn read(&self, rel: &str) -> Result<Option<(Stat, Vec<u8>)>> {
        // NONBLOCK: a FIFO in the place of a document must not hang us.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = match open(self.fd.as_fd(), rel, flags, 0) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(e) => return Err(self.error(rel, "open")(e)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(self.error(rel, "stat"))?;
        let corrupt = |cause: &str| Error::Corrupt {
            path: self.join(rel),
            cause: cause.to_owned(),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(corrupt("it is not a regular file"));
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if size > READ_LIMIT {
            return Err(corrupt("it is larger than 16 MiB"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
        std::fs::File::from(fd)
            .take(READ_LIMIT)
            .read_to_end(&mut bytes)
            .map_err(|e| self.std(rel, "read", &e))?;
        Ok(Some((stat, bytes)))
    }

    /// Opens a regular file for reading; none when there is none.
    pub fn open_file(&self, rel: &str) -> Result<Option<(std::fs::File, Stat)>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        self.regular(rel, flags)
    }

    /// Opens a regular file for reading and writing; none when there is none.
    pub fn open_to_write(&self, rel: &str) -> Result<Option<(std::fs::File, Stat)>> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY;
        self.regular(rel, flags)
    }

    fn regular(&self, rel: &str, flags: OFlags) -> Result<Option<(std::fs::File, Stat)>> {
        let fd = match open(self.fd.as_fd(), rel, flags, 0) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(e) => return Err(self.error(rel, "open")(e)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(self.error(rel, "stat"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::Corrupt {
                path: self.join(rel),
                cause: "it is not a regular file".to_owned(),
            });
        }
        Ok(Some((std::fs::File::from(fd), stat)))
    }

    /// Makes a file that must not be there yet, for reading and writing. Makes
    /// the directory when missing; nothing is durable yet.
    pub fn create_new(&self, rel: &str, mode: u32) -> Result<std::fs::File> {
        let (above, name) = rel.rsplit_once('/').unwrap_or(("", rel));
        let dir = self.make_dir(above)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let fd = open(dir.as_fd(), name, flags, mode).map_err(self.error(rel, "create"))?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)).map_err(self.error(rel, "set mode"))?;
        Ok(std::fs::File::from(fd))
    }

    /// Moves a file, replacing what is at the new place, and makes the new place
    /// durable with the directories above that had to be made.
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (from_dir, from_name) = from.rsplit_once('/').unwrap_or(("", from));
        let (to_dir, to_name) = to.rsplit_once('/').unwrap_or(("", to));
        let mut unsynced = Vec::new();
        let source = self
            .dir(from_dir)?
            .ok_or_else(|| Error::io(self.join(from), "rename", Errno::NOENT))?;
        let target = self.make_dirs(to_dir, &mut unsynced)?;
        rustix::fs::renameat(&source, from_name, &target, to_name)
            .map_err(self.error(to, "rename to"))?;
        self.sync(target.as_fd(), to_dir)?;
        for parent in &unsynced {
            self.sync(parent.as_fd(), to_dir)?;
        }
        Ok(())
    }

    /// Removes a file and makes that durable; false when there was none.
    pub fn remove_file(&self, rel: &str) -> Result<bool> {
        let (above, name) = rel.rsplit_once('/').unwrap_or(("", rel));
        let Some(dir) = self.dir(above)? else {
            return Ok(false);
        };
        match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
            Ok(()) => self.sync(dir.as_fd(), above).map(|()| true),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(self.error(rel, "remove")(e)),
        }
    }

    /// Entries of a directory in order of their names; none when there is no
    /// directory. Names that are no UTF-8 are shown with replacement characters,
    /// which no file of ours has.
    pub fn list(&self, rel: &str) -> Result<Option<Vec<Entry>>> {
        let Some(fd) = self.dir(rel)? else {
            return Ok(None);
        };
        let mut found = Vec::new();
        for entry in rustix::fs::Dir::new(fd).map_err(self.error(rel, "list"))? {
            let entry = entry.map_err(self.error(rel, "list"))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "." || name == ".." {
                continue;
            }
            let is_dir = match entry.file_type() {
                FileType::Unknown => self
                    .stat(&join(rel, &name))
                    .ok()
                    .flatten()
                    .is_some_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory),
                kind => kind == FileType::Directory,
            };
            found.push(Entry { name, is_dir });
        }
        found.sort();
        Ok(Some(found))
    }

    /// Replaces a file: a reader sees the old or the new content, and so does
    /// the next boot. With `durable` the new content is also sure to be there
    /// after a power cut once this returns. Makes the directory when missing.
    pub fn replace(&self, rel: &str, bytes: &[u8], mode: u32, durable: Sync) -> Result<()> {
        waiting(|| self.replace_now(rel, bytes, mode, durable))
    }

    fn replace_now(&self, rel: &str, bytes: &[u8], mode: u32, durable: Sync) -> Result<()> {
        let (above, name) = rel.rsplit_once('/').unwrap_or(("", rel));
        let mut tries = 0;
        loop {
            let mut unsynced = Vec::new();
            let dir = self.make_dirs(above, &mut unsynced)?;
            match replace_in(dir.as_fd(), name, bytes, mode, durable) {
                Ok(()) if durable == Sync::Full => {
                    // Last: a journal that has committed the file has most
                    // often committed these with it.
                    for parent in &unsynced {
                        self.sync(parent.as_fd(), above)?;
                    }
                    return Ok(());
                }
                Ok(()) => return Ok(()),
                // A removal took the directory, or a sweep the temporary file,
                // from under us.
                Err(Errno::NOENT) if tries < 8 => tries += 1,
                Err(e) => return Err(self.error(rel, "write")(e)),
            }
        }
    }

    /// Makes a file with this content, durably, unless there is one already:
    /// false then, and it stays as it is. Makes the directory when missing.
    pub fn place(&self, rel: &str, bytes: &[u8], mode: u32) -> Result<bool> {
        waiting(|| self.place_now(rel, bytes, mode))
    }

    fn place_now(&self, rel: &str, bytes: &[u8], mode: u32) -> Result<bool> {
        let (above, name) = rel.rsplit_once('/').unwrap_or(("", rel));
        let mut unsynced = Vec::new();
        let dir = self.make_dirs(above, &mut unsynced)?;
        let temp = temp_name();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let fd = open(dir.as_fd(), &temp, flags, 0o600).map_err(self.error(rel, "write"))?;
        let linked = fill(fd, bytes, mode, Sync::Full)
            .and_then(|()| rustix::fs::linkat(&dir, &temp, &dir, name, AtFlags::empty()));
        // Best effort; a sweep gets it otherwise.
        let _ = rustix::fs::unlinkat(&dir, &temp, AtFlags::empty());
        match linked {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(false),
            Err(e) => return Err(self.error(rel, "write")(e)),
        }
        self.sync(dir.as_fd(), above)?;
        for parent in &unsynced {
            self.sync(parent.as_fd(), above)?;
        }
        Ok(true)
    }

    /// Changes a file in place, keeping its inode: for files that are bound
    /// into containers. Not atomic for readers.
    pub fn rewrite(&self, rel: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let (above, name) = rel.rsplit_once('/').unwrap_or(("", rel));
        let dir = self.make_dir(above)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = open(dir.as_fd(), name, flags, mode).map_err(self.error(rel, "open"))?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)).map_err(self.error(rel, "set mode"))?;
        let mut file = std::fs::File::from(fd);
        let mut now = Vec::new();
        let broken = |e: std::io::Error| self.std(rel, "write", &e);
        (&mut file)
            .take(READ_LIMIT)
            .read_to_end(&mut now)
            .map_err(broken)?;
        if now == bytes {
            return Ok(());
        }
        // Content first, length after: a reader never finds the file empty.
        rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).map_err(self.error(rel, "seek"))?;
        waiting(|| {
            file.write_all(bytes)?;
            file.set_len(bytes.len() as u64)
        })
        .map_err(broken)
    }

    /// Removes a file (never following a link); a missing one is no error.
    pub fn unlink(&self, dir: BorrowedFd<'_>, rel: &str, name: &str) -> Result<()> {
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(self.error(&join(rel, name), "remove")(e)),
        }
    }

    /// Removes a directory when it is empty; false when it is not.
    pub fn rmdir(&self, rel: &str) -> Result<bool> {
        let (above, name) = rel.rsplit_once('/').unwrap_or(("", rel));
        let Some(parent) = self.dir(above)? else {
            return Ok(true);
        };
        match rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
            Ok(()) => self.sync(parent.as_fd(), above).map(|()| true),
            Err(Errno::NOENT) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::BUSY) => Ok(false),
            Err(e) => Err(self.error(rel, "remove")(e)),
        }
    }

    /// Makes the entries of a directory durable.
    pub fn sync(&self, dir: BorrowedFd<'_>, rel: &str) -> Result<()> {
        waiting(|| rustix::fs::fsync(dir)).map_err(self.error(rel, "sync"))
    }

    /// Removes what writers that died left in a directory.
    pub fn sweep(&self, rel: &str) -> Result<()> {
        let Some(dir) = self.dir(rel)? else {
            return Ok(());
        };
        for entry in self.list(rel)?.unwrap_or_default() {
            if !entry.is_dir && is_temp(&entry.name) && is_stale(dir.as_fd(), &entry.name) {
                self.unlink(dir.as_fd(), rel, &entry.name)?;
            }
        }
        Ok(())
    }

    /// Opens a file for locking, making it when missing.
    pub fn lock_file(&self, rel: &str) -> Result<OwnedFd> {
        let (above, name) = rel.rsplit_once('/').unwrap_or(("", rel));
        let dir = self.make_dir(above)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY;
        open(dir.as_fd(), name, flags, 0o640).map_err(self.error(rel, "open"))
    }

    fn std(&self, rel: &str, action: &'static str, e: &std::io::Error) -> Error {
        let errno = e.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
        Error::io(self.join(rel), action, errno)
    }
}

/// Work that waits for the disk. On a thread of a runtime that has several, the
/// tasks which that thread would run go to another meanwhile: a slow disk holds
/// up who writes, and nobody else.
fn waiting<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};

    #[cfg(test)]
    WAITS.set(WAITS.get() + 1);
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Which part of a replacement has to survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Nothing: the content can be derived again.
    None,
    /// Old or new content, whole: the file is synced before the rename.
    Content,
    /// The new content: the directory is synced as well.
    Full,
}

fn replace_in(
    dir: BorrowedFd<'_>,
    name: &str,
    bytes: &[u8],
    mode: u32,
    durable: Sync,
) -> Result<(), Errno> {
    let temp = temp_name();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let fd = open(dir, &temp, flags, 0o600)?;
    crash(1)?;
    let written = fill(fd, bytes, mode, durable)
        .and_then(|()| crash(3))
        .and_then(|()| rustix::fs::renameat(dir, &temp, dir, name));
    if let Err(e) = written {
        if e != CRASHED {
            // Best effort; a sweep gets it otherwise.
            let _ = rustix::fs::unlinkat(dir, &temp, AtFlags::empty());
        }
        return Err(e);
    }
    crash(4)?;
    if durable == Sync::Full {
        rustix::fs::fsync(dir)?;
    }
    crash(5)
}

fn fill(fd: OwnedFd, bytes: &[u8], mode: u32, durable: Sync) -> Result<(), Errno> {
    let errno = |e: std::io::Error| e.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
    let mut file = std::fs::File::from(fd);
    let (front, back) = bytes.split_at(bytes.len() / 2);
    file.write_all(front).map_err(errno)?;
    crash(2)?;
    file.write_all(back).map_err(errno)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    if durable != Sync::None {
        rustix::fs::fsync(&file)?;
    }
    Ok(())
}

fn make_root(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if let Some(above) = path.parent() {
        std::fs::create_dir_all(above)?;
    }
    match std::fs::DirBuilder::new().mode(DIR_MODE).create(path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Joins relative paths; the root is the empty one.
pub fn join(rel: &str, name: &str) -> String {
    if rel.is_empty() {
        name.to_owned()
    } else {
        format!("{rel}/{name}")
    }
}

/// Whether a name is one of a file that is being written.
pub fn is_temp(name: &str) -> bool {
    name.starts_with(TEMP)
}

fn temp_name() -> String {
    format!("{TEMP}{}", uuid::Uuid::new_v4().simple())
}

fn is_stale(dir: BorrowedFd<'_>, name: &str) -> bool {
    let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
        return false;
    };
    let changed = UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
    match SystemTime::now().duration_since(changed) {
        Ok(age) => age >= TEMP_AGE,
        // The clock went back: old as well, unless by very little.
        Err(ahead) => ahead.duration() >= TEMP_AGE,
    }
}

/// What a simulated power cut looks like to the code around it.
const CRASHED: Errno = Errno::OWNERDEAD;

#[cfg(not(test))]
#[allow(clippy::unnecessary_wraps, reason = "the test build returns errors")]
fn crash(_step: u32) -> Result<(), Errno> {
    Ok(())
}

#[cfg(test)]
thread_local! {
    /// Step of `replace_in` at which the writer dies; 0 is never.
    pub static CRASH_AT: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    /// How often this thread waited for the disk.
    static WAITS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
fn crash(step: u32) -> Result<(), Errno> {
    if CRASH_AT.get() == step {
        return Err(CRASHED);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn others_may_not_write_to_a_root() {
        let dir = tempfile::tempdir().unwrap();
        let open = |group: u32, mode: u32| {
            std::os::unix::fs::chown(dir.path(), None, Some(group)).unwrap();
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(dir.path(), mode).unwrap();
            Root::open(dir.path())
                .map(|_| ())
                .map_err(|e| e.to_string())
        };
        let own = rustix::process::getegid().as_raw();
        assert_eq!(open(own, 0o775), Ok(()));
        assert!(
            open(own, 0o777)
                .unwrap_err()
                .contains("everybody may write")
        );
        // Only root gives a directory to a group that it is not in.
        if rustix::process::geteuid().is_root() {
            assert_eq!(open(own + 1, 0o755), Ok(()));
            let refused = open(own + 1, 0o775).unwrap_err();
            assert!(refused.contains(&format!("group {} may write", own + 1)));
        }
    }

    #[test]
    fn who_waits_for_the_disk_holds_up_nobody_else() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let (send, receive) = std::sync::mpsc::channel();
        runtime.block_on(async {
            // The only worker waits for what the other task does.
            let waits = tokio::spawn(async move { waiting(|| receive.recv()) });
            let other = tokio::spawn(async move { send.send(()) });
            waits.await.unwrap().unwrap();
            other.await.unwrap().unwrap();
        });
    }

    #[test]
    fn it_waits_wherever_it_is_called() {
        let one = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        assert_eq!(one.block_on(async { waiting(|| 1) }), 1);
        let several = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        assert_eq!(several.block_on(async { waiting(|| waiting(|| 2)) }), 2);
        let apart = several.block_on(async { tokio::task::spawn_blocking(|| waiting(|| 3)).await });
        assert_eq!(apart.unwrap(), 3);
        assert_eq!(waiting(|| 4), 4);
    }

    #[test]
    fn each_change_is_made_where_waiting_is_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(&dir.path().join("r")).unwrap();
        let waits = |change: &dyn Fn()| {
            let before = WAITS.get();
            change();
            WAITS.get() > before
        };
        assert!(waits(&|| root
            .replace("a", b"1", 0o600, Sync::Full)
            .unwrap()));
        assert!(waits(&|| assert!(root.place("b", b"1", 0o600).unwrap())));
        assert!(waits(&|| root.rewrite("a", b"2", 0o600).unwrap()));
        assert!(waits(&|| assert!(root.remove_file("a").unwrap())));
    }
}
