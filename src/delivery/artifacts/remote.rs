//! Artifacts in another registry: pushed, read back, and fetched by digest.

use serde_json::{Value, json};

use super::Place;
use super::signatures::{Layers, MOST, is_signature, layers};
use crate::delivery::artifact::{self, Blob, Described, Packed};
use crate::delivery::fault::{Fault, Result};
use crate::model::delivery::Artifact;
use crate::oci::signature::SIMPLE_TYPE;
use crate::oci::{Digest, media};
use crate::registry::client::{Error, Location, Registry, referrers_tag};

/// Largest configuration that is read, in bytes.
const MAX_CONFIG: usize = 1 << 20;

/// A repository of another registry.
pub(super) struct Remote {
    registry: Registry,
    shown: String,
}

impl Remote {
    pub(super) fn new(place: &Place) -> Self {
        let shown = place.at.to_string();
        let location = Location {
            host: place.at.host.clone(),
            repository: place.at.repository.clone(),
            shown: shown.clone(),
        };
        Self {
            registry: Registry::new(location, place.access.clone()),
            shown,
        }
    }

    /// Content first, then the manifest by its digest.
    pub(super) async fn put(&self, packed: &Packed) -> Result<bool> {
        for blob in [&packed.config, &packed.layer] {
            let put = self.registry.put_blob(&blob.digest, &blob.bytes).await;
            put.map_err(|error| self.unstored(error))?;
        }
        let manifest = &packed.manifest;
        let put = self
            .registry
            .put_manifest(&manifest.digest, media::MANIFEST, &manifest.bytes)
            .await;
        Ok(put.map_err(|error| self.unstored(error))?.lists_subject)
    }

    /// Points a tag at a manifest.
    pub(super) async fn tag(&self, tag: &str, manifest: &Blob) -> Result<()> {
        if self.tagged(tag).await?.as_deref() == Some(&*manifest.digest) {
            return Ok(());
        }
        let put = self
            .registry
            .put_manifest(tag, media::MANIFEST, &manifest.bytes)
            .await;
        put.map(drop).map_err(|error| self.unstored(error))
    }

    /// Gives a tag for good: it is never moved.
    pub(super) async fn tag_once(&self, tag: &str, manifest: &Blob) -> Result<()> {
        match self.tagged(tag).await? {
            Some(now) if now != manifest.digest => {
                let message = format!("{}:{tag} names {now} already", self.shown);
                Err(Fault::store(message)
                    .hint("give every Recipe a repository of its own, or remove the old tag"))
            }
            Some(_) => Ok(()),
            None => self.tag(tag, manifest).await,
        }
    }

    /// What a tag names now.
    async fn tagged(&self, tag: &str) -> Result<Option<String>> {
        match self.registry.manifest(tag).await {
            Ok(found) => Ok(Some(Digest::sha256(&found.bytes).to_string())),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(self.unstored(error)),
        }
    }

    /// All tags.
    pub(super) async fn tags(&self) -> Result<Vec<String>> {
        match self.registry.tags().await {
            Err(Error::NotFound(_)) => Ok(Vec::new()),
            found => found.map_err(|error| self.unread(error)),
        }
    }

    /// Whether the record of a revision made at this time refers to a manifest.
    pub(super) async fn has_record(&self, digest: &str, time: &str) -> Result<bool> {
        let listed = self.registry.referrers(digest).await;
        let listed = listed.map_err(|error| self.unread(error))?;
        Ok(listed.iter().any(|found| {
            found.artifact_type == artifact::RECORD_TYPE
                && found
                    .annotations
                    .as_ref()
                    .is_some_and(|n| artifact::is_of(n, time))
        }))
    }

    /// Stores what refers to the artifact `subject`. A registry that keeps no
    /// list of referrers gets one under the tag that stands in for it.
    pub(super) async fn put_referrer(&self, packed: &Packed, subject: &str) -> Result<()> {
        if self.put(packed).await? {
            return Ok(());
        }
        let tag = referrers_tag(subject);
        let known = match self.registry.manifest(&tag).await {
            Ok(found) => serde_json::from_slice(&found.bytes).unwrap_or(Value::Null),
            Err(Error::NotFound(_)) => Value::Null,
            Err(error) => return Err(self.unstored(error)),
        };
        let Some(index) = with_referrer(&known, &packed.manifest) else {
            return Ok(());
        };
        let put = self.registry.put_manifest(&tag, media::INDEX, &index).await;
        put.map(drop).map_err(|error| self.unstored(error))
    }

    /// A manifest by its digest, which it must have.
    pub(super) async fn manifest(&self, digest: &str) -> Result<Blob> {
        let found = self.registry.manifest(digest).await;
        let bytes = found.map_err(|error| self.unread(error))?.bytes;
        let actual = Digest::sha256(&bytes).to_string();
        match actual == digest {
            true => Ok(Blob {
                bytes,
                digest: actual,
            }),
            false => Err(Fault::new(
                "ArtifactUnavailable",
                format!("{}: it sent {actual} for {digest}", self.shown),
            )),
        }
    }

    /// What an artifact says of itself, and its layer.
    pub(super) async fn read(&self, artifact: &Artifact) -> Result<(Described, Vec<u8>)> {
        let manifest = self.manifest(&artifact.digest).await?;
        let found = artifact::describe(&manifest.bytes, &artifact.digest)?;
        let layer = self.registry.read_blob(&found.layer, found.layer_size);
        let layer = layer.await.map_err(|error| self.unread(error))?;
        Ok((found, layer))
    }

    /// The configuration, which must have the digest in the manifest.
    pub(super) async fn config(&self, artifact: &Artifact) -> Result<Vec<u8>> {
        let manifest = self.manifest(&artifact.digest).await?;
        let found = artifact::describe(&manifest.bytes, &artifact.digest)?;
        let config = self.registry.config(&found.config).await;
        let bytes = config.map_err(|error| self.unread(error))?.bytes;
        let actual = Digest::sha256(&bytes).to_string();
        match actual == found.config && bytes.len() <= MAX_CONFIG {
            true => Ok(bytes),
            false => Err(Fault::new(
                "ArtifactUnavailable",
                format!(
                    "{}: it sent {actual} for the configuration {}",
                    self.shown, found.config
                ),
            )),
        }
    }

    /// What looks like a signature of a manifest: what refers to it, and what has
    /// this tag.
    pub(super) async fn signatures(&self, digest: &str, tag: &str) -> Result<Layers> {
        let mut types = Vec::new();
        let mut found = Vec::new();
        match self.registry.manifest(tag).await {
            Ok(manifest) => {
                types.push(SIMPLE_TYPE.to_owned());
                found.extend(layers(&manifest.bytes));
            }
            Err(Error::NotFound(_)) => {}
            Err(error) => return Err(self.unread(error)),
        }
        let listed = self.registry.referrers(digest).await;
        let listed = listed.map_err(|error| self.unread(error))?.into_iter();
        let listed = listed.filter(|entry| is_signature(&entry.artifact_type));
        for entry in listed.take(MOST) {
            match self.manifest(&entry.digest).await {
                Ok(manifest) => found.extend(layers(&manifest.bytes)),
                Err(fault) if fault.transient => return Err(fault),
                // One that was deleted, and is listed still, hides no other.
                Err(_) => {}
            }
            types.push(entry.artifact_type);
        }
        Ok((types, found))
    }

    /// A small blob; none where the registry does not have it.
    pub(super) async fn layer(&self, digest: &str, size: u64) -> Result<Option<Vec<u8>>> {
        match self.registry.read_blob(digest, size).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(self.unread(error)),
        }
    }

    fn unstored(&self, error: Error) -> Fault {
        let hint = hint(&error);
        Fault::store(format!("storing at {}: {error}", self.shown)).hint(hint)
    }

    /// Not there is for good; everything else may pass.
    fn unread(&self, error: Error) -> Fault {
        let hint = hint(&error);
        match error {
            Error::NotFound(_) => Fault::new(
                "ArtifactUnavailable",
                format!("{} does not have it", self.shown),
            ),
            error => Fault::new("ArtifactUnavailable", error.to_string()).passing(),
        }
        .hint(hint)
    }
}

fn hint(error: &Error) -> &'static str {
    match error {
        Error::Unauthorized { .. } => {
            "give a Pantry of the namespace this repository, with username and password"
        }
        Error::NotFound(_) => "push it there again, or promote another preparation",
        Error::Registry { .. } => "look whether the registry runs and can be reached from here",
    }
}

/// The index of referrers with one more; none when it is in there.
fn with_referrer(known: &Value, manifest: &Blob) -> Option<Vec<u8>> {
    let mut entries = known["manifests"].as_array().cloned().unwrap_or_default();
    if entries.iter().any(|e| e["digest"] == *manifest.digest) {
        return None;
    }
    let own: Value = serde_json::from_slice(&manifest.bytes).unwrap_or(Value::Null);
    let mut entry = json!({
        "mediaType": media::MANIFEST,
        "digest": manifest.digest,
        "size": manifest.bytes.len(),
    });
    for field in ["artifactType", "annotations"] {
        if !own[field].is_null() {
            entry[field] = own[field].clone();
        }
    }
    entries.push(entry);
    let index = json!({
        "schemaVersion": 2,
        "mediaType": media::INDEX,
        "manifests": entries,
    });
    Some(index.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(text: &str) -> Blob {
        Blob {
            bytes: text.as_bytes().to_vec(),
            digest: Digest::sha256(text.as_bytes()).to_string(),
        }
    }

    #[test]
    fn referrers_are_listed_once_and_the_others_stay() {
        let one = blob(r#"{"artifactType":"a/b","annotations":{"k":"v"}}"#);
        let two = blob(r#"{"artifactType":"c/d"}"#);
        let first = with_referrer(&Value::Null, &one).expect("new");
        let first: Value = serde_json::from_slice(&first).expect("json");
        assert_eq!(first["mediaType"], media::INDEX);
        assert_eq!(first["manifests"][0]["artifactType"], "a/b");
        assert_eq!(first["manifests"][0]["annotations"]["k"], "v");
        assert!(with_referrer(&first, &one).is_none());
        let both = with_referrer(&first, &two).expect("new");
        let both: Value = serde_json::from_slice(&both).expect("json");
        let entries = both["manifests"].as_array().expect("list");
        let types: Vec<_> = entries.iter().map(|e| e["artifactType"].clone()).collect();
        assert_eq!(types, ["a/b", "c/d"]);
    }
}
