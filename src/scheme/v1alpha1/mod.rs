//! `delivery.kokumi.dev/v1alpha1` ⇄ model.
//!
//! As for `v1beta1`: `*_to_model` accepts what a person wrote and what the store
//! kept; of a status, what cannot be read is dropped.

mod menu;
mod patch;
mod preparation;
mod recipe;
mod serving;
mod settings;
mod source;
mod status;
mod target;

pub use menu::run_to_external;
pub use menu::{menu_to_external, menu_to_model};
pub use preparation::{preparation_to_external, preparation_to_model};
pub use recipe::revision_to_external;
pub use recipe::{recipe_to_external, recipe_to_model};
pub use serving::activation_to_external;
pub use serving::{serving_to_external, serving_to_model};
pub use settings::{
    kitchen_to_external, kitchen_to_model, pantry_to_external, pantry_to_model,
    template_to_external, template_to_model,
};
pub use status::condition_type;

use std::time::Duration;

use jiff::Timestamp;

use super::check::{Check, Words};
use super::{Error, Secrets};
use crate::api::Release;
use crate::api::delivery::v1alpha1::{self as external};
use crate::model::delivery::{AnyRelease, ReleaseKind, ReleaseMeta, keys};
use crate::model::{Name, duration};

/// The version's name in `apiVersion`.
pub const VERSION: &str = "delivery.kokumi.dev/v1alpha1";

/// Longest name of a Recipe, so that `<recipe>-<12 hex>` is a label.
pub const MAX_RECIPE_NAME: usize = 50;
/// Longest commit message, in characters.
pub const MAX_MESSAGE: usize = 512;

/// A repository as people write it, `oci://host[:port]/repository`.
pub fn repository(text: &str) -> Result<crate::model::delivery::OciRepository, Error> {
    let mut check = Check::default();
    let found = source::repository(&mut check, "oci", text);
    check.finish(found)
}

/// Any object from its document.
pub fn release_to_model(document: Release) -> Result<AnyRelease, Error> {
    match document {
        Release::Kitchen(o) => kitchen_to_model(o).map(Into::into),
        Release::Pantry(o) => pantry_to_model(o).map(Into::into),
        Release::RecipeTemplate(o) => template_to_model(o).map(Into::into),
        Release::Recipe(o) => recipe_to_model(o).map(Into::into),
        Release::Preparation(o) => preparation_to_model(o).map(Into::into),
        Release::Serving(o) => serving_to_model(o).map(Into::into),
        Release::Menu(o) => menu_to_model(o).map(Into::into),
    }
}

/// Document of any object.
pub fn release_to_external(object: &AnyRelease, secrets: Secrets) -> Release {
    match object {
        AnyRelease::Kitchen(o) => Release::Kitchen(kitchen_to_external(o)),
        AnyRelease::Pantry(o) => Release::Pantry(pantry_to_external(o, secrets)),
        AnyRelease::RecipeTemplate(o) => Release::RecipeTemplate(template_to_external(o)),
        AnyRelease::Recipe(o) => Release::Recipe(recipe_to_external(o)),
        AnyRelease::Preparation(o) => Release::Preparation(preparation_to_external(o)),
        AnyRelease::Serving(o) => Release::Serving(serving_to_external(o)),
        AnyRelease::Menu(o) => Release::Menu(menu_to_external(o)),
    }
}

/// Envelope and metadata of a document of this kind.
fn envelope(
    check: &mut Check,
    kind: ReleaseKind,
    api_version: &str,
    found: &str,
    metadata: Option<external::Metadata>,
) -> Option<ReleaseMeta> {
    if api_version != VERSION {
        let message = format!("{api_version:?} is not {VERSION:?}");
        check.bad("apiVersion", "UnsupportedVersion", message);
    }
    let order = kind == ReleaseKind::Recipe && found == "Order";
    if found != kind.as_str() && !order {
        let message = format!("{found:?} is not {:?}", kind.as_str());
        check.bad("kind", "UnknownKind", message);
    }
    let external::Metadata {
        name,
        namespace,
        labels,
        annotations,
        generation,
        uid,
        created_at,
        deletion_timestamp,
        finalizers,
        resource_version,
    } = metadata.unwrap_or_default();
    let name = check.name("metadata.name", &name);
    let namespace = match namespace.as_str() {
        "" => check.name("metadata.namespace", "default"),
        namespace => check.name("metadata.namespace", namespace),
    };
    check.labels("metadata.labels", &labels);
    check.annotations("metadata.annotations", &annotations);
    if let Some(message) = annotations.get(keys::COMMIT_MESSAGE) {
        let path = format!("metadata.annotations.{}", keys::COMMIT_MESSAGE);
        longest(check, &path, message, MAX_MESSAGE);
    }
    if generation < 0 || resource_version < 0 {
        check.bad("metadata", "OutOfRange", "a read-only number is negative");
    }
    let created_at = time(check, "metadata.createdAt", &created_at);
    let deletion = time(check, "metadata.deletionTimestamp", &deletion_timestamp);
    let (namespace, name) = namespace.zip(name)?;
    Some(ReleaseMeta {
        namespace,
        name,
        labels,
        annotations,
        generation,
        uid,
        created_at,
        deletion,
        finalizers,
        resource_version,
    })
}

/// Metadata as it is shown and stored.
fn metadata(meta: &ReleaseMeta) -> Option<external::Metadata> {
    let ReleaseMeta {
        namespace,
        name,
        labels,
        annotations,
        generation,
        uid,
        created_at,
        deletion,
        finalizers,
        resource_version,
    } = meta;
    Some(external::Metadata {
        name: name.to_string(),
        namespace: namespace.to_string(),
        labels: labels.clone(),
        annotations: annotations.clone(),
        generation: *generation,
        uid: uid.clone(),
        created_at: time_text(*created_at),
        deletion_timestamp: time_text(*deletion),
        finalizers: finalizers.clone(),
        resource_version: *resource_version,
    })
}

/// The outside word of a value.
fn word_of<T: PartialEq>(words: &Words<T>, value: &T) -> String {
    let found = words.iter().find(|(_, inside)| inside == value);
    found
        .map(|(word, _)| (*word).to_owned())
        .unwrap_or_default()
}

/// RFC 3339; empty is no time.
fn time(check: &mut Check, path: &str, text: &str) -> Option<Timestamp> {
    if text.is_empty() {
        return None;
    }
    let time = text.parse().ok();
    if time.is_none() {
        check.bad(path, "BadTime", format!("{text:?} is not an RFC 3339 time"));
    }
    time
}

fn time_text(time: Option<Timestamp>) -> String {
    time.map(|t| t.to_string()).unwrap_or_default()
}

/// A duration; empty is the default.
fn pause(check: &mut Check, path: &str, text: &str, default: Duration) -> Duration {
    if text.is_empty() {
        return default;
    }
    duration::parse(text).unwrap_or_else(|what| {
        check.bad(path, "BadDuration", format!("{text:?}: {what}"));
        default
    })
}

/// A duration that must not be zero; empty is the default.
fn some_pause(check: &mut Check, path: &str, text: &str, default: Duration) -> Duration {
    let found = pause(check, path, text, default);
    if found.is_zero() {
        check.bad(path, "OutOfRange", "must be longer than nothing");
    }
    found
}

/// A name, where one is given.
fn some_name(check: &mut Check, path: &str, text: &str) -> Option<Name> {
    match text {
        "" => None,
        text => check.name(path, text),
    }
}

fn some_text(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn text_of<T: ToString>(value: &Option<T>) -> String {
    value.as_ref().map(T::to_string).unwrap_or_default()
}

/// Text of at most so many characters.
fn longest(check: &mut Check, path: &str, text: &str, most: usize) {
    let length = text.chars().count();
    if length > most {
        let message = format!("has {length} characters, at most {most} are allowed");
        check.bad(path, "TooLong", message);
    }
}

/// Whether text is `sha256:` with 64 lower-case hexadecimal digits.
fn is_digest(text: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.strip_prefix("sha256:")
        .is_some_and(|digits| digits.len() == 64 && digits.bytes().all(hex))
}

/// A digest that must be one.
fn digest(check: &mut Check, path: &str, text: &str) {
    if !is_digest(text) {
        let message = format!("{text:?} is not sha256: and 64 lower-case hexadecimal digits");
        check.bad(path, "BadDigest", message);
    }
}

/// A relative path without `..`, in its shortest form; empty is `.`.
fn relative(check: &mut Check, path: &str, text: &str) -> String {
    if text.starts_with('/') {
        check.bad(path, "BadPath", format!("{text:?} is not relative"));
    } else if text.split('/').any(|part| part == "..") {
        check.bad(path, "BadPath", format!("{text:?} contains \"..\""));
    } else if text.contains('\0') {
        check.bad(path, "BadPath", "contains a NUL byte");
    }
    let parts: Vec<&str> = text
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    match parts.is_empty() {
        true => ".".to_owned(),
        false => parts.join("/"),
    }
}

/// The short form of a relative path: `.` is left out.
fn relative_text(path: &str) -> String {
    match path {
        "." => String::new(),
        path => path.to_owned(),
    }
}

#[cfg(test)]
mod tests;
