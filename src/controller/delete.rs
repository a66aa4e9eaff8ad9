//! `delete`: children first, then the object; nothing of it is left on the host.

use futures::StreamExt;

use super::Controller;
use super::apply::meta_mut;
use super::errors::{is_damage, not_found};
use super::execute::container_not_found;
use super::plan::plan_kept;
use super::reconcile::LOCK_WAIT;
use super::step::{Plan, Step};
use super::stream::{Emitter, cell_ref, failure_for, object_ref, result_for};
use crate::api::{Code, Error, Result, v1};
use crate::apply;
use crate::model::{AnyObject, CellRef, KeptKind, KeptRef, Name, ObjectRef, Reclaim};
use crate::store::LockMode;

/// Children of one scope that are deleted side by side.
const WIDTH: usize = 16;

/// What a request wants gone.
pub(super) enum DeleteTarget {
    /// An object that is reconciled on its own.
    Object(ObjectRef),
    /// One container of a cell.
    Container(CellRef, Name),
}

impl Controller {
    /// Reads a request: one named object, or the objects of a manifest in
    /// reverse order of dependency.
    pub(super) fn delete_targets(request: &v1::DeleteRequest) -> Result<Vec<DeleteTarget>> {
        if request.kind.is_empty() {
            let objects = apply::read(&super::apply::sources(&request.files))?;
            let mut ordered: Vec<_> = apply::order(objects).into_iter().map(|(_, o)| o).collect();
            ordered.reverse();
            return Ok(ordered.into_iter().map(target_of).collect());
        }
        let scope = request.scope.clone().unwrap_or_default();
        if request.kind == "Container" {
            let cell = cell_ref(&scope.cell, Some(&scope))?;
            return Ok(vec![DeleteTarget::Container(cell, request.name.parse()?)]);
        }
        let at = object_ref(&request.kind, &request.name, &scope)?;
        Ok(vec![DeleteTarget::Object(at)])
    }

    /// Deletes one after the other and tells each.
    pub(super) async fn delete_all(
        &self,
        targets: Vec<DeleteTarget>,
        request: &v1::DeleteRequest,
        emit: &Emitter,
    ) -> Result<()> {
        // Without containerd nothing can be removed; say so before anything is marked.
        self.require_containerd().await?;
        for target in targets {
            match target {
                DeleteTarget::Object(at) => {
                    let done = self.delete_tree(&at, request, emit).await;
                    tell(emit, &at, done, request.ignore_not_found)?;
                }
                DeleteTarget::Container(at, container) => {
                    let done = self.delete_container(&at, &container, request, emit).await;
                    let told: ObjectRef = at.into();
                    tell(emit, &told, done, request.ignore_not_found)?;
                }
            }
        }
        Ok(())
    }

    /// Deletes an object and, with `cascade`, what lives in it.
    pub(super) async fn delete_tree(
        &self,
        at: &ObjectRef,
        request: &v1::DeleteRequest,
        emit: &Emitter,
    ) -> Result<Vec<String>> {
        match self.identity_for_deletion(at, request.cascade).await? {
            Some(uid) => self.delete_known(at, &uid, request, emit).await,
            None => Err(self.first_missing(at)),
        }
    }

    /// Deletes the object that has this uid. Another of the same name came after
    /// it, when somebody else was quicker; that one is not meant.
    async fn delete_known(
        &self,
        at: &ObjectRef,
        uid: &str,
        request: &v1::DeleteRequest,
        emit: &Emitter,
    ) -> Result<Vec<String>> {
        if let ObjectRef::Kept(at) = at {
            return self.delete_kept(at).await;
        }
        let mut steps = Vec::new();
        if !matches!(at, ObjectRef::Cell(_)) {
            self.mark_scope(at, uid, request.cascade).await?;
            self.delete_children(at, uid, request, emit).await?;
        }
        let _lock = self.store.lock(at, LockMode::Exclusive, LOCK_WAIT).await?;
        let Some(mut object) = self.stored(at)?.filter(|o| o.meta().uid == uid) else {
            return Ok(steps);
        };
        meta_mut(&mut object)
            .deletion
            .get_or_insert_with(jiff::Timestamp::now);
        self.put(&object)?;
        let grace = request.grace_seconds.and_then(|g| u32::try_from(g).ok());
        let outcome = match object {
            AnyObject::Cell(cell) => {
                self.reconcile_cell(cell, &self.options(grace), &emit.watch)
                    .await?
            }
            _ => self.reconcile_scope(at, &emit.watch).await?,
        };
        if self.store.exists(at)? {
            return Err(Error::new(
                Code::Conflict,
                "ResourceHasDependencies",
                format!("{at} got new children while it was being deleted"),
            )
            .hint("delete it again"));
        }
        steps.extend(outcome.steps);
        Ok(steps)
    }

    /// Deletes what lives in a scope, several at once: most of the time goes
    /// into waiting for processes to end. The first failure is told when the
    /// others are done.
    async fn delete_children(
        &self,
        at: &ObjectRef,
        uid: &str,
        request: &v1::DeleteRequest,
        emit: &Emitter,
    ) -> Result<()> {
        let known = |child: ObjectRef| (self.identity(&child), child);
        let children: Vec<_> = self.child_refs(at)?.into_iter().map(known).collect();
        // Read before the parent is looked at: they are this parent's.
        if self.identity(at)?.as_deref() != Some(uid) {
            return Ok(());
        }
        let mut below = futures::stream::iter(children)
            .map(|(of_child, child)| async move {
                let of_child = match of_child {
                    Err(error) if is_damage(&error) => {
                        self.identity_for_deletion(&child, request.cascade).await
                    }
                    known => known,
                };
                let done = match of_child {
                    Ok(Some(uid)) => Box::pin(self.delete_known(&child, &uid, request, emit)).await,
                    Ok(None) => Err(not_found(&child)),
                    Err(error) => Err(error),
                };
                (child, done)
            })
            .buffer_unordered(WIDTH);
        let mut failed = None;
        while let Some((child, done)) = below.next().await {
            match done {
                Ok(steps) => emit.result(v1::ResourceResult {
                    steps,
                    ..result_for(&child, "deleted")
                }),
                // Somebody else was quicker.
                Err(error) if error.code == Code::NotFound => {}
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        if failed.is_none() {
            for kept in self.all_kept(at)? {
                let done = self.delete_with_scope(&kept).await;
                match done {
                    Ok(result) => emit.result(result),
                    Err(error) if error.code == Code::NotFound => {}
                    Err(error) => {
                        failed.get_or_insert(error);
                    }
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// What a scope keeps itself.
    pub(super) fn all_kept(&self, at: &ObjectRef) -> Result<Vec<KeptRef>> {
        let mut kept = Vec::new();
        for kind in KeptKind::ALL {
            kept.extend(self.store.kept(at, kind)?);
        }
        Ok(kept)
    }

    /// Deletes a secret or volume, unless a cell uses it.
    async fn delete_kept(&self, at: &KeptRef) -> Result<Vec<String>> {
        let object = ObjectRef::from(at.clone());
        let _lock = self
            .store
            .lock(&object, LockMode::Exclusive, LOCK_WAIT)
            .await?;
        let plan = match self.stored(&object) {
            // There is nothing of a secret but its document.
            Err(error) if is_damage(&error) && at.kind == KeptKind::Secret => {
                self.refuse_used(at)?;
                let mut plan = Plan::default();
                plan.stage(vec![vec![Step::RemoveDocument]]);
                plan
            }
            stored => {
                let Some(mut stored) = stored? else {
                    return Err(not_found(&object));
                };
                self.refuse_used(at)?;
                // Intent first: data that is half gone must not be taken for whole.
                meta_mut(&mut stored)
                    .deletion
                    .get_or_insert_with(jiff::Timestamp::now);
                self.put(&stored)?;
                plan_kept(stored.meta())
            }
        };
        let store = self.store.clone();
        let gone = object.clone();
        let removed = tokio::task::spawn_blocking(move || store.remove(&gone)).await;
        removed.map_err(|e| Error::failed("Panicked", e.to_string()))??;
        Ok(plan.describe(&object))
    }

    /// Deletes what a scope keeps with the scope; a volume may be retained.
    async fn delete_with_scope(&self, at: &KeptRef) -> Result<v1::ResourceResult> {
        let object = ObjectRef::from(at.clone());
        let stays = match at.kind {
            KeptKind::Secret => None,
            KeptKind::Volume => match self.stored(&object) {
                Ok(Some(AnyObject::Volume(v))) if v.reclaim == Reclaim::Retain => Some(format!(
                    "its data stays in {}, and is found again by a scope of the same name",
                    v.path
                )),
                Ok(_) => None,
                // It may be one whose data shall stay.
                Err(error) if is_damage(&error) => {
                    Some(format!("its data stays where it is: {}", error.message))
                }
                Err(error) => return Err(error),
            },
        };
        if let Some(text) = stays {
            return Ok(v1::ResourceResult {
                changes: vec![text],
                ..result_for(&object, "retained")
            });
        }
        let steps = self.delete_kept(at).await?;
        Ok(v1::ResourceResult {
            steps,
            ..result_for(&object, "deleted")
        })
    }

    /// Records that a scope shall go, so that nothing new is put into it.
    async fn mark_scope(&self, at: &ObjectRef, uid: &str, cascade: bool) -> Result<()> {
        let _lock = self.store.lock(at, LockMode::Exclusive, LOCK_WAIT).await?;
        let Some(mut object) = self.stored(at)?.filter(|o| o.meta().uid == uid) else {
            return Ok(());
        };
        let children = self.store.children(at)?;
        let kept = self.all_kept(at)?;
        let kept = kept.iter().map(|kept| {
            let kind = kept.kind.as_str().to_ascii_lowercase();
            format!("{kind} {}", kept.name)
        });
        let children: Vec<String> = children
            .iter()
            .map(ToString::to_string)
            .chain(kept)
            .collect();
        if !cascade && !children.is_empty() {
            let names: Vec<String> = children.iter().take(5).cloned().collect();
            let more = children.len().saturating_sub(names.len());
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            return Err(Error::new(
                Code::Conflict,
                "ResourceHasDependencies",
                format!(
                    "{at}: resource has child resources ({}): {}{more}",
                    children.len(),
                    names.join(", ")
                ),
            )
            .hint("Use --cascade to delete them too"));
        }
        meta_mut(&mut object)
            .deletion
            .get_or_insert_with(jiff::Timestamp::now);
        self.put(&object)?;
        Ok(())
    }

    /// What tells an object from a later one of the same name.
    pub(super) fn identity(&self, at: &ObjectRef) -> Result<Option<String>> {
        Ok(self.stored(at)?.map(|object| object.meta().uid.clone()))
    }

    /// Removes one container from its cell's spec and from the host.
    async fn delete_container(
        &self,
        at: &CellRef,
        container: &Name,
        request: &v1::DeleteRequest,
        emit: &Emitter,
    ) -> Result<Vec<String>> {
        self.get_cell(at)?;
        let object: ObjectRef = at.clone().into();
        let _lock = self
            .store
            .lock(&object, LockMode::Exclusive, LOCK_WAIT)
            .await?;
        let mut cell = self.get_cell(at)?;
        if !cell.spec.containers.iter().any(|c| c.id == *container) {
            return Err(container_not_found(at, container.as_str()));
        }
        if cell.spec.containers.len() == 1 {
            return Err(Error::new(
                Code::Conflict,
                "LastContainer",
                format!("container {container} is the only one of {at}"),
            )
            .hint("delete the cell instead"));
        }
        cell.spec.containers.retain(|c| c.id != *container);
        cell.meta.generation += 1;
        self.store.put_cell(&cell)?;
        let grace = request.grace_seconds.and_then(|g| u32::try_from(g).ok());
        let outcome = self
            .reconcile_cell(cell, &self.options(grace), &emit.watch)
            .await?;
        Ok(outcome.steps)
    }

    /// The children of a scope in the store.
    pub(super) fn child_refs(&self, at: &ObjectRef) -> Result<Vec<ObjectRef>> {
        Ok(match at {
            ObjectRef::Realm(at) => self.store.spaces(at)?.into_iter().map(Into::into).collect(),
            ObjectRef::Space(at) => self.store.stacks(at)?.into_iter().map(Into::into).collect(),
            ObjectRef::Stack(at) => self.store.cells(at)?.into_iter().map(Into::into).collect(),
            ObjectRef::Cell(_) | ObjectRef::Kept(_) => Vec::new(),
        })
    }

    /// `…NotFound` of the object, or of the first of its parents that is missing.
    pub(super) fn first_missing(&self, at: &ObjectRef) -> Error {
        let mut missing = at.clone();
        while let Some(parent) = missing.parent() {
            if self.store.exists(&parent).unwrap_or(false) {
                break;
            }
            missing = parent;
        }
        not_found(&missing)
    }
}

fn target_of(object: AnyObject) -> DeleteTarget {
    match object {
        AnyObject::Container(c) => DeleteTarget::Container(c.at, c.spec.id),
        object => DeleteTarget::Object(object.at()),
    }
}

/// A request for one object ends with its error; within many each is told.
fn tell(
    emit: &Emitter,
    at: &ObjectRef,
    done: Result<Vec<String>>,
    ignore_not_found: bool,
) -> Result<()> {
    match done {
        Ok(steps) => emit.result(v1::ResourceResult {
            steps,
            ..result_for(at, "deleted")
        }),
        Err(error) if error.code == Code::NotFound && ignore_not_found => {
            emit.result(result_for(at, "not found"));
        }
        Err(error) if error.code == Code::Cancelled => return Err(error),
        Err(error) => emit.result(failure_for(at, &error)),
    }
    Ok(())
}
