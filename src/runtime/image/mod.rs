//! Images: references, pull, load, unpack, list, remove, prune, the built-in one.

use std::collections::BTreeMap;
use std::path::Path;

use tokio::io::AsyncRead;

use super::{Connection, Error, ImageDetail, ImageInfo, PruneReport, PullRequest, Result};
use crate::model::ProgressSink;

/// Normalises a reference: `nginx` is `docker.io/library/nginx:latest`.
pub fn normalise(reference: &str) -> Result<String> {
    Ok(reference.to_owned())
}

/// Images of a namespace.
pub(crate) async fn list(_c: &Connection, _namespace: &str) -> Result<Vec<ImageInfo>> {
    Err(Error::NotFound("images".into()))
}

/// One image with its documents.
pub(crate) async fn detail(
    _c: &Connection,
    _namespace: &str,
    _reference: &str,
) -> Result<ImageDetail> {
    Err(Error::NotFound("image".into()))
}

/// Normalised references with target digests.
pub(crate) async fn digests(_c: &Connection, _namespace: &str) -> Result<BTreeMap<String, String>> {
    Err(Error::NotFound("images".into()))
}

/// Fetches and unpacks.
pub(crate) async fn pull(
    _c: &Connection,
    _request: &PullRequest,
    _progress: ProgressSink,
) -> Result<String> {
    Err(Error::NotFound("image".into()))
}

/// Imports and unpacks an archive.
pub(crate) async fn load(
    _c: &Connection,
    _namespace: &str,
    _archive: Box<dyn AsyncRead + Send + Unpin>,
    _progress: ProgressSink,
) -> Result<Vec<String>> {
    Err(Error::NotFound("archive".into()))
}

/// Makes the built-in image.
pub(crate) async fn ensure_builtin(
    _c: &Connection,
    _namespace: &str,
    _program: &Path,
) -> Result<bool> {
    Err(Error::NotFound("program".into()))
}

/// Removes an image.
pub(crate) async fn remove(_c: &Connection, _namespace: &str, _reference: &str) -> Result<String> {
    Err(Error::NotFound("image".into()))
}

/// Removes what nothing uses.
pub(crate) async fn prune(_c: &Connection, _namespace: &str) -> Result<PruneReport> {
    Err(Error::NotFound("images".into()))
}
