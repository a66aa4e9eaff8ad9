//! Images: references, pull, load, unpack, list, remove, prune, the built-in one.
//!
//! Everything is kept in containerd's stores the way its own clients keep it
//! (labels, chain ids, leases), so that they and kukeon see the same images.

mod archive;
mod builtin;
mod digest;
mod document;
mod lease;
mod load;
mod platform;
mod prune;
mod pull;
mod push;
mod query;
mod reference;
mod source;
mod store;
mod tree;
mod unpack;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;

use tokio::io::AsyncRead;

pub use reference::{is_internal, normalise};

use super::{Connection, ImageDetail, ImageInfo, PruneReport, PullRequest, PushRequest, Result};
use crate::model::ProgressSink;
use crate::registry::client::{Access, Registry};

/// Images of a namespace.
pub(crate) async fn list(c: &Connection, namespace: &str) -> Result<Vec<ImageInfo>> {
    query::list(c, namespace).await
}

/// One image with its documents.
pub(crate) async fn detail(
    c: &Connection,
    namespace: &str,
    reference: &str,
) -> Result<ImageDetail> {
    query::detail(c, namespace, reference).await
}

/// Normalised references with target digests.
pub(crate) async fn digests(c: &Connection, namespace: &str) -> Result<BTreeMap<String, String>> {
    query::digests(c, namespace).await
}

/// Fetches and unpacks.
pub(crate) async fn pull(
    c: &Connection,
    request: &PullRequest,
    progress: ProgressSink,
) -> Result<String> {
    pull::pull(c, request, &progress).await
}

/// Repository of a reference, and its tags in the registry.
pub(crate) async fn tags(
    reference: &str,
    credentials: &[crate::model::RegistryCredential],
) -> Result<(String, Vec<String>)> {
    let image = reference::Reference::parse(reference)?;
    let repository = format!("{}/{}", image.host, image.path);
    if is_internal(&repository) {
        return Err(super::Error::ImageNotFound(repository));
    }
    let access = Access::with(credentials);
    let tags = Registry::new(image.location(), access).tags().await?;
    Ok((repository, tags))
}

/// Sends an image to a registry.
pub(crate) async fn push(
    c: &Connection,
    request: &PushRequest,
    progress: ProgressSink,
) -> Result<String> {
    push::push(c, request, &progress).await
}

/// Imports and unpacks an archive.
pub(crate) async fn load(
    c: &Connection,
    namespace: &str,
    archive: Box<dyn AsyncRead + Send + Unpin>,
    progress: ProgressSink,
) -> Result<Vec<String>> {
    load::load(c, namespace, archive, &progress).await
}

/// Makes the built-in image.
pub(crate) async fn ensure_builtin(
    c: &Connection,
    namespace: &str,
    program: &Path,
) -> Result<bool> {
    builtin::ensure(c, namespace, program).await
}

/// Removes an image.
pub(crate) async fn remove(c: &Connection, namespace: &str, reference: &str) -> Result<String> {
    prune::remove(c, namespace, reference).await
}

/// Removes what nothing uses.
pub(crate) async fn prune(c: &Connection, namespace: &str) -> Result<PruneReport> {
    prune::prune(c, namespace).await
}
