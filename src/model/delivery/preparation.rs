//! Preparation: an immutable rendered artifact.

use super::super::Name;
use super::{Conditions, Patch, ReleaseMeta, Render, Target};

/// An immutable rendered artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preparation {
    /// Labels and bookkeeping.
    pub meta: ReleaseMeta,
    /// What was rendered. Never changes.
    pub spec: PreparationSpec,
    /// What was last observed.
    pub status: PreparationStatus,
}

/// What was rendered, from what, by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparationSpec {
    /// Owning Recipe.
    pub recipe: Name,
    /// Where it came from.
    pub source: PreparationSource,
    /// What rendered it.
    pub renderer: Renderer,
    /// Hash of all inputs, `sha256:…`.
    pub config_hash: String,
    /// The artifact.
    pub artifact: Artifact,
    /// At most 512 characters.
    pub commit_message: String,
    /// Artifact that was the latest before this one.
    pub parent_digest: Option<String>,
    /// Source code behind the input.
    pub git_source: GitSource,
    /// Snapshot of the effective target.
    pub target: Target,
    /// The documents inside.
    pub resources: Vec<Resource>,
    /// Revision it was made for.
    pub revision: i64,
    /// What it was rendered with; none for those of before that was recorded.
    pub inputs: Option<PreparationInputs>,
}

/// What a Preparation was rendered with, besides source and target: effective,
/// with templates merged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreparationInputs {
    /// Directory inside the source, relative.
    pub sub_path: String,
    /// How it was rendered.
    pub render: Render,
    /// Changes, in order.
    pub patches: Vec<Patch>,
    /// Further changes, in order.
    pub edits: Vec<Patch>,
    /// Whether a manifest without documents was allowed.
    pub allow_empty: bool,
}

/// Kind of a Preparation's source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SourceKind {
    /// A repository.
    #[default]
    Oci,
    /// The daemon's host.
    Path,
    /// A repository named by a Pantry.
    Pantry,
}

/// Where a Preparation's input came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreparationSource {
    /// Kind.
    pub kind: SourceKind,
    /// Reference without tag; for a path the path.
    pub reference: String,
    /// Tag or digest that was asked for.
    pub version: String,
    /// Content digest, `sha256:…`.
    pub base_digest: String,
}

/// How a Preparation was rendered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RenderType {
    /// Plain manifests.
    #[default]
    Manifest,
    /// A Helm chart.
    Helm,
    /// A Kustomize directory.
    Kustomize,
}

/// What rendered a Preparation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renderer {
    /// For example `manifest`, `helm`.
    pub name: String,
    /// Contract number, and version of an executable.
    pub version: String,
    /// SHA-256 of an executable; empty for built-in ones.
    pub digest: String,
    /// How.
    pub render_type: RenderType,
}

/// An OCI artifact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Artifact {
    /// `oci://…@sha256:…`.
    pub oci_ref: String,
    /// Manifest digest.
    pub digest: String,
    /// Bytes of manifest, config and layer.
    pub size: u64,
}

/// Source code behind an input; empty where it is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitSource {
    /// Repository URL.
    pub repo: String,
    /// Tag.
    pub tag: String,
    /// Commit.
    pub commit: String,
}

/// One document inside an artifact or on a target; empty fields do not apply.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// `apiVersion` of the document.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Cluster connection, for an object on a cluster.
    pub cluster: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// Realm, for runtime kinds below it.
    pub realm: String,
    /// Space, for runtime kinds below it.
    pub space: String,
    /// Stack, for runtime kinds below it.
    pub stack: String,
    /// Cell, for containers.
    pub cell: String,
    /// Name.
    pub name: String,
    /// SHA-256 of the canonical document.
    pub hash: String,
}

impl Resource {
    /// Which object it is, whatever its content: the same without hash.
    pub fn identity(&self) -> Self {
        Self {
            hash: String::new(),
            ..self.clone()
        }
    }
}

/// In a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PreparationPhase {
    /// Being made.
    #[default]
    Pending,
    /// There, for good.
    Ready,
    /// Not usable.
    Failed,
}

/// What was last observed of a Preparation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreparationStatus {
    /// Generation of the spec that was looked at.
    pub observed_generation: i64,
    /// In a word.
    pub phase: PreparationPhase,
    /// Aspects.
    pub conditions: Conditions,
}
