//! References: where an object lives in the hierarchy.

use std::fmt;

use super::Name;

/// A realm.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RealmRef {
    /// Realm name.
    pub realm: Name,
}

/// A space.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceRef {
    /// Realm name.
    pub realm: Name,
    /// Space name.
    pub space: Name,
}

/// A stack.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackRef {
    /// Realm name.
    pub realm: Name,
    /// Space name.
    pub space: Name,
    /// Stack name.
    pub stack: Name,
}

/// A cell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellRef {
    /// Realm name.
    pub realm: Name,
    /// Space name.
    pub space: Name,
    /// Stack name.
    pub stack: Name,
    /// Cell name.
    pub cell: Name,
}

/// Any object that is reconciled on its own; the key of the work queue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectRef {
    /// A realm.
    Realm(RealmRef),
    /// A space.
    Space(SpaceRef),
    /// A stack.
    Stack(StackRef),
    /// A cell with its containers.
    Cell(CellRef),
    /// A secret or volume; not reconciled, but locked, shown and deleted alike.
    Kept(KeptRef),
}

/// What scopes keep beside their children.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeptKind {
    /// A directory.
    Volume,
    /// A value.
    Secret,
}

/// A secret or volume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeptRef {
    /// Which of the two.
    pub kind: KeptKind,
    /// The realm, space, stack or (secrets) cell it is kept in.
    pub scope: Box<ObjectRef>,
    /// Its name.
    pub name: Name,
}

impl KeptKind {
    /// Both.
    pub const ALL: [KeptKind; 2] = [KeptKind::Volume, KeptKind::Secret];

    /// The kind as written in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            KeptKind::Volume => "Volume",
            KeptKind::Secret => "Secret",
        }
    }
}

impl RealmRef {
    /// A space of this realm.
    pub fn space(&self, space: Name) -> SpaceRef {
        SpaceRef {
            realm: self.realm.clone(),
            space,
        }
    }
}

impl SpaceRef {
    /// The realm above.
    pub fn realm(&self) -> RealmRef {
        RealmRef {
            realm: self.realm.clone(),
        }
    }

    /// A stack of this space.
    pub fn stack(&self, stack: Name) -> StackRef {
        StackRef {
            realm: self.realm.clone(),
            space: self.space.clone(),
            stack,
        }
    }
}

impl StackRef {
    /// The space above.
    pub fn space(&self) -> SpaceRef {
        SpaceRef {
            realm: self.realm.clone(),
            space: self.space.clone(),
        }
    }

    /// A cell of this stack.
    pub fn cell(&self, cell: Name) -> CellRef {
        CellRef {
            realm: self.realm.clone(),
            space: self.space.clone(),
            stack: self.stack.clone(),
            cell,
        }
    }
}

impl CellRef {
    /// The stack above.
    pub fn stack(&self) -> StackRef {
        StackRef {
            realm: self.realm.clone(),
            space: self.space.clone(),
            stack: self.stack.clone(),
        }
    }
}

impl ObjectRef {
    /// The kind as written in manifests.
    pub fn kind(&self) -> &'static str {
        match self {
            ObjectRef::Realm(_) => "Realm",
            ObjectRef::Space(_) => "Space",
            ObjectRef::Stack(_) => "Stack",
            ObjectRef::Cell(_) => "Cell",
            ObjectRef::Kept(r) => r.kind.as_str(),
        }
    }

    /// One that is kept in this scope.
    pub fn keeps(&self, kind: KeptKind, name: Name) -> KeptRef {
        KeptRef {
            kind,
            scope: Box::new(self.clone()),
            name,
        }
    }

    /// Whether the other one lives in it, at whatever depth.
    pub fn is_above(&self, other: &ObjectRef) -> bool {
        std::iter::successors(other.parent(), ObjectRef::parent).any(|above| above == *self)
    }

    /// The names from the realm down to the object itself.
    pub fn names(&self) -> Vec<&Name> {
        match self {
            ObjectRef::Realm(r) => vec![&r.realm],
            ObjectRef::Space(r) => vec![&r.realm, &r.space],
            ObjectRef::Stack(r) => vec![&r.realm, &r.space, &r.stack],
            ObjectRef::Cell(r) => vec![&r.realm, &r.space, &r.stack, &r.cell],
            ObjectRef::Kept(r) => {
                let mut names = r.scope.names();
                names.push(&r.name);
                names
            }
        }
    }

    /// The object one level up; none for a realm.
    pub fn parent(&self) -> Option<ObjectRef> {
        match self {
            ObjectRef::Realm(_) => None,
            ObjectRef::Space(r) => Some(ObjectRef::Realm(r.realm())),
            ObjectRef::Stack(r) => Some(ObjectRef::Space(r.space())),
            ObjectRef::Cell(r) => Some(ObjectRef::Stack(r.stack())),
            ObjectRef::Kept(r) => Some((*r.scope).clone()),
        }
    }
}

macro_rules! into_object_ref {
    ($($from:ident => $variant:ident),*) => {$(
        impl From<$from> for ObjectRef {
            fn from(at: $from) -> Self {
                ObjectRef::$variant(at)
            }
        }
        impl fmt::Display for $from {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                ObjectRef::$variant(self.clone()).fmt(f)
            }
        }
    )*};
}

into_object_ref!(RealmRef => Realm, SpaceRef => Space, StackRef => Stack, CellRef => Cell, KeptRef => Kept);

/// For people: `cell "web" in default/default/default`.
impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names();
        let (name, scope) = match names.split_last() {
            Some(split) => split,
            None => return Ok(()),
        };
        write!(f, "{} \"{name}\"", self.kind().to_ascii_lowercase())?;
        for (i, part) in scope.iter().enumerate() {
            write!(f, "{}{part}", if i == 0 { " in " } else { "/" })?;
        }
        Ok(())
    }
}
