//! Failures of the containerd manager.

use crate::registry::client;

/// Result of the containerd manager.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with containerd, images and tasks.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No containerd answers.
    #[error("containerd at {socket} cannot be reached: {cause}")]
    Unreachable {
        /// Endpoint.
        socket: String,
        /// Why.
        cause: String,
    },
    /// A container, task, namespace or blob is not there.
    #[error("{0} not found")]
    NotFound(String),
    /// Something of that name exists and differs.
    #[error("{0} already exists")]
    Exists(String),
    /// The image is neither here nor in its registry.
    #[error("image {0:?} not found")]
    ImageNotFound(String),
    /// An image reference is malformed.
    #[error("image reference {0:?} is invalid: {1}")]
    BadReference(String, String),
    /// The image has no variant for the platform.
    #[error("image {image:?} has no variant for platform {wanted} (it offers {offered})")]
    Platform {
        /// Image.
        image: String,
        /// Platform that was wanted.
        wanted: String,
        /// Platforms on offer.
        offered: String,
    },
    /// The program is not in the image or cannot be executed.
    #[error("command {command:?} of container {container} cannot be run: {cause}")]
    CommandNotFound {
        /// Container id.
        container: String,
        /// Program.
        command: String,
        /// What the runtime said.
        cause: String,
    },
    /// An archive is damaged or of an unknown form.
    #[error("image archive is invalid: {0}")]
    BadArchive(String),
    /// Bytes do not match their digest.
    #[error("digest mismatch for {what}: expected {expected}, got {got}")]
    Digest {
        /// Blob.
        what: String,
        /// Digest that was promised.
        expected: String,
        /// Digest of the bytes that came.
        got: String,
    },
    /// A registry could not be reached or broke off.
    #[error("registry {host}: {cause}")]
    Registry {
        /// Host.
        host: String,
        /// What went wrong.
        cause: String,
    },
    /// A registry refused the login.
    #[error("registry {host} refused access to {image}: {cause}")]
    Unauthorized {
        /// Host.
        host: String,
        /// Image.
        image: String,
        /// What the registry said.
        cause: String,
    },
    /// The container spec asks for something that is wrong or not possible here.
    #[error("container {container}: {cause}")]
    Spec {
        /// Container id.
        container: String,
        /// What is wrong.
        cause: String,
    },
    /// The disk is full or read-only.
    #[error("{0}")]
    Storage(String),
    /// Still in use.
    #[error("{0}")]
    InUse(String),
    /// Anything else containerd or the host said.
    #[error("{what}: {cause}")]
    Other {
        /// What was being done.
        what: String,
        /// What went wrong.
        cause: String,
    },
}

impl From<client::Error> for Error {
    fn from(error: client::Error) -> Self {
        match error {
            client::Error::NotFound(image) => Error::ImageNotFound(image),
            client::Error::Registry { host, cause } => Error::Registry { host, cause },
            client::Error::Unauthorized { host, shown, cause } => Error::Unauthorized {
                host,
                image: shown,
                cause,
            },
        }
    }
}
