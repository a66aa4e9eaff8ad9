//! A cell's namespaces: made, pinned by bind mount, listed, removed.
//!
//! Pins are `<runtime_dir>/ns/<realm>.<space>.<stack>.<cell>/{net,ipc,uts}`; the
//! network namespace is also named in `/run/netns`, where `ip netns` looks.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;

use super::{Error, Result, SandboxPaths, ids, netlink};
use crate::model::CellRef;
use crate::sys::mounts;

/// File system of namespace pins (`NSFS_MAGIC` in `linux/magic.h`).
const NSFS: i64 = 0x6e73_6673;

/// File beside the pins that tells one sandbox of a cell from the next.
const IDENTITY: &str = "id";

/// Where `ip netns` keeps names of network namespaces (ip-netns(8)).
const IP_NETNS: &str = "/run/netns";

/// Sandboxes of one instance.
#[derive(Debug, Clone)]
pub(super) struct Sandboxes {
    /// Directory of the pins, a shared mount.
    dir: PathBuf,
    /// Short form of the instance.
    tag: String,
}

impl Sandboxes {
    pub fn new(runtime_dir: &Path, instance: &str) -> Self {
        Self {
            dir: runtime_dir.join("ns"),
            tag: ids::tag(instance),
        }
    }

    fn cell_dir(&self, cell: &CellRef) -> PathBuf {
        self.dir.join(ids::sandbox_name(cell))
    }

    /// Paths of the pins.
    pub fn paths(&self, cell: &CellRef) -> SandboxPaths {
        let dir = self.cell_dir(cell);
        SandboxPaths {
            net: dir.join("net"),
            ipc: dir.join("ipc"),
            uts: dir.join("uts"),
        }
    }

    /// The wanted pins, and no others, are live. After a reboot the run path may
    /// still hold the plain files that pins were bound on; those are not.
    pub fn pinned(&self, cell: &CellRef, host_network: bool) -> bool {
        let SandboxPaths { net, ipc, uts } = self.paths(cell);
        is_namespace(&net) != host_network
            && is_namespace(&ipc)
            && is_namespace(&uts)
            && self.cell_dir(cell).join(IDENTITY).exists()
    }

    /// Identity of a live network namespace; none when none is pinned. The kernel
    /// gives a new namespace the inode of an old one, so a sandbox has an
    /// identity of its own, made with it.
    pub fn identity(&self, cell: &CellRef) -> Option<String> {
        is_namespace(&self.paths(cell).net)
            .then(|| fs::read_to_string(self.cell_dir(cell).join(IDENTITY)).ok())?
    }

    /// Anything is left of the sandbox.
    pub fn exists(&self, cell: &CellRef) -> bool {
        let net = self.paths(cell).net;
        fs::symlink_metadata(self.cell_dir(cell)).is_ok()
            || self.names(cell).iter().any(|name| points_to(name, &net))
    }

    /// Makes and pins the namespaces, unless they all are there. What is left of
    /// an incomplete sandbox is replaced as a whole: a network namespace of one
    /// birth with an UTS namespace of another would be no sandbox.
    pub fn create(&self, cell: &CellRef, host_network: bool) -> Result<()> {
        let failed = |e: io::Error| Error::host(format!("creating the sandbox of {cell}"), e);
        mounts::ensure_shared_dir(&self.dir)
            .map_err(|e| Error::host(format!("sharing {}", self.dir.display()), e))?;
        if !self.pinned(cell, host_network) {
            self.remove(cell)?;
            let dir = self.cell_dir(cell);
            fs::create_dir(&dir).map_err(failed)?;
            let identity = uuid::Uuid::new_v4().to_string();
            let made = fs::write(dir.join(IDENTITY), identity)
                .and_then(|()| make_on_own_thread(&dir, cell.cell.as_str(), host_network));
            if let Err(error) = made {
                // The sandbox is worth nothing now; that error is the one to tell.
                let _ = self.remove(cell);
                return Err(failed(error));
            }
        }
        if host_network {
            return Ok(());
        }
        self.name(cell).map_err(failed)
    }

    /// Entries of `/run/netns` a cell may have: its path, or, where another
    /// instance has that, its path and the instance.
    fn names(&self, cell: &CellRef) -> [PathBuf; 2] {
        let name = ids::sandbox_name(cell);
        let longer = format!("{name}.{}", self.tag);
        [name, longer].map(|name| Path::new(IP_NETNS).join(name))
    }

    /// Names the network namespace for `ip netns`. Only a convenience, so a name
    /// that is taken twice or too long is left out.
    fn name(&self, cell: &CellRef) -> io::Result<()> {
        let net = self.paths(cell).net;
        fs::create_dir_all(IP_NETNS)?;
        for name in self.names(cell) {
            match std::os::unix::fs::symlink(&net, &name) {
                Ok(()) => return Ok(()),
                Err(_) if points_to(&name, &net) => return Ok(()),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) if e.kind() == ErrorKind::InvalidFilename => {}
                Err(e) => return Err(e),
            }
        }
        tracing::debug!(%cell, "network namespace has no name in {IP_NETNS}");
        Ok(())
    }

    /// Unpins the namespaces and removes every file of them.
    pub fn remove(&self, cell: &CellRef) -> Result<()> {
        let SandboxPaths { net, ipc, uts } = self.paths(cell);
        let mut errors = Vec::new();
        let mut note = |path: &Path, result: io::Result<()>| match result {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                errors.push(Error::host(format!("removing {}", path.display()), e));
            }
            _ => {}
        };
        for name in self.names(cell) {
            if points_to(&name, &net) {
                note(&name, fs::remove_file(&name));
            }
        }
        for pin in [&net, &ipc, &uts] {
            note(pin, unpin(pin));
        }
        let dir = self.cell_dir(cell);
        let identity = dir.join(IDENTITY);
        note(&identity, fs::remove_file(&identity));
        note(&dir, fs::remove_dir(&dir));
        Error::all(errors)
    }

    /// Cells that have a pin directory.
    pub fn list(&self) -> Result<Vec<CellRef>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => {
                other.map_err(|e| Error::host(format!("reading {}", self.dir.display()), e))?
            }
        };
        Ok(entries
            .filter_map(|entry| ids::parse_sandbox_name(entry.ok()?.file_name().to_str()?))
            .collect())
    }

    /// Removes every sandbox and the shared directory.
    pub fn remove_all(&self) -> Result<()> {
        let mut errors = Vec::new();
        match self.list() {
            Ok(cells) => errors.extend(cells.iter().filter_map(|cell| self.remove(cell).err())),
            Err(error) => errors.push(error),
        }
        let mut note = |what: String, result: io::Result<()>| match result {
            Err(e) if e.kind() != ErrorKind::NotFound => errors.push(Error::host(what, e)),
            _ => {}
        };
        for entry in fs::read_dir(IP_NETNS).into_iter().flatten().flatten() {
            if fs::read_link(entry.path()).is_ok_and(|to| to.starts_with(&self.dir)) {
                let what = format!("removing {}", entry.path().display());
                note(what, fs::remove_file(entry.path()));
            }
        }
        // Not ours alone: it stays when it is in use or a mount.
        let _ = fs::remove_dir(IP_NETNS);
        let what = format!("unmounting {}", self.dir.display());
        note(what, mounts::unmount_tree(&self.dir).map(drop));
        let what = format!("removing {}", self.dir.display());
        note(what, fs::remove_dir(&self.dir));
        Error::all(errors)
    }
}

/// Whether a namespace is pinned at `path`.
pub(super) fn is_namespace(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type == NSFS)
}

/// Runs `work` on a thread that is in the network namespace at `path`.
pub(super) fn in_namespace<T: Send>(
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let namespace = fs::File::open(path)?;
    on_own_thread(|| {
        nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET)?;
        work()
    })
}

/// A thread that has changed its namespaces is never used for anything else.
fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("sandbox".to_owned())
            .spawn_scoped(scope, work)?
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the sandbox thread panicked")))
    })
}

fn make_on_own_thread(dir: &Path, host_name: &str, host_network: bool) -> io::Result<()> {
    on_own_thread(|| {
        let mut flags = CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
        if !host_network {
            flags |= CloneFlags::CLONE_NEWNET;
        }
        nix::sched::unshare(flags)?;
        nix::unistd::sethostname(host_name)?;
        if !host_network {
            netlink::loopback_up()?;
            // What images expect of a container: any user may listen on port 80
            // and ping (ip-sysctl.rst). Not vital, so a read-only /proc/sys passes.
            let _ = fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
            let _ = fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
            pin(dir, "net")?;
        }
        pin(dir, "ipc")?;
        pin(dir, "uts")
    })
}

/// Binds a namespace of the calling thread on a file of the same name.
fn pin(dir: &Path, namespace: &str) -> io::Result<()> {
    let at = dir.join(namespace);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(&at)?;
    let from = Path::new("/proc/thread-self/ns").join(namespace);
    Ok(rustix::mount::mount_bind(from, at)?)
}

/// Detaches whatever is bound on a pin, then removes the file.
fn unpin(path: &Path) -> io::Result<()> {
    while mounts::unmount(path)? {}
    fs::remove_file(path)
}

fn points_to(link: &Path, target: &Path) -> bool {
    fs::read_link(link).is_ok_and(|to| to == target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_files_are_not_pins() {
        let dir = tempfile::tempdir().unwrap();
        let sandboxes = Sandboxes::new(dir.path(), "/test");
        let cell = ids::parse_sandbox_name("a.b.c.d").unwrap();
        assert!(!sandboxes.exists(&cell) && !sandboxes.pinned(&cell, false));
        let paths = sandboxes.paths(&cell);
        fs::create_dir_all(paths.net.parent().unwrap()).unwrap();
        for pin in [&paths.net, &paths.ipc, &paths.uts] {
            fs::write(pin, "").unwrap();
        }
        assert!(sandboxes.exists(&cell) && !sandboxes.pinned(&cell, false));
        assert!(is_namespace(Path::new("/proc/self/ns/net")));
        assert_eq!(sandboxes.identity(&cell), None);
        assert_eq!(sandboxes.list().unwrap(), std::slice::from_ref(&cell));
        sandboxes.remove(&cell).unwrap();
        sandboxes.remove(&cell).unwrap();
        assert!(!sandboxes.exists(&cell));
    }
}
