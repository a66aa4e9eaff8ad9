//! Where artifacts are kept: the content store of the embedded registry, or
//! another registry that a Recipe names as its destination.

mod kept;
mod remote;
mod signatures;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use futures::FutureExt;

use super::artifact::{self, Packed};
use super::failure::{self, Failure};
use super::fault::{Fault, Result};
use super::recipe::access;
use super::source::Content;
use super::source::oci::Resolved;
use super::{Delivery, artifact::Described};
use crate::model::Name;
use crate::model::delivery::{Artifact, OciRepository, Pantry, ReleaseKind};
use crate::oci::Digest;
use crate::oci::digest::DigestError;
use crate::registry::client::Access;
use crate::registry::{self, Limits, Policy, Reference, Repository, Storage, Tag};
use crate::store;
pub(super) use kept::Kept;
use remote::Remote;
pub(super) use signatures::Signatures;

/// Largest layer that is read, in bytes.
const MAX_LAYER: u64 = 65 << 20;
/// Tag of what is active.
const ACTIVE: &str = "active";

/// A repository, and how it may be used.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub at: OciRepository,
    pub access: Access,
}

impl Delivery {
    /// A repository with the login that the namespace has for it: that of a
    /// Pantry which names exactly this repository.
    pub(super) fn place_at(&self, namespace: &Name, at: &OciRepository) -> Result<Place> {
        let mut access_to = Access::default();
        if !at.is_local() {
            let pantries: Vec<Pantry> = self.list(ReleaseKind::Pantry, Some(namespace))?;
            let mut known: Vec<_> = pantries.iter().filter(|p| p.spec.oci == *at).collect();
            // One with a login first.
            known.sort_by_key(|pantry| pantry.spec.username.is_empty());
            if let Some(pantry) = known.first() {
                access_to = access(&pantry.spec);
            }
        }
        Ok(Place {
            at: at.clone(),
            access: access_to,
        })
    }

    /// Where an artifact of a namespace is.
    pub(super) fn place_of(&self, namespace: &Name, artifact: &Artifact) -> Result<Place> {
        self.place_at(namespace, &repository_of(artifact)?)
    }
}

/// The content store.
#[derive(Debug, Clone)]
pub(super) struct Artifacts {
    path: PathBuf,
    limits: Limits,
    /// Opened, and made, when it is first needed.
    storage: Arc<OnceLock<Storage>>,
}

impl Artifacts {
    /// Content below the run path, of at most so many bytes.
    pub(super) fn new(run_path: &Path, quota: Option<u64>) -> Self {
        Self {
            path: run_path.join(store::REGISTRY),
            // What is kept free on the disk is kept free for these.
            limits: Limits { quota, min_free: 0 },
            storage: Arc::default(),
        }
    }

    /// The same content, with nothing of it in memory: what is read comes from
    /// the disk.
    pub(super) fn afresh(&self) -> Self {
        Self {
            path: self.path.clone(),
            limits: self.limits,
            storage: Arc::default(),
        }
    }

    fn storage(&self) -> registry::Result<Storage> {
        if let Some(storage) = self.storage.get() {
            return Ok(storage.clone());
        }
        let opened = Storage::open(&self.path, self.limits)?;
        Ok(self.storage.get_or_init(|| opened).clone())
    }

    /// Where a Recipe's artifacts go unless it says otherwise.
    pub(super) fn repository(namespace: &Name, recipe: &Name) -> OciRepository {
        OciRepository {
            host: OciRepository::LOCAL.to_owned(),
            repository: format!("{}{namespace}/{recipe}", registry::PREPARATIONS),
        }
    }

    /// Stores an artifact and reads it back. Pushing what is there does no harm.
    ///
    /// # Errors
    /// `StoreFailed`.
    pub(super) async fn push(&self, to: &Place, packed: &Packed) -> Result<Artifact> {
        let digest = packed.digest().to_owned();
        let artifact = Artifact {
            oci_ref: format!("{}@{digest}", to.at),
            digest: digest.clone(),
            size: packed.size(),
        };
        let short = digest.trim_start_matches("sha256:").chars().take(12);
        let short: String = short.collect();
        if to.at.is_local() {
            let repository = local(&to.at)?;
            let packed = packed.clone();
            self.blocking(move |storage| put(storage, &repository, &packed, Some(&short)))
                .await?;
        } else {
            let remote = Remote::new(to);
            remote.put(packed).await?;
            remote.tag_once(&short, &packed.manifest).await?;
        }
        self.manifest(to, &artifact).await.map_err(|fault| {
            let message = format!("reading back what was stored: {}", fault.message);
            Fault::store(message).hint(fault.hint)
        })?;
        Ok(artifact)
    }

    /// Stores what is remembered of a revision beside the artifact, then tags the
    /// revision: one that has its tag has its record. One that was stored before
    /// is not stored again.
    pub(super) async fn record(
        &self,
        at: &Place,
        artifact: &Artifact,
        record: &artifact::Record,
    ) -> Result<()> {
        let subject = self.subject(at, artifact).await?;
        let packed = artifact::record(record, &subject);
        let tag = format!("rev-{}", record.revision);
        let time = record.time.clone();
        if !at.at.is_local() {
            let remote = Remote::new(at);
            if !remote.has_record(&artifact.digest, &time).await? {
                remote.put_referrer(&packed, &artifact.digest).await?;
            }
            return remote.tag_once(&tag, &subject).await;
        }
        let (repository, digest) = place(artifact)?;
        self.blocking(move |storage| {
            let known = storage.referrers(&repository, &digest, Some(artifact::RECORD_TYPE))?;
            let mut known = known.iter().filter_map(|d| d.annotations.as_ref());
            if !known.any(|notes| artifact::is_of(notes, &time)) {
                put(storage, &repository, &packed, None)?;
            }
            let tag: Tag = tag.parse()?;
            storage.tag(&repository, &tag, &digest, Policy::Enforce)
        })
        .await
    }

    /// Deletes an artifact of the embedded registry with its tags and what refers
    /// to it. What is gone already is no error.
    pub(super) async fn purge(&self, artifact: &Artifact) -> Result<()> {
        let (repository, digest) = place(artifact)?;
        self.blocking(move |storage| {
            let about = storage.referrers(&repository, &digest, None)?;
            let about = about.into_iter().map(|found| found.digest.parse());
            let about: Vec<Digest> = about.collect::<Result<_, DigestError>>()?;
            for gone in about.into_iter().chain([digest]) {
                match storage.delete_manifest(&repository, &gone.into(), Policy::Override) {
                    Ok(())
                    | Err(
                        registry::Error::ManifestUnknown { .. } | registry::Error::NameUnknown(_),
                    ) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
        .await
    }

    /// The revisions that a repository has a tag of.
    pub(super) async fn revisions(&self, at: &Place) -> Result<BTreeSet<i64>> {
        let tags = match at.at.is_local() {
            false => Remote::new(at).tags().await?,
            true => {
                let repository = local(&at.at)?;
                let tags = move |storage: &Storage| match storage.tags(&repository) {
                    Err(registry::Error::NameUnknown(_)) => Ok(Vec::new()),
                    found => Ok(found?.iter().map(Tag::to_string).collect()),
                };
                self.blocking(tags).await?
            }
        };
        let numbers = tags.iter().filter_map(|tag| tag.strip_prefix("rev-"));
        Ok(numbers.filter_map(|number| number.parse().ok()).collect())
    }

    /// Moves the tag of what is active.
    pub(super) async fn activate(&self, at: &Place, artifact: &Artifact) -> Result<()> {
        if !at.at.is_local() {
            let manifest = self.subject(at, artifact).await?;
            return Remote::new(at).tag(ACTIVE, &manifest).await;
        }
        let (repository, digest) = place(artifact)?;
        self.blocking(move |storage| {
            let tag: Tag = ACTIVE.parse()?;
            let at = Reference::Tag(tag.clone());
            if storage
                .resolve(&repository, &at)
                .is_ok_and(|now| now == digest)
            {
                return Ok(());
            }
            storage.tag(&repository, &tag, &digest, Policy::Enforce)
        })
        .await
    }

    /// The manifest in an artifact, verified by its digest.
    ///
    /// # Errors
    /// `ArtifactUnavailable`; transient when its registry did not answer, so
    /// that nobody knows whether it is there.
    pub(super) async fn manifest(&self, at: &Place, artifact: &Artifact) -> Result<String> {
        let lost = |fault: Fault| Fault {
            reason: "ArtifactUnavailable".to_owned(),
            message: format!(
                "artifact {} cannot be read: {}",
                artifact.oci_ref, fault.message
            ),
            ..fault
        };
        let (found, layer) = match at.at.is_local() {
            true => self.read_here(artifact).await.map_err(lost)?,
            false => Remote::new(at).read(artifact).await.map_err(lost)?,
        };
        let text = artifact::unpack(&layer, &found.layer).await;
        text.map_err(|failure| lost(failure.into()))
    }

    async fn read_here(&self, artifact: &Artifact) -> Result<(Described, Vec<u8>)> {
        let (repository, digest) = place(artifact)?;
        let described = artifact.digest.clone();
        let read = self.blocking(move |storage| {
            let manifest = storage.get_manifest(&repository, &digest.into())?;
            let found = artifact::describe(&manifest.bytes, &described);
            let layer = match &found {
                Ok(found) => storage.read_blob(&repository, &found.layer.parse()?, MAX_LAYER)?,
                Err(_) => Vec::new(),
            };
            Ok((found, layer))
        });
        let (found, layer) = read.await.map_err(|fault| Fault {
            // The content store is there: what it cannot give is lost.
            transient: false,
            ..fault
        })?;
        Ok((found?, layer))
    }

    /// Reads the configuration as well, which nothing else needs.
    ///
    /// # Errors
    /// That it is not what the manifest says.
    pub(super) async fn config(&self, at: &Place, artifact: &Artifact) -> Result<Vec<u8>> {
        if !at.at.is_local() {
            return Remote::new(at).config(artifact).await;
        }
        let (repository, digest) = place(artifact)?;
        let described = artifact.digest.clone();
        self.blocking(move |storage| {
            let manifest = storage.get_manifest(&repository, &digest.into())?;
            let Ok(found) = artifact::describe(&manifest.bytes, &described) else {
                return Ok(Vec::new());
            };
            storage.read_blob(&repository, &found.config.parse()?, MAX_LAYER)
        })
        .await
    }

    /// The files of an artifact that somebody pushed here, as a source.
    pub(super) async fn source(
        &self,
        at: &OciRepository,
        version: &str,
        pin: Option<&str>,
    ) -> Result<Content> {
        let repository = local(at)?;
        let shown = format!("{at}:{version}");
        let missing = |error: registry::Error| match error {
            error @ (registry::Error::NameUnknown(_)
            | registry::Error::ManifestUnknown { .. }
            | registry::Error::BlobUnknown { .. }) => {
                Failure::new(failure::Reason::SourceNotFound, error.to_string())
                    .hint("push it, or change spec.source; then `kuke recipe refresh`")
            }
            error => Failure::new(failure::Reason::SourceUnavailable, error.to_string()),
        };
        let storage = self.storage().map_err(missing)?;
        let reference: Reference = version.parse().map_err(missing)?;
        let (from, asked) = (storage.clone(), repository.clone());
        let found = off_thread(move || from.get_manifest(&asked, &reference).map_err(missing));
        let found = found.await?;
        let media_type = &found.media_type;
        let resolved = Resolved::read(&shown, &found.bytes, media_type, version, pin)?;
        let blobs = |digest: String, size: u64| {
            let (from, repository) = (storage.clone(), repository.clone());
            let read = move || {
                let digest: Digest = digest.parse().map_err(|e: DigestError| missing(e.into()))?;
                from.read_blob(&repository, &digest, size).map_err(missing)
            };
            off_thread(read).boxed()
        };
        Ok(resolved.content(&shown, &blobs).await?)
    }

    /// The bytes of an artifact's own manifest.
    async fn subject(&self, at: &Place, artifact: &Artifact) -> Result<artifact::Blob> {
        if !at.at.is_local() {
            return Remote::new(at).manifest(&artifact.digest).await;
        }
        let (repository, digest) = place(artifact)?;
        let text = artifact.digest.clone();
        self.blocking(move |storage| {
            let manifest = storage.get_manifest(&repository, &digest.into())?;
            Ok(artifact::Blob {
                bytes: manifest.bytes.to_vec(),
                digest: text,
            })
        })
        .await
    }

    /// Disk work, off the threads that serve others.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Storage) -> registry::Result<T> + Send + 'static,
    ) -> Result<T> {
        let storage = self
            .storage()
            .map_err(|error| Fault::store(error.to_string()))?;
        match tokio::task::spawn_blocking(move || work(&storage)).await {
            Ok(done) => done.map_err(|error| Fault::store(error.to_string())),
            Err(error) => Err(Fault::store(error.to_string())),
        }
    }
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> failure::Result<T> + Send + 'static,
) -> failure::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(Failure::new(
            failure::Reason::SourceUnavailable,
            error.to_string(),
        ))
    })
}

fn put(
    storage: &Storage,
    repository: &Repository,
    packed: &Packed,
    tag: Option<&str>,
) -> registry::Result<()> {
    for blob in [&packed.config, &packed.layer] {
        storage.put_blob(repository, &blob.bytes, Some(&blob.digest.parse()?))?;
    }
    let digest: Digest = packed.digest().parse()?;
    storage.put_manifest(
        repository,
        Some(&digest.clone().into()),
        Some(artifact::MANIFEST_TYPE),
        &packed.manifest.bytes,
        Policy::Enforce,
    )?;
    if let Some(tag) = tag {
        storage.tag(repository, &tag.parse()?, &digest, Policy::Enforce)?;
    }
    Ok(())
}

/// Repository and digest of an artifact.
fn place(artifact: &Artifact) -> Result<(Repository, Digest)> {
    let unreadable = || {
        Fault::new(
            "ArtifactUnavailable",
            format!("{:?} is not in the embedded registry", artifact.oci_ref),
        )
    };
    let front = format!("oci://{}/", OciRepository::LOCAL);
    let rest = artifact.oci_ref.strip_prefix(&front);
    let (repository, digest) = rest
        .and_then(|rest| rest.split_once('@'))
        .ok_or_else(unreadable)?;
    let repository = repository.parse().map_err(|_| unreadable())?;
    Ok((repository, digest.parse().map_err(|_| unreadable())?))
}

/// Repository of an artifact.
fn repository_of(artifact: &Artifact) -> Result<OciRepository> {
    let rest = artifact.oci_ref.strip_prefix("oci://");
    let parts = rest
        .and_then(|rest| rest.split_once('@'))
        .and_then(|(rest, _)| rest.split_once('/'));
    let (host, repository) = parts.ok_or_else(|| {
        let message = format!("{:?} is no reference of an artifact", artifact.oci_ref);
        Fault::new("ArtifactUnavailable", message)
    })?;
    Ok(OciRepository {
        host: host.to_owned(),
        repository: repository.to_owned(),
    })
}

fn local(to: &OciRepository) -> Result<Repository> {
    to.repository
        .parse()
        .map_err(|error: registry::Error| Fault::new("StoreFailed", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(text: &str) -> Packed {
        let parts = artifact::Parts {
            config_hash: String::new(),
            renderer: "manifest".into(),
            contract: 1,
            source_digest: String::new(),
            target: crate::model::delivery::TargetType::Kuke,
            base: Default::default(),
        };
        artifact::pack(text, &parts)
    }

    fn place_here() -> Place {
        let name = |text: &str| text.parse().unwrap();
        Place {
            at: Artifacts::repository(&name("default"), &name("web")),
            access: Access::default(),
        }
    }

    #[tokio::test]
    async fn a_quota_holds_for_preparations() {
        let dir = tempfile::tempdir().unwrap();
        let (place, one) = (place_here(), packed("---\na: 1\n"));
        let tight = Artifacts::new(dir.path(), Some(one.size() / 2));
        let fault = tight.push(&place, &one).await.unwrap_err();
        assert_eq!(fault.reason, "StoreFailed");
        assert!(fault.message.contains("quota"), "{}", fault.message);
        let wide = Artifacts::new(dir.path(), Some(4 * one.size()));
        wide.push(&place, &one).await.unwrap();
    }

    #[tokio::test]
    async fn revisions_are_numbered_by_their_tags() {
        let dir = tempfile::tempdir().unwrap();
        let (place, artifacts) = (place_here(), Artifacts::new(dir.path(), None));
        assert!(artifacts.revisions(&place).await.unwrap().is_empty());
        let stored = artifacts
            .push(&place, &packed("---\na: 1\n"))
            .await
            .unwrap();
        assert!(artifacts.revisions(&place).await.unwrap().is_empty());
        let record = |revision| artifact::Record {
            recipe: "default/web".into(),
            revision,
            message: String::new(),
            parent: None,
            base_name: String::new(),
            actor: String::new(),
            time: String::new(),
            files: Vec::new(),
        };
        for revision in [9, 10] {
            let done = artifacts.record(&place, &stored, &record(revision)).await;
            done.unwrap();
        }
        assert!(
            artifacts
                .revisions(&place)
                .await
                .unwrap()
                .into_iter()
                .eq([9, 10])
        );
        // What has a tag keeps it.
        let other = artifacts
            .push(&place, &packed("---\na: 2\n"))
            .await
            .unwrap();
        let refused = artifacts.record(&place, &other, &record(10)).await;
        assert!(refused.is_err());
    }

    #[test]
    fn a_reference_tells_its_repository() {
        let artifact = |oci_ref: &str| Artifact {
            oci_ref: oci_ref.to_owned(),
            ..Default::default()
        };
        let at = repository_of(&artifact("oci://h.io:5000/a/b@sha256:00")).unwrap();
        assert_eq!((&*at.host, &*at.repository), ("h.io:5000", "a/b"));
        let at = repository_of(&artifact("oci://local/preparations/n/r@sha256:00")).unwrap();
        assert!(at.is_local());
        for wrong in [
            "",
            "h.io/a@sha256:00",
            "oci://h.io/a",
            "oci://h.io@sha256:00",
        ] {
            let fault = repository_of(&artifact(wrong)).unwrap_err();
            assert_eq!(fault.reason, "ArtifactUnavailable", "{wrong:?}");
        }
    }
}
