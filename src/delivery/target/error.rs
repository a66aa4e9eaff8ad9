//! Why an activation cannot go on, sorted by what follows from it.

use std::fmt;

use super::argocd;
use crate::model::delivery::Resource;

/// Result of a target.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The stable reasons, as they stand in a Serving's conditions (delivery spec,
/// section 11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A document of the artifact is nothing for this target.
    ManifestInvalid,
    /// A live object, or the realm, belongs to somebody else.
    OptInRequired,
    /// Objects could not be brought to what the artifact says.
    ApplyFailed,
    /// The cluster or its Argo CD cannot be reached.
    ArgoCdUnavailable,
    /// The target was asked for something it cannot do as it is set up.
    DeploymentFailed,
    /// What was applied does not work.
    Unhealthy,
    /// What was applied did not work in time.
    HealthTimeout,
}

impl Reason {
    /// As written in conditions and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::ManifestInvalid => "ManifestInvalid",
            Reason::OptInRequired => "OptInRequired",
            Reason::ApplyFailed => "ApplyFailed",
            Reason::ArgoCdUnavailable => "ArgoCDUnavailable",
            Reason::DeploymentFailed => "DeploymentFailed",
            Reason::Unhealthy => "Unhealthy",
            Reason::HealthTimeout => "HealthTimeout",
        }
    }

    /// Whether only a change helps, so that trying again by itself is no use.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Reason::ManifestInvalid | Reason::OptInRequired | Reason::DeploymentFailed
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is wrong with one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which object.
    pub resource: Resource,
    /// Stable reason of the room that failed, for example `ImageNotFound`.
    pub reason: String,
    /// What failed, for people.
    pub message: String,
    /// What to do; empty where nothing useful can be said.
    pub hint: String,
}

/// Why an activation cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Stable reason.
    pub reason: Reason,
    /// What failed, for people; names every object of `problems`.
    pub message: String,
    /// What to do; empty where nothing useful can be said.
    pub hint: String,
    /// The objects that failed, where the failure is theirs.
    pub problems: Vec<Problem>,
}

impl Error {
    /// An error without objects.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            hint: String::new(),
            problems: Vec::new(),
        }
    }

    /// The error of some objects.
    pub fn of(reason: Reason, problems: Vec<Problem>) -> Self {
        let told: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
        let mut hints: Vec<&str> = problems.iter().map(|p| p.hint.as_str()).collect();
        hints.retain(|hint| !hint.is_empty());
        hints.dedup();
        Self {
            reason,
            message: told.join("; "),
            hint: hints.join("; "),
            problems,
        }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Whether only a change helps, so that trying again by itself is no use.
    pub fn is_terminal(&self) -> bool {
        self.reason.is_terminal()
    }
}

impl From<argocd::Error> for Error {
    fn from(error: argocd::Error) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}
