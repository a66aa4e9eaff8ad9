//! The real network: kernel namespaces and CNI plugins.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ipnet::Ipv4Net;

use super::cache::{self, Cache};
use super::conflist::{self, Conflist};
use super::exec::Plugins;
use super::firewall::Firewall;
use super::sandbox::Sandboxes;
use super::{Error, Network, Result, SandboxPaths, SpaceNetwork, bridge, forwarding, subnet};
use crate::model::{Attachment, CellRef, ObservedNetwork, ObservedSandbox, Settings};

/// Network manager of one instance.
#[derive(Debug, Clone)]
pub struct Cni {
    pub(super) inner: Arc<Inner>,
}

/// What all clones share; kept apart so that blocking work can take it along.
#[derive(Debug)]
pub(super) struct Inner {
    /// Identity on host objects.
    pub instance: String,
    /// `<run_path>/.cni`: attachments, results, leases, lock. No realm can have
    /// that name.
    pub state: PathBuf,
    pub sandboxes: Sandboxes,
    pub cache: Cache,
    pub plugins: Plugins,
    pub firewall: Firewall,
    /// Ids whose last CHECK failed.
    pub suspects: Mutex<HashSet<String>>,
}

impl Cni {
    /// The network manager of an instance. Plugins are searched in the
    /// directories of `CNI_PATH`, then where they customarily are.
    pub fn new(settings: &Settings) -> Self {
        let path = std::env::var_os("CNI_PATH").unwrap_or_default();
        Self::with_plugins(settings, Plugins::new(std::env::split_paths(&path)))
    }

    /// With further plugin directories in front, and another deadline for each
    /// plugin.
    pub fn with_plugin_directories(
        settings: &Settings,
        directories: impl IntoIterator<Item = PathBuf>,
        deadline: Duration,
    ) -> Self {
        Self::with_plugins(settings, Plugins::new(directories).deadline(deadline))
    }

    fn with_plugins(settings: &Settings, plugins: Plugins) -> Self {
        let instance = settings.instance();
        let state = settings.run_path.join(".cni");
        Self {
            inner: Arc::new(Inner {
                sandboxes: Sandboxes::new(&settings.runtime_dir, &instance),
                cache: Cache::new(&state),
                firewall: Firewall::new(&instance, &state),
                plugins,
                instance,
                state,
                suspects: Mutex::default(),
            }),
        }
    }

    /// Runs what waits for the kernel, a lock or a program off the async workers.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .unwrap_or_else(|e| Err(Error::host("network task", e)))
    }
}

impl Inner {
    /// Leases of `host-local`, a directory for each network.
    pub fn leases(&self) -> PathBuf {
        self.state.join("networks")
    }

    /// Bridge and address translation of a generated network are there.
    pub fn network_present(&self, network: &SpaceNetwork) -> Result<bool> {
        let failed = |e| Error::host(format!("looking at the network of {}", network.space), e);
        let Some(subnet) = network.subnet else {
            return Ok(false);
        };
        Ok(
            bridge::present(network, subnet, &self.instance).map_err(failed)?
                && self.firewall.present(subnet).map_err(failed)?,
        )
    }

    /// Conflist, bridge and address translation of a generated network.
    pub fn ensure_generated(&self, network: &SpaceNetwork) -> Result<()> {
        let text = conflist::generate(network, &self.leases())?;
        let subnet = network
            .subnet
            .ok_or_else(|| Error::NotFound("subnet".to_owned()))?;
        let file = &network.generated;
        if std::fs::read(file).ok().as_deref() != Some(text.as_bytes()) {
            cache::replace(file, text.as_bytes(), true)
                .map_err(|e| Error::host(format!("writing {}", file.display()), e))?;
        }
        bridge::ensure(network, subnet, &self.instance)?;
        forwarding::enable(&self.state)?;
        self.firewall.ensure(network, subnet)
    }
}

#[async_trait]
impl Network for Cni {
    fn plugins(&self) -> Result<String> {
        let found: Vec<String> = conflist::GENERATED_PLUGINS
            .iter()
            .map(|plugin| Ok(self.inner.plugins.find(plugin)?.display().to_string()))
            .collect::<Result<_>>()?;
        Ok(found.join(", "))
    }

    async fn allocate_subnet(&self, pool: Ipv4Net, used: &[Ipv4Net]) -> Result<Ipv4Net> {
        let used = used.to_vec();
        self.blocking(move |_| subnet::allocate(pool, &used)).await
    }

    async fn observe_network(&self, network: &SpaceNetwork) -> Result<ObservedNetwork> {
        let conflist = match std::fs::read_to_string(network.conflist()) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            other => Some(other.map_err(|e| Error::BadConfig {
                path: network.conflist().clone(),
                cause: e.to_string(),
            })?),
        };
        let bridge = network.own.is_some() || self.inner.network_present(network)?;
        Ok(ObservedNetwork { conflist, bridge })
    }

    async fn ensure_network(&self, network: &SpaceNetwork) -> Result<()> {
        let network = network.clone();
        self.blocking(move |inner| {
            if network.own.is_none() {
                inner.ensure_generated(&network)?;
            }
            let list = Conflist::read(network.conflist())?;
            list.plugin_types()
                .try_for_each(|plugin| inner.plugins.find(plugin).map(drop))
        })
        .await
    }

    async fn remove_network(&self, network: &SpaceNetwork) -> Result<()> {
        self.network_removal(network).await
    }

    fn sandbox_paths(&self, cell: &CellRef) -> SandboxPaths {
        self.inner.sandboxes.paths(cell)
    }

    async fn observe_sandbox(&self, cell: &CellRef, host_network: bool) -> Result<ObservedSandbox> {
        self.inner.observe_sandbox(cell, host_network)
    }

    async fn create_sandbox(&self, cell: &CellRef, host_network: bool) -> Result<()> {
        let cell = cell.clone();
        self.blocking(move |inner| inner.sandboxes.create(&cell, host_network))
            .await
    }

    async fn remove_sandbox(&self, cell: &CellRef) -> Result<()> {
        let cell = cell.clone();
        self.blocking(move |inner| inner.sandboxes.remove(&cell))
            .await
    }

    async fn attach(&self, cell: &CellRef, network: &SpaceNetwork) -> Result<Attachment> {
        self.attachment(cell, network).await
    }

    async fn check(&self, cell: &CellRef, _network: &SpaceNetwork) -> Result<()> {
        self.attachment_check(cell).await
    }

    async fn detach(&self, cell: &CellRef, _network: &SpaceNetwork) -> Result<()> {
        self.detachment(cell).await
    }

    async fn collect(&self, network: &SpaceNetwork, cells: &[CellRef]) -> Result<()> {
        self.collection(network, cells).await
    }

    async fn sandboxes(&self) -> Result<Vec<CellRef>> {
        self.blocking(|inner| {
            let mut cells = inner.sandboxes.list()?;
            // After a reboot the pins are gone, and leases wait to be given back.
            cells.extend(inner.cache.all()?.iter().filter_map(|r| r.intent.cell()));
            cells.sort_unstable();
            cells.dedup();
            Ok(cells)
        })
        .await
    }

    async fn remove_instance(&self) -> Result<()> {
        self.instance_removal().await
    }
}
