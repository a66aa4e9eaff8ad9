//! Why something on the way from a Recipe to an artifact failed.

use std::fmt;

use crate::api::{self, Code};

/// The stable reasons, as they stand in conditions (delivery spec, section 11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A rendered document cannot be used.
    ManifestInvalid,
    /// A patch matches no document.
    PatchTargetMissing,
    /// A patch's path or operation cannot be applied.
    PatchPathInvalid,
    /// A patch matches more than one document, or a selection more than one item.
    AmbiguousTarget,
    /// The source cannot be reached now.
    SourceUnavailable,
    /// The source has no such tag, repository, file or directory.
    SourceNotFound,
    /// The source is not what the pin or its own digest says.
    SourceDigestMismatch,
    /// The source is of another kind than the render options want.
    SourceKindMismatch,
    /// The source's content cannot be used: it is too large, or leaves its directory.
    SourceInvalid,
    /// The renderer ran and failed.
    RenderFailed,
    /// The renderer is not installed.
    RendererUnavailable,
    /// Two runs with the same inputs gave different bytes.
    NondeterministicRender,
    /// An artifact is not what it should be.
    ArtifactInvalid,
}

impl Reason {
    /// As written in conditions and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::ManifestInvalid => "ManifestInvalid",
            Reason::PatchTargetMissing => "PatchTargetMissing",
            Reason::PatchPathInvalid => "PatchPathInvalid",
            Reason::AmbiguousTarget => "AmbiguousTarget",
            Reason::SourceUnavailable => "SourceUnavailable",
            Reason::SourceNotFound => "SourceNotFound",
            Reason::SourceDigestMismatch => "SourceDigestMismatch",
            Reason::SourceKindMismatch => "SourceKindMismatch",
            Reason::SourceInvalid => "SourceInvalid",
            Reason::RenderFailed => "RenderFailed",
            Reason::RendererUnavailable => "RendererUnavailable",
            Reason::NondeterministicRender => "NondeterministicRender",
            Reason::ArtifactInvalid => "ArtifactInvalid",
        }
    }

    /// Whether trying again without any change may help.
    pub fn is_transient(self) -> bool {
        matches!(self, Reason::SourceUnavailable)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure with its reason, what failed on what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Stable reason.
    pub reason: Reason,
    /// What failed, for people.
    pub message: String,
    /// What to do; empty where nothing useful can be said.
    pub hint: String,
}

/// Result with a [`Failure`].
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure without a hint.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            hint: String::new(),
        }
    }

    /// An unusable document.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Reason::ManifestInvalid, message)
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Puts in front what it is about.
    #[must_use]
    pub fn about(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl From<Failure> for api::Error {
    fn from(failure: Failure) -> Self {
        let code = match failure.reason {
            Reason::SourceNotFound => Code::NotFound,
            Reason::SourceUnavailable => Code::Unavailable,
            Reason::SourceDigestMismatch => Code::Conflict,
            Reason::RendererUnavailable => Code::Unsupported,
            Reason::RenderFailed | Reason::ArtifactInvalid => Code::Failed,
            _ => Code::Invalid,
        };
        api::Error::new(code, failure.reason.as_str(), failure.message).hint(failure.hint)
    }
}
