//! Lists and shows images.

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex, PoisonError};

use containerd_client::services::v1::Image;
use futures::StreamExt;

use super::digest;
use super::document::Descriptor;
use super::platform::Platform;
use super::reference::normalise;
use super::store::Store;
use super::tree::{Choice, Tree};
use super::unpack;
use crate::runtime::{Connection, Error, ImageDetail, ImageInfo, Result};

/// Sizes by target digest. Content never changes under its digest, so these
/// hold for every namespace and as long as the process lives.
static SIZES: LazyLock<Mutex<HashMap<String, u64>>> = LazyLock::new(Mutex::default);
/// A bound for a daemon that sees images come and go for years.
const MAX_SIZES: usize = 4096;
/// Documents read at once.
const AT_ONCE: usize = 8;

/// Images of a namespace, by name.
pub(crate) async fn list(connection: &Connection, namespace: &str) -> Result<Vec<ImageInfo>> {
    let store = Store::new(connection, namespace);
    let images = store.all_images().await?;
    let described = futures::stream::iter(images.into_iter().map(|image| describe(&store, image)));
    let mut list: Vec<ImageInfo> = described.buffer_unordered(AT_ONCE).collect().await;
    list.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(list)
}

/// Normalised references with target digests.
pub(crate) async fn digests(
    connection: &Connection,
    namespace: &str,
) -> Result<BTreeMap<String, String>> {
    let images = Store::new(connection, namespace).all_images().await?;
    let pair = |image: Image| {
        let digest = image.target.unwrap_or_default().digest;
        (image.name, digest)
    };
    Ok(images.into_iter().map(pair).collect())
}

/// One image with its documents.
pub(crate) async fn detail(
    connection: &Connection,
    namespace: &str,
    reference: &str,
) -> Result<ImageDetail> {
    let store = Store::new(connection, namespace);
    let image = find(&store, reference).await?;
    let target = target(&image);
    let host = Platform::host();
    let tree = Tree::read(&store, &image.name, &target, &host, Choice::Any).await?;
    let mut chain_id = digest::chain_ids(&tree.config.rootfs.diff_ids)
        .pop()
        .unwrap_or_default();
    if !chain_id.is_empty() && !unpack::exists(&store, &chain_id).await? {
        chain_id.clear();
    }
    Ok(ImageDetail {
        info: info(image, tree.size()),
        manifest: text(tree.manifest_bytes)?,
        config: text(tree.config_bytes)?,
        chain_id,
    })
}

/// The record of an image: by its normalised name, or by exactly what was
/// written, for names that other clients made.
pub(crate) async fn find(store: &Store, reference: &str) -> Result<Image> {
    let normal = normalise(reference);
    if let Ok(name) = &normal
        && let Some(image) = store.image(name).await?
    {
        return Ok(image);
    }
    if let Some(image) = store.image(reference).await? {
        return Ok(image);
    }
    Err(Error::ImageNotFound(normal?))
}

async fn describe(store: &Store, image: Image) -> ImageInfo {
    let target = target(&image);
    let known = sizes().get(&target.digest).copied();
    let size = match known {
        Some(size) => size,
        // An image of another client may lack documents: it is listed still.
        None => measure(store, &image.name, &target).await.unwrap_or(0),
    };
    info(image, size)
}

async fn measure(store: &Store, name: &str, target: &Descriptor) -> Result<u64> {
    let host = Platform::host();
    let tree = Tree::read(store, name, target, &host, Choice::Any).await?;
    let size = tree.size();
    // The variant for this machine may still come for an index that lacks it.
    if host.rank(&tree.config.platform).is_some() {
        let mut sizes = sizes();
        if sizes.len() >= MAX_SIZES {
            sizes.clear();
        }
        sizes.insert(target.digest.clone(), size);
    }
    Ok(size)
}

fn sizes() -> std::sync::MutexGuard<'static, HashMap<String, u64>> {
    // A panic elsewhere cannot leave a map of numbers half-changed.
    SIZES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Descriptor that an image's name points at.
pub(crate) fn target(image: &Image) -> Descriptor {
    image
        .target
        .as_ref()
        .map(Descriptor::from_api)
        .unwrap_or_default()
}

fn info(image: Image, size: u64) -> ImageInfo {
    let target = image.target.unwrap_or_default();
    let created = image.created_at.unwrap_or_default();
    ImageInfo {
        name: image.name,
        digest: target.digest,
        media_type: target.media_type,
        size,
        created_at: jiff::Timestamp::new(created.seconds, created.nanos)
            .map(|t| t.to_string())
            .unwrap_or_default(),
        labels: image.labels.into_iter().collect(),
    }
}

fn text(bytes: Vec<u8>) -> Result<String> {
    // serde_json has read it, so it is UTF-8.
    String::from_utf8(bytes).map_err(|e| Error::Other {
        what: "image document".into(),
        cause: e.to_string(),
    })
}
