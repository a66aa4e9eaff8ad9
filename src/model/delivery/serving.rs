//! Serving: activation, a pointer to one Preparation.

use jiff::Timestamp;

use super::super::Name;
use super::{Conditions, PreparationSource, ReleaseMeta, Resource};

/// Activation of a Recipe of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// Labels and bookkeeping.
    pub meta: ReleaseMeta,
    /// What is wanted.
    pub spec: ServingSpec,
    /// What was last observed.
    pub status: ServingStatus,
}

/// What a Serving points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServingSpec {
    /// Recipe.
    pub recipe: Name,
    /// Preparation.
    pub preparation: Name,
    /// Mirror of the Recipe's policy.
    pub policy: Policy,
    /// Set while auto-deploy is paused.
    pub hold: Option<Hold>,
}

/// How new Preparations are taken up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// By promotion.
    #[default]
    Manual,
    /// By themselves.
    Automatic,
}

/// Why auto-deploy is paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// For people.
    pub reason: String,
    /// Who.
    pub actor: String,
    /// Since when.
    pub time: Option<Timestamp>,
}

/// In a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ServingPhase {
    /// Nothing was done yet.
    #[default]
    Pending,
    /// On its way to the target, or not yet healthy.
    Deploying,
    /// Healthy on the target.
    Deployed,
    /// The last attempt failed.
    Failed,
}

/// What was last observed of a Serving.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServingStatus {
    /// Generation of the spec that was looked at.
    pub observed_generation: i64,
    /// In a word.
    pub phase: ServingPhase,
    /// Aspects.
    pub conditions: Conditions,
    /// Preparation that was last healthy.
    pub observed_preparation: Option<Name>,
    /// Its artifact.
    pub deployed_digest: Option<String>,
    /// The one before.
    pub previous_preparation: Option<Name>,
    /// What may be on the target.
    pub inventory: Vec<Resource>,
    /// Menu run that holds this Serving, `<menu>/<run>`.
    pub lock: Option<String>,
    /// Every activation, oldest first.
    pub activations: Vec<ActivationRecord>,
    /// Where the Preparation that is pointed at came from, without tag. Empty for
    /// a Serving of before that was kept, until it is looked at.
    pub source: String,
    /// Tag or digest of it that was asked for.
    pub version: String,
    /// Preparation that it goes back to by itself, because what is pointed at
    /// failed; none once it points there.
    pub returns_to: Option<Name>,
}

impl ServingStatus {
    /// Keeps what a Serving tells of the source of what it points at.
    pub fn tell_source(&mut self, source: &PreparationSource) {
        self.source.clone_from(&source.reference);
        self.version.clone_from(&source.version);
    }
}

/// Why a Preparation was activated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ActivationCause {
    /// Somebody promoted it.
    #[default]
    Promote,
    /// Somebody went back to it.
    Rollback,
    /// The Recipe deploys its latest by itself.
    Auto,
    /// It was labelled.
    Label,
    /// A Menu's run.
    Menu,
    /// The one before failed.
    Failure,
}

/// One entry of a Serving's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivationRecord {
    /// From 1.
    pub number: i64,
    /// Preparation that was activated.
    pub preparation: Name,
    /// Its artifact.
    pub digest: String,
    /// Preparation before it.
    pub previous: Option<Name>,
    /// Why.
    pub cause: ActivationCause,
    /// Message of the person.
    pub message: String,
    /// Who.
    pub actor: String,
    /// When.
    pub time: Option<Timestamp>,
}
