//! The content store. Every call blocks on the disk only; what it reports as
//! done is done after a power cut as well. Several processes may use one store
//! at a time.

mod blobs;
mod cache;
mod document;
mod gc;
mod layout;
mod list;
mod manifests;
mod referrers;
mod rehearse;
mod space;
mod upload;
mod verify;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::FlockOperation;

pub use blobs::Blob;
pub use document::{Descriptor, INDEX_TYPE};
pub use gc::{Collected, Collection};
pub use layout::Imported;
pub use manifests::{Manifest, Stored};
pub use upload::Upload;
pub use verify::{Problem, Verified};

use super::{Error, Result};
use crate::oci::Digest;
use crate::sys::beneath::{self, Root};

/// Modes of files with content and of links.
const FILE_MODE: u32 = 0o640;
const LOCK: &str = ".lock";

/// What uploads may take.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Bytes of content; none is no limit.
    pub quota: Option<u64>,
    /// Bytes that stay free on the file system.
    pub min_free: u64,
}

/// Whether the rules that keep Preparations from change are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Immutable tags stay, Preparation artifacts are not deleted.
    Enforce,
    /// The caller knows that nothing needs them any more.
    Override,
}

/// One registry's content. A clone is the same store.
#[derive(Clone)]
pub struct Storage {
    inner: Arc<Inner>,
}

struct Inner {
    root: Root,
    limits: Limits,
    used: space::Used,
    sessions: upload::Sessions,
    manifests: cache::Cache,
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Storage({})", self.path().display())
    }
}

impl Storage {
    /// Opens a store, making the directory (0750) when it is missing.
    ///
    /// # Errors
    /// The directory belongs to somebody else, or cannot be made.
    pub fn open(path: &Path, limits: Limits) -> Result<Self> {
        let root = Root::open(path)?;
        let used = space::Used::of(root.path());
        Ok(Self {
            inner: Arc::new(Inner {
                root,
                limits,
                used,
                sessions: upload::Sessions::default(),
                manifests: cache::Cache::default(),
            }),
        })
    }

    /// The directory, resolved.
    pub fn path(&self) -> &Path {
        self.inner.root.path()
    }

    pub(super) fn root(&self) -> &Root {
        &self.inner.root
    }

    /// Held while content is checked and linked: no deletion comes between.
    fn shared(&self) -> Result<OwnedFd> {
        self.lock(FlockOperation::LockShared)
    }

    /// Held while links or content are deleted.
    fn exclusive(&self) -> Result<OwnedFd> {
        self.lock(FlockOperation::LockExclusive)
    }

    fn lock(&self, how: FlockOperation) -> Result<OwnedFd> {
        let file = self.root().lock_file(LOCK)?;
        loop {
            match rustix::fs::flock(&file, how) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::INTR) => {}
                Err(cause) => {
                    return Err(Error::Files(beneath::Error::Io {
                        path: self.root().join(LOCK),
                        action: "lock",
                        cause,
                    }));
                }
            }
        }
    }
}

/// Place of content.
fn blob_path(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("blobs/{}/{}/{hex}", digest.algorithm().as_str(), &hex[..2])
}

fn size_of(stat: &rustix::fs::Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

#[cfg(test)]
mod testing {
    use super::*;
    use crate::registry::Repository;

    pub(crate) struct Scratch {
        pub(crate) storage: Storage,
        pub(crate) dir: tempfile::TempDir,
    }

    impl std::ops::Deref for Scratch {
        type Target = Storage;

        fn deref(&self) -> &Storage {
            &self.storage
        }
    }

    pub(crate) fn scratch() -> Scratch {
        limited(Limits::default())
    }

    pub(crate) fn limited(limits: Limits) -> Scratch {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open(&dir.path().join("registry"), limits).unwrap();
        Scratch { storage, dir }
    }

    pub(crate) fn repo(name: &str) -> Repository {
        name.parse().unwrap()
    }

    /// An image manifest of blobs that are put first.
    pub(crate) fn image(storage: &Storage, at: &Repository, layer: &[u8]) -> Vec<u8> {
        let config = storage.put_blob(at, b"{}", None).unwrap();
        let digest = storage.put_blob(at, layer, None).unwrap();
        serde_json::json!({
            "schemaVersion": 2,
            "mediaType": document::IMAGE_TYPE,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config.as_str(), "size": 2},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": digest.as_str(), "size": layer.len()}],
        })
        .to_string()
        .into_bytes()
    }
}
