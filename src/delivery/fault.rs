//! Why a controller could not bring an object to where it should be.

use super::failure::Failure;
use super::target;
use crate::api::{Code, Error};

/// Result of a controller.
pub(super) type Result<T, E = Fault> = std::result::Result<T, E>;

/// A failure with its stable reason (delivery spec, section 11).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct Fault {
    /// As it stands in conditions.
    pub reason: String,
    /// What failed, for people.
    pub message: String,
    /// What to do; empty where nothing useful can be said.
    pub hint: String,
    /// Trying again without any change may help.
    pub transient: bool,
}

impl Fault {
    /// A failure that only a change helps against.
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            message: message.into(),
            hint: String::new(),
            transient: false,
        }
    }

    /// A failure of where artifacts are kept.
    pub fn store(message: impl Into<String>) -> Self {
        Self::new("StoreFailed", message)
            .passing()
            .hint("look at the disk below the run path; it is tried again by itself")
    }

    /// Marks it as one that may pass.
    #[must_use]
    pub fn passing(mut self) -> Self {
        self.transient = true;
        self
    }

    /// Whether where an artifact is kept did not answer, so that nobody knows
    /// whether it is there. True only of what reading it gave.
    pub fn is_unanswered(&self) -> bool {
        self.transient && self.reason == "ArtifactUnavailable"
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Message and hint in one, for conditions.
    pub fn text(&self) -> String {
        match self.hint.as_str() {
            "" => self.message.clone(),
            hint => format!("{}; {hint}", self.message),
        }
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self {
            reason: failure.reason.as_str().to_owned(),
            transient: failure.reason.is_transient(),
            message: failure.message,
            hint: failure.hint,
        }
    }
}

impl From<target::Error> for Fault {
    fn from(error: target::Error) -> Self {
        Self {
            reason: error.reason.as_str().to_owned(),
            transient: !error.is_terminal(),
            message: error.message,
            hint: error.hint,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self {
            reason: error.reason,
            transient: true,
            message: error.message,
            hint: error.hint,
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let code = match fault.transient {
            true => Code::Failed,
            false => Code::Conflict,
        };
        Error::new(code, fault.reason, fault.message).hint(fault.hint)
    }
}
