//! External types, generated from `proto/kukeon`, and the errors of the edge.

pub mod error;
mod suggest;
pub mod yaml;

pub use error::{Code, Error, Result};
pub use suggest::closest;

/// Manifest kinds (`apiVersion: v1beta1`).
#[allow(missing_docs, clippy::all)]
pub mod v1beta1 {
    tonic::include_proto!("kukeon.v1beta1");
}

/// The service and its messages.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("kukeon.v1");
}

/// Whether a value is its type's default; unset fields are not written.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
