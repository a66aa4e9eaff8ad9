//! Removal of a space's network and of everything an instance shares. Goes on
//! after errors and reports all of them.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::cni::Cni;
use super::netlink::{self, Link};
use super::{Error, Result, SpaceNetwork, bridge, forwarding};

impl Cni {
    /// Removes what a space's network left on the host. A user's own conflist is
    /// not touched; what it attached is detached.
    pub(super) async fn network_removal(&self, network: &SpaceNetwork) -> Result<()> {
        let mut errors = Vec::new();
        for (cell, record) in self.of_space(network)? {
            if let Err(error) = self.undo(&cell, &record).await {
                // All that the generated chain holds is removed below anyway.
                if record.intent.network == network.name() && network.own.is_none() {
                    tracing::warn!(%cell, %error, "attachment could not be undone");
                    errors.extend(self.inner.cache.forget(&record.intent.container_id).err());
                } else {
                    errors.push(error);
                }
            }
        }
        let generated = network.clone();
        let rest = self.blocking(move |inner| {
            let network = generated;
            let mut errors = Vec::new();
            errors.extend(bridge::remove(&network, &inner.instance).err());
            errors.extend(inner.firewall.remove(&network).err());
            errors.extend(
                gone(&inner.leases().join(network.name()), |p| {
                    fs::remove_dir_all(p)
                })
                .err(),
            );
            errors.extend(gone(&network.generated, |p| fs::remove_file(p)).err());
            Error::all(errors)
        });
        errors.extend(rest.await.err());
        Error::all(errors)
    }

    /// Removes everything of the instance: attachments, links, rules, pins, files.
    pub(super) async fn instance_removal(&self) -> Result<()> {
        let mut errors = Vec::new();
        for record in self.inner.cache.all()? {
            if let Some(cell) = record.intent.cell() {
                errors.extend(self.undo(&cell, &record).await.err());
            }
        }
        let rest = self.blocking(|inner| {
            let mut errors = Vec::new();
            let links = bridge::of_instance(&inner.instance);
            let links = links.unwrap_or_else(|e| {
                errors.push(Error::host("listing links", e));
                Vec::new()
            });
            for Link { index, name, .. } in &links {
                let removed = netlink::remove_link(*index);
                errors.extend(
                    removed
                        .err()
                        .map(|e| Error::host(format!("removing link {name}"), e)),
                );
            }
            let bridges: Vec<String> = links
                .into_iter()
                .filter(|l| l.bridge)
                .map(|l| l.name)
                .collect();
            errors.extend(inner.firewall.remove_all(&bridges).err());
            errors.extend(forwarding::restore(&inner.state).err());
            errors.extend(inner.sandboxes.remove_all().err());
            errors.extend(gone(&inner.state, |p| fs::remove_dir_all(p)).err());
            Error::all(errors)
        });
        errors.extend(rest.await.err());
        Error::all(errors)
    }
}

/// Removes a path that may be gone already.
fn gone(path: &Path, remove: impl Fn(&Path) -> io::Result<()>) -> Result<()> {
    match remove(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(Error::host(format!("removing {}", path.display()), e))
        }
        _ => Ok(()),
    }
}
