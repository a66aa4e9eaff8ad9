//! containerd namespaces: one a realm.

use std::collections::BTreeMap;
use std::time::Duration;

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::introspection_client::IntrospectionClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::namespaces_client::NamespacesClient;
use containerd_client::services::v1::{
    AbortRequest, CreateNamespaceRequest, CreateRequest, DeleteContainerRequest,
    DeleteContentRequest, DeleteImageRequest, DeleteNamespaceRequest, DeleteRequest,
    GetNamespaceRequest, ListContainersRequest, ListContentRequest, ListImagesRequest,
    ListNamespacesRequest, ListRequest, ListStatusesRequest, Namespace, PluginsRequest,
    UpdateNamespaceRequest,
};
use containerd_client::tonic::transport::Channel;
use containerd_client::tonic::{Code, Status};
use prost_types::FieldMask;

use super::{snapshots, tasks};
use crate::model::Labels;
use crate::runtime::{Connection, Error, Result};

/// Lease whose release collects, at once, what the drained namespace referred to.
const COLLECT_LEASE: &str = "kukeon-collect";
/// How often a namespace that is "not empty" is drained anew: what was under way
/// (a pull, another client) may add to it meanwhile.
const DRAINS: u32 = 5;
/// Where the shims of both containerd lines have runc keep its state.
const RUNC: &str = "/run/containerd/runc";
/// Deadline of a call that collects everything unreferenced.
const COLLECT: Duration = Duration::from_secs(300);

fn client(c: &Connection) -> NamespacesClient<Channel> {
    NamespacesClient::new(c.channel.clone())
}

/// Namespaces with their labels.
pub async fn list(c: &Connection) -> Result<BTreeMap<String, Labels>> {
    let request = c.call("default", ListNamespacesRequest::default());
    let response = client(c)
        .list(request)
        .await
        .map_err(|s| c.error("listing namespaces", &s))?;
    Ok(response
        .into_inner()
        .namespaces
        .into_iter()
        .map(|n| (n.name, n.labels.into_iter().collect()))
        .collect())
}

/// Makes a namespace or adds the labels to it; true when it was not there.
pub async fn ensure(c: &Connection, name: &str, labels: &Labels) -> Result<bool> {
    let wanted = Namespace {
        name: name.into(),
        labels: labels.clone().into_iter().collect(),
    };
    let what = || format!("making namespace {name}");
    // Not asked for before: 1.6 answers for a namespace that is not there, too.
    let create = CreateNamespaceRequest {
        namespace: Some(wanted.clone()),
    };
    match client(c).create(c.call(name, create)).await {
        Ok(_) => return Ok(true),
        Err(s) if s.code() == Code::AlreadyExists => {}
        Err(s) => return Err(c.error(what(), &s)),
    }
    let get = GetNamespaceRequest { name: name.into() };
    let have = client(c)
        .get(c.call(name, get))
        .await
        .map_err(|s| c.error(what(), &s))?
        .into_inner()
        .namespace
        .unwrap_or_default()
        .labels;
    let paths: Vec<String> = labels
        .iter()
        .filter(|(k, v)| have.get(*k) != Some(v))
        .map(|(k, _)| format!("labels.{k}"))
        .collect();
    if !paths.is_empty() {
        let update = UpdateNamespaceRequest {
            namespace: Some(wanted),
            update_mask: Some(FieldMask { paths }),
        };
        client(c)
            .update(c.call(name, update))
            .await
            .map_err(|s| c.error(what(), &s))?;
    }
    Ok(false)
}

/// Drains and removes a namespace; one that is gone is no error.
pub async fn remove(c: &Connection, name: &str) -> Result<()> {
    let what = format!("removing namespace {name}");
    for attempt in 1.. {
        if !list(c).await?.contains_key(name) {
            return Ok(());
        }
        drain(c, name).await?;
        let request = DeleteNamespaceRequest { name: name.into() };
        match client(c).delete(c.call(name, request)).await {
            Ok(_) => break,
            Err(s) if s.code() == Code::NotFound => break,
            Err(s) if s.code() == Code::FailedPrecondition && attempt < DRAINS => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(s) if s.code() == Code::FailedPrecondition => {
                return Err(Error::InUse(format!("{what}: {}", s.message())));
            }
            Err(s) => return Err(c.error(what, &s)),
        }
    }
    // runc removes the containers in it, but never the directory of a namespace.
    // It stays when another containerd has containers in a namespace of that name.
    let _ = std::fs::remove_dir(std::path::Path::new(RUNC).join(name));
    Ok(())
}

/// Empties a namespace. The order follows the references: what is referred to
/// goes after what refers to it.
async fn drain(c: &Connection, namespace: &str) -> Result<()> {
    for id in tasks::ids(c, namespace).await? {
        tasks::remove(c, namespace, &id).await?;
    }
    drain_containers(c, namespace).await?;
    drain_images(c, namespace).await?;
    drain_leases(c, namespace).await?;
    for snapshotter in snapshotters(c).await? {
        snapshots::drain(c, namespace, &snapshotter).await?;
    }
    drain_content(c, namespace).await?;
    collect(c, namespace).await
}

async fn drain_containers(c: &Connection, namespace: &str) -> Result<()> {
    let mut client = ContainersClient::new(c.channel.clone()).max_decoding_message_size(usize::MAX);
    let all = client
        .list(c.call(namespace, ListContainersRequest::default()))
        .await
        .map_err(|s| c.error(format!("listing containers of {namespace}"), &s))?
        .into_inner()
        .containers;
    for container in all {
        let what = format!("removing container {}", container.id);
        let request = DeleteContainerRequest { id: container.id };
        gone(client.delete(c.call(namespace, request)).await).map_err(|s| c.error(what, &s))?;
    }
    Ok(())
}

async fn drain_images(c: &Connection, namespace: &str) -> Result<()> {
    let mut client = ImagesClient::new(c.channel.clone()).max_decoding_message_size(usize::MAX);
    let all = client
        .list(c.call(namespace, ListImagesRequest::default()))
        .await
        .map_err(|s| c.error(format!("listing images of {namespace}"), &s))?
        .into_inner()
        .images;
    for image in all {
        let what = format!("removing image {}", image.name);
        let request = DeleteImageRequest {
            name: image.name,
            ..Default::default()
        };
        gone(client.delete(c.call(namespace, request)).await).map_err(|s| c.error(what, &s))?;
    }
    Ok(())
}

async fn drain_leases(c: &Connection, namespace: &str) -> Result<()> {
    let mut client = LeasesClient::new(c.channel.clone());
    let all = client
        .list(c.call(namespace, ListRequest::default()))
        .await
        .map_err(|s| c.error(format!("listing leases of {namespace}"), &s))?
        .into_inner()
        .leases;
    for lease in all {
        let what = format!("releasing lease {}", lease.id);
        let request = DeleteRequest {
            id: lease.id,
            sync: false,
        };
        gone(client.delete(c.call(namespace, request)).await).map_err(|s| c.error(what, &s))?;
    }
    Ok(())
}

async fn drain_content(c: &Connection, namespace: &str) -> Result<()> {
    let mut client = ContentClient::new(c.channel.clone());
    let what = || format!("removing content of {namespace}");
    let statuses = client
        .list_statuses(c.call(namespace, ListStatusesRequest::default()))
        .await
        .map_err(|s| c.error(what(), &s))?
        .into_inner()
        .statuses;
    for status in statuses {
        let request = AbortRequest {
            r#ref: status.r#ref,
        };
        gone(client.abort(c.call(namespace, request)).await).map_err(|s| c.error(what(), &s))?;
    }
    let mut stream = client
        .list(c.call(namespace, ListContentRequest::default()))
        .await
        .map_err(|s| c.error(what(), &s))?
        .into_inner();
    let mut digests = Vec::new();
    while let Some(part) = stream.message().await.map_err(|s| c.error(what(), &s))? {
        digests.extend(part.info.into_iter().map(|i| i.digest));
    }
    for digest in digests {
        let request = DeleteContentRequest { digest };
        gone(client.delete(c.call(namespace, request)).await).map_err(|s| c.error(what(), &s))?;
    }
    Ok(())
}

/// Has the collector run now. Deletions only drop entries of the metadata
/// database; bytes and directories go with a collection, and the release of a
/// lease is the one call that waits for it.
async fn collect(c: &Connection, namespace: &str) -> Result<()> {
    let mut client = LeasesClient::new(c.channel.clone());
    let what = || format!("collecting what {namespace} has left");
    let create = CreateRequest {
        id: COLLECT_LEASE.into(),
        ..Default::default()
    };
    match client.create(c.call(namespace, create)).await {
        Ok(_) => {}
        Err(s) if s.code() == Code::AlreadyExists => {}
        Err(s) => return Err(c.error(what(), &s)),
    }
    let delete = DeleteRequest {
        id: COLLECT_LEASE.into(),
        sync: true,
    };
    gone(
        client
            .delete(c.call_within(namespace, delete, COLLECT))
            .await,
    )
    .map_err(|s| c.error(what(), &s))
}

/// Names of the snapshotters that work on this server.
pub async fn snapshotters(c: &Connection) -> Result<Vec<String>> {
    let request = PluginsRequest {
        filters: vec!["type==io.containerd.snapshotter.v1".into()],
    };
    let plugins = IntrospectionClient::new(c.channel.clone())
        .plugins(c.call("default", request))
        .await
        .map_err(|s| c.error("asking for the snapshotters", &s))?
        .into_inner()
        .plugins;
    Ok(plugins
        .into_iter()
        .filter(|p| p.init_err.is_none())
        .map(|p| p.id)
        .collect())
}

/// What is gone already counts as removed.
fn gone<T>(result: Result<T, Status>) -> Result<(), Status> {
    match result {
        Ok(_) => Ok(()),
        Err(s) if s.code() == Code::NotFound => Ok(()),
        Err(s) => Err(s),
    }
}
