//! Reads `/etc/passwd` and `/etc/group` of an image. What is in an image is
//! hostile: no path in it is resolved by the host's rules, only beneath a
//! descriptor of its root (openat2(2), `RESOLVE_IN_ROOT`), sizes are bounded,
//! and what is not a regular file is not read.

use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use containerd_client::types::Mount;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{MountFlags, MountPropagationFlags};

use super::Cause;
use super::user::Accounts;

/// Largest account file that is read, in bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Where a snapshot is mounted, in a mount namespace nobody else sees.
const MOUNT_POINT: &str = "/sys";

/// Accounts below a root directory.
pub(super) fn below(root: impl AsFd) -> Result<Accounts, Cause> {
    Ok(Accounts {
        passwd: read(&root, "etc/passwd")?,
        group: read(&root, "etc/group")?,
    })
}

/// Accounts as a running process sees them.
pub(super) fn of_process(pid: u32) -> Result<Accounts, Cause> {
    below(open_root(Path::new(&format!("/proc/{pid}/root")))?)
}

/// Accounts in a snapshot. It is mounted read-only in a mount namespace of a
/// thread that ends afterwards, and the mount with it, also when we are killed.
/// Blocks.
pub(super) fn of_snapshot(mounts: Vec<Mount>) -> Result<Accounts, Cause> {
    let [mount] = mounts.as_slice() else {
        return Err(format!("the snapshot has {} mounts, not one", mounts.len()));
    };
    if mount.r#type == "bind" {
        return below(open_root(Path::new(&mount.source))?);
    }
    let mount = mount.clone();
    let thread = std::thread::Builder::new()
        .name("snapshot".into())
        .spawn(move || mounted(&mount))
        .map_err(|e| format!("thread: {e}"))?;
    thread.join().map_err(|_| "the look-up failed".to_owned())?
}

/// To be called on a thread of its own: it leaves the mount namespace.
fn mounted(mount: &Mount) -> Result<Accounts, Cause> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |e: rustix::io::Errno| format!("{what}: {e}")
    };
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .map_err(|e| format!("new mount namespace: {e}"))?;
    // Nothing of ours gets out; what the host unmounts goes here too.
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )
    .map_err(failed("mount propagation"))?;

    let (dir, options) = read_only(mount)?;
    if let Some(dir) = dir {
        // The new namespace came with a working directory of its own.
        rustix::process::chdir(&dir).map_err(failed("snapshot directory"))?;
    }
    let options = std::ffi::CString::new(options).map_err(|e| e.to_string())?;
    rustix::mount::mount(
        mount.source.as_str(),
        MOUNT_POINT,
        mount.r#type.as_str(),
        MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        options.as_c_str(),
    )
    .map_err(failed("mount of the snapshot"))?;
    below(open_root(Path::new(MOUNT_POINT))?)
}

/// Mount options that only read. An overlay loses its writable part: the upper
/// directory becomes the topmost lower one, so that nothing is claimed that a
/// running container may be using. Paths become relative to their common
/// directory, for the kernel takes one page of options at most.
fn read_only(mount: &Mount) -> Result<(Option<PathBuf>, String), Cause> {
    if mount.r#type != "overlay" {
        return Ok((None, String::new()));
    }
    let value = |key: &str| mount.options.iter().find_map(|o| o.strip_prefix(key));
    let mut layers: Vec<&str> = value("upperdir=").into_iter().collect();
    layers.extend(value("lowerdir=").unwrap_or_default().split(':'));
    if layers.iter().any(|l| !l.starts_with('/')) {
        return Err("the snapshot's layers are not absolute paths".into());
    }
    let mut common = Path::new(layers[0]);
    while !layers.iter().all(|l| Path::new(l).starts_with(common)) {
        common = common.parent().unwrap_or(Path::new("/"));
    }
    let relative: Vec<&str> = layers
        .iter()
        .map(|l| {
            let inner = Path::new(l).strip_prefix(common).unwrap_or(Path::new(l));
            inner.to_str().filter(|i| !i.is_empty()).unwrap_or(".")
        })
        .collect();
    let options = format!("index=off,lowerdir={}", relative.join(":"));
    Ok((Some(common.to_owned()), options))
}

fn open_root(path: &Path) -> Result<OwnedFd, Cause> {
    rustix::fs::openat(
        CWD,
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|e| format!("{}: {e}", path.display()))
}

/// A file below `root`; empty when there is none.
fn read(root: impl AsFd, name: &str) -> Result<String, Cause> {
    let file = match rustix::fs::openat2(
        root,
        name,
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    ) {
        Ok(fd) => std::fs::File::from(fd),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(String::new()),
        Err(e) => return Err(format!("/{name}: {e}")),
    };
    let failed = |e: std::io::Error| format!("/{name}: {e}");
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(format!("/{name} is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("/{name} is larger than {MAX_FILE} bytes"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn overlay(options: &[&str]) -> Mount {
        Mount {
            r#type: "overlay".into(),
            source: "overlay".into(),
            options: options.iter().map(|o| (*o).into()).collect(),
            ..Mount::default()
        }
    }

    #[test]
    fn an_overlay_is_mounted_without_its_writable_part() {
        let (dir, options) = read_only(&overlay(&[
            "index=off",
            "workdir=/var/s/3/work",
            "upperdir=/var/s/3/fs",
            "lowerdir=/var/s/2/fs:/var/s/1/fs",
        ]))
        .unwrap();
        assert_eq!(dir.unwrap(), Path::new("/var/s"));
        assert_eq!(options, "index=off,lowerdir=3/fs:2/fs:1/fs");
        let (dir, options) = read_only(&overlay(&["lowerdir=/a/fs:/b/fs"])).unwrap();
        assert_eq!(dir.unwrap(), Path::new("/"));
        assert_eq!(options, "index=off,lowerdir=a/fs:b/fs");
        assert!(read_only(&overlay(&["lowerdir=a:b"])).is_err());
        assert!(read_only(&overlay(&[])).is_err());
    }

    /// Links of an image lead into the image, never to the host.
    #[test]
    fn links_stay_inside_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(&outside, "host:x:1:1::/:\n").unwrap();
        let get = || below(open_root(&root).unwrap());

        symlink(&outside, root.join("etc/passwd")).unwrap();
        assert_eq!(get().unwrap().passwd, "");
        std::fs::remove_file(root.join("etc/passwd")).unwrap();
        symlink("../../../outside", root.join("etc/passwd")).unwrap();
        assert_eq!(get().unwrap().passwd, "");
        // The same link does lead to what is there inside.
        std::fs::write(root.join("outside"), "guest:x:1:1::/:\n").unwrap();
        assert_eq!(get().unwrap().passwd, "guest:x:1:1::/:\n");

        symlink("/proc/self/root/etc/group", root.join("etc/group")).unwrap();
        assert_eq!(get().unwrap().group, "");
    }

    #[test]
    fn only_regular_files_of_sane_size_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        let get = || below(open_root(dir.path()).unwrap());
        assert_eq!(get().unwrap(), Accounts::default());

        nix::unistd::mkfifo(&etc.join("passwd"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(get().unwrap_err().contains("regular"));
        std::fs::remove_file(etc.join("passwd")).unwrap();
        let huge = std::fs::File::create(etc.join("passwd")).unwrap();
        huge.set_len(MAX_FILE + 1).unwrap();
        assert!(get().unwrap_err().contains("larger"));
    }
}
