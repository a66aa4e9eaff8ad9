//! Imports archives: OCI layouts and what `docker save` writes.

use std::collections::HashMap;

use serde::Deserialize;
use tokio::io::AsyncRead;

use super::archive::{self, Contents, Stored, bad};
use super::document::{self, Descriptor, Index, Manifest};
use super::lease::Lease;
use super::platform::Platform;
use super::reference::normalise;
use super::source::Compression;
use super::store::Store;
use super::tree::{Choice, Tree};
use super::unpack::Unpacker;
use crate::model::ProgressSink;
use crate::runtime::{Connection, Error, Result};

/// What other tools call an image in an OCI layout, the more telling one first.
const NAMES: [&str; 2] = [
    "io.containerd.image.name",
    "org.opencontainers.image.ref.name",
];

const UNNAMED: &str = "it names no image; write it with a name, for example \
    `docker save -o image.tar app:1.0` or `skopeo copy … oci-archive:image.tar:app:1.0`";

/// A name and what it will point at.
type Named = (String, Descriptor);

/// Imports and unpacks an archive; see [`crate::runtime::Runtime::load_image`].
pub(crate) async fn load(
    connection: &Connection,
    namespace: &str,
    archive: Box<dyn AsyncRead + Send + Unpin>,
    progress: &ProgressSink,
) -> Result<Vec<String>> {
    let lease = Lease::take(connection, namespace, "load").await?;
    let result = import(&lease, archive, progress).await;
    lease.finish(result).await
}

async fn import(
    lease: &Lease,
    source: Box<dyn AsyncRead + Send + Unpin>,
    progress: &ProgressSink,
) -> Result<Vec<String>> {
    let store = lease.store();
    let contents = archive::read(store, source, progress).await?;
    let images = find(store, &contents).await?;
    let host = Platform::host();
    for (name, target) in &images {
        let tree = Tree::read(store, name, target, &host, Choice::Strict).await;
        let tree = tree.map_err(in_archive)?;
        for layer in &tree.manifest.layers {
            // It may be here from elsewhere, where its archive left it out.
            lease.hold_content(&layer.digest).await?;
            let there = store.info(&layer.digest).await?;
            if there.is_none_or(|info| u64::try_from(info.size) != Ok(layer.size)) {
                return Err(bad(format!("layer {} of {name} is missing", layer.digest)));
            }
        }
        let diff_ids = &tree.config.rootfs.diff_ids;
        let unpacker = Unpacker::new(lease, &tree.manifest, diff_ids, progress).await?;
        unpacker.run().await.map_err(in_archive)?;
        tree.label(store).await?;
    }
    // Names come last: a failed import leaves none.
    for (name, target) in &images {
        store.set_image(name, target, HashMap::new()).await?;
    }
    let mut names: Vec<String> = images.into_iter().map(|(name, _)| name).collect();
    names.dedup();
    Ok(names)
}

async fn find(store: &Store, contents: &Contents) -> Result<Vec<Named>> {
    let mut found = vec![];
    if let Some(index) = &contents.index {
        found = layout(store, index).await?;
    }
    if let (true, Some(manifest)) = (found.is_empty(), &contents.manifest) {
        found = docker(store, contents, manifest).await?;
    }
    if !found.is_empty() {
        return Ok(found);
    }
    if contents.index.is_none() && contents.manifest.is_none() {
        return Err(bad(
            "it holds neither index.json (an OCI layout) nor manifest.json (docker save)",
        ));
    }
    Err(bad(UNNAMED))
}

/// The named images of an OCI layout. Several manifests under one name are one
/// image for several platforms.
async fn layout(store: &Store, index: &[u8]) -> Result<Vec<Named>> {
    let index = document::parse_index(index).map_err(bad)?;
    let mut groups: Vec<(String, Vec<Descriptor>)> = vec![];
    for entry in index.manifests {
        let name = NAMES.iter().find_map(|key| entry.annotations.get(*key));
        let Some(name) = name else { continue };
        let name = named(name)?;
        match groups.iter_mut().find(|(other, _)| *other == name) {
            Some((_, entries)) if entries.iter().any(|e| e.digest == entry.digest) => {}
            Some((_, entries)) => entries.push(entry),
            None => groups.push((name, vec![entry])),
        }
    }
    let mut images = vec![];
    for (name, mut entries) in groups {
        let target = if entries.len() > 1 {
            let index = Index {
                schema_version: 2,
                media_type: document::INDEX.to_owned(),
                manifests: entries,
            };
            store.put(document::INDEX, json(&index)?).await?
        } else {
            typed(store, entries.remove(0)).await?
        };
        images.push((name, target));
    }
    Ok(images)
}

/// Fills in a media type that was left out: other clients go by it.
async fn typed(store: &Store, mut target: Descriptor) -> Result<Descriptor> {
    if target.media_type.is_empty() {
        let bytes = store.checked(&target).await.map_err(in_archive)?;
        let index = super::tree::looks_like_index("", &bytes);
        let kind = if index {
            document::INDEX
        } else {
            document::MANIFEST
        };
        kind.clone_into(&mut target.media_type);
    }
    Ok(target)
}

/// One image of `manifest.json` (Docker image specification v1.2, "Combined
/// Image JSON + Filesystem Changeset Format").
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// The named images of a Docker archive, each with a manifest made for it.
async fn docker(store: &Store, contents: &Contents, manifest: &[u8]) -> Result<Vec<Named>> {
    let saved: Vec<Saved> = document::parse("manifest.json", manifest).map_err(bad)?;
    let mut images = vec![];
    for image in saved {
        let tags = image.repo_tags.unwrap_or_default();
        if tags.is_empty() {
            continue;
        }
        let file = |path: &str| {
            let missing = || bad(format!("{path}, named in manifest.json, is missing"));
            contents.file(path).ok_or_else(missing)
        };
        let described = |file: &Stored, media_type: String| Descriptor {
            media_type,
            digest: file.digest.clone(),
            size: file.size,
            ..Descriptor::default()
        };
        let config = described(file(&image.config)?, document::CONFIG.to_owned());
        let mut layers = vec![];
        for path in image.layers.unwrap_or_default() {
            let layer = file(&path)?;
            layers.push(described(layer, layer_type(layer.compression)));
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: document::MANIFEST.to_owned(),
            config,
            layers,
        };
        let target = store.put(document::MANIFEST, json(&manifest)?).await?;
        for tag in tags {
            images.push((named(&tag)?, target.clone()));
        }
    }
    Ok(images)
}

fn layer_type(compression: Compression) -> String {
    let suffix = match compression {
        Compression::None => "",
        Compression::Gzip => "+gzip",
        Compression::Zstd => "+zstd",
    };
    format!("{}{suffix}", document::LAYER)
}

fn named(name: &str) -> Result<String> {
    normalise(name).map_err(|error| match error {
        Error::BadReference(name, why) => bad(format!("its image name {name:?} is invalid: {why}")),
        other => other,
    })
}

/// Our own documents always serialise.
fn json<T: serde::Serialize>(document: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(|e| Error::Other {
        what: "image manifest".into(),
        cause: e.to_string(),
    })
}

/// What was wrong with a document or layer is wrong with the archive.
fn in_archive(error: Error) -> Error {
    match error {
        Error::NotFound(what) => bad(format!("{what} is missing")),
        Error::Other { what, cause } => bad(format!("{what}: {cause}")),
        Error::Digest { .. } => bad(error.to_string()),
        other => other,
    }
}
