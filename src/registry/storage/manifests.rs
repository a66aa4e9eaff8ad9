//! Manifests and tags of a repository.

use std::collections::BTreeMap;
use std::io::Read;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::blobs::authentic;
use super::document::{Document, Needed};
use super::{FILE_MODE, Policy, Storage, blob_path, size_of};
use crate::oci::Digest;
use crate::registry::{
    Error, MANIFEST_LIMIT, PREPARATION_TYPE, Reference, Repository, Result, Tag,
};
use crate::sys::beneath::{Sync, is_temp, join};

/// A manifest as it was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its digest.
    pub digest: Digest,
    /// Its type.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
}

/// What storing a manifest came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its digest.
    pub digest: Digest,
    /// The manifest that it refers to, which need not be there.
    pub subject: Option<Digest>,
}

/// Content of a manifest's link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Link {
    pub(super) media_type: String,
    pub(super) size: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) artifact_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) subject: Option<String>,
}

impl Storage {
    /// Stores a manifest, byte for byte. With a tag, the tag points to it from
    /// then on; with a digest, it must be that of the bytes; with nothing it can
    /// be had by its SHA-256.
    ///
    /// # Errors
    /// [`Error::ManifestInvalid`], [`Error::ManifestTooLarge`],
    /// [`Error::MissingReferences`] when blobs or manifests that it refers to are
    /// not in the repository, [`Error::DigestMismatch`], [`Error::ImmutableTag`].
    pub fn put_manifest(
        &self,
        repository: &Repository,
        reference: Option<&Reference>,
        content_type: Option<&str>,
        bytes: &[u8],
        policy: Policy,
    ) -> Result<Stored> {
        if bytes.len() as u64 > MANIFEST_LIMIT {
            return Err(Error::ManifestTooLarge {
                limit: MANIFEST_LIMIT,
            });
        }
        let document =
            Document::read(content_type, bytes).map_err(|why| Error::ManifestInvalid {
                repository: repository.clone(),
                why,
            })?;
        let digest = match reference {
            Some(Reference::Digest(expected)) => {
                let got = Digest::of(expected.algorithm(), bytes);
                if got != *expected {
                    let expected = expected.clone();
                    return Err(Error::DigestMismatch { expected, got });
                }
                got
            }
            _ => Digest::sha256(bytes),
        };
        self.check_space(bytes.len() as u64)?;
        let _lock = self.shared()?;
        if let Some(Reference::Tag(tag)) = reference {
            self.check_tag_moves(repository, tag, &digest, policy)?;
        }
        self.check_needed(repository, &document, &BTreeMap::new())?;
        self.put_content(&digest, bytes)?;
        let link = Link {
            media_type: document.media_type.clone(),
            size: bytes.len() as u64,
            artifact_type: document.artifact_type.clone(),
            subject: document.subject.as_ref().map(Digest::to_string),
        };
        if let Some(subject) = &document.subject {
            // Before the link: an entry without a manifest is not shown, a
            // manifest without an entry would be lost to those who ask for it.
            self.add_referrer(repository, subject, &digest, &document, bytes.len() as u64)?;
        }
        let text = serde_json::to_vec(&link).map_err(|e| Error::io("a link")(e.into()))?;
        let path = link_path(repository, &digest);
        self.root().replace(&path, &text, FILE_MODE, Sync::Full)?;
        if let Some(Reference::Tag(tag)) = reference {
            self.point(repository, tag, &digest, policy)?;
        }
        Ok(Stored {
            digest,
            subject: document.subject,
        })
    }

    /// Points a tag to a manifest that the repository has.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`], [`Error::ImmutableTag`].
    pub fn tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        digest: &Digest,
        policy: Policy,
    ) -> Result<()> {
        let _lock = self.shared()?;
        self.manifest_link(repository, digest)?;
        self.point(repository, tag, digest, policy)
    }

    /// Digest that a reference means; a digest is checked to be there.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`].
    pub fn resolve(&self, repository: &Repository, reference: &Reference) -> Result<Digest> {
        let digest = self.target(repository, reference)?;
        self.manifest_link(repository, &digest)?;
        Ok(digest)
    }

    /// A manifest by tag or digest. What is read from the disk is checked.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`], [`Error::Corrupt`].
    pub fn get_manifest(&self, repository: &Repository, reference: &Reference) -> Result<Manifest> {
        let digest = self.target(repository, reference)?;
        let link = self
            .manifest_link(repository, &digest)
            .map_err(|e| match e {
                // The tag is what was asked for.
                Error::ManifestUnknown { .. } => unknown(repository, reference.to_string()),
                e => e,
            })?;
        let bytes = match self.inner.manifests.get(&digest) {
            Some(bytes) => bytes,
            None => {
                let bytes = self.content(&digest)?.ok_or_else(|| Error::Corrupt {
                    what: digest.to_string(),
                    why: "the content of this manifest is missing".to_owned(),
                })?;
                let bytes = Bytes::from(bytes);
                self.inner.manifests.put(&digest, &bytes);
                bytes
            }
        };
        Ok(Manifest {
            digest,
            media_type: link.media_type,
            bytes,
        })
    }

    /// Deletes a manifest with all tags that point to it, or a tag alone.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`]; [`Error::ImmutableTag`] and
    /// [`Error::ImmutableArtifact`] unless the policy is overridden.
    pub fn delete_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        policy: Policy,
    ) -> Result<()> {
        let _lock = self.exclusive()?;
        let digest = self.target(repository, reference)?;
        if let Reference::Tag(tag) = reference {
            if policy == Policy::Enforce && tag.is_immutable_in(repository) {
                return Err(immutable(repository, tag, digest));
            }
            self.root().remove_file(&tag_path(repository, tag))?;
            return Ok(());
        }
        let link = self.manifest_link(repository, &digest)?;
        let preparation = repository.holds_preparations()
            || link.artifact_type.as_deref() == Some(PREPARATION_TYPE);
        if policy == Policy::Enforce && preparation {
            return Err(Error::ImmutableArtifact {
                repository: repository.clone(),
                digest,
            });
        }
        for tag in self.tags(repository)? {
            if self.pointed(repository, &tag)?.as_ref() == Some(&digest) {
                self.root().remove_file(&tag_path(repository, &tag))?;
            }
        }
        self.root().remove_file(&link_path(repository, &digest))?;
        if let Some(subject) = link.subject.and_then(|s| s.parse().ok()) {
            self.remove_referrer(repository, &subject, &digest)?;
        }
        Ok(())
    }

    /// Tags of a repository in the order of their bytes.
    ///
    /// # Errors
    /// [`Error::NameUnknown`].
    pub fn tags(&self, repository: &Repository) -> Result<Vec<Tag>> {
        let dir = repository.dir();
        if self.root().stat(&join(&dir, "manifests"))?.is_none() {
            return Err(Error::NameUnknown(repository.clone()));
        }
        let found = self.root().list(&join(&dir, "tags"))?.unwrap_or_default();
        Ok(found
            .into_iter()
            .filter(|entry| !entry.is_dir && !is_temp(&entry.name))
            .filter_map(|entry| entry.name.parse().ok())
            .collect())
    }

    /// Digests of all manifests of a repository, in no useful order.
    ///
    /// # Errors
    /// The disk's.
    pub fn manifests(&self, repository: &Repository) -> Result<Vec<Digest>> {
        let found = self.root().list(&join(&repository.dir(), "manifests"))?;
        Ok(found
            .unwrap_or_default()
            .into_iter()
            .filter_map(|entry| entry.name.parse().ok())
            .collect())
    }

    pub(super) fn manifest_link(&self, repository: &Repository, digest: &Digest) -> Result<Link> {
        let path = link_path(repository, digest);
        let Some((_, bytes)) = self.root().read(&path)? else {
            return Err(unknown(repository, digest.to_string()));
        };
        serde_json::from_slice(&bytes).map_err(|_| Error::Corrupt {
            what: self.root().join(&path).display().to_string(),
            why: "it is no link".to_owned(),
        })
    }

    /// Checked content of a manifest; none when it is gone.
    pub(super) fn content(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let Some((file, stat)) = self.root().open_file(&blob_path(digest))? else {
            return Ok(None);
        };
        let mut bytes = Vec::with_capacity(usize::try_from(size_of(&stat)).unwrap_or(0));
        file.take(MANIFEST_LIMIT + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::io("reading a manifest"))?;
        authentic(digest, &bytes)?;
        Ok(Some(bytes))
    }

    /// Digest in a tag; none when there is no such tag.
    pub(super) fn pointed(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>> {
        let path = tag_path(repository, tag);
        let Some((_, bytes)) = self.root().read(&path)? else {
            return Ok(None);
        };
        let digest = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|t| t.parse().ok());
        digest.map(Some).ok_or_else(|| Error::Corrupt {
            what: self.root().join(&path).display().to_string(),
            why: "it is no tag".to_owned(),
        })
    }

    fn target(&self, repository: &Repository, reference: &Reference) -> Result<Digest> {
        match reference {
            Reference::Digest(digest) => Ok(digest.clone()),
            Reference::Tag(tag) => self
                .pointed(repository, tag)?
                .ok_or_else(|| unknown(repository, tag.to_string())),
        }
    }

    pub(super) fn check_tag_moves(
        &self,
        repository: &Repository,
        tag: &Tag,
        digest: &Digest,
        policy: Policy,
    ) -> Result<()> {
        if policy == Policy::Override || !tag.is_immutable_in(repository) {
            return Ok(());
        }
        match self.pointed(repository, tag)? {
            Some(current) if current != *digest => Err(immutable(repository, tag, current)),
            _ => Ok(()),
        }
    }

    fn point(
        &self,
        repository: &Repository,
        tag: &Tag,
        digest: &Digest,
        policy: Policy,
    ) -> Result<()> {
        self.check_tag_moves(repository, tag, digest, policy)?;
        if self.pointed(repository, tag).ok().flatten().as_ref() == Some(digest) {
            return Ok(());
        }
        let path = tag_path(repository, tag);
        let text = digest.as_str().as_bytes();
        if policy == Policy::Enforce && tag.is_immutable_in(repository) {
            // Two that give the tag at once: the first one stays.
            if !self.root().place(&path, text, FILE_MODE)? {
                return self.check_tag_moves(repository, tag, digest, policy);
            }
            return Ok(());
        }
        self.root().replace(&path, text, FILE_MODE, Sync::Full)?;
        Ok(())
    }

    /// Everything that a manifest refers to is in the repository, and is marked
    /// as needed; or it is on its way, of these sizes.
    pub(super) fn check_needed(
        &self,
        repository: &Repository,
        document: &Document,
        coming: &BTreeMap<Digest, u64>,
    ) -> Result<()> {
        let mut missing = Vec::new();
        let here = |needed: &&Needed| !coming.contains_key(&needed.digest);
        for needed in document.blobs.iter().chain(&document.children) {
            if let Some(actual) = coming.get(&needed.digest) {
                same_size(needed.size, *actual, &needed.digest)?;
            }
        }
        for needed in document.blobs.iter().filter(here) {
            match self.blob_size(repository, &needed.digest) {
                Ok(actual) => same_size(needed.size, actual, &needed.digest)?,
                Err(Error::BlobUnknown { digest, .. }) => missing.push(digest),
                Err(e) => return Err(e),
            }
        }
        for needed in document.children.iter().filter(here) {
            match self.manifest_link(repository, &needed.digest) {
                Ok(link) => same_size(needed.size, link.size, &needed.digest)?,
                Err(Error::ManifestUnknown { .. }) => missing.push(needed.digest.clone()),
                Err(e) => return Err(e),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::MissingReferences {
            repository: repository.clone(),
            digests: missing,
        })
    }

    fn put_content(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        let path = blob_path(digest);
        let known = self.root().stat(&path)?;
        // Damaged content is written anew.
        if let Some(stat) = &known
            && matches!(self.content(digest), Ok(Some(_)))
        {
            return self.refresh(digest, stat);
        }
        self.root().replace(&path, bytes, FILE_MODE, Sync::Full)?;
        if known.is_none() {
            self.inner.used.add(bytes.len() as u64);
        }
        Ok(())
    }
}

pub(super) fn link_path(repository: &Repository, digest: &Digest) -> String {
    join(&join(&repository.dir(), "manifests"), digest.as_str())
}

fn tag_path(repository: &Repository, tag: &Tag) -> String {
    join(&join(&repository.dir(), "tags"), tag.as_str())
}

fn unknown(repository: &Repository, reference: String) -> Error {
    Error::ManifestUnknown {
        repository: repository.clone(),
        reference,
    }
}

fn immutable(repository: &Repository, tag: &Tag, current: Digest) -> Error {
    Error::ImmutableTag {
        repository: repository.clone(),
        tag: tag.to_string(),
        current,
    }
}

fn same_size(stated: u64, actual: u64, digest: &Digest) -> Result<()> {
    if stated == actual {
        return Ok(());
    }
    Err(Error::SizeInvalid {
        digest: digest.clone(),
        stated,
        actual,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::document::{IMAGE_TYPE, INDEX_TYPE};
    use super::super::testing::{Scratch, image, repo, scratch};
    use super::*;

    fn put(s: &Scratch, at: &Repository, reference: &str, bytes: &[u8]) -> Result<Stored> {
        let reference = reference.parse().unwrap();
        s.put_manifest(at, Some(&reference), None, bytes, Policy::Enforce)
    }

    fn tags(s: &Scratch, at: &Repository) -> Vec<String> {
        let tags = s.tags(at).unwrap();
        tags.iter().map(Tag::to_string).collect()
    }

    fn with(bytes: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut value: Value = serde_json::from_slice(bytes).unwrap();
        change(&mut value);
        value.to_string().into_bytes()
    }

    #[test]
    fn bytes_and_type_come_back_as_they_were() {
        let s = scratch();
        let a = repo("a");
        let mut bytes = image(&s, &a, b"layer");
        bytes.extend_from_slice(b" \n");
        let stored = put(&s, &a, "v1", &bytes).unwrap();
        assert_eq!(stored.digest, Digest::sha256(&bytes));
        for reference in ["v1", stored.digest.as_str()] {
            // The second time it comes from memory.
            for _ in 0..2 {
                let found = s.get_manifest(&a, &reference.parse().unwrap()).unwrap();
                assert_eq!(found.bytes, bytes);
                assert_eq!(found.media_type, IMAGE_TYPE);
                assert_eq!(found.digest, stored.digest);
            }
        }
        let elsewhere = s.get_manifest(&repo("b"), &stored.digest.clone().into());
        assert!(matches!(elsewhere, Err(Error::ManifestUnknown { .. })));
        assert_eq!(s.repositories().unwrap(), [a]);
    }

    #[test]
    fn the_reference_must_be_the_digest_of_the_bytes() {
        let s = scratch();
        let a = repo("a");
        let bytes = image(&s, &a, b"layer");
        let wrong = Digest::sha256(b"else");
        let refused = put(&s, &a, wrong.as_str(), &bytes);
        assert!(matches!(refused, Err(Error::DigestMismatch { .. })));
        let long = Digest::of(crate::oci::Algorithm::Sha512, &bytes);
        assert_eq!(put(&s, &a, long.as_str(), &bytes).unwrap().digest, long);
        assert_eq!(s.get_manifest(&a, &long.into()).unwrap().bytes, bytes);
    }

    #[test]
    fn what_it_refers_to_must_be_in_this_repository() {
        let s = scratch();
        let (a, b) = (repo("a"), repo("b"));
        let bytes = image(&s, &a, b"layer");
        match put(&s, &b, "v1", &bytes) {
            Err(Error::MissingReferences { digests, .. }) => assert_eq!(digests.len(), 2),
            other => panic!("{other:?}"),
        }
        let lie = with(&bytes, |v| v["layers"][0]["size"] = json!(6));
        assert!(matches!(
            put(&s, &a, "v1", &lie),
            Err(Error::SizeInvalid { .. })
        ));
        let child = Digest::sha256(&bytes);
        let index = json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [
            {"mediaType": IMAGE_TYPE, "digest": child.as_str(), "size": bytes.len()}]});
        let index = index.to_string().into_bytes();
        assert!(matches!(
            put(&s, &a, "all", &index),
            Err(Error::MissingReferences { .. })
        ));
        put(&s, &a, child.as_str(), &bytes).unwrap();
        put(&s, &a, "all", &index).unwrap();
    }

    #[test]
    fn manifests_over_the_limit_are_refused_and_at_the_limit_stored() {
        let s = scratch();
        let a = repo("a");
        let bytes = image(&s, &a, b"layer");
        let limit = usize::try_from(MANIFEST_LIMIT).unwrap();
        let mut padded = bytes.clone();
        padded.resize(limit, b' ');
        let stored = put(&s, &a, "v1", &padded).unwrap();
        let found = s.get_manifest(&a, &stored.digest.into()).unwrap();
        assert_eq!(found.bytes.len(), limit);
        padded.push(b' ');
        let refused = put(&s, &a, "v1", &padded);
        assert!(matches!(refused, Err(Error::ManifestTooLarge { .. })));
    }

    #[test]
    fn tags_move_are_listed_and_go_with_their_manifest() {
        let s = scratch();
        let a = repo("a");
        let one = image(&s, &a, b"1");
        let two = image(&s, &a, b"2");
        for tag in ["b", "a", "C", "latest"] {
            put(&s, &a, tag, &one).unwrap();
        }
        put(&s, &a, "latest", &two).unwrap();
        assert_eq!(tags(&s, &a), ["C", "a", "b", "latest"]);
        let target = s.resolve(&a, &"latest".parse().unwrap()).unwrap();
        assert_eq!(target, Digest::sha256(&two));
        s.delete_manifest(&a, &"b".parse().unwrap(), Policy::Enforce)
            .unwrap();
        assert_eq!(tags(&s, &a), ["C", "a", "latest"]);
        let digest = Digest::sha256(&one);
        s.delete_manifest(&a, &digest.clone().into(), Policy::Enforce)
            .unwrap();
        assert_eq!(tags(&s, &a), ["latest"]);
        assert!(s.get_manifest(&a, &digest.into()).is_err());
        assert!(matches!(s.tags(&repo("none")), Err(Error::NameUnknown(_))));
        let missing = s.tag(&a, &"x".parse().unwrap(), &target, Policy::Enforce);
        assert!(missing.is_ok());
        let gone = Digest::sha256(b"gone");
        let missing = s.tag(&a, &"x".parse().unwrap(), &gone, Policy::Enforce);
        assert!(matches!(missing, Err(Error::ManifestUnknown { .. })));
    }

    #[test]
    fn tags_of_revisions_are_given_once() {
        let s = scratch();
        let p = repo("preparations/default/web");
        let one = image(&s, &p, b"1");
        let two = image(&s, &p, b"2");
        let digest = put(&s, &p, "rev-1", &one).unwrap().digest;
        put(&s, &p, "rev-1", &one).unwrap();
        put(&s, &p, "active", &one).unwrap();
        let refused = put(&s, &p, "rev-1", &two);
        assert!(matches!(refused, Err(Error::ImmutableTag { .. })));
        let other = put(&s, &p, "active", &two).unwrap().digest;
        let refused = s.tag(&p, &"rev-1".parse().unwrap(), &other, Policy::Enforce);
        assert!(matches!(refused, Err(Error::ImmutableTag { .. })));
        for reference in ["rev-1", digest.as_str()] {
            let reference = reference.parse().unwrap();
            assert!(s.delete_manifest(&p, &reference, Policy::Enforce).is_err());
        }
        assert_eq!(s.resolve(&p, &"rev-1".parse().unwrap()).unwrap(), digest);
        s.delete_manifest(&p, &digest.into(), Policy::Override)
            .unwrap();
        assert_eq!(tags(&s, &p), ["active"]);
    }

    #[test]
    fn of_two_that_give_a_revision_at_once_one_wins() {
        let s = scratch();
        let p = repo("preparations/default/web");
        let all: Vec<Vec<u8>> = (0..6_u8).map(|n| image(&s, &p, &[n])).collect();
        let won: usize = std::thread::scope(|scope| {
            let tried: Vec<_> = all
                .iter()
                .map(|bytes| scope.spawn(|| put(&s, &p, "rev-7", bytes).is_ok()))
                .collect();
            tried
                .into_iter()
                .map(|t| usize::from(t.join().unwrap()))
                .sum()
        });
        assert_eq!(won, 1);
    }

    #[test]
    fn referrers_come_and_go_with_their_manifests() {
        let s = scratch();
        let a = repo("a");
        let subject = Digest::sha256(b"need not be there");
        let plain = image(&s, &a, b"1");
        let refer = |kind: &str| {
            with(&plain, |v| {
                v["subject"] =
                    json!({"mediaType": IMAGE_TYPE, "digest": subject.as_str(), "size": 9});
                v["artifactType"] = json!(kind);
                v["annotations"] = json!({"k": kind});
            })
        };
        let stored = put(&s, &a, "x", &refer("t/a")).unwrap();
        assert_eq!(stored.subject.as_ref(), Some(&subject));
        let second = refer("t/b");
        put(&s, &a, Digest::sha256(&second).as_str(), &second).unwrap();
        assert_eq!(s.referrers(&a, &subject, None).unwrap().len(), 2);
        let only = s.referrers(&a, &subject, Some("t/a")).unwrap();
        assert_eq!(only.len(), 1);
        assert_eq!(only[0].digest, stored.digest.as_str());
        assert_eq!(only[0].annotations.as_ref().unwrap()["k"], "t/a");
        assert!(s.referrers(&repo("b"), &subject, None).unwrap().is_empty());
        s.delete_manifest(&a, &stored.digest.into(), Policy::Enforce)
            .unwrap();
        let left = s.referrers(&a, &subject, None).unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].artifact_type.as_deref(), Some("t/b"));
    }

    #[test]
    fn damaged_content_is_not_given_out() {
        let s = scratch();
        let a = repo("a");
        let bytes = image(&s, &a, b"1");
        let digest = put(&s, &a, "v1", &bytes).unwrap().digest;
        let file = s.path().join(blob_path(&digest));
        std::fs::write(&file, b"{}").unwrap();
        let damaged = s.get_manifest(&a, &digest.clone().into());
        assert!(matches!(damaged, Err(Error::Corrupt { .. })));
        put(&s, &a, "v1", &bytes).unwrap();
        assert_eq!(s.get_manifest(&a, &digest.into()).unwrap().bytes, bytes);
    }
}
