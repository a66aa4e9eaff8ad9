//! What Recipes refer to: Pantry, RecipeTemplate, Kitchen.

use std::fmt;

use super::super::Name;
use super::{Conditions, OciRepository, Patch, ReleaseMeta, Render, Source, Target};

/// A source registry with its login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pantry {
    /// Labels and bookkeeping.
    pub meta: ReleaseMeta,
    /// What is wanted.
    pub spec: PantrySpec,
    /// What was last observed.
    pub status: PantryStatus,
}

/// Address and login. `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct PantrySpec {
    /// Repository.
    pub oci: OciRepository,
    /// Account name; empty for none.
    pub username: String,
    /// Password or token.
    pub password: String,
    /// PEM certificates to trust.
    pub ca: String,
    /// Plain HTTP.
    pub plain_http: bool,
}

impl fmt::Debug for PantrySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PantrySpec")
            .field("oci", &self.oci)
            .field("username", &self.username)
            .field("plain_http", &self.plain_http)
            .finish_non_exhaustive()
    }
}

/// In a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PantryPhase {
    /// Not tried yet.
    #[default]
    Pending,
    /// The repository answered.
    Ready,
    /// It did not.
    Failed,
}

/// What was last observed of a Pantry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PantryStatus {
    /// Generation of the spec that was looked at.
    pub observed_generation: i64,
    /// In a word.
    pub phase: PantryPhase,
    /// Aspects.
    pub conditions: Conditions,
}

/// The common part of several Recipes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipeTemplate {
    /// Labels and bookkeeping.
    pub meta: ReleaseMeta,
    /// What is wanted.
    pub spec: RecipeTemplateSpec,
}

/// The common part of several Recipes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipeTemplateSpec {
    /// Source of the consumers.
    pub source: Source,
    /// Rendering of the consumers.
    pub render: Render,
    /// Patches before the consumer's own.
    pub patches: Vec<Patch>,
    /// What a consumer may change.
    pub overrides: Overrides,
    /// Default of `autoDeployLatest`.
    pub auto_deploy: Option<bool>,
}

/// What a consumer of a template may change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Helm values, by dotted path.
    pub values: OverridePolicy,
    /// Patches, by `Kind/name` of their target.
    pub patches: OverridePolicy,
}

/// What may be overridden.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum OverridePolicy {
    /// Everything.
    #[default]
    All,
    /// Only these.
    Restricted(Vec<String>),
    /// Nothing.
    None,
}

/// Settings of delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kitchen {
    /// Labels and bookkeeping.
    pub meta: ReleaseMeta,
    /// What is wanted.
    pub spec: KitchenSpec,
}

/// Settings of delivery.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KitchenSpec {
    /// Address of Argo CD's pages, for links; empty for none.
    pub argocd_url: String,
    /// Target of Recipes that name none.
    pub default_target: Option<Target>,
    /// Address under which clusters reach the embedded registry; empty for none.
    pub registry_url: String,
    /// Directories below which `source.path` may point.
    pub source_roots: Vec<String>,
    /// Whose signatures count.
    pub signatures: Signatures,
}

/// Signatures that Preparations are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signatures {
    /// Nothing is activated without one.
    pub required: bool,
    /// Keys that count, as PEM.
    pub public_keys: Vec<String>,
}

impl Kitchen {
    /// Its only name, and namespace.
    pub const NAME: &'static str = "default";

    /// Whether a name is the one it may have.
    pub fn is_named(name: &Name) -> bool {
        *name == *Self::NAME
    }
}
