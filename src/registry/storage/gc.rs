//! Collection of what nothing needs: upload sessions that nobody goes on with,
//! and content that no manifest of any repository mentions. Manifests are never
//! collected, tagged or not.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use rustix::fs::Stat;

use super::blobs::{age, link_path};
use super::{Storage, blob_path, document, size_of, upload};
use crate::oci::{Algorithm, Digest};
use crate::registry::{Error, Result};
use crate::sys::beneath::join;

/// How many contents are removed while writers wait.
const BATCH: usize = 64;

/// What a collection may take.
#[derive(Debug, Clone, Copy)]
pub struct Collection {
    /// Only say what would go.
    pub dry_run: bool,
    /// Sessions that got no bytes for so long are given up. 24 h.
    pub idle: Duration,
    /// Content has to be so old. 7 days.
    pub age: Duration,
}

impl Default for Collection {
    fn default() -> Self {
        Self {
            dry_run: false,
            idle: Duration::from_secs(24 * 3600),
            age: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// What a collection took, or would take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Upload sessions with their bytes.
    pub uploads: Vec<(String, u64)>,
    /// Content with its bytes.
    pub blobs: Vec<(Digest, u64)>,
}

impl Collected {
    /// All bytes.
    pub fn bytes(&self) -> u64 {
        let uploads = self.uploads.iter().map(|(_, size)| size);
        let blobs = self.blobs.iter().map(|(_, size)| size);
        uploads.chain(blobs).sum()
    }
}

impl Storage {
    /// Collects. Pushes and pulls go on meanwhile.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a manifest cannot be read: what it needs is not
    /// known then, so no content is removed.
    pub fn collect(&self, what: Collection) -> Result<Collected> {
        let mut collected = Collected {
            uploads: self.collect_uploads(what)?,
            blobs: Vec::new(),
        };
        let now = SystemTime::now();
        let needed = self.needed()?;
        let mut candidates = Vec::new();
        for algorithm in Algorithm::ALL {
            self.each_blob(algorithm, |digest, stat| {
                if age(stat, now) > what.age && !needed.contains(digest) {
                    candidates.push((digest.clone(), size_of(stat)));
                }
                Ok(())
            })?;
            self.sweep_shards(algorithm, what)?;
        }
        if what.dry_run {
            collected.blobs = candidates;
            return Ok(collected);
        }
        for batch in candidates.chunks(BATCH) {
            collected.blobs.extend(self.remove_content(batch, what)?);
        }
        if !collected.blobs.is_empty() {
            self.inner.used.forget();
            self.drop_links(&collected.blobs)?;
        }
        Ok(collected)
    }

    /// Every digest that a manifest of a repository is or mentions.
    fn needed(&self) -> Result<HashSet<Digest>> {
        let mut needed = HashSet::new();
        for repository in self.repositories()? {
            for digest in self.manifests(&repository)? {
                needed.insert(digest.clone());
                let bytes = self.content(&digest)?.ok_or_else(|| Error::Corrupt {
                    what: format!("manifest {digest} of repository {repository}"),
                    why: "its content is missing".to_owned(),
                })?;
                document::mentioned(&bytes, &mut |digest| {
                    needed.insert(digest);
                })
                .map_err(|why| Error::Corrupt {
                    what: format!("manifest {digest} of repository {repository}"),
                    why,
                })?;
            }
        }
        Ok(needed)
    }

    /// Removes candidates that are still old: whoever relied on one since marked
    /// it, and with the exclusive lock nobody is about to.
    fn remove_content(
        &self,
        batch: &[(Digest, u64)],
        what: Collection,
    ) -> Result<Vec<(Digest, u64)>> {
        let _lock = self.exclusive()?;
        let now = SystemTime::now();
        let mut gone = Vec::new();
        for (digest, size) in batch {
            let path = blob_path(digest);
            let still = |stat: &Stat| age(stat, now) > what.age;
            if self.root().stat(&path)?.as_ref().is_some_and(still)
                && self.root().remove_file(&path)?
            {
                gone.push((digest.clone(), *size));
            }
        }
        Ok(gone)
    }

    /// Removes the links to content that is gone.
    fn drop_links(&self, gone: &[(Digest, u64)]) -> Result<()> {
        for repository in self.repositories_with_blobs()? {
            let _lock = self.exclusive()?;
            for (digest, _) in gone {
                // It may have been pushed again meanwhile.
                if self.root().stat(&blob_path(digest))?.is_none() {
                    self.root().remove_file(&link_path(&repository, digest))?;
                }
            }
        }
        Ok(())
    }

    fn collect_uploads(&self, what: Collection) -> Result<Vec<(String, u64)>> {
        let now = SystemTime::now();
        let mut gone = Vec::new();
        for entry in self.root().list(upload::DIR)?.unwrap_or_default() {
            let path = join(upload::DIR, &entry.name);
            let Some(stat) = self.root().stat(&path)? else {
                continue;
            };
            if age(&stat, now) <= what.idle || self.is_busy(&entry.name) {
                continue;
            }
            if !what.dry_run {
                self.root().remove_file(&path)?;
            }
            gone.push((entry.name, size_of(&stat)));
        }
        Ok(gone)
    }

    /// Removes what writers that died left beside the content.
    fn sweep_shards(&self, algorithm: Algorithm, what: Collection) -> Result<()> {
        if what.dry_run {
            return Ok(());
        }
        let top = join("blobs", algorithm.as_str());
        for shard in self.root().list(&top)?.unwrap_or_default() {
            self.root().sweep(&join(&top, &shard.name))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::super::testing::{Scratch, image, repo, scratch};
    use super::*;
    use crate::registry::{Policy, Reference};

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn make_old(s: &Scratch, digest: &Digest, days: u32) {
        let file = File::open(s.path().join(blob_path(digest))).unwrap();
        file.set_modified(SystemTime::now() - DAY * days).unwrap();
    }

    fn make_all_old(s: &Scratch) -> usize {
        let mut all = Vec::new();
        s.each_blob(Algorithm::Sha256, |digest, _| {
            all.push(digest.clone());
            Ok(())
        })
        .unwrap();
        for digest in &all {
            make_old(s, digest, 100);
        }
        all.len()
    }

    #[test]
    fn what_a_manifest_needs_stays_and_so_does_the_manifest() {
        let s = scratch();
        let a = repo("a");
        let manifest = image(&s, &a, b"layer");
        let stored = s
            .put_manifest(&a, None, None, &manifest, Policy::Enforce)
            .unwrap();
        let orphan = s.put_blob(&a, b"orphan", None).unwrap();
        let young = s.put_blob(&a, b"young", None).unwrap();
        assert_eq!(make_all_old(&s), 5);
        make_old(&s, &young, 6);
        let plan = Collection {
            dry_run: true,
            ..Collection::default()
        };
        let would = s.collect(plan).unwrap();
        assert_eq!(would.blobs, [(orphan.clone(), 6)]);
        assert!(s.root().stat(&blob_path(&orphan)).unwrap().is_some());
        assert_eq!(s.collect(Collection::default()).unwrap(), would);
        assert!(matches!(
            s.open_blob(&a, &orphan),
            Err(Error::BlobUnknown { .. })
        ));
        assert!(s.root().stat(&link_path(&a, &orphan)).unwrap().is_none());
        let by_digest = Reference::Digest(stored.digest);
        assert!(s.get_manifest(&a, &by_digest).is_ok());
        assert!(s.open_blob(&a, &Digest::sha256(b"layer")).is_ok());
        assert!(s.open_blob(&a, &young).is_ok());
    }

    #[test]
    fn a_deleted_manifest_frees_its_content_after_a_week() {
        let s = scratch();
        let a = repo("a/b");
        let manifest = image(&s, &a, b"layer");
        let stored = s
            .put_manifest(&a, None, None, &manifest, Policy::Enforce)
            .unwrap();
        let reference = Reference::Digest(stored.digest);
        s.delete_manifest(&a, &reference, Policy::Enforce).unwrap();
        assert!(s.collect(Collection::default()).unwrap().blobs.is_empty());
        make_all_old(&s);
        assert_eq!(s.collect(Collection::default()).unwrap().blobs.len(), 3);
        assert_eq!(s.used().unwrap(), 0);
    }

    #[test]
    fn old_content_that_a_new_manifest_takes_up_is_safe() {
        let s = scratch();
        let a = repo("a");
        let manifest = image(&s, &a, b"layer");
        make_all_old(&s);
        s.put_manifest(&a, None, None, &manifest, Policy::Enforce)
            .unwrap();
        // As if the collection had looked for what is needed before the push.
        let candidates = [(Digest::sha256(b"layer"), 5)];
        let gone = s.remove_content(&candidates, Collection::default());
        assert!(gone.unwrap().is_empty());
    }

    #[test]
    fn nothing_goes_while_a_manifest_is_damaged() {
        let s = scratch();
        let a = repo("a");
        let manifest = image(&s, &a, b"layer");
        let stored = s
            .put_manifest(&a, None, None, &manifest, Policy::Enforce)
            .unwrap();
        std::fs::write(s.path().join(blob_path(&stored.digest)), b"{}").unwrap();
        let orphan = s.put_blob(&a, b"orphan", None).unwrap();
        make_all_old(&s);
        let refused = s.collect(Collection::default());
        assert!(matches!(refused, Err(Error::Corrupt { .. })));
        assert!(s.open_blob(&a, &orphan).is_ok());
    }

    #[test]
    fn idle_sessions_go_and_busy_ones_stay() {
        let s = scratch();
        let now = Collection {
            idle: Duration::ZERO,
            ..Collection::default()
        };
        let old = |id: &str| {
            let file = File::open(s.path().join("uploads").join(id)).unwrap();
            file.set_modified(SystemTime::now() - DAY * 2).unwrap();
        };
        let a = repo("a");
        let busy = s.begin_upload(&a).unwrap();
        let idle = s.begin_upload(&a).unwrap().id().to_owned();
        let fresh = s.begin_upload(&a).unwrap().id().to_owned();
        old(busy.id());
        old(&idle);
        let gone = s.collect(Collection::default()).unwrap();
        assert_eq!(gone.uploads, [(idle.clone(), 0)]);
        assert!(s.upload_size(&a, &idle).is_err());
        assert!(s.upload_size(&a, &fresh).is_ok());
        assert!(s.upload_size(&a, busy.id()).is_ok());
        old(&fresh);
        assert_eq!(s.collect(now).unwrap().uploads.len(), 1);
    }
}
