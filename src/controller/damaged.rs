//! Objects whose documents cannot be read. What they made on the host is found
//! by its labels and marks, so they can be deleted; nothing else is done to them.

use super::Controller;
use super::errors::is_damage;
use super::reconcile::LOCK_WAIT;
use crate::api::Result;
use crate::model::{
    AnyObject, Cell, CellRef, CellSpec, CellStatus, ContainerSpec, Meta, Name, ObjectRef,
    ScopeStatus, Stack, StackRef,
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
                let object = self.stored_or_marked(at)?;
                Ok(object.map(|object| object.meta().uid.clone()))
            }
            other => other,
        }
    }

    /// An object from the store. In the place of a damaged cell or stack a
    /// document is put that says nothing but that it is deleted: so the deletion
    /// is finished, whoever dies meanwhile. The caller holds the exclusive lock,
    /// and was asked to delete.
    pub(super) fn stored_or_marked(&self, at: &ObjectRef) -> Result<Option<AnyObject>> {
        let error = match self.stored(at) {
            Err(error) if is_damage(&error) => error,
            other => return other,
        };
        let object = match at {
            ObjectRef::Cell(at) => AnyObject::Cell(going_cell(at, self.store.container_names(at)?)),
            ObjectRef::Stack(at) => AnyObject::Stack(going_stack(at)),
            // What a realm or space is on the host is told by its document alone.
            ObjectRef::Realm(_) | ObjectRef::Space(_) | ObjectRef::Kept(_) => return Err(error),
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

    #[test]
    fn what_is_put_in_the_place_of_a_damaged_cell_can_be_read_again() {
        let name = |text: &str| text.parse::<Name>().expect("a name");
        let realm = crate::model::RealmRef { realm: name("r") };
        let at = realm.space(name("s")).stack(name("t")).cell(name("c"));
        for containers in [vec![], vec![name("main"), name("side")]] {
            let cell = going_cell(&at, containers);
            assert!(!cell.spec.containers.is_empty() && cell.meta.deletion.is_some());
            let read = scheme::cell_to_model(scheme::cell_to_external(&cell));
            assert_eq!(read.expect("a document").meta.uid, cell.meta.uid);
        }
    }
}
