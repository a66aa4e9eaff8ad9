//! The Argo CD target: one `Application` per Serving, applied server-side under
//! a field manager of our own, and watched for sync and health.
//!
//! Every call begins by asking whether the cluster serves the Application kind:
//! without Argo CD all of them fail with [`Error::Unavailable`], and nothing else.

mod application;
mod cluster;
mod connect;
mod error;
mod state;
#[cfg(test)]
mod testing;

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use kube::api::{
    DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions, PropagationPolicy,
    WatchEvent, WatchParams,
};
use kube::{Api, Client};

pub use application::{Application, ownership};
pub use cluster::Cluster;
pub use connect::{Connected, RegistryLogin, RegistryTrust, connect};
pub use error::{Error, Result};
pub use state::{Observed, Verdict};

use application::Ownership;

/// Field manager of everything kukeon applies (Kubernetes server-side apply).
pub const FIELD_MANAGER: &str = "kukeon";

/// Finalizer that makes Argo CD remove the workload with its Application.
pub const CASCADE: &str = "resources-finalizer.argocd.argoproj.io";

/// How often an apply is tried again when somebody else wrote in between.
const RACES: usize = 4;
/// Time until a watch that was cut is asked for again.
const CUT: Duration = Duration::from_secs(1);

/// What one apply did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// There was none.
    Created,
    /// Some field changed.
    Updated,
    /// Nothing changed.
    Unchanged,
}

/// Creates or updates the Application, leaving fields of others alone.
///
/// [`Error::OptInRequired`] when it belongs to somebody else.
pub async fn apply(cluster: &Cluster, wanted: &Application) -> Result<Applied> {
    let api = api(cluster, &wanted.namespace).await?;
    let at = || wanted.place(cluster.name());
    for _ in 0..RACES {
        let live = api
            .get_opt(&wanted.name)
            .await
            .map_err(|e| Error::of(cluster, at(), e))?;
        let mut body = wanted.body();
        if let Some(live) = &live {
            owned(cluster, live, wanted)?;
            // The object that was looked at, not one that took its place since.
            body["metadata"]["resourceVersion"] = live.metadata.resource_version.clone().into();
            body["metadata"]["uid"] = live.metadata.uid.clone().into();
        }
        let params = PatchParams {
            // A new object is not forced: one that appears in between is a conflict.
            force: live.is_some(),
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match api.patch(&wanted.name, &params, &Patch::Apply(&body)).await {
            Ok(now) => {
                return Ok(match live {
                    None => Applied::Created,
                    Some(live)
                        if live.metadata.resource_version == now.metadata.resource_version =>
                    {
                        Applied::Unchanged
                    }
                    Some(_) => Applied::Updated,
                });
            }
            // Somebody wrote in between: look at it again.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(e) => return Err(Error::of(cluster, at(), e)),
        }
    }
    Err(Error::Busy { at: at() })
}

/// Reads how the Application stands. None when there is none.
///
/// [`Error::OptInRequired`] when it belongs to somebody else.
pub async fn observe(cluster: &Cluster, wanted: &Application) -> Result<Option<Observed>> {
    let api = api(cluster, &wanted.namespace).await?;
    let live = api
        .get_opt(&wanted.name)
        .await
        .map_err(|e| Error::of(cluster, wanted.place(cluster.name()), e))?;
    let Some(live) = live else {
        return Ok(None);
    };
    owned(cluster, &live, wanted)?;
    Ok(Some(state::read(&live, wanted)))
}

/// What an apply would do, with the fields that would change: the server is
/// asked, but told to keep nothing.
///
/// Fails as [`apply`] would.
pub async fn plan(cluster: &Cluster, wanted: &Application) -> Result<(Applied, Vec<String>)> {
    let api = api(cluster, &wanted.namespace).await?;
    let of = |e| Error::of(cluster, wanted.place(cluster.name()), e);
    let live = api.get_opt(&wanted.name).await.map_err(of)?;
    if let Some(live) = &live {
        owned(cluster, live, wanted)?;
    }
    let params = PatchParams {
        force: live.is_some(),
        dry_run: true,
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Apply(wanted.body());
    let then = api.patch(&wanted.name, &params, &patch).await.map_err(of)?;
    let Some(live) = live else {
        return Ok((Applied::Created, Vec::new()));
    };
    let changes = state::changes(&live, &then);
    match changes.is_empty() {
        true => Ok((Applied::Unchanged, changes)),
        false => Ok((Applied::Updated, changes)),
    }
}

/// Whether an Application that is there deploys to where another one will.
pub async fn same_destination(
    cluster: &Cluster,
    old: &Application,
    new: &Application,
) -> Result<bool> {
    let api = api(cluster, &old.namespace).await?;
    let live = api.get_opt(&old.name).await;
    let live = live.map_err(|e| Error::of(cluster, old.place(cluster.name()), e))?;
    let wanted = &new.body()["spec"]["destination"];
    Ok(live.is_some_and(|live| live.data["spec"]["destination"] == *wanted))
}

/// Fails with [`Error::OptInRequired`] when an Application is somebody else's.
fn owned(cluster: &Cluster, live: &DynamicObject, wanted: &Application) -> Result<()> {
    match ownership(live, wanted) {
        Ownership::Ours => Ok(()),
        Ownership::Foreign(owner) => Err(Error::OptInRequired {
            at: wanted.place(cluster.name()),
            owner,
            value: wanted.owner(),
        }),
    }
}

/// Version of the Application as it is now; empty when there is none.
pub async fn version(cluster: &Cluster, wanted: &Application) -> Result<String> {
    let api = api(cluster, &wanted.namespace).await?;
    version_by(&api, cluster, wanted).await
}

/// Ends once the Application is in another version than `seen`, because anybody
/// changed or deleted it, or after `limit`; gives the version then. Without
/// `seen` it is the one that is found at first. For callers that then observe
/// and, where needed, apply again.
pub async fn changed(
    cluster: &Cluster,
    wanted: &Application,
    seen: Option<&str>,
    limit: Duration,
) -> Result<String> {
    let begun = Instant::now();
    let client = cluster.watching(limit)?;
    let api = api_by(client, cluster, &wanted.namespace).await?;
    let of = |e| Error::of(cluster, wanted.place(cluster.name()), e);
    let name = format!("metadata.name={}", wanted.name);
    let listed = api.list(&ListParams::default().fields(&name)).await;
    let listed = listed.map_err(of)?;
    let now = listed.items.into_iter().next();
    let now = now.and_then(|live| live.metadata.resource_version);
    let now = now.unwrap_or_default();
    if seen.is_some_and(|seen| seen != now) {
        return Ok(now);
    }
    let params = WatchParams::default().fields(&name).timeout(
        u32::try_from(limit.as_secs())
            .unwrap_or(u32::MAX)
            .clamp(1, 290),
    );
    // From the list's version: that of an Application at rest may be too old for
    // the server to tell what came after it.
    let from = listed.metadata.resource_version.unwrap_or_default();
    let events: BoxStream<'_, _> = api.watch(&params, &from).await.map_err(of)?.boxed();
    let relevant = events.try_filter(|e| std::future::ready(!matches!(e, WatchEvent::Bookmark(_))));
    match tokio::time::timeout(limit, std::pin::pin!(relevant).try_next()).await {
        Ok(Err(e)) => Err(of(e)),
        Ok(Ok(Some(WatchEvent::Added(live) | WatchEvent::Modified(live)))) => {
            Ok(live.metadata.resource_version.unwrap_or_default())
        }
        Ok(Ok(Some(WatchEvent::Deleted(_)))) => Ok(String::new()),
        // An expired version or an end of the stream: the next call compares, and
        // does not come at once.
        Ok(Ok(_)) => {
            tokio::time::sleep(CUT.min(limit.saturating_sub(begun.elapsed()))).await;
            Ok(now)
        }
        Err(_) => Ok(now),
    }
}

async fn version_by(
    api: &Api<DynamicObject>,
    cluster: &Cluster,
    wanted: &Application,
) -> Result<String> {
    let live = api.get_opt(&wanted.name).await;
    let live = live.map_err(|e| Error::of(cluster, wanted.place(cluster.name()), e))?;
    let version = live.and_then(|live| live.metadata.resource_version);
    Ok(version.unwrap_or_default())
}

/// Deletes the Application. Without `cascade` the workload is left where it is.
///
/// Returns whether it is gone by now: with `cascade` Argo CD takes its time.
/// [`Error::OptInRequired`] when it belongs to somebody else.
pub async fn delete(cluster: &Cluster, wanted: &Application, cascade: bool) -> Result<bool> {
    let api = api(cluster, &wanted.namespace).await?;
    let of = |e| Error::of(cluster, wanted.place(cluster.name()), e);
    for _ in 0..RACES {
        let Some(live) = api.get_opt(&wanted.name).await.map_err(of)? else {
            return Ok(true);
        };
        owned(cluster, &live, wanted)?;
        let finalizers = application::finalizers(&live, cascade);
        if finalizers != live.metadata.finalizers.clone().unwrap_or_default() {
            let body = serde_json::json!({ "metadata": {
                "resourceVersion": live.metadata.resource_version,
                "finalizers": finalizers,
            }});
            let manager = PatchParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PatchParams::default()
            };
            match api
                .patch(&wanted.name, &manager, &Patch::Merge(&body))
                .await
            {
                // A new version: look again, then delete that one.
                Ok(_) => continue,
                Err(kube::Error::Api(s)) if s.code == 409 => continue,
                Err(kube::Error::Api(s)) if s.code == 404 => return Ok(true),
                Err(e) => return Err(of(e)),
            }
        }
        if live.metadata.deletion_timestamp.is_some() {
            return Ok(false);
        }
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: live.metadata.uid.clone(),
                resource_version: live.metadata.resource_version.clone(),
            }),
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        match api.delete(&wanted.name, &params).await {
            Ok(_) => return Ok(api.get_opt(&wanted.name).await.map_err(of)?.is_none()),
            Err(kube::Error::Api(s)) if s.code == 404 => return Ok(true),
            Err(kube::Error::Api(s)) if s.code == 409 => {}
            Err(e) => return Err(of(e)),
        }
    }
    Err(Error::Busy {
        at: wanted.place(cluster.name()),
    })
}

/// The Applications of a namespace, once the cluster is known to serve them.
async fn api(cluster: &Cluster, namespace: &str) -> Result<Api<DynamicObject>> {
    api_by(cluster.client()?, cluster, namespace).await
}

/// The same through a client of the caller's.
async fn api_by(client: Client, cluster: &Cluster, namespace: &str) -> Result<Api<DynamicObject>> {
    connect::check_served(cluster, &client).await?;
    Ok(Api::namespaced_with(
        client,
        namespace,
        &application::resource(),
    ))
}
