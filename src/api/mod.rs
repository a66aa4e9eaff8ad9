//! External types, generated from `proto/kukeon`, their strict decoding, and the
//! errors of the edge.

mod config;
pub mod delivery;
mod document;
pub mod error;
mod problem;
pub mod selector;
mod suggest;
pub mod yaml;

pub use config::{Configuration, decode_config};
pub use document::{Document, MAX_INPUT, Object, Release, V1beta1, decode, decode_each};
pub use error::{Code, Error, Result};
pub use problem::{Located, Problem};
pub use selector::Selector;
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

/// Hides the password.
impl std::fmt::Debug for v1beta1::RegistryCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryCredential")
            .field("server_address", &self.server_address)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// Hides the value.
impl std::fmt::Debug for v1beta1::SecretSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretSpec").finish_non_exhaustive()
    }
}

/// Hides the logins.
impl std::fmt::Debug for v1::ConnectClusterRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectClusterRequest")
            .field("name", &self.name)
            .field("namespace", &self.namespace)
            .field("registry_url", &self.registry_url)
            .finish_non_exhaustive()
    }
}

/// Hides the password.
impl std::fmt::Debug for v1::RegistryLoginRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryLoginRequest")
            .field("name", &self.name)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

/// Hides the password.
impl std::fmt::Debug for v1::RegistryLoginResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryLoginResponse")
            .field("address", &self.address)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Hides the password.
impl std::fmt::Debug for v1::WebAccountRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebAccountRequest")
            .field("name", &self.name)
            .field("role", &self.role)
            .field("remove", &self.remove)
            .finish_non_exhaustive()
    }
}

/// Hides the password.
impl std::fmt::Debug for v1::WebAccountResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebAccountResponse")
            .field("address", &self.address)
            .field("accounts", &self.accounts)
            .finish_non_exhaustive()
    }
}

/// Whether a value is its type's default; unset fields are not written.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Reads a field whose name stands there with nothing behind it as unset.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + serde::Deserialize<'de>,
{
    Ok(<Option<T> as serde::Deserialize>::deserialize(deserializer)?.unwrap_or_default())
}
