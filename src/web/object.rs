//! Looking into objects of any kind.

use crate::api::delivery::v1alpha1::{Condition, Metadata};
use crate::api::v1::Object;
use crate::api::v1::object::Object as Kind;

/// Metadata of a release object; of another one, nothing.
pub fn meta(object: &Object) -> Metadata {
    let found = match &object.object {
        Some(Kind::Kitchen(o)) => &o.metadata,
        Some(Kind::Pantry(o)) => &o.metadata,
        Some(Kind::RecipeTemplate(o)) => &o.metadata,
        Some(Kind::Recipe(o)) => &o.metadata,
        Some(Kind::Preparation(o)) => &o.metadata,
        Some(Kind::Serving(o)) => &o.metadata,
        Some(Kind::Menu(o)) => &o.metadata,
        _ => &None,
    };
    found.clone().unwrap_or_default()
}

/// The condition of a type; nothing where there is none.
pub fn condition(all: &[Condition], kind: &str) -> Condition {
    let found = all.iter().find(|c| c.r#type == kind);
    found.cloned().unwrap_or_default()
}

macro_rules! kinds {
    ($($name:ident $kind:ident),*) => {
        $(
            /// Objects of one kind, the others left out.
            pub fn $name(objects: Vec<Object>) -> Vec<crate::api::delivery::v1alpha1::$kind> {
                let one = |object: Object| match object.object {
                    Some(Kind::$kind(o)) => Some(o),
                    _ => None,
                };
                objects.into_iter().filter_map(one).collect()
            }
        )*
    };
}
kinds!(recipes Recipe, preparations Preparation, servings Serving, menus Menu, pantries Pantry, kitchens Kitchen);
