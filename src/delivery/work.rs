//! The loop: every object is looked at when something changed, when it is due,
//! and every ten minutes anyway.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

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

/// Gives every key of the queue to a task of its own until `stop`: so many work
/// side by side, but for Menus, whose runs wait for others to get on. After
/// `stop` nothing begins, and runs of Menus are let go: they are found again.
async fn hand_out<F>(
    queue: &Queue<ReleaseRef>,
    tracker: &TaskTracker,
    stop: &CancellationToken,
    look: impl Fn(ReleaseRef) -> F,
) where
    F: Future<Output = bool> + Send + 'static,
{
    let turns = Arc::new(Semaphore::new(WORKERS));
    loop {
        let at = tokio::select! {
            () = stop.cancelled() => return,
            at = queue.next() => at,
        };
        let work = look(at.clone());
        let turns = (at.kind != ReleaseKind::Menu).then(|| turns.clone());
        let held = Held {
            queue: queue.clone(),
            at,
            ok: false,
        };
        let stop = stop.clone();
        tracker.spawn(async move {
            // All of it, not only what is set.
            let mut held = held;
            let Some(turns) = turns else {
                held.ok = stop.run_until_cancelled(work).await.unwrap_or(false);
                return;
            };
            let _turn = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                turn = turns.acquire_owned() => turn,
            };
            held.ok = work.await;
        });
    }
}

/// A key in work. However the work ends, it is given back.
struct Held {
    queue: Queue<ReleaseRef>,
    at: ReleaseRef,
    ok: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.queue.done(&self.at, self.ok);
    }
}

impl Delivery {
    /// Runs until `stop`. `changes` are Servings whose cells are not as they were.
    pub async fn run(
        self: Arc<Self>,
        changes: broadcast::Receiver<ReleaseRef>,
        stop: CancellationToken,
    ) {
        self.live.store(true, Ordering::Release);
        let tracker = TaskTracker::new();
        tracker.spawn(self.clone().hear(changes, stop.clone()));
        let (me, work) = (self.clone(), tracker.clone());
        let ended = stop.clone();
        tracker.spawn(async move {
            let look = |at: ReleaseRef| {
                let me = me.clone();
                async move { me.work(&at).await }
            };
            hand_out(&me.queue, &work, &ended, look).await;
        });
        loop {
            self.enqueue_all();
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(RESYNC) => {}
            }
        }
        tracker.close();
        tracker.wait().await;
        self.live.store(false, Ordering::Release);
        self.watched.end_all();
    }

    /// Has Servings looked at whose cells changed.
    async fn hear(
        self: Arc<Self>,
        mut changes: broadcast::Receiver<ReleaseRef>,
        stop: CancellationToken,
    ) {
        loop {
            let heard = tokio::select! {
                () = stop.cancelled() => return,
                heard = changes.recv() => heard,
            };
            match heard {
                Ok(at) => self.queue.add(at),
                // Some were missed, and nobody knows which.
                Err(RecvError::Lagged(_)) => self.enqueue_all(),
                Err(RecvError::Closed) => return,
            }
        }
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

    /// What a request could not finish is left to the loop as well.
    pub(super) fn or_later<T, E>(&self, at: &ReleaseRef, done: Result<T, E>) -> Result<T, E> {
        if done.is_err() && self.is_live() {
            self.enqueue(at);
        }
        done
    }

    /// One look at an object; whether it went well.
    async fn work(&self, at: &ReleaseRef) -> bool {
        match self.look_within(at, false, SHORT_TURN).await {
            Ok(next) => {
                match next {
                    Next::Rest => {}
                    Next::Later(pause) | Next::Soon(pause) => {
                        self.queue.add_after(at.clone(), pause);
                    }
                }
                true
            }
            Err(fault) => {
                tracing::warn!(object = %at, reason = fault.reason, error = %fault, "tried again later");
                false
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Notify;

    use super::*;

    fn at(kind: ReleaseKind, name: &str) -> ReleaseRef {
        let namespace = "default".parse().expect("a name");
        ReleaseRef::new(kind, &namespace, &name.parse().expect("a name"))
    }

    /// Hands out until `enough` says so.
    async fn until<F>(
        queue: &Queue<ReleaseRef>,
        look: impl Fn(ReleaseRef) -> F,
        enough: impl Future<Output = ()>,
    ) where
        F: Future<Output = bool> + Send + 'static,
    {
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let limit = tokio::time::sleep(Duration::from_secs(3600));
        tokio::select! {
            () = hand_out(queue, &tracker, &stop, look) => {}
            () = enough => {}
            () = limit => panic!("it hangs"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn runs_that_wait_hold_nobody_up() {
        let queue = queue();
        for name in ["a", "b", "c", "d", "e", "f"] {
            queue.add(at(ReleaseKind::Menu, name));
        }
        queue.add(at(ReleaseKind::Serving, "web"));
        let reached = Arc::new(Notify::new());
        let look = |at: ReleaseRef| {
            let reached = reached.clone();
            async move {
                match at.kind {
                    ReleaseKind::Menu => std::future::pending().await,
                    _ => reached.notify_one(),
                }
                true
            }
        };
        until(&queue, look, reached.notified()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_work_side_by_side() {
        let queue = queue();
        for i in 0..3 * WORKERS {
            queue.add(at(ReleaseKind::Recipe, &format!("r{i}")));
        }
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let done = Arc::new(Semaphore::new(0));
        let look = |_| {
            let (now, most, done) = (now.clone(), most.clone(), done.clone());
            async move {
                let together = now.fetch_add(1, Ordering::AcqRel) + 1;
                most.fetch_max(together, Ordering::AcqRel);
                tokio::time::sleep(Duration::from_secs(1)).await;
                now.fetch_sub(1, Ordering::AcqRel);
                done.add_permits(1);
                true
            }
        };
        let all = async { drop(done.acquire_many(3 * WORKERS as u32).await) };
        until(&queue, look, all).await;
        assert_eq!(most.load(Ordering::Acquire), WORKERS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_begins_nothing_and_lets_runs_go() {
        let queue = queue();
        queue.add(at(ReleaseKind::Menu, "lunch"));
        for i in 0..3 * WORKERS {
            queue.add(at(ReleaseKind::Recipe, &format!("r{i}")));
        }
        let (begun, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let look = |at: ReleaseRef| {
            let (begun, gate) = (begun.clone(), gate.clone());
            async move {
                begun.add_permits(1);
                match at.kind {
                    ReleaseKind::Menu => std::future::pending().await,
                    _ => drop(gate.acquire().await),
                }
                true
            }
        };
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let ended = async {
            // All that can begin has begun when nobody has anything left to do.
            tokio::time::sleep(Duration::from_secs(1)).await;
            stop.cancel();
            gate.add_permits(3 * WORKERS);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = hand_out(&queue, &tracker, &stop, look) => {}
            () = ended => {}
        }
        gate.add_permits(3 * WORKERS);
        tracker.close();
        let limit = Duration::from_secs(3600);
        let waited = tokio::time::timeout(limit, tracker.wait()).await;
        waited.expect("nothing holds the end up");
        assert_eq!(begun.available_permits(), WORKERS + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_costs_one_look() {
        let queue = queue();
        for i in 0..2 * WORKERS {
            queue.add(at(ReleaseKind::Recipe, &format!("r{i}")));
        }
        let seen = Arc::new(Mutex::new(Vec::new()));
        let again = Arc::new(Notify::new());
        let look = |at: ReleaseRef| {
            let (seen, again) = (seen.clone(), again.clone());
            async move {
                let second = {
                    let mut seen = seen.lock().expect("whole");
                    seen.push(at.clone());
                    seen.iter().filter(|name| **name == at).count() == 2
                };
                if second {
                    again.notify_one();
                    return true;
                }
                panic!("as was to be shown");
            }
        };
        until(&queue, look, again.notified()).await;
        let seen = seen.lock().expect("whole");
        assert!(seen.len() > 2 * WORKERS, "all were looked at: {seen:?}");
    }
}
