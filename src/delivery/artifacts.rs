//! Where artifacts are kept: the content store of the embedded registry.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use futures::FutureExt;

use super::artifact::{self, Packed};
use super::failure::{self, Failure};
use super::fault::{Fault, Result};
use super::source::Content;
use super::source::oci::Resolved;
use crate::model::Name;
use crate::model::delivery::{Artifact, OciRepository};
use crate::oci::Digest;
use crate::oci::digest::DigestError;
use crate::registry::{self, Limits, Policy, Reference, Repository, Storage, Tag};
use crate::store;

/// Largest layer that is read, in bytes.
const MAX_LAYER: u64 = 65 << 20;
/// Tag of what is active.
const ACTIVE: &str = "active";

/// The content store.
#[derive(Debug, Clone)]
pub(super) struct Artifacts {
    path: PathBuf,
    /// Opened, and made, when it is first needed.
    storage: Arc<OnceLock<Storage>>,
}

impl Artifacts {
    pub(super) fn new(run_path: &Path) -> Self {
        Self {
            path: run_path.join(store::REGISTRY),
            storage: Arc::default(),
        }
    }

    fn storage(&self) -> registry::Result<Storage> {
        if let Some(storage) = self.storage.get() {
            return Ok(storage.clone());
        }
        let opened = Storage::open(&self.path, Limits::default())?;
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
    pub(super) async fn push(&self, to: &OciRepository, packed: &Packed) -> Result<Artifact> {
        let digest = packed.digest().to_owned();
        let artifact = Artifact {
            oci_ref: format!("{to}@{digest}"),
            digest: digest.clone(),
            size: packed.size(),
        };
        let repository = local(to)?;
        let short = digest.trim_start_matches("sha256:").chars().take(12);
        let short: String = short.collect();
        let packed = packed.clone();
        self.blocking(move |storage| {
            put(storage, &repository, &packed, Some(&short))?;
            Ok(())
        })
        .await?;
        self.manifest(&artifact)
            .await
            .map_err(|fault| Fault::store(format!("reading back what was stored: {fault}")))?;
        Ok(artifact)
    }

    /// Tags a revision, and stores what is remembered of it beside the artifact.
    pub(super) async fn record(
        &self,
        artifact: &Artifact,
        record: &artifact::Record,
        subject: &artifact::Blob,
    ) -> Result<()> {
        let (repository, digest) = place(artifact)?;
        let packed = artifact::record(record, subject);
        let tag = format!("rev-{}", record.revision);
        self.blocking(move |storage| {
            let tag: Tag = tag.parse()?;
            storage.tag(&repository, &tag, &digest, Policy::Enforce)?;
            put(storage, &repository, &packed, None)
        })
        .await
    }

    /// Moves the tag of what is active.
    pub(super) async fn activate(&self, artifact: &Artifact) -> Result<()> {
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
    /// `ArtifactUnavailable`.
    pub(super) async fn manifest(&self, artifact: &Artifact) -> Result<String> {
        let (repository, digest) = place(artifact)?;
        let lost = |why: String| {
            Fault::new(
                "ArtifactUnavailable",
                format!("artifact {} cannot be read: {why}", artifact.oci_ref),
            )
        };
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
        let (found, layer) = read.await.map_err(|fault| lost(fault.message))?;
        let found = found.map_err(|failure| lost(failure.message))?;
        artifact::unpack(&layer, &found.layer)
            .await
            .map_err(|failure| lost(failure.message))
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
    pub(super) async fn subject(&self, artifact: &Artifact) -> Result<artifact::Blob> {
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

fn local(to: &OciRepository) -> Result<Repository> {
    if !to.is_local() {
        let message = format!("{to}: artifacts are kept in the embedded registry only");
        return Err(
            Fault::new("StoreFailed", message).hint("leave destination out, or name oci://local/…")
        );
    }
    to.repository
        .parse()
        .map_err(|error: registry::Error| Fault::new("StoreFailed", error.to_string()))
}
