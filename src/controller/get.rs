//! `get`: one object or a list. The daemon answers from the store, whose status
//! its loop keeps fresh; without a loop the cells are observed first.

use std::sync::Arc;

use futures::StreamExt;

use super::Controller;
use super::apply::to_external;
use super::errors::{UNREACHABLE, is_damage, not_found};
use super::execute::container_not_found;
use super::status::last_seen;
use super::stream::{cell_ref, failure_for, kept_scope, or_default};
use crate::api::selector::Selector;
use crate::api::v1::{self, object};
use crate::api::{Code, Error, Result, v1beta1};
use crate::model::{
    AnyObject, Cell, CellRef, KeptKind, Name, ObjectRef, RealmRef, SpaceRef, StackRef,
};
use crate::scheme;

/// How many cells are observed side by side.
const WIDTH: usize = 8;

impl Controller {
    pub(super) async fn find(&self, request: &v1::GetRequest) -> Result<v1::GetResponse> {
        let selector = request.selector.parse::<Selector>()?;
        let scope = request.scope.clone().unwrap_or_default();
        let found = match request.kind.as_str() {
            "Realm" | "Space" | "Stack" => self.find_scopes(request, &scope)?.external(&selector),
            "Cell" => self.cells_to_show(request, &scope, &selector).await?,
            "Volume" => self
                .find_kept(KeptKind::Volume, &request.name, &scope)?
                .external(&selector),
            "Secret" => self
                .find_kept(KeptKind::Secret, &request.name, &scope)?
                .external(&selector),
            "Container" => self.find_containers(request, &scope, &selector).await?,
            other => {
                return Err(
                    Error::invalid("UnknownKind", format!("unknown kind {other:?}"))
                        .hint("kinds are Realm, Space, Stack, Cell, Container, Volume and Secret"),
                );
            }
        };
        let mut objects = found.objects;
        if request.usage {
            objects.iter_mut().for_each(|o| self.add_usage(o));
        }
        Ok(v1::GetResponse {
            objects,
            damaged: found.damaged,
        })
    }

    /// Adds what a cell or container uses now, as far as its cgroup tells.
    fn add_usage(&self, object: &mut v1::Object) {
        match &mut object.object {
            Some(object::Object::Cell(cell)) => {
                let (Some(spec), Some(status)) = (&cell.spec, &mut cell.status) else {
                    return;
                };
                let name = cell.metadata.as_ref().map_or("", |m| &m.name);
                let scope = [&spec.realm_id, &spec.space_id, &spec.stack_id];
                let Some(at) = place(scope.map(String::as_str), name) else {
                    return;
                };
                status.usage = self.usage(&self.settings.cgroup_path(&at.clone().into()));
                for container in &mut status.containers {
                    container.usage = self.container_usage(&at, &container.name);
                }
            }
            Some(object::Object::Container(container)) => {
                let (Some(spec), Some(status)) = (&container.spec, &mut container.status) else {
                    return;
                };
                let scope = [&spec.realm_id, &spec.space_id, &spec.stack_id];
                if let Some(at) = place(scope.map(String::as_str), &spec.cell_id) {
                    status.usage = self.container_usage(&at, &status.name);
                }
            }
            _ => {}
        }
    }

    fn container_usage(&self, at: &CellRef, container: &str) -> Option<v1beta1::Usage> {
        let name = container.parse().ok()?;
        self.usage(&self.settings.container_cgroup_path(at, &name))
    }

    /// None where there is no such cgroup, for instance after a stop.
    fn usage(&self, cgroup: &str) -> Option<v1beta1::Usage> {
        if !self.cgroups.exists(cgroup) {
            return None;
        }
        let read = self.cgroups.statistics(cgroup);
        let used = read
            .inspect_err(|error| tracing::debug!(cgroup, %error, "no statistics"))
            .ok()?;
        Some(v1beta1::Usage {
            memory_bytes: used.memory_bytes,
            memory_limit_bytes: used.memory_limit,
            cpu_usec: Some(used.cpu_usec),
            pids: used.pids,
            oom_kills: used.oom_kills,
            io_read_bytes: used.io_read_bytes,
            io_write_bytes: used.io_write_bytes,
        })
    }

    fn find_scopes(&self, request: &v1::GetRequest, scope: &v1::Scope) -> Result<Found<AnyObject>> {
        if !request.name.is_empty() {
            let name: Name = request.name.parse()?;
            let at: ObjectRef = match request.kind.as_str() {
                "Realm" => RealmRef { realm: name }.into(),
                "Space" => SpaceRef {
                    realm: or_default(&scope.realm).parse()?,
                    space: name,
                }
                .into(),
                _ => StackRef {
                    realm: or_default(&scope.realm).parse()?,
                    space: or_default(&scope.space).parse()?,
                    stack: name,
                }
                .into(),
            };
            return match self.stored(&at)? {
                Some(object) => Ok(Found::one(object)),
                None => Err(self.first_missing(&at)),
            };
        }
        let refs: Vec<ObjectRef> = match request.kind.as_str() {
            "Realm" => self.store.realms()?.into_iter().map(Into::into).collect(),
            "Space" => self.spaces_in(scope)?.into_iter().map(Into::into).collect(),
            _ => self.stacks_in(scope)?.into_iter().map(Into::into).collect(),
        };
        let mut found = Found::default();
        for at in refs {
            found.add(&at, self.stored(&at))?;
        }
        Ok(found)
    }

    fn find_kept(&self, kind: KeptKind, name: &str, scope: &v1::Scope) -> Result<Found<AnyObject>> {
        if !name.is_empty() {
            let at: ObjectRef = kept_scope(scope)?.keeps(kind, name.parse()?).into();
            let found = self.stored(&at)?;
            return Ok(Found::one(found.ok_or_else(|| self.first_missing(&at))?));
        }
        let mut scopes: Vec<ObjectRef> = Vec::new();
        for realm in self.store.realms()? {
            scopes.push(realm.clone().into());
            for space in self.store.spaces(&realm)? {
                scopes.push(space.clone().into());
                for stack in self.store.stacks(&space)? {
                    scopes.push(stack.clone().into());
                    if kind == KeptKind::Secret {
                        scopes.extend(self.store.cell_places(&stack)?);
                    }
                }
            }
        }
        let asked = [&scope.realm, &scope.space, &scope.stack, &scope.cell];
        scopes.retain(|at| {
            let names = at.names();
            let fits = |(level, asked): (usize, &&String)| {
                asked.is_empty() || names.get(level).is_some_and(|n| **n == ***asked)
            };
            asked.iter().enumerate().all(fits)
        });
        let mut found = Found::default();
        for at in scopes {
            for kept in self.store.kept(&at, kind)? {
                let kept = kept.into();
                found.add(&kept, self.stored(&kept))?;
            }
        }
        Ok(found)
    }

    fn spaces_in(&self, scope: &v1::Scope) -> Result<Vec<SpaceRef>> {
        let mut found = Vec::new();
        for realm in self.store.realms()? {
            if wanted(&scope.realm, &realm.realm) {
                found.extend(self.store.spaces(&realm)?);
            }
        }
        found.retain(|at| wanted(&scope.space, &at.space));
        Ok(found)
    }

    fn stacks_in(&self, scope: &v1::Scope) -> Result<Vec<StackRef>> {
        let mut found = Vec::new();
        for space in self.spaces_in(scope)? {
            found.extend(self.store.stacks(&space)?);
        }
        found.retain(|at| wanted(&scope.stack, &at.stack));
        Ok(found)
    }

    async fn cells_to_show(
        &self,
        request: &v1::GetRequest,
        scope: &v1::Scope,
        selector: &Selector,
    ) -> Result<Found<v1::Object>> {
        let found = self.find_cells(&request.name, scope).await?;
        let form = match request.brief {
            true => scheme::cell_to_brief,
            false => scheme::cell_to_external,
        };
        let matching = found.objects.iter();
        let matching = matching.filter(|cell| selector.matches(&cell.meta.labels));
        let objects = matching
            .map(|cell| v1::Object {
                object: Some(object::Object::Cell(form(cell))),
            })
            .collect();
        Ok(Found {
            objects,
            damaged: found.damaged,
        })
    }

    async fn find_cells(&self, name: &str, scope: &v1::Scope) -> Result<Found<Arc<Cell>>> {
        if !name.is_empty() {
            let at = cell_ref(name, Some(scope))?;
            let stored = self.get_cell(&at)?.into();
            let cell = self.look_at(&at, stored).await;
            return Ok(Found::one(cell.ok_or_else(|| not_found(&at.into()))?));
        }
        let mut stored = Vec::new();
        for stack in self.stacks_in(scope)? {
            let named = |name: &Name| wanted(&scope.cell, name);
            stored.extend(self.store.read_cells(&stack, named)?);
        }
        let read = futures::stream::iter(stored)
            .map(|(at, cell)| async move {
                let cell = match cell {
                    Ok(cell) => Ok(self.look_at(&at, cell).await),
                    Err(error) => Err(error.into()),
                };
                (ObjectRef::from(at), cell)
            })
            .buffered(WIDTH)
            .collect::<Vec<_>>()
            .await;
        let mut found = Found::default();
        for (at, cell) in read {
            found.add(&at, cell)?;
        }
        Ok(found)
    }

    /// A stored cell as it is now, if it is still there; where a loop runs, that
    /// is how it is stored.
    async fn look_at(&self, at: &CellRef, stored: Arc<Cell>) -> Option<Arc<Cell>> {
        let unseen = |stored, why: &str| last_seen(Arc::unwrap_or_clone(stored), why).into();
        if self.is_live() {
            return Some(match self.containerd_lost() {
                Some(why) => unseen(stored, &why),
                None => stored,
            });
        }
        match self.refresh_cell(at).await {
            Ok(cell) => Some(cell.into()),
            Err(error) if error.reason == UNREACHABLE => Some(unseen(stored, &error.message)),
            Err(error) if error.code == Code::NotFound => None,
            Err(_) => Some(stored),
        }
    }

    async fn find_containers(
        &self,
        request: &v1::GetRequest,
        scope: &v1::Scope,
        selector: &Selector,
    ) -> Result<Found<v1::Object>> {
        let found = if request.name.is_empty() {
            self.find_cells("", scope).await?
        } else {
            self.find_cells(&scope.cell, scope).await?
        };
        let cells = &found.objects;
        let mut objects = Vec::new();
        for cell in cells {
            if !selector.matches(&cell.meta.labels) {
                continue;
            }
            for spec in &cell.spec.containers {
                if !wanted(&request.name, &spec.id) {
                    continue;
                }
                if let Some(container) = scheme::container_to_external(cell, &spec.id) {
                    objects.push(v1::Object {
                        object: Some(object::Object::Container(container)),
                    });
                }
            }
        }
        if objects.is_empty() && !request.name.is_empty() {
            return Err(match cells.first() {
                Some(cell) => container_not_found(&cell.at, &request.name),
                None => not_found(&cell_ref(&scope.cell, Some(scope))?.into()),
            });
        }
        Ok(Found {
            objects,
            damaged: found.damaged,
        })
    }
}

/// What a list holds.
struct Found<T> {
    objects: Vec<T>,
    /// Those whose documents cannot be read, each with its error.
    damaged: Vec<v1::ResourceResult>,
}

impl<T> Default for Found<T> {
    fn default() -> Self {
        Self {
            objects: Vec::new(),
            damaged: Vec::new(),
        }
    }
}

impl Found<AnyObject> {
    /// Those that match, as they are told.
    fn external(self, selector: &Selector) -> Found<v1::Object> {
        let matching = self.objects.iter();
        let matching = matching.filter(|o| selector.matches(&o.meta().labels));
        Found {
            objects: matching.filter_map(to_external).collect(),
            damaged: self.damaged,
        }
    }
}

impl<T> Found<T> {
    fn one(object: T) -> Self {
        Self {
            objects: vec![object],
            damaged: Vec::new(),
        }
    }

    /// Adds one that was read. A damaged one is told beside the others, which it
    /// does not hide.
    fn add(&mut self, at: &ObjectRef, read: Result<Option<T>>) -> Result<()> {
        match read {
            Ok(object) => self.objects.extend(object),
            Err(error) if is_damage(&error) => self.damaged.push(failure_for(at, &error)),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn wanted(filter: &str, name: &Name) -> bool {
    filter.is_empty() || *name == *filter
}

fn place(scope: [&str; 3], cell: &str) -> Option<CellRef> {
    let [realm, space, stack] = scope.map(|name| name.parse().ok());
    let realm = RealmRef { realm: realm? };
    Some(realm.space(space?).stack(stack?).cell(cell.parse().ok()?))
}
