//! The end of a Serving: what it made goes from its target, or is let go.

use super::Delivery;
use super::fault::Result;
use super::serving::LOOK;
use super::target::{Target, Withdrawal};
use super::work::Next;
use crate::model::delivery::{
    DeletionPolicy, Preparation, Recipe, ReleaseKind, ReleaseRef, Serving,
};
use crate::store::ReleaseChange;

impl Delivery {
    /// The end of a Serving: the workload goes, or is let go, as its target says.
    pub(super) async fn withdraw(&self, serving: &Serving) -> Result<Next> {
        self.withdraw_by(serving, None).await
    }

    /// The same with a policy of the caller's instead of the target's.
    pub(super) async fn withdraw_by(
        &self,
        serving: &Serving,
        policy: Option<DeletionPolicy>,
    ) -> Result<Next> {
        let at = serving.at();
        let prep_at = ReleaseRef::new(
            ReleaseKind::Preparation,
            &at.namespace,
            &serving.spec.preparation,
        );
        let recipe_at = ReleaseRef::new(ReleaseKind::Recipe, &at.namespace, &serving.spec.recipe);
        let recipe: Option<Recipe> = self.read(&recipe_at)?;
        let preparation: Option<Preparation> = self.read(&prep_at)?;
        let target = recipe
            .and_then(|recipe| self.effective(&recipe).ok())
            .map(|effective| effective.target)
            .or(preparation.map(|p| p.spec.target))
            .unwrap_or_default();
        let policy = policy.unwrap_or(target.deletion_policy);
        super::STEP.hit();
        let rest = self
            .targets
            .withdraw(&Withdrawal {
                namespace: at.namespace.clone(),
                recipe: serving.spec.recipe.clone(),
                policy,
                inventory: serving.status.inventory.clone(),
            })
            .await?;
        super::STEP.hit();
        let gone = rest.is_empty() || policy == DeletionPolicy::Orphan;
        self.transact(|| {
            let Some(mut now) = self.read::<Serving>(&at)? else {
                return Ok((Vec::new(), ()));
            };
            if gone {
                let version = now.meta.resource_version;
                return Ok((vec![ReleaseChange::Remove(at.clone(), version)], ()));
            }
            now.status.inventory.clone_from(&rest);
            Ok((vec![now.into()], ()))
        })?;
        if gone {
            // One of the same name may be there before the next look.
            self.marked.forget(&at);
        }
        self.enqueue(&recipe_at);
        Ok(match gone {
            true => Next::Rest,
            false => Next::Soon(LOOK),
        })
    }
}
