//! Derived states and statuses.

use jiff::Timestamp;

use super::Name;

/// State of a realm, space or stack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ScopeState {
    /// Nothing was done yet.
    #[default]
    Pending,
    /// As wanted.
    Ready,
    /// Being removed.
    Deleting,
    /// The last attempt failed.
    Failed,
    /// Cannot be observed.
    Unknown,
}

/// What was last observed of a realm, space or stack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScopeStatus {
    /// State.
    pub state: ScopeState,
    /// CamelCase token that explains a state other than Ready.
    pub reason: String,
    /// One line for people.
    pub message: String,
    /// Generation last acted on.
    pub observed_generation: i64,
    /// Cgroup below the cgroup2 mount.
    pub cgroup_path: String,
    /// Controllers delegated to its children.
    pub subtree_controllers: Vec<String>,
    /// Realm: containerd namespace.
    pub namespace: String,
    /// Space: network in use.
    pub network: NetworkStatus,
}

/// Where a space or cell is on the network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkStatus {
    /// CNI network name.
    pub name: String,
    /// Bridge.
    pub bridge: String,
    /// Space: subnet in prefix notation.
    pub subnet: String,
    /// Cell: addresses in prefix notation.
    pub addresses: Vec<String>,
    /// Cell: interface in the sandbox.
    pub interface: String,
    /// Cell: host end of the veth pair.
    pub host_interface: String,
    /// Cell: pinned network namespace.
    pub netns: String,
}

/// State of a cell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CellState {
    /// Nothing was started yet.
    #[default]
    Pending,
    /// At least one container runs, none is wrongly down.
    Ready,
    /// Stopped by the operator.
    Stopped,
    /// Bring-up failed.
    Failed,
    /// Cannot be observed.
    Unknown,
    /// All work ended with 0.
    Exited,
    /// All work ended, some with another code.
    Error,
    /// Some runs, some is down or waits for a restart.
    Degraded,
}

/// What was last observed of a cell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CellStatus {
    /// State.
    pub state: CellState,
    /// CamelCase token.
    pub reason: String,
    /// One line for people.
    pub message: String,
    /// Generation last acted on.
    pub observed_generation: i64,
    /// Cgroup below the cgroup2 mount.
    pub cgroup_path: String,
    /// Addresses.
    pub network: NetworkStatus,
    /// One entry per container, in spec order.
    pub containers: Vec<ContainerStatus>,
    /// Last change to Ready.
    pub ready_at: Option<Timestamp>,
}

/// State of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ContainerState {
    /// Created, not started.
    #[default]
    Pending,
    /// Runs.
    Ready,
    /// Stopped by the operator.
    Stopped,
    /// Frozen.
    Paused,
    /// Could not be created or started.
    Failed,
    /// Cannot be observed.
    Unknown,
    /// No record in containerd.
    NotCreated,
    /// Ended with 0.
    Exited,
    /// Ended with another code.
    Error,
}

/// What was last observed of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerStatus {
    /// Id in the cell.
    pub name: Name,
    /// Id in containerd.
    pub containerd_id: String,
    /// State.
    pub state: ContainerState,
    /// Digest of the image.
    pub image_digest: String,
    /// Process id on the host; 0 when none.
    pub pid: u32,
    /// Last start.
    pub started_at: Option<Timestamp>,
    /// Last exit.
    pub finished_at: Option<Timestamp>,
    /// Code of the last exit.
    pub exit_code: Option<i32>,
    /// Restarts by policy since the cell was started.
    pub restart_count: u32,
    /// No restart before this.
    pub next_restart_at: Option<Timestamp>,
    /// One line for people.
    pub message: String,
    /// The cell's run generation in which it last ran.
    pub run_generation: i64,
}

impl ContainerStatus {
    /// The status of a container nothing is known of.
    pub fn new(name: Name) -> Self {
        Self {
            name,
            containerd_id: String::new(),
            state: ContainerState::NotCreated,
            image_digest: String::new(),
            pid: 0,
            started_at: None,
            finished_at: None,
            exit_code: None,
            restart_count: 0,
            next_restart_at: None,
            message: String::new(),
            run_generation: 0,
        }
    }
}
