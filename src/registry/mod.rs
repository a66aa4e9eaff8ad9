//! The OCI registry: a content store on disk, the distribution API v1.1 over
//! HTTP, accounts. It knows nothing of the rest of kukeon. Beside it stands the
//! client of others' registries.
//!
//! ```text
//! <root>/blobs/<algorithm>/<2 hex>/<hex>        all content, once
//! <root>/repos/<name>/blobs/<digest>            link: size of a blob that the repository shows
//! <root>/repos/<name>/manifests/<digest>        link: type and size of a manifest
//! <root>/repos/<name>/tags/<tag>                digest of a manifest
//! <root>/repos/<name>/referrers/<subject>/<digest>   descriptor of a manifest that has this subject
//! <root>/uploads/<id>                           bytes of an upload session
//! <root>/auth/                                  accounts, keys and certificates, 0600
//! <root>/.lock                                  shared: writers; exclusive: deletions
//! ```
//!
//! A link is the truth of what a repository shows. Content without a link can be
//! had by nobody and goes after a week; a link without content counts as absent.

pub mod auth;
pub mod client;
mod config;
mod error;
pub mod http;
mod name;
mod sendfile;
pub mod serve;
pub mod storage;

pub use config::{Config, MANIFEST_LIMIT, Scheme};
pub use error::{Error, Result};
pub use name::{PREPARATION_TYPE, PREPARATIONS, Reference, Repository, Tag};
pub use storage::{Limits, Policy, Storage};
