//! `apply`: documents become desired state, desired state becomes host state.
//!
//! A new object that cannot be brought up is taken back, and a change that
//! cannot is undone, so that a wrong request leaves host and store as they were.

mod cell;
mod going;
mod kept;
mod scope;
pub(super) mod undo;

use std::time::Duration;

use futures::StreamExt;

pub(super) use self::going::refuse_deleted;
use super::Controller;
use super::errors::{cancelled, not_found};
use super::execute::{Target, Watch};
use super::plan::plan_cell;
use super::reconcile::{LOCK_WAIT, Outcome, plan_scope};
use super::step::{Plan, Step};
use super::stream::{Emitter, failure_for, result_for};
use crate::api::v1::{self, object};
use crate::api::{Code, Error, Result};
use crate::apply::{self, Action, Change};
use crate::model::{
    AnyObject, Cell, CellContainer, CellState, CellStatus, KeptKind, Meta, Name, ObjectRef,
    ObservedCell, ObservedScope, Realm, RestartPolicy, RunState, Space, Stack, Volume, label,
};
use crate::scheme::{self, Secrets};
use crate::store::LockMode;

/// How long a started container is watched, so that one that ends at once is
/// told as a failure and not as a success.
const START_WATCH: Duration = Duration::from_millis(300);

/// Cells that are applied side by side.
const WIDTH: usize = 6;

/// What applying one object came to.
struct Applied {
    action: &'static str,
    changes: Vec<String>,
    steps: Vec<String>,
}

impl Applied {
    fn new(action: &'static str, changes: Vec<String>, steps: Vec<String>) -> Self {
        Self {
            action,
            changes,
            steps,
        }
    }
}

/// The files of a request as they are read.
pub(super) fn sources(files: &[v1::ManifestFile]) -> Vec<apply::Source<'_>> {
    files
        .iter()
        .map(|file| (file.source.as_str(), file.text.as_slice()))
        .collect()
}

/// A scope that was made on the way, with its steps.
type Made = (ObjectRef, Vec<String>);

/// What the objects before came to.
#[derive(Default)]
struct SoFar {
    failed: Vec<ObjectRef>,
    /// Would have been made, in a dry run.
    planned: Vec<ObjectRef>,
}

/// What a result says of its object beside its place.
struct Told {
    index: u32,
    at: ObjectRef,
    /// Name of a container that is applied on its own.
    container: Option<String>,
}

impl Told {
    fn of(index: u32, object: &AnyObject) -> Self {
        let alone = matches!(object, AnyObject::Container(_));
        Self {
            index,
            at: object.at(),
            container: alone.then(|| object.name().to_string()),
        }
    }

    fn with(&self, result: v1::ResourceResult) -> v1::ResourceResult {
        let mut result = v1::ResourceResult {
            index: self.index,
            ..result
        };
        if let Some(name) = &self.container {
            "Container".clone_into(&mut result.kind);
            if let Some(scope) = &mut result.scope {
                scope.cell = std::mem::replace(&mut result.name, name.clone());
            }
        }
        result
    }
}

/// How one request is applied.
#[derive(Debug, Clone, Copy)]
struct Mode {
    dry_run: bool,
    create_only: bool,
    /// The generation in which an object must be.
    expected: Option<i64>,
    /// Watch started containers for [`START_WATCH`].
    watch_start: bool,
}

impl Controller {
    /// Reads and checks a whole request; nothing is applied when a part is wrong.
    pub(super) fn decode(request: &v1::ApplyRequest) -> Result<Vec<(u32, AnyObject)>> {
        apply::read(&sources(&request.files))
    }

    /// Applies in dependency order; cells several at once, since most of their
    /// time goes into watching them start. A failed object does not keep the
    /// others from being applied, but what lives in it is not tried.
    pub(super) async fn apply_all(
        &self,
        documents: Vec<(u32, AnyObject)>,
        request: &v1::ApplyRequest,
        emit: &Emitter,
    ) -> Result<()> {
        let mode = Mode {
            dry_run: request.dry_run,
            create_only: request.create_only,
            expected: request.expected_generation,
            watch_start: !request.detach,
        };
        let mut so_far = SoFar::default();
        let mut rest = apply::order(documents).into_iter().peekable();
        while let Some(first) = rest.next() {
            let is_cell = |o: &(u32, AnyObject)| matches!(o.1, AnyObject::Cell(_));
            let mut group = vec![first];
            while is_cell(&group[0])
                && let Some(next) = rest.next_if(is_cell)
            {
                group.push(next);
            }
            self.apply_group(group, mode, &mut so_far, emit).await?;
        }
        Ok(())
    }

    /// Applies objects that don't depend on each other, and tells them in order.
    async fn apply_group(
        &self,
        group: Vec<(u32, AnyObject)>,
        mode: Mode,
        so_far: &mut SoFar,
        emit: &Emitter,
    ) -> Result<()> {
        let mut made = Vec::new();
        let mut prepared = Vec::new();
        for (index, object) in group {
            let ready = self.prepare(&object, mode, so_far, &mut made, emit).await;
            prepared.push((index, object, ready));
        }
        let planned = so_far.planned.clone();
        let mut results = futures::stream::iter(prepared)
            .map(|(index, object, ready)| {
                let planned = &planned;
                async move {
                    let told = Told::of(index, &object);
                    let done = match ready {
                        Ok(()) => self.apply_one(object, mode, planned, emit).await,
                        Err(error) => Err(error),
                    };
                    (told, done)
                }
            })
            .buffered(WIDTH);
        let mut cancelled = None;
        while let Some((told, done)) = results.next().await {
            match done {
                // The others are seen to their end, which comes soon.
                Err(error) if error.code == Code::Cancelled => {
                    cancelled.get_or_insert(error);
                }
                _ if cancelled.is_some() => {}
                Ok(done) => {
                    self.tell_parents(&told.at, &mut made, emit)?;
                    if mode.dry_run && done.action == "created" {
                        so_far.planned.push(told.at.clone());
                    }
                    emit.result(told.with(v1::ResourceResult {
                        changes: done.changes,
                        steps: done.steps,
                        object: self.external(&told.at).ok().flatten(),
                        ..result_for(&told.at, done.action)
                    }));
                }
                Err(error) => {
                    so_far.failed.push(told.at.clone());
                    emit.result(told.with(failure_for(&told.at, &error)));
                }
            }
        }
        // A wrong request leaves nothing behind, its parents included.
        for parent in made.iter().rev() {
            self.take_parent_back(parent).await;
        }
        cancelled.map_or(Ok(()), Err)
    }

    /// What has to be so before an object is applied; makes its parents.
    async fn prepare(
        &self,
        object: &AnyObject,
        mode: Mode,
        so_far: &mut SoFar,
        made: &mut Vec<Made>,
        emit: &Emitter,
    ) -> Result<()> {
        let at = object.at();
        if emit.watch.cancel.is_cancelled() {
            return Err(cancelled(&at));
        }
        if let Some(above) = so_far.failed.iter().find(|f| is_above(f, &at)) {
            return Err(Error::new(
                Code::Conflict,
                "ParentFailed",
                format!("{at} was not applied because {above} failed"),
            ));
        }
        crate::store::check_name(&at)?;
        // In-process without containerd nothing can be done: say so before
        // anything is written.
        self.require_containerd().await?;
        if !mode.dry_run {
            self.finish_deletion(object, emit).await?;
        }
        match object {
            AnyObject::Container(_) => Ok(()),
            _ => {
                self.create_parents(&at, mode, &mut so_far.planned, made, emit)
                    .await
            }
        }
    }

    async fn apply_one(
        &self,
        object: AnyObject,
        mode: Mode,
        planned: &[ObjectRef],
        emit: &Emitter,
    ) -> Result<Applied> {
        if emit.watch.cancel.is_cancelled() {
            return Err(cancelled(&object.at()));
        }
        match object {
            AnyObject::Cell(cell) => self.apply_cell(cell, mode, planned, emit).await,
            AnyObject::Container(container) => {
                self.apply_container(*container, mode, planned, emit).await
            }
            AnyObject::Volume(ref volume) => {
                let at = volume.at.clone();
                self.apply_kept(object, &at, mode).await
            }
            AnyObject::Secret(ref secret) => {
                let at = secret.at.clone();
                self.apply_kept(object, &at, mode).await
            }
            scope => self.apply_scope(scope, mode, planned, &emit.watch).await,
        }
    }

    /// Tells the scopes that were made on the way to an object, each once.
    fn tell_parents(&self, at: &ObjectRef, made: &mut Vec<Made>, emit: &Emitter) -> Result<()> {
        for (parent, steps) in made.extract_if(.., |(parent, _)| is_above(parent, at)) {
            emit.result(v1::ResourceResult {
                steps,
                object: self.external(&parent)?,
                ..result_for(&parent, "created")
            });
        }
        Ok(())
    }

    /// Makes the missing scopes above an object.
    async fn create_parents(
        &self,
        at: &ObjectRef,
        mode: Mode,
        planned: &mut Vec<ObjectRef>,
        made: &mut Vec<Made>,
        emit: &Emitter,
    ) -> Result<()> {
        let mut missing = Vec::new();
        let mut parent = match at.parent() {
            // A cell's secrets may come before it.
            Some(cell @ ObjectRef::Cell(_)) => cell.parent(),
            parent => parent,
        };
        while let Some(at) = parent {
            if (self.store.exists(&at)? && !self.goes(&at)?) || planned.contains(&at) {
                break;
            }
            parent = at.parent();
            missing.push(at);
        }
        for at in missing.into_iter().rev() {
            let mode = Mode {
                create_only: false,
                expected: None,
                ..mode
            };
            let scope = empty_scope(&at);
            let done = self.apply_scope(scope, mode, planned, &emit.watch).await?;
            if mode.dry_run {
                planned.push(at.clone());
            }
            // Somebody else may have made it meanwhile; then it is theirs.
            if done.action == "created" {
                made.push((at, done.steps));
            }
        }
        Ok(())
    }

    /// Takes a scope back that was made for an object which then failed, unless
    /// somebody uses it by now.
    async fn take_parent_back(&self, (at, _): &Made) {
        let removed = async {
            let _lock = self.store.lock(at, LockMode::Exclusive, LOCK_WAIT).await?;
            let Some(mut object) = self.stored(at)? else {
                return Ok(Outcome::default());
            };
            if !self.store.children(at)?.is_empty() || !self.all_kept(at)?.is_empty() {
                return Ok(Outcome::default());
            }
            meta_mut(&mut object).deletion = Some(jiff::Timestamp::now());
            self.put(&object)?;
            self.reconcile_scope(at, &Watch::default()).await
        };
        self.take_back(removed.await, at);
    }

    fn enqueue_again(&self, at: &ObjectRef, outcome: &Outcome) {
        if let Some(due) = outcome.again {
            self.enqueue_at(at.clone(), due);
        }
    }

    /// The result of taking a failed creation back; should that fail too, the
    /// deletion stays recorded and the loop goes on with it.
    fn take_back(&self, removed: Result<Outcome>, at: &ObjectRef) {
        if let Err(error) = removed {
            tracing::warn!(object = %at, %error, "a failed creation could not be taken back yet");
            self.queue.add(at.clone());
        }
    }

    fn known(&self, at: &ObjectRef) -> bool {
        self.store.exists(at).unwrap_or(false)
    }

    /// An object from the store.
    pub(super) fn stored(&self, at: &ObjectRef) -> Result<Option<AnyObject>> {
        Ok(match at {
            ObjectRef::Realm(at) => self.store.realm(at)?.map(AnyObject::Realm),
            ObjectRef::Space(at) => self.store.space(at)?.map(AnyObject::Space),
            ObjectRef::Stack(at) => self.store.stack(at)?.map(AnyObject::Stack),
            ObjectRef::Cell(at) => self.store.cell(at)?.map(AnyObject::Cell),
            ObjectRef::Kept(at) => match at.kind {
                KeptKind::Secret => self.store.secret(at)?.map(AnyObject::Secret),
                KeptKind::Volume => self.store.volume(at)?.map(|volume| {
                    let path = self.store.data_path(at).display().to_string();
                    AnyObject::Volume(Volume { path, ..volume })
                }),
            },
        })
    }

    /// Saves an object.
    pub(super) fn put(&self, object: &AnyObject) -> Result<()> {
        match object {
            AnyObject::Realm(o) => self.store.put_realm(o)?,
            AnyObject::Space(o) => self.store.put_space(o)?,
            AnyObject::Stack(o) => self.store.put_stack(o)?,
            AnyObject::Cell(o) => self.store.put_cell(o)?,
            AnyObject::Volume(o) => self.store.put_volume(o)?,
            AnyObject::Secret(o) => self.store.put_secret(o)?,
            // Part of its cell.
            AnyObject::Container(_) => {}
        }
        Ok(())
    }

    /// An object of the store in its external form, without secrets.
    pub(super) fn external(&self, at: &ObjectRef) -> Result<Option<v1::Object>> {
        Ok(self.stored(at)?.as_ref().and_then(to_external))
    }
}

/// The external form of an object, without secrets; none for a lone container.
pub(super) fn to_external(object: &AnyObject) -> Option<v1::Object> {
    let object = match object {
        AnyObject::Realm(o) => object::Object::Realm(scheme::realm_to_external(o, Secrets::Hide)),
        AnyObject::Space(o) => object::Object::Space(scheme::space_to_external(o)),
        AnyObject::Stack(o) => object::Object::Stack(scheme::stack_to_external(o)),
        AnyObject::Cell(o) => object::Object::Cell(scheme::cell_to_external(o)),
        AnyObject::Volume(o) => object::Object::Volume(scheme::volume_to_external(o)),
        AnyObject::Secret(o) => {
            object::Object::Secret(scheme::secret_to_external(o, Secrets::Hide))
        }
        AnyObject::Container(_) => return None,
    };
    Some(v1::Object {
        object: Some(object),
    })
}

/// Also itself.
fn is_above(above: &ObjectRef, at: &ObjectRef) -> bool {
    above == at || above.is_above(at)
}

fn texts(changes: &[Change]) -> Vec<String> {
    changes.iter().map(|c| c.text.clone()).collect()
}

fn exists(at: &ObjectRef) -> Error {
    Error::new(
        Code::Conflict,
        format!("{}Exists", at.kind()),
        format!("{at} already exists"),
    )
    .hint("choose another name, or change it with `kuke apply`")
}

fn refuse_immutable(at: &ObjectRef, changes: &[Change]) -> Result<()> {
    let fixed: Vec<&str> = changes
        .iter()
        .filter(|c| c.action == Action::Immutable)
        .map(|c| c.text.as_str())
        .collect();
    if fixed.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Code::Conflict,
        "ImmutableField",
        format!(
            "{at}: cannot be changed after creation: {}",
            fixed.join("; ")
        ),
    )
    .hint("delete the object and apply it again"))
}

fn empty_scope(at: &ObjectRef) -> AnyObject {
    match at {
        // Of a scope that nothing lives in.
        ObjectRef::Kept(at) => empty_scope(&at.scope),
        ObjectRef::Realm(at) => AnyObject::Realm(Realm {
            at: at.clone(),
            meta: Meta::default(),
            spec: Default::default(),
            status: Default::default(),
        }),
        ObjectRef::Space(at) => AnyObject::Space(Space {
            at: at.clone(),
            meta: Meta::default(),
            spec: Default::default(),
            status: Default::default(),
        }),
        ObjectRef::Stack(at) => AnyObject::Stack(Stack {
            at: at.clone(),
            meta: Meta::default(),
            status: Default::default(),
        }),
        ObjectRef::Cell(at) => AnyObject::Cell(Cell {
            at: at.clone(),
            meta: Meta::default(),
            spec: Default::default(),
            status: Default::default(),
        }),
    }
}

pub(super) fn meta_mut(object: &mut AnyObject) -> &mut Meta {
    match object {
        AnyObject::Realm(o) => &mut o.meta,
        AnyObject::Space(o) => &mut o.meta,
        AnyObject::Stack(o) => &mut o.meta,
        AnyObject::Cell(o) => &mut o.meta,
        AnyObject::Container(o) => &mut o.meta,
        AnyObject::Volume(o) => &mut o.meta,
        AnyObject::Secret(o) => &mut o.meta,
    }
}

fn stamp_new(meta: &mut Meta) {
    meta.generation = 1;
    meta.uid = uuid::Uuid::new_v4().to_string();
    meta.created_at = Some(jiff::Timestamp::now());
    meta.deletion = None;
}
