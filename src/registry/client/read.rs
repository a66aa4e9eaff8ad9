//! Blobs in memory, and who refers to a manifest.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::http::chain;
use super::{Error, Failure, Patience, Registry, Result};
use crate::oci::{Algorithm, Hasher};

/// An entry of a referrers list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Referrer {
    /// Digest of its manifest.
    pub digest: String,
    /// What it is; empty where its registry does not say.
    pub artifact_type: String,
    /// Annotations of its manifest, where its registry tells them.
    pub annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Referrers {
    manifests: Option<Vec<Referrer>>,
}

impl Registry {
    /// A blob in memory, which must have this digest and size.
    ///
    /// # Errors
    /// What the registry did not do, or that it sent something else.
    pub async fn read_blob(&self, digest: &str, size: u64) -> Result<Vec<u8>> {
        let mut patience = Patience::default();
        loop {
            let failure = match self.read_once(digest, size).await {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => failure,
            };
            patience.wait::<Error>(self, failure).await?;
        }
    }

    async fn read_once(&self, digest: &str, size: u64) -> Result<Vec<u8>, Failure> {
        let (mut response, _) = self.blob(digest, 0).await?;
        let algorithm = match digest.split_once(':') {
            Some(("sha512", _)) => Algorithm::Sha512,
            _ => Algorithm::Sha256,
        };
        let mut hasher = Hasher::new(algorithm);
        let mut bytes = Vec::new();
        loop {
            let chunk = response.chunk().await;
            match chunk.map_err(|e| Failure::passing(chain(&e)))? {
                None => break,
                Some(chunk) => {
                    hasher.update(&chunk);
                    bytes.extend_from_slice(&chunk);
                }
            }
            if bytes.len() as u64 > size {
                break;
            }
        }
        let wrong = |why: String| Failure::Final(self.broken(why));
        if bytes.len() as u64 > size {
            return Err(wrong(format!("blob {digest} is longer than announced")));
        }
        if (bytes.len() as u64) < size {
            return Err(Failure::passing(format!("blob {digest} ended early")));
        }
        let found = hasher.finish().to_string();
        match found == digest {
            true => Ok(bytes),
            false => Err(wrong(format!("blob {digest} arrived as {found}"))),
        }
    }

    /// Who refers to a manifest. A registry without that list is asked for the
    /// tag that stands in for it (distribution spec 1.1, "Referrers Tag Schema").
    ///
    /// # Errors
    /// What the registry did not do; nobody referring is none.
    pub async fn referrers(&self, digest: &str) -> Result<Vec<Referrer>> {
        let listed = self
            .document(&format!("referrers/{digest}"), crate::oci::media::INDEX)
            .await;
        let found = match listed {
            Ok(found) => found,
            Err(Error::NotFound(_)) => match self.manifest(&referrers_tag(digest)).await {
                Ok(found) => found,
                Err(Error::NotFound(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        };
        let list: Referrers = serde_json::from_slice(&found.bytes)
            .map_err(|e| self.broken(format!("its list of referrers: {e}")))?;
        Ok(list.manifests.unwrap_or_default())
    }
}

/// The tag that stands in for a list of referrers.
pub fn referrers_tag(digest: &str) -> String {
    digest.replacen(':', "-", 1)
}
