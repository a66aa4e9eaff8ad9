//! Sends images to registries: what the registry lacks first, manifests last.

use std::io;

use bytes::Bytes;
use containerd_client::services::v1::ReadContentRequest;
use futures::{Stream, StreamExt};

use super::digest;
use super::document::{self, Descriptor};
use super::platform::Platform;
use super::query::{find, target};
use super::reference::Reference;
use super::store::Store;
use super::tree::{Choice, Tree, looks_like_index};
use crate::model::{Progress, ProgressSink};
use crate::registry::client::{Access, Patience, Registry};
use crate::runtime::{Connection, Error, PushRequest, Result};

/// Sends an image; see [`crate::runtime::Runtime::push_image`].
pub(crate) async fn push(
    connection: &Connection,
    request: &PushRequest,
    progress: &ProgressSink,
) -> Result<String> {
    let to = Reference::parse(&request.target)?;
    if to.digest.is_some() {
        let why = "an image is pushed to a tag".to_owned();
        return Err(Error::BadReference(request.target.clone(), why));
    }
    let store = Store::new(connection, &request.namespace);
    let image = find(&store, &request.reference).await?;
    let plan = plan(&store, &image.name, &target(&image)).await?;
    let work = Push {
        registry: Registry::new(to.location(), Access::with(&request.credentials)),
        store,
        progress,
    };
    for blob in &plan.blobs {
        work.blob(blob).await?;
    }
    let top = plan.manifests.len().saturating_sub(1);
    for (n, manifest) in plan.manifests.iter().enumerate() {
        let object = match n == top {
            true => to.object(),
            false => &manifest.digest,
        };
        work.manifest(manifest, object).await?;
    }
    Ok(to.to_string())
}

/// What has to be there, each after what it refers to.
#[derive(Default)]
struct Plan {
    blobs: Vec<Descriptor>,
    manifests: Vec<Descriptor>,
}

/// The whole image where all of it is here, or else what runs on this machine:
/// pulling fetches that alone.
async fn plan(store: &Store, image: &str, target: &Descriptor) -> Result<Plan> {
    let mut plan = Plan::default();
    match whole(store, target, &mut plan, 0).await {
        Ok(()) => return Ok(plan),
        Err(Error::NotFound(_)) => {}
        Err(e) => return Err(e),
    }
    let host = Platform::host();
    let tree = Tree::read(store, image, target, &host, Choice::Any).await?;
    let mut plan = Plan::default();
    whole(store, &tree.manifest_at, &mut plan, 0).await?;
    Ok(plan)
}

async fn whole(store: &Store, at: &Descriptor, plan: &mut Plan, depth: usize) -> Result<()> {
    /// As deep as the reader goes.
    const DEEPEST: usize = 4;

    let malformed = |cause: String| Error::Other {
        what: format!("manifest {}", at.digest),
        cause,
    };
    let bytes = store.checked(at).await?;
    if looks_like_index(&at.media_type, &bytes) {
        if depth == DEEPEST {
            return Err(malformed("its indexes are nested too deep".to_owned()));
        }
        let index = document::parse_index(&bytes).map_err(malformed)?;
        for child in &index.manifests {
            Box::pin(whole(store, child, plan, depth + 1)).await?;
        }
    } else {
        let manifest = document::parse_manifest(&bytes).map_err(malformed)?;
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            if store.info(&blob.digest).await?.is_none() {
                return Err(Error::NotFound(format!("blob {}", blob.digest)));
            }
            if plan.blobs.iter().all(|known| known.digest != blob.digest) {
                plan.blobs.push(blob.clone());
            }
        }
    }
    plan.manifests.push(at.clone());
    Ok(())
}

struct Push<'a> {
    store: Store,
    registry: Registry,
    progress: &'a ProgressSink,
}

impl Push<'_> {
    async fn blob(&self, blob: &Descriptor) -> Result<()> {
        let mut patience = Patience::default();
        loop {
            let tried = match self.registry.has_blob(&blob.digest).await {
                Ok(true) => {
                    self.report(blob, "exists", blob.size, true);
                    return Ok(());
                }
                Ok(false) => {
                    let content = self.content(blob).await?;
                    let push = self.registry.push_blob(&blob.digest, blob.size, content);
                    push.await
                }
                Err(failure) => Err(failure),
            };
            match tried {
                Ok(()) => {
                    self.report(blob, "pushed", blob.size, true);
                    return Ok(());
                }
                Err(failure) => {
                    patience.wait(&self.registry, failure).await?;
                }
            }
        }
    }

    async fn manifest(&self, at: &Descriptor, object: &str) -> Result<()> {
        let bytes = self.store.checked(at).await?;
        let put = self.registry.put_manifest(object, &at.media_type, &bytes);
        put.await?;
        Ok(())
    }

    /// A blob from the content store, as it comes.
    async fn content(
        &self,
        blob: &Descriptor,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static> {
        let request = self.store.patient(ReadContentRequest {
            digest: blob.digest.clone(),
            offset: 0,
            size: 0,
        });
        let answer = self.store.content().read(request).await;
        let what = || format!("blob {}", blob.digest);
        let parts = answer
            .map_err(|s| self.store.fail(what(), &s))?
            .into_inner();
        let progress = self.progress.clone();
        let blob = blob.clone();
        let mut done = 0;
        Ok(parts.map(move |part| {
            let data = part.map_err(io::Error::other)?.data;
            done += data.len() as u64;
            report(&progress, &blob, "uploading", done, false);
            Ok(Bytes::from(data))
        }))
    }

    fn report(&self, blob: &Descriptor, text: &str, current: u64, done: bool) {
        report(self.progress, blob, text, current, done);
    }
}

fn report(progress: &ProgressSink, blob: &Descriptor, text: &str, current: u64, done: bool) {
    progress.send(Progress {
        id: digest::short(&blob.digest),
        text: text.to_owned(),
        current,
        total: blob.size,
        done,
        ..Progress::default()
    });
}
