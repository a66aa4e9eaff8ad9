//! Releases, version-less: intent (Recipe), artifact (Preparation), activation
//! (Serving), the atomic rollout of several (Menu), and what they refer to.

mod condition;
mod menu;
mod meta;
mod patch;
mod preparation;
mod recipe;
mod serving;
mod settings;
mod target;

pub use condition::{Condition, ConditionStatus, ConditionType, Conditions};
pub use menu::{
    Activation, MemberOutcome, Menu, MenuFailure, MenuMember, MenuPhase, MenuRun, MenuRunMember,
    MenuSpec, MenuStatus, MenuStrategy, RunPhase,
};
pub use meta::{AnyRelease, ReleaseKind, ReleaseMeta, ReleaseRef};
pub use patch::{OnMissing, Patch, PatchTarget};
pub use preparation::{
    Artifact, GitSource, Preparation, PreparationInputs, PreparationPhase, PreparationSource,
    PreparationSpec, PreparationStatus, RenderType, Renderer, Resource, SourceKind,
};
pub use recipe::{
    Destination, HelmRender, OciRepository, OnFailure, Recipe, RecipePhase, RecipeSpec,
    RecipeStatus, Render, RenderMethod, Revision, Source, SourceFrom,
};
pub use serving::{
    ActivationCause, ActivationRecord, Hold, Policy, Serving, ServingPhase, ServingSpec,
    ServingStatus,
};
pub use settings::{
    Kitchen, KitchenSpec, OverridePolicy, Overrides, Pantry, PantryPhase, PantrySpec, PantryStatus,
    RecipeTemplate, RecipeTemplateSpec, Signatures,
};
pub use target::{ArgoTarget, DeletionPolicy, KukeTarget, Target, TargetType};

/// Label and annotation keys.
pub mod keys {
    /// Front of every key of delivery.
    pub const PREFIX: &str = "delivery.kokumi.dev/";
    /// Owning Recipe.
    pub const RECIPE: &str = "delivery.kokumi.dev/recipe";
    /// Source version of a Preparation, as a legal label.
    pub const VERSION: &str = "delivery.kokumi.dev/version";
    /// Informational copy of the Recipe's policy on a Preparation.
    pub const AUTO_DEPLOY: &str = "delivery.kokumi.dev/auto-deploy";
    /// On a Preparation: `"true"` asks for its promotion.
    pub const APPROVE_DEPLOY: &str = "delivery.kokumi.dev/approve-deploy";
    /// When an approval was used.
    pub const APPROVED_AT: &str = "delivery.kokumi.dev/approved-at";
    /// Whose approval was used.
    pub const APPROVED_BY: &str = "delivery.kokumi.dev/approved-by";
    /// Managing Serving, on live objects.
    pub const SERVING: &str = "delivery.kokumi.dev/serving";
    /// Its namespace, on live objects of this machine.
    pub const NAMESPACE: &str = "delivery.kokumi.dev/namespace";
    /// Opt-in to adoption: `<namespace>/<recipe>`, or the bare Recipe name.
    pub const ALLOWED_RECIPE: &str = "delivery.kokumi.dev/allowed-recipe";
    /// Older spelling of [`ALLOWED_RECIPE`].
    pub const ALLOWED_ORDER: &str = "delivery.kokumi.dev/allowed-order";
    /// One-shot message of the next revision, on a Recipe.
    pub const COMMIT_MESSAGE: &str = "delivery.kokumi.dev/commit-message";
    /// One-shot wish to ask the source again, on a Recipe.
    pub const REFRESH: &str = "delivery.kokumi.dev/refresh";
    /// On a Recipe that is being deleted: its artifacts go, too.
    pub const PURGE: &str = "delivery.kokumi.dev/purge-artifacts";
    /// On a Menu: the run that is to go back.
    pub const ABORT: &str = "delivery.kokumi.dev/abort";
    /// What somebody asked a controller for that it has not done yet.
    pub const ASKED: &[&str] = &[REFRESH, PURGE, ABORT];
    /// `disabled` on a live object: it is never pruned.
    pub const PRUNE: &str = "delivery.kokumi.dev/prune";
    /// What must be done before a Recipe or Serving is gone.
    pub const FINALIZER: &str = "delivery.kokumi.dev/finalizer";
}
