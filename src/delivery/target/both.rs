//! Both targets behind one: an activation goes where its Recipe says, and what
//! it left on the other target is removed once it works on the new one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::cluster::{ArgoCd, is_application};
use super::clusters::Clusters;
use super::local::Local;
use super::{Action, Activation, Applied, Observed, Plan, Planned, Result, Target, Withdrawal};
use crate::api;
use crate::client::Kukeon;
use crate::model::delivery::{Resource, TargetType};

/// This machine and every connected cluster.
pub struct Targets {
    local: Box<dyn Target>,
    argocd: Box<dyn Target>,
    clusters: Clusters,
}

impl Targets {
    /// The targets of an instance. `kukeon` is its runtime, without releases.
    ///
    /// # Errors
    /// A run path that cannot be used.
    pub fn open(kukeon: Arc<dyn Kukeon>, run_path: &Path) -> api::Result<Self> {
        let clusters = Clusters::open(run_path)?;
        Ok(Self {
            local: Box::new(Local::new(kukeon)),
            argocd: Box::new(ArgoCd::new(clusters.clone())),
            clusters,
        })
    }

    /// The connections to clusters.
    pub fn clusters(&self) -> &Clusters {
        &self.clusters
    }

    /// Version of an activation's Application, once it is another one than `seen`
    /// or after `limit`; at once without `seen`. Empty when there is none.
    pub async fn application(
        &self,
        activation: &Activation,
        seen: Option<&str>,
        limit: Duration,
    ) -> Result<String> {
        let argocd = ArgoCd::new(self.clusters.clone());
        match seen {
            None => argocd.version(activation).await,
            Some(seen) => argocd.changed_since(activation, seen, limit).await,
        }
    }

    fn of(&self, activation: &Activation) -> &dyn Target {
        match activation.target.kind {
            TargetType::Kuke => self.local.as_ref(),
            TargetType::ArgoCd => self.argocd.as_ref(),
        }
    }
}

/// What a Serving has on the target that it no longer uses.
fn elsewhere(activation: &Activation) -> Vec<Resource> {
    let local = activation.target.kind == TargetType::Kuke;
    let inventory = activation.inventory.iter();
    inventory
        .filter(|r| is_application(r) == local)
        .cloned()
        .collect()
}

#[async_trait]
impl Target for Targets {
    async fn plan(&self, activation: &Activation) -> Result<Plan> {
        let plan = self.of(activation).plan(activation).await?;
        Ok(with_elsewhere(plan, activation))
    }

    async fn prepare(&self, activation: &Activation) -> Result<Plan> {
        let plan = self.of(activation).prepare(activation).await?;
        Ok(with_elsewhere(plan, activation))
    }

    async fn apply(&self, activation: &Activation) -> Result<Applied> {
        let mut applied = self.of(activation).apply(activation).await?;
        let elsewhere = elsewhere(activation);
        applied.inventory.extend(elsewhere.iter().cloned());
        applied.awaiting.extend(elsewhere);
        Ok(applied)
    }

    async fn observe(&self, activation: &Activation) -> Result<Observed> {
        self.of(activation).observe(activation).await
    }

    async fn changed(&self, activation: &Activation, limit: Duration) {
        self.of(activation).changed(activation, limit).await;
    }

    async fn prune(&self, activation: &Activation) -> Result<Vec<Resource>> {
        if activation.defer_prune {
            return Ok(activation.inventory.clone());
        }
        let mut left = self.of(activation).prune(activation).await?;
        let elsewhere = elsewhere(activation);
        if !elsewhere.is_empty() {
            let withdrawal = Withdrawal {
                namespace: activation.namespace.clone(),
                recipe: activation.recipe.clone(),
                policy: activation.target.deletion_policy,
                inventory: elsewhere,
            };
            left.extend(self.withdraw(&withdrawal).await?);
        }
        Ok(left)
    }

    async fn withdraw(&self, withdrawal: &Withdrawal) -> Result<Vec<Resource>> {
        // Each takes what is its own. Both are tried: a cluster that is gone
        // must not keep this machine's part alive.
        let local = self.local.withdraw(withdrawal).await;
        let argocd = self.argocd.withdraw(withdrawal).await;
        let mut left = local?;
        left.extend(argocd?);
        Ok(left)
    }
}

fn with_elsewhere(mut plan: Plan, activation: &Activation) -> Plan {
    let elsewhere = elsewhere(activation).into_iter();
    plan.objects.extend(elsewhere.map(|resource| Planned {
        resource,
        action: Action::Prune,
        changes: Vec::new(),
    }));
    plan
}
