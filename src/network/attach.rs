//! A cell's attachment to the network of its space: ADD, CHECK, DEL, GC.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::sync::PoisonError;

use super::cache::{Intent, Record};
use super::chain::{Chain, Target};
use super::cni::{Cni, Inner};
use super::conflist::{Conflist, Version};
use super::exec::NO_ANSWER;
use super::sandbox::{in_namespace, is_namespace};
use super::{Error, Result, SpaceNetwork, ids, netlink, result};
use crate::model::{Attachment, CellRef, ObservedSandbox};

impl Inner {
    pub fn container_id(&self, cell: &CellRef) -> String {
        ids::container_id(&self.instance, cell)
    }

    /// Facts about a sandbox; a few file system questions, no program is run.
    pub fn observe_sandbox(&self, cell: &CellRef, host_network: bool) -> Result<ObservedSandbox> {
        let record = self.cache.get(&self.container_id(cell))?;
        Ok(ObservedSandbox {
            pinned: self.sandboxes.pinned(cell, host_network),
            exists: self.sandboxes.exists(cell),
            attached: record
                .as_ref()
                .is_some_and(|record| self.attached(cell, record)),
            attachment: record.map(|record| record.attachment()),
        })
    }

    /// The interface that ADD made is still in the namespace that is pinned now.
    fn attached(&self, cell: &CellRef, record: &Record) -> bool {
        let Some(outcome) = &record.outcome else {
            return false;
        };
        if outcome.broken {
            return false;
        }
        if self.sandboxes.identity(cell).as_ref() != Some(&outcome.sandbox) {
            return false;
        }
        if !outcome.host_interface.is_empty() {
            // The ends of a veth pair only go together. A bridge that was
            // removed and made again has lost its ports.
            let host_end = netlink::link(&outcome.host_interface);
            return host_end.is_ok_and(|link| {
                link.is_some_and(|link| is_port(link.bridge_index, &outcome.bridge))
            });
        }
        let net = self.sandboxes.paths(cell).net;
        let inside = in_namespace(&net, || netlink::link(ids::INTERFACE));
        inside.is_ok_and(|link| link.is_some())
    }

    /// Marks the host end of a cell's veth pair. For people and sweeps; the
    /// attachment works without.
    fn mark(&self, cell: &CellRef, host_interface: &str) {
        if host_interface.is_empty() {
            return;
        }
        let alias = ids::cell_alias(&self.instance, cell);
        let marked = netlink::link(host_interface).and_then(|link| match link {
            Some(link) => netlink::own_link(link.index, &alias),
            None => Ok(()),
        });
        if let Err(error) = marked {
            tracing::warn!(%cell, %host_interface, %error, "link could not be marked");
        }
    }

    /// Removes a host end that its chain left behind, if it still is this cell's.
    fn remove_host_end(&self, cell: &CellRef, name: &str) -> Result<()> {
        let failed = |e| Error::host(format!("removing link {name} of {cell}"), e);
        match netlink::link(name).map_err(failed)? {
            Some(link) if link.alias == ids::cell_alias(&self.instance, cell) => {
                netlink::remove_link(link.index).map_err(failed)
            }
            _ => Ok(()),
        }
    }
}

/// Whether a link with this controller is a port of the bridge that ADD named.
/// What later plugins of a chain did with it is theirs.
fn is_port(controller: Option<u32>, bridge: &str) -> bool {
    if bridge.is_empty() {
        return true;
    }
    match (controller, netlink::link(bridge)) {
        (Some(index), Ok(Some(bridge))) => bridge.index == index,
        // A missing bridge is made by the space, and then found here.
        (_, Ok(None)) => true,
        (None, _) => false,
        (Some(_), Err(_)) => true,
    }
}

impl Cni {
    /// ADD, unless the cell is attached already. What an earlier ADD left
    /// unfinished is undone first, and so is this one when it fails.
    pub(super) async fn attachment(
        &self,
        cell: &CellRef,
        network: &SpaceNetwork,
    ) -> Result<Attachment> {
        let inner = &self.inner;
        let id = inner.container_id(cell);
        if let Some(record) = inner.cache.get(&id)? {
            if inner.attached(cell, &record) {
                return Ok(record.attachment());
            }
            self.undo(cell, &record).await?;
        }
        let net = inner.sandboxes.paths(cell).net;
        let sandbox = inner
            .sandboxes
            .identity(cell)
            .ok_or_else(|| Error::NotFound(format!("network namespace of {cell}")))?;
        if network.own.is_none() && !inner.network_present(network)? {
            let network = network.clone();
            self.blocking(move |inner| inner.ensure_generated(&network))
                .await?;
        }
        let list = Conflist::read(network.conflist())?;
        // Told before anything is begun, for then there is nothing to undo.
        list.plugin_types()
            .try_for_each(|plugin| inner.plugins.find(plugin).map(drop))?;
        let chain = Chain::negotiate(&inner.plugins, &list).await?;

        let intent = Intent {
            cell: ids::sandbox_name(cell),
            network: list.name.clone(),
            container_id: id.clone(),
            cni_version: chain.version().to_string(),
            conflist: list.json().clone(),
        };
        inner.cache.begin(&intent)?;
        let arguments = ids::arguments(cell);
        let target = Target {
            container_id: &id,
            netns: Some(&net),
            arguments: &arguments,
        };
        let note = id.clone();
        let (answer, synced) = tokio::join!(
            chain.add(target),
            self.blocking(move |inner| inner.cache.sync(&note)),
        );
        let added = answer.and_then(|answer| {
            synced?;
            let outcome = result::outcome(answer, sandbox, result::is_bridge);
            outcome.map_err(|e| Error::host(format!("reading the result of ADD for {cell}"), e))
        });
        let outcome = match added {
            Ok(outcome) => outcome,
            Err(error) => {
                let record = Record {
                    intent,
                    outcome: None,
                };
                if let Err(again) = self.undo(cell, &record).await {
                    tracing::warn!(%cell, error = %again, "a failed ADD could not be undone yet");
                }
                return Err(error);
            }
        };
        inner.mark(cell, &outcome.host_interface);
        inner.cache.finish(&id, &outcome)?;
        let record = Record {
            intent,
            outcome: Some(outcome),
        };
        Ok(record.attachment())
    }

    /// DEL of whatever was begun for the cell.
    pub(super) async fn detachment(&self, cell: &CellRef) -> Result<()> {
        match self.inner.cache.get(&self.inner.container_id(cell))? {
            Some(record) => self.undo(cell, &record).await,
            None => self.inner.cache.forget(&self.inner.container_id(cell)),
        }
    }

    /// DEL with the configuration and result of the ADD; after one that did not
    /// end well also the lease it may have left without a name. The record is
    /// kept when any of it fails, so that it is tried again.
    pub(super) async fn undo(&self, cell: &CellRef, record: &Record) -> Result<()> {
        let inner = &self.inner;
        let (list, version) = configuration(record)?;
        let net = inner.sandboxes.paths(cell).net;
        let arguments = ids::arguments(cell);
        let target = Target {
            container_id: &record.intent.container_id,
            // A plain file left by a reboot is no namespace; plugins would fail on it.
            netns: is_namespace(&net).then_some(net.as_path()),
            arguments: &arguments,
        };
        let answer = record.outcome.as_ref().map(|outcome| &outcome.result);
        Chain::new(&inner.plugins, &list, version)
            .del(target, answer)
            .await?;
        if let Some(outcome) = &record.outcome {
            inner.remove_host_end(cell, &outcome.host_interface)?;
        } else {
            let network = ids::network(&cell.stack().space());
            self.blocking(move |inner| inner.free_leases(&network, None))
                .await?;
        }
        inner.cache.forget(&record.intent.container_id)
    }

    /// CHECK against the result of the ADD. An attachment that fails counts as
    /// not attached from then on. A chain whose CHECK never passes is spared: what
    /// was made anew after a failure, and fails again, is left as it is.
    pub(super) async fn attachment_check(&self, cell: &CellRef) -> Result<()> {
        let inner = &self.inner;
        let missing = || Error::NotFound(format!("network attachment of {cell}"));
        let id = inner.container_id(cell);
        let record = inner.cache.get(&id)?.ok_or_else(missing)?;
        if !inner.attached(cell, &record) {
            return Err(missing());
        }
        let outcome = record.outcome.as_ref().ok_or_else(missing)?;
        let (list, version) = configuration(&record)?;
        let net = inner.sandboxes.paths(cell).net;
        let arguments = ids::arguments(cell);
        let target = Target {
            container_id: &record.intent.container_id,
            netns: Some(&net),
            arguments: &arguments,
        };
        let checked = Chain::new(&inner.plugins, &list, version)
            .check(target, &outcome.result)
            .await;
        let mut suspects = inner
            .suspects
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match &checked {
            Ok(()) => {
                suspects.remove(&id);
            }
            Err(error) if is_verdict(error) && suspects.insert(id.clone()) => {
                let mut broken = outcome.clone();
                broken.broken = true;
                inner.cache.finish(&id, &broken)?;
            }
            Err(_) => {}
        }
        checked
    }

    /// Undoes attachments to a network that belong to none of `cells`, lets the
    /// plugins do the same, and frees leases nobody knows of.
    pub(super) async fn collection(&self, network: &SpaceNetwork, cells: &[CellRef]) -> Result<()> {
        let inner = &self.inner;
        let valid: Vec<String> = cells.iter().map(|cell| inner.container_id(cell)).collect();
        let mut errors = Vec::new();
        for (cell, record) in self.of_space(network)? {
            if !valid.contains(&record.intent.container_id) {
                errors.extend(self.undo(&cell, &record).await.err());
            }
        }
        match Conflist::read(network.conflist()) {
            Ok(list) => {
                let chain = Chain::negotiate(&inner.plugins, &list).await;
                match chain {
                    Ok(chain) => errors.extend(chain.collect(&valid).await.err()),
                    Err(error) => errors.push(error),
                }
            }
            Err(error) => errors.push(error),
        }
        let network = network.name();
        let freed = self
            .blocking(move |inner| inner.free_leases(&network, Some(valid)))
            .await;
        errors.extend(freed.err());
        Error::all(errors)
    }

    /// Attachments of cells of one space.
    pub(super) fn of_space(&self, network: &SpaceNetwork) -> Result<Vec<(CellRef, Record)>> {
        let records = self.inner.cache.all()?.into_iter();
        Ok(records
            .filter_map(|record| Some((record.intent.cell()?, record)))
            .filter(|(cell, _)| cell.stack().space() == network.space)
            .collect())
    }
}

impl Inner {
    /// Frees leases of a generated network that name no container id: what an ADD
    /// leaves that was killed between making the file and writing it, and no DEL
    /// finds. With `valid` also those whose container id is neither in there nor
    /// of an attachment that was begun. `host-local` names a lease by its
    /// address; the first line of it is the container id.
    fn free_leases(&self, network: &str, valid: Option<Vec<String>>) -> Result<()> {
        let dir = self.leases().join(network);
        if !dir.is_dir() {
            return Ok(());
        }
        // The plugin's own lock: a lease without id may be one in the making.
        let lock = dir.join("lock");
        let locked = File::options().create(true).append(true).open(&lock);
        let _lock = locked
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|e| Error::host(format!("locking {}", lock.display()), e))?;
        let mut leases = Vec::new();
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let is_address = entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.parse::<std::net::IpAddr>().is_ok());
            if let Some(text) = is_address
                .then(|| fs::read_to_string(entry.path()).ok())
                .flatten()
            {
                let id = text.lines().next().unwrap_or_default().trim().to_owned();
                leases.push((entry.path(), id));
            }
        }
        // Read after the leases: an ADD that made one of them had begun before.
        let known = match valid {
            None => None,
            Some(valid) => {
                let begun = self.cache.all()?.into_iter();
                let begun = begun.map(|record| record.intent.container_id);
                Some(begun.chain(valid).collect::<BTreeSet<String>>())
            }
        };
        for (path, id) in leases {
            if id.is_empty() || known.as_ref().is_some_and(|known| !known.contains(&id)) {
                fs::remove_file(&path)
                    .map_err(|e| Error::host(format!("freeing lease {}", path.display()), e))?;
            }
        }
        Ok(())
    }
}

/// Whether a failed CHECK speaks of the attachment: the plugin ran and did not
/// ask to try again later (CNI specification, section 5, code 11).
fn is_verdict(error: &Error) -> bool {
    matches!(error, Error::Plugin { code, .. } if ![NO_ANSWER, 11].contains(code))
}

fn configuration(record: &Record) -> Result<(Conflist, Version)> {
    let damaged = |cause: String| {
        Error::host(
            format!("reading the attachment of {}", record.intent.cell),
            cause,
        )
    };
    let list = Conflist::from_json(record.intent.conflist.clone()).map_err(damaged)?;
    let version = Version::parse(&record.intent.cni_version)
        .ok_or_else(|| damaged(format!("unknown version {:?}", record.intent.cni_version)))?;
    Ok((list, version))
}
