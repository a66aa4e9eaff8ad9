//! External versions ⇄ the internal model.
//!
//! Each version is one directory with two directions per kind. Nothing outside
//! this room knows a version; `decode` is the way in for documents of any.

mod check;
pub mod config;
mod error;
mod input;
pub mod v1alpha1;
pub mod v1beta1;

pub use check::check_marks;
pub use error::Error;
pub use input::is_reserved_label;

use crate::api::{Document, Object, V1beta1};
use crate::model::delivery::AnyRelease;
use crate::model::{AnyObject, CellContainer};

/// Whether passwords are written out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// For the store.
    Keep,
    /// For everyone else.
    Hide,
}

// The version that is written: to the store, and in answers.
pub use v1alpha1::{release_to_external, release_to_model};
pub use v1beta1::{
    cell_status_to_external, cell_status_to_model, cell_to_brief, cell_to_external, cell_to_model,
    container_spec_to_external, container_spec_to_model, container_status_to_external,
    container_status_to_model, container_to_external, container_to_model, realm_to_external,
    realm_to_model, scope_status_to_external, scope_status_to_model, secret_to_external,
    secret_to_model, space_to_external, space_to_model, stack_to_external, stack_to_model,
    volume_to_external, volume_to_model,
};

/// One object that a document can hold.
#[allow(
    clippy::large_enum_variant,
    reason = "one at a time, and unpacked at once"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// Of the runtime.
    Runtime(AnyObject),
    /// Of delivery.
    Release(AnyRelease),
}

/// What a person wants, from a document of any version. Fields that only kukeon
/// writes (status, generation, uid, times) are ignored; reserved labels are refused.
pub fn decode(document: Document) -> Result<Decoded, Error> {
    let object = match document.object {
        Object::V1beta1(object) => object,
        Object::Release(release) => {
            let object = release_to_model(*release)?;
            return input::wanted(object).map(Decoded::Release);
        }
    };
    let object = match *object {
        V1beta1::Realm(o) => realm_to_model(o).map(AnyObject::Realm),
        V1beta1::Space(o) => space_to_model(o).map(AnyObject::Space),
        V1beta1::Stack(o) => stack_to_model(o).map(AnyObject::Stack),
        V1beta1::Cell(o) => cell_to_model(o).map(AnyObject::Cell),
        V1beta1::Volume(o) => volume_to_model(o).map(AnyObject::Volume),
        V1beta1::Secret(o) => secret_to_model(o).map(AnyObject::Secret),
        V1beta1::Container(o) => container_to_model(o).map(|(at, meta, spec)| {
            AnyObject::Container(Box::new(CellContainer { at, meta, spec }))
        }),
    }?;
    input::desired(object).map(Decoded::Runtime)
}

#[cfg(test)]
mod tests;
