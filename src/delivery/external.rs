//! Release objects in their outside form.

use crate::api::v1::{self, object};
use crate::api::{Error, Release, Result};
use crate::model::Value;
use crate::model::delivery::{AnyRelease, ReleaseRef};
use crate::scheme::{self, Secrets};

/// An object as answers carry it, without passwords.
pub(super) fn object(release: &AnyRelease) -> v1::Object {
    let object = match scheme::release_to_external(release, Secrets::Hide) {
        Release::Kitchen(o) => object::Object::Kitchen(o),
        Release::Pantry(o) => object::Object::Pantry(o),
        Release::RecipeTemplate(o) => object::Object::RecipeTemplate(o),
        Release::Recipe(o) => object::Object::Recipe(o),
        Release::Preparation(o) => object::Object::Preparation(o),
        Release::Serving(o) => object::Object::Serving(o),
        Release::Menu(o) => object::Object::Menu(o),
    };
    v1::Object {
        object: Some(object),
    }
}

/// What a person wrote of an object, as a value, passwords included: for
/// comparisons, never to be shown as it is.
pub(super) fn wanted(release: &AnyRelease) -> Result<Value> {
    let text = match scheme::release_to_external(release, Secrets::Keep) {
        Release::Kitchen(o) => serde_json::to_string(&o),
        Release::Pantry(o) => serde_json::to_string(&o),
        Release::RecipeTemplate(o) => serde_json::to_string(&o),
        Release::Recipe(o) => serde_json::to_string(&o),
        Release::Preparation(o) => serde_json::to_string(&o),
        Release::Serving(o) => serde_json::to_string(&o),
        Release::Menu(o) => serde_json::to_string(&o),
    };
    let unreadable = |error: serde_json::Error| Error::failed("Encode", error.to_string());
    let value = Value::from_json(&text.map_err(unreadable)?).map_err(unreadable)?;
    let part = |key: &str| value.get(key).cloned().unwrap_or_default();
    let meta = |key: &str| value.at(&["metadata", key]).cloned().unwrap_or_default();
    Ok([
        ("labels", meta("labels")),
        ("annotations", meta("annotations")),
        ("spec", part("spec")),
    ]
    .into_iter()
    .collect())
}

/// A result for an object, with nothing but its identity and action.
pub(super) fn result_for(at: &ReleaseRef, action: &str) -> v1::ResourceResult {
    v1::ResourceResult {
        kind: at.kind.as_str().to_owned(),
        name: at.name.to_string(),
        scope: Some(v1::Scope {
            realm: at.namespace.to_string(),
            ..Default::default()
        }),
        action: action.to_owned(),
        ..Default::default()
    }
}

/// A failed result for an object.
pub(super) fn failure_for(at: &ReleaseRef, error: &Error) -> v1::ResourceResult {
    v1::ResourceResult {
        error: Some(error.into()),
        ..result_for(at, "failed")
    }
}
