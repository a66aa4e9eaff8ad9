//! Upkeep of networks: what no reconciliation looks at, because it costs a
//! program each time. CNI GC takes back what belongs to no cell; CNI CHECK finds
//! attachments that do not work any more, which the plan then makes anew.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Controller;
use super::errors::not_found;
use crate::api::Result;
use crate::model::{CellRef, SpaceRef};
use crate::network;
use crate::store::LockMode;

/// Attachments that are checked in one round; the next round goes on after them.
const BATCH: usize = 16;
/// Longest that the first collection keeps the loop from its work.
const FIRST: Duration = Duration::from_secs(5);

impl Controller {
    /// One collection before anything else is done; what does not end soon is
    /// left to the next round.
    pub(super) async fn collect_at_start(&self) {
        if tokio::time::timeout(FIRST, self.collect_networks())
            .await
            .is_err()
        {
            tracing::warn!("collecting what belongs to no cell takes long; it is done later");
        }
    }

    /// Collects and checks every `period` until `stop`.
    pub(super) async fn keep_networks(self: Arc<Self>, period: Duration, stop: CancellationToken) {
        let rounds = async {
            let mut after = None;
            loop {
                tokio::time::sleep(period).await;
                self.collect_networks().await;
                after = self.check_attachments(after).await;
            }
        };
        tokio::select! {
            () = rounds => {}
            () = stop.cancelled() => {}
        }
    }

    /// Takes back, in every space, what belongs to none of its cells.
    async fn collect_networks(&self) {
        let realms = self.store.realms().unwrap_or_default();
        let spaces = realms
            .iter()
            .flat_map(|realm| self.store.spaces(realm).unwrap_or_default());
        for at in spaces {
            if let Err(error) = self.collect_network(&at).await {
                tracing::warn!(space = %at, %error, "not collected");
            }
        }
    }

    async fn collect_network(&self, at: &SpaceRef) -> Result<()> {
        // Alone in the space, or a cell that is being attached would be taken
        // for garbage. Not worth waiting for: there is a next round.
        let object = at.clone().into();
        let Ok(_lock) = self
            .store
            .lock(&object, LockMode::Exclusive, Duration::ZERO)
            .await
        else {
            return Ok(());
        };
        let space = self.store.space(at)?.ok_or_else(|| not_found(&object))?;
        let network = self.space_network(&space);
        if space.meta.deletion.is_some() || !network.conflist().exists() {
            return Ok(());
        }
        let mut cells = Vec::new();
        for stack in self.store.stacks(at)? {
            cells.extend(self.store.cells(&stack)?);
        }
        Ok(self.network.collect(&network, &cells).await?)
    }

    /// Checks the next attachments after `after`; returns the last one, or none
    /// when the end was reached.
    async fn check_attachments(&self, after: Option<CellRef>) -> Option<CellRef> {
        let realms = self.store.realms().unwrap_or_default();
        let mut cells: Vec<CellRef> = realms.iter().flat_map(|r| self.cells_of(r)).collect();
        cells.sort_unstable();
        cells.retain(|at| after.as_ref().is_none_or(|last| at > last));
        let whole = cells.len() <= BATCH;
        cells.truncate(BATCH);
        for at in &cells {
            if let Err(error) = self.check_attachment(at).await {
                tracing::warn!(cell = %at, %error, "network attachment does not work");
                // The plan sees it as not attached, unless that would not help.
                self.queue.add(at.clone().into());
            }
        }
        if whole { None } else { cells.pop() }
    }

    async fn check_attachment(&self, at: &CellRef) -> Result<()> {
        let object = at.clone().into();
        // Whoever works on the cell looks after its attachment as well.
        let Ok(_lock) = self
            .store
            .lock(&object, LockMode::Shared, Duration::ZERO)
            .await
        else {
            return Ok(());
        };
        let Some(cell) = self.store.cell(at)? else {
            return Ok(());
        };
        if cell.meta.deletion.is_some() || cell.host_network() {
            return Ok(());
        }
        let Some(network) = self.parents(&object)?.network else {
            return Ok(());
        };
        match self.network.check(at, &network).await {
            // Not attached: the plan knows whether it should be.
            Err(network::Error::NotFound(_)) => Ok(()),
            checked => Ok(checked?),
        }
    }
}
