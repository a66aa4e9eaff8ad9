//! Hosts the pages, on the daemon's own threads: they do nothing until somebody
//! looks.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::Kukeon;
use crate::model::Settings;
use crate::web::{Config, serve};

/// Pause between attempts while the address is taken.
const RETRY: Duration = Duration::from_secs(15);

/// The pages beside the daemon. They end when the daemon stops.
pub struct Web {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Web {
    /// Starts them, where there are any to serve. An address that is taken keeps
    /// nothing else from working: it is tried again.
    pub fn start(kukeon: Arc<dyn Kukeon>, settings: &Settings) -> Option<Self> {
        let config = Config {
            listen: settings.web.listen?,
            tls: settings.web.uses_tls(),
            names: settings.web.names.clone(),
            dir: settings.web_dir(),
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(host(kukeon, config, stop.clone()));
        Some(Self { stop, task })
    }

    /// Takes no further clients and lets requests in hand end, for a while.
    pub async fn stop(self) {
        self.stop.cancel();
        // A panic was shown when it happened.
        let _ = self.task.await;
    }
}

async fn host(kukeon: Arc<dyn Kukeon>, config: Config, stop: CancellationToken) {
    let mut told = false;
    let server = loop {
        match serve(kukeon.clone(), &config).await {
            Ok(server) => break server,
            Err(error) if told => tracing::debug!(%error, "the pages are not yet served"),
            Err(error) => tracing::warn!(%error, "the pages are not served; trying again"),
        }
        told = true;
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = stop.cancelled() => return,
        }
    };
    let scheme = if config.tls { "https" } else { "http" };
    tracing::info!(address = %server.address(), scheme, "serving the pages");
    stop.cancelled().await;
    server.stop().await;
}
