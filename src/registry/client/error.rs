//! Failures of talking to a registry.

use std::time::Duration;

/// Result of talking to a registry.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a registry did not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It has nothing of that name.
    #[error("{0:?} not found")]
    NotFound(String),
    /// It could not be reached, broke off, or answered what cannot be used.
    #[error("registry {host}: {cause}")]
    Registry {
        /// Host.
        host: String,
        /// What went wrong.
        cause: String,
    },
    /// It refused the login, or wants one.
    #[error("registry {host} refused access to {shown}: {cause}")]
    Unauthorized {
        /// Host.
        host: String,
        /// What was wanted.
        shown: String,
        /// What the registry said.
        cause: String,
    },
}

/// Why a request did not succeed.
#[derive(Debug)]
pub enum Failure<E = Error> {
    /// It may the next time.
    Passing {
        /// What went wrong.
        cause: String,
        /// How long the registry wants to be left alone.
        after: Option<Duration>,
    },
    /// It never will.
    Final(E),
}

impl<E> Failure<E> {
    /// A failure that may pass.
    pub fn passing(cause: impl Into<String>) -> Self {
        Self::Passing {
            cause: cause.into(),
            after: None,
        }
    }

    /// The same with another error.
    pub fn map<F>(self, change: impl FnOnce(E) -> F) -> Failure<F> {
        match self {
            Failure::Passing { cause, after } => Failure::Passing { cause, after },
            Failure::Final(error) => Failure::Final(change(error)),
        }
    }
}

impl<E> From<E> for Failure<E> {
    fn from(error: E) -> Self {
        Self::Final(error)
    }
}
