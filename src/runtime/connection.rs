//! A connection to one containerd.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use containerd_client::services::v1::version_client::VersionClient;
use containerd_client::tonic::transport::{Channel, Endpoint};
use containerd_client::tonic::{Code, Request, Status, TimeoutExpired};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio_util::task::TaskTracker;

use super::{Error, Result};

/// Deadline of an ordinary unary call.
const CALL: Duration = Duration::from_secs(60);
/// Deadline of the call that finds out whether anything answers.
const PROBE: Duration = Duration::from_secs(5);
/// Flow-control window; the default of 64 KiB throttles blob transfers on a local socket.
const WINDOW: u32 = 4 << 20;

/// A channel to containerd's gRPC socket. Cheap to clone. It survives a restart
/// of containerd: a broken transport is opened anew at the next call.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The channel; service clients are made from it.
    pub channel: Channel,
    /// Endpoint, for messages.
    pub socket: PathBuf,
    /// Snapshotter in use.
    pub snapshotter: String,
    /// Shared by all clones: what cleans up after calls that were dropped.
    pub releases: TaskTracker,
    /// Where runc keeps its state; none is the shim's own default. Shims of
    /// containerd 1.6 otherwise have one place for all of the host, by namespace
    /// and id, whatever containerd they belong to.
    pub runc_root: Option<PathBuf>,
    /// Shared by all clones: the last failed call could not reach the server.
    lost: Arc<AtomicBool>,
}

impl Connection {
    /// A connection to whatever serves `socket`, now or later.
    pub fn lazy(socket: &Path, snapshotter: &str) -> Self {
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://containerd")
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .connect_timeout(PROBE)
            .connect_with_connector_lazy(connector);
        Self {
            channel,
            socket: socket.to_owned(),
            snapshotter: snapshotter.to_owned(),
            releases: TaskTracker::new(),
            runc_root: None,
            lost: Arc::default(),
        }
    }

    /// Wraps a message for one namespace, without a deadline: for streams and
    /// for calls that may rightly take long (wait, unpacking a layer).
    /// containerd wants the header on every call, also on those that do not look at it.
    pub fn request<T>(&self, namespace: &str, message: T) -> Request<T> {
        let mut request = Request::new(message);
        // Namespaces are ASCII: they are made of validated names and a validated suffix.
        if let Ok(value) = namespace.parse() {
            request.metadata_mut().insert("containerd-namespace", value);
        }
        request
    }

    /// Wraps a message for one namespace with the ordinary deadline of 60 s. For
    /// unary calls.
    pub fn call<T>(&self, namespace: &str, message: T) -> Request<T> {
        self.call_within(namespace, message, CALL)
    }

    /// Wraps a message for one namespace with a deadline of its own.
    pub fn call_within<T>(&self, namespace: &str, message: T, limit: Duration) -> Request<T> {
        let mut request = self.request(namespace, message);
        request.set_timeout(limit);
        request
    }

    /// Version the server tells; also the cheapest sign of life.
    pub async fn version(&self) -> Result<String> {
        // The call looks at no namespace, but 1.6 refuses one without the header.
        VersionClient::new(self.channel.clone())
            .version(self.call_within("default", (), PROBE))
            .await
            .map(|r| r.into_inner().version)
            .map_err(|s| self.error("asking for the version", &s))
    }

    /// Turns a status into an error. `what` says what was being done, on what.
    pub fn error(&self, what: impl Into<String>, status: &Status) -> Error {
        let late = || self.unreachable("it did not answer in time".to_owned());
        // Only a status that was made at our side has a source.
        let local = std::error::Error::source(status).is_some();
        match status.code() {
            Code::DeadlineExceeded => late(),
            // What tonic makes of our own deadline.
            Code::Cancelled if local && status.message() == TimeoutExpired(()).to_string() => {
                late()
            }
            // The shim's connection, not ours.
            Code::Unavailable if !local && status.message().contains("ttrpc") => Error::Other {
                what: what.into(),
                cause: status.message().to_owned(),
            },
            code if local || code == Code::Unavailable => {
                self.lost.store(true, Ordering::Relaxed);
                self.unreachable(root_cause(status))
            }
            _ => Error::Other {
                what: what.into(),
                cause: status.message().to_owned(),
            },
        }
    }

    /// As [`Connection::error`]; `object` names what is meant when containerd
    /// says that it is not there, exists, or is in use.
    pub fn error_on(&self, what: impl Into<String>, object: &str, status: &Status) -> Error {
        match status.code() {
            Code::NotFound => Error::NotFound(object.to_owned()),
            Code::AlreadyExists => Error::Exists(object.to_owned()),
            Code::ResourceExhausted => Error::Storage(status.message().to_owned()),
            _ => self.error(what, status),
        }
    }

    /// Whether a call found the server gone since this connection was made. The
    /// channel may well have recovered; ask [`Connection::version`].
    pub(super) fn lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// The server answered again.
    pub(super) fn recovered(&self) {
        self.lost.store(false, Ordering::Relaxed);
    }

    fn unreachable(&self, cause: String) -> Error {
        Error::Unreachable {
            socket: self.socket.display().to_string(),
            cause,
        }
    }
}

/// The innermost cause: "No such file or directory" instead of "transport error".
fn root_cause(status: &Status) -> String {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(status);
    let mut text = status.message().to_owned();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_socket_is_unreachable_with_the_reason() {
        let c = Connection::lazy(Path::new("/nonexistent/c.sock"), "overlayfs");
        let error = c.version().await.unwrap_err();
        assert!(c.lost());
        let Error::Unreachable { socket, cause } = error else {
            panic!("{error}");
        };
        assert_eq!(socket, "/nonexistent/c.sock");
        assert!(cause.contains("No such file"), "{cause}");
    }

    #[tokio::test]
    async fn a_silent_server_is_given_up_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _silent = tokio::net::UnixListener::bind(&path).unwrap();
        let c = Connection::lazy(&path, "overlayfs");
        let limit = Duration::from_millis(50);
        let status = VersionClient::new(c.channel.clone())
            .version(c.call_within("default", (), limit))
            .await
            .unwrap_err();
        let error = c.error("x", &status);
        assert!(
            matches!(&error, Error::Unreachable { cause, .. } if cause.contains("in time")),
            "{error}"
        );
    }

    #[tokio::test]
    async fn requests_carry_namespace_and_deadline() {
        let c = Connection::lazy(Path::new("/nonexistent"), "overlayfs");
        let request = c.call("default.kukeon.io", ());
        assert_eq!(
            request.metadata().get("containerd-namespace").unwrap(),
            "default.kukeon.io"
        );
        assert!(request.metadata().get("grpc-timeout").is_some());
        assert!(c.request("a", ()).metadata().get("grpc-timeout").is_none());
    }
}
