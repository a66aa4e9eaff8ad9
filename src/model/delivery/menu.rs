//! Menu: atomic rollout of several Recipes.

use std::time::Duration;

use jiff::Timestamp;

use super::super::Name;
use super::{Conditions, ReleaseMeta};

/// Atomic rollout of several Recipes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Menu {
    /// Labels and bookkeeping.
    pub meta: ReleaseMeta,
    /// What is wanted.
    pub spec: MenuSpec,
    /// What was last observed.
    pub status: MenuStatus,
}

/// What a Menu rolls out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MenuSpec {
    /// 2 to 64 Recipes of the same namespace, without cycles.
    pub recipes: Vec<MenuMember>,
    /// How.
    pub strategy: MenuStrategy,
    /// Start a run when a member has a new latest Preparation and all are ready.
    pub auto_deploy_latest: bool,
    /// Suppress the members' own auto-deploy.
    pub exclusive: bool,
    /// Do nothing until unset.
    pub suspend: bool,
}

/// One Recipe of a Menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MenuMember {
    /// Recipe.
    pub name: Name,
    /// Pin by Preparation name or digest; none is the latest.
    pub preparation: Option<String>,
    /// Members that must be healthy first.
    pub depends_on: Vec<Name>,
}

/// How a Menu rolls out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MenuStrategy {
    /// One wave after the other, or all at once.
    pub activation: Activation,
    /// How long preparing may take.
    pub prepare_timeout: Duration,
    /// How long all members may take until they were healthy together for
    /// `min_healthy`.
    pub health_timeout: Duration,
    /// How long they must stay healthy together.
    pub min_healthy: Duration,
    /// What a failure does.
    pub on_failure: MenuFailure,
}

impl Default for MenuStrategy {
    fn default() -> Self {
        Self {
            activation: Activation::default(),
            prepare_timeout: Duration::from_secs(300),
            health_timeout: Duration::from_secs(300),
            min_healthy: Duration::from_secs(10),
            on_failure: MenuFailure::default(),
        }
    }
}

/// In which order members are activated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Activation {
    /// In waves, by dependency.
    #[default]
    Ordered,
    /// All at once.
    Parallel,
}

/// What a failed run does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MenuFailure {
    /// Brings every member back.
    #[default]
    Rollback,
    /// Stops where it is and keeps its locks.
    Halt,
}

/// In a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MenuPhase {
    /// Nothing to do.
    #[default]
    Idle,
    /// Looks whether everything can be rolled out.
    Preparing,
    /// Pointers are moved, waves go out.
    Activating,
    /// All members must be healthy together.
    Verifying,
    /// The last run was committed.
    Deployed,
    /// Members go back.
    RollingBack,
    /// Members went back.
    RolledBack,
    /// The last run failed.
    Failed,
}

/// What was last observed of a Menu.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MenuStatus {
    /// Generation of the spec that was looked at.
    pub observed_generation: i64,
    /// In a word.
    pub phase: MenuPhase,
    /// Aspects.
    pub conditions: Conditions,
    /// Run in progress, or that keeps its locks.
    pub current_run: Option<String>,
    /// The newest runs, oldest first.
    pub runs: Vec<MenuRun>,
    /// Plan that failed; it is not tried again by itself.
    pub last_failed_plan_hash: Option<String>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RunPhase {
    /// Nothing live was changed.
    #[default]
    Preparing,
    /// Pointers are moved, waves go out.
    Activating,
    /// All members must be healthy together.
    Verifying,
    /// Done; prunes may be outstanding.
    Committed,
    /// Members go back.
    RollingBack,
    /// Members went back.
    RolledBack,
    /// Nothing was changed, it cannot be rolled out.
    PrepareFailed,
    /// Somebody ended it.
    Aborted,
    /// It stopped half-way and keeps its locks.
    Failed,
}

/// One rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MenuRun {
    /// Number in text, from 1.
    pub id: String,
    /// Hash of what was to be rolled out.
    pub plan_hash: String,
    /// How far it is.
    pub phase: RunPhase,
    /// Every member.
    pub members: Vec<MenuRunMember>,
    /// For people.
    pub message: String,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When its phase began; time limits count from it.
    pub phase_since: Option<Timestamp>,
    /// Who.
    pub actor: String,
}

/// What became of a member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MemberOutcome {
    /// Nothing yet.
    #[default]
    Pending,
    /// It is healthy with its new Preparation.
    Deployed,
    /// It is back on its old one.
    RolledBack,
    /// It had none before and is gone again.
    Withdrawn,
    /// It failed.
    Failed,
}

/// One member of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MenuRunMember {
    /// Recipe.
    pub recipe: Name,
    /// Preparation before.
    pub from_preparation: Option<Name>,
    /// Its artifact.
    pub from_digest: Option<String>,
    /// Preparation to activate.
    pub to_preparation: Name,
    /// Its artifact.
    pub to_digest: String,
    /// Wave, from 0.
    pub wave: u32,
    /// What became of it.
    pub outcome: MemberOutcome,
    /// For people.
    pub message: String,
    /// What preparing found that activating it would change on its target, as
    /// `action object: field: what`. Holds no secret; cut where it is long.
    pub changes: Vec<String>,
}
