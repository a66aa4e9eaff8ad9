//! One object of any kind that a document can hold.

use super::{
    Cell, CellRef, ContainerSpec, Meta, Name, ObjectRef, Realm, Secret, Space, Stack, Volume,
};

/// One object of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyObject {
    /// A realm.
    Realm(Realm),
    /// A space.
    Space(Space),
    /// A stack.
    Stack(Stack),
    /// A cell.
    Cell(Cell),
    /// A container that is added to an existing cell.
    Container(Box<CellContainer>),
    /// A directory.
    Volume(Volume),
    /// A value.
    Secret(Secret),
}

/// A container as a document of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellContainer {
    /// The cell it belongs to.
    pub at: CellRef,
    /// Metadata of the document.
    pub meta: Meta,
    /// What is wanted.
    pub spec: ContainerSpec,
}

impl AnyObject {
    /// The kind as written in manifests.
    pub fn kind(&self) -> &'static str {
        match self {
            AnyObject::Realm(_) => "Realm",
            AnyObject::Space(_) => "Space",
            AnyObject::Stack(_) => "Stack",
            AnyObject::Cell(_) => "Cell",
            AnyObject::Container(_) => "Container",
            AnyObject::Volume(_) => "Volume",
            AnyObject::Secret(_) => "Secret",
        }
    }

    /// The object's own name.
    pub fn name(&self) -> &Name {
        match self {
            AnyObject::Realm(o) => &o.at.realm,
            AnyObject::Space(o) => &o.at.space,
            AnyObject::Stack(o) => &o.at.stack,
            AnyObject::Cell(o) => &o.at.cell,
            AnyObject::Container(o) => &o.spec.id,
            AnyObject::Volume(o) => &o.at.name,
            AnyObject::Secret(o) => &o.at.name,
        }
    }

    /// The object that is reconciled for it; for a container its cell.
    pub fn at(&self) -> ObjectRef {
        match self {
            AnyObject::Realm(o) => o.at.clone().into(),
            AnyObject::Space(o) => o.at.clone().into(),
            AnyObject::Stack(o) => o.at.clone().into(),
            AnyObject::Cell(o) => o.at.clone().into(),
            AnyObject::Container(o) => o.at.clone().into(),
            AnyObject::Volume(o) => o.at.clone().into(),
            AnyObject::Secret(o) => o.at.clone().into(),
        }
    }

    /// Labels and bookkeeping.
    pub fn meta(&self) -> &Meta {
        match self {
            AnyObject::Realm(o) => &o.meta,
            AnyObject::Space(o) => &o.meta,
            AnyObject::Stack(o) => &o.meta,
            AnyObject::Cell(o) => &o.meta,
            AnyObject::Container(o) => &o.meta,
            AnyObject::Volume(o) => &o.meta,
            AnyObject::Secret(o) => &o.meta,
        }
    }
}
