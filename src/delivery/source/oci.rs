//! Artifacts from registries: which one a version is, and its files.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Deserialize;

use crate::delivery::failure::{Failure, Reason, Result};
use crate::oci::Digest;
use crate::oci::media;
use crate::registry::client::{self, Access, Location, Registry};

use super::tree::{File, MAX_BYTES, Tree, invalid};
use super::{Content, archive};

const HELM: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
const TITLE: &str = "org.opencontainers.image.title";
const UNPACK: &str = "io.deis.oras.content.unpack";
/// Layers that are archives whatever their annotations say.
const ARCHIVES: [&str; 5] = [
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.cncf.flux.content.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
];

/// A repository, as far as sources need it.
#[derive(Debug)]
pub struct Repository {
    registry: Registry,
    shown: String,
}

/// The manifest of an artifact.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Its digest, `sha256:…`.
    pub digest: String,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    manifest: Manifest,
}

/// Go writes `null` for an empty list or map, so every field may be that.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    layers: Option<Vec<Layer>>,
    annotations: Option<BTreeMap<String, String>>,
    /// Only indexes have it.
    manifests: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
    size: u64,
    annotations: Option<BTreeMap<String, String>>,
}

impl Layer {
    fn annotation(&self, key: &str) -> &str {
        let all = self.annotations.as_ref();
        all.and_then(|all| all.get(key)).map_or("", String::as_str)
    }
}

impl Repository {
    /// A repository. Nothing is sent yet.
    pub fn new(host: &str, repository: &str, access: Access) -> Self {
        let shown = format!("oci://{host}/{repository}");
        let location = Location {
            host: host.to_owned(),
            repository: repository.to_owned(),
            shown: shown.clone(),
        };
        Self {
            registry: Registry::new(location, access),
            shown,
        }
    }

    /// What a tag or digest is now. `SourceNotFound`, `SourceUnavailable`,
    /// `SourceDigestMismatch` where it is not what `pin` says.
    pub async fn resolve(&self, version: &str, pin: Option<&str>) -> Result<Resolved> {
        let shown = format!("{}:{version}", self.shown);
        let fetched = self.registry.manifest(version).await;
        let fetched = fetched.map_err(|error| failed(&shown, error))?;
        Resolved::read(&shown, &fetched.bytes, &fetched.media_type, version, pin)
    }

    /// The files of an artifact.
    pub async fn fetch(&self, resolved: &Resolved) -> Result<Content> {
        let blob = |digest, size| self.blob(digest, size).boxed();
        resolved.content(&self.shown, &blob).await
    }
}

/// Reads a blob by digest and size, and checks that it is that.
pub type Blobs<'a> = dyn Fn(String, u64) -> BoxFuture<'a, Result<Vec<u8>>> + Send + Sync + 'a;

impl Resolved {
    /// Reads a manifest; `shown` is its reference in messages.
    pub fn read(
        shown: &str,
        bytes: &[u8],
        media_type: &str,
        version: &str,
        pin: Option<&str>,
    ) -> Result<Self> {
        let digest = Digest::sha256(bytes).to_string();
        let promised = version.contains(':').then_some(version);
        for wanted in [promised, pin].into_iter().flatten() {
            if wanted != digest {
                let message = format!("{shown} has the digest {digest}, expected {wanted}");
                return Err(Failure::new(Reason::SourceDigestMismatch, message)
                    .hint("change spec.source.digest if the new content is wanted"));
            }
        }
        let manifest: Manifest = serde_json::from_slice(bytes)
            .map_err(|error| invalid(format!("{shown}: its manifest: {error}")))?;
        if media::INDEX == media_type || manifest.manifests.is_some() {
            let message = format!("{shown} is an index of several artifacts");
            return Err(Failure::new(Reason::SourceKindMismatch, message)
                .hint("name the digest of one of them as the version"));
        }
        Ok(Resolved {
            digest,
            annotations: manifest.annotations.clone().unwrap_or_default(),
            manifest,
        })
    }

    /// The files of the artifact, whose layers come from `blobs`.
    pub async fn content(&self, shown: &str, blobs: &Blobs<'_>) -> Result<Content> {
        let layers = self.manifest.layers.as_deref().unwrap_or_default();
        // As others announce it: it may be more than there are numbers.
        let sizes = layers.iter().map(|layer| layer.size);
        let total = sizes.fold(0, u64::saturating_add);
        if total > MAX_BYTES as u64 {
            let message = format!("{} has {total} bytes, at most {MAX_BYTES} are taken", shown);
            return Err(invalid(message));
        }
        let chart = layers.iter().any(|layer| layer.media_type == HELM);
        let mut tree = Tree::default();
        for layer in layers {
            let title = layer.annotation(TITLE);
            let is_archive = ARCHIVES.contains(&&*layer.media_type);
            let wanted = match chart {
                // Its provenance file is another layer.
                true => layer.media_type == HELM,
                false => is_archive || !title.is_empty(),
            };
            if !wanted {
                continue;
            }
            let bytes = blobs(layer.digest.clone(), layer.size).await?;
            let about = |failure: Failure| failure.about(format!("layer {}", layer.digest));
            if is_archive || chart || layer.annotation(UNPACK) == "true" {
                let strip = if chart { "*" } else { "" };
                archive::extract(&bytes, strip, &mut tree)
                    .await
                    .map_err(about)?;
            } else {
                let file = File {
                    bytes,
                    executable: false,
                };
                tree.insert(title, file).map_err(about)?;
            }
        }
        if tree.is_empty() {
            let message = format!("{shown} at {} holds no files", self.digest);
            return Err(Failure::new(Reason::SourceKindMismatch, message).hint(
                "push manifests, a directory or a chart; container images cannot be rendered",
            ));
        }
        Ok(Content {
            digest: self.digest.clone(),
            annotations: self.annotations.clone(),
            tree,
        })
    }
}

impl Repository {
    async fn blob(&self, digest: String, size: u64) -> Result<Vec<u8>> {
        let read = self.registry.read_blob(&digest, size).await;
        read.map_err(|error| failed(&format!("{} at {digest}", self.shown), error))
    }
}

fn failed(shown: &str, error: client::Error) -> Failure {
    match error {
        client::Error::NotFound(_) => {
            Failure::new(Reason::SourceNotFound, format!("{shown} is not there"))
                .hint("push it, or change spec.source; then `kuke recipe refresh`")
        }
        client::Error::Unauthorized { .. } => {
            Failure::new(Reason::SourceUnavailable, error.to_string())
                .hint("give a login: a Pantry with username and password")
        }
        error => Failure::new(Reason::SourceUnavailable, format!("{shown}: {error}"))
            .hint("it is tried again by itself; `kuke recipe refresh` does it now"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sizes_that_add_up_to_more_than_a_number_are_refused() {
        let layer = |size: u64| {
            let digest = format!("sha256:{}", "1".repeat(64));
            serde_json::json!({
                "mediaType": ARCHIVES[0], "digest": digest, "size": size,
            })
        };
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "layers": [layer(u64::MAX), layer(2)],
        });
        let bytes = manifest.to_string().into_bytes();
        let resolved = Resolved::read("x", &bytes, media::MANIFEST, "v1", None).unwrap();
        let none = |_: String, _: u64| -> BoxFuture<'static, Result<Vec<u8>>> {
            panic!("nothing is fetched");
        };
        let refused = resolved.content("x", &none).await.unwrap_err();
        assert!(refused.message.contains("at most"), "{}", refused.message);
    }
}
