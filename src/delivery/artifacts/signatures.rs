//! Signatures that are kept beside an artifact.

use serde::Deserialize;

use super::{Artifacts, Place, Remote, place, put};
use crate::delivery::artifact;
use crate::delivery::fault::{Fault, Result};
use crate::model::delivery::Artifact;
use crate::oci::Digest;
use crate::oci::signature::{BUNDLE_TYPE, SIMPLE_ANNOTATION, SIMPLE_LAYER, SIMPLE_TYPE, Signature};
use crate::registry::{self, Reference, Tag};

/// Largest layer of a signature that is read, in bytes.
const MAX_SIGNATURE: u64 = 64 << 10;
/// So many manifests of signatures are looked at, of whoever pushed them.
pub(super) const MOST: usize = 128;
/// So many layers of one manifest.
const LAYERS: usize = 16;

/// What is there of signatures.
#[derive(Debug, Default)]
pub(in crate::delivery) struct Signatures {
    /// Types of what looks like one, also of a kind that cannot be checked.
    pub types: Vec<String>,
    /// Those that can be checked.
    pub found: Vec<Signature>,
}

impl Artifacts {
    /// Signatures of an artifact: what refers to it, and what cosign keeps
    /// beside it under a tag of its own.
    ///
    /// # Errors
    /// Its registry does not answer.
    pub(in crate::delivery) async fn signatures(
        &self,
        at: &Place,
        artifact: &Artifact,
    ) -> Result<Signatures> {
        let digest: Digest = artifact.digest.parse().map_err(|error| {
            let message = format!("{}: {error}", artifact.oci_ref);
            Fault::new("ArtifactUnavailable", message)
        })?;
        let tag = format!("{}.sig", artifact.digest.replacen(':', "-", 1));
        let (mut types, layers) = match at.at.is_local() {
            true => self.layers_here(artifact, &tag).await?,
            false => Remote::new(at).signatures(&artifact.digest, &tag).await?,
        };
        let mut found = Vec::new();
        for layer in layers {
            let Some(bytes) = self.layer(at, artifact, &layer).await? else {
                continue;
            };
            match layer.annotations.get(SIMPLE_ANNOTATION) {
                Some(signature) => found.extend(Signature::simple(bytes, signature, &digest)),
                None => found.extend(Signature::bundle(&bytes, &digest)),
            }
        }
        types.sort();
        types.dedup();
        Ok(Signatures { types, found })
    }

    /// Keeps a simple signature beside an artifact; gives the digest of the
    /// manifest that carries it.
    ///
    /// # Errors
    /// `StoreFailed`, or that the artifact cannot be read.
    pub(in crate::delivery) async fn sign(
        &self,
        at: &Place,
        artifact: &Artifact,
        payload: Vec<u8>,
        signature: &str,
    ) -> Result<String> {
        let subject = self.subject(at, artifact).await?;
        let packed = artifact::signed(payload, signature, &subject);
        let digest = packed.digest().to_owned();
        if at.at.is_local() {
            let (repository, _) = place(artifact)?;
            self.blocking(move |storage| put(storage, &repository, &packed, None))
                .await?;
        } else {
            let remote = Remote::new(at);
            remote.put_referrer(&packed, &artifact.digest).await?;
        }
        Ok(digest)
    }

    async fn layers_here(&self, artifact: &Artifact, tag: &str) -> Result<Layers> {
        let (repository, digest) = place(artifact)?;
        let tag = tag.to_owned();
        self.blocking(move |storage| {
            let mut types = Vec::new();
            let mut found = Vec::new();
            let tag: Tag = tag.parse()?;
            match storage.get_manifest(&repository, &Reference::Tag(tag)) {
                Ok(manifest) => {
                    types.push(SIMPLE_TYPE.to_owned());
                    found.extend(layers(&manifest.bytes));
                }
                Err(registry::Error::ManifestUnknown { .. } | registry::Error::NameUnknown(_)) => {}
                Err(error) => return Err(error),
            }
            let listed = storage.referrers(&repository, &digest, None)?.into_iter();
            let listed = listed.filter_map(|entry| {
                let artifact_type = entry.artifact_type.unwrap_or_default();
                is_signature(&artifact_type).then_some((artifact_type, entry.digest))
            });
            for (artifact_type, digest) in listed.take(MOST) {
                types.push(artifact_type);
                let at = Reference::Digest(digest.parse()?);
                // One that is damaged hides no other.
                if let Ok(manifest) = storage.get_manifest(&repository, &at) {
                    found.extend(layers(&manifest.bytes));
                }
            }
            Ok((types, found))
        })
        .await
    }

    /// What a layer holds; none where it is lost, damaged or too large.
    async fn layer(
        &self,
        at: &Place,
        artifact: &Artifact,
        layer: &Layer,
    ) -> Result<Option<Vec<u8>>> {
        if layer.size > MAX_SIGNATURE {
            return Ok(None);
        }
        if !at.at.is_local() {
            return Remote::new(at).layer(&layer.digest, layer.size).await;
        }
        let Ok(digest) = layer.digest.parse::<Digest>() else {
            return Ok(None);
        };
        let (repository, _) = place(artifact)?;
        self.blocking(move |storage| {
            Ok(storage.read_blob(&repository, &digest, MAX_SIGNATURE).ok())
        })
        .await
    }
}

/// Types of what looks like a signature, and the layers that can be checked.
pub(super) type Layers = (Vec<String>, Vec<Layer>);

/// Artifact types of signatures: cosign's, its bundles, and Notation's.
pub(super) fn is_signature(artifact_type: &str) -> bool {
    ["signature", "cosign", "sigstore", ".sig."]
        .iter()
        .any(|part| artifact_type.contains(part))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Layer {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

/// Layers that can be checked; a bundle needs no annotation.
pub(super) fn layers(manifest: &[u8]) -> Vec<Layer> {
    let Ok(manifest) = serde_json::from_slice::<Manifest>(manifest) else {
        return Vec::new();
    };
    let mut layers = manifest.layers;
    layers.retain(|layer| match layer.media_type.as_str() {
        SIMPLE_LAYER => layer.annotations.contains_key(SIMPLE_ANNOTATION),
        BUNDLE_TYPE => !layer.annotations.contains_key(SIMPLE_ANNOTATION),
        _ => false,
    });
    layers.truncate(LAYERS);
    layers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_told_from_other_referrers() {
        for signed in [
            SIMPLE_TYPE,
            BUNDLE_TYPE,
            "application/vnd.cncf.notary.signature",
        ] {
            assert!(is_signature(signed), "{signed}");
        }
        for other in [
            crate::delivery::artifact::RECORD_TYPE,
            "application/spdx+json",
            "",
        ] {
            assert!(!is_signature(other), "{other}");
        }
    }
}
