//! The life of the daemon: start, serve, drain, end.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tracing_subscriber::EnvFilter;

use super::instance::Instance;
use super::peer::{Connection, Peers};
use super::registry::Registry;
use super::service::Service;
use super::socket::Socket;
use super::web::Web;
use super::{memory, notify};
use crate::api::v1::kukeon_server::KukeonServer;
use crate::api::{Code, Error, Result};
use crate::client::Kukeon;
use crate::client::status::HEADER_LIST_SIZE;
use crate::controller::Controller;
use crate::delivery::Delivery;
use crate::model::{LogLevel, Resolved};

/// How long the calls in hand may take to end after the first signal.
const DRAIN: Duration = Duration::from_secs(10);
/// Largest request that is accepted, in bytes: a manifest of 4 MiB and its frame.
const REQUEST_LIMIT: usize = 5 * 1024 * 1024;

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps the daemon from serving.
pub fn run(resolved: Resolved) -> Result<()> {
    log_to_stderr(resolved.log_level);
    for warning in &resolved.warnings {
        tracing::warn!("{warning}");
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(
            Error::new(Code::Permission, "RootRequired", "kukeond must run as root")
                .hint("start it with `sudo kuke daemon start`"),
        );
    }
    memory::begin_small();
    let instance = Instance::acquire(&resolved.settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(32)
        .thread_stack_size(1024 * 1024)
        .enable_all()
        .build()
        .map_err(|e| Error::failed("Runtime", format!("starting the runtime: {e}")))?;
    let served = runtime.block_on(serve(&resolved));
    // Blocking work that does not end must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(2));
    drop(instance);
    served
}

/// One line per event on standard error; a journal adds the time itself.
fn log_to_stderr(level: LogLevel) {
    let directives = format!("warn,kukeon={}", level.as_str());
    let filter = std::env::var("KUKEOND_LOG").unwrap_or(directives);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false);
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        lines.without_time().init();
    } else {
        lines.init();
    }
}

async fn serve(resolved: &Resolved) -> Result<()> {
    let settings = &resolved.settings;
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let controller = Controller::open(settings.clone()).await?;
    let socket = Socket::open(settings, resolved.socket_gid)?;
    let listener = socket
        .listener
        .try_clone()
        .and_then(UnixListener::from_std)
        .map_err(|e| Error::failed("Socket", format!("{}: {e}", settings.socket.display())))?;

    let stop = CancellationToken::new();
    let loop_stop = CancellationToken::new();
    let reconciling = tokio::spawn(
        controller
            .clone()
            .run(resolved.reconcile_interval, loop_stop.clone()),
    );
    let registry = Registry::start(&controller);
    let changes = controller.served_changes();
    let peers = Peers {
        group: socket.group,
    };
    let quota = settings.registry.quota_bytes;
    let working = Delivery::open(controller, &settings.run_path, quota)?;
    let delivering = tokio::spawn(working.clone().run(changes, loop_stop.clone()));
    let pages = Web::start(working.clone(), settings);
    let mut serving = tokio::spawn(listen(working.clone(), listener, peers, stop.clone()));
    let watchdog = tokio::spawn(notify::watchdog());
    let memory = tokio::spawn(memory::keep_small());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        run_path = %settings.run_path.display(),
        socket = %settings.socket.display(),
        "serving"
    );
    notify::ready();

    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        ended = &mut serving => Some(ended),
    };
    tracing::info!("shutting down");
    notify::stopping(DRAIN * 3);
    // New callers find nobody; those connected finish.
    drop(socket);
    stop.cancel();
    if let Some(pages) = pages {
        pages.stop().await;
    }
    let ended = match failed {
        Some(ended) => ended,
        None => match tokio::time::timeout(DRAIN, &mut serving).await {
            Ok(ended) => ended,
            Err(_) => {
                tracing::warn!(
                    "calls did not end within {} s and are dropped",
                    DRAIN.as_secs()
                );
                serving.abort();
                Ok(Ok(()))
            }
        },
    };
    if let Some(registry) = registry
        && tokio::time::timeout(DRAIN * 2, registry.stop())
            .await
            .is_err()
    {
        tracing::warn!("the registry did not end in time");
    }
    // Calls that were dropped still clean up after themselves.
    if tokio::time::timeout(DRAIN, working.settle()).await.is_err() {
        tracing::warn!("work in hand did not come to a rest in time");
    }
    loop_stop.cancel();
    let loops = futures::future::join(reconciling, delivering);
    if tokio::time::timeout(DRAIN, loops).await.is_err() {
        tracing::warn!("the loop did not end in time");
    }
    watchdog.abort();
    memory.abort();
    tracing::info!("ended");
    match ended {
        Ok(result) => result,
        Err(error) => Err(Error::failed("ServerFailed", error.to_string())),
    }
}

/// Serves a capability on a socket until `stop`, then finishes the calls in hand.
pub async fn listen(
    inner: Arc<dyn Kukeon>,
    listener: UnixListener,
    peers: Peers,
    stop: CancellationToken,
) -> Result<()> {
    let service = Service::new(inner, peers, stop.clone());
    let callers = UnixListenerStream::new(listener).map_ok(Connection::from);
    Server::builder()
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024)
        .http2_max_header_list_size(HEADER_LIST_SIZE)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .add_service(KukeonServer::new(service).max_decoding_message_size(REQUEST_LIMIT))
        .serve_with_incoming_shutdown(callers, stop.cancelled_owned())
        .await
        .map_err(|e| Error::failed("ServerFailed", e.to_string()))
}

fn on(kind: SignalKind) -> Result<tokio::signal::unix::Signal> {
    signal(kind).map_err(|e| Error::failed("Signals", e.to_string()))
}
