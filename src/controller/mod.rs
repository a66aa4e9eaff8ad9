//! The controller: observe, plan, execute; implements `Kukeon` in-process.
//!
//! The only place where the managers meet. `plan` and `status` are pure; the
//! host is changed in `execute` alone.

mod apply;
mod context;
mod damaged;
mod delete;
mod errors;
mod exec;
mod execute;
mod get;
mod hostfiles;
mod images;
mod kept;
mod kukeon;
mod mark;
mod observe;
mod plan;
mod queue;
mod reconcile;
mod registry;
mod run;
mod served;
mod setup;
mod status;
mod step;
mod stream;
mod transition;
mod upkeep;
mod web;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use plan::{Options, Verdict, plan_cell, plan_realm, plan_space, plan_stack};
pub(crate) use queue::Queue;
pub use step::{Plan, Step};

use crate::api::Result;
use crate::cgroup::{Cgroups, V2};
use crate::model::delivery::ReleaseRef;
use crate::model::{ObjectRef, Settings};
use crate::network::{Cni, Network};
use crate::registry::Storage;
use crate::runtime::{Containerd, Runtime, Staging};
use crate::store::Store;

/// The in-process implementation of everything.
pub struct Controller {
    me: Weak<Controller>,
    settings: Settings,
    store: Store,
    runtime: Arc<dyn Runtime>,
    network: Arc<dyn Network>,
    cgroups: Arc<dyn Cgroups>,
    /// Files of secrets.
    staging: Staging,
    queue: queue::Queue<ObjectRef>,
    /// Cancelled when the process ends: work that outlives its caller stops.
    ending: CancellationToken,
    /// Servings are told of their cells.
    served: served::Served,
    /// The loop runs: stored status is kept fresh by events.
    live: AtomicBool,
    /// Why containerd cannot be asked, as the loop knows.
    lost: Mutex<Option<String>>,
    /// The registry's content, from first use on.
    registry: OnceLock<Storage>,
    /// Work that goes on after its caller left, until it is consistent.
    tasks: TaskTracker,
}

impl Controller {
    /// Opens store and managers. containerd is found, or brought up, at first use.
    pub async fn open(settings: Settings) -> Result<Arc<Self>> {
        let store = Store::open(&settings.run_path)?;
        store.check_instance(&settings.namespace_suffix, &settings.cgroup_root)?;
        let network: Arc<dyn Network> = Arc::new(Cni::new(&settings));
        let runtime: Arc<dyn Runtime> = Arc::new(Containerd::open(settings.clone())?);
        let staging = Staging::new(&settings.runtime_dir);
        let cgroups: Arc<dyn Cgroups> = Arc::new(V2::detect()?);
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            settings,
            store,
            runtime,
            network,
            cgroups,
            staging,
            queue: queue::Queue::default(),
            ending: CancellationToken::new(),
            served: served::Served::default(),
            lost: Mutex::default(),
            live: AtomicBool::new(false),
            registry: OnceLock::new(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Settings in use.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Servings whose cells change from now on, while the loop runs.
    ///
    /// Another process may delete one before the loop has seen it: whose it was is
    /// known only from here.
    pub fn served_changes(&self) -> broadcast::Receiver<ReleaseRef> {
        let changes = self.served.subscribe();
        for realm in self.store.realms().unwrap_or_default() {
            for at in self.cells_of(&realm) {
                if let Ok(Some(cell)) = self.store.cell(&at) {
                    self.served.tell(&cell);
                }
            }
        }
        changes
    }

    /// Waits until cancelled work has reached a consistent state.
    pub async fn settle(&self) {
        self.ending.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
        self.runtime.settle().await;
    }

    /// Fails early, before anything is written, when containerd cannot be had.
    async fn require_containerd(&self) -> Result<()> {
        self.runtime.server_version().await?;
        Ok(())
    }

    /// Whether the loop of this process keeps stored status fresh.
    fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }
}
