//! cgroup v2 manager: tree, controllers, limits, statistics.
//! Kernel reference: Documentation/admin-guide/cgroup-v2.rst.

mod detect;
mod error;
mod files;
mod limits;
mod remove;
mod statistics;
mod v2;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub use error::{Error, Result};
pub use v2::V2;

use crate::model::Resources;

/// What the controller asks of cgroup v2. Paths are below the cgroup2 mount and
/// start with `/`. Calls are quick enough to be made without `await`, except
/// removal, which waits for processes to go.
pub trait Cgroups: Send + Sync + 'static {
    /// Where cgroup2 is mounted.
    fn mount_point(&self) -> &Path;
    /// Controllers the root of the hierarchy offers.
    fn controllers(&self) -> Result<BTreeSet<String>>;
    /// Fails with [`Error::MissingController`] when a limit cannot be applied here.
    fn check(&self, limits: &Resources) -> Result<()>;
    /// Makes a cgroup and its ancestors; delegates `cpu memory io pids`, as far
    /// as the host offers them, to the children of every ancestor and, with
    /// `delegate`, to its own. Returns what is delegated to its children.
    fn ensure(&self, path: &str, delegate: bool) -> Result<Vec<String>>;
    /// Sets or lifts limits.
    fn set_limits(&self, path: &str, limits: &Resources) -> Result<()>;
    /// Whether exactly these limits are set.
    fn has_limits(&self, path: &str, limits: &Resources) -> Result<bool>;
    /// Whether a cgroup exists.
    fn exists(&self, path: &str) -> bool;
    /// Names of the direct children.
    fn children(&self, path: &str) -> Result<BTreeSet<String>>;
    /// Processes in a cgroup and below it.
    fn processes(&self, path: &str) -> Result<Vec<u32>>;
    /// Current use.
    fn statistics(&self, path: &str) -> Result<Statistics>;
    /// Kills everything in it (`cgroup.kill`), waits until it is empty, removes
    /// it and everything below. Blocks; call it on a blocking thread. A gone cgroup is no error.
    fn remove(&self, path: &str) -> Result<()>;
}

/// Use of a cgroup. `None` where the controller is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Microseconds of processor time.
    pub cpu_usec: u64,
    /// Bytes in use.
    pub memory_bytes: Option<u64>,
    /// Limit in bytes.
    pub memory_limit: Option<u64>,
    /// Tasks.
    pub pids: Option<u64>,
    /// Times the kernel killed for lack of memory.
    pub oom_kills: Option<u64>,
    /// Bytes read from block devices.
    pub io_read_bytes: Option<u64>,
    /// Bytes written to block devices.
    pub io_write_bytes: Option<u64>,
}

/// A path as the host sees it.
pub fn host_path(mount_point: &Path, path: &str) -> PathBuf {
    mount_point.join(path.trim_start_matches('/'))
}
