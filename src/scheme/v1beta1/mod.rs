//! `v1beta1` ⇄ model.
//!
//! `*_to_model` accepts what a person wrote and what the store kept, and checks
//! every value. A status that cannot be read is dropped, not refused: it is
//! derived again. `*_to_external` writes everything that the model holds.

mod cell;
mod container;
mod image;
mod kept;
mod mount;
mod scope;
mod secret;
mod security;
mod status;

pub use cell::{
    cell_to_brief, cell_to_external, cell_to_model, container_to_external, container_to_model,
};
pub use container::{container_spec_to_external, container_spec_to_model};
pub use kept::{secret_to_external, secret_to_model, volume_to_external, volume_to_model};
pub use scope::{
    realm_to_external, realm_to_model, space_to_external, space_to_model, stack_to_external,
    stack_to_model,
};
pub use status::{
    cell_status_to_external, cell_status_to_model, container_status_to_external,
    container_status_to_model, scope_status_to_external, scope_status_to_model,
};

use jiff::Timestamp;

use super::check::Check;
use crate::api::v1beta1;
use crate::model::{Meta, Name};

/// The version's name in `apiVersion`.
pub const VERSION: &str = "v1beta1";

/// Envelope and metadata of a document of this kind.
fn envelope(
    check: &mut Check,
    kind: &str,
    api_version: &str,
    found: &str,
    metadata: Option<v1beta1::Metadata>,
) -> (Option<Name>, Meta) {
    right_kind(check, kind, api_version, found);
    bookkeeping(check, metadata.unwrap_or_default())
}

fn right_kind(check: &mut Check, kind: &str, api_version: &str, found: &str) {
    if !api_version.is_empty() && api_version != VERSION {
        check.bad(
            "apiVersion",
            "UnsupportedVersion",
            format!("{api_version:?} is not {VERSION:?}"),
        );
    }
    if !found.is_empty() && found != kind {
        check.bad("kind", "UnknownKind", format!("{found:?} is not {kind:?}"));
    }
}

fn bookkeeping(check: &mut Check, metadata: v1beta1::Metadata) -> (Option<Name>, Meta) {
    let v1beta1::Metadata {
        name,
        labels,
        annotations,
        generation,
        uid,
        created_at,
        deletion_timestamp,
    } = metadata;
    let name = check.name("metadata.name", &name);
    check.labels("metadata.labels", &labels);
    check.annotations("metadata.annotations", &annotations);
    if generation < 0 {
        check.bad("metadata.generation", "OutOfRange", "is negative");
    }
    let meta = Meta {
        labels,
        annotations,
        generation,
        uid,
        created_at: time(check, "metadata.createdAt", &created_at),
        deletion: time(check, "metadata.deletionTimestamp", &deletion_timestamp),
    };
    (name, meta)
}

/// Metadata as it is shown and stored.
fn metadata(name: &Name, meta: &Meta) -> Option<v1beta1::Metadata> {
    let Meta {
        labels,
        annotations,
        generation,
        uid,
        created_at,
        deletion,
    } = meta;
    Some(v1beta1::Metadata {
        name: name.to_string(),
        labels: labels.clone(),
        annotations: annotations.clone(),
        generation: *generation,
        uid: uid.clone(),
        created_at: time_text(*created_at),
        deletion_timestamp: time_text(*deletion),
    })
}

/// RFC 3339; empty is no time.
fn time(check: &mut Check, path: &str, text: &str) -> Option<Timestamp> {
    if text.is_empty() {
        return None;
    }
    match text.parse() {
        Ok(time) => Some(time),
        Err(_) => {
            check.bad(path, "BadTime", format!("{text:?} is not an RFC 3339 time"));
            None
        }
    }
}

fn time_text(time: Option<Timestamp>) -> String {
    time.map(|t| t.to_string()).unwrap_or_default()
}

/// `spec.id`, accepted for compatibility, must not contradict the name.
fn same_id(check: &mut Check, id: &str, name: Option<&Name>) {
    if let Some(name) = name
        && !id.is_empty()
        && id != name.as_str()
    {
        check
            .bad(
                "spec.id",
                "BadName",
                format!("{id:?} differs from metadata.name {name:?}"),
            )
            .suggestion = "leave spec.id out".to_owned();
    }
}

/// Name of a parent object.
fn parent(check: &mut Check, field: &str, kind: &str, text: &str) -> Option<Name> {
    let path = format!("spec.{field}");
    if text.is_empty() {
        check
            .bad(
                path,
                "MissingField",
                format!("is required: the {kind} it belongs to"),
            )
            .suggestion = format!("add \"{field}: default\" below spec for the default {kind}");
        return None;
    }
    check.name(&path, text)
}
