//! Removes images.

use std::collections::BTreeSet;

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::{Container, ListContainersRequest};

use super::lease;
use super::query::find;
use super::reference::is_internal;
use super::store::Store;
use crate::runtime::{Connection, Error, PruneReport, Result};

/// Removes an image nobody uses, and what only it referred to. Returns its name.
///
/// # Errors
/// [`Error::InUse`] names a container made from it.
pub(crate) async fn remove(
    connection: &Connection,
    namespace: &str,
    reference: &str,
) -> Result<String> {
    let store = Store::new(connection, namespace);
    let image = find(&store, reference).await?;
    let users = containers(&store).await?;
    let mut users = users.iter().filter(|c| c.image == image.name);
    if let Some(user) = users.next() {
        let more = match users.count() {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        return Err(Error::InUse(format!(
            "image {} is used by container {}{more}",
            image.name, user.id
        )));
    }
    if !store.delete_image(&image.name, true).await? {
        return Err(Error::ImageNotFound(image.name));
    }
    Ok(image.name)
}

/// Removes images no container uses (built-in ones stay), releases leases
/// whose holder is gone, and waits for the collector.
pub(crate) async fn prune(connection: &Connection, namespace: &str) -> Result<PruneReport> {
    let store = Store::new(connection, namespace);
    let used: BTreeSet<String> = containers(&store)
        .await?
        .into_iter()
        .map(|c| c.image)
        .collect();
    let mut report = PruneReport::default();
    for image in store.all_images().await? {
        let keep = used.contains(&image.name) || is_internal(&image.name);
        if !keep && store.delete_image(&image.name, false).await? {
            report.images.push(image.name);
        }
    }
    report.images.sort();
    (report.leases_released, report.leases_retained) = lease::sweep(&store).await?;
    lease::collect(connection, namespace).await?;
    Ok(report)
}

async fn containers(store: &Store) -> Result<Vec<Container>> {
    let mut client =
        ContainersClient::new(store.connection.channel.clone()).max_decoding_message_size(64 << 20);
    let request = store.request(ListContainersRequest { filters: vec![] });
    let answer = client.list(request).await;
    let answer = answer.map_err(|s| store.fail("containers", &s))?;
    Ok(answer.into_inner().containers)
}
