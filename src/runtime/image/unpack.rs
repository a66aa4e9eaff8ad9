//! Layers become snapshots: prepare on the parent, apply, commit under the
//! chain id. Other clients name them the same way, so a chain that any of them
//! unpacked is used as it is.

use std::collections::HashMap;

use containerd_client::services::v1::ApplyRequest;
use containerd_client::services::v1::diff_client::DiffClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{
    CommitSnapshotRequest, PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest,
};
use containerd_client::tonic::Code;
use containerd_client::tonic::transport::Channel;
use containerd_client::types::Mount;

use super::digest;
use super::document::{Descriptor, Manifest};
use super::lease::Lease;
use super::store::Store;
use crate::model::{Progress, ProgressSink};
use crate::runtime::{Error, Result};

/// Unpacks the layers of one image, the lowest first.
pub(crate) struct Unpacker<'a> {
    lease: &'a Lease,
    manifest: &'a Manifest,
    diff_ids: &'a [String],
    chain: Vec<String>,
    progress: ProgressSink,
}

impl<'a> Unpacker<'a> {
    /// Begins; the chain is kept from the collector from now on. There are as
    /// many diff ids as layers.
    pub(crate) async fn new(
        lease: &'a Lease,
        manifest: &'a Manifest,
        diff_ids: &'a [String],
        progress: &ProgressSink,
    ) -> Result<Self> {
        let chain = digest::chain_ids(diff_ids);
        for id in &chain {
            lease.hold_snapshot(id).await?;
        }
        Ok(Self {
            lease,
            manifest,
            diff_ids,
            chain,
            progress: progress.clone(),
        })
    }

    /// Unpacks all layers and refers to the result. Returns the chain id, empty
    /// for an image without layers.
    pub(crate) async fn run(self) -> Result<String> {
        for n in 0..self.chain.len() {
            self.layer(n).await?;
        }
        self.finish().await
    }

    /// Unpacks layer `n`; those below it are unpacked.
    pub(crate) async fn layer(&self, n: usize) -> Result<()> {
        let store = self.lease.store();
        let layer = &self.manifest.layers[n];
        let chain_id = &self.chain[n];
        let text = if exists(store, chain_id).await? {
            "exists"
        } else {
            self.report(layer, "unpacking", false);
            let parent = n.checked_sub(1).map_or("", |below| &self.chain[below]);
            self.apply(layer, &self.diff_ids[n], parent, chain_id)
                .await?;
            "done"
        };
        // Read by whoever uploads or compares the layer later.
        let label = ("containerd.io/uncompressed", &self.diff_ids[n]);
        let label = (label.0.to_owned(), label.1.clone());
        store.label(&layer.digest, [label]).await?;
        self.report(layer, text, true);
        Ok(())
    }

    /// Makes the configuration refer to the snapshots, as long as the image lives.
    pub(crate) async fn finish(mut self) -> Result<String> {
        let chain_id = self.chain.pop().unwrap_or_default();
        if !chain_id.is_empty() {
            let store = self.lease.store();
            let snapshotter = &store.connection.snapshotter;
            let label = format!("containerd.io/gc.ref.snapshot.{snapshotter}");
            let config = &self.manifest.config.digest;
            store.label(config, [(label, chain_id.clone())]).await?;
        }
        Ok(chain_id)
    }

    async fn apply(
        &self,
        layer: &Descriptor,
        diff_id: &str,
        parent: &str,
        chain_id: &str,
    ) -> Result<()> {
        let store = self.lease.store();
        let key = format!("extract-{} {chain_id}", uuid::Uuid::new_v4().simple());
        let Some(mounts) = prepare(store, &key, parent, chain_id).await? else {
            return Ok(());
        };
        let applied = apply(store, layer, mounts).await;
        let applied = applied.and_then(|got| match got == diff_id {
            true => Ok(()),
            false => Err(Error::Digest {
                what: format!("uncompressed layer {}", layer.digest),
                expected: diff_id.to_owned(),
                got,
            }),
        });
        let committed = match applied {
            Ok(()) => commit(store, &key, chain_id).await,
            Err(error) => Err(error),
        };
        if !matches!(committed, Ok(true)) {
            // The lease would see to it too, but only when it ends.
            remove(store, &key).await;
        }
        committed.map(|_| ())
    }

    fn report(&self, layer: &Descriptor, text: &str, done: bool) {
        self.progress.send(Progress {
            id: digest::short(&layer.digest),
            text: text.to_owned(),
            current: if done { layer.size } else { 0 },
            total: layer.size,
            done,
            ..Progress::default()
        });
    }
}

fn client(store: &Store) -> SnapshotsClient<Channel> {
    SnapshotsClient::new(store.connection.channel.clone())
}

/// Whether a snapshot of that name is there.
pub(crate) async fn exists(store: &Store, name: &str) -> Result<bool> {
    let request = store.request(StatSnapshotRequest {
        snapshotter: store.connection.snapshotter.clone(),
        key: name.to_owned(),
    });
    match client(store).stat(request).await {
        Ok(_) => Ok(true),
        Err(status) if status.code() == Code::NotFound => Ok(false),
        Err(status) => Err(store.fail(format!("snapshot {name}"), &status)),
    }
}

/// `None` when the snapshotter has the chain already.
async fn prepare(
    store: &Store,
    key: &str,
    parent: &str,
    chain_id: &str,
) -> Result<Option<Vec<Mount>>> {
    let request = store.request(PrepareSnapshotRequest {
        snapshotter: store.connection.snapshotter.clone(),
        key: key.to_owned(),
        parent: parent.to_owned(),
        labels: HashMap::from([("containerd.io/snapshot.ref".to_owned(), chain_id.to_owned())]),
    });
    match client(store).prepare(request).await {
        Ok(answer) => Ok(Some(answer.into_inner().mounts)),
        Err(status) if status.code() == Code::AlreadyExists => Ok(None),
        Err(status) => Err(store.fail(format!("snapshot {chain_id}"), &status)),
    }
}

/// Returns the digest of what was applied, uncompressed.
async fn apply(store: &Store, layer: &Descriptor, mounts: Vec<Mount>) -> Result<String> {
    let what = format!("unpacking layer {}", layer.digest);
    let request = store.patient(ApplyRequest {
        diff: Some(layer.to_api()),
        mounts,
        payloads: HashMap::new(),
        sync_fs: false,
    });
    let mut diff = DiffClient::new(store.connection.channel.clone());
    let answer = diff.apply(request).await;
    let answer = answer.map_err(|s| store.fail(what, &s))?.into_inner();
    Ok(answer.applied.unwrap_or_default().digest)
}

/// True when the snapshot is ours; false when another client was faster.
async fn commit(store: &Store, key: &str, chain_id: &str) -> Result<bool> {
    let request = store.patient(CommitSnapshotRequest {
        snapshotter: store.connection.snapshotter.clone(),
        name: chain_id.to_owned(),
        key: key.to_owned(),
        ..CommitSnapshotRequest::default()
    });
    match client(store).commit(request).await {
        Ok(_) => Ok(true),
        Err(status) if status.code() == Code::AlreadyExists => Ok(false),
        Err(status) => Err(store.fail(format!("snapshot {chain_id}"), &status)),
    }
}

async fn remove(store: &Store, key: &str) {
    let request = store.patient(RemoveSnapshotRequest {
        snapshotter: store.connection.snapshotter.clone(),
        key: key.to_owned(),
    });
    if let Err(status) = client(store).remove(request).await {
        tracing::debug!(
            key,
            message = status.message(),
            "snapshot is left to the collector"
        );
    }
}
