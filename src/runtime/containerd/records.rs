//! Container records with their snapshot.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use containerd_client::services::v1::container::Runtime;
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::{
    Container, CreateContainerRequest, DeleteContainerRequest, GetContainerRequest,
    ListContainersRequest, UpdateContainerRequest,
};
use containerd_client::tonic::Code;
use containerd_client::tonic::transport::Channel;
use futures::future::try_join_all;
use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::Spec;
use prost_types::{Any, FieldMask};

use super::{filter, shims, snapshots, tasks};
use crate::model::{Labels, ObservedContainer, ObservedTask, label};
use crate::runtime::{Connection, ContainerRequest, Error, Result, image, spec};

/// The shim that both containerd lines bring.
const RUNTIME: &str = "io.containerd.runc.v2";
/// Type URL under which containerd keeps a runtime spec.
const SPEC_URL: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
/// Type URL of the options of the runc shim.
const OPTIONS_URL: &str = "containerd.runc.v1.Options";
/// Up to this many containers are asked one by one for task and snapshot;
/// beyond, everything is listed: listing tasks makes containerd call every shim
/// of the namespace in turn.
const FEW: usize = 8;

pub fn client(c: &Connection) -> ContainersClient<Channel> {
    // A record holds a whole runtime spec; a few hundred exceed the default 4 MiB.
    ContainersClient::new(c.channel.clone()).max_decoding_message_size(usize::MAX)
}

/// The record of a container; `None` when there is none.
pub async fn get(c: &Connection, namespace: &str, id: &str) -> Result<Option<Container>> {
    let request = GetContainerRequest { id: id.into() };
    match client(c).get(c.call(namespace, request)).await {
        Ok(response) => Ok(response.into_inner().container),
        Err(s) if s.code() == Code::NotFound => Ok(None),
        Err(s) => Err(c.error(format!("reading container {id}"), &s)),
    }
}

/// Containers that carry all labels, with snapshot and task state.
pub async fn list(
    c: &Connection,
    namespace: &str,
    labels: &Labels,
) -> Result<Vec<ObservedContainer>> {
    let request = ListContainersRequest {
        filters: filter::labels(labels),
    };
    let what = || format!("listing containers of {namespace}");
    // Streamed: one message with all specs could pass the server's own limit.
    let mut stream = client(c)
        .list_stream(c.call(namespace, request))
        .await
        .map_err(|s| c.error(what(), &s))?
        .into_inner();
    let mut found = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(part)) => found.extend(part.container),
            Ok(None) => break,
            // A namespace that is not there has no containers.
            Err(s) if s.code() == Code::NotFound => return Ok(Vec::new()),
            Err(s) => return Err(c.error(what(), &s)),
        }
    }
    let (mut tasks, snapshots) = if found.len() <= FEW {
        observe_each(c, namespace, &found).await?
    } else {
        observe_all(c, namespace, &found).await?
    };
    let mut observed: Vec<ObservedContainer> = found
        .into_iter()
        .map(|r| ObservedContainer {
            snapshot: snapshots.contains(&(r.snapshotter, r.snapshot_key)),
            task: tasks.remove(&r.id),
            id: r.id,
            labels: r.labels.into_iter().collect(),
            image: r.image,
        })
        .collect();
    observed.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(observed)
}

type Around = (HashMap<String, ObservedTask>, HashSet<(String, String)>);

async fn observe_each(c: &Connection, namespace: &str, records: &[Container]) -> Result<Around> {
    let each = records.iter().map(|r| async move {
        tokio::try_join!(
            tasks::get(c, namespace, &r.id),
            snapshots::exists(c, namespace, &r.snapshotter, &r.snapshot_key)
        )
    });
    let mut around = Around::default();
    for (record, (task, snapshot)) in records.iter().zip(try_join_all(each).await?) {
        if let Some(task) = task {
            around.0.insert(record.id.clone(), task);
        }
        if snapshot {
            around
                .1
                .insert((record.snapshotter.clone(), record.snapshot_key.clone()));
        }
    }
    Ok(around)
}

async fn observe_all(c: &Connection, namespace: &str, records: &[Container]) -> Result<Around> {
    let snapshotters: HashSet<&str> = records.iter().map(|r| r.snapshotter.as_str()).collect();
    let lists = snapshotters.into_iter().map(|name| async move {
        let infos = snapshots::list(c, namespace, name, Vec::new()).await?;
        Ok(infos
            .into_iter()
            .map(|i| (name.to_owned(), i.name))
            .collect::<Vec<_>>())
    });
    let (tasks, snapshots) = tokio::try_join!(tasks::list(c, namespace), try_join_all(lists))?;
    let mut snapshots: HashSet<(String, String)> = snapshots.into_iter().flatten().collect();
    // The list is made in batches and may leave some out; a snapshot that only
    // seems to be gone would cost a running container.
    for record in records {
        let key = (record.snapshotter.clone(), record.snapshot_key.clone());
        if !snapshots.contains(&key) && snapshots::exists(c, namespace, &key.0, &key.1).await? {
            snapshots.insert(key);
        }
    }
    Ok((tasks, snapshots))
}

/// Makes snapshot and record. The same again is fine; a record with another
/// spec hash is [`Error::Exists`].
pub async fn create(c: &Connection, request: &ContainerRequest) -> Result<()> {
    let (namespace, id) = (request.namespace.as_str(), request.id.as_str());
    let image = image::detail(c, namespace, &request.image).await?;
    if image.chain_id.is_empty() {
        return Err(Error::Other {
            what: format!("making container {id}"),
            cause: format!("image {} is not unpacked", request.image),
        });
    }
    let config: ImageConfiguration =
        serde_json::from_str(&image.config).map_err(|e| Error::Other {
            what: format!("reading the configuration of image {}", request.image),
            cause: e.to_string(),
        })?;

    let prepare = || snapshots::prepare(c, namespace, id, &image.chain_id, &request.labels);
    if !prepare().await? {
        if existing(c, request).await? {
            return Ok(());
        }
        // Left by a crash between the two; what it holds was made for nobody.
        snapshots::remove(c, namespace, &c.snapshotter, id).await?;
        if !prepare().await? {
            return Err(Error::Exists(format!("snapshot {id}")));
        }
    }
    let made = record(c, request, &config).await;
    if made.is_err() {
        // The first error is the one to tell.
        let _ = snapshots::remove(c, namespace, &c.snapshotter, id).await;
    }
    made
}

/// Whether a record of the request's spec hash exists; one of another is an error.
async fn existing(c: &Connection, request: &ContainerRequest) -> Result<bool> {
    let Some(record) = get(c, &request.namespace, &request.id).await? else {
        return Ok(false);
    };
    if record.labels.get(label::SPEC_HASH) == request.labels.get(label::SPEC_HASH) {
        Ok(true)
    } else {
        Err(Error::Exists(format!("container {}", request.id)))
    }
}

async fn record(
    c: &Connection,
    request: &ContainerRequest,
    config: &ImageConfiguration,
) -> Result<()> {
    let spec = spec::build(c, request, config).await?;
    let value = serde_json::to_vec(&spec).map_err(|e| Error::Spec {
        container: request.id.clone(),
        cause: e.to_string(),
    })?;
    let container = Container {
        id: request.id.clone(),
        labels: request.labels.clone().into_iter().collect(),
        image: request.image.clone(),
        runtime: Some(Runtime {
            name: RUNTIME.into(),
            options: c.runc_root.as_deref().map(runc_options),
        }),
        spec: Some(Any {
            type_url: SPEC_URL.into(),
            value,
        }),
        snapshotter: c.snapshotter.clone(),
        snapshot_key: request.id.clone(),
        ..Default::default()
    };
    let create = CreateContainerRequest {
        container: Some(container),
    };
    match client(c).create(c.call(&request.namespace, create)).await {
        Ok(_) => Ok(()),
        // The record was there, only its snapshot was gone.
        Err(s) if s.code() == Code::AlreadyExists => existing(c, request).await.map(drop),
        Err(s) => Err(c.error_on(
            format!("making container {}", request.id),
            &format!("namespace {}", request.namespace),
            &s,
        )),
    }
}

/// Options of the runc shim (containerd, `api/types/runc/options/oci.proto`), as
/// far as they are set here.
#[derive(Clone, PartialEq, prost::Message)]
struct RuncOptions {
    /// Directory below which runc keeps its state, by namespace.
    #[prost(string, tag = "7")]
    root: String,
}

/// Kept with the record, so that the shim's own clean-up finds the state too.
fn runc_options(root: &Path) -> Any {
    let options = RuncOptions {
        root: root.display().to_string(),
    };
    Any {
        type_url: OPTIONS_URL.into(),
        value: prost::Message::encode_to_vec(&options),
    }
}

/// Adds or replaces labels of a record.
pub async fn set_labels(c: &Connection, namespace: &str, id: &str, labels: &Labels) -> Result<()> {
    if labels.is_empty() {
        return Ok(());
    }
    let request = UpdateContainerRequest {
        container: Some(Container {
            id: id.into(),
            labels: labels.clone().into_iter().collect(),
            ..Default::default()
        }),
        update_mask: Some(FieldMask {
            paths: labels.keys().map(|k| format!("labels.{k}")).collect(),
        }),
    };
    client(c)
        .update(c.call(namespace, request))
        .await
        .map(drop)
        .map_err(|s| {
            c.error_on(
                format!("labelling container {id}"),
                &format!("container {id}"),
                &s,
            )
        })
}

/// The runtime spec of a record.
pub fn spec_of(id: &str, record: Container) -> Result<Spec> {
    serde_json::from_slice(&record.spec.unwrap_or_default().value).map_err(|e| Error::Spec {
        container: id.to_owned(),
        // Not the text itself, which holds environment variables.
        cause: format!("its runtime spec cannot be read at column {}", e.column()),
    })
}

/// User and group id of the first process.
pub async fn user(c: &Connection, namespace: &str, id: &str) -> Result<(u32, u32)> {
    let record = get(c, namespace, id).await?;
    let record = record.ok_or_else(|| Error::NotFound(format!("container {id}")))?;
    let spec = spec_of(id, record)?;
    let user = spec.process().as_ref().map(|p| p.user().clone());
    let user = user.unwrap_or_default();
    Ok((user.uid(), user.gid()))
}

/// Removes snapshot and record. A container with a task is [`Error::InUse`].
pub async fn remove(c: &Connection, namespace: &str, id: &str) -> Result<()> {
    let (task, record) = tokio::try_join!(tasks::get(c, namespace, id), get(c, namespace, id))?;
    if task.is_some() {
        return Err(Error::InUse(format!("container {id} still has a task")));
    }
    let (snapshotter, key) = match record {
        Some(r) if !r.snapshot_key.is_empty() => (r.snapshotter, r.snapshot_key),
        _ => (c.snapshotter.clone(), id.to_owned()),
    };
    shims::clear(c, namespace, id).await;
    // The record last: as long as it is there, a retry finds what is left.
    snapshots::remove(c, namespace, &snapshotter, &key).await?;
    let request = DeleteContainerRequest { id: id.into() };
    match client(c).delete(c.call(namespace, request)).await {
        Ok(_) => Ok(()),
        Err(s) if s.code() == Code::NotFound => Ok(()),
        Err(s) => Err(c.error(format!("removing container {id}"), &s)),
    }
}
