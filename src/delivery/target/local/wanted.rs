//! What an artifact wants of this machine: its documents as objects, labelled
//! with their owner, and the scopes that it takes for granted.

use super::super::{Activation, Error, Reason, Result};
use super::key::Key;
use super::owner::Owner;
use crate::api::{self, yaml};
use crate::apply;
use crate::model::delivery::{KukeTarget, Resource};
use crate::model::{AnyObject, Cell, Meta, Name, ObjectRef, Space, Stack};
use crate::oci::Digest;
use crate::scheme::{self, Secrets};

/// Name of an artifact's only file.
const FILE: &str = "manifest.yaml";

/// One wanted object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Which.
    pub key: Key,
    /// As it shall be, with its owner's labels.
    pub object: AnyObject,
    /// Of what the artifact says.
    pub hash: String,
    /// No document of its own: a space or stack that others live in. It is ours
    /// when it was not there before.
    pub implied: bool,
}

impl Wanted {
    /// Its entry in an inventory.
    pub fn resource(&self) -> Resource {
        self.key.resource(self.hash.clone())
    }
}

/// The realm an activation may touch.
pub(super) fn realm(activation: &Activation) -> &Name {
    let realm = activation.target.kuke.realm.as_ref();
    realm.unwrap_or(&activation.namespace)
}

/// Reads an artifact: its objects, parents first, with the scopes between the
/// realm and them.
pub(super) fn read(activation: &Activation, owner: &Owner) -> Result<Vec<Wanted>> {
    let realm = realm(activation);
    if *realm == *KukeTarget::SYSTEM_REALM {
        let message = format!("releases must not touch the realm {realm}");
        return Err(Error::new(Reason::ManifestInvalid, message));
    }
    let objects = match apply::read(&[(FILE, &activation.manifest)]) {
        Ok(objects) => objects,
        Err(error) if error.reason == "NoDocuments" && activation.allow_empty => Vec::new(),
        Err(error) => {
            let error = error.context(format!("Preparation {}", activation.preparation));
            return Err(Error::new(Reason::ManifestInvalid, error.message).hint(error.hint));
        }
    };
    let mut out: Vec<Wanted> = Vec::new();
    for (_, object) in objects {
        let key = Key::of(&object);
        if key.realm().realm != *realm {
            let message = format!("{key} is outside of the realm {realm} of its target");
            return Err(Error::new(Reason::ManifestInvalid, message));
        }
        if let AnyObject::Realm(realm) = &object
            && realm
                .spec
                .credentials
                .iter()
                .any(|c| !c.password.is_empty())
        {
            let message = format!("{key} holds a password, which an artifact must not");
            return Err(Error::new(Reason::ManifestInvalid, message));
        }
        if let AnyObject::Secret(_) = &object {
            let message = format!("{key} holds its value, which an artifact must not");
            let hint = "make it on this machine with `kuke create secret`, and name it with \
                        secretRef";
            return Err(Error::new(Reason::ManifestInvalid, message).hint(hint));
        }
        let text = document(&object).map_err(unwritable)?;
        out.push(Wanted {
            hash: Digest::sha256(text.as_bytes()).to_string(),
            object: labelled(object, owner),
            key,
            implied: false,
        });
    }
    for implied in implied(&out) {
        let text = document(&implied).map_err(unwritable)?;
        out.push(Wanted {
            key: Key::of(&implied),
            hash: Digest::sha256(text.as_bytes()).to_string(),
            object: labelled(implied, owner),
            implied: true,
        });
    }
    out.sort_by_key(|wanted| wanted.key.depth());
    Ok(out)
}

fn unwritable(error: api::Error) -> Error {
    Error::new(Reason::ManifestInvalid, error.message)
}

/// The spaces and stacks that have no document but hold something that has.
fn implied(wanted: &[Wanted]) -> Vec<AnyObject> {
    let mut out: Vec<AnyObject> = Vec::new();
    for object in wanted {
        // A container joins a cell that is there already.
        let Key::Object(at) = &object.key else {
            continue;
        };
        let mut parent = at.parent();
        while let Some(at) = parent {
            let scope = match &at {
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
                // A realm also holds images that nobody else has: it is only
                // taken for ours when the artifact says so.
                ObjectRef::Realm(_) | ObjectRef::Cell(_) | ObjectRef::Kept(_) => break,
            };
            let key = Key::of(&scope);
            let known =
                wanted.iter().any(|w| w.key == key) || out.iter().any(|o| Key::of(o) == key);
            if !known {
                out.push(scope);
            }
            parent = at.parent();
        }
    }
    out
}

/// Labels and bookkeeping of an object; none for a container, which has none.
pub(super) fn meta_mut(object: &mut AnyObject) -> Option<&mut Meta> {
    match object {
        AnyObject::Realm(o) => Some(&mut o.meta),
        AnyObject::Space(o) => Some(&mut o.meta),
        AnyObject::Stack(o) => Some(&mut o.meta),
        AnyObject::Cell(o) => Some(&mut o.meta),
        AnyObject::Volume(o) => Some(&mut o.meta),
        AnyObject::Secret(o) => Some(&mut o.meta),
        AnyObject::Container(_) => None,
    }
}

fn labelled(mut object: AnyObject, owner: &Owner) -> AnyObject {
    if let Some(meta) = meta_mut(&mut object) {
        for (key, value) in owner.labels() {
            meta.labels.insert(key.to_owned(), value.to_owned());
        }
    }
    object
}

/// The document of an object, for an apply. Without its status.
pub(super) fn document(object: &AnyObject) -> api::Result<String> {
    match object {
        AnyObject::Realm(o) => {
            let mut external = scheme::realm_to_external(o, Secrets::Keep);
            external.status = None;
            yaml::to_string(&external)
        }
        AnyObject::Space(o) => {
            let mut external = scheme::space_to_external(o);
            external.status = None;
            yaml::to_string(&external)
        }
        AnyObject::Stack(o) => {
            let mut external = scheme::stack_to_external(o);
            external.status = None;
            yaml::to_string(&external)
        }
        AnyObject::Cell(o) => {
            let mut external = scheme::cell_to_external(o);
            external.status = None;
            yaml::to_string(&external)
        }
        AnyObject::Volume(o) => {
            let mut external = scheme::volume_to_external(o);
            external.status = None;
            yaml::to_string(&external)
        }
        AnyObject::Secret(o) => yaml::to_string(&scheme::secret_to_external(o, Secrets::Hide)),
        AnyObject::Container(o) => {
            // Written as part of a cell that has nothing else.
            let cell = Cell {
                at: o.at.clone(),
                meta: Meta::default(),
                spec: crate::model::CellSpec {
                    containers: vec![o.spec.clone()],
                    ..Default::default()
                },
                status: Default::default(),
            };
            yaml::to_string(&scheme::container_to_external(&cell, &o.spec.id))
        }
    }
}
