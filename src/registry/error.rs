//! Failures of the registry.

use std::io;

use rustix::io::Errno;

use super::Repository;
use crate::oci::Digest;
use crate::oci::digest::DigestError;
use crate::sys::beneath;

/// Result of the registry.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in the registry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A repository name outside the grammar.
    #[error("repository {name:?} is invalid: {why}")]
    NameInvalid {
        /// What was given, cut when it is very long.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// A tag outside the grammar.
    #[error("tag {tag:?} is invalid: {why}")]
    TagInvalid {
        /// What was given, cut when it is very long.
        tag: String,
        /// Why.
        why: &'static str,
    },
    /// A digest that is none, or of an algorithm that is not offered.
    #[error(transparent)]
    DigestInvalid(#[from] DigestError),
    /// Nothing was ever pushed there.
    #[error("repository {0} is not known; push to it first")]
    NameUnknown(Repository),
    /// Not in this repository, whatever others hold.
    #[error("blob {digest} is not known in repository {repository}")]
    BlobUnknown {
        /// Repository that was asked.
        repository: Repository,
        /// What for.
        digest: Digest,
    },
    /// No such tag or manifest in this repository.
    #[error("manifest {reference} is not known in repository {repository}")]
    ManifestUnknown {
        /// Repository that was asked.
        repository: Repository,
        /// Tag or digest.
        reference: String,
    },
    /// The document is no manifest that a client could use.
    #[error("the manifest for repository {repository} is invalid: {why}")]
    ManifestInvalid {
        /// Repository.
        repository: Repository,
        /// Why.
        why: String,
    },
    /// More bytes than a manifest may have.
    #[error("a manifest may have at most {limit} bytes")]
    ManifestTooLarge {
        /// Limit in bytes.
        limit: u64,
    },
    /// The manifest names content that the repository has not.
    #[error("repository {repository} lacks what the manifest refers to: {}; push that first", list(.digests))]
    MissingReferences {
        /// Repository.
        repository: Repository,
        /// What is missing.
        digests: Vec<Digest>,
    },
    /// A descriptor states another size than the blob has.
    #[error("{digest} has {actual} bytes, but the manifest says {stated}")]
    SizeInvalid {
        /// The blob.
        digest: Digest,
        /// Size in the descriptor.
        stated: u64,
        /// Size of the blob.
        actual: u64,
    },
    /// The bytes that came are not those that were announced.
    #[error("the content has digest {got}, not {expected}; upload it again")]
    DigestMismatch {
        /// Announced.
        expected: Digest,
        /// What came.
        got: Digest,
    },
    /// No such session; it may have been given up or completed.
    #[error("upload session is not known; begin a new one")]
    UploadUnknown,
    /// Another request is writing to the session.
    #[error("another request is writing to this upload session; try again when it has ended")]
    UploadBusy,
    /// A chunk that does not begin where the last one ended.
    #[error("the chunk begins at byte {got}, but {expected} bytes were received so far")]
    OutOfOrder {
        /// Next byte.
        expected: u64,
        /// First byte of the chunk.
        got: u64,
    },
    /// A chunk that is shorter or longer than its range.
    #[error("the chunk has {got} bytes, its range says {stated}")]
    ChunkSize {
        /// From `Content-Range`.
        stated: u64,
        /// What came.
        got: u64,
    },
    /// `rev-<n>` and short digests below `preparations/` are given once.
    #[error("tag {tag} of repository {repository} is immutable: it stays at {current}")]
    ImmutableTag {
        /// Repository.
        repository: Repository,
        /// Tag.
        tag: String,
        /// What it points at.
        current: Digest,
    },
    /// Preparation artifacts are deleted by deleting the Recipe with its artifacts, only.
    #[error("{digest} in repository {repository} belongs to a Preparation and is not deleted here")]
    ImmutableArtifact {
        /// Repository.
        repository: Repository,
        /// Manifest or blob.
        digest: Digest,
    },
    /// The configured quota is used up.
    #[error(
        "the registry holds {used} bytes of the {quota} it may; delete images and run `kuke registry gc`, or raise the quota"
    )]
    Quota {
        /// Bytes of all blobs.
        used: u64,
        /// Limit in bytes.
        quota: u64,
    },
    /// Too little space is left on the file system.
    #[error("{free} bytes are free on the registry's disk and {reserve} must stay free; make room")]
    LowDisk {
        /// Free bytes.
        free: u64,
        /// Bytes that must stay free.
        reserve: u64,
    },
    /// What is on the disk is not what was stored.
    #[error(
        "{what} is damaged: {why}; `kuke registry verify` lists all damage, pushing the content again mends it"
    )]
    Corrupt {
        /// Digest or file.
        what: String,
        /// Why.
        why: String,
    },
    /// An archive that is no OCI image layout.
    #[error("the OCI image layout cannot be read: {0}")]
    Layout(String),
    /// The accounts file or a certificate cannot be used.
    #[error("{what}: {why}")]
    Setup {
        /// File or part.
        what: String,
        /// Why; never a secret.
        why: String,
    },
    /// A file of the registry.
    #[error("registry storage: {0}")]
    Files(#[from] beneath::Error),
    /// Reading or writing content.
    #[error("registry storage: {what}: {cause}")]
    Io {
        /// What was done.
        what: &'static str,
        /// Why it failed.
        cause: io::Error,
    },
}

impl Error {
    /// For `map_err` on reads and writes of content.
    pub(super) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io { what, cause }
    }

    /// Whether the file system is full or read-only, which is not the asker's fault.
    pub fn is_full(&self) -> bool {
        let full = |e: Errno| matches!(e, Errno::NOSPC | Errno::DQUOT | Errno::ROFS);
        match self {
            Self::Quota { .. } | Self::LowDisk { .. } => true,
            Self::Files(beneath::Error::Io { cause, .. }) => full(*cause),
            Self::Io { cause, .. } => Errno::from_io_error(cause).is_some_and(full),
            _ => false,
        }
    }
}

fn list(digests: &[Digest]) -> String {
    let shown: Vec<&str> = digests.iter().take(8).map(Digest::as_str).collect();
    let more = digests.len().saturating_sub(8);
    match more {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

impl From<crate::auth::Error> for Error {
    fn from(error: crate::auth::Error) -> Self {
        match error {
            crate::auth::Error::Files(error) => Self::Files(error),
            crate::auth::Error::Setup { what, why } => Self::Setup { what, why },
        }
    }
}
