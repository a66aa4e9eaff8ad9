//! Directories and interface files of cgroups, opened beneath the mount.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Error, Result};

/// How often a lookup is repeated that raced with a removal elsewhere (`EAGAIN`).
const RACES: usize = 64;

/// The parts of a path below the mount. It starts with `/` and has no empty
/// part, `.` or `..`; `/` alone is the mount itself.
pub(super) fn parts(path: &str) -> Result<Vec<&str>> {
    let bad = |why: &str| Err(Error::BadPath(path.to_owned(), why.to_owned()));
    let Some(rest) = path.strip_prefix('/') else {
        return bad("it does not start with \"/\"");
    };
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    let parts: Vec<&str> = rest.split('/').collect();
    for part in &parts {
        match *part {
            "" => return bad("a part of it is empty"),
            "." | ".." => return bad("\".\" and \"..\" are not allowed"),
            part if part.bytes().any(|b| b == 0 || b == b'\n') => {
                return bad("it contains a NUL byte or a line break");
            }
            _ => {}
        }
    }
    Ok(parts)
}

fn open(at: BorrowedFd<'_>, rel: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let mut races = 0;
    loop {
        match rustix::fs::openat2(at, rel, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if races < RACES => races += 1,
            other => return other,
        }
    }
}

/// Opens a cgroup by its parts; `ENOENT` when it does not exist.
pub(super) fn dir(root: BorrowedFd<'_>, parts: &[&str]) -> Result<OwnedFd, Errno> {
    let rel = match parts {
        [] => ".".to_owned(),
        parts => parts.join("/"),
    };
    open(root, &rel, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Opens an interface file for reading, for instance to wait for its events.
pub(super) fn file(cgroup: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    open(cgroup, name, OFlags::RDONLY)
}

/// Reads an interface file; none when the cgroup has no such file (the
/// controller is absent) or is gone (`ENODEV`).
pub(super) fn read(cgroup: BorrowedFd<'_>, name: &str) -> Result<Option<String>, Errno> {
    let fd = match file(cgroup, name) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NODEV) => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut text = String::new();
    match std::fs::File::from(fd).read_to_string(&mut text) {
        Ok(_) => Ok(Some(text)),
        Err(e) => match errno(&e) {
            Errno::NODEV => Ok(None),
            e => Err(e),
        },
    }
}

/// Writes an interface file in one `write(2)`, as its grammar demands.
pub(super) fn write(cgroup: BorrowedFd<'_>, name: &str, text: &str) -> Result<(), Errno> {
    let fd = open(cgroup, name, OFlags::WRONLY | OFlags::TRUNC)?;
    std::fs::File::from(fd)
        .write_all(text.as_bytes())
        .map_err(|e| errno(&e))
}

/// Names of the cgroups directly below.
pub(super) fn children(cgroup: BorrowedFd<'_>) -> Result<Vec<String>, Errno> {
    let mut found = Vec::new();
    // A descriptor of its own: the position in a directory is shared by duplicates.
    let fd = dir(cgroup, &[])?;
    for entry in rustix::fs::Dir::new(fd)? {
        let entry = match entry {
            Ok(entry) => entry,
            Err(Errno::NOENT | Errno::NODEV) => break,
            Err(e) => return Err(e),
        };
        let name = entry.file_name().to_string_lossy();
        if entry.file_type() == FileType::Directory && name != "." && name != ".." {
            found.push(name.into_owned());
        }
    }
    found.sort();
    Ok(found)
}

/// Processes directly in a cgroup, as this process's PID namespace shows them.
pub(super) fn processes(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    let text = match read(cgroup, "cgroup.procs") {
        // A threaded cgroup: its processes show in the domain above.
        Err(Errno::OPNOTSUPP) => None,
        other => other?,
    };
    let pids = text.unwrap_or_default();
    // 0 stands for a process outside of the PID namespace.
    let pids = pids.lines().filter_map(|l| l.parse().ok());
    Ok(pids.filter(|&pid| pid != 0).collect())
}

/// Processes in a cgroup and below it, sorted.
pub(super) fn all_processes(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    let mut found = processes(cgroup)?;
    for name in children(cgroup)? {
        match dir(cgroup, &[&name]) {
            Ok(child) => found.extend(all_processes(child.as_fd())?),
            Err(Errno::NOENT | Errno::NODEV) => {}
            Err(e) => return Err(e),
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn errno(e: &std::io::Error) -> Errno {
    e.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clean_absolute_paths() {
        assert_eq!(parts("/kukeon/a").unwrap(), ["kukeon", "a"]);
        assert!(parts("/").unwrap().is_empty());
        for bad in [
            "", "a", "//", "/a//b", "/a/", "/..", "/a/../b", "/./a", "/a\0b", "/a\nb",
        ] {
            assert!(parts(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_link_is_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("cpu.weight"), "7\n").unwrap();
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("link")).unwrap();
        let fd = std::fs::File::open(root.path()).unwrap();
        assert_eq!(dir(fd.as_fd(), &["link"]).unwrap_err(), Errno::LOOP);
        assert!(write(fd.as_fd(), "link/cpu.weight", "1").is_err());
        assert!(write(fd.as_fd(), "../x", "1").is_err());
        assert_eq!(
            std::fs::read_to_string(outside.path().join("cpu.weight")).unwrap(),
            "7\n"
        );
    }
}
