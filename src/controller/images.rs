//! Image calls.

use futures::StreamExt;
use futures::stream::BoxStream;

use super::Controller;
use super::reconcile::LOCK_WAIT;
use super::stream::{Emitter, or_default};
use crate::api::{Code, Error, Result, v1};
use crate::model::{Realm, RealmRef};
use crate::runtime::{self, HELLO_IMAGE, ImageInfo, PullRequest, PushRequest};
use crate::store::{LockGuard, LockMode};

/// Bytes of an archive that may wait between socket and content store.
const PIPE: usize = 1 << 20;

impl Controller {
    fn image_realm(&self, realm: &str) -> Result<Realm> {
        self.get_realm(&RealmRef {
            realm: or_default(realm).parse()?,
        })
    }

    /// A realm that something is put into, with a lock that keeps it from being
    /// deleted meanwhile.
    async fn hold_realm(&self, realm: &str) -> Result<(Realm, LockGuard)> {
        let at = self.image_realm(realm)?.at.into();
        let lock = self.store.lock(&at, LockMode::Shared, LOCK_WAIT).await?;
        let realm = self.image_realm(realm)?;
        if realm.meta.deletion.is_some() {
            return Err(Error::new(
                Code::Conflict,
                "BeingDeleted",
                format!("{at} is being deleted"),
            ));
        }
        Ok((realm, lock))
    }

    /// containerd namespace of a realm named in a request.
    pub(super) fn image_namespace(&self, realm: &str) -> Result<String> {
        Ok(self.settings.namespace(&self.image_realm(realm)?))
    }

    pub(super) async fn images_of(
        &self,
        request: &v1::ListImagesRequest,
    ) -> Result<v1::ListImagesResponse> {
        let realms = if request.realm.is_empty() {
            self.store.realms()?
        } else {
            vec![self.image_realm(&request.realm)?.at]
        };
        let runtime = &self.runtime;
        let mut images = Vec::new();
        for at in realms {
            let Some(realm) = self.store.realm(&at)? else {
                continue;
            };
            let namespace = self.settings.namespace(&realm);
            let mut found = runtime.images(&namespace).await?;
            found.sort_by(|a, b| a.name.cmp(&b.name));
            images.extend(found.into_iter().map(|i| external(i, &realm, &namespace)));
        }
        Ok(v1::ListImagesResponse { images })
    }

    pub(super) async fn tags_of(
        &self,
        request: &v1::ListTagsRequest,
    ) -> Result<v1::ListTagsResponse> {
        let realm = self.image_realm(&request.realm)?;
        let (repository, tags) = self
            .runtime
            .tags(&request.name, &self.logins(&realm.spec.credentials))
            .await?;
        Ok(v1::ListTagsResponse { repository, tags })
    }

    pub(super) async fn image_of(
        &self,
        request: &v1::InspectImageRequest,
    ) -> Result<v1::InspectImageResponse> {
        let realm = self.image_realm(&request.realm)?;
        let namespace = self.settings.namespace(&realm);
        let detail = self.runtime.image(&namespace, &request.name).await?;
        Ok(v1::InspectImageResponse {
            image: Some(external(detail.info, &realm, &namespace)),
            manifest: detail.manifest,
            config: detail.config,
            chain_id: detail.chain_id,
        })
    }

    pub(super) async fn fetch_image(
        &self,
        request: &v1::PullImageRequest,
        emit: &Emitter,
    ) -> Result<()> {
        let (realm, _lock) = self.hold_realm(&request.realm).await?;
        let namespace = self.settings.namespace(&realm);
        if runtime::image::normalise(&request.name)? == HELLO_IMAGE {
            // It comes from this program, not from a registry.
            self.runtime
                .ensure_builtin_image(&namespace, &self.settings.program)
                .await?;
            emit.result(image_result(HELLO_IMAGE, &realm, "pulled"));
            return Ok(());
        }
        let pull = PullRequest {
            namespace,
            reference: request.name.clone(),
            platform: Some(request.platform.clone()).filter(|p| !p.is_empty()),
            credentials: self.logins(&realm.spec.credentials),
        };
        let name = tokio::select! {
            name = self.runtime.pull_image(&pull, emit.watch.progress.clone()) => name?,
            () = emit.watch.cancel.cancelled() => return Err(cancelled("pull")),
        };
        emit.result(image_result(&name, &realm, "pulled"));
        Ok(())
    }

    pub(super) async fn send_image(
        &self,
        request: &v1::PushImageRequest,
        emit: &Emitter,
    ) -> Result<()> {
        let (realm, _lock) = self.hold_realm(&request.realm).await?;
        let target = match request.target.as_str() {
            "" => &request.name,
            target => target,
        };
        let push = PushRequest {
            namespace: self.settings.namespace(&realm),
            reference: request.name.clone(),
            target: target.to_owned(),
            credentials: self.logins(&realm.spec.credentials),
        };
        let runtime = &self.runtime;
        let name = tokio::select! {
            name = runtime.push_image(&push, emit.watch.progress.clone()) => name?,
            () = emit.watch.cancel.cancelled() => return Err(cancelled("push")),
        };
        emit.result(image_result(&name, &realm, "pushed"));
        Ok(())
    }

    pub(super) async fn import_image(
        &self,
        mut input: BoxStream<'static, Result<v1::LoadImageRequest>>,
        emit: &Emitter,
    ) -> Result<()> {
        let first = match input.next().await {
            Some(first) => first?,
            None => {
                return Err(Error::invalid(
                    "EmptyRequest",
                    "image load: no data was sent",
                ));
            }
        };
        let (realm, _lock) = self.hold_realm(&first.realm).await?;
        let namespace = self.settings.namespace(&realm);
        let (reader, mut writer) = tokio::io::duplex(PIPE);
        // The archive is passed on as it comes; a broken sender ends the pipe
        // with an error that the importer turns into its own.
        let feed = async move {
            use tokio::io::AsyncWriteExt;
            let mut next = Some(Ok(first));
            while let Some(part) = next {
                if writer.write_all(&part?.data).await.is_err() {
                    break; // The importer has seen enough.
                }
                next = input.next().await;
            }
            drop(writer);
            Ok::<_, Error>(())
        };
        let runtime = &self.runtime;
        let progress = emit.watch.progress.clone();
        let load = runtime.load_image(&namespace, Box::new(reader), progress);
        let names = tokio::select! {
            (fed, loaded) = async { tokio::join!(feed, load) } => {
                // When the sender failed, that is the cause of a torn archive.
                fed?;
                loaded?
            }
            () = emit.watch.cancel.cancelled() => return Err(cancelled("image load")),
        };
        for name in names {
            emit.result(image_result(&name, &realm, "loaded"));
        }
        Ok(())
    }
}

fn cancelled(what: &str) -> Error {
    Error::new(
        Code::Cancelled,
        "Cancelled",
        format!("{what}: cancelled by the caller"),
    )
}

fn image_result(name: &str, realm: &Realm, action: &str) -> v1::ResourceResult {
    v1::ResourceResult {
        kind: "Image".to_owned(),
        name: name.to_owned(),
        scope: Some(v1::Scope {
            realm: realm.at.realm.to_string(),
            ..v1::Scope::default()
        }),
        action: action.to_owned(),
        ..v1::ResourceResult::default()
    }
}

fn external(info: ImageInfo, realm: &Realm, namespace: &str) -> v1::Image {
    v1::Image {
        name: info.name,
        realm: realm.at.realm.to_string(),
        namespace: namespace.to_owned(),
        digest: info.digest,
        media_type: info.media_type,
        size: i64::try_from(info.size).unwrap_or(i64::MAX),
        created_at: info.created_at,
        labels: info.labels,
    }
}
