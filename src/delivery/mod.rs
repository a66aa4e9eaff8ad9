//! Releases: intent (Recipe), artifact (Preparation), activation (Serving) and
//! the atomic rollout of several (Menu), on top of the runtime.
//!
//! [`Delivery`] is a `Kukeon` around another one: documents and requests of
//! release kinds are its own, everything else goes through. It touches the host
//! only through the inner one.

mod applications;
mod apply;
pub mod artifact;
mod artifacts;
mod browse;
pub mod canonical;
mod changes;
mod delete;
mod drift;
mod effective;
mod external;
pub mod failure;
mod fault;
mod find;
mod kukeon;
mod mark;
pub mod menu;
mod pantry;
pub mod patch;
mod polls;
mod prepared;
mod preview;
mod processing;
mod promote;
mod provenance;
mod recipe;
mod rehearse;
pub mod render;
mod requests;
mod serving;
mod setback;
mod signed;
pub mod source;
mod stream;
pub mod target;
#[cfg(test)]
mod tests;
mod unified;
mod verify;
mod wait;
mod watch;
mod withdraw;
mod work;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Weak};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use failure::{Failure, Reason};

use crate::api::{Code, Error, Result};
use crate::client::{Kukeon, actor};
use crate::controller::Queue;
use crate::model::delivery::{AnyRelease, Pantry, ReleaseKind, ReleaseMeta, ReleaseRef};
use crate::model::{Labels, Name};
use crate::store::{self, ReleaseChange, Store};
use crate::sys::failpoint::Failpoint;
use applications::Watched;
use artifacts::{Artifacts, Kept};
use polls::Asked;
use provenance::Marked;
use serving::Waiting;
use target::Targets;

/// Hit between what is persisted and what is done to a target.
static STEP: Failpoint = Failpoint::new("KUKEON_FAILPOINT_DELIVERY");

/// How often a change is tried again that somebody else came before.
const RACES: usize = 16;

/// The whole capability, releases included.
pub struct Delivery {
    me: Weak<Delivery>,
    inner: Arc<dyn Kukeon>,
    store: Store,
    artifacts: Artifacts,
    /// Manifests from other registries, while they are looked at.
    kept: Kept,
    targets: Targets,
    queue: Queue<ReleaseRef>,
    /// The loop runs.
    live: AtomicBool,
    /// Activations that wait to become healthy.
    gates: Mutex<BTreeMap<ReleaseRef, Waiting>>,
    /// Applications whose Servings are at rest.
    watched: Watched,
    /// When sources were last asked.
    asked: Asked,
    /// Records and tags that are known to be there.
    marked: Marked,
    /// Work that goes on after its caller left.
    tasks: TaskTracker,
    /// Runs of Menus are let go: whoever comes next goes on with them.
    ending: CancellationToken,
}

impl Delivery {
    /// Puts releases around a capability. Their objects are kept below the run
    /// path; a transaction that was cut short is finished. The registry's content
    /// has at most `quota` bytes, those of Preparations included.
    ///
    /// # Errors
    /// A run path that cannot be used.
    pub fn open(inner: Arc<dyn Kukeon>, run_path: &Path, quota: Option<u64>) -> Result<Arc<Self>> {
        let store = Store::open(run_path)?;
        match store.recover_releases() {
            // A file system that is mounted read-only can still be read.
            Err(store::Error::ReadOnly { .. }) => {}
            other => other?,
        }
        let targets = Targets::open(inner.clone(), run_path)?;
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            targets,
            inner,
            store,
            artifacts: Artifacts::new(run_path, quota),
            kept: Kept::default(),
            queue: work::queue(),
            live: AtomicBool::new(false),
            gates: Mutex::default(),
            watched: Watched::default(),
            asked: Asked::default(),
            marked: Marked::default(),
            tasks: TaskTracker::new(),
            ending: CancellationToken::new(),
        }))
    }

    /// An object, or the error that it is not there.
    fn get(&self, at: &ReleaseRef) -> Result<AnyRelease> {
        self.store.release(at)?.ok_or_else(|| not_found(at))
    }

    /// An object of a known kind; none when it is not there.
    fn read<T: TryFrom<AnyRelease>>(&self, at: &ReleaseRef) -> Result<Option<T>> {
        let found = self.store.release(at)?;
        // The kind is part of the reference, so the conversion cannot fail.
        Ok(found.and_then(|object| T::try_from(object).ok()))
    }

    /// A Pantry that a Recipe refers to.
    fn pantry(&self, namespace: &Name, name: &Name) -> fault::Result<Pantry> {
        let at = ReleaseRef::new(ReleaseKind::Pantry, namespace, name);
        self.read(&at)?.ok_or_else(|| {
            fault::Fault::new("SourceNotFound", format!("{at} not found")).hint("apply the Pantry")
        })
    }

    /// Objects of a known kind.
    fn list<T: TryFrom<AnyRelease>>(
        &self,
        kind: ReleaseKind,
        namespace: Option<&Name>,
    ) -> Result<Vec<T>> {
        let found = self.store.releases(kind, namespace)?;
        Ok(found
            .into_iter()
            .filter_map(|object| T::try_from(object).ok())
            .collect())
    }

    /// The same, for whatever they forbid: one that cannot be read is an error,
    /// for nobody knows what it forbids.
    fn list_whole<T: TryFrom<AnyRelease>>(
        &self,
        kind: ReleaseKind,
        namespace: Option<&Name>,
    ) -> Result<Vec<T>> {
        let (found, damaged) = self.store.releases_and_damaged(kind, namespace)?;
        match damaged.into_iter().next() {
            Some((_, error)) => Err(error.into()),
            None => Ok(found
                .into_iter()
                .filter_map(|object| T::try_from(object).ok())
                .collect()),
        }
    }

    /// Reads, changes and saves until nobody came between. `change` gives what
    /// is to be saved together, and an answer.
    fn transact<T>(
        &self,
        mut change: impl FnMut() -> Result<(Vec<ReleaseChange>, T)>,
    ) -> Result<T> {
        let mut tries = 0;
        loop {
            let (changes, answer) = change()?;
            match self.store.commit(changes) {
                Ok(_) => return Ok(answer),
                Err(store::Error::Stale { .. }) if tries < RACES => tries += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Namespace of a request; empty is `default`.
fn namespace(text: &str) -> Result<Name> {
    Ok(match text {
        "" => "default".parse()?,
        text => text.parse()?,
    })
}

/// `RecipeNotFound` and its like.
fn not_found(at: &ReleaseRef) -> Error {
    Error::new(
        Code::NotFound,
        format!("{}NotFound", at.kind),
        format!("{at} not found"),
    )
}

/// What a new object is given.
fn stamp_new(meta: &mut ReleaseMeta) {
    meta.generation = 1;
    meta.uid = uuid::Uuid::new_v4().to_string();
    meta.created_at = Some(jiff::Timestamp::now());
}

/// Labels whose keys are not delivery's own.
fn foreign(labels: &Labels) -> impl Iterator<Item = (&String, &String)> {
    let prefix = crate::model::delivery::keys::PREFIX;
    labels
        .iter()
        .filter(move |(key, _)| !key.starts_with(prefix))
}
