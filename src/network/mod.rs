//! CNI manager: sandbox namespaces, conflists, plugin execution, addresses.
//! Knows nothing of containerd.

mod attach;
mod bridge;
mod cache;
mod chain;
mod cni;
mod conflist;
mod error;
mod exec;
mod firewall;
mod forwarding;
mod ids;
mod netlink;
mod nftables;
mod remove;
mod result;
mod sandbox;
mod subnet;

use std::path::PathBuf;

use async_trait::async_trait;
use ipnet::Ipv4Net;

pub use cni::Cni;
pub use error::{Error, Result};

use crate::model::{Attachment, CellRef, ObservedNetwork, ObservedSandbox, SpaceRef};

/// What the controller asks of the network.
///
/// Every call is idempotent: making what exists as wanted and removing what is
/// gone succeed. Removal never stops at the first error; it goes on and reports all.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// Lowest free /24 of the pool that is neither in `used` nor routed on the
    /// host. [`Error::PoolExhausted`] when there is none.
    async fn allocate_subnet(&self, pool: Ipv4Net, used: &[Ipv4Net]) -> Result<Ipv4Net>;

    /// What is there of a space's network.
    async fn observe_network(&self, network: &SpaceNetwork) -> Result<ObservedNetwork>;
    /// Writes the generated conflist (nothing to do for a user's own one beyond
    /// checking that it can be read and its plugins exist).
    async fn ensure_network(&self, network: &SpaceNetwork) -> Result<()>;
    /// Removes bridge, firewall and address state, and the generated conflist.
    async fn remove_network(&self, network: &SpaceNetwork) -> Result<()>;

    /// Paths of a cell's pins, whether they exist or not.
    fn sandbox_paths(&self, cell: &CellRef) -> SandboxPaths;
    /// What is there of a cell's sandbox. `host_network` cells have no net pin.
    async fn observe_sandbox(&self, cell: &CellRef, host_network: bool) -> Result<ObservedSandbox>;
    /// Makes network, IPC and UTS namespaces, pins them, sets the host name to
    /// the cell's name and brings loopback up.
    async fn create_sandbox(&self, cell: &CellRef, host_network: bool) -> Result<()>;
    /// Unpins the namespaces and removes every file of them.
    async fn remove_sandbox(&self, cell: &CellRef) -> Result<()>;

    /// CNI ADD of the space's chain on the cell's network namespace; caches the result.
    async fn attach(&self, cell: &CellRef, network: &SpaceNetwork) -> Result<Attachment>;
    /// CNI CHECK against the cached result. After a failure that the attachment
    /// is to blame for, `observe_sandbox` says that it is not attached.
    async fn check(&self, cell: &CellRef, network: &SpaceNetwork) -> Result<()>;
    /// CNI DEL with the cached result, then forgets it. Works without the namespace.
    async fn detach(&self, cell: &CellRef, network: &SpaceNetwork) -> Result<()>;
    /// CNI GC where every plugin offers it (spec 1.1): keeps only `cells`.
    async fn collect(&self, network: &SpaceNetwork, cells: &[CellRef]) -> Result<()>;

    /// Where the plugins of generated chains were found, for people.
    /// [`Error::PluginNotFound`] when one is missing.
    fn plugins(&self) -> Result<String>;
    /// Sandboxes of this instance that exist on the host, for sweeps.
    async fn sandboxes(&self) -> Result<Vec<CellRef>>;
    /// Removes what the instance shares: pin directory, mounts. Called by uninstall.
    async fn remove_instance(&self) -> Result<()>;
}

/// A space's network, as the controller knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceNetwork {
    /// The space.
    pub space: SpaceRef,
    /// uid of the space; makes network and bridge name unique.
    pub uid: String,
    /// The generated conflist's place in the store.
    pub generated: PathBuf,
    /// A user's own conflist instead.
    pub own: Option<PathBuf>,
    /// The space's subnet; none with a user's own conflist.
    pub subnet: Option<Ipv4Net>,
}

impl SpaceNetwork {
    /// The conflist in use.
    pub fn conflist(&self) -> &PathBuf {
        self.own.as_ref().unwrap_or(&self.generated)
    }

    /// Bridge of the generated chain: `k-` and 8 hex digits of the uid (15 characters at most).
    pub fn bridge(&self) -> String {
        let hex: String = self
            .uid
            .chars()
            .filter(char::is_ascii_hexdigit)
            .take(8)
            .collect();
        format!("k-{hex}")
    }

    /// How the uid of the space began that has this bridge; none for a bridge of
    /// another make.
    pub fn uid_of_bridge(bridge: &str) -> Option<&str> {
        let began = bridge.strip_prefix("k-")?;
        let hex = began.len() == 8 && began.bytes().all(|b| b.is_ascii_hexdigit());
        hex.then_some(began)
    }

    /// CNI network name of the generated chain: `<realm>_<space>`; `_` is in no name.
    pub fn name(&self) -> String {
        ids::network(&self.space)
    }
}

/// Where a cell's namespaces are pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxPaths {
    /// Network.
    pub net: PathBuf,
    /// IPC.
    pub ipc: PathBuf,
    /// UTS.
    pub uts: PathBuf,
}
