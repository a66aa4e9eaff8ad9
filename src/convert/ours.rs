//! Our documents as the result of a conversion.

use std::collections::BTreeMap;

use super::loss::Notes;
use super::{Result, stream};
use crate::api::yaml::Position;
use crate::api::{Error, v1beta1};
use crate::model::{
    AnyObject, Cell, Labels, Meta, Name, Realm, RealmRef, RealmSpec, ScopeStatus, Space, SpaceRef,
    SpaceSpec, Stack,
};
use crate::scheme::{self, Secrets};

/// Where cells are put that say nothing themselves. What is unset is decided by
/// the input: the namespace, the project's name.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Realm.
    pub realm: Option<Name>,
    /// Space; `default` unless set.
    pub space: Option<Name>,
    /// Stack.
    pub stack: Option<Name>,
}

/// The name that exists on every host.
pub(super) const DEFAULT: &str = "default";

/// Documents that are put together.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub realms: BTreeMap<RealmRef, Realm>,
    pub spaces: BTreeMap<SpaceRef, Space>,
    pub cells: Vec<Cell>,
    pub kept: Vec<AnyObject>,
}

impl Draft {
    /// Adds a cell; what is wrong with it is noted with the place it came from.
    pub(super) fn cell(
        &mut self,
        notes: &mut Notes,
        path: &str,
        at: Position,
        cell: v1beta1::Cell,
    ) -> Option<&mut Cell> {
        match scheme::cell_to_model(cell) {
            Ok(cell) if self.cells.iter().any(|other| other.at == cell.at) => {
                let message = format!("{} is there twice", cell.at);
                notes.error(path, at, "Duplicate", message);
                None
            }
            Ok(cell) => {
                self.cells.push(cell);
                self.cells.last_mut()
            }
            Err(error) => {
                for problem in error.problems {
                    let message = format!("as {}: {}", problem.path, problem.message);
                    notes.error(path, at, problem.reason, message).suggestion = problem.suggestion;
                }
                None
            }
        }
    }

    /// Adds a realm with what its document says.
    pub(super) fn realm(&mut self, at: &RealmRef) -> &mut Realm {
        self.realms.entry(at.clone()).or_insert_with(|| Realm {
            at: at.clone(),
            meta: Meta::default(),
            spec: RealmSpec::default(),
            status: ScopeStatus::default(),
        })
    }

    /// Adds a space with what its document says.
    pub(super) fn space(&mut self, at: &SpaceRef) -> &mut Space {
        self.spaces.entry(at.clone()).or_insert_with(|| Space {
            at: at.clone(),
            meta: Meta::default(),
            spec: SpaceSpec::default(),
            status: ScopeStatus::default(),
        })
    }

    /// All documents, parents first. Parents that are not there are added,
    /// except those that every host has.
    pub(super) fn finish(mut self) -> Vec<AnyObject> {
        let mut stacks = BTreeMap::new();
        self.cells.sort_by(|a, b| a.at.cmp(&b.at));
        for cell in &self.cells {
            stacks.insert(cell.at.stack(), ());
        }
        for at in stacks.keys() {
            if at.space.as_str() != DEFAULT || at.realm.as_str() != DEFAULT {
                self.space(&at.space());
            }
        }
        let realms: Vec<RealmRef> = self.spaces.keys().map(SpaceRef::realm).collect();
        for at in realms {
            if at.realm.as_str() != DEFAULT {
                self.realm(&at);
            }
        }
        let stacks = stacks.into_keys().filter(|at| {
            [&at.realm, &at.space, &at.stack]
                .iter()
                .any(|name| name.as_str() != DEFAULT)
        });
        let realms = self.realms.into_values().map(AnyObject::Realm);
        let spaces = self.spaces.into_values().map(AnyObject::Space);
        let stacks = stacks.map(|at| {
            AnyObject::Stack(Stack {
                at,
                meta: Meta::default(),
                status: ScopeStatus::default(),
            })
        });
        let cells = self.cells.into_iter().map(AnyObject::Cell);
        let scopes = realms.chain(spaces).chain(stacks);
        scopes.chain(self.kept).chain(cells).collect()
    }
}

/// Labels without those that say where an object lives.
pub(super) fn plain_labels(labels: &[(String, String)], owned: &[&str]) -> Labels {
    labels
        .iter()
        .filter(|(key, _)| !owned.contains(&key.as_str()))
        .cloned()
        .collect()
}

/// Documents as text, the way a person would write them: no status, nothing
/// that goes without saying.
pub(super) fn text(objects: &[AnyObject]) -> Result<String> {
    let mut out = String::new();
    for object in objects {
        out.push_str(&match object {
            AnyObject::Realm(realm) => {
                let mut document = scheme::realm_to_external(realm, Secrets::Keep);
                document.status = None;
                document.spec = document
                    .spec
                    .filter(|s| *s != v1beta1::RealmSpec::default());
                stream(&[document])?
            }
            AnyObject::Space(space) => {
                let mut document = scheme::space_to_external(space);
                document.status = None;
                stream(&[document])?
            }
            AnyObject::Stack(stack) => {
                let mut document = scheme::stack_to_external(stack);
                document.status = None;
                if let Some(spec) = &mut document.spec {
                    spec.id.clear();
                }
                stream(&[document])?
            }
            AnyObject::Cell(cell) => {
                let mut document = scheme::cell_to_external(cell);
                document.status = None;
                if let Some(spec) = &mut document.spec {
                    spec.id.clear();
                    if spec.run_state == "Running" {
                        spec.run_state.clear();
                    }
                }
                stream(&[document])?
            }
            AnyObject::Volume(volume) => {
                let mut document = scheme::volume_to_external(volume);
                document.status = None;
                document.spec = document
                    .spec
                    .filter(|s| *s != v1beta1::VolumeSpec::default());
                stream(&[document])?
            }
            AnyObject::Secret(secret) => {
                stream(&[scheme::secret_to_external(secret, Secrets::Keep)])?
            }
            AnyObject::Container(_) => {
                return Err(Error::failed("Encode", "a container stands alone").into());
            }
        });
    }
    Ok(out)
}
