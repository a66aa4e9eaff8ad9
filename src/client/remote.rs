//! The remote `Kukeon`: gRPC over kukeond's unix socket.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

use super::status::{HEADER_LIST_SIZE, from_status};
use super::{EventStream, Kukeon};
use crate::api::v1::kukeon_client::KukeonClient;
use crate::api::{Code, Error, Result, v1};

/// Largest answer that is accepted, in bytes: a list of some ten thousand cells.
const ANSWER_LIMIT: usize = 256 * 1024 * 1024;
/// How long the socket may take to accept.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer that needs no work on the host may take.
const SHORT: Duration = Duration::from_secs(30);
/// How long an answer that may need work in containerd may take.
const LONG: Duration = Duration::from_secs(300);

/// A connection to a daemon.
pub struct Remote {
    client: KukeonClient<Channel>,
    /// Limit of a whole call that the user set.
    limit: Option<Duration>,
}

impl Remote {
    /// Connects to the daemon behind a socket. `limit` bounds every call.
    ///
    /// # Errors
    /// [`Code::Unavailable`] when nobody listens there, [`Code::Permission`]
    /// when the socket may not be used.
    pub async fn connect(socket: &Path, limit: Option<Duration>) -> Result<Self> {
        let stream = tokio::time::timeout(CONNECT, UnixStream::connect(socket))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| unreachable(socket, &error))?;
        // The first stream is the one above, so that its error is known
        // exactly; the channel connects by itself when that one breaks.
        let first = Arc::new(Mutex::new(Some(stream)));
        let path: PathBuf = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let ready = first.lock().ok().and_then(|mut slot| slot.take());
            let path = path.clone();
            async move {
                let stream = match ready {
                    Some(stream) => stream,
                    None => UnixStream::connect(path).await?,
                };
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        });
        let channel = Endpoint::from_static("http://kukeond.invalid")
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(20))
            .http2_max_header_list_size(HEADER_LIST_SIZE)
            .initial_stream_window_size(1024 * 1024)
            .initial_connection_window_size(4 * 1024 * 1024)
            .connect_with_connector(connector)
            .await
            .map_err(|error| unreachable(socket, &io::Error::other(error)))?;
        let client = KukeonClient::new(channel).max_decoding_message_size(ANSWER_LIMIT);
        Ok(Self { client, limit })
    }

    fn client(&self) -> KukeonClient<Channel> {
        self.client.clone()
    }

    /// Waits for an answer, at most `usual` or what the user set. The daemon is
    /// told the limit too, so that it gives up as well.
    async fn unary<T, R, F>(&self, message: T, usual: Option<Duration>, call: F) -> Result<R>
    where
        F: AsyncFnOnce(
            KukeonClient<Channel>,
            Request<T>,
        ) -> std::result::Result<tonic::Response<R>, Status>,
    {
        let limit = self.limit.or(usual);
        let mut request = Request::new(message);
        if let Some(limit) = limit {
            // A little later than here, where the better message is.
            request.set_timeout(limit + Duration::from_secs(1));
        }
        within(limit, call(self.client(), request))
            .await?
            .map(tonic::Response::into_inner)
            .map_err(from_status)
    }

    /// Opens a stream of answers. Only what the user set bounds it.
    async fn stream<T, R, F>(&self, message: T, call: F) -> Result<BoxStream<'static, Result<R>>>
    where
        R: Send + 'static,
        F: AsyncFnOnce(
            KukeonClient<Channel>,
            Request<T>,
        ) -> std::result::Result<tonic::Response<Streaming<R>>, Status>,
    {
        let started = tokio::time::Instant::now();
        let answers = within(self.limit, call(self.client(), Request::new(message)))
            .await?
            .map_err(from_status)?
            .into_inner()
            .map(|item| item.map_err(from_status));
        Ok(match self.limit {
            None => answers.boxed(),
            Some(limit) => or_fail(answers, async move {
                tokio::time::sleep_until(started + limit).await;
                too_late(limit)
            }),
        })
    }

    /// Opens a call that is fed while it answers; `failure` is what feeding it
    /// may end with.
    async fn upload<R: Send + 'static>(
        &self,
        call: impl Future<Output = std::result::Result<tonic::Response<Streaming<R>>, Status>>,
        mut failure: BoxFuture<'static, Error>,
    ) -> Result<BoxStream<'static, Result<R>>> {
        let answers = tokio::select! {
            biased;
            error = &mut failure => return Err(error),
            answers = call => answers.map_err(from_status)?.into_inner(),
        };
        Ok(or_fail(
            answers.map(|item| item.map_err(from_status)),
            failure,
        ))
    }
}

/// What is sent while a call runs, and the failure of its source. A source that
/// fails must not look as if it ended: the sending side then stays open until
/// the call is dropped, which cancels it.
fn forward<T: Send + 'static>(
    mut input: BoxStream<'static, Result<T>>,
) -> (ReceiverStream<T>, BoxFuture<'static, Error>) {
    let (failed, failure) = oneshot::channel();
    let (send, receive) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Some(item) = input.next().await {
            match item {
                Ok(item) => {
                    if send.send(item).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    let _ = failed.send(error);
                    send.closed().await;
                    return;
                }
            }
        }
    });
    let failure = async move {
        match failure.await {
            Ok(error) => error,
            // The source ended without a failure.
            Err(_) => std::future::pending().await,
        }
    };
    (ReceiverStream::new(receive), failure.boxed())
}

/// `answers`, ended by the error of `failure` should that come first.
fn or_fail<T: Send + 'static>(
    answers: impl Stream<Item = Result<T>> + Send + 'static,
    failure: impl Future<Output = Error> + Send + 'static,
) -> BoxStream<'static, Result<T>> {
    let state = Some((answers.boxed(), Box::pin(failure)));
    futures::stream::unfold(state, |state| async move {
        let (mut answers, mut failure) = state?;
        tokio::select! {
            biased;
            item = answers.next() => item.map(|item| (item, Some((answers, failure)))),
            error = &mut failure => Some((Err(error), None)),
        }
    })
    .boxed()
}

async fn within<T>(limit: Option<Duration>, call: impl Future<Output = T>) -> Result<T> {
    match limit {
        None => Ok(call.await),
        Some(limit) => tokio::time::timeout(limit, call)
            .await
            .map_err(|_| too_late(limit)),
    }
}

fn too_late(limit: Duration) -> Error {
    Error::new(
        Code::Timeout,
        "DeadlineExceeded",
        format!("kukeond did not finish within {} s", limit.as_secs_f32()),
    )
    .hint("what was begun stays; run the command again, or allow more time with --request-timeout")
}

/// Why a socket cannot be used, and what to do.
fn unreachable(socket: &Path, error: &io::Error) -> Error {
    let socket = socket.display();
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Error::new(
            Code::Permission,
            "SocketPermission",
            format!("dial kukeond at {socket}: permission denied"),
        )
        .hint("run as root, or join the socket's group (by default `kukeon`) and log in again");
    }
    let cause = match error.kind() {
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        io::ErrorKind::ConnectionRefused => "nobody listens on the socket".to_owned(),
        io::ErrorKind::TimedOut => "it does not accept connections".to_owned(),
        _ => error.to_string(),
    };
    Error::new(
        Code::Unavailable,
        "DaemonUnreachable",
        format!("dial kukeond at {socket}: it cannot be reached: {cause}"),
    )
    .hint("start it with `kuke daemon start`, or work without it: --no-daemon")
}

#[async_trait]
impl Kukeon for Remote {
    async fn version(&self, request: v1::VersionRequest) -> Result<v1::VersionResponse> {
        let short = Some(Duration::from_secs(5));
        self.unary(request, short, async |mut c, r| c.version(r).await)
            .await
    }
    async fn status(&self, request: v1::StatusRequest) -> Result<v1::StatusResponse> {
        self.unary(request, Some(SHORT), async |mut c, r| c.status(r).await)
            .await
    }
    async fn init(&self, request: v1::InitRequest) -> Result<EventStream> {
        self.stream(request, async |mut c, r| c.init(r).await).await
    }
    async fn uninstall(&self, request: v1::UninstallRequest) -> Result<EventStream> {
        self.stream(request, async |mut c, r| c.uninstall(r).await)
            .await
    }
    async fn apply(&self, request: v1::ApplyRequest) -> Result<EventStream> {
        self.stream(request, async |mut c, r| c.apply(r).await)
            .await
    }
    async fn get(&self, request: v1::GetRequest) -> Result<v1::GetResponse> {
        self.unary(request, Some(SHORT), async |mut c, r| c.get(r).await)
            .await
    }
    async fn delete(&self, request: v1::DeleteRequest) -> Result<EventStream> {
        self.stream(request, async |mut c, r| c.delete(r).await)
            .await
    }
    async fn mark(&self, request: v1::MarkRequest) -> Result<v1::ResourceResult> {
        self.unary(request, None, async |mut c, r| c.mark(r).await)
            .await
    }
    async fn transition(&self, request: v1::TransitionRequest) -> Result<EventStream> {
        self.stream(request, async |mut c, r| c.transition(r).await)
            .await
    }
    async fn wait(&self, request: v1::WaitRequest) -> Result<v1::WaitResponse> {
        self.unary(request, None, async |mut c, r| c.wait(r).await)
            .await
    }
    async fn exec(
        &self,
        input: BoxStream<'static, Result<v1::ExecInput>>,
    ) -> Result<BoxStream<'static, Result<v1::ExecOutput>>> {
        let (input, failure) = forward(input);
        let mut client = self.client();
        self.upload(async move { client.exec(input).await }, failure)
            .await
    }
    async fn logs(
        &self,
        request: v1::LogsRequest,
    ) -> Result<BoxStream<'static, Result<v1::LogChunk>>> {
        self.stream(request, async |mut c, r| c.logs(r).await).await
    }
    async fn promote(&self, request: v1::PromoteRequest) -> Result<EventStream> {
        self.stream(request, async |mut c, r| c.promote(r).await)
            .await
    }
    async fn act(&self, request: v1::ActRequest) -> Result<EventStream> {
        self.stream(request, async |mut c, r| c.act(r).await).await
    }
    async fn history(&self, request: v1::HistoryRequest) -> Result<v1::HistoryResponse> {
        self.unary(request, Some(SHORT), async |mut c, r| c.history(r).await)
            .await
    }
    async fn diff(&self, request: v1::DiffRequest) -> Result<v1::DiffResponse> {
        self.unary(request, Some(LONG), async |mut c, r| c.diff(r).await)
            .await
    }
    async fn manifest(&self, request: v1::ManifestRequest) -> Result<v1::ManifestResponse> {
        self.unary(request, Some(LONG), async |mut c, r| c.manifest(r).await)
            .await
    }
    async fn verify_preparation(
        &self,
        request: v1::VerifyPreparationRequest,
    ) -> Result<v1::VerifyPreparationResponse> {
        self.unary(request, Some(LONG), async |mut c, r| {
            c.verify_preparation(r).await
        })
        .await
    }
    async fn sign_preparation(
        &self,
        request: v1::SignPreparationRequest,
    ) -> Result<v1::SignPreparationResponse> {
        self.unary(request, Some(LONG), async |mut c, r| {
            c.sign_preparation(r).await
        })
        .await
    }
    async fn wait_for(&self, request: v1::WaitForRequest) -> Result<v1::ResourceResult> {
        self.unary(request, None, async |mut c, r| c.wait_for(r).await)
            .await
    }
    async fn list_tags(&self, request: v1::ListTagsRequest) -> Result<v1::ListTagsResponse> {
        self.unary(request, None, async |mut c, r| c.list_tags(r).await)
            .await
    }
    async fn connect_cluster(
        &self,
        request: v1::ConnectClusterRequest,
    ) -> Result<v1::ConnectClusterResponse> {
        self.unary(request, Some(LONG), async |mut c, r| {
            c.connect_cluster(r).await
        })
        .await
    }
    async fn list_clusters(
        &self,
        request: v1::ListClustersRequest,
    ) -> Result<v1::ListClustersResponse> {
        self.unary(request, Some(LONG), async |mut c, r| {
            c.list_clusters(r).await
        })
        .await
    }
    async fn watch_releases(
        &self,
        request: v1::WatchReleasesRequest,
    ) -> Result<BoxStream<'static, Result<v1::ReleaseChange>>> {
        self.stream(request, async |mut c, r| c.watch_releases(r).await)
            .await
    }
    async fn preview(&self, request: v1::PreviewRequest) -> Result<v1::PreviewResponse> {
        self.unary(request, Some(LONG), async |mut c, r| c.preview(r).await)
            .await
    }
    async fn browse_source(
        &self,
        request: v1::BrowseSourceRequest,
    ) -> Result<v1::BrowseSourceResponse> {
        self.unary(request, Some(LONG), async |mut c, r| {
            c.browse_source(r).await
        })
        .await
    }
    async fn web_account(&self, request: v1::WebAccountRequest) -> Result<v1::WebAccountResponse> {
        self.unary(request, Some(SHORT), async |mut c, r| {
            c.web_account(r).await
        })
        .await
    }
    async fn list_images(&self, request: v1::ListImagesRequest) -> Result<v1::ListImagesResponse> {
        self.unary(request, Some(SHORT), async |mut c, r| {
            c.list_images(r).await
        })
        .await
    }
    async fn inspect_image(
        &self,
        request: v1::InspectImageRequest,
    ) -> Result<v1::InspectImageResponse> {
        self.unary(request, Some(SHORT), async |mut c, r| {
            c.inspect_image(r).await
        })
        .await
    }
    async fn delete_image(
        &self,
        request: v1::DeleteImageRequest,
    ) -> Result<v1::DeleteImageResponse> {
        self.unary(request, Some(LONG), async |mut c, r| {
            c.delete_image(r).await
        })
        .await
    }
    async fn prune_images(
        &self,
        request: v1::PruneImagesRequest,
    ) -> Result<v1::PruneImagesResponse> {
        self.unary(request, Some(LONG), async |mut c, r| {
            c.prune_images(r).await
        })
        .await
    }
    async fn pull_image(&self, request: v1::PullImageRequest) -> Result<EventStream> {
        self.stream(request, async |mut c, r| c.pull_image(r).await)
            .await
    }
    async fn push_image(&self, request: v1::PushImageRequest) -> Result<EventStream> {
        self.stream(request, async |mut c, r| c.push_image(r).await)
            .await
    }
    async fn list_registry(
        &self,
        request: v1::ListRegistryRequest,
    ) -> Result<v1::ListRegistryResponse> {
        self.unary(request, Some(SHORT), async |mut c, r| {
            c.list_registry(r).await
        })
        .await
    }
    async fn registry_login(
        &self,
        request: v1::RegistryLoginRequest,
    ) -> Result<v1::RegistryLoginResponse> {
        self.unary(request, Some(SHORT), async |mut c, r| {
            c.registry_login(r).await
        })
        .await
    }
    async fn verify_registry(
        &self,
        request: v1::VerifyRegistryRequest,
    ) -> Result<v1::VerifyRegistryResponse> {
        self.unary(request, None, async |mut c, r| c.verify_registry(r).await)
            .await
    }
    async fn collect_registry(
        &self,
        request: v1::CollectRegistryRequest,
    ) -> Result<v1::CollectRegistryResponse> {
        self.unary(request, None, async |mut c, r| c.collect_registry(r).await)
            .await
    }
    async fn export_repository(
        &self,
        request: v1::ExportRepositoryRequest,
    ) -> Result<BoxStream<'static, Result<v1::ExportRepositoryResponse>>> {
        self.stream(request, async |mut c, r| c.export_repository(r).await)
            .await
    }
    async fn import_repository(
        &self,
        input: BoxStream<'static, Result<v1::ImportRepositoryRequest>>,
    ) -> Result<v1::ImportRepositoryResponse> {
        let (input, mut failure) = forward(input);
        let mut client = self.client();
        let call = within(self.limit, client.import_repository(input));
        tokio::select! {
            biased;
            error = &mut failure => Err(error),
            answer = call => answer?
                .map(tonic::Response::into_inner)
                .map_err(from_status),
        }
    }
    async fn load_image(
        &self,
        input: BoxStream<'static, Result<v1::LoadImageRequest>>,
    ) -> Result<EventStream> {
        let (input, failure) = forward(input);
        let mut client = self.client();
        self.upload(async move { client.load_image(input).await }, failure)
            .await
    }
}
