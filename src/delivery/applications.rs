//! Applications of Servings at rest: whoever edits or deletes one, or makes its
//! workload ill, has the Serving looked at (delivery spec, 7.2).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Delivery;
use super::serving::reason_of;
use super::target::Activation;
use super::work::Next;
use crate::model::delivery::{ReleaseRef, Serving, ServingPhase, TargetType};

/// How long one question to a cluster is open.
const LIMIT: Duration = Duration::from_secs(120);
/// Time between two looks at a Serving whose Application changes all the time.
const PAUSE: Duration = Duration::from_secs(1);
/// The same where the cluster cannot be watched.
const AGAIN: Duration = Duration::from_secs(30);
/// A question that ends sooner, without a change, was not kept open.
const SHORT: Duration = Duration::from_secs(10);
/// Most Applications that are watched; each has a connection. Further Servings
/// are looked at every [`AGAIN`].
const MOST: usize = 256;

/// Who is watched. An entry goes with the end of its task, or before.
#[derive(Default)]
pub(super) struct Watched(Mutex<BTreeMap<ReleaseRef, Watch>>);

struct Watch {
    /// Cluster, namespace and name of the Application.
    place: (String, String, Option<String>),
    stop: CancellationToken,
}

impl Watched {
    fn locked(&self) -> MutexGuard<'_, BTreeMap<ReleaseRef, Watch>> {
        // A panic cannot leave the map half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, at: &ReleaseRef) {
        if let Some(watch) = self.locked().remove(at) {
            watch.stop.cancel();
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.locked().len()
    }

    /// Ends all of them.
    pub(super) fn end_all(&self) {
        for watch in std::mem::take(&mut *self.locked()).into_values() {
            watch.stop.cancel();
        }
    }
}

impl Delivery {
    /// Watches the Application of a Serving that has come to rest; nothing where
    /// that goes on already, or where there is nothing to watch.
    pub(super) fn watch_application(&self, at: &ReleaseRef, activation: &Activation) -> Next {
        if activation.target.kind != TargetType::ArgoCd || !self.is_worth_watching(at) {
            self.watched.end(at);
            return Next::Rest;
        }
        let target = &activation.target.argocd;
        let place = (
            target.cluster.clone(),
            target.namespace.clone(),
            target.application_name.clone(),
        );
        let mut watched = self.watched.locked();
        // Without the loop nobody would look, and nobody end it.
        let Some(me) = self.me.upgrade().filter(|me| me.is_live()) else {
            return Next::Rest;
        };
        match watched.get(at) {
            Some(watch) if watch.place == place => return Next::Rest,
            Some(other) => other.stop.cancel(),
            None if watched.len() >= MOST => return Next::Rest.or_after(AGAIN),
            None => {}
        }
        let stop = self.ending.child_token();
        let watch = Watch {
            place,
            stop: stop.clone(),
        };
        watched.insert(at.clone(), watch);
        let (at, activation) = (at.clone(), told_of(activation));
        self.tasks.spawn(async move {
            let watching = me.keep_watching(&at, &activation, &stop);
            stop.run_until_cancelled(watching).await;
        });
        Next::Rest
    }

    /// Has a Serving looked at whenever its Application is another one.
    async fn keep_watching(
        &self,
        at: &ReleaseRef,
        activation: &Activation,
        stop: &CancellationToken,
    ) {
        let mut seen: Option<String> = None;
        loop {
            let begun = Instant::now();
            let asked = self.targets.application(activation, seen.as_deref(), LIMIT);
            let (changed, pause) = match asked.await {
                // Something in between lets no question be open.
                Ok(now) if seen.as_ref() == Some(&now) && begun.elapsed() < SHORT => (false, AGAIN),
                Ok(now) if seen.as_ref() == Some(&now) => (false, PAUSE),
                Ok(now) => {
                    // The first as well: it may have changed since the last look.
                    seen = Some(now);
                    (true, PAUSE)
                }
                // The look says what is the matter, and may end this.
                Err(error) => {
                    tracing::debug!(object = %at, %error, "the Application cannot be watched");
                    (true, AGAIN)
                }
            };
            {
                let mut watched = self.watched.locked();
                if stop.is_cancelled() {
                    return;
                }
                if !self.is_worth_watching(at) {
                    watched.remove(at);
                    return;
                }
            }
            if changed {
                self.enqueue(at);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether a change of the Application may matter to a Serving: it is at rest,
    /// and not for a reason that has its own pace.
    fn is_worth_watching(&self, at: &ReleaseRef) -> bool {
        let serving = match self.read::<Serving>(at) {
            Ok(Some(serving)) => serving,
            Ok(None) => return false,
            // Nobody knows; the look tells.
            Err(_) => return true,
        };
        let rests = match serving.status.phase {
            ServingPhase::Deployed => true,
            ServingPhase::Failed => matches!(
                reason_of(&serving),
                "Unhealthy" | "HealthTimeout" | "OptInRequired"
            ),
            ServingPhase::Pending | ServingPhase::Deploying => false,
        };
        rests
            && serving.status.observed_generation == serving.meta.generation
            && serving.status.lock.is_none()
            && serving.meta.deletion.is_none()
    }
}

/// An activation without what is not needed to find its Application.
fn told_of(activation: &Activation) -> Activation {
    Activation {
        manifest: Vec::new(),
        inventory: Vec::new(),
        ..activation.clone()
    }
}
