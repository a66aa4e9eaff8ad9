//! Mount table and propagation (mount_namespaces(7), `Documentation/filesystems/sharedsubtree.rst`).

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_change, move_mount,
    open_tree,
};

/// One line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Mount id.
    pub id: u32,
    /// Id of the mount it stands on.
    pub parent: u32,
    /// Directory of the file system that is mounted.
    pub root: PathBuf,
    /// Where it is mounted, as this process sees it.
    pub point: PathBuf,
    /// Peer group, when the mount is shared.
    pub peer_group: Option<u32>,
    /// Type of the file system.
    pub fs_type: String,
}

/// Reads a mount table; lines that do not follow the format are left out.
pub fn parse(table: &[u8]) -> Vec<Mount> {
    table
        .split(|&b| b == b'\n')
        .filter_map(parse_line)
        .collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&b| b == b' ');
    let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
    let (id, parent) = (number()?, number()?);
    let _device = fields.next()?;
    let root = unescape(fields.next()?);
    let point = unescape(fields.next()?);
    let _options = fields.next()?;
    let mut peer_group = None;
    loop {
        match fields.next()? {
            b"-" => break,
            optional => {
                if let Some(group) = optional.strip_prefix(b"shared:") {
                    peer_group = std::str::from_utf8(group).ok()?.parse().ok();
                }
            }
        }
    }
    let fs_type = String::from_utf8_lossy(fields.next()?).into_owned();
    Some(Mount {
        id,
        parent,
        root,
        point,
        peer_group,
        fs_type,
    })
}

/// The kernel writes blank, tab, newline and backslash as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let code = (first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Mounts of the caller's mount namespace, in the order they were made.
pub fn mounts() -> io::Result<Vec<Mount>> {
    // Not /proc/self: a thread may have a mount namespace of its own.
    Ok(parse(&fs::read("/proc/thread-self/mountinfo")?))
}

/// Makes `path` (and missing parents) a directory that is a shared mount with a
/// peer group of its own, so that what is mounted in it later shows in mount
/// namespaces that are slaves of this one, and nowhere beside it. Does nothing
/// when it is one already; safe against another process that does the same.
///
/// Only namespaces that are made afterwards, or receive mounts of the parent
/// directory, take part.
pub fn ensure_shared_dir(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    let path = path.canonicalize()?;
    let lock = directory(&path)?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;

    let table = mounts()?;
    if let Some(mount) = table.iter().rev().find(|m| m.point == path) {
        let parent = table.iter().find(|m| m.id == mount.parent);
        let group_of_parent = parent.and_then(|p| p.peer_group);
        if mount.peer_group.is_some() && mount.peer_group != group_of_parent {
            return Ok(());
        }
        mount_change(&path, MountPropagationFlags::PRIVATE)?;
        return Ok(mount_change(&path, MountPropagationFlags::SHARED)?);
    }

    // Propagation is set while the mount is still detached: a clone of a shared
    // mount would otherwise be attached as a peer of what it was cloned from, and
    // pins would appear a second time below it.
    let tree = open_tree(
        CWD,
        &path,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )?;
    let detached = PathBuf::from(format!("/proc/thread-self/fd/{}", tree.as_raw_fd()));
    mount_change(&detached, MountPropagationFlags::PRIVATE)?;
    mount_change(&detached, MountPropagationFlags::SHARED)?;
    move_mount(
        &tree,
        "",
        CWD,
        &path,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?;
    Ok(())
}

fn directory(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::DIRECTORY.bits() as i32)
        .open(path)
}

/// Detaches the topmost mount at exactly `path`; false when nothing is mounted
/// there or the path is gone. Never follows a symbolic link.
pub fn unmount(path: &Path) -> io::Result<bool> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOENT) => Ok(false),
        Err(other) => Err(other.into()),
    }
}

/// Detaches every mount strictly below `path`, the newest first, and leaves one
/// at `path` itself alone. Returns how many there were. Goes on after a failure
/// and reports the first.
pub fn unmount_all_below(path: &Path) -> io::Result<usize> {
    let path = match path.canonicalize() {
        Err(gone) if gone.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    let mut count = 0;
    let mut first = Ok(());
    for mount in mounts()?.iter().rev() {
        if mount.point == path || !mount.point.starts_with(&path) {
            continue;
        }
        match unmount(&mount.point) {
            Ok(done) => count += usize::from(done),
            Err(error) => first = first.and(Err(error)),
        }
    }
    first.map(|()| count)
}

/// Detaches everything at and below `path`.
pub fn unmount_tree(path: &Path) -> io::Result<usize> {
    let mut count = unmount_all_below(path)?;
    while unmount(path)? {
        count += 1;
    }
    Ok(count)
}

/// Whether something is mounted at exactly `path`.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    Ok(mounts()?
        .iter()
        .any(|m| m.point.as_os_str().as_bytes() == path.as_os_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_mount_table() {
        let table =
            b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime shared:7 master:1 - ext3 /dev/root rw\n\
                      27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                      nonsense\n\
                      28 27 0:4 net:[4026532281] /run/a rw shared:5 - nsfs nsfs rw\n";
        let mounts = parse(table);
        assert_eq!(mounts.len(), 3);
        assert_eq!(mounts[0].point, Path::new("/mnt 2"));
        assert_eq!(mounts[0].root, Path::new("/mnt1"));
        assert_eq!(mounts[0].peer_group, Some(7));
        assert_eq!((mounts[1].id, mounts[1].parent), (27, 1));
        assert_eq!(mounts[1].peer_group, None);
        assert_eq!(mounts[2].fs_type, "nsfs");
    }

    #[test]
    fn unescapes_only_octal() {
        assert_eq!(unescape(b"a\\134b"), Path::new("a\\b"));
        assert_eq!(unescape(b"a\\9zzb\\"), Path::new("a\\9zzb\\"));
        assert_eq!(unescape(b"\\01"), Path::new("\\01"));
    }

    #[test]
    fn unmounting_what_is_not_mounted_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!unmount(&dir.path().join("gone")).unwrap());
        assert_eq!(unmount_all_below(&dir.path().join("gone")).unwrap(), 0);
    }
}
