//! Which manifests refer to another one as their subject.

use super::document::{Descriptor, Document};
use super::{FILE_MODE, Storage};
use crate::oci::Digest;
use crate::registry::{Error, Repository, Result};
use crate::sys::beneath::{Sync, is_temp, join};

impl Storage {
    /// Descriptors of the manifests that have this subject, in the order of
    /// their digests. The subject itself need not be there.
    ///
    /// # Errors
    /// The disk's.
    pub fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        let dir = dir(repository, subject);
        let mut found = Vec::new();
        for entry in self.root().list(&dir)?.unwrap_or_default() {
            if entry.is_dir || is_temp(&entry.name) {
                continue;
            }
            let Ok(digest) = entry.name.parse::<Digest>() else {
                continue;
            };
            match self.manifest_link(repository, &digest) {
                Ok(_) => {}
                // Its push was cut short, or a deletion.
                Err(Error::ManifestUnknown { .. }) => continue,
                Err(e) => return Err(e),
            }
            let Some((_, bytes)) = self.root().read(&join(&dir, &entry.name))? else {
                continue;
            };
            let Ok(descriptor) = serde_json::from_slice::<Descriptor>(&bytes) else {
                tracing::warn!(%repository, %digest, "entry of a referrer is damaged");
                continue;
            };
            let wanted =
                artifact_type.is_none_or(|t| descriptor.artifact_type.as_deref() == Some(t));
            if wanted {
                found.push(descriptor);
            }
        }
        Ok(found)
    }

    pub(super) fn add_referrer(
        &self,
        repository: &Repository,
        subject: &Digest,
        digest: &Digest,
        document: &Document,
        size: u64,
    ) -> Result<()> {
        let descriptor = Descriptor {
            media_type: document.media_type.clone(),
            digest: digest.to_string(),
            size,
            artifact_type: document.artifact_type.clone(),
            annotations: document.annotations.clone(),
        };
        let text =
            serde_json::to_vec(&descriptor).map_err(|e| Error::io("a referrer")(e.into()))?;
        let path = join(&dir(repository, subject), digest.as_str());
        self.root().replace(&path, &text, FILE_MODE, Sync::Full)?;
        Ok(())
    }

    pub(super) fn remove_referrer(
        &self,
        repository: &Repository,
        subject: &Digest,
        digest: &Digest,
    ) -> Result<()> {
        let dir = dir(repository, subject);
        self.root().remove_file(&join(&dir, digest.as_str()))?;
        self.root().rmdir(&dir)?;
        Ok(())
    }
}

fn dir(repository: &Repository, subject: &Digest) -> String {
    join(&join(&repository.dir(), "referrers"), subject.as_str())
}
