//! The whole way of a call: client, socket, service, and back. The other side is
//! a small `Kukeon` of the test's own, because only the transport is looked at.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio_util::sync::CancellationToken;

use super::peer::Peers;
use super::serve::listen;
use crate::api::{Code, Error, Result, v1};
use crate::client::{EventStream, Kukeon, Remote};

/// Answers from what it is asked, so that a mixed-up call shows.
#[derive(Default)]
struct Echo {
    /// Set when a stream that never ends was dropped.
    dropped: Arc<AtomicBool>,
}

struct OnDrop(Arc<AtomicBool>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn result(kind: &str, name: &str, action: &str) -> Result<v1::Event> {
    let result = v1::ResourceResult {
        kind: kind.into(),
        name: name.into(),
        action: action.into(),
        ..Default::default()
    };
    Ok(v1::Event {
        event: Some(v1::event::Event::Result(result)),
    })
}

fn events(events: Vec<Result<v1::Event>>) -> Result<EventStream> {
    Ok(futures::stream::iter(events).boxed())
}

fn refused() -> Error {
    Error::new(Code::Conflict, "Refused", "not \"this\"\n – ever").hint("try that")
}

#[async_trait]
impl Kukeon for Echo {
    async fn version(&self, _: v1::VersionRequest) -> Result<v1::VersionResponse> {
        Ok(v1::VersionResponse {
            version: "9.9".into(),
            ..Default::default()
        })
    }
    async fn status(&self, _: v1::StatusRequest) -> Result<v1::StatusResponse> {
        panic!("a defect in one call");
    }
    async fn init(&self, request: v1::InitRequest) -> Result<EventStream> {
        events(vec![result("Realm", &request.realm, "created")])
    }
    async fn uninstall(&self, _: v1::UninstallRequest) -> Result<EventStream> {
        let guard = OnDrop(self.dropped.clone());
        let endless = futures::stream::pending().inspect(move |_| {
            let _ = &guard;
        });
        let first = futures::stream::once(async { result("Host", "x", "begun") });
        Ok(first.chain(endless).boxed())
    }
    async fn apply(&self, request: v1::ApplyRequest) -> Result<EventStream> {
        let Some(file) = request.files.first() else {
            return Err(refused());
        };
        let name = format!("{}:{}", file.source, file.text.len());
        events(vec![result("Cell", &name, "created"), Err(refused())])
    }
    async fn get(&self, request: v1::GetRequest) -> Result<v1::GetResponse> {
        let cell = v1::Object {
            object: Some(v1::object::Object::Cell(crate::api::v1beta1::Cell {
                kind: request.kind,
                ..Default::default()
            })),
        };
        let count = request.name.parse().unwrap_or(1);
        Ok(v1::GetResponse {
            objects: vec![cell; count],
            damaged: Vec::new(),
        })
    }
    async fn delete(&self, request: v1::DeleteRequest) -> Result<EventStream> {
        events(vec![result(&request.kind, &request.name, "deleted")])
    }
    async fn mark(&self, request: v1::MarkRequest) -> Result<v1::ResourceResult> {
        Ok(v1::ResourceResult {
            kind: request.kind,
            name: request.name,
            ..Default::default()
        })
    }
    async fn transition(&self, request: v1::TransitionRequest) -> Result<EventStream> {
        events(vec![result("Cell", &request.name, &request.action)])
    }
    async fn wait(&self, _: v1::WaitRequest) -> Result<v1::WaitResponse> {
        futures::future::pending().await
    }
    async fn exec(
        &self,
        mut input: BoxStream<'static, Result<v1::ExecInput>>,
    ) -> Result<BoxStream<'static, Result<v1::ExecOutput>>> {
        let (send, receive) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            let mut bytes = 0;
            while let Some(Ok(item)) = input.next().await {
                if let Some(v1::exec_input::Input::Stdin(data)) = item.input {
                    bytes += i32::try_from(data.len()).unwrap_or_default();
                    let output = Some(v1::exec_output::Output::Stdout(data));
                    let _ = send.send(Ok(v1::ExecOutput { output })).await;
                }
            }
            let output = Some(v1::exec_output::Output::ExitCode(bytes));
            let _ = send.send(Ok(v1::ExecOutput { output })).await;
        });
        Ok(tokio_stream::wrappers::ReceiverStream::new(receive).boxed())
    }
    async fn logs(&self, _: v1::LogsRequest) -> Result<BoxStream<'static, Result<v1::LogChunk>>> {
        Ok(futures::stream::pending().boxed())
    }
    async fn list_tags(&self, _: v1::ListTagsRequest) -> Result<v1::ListTagsResponse> {
        Ok(Default::default())
    }
    async fn list_images(&self, _: v1::ListImagesRequest) -> Result<v1::ListImagesResponse> {
        Ok(Default::default())
    }
    async fn inspect_image(&self, _: v1::InspectImageRequest) -> Result<v1::InspectImageResponse> {
        Ok(Default::default())
    }
    async fn delete_image(
        &self,
        request: v1::DeleteImageRequest,
    ) -> Result<v1::DeleteImageResponse> {
        Ok(v1::DeleteImageResponse { name: request.name })
    }
    async fn prune_images(&self, _: v1::PruneImagesRequest) -> Result<v1::PruneImagesResponse> {
        Ok(Default::default())
    }
    async fn pull_image(&self, request: v1::PullImageRequest) -> Result<EventStream> {
        events(vec![result("Image", &request.name, "pulled")])
    }
    async fn load_image(
        &self,
        mut input: BoxStream<'static, Result<v1::LoadImageRequest>>,
    ) -> Result<EventStream> {
        let mut bytes = 0;
        while let Some(chunk) = input.next().await {
            bytes += chunk?.data.len();
        }
        events(vec![result("Image", &bytes.to_string(), "loaded")])
    }
}

struct Daemon {
    _dir: tempfile::TempDir,
    socket: PathBuf,
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<Result<()>>,
    dropped: Arc<AtomicBool>,
}

impl Daemon {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let socket = dir.path().join("d.sock");
        let listener = tokio::net::UnixListener::bind(&socket).expect("bind");
        let stop = CancellationToken::new();
        let echo = Echo::default();
        let dropped = echo.dropped.clone();
        let peers = Peers { group: None };
        let ended = tokio::spawn(listen(Arc::new(echo), listener, peers, stop.clone()));
        Self {
            _dir: dir,
            socket,
            stop,
            ended,
            dropped,
        }
    }

    async fn client(&self) -> Remote {
        Remote::connect(&self.socket, None).await.expect("client")
    }
}

fn names(events: &[Result<v1::Event>]) -> Vec<String> {
    let one = |event: &Result<v1::Event>| match event {
        Ok(v1::Event {
            event: Some(v1::event::Event::Result(result)),
        }) => format!("{} {} {}", result.kind, result.name, result.action),
        other => format!("{other:?}"),
    };
    events.iter().map(one).collect()
}

#[tokio::test]
async fn answers_and_results_arrive_as_sent() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let version = client.version(Default::default()).await.expect("version");
    assert_eq!((version.version.as_str(), version.daemon), ("9.9", true));
    let request = v1::ApplyRequest {
        files: vec![v1::ManifestFile {
            source: "f.yaml".into(),
            text: b"kind".to_vec(),
        }],
        ..Default::default()
    };
    let got: Vec<_> = client.apply(request).await.expect("apply").collect().await;
    assert_eq!(names(&got[..1]), ["Cell f.yaml:4 created"]);
    assert_eq!(got[1], Err(refused()));
    let request = v1::GetRequest {
        kind: "Cell".into(),
        // Far more than the usual 4 MiB of a gRPC message.
        name: "300000".into(),
        ..Default::default()
    };
    let objects = client.get(request).await.expect("get").objects;
    assert_eq!(objects.len(), 300_000);
}

#[tokio::test]
async fn errors_keep_class_reason_message_and_hint() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let failed = client.apply(Default::default()).await.err();
    assert_eq!(failed, Some(refused()));
    // A panic stays inside its call.
    let failed = client.status(Default::default()).await.expect_err("panic");
    assert_eq!(failed.reason, "Panicked");
    client
        .version(Default::default())
        .await
        .expect("still there");
}

#[tokio::test]
async fn input_and_output_stream_both_ways() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let chunk = |data: &[u8]| {
        Ok(v1::ExecInput {
            input: Some(v1::exec_input::Input::Stdin(data.to_vec())),
        })
    };
    let input = futures::stream::iter([chunk(b"ab"), chunk(b"cde")]).boxed();
    let output: Vec<_> = client.exec(input).await.expect("exec").collect().await;
    let exit = output.last().cloned().expect("an end").expect("no failure");
    assert_eq!(exit.output, Some(v1::exec_output::Output::ExitCode(5)));
    assert_eq!(output.len(), 3);

    let chunks = (0..64).map(|_| {
        Ok(v1::LoadImageRequest {
            realm: String::new(),
            data: vec![7; 64 * 1024],
        })
    });
    let input = futures::stream::iter(chunks).boxed();
    let got: Vec<_> = client
        .load_image(input)
        .await
        .expect("load")
        .collect()
        .await;
    assert_eq!(names(&got), [format!("Image {} loaded", 64 * 64 * 1024)]);
}

#[tokio::test]
async fn an_archive_that_cannot_be_read_does_not_look_complete() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let fine = Ok(v1::LoadImageRequest {
        data: vec![1],
        ..Default::default()
    });
    let input = futures::stream::iter([fine, Err(Error::failed("Read", "disk broke"))]).boxed();
    let failed = client.load_image(input).await.err().expect("failure");
    assert_eq!(failed.reason, "Read");
}

#[tokio::test]
async fn dropping_a_stream_drops_the_work() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let mut stream = client.uninstall(Default::default()).await.expect("stream");
    assert!(stream.next().await.is_some());
    assert!(!daemon.dropped.load(Ordering::SeqCst));
    drop(stream);
    for _ in 0..100 {
        if daemon.dropped.load(Ordering::SeqCst) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the work goes on although nobody listens");
}

#[tokio::test]
async fn a_deadline_ends_calls_and_streams() {
    let daemon = Daemon::start();
    let limit = Some(Duration::from_millis(100));
    let client = Remote::connect(&daemon.socket, limit)
        .await
        .expect("client");
    let failed = client.wait(Default::default()).await.expect_err("late");
    assert_eq!(failed.code, Code::Timeout);
    let mut logs = client.logs(Default::default()).await.expect("stream");
    let failed = logs.next().await.expect("an end").expect_err("late");
    assert_eq!(failed.code, Code::Timeout);
    assert!(logs.next().await.is_none());
}

#[tokio::test]
async fn shutdown_ends_what_would_go_on_forever() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let request = v1::LogsRequest {
        follow: true,
        ..Default::default()
    };
    let mut logs = client.logs(request).await.expect("stream");
    let waiting = tokio::spawn({
        let client = daemon.client().await;
        async move { client.wait(Default::default()).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    daemon.stop.cancel();
    let failed = logs.next().await.expect("an end").expect_err("stopping");
    assert_eq!(
        (failed.code, failed.reason.as_str()),
        (Code::Unavailable, "Stopping")
    );
    let failed = waiting.await.expect("task").expect_err("stopping");
    assert_eq!(failed.reason, "Stopping");
    drop((client, logs));
    let ended = tokio::time::timeout(Duration::from_secs(5), daemon.ended).await;
    ended.expect("drained").expect("task").expect("no failure");
}

#[tokio::test]
async fn nobody_there_says_what_to_do() {
    let dir = tempfile::tempdir().expect("directory");
    let socket = dir.path().join("none.sock");
    let failed = Remote::connect(&socket, None).await.err().expect("failure");
    assert_eq!(
        (failed.code, failed.code.exit_code()),
        (Code::Unavailable, 5)
    );
    assert!(failed.message.contains("dial kukeond at"), "{failed}");
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("stale"));
    let failed = Remote::connect(&socket, None).await.err().expect("failure");
    assert!(failed.message.contains("nobody listens"), "{failed}");
}
