//! Failures of the cgroup manager.

/// Result of the cgroup manager.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with cgroup v2.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No cgroup2 file system is mounted.
    #[error("no cgroup2 file system is mounted on this host")]
    NotMounted,
    /// A limit needs a controller the host does not offer.
    #[error(
        "limit {limit} needs the cgroup v2 controller {controller:?}, which this host does not offer (it offers: {offered})"
    )]
    MissingController {
        /// Field of the manifest.
        limit: String,
        /// Controller.
        controller: String,
        /// What is offered.
        offered: String,
    },
    /// A path leaves the tree or is no cgroup.
    #[error("cgroup path {0:?} is invalid: {1}")]
    BadPath(String, String),
    /// Processes did not go away.
    #[error("cgroup {0} still has processes after cgroup.kill: {1:?}")]
    Busy(String, Vec<u32>),
    /// A file of a cgroup could not be read or written.
    #[error("cgroup {path}: {what}: {cause}")]
    File {
        /// Cgroup.
        path: String,
        /// File or action.
        what: String,
        /// Why.
        cause: String,
    },
}
