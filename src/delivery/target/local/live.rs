//! What is there: live objects, as far as an activation has to do with them.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt};

use super::key::Key;
use crate::api::v1::{self, object};
use crate::api::{Code, Error, Result};
use crate::client::Kukeon;
use crate::model::{AnyObject, Cell, ContainerSpec, Meta, ObjectRef};
use crate::scheme;

/// How many objects are asked for side by side.
const WIDTH: usize = 8;

/// Live objects by reference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Live(pub BTreeMap<ObjectRef, AnyObject>);

impl Live {
    /// Asks for objects and for the scopes that they live in. What is not
    /// there is left out.
    pub async fn read(kukeon: &dyn Kukeon, keys: impl Iterator<Item = Key>) -> Result<Self> {
        let mut refs = BTreeSet::new();
        for key in keys {
            let mut at = Some(key.at());
            while let Some(object) = at {
                at = object.parent();
                refs.insert(object);
            }
        }
        let found = futures::stream::iter(refs)
            .map(|at| async move {
                let object = get(kukeon, &at).await?;
                Ok::<_, Error>(object.map(|object| (at, object)))
            })
            .buffered(WIDTH);
        let found: Vec<_> = found.try_collect().await?;
        Ok(Self(found.into_iter().flatten().collect()))
    }

    /// Labels and notes that say whose an object is; for a container its cell's.
    pub fn meta(&self, key: &Key) -> Option<&Meta> {
        self.0.get(&key.at()).map(AnyObject::meta)
    }

    /// A live cell.
    pub fn cell(&self, at: &ObjectRef) -> Option<&Cell> {
        match self.0.get(at)? {
            AnyObject::Cell(cell) => Some(cell),
            _ => None,
        }
    }

    /// A live container.
    pub fn container(&self, key: &Key) -> Option<&ContainerSpec> {
        let Key::Container(at, id) = key else {
            return None;
        };
        let cell = self.cell(&at.clone().into())?;
        cell.spec.containers.iter().find(|c| c.id == *id)
    }

    /// Whether an object is there.
    pub fn has(&self, key: &Key) -> bool {
        match key {
            Key::Object(at) => self.0.contains_key(at),
            Key::Container(..) => self.container(key).is_some(),
        }
    }
}

/// One object; none when there is no such object.
pub(super) async fn get(kukeon: &dyn Kukeon, at: &ObjectRef) -> Result<Option<AnyObject>> {
    let (name, scope) = Key::Object(at.clone()).address();
    let request = v1::GetRequest {
        kind: at.kind().to_owned(),
        name,
        scope: Some(scope),
        ..Default::default()
    };
    match kukeon.get(request).await {
        Ok(found) => found.objects.into_iter().next().map(to_model).transpose(),
        Err(error) if error.code == Code::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// How much lives in a scope: its children, and what it keeps.
pub(super) async fn children(kukeon: &dyn Kukeon, at: &ObjectRef) -> Result<usize> {
    let (name, mut scope) = Key::Object(at.clone()).address();
    let kind = match at {
        ObjectRef::Realm(_) => {
            scope.realm = name;
            "Space"
        }
        ObjectRef::Space(_) => {
            scope.space = name;
            "Stack"
        }
        ObjectRef::Stack(_) => {
            scope.stack = name;
            "Cell"
        }
        ObjectRef::Cell(_) | ObjectRef::Kept(_) => return Ok(0),
    };
    let mut count = 0;
    for kind in [kind, "Volume", "Secret"] {
        let request = v1::GetRequest {
            kind: kind.to_owned(),
            scope: Some(scope.clone()),
            ..Default::default()
        };
        let found = kukeon.get(request).await?;
        count += found.objects.len() + found.damaged.len();
    }
    Ok(count)
}

fn to_model(found: v1::Object) -> Result<AnyObject> {
    Ok(match found.object {
        Some(object::Object::Realm(o)) => AnyObject::Realm(scheme::realm_to_model(o)?),
        Some(object::Object::Space(o)) => AnyObject::Space(scheme::space_to_model(o)?),
        Some(object::Object::Stack(o)) => AnyObject::Stack(scheme::stack_to_model(o)?),
        Some(object::Object::Volume(o)) => AnyObject::Volume(scheme::volume_to_model(o)?),
        Some(object::Object::Cell(o)) => AnyObject::Cell(scheme::cell_to_model(o)?),
        _ => {
            let message = "an answer holds an object of a kind that was not asked for";
            return Err(Error::failed("UnexpectedAnswer", message));
        }
    })
}
