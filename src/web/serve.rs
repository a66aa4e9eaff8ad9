//! The server: it listens, speaks TLS where it should, and ends in good order.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::app::{App, Peer};
use crate::auth::{Error, Result, tls};
use crate::client::Kukeon;
use crate::sys::beneath::Root;

/// How long requests in hand may take to end.
const DRAIN: Duration = Duration::from_secs(5);
/// After a failed accept (no file descriptors left).
const PAUSE: Duration = Duration::from_millis(100);
/// The head of a request has to come in this time, also on a kept connection.
const HEAD: Duration = Duration::from_secs(60);
/// Bytes that are read from the network at a time, at most.
const BUFFER: usize = 64 << 10;
/// Connections at a time; more of them wait.
const CONNECTIONS: usize = 256;

/// How pages are served.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where browsers connect. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Whether they speak TLS.
    pub tls: bool,
    /// Further names of the certificate.
    pub names: Vec<String>,
    /// Directory of accounts and sessions.
    pub dir: PathBuf,
}

/// Pages that are served. Dropping it ends it at once; [`Server::stop`] lets
/// requests end.
pub struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

/// Serves pages of a capability.
///
/// # Errors
/// An address that is taken, a certificate that cannot be used.
pub async fn serve(kukeon: Arc<dyn Kukeon>, config: &Config) -> Result<Server> {
    let failed =
        |e: std::io::Error| Error::setup(format!("listening on {}", config.listen))(e.to_string());
    let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let acceptor = match config.tls {
        false => None,
        true => {
            let owner = tls::Owner {
                dir: "",
                title: "kukeon pages",
                names: &config.names,
                address,
            };
            Some(tls::acceptor(&Root::open(&config.dir)?, owner)?)
        }
    };
    let stop = CancellationToken::new();
    let app = App::new(
        kukeon,
        config.dir.clone(),
        config.tls,
        address.port(),
        stop.clone(),
    );
    let task = tokio::spawn(accept(app, listener, acceptor, stop.clone()));
    Ok(Server {
        address,
        stop,
        task: Some(task),
    })
}

impl Server {
    /// Where browsers connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no further connections, ends event streams, lets requests in hand
    /// end for five seconds, and drops those that do not.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            // A panic in the loop was shown when it happened.
            let _ = task.await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn accept(
    app: App,
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    stop: CancellationToken,
) {
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    // Made for the first connection.
    let router = Arc::new(OnceLock::new());
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            break;
        };
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(e) => {
                    tracing::warn!("pages: accepting a connection: {e}");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        let _ = stream.set_nodelay(true);
        let peer = Peer(peer.ip().to_canonical());
        let router: Router = router.get_or_init(|| app.router()).clone();
        let watcher = graceful.watcher();
        match acceptor.clone() {
            None => tokio::spawn(async move {
                connection(router, stream, peer, watcher).await;
                drop(slot);
            }),
            Some(acceptor) => tokio::spawn(async move {
                if let Some(stream) = tls::handshake(&acceptor, stream).await {
                    connection(router, stream, peer, watcher).await;
                }
                drop(slot);
            }),
        };
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("pages: requests did not end in time and are dropped");
    }
}

async fn connection<S>(router: Router, stream: S, peer: Peer, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(e) = watcher.watch(connection).await {
        tracing::debug!("pages: connection: {e}");
    }
}
