//! Fetches images from registries: documents first, then layers side by side,
//! each unpacked as soon as those below it are.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use super::digest;
use super::document::{self, Descriptor};
use super::lease::Lease;
use super::platform::Platform;
use super::reference::{Reference, is_internal};
use super::store::Store;
use super::tree::{Choice, Tree, looks_like_index};
use super::unpack::Unpacker;
use super::writer::{PIECE, Writer};
use crate::model::{Progress, ProgressSink};
use crate::registry::client::{self, Access, Failure, Patience, Registry};
use crate::runtime::{Connection, Error, PullRequest, Result};

/// Layers fetched at once.
const AT_ONCE: usize = 3;

/// Fetches and unpacks; see [`crate::runtime::Runtime::pull_image`].
pub(crate) async fn pull(
    connection: &Connection,
    request: &PullRequest,
    progress: &ProgressSink,
) -> Result<String> {
    let image = Reference::parse(&request.reference)?;
    let name = image.to_string();
    if is_internal(&name) {
        return Err(Error::ImageNotFound(name));
    }
    let wanted = match &request.platform {
        Some(platform) => Platform::parse(platform)?,
        None => Platform::host(),
    };
    let access = Access::with(&request.credentials);
    let registry = Arc::new(Registry::new(image.location(), access));
    let lease = Lease::take(connection, &request.namespace, "pull").await?;
    let work = Pull {
        lease: &lease,
        registry,
        name: &name,
        wanted,
        progress,
    };
    let result = work.run(image.object()).await;
    lease.finish(result).await?;
    Ok(name)
}

struct Pull<'a> {
    lease: &'a Lease,
    registry: Arc<Registry>,
    name: &'a str,
    wanted: Platform,
    progress: &'a ProgressSink,
}

impl Pull<'_> {
    async fn run(&self, object: &str) -> Result<()> {
        let store = self.lease.store();
        self.report("resolving", false);
        let (target, config) = self.documents(object).await?;
        self.document(&config).await?;
        let tree = Tree::read(store, self.name, &target, &self.wanted, Choice::Strict).await;
        let tree = tree.map_err(|e| self.faulty(e))?;
        self.report("resolved", true);

        let mut fetching = self.start(&tree).await?;
        let diff_ids = &tree.config.rootfs.diff_ids;
        let unpacker = Unpacker::new(self.lease, &tree.manifest, diff_ids, self.progress).await?;
        for n in 0..tree.manifest.layers.len() {
            // A layer that comes twice is fetched once.
            if let Some(task) = fetching.remove(&n) {
                task.await.map_err(|e| self.ended(&e))??;
            }
            unpacker.layer(n).await?;
        }
        unpacker.finish().await?;
        tree.label(store).await?;
        store.set_image(self.name, &target, HashMap::new()).await
    }

    /// Stores indexes and manifest. Returns what the name will point at, and
    /// where the configuration is.
    async fn documents(&self, object: &str) -> Result<(Descriptor, Descriptor)> {
        let mut at = self.manifest(object).await?;
        let target = at.0.clone();
        // As deep as the reader goes afterwards.
        for _ in 0..=4 {
            let (descriptor, bytes) = &at;
            if !looks_like_index(&descriptor.media_type, bytes) {
                let manifest =
                    document::parse_manifest(bytes).map_err(|why| self.malformed(why))?;
                return Ok((target, manifest.config));
            }
            let index = document::parse_index(bytes).map_err(|why| self.malformed(why))?;
            let Some(best) = document::candidates(&index, &self.wanted).first().copied() else {
                return Err(Error::Platform {
                    image: self.name.to_owned(),
                    wanted: self.wanted.to_string(),
                    offered: document::offered(&index),
                });
            };
            at = self.manifest(&best.digest).await?;
        }
        Err(self.malformed("its indexes are nested too deep".into()))
    }

    /// Fetches a manifest or index and stores it.
    async fn manifest(&self, object: &str) -> Result<(Descriptor, Vec<u8>)> {
        let fetched = self.registry.manifest(object).await?;
        let promised = if object.contains(':') {
            Some(object.to_owned())
        } else {
            fetched.digest.filter(|d| digest::is_valid(d))
        };
        if let Some(promised) = promised {
            if !digest::is_valid(&promised) {
                return Err(self.malformed(format!("digest {promised} is not of kind sha256")));
            }
            let what = format!("manifest of {}", self.name);
            digest::expect(&what, &promised, &fetched.bytes)?;
        }
        // The document knows best what it is; old ones leave it out.
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Typed {
            #[serde(default)]
            media_type: String,
        }
        let typed: Typed =
            document::parse("manifest", &fetched.bytes).map_err(|why| self.malformed(why))?;
        let known = |t: &str| document::is_index(t) || document::is_manifest(t);
        let media_type = match (typed.media_type.as_str(), fetched.media_type.as_str()) {
            (stated, _) if known(stated) => stated,
            (_, sent) if known(sent) => sent,
            _ if looks_like_index("", &fetched.bytes) => document::INDEX,
            _ => document::MANIFEST,
        };
        let store = self.lease.store();
        let descriptor = store.put(media_type, fetched.bytes.clone()).await?;
        Ok((descriptor, fetched.bytes))
    }

    /// Fetches a configuration, unless it is here.
    async fn document(&self, at: &Descriptor) -> Result<()> {
        let store = self.lease.store();
        self.lease.hold_content(&at.digest).await?;
        if store.info(&at.digest).await?.is_some() {
            return Ok(());
        }
        let fetched = self.registry.config(&at.digest).await;
        let fetched = fetched.map_err(|e| self.without_blob(&at.digest, e.into()))?;
        let what = format!("configuration of {}", self.name);
        digest::expect(&what, &at.digest, &fetched.bytes)?;
        store.put(&at.media_type, fetched.bytes).await?;
        Ok(())
    }

    /// Starts fetching the layers, by position. Dropping the tasks ends them.
    async fn start(&self, tree: &Tree) -> Result<HashMap<usize, AbortOnDropHandle<Result<()>>>> {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let (mut tasks, mut seen) = (HashMap::new(), HashSet::new());
        for (n, layer) in tree.manifest.layers.iter().enumerate() {
            if !seen.insert(&layer.digest) {
                continue;
            }
            self.lease.hold_content(&layer.digest).await?;
            let fetch = Fetch {
                // The lease holds the blob by name. The write itself is not
                // under it, so that what came so far outlives a failure.
                store: self.lease.store().unleased(),
                registry: self.registry.clone(),
                layer: layer.clone(),
                progress: self.progress.clone(),
            };
            let turns = turns.clone();
            tasks.insert(
                n,
                AbortOnDropHandle::new(tokio::spawn(async move {
                    // Never closed.
                    let _turn = turns.acquire_owned().await;
                    fetch.run().await
                })),
            );
        }
        Ok(tasks)
    }

    fn report(&self, text: &str, done: bool) {
        self.progress.send(Progress {
            id: self.name.to_owned(),
            text: text.to_owned(),
            done,
            ..Progress::default()
        });
    }

    fn malformed(&self, why: String) -> Error {
        let why = format!("image {}: {why}", self.name);
        self.registry.broken(why).into()
    }

    fn faulty(&self, error: Error) -> Error {
        match error {
            Error::Other { cause, .. } => self.malformed(cause),
            other => other,
        }
    }

    fn without_blob(&self, digest: &str, error: Error) -> Error {
        match error {
            Error::ImageNotFound(_) => self.malformed(format!("blob {digest} is not there")),
            other => other,
        }
    }

    fn ended(&self, error: &tokio::task::JoinError) -> Error {
        Error::Other {
            what: format!("fetching {}", self.name),
            cause: error.to_string(),
        }
    }
}

/// One layer on its way.
struct Fetch {
    store: Store,
    registry: Arc<Registry>,
    layer: Descriptor,
    progress: ProgressSink,
}

impl Fetch {
    async fn run(self) -> Result<()> {
        let digest = &self.layer.digest;
        if self.store.info(digest).await?.is_some() {
            self.report("exists", self.layer.size);
            return Ok(());
        }
        // The key that containerd's own clients use: they and we go on with
        // what the other began.
        let key = format!("layer-{digest}");
        let mut fresh = false;
        loop {
            let opened = Writer::open(&self.store, &key, Some(digest), self.layer.size).await?;
            let Some(mut writer) = opened else {
                self.report("exists", self.layer.size);
                return Ok(());
            };
            let resumed = writer.offset() > 0;
            self.fill(&mut writer).await?;
            let got = writer.digest().await?;
            if got == *digest {
                return writer.commit(digest).await;
            }
            writer.abort().await?;
            // What was here before may have been wrong; that is tried once.
            if !resumed || fresh {
                return Err(Error::Digest {
                    what: "layer".into(),
                    expected: digest.clone(),
                    got,
                });
            }
            fresh = true;
        }
    }

    /// Fetches what is missing, however many answers that takes.
    async fn fill(&self, writer: &mut Writer) -> Result<()> {
        let mut patience = Patience::default();
        while writer.offset() < self.layer.size {
            let before = writer.offset();
            if let Err(failure) = self.copy(writer).await {
                if writer.offset() > before {
                    patience.renew();
                }
                patience.wait(&self.registry, failure).await?;
            }
        }
        Ok(())
    }

    /// Takes in one answer. What came before it broke off is kept.
    async fn copy(&self, writer: &mut Writer) -> Result<(), Failure<Error>> {
        let digest = &self.layer.digest;
        let from = writer.offset();
        self.report("downloading", from);
        let answer = self.registry.blob(digest, from).await;
        let (mut response, start) = answer.map_err(|failure| match failure {
            Failure::Final(client::Error::NotFound(image)) => {
                let cause = format!("image {image}: blob {digest} is not there");
                Failure::Final(self.registry.broken(cause).into())
            }
            other => other.map(Error::from),
        })?;
        // A registry without ranges begins at the beginning.
        let mut skip = from - start;
        let mut piece = Vec::with_capacity(PIECE);
        let ended = loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    let known = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
                    skip -= known as u64;
                    piece.extend_from_slice(&chunk[known..]);
                    if writer.offset() + piece.len() as u64 > self.layer.size {
                        return Err(self.too_long().into());
                    }
                    if piece.len() >= PIECE {
                        writer.write(std::mem::take(&mut piece)).await?;
                        self.report("downloading", writer.offset());
                    }
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        writer.write(piece).await?;
        match ended {
            Some(error) => Err(Failure::passing(error.to_string())),
            None if writer.offset() < self.layer.size => Err(Failure::passing(format!(
                "blob {digest} ended after {} of {} bytes",
                writer.offset(),
                self.layer.size
            ))),
            None => Ok(()),
        }
    }

    fn too_long(&self) -> Error {
        Error::Digest {
            what: "layer".into(),
            expected: self.layer.digest.clone(),
            got: format!("more than {} bytes", self.layer.size),
        }
    }

    fn report(&self, text: &str, current: u64) {
        self.progress.send(Progress {
            id: digest::short(&self.layer.digest),
            text: text.to_owned(),
            current,
            total: self.layer.size,
            ..Progress::default()
        });
    }
}
