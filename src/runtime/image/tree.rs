//! The documents below an image's target, for one platform.

use super::document::{self, Config, Descriptor, Manifest};
use super::platform::Platform;
use super::store::Store;
use crate::runtime::{Error, Result};

/// Indexes may be nested; no sane image does so this often.
const MAX_DEPTH: usize = 4;

/// What to do when the wanted platform is not on offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// It is an error.
    Strict,
    /// Any platform that is here will do: for showing what there is.
    Any,
}

/// Manifest and configuration of an image for one platform.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    /// Indexes on the way, each with the position of the entry taken.
    pub(crate) indexes: Vec<(Descriptor, usize)>,
    /// Where the manifest is.
    pub(crate) manifest_at: Descriptor,
    /// The manifest.
    pub(crate) manifest: Manifest,
    /// The manifest as it is stored.
    pub(crate) manifest_bytes: Vec<u8>,
    /// The configuration.
    pub(crate) config: Config,
    /// The configuration as it is stored.
    pub(crate) config_bytes: Vec<u8>,
}

impl Tree {
    /// Reads the documents below `target` from the content store.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a blob that is missing, [`Error::Platform`],
    /// [`Error::Other`] for a document that is malformed.
    pub(crate) async fn read(
        store: &Store,
        image: &str,
        target: &Descriptor,
        wanted: &Platform,
        choice: Choice,
    ) -> Result<Self> {
        let mut tree = Self::default();
        let mut at = target.clone();
        loop {
            let bytes = store.checked(&at).await?;
            if !looks_like_index(&at.media_type, &bytes) {
                tree.manifest =
                    document::parse_manifest(&bytes).map_err(|why| malformed(image, why))?;
                tree.manifest_bytes = bytes;
                tree.manifest_at = at;
                break;
            }
            if tree.indexes.len() == MAX_DEPTH {
                return Err(malformed(image, "its indexes are nested too deep".into()));
            }
            let index = document::parse_index(&bytes).map_err(|why| malformed(image, why))?;
            let entry = pick(store, image, &index, wanted, choice).await?;
            let position = index.manifests.iter().position(|d| *d == entry);
            tree.indexes.push((at, position.unwrap_or(0)));
            at = entry;
        }
        tree.config_bytes = store.checked(&tree.manifest.config).await?;
        tree.config = document::parse_config(&tree.config_bytes, &tree.manifest)
            .map_err(|why| malformed(image, why))?;
        if choice == Choice::Strict {
            check_platform(image, wanted, &tree.config.platform)?;
        }
        Ok(tree)
    }

    /// Bytes of manifest, configuration and layers.
    pub(crate) fn size(&self) -> u64 {
        let layers: u64 = self.manifest.layers.iter().map(|l| l.size).sum();
        self.manifest_bytes.len() as u64 + self.manifest.config.size + layers
    }

    /// Tells the garbage collector what refers to what, in the labels that
    /// containerd's own clients use. Entries of an index that are not here are
    /// not referred to.
    pub(crate) async fn label(&self, store: &Store) -> Result<()> {
        const REF: &str = "containerd.io/gc.ref.content";

        let mut children = vec![(format!("{REF}.config"), self.manifest.config.digest.clone())];
        for (n, layer) in self.manifest.layers.iter().enumerate() {
            children.push((format!("{REF}.l.{n}"), layer.digest.clone()));
        }
        store.label(&self.manifest_at.digest, children).await?;
        let mut child = self.manifest_at.digest.clone();
        for (index, position) in self.indexes.iter().rev() {
            let label = (format!("{REF}.m.{position}"), child);
            store.label(&index.digest, [label]).await?;
            child = index.digest.clone();
        }
        Ok(())
    }
}

/// Refuses a configuration for another platform. One that states none (an
/// image built from nothing) is taken as it is.
pub(crate) fn check_platform(image: &str, wanted: &Platform, offer: &Platform) -> Result<()> {
    let stated = !offer.os.is_empty() && !offer.arch.is_empty();
    if stated && wanted.rank(offer).is_none() {
        return Err(Error::Platform {
            image: image.to_owned(),
            wanted: wanted.to_string(),
            offered: offer.normalised().to_string(),
        });
    }
    Ok(())
}

/// Whether a document is an index, going by what it says where its media type
/// is left out.
pub(crate) fn looks_like_index(media_type: &str, bytes: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Shape {
        manifests: Option<serde::de::IgnoredAny>,
    }

    if document::is_manifest(media_type) {
        return false;
    }
    document::is_index(media_type)
        || serde_json::from_slice::<Shape>(bytes).is_ok_and(|s| s.manifests.is_some())
}

async fn pick(
    store: &Store,
    image: &str,
    index: &document::Index,
    wanted: &Platform,
    choice: Choice,
) -> Result<Descriptor> {
    let mut entries = document::candidates(index, wanted);
    if choice == Choice::Any {
        entries.extend(&index.manifests);
    }
    for entry in &entries {
        if store.info(&entry.digest).await?.is_some() {
            return Ok((*entry).clone());
        }
    }
    match entries.first() {
        Some(entry) => Err(Error::NotFound(format!("blob {}", entry.digest))),
        None => Err(Error::Platform {
            image: image.to_owned(),
            wanted: wanted.to_string(),
            offered: document::offered(index),
        }),
    }
}

fn malformed(image: &str, why: String) -> Error {
    Error::Other {
        what: format!("image {image}"),
        cause: why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_told_by_type_or_shape() {
        assert!(looks_like_index(document::DOCKER_LIST, b""));
        assert!(looks_like_index("", br#"{"manifests":[]}"#));
        assert!(!looks_like_index("", br#"{"layers":[]}"#));
        assert!(!looks_like_index(
            document::MANIFEST,
            br#"{"manifests":[]}"#
        ));
    }

    #[test]
    fn a_configuration_without_platform_is_taken() {
        let wanted = Platform::parse("linux/amd64").unwrap();
        assert!(check_platform("x", &wanted, &Platform::default()).is_ok());
        let other = Platform::parse("linux/s390x").unwrap();
        let error = check_platform("x", &wanted, &other).unwrap_err();
        assert!(error.to_string().contains("linux/s390x"), "{error}");
    }
}
