//! Where an activation goes: this machine, or a cluster through Argo CD.
//!
//! The way of one activation, for the Serving controller and a Menu's run:
//! [`Target::prepare`], persist [`Plan::inventory`], [`Target::apply`], persist
//! [`Applied::inventory`], ask [`Target::observe`] until the gate is passed,
//! [`Target::prune`], persist what it returns. Each of these may be repeated at
//! any point, after a crash as well.

#[cfg(test)]
pub(in crate::delivery) mod apiserver;
pub mod argocd;
mod both;
mod cluster;
pub mod clusters;
mod error;
pub mod links;
mod local;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

pub use both::Targets;
pub use cluster::ArgoCd;
pub use error::{Error, Problem, Reason, Result};
pub use local::Local;
#[cfg(test)]
pub(in crate::delivery) use local::fake::Fake;

use crate::model::Name;
use crate::model::delivery::{self, Artifact, DeletionPolicy, Resource, TargetType};

/// One Preparation on its way to its target.
#[derive(Debug, Clone)]
pub struct Activation {
    /// Namespace of Recipe and Serving.
    pub namespace: Name,
    /// Recipe, and Serving of the same name.
    pub recipe: Name,
    /// Preparation that is activated.
    pub preparation: Name,
    /// Its artifact.
    pub artifact: Artifact,
    /// Its canonical `manifest.yaml`: fetched, and verified by digest.
    pub manifest: Vec<u8>,
    /// Commit message; empty for none.
    pub commit_message: String,
    /// Where to, and how.
    pub target: delivery::Target,
    /// Whether an artifact without documents may remove everything.
    pub allow_empty: bool,
    /// Address under which clusters reach the embedded registry; empty for none.
    pub registry_url: String,
    /// What may be on a target of this Serving: the inventory last persisted.
    pub inventory: Vec<Resource>,
    /// A Menu's run is not committed yet: what an older activation left stays.
    pub defer_prune: bool,
}

/// The end of a Serving.
#[derive(Debug, Clone)]
pub struct Withdrawal {
    /// Namespace of Recipe and Serving.
    pub namespace: Name,
    /// Recipe, and Serving of the same name.
    pub recipe: Name,
    /// Whether what it made is removed, or only let go.
    pub policy: DeletionPolicy,
    /// What may be on a target of this Serving.
    pub inventory: Vec<Resource>,
}

/// What an activation would do to one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// There is none.
    Create,
    /// It differs.
    Update,
    /// It is as wanted.
    Unchanged,
    /// It is of an older activation and no longer wanted.
    Prune,
    /// As [`Action::Prune`], but the target or the object says that it stays.
    Keep,
}

impl Action {
    /// In a word, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Create => "create",
            Action::Update => "update",
            Action::Unchanged => "unchanged",
            Action::Prune => "prune",
            Action::Keep => "keep",
        }
    }
}

/// One object of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Which.
    pub resource: Resource,
    /// What would be done.
    pub action: Action,
    /// Fields that would change, as `path: what`. Holds no secret.
    pub changes: Vec<String>,
}

/// What an activation would do: the wanted objects, parents first, then those
/// that are no longer wanted, children first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Every object.
    pub objects: Vec<Planned>,
    /// Images that have to be fetched, as `realm/reference`.
    pub images: Vec<String>,
}

impl Plan {
    /// What may be on the target from the moment on at which applying begins.
    pub fn inventory(&self) -> Vec<Resource> {
        self.objects.iter().map(|o| o.resource.clone()).collect()
    }

    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        let quiet = |a| matches!(a, Action::Unchanged | Action::Keep);
        self.objects.iter().all(|o| quiet(o.action))
    }
}

/// What an apply came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// What was done to the wanted objects.
    pub objects: Vec<Planned>,
    /// What is on the target now: the wanted objects and what awaits pruning.
    pub inventory: Vec<Resource>,
    /// What [`Target::prune`] has yet to remove.
    pub awaiting: Vec<Resource>,
}

/// How an activation stands on its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The target holds what the artifact says.
    pub synced: bool,
    /// Differences, as `object: field: what`; empty while a target has not yet
    /// looked. Holds no secret.
    pub drift: Vec<String>,
    /// Whether it works.
    pub health: Health,
}

/// Whether an activation works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does, without a break since then; none where that is not known.
    Ready(Option<Timestamp>),
    /// Not yet, or not at the moment: what is waited for. Past the gate's
    /// timeout this is [`Reason::HealthTimeout`].
    Waiting(String),
    /// As [`Health::Waiting`], of what is there and ill: a cluster's word.
    Degraded(String),
    /// It does not, and waiting will not help.
    Failed(Reason, String),
}

/// What a Serving's gate asks of its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// How long it may take.
    pub timeout: Duration,
    /// How long it must be [`Health::Ready`] without a break.
    pub min_healthy: Duration,
}

impl Gate {
    /// The gate of a target.
    pub fn of(target: &delivery::Target) -> Self {
        match target.kind {
            TargetType::Kuke => Self {
                timeout: target.kuke.health_timeout,
                min_healthy: target.kuke.min_healthy,
            },
            TargetType::ArgoCd => Self {
                timeout: target.argocd.wait_timeout,
                // Argo CD has looked for long enough when it says Healthy.
                min_healthy: Duration::ZERO,
            },
        }
    }
}

/// Whether a target puts back what drifted.
pub fn self_heals(target: &delivery::Target) -> bool {
    match target.kind {
        TargetType::Kuke => target.kuke.self_heal,
        // Argo CD does it for the workload; the Application is ours to put back.
        TargetType::ArgoCd => true,
    }
}

/// Where activations go.
#[async_trait]
pub trait Target: Send + Sync + 'static {
    /// What applying would do. Changes nothing, also not on the target.
    ///
    /// Fails as [`Target::apply`] would where that can be told before:
    /// ownership, documents that cannot be used, fields that cannot change, a
    /// cluster that cannot be reached.
    async fn plan(&self, activation: &Activation) -> Result<Plan>;

    /// As [`Target::plan`], and makes sure that everything needed is there:
    /// images are fetched. Nothing that runs is changed.
    async fn prepare(&self, activation: &Activation) -> Result<Plan>;

    /// Brings the target to what the artifact says, parents first; nothing is
    /// pruned. What is as wanted is not touched, so that work that has ended
    /// is not begun again.
    ///
    /// [`Reason::OptInRequired`] before anything is changed; with
    /// [`Reason::ApplyFailed`] the objects that failed are listed, and others
    /// may have been changed.
    async fn apply(&self, activation: &Activation) -> Result<Applied>;

    /// How the activation stands, for the gate and for the drift check.
    async fn observe(&self, activation: &Activation) -> Result<Observed>;

    /// Ends when it is worth observing again: the target said that something
    /// changed, or `limit` is over.
    async fn changed(&self, activation: &Activation, limit: Duration);

    /// Removes what older activations left, children first, and returns the
    /// inventory that remains. Does nothing while the activation defers it.
    ///
    /// Fails with [`Reason::ApplyFailed`] when the target does not hold what
    /// the artifact says, or when something could not be removed.
    async fn prune(&self, activation: &Activation) -> Result<Vec<Resource>>;

    /// Removes what a Serving made, or lets it go, and returns what is still on
    /// its way out; call it again until that is empty.
    async fn withdraw(&self, withdrawal: &Withdrawal) -> Result<Vec<Resource>>;
}
