//! Failures of the store.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::sys::beneath;

/// Result of the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with the files below the run path.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The run path cannot serve as a root.
    #[error("run path {path}: {cause}")]
    Root {
        /// Run path as resolved.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The file system is mounted read-only (`EROFS`).
    #[error("{path} cannot be written: the file system is read-only")]
    ReadOnly {
        /// File.
        path: PathBuf,
    },
    /// No space or quota is left (`ENOSPC`, `EDQUOT`).
    #[error("{path} cannot be written: {cause}")]
    Full {
        /// File.
        path: PathBuf,
        /// Which of the two.
        cause: String,
    },
    /// The kernel refused access (`EACCES`, `EPERM`).
    #[error("{path}: {action}: permission denied")]
    Permission {
        /// File.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
    },
    /// A document is empty, torn, not what its place says, or no regular file.
    #[error("{path} is damaged: {cause}")]
    Corrupt {
        /// File.
        path: PathBuf,
        /// Why; never holds content of the file.
        cause: String,
    },
    /// The run path belongs to an instance with other settings.
    #[error(
        "kukeon instance mismatch: {path} was set up with {setting} {stored:?}, but {given:?} is configured; both name host objects, so they cannot change under existing state"
    )]
    InstanceMismatch {
        /// Instance file.
        path: PathBuf,
        /// `containerdNamespaceSuffix` or `cgroupRoot`.
        setting: &'static str,
        /// Value in the file.
        stored: String,
        /// Value asked for.
        given: String,
    },
    /// Somebody else held a lock for too long.
    #[error("{object} is being changed by {}; gave up after {waited_ms} ms", holder(.holders))]
    LockTimeout {
        /// The object whose lock was not obtained (the one asked for or one above it).
        object: String,
        /// Processes that hold it, where the kernel tells.
        holders: Vec<u32>,
        /// How long was waited, in milliseconds.
        waited_ms: u64,
    },
    /// An object with children cannot be removed.
    #[error("{object} is not empty: it holds {}", .children.join(", "))]
    HasChildren {
        /// The object.
        object: String,
        /// Names of the children.
        children: Vec<String>,
    },
    /// The object above does not exist.
    #[error("{object} cannot be stored: {parent} does not exist")]
    ParentMissing {
        /// The object.
        object: String,
        /// The one above.
        parent: String,
    },
    /// A release object was changed by somebody else since it was read.
    #[error("{object} was changed or removed meanwhile")]
    Stale {
        /// The object.
        object: String,
    },
    /// A part of a release object that never changes.
    #[error("{object} is immutable: its {field} cannot be changed")]
    Immutable {
        /// The object.
        object: String,
        /// `spec`, `status` or `metadata`.
        field: &'static str,
    },
    /// A release object that would be damaged once it is written.
    #[error("{object} was not saved: it could not be read back: {cause}")]
    Unreadable {
        /// The object.
        object: String,
        /// Why.
        cause: String,
    },
    /// A name that kukeon uses itself at this place.
    #[error("name {name:?} is reserved for kukeon's own files at this level")]
    Reserved {
        /// The name.
        name: String,
    },
    /// A file name that is no file of an object.
    #[error("{0:?} is no file of an object")]
    BadFile(String),
    /// Everything else the kernel says.
    #[error("{path}: {action}: {cause}")]
    Io {
        /// File.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why.
        cause: Errno,
    },
}

fn holder(pids: &[u32]) -> String {
    let own = std::process::id();
    match pids {
        [] => "another process".to_owned(),
        [pid] if *pid == own => "another request of this process".to_owned(),
        [pid] => format!("process {pid}"),
        many => {
            let list: Vec<String> = many.iter().map(u32::to_string).collect();
            format!("processes {}", list.join(", "))
        }
    }
}

impl From<beneath::Error> for Error {
    fn from(error: beneath::Error) -> Self {
        match error {
            beneath::Error::Root { path, cause } => Error::Root { path, cause },
            beneath::Error::Corrupt { path, cause } => Error::Corrupt { path, cause },
            beneath::Error::Io {
                path,
                action,
                cause,
            } => Error::io(path, action, cause),
        }
    }
}

impl Error {
    /// Sorts a system error into the cases a person can act on.
    pub(super) fn io(path: impl AsRef<Path>, action: &'static str, cause: Errno) -> Self {
        let path = path.as_ref().to_path_buf();
        match cause {
            Errno::ROFS => Error::ReadOnly { path },
            Errno::NOSPC => Error::Full {
                path,
                cause: "no space is left on the file system".to_owned(),
            },
            Errno::DQUOT => Error::Full {
                path,
                cause: "the disk quota is used up".to_owned(),
            },
            Errno::ACCESS | Errno::PERM => Error::Permission { path, action },
            Errno::LOOP => Error::Corrupt {
                path,
                cause: "a part of the path is a symbolic link, which is never followed".to_owned(),
            },
            Errno::XDEV => Error::Corrupt {
                path,
                cause: "the path leads out of the run path".to_owned(),
            },
            Errno::NOSYS => Error::Io {
                path,
                action: "openat2 (needs Linux 5.6)",
                cause,
            },
            _ => Error::Io {
                path,
                action,
                cause,
            },
        }
    }
}
