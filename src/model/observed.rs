//! What the managers see on the host. Facts only; `plan` compares them with intent.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{Labels, Name};

/// State of a task in containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// Made, its process waits to be started.
    Created,
    /// Runs.
    Running,
    /// Frozen.
    Paused,
    /// Its process has ended.
    Stopped(TaskExit),
    /// containerd cannot tell.
    Unknown,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskExit {
    /// Exit code; 128 + n for signal n.
    pub code: i32,
    /// When.
    pub at: Timestamp,
}

/// A task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObservedTask {
    /// Process id on the host.
    pub pid: u32,
    /// State.
    pub state: TaskState,
}

/// A container record in containerd, with its task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedContainer {
    /// Id in containerd.
    pub id: String,
    /// Labels of the record.
    pub labels: Labels,
    /// Image reference of the record.
    pub image: String,
    /// Whether its snapshot exists.
    pub snapshot: bool,
    /// Its task.
    pub task: Option<ObservedTask>,
}

/// Pinned namespaces and CNI state of a cell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedSandbox {
    /// All wanted pins, and no others, are live namespaces.
    pub pinned: bool,
    /// Anything of the sandbox is left (pins, files, links).
    pub exists: bool,
    /// Cached result of a CNI ADD that was not followed by a DEL.
    pub attachment: Option<Attachment>,
    /// The attachment's interface is really there in the pinned namespace.
    pub attached: bool,
}

/// Result of a CNI ADD.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attachment {
    /// CNI network name.
    pub network: String,
    /// Interface in the sandbox.
    pub interface: String,
    /// Host end of the veth pair, empty when the chain has none.
    pub host_interface: String,
    /// Bridge, empty when the chain has none.
    pub bridge: String,
    /// Addresses in prefix notation.
    pub addresses: Vec<String>,
    /// Name servers the chain told.
    pub nameservers: Vec<String>,
}

/// Network of a space.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedNetwork {
    /// The conflist on disk, as written; none when absent.
    pub conflist: Option<String>,
    /// Bridge, its address and the address translation of the generated chain
    /// are there; always true with a user's own chain, which has its own ways.
    pub bridge: bool,
}

impl ObservedNetwork {
    /// Nothing has to be made before a cell can be attached.
    pub fn ready(&self) -> bool {
        self.conflist.is_some() && self.bridge
    }
}

/// A realm, space or stack as found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedScope {
    /// Realm: the containerd namespace exists.
    pub namespace: bool,
    /// Its cgroup exists.
    pub cgroup: bool,
    /// Space: network.
    pub network: ObservedNetwork,
    /// Names of the children in the store.
    pub children: BTreeSet<Name>,
}

/// A cell as found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedCell {
    /// Time of the observation; `plan` has no clock of its own.
    pub now: Timestamp,
    /// Cgroup of the cell exists.
    pub cgroup: bool,
    /// Cgroups of containers that exist, by container id.
    pub container_cgroups: BTreeSet<Name>,
    /// Containers whose cgroup has other limits than wanted.
    pub limits_differ: BTreeSet<Name>,
    /// Pins and CNI state.
    pub sandbox: ObservedSandbox,
    /// hosts, hostname and resolv.conf of the cell are there.
    pub host_files: bool,
    /// Records owned by this cell, by container id.
    pub containers: BTreeMap<Name, ObservedContainer>,
    /// Normalised references that are in the namespace, with their digest.
    pub images: BTreeMap<String, String>,
    /// The file system for files of secrets is there, or something of it.
    pub staging: bool,
    /// Containers that have files of secrets in it.
    pub staged: BTreeSet<Name>,
    /// What tells the present values of secrets from others, by container that
    /// has secrets.
    pub secrets: BTreeMap<Name, String>,
}
