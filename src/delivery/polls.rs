//! When a source is asked again (delivery spec, section 2, step 2).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::model::delivery::{ConditionType, Recipe, ReleaseRef, keys};

/// When the sources of Recipes were last asked. Kept in memory: an answer that
/// changes nothing is not written down.
#[derive(Default)]
pub(super) struct Asked(Mutex<BTreeMap<ReleaseRef, Instant>>);

impl Asked {
    fn locked(&self) -> MutexGuard<'_, BTreeMap<ReleaseRef, Instant>> {
        // A panic cannot leave the map half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn age(&self, at: &ReleaseRef) -> Option<Duration> {
        self.locked().get(at).map(Instant::elapsed)
    }

    pub(super) fn note(&self, at: &ReleaseRef) {
        self.locked().insert(at.clone(), Instant::now());
    }

    pub(super) fn forget(&self, at: &ReleaseRef) {
        self.locked().remove(at);
    }
}

/// Whether the source has to be asked: the spec changed, a refresh is wished,
/// the poll interval is over, or the last attempt did not come through.
pub(super) fn must_ask(recipe: &Recipe, poll: Duration, age: Option<Duration>) -> bool {
    let status = &recipe.status;
    // What this process did not ask was asked at the latest when it changed.
    let age = age.or_else(|| {
        let since = Timestamp::now().duration_since(status.resolved_at?);
        Some(Duration::try_from(since).unwrap_or_default())
    });
    let polled = age.is_none_or(|age| !poll.is_zero() && age >= poll);
    status.observed_generation != recipe.meta.generation
        || recipe.meta.annotations.contains_key(keys::REFRESH)
        || status.resolved_source_digest.is_none()
        || !status.conditions.is_true(ConditionType::Ready)
        || polled
}
