//! Failures of the cgroup manager.

use rustix::io::Errno;

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
        /// What to do, as far as the kernel tells why it is missing.
        remedy: String,
    },
    /// A path leaves the tree or is no cgroup.
    #[error("cgroup path {0:?} is invalid: {1}")]
    BadPath(String, String),
    /// The cgroup does not exist.
    #[error("cgroup {0} does not exist")]
    NotFound(String),
    /// Processes did not go away.
    #[error("cgroup {0} still has processes after cgroup.kill: {1:?}")]
    Busy(String, Vec<u32>),
    /// The kernel keeps another value than the one written.
    #[error("cgroup {path}: {file} was set to {wanted}, but is {actual}")]
    NotApplied {
        /// Cgroup.
        path: String,
        /// File.
        file: String,
        /// Value written.
        wanted: String,
        /// Value read back.
        actual: String,
    },
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

impl Error {
    pub(super) fn file(path: &str, what: impl Into<String>, cause: Errno) -> Self {
        Error::File {
            path: path.to_owned(),
            what: what.into(),
            cause: match cause {
                Errno::ROFS => "the cgroup2 file system is mounted read-only".to_owned(),
                Errno::NOSYS => "openat2 is missing (needs Linux 5.6)".to_owned(),
                other => other.to_string(),
            },
        }
    }
}
