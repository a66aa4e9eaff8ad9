//! Objects whose documents cannot be read. What they made on the host is found
//! by its labels and marks, so they can be deleted; nothing else is done to them.

use super::Controller;
use super::context::{CONFLIST, uid_of_conflist};
use super::errors::is_damage;
use super::reconcile::LOCK_WAIT;
use crate::api::Result;
use crate::model::{
    AnyObject, Cell, CellRef, CellSpec, CellStatus, ContainerSpec, Meta, Name, ObjectRef, Realm,
    RealmRef, RealmSpec, ScopeStatus, Space, SpaceRef, SpaceSpec, Stack, StackRef,
};
use crate::store::LockMode;

/// Container and image of a cell of which nothing is known: a cell has at least
/// one container, and this one is never made.
const UNKNOWN: &str = "unknown";

impl Controller {
    /// What tells an object from a later one of the same name; a damaged one
    /// that shall go first gets a document that can be read.
    pub(super) async fn identity_for_deletion(
        &self,
        at: &ObjectRef,
        cascade: bool,
    ) -> Result<Option<String>> {
        match self.identity(at) {
            Err(error) if is_damage(&error) => {
                if !cascade && !self.store.children(at)?.is_empty() {
                    return Err(error);
                }
                let _lock = self.store.lock(at, LockMode::Exclusive, LOCK_WAIT).await?;
                let object = self.stored_or_marked(at).await?;
                Ok(object.map(|object| object.meta().uid.clone()))
            }
            other => other,
        }
    }

    /// An object from the store. In the place of a damaged one a document is put
    /// that says nothing but that it is deleted, and what its traces on the host
    /// tell: so the deletion is finished, whoever dies meanwhile. The caller holds
    /// the exclusive lock, and was asked to delete.
    pub(super) async fn stored_or_marked(&self, at: &ObjectRef) -> Result<Option<AnyObject>> {
        let error = match self.stored(at) {
            Err(error) if is_damage(&error) => error,
            other => return other,
        };
        let object = match at {
            ObjectRef::Cell(at) => AnyObject::Cell(going_cell(at, self.store.container_names(at)?)),
            ObjectRef::Stack(at) => AnyObject::Stack(going_stack(at)),
            ObjectRef::Space(at) => {
                let conflist = self.store.read_file(&at.clone().into(), CONFLIST)?;
                match conflist.map(|bytes| uid_of_conflist(&bytes)) {
                    // A user's own conflist: nothing of the network is ours.
                    None => AnyObject::Space(going_space(at, "")),
                    Some(Some(began)) => AnyObject::Space(going_space(at, &began)),
                    // Its bridge would stay, and nobody would know whose it was.
                    Some(None) => return Err(error),
                }
            }
            ObjectRef::Realm(at) => {
                let wanted = self.realm_labels(&at.realm);
                let namespaces = self.runtime.namespaces().await?;
                let ours = namespaces.into_iter().find(|(_, labels)| {
                    let same = |(key, value)| labels.get(key) == Some(value);
                    wanted.iter().all(same)
                });
                let namespace = ours.map(|(name, _)| name).unwrap_or_default();
                AnyObject::Realm(going_realm(at, namespace))
            }
            // Its data is told by its document alone.
            ObjectRef::Kept(_) => return Err(error),
        };
        tracing::warn!(object = %at, %error, "deleted with what its labels and marks tell");
        self.put(&object)?;
        Ok(Some(object))
    }
}

fn going() -> Meta {
    Meta {
        uid: uuid::Uuid::new_v4().to_string(),
        deletion: Some(jiff::Timestamp::now()),
        ..Meta::default()
    }
}

/// `namespace` is the one that carries the realm's labels; empty for none.
fn going_realm(at: &RealmRef, namespace: String) -> Realm {
    Realm {
        at: at.clone(),
        meta: going(),
        spec: RealmSpec {
            namespace,
            ..RealmSpec::default()
        },
        status: ScopeStatus::default(),
    }
}

/// `began` is how its uid began, which makes the names of its network; empty
/// where it has none.
fn going_space(at: &SpaceRef, began: &str) -> Space {
    let mut meta = going();
    meta.uid.replace_range(..began.len(), began);
    Space {
        at: at.clone(),
        meta,
        spec: SpaceSpec::default(),
        status: ScopeStatus::default(),
    }
}

fn going_stack(at: &StackRef) -> Stack {
    Stack {
        at: at.clone(),
        meta: going(),
        status: ScopeStatus::default(),
    }
}

/// `containers` are those whose files lie with the damaged document: of one that
/// was cut short while it was made, nothing but a snapshot may be there.
fn going_cell(at: &CellRef, mut containers: Vec<Name>) -> Cell {
    if containers.is_empty() {
        containers.extend(UNKNOWN.parse::<Name>().ok());
    }
    let spec = |name| ContainerSpec::new(name, UNKNOWN);
    Cell {
        at: at.clone(),
        meta: going(),
        spec: CellSpec {
            containers: containers.into_iter().map(spec).collect(),
            ..CellSpec::default()
        },
        status: CellStatus::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheme;

    fn realm() -> RealmRef {
        RealmRef {
            realm: "r".parse().expect("a name"),
        }
    }

    #[test]
    fn what_is_put_in_the_place_of_a_damaged_space_has_its_bridge() {
        let at = realm().space("s".parse().expect("a name"));
        let space = going_space(&at, "12345678");
        assert!(space.meta.uid.starts_with("12345678-"), "{space:?}");
        assert_eq!(space.meta.uid.len(), going_space(&at, "").meta.uid.len());
        let read = scheme::space_to_model(scheme::space_to_external(&space));
        assert_eq!(read.expect("a document").meta.uid, space.meta.uid);
    }

    #[test]
    fn what_is_put_in_the_place_of_a_damaged_realm_has_its_namespace() {
        let found = going_realm(&realm(), "shop.example".to_owned());
        let read = scheme::realm_to_model(scheme::realm_to_external(&found, scheme::Secrets::Keep))
            .expect("a document");
        assert_eq!(read.spec.namespace, "shop.example");
        assert!(read.meta.deletion.is_some());
    }

    #[test]
    fn what_is_put_in_the_place_of_a_damaged_cell_can_be_read_again() {
        let name = |text: &str| text.parse::<Name>().expect("a name");
        let at = realm().space(name("s")).stack(name("t")).cell(name("c"));
        for containers in [vec![], vec![name("main"), name("side")]] {
            let cell = going_cell(&at, containers);
            assert!(!cell.spec.containers.is_empty() && cell.meta.deletion.is_some());
            let read = scheme::cell_to_model(scheme::cell_to_external(&cell));
            assert_eq!(read.expect("a document").meta.uid, cell.meta.uid);
        }
    }
}
