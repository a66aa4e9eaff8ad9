//! Writable snapshots of containers.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
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
use crate::runtime::{Connection, Error, Result};

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

/// Removes a snapshot; one that is gone is no error, one that others stand on is
/// [`Error::InUse`].
pub async fn remove(c: &Connection, namespace: &str, snapshotter: &str, key: &str) -> Result<()> {
    let request = RemoveSnapshotRequest {
        snapshotter: snapshotter.into(),
        key: key.into(),
    };
    match client(c).remove(c.call(namespace, request)).await {
        Ok(_) => Ok(()),
        Err(s) if s.code() == Code::NotFound => Ok(()),
        Err(s) if s.code() == Code::FailedPrecondition => {
            Err(Error::InUse(format!("snapshot {key}: {}", s.message())))
        }
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

/// Removes the snapshots of a snapshotter, children before their parents. What
/// cannot be removed is left to the collector: containerd 1.6 keeps an entry of a
/// child that was collected, and so refuses to remove the parent by name for ever.
pub async fn drain(c: &Connection, namespace: &str, snapshotter: &str) -> Result<()> {
    let infos = list(c, namespace, snapshotter, Vec::new()).await?;
    for key in leaves_first(infos) {
        match remove(c, namespace, snapshotter, &key).await {
            Ok(()) => {}
            Err(Error::InUse(cause)) => tracing::debug!(namespace, cause, "left to the collector"),
            Err(error) => return Err(error),
        }
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

/// Names, each once, ordered so that none comes before one that stands on it.
fn leaves_first(infos: Vec<Info>) -> Vec<String> {
    let parents: BTreeMap<String, String> = infos.into_iter().map(|i| (i.name, i.parent)).collect();
    let mut depths: BTreeMap<&str, usize> = BTreeMap::new();
    for name in parents.keys() {
        let mut depth = 0;
        let mut at = name.as_str();
        // containerd allows no circles; the bound costs nothing.
        while let Some(parent) = parents.get(at)
            && depth <= parents.len()
        {
            depth += 1;
            at = parent;
        }
        depths.insert(name, depth);
    }
    let mut names: Vec<String> = parents.keys().cloned().collect();
    names.sort_by_key(|name| Reverse(depths.get(name.as_str()).copied()));
    names
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
        let mut twice = infos.clone();
        twice.extend(infos.clone());
        let order = leaves_first(twice);
        assert_eq!(order.len(), infos.len());
        let at = |n: &str| order.iter().position(|o| o == n).unwrap();
        for i in &infos {
            if order.contains(&i.parent) {
                assert!(at(&i.name) < at(&i.parent), "{order:?}");
            }
        }
    }
}
