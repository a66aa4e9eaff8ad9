//! The registry's content, and the logins that the daemon has for it.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::Controller;
use super::execute::blocking;
use crate::api::{Code, Error, Result, v1};
use crate::model::RegistryCredential;
use crate::registry::auth::{AccountKind, Rule};
use crate::registry::storage::Collection;
use crate::registry::{self, Config, Limits, Policy, Repository, Scheme, Storage, Tag};

/// Bytes of an archive that may wait between socket and disk.
const PIPE: usize = 1 << 20;
/// How often content is collected, which nothing needs for a day or a week then.
const COLLECTION: Duration = Duration::from_secs(3600);
/// Bytes of an archive in one message.
const PIECE: usize = 256 << 10;

impl Controller {
    /// The content of this instance's registry, whether it is served or not.
    ///
    /// # Errors
    /// A directory that cannot be used.
    pub fn registry(&self) -> Result<&Storage> {
        if let Some(storage) = self.registry.get() {
            return Ok(storage);
        }
        let limits = Limits {
            quota: self.settings.registry.quota_bytes,
            min_free: self.settings.registry.min_free_bytes,
        };
        let storage = Storage::open(&self.settings.registry_dir(), limits)?;
        Ok(self.registry.get_or_init(|| storage))
    }

    /// How the registry is served; none when it is not.
    pub fn registry_config(&self) -> Option<Config> {
        use crate::model::RegistryScheme as Given;

        let given = &self.settings.registry;
        Some(Config {
            listen: given.listen?,
            socket: Some(self.settings.registry_socket()),
            scheme: match given.scheme {
                Given::Auto => Scheme::Auto,
                Given::Tls => Scheme::Tls,
                Given::Http => Scheme::Plain,
            },
            names: given.names.clone(),
            anonymous_pull: given.anonymous_pull,
            quota: given.quota_bytes,
            min_free: given.min_free_bytes,
            requests_per_second: given.requests_per_second,
            ..Config::default()
        })
    }

    /// Address that clients of this machine use; empty when none is served.
    fn registry_address(&self) -> String {
        let Some(at) = self.settings.registry.listen else {
            return String::new();
        };
        if at.ip().is_unspecified() {
            return format!("localhost:{}", at.port());
        }
        at.to_string()
    }

    pub(super) async fn repositories(
        &self,
        request: v1::ListRegistryRequest,
    ) -> Result<v1::ListRegistryResponse> {
        let storage = self.registry()?.clone();
        let repositories = blocking(move || -> Result<_> {
            let wanted = match request.repository.as_str() {
                "" => storage.repositories()?,
                name => vec![name.parse()?],
            };
            wanted.iter().map(|r| shown(&storage, r)).collect()
        });
        Ok(v1::ListRegistryResponse {
            address: self.registry_address(),
            repositories: repositories.await??,
        })
    }

    pub(super) async fn change_login(
        &self,
        request: v1::RegistryLoginRequest,
    ) -> Result<v1::RegistryLoginResponse> {
        let rules: Vec<Rule> = request
            .rules
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, String>>()
            .map_err(|why| Error::invalid("BadRule", why))?;
        let storage = self.registry()?.clone();
        let name = request.name.clone();
        let known = storage.clone();
        let accounts = blocking(move || known.accounts()).await??;
        let existed = accounts.iter().any(|account| account.name == name);
        if request.remove {
            let existed = match request.dry_run {
                true => existed,
                false => blocking(move || storage.remove_account(&name)).await??,
            };
            return Ok(v1::RegistryLoginResponse {
                name: request.name,
                existed,
                ..Default::default()
            });
        }
        let kind = match request.robot {
            true => AccountKind::Robot,
            false => AccountKind::User,
        };
        let chosen = Some(request.password).filter(|p| !p.is_empty());
        let dry = request.dry_run;
        let login = move || match dry {
            true => Storage::check_account(&name, chosen.as_deref()).map(|()| String::new()),
            false => storage.set_account(&name, kind, rules, chosen.as_deref()),
        };
        let password = blocking(login).await??;
        let tls = self.registry_config().is_some_and(|c| c.uses_tls());
        let ca = self.settings.registry_dir().join("auth/ca.pem");
        Ok(v1::RegistryLoginResponse {
            address: self.registry_address(),
            tls,
            name: request.name,
            password,
            ca: match tls {
                // It is made when the registry is served for the first time.
                true => std::fs::read_to_string(ca).unwrap_or_default(),
                false => String::new(),
            },
            existed,
        })
    }

    pub(super) async fn verify_content(&self) -> Result<v1::VerifyRegistryResponse> {
        let storage = self.registry()?.clone();
        let watched = Arc::new(());
        let caller = Arc::downgrade(&watched);
        // When nobody waits any more, the reading ends.
        let work = move || storage.verify(|_| caller.strong_count() > 0);
        let verified = blocking(work).await??;
        drop(watched);
        let problem = |problem: registry::storage::Problem| v1::RegistryProblem {
            repository: problem
                .repository
                .map(|r| r.to_string())
                .unwrap_or_default(),
            object: problem.object,
            what: problem.what,
        };
        Ok(v1::VerifyRegistryResponse {
            blobs: signed(verified.blobs),
            bytes: signed(verified.bytes),
            manifests: signed(verified.manifests),
            problems: verified.problems.into_iter().map(problem).collect(),
        })
    }

    pub(super) async fn collect_content(
        &self,
        request: v1::CollectRegistryRequest,
    ) -> Result<v1::CollectRegistryResponse> {
        let storage = self.registry()?.clone();
        let what = Collection {
            dry_run: request.dry_run,
            ..Collection::default()
        };
        let collected = blocking(move || storage.collect(what)).await??;
        Ok(v1::CollectRegistryResponse {
            uploads: i64::try_from(collected.uploads.len()).unwrap_or(i64::MAX),
            bytes: signed(collected.bytes()),
            blobs: collected
                .blobs
                .iter()
                .map(|(digest, _)| digest.to_string())
                .collect(),
        })
    }

    /// Collects, now and then, until `stop`: the first time after `first`, so that a
    /// start is not held up.
    pub(super) async fn keep_registry(self: Arc<Self>, first: Duration, stop: CancellationToken) {
        let rounds = async {
            let mut pause = first.min(COLLECTION);
            loop {
                tokio::time::sleep(pause).await;
                pause = COLLECTION;
                if let Err(error) = self.collect_unused().await {
                    tracing::warn!(%error, "the registry's content is not collected");
                }
            }
        };
        tokio::select! {
            () = rounds => {}
            () = stop.cancelled() => {}
        }
    }

    /// Collects where there is content at all; a registry is not made for it.
    async fn collect_unused(&self) -> Result<()> {
        if !self.settings.registry_dir().exists() {
            return Ok(());
        }
        let done = self.collect_content(v1::CollectRegistryRequest::default());
        let done = done.await?;
        if done.uploads > 0 || !done.blobs.is_empty() {
            let (uploads, blobs, bytes) = (done.uploads, done.blobs.len(), done.bytes);
            tracing::info!(uploads, blobs, bytes, "collected what nothing needs");
        }
        Ok(())
    }

    pub(super) fn export(
        &self,
        request: v1::ExportRepositoryRequest,
    ) -> Result<BoxStream<'static, Result<v1::ExportRepositoryResponse>>> {
        let storage = self.registry()?.clone();
        let repository: Repository = request.repository.parse()?;
        let tags: Vec<Tag> = request
            .tags
            .iter()
            .map(|tag| tag.parse())
            .collect::<registry::Result<_>>()?;
        let (reader, writer) = tokio::io::duplex(PIPE);
        let writing = tokio::spawn(async move {
            let exported = storage.export(&repository, &tags, writer).await;
            exported.map(drop)
        });
        let pieces = stream::unfold(Some((reader, writing)), |state| async move {
            let (mut reader, writing) = state?;
            let mut data = vec![0; PIECE];
            match reader.read(&mut data).await {
                Ok(0) => match writing.await {
                    Ok(Ok(())) => None,
                    // An archive that was cut off must not look complete.
                    Ok(Err(e)) => Some((Err(e.into()), None)),
                    Err(e) => Some((Err(Error::failed("ExportFailed", e.to_string())), None)),
                },
                Ok(n) => {
                    data.truncate(n);
                    let piece = v1::ExportRepositoryResponse { data };
                    Some((Ok(piece), Some((reader, writing))))
                }
                Err(e) => Some((Err(Error::failed("ExportFailed", e.to_string())), None)),
            }
        });
        Ok(pieces.boxed())
    }

    pub(super) async fn import(
        &self,
        mut input: BoxStream<'static, Result<v1::ImportRepositoryRequest>>,
    ) -> Result<v1::ImportRepositoryResponse> {
        let first = match input.next().await {
            Some(first) => first?,
            None => return Err(Error::invalid("EmptyRequest", "no data was sent")),
        };
        let storage = self.registry()?.clone();
        let repository: Repository = first.repository.parse()?;
        let tag: Option<Tag> = match first.tag.as_str() {
            "" => None,
            tag => Some(tag.parse()?),
        };
        let dry_run = first.dry_run;
        let (reader, mut writer) = tokio::io::duplex(PIPE);
        let feed = async move {
            let mut next = Some(Ok(first));
            while let Some(part) = next {
                if writer.write_all(&part?.data).await.is_err() {
                    break; // The reader has seen enough.
                }
                next = input.next().await;
            }
            Ok::<_, Error>(())
        };
        let import = async {
            let tag = tag.as_ref();
            match dry_run {
                true => {
                    storage
                        .rehearse_import(&repository, tag, reader, Policy::Enforce)
                        .await
                }
                false => {
                    storage
                        .import(&repository, tag, reader, Policy::Enforce)
                        .await
                }
            }
        };
        let (fed, imported) = tokio::join!(feed, import);
        // When the sender failed, that is the cause of a torn archive.
        fed?;
        let listed = |(digest, tag): (crate::oci::Digest, Option<Tag>)| v1::RegistryTag {
            name: tag.map(|t| t.to_string()).unwrap_or_default(),
            digest: digest.to_string(),
        };
        Ok(v1::ImportRepositoryResponse {
            manifests: imported?.manifests.into_iter().map(listed).collect(),
        })
    }

    /// Logins for images: those that are configured, and the daemon's own for
    /// its registry, so that what was pushed there can be run.
    pub(super) fn logins(&self, configured: &[RegistryCredential]) -> Vec<RegistryCredential> {
        let mut logins = configured.to_vec();
        let Some(at) = self.settings.registry.listen else {
            return logins;
        };
        // Where nothing was ever served there is nothing to log in to.
        if !self.settings.registry_dir().exists() {
            return logins;
        }
        let own = match self.registry().map(Storage::own_login) {
            Ok(Ok(own)) => own,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the registry's own login");
                return logins;
            }
            Err(error) => {
                tracing::warn!(%error, "the registry's own login");
                return logins;
            }
        };
        let (username, password) = own;
        let port = at.port();
        let mut servers = vec![format!("localhost:{port}"), format!("127.0.0.1:{port}")];
        servers.push(at.to_string());
        for server in servers {
            if logins.iter().all(|login| login.server != server) {
                logins.push(RegistryCredential {
                    server,
                    username: username.clone(),
                    password: password.clone(),
                });
            }
        }
        logins
    }
}

fn shown(storage: &Storage, repository: &Repository) -> Result<v1::RegistryRepository> {
    let mut tags = Vec::new();
    for tag in storage.tags(repository)? {
        // One that vanished meanwhile, or that points to nothing, has none.
        let digest = storage.resolve(repository, &tag.clone().into());
        tags.push(v1::RegistryTag {
            name: tag.to_string(),
            digest: digest.map(|d| d.to_string()).unwrap_or_default(),
        });
    }
    let manifests = storage.manifests(repository)?.len();
    Ok(v1::RegistryRepository {
        name: repository.to_string(),
        tags,
        manifests: i64::try_from(manifests).unwrap_or(i64::MAX),
    })
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl From<registry::Error> for Error {
    fn from(error: registry::Error) -> Self {
        use registry::Error as E;
        let message = error.to_string();
        let (code, reason) = match &error {
            E::NameInvalid { .. } | E::TagInvalid { .. } | E::DigestInvalid(_) => {
                (Code::Invalid, "BadReference")
            }
            E::NameUnknown(_) => (Code::NotFound, "RepositoryNotFound"),
            E::BlobUnknown { .. } => (Code::NotFound, "BlobNotFound"),
            E::ManifestUnknown { .. } => (Code::NotFound, "ManifestNotFound"),
            E::UploadUnknown => (Code::NotFound, "UploadNotFound"),
            E::ManifestInvalid { .. }
            | E::ManifestTooLarge { .. }
            | E::MissingReferences { .. }
            | E::SizeInvalid { .. }
            | E::ChunkSize { .. }
            | E::OutOfOrder { .. } => (Code::Invalid, "ManifestInvalid"),
            E::DigestMismatch { .. } => (Code::Failed, "DigestMismatch"),
            E::Layout(_) => (Code::Invalid, "BadArchive"),
            E::UploadBusy => (Code::Conflict, "Busy"),
            E::ImmutableTag { .. } | E::ImmutableArtifact { .. } => (Code::Conflict, "Immutable"),
            E::Corrupt { .. } => (Code::Failed, "RegistryCorrupt"),
            E::Setup { .. } => (Code::Invalid, "RegistrySetup"),
            full if full.is_full() => (Code::Exhausted, "RegistryFull"),
            _ => (Code::Failed, "RegistryFailed"),
        };
        Error::new(code, reason, message)
    }
}
