//! Where cgroup2 is mounted. On a unified host that is /sys/fs/cgroup, on a
//! hybrid one another place; in a container it may show a part of the tree only.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::{Error, Result};
use crate::sys::mounts::{self, Mount};

/// `CGROUP2_SUPER_MAGIC`, linux/magic.h.
const CGROUP2_MAGIC: u64 = 0x6367_7270;
const USUAL: &str = "/sys/fs/cgroup";

/// A mounted cgroup2 file system.
#[derive(Debug)]
pub(super) struct Found {
    pub point: PathBuf,
    /// Cgroup that the mount shows, seen from the cgroup namespace; `/` is all.
    pub shows: PathBuf,
    pub fd: OwnedFd,
}

/// Opens the best mount of cgroup2 in this mount namespace.
pub(super) fn find() -> Result<Found> {
    let table = mounts::mounts().map_err(|e| Error::File {
        path: "/".to_owned(),
        what: "read the mount table".to_owned(),
        cause: e.to_string(),
    })?;
    // A mount may be hidden below another one: what is opened decides.
    candidates(&table)
        .into_iter()
        .find_map(|mount| {
            let fd = open(&mount.point)?;
            Some(Found {
                point: mount.point.clone(),
                shows: mount.root.clone(),
                fd,
            })
        })
        .ok_or(Error::NotMounted)
}

/// Mounts of cgroup2, the best first: at the usual place, then those that show
/// the whole hierarchy, later ones (which lie on top) before earlier ones.
fn candidates(table: &[Mount]) -> Vec<&Mount> {
    let mut found: Vec<&Mount> = table
        .iter()
        .rev()
        .filter(|m| m.fs_type == "cgroup2")
        .collect();
    found.sort_by_key(|m| (m.point != Path::new(USUAL), m.root != Path::new("/")));
    found
}

/// Opens a directory when it really is on cgroup2.
fn open(point: &Path) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(point, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstatfs(&fd).ok()?;
    (u64::try_from(stat.f_type).ok()? == CGROUP2_MAGIC).then_some(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &[u8] = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    fn points(table: &[u8]) -> Vec<PathBuf> {
        let table = mounts::parse(table);
        candidates(&table).iter().map(|m| m.point.clone()).collect()
    }

    #[test]
    fn finds_the_mount_of_a_hybrid_host() {
        assert_eq!(points(HYBRID), [Path::new("/sys/fs/cgroup/unified")]);
    }

    #[test]
    fn prefers_the_usual_place_then_whole_hierarchies() {
        let table = [
            HYBRID,
            b"50 23 0:38 /part /mnt/part rw - cgroup2 none rw\n",
            b"51 23 0:38 / /mnt/all rw - cgroup2 none rw\n",
            b"60 31 0:38 /../.. /sys/fs/cgroup rw - cgroup2 none rw\n",
        ]
        .concat();
        assert_eq!(
            points(&table),
            [
                "/sys/fs/cgroup",
                "/mnt/all",
                "/sys/fs/cgroup/unified",
                "/mnt/part"
            ]
            .map(Path::new)
        );
    }

    #[test]
    fn another_file_system_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(open(dir.path()).is_none());
        assert!(open(&dir.path().join("gone")).is_none());
    }
}
