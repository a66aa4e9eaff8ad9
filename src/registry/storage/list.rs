//! Walks over everything that is stored.

use rustix::fs::Stat;

use super::{Storage, blob_path};
use crate::oci::{Algorithm, Digest};
use crate::registry::name::PARTS;
use crate::registry::{Repository, Result};
use crate::sys::beneath::join;

impl Storage {
    /// Every repository that a manifest was pushed to, in the order of their
    /// names' bytes.
    ///
    /// # Errors
    /// The disk's.
    pub fn repositories(&self) -> Result<Vec<Repository>> {
        self.repositories_with("manifests")
    }

    /// Every repository that shows blobs, also one without manifests yet.
    pub(super) fn repositories_with_blobs(&self) -> Result<Vec<Repository>> {
        self.repositories_with("blobs")
    }

    fn repositories_with(&self, part: &str) -> Result<Vec<Repository>> {
        let mut found = Vec::new();
        self.walk("repos", "", part, &mut found)?;
        found.sort();
        Ok(found)
    }

    fn walk(&self, dir: &str, name: &str, part: &str, found: &mut Vec<Repository>) -> Result<()> {
        for entry in self.root().list(dir)?.unwrap_or_default() {
            if !entry.is_dir {
                continue;
            }
            if PARTS.contains(&entry.name.as_str()) {
                if entry.name == part && !name.is_empty() {
                    found.extend(name.parse::<Repository>());
                }
                continue;
            }
            let below = join(name, Repository::component(&entry.name));
            self.walk(&join(dir, &entry.name), &below, part, found)?;
        }
        Ok(())
    }

    /// Calls for each content of an algorithm that is there. What vanishes
    /// meanwhile is passed over.
    pub(super) fn each_blob(
        &self,
        algorithm: Algorithm,
        mut each: impl FnMut(&Digest, &Stat) -> Result<()>,
    ) -> Result<()> {
        let top = join("blobs", algorithm.as_str());
        for shard in self.root().list(&top)?.unwrap_or_default() {
            let dir = join(&top, &shard.name);
            for entry in self.root().list(&dir)?.unwrap_or_default() {
                let text = format!("{}:{}", algorithm.as_str(), entry.name);
                let Ok(digest) = text.parse::<Digest>() else {
                    continue;
                };
                if let Some(stat) = self.root().stat(&blob_path(&digest))? {
                    each(&digest, &stat)?;
                }
            }
        }
        Ok(())
    }
}
