//! One connection.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::ServiceExt;

use crate::registry::http::{App, Connection};

/// The head of a request has to come in this time, also on a kept connection.
const HEAD: Duration = Duration::from_secs(60);
/// Bytes that are read from the network at a time, at most.
const BUFFER: usize = 256 << 10;

/// Serves requests until the client closes, or the server stops.
pub(super) async fn serve<S>(app: App, stream: S, about: Connection, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = app.router();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(about.clone());
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(e) = watcher.watch(connection).await {
        tracing::debug!("registry: connection: {e}");
    }
}
