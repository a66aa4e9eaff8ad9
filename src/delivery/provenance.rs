//! Marks beside artifacts: record and tag of every revision, the tag of what is
//! active. Told to others and needed by nobody here, so a failure is not one of
//! the object; what is missing then is made up for at a later look.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Delivery;
use super::artifact::Record;
use super::fault::{Fault, Result};
use crate::model::Name;
use crate::model::delivery::{Artifact, Preparation, Recipe, ReleaseKind, ReleaseRef, Revision};

/// What this process knows to be there, so that it is looked for once.
#[derive(Default)]
pub(super) struct Marked(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// By Recipe: its uid, and up to which revision nothing is missing.
    revisions: BTreeMap<ReleaseRef, (String, i64)>,
    /// By Serving: digest of what has the tag.
    active: BTreeMap<ReleaseRef, String>,
}

impl Marked {
    fn locked(&self) -> MutexGuard<'_, Known> {
        // A panic cannot leave the maps half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget(&self, at: &ReleaseRef) {
        let mut known = self.locked();
        known.revisions.remove(at);
        known.active.remove(at);
    }
}

/// Tags of the repositories that were asked during one look. One that did not
/// answer is not asked again.
type Asked = BTreeMap<String, Result<BTreeSet<i64>>>;

impl Delivery {
    /// Stores records and tags of revisions that have none. `fresh` is the record
    /// of one that was just made, which says more than can be told later.
    pub(super) async fn mark_revisions(&self, at: &ReleaseRef, fresh: Option<Record>) {
        let recipe = match self.read::<Recipe>(at) {
            Ok(Some(recipe)) => recipe,
            Ok(None) => return self.marked.forget(at),
            Err(_) => return,
        };
        let known = self.marked.locked().revisions.get(at).cloned();
        let known = known.filter(|(uid, _)| *uid == recipe.meta.uid);
        let known = known.map_or(0, |(_, done)| done);
        let mut done = known;
        let all = &recipe.status.revisions;
        let (mut asked, mut lost) = (Asked::new(), None);
        for (i, entry) in all.iter().enumerate().filter(|(_, e)| e.number > known) {
            let before = i.checked_sub(1).and_then(|i| all.get(i));
            let fresh = fresh.as_ref().filter(|f| f.revision == entry.number);
            let marked = self.mark(&recipe, entry, before, fresh, &mut asked).await;
            match marked {
                Ok(()) if lost.is_none() => done = entry.number,
                Ok(()) => {}
                Err(error) => {
                    lost.get_or_insert((entry.number, error));
                }
            }
        }
        // Once: a registry that is away has no record of any of them.
        if let Some((revision, error)) = lost {
            tracing::warn!(object = %at, revision, %error, "its record was not stored");
        }
        let entry = (recipe.meta.uid, done);
        self.marked.locked().revisions.insert(at.clone(), entry);
    }

    async fn mark(
        &self,
        recipe: &Recipe,
        entry: &Revision,
        before: Option<&Revision>,
        fresh: Option<&Record>,
        asked: &mut Asked,
    ) -> Result<()> {
        let namespace = &recipe.meta.namespace;
        let Some(preparation) = self.made(namespace, &entry.preparation)? else {
            // It was deleted: nobody can fetch it.
            return Ok(());
        };
        let artifact = &preparation.spec.artifact;
        let place = self.place_of(namespace, artifact)?;
        let shown = place.at.to_string();
        if !asked.contains_key(&shown) {
            let found = self.artifacts.revisions(&place).await;
            asked.insert(shown.clone(), found);
        }
        match asked.get(&shown) {
            Some(Ok(tagged)) if tagged.contains(&entry.number) => return Ok(()),
            Some(Err(fault)) => return Err(fault.clone()),
            _ => {}
        }
        let record = match fresh {
            Some(fresh) => fresh.clone(),
            None => {
                let parent = match before {
                    Some(before) => self.made(namespace, &before.preparation)?,
                    None => None,
                };
                Record {
                    recipe: format!("{namespace}/{}", recipe.meta.name),
                    revision: entry.number,
                    message: entry.message.clone(),
                    parent: parent.map(|p| p.spec.artifact.digest),
                    base_name: preparation.spec.source.reference.clone(),
                    actor: entry.actor.clone(),
                    time: entry.time.map(|t| t.to_string()).unwrap_or_default(),
                    // Known only while it is rendered.
                    files: Vec::new(),
                }
            }
        };
        super::STEP.hit();
        self.artifacts.record(&place, artifact, &record).await?;
        super::STEP.hit();
        Ok(())
    }

    fn made(&self, namespace: &Name, name: &Name) -> Result<Option<Preparation>> {
        let at = ReleaseRef::new(ReleaseKind::Preparation, namespace, name);
        Ok(self.read(&at)?)
    }

    /// The highest revision that is tagged where an artifact is: of a Recipe of
    /// this name that was deleted, for example. Numbers go on after it.
    pub(super) async fn last_tagged(&self, at: &ReleaseRef, artifact: &Artifact) -> i64 {
        let found = async {
            let place = self.place_of(&at.namespace, artifact)?;
            self.artifacts.revisions(&place).await
        };
        let found: Result<_, Fault> = found.await;
        match found {
            Ok(tagged) => tagged.last().copied().unwrap_or(0),
            Err(error) => {
                tracing::warn!(object = %at, %error, "earlier revisions are not known");
                0
            }
        }
    }

    /// Moves the tag of what is active to what a Serving has deployed.
    pub(super) async fn mark_active(&self, at: &ReleaseRef, artifact: &Artifact) {
        // Until it is moved nobody knows where it is.
        let known = self.marked.locked().active.remove(at);
        let moved = async {
            if known.as_ref() != Some(&artifact.digest) {
                let place = self.place_of(&at.namespace, artifact)?;
                self.artifacts.activate(&place, artifact).await?;
            }
            Ok::<_, Fault>(())
        };
        match moved.await {
            Ok(()) => {
                let digest = artifact.digest.clone();
                self.marked.locked().active.insert(at.clone(), digest);
            }
            Err(error) => {
                tracing::warn!(object = %at, %error, "the tag of what is active was not moved");
            }
        }
    }
}
