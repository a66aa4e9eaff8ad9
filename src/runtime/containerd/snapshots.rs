//! Writable snapshots of containers.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use containerd_client::services::v1::ListContainersRequest;
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{
    Info, ListSnapshotsRequest, MountsRequest, PrepareSnapshotRequest, RemoveSnapshotRequest,
    StatSnapshotRequest,
};
use containerd_client::tonic::Code;
use containerd_client::tonic::transport::Channel;
use containerd_client::types::Mount;
use jiff::Timestamp;

use super::filter;
use crate::model::{Labels, label};
use crate::runtime::{Connection, Result};

/// Keeps the collector away from a snapshot that no record refers to yet.
const GC_ROOT: &str = "containerd.io/gc.root";
/// A snapshot without a record that is older than this was left by a crash.
const ORPHAN_AGE: Duration = Duration::from_secs(600);

pub fn client(c: &Connection) -> SnapshotsClient<Channel> {
    SnapshotsClient::new(c.channel.clone()).max_decoding_message_size(usize::MAX)
}

/// Makes a writable snapshot above `parent`. False when the key exists already.
///
/// The record that will refer to it comes later, and the collector may run in
/// between. A label protects the snapshot at the price of nothing; a lease would
/// cost two more synchronous writes on the way to every start.
pub async fn prepare(
    c: &Connection,
    namespace: &str,
    key: &str,
    parent: &str,
    labels: &Labels,
) -> Result<bool> {
    let mut labels: std::collections::HashMap<_, _> = labels.clone().into_iter().collect();
    labels.insert(GC_ROOT.into(), Timestamp::now().to_string());
    let request = PrepareSnapshotRequest {
        snapshotter: c.snapshotter.clone(),
        key: key.into(),
        parent: parent.into(),
        labels,
    };
    match client(c).prepare(c.call(namespace, request)).await {
        Ok(_) => Ok(true),
        Err(s) if s.code() == Code::AlreadyExists => Ok(false),
        Err(s) => Err(c.error_on(
            format!("making snapshot {key}"),
            &format!("snapshot {parent}, the parent of {key},"),
            &s,
        )),
    }
}

/// Mounts that make up a snapshot's file system.
pub async fn mounts(c: &Connection, namespace: &str, key: &str) -> Result<Vec<Mount>> {
    let request = MountsRequest {
        snapshotter: c.snapshotter.clone(),
        key: key.into(),
    };
    client(c)
        .mounts(c.call(namespace, request))
        .await
        .map(|r| r.into_inner().mounts)
        .map_err(|s| {
            c.error_on(
                format!("asking for the mounts of snapshot {key}"),
                &format!("snapshot {key}"),
                &s,
            )
        })
}

/// Removes a snapshot; one that is gone is no error.
pub async fn remove(c: &Connection, namespace: &str, snapshotter: &str, key: &str) -> Result<()> {
    let request = RemoveSnapshotRequest {
        snapshotter: snapshotter.into(),
        key: key.into(),
    };
    match client(c).remove(c.call(namespace, request)).await {
        Ok(_) => Ok(()),
        Err(s) if s.code() == Code::NotFound => Ok(()),
        Err(s) => Err(c.error(format!("removing snapshot {key}"), &s)),
    }
}

/// Whether a snapshot exists.
pub async fn exists(c: &Connection, namespace: &str, snapshotter: &str, key: &str) -> Result<bool> {
    let request = StatSnapshotRequest {
        snapshotter: snapshotter.into(),
        key: key.into(),
    };
    match client(c).stat(c.call(namespace, request)).await {
        Ok(_) => Ok(true),
        Err(s) if s.code() == Code::NotFound => Ok(false),
        Err(s) => Err(c.error(format!("looking for snapshot {key}"), &s)),
    }
}

/// All snapshots of a snapshotter that match the filters.
pub async fn list(
    c: &Connection,
    namespace: &str,
    snapshotter: &str,
    filters: Vec<String>,
) -> Result<Vec<Info>> {
    let what = || format!("listing snapshots of {namespace} in {snapshotter}");
    let request = ListSnapshotsRequest {
        snapshotter: snapshotter.into(),
        filters,
    };
    let mut stream = client(c)
        .list(c.call(namespace, request))
        .await
        .map_err(|s| c.error(what(), &s))?
        .into_inner();
    let mut all = Vec::new();
    while let Some(part) = stream.message().await.map_err(|s| c.error(what(), &s))? {
        all.extend(part.info);
    }
    Ok(all)
}

/// Removes every snapshot of a snapshotter, children before their parents.
pub async fn drain(c: &Connection, namespace: &str, snapshotter: &str) -> Result<()> {
    let infos = list(c, namespace, snapshotter, Vec::new()).await?;
    for key in leaves_first(infos) {
        remove(c, namespace, snapshotter, &key).await?;
    }
    Ok(())
}

/// Removes snapshots of ours whose record was never made (a crash between the
/// two) or is gone.
pub async fn sweep(c: &Connection, namespace: &str) -> Result<()> {
    let ours = list(
        c,
        namespace,
        &c.snapshotter,
        vec![format!("labels.{}", filter::quote(label::INSTANCE))],
    )
    .await?;
    if ours.is_empty() {
        return Ok(());
    }
    // Listed after the snapshots: a record made meanwhile is then seen.
    let records: HashSet<String> = ContainersClient::new(c.channel.clone())
        .max_decoding_message_size(usize::MAX)
        .list(c.call(namespace, ListContainersRequest::default()))
        .await
        .map_err(|s| c.error(format!("listing containers of {namespace}"), &s))?
        .into_inner()
        .containers
        .into_iter()
        .map(|r| r.snapshot_key)
        .collect();
    let limit = Timestamp::now().as_second() - ORPHAN_AGE.as_secs() as i64;
    for info in ours {
        let old = info.created_at.is_some_and(|t| t.seconds < limit);
        if old && !records.contains(&info.name) {
            tracing::info!(
                namespace,
                snapshot = info.name,
                "removing an orphaned snapshot"
            );
            remove(c, namespace, &c.snapshotter, &info.name).await?;
        }
    }
    Ok(())
}

/// Names ordered so that no snapshot comes before one that stands on it.
fn leaves_first(infos: Vec<Info>) -> Vec<String> {
    let mut children: BTreeMap<String, usize> = BTreeMap::new();
    let mut parents: BTreeMap<String, String> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for info in infos {
        names.insert(info.name.clone());
        if !info.parent.is_empty() {
            *children.entry(info.parent.clone()).or_default() += 1;
            parents.insert(info.name, info.parent);
        }
    }
    let mut ready: Vec<String> = names
        .iter()
        .filter(|n| !children.contains_key(*n))
        .cloned()
        .collect();
    let mut order = Vec::with_capacity(names.len());
    while let Some(name) = ready.pop() {
        if let Some(parent) = parents.get(&name)
            && let Some(count) = children.get_mut(parent)
        {
            *count -= 1;
            if *count == 0 && names.contains(parent) {
                ready.push(parent.clone());
            }
        }
        order.push(name);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, parent: &str) -> Info {
        Info {
            name: name.into(),
            parent: parent.into(),
            ..Default::default()
        }
    }

    #[test]
    fn parents_come_after_all_their_children() {
        let infos = vec![
            info("base", ""),
            info("mid", "base"),
            info("a", "mid"),
            info("b", "mid"),
            info("c", "base"),
            info("stray", "elsewhere"),
        ];
        let order = leaves_first(infos.clone());
        assert_eq!(order.len(), infos.len());
        let at = |n: &str| order.iter().position(|o| o == n).unwrap();
        for i in &infos {
            if order.contains(&i.parent) {
                assert!(at(&i.name) < at(&i.parent), "{order:?}");
            }
        }
    }
}
