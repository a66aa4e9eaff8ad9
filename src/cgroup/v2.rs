//! The real cgroup v2 tree.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;

use super::{Cgroups, Error, Result, Statistics, detect, files, limits, remove, statistics};
use crate::model::Resources;

/// Controllers that cells get, as far as the host offers them.
const DELEGATED: &[&str] = &["cpu", "memory", "io", "pids"];
/// How often making a path starts again because a part of it was removed meanwhile.
const RACES: usize = 3;

/// The cgroup v2 hierarchy of this host.
#[derive(Debug)]
pub struct V2 {
    mount_point: PathBuf,
    shows: PathBuf,
    root: OwnedFd,
    delegated: Vec<String>,
}

impl V2 {
    /// Finds the mounted cgroup2 file system of this mount namespace: the one at
    /// /sys/fs/cgroup if there is one, else any. [`Error::NotMounted`] otherwise.
    pub fn detect() -> Result<Self> {
        let found = detect::find()?;
        Ok(Self {
            mount_point: found.point,
            shows: found.shows,
            root: found.fd,
            delegated: DELEGATED.iter().map(|&c| c.to_owned()).collect(),
        })
    }

    /// Delegates these controllers instead of `cpu memory io pids`.
    #[must_use]
    pub fn delegating(mut self, controllers: &[&str]) -> Self {
        self.delegated = controllers.iter().map(|&c| c.to_owned()).collect();
        self
    }

    /// Cgroup that the mount shows, seen from the caller's cgroup namespace. `/`
    /// on a host; something else where only a part of the tree is mounted, so
    /// that programs with another view of the hierarchy name our cgroups otherwise.
    pub fn shows(&self) -> &Path {
        &self.shows
    }

    /// A directory of plain files in the place of the mount.
    #[cfg(test)]
    fn over(dir: &Path) -> Self {
        Self {
            mount_point: dir.to_path_buf(),
            shows: PathBuf::from("/"),
            root: std::fs::File::open(dir).unwrap().into(),
            delegated: DELEGATED.iter().map(|&c| c.to_owned()).collect(),
        }
    }

    fn open(&self, path: &str) -> Result<OwnedFd> {
        let parts = files::parts(path)?;
        files::dir(self.root.as_fd(), &parts).map_err(|e| match e {
            Errno::NOENT => Error::NotFound(path.to_owned()),
            Errno::NOTDIR => Error::BadPath(path.to_owned(), "it is no cgroup".to_owned()),
            Errno::LOOP | Errno::XDEV => {
                Error::BadPath(path.to_owned(), "it leads out of cgroup2".to_owned())
            }
            e => Error::file(path, "open", e),
        })
    }

    /// One attempt at making a path; none when a part of it went meanwhile.
    fn make(&self, parts: &[&str]) -> Result<Option<OwnedFd>> {
        let mut cgroup = self.open("/")?;
        for depth in 0..parts.len() {
            let here = shown(&parts[..depth]);
            self.enable(cgroup.as_fd(), &here, depth == 0)?;
            match rustix::fs::mkdirat(&cgroup, parts[depth], Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(Errno::NOENT | Errno::NODEV) => return Ok(None),
                Err(Errno::AGAIN) => {
                    return Err(Error::File {
                        path: shown(&parts[..=depth]),
                        what: "create".to_owned(),
                        cause: "a cgroup above it limits depth or number of cgroups (cgroup.max.depth, cgroup.max.descendants)".to_owned(),
                    });
                }
                Err(e) => return Err(Error::file(&shown(&parts[..=depth]), "create", e)),
            }
            cgroup = match files::dir(cgroup.as_fd(), &parts[depth..=depth]) {
                Ok(fd) => fd,
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::NOTDIR) => {
                    return Err(Error::BadPath(
                        shown(parts),
                        format!("{:?} is a file of the kernel", parts[depth]),
                    ));
                }
                Err(e) => return Err(Error::file(&shown(&parts[..=depth]), "open", e)),
            };
        }
        Ok(Some(cgroup))
    }

    /// Delegates what is wanted and available to the children of a cgroup. One
    /// write for each controller: a joint one would fail for all of them.
    fn enable(&self, cgroup: BorrowedFd<'_>, path: &str, is_root: bool) -> Result<()> {
        let words = |file: &str| -> Result<BTreeSet<String>> {
            let text = files::read(cgroup, file).map_err(|e| Error::file(path, file, e))?;
            Ok(split(&text.unwrap_or_default()))
        };
        let (available, enabled) = (
            words("cgroup.controllers")?,
            words("cgroup.subtree_control")?,
        );
        let open: Vec<&String> = self
            .delegated
            .iter()
            .filter(|c| available.contains(*c) && !enabled.contains(*c))
            .collect();
        let Some(first) = open.first() else {
            return Ok(());
        };
        if is_occupied(cgroup, path)? {
            if !is_root {
                return Err(refused(path, first, Errno::BUSY));
            }
            // In a container the mount can show a cgroup that holds the
            // container's own processes. Cells can run without limits there;
            // asking for one is refused when it is set.
            tracing::warn!(
                mount = %self.mount_point.display(),
                "no controller can be delegated: the cgroup at the mount holds processes itself"
            );
            return Ok(());
        }
        for controller in open {
            files::write(cgroup, "cgroup.subtree_control", &format!("+{controller}"))
                .map_err(|e| refused(path, controller, e))?;
        }
        Ok(())
    }
}

/// Whether a cgroup holds processes itself and so must not delegate. The kernel
/// refuses that for most controllers, but not for cpu and pids: those turn the
/// cgroup into the root of a threaded subtree, in which no container can be
/// started. The root of the hierarchy may hold processes; it has no cgroup.type.
fn is_occupied(cgroup: BorrowedFd<'_>, path: &str) -> Result<bool> {
    let read = |file: &str| files::read(cgroup, file).map_err(|e| Error::file(path, file, e));
    Ok(read("cgroup.type")?.is_some() && read("cgroup.procs")?.is_some_and(|p| !p.is_empty()))
}

/// Why the kernel does not delegate (cgroup-v2.rst, "Controlling Controllers").
fn refused(path: &str, controller: &str, cause: Errno) -> Error {
    let why = match cause {
        Errno::BUSY => "it holds processes itself; only a cgroup without processes can delegate",
        Errno::NOENT => "the cgroup above does not delegate it",
        Errno::OPNOTSUPP => "it is threaded, or below a threaded cgroup",
        Errno::INVAL => "the kernel refuses; for cpu: real-time processes are in no root cgroup",
        e => return Error::file(path, format!("delegate {controller:?}"), e),
    };
    Error::File {
        path: path.to_owned(),
        what: format!("delegate {controller:?}"),
        cause: why.to_owned(),
    }
}

fn shown(parts: &[&str]) -> String {
    format!("/{}", parts.join("/"))
}

fn split(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

impl Cgroups for V2 {
    fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    fn controllers(&self) -> Result<BTreeSet<String>> {
        let text = files::read(self.root.as_fd(), "cgroup.controllers")
            .map_err(|e| Error::file("/", "cgroup.controllers", e))?;
        Ok(split(&text.unwrap_or_default()))
    }

    fn check(&self, wanted: &Resources) -> Result<()> {
        let offered = self.controllers()?;
        let bad = limits::limits(wanted)
            .into_iter()
            .find(|limit| limit.value.is_some() && !offered.contains(limit.controller));
        match bad {
            Some(limit) => Err(limits::missing(&limit, offered.iter().map(String::as_str))),
            None => Ok(()),
        }
    }

    fn ensure(&self, path: &str, delegate: bool) -> Result<Vec<String>> {
        let parts = files::parts(path)?;
        for _ in 0..RACES {
            let Some(cgroup) = self.make(&parts)? else {
                continue;
            };
            if delegate {
                self.enable(cgroup.as_fd(), path, parts.is_empty())?;
            }
            let text = files::read(cgroup.as_fd(), "cgroup.subtree_control")
                .map_err(|e| Error::file(path, "cgroup.subtree_control", e))?;
            if let Some(text) = text {
                return Ok(split(&text).into_iter().collect());
            }
        }
        Err(Error::File {
            path: path.to_owned(),
            what: "create".to_owned(),
            cause: "somebody removes it as fast as it is made".to_owned(),
        })
    }

    fn set_limits(&self, path: &str, wanted: &Resources) -> Result<()> {
        limits::apply(self.open(path)?.as_fd(), path, wanted)
    }

    fn has_limits(&self, path: &str, wanted: &Resources) -> Result<bool> {
        limits::hold(self.open(path)?.as_fd(), path, wanted)
    }

    fn exists(&self, path: &str) -> bool {
        self.open(path).is_ok()
    }

    fn children(&self, path: &str) -> Result<BTreeSet<String>> {
        let cgroup = self.open(path)?;
        let names = files::children(cgroup.as_fd()).map_err(|e| Error::file(path, "list", e))?;
        Ok(names.into_iter().collect())
    }

    fn processes(&self, path: &str) -> Result<Vec<u32>> {
        let cgroup = self.open(path)?;
        files::all_processes(cgroup.as_fd()).map_err(|e| Error::file(path, "cgroup.procs", e))
    }

    fn statistics(&self, path: &str) -> Result<Statistics> {
        statistics::read(self.open(path)?.as_fd(), path)
    }

    fn remove(&self, path: &str) -> Result<()> {
        remove::remove(self.root.as_fd(), path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake(controllers: &str) -> (tempfile::TempDir, V2) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cgroup.controllers"), controllers).unwrap();
        std::fs::write(dir.path().join("cgroup.subtree_control"), "").unwrap();
        let v2 = V2::over(dir.path());
        (dir, v2)
    }

    #[test]
    fn a_limit_without_controller_is_refused_by_name() {
        let (_dir, v2) = fake("cpu pids\n");
        let wanted = Resources {
            memory_bytes: Some(1 << 20),
            cpu_shares: Some(512),
            pids: None,
        };
        let error = v2.check(&wanted).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("resources.memoryLimitBytes"), "{text}");
        assert!(
            text.contains("\"memory\"") && text.contains("cpu, pids"),
            "{text}"
        );
        let fits = Resources {
            memory_bytes: None,
            ..wanted
        };
        v2.check(&fits).unwrap();
        v2.check(&Resources::default()).unwrap();
    }

    #[test]
    fn only_what_is_offered_is_delegated() {
        let (dir, v2) = fake("cpuset memory hugetlb\n");
        // A plain directory has no interface files: making it there fails after
        // the delegation, which is what is looked at.
        let _ = v2.ensure("/a", false);
        let written = std::fs::read_to_string(dir.path().join("cgroup.subtree_control")).unwrap();
        assert_eq!(written, "+memory");
    }

    #[test]
    fn bad_paths_touch_nothing() {
        let (dir, v2) = fake("\n");
        for bad in ["a", "/a/../b", "/..", "/a//b"] {
            assert!(
                matches!(v2.ensure(bad, true), Err(Error::BadPath(..))),
                "{bad}"
            );
            assert!(matches!(v2.remove(bad), Err(Error::BadPath(..))), "{bad}");
            assert!(!v2.exists(bad));
        }
        assert!(matches!(v2.remove("/"), Err(Error::BadPath(..))));
        assert!(matches!(v2.statistics("/gone"), Err(Error::NotFound(_))));
        v2.remove("/gone/deeper").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
