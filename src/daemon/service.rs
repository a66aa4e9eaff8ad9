//! Adapts a [`Kukeon`] to the wire: checks the peer, records who changes what,
//! turns errors into statuses, and keeps a panic inside its call.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::peer::{Peer, Peers};
use crate::api::v1::kukeon_server;
use crate::api::{Code, Error, Result as ApiResult, v1};
use crate::client::status::{from_status, to_status};
use crate::client::{Kukeon, actor};

/// The gRPC service.
pub struct Service {
    inner: Arc<dyn Kukeon>,
    peers: Peers,
    /// Ends what would go on forever.
    stop: CancellationToken,
}

type Answer<T> = Result<Response<T>, Status>;
type Stream<T> = BoxStream<'static, Result<T, Status>>;

impl Service {
    /// Serves `inner` to `peers` until `stop`.
    pub fn new(inner: Arc<dyn Kukeon>, peers: Peers, stop: CancellationToken) -> Self {
        Self { inner, peers, stop }
    }

    /// A call that only looks.
    fn looks<T>(&self, request: Request<T>) -> Result<(T, Arc<dyn Kukeon>), Status> {
        self.peers.check(&request)?;
        Ok((request.into_inner(), self.inner.clone()))
    }

    /// Who asks, for histories.
    fn actor<T>(&self, request: &Request<T>) -> Result<String, Status> {
        Ok(actor::of_user(self.peers.check(request)?.uid))
    }

    /// A call that changes something; `what` says on which object.
    fn changes<T>(
        &self,
        call: &'static str,
        request: Request<T>,
        what: impl FnOnce(&T) -> String,
    ) -> Result<(T, Arc<dyn Kukeon>), Status> {
        let Peer { uid, pid } = self.peers.check(&request)?;
        let what = what(request.get_ref());
        tracing::info!(call, what, uid, pid, "asked");
        Ok((request.into_inner(), self.inner.clone()))
    }
}

async fn unary<T>(work: impl Future<Output = ApiResult<T>>) -> Answer<T> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(Ok(answer)) => Ok(Response::new(answer)),
        Ok(Err(error)) => Err(to_status(error)),
        Err(_) => Err(to_status(panicked())),
    }
}

async fn streamed<T: Send + 'static>(
    work: impl Future<Output = ApiResult<BoxStream<'static, ApiResult<T>>>>,
) -> Answer<Stream<T>> {
    let answers = unary(work).await?.into_inner();
    let answers = AssertUnwindSafe(answers)
        .catch_unwind()
        .map(|item| match item {
            Ok(item) => item.map_err(to_status),
            Err(_) => Err(to_status(panicked())),
        });
    Ok(Response::new(answers.boxed()))
}

fn panicked() -> Error {
    Error::failed(
        "Panicked",
        "kukeond failed inside this call; it goes on serving",
    )
    .hint("this is a defect: please report it with `kuke daemon logs`")
}

fn stopping() -> Error {
    Error::new(Code::Unavailable, "Stopping", "kukeond is shutting down")
        .hint("cells go on running; ask again when it is back")
}

/// `realm/space/stack/cell` as far as it is set.
fn place(scope: Option<&v1::Scope>, name: &str) -> String {
    let scope = scope.cloned().unwrap_or_default();
    let parts = [&scope.realm, &scope.space, &scope.stack, &scope.cell];
    let mut text = String::new();
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        text.push_str(part);
        text.push('/');
    }
    text.push_str(name);
    text
}

#[async_trait]
impl kukeon_server::Kukeon for Service {
    type InitStream = Stream<v1::Event>;
    type UninstallStream = Stream<v1::Event>;
    type ApplyStream = Stream<v1::Event>;
    type DeleteStream = Stream<v1::Event>;
    type TransitionStream = Stream<v1::Event>;
    type ExecStream = Stream<v1::ExecOutput>;
    type LogsStream = Stream<v1::LogChunk>;
    type PullImageStream = Stream<v1::Event>;
    type PushImageStream = Stream<v1::Event>;
    type LoadImageStream = Stream<v1::Event>;
    type ExportRepositoryStream = Stream<v1::ExportRepositoryResponse>;
    type PromoteStream = Stream<v1::Event>;
    type ActStream = Stream<v1::Event>;
    type WatchReleasesStream = Stream<v1::ReleaseChange>;

    async fn version(&self, request: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        let (message, inner) = self.looks(request)?;
        unary(async {
            let mut answer = inner.version(message).await?;
            // Whoever serves: across the wire it is a daemon.
            answer.daemon = true;
            Ok(answer)
        })
        .await
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        let (message, inner) = self.looks(request)?;
        unary(inner.status(message)).await
    }

    async fn init(&self, request: Request<v1::InitRequest>) -> Answer<Self::InitStream> {
        let (message, inner) = self.changes("init", request, |_| "host".into())?;
        streamed(inner.init(message)).await
    }

    async fn uninstall(
        &self,
        request: Request<v1::UninstallRequest>,
    ) -> Answer<Self::UninstallStream> {
        let (message, inner) = self.changes("uninstall", request, |_| "host".into())?;
        streamed(inner.uninstall(message)).await
    }

    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Answer<Self::ApplyStream> {
        let what = |m: &v1::ApplyRequest| sources(&m.files);
        let actor = self.actor(&request)?;
        let (message, inner) = self.changes("apply", request, what)?;
        streamed(actor::scope(actor, inner.apply(message))).await
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Answer<v1::GetResponse> {
        let (message, inner) = self.looks(request)?;
        unary(inner.get(message)).await
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Answer<Self::DeleteStream> {
        let what = |m: &v1::DeleteRequest| match m.kind.as_str() {
            "" => sources(&m.files),
            kind => format!("{kind} {}", place(m.scope.as_ref(), &m.name)),
        };
        let (message, inner) = self.changes("delete", request, what)?;
        streamed(inner.delete(message)).await
    }

    async fn transition(
        &self,
        request: Request<v1::TransitionRequest>,
    ) -> Answer<Self::TransitionStream> {
        let what = |m: &v1::TransitionRequest| {
            format!("{} {}", m.action, place(m.scope.as_ref(), &m.name))
        };
        let (message, inner) = self.changes("transition", request, what)?;
        streamed(inner.transition(message)).await
    }

    async fn wait(&self, request: Request<v1::WaitRequest>) -> Answer<v1::WaitResponse> {
        let (message, inner) = self.looks(request)?;
        let stop = self.stop.clone();
        unary(async {
            tokio::select! {
                ended = inner.wait(message) => ended,
                () = stop.cancelled() => Err(stopping()),
            }
        })
        .await
    }

    async fn exec(&self, request: Request<Streaming<v1::ExecInput>>) -> Answer<Self::ExecStream> {
        let Peer { uid, pid } = self.peers.check(&request)?;
        let input = request.into_inner().map(move |item| {
            // Where, but not what: arguments and variables may be secrets.
            if let Ok(v1::ExecInput {
                input: Some(v1::exec_input::Input::Start(start)),
            }) = &item
            {
                let what = place(start.scope.as_ref(), &start.name);
                let container = &start.container;
                tracing::info!(call = "exec", what, container, uid, pid, "asked");
            }
            item.map_err(from_status)
        });
        streamed(self.inner.clone().exec(input.boxed())).await
    }

    async fn logs(&self, request: Request<v1::LogsRequest>) -> Answer<Self::LogsStream> {
        let (message, inner) = self.looks(request)?;
        let follow = message.follow;
        let answers = streamed(inner.logs(message)).await?.into_inner();
        if !follow {
            return Ok(Response::new(answers));
        }
        let stop = self.stop.clone();
        let ended = stop.clone();
        let last = futures::stream::once(async move { Err(to_status(stopping())) })
            .take_while(move |_| futures::future::ready(ended.is_cancelled()));
        let answers = answers.take_until(stop.cancelled_owned()).chain(last);
        Ok(Response::new(answers.boxed()))
    }

    async fn promote(&self, request: Request<v1::PromoteRequest>) -> Answer<Self::PromoteStream> {
        let actor = self.actor(&request)?;
        let what = |m: &v1::PromoteRequest| format!("{}/{} to {}", m.namespace, m.recipe, m.to);
        let (message, inner) = self.changes("promote", request, what)?;
        streamed(actor::scope(actor, inner.promote(message))).await
    }

    async fn act(&self, request: Request<v1::ActRequest>) -> Answer<Self::ActStream> {
        let actor = self.actor(&request)?;
        let what = |m: &v1::ActRequest| {
            let action = m.action().as_str_name();
            format!("{action} {} {}/{}", m.kind, m.namespace, m.name)
        };
        let (message, inner) = self.changes("act", request, what)?;
        streamed(actor::scope(actor, inner.act(message))).await
    }

    async fn history(&self, request: Request<v1::HistoryRequest>) -> Answer<v1::HistoryResponse> {
        let (message, inner) = self.looks(request)?;
        unary(inner.history(message)).await
    }

    async fn diff(&self, request: Request<v1::DiffRequest>) -> Answer<v1::DiffResponse> {
        let (message, inner) = self.looks(request)?;
        unary(inner.diff(message)).await
    }

    async fn manifest(
        &self,
        request: Request<v1::ManifestRequest>,
    ) -> Answer<v1::ManifestResponse> {
        let (message, inner) = self.looks(request)?;
        unary(inner.manifest(message)).await
    }

    async fn verify_preparation(
        &self,
        request: Request<v1::VerifyPreparationRequest>,
    ) -> Answer<v1::VerifyPreparationResponse> {
        let (message, inner) = self.looks(request)?;
        unary(inner.verify_preparation(message)).await
    }

    async fn sign_preparation(
        &self,
        request: Request<v1::SignPreparationRequest>,
    ) -> Answer<v1::SignPreparationResponse> {
        let what = |m: &v1::SignPreparationRequest| format!("{}/{}", m.namespace, m.preparation);
        let (message, inner) = self.changes("sign", request, what)?;
        unary(inner.sign_preparation(message)).await
    }

    async fn mark(&self, request: Request<v1::MarkRequest>) -> Answer<v1::ResourceResult> {
        let what = |m: &v1::MarkRequest| format!("{} {}", m.kind, m.name);
        let actor = self.actor(&request)?;
        let (message, inner) = self.changes("mark", request, what)?;
        unary(actor::scope(actor, inner.mark(message))).await
    }

    async fn wait_for(&self, request: Request<v1::WaitForRequest>) -> Answer<v1::ResourceResult> {
        let (message, inner) = self.looks(request)?;
        let stop = self.stop.clone();
        unary(async {
            tokio::select! {
                ended = inner.wait_for(message) => ended,
                () = stop.cancelled() => Err(stopping()),
            }
        })
        .await
    }

    async fn connect_cluster(
        &self,
        request: Request<v1::ConnectClusterRequest>,
    ) -> Answer<v1::ConnectClusterResponse> {
        let what = |m: &v1::ConnectClusterRequest| format!("cluster {}", m.name);
        let (message, inner) = self.changes("connect", request, what)?;
        unary(inner.connect_cluster(message)).await
    }

    async fn list_clusters(
        &self,
        request: Request<v1::ListClustersRequest>,
    ) -> Answer<v1::ListClustersResponse> {
        let (message, inner) = self.looks(request)?;
        unary(inner.list_clusters(message)).await
    }

    async fn watch_releases(
        &self,
        request: Request<v1::WatchReleasesRequest>,
    ) -> Answer<Self::WatchReleasesStream> {
        let (message, inner) = self.looks(request)?;
        let answers = streamed(inner.watch_releases(message)).await?.into_inner();
        let answers = answers.take_until(self.stop.clone().cancelled_owned());
        Ok(Response::new(answers.boxed()))
    }

    async fn preview(&self, request: Request<v1::PreviewRequest>) -> Answer<v1::PreviewResponse> {
        let (message, inner) = self.looks(request)?;
        unary(inner.preview(message)).await
    }

    async fn browse_source(
        &self,
        request: Request<v1::BrowseSourceRequest>,
    ) -> Answer<v1::BrowseSourceResponse> {
        let (message, inner) = self.looks(request)?;
        unary(inner.browse_source(message)).await
    }

    async fn web_account(
        &self,
        request: Request<v1::WebAccountRequest>,
    ) -> Answer<v1::WebAccountResponse> {
        let what = |m: &v1::WebAccountRequest| m.name.clone();
        let (message, inner) = self.changes("web account", request, what)?;
        unary(inner.web_account(message)).await
    }

    async fn list_tags(
        &self,
        request: Request<v1::ListTagsRequest>,
    ) -> Answer<v1::ListTagsResponse> {
        let (message, inner) = self.looks(request)?;
        unary(inner.list_tags(message)).await
    }

    async fn push_image(
        &self,
        request: Request<v1::PushImageRequest>,
    ) -> Answer<Self::PushImageStream> {
        let what = |m: &v1::PushImageRequest| format!("{}: {}", m.realm, m.name);
        let (message, inner) = self.changes("push image", request, what)?;
        streamed(inner.push_image(message)).await
    }

    async fn list_registry(
        &self,
        request: Request<v1::ListRegistryRequest>,
    ) -> Answer<v1::ListRegistryResponse> {
        let (message, inner) = self.looks(request)?;
        unary(inner.list_registry(message)).await
    }

    async fn registry_login(
        &self,
        request: Request<v1::RegistryLoginRequest>,
    ) -> Answer<v1::RegistryLoginResponse> {
        let what = |m: &v1::RegistryLoginRequest| m.name.clone();
        let (message, inner) = self.changes("registry login", request, what)?;
        unary(inner.registry_login(message)).await
    }

    async fn verify_registry(
        &self,
        request: Request<v1::VerifyRegistryRequest>,
    ) -> Answer<v1::VerifyRegistryResponse> {
        let (message, inner) = self.looks(request)?;
        unary(inner.verify_registry(message)).await
    }

    async fn collect_registry(
        &self,
        request: Request<v1::CollectRegistryRequest>,
    ) -> Answer<v1::CollectRegistryResponse> {
        let (message, inner) = self.changes("registry gc", request, |_| String::new())?;
        unary(inner.collect_registry(message)).await
    }

    async fn export_repository(
        &self,
        request: Request<v1::ExportRepositoryRequest>,
    ) -> Answer<Self::ExportRepositoryStream> {
        let (message, inner) = self.looks(request)?;
        streamed(inner.export_repository(message)).await
    }

    async fn import_repository(
        &self,
        request: Request<Streaming<v1::ImportRepositoryRequest>>,
    ) -> Answer<v1::ImportRepositoryResponse> {
        let (input, inner) = self.changes("registry import", request, |_| String::new())?;
        let input = input.map(|item| item.map_err(from_status)).boxed();
        unary(inner.import_repository(input)).await
    }

    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Answer<v1::ListImagesResponse> {
        let (message, inner) = self.looks(request)?;
        unary(inner.list_images(message)).await
    }

    async fn inspect_image(
        &self,
        request: Request<v1::InspectImageRequest>,
    ) -> Answer<v1::InspectImageResponse> {
        let (message, inner) = self.looks(request)?;
        unary(inner.inspect_image(message)).await
    }

    async fn delete_image(
        &self,
        request: Request<v1::DeleteImageRequest>,
    ) -> Answer<v1::DeleteImageResponse> {
        let what = |m: &v1::DeleteImageRequest| format!("{}: {}", m.realm, m.name);
        let (message, inner) = self.changes("delete image", request, what)?;
        unary(inner.delete_image(message)).await
    }

    async fn prune_images(
        &self,
        request: Request<v1::PruneImagesRequest>,
    ) -> Answer<v1::PruneImagesResponse> {
        let what = |m: &v1::PruneImagesRequest| m.realm.clone();
        let (message, inner) = self.changes("prune images", request, what)?;
        unary(inner.prune_images(message)).await
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Answer<Self::PullImageStream> {
        let what = |m: &v1::PullImageRequest| format!("{}: {}", m.realm, m.name);
        let (message, inner) = self.changes("pull image", request, what)?;
        streamed(inner.pull_image(message)).await
    }

    async fn load_image(
        &self,
        request: Request<Streaming<v1::LoadImageRequest>>,
    ) -> Answer<Self::LoadImageStream> {
        let (input, inner) = self.changes("load image", request, |_| String::new())?;
        let input = input.map(|item| item.map_err(from_status)).boxed();
        streamed(inner.load_image(input)).await
    }
}

/// Files of a request for the log: the first, and how many more.
fn sources(files: &[v1::ManifestFile]) -> String {
    let Some(first) = files.first() else {
        return String::new();
    };
    let bytes: usize = files.iter().map(|file| file.text.len()).sum();
    match files.len() - 1 {
        0 => format!("{} ({bytes} bytes)", first.source),
        more => format!("{} and {more} more ({bytes} bytes)", first.source),
    }
}
