//! The target `argocd`: one Application on a cluster (delivery spec, 7.2).

use std::time::Duration;

use async_trait::async_trait;

use super::argocd::{self, Application, Verdict};
use super::clusters::Clusters;
use super::{
    Action, Activation, Applied, Error, Health, Observed, Plan, Planned, Reason, Result, Target,
    Withdrawal,
};
use crate::model::delivery::{DeletionPolicy, Resource};

const API_VERSION: &str = "argoproj.io/v1alpha1";
const KIND: &str = "Application";
/// Host of the embedded registry in references.
const LOCAL: &str = "oci://local/";
/// Longest pause between two looks at a cluster that cannot be watched.
const AGAIN: Duration = Duration::from_secs(2);

/// Clusters with Argo CD.
#[derive(Debug, Clone)]
pub struct ArgoCd {
    clusters: Clusters,
}

impl ArgoCd {
    /// The target that works through these connections.
    pub fn new(clusters: Clusters) -> Self {
        Self { clusters }
    }

    /// Version of an activation's Application; empty when there is none.
    pub(super) async fn version(&self, activation: &Activation) -> Result<String> {
        let wanted = application(activation)?;
        let cluster = &activation.target.argocd.cluster;
        let cluster = self.clusters.cluster(cluster).await?;
        Ok(argocd::version(&cluster, &wanted).await?)
    }

    /// Ends once that version is another one than `seen`, or after `limit`; gives
    /// the version then. Nothing that happens between two calls is missed.
    pub(super) async fn changed_since(
        &self,
        activation: &Activation,
        seen: &str,
        limit: Duration,
    ) -> Result<String> {
        let wanted = application(activation)?;
        let cluster = &activation.target.argocd.cluster;
        let cluster = self.clusters.cluster(cluster).await?;
        Ok(argocd::changed(&cluster, &wanted, Some(seen), limit).await?)
    }

    /// The Applications of older activations, with the one that takes their place.
    async fn retire(
        &self,
        activation: &Activation,
        new: &Application,
        old: &Resource,
    ) -> Result<bool> {
        let cluster = self.clusters.cluster(&old.cluster).await?;
        let mut gone = existing(&activation.namespace, &activation.recipe, old);
        // Where the new one deploys to the same place the workload is its own by now.
        let moved = old.cluster != activation.target.argocd.cluster
            || !argocd::same_destination(&cluster, &gone, new).await?;
        gone.cascade = moved && new.cascade;
        Ok(argocd::delete(&cluster, &gone, gone.cascade).await?)
    }
}

/// Whether an inventory entry is an Application.
pub(super) fn is_application(resource: &Resource) -> bool {
    resource.api_version == API_VERSION && resource.kind == KIND
}

/// What an activation wants of Argo CD.
fn application(activation: &Activation) -> Result<Application> {
    let target = &activation.target.argocd;
    let reference = &activation.artifact.oci_ref;
    let repository = reference.split('@').next().unwrap_or_default();
    Ok(Application {
        name: name(activation),
        namespace: target.namespace.clone(),
        owner_namespace: activation.namespace.to_string(),
        recipe: activation.recipe.to_string(),
        preparation: activation.preparation.to_string(),
        commit_message: activation.commit_message.clone(),
        project: target.project.clone(),
        repository: reachable(repository, &activation.registry_url)?,
        digest: activation.artifact.digest.clone(),
        destination_server: target.destination_server.clone(),
        destination_namespace: target
            .destination_namespace
            .clone()
            .unwrap_or_else(|| activation.namespace.to_string()),
        prune: target.prune && !activation.defer_prune,
        self_heal: target.self_heal,
        server_side_apply: target.server_side_apply,
        allow_empty: activation.allow_empty,
        cascade: activation.target.deletion_policy == DeletionPolicy::Delete,
    })
}

fn name(activation: &Activation) -> String {
    let name = activation.target.argocd.application_name.clone();
    name.unwrap_or_else(|| activation.recipe.to_string())
}

/// The repository as a cluster reaches it.
fn reachable(repository: &str, registry: &str) -> Result<String> {
    let Some(path) = repository.strip_prefix(LOCAL) else {
        return Ok(repository.to_owned());
    };
    let host = registry
        .split_once("://")
        .map_or(registry, |(_, rest)| rest);
    match host.trim_end_matches('/') {
        "" => Err(Error::new(
            Reason::DeploymentFailed,
            format!("{repository} is in the embedded registry, and no cluster knows its address"),
        )
        .hint("set `spec.registryUrl` of the Kitchen to the address that clusters reach it under")),
        host => Ok(format!("oci://{host}/{path}")),
    }
}

/// An Application of which only the inventory is known: enough to delete it.
fn existing(
    namespace: &crate::model::Name,
    recipe: &crate::model::Name,
    resource: &Resource,
) -> Application {
    Application {
        name: resource.name.clone(),
        namespace: resource.namespace.clone(),
        owner_namespace: namespace.to_string(),
        recipe: recipe.to_string(),
        ..Application::default()
    }
}

/// Its entry in an inventory.
fn resource(activation: &Activation) -> Resource {
    Resource {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        cluster: activation.target.argocd.cluster.clone(),
        namespace: activation.target.argocd.namespace.clone(),
        name: name(activation),
        hash: activation.artifact.digest.clone(),
        ..Resource::default()
    }
}

/// Applications of older activations that are another one than `now`.
fn older<'a>(activation: &'a Activation, now: &Resource) -> Vec<&'a Resource> {
    let place = |r: &Resource| (r.cluster.clone(), r.namespace.clone(), r.name.clone());
    let now = place(now);
    let old = activation.inventory.iter().filter(|r| is_application(r));
    old.filter(|r| place(r) != now).collect()
}

fn planned(resource: &Resource, action: Action) -> Planned {
    Planned {
        resource: resource.clone(),
        action,
        changes: Vec::new(),
    }
}

fn action(applied: argocd::Applied) -> Action {
    match applied {
        argocd::Applied::Created => Action::Create,
        argocd::Applied::Updated => Action::Update,
        argocd::Applied::Unchanged => Action::Unchanged,
    }
}

#[async_trait]
impl Target for ArgoCd {
    async fn plan(&self, activation: &Activation) -> Result<Plan> {
        let wanted = application(activation)?;
        let cluster = self
            .clusters
            .cluster(&activation.target.argocd.cluster)
            .await?;
        let (applied, changes) = argocd::plan(&cluster, &wanted).await?;
        let now = resource(activation);
        let first = Planned {
            changes,
            ..planned(&now, action(applied))
        };
        let rest = older(activation, &now).into_iter();
        let rest = rest.map(|old| planned(old, Action::Prune));
        Ok(Plan {
            objects: [first].into_iter().chain(rest).collect(),
            images: Vec::new(),
        })
    }

    async fn prepare(&self, activation: &Activation) -> Result<Plan> {
        // The plan has asked the server all that it can be asked before.
        self.plan(activation).await
    }

    async fn apply(&self, activation: &Activation) -> Result<Applied> {
        let wanted = application(activation)?;
        let cluster = self
            .clusters
            .cluster(&activation.target.argocd.cluster)
            .await?;
        let applied = argocd::apply(&cluster, &wanted).await?;
        let now = resource(activation);
        let awaiting: Vec<_> = older(activation, &now).into_iter().cloned().collect();
        Ok(Applied {
            objects: vec![planned(&now, action(applied))],
            inventory: [now].into_iter().chain(awaiting.clone()).collect(),
            awaiting,
        })
    }

    async fn observe(&self, activation: &Activation) -> Result<Observed> {
        let wanted = application(activation)?;
        let cluster = self
            .clusters
            .cluster(&activation.target.argocd.cluster)
            .await?;
        let at = wanted.place(cluster.name());
        let Some(seen) = argocd::observe(&cluster, &wanted).await? else {
            return Ok(Observed {
                synced: false,
                drift: vec![format!("{at}: it is not there")],
                health: Health::Waiting(format!("{at}: it is not there")),
            });
        };
        let drift = seen.drifted.iter().map(|field| format!("{at}: {field}"));
        Ok(Observed {
            synced: seen.synced && seen.drifted.is_empty(),
            drift: drift.collect(),
            health: match seen.verdict {
                Verdict::Deployed => Health::Ready(None),
                Verdict::Waiting(why) => Health::Waiting(format!("{at}: {why}")),
                Verdict::Degraded(why) => Health::Degraded(format!("{at}: {why}")),
                Verdict::Failed(why) => {
                    Health::Failed(Reason::DeploymentFailed, format!("{at}: {why}"))
                }
            },
        })
    }

    async fn changed(&self, activation: &Activation, limit: Duration) {
        let watched = async {
            let wanted = application(activation)?;
            let cluster = &activation.target.argocd.cluster;
            let cluster = self.clusters.cluster(cluster).await?;
            argocd::changed(&cluster, &wanted, None, limit).await?;
            Ok::<_, Error>(())
        };
        if watched.await.is_err() {
            tokio::time::sleep(limit.min(AGAIN)).await;
        }
    }

    async fn prune(&self, activation: &Activation) -> Result<Vec<Resource>> {
        if activation.defer_prune {
            return Ok(activation.inventory.clone());
        }
        // What the workload no longer has is Argo CD's to prune: a run of a Menu
        // has told it to wait, and this tells it to go on.
        let Applied { awaiting, .. } = self.apply(activation).await?;
        let new = application(activation)?;
        let mut left = vec![resource(activation)];
        for old in awaiting {
            if !self.retire(activation, &new, &old).await? {
                left.push(old);
            }
        }
        Ok(left)
    }

    async fn withdraw(&self, withdrawal: &Withdrawal) -> Result<Vec<Resource>> {
        let cascade = withdrawal.policy == DeletionPolicy::Delete;
        let mut left = Vec::new();
        for resource in withdrawal.inventory.iter().filter(|r| is_application(r)) {
            let cluster = self.clusters.cluster(&resource.cluster).await?;
            let gone = existing(&withdrawal.namespace, &withdrawal.recipe, resource);
            match argocd::delete(&cluster, &gone, cascade).await {
                Ok(true) => {}
                Ok(false) => left.push(resource.clone()),
                // Handed over since: it is not ours to delete any more.
                Err(argocd::Error::OptInRequired { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(left)
    }
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
