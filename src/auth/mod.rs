//! What every server of kukeon needs to know who asks: passwords, a brake on
//! guessing, secrets on disk, certificates. Knows no server.

pub mod files;
pub mod password;
pub mod people;
pub mod throttle;
pub mod tls;

use crate::sys::beneath;

/// Result of this room.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk's.
    #[error(transparent)]
    Files(#[from] beneath::Error),
    /// Something that was set up cannot be used.
    #[error("{what}: {why}")]
    Setup {
        /// What.
        what: String,
        /// Why.
        why: String,
    },
}

impl Error {
    /// A failure of something that was set up.
    pub fn setup(what: impl Into<String>) -> impl FnOnce(String) -> Self {
        let what = what.into();
        move |why| Self::Setup { what, why }
    }
}
