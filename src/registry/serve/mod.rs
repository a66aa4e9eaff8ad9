//! The server: it listens, speaks TLS where it should, and ends in good order.

mod connection;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::auth::tls;

use super::auth::Peer;
use super::http::{App, Connection};
use super::sendfile::{self, Files};
use super::{Config, Error, Limits, Result, Storage};

/// How long requests in hand may take to end.
const DRAIN: Duration = Duration::from_secs(10);
/// After a failed accept (no file descriptors left).
const PAUSE: Duration = Duration::from_millis(100);

/// A registry that serves. Dropping it ends it at once; [`Server::stop`] lets
/// requests end.
pub struct Server {
    address: SocketAddr,
    tls: bool,
    storage: Storage,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    socket: Option<PathBuf>,
}

/// Opens the store at `path` and serves it.
///
/// # Errors
/// [`Error::Setup`] when the address is taken or a certificate cannot be used;
/// the disk's.
pub async fn serve(path: &Path, config: &Config) -> Result<Server> {
    let limits = Limits {
        quota: config.quota,
        min_free: config.min_free,
    };
    serve_store(Storage::open(path, limits)?, config).await
}

/// Serves a store that is open already.
///
/// # Errors
/// As [`serve`].
pub async fn serve_store(storage: Storage, config: &Config) -> Result<Server> {
    let app = App::new(storage.clone(), config)?;
    let setup = |what: String| {
        move |e: std::io::Error| Error::Setup {
            what,
            why: e.to_string(),
        }
    };
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(setup(format!("listening on {}", config.listen)))?;
    let address = listener
        .local_addr()
        .map_err(setup("the listening address".to_owned()))?;
    let acceptor = match config.uses_tls() {
        true => {
            let owner = tls::Owner {
                dir: "auth",
                title: "kukeon registry",
                names: &config.names,
                address,
            };
            Some(tls::acceptor(storage.root(), owner)?)
        }
        false => None,
    };
    let tls = acceptor.is_some();
    let stop = CancellationToken::new();
    let server = Arc::new(Loop {
        app,
        stop: stop.clone(),
        slots: Arc::new(Semaphore::new(config.connections.max(1))),
    });
    let mut tasks = vec![tokio::spawn(Arc::clone(&server).tcp(listener, acceptor))];
    if let Some(path) = &config.socket {
        let listener = local(path).map_err(setup(format!("listening on {}", path.display())))?;
        tasks.push(tokio::spawn(server.unix(listener)));
    }
    Ok(Server {
        address,
        tls,
        storage,
        stop,
        tasks,
        socket: config.socket.clone(),
    })
}

impl Server {
    /// Where TCP clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether they have to speak TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// What is served.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Takes no further connections, lets requests in hand end for ten seconds,
    /// and drops those that do not.
    pub async fn stop(mut self) {
        self.stop.cancel();
        for task in self.tasks.drain(..) {
            // A panic in the loop was shown when it happened.
            let _ = task.await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        for task in &self.tasks {
            task.abort();
        }
        if let Some(path) = &self.socket {
            let _ = std::fs::remove_file(path);
        }
    }
}

struct Loop {
    app: App,
    stop: CancellationToken,
    slots: Arc<Semaphore>,
}

impl Loop {
    async fn tcp(self: Arc<Self>, listener: TcpListener, acceptor: Option<TlsAcceptor>) {
        let graceful = GracefulShutdown::new();
        loop {
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else {
                break;
            };
            let (stream, peer) = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(e) => {
                        tracing::warn!("registry: accepting a connection: {e}");
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                },
                () = self.stop.cancelled() => break,
            };
            // Small answers go out at once.
            let _ = stream.set_nodelay(true);
            let about = Connection {
                peer: Peer::Tcp(peer.ip().to_canonical()),
                tls: acceptor.is_some(),
                files: acceptor.is_none().then(Files::default),
            };
            let app = self.app.clone();
            let watcher = graceful.watcher();
            match acceptor.clone() {
                None => tokio::spawn(async move {
                    let files = about.files.clone().unwrap_or_default();
                    let stream = sendfile::Connection::new(stream, files);
                    connection::serve(app, stream, about, watcher).await;
                    drop(slot);
                }),
                Some(acceptor) => tokio::spawn(async move {
                    if let Some(stream) = tls::handshake(&acceptor, stream).await {
                        connection::serve(app, stream, about, watcher).await;
                    }
                    drop(slot);
                }),
            };
        }
        drop(listener);
        drain(graceful).await;
    }

    async fn unix(self: Arc<Self>, listener: UnixListener) {
        let graceful = GracefulShutdown::new();
        loop {
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else {
                break;
            };
            let stream = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(e) => {
                        tracing::warn!("registry: accepting a local connection: {e}");
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                },
                () = self.stop.cancelled() => break,
            };
            let Ok(credentials) = stream.peer_cred() else {
                continue;
            };
            let about = Connection {
                peer: Peer::Local(credentials.uid()),
                tls: false,
                files: None,
            };
            let app = self.app.clone();
            let watcher = graceful.watcher();
            tokio::spawn(async move {
                connection::serve(app, stream, about, watcher).await;
                drop(slot);
            });
        }
        drop(listener);
        drain(graceful).await;
    }
}

async fn drain(graceful: GracefulShutdown) {
    if tokio::time::timeout(DRAIN, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("registry: requests did not end in time and are dropped");
    }
}

/// A socket that everybody may connect to: the peer's uid decides.
fn local(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}
