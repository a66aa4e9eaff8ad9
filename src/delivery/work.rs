//! The loop: every object is looked at when something changed, when it is due,
//! and every ten minutes anyway.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Delivery;
use super::fault::Result;
use crate::api::Error;
use crate::controller::Queue;
use crate::model::delivery::{ReleaseKind, ReleaseRef};

/// First and longest pause after a failure.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// Time between two looks at everything.
const RESYNC: Duration = Duration::from_secs(600);
/// Objects that are worked on side by side.
const WORKERS: usize = 4;

/// How long a turn at an object is waited for: whoever has it may be fetching
/// an image.
const TURN: Duration = Duration::from_secs(300);

/// The same for the loop, whose workers others need as well.
const SHORT_TURN: Duration = Duration::from_secs(5);
/// Kinds that have a controller.
const LOOKED_AT: [ReleaseKind; 4] = [
    ReleaseKind::Pantry,
    ReleaseKind::Recipe,
    ReleaseKind::Serving,
    ReleaseKind::Menu,
];

/// What follows from a look at an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing, until something changes.
    Rest,
    /// It is at rest, and due again after a pause.
    Later(Duration),
    /// It is on its way: look again after a pause.
    Soon(Duration),
}

impl Next {
    /// At rest, but due after a pause.
    pub fn or_after(self, pause: Duration) -> Self {
        match self {
            Next::Rest => Next::Later(pause),
            other => other,
        }
    }
}

pub(super) fn queue() -> Queue<ReleaseRef> {
    Queue::with_back_off(BACK_OFF.0, BACK_OFF.1)
}

impl Delivery {
    /// Runs until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        self.live.store(true, Ordering::Release);
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                let (me, stop) = (self.clone(), stop.clone());
                tokio::spawn(async move {
                    loop {
                        let at = tokio::select! {
                            () = stop.cancelled() => return,
                            at = me.queue.next() => at,
                        };
                        me.work(&at).await;
                    }
                })
            })
            .collect();
        loop {
            self.enqueue_all();
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(RESYNC) => {}
            }
        }
        for worker in workers {
            let _ = worker.await;
        }
        self.live.store(false, Ordering::Release);
    }

    /// Puts every object in the queue.
    fn enqueue_all(&self) {
        for kind in LOOKED_AT {
            match self.store.release_refs(kind, None) {
                Ok(refs) => refs.into_iter().for_each(|at| self.queue.add(at)),
                Err(error) => tracing::warn!(%error, "the releases cannot be listed"),
            }
        }
    }

    /// Has an object looked at: by the loop, or by whoever drives it here.
    pub(super) fn enqueue(&self, at: &ReleaseRef) {
        self.queue.add(at.clone());
    }

    async fn work(&self, at: &ReleaseRef) {
        match self.look_within(at, false, SHORT_TURN).await {
            Ok(next) => {
                self.queue.done(at, true);
                match next {
                    Next::Rest => {}
                    Next::Later(pause) | Next::Soon(pause) => {
                        self.queue.add_after(at.clone(), pause);
                    }
                }
            }
            Err(fault) => {
                tracing::warn!(object = %at, reason = fault.reason, error = %fault, "tried again later");
                self.queue.done(at, false);
            }
        }
    }

    /// Brings an object a step further; one caller at a time.
    pub(super) async fn look(&self, at: &ReleaseRef, force: bool) -> Result<Next> {
        self.look_within(at, force, TURN).await
    }

    async fn look_within(&self, at: &ReleaseRef, force: bool, turn: Duration) -> Result<Next> {
        let turn = self.store.lock_release(at, turn).await;
        let _turn = turn.map_err(Error::from)?;
        match at.kind {
            ReleaseKind::Recipe => self.reconcile_recipe(at).await,
            ReleaseKind::Serving => self.reconcile_serving(at, force).await,
            ReleaseKind::Pantry => self.reconcile_pantry(at).await,
            ReleaseKind::Menu => self.reconcile_menu(at).await,
            _ => Ok(Next::Rest),
        }
    }

    /// Looks at an object until it is at rest, and at what that set going. In
    /// the daemon the loop does the rest; without one nobody else would.
    pub(super) async fn settle_object(&self, at: &ReleaseRef) -> Result<()> {
        let first = self.drive(at).await;
        if self.is_live() {
            // Whoever asked is told of one attempt; the loop tries again, and backs off.
            if matches!(&first, Err(fault) if fault.transient) {
                self.enqueue(at);
            }
        } else {
            while let Some(next) = self.queue.try_next() {
                let done = self.drive(&next).await;
                self.queue.done(&next, true);
                if let Err(fault) = done {
                    tracing::debug!(object = %next, error = %fault, "left as it is");
                }
            }
        }
        first.map(drop)
    }

    /// Looks at an object until it is at rest.
    pub(super) async fn drive(&self, at: &ReleaseRef) -> Result<Next> {
        loop {
            match self.look(at, false).await? {
                rest @ (Next::Rest | Next::Later(_)) => {
                    // It is due again although nobody of the loop looked at it.
                    if let Next::Later(pause) = rest
                        && self.is_live()
                    {
                        self.queue.add_after(at.clone(), pause);
                    }
                    return Ok(rest);
                }
                Next::Soon(pause) => tokio::time::sleep(pause).await,
            }
        }
    }

    /// Looks at an object until it is at rest or the time is over.
    pub(super) async fn drive_until(
        &self,
        at: &ReleaseRef,
        until: tokio::time::Instant,
    ) -> Result<()> {
        match tokio::time::timeout_at(until, self.drive(at)).await {
            Ok(done) => done.map(drop),
            Err(_) => Ok(()),
        }
    }

    /// Whether the loop of this process works on the queue.
    pub(super) fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }
}
