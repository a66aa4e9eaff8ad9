//! The target `kuke`: this machine (delivery spec, 7.1).
//!
//! Documents are applied through [`Kukeon`], like those of a person, with the
//! labels of their owner. What is there is read the same way; the plan between
//! the two is pure.

mod change;
#[cfg(test)]
pub(super) mod fake;
mod health;
mod images;
mod key;
mod live;
mod owner;
mod plan;
#[cfg(test)]
mod tests;
mod wanted;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{
    Action, Activation, Applied, Error, Health, Observed, Plan, Problem, Reason, Result, Target,
    Withdrawal,
};
use crate::api;
use crate::client::Kukeon;
use crate::model::delivery::{DeletionPolicy, Resource};
use crate::model::{Name, RealmRef};
use key::Key;
use live::Live;
use owner::Owner;
use plan::{Step, Terms, Work};

/// How soon it is looked again while something is waited for.
const AGAIN: Duration = Duration::from_millis(200);

/// This machine.
#[derive(Clone)]
pub struct Local {
    kukeon: Arc<dyn Kukeon>,
}

/// What is known before anything is done.
struct Known {
    owner: Owner,
    realm: Name,
    live: Live,
    work: Work,
}

impl Known {
    fn realm_is_there(&self) -> bool {
        let realm = RealmRef {
            realm: self.realm.clone(),
        };
        self.live.0.contains_key(&realm.into())
    }
}

impl Local {
    /// The target that works through `kukeon`: the runtime itself, without delivery.
    pub fn new(kukeon: Arc<dyn Kukeon>) -> Self {
        Self { kukeon }
    }

    /// Reads the artifact and what is there, and plans.
    async fn look(&self, activation: &Activation) -> Result<Known> {
        let owner = Owner {
            namespace: activation.namespace.clone(),
            recipe: activation.recipe.clone(),
        };
        let wanted = wanted::read(activation, &owner)?;
        let realm = wanted::realm(activation).clone();
        let at = RealmRef {
            realm: realm.clone(),
        };
        let keys = wanted.iter().map(|w| w.key.clone());
        let old = activation.inventory.iter().filter_map(Key::of_resource);
        let keys = keys.chain(old).chain([Key::Object(at.into())]);
        let live = Live::read(self.kukeon.as_ref(), keys)
            .await
            .map_err(unreadable)?;
        let terms = Terms {
            owner: &owner,
            realm: &realm,
            prune: activation.target.kuke.prune,
        };
        let work = plan::plan(&terms, wanted, &live, &activation.inventory)?;
        Ok(Known {
            owner,
            realm,
            live,
            work,
        })
    }

    /// What has to be fetched. Fails when something cannot be.
    async fn images(&self, known: &Known) -> Result<images::Needed> {
        let needed = images::needed(&known.work);
        let there = known.realm_is_there();
        let kukeon = self.kukeon.as_ref();
        let (fetch, problems) = images::missing(kukeon, &known.realm, there, &needed)
            .await
            .map_err(unreadable)?;
        check(problems)?;
        Ok(fetch)
    }

    async fn fetch(&self, known: &Known, images: &images::Needed) -> Result<()> {
        let fetched = images::fetch(self.kukeon.as_ref(), &known.realm, images).await;
        check(fetched.map_err(unreadable)?)
    }

    async fn put(&self, steps: &[&Step]) -> Result<()> {
        let applied = change::apply(self.kukeon.as_ref(), steps).await;
        check(applied.map_err(unreadable)?)
    }
}

/// A call that failed as a whole: the machine cannot be asked or changed now.
fn unreadable(error: api::Error) -> Error {
    Error::new(Reason::ApplyFailed, error.message).hint(error.hint)
}

fn check(problems: Vec<Problem>) -> Result<()> {
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Error::of(Reason::ApplyFailed, problems)),
    }
}

fn named(realm: &Name, images: &images::Needed) -> Vec<String> {
    images.keys().map(|i| format!("{realm}/{i}")).collect()
}

#[async_trait]
impl Target for Local {
    async fn plan(&self, activation: &Activation) -> Result<Plan> {
        let known = self.look(activation).await?;
        let images = self.images(&known).await?;
        Ok(Plan {
            images: named(&known.realm, &images),
            ..known.work.plan()
        })
    }

    async fn prepare(&self, activation: &Activation) -> Result<Plan> {
        let known = self.look(activation).await?;
        let mut images = self.images(&known).await?;
        // Into a realm that is yet to be made nothing can be fetched.
        if known.realm_is_there() {
            self.fetch(&known, &images).await?;
            images.clear();
        }
        Ok(Plan {
            images: named(&known.realm, &images),
            ..known.work.plan()
        })
    }

    async fn apply(&self, activation: &Activation) -> Result<Applied> {
        let known = self.look(activation).await?;
        let images = self.images(&known).await?;
        let mut due: Vec<&Step> = known.work.due().collect();
        if known.realm_is_there() {
            self.fetch(&known, &images).await?;
        } else {
            // Nothing runs in it yet: first the scopes, then images, then the rest.
            let scopes: Vec<&Step> = due.extract_if(.., |s| s.wanted.key.is_scope()).collect();
            self.put(&scopes).await?;
            self.fetch(&known, &images).await?;
        }
        self.put(&due).await?;
        let plan = known.work.plan();
        let awaiting = |o: &&super::Planned| o.action == Action::Prune;
        Ok(Applied {
            inventory: plan.inventory(),
            awaiting: plan
                .objects
                .iter()
                .filter(awaiting)
                .map(|o| o.resource.clone())
                .collect(),
            objects: plan
                .objects
                .into_iter()
                .filter(|o| !matches!(o.action, Action::Prune | Action::Keep))
                .collect(),
        })
    }

    async fn observe(&self, activation: &Activation) -> Result<Observed> {
        let Known { live, work, .. } = self.look(activation).await?;
        let mut drift = Vec::new();
        for step in work.due() {
            let key = &step.wanted.key;
            match step.action {
                Action::Create => drift.push(format!("{key}: it is not there")),
                _ => drift.extend(step.changes.iter().map(|c| format!("{key}: {c}"))),
            }
        }
        let (mut health, failed) = health::judge(&work.steps, &live);
        if let (Health::Failed(_, why), Some(key)) = (&mut health, failed) {
            why.push_str(&change::last_words(self.kukeon.as_ref(), &key, &live).await);
        }
        Ok(Observed {
            synced: drift.is_empty(),
            drift,
            health,
        })
    }

    async fn changed(&self, _activation: &Activation, limit: Duration) {
        tokio::time::sleep(limit.min(AGAIN)).await;
    }

    async fn prune(&self, activation: &Activation) -> Result<Vec<Resource>> {
        if activation.defer_prune {
            return Ok(activation.inventory.clone());
        }
        let Known { owner, work, .. } = self.look(activation).await?;
        let undone: Vec<String> = work.due().map(|s| s.wanted.key.to_string()).collect();
        if !undone.is_empty() {
            let message = format!(
                "nothing is pruned while the artifact is not applied: {}",
                undone.join(", ")
            );
            return Err(Error::new(Reason::ApplyFailed, message));
        }
        let goes = work.stale.iter().filter(|s| !s.stays);
        let keys: Vec<Key> = goes.map(|s| s.key.clone()).collect();
        check(change::remove(self.kukeon.as_ref(), &owner, &keys).await)?;
        let stays = |o: &super::Planned| o.action != Action::Prune;
        let objects = work.plan().objects.into_iter();
        Ok(objects.filter(stays).map(|o| o.resource).collect())
    }

    async fn withdraw(&self, withdrawal: &Withdrawal) -> Result<Vec<Resource>> {
        let owner = Owner {
            namespace: withdrawal.namespace.clone(),
            recipe: withdrawal.recipe.clone(),
        };
        let kukeon = self.kukeon.as_ref();
        let mut keys: Vec<Key> = withdrawal
            .inventory
            .iter()
            .filter_map(Key::of_resource)
            .collect();
        keys.sort_by_key(|key| std::cmp::Reverse(key.depth()));
        let live = Live::read(kukeon, keys.iter().cloned())
            .await
            .map_err(unreadable)?;
        let stays = |key: &Key| {
            withdrawal.policy == DeletionPolicy::Orphan || live.meta(key).is_some_and(owner::stays)
        };
        let (stay, go): (Vec<Key>, Vec<Key>) = keys.into_iter().partition(stays);
        for key in stay {
            change::release(kukeon, &owner, &key)
                .await
                .map_err(unreadable)?;
        }
        check(change::remove(kukeon, &owner, &go).await)?;
        Ok(Vec::new())
    }
}
