//! Hosts the registry, on threads of its own: content that waits for the disk
//! must not hold up the API.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::controller::Controller;
use crate::registry::{Config, Error, Storage, serve};

/// Pause between attempts while the address is taken.
const RETRY: Duration = Duration::from_secs(15);
const THREADS: usize = 2;
/// Uploads and downloads that wait for the disk at a time.
const BLOCKING: usize = 32;
/// Idle threads of those end soon: each has a stack and an arena's share.
const KEEP: Duration = Duration::from_secs(5);

/// The registry beside the daemon. It ends when the daemon stops.
pub struct Registry {
    stop: CancellationToken,
    ended: oneshot::Receiver<()>,
}

impl Registry {
    /// Starts it, where there is one to serve. An address that is taken keeps
    /// nothing else from working: it is tried again.
    pub fn start(controller: &Controller) -> Option<Self> {
        let config = controller.registry_config()?;
        let storage = match controller.registry() {
            Ok(storage) => storage.clone(),
            Err(error) => {
                tracing::error!(%error, "the registry is not served");
                return None;
            }
        };
        let stop = CancellationToken::new();
        let (done, ended) = oneshot::channel();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("registry".into());
        let spawned = thread.spawn(move || {
            host(storage, &config, &stopped);
            // Nobody waits any more when the daemon was in a hurry.
            let _ = done.send(());
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "the registry is not served");
            return None;
        }
        Some(Self { stop, ended })
    }

    /// Takes no further clients and lets requests in hand end, for a while.
    pub async fn stop(self) {
        self.stop.cancel();
        let _ = self.ended.await;
    }
}

fn host(storage: Storage, config: &Config, stop: &CancellationToken) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(BLOCKING)
        .thread_keep_alive(KEEP)
        .thread_name("registry")
        .thread_stack_size(1024 * 1024)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the registry is not served");
            return;
        }
    };
    runtime.block_on(async {
        let Some(server) = listening(storage, config, stop).await else {
            return;
        };
        let scheme = if server.is_tls() { "https" } else { "http" };
        tracing::info!(address = %server.address(), scheme, "serving the registry");
        stop.cancelled().await;
        server.stop().await;
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
}

/// Tries until it serves; none when the daemon stops before.
async fn listening(
    storage: Storage,
    config: &Config,
    stop: &CancellationToken,
) -> Option<serve::Server> {
    let mut told = false;
    loop {
        match serve::serve_store(storage.clone(), config).await {
            Ok(server) => return Some(server),
            Err(error) => {
                if told {
                    tracing::debug!(%error, "the registry is not yet served");
                } else {
                    tracing::warn!(%error, "the registry is not served; trying again");
                }
                told = true;
                if !matches!(error, Error::Setup { .. }) {
                    return None;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = stop.cancelled() => return None,
        }
    }
}
