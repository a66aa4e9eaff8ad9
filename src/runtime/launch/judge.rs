//! Whether a containerd that is not ours can do our work.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::process;
use crate::model::Settings;
use crate::sys::mounts;

/// Where low-level runtimes look for cgroups.
pub const CGROUP: &str = "/sys/fs/cgroup";

/// Whether cgroup2 is what a process sees at `/sys/fs/cgroup`.
pub fn unified(root: &Path) -> bool {
    let path = root.join(CGROUP.trim_start_matches('/'));
    statfs(&path).is_ok_and(|s| s.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// Checks the containerd on the configured socket: it must run its work in the
/// unified hierarchy, see the instance's files under the same names, and receive
/// the namespace pins that are mounted in `pins` later. The reason if not.
pub fn judge(settings: &Settings, pins: &Path) -> Result<(), String> {
    let pid = process::listener(&settings.containerd_socket)
        .ok_or("its process cannot be seen from here")?;
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    if !unified(&root) {
        return Err(format!(
            "it does not see cgroup v2 at {CGROUP} (the host mounts v1 or hybrid cgroups there)"
        ));
    }
    mounts::ensure_shared_dir(pins).map_err(|e| format!("{}: {e}", pins.display()))?;
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    if namespace(&pid.to_string()).is_some_and(|ns| namespace("thread-self") == Some(ns)) {
        return Ok(());
    }
    for path in [settings.run_path.as_path(), pins, &settings.program] {
        if !same(path, &root) {
            return Err(format!(
                "it lives in a mount namespace that does not have our {}",
                path.display()
            ));
        }
    }
    let theirs = fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let point = pins.canonicalize().unwrap_or_else(|_| pins.to_owned());
    let group = mounts::mounts()
        .map_err(|e| e.to_string())?
        .into_iter()
        .rev()
        .find(|m| m.point == point)
        .and_then(|m| m.peer_group);
    match group {
        Some(group) if receives(&theirs, group) => Ok(()),
        _ => Err(format!(
            "it lives in a mount namespace that does not receive mounts in {}",
            pins.display()
        )),
    }
}

/// Whether a path is the same file below another root.
fn same(path: &Path, root: &Path) -> bool {
    let seen = root.join(path.strip_prefix("/").unwrap_or(path));
    match (fs::metadata(path), fs::metadata(seen)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// Whether a mount table has a peer or a slave of the group.
fn receives(table: &[u8], group: u32) -> bool {
    let (peer, slave) = (format!("shared:{group}"), format!("master:{group}"));
    String::from_utf8_lossy(table).lines().any(|line| {
        line.split(' ')
            .skip(6)
            .take_while(|field| *field != "-")
            .any(|field| field == peer || field == slave)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_and_slaves_receive() {
        let table = b"1 2 0:1 / /a rw shared:12 master:3 - ext4 x rw\n\
                      2 2 0:1 / /b rw - ext4 shared:9 rw\n";
        assert!(receives(table, 12));
        assert!(receives(table, 3));
        assert!(!receives(table, 1));
        assert!(!receives(table, 9));
    }

    #[test]
    fn the_same_file_is_told_from_another() {
        assert!(same(Path::new("/proc/self"), Path::new("/")));
        assert!(!same(Path::new("/etc"), Path::new("/usr")));
    }
}
