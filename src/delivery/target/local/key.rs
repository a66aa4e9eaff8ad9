//! What names an object of this machine, and its entry in an inventory.

use std::fmt;

use crate::api::v1;
use crate::model::delivery::Resource;
use crate::model::{AnyObject, CellRef, KeptKind, Name, ObjectRef, RealmRef};

/// `apiVersion` of the kinds of this machine.
const RUNTIME: &str = "v1beta1";

/// One object; also a container that is a document of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// An object that is reconciled on its own.
    Object(ObjectRef),
    /// A container of a cell.
    Container(CellRef, Name),
}

impl Key {
    /// Of a wanted object.
    pub fn of(object: &AnyObject) -> Self {
        match object {
            AnyObject::Container(c) => Key::Container(c.at.clone(), c.spec.id.clone()),
            other => Key::Object(other.at()),
        }
    }

    /// Of an inventory entry; none when it is of another target, or no name at all.
    pub fn of_resource(resource: &Resource) -> Option<Self> {
        if resource.api_version != RUNTIME || !resource.cluster.is_empty() {
            return None;
        }
        let name: Name = resource.name.parse().ok()?;
        let realm = || {
            let realm = resource.realm.parse().ok()?;
            Some(RealmRef { realm })
        };
        let stack = || {
            let space = realm()?.space(resource.space.parse().ok()?);
            Some(space.stack(resource.stack.parse().ok()?))
        };
        Some(match resource.kind.as_str() {
            "Realm" => Key::Object(RealmRef { realm: name }.into()),
            "Space" => Key::Object(realm()?.space(name).into()),
            "Stack" => {
                let space = realm()?.space(resource.space.parse().ok()?);
                Key::Object(space.stack(name).into())
            }
            "Cell" => Key::Object(stack()?.cell(name).into()),
            "Volume" => {
                let scope: ObjectRef = match (resource.space.as_str(), resource.stack.as_str()) {
                    ("", "") => realm()?.into(),
                    (space, "") => realm()?.space(space.parse().ok()?).into(),
                    _ => stack()?.into(),
                };
                Key::Object(scope.keeps(KeptKind::Volume, name).into())
            }
            "Container" => Key::Container(stack()?.cell(resource.cell.parse().ok()?), name),
            _ => return None,
        })
    }

    /// What a result is about; none for what is no object, such as an image.
    pub fn of_result(result: &v1::ResourceResult) -> Option<Self> {
        let scope = result.scope.clone().unwrap_or_default();
        Self::of_resource(&Resource {
            api_version: RUNTIME.to_owned(),
            kind: result.kind.clone(),
            name: result.name.clone(),
            realm: scope.realm,
            space: scope.space,
            stack: scope.stack,
            cell: scope.cell,
            ..Resource::default()
        })
    }

    /// Its entry in an inventory.
    pub fn resource(&self, hash: String) -> Resource {
        let (names, name) = match self {
            Key::Object(at) => {
                let mut names = at.names();
                let name = names.pop();
                (names, name)
            }
            Key::Container(at, name) => {
                (vec![&at.realm, &at.space, &at.stack, &at.cell], Some(name))
            }
        };
        let text = |depth: usize| names.get(depth).map(ToString::to_string);
        Resource {
            api_version: RUNTIME.to_owned(),
            kind: self.kind().to_owned(),
            realm: text(0).unwrap_or_default(),
            space: text(1).unwrap_or_default(),
            stack: text(2).unwrap_or_default(),
            cell: text(3).unwrap_or_default(),
            name: name.map(ToString::to_string).unwrap_or_default(),
            hash,
            ..Resource::default()
        }
    }

    /// The kind as written in manifests.
    pub fn kind(&self) -> &'static str {
        match self {
            Key::Object(at) => at.kind(),
            Key::Container(..) => "Container",
        }
    }

    /// The object that holds it in the store.
    pub fn at(&self) -> ObjectRef {
        match self {
            Key::Object(at) => at.clone(),
            Key::Container(cell, _) => cell.clone().into(),
        }
    }

    /// The realm it lives in, or is.
    pub fn realm(&self) -> RealmRef {
        let at = self.at();
        // A reference has at least the name of its realm.
        RealmRef {
            realm: at.names()[0].clone(),
        }
    }

    /// Whether something lives in it, or is it.
    pub fn holds(&self, other: &Key) -> bool {
        let (own, other) = (self.at(), other.at());
        own == other || own.is_above(&other)
    }

    /// How deep it lies: what others live in has the smaller number.
    pub fn depth(&self) -> usize {
        match self {
            // After its scope, before the cells that mount it.
            Key::Object(ObjectRef::Kept(_)) => 7,
            Key::Object(at) => 2 * at.names().len(),
            Key::Container(..) => 10,
        }
    }

    /// Whether it is a realm, space or stack.
    pub fn is_scope(&self) -> bool {
        self.depth() < 7
    }

    /// Where it is asked for: its name, and the names above it.
    pub fn address(&self) -> (String, v1::Scope) {
        let resource = self.resource(String::new());
        let scope = v1::Scope {
            realm: resource.realm,
            space: resource.space,
            stack: resource.stack,
            cell: resource.cell,
        };
        (resource.name, scope)
    }
}

/// For people: `cell "web" in default/default/default`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Object(at) => at.fmt(f),
            Key::Container(cell, name) => write!(f, "container \"{name}\" of {cell}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_leads_back_to_its_object() {
        let [realm, space, stack, cell, id] =
            ["r", "s", "t", "c", "i"].map(|text| text.parse::<Name>().unwrap());
        let realm = RealmRef { realm };
        let space = realm.space(space);
        let stack = space.stack(stack);
        let cell = stack.cell(cell);
        let keys = [
            Key::Object(realm.into()),
            Key::Object(space.into()),
            Key::Object(stack.into()),
            Key::Object(cell.clone().into()),
            Key::Container(cell, id),
        ];
        for (depth, key) in keys.iter().enumerate() {
            let resource = key.resource("sha256:0".into());
            assert_eq!(Key::of_resource(&resource).as_ref(), Some(key));
            assert_eq!(key.depth(), 2 * (depth + 1));
            assert_eq!(key.realm().realm.as_str(), "r");
        }
        for scope in &keys[..3] {
            let volume = scope.at().keeps(KeptKind::Volume, "v".parse().unwrap());
            let key = Key::Object(volume.into());
            let resource = key.resource("sha256:0".into());
            assert_eq!(Key::of_resource(&resource).as_ref(), Some(&key));
            assert!(scope.depth() < key.depth() && key.depth() < keys[3].depth());
            assert!(scope.holds(&key) && !key.holds(scope) && !key.is_scope());
        }
    }

    #[test]
    fn entries_of_a_cluster_are_none_of_this_machine() {
        let mut resource = Key::Object(
            RealmRef {
                realm: "r".parse().unwrap(),
            }
            .into(),
        )
        .resource(String::new());
        resource.cluster = "default".into();
        assert_eq!(Key::of_resource(&resource), None);
        resource.cluster.clear();
        resource.kind = "Deployment".into();
        assert_eq!(Key::of_resource(&resource), None);
    }
}
