//! Changes to rendered documents.

use super::super::Value;

/// A change to one rendered document. Applied in the order of the fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// Which document.
    pub target: PatchTarget,
    /// Paths to set, in written order; text is coerced where that loses nothing.
    pub set: Vec<(String, Value)>,
    /// Paths to set to exactly this text, in written order.
    pub set_string: Vec<(String, String)>,
    /// Paths to remove.
    pub unset: Vec<String>,
    /// RFC 7386 merge patch.
    pub merge: Option<Value>,
    /// RFC 6902 operations.
    pub json_patch: Vec<Value>,
    /// What happens when nothing matches.
    pub on_missing: OnMissing,
}

/// Which document a patch changes: exactly one must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PatchTarget {
    /// Kind, exact.
    pub kind: String,
    /// `metadata.name`, exact.
    pub name: String,
    /// Only in this Kubernetes namespace.
    pub namespace: Option<String>,
    /// Only of this group and version.
    pub api_version: Option<String>,
    /// Only in this realm.
    pub realm: Option<String>,
    /// Only in this space.
    pub space: Option<String>,
    /// Only in this stack.
    pub stack: Option<String>,
}

/// What happens when nothing matches a patch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnMissing {
    /// The render fails.
    #[default]
    Fail,
    /// The patch is left out.
    Ignore,
}
