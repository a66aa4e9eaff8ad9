//! The daemon's loop. Level-triggered: events and calls only say *which* object
//! to look at; what is done depends on what is seen then.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Controller;
use super::errors::{LOCK_TIMEOUT, UNREACHABLE};
use super::execute::Watch;
use crate::api::{Code, Error};
use crate::model::ObjectRef;
use crate::runtime::container_owner;

/// Objects that are worked on side by side.
const WORKERS: usize = 4;
/// How long a worker waits for an object that somebody else works on; a caller
/// may hold one for as long as a grace period lasts, and others must not wait.
const PATIENCE: Duration = Duration::from_millis(100);
/// First pause before containerd is asked for events again, and the one before an object that
/// somebody else works on is looked at again.
const RETRY: Duration = Duration::from_secs(1);
/// How long the first look at everything waits for the first answer of containerd's events.
const HEARD: Duration = Duration::from_secs(1);
/// Longest pause before containerd is asked for events again.
const LONGEST_RETRY: Duration = Duration::from_secs(10);

impl Controller {
    /// Reconciles what containerd events and API calls enqueue, and everything
    /// every `resync` (and once at the start). Ends after `stop` is cancelled
    /// and the work in hand is done.
    pub async fn run(self: Arc<Self>, resync: Option<Duration>, stop: CancellationToken) {
        self.live.store(true, Ordering::Release);
        let tracker = TaskTracker::new();
        for _ in 0..WORKERS {
            tracker.spawn(Arc::clone(&self).work(stop.clone()));
        }
        let (heard, hears) = oneshot::channel();
        tracker.spawn(Arc::clone(&self).listen(heard, stop.clone()));
        self.collect_at_start().await;
        // What happens between this look and the first event would not be seen.
        let _ = tokio::time::timeout(HEARD, hears).await;
        self.enqueue_everything();
        let period = resync.unwrap_or(Duration::MAX);
        tracker.spawn(Arc::clone(&self).keep_networks(period, stop.clone()));
        tracker.spawn(Arc::clone(&self).keep_registry(period, stop.clone()));
        loop {
            tokio::select! {
                () = tokio::time::sleep(period) => self.enqueue_everything(),
                () = stop.cancelled() => break,
            }
        }
        tracker.close();
        tracker.wait().await;
        self.live.store(false, Ordering::Release);
    }

    async fn work(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let key = tokio::select! {
                key = self.queue.next() => key,
                () = stop.cancelled() => return,
            };
            let watch = Watch {
                cancel: stop.clone(),
                ..Watch::default()
            };
            let result = self.reconcile_within(&key, &watch, PATIENCE).await;
            match &result {
                Ok(outcome) => {
                    for step in &outcome.steps {
                        tracing::info!(object = %key, step, "done");
                    }
                    if let Some(due) = outcome.again {
                        self.enqueue_at(key.clone(), due);
                    }
                }
                Err(error) if error.code == Code::Cancelled => {}
                Err(error) if error.reason == LOCK_TIMEOUT => {
                    self.queue.done(&key, true);
                    self.queue.add_after(key, RETRY);
                    continue;
                }
                // That is told already, and not of each object.
                Err(error) if error.reason == UNREACHABLE && self.containerd_lost().is_some() => {
                    tracing::debug!(object = %key, %error, "not reconciled");
                }
                Err(error) => {
                    tracing::warn!(object = %key, reason = error.reason, %error, "not reconciled");
                }
            }
            self.queue.done(&key, result.is_ok());
        }
    }

    /// Turns containerd's events into keys, and says through `heard` that it does.
    /// A lost connection is made again, and everything looked at, since events may
    /// have been missed.
    async fn listen(self: Arc<Self>, heard: oneshot::Sender<()>, stop: CancellationToken) {
        let mut heard = Some(heard);
        let mut pause = RETRY;
        while !stop.is_cancelled() {
            let events = async {
                let mut events = self.runtime.events().await?;
                pause = RETRY;
                if self.note_containerd(None) {
                    tracing::info!("containerd is there again");
                }
                // Unless somebody waits for it, and looks then.
                if heard.take().is_none_or(|heard| heard.send(()).is_err()) {
                    self.enqueue_everything();
                }
                while let Some(event) = events.next().await {
                    let event = event?;
                    self.enqueue_owner(&event.namespace, &event.container);
                }
                Ok::<(), Error>(())
            };
            tokio::select! {
                ended = events => {
                    // Told once, and not each time it is tried again.
                    if let Err(error) = ended
                        && self.note_containerd(Some(&error))
                    {
                        tracing::warn!(%error, "no events from containerd; it is asked again and again");
                    }
                }
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_RETRY),
                () = stop.cancelled() => return,
            }
        }
    }

    /// Notes why containerd cannot be asked, or that it can; whether that is new.
    fn note_containerd(&self, error: Option<&Error>) -> bool {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let news = lost.is_some() != error.is_some();
        *lost = error.map(|error| error.message.clone());
        news
    }

    /// Why containerd cannot be asked now; none when it can.
    pub(super) fn containerd_lost(&self) -> Option<String> {
        self.lost
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The cell whose container has this id. Ids are made by us from names, so
    /// they tell; of a shortened one the store does. No question to containerd
    /// is needed.
    fn enqueue_owner(&self, namespace: &str, id: &str) {
        let Ok(realms) = self.store.realms() else {
            return;
        };
        for realm in realms {
            let Ok(Some(object)) = self.store.realm(&realm) else {
                continue;
            };
            if self.settings.namespace(&object) != namespace {
                continue;
            }
            if let Some(at) = container_owner(&realm, id) {
                match self.store.exists(&at.clone().into()) {
                    Ok(true) => self.queue.add(at.into()),
                    // Another process deleted it.
                    Ok(false) => self.served.gone(&at),
                    Err(_) => {}
                }
                return;
            }
            for at in self.cells_of(&realm) {
                let Ok(Some(cell)) = self.store.cell(&at) else {
                    continue;
                };
                let owns = |c: &crate::model::ContainerSpec| {
                    crate::runtime::container_id(&at, &c.id) == id
                };
                if cell.spec.containers.iter().any(owns) {
                    self.queue.add(at.into());
                    return;
                }
            }
            // Of a cell that is not stored any more a shortened id tells nothing.
            for at in self.served.cells_in(&realm) {
                if let Ok(false) = self.store.exists(&at.clone().into()) {
                    self.served.gone(&at);
                }
            }
        }
    }

    pub(super) fn cells_of(&self, realm: &crate::model::RealmRef) -> Vec<crate::model::CellRef> {
        let spaces = self.store.spaces(realm).unwrap_or_default();
        let stacks = spaces
            .iter()
            .flat_map(|s| self.store.stacks(s).unwrap_or_default());
        stacks
            .flat_map(|s| self.store.cells(&s).unwrap_or_default())
            .collect()
    }

    /// Adds an object at a time.
    pub(super) fn enqueue_at(&self, at: ObjectRef, due: jiff::Timestamp) {
        let now = jiff::Timestamp::now();
        let pause = Duration::try_from(due.duration_since(now)).unwrap_or_default();
        self.queue.add_after(at, pause);
    }

    /// Adds every object of the store, parents first.
    fn enqueue_everything(&self) {
        match self.store.objects() {
            Ok(objects) => objects.into_iter().for_each(|at| self.queue.add(at)),
            Err(error) => tracing::warn!(%error, "the store cannot be listed"),
        }
    }
}
