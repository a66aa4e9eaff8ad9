//! What every release object carries, and how it is named.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use super::super::{Labels, Name};
use super::{Kitchen, Menu, Pantry, Preparation, Recipe, RecipeTemplate, Serving};

/// Kinds of `delivery.kokumi.dev`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReleaseKind {
    /// Settings.
    Kitchen,
    /// A source registry with its login.
    Pantry,
    /// The common part of several Recipes.
    RecipeTemplate,
    /// Intent.
    Recipe,
    /// Artifact.
    Preparation,
    /// Activation.
    Serving,
    /// Atomic rollout.
    Menu,
}

impl ReleaseKind {
    /// Every kind, in the order in which they depend on each other.
    pub const ALL: [ReleaseKind; 7] = [
        ReleaseKind::Kitchen,
        ReleaseKind::Pantry,
        ReleaseKind::RecipeTemplate,
        ReleaseKind::Recipe,
        ReleaseKind::Preparation,
        ReleaseKind::Serving,
        ReleaseKind::Menu,
    ];

    /// As written in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            ReleaseKind::Kitchen => "Kitchen",
            ReleaseKind::Pantry => "Pantry",
            ReleaseKind::RecipeTemplate => "RecipeTemplate",
            ReleaseKind::Recipe => "Recipe",
            ReleaseKind::Preparation => "Preparation",
            ReleaseKind::Serving => "Serving",
            ReleaseKind::Menu => "Menu",
        }
    }

    /// Name of its directory in the store.
    pub fn plural(self) -> &'static str {
        match self {
            ReleaseKind::Kitchen => "kitchens",
            ReleaseKind::Pantry => "pantries",
            ReleaseKind::RecipeTemplate => "recipetemplates",
            ReleaseKind::Recipe => "recipes",
            ReleaseKind::Preparation => "preparations",
            ReleaseKind::Serving => "servings",
            ReleaseKind::Menu => "menus",
        }
    }
}

impl fmt::Display for ReleaseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ReleaseKind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or(())
    }
}

/// Names a release object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseRef {
    /// Kind.
    pub kind: ReleaseKind,
    /// Isolation scope.
    pub namespace: Name,
    /// Name, unique within kind and namespace.
    pub name: Name,
}

impl ReleaseRef {
    /// A reference.
    pub fn new(kind: ReleaseKind, namespace: &Name, name: &Name) -> Self {
        Self {
            kind,
            namespace: namespace.clone(),
            name: name.clone(),
        }
    }
}

/// For people: `recipe "web" in default`.
impl fmt::Display for ReleaseRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.as_str().to_ascii_lowercase();
        write!(f, "{kind} \"{}\" in {}", self.name, self.namespace)
    }
}

/// What every release object carries beside its spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseMeta {
    /// Isolation scope; for the local target the realm, unless the target says another.
    pub namespace: Name,
    /// Name.
    pub name: Name,
    /// Labels.
    pub labels: Labels,
    /// Free notes.
    pub annotations: Labels,
    /// +1 whenever the spec changes; 0 before the first save.
    pub generation: i64,
    /// Stable random identity; empty before the first save.
    pub uid: String,
    /// When it was first saved.
    pub created_at: Option<Timestamp>,
    /// When deletion was asked for.
    pub deletion: Option<Timestamp>,
    /// What must be done before it is gone.
    pub finalizers: Vec<String>,
    /// +1 with every write; 0 before the first save.
    pub resource_version: i64,
}

impl ReleaseMeta {
    /// Metadata of an object that was not saved yet.
    pub fn new(namespace: Name, name: Name) -> Self {
        Self {
            namespace,
            name,
            labels: Labels::new(),
            annotations: Labels::new(),
            generation: 0,
            uid: String::new(),
            created_at: None,
            deletion: None,
            finalizers: Vec::new(),
            resource_version: 0,
        }
    }
}

/// One release object of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyRelease {
    /// Settings.
    Kitchen(Box<Kitchen>),
    /// A source registry with its login.
    Pantry(Box<Pantry>),
    /// The common part of several Recipes.
    RecipeTemplate(Box<RecipeTemplate>),
    /// Intent.
    Recipe(Box<Recipe>),
    /// Artifact.
    Preparation(Box<Preparation>),
    /// Activation.
    Serving(Box<Serving>),
    /// Atomic rollout.
    Menu(Box<Menu>),
}

impl AnyRelease {
    /// Its kind.
    pub fn kind(&self) -> ReleaseKind {
        match self {
            AnyRelease::Kitchen(_) => ReleaseKind::Kitchen,
            AnyRelease::Pantry(_) => ReleaseKind::Pantry,
            AnyRelease::RecipeTemplate(_) => ReleaseKind::RecipeTemplate,
            AnyRelease::Recipe(_) => ReleaseKind::Recipe,
            AnyRelease::Preparation(_) => ReleaseKind::Preparation,
            AnyRelease::Serving(_) => ReleaseKind::Serving,
            AnyRelease::Menu(_) => ReleaseKind::Menu,
        }
    }

    /// Labels and bookkeeping.
    pub fn meta(&self) -> &ReleaseMeta {
        match self {
            AnyRelease::Kitchen(o) => &o.meta,
            AnyRelease::Pantry(o) => &o.meta,
            AnyRelease::RecipeTemplate(o) => &o.meta,
            AnyRelease::Recipe(o) => &o.meta,
            AnyRelease::Preparation(o) => &o.meta,
            AnyRelease::Serving(o) => &o.meta,
            AnyRelease::Menu(o) => &o.meta,
        }
    }

    /// Labels and bookkeeping, to be changed.
    pub fn meta_mut(&mut self) -> &mut ReleaseMeta {
        match self {
            AnyRelease::Kitchen(o) => &mut o.meta,
            AnyRelease::Pantry(o) => &mut o.meta,
            AnyRelease::RecipeTemplate(o) => &mut o.meta,
            AnyRelease::Recipe(o) => &mut o.meta,
            AnyRelease::Preparation(o) => &mut o.meta,
            AnyRelease::Serving(o) => &mut o.meta,
            AnyRelease::Menu(o) => &mut o.meta,
        }
    }

    /// Its reference.
    pub fn at(&self) -> ReleaseRef {
        let meta = self.meta();
        ReleaseRef::new(self.kind(), &meta.namespace, &meta.name)
    }
}

macro_rules! releases {
    ($($type:ident),*) => {$(
        impl From<$type> for AnyRelease {
            fn from(object: $type) -> Self {
                AnyRelease::$type(Box::new(object))
            }
        }

        impl TryFrom<AnyRelease> for $type {
            /// The object, which is of another kind.
            type Error = AnyRelease;

            fn try_from(object: AnyRelease) -> Result<Self, AnyRelease> {
                match object {
                    AnyRelease::$type(object) => Ok(*object),
                    other => Err(other),
                }
            }
        }

        impl $type {
            /// Its kind.
            pub const KIND: ReleaseKind = ReleaseKind::$type;

            /// Its reference.
            pub fn at(&self) -> ReleaseRef {
                ReleaseRef::new(Self::KIND, &self.meta.namespace, &self.meta.name)
            }
        }
    )*};
}

releases!(
    Kitchen,
    Pantry,
    RecipeTemplate,
    Recipe,
    Preparation,
    Serving,
    Menu
);
