//! Recipe: intent.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::super::{Name, Value};
use super::{Conditions, Patch, ReleaseMeta, Target};

/// Intent: a source, how it is rendered, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Labels and bookkeeping.
    pub meta: ReleaseMeta,
    /// What is wanted.
    pub spec: RecipeSpec,
    /// What was last observed.
    pub status: RecipeStatus,
}

/// What is wanted of a Recipe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecipeSpec {
    /// Where the input comes from; none exactly when `template` is there.
    pub source: Option<Source>,
    /// How it is rendered.
    pub render: Render,
    /// Changes to the rendered documents, in order.
    pub patches: Vec<Patch>,
    /// Further changes, after the patches.
    pub edits: Vec<Patch>,
    /// Promote every new latest Preparation; none means the template's default, else no.
    pub auto_deploy_latest: Option<bool>,
    /// Where Preparations are pushed; none is the embedded registry.
    pub destination: Option<Destination>,
    /// Where it is deployed; none means the Kitchen's default.
    pub target: Option<Target>,
    /// What a failed activation does.
    pub on_failure: OnFailure,
    /// Whether a render without documents is allowed.
    pub allow_empty: bool,
    /// Do nothing until unset.
    pub suspend: bool,
    /// Template to take source, render and patches from.
    pub template: Option<Name>,
}

/// Where a Recipe's input comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Which source.
    pub from: SourceFrom,
    /// Tag or `sha256:` digest; always there for `Oci` and `Pantry`.
    pub version: Option<String>,
    /// Pin: another content digest fails.
    pub digest: Option<String>,
    /// Directory inside the source, relative; `.` by default.
    pub sub_path: String,
    /// How often a tag is asked for again; zero is never by itself.
    pub poll_interval: Duration,
}

/// Which source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceFrom {
    /// A repository.
    Oci(OciRepository),
    /// A Pantry of the same namespace.
    Pantry(Name),
    /// File or directory on the daemon's host.
    Path(String),
}

/// `oci://host[:port]/repository`, without tag and digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OciRepository {
    /// Host with port; `local` is the embedded registry.
    pub host: String,
    /// Repository name.
    pub repository: String,
}

impl OciRepository {
    /// Host name of the embedded registry.
    pub const LOCAL: &'static str = "local";

    /// Whether it is in the embedded registry.
    pub fn is_local(&self) -> bool {
        self.host == Self::LOCAL
    }
}

impl fmt::Display for OciRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci://{}/{}", self.host, self.repository)
    }
}

/// How a source is rendered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Render {
    /// With what.
    pub method: RenderMethod,
    /// Turn the documents of this machine into Kubernetes objects.
    pub kubernetes: bool,
}

/// What renders a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RenderMethod {
    /// A bundle of plain manifests.
    #[default]
    Manifest,
    /// A Helm chart.
    Helm(HelmRender),
    /// A Kustomize directory inside the source, relative; `.` by default.
    Kustomize(String),
}

/// Options of a Helm chart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HelmRender {
    /// None is the Recipe's name; at most 53 characters.
    pub release_name: Option<String>,
    /// None is the Recipe's namespace.
    pub namespace: Option<Name>,
    /// Include the chart's custom resource definitions.
    pub include_crds: bool,
    /// A mapping, or null for none.
    pub values: Value,
    /// Kubernetes version the chart sees; none is a constant.
    pub kube_version: Option<String>,
    /// API versions the chart sees.
    pub api_versions: Vec<String>,
}

/// Where Preparations are pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A repository.
    Oci(OciRepository),
    /// A Pantry of the same namespace.
    Pantry(Name),
}

/// What a failed activation does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Leaves things as they are.
    #[default]
    Hold,
    /// Activates the previous Preparation again.
    Rollback,
}

/// In a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RecipePhase {
    /// Nothing was done yet.
    #[default]
    Pending,
    /// Being rendered.
    Processing,
    /// The latest Preparation is of the current spec.
    Ready,
    /// The last attempt failed.
    Failed,
}

/// What was last observed of a Recipe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecipeStatus {
    /// Generation of the spec that was looked at.
    pub observed_generation: i64,
    /// In a word.
    pub phase: RecipePhase,
    /// Aspects.
    pub conditions: Conditions,
    /// Preparation of the newest revision.
    pub latest_preparation: Option<Name>,
    /// Its artifact.
    pub latest_digest: Option<String>,
    /// Its inputs.
    pub latest_config_hash: Option<String>,
    /// Content digest the source resolved to.
    pub resolved_source_digest: Option<String>,
    /// Place, and version if any, that was resolved: with a template or a Pantry
    /// it changes without the Recipe.
    pub resolved_source: Option<String>,
    /// When the source last resolved to something new.
    pub resolved_at: Option<Timestamp>,
    /// Number of the newest revision; 0 before the first.
    pub revision: i64,
    /// Every revision, oldest first.
    pub revisions: Vec<Revision>,
}

/// One entry of a Recipe's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// From 1.
    pub number: i64,
    /// Preparation.
    pub preparation: Name,
    /// Inputs.
    pub config_hash: String,
    /// Commit message.
    pub message: String,
    /// Who.
    pub actor: String,
    /// When.
    pub time: Option<Timestamp>,
}
