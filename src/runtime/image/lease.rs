//! Leases: what is made under one is safe from the garbage collector until it
//! is released, and collected then unless something refers to it.

use std::collections::HashMap;

use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::{
    AddResourceRequest, CreateRequest, DeleteRequest, Lease as Record, ListRequest, Resource,
};
use containerd_client::tonic::Code;
use containerd_client::tonic::transport::Channel;

use super::store::Store;
use crate::runtime::{Connection, Result};

/// Label: what a lease is for.
const PURPOSE: &str = "kukeon.io/lease";
/// Label: process that holds a lease, so that one left by a crash is known.
const OWNER: &str = "kukeon.io/lease-owner";
/// containerd releases a lease by itself at this time.
const EXPIRE: &str = "containerd.io/gc.expire";
/// The safety net for leases nobody sweeps.
const LIFETIME_HOURS: i64 = 24;

/// A lease. Dropping it (an error, a cancelled call) releases it in the background.
pub(crate) struct Lease {
    store: Store,
    id: String,
    held: bool,
}

impl Lease {
    /// Takes a lease for `purpose`.
    pub(crate) async fn take(
        connection: &Connection,
        namespace: &str,
        purpose: &str,
    ) -> Result<Self> {
        let store = Store::new(connection, namespace);
        let id = format!("kukeon-{purpose}-{}", uuid::Uuid::new_v4().simple());
        let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(LIFETIME_HOURS);
        let labels = HashMap::from([
            (PURPOSE.to_owned(), purpose.to_owned()),
            (OWNER.to_owned(), this_process()),
            (
                EXPIRE.to_owned(),
                until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            ),
        ]);
        let request = store.request(CreateRequest {
            id: id.clone(),
            labels,
        });
        let created = client(&store).create(request).await;
        created.map_err(|s| store.fail("lease", &s))?;
        Ok(Self {
            store: store.leased(&id),
            id,
            held: true,
        })
    }

    /// The stores under this lease.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Keeps a blob that is there or will come.
    pub(crate) async fn hold_content(&self, digest: &str) -> Result<()> {
        self.hold("content", digest).await
    }

    /// Keeps a snapshot that is there or will come.
    pub(crate) async fn hold_snapshot(&self, key: &str) -> Result<()> {
        let kind = format!("snapshots/{}", self.store.connection.snapshotter);
        self.hold(&kind, key).await
    }

    async fn hold(&self, kind: &str, id: &str) -> Result<()> {
        let request = self.store.request(AddResourceRequest {
            id: self.id.clone(),
            resource: Some(Resource {
                id: id.to_owned(),
                r#type: kind.to_owned(),
            }),
        });
        let added = client(&self.store).add_resource(request).await;
        added.map_err(|s| self.store.fail(format!("lease of {kind} {id}"), &s))?;
        Ok(())
    }

    /// Gives the lease back. With `collect` it returns after the collector ran.
    pub(crate) async fn release(mut self, collect: bool) -> Result<()> {
        let result = delete(&self.store.unleased(), &self.id, collect).await;
        // One that could not be released is tried again in the background.
        self.held = result.is_err();
        result
    }

    /// Ends work under a lease: what a failed one left is gone on return.
    pub(crate) async fn finish<T>(self, result: Result<T>) -> Result<T> {
        let released = self.release(result.is_err()).await;
        match (result, released) {
            (Ok(value), Ok(())) => Ok(value),
            (Ok(value), Err(error)) => {
                tracing::warn!(%error, "lease is left to expire");
                Ok(value)
            }
            (Err(error), _) => Err(error),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.held {
            return;
        }
        let (store, id) = (self.store.unleased(), self.id.clone());
        // Without a runtime the process is ending; the expiry takes over.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let releases = self.store.connection.releases.clone();
            let release = async move {
                if let Err(error) = delete(&store, &id, false).await {
                    tracing::warn!(%error, lease = id, "lease is left to expire");
                }
            };
            releases.spawn_on(release, &runtime);
        }
    }
}

/// Runs the garbage collector and waits for it: containerd has no call for
/// that alone, but releasing a lease can ask for it.
pub(crate) async fn collect(connection: &Connection, namespace: &str) -> Result<()> {
    let lease = Lease::take(connection, namespace, "collect").await?;
    lease.release(true).await
}

/// Releases our leases whose holder is gone: (released, still in use).
pub(crate) async fn sweep(store: &Store) -> Result<(u32, u32)> {
    let request = store.request(ListRequest { filters: vec![] });
    let answer = client(store).list(request).await;
    let leases = answer.map_err(|s| store.fail("leases", &s))?.into_inner();
    let (mut released, mut retained) = (0, 0);
    for lease in leases.leases {
        match owner(&lease) {
            None => {}
            Some(owner) if is_alive(owner) => retained += 1,
            Some(_) => {
                delete(store, &lease.id, false).await?;
                released += 1;
            }
        }
    }
    Ok((released, retained))
}

/// Who holds a lease of ours.
fn owner(lease: &Record) -> Option<&str> {
    lease.labels.get(PURPOSE)?;
    lease.labels.get(OWNER).map(String::as_str)
}

fn client(store: &Store) -> LeasesClient<Channel> {
    LeasesClient::new(store.connection.channel.clone())
}

async fn delete(store: &Store, id: &str, sync: bool) -> Result<()> {
    let request = store.patient(DeleteRequest {
        id: id.to_owned(),
        sync,
    });
    match client(store).delete(request).await {
        Err(status) if status.code() != Code::NotFound => {
            Err(store.fail(format!("lease {id}"), &status))
        }
        _ => Ok(()),
    }
}

/// Identity of this process: id, start time and boot, because ids are reused.
fn this_process() -> String {
    let pid = std::process::id();
    identity(pid).unwrap_or_else(|| format!("{pid}:0:unknown"))
}

fn is_alive(owner: &str) -> bool {
    let pid = owner.split(':').next().and_then(|p| p.parse().ok());
    pid.and_then(identity).is_some_and(|now| now == owner)
}

fn identity(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc(5): field 22 is the start time; the name before it may hold spaces.
    let start = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(format!("{pid}:{start}:{}", boot.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_others_do_not() {
        assert!(is_alive(&this_process()));
        assert!(!is_alive(&this_process().replace(':', ":9")));
        assert!(!is_alive("4294967295:1:boot"));
        assert!(!is_alive("nonsense"));
    }

    #[test]
    fn only_our_leases_have_an_owner() {
        let mut lease = Record::default();
        lease.labels.insert(OWNER.into(), "1:2:3".into());
        assert_eq!(owner(&lease), None);
        lease.labels.insert(PURPOSE.into(), "pull".into());
        assert_eq!(owner(&lease), Some("1:2:3"));
    }
}
