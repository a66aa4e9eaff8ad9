//! What a run does to one Serving that it holds: the Serving controller leaves
//! those alone.

use std::time::Duration;

use super::engine;
use super::run::Refusal;
use crate::api::Error;
use crate::delivery::fault::{Fault, Result};
use crate::delivery::promote;
use crate::delivery::serving::ARGOCD_UNAVAILABLE;
use crate::delivery::target::{Health, Plan, Target};
use crate::delivery::{Delivery, not_found};
use crate::model::delivery::{
    DeletionPolicy, Preparation, Recipe, ReleaseKind, ReleaseRef, Serving,
};
use crate::store::LockGuard;

/// How long a turn at a Serving is waited for: its own controller may be at a
/// step of an older activation.
const TURN: Duration = Duration::from_secs(300);

impl Delivery {
    /// Whether a Preparation could be activated, and what that would change;
    /// fetches the images it needs. Nothing that runs is changed.
    pub(super) async fn prepare_activation(
        &self,
        preparation: &Preparation,
        serving: Option<&Serving>,
    ) -> Result<Plan> {
        let meta = &preparation.meta;
        let mut serving = match serving {
            Some(serving) => serving.clone(),
            None => promote::unsaved(&meta.namespace, &preparation.spec.recipe, &meta.name),
        };
        serving.spec.preparation = meta.name.clone();
        let recipe = self.recipe_of(&serving)?;
        let activation = self.activation(&serving, recipe.as_ref()).await?;
        Ok(self.targets.prepare(&activation).await?)
    }

    /// Hands what a Serving points at to its target; what an older activation
    /// left stays.
    pub(super) async fn deploy_held(&self, at: &ReleaseRef) -> Result<()> {
        let _turn = self.turn_at(at).await?;
        let serving = self.read::<Serving>(at)?.ok_or_else(|| not_found(at))?;
        let recipe = self.recipe_of(&serving)?;
        let mut activation = self.activation_kept(&serving, recipe.as_ref()).await?;
        self.hand_over(&serving, &mut activation).await?;
        Ok(())
    }

    /// How a Serving stands towards what it points at.
    pub(super) async fn health_held(&self, at: &ReleaseRef) -> engine::Health {
        match self.look_held(at).await {
            Ok(health) => health,
            // A target out of reach is no verdict; the run's time limit is.
            Err(fault) => engine::Health::Waiting(fault.text()),
        }
    }

    async fn look_held(&self, at: &ReleaseRef) -> Result<engine::Health> {
        let serving = self.read::<Serving>(at)?.ok_or_else(|| not_found(at))?;
        let recipe = self.recipe_of(&serving)?;
        let activation = self.activation_kept(&serving, recipe.as_ref()).await?;
        let observed = self.targets.observe(&activation).await?;
        Ok(match observed.health {
            Health::Failed(reason, why) => engine::Health::Failed(format!("{reason}: {why}")),
            Health::Waiting(what) | Health::Degraded(what) => engine::Health::Waiting(what),
            // Leftovers are pruned once the run knows its end: they are no drift.
            Health::Ready(_) if observed.synced || observed.drift.is_empty() => {
                engine::Health::Healthy
            }
            Health::Ready(_) => engine::Health::Waiting(observed.drift.join("; ")),
        })
    }

    /// Removes what older activations left, and notes the success.
    pub(super) async fn prune_held(&self, at: &ReleaseRef) -> Result<()> {
        let _turn = self.turn_at(at).await?;
        let serving = self.read::<Serving>(at)?.ok_or_else(|| not_found(at))?;
        let recipe = self.recipe_of(&serving)?;
        let mut activation = self.activation_kept(&serving, recipe.as_ref()).await?;
        activation.defer_prune = false;
        self.passed(&serving, &activation, &self.targets).await?;
        Ok(())
    }

    /// Takes away what a Serving made that had nothing before the run, and the
    /// Serving. Call it until the Serving is gone.
    pub(super) async fn withdraw_held(&self, at: &ReleaseRef) -> Result<()> {
        let _turn = self.turn_at(at).await?;
        let Some(serving) = self.read::<Serving>(at)? else {
            return Ok(());
        };
        // Its target may let a workload go that somebody deletes. A run that goes
        // back leaves nothing of the new.
        self.withdraw_by(&serving, Some(DeletionPolicy::Delete))
            .await?;
        Ok(())
    }

    fn recipe_of(&self, serving: &Serving) -> Result<Option<Recipe>> {
        let namespace = &serving.meta.namespace;
        let at = ReleaseRef::new(ReleaseKind::Recipe, namespace, &serving.spec.recipe);
        Ok(self.read(&at)?)
    }

    async fn turn_at(&self, at: &ReleaseRef) -> Result<LockGuard> {
        let turn = self.store.lock_release(at, TURN).await;
        Ok(turn.map_err(Error::from)?)
    }
}

/// What a failed step means to its run. A cluster, or a registry that holds an
/// artifact, which does not answer is no verdict of the member's target.
pub(super) fn refusal(fault: Fault) -> Refusal {
    let passing = fault.reason == ARGOCD_UNAVAILABLE || fault.is_unanswered();
    match passing {
        true => Refusal::Passing(fault.text()),
        false => Refusal::Final(fault.text()),
    }
}
