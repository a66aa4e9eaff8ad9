//! Desired objects, free of any external version.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;

use super::{
    CellRef, CellStatus, ContainerPort, KeptSource, Name, RealmRef, ScopeStatus, SecretUse,
    SpaceRef, StackRef,
};

/// Key/value pairs.
pub type Labels = BTreeMap<String, String>;

/// What every object carries beside its spec.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// User-owned labels.
    pub labels: Labels,
    /// Free notes.
    pub annotations: Labels,
    /// +1 whenever the spec changes; 0 before the first save.
    pub generation: i64,
    /// Stable random identity; empty before the first save.
    pub uid: String,
    /// When it was first saved.
    pub created_at: Option<Timestamp>,
    /// When deletion was asked for.
    pub deletion: Option<Timestamp>,
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realm {
    /// Where it lives.
    pub at: RealmRef,
    /// Labels and bookkeeping.
    pub meta: Meta,
    /// What is wanted.
    pub spec: RealmSpec,
    /// What was last observed.
    pub status: ScopeStatus,
}

/// What is wanted of a realm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RealmSpec {
    /// containerd namespace; empty means the default of `Settings`.
    pub namespace: String,
    /// Logins for pulls.
    pub credentials: Vec<RegistryCredential>,
}

/// One registry login. `Debug` hides the password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistryCredential {
    /// Registry host with port; empty matches any.
    pub server: String,
    /// Account.
    pub username: String,
    /// Password or token.
    pub password: String,
}

impl fmt::Debug for RegistryCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryCredential")
            .field("server", &self.server)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// Where it lives.
    pub at: SpaceRef,
    /// Labels and bookkeeping.
    pub meta: Meta,
    /// What is wanted.
    pub spec: SpaceSpec,
    /// What was last observed; `status.network.subnet` is the allocation.
    pub status: ScopeStatus,
}

/// What is wanted of a space.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpaceSpec {
    /// A conflist of the user's own instead of the generated one.
    pub cni_config_path: Option<String>,
}

/// A group of cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// Where it lives.
    pub at: StackRef,
    /// Labels and bookkeeping.
    pub meta: Meta,
    /// What was last observed.
    pub status: ScopeStatus,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Where it lives.
    pub at: CellRef,
    /// Labels and bookkeeping.
    pub meta: Meta,
    /// What is wanted.
    pub spec: CellSpec,
    /// What was last observed.
    pub status: CellStatus,
}

impl Cell {
    /// Whether the cell uses the host's network: one container that says so
    /// decides for all, because they share one network namespace.
    pub fn host_network(&self) -> bool {
        self.spec.containers.iter().any(|c| c.host_network)
    }
}

/// What is wanted of a cell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CellSpec {
    /// At least one, ids unique, at most one with `root`.
    pub containers: Vec<ContainerSpec>,
    /// Delete after a clean end.
    pub auto_delete: bool,
    /// What the operator wants.
    pub run_state: RunState,
    /// Raised by start and restart.
    pub run_generation: i64,
    /// The oldest run that may go on: raised to `run_generation` by restart.
    pub restart_generation: i64,
}

/// Operator intent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RunState {
    /// The containers shall run (or have run to their end).
    #[default]
    Running,
    /// Nothing shall run, also after a reboot.
    Stopped,
}

/// When an ended container is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Never.
    #[default]
    Never,
    /// After a non-zero exit, a limited number of times in a row.
    OnFailure,
    /// After every exit.
    Always,
}

/// When the registry is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Only when the image is not there.
    #[default]
    Missing,
    /// At every creation.
    Always,
    /// Never.
    Never,
}

/// What is wanted of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Unique in the cell.
    pub id: Name,
    /// Its exit ends the cell.
    pub root: bool,
    /// Reference as the user wrote it.
    pub image: String,
    /// Replaces ENTRYPOINT.
    pub command: Option<String>,
    /// Replaces CMD.
    pub args: Vec<String>,
    /// Replaces WORKDIR.
    pub working_dir: Option<String>,
    /// `NAME=value` pairs.
    pub env: Vec<String>,
    /// Replaces USER.
    pub user: Option<String>,
    /// What happens after an exit.
    pub restart_policy: RestartPolicy,
    /// First pause before a restart; default 1 s.
    pub restart_backoff_seconds: Option<u32>,
    /// Limit for `OnFailure`; default 5.
    pub restart_max_retries: Option<u32>,
    /// Seconds between SIGTERM and SIGKILL; default 10.
    pub stop_grace_seconds: Option<u32>,
    /// When the registry is asked.
    pub pull_policy: PullPolicy,
    /// Everything allowed.
    pub privileged: bool,
    /// Host network for the cell.
    pub host_network: bool,
    /// Host processes.
    pub host_pid: bool,
    /// Host cgroup namespace.
    pub host_cgroup: bool,
    /// Root file system read-only.
    pub read_only_root: bool,
    /// Changes to the capability set.
    pub capabilities: Capabilities,
    /// No-new-privileges and seccomp.
    pub security: SecurityOptions,
    /// Host device nodes.
    pub devices: Vec<String>,
    /// Memory file systems.
    pub tmpfs: Vec<Tmpfs>,
    /// Limits.
    pub resources: Resources,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Secrets.
    pub secrets: Vec<SecretUse>,
    /// Where it listens, for people and clusters.
    pub ports: Vec<ContainerPort>,
}

impl ContainerSpec {
    /// A container with an id and an image and every default.
    pub fn new(id: Name, image: impl Into<String>) -> Self {
        Self {
            id,
            root: false,
            image: image.into(),
            command: None,
            args: Vec::new(),
            working_dir: None,
            env: Vec::new(),
            user: None,
            restart_policy: RestartPolicy::Never,
            restart_backoff_seconds: None,
            restart_max_retries: None,
            stop_grace_seconds: None,
            pull_policy: PullPolicy::Missing,
            privileged: false,
            host_network: false,
            host_pid: false,
            host_cgroup: false,
            read_only_root: false,
            capabilities: Capabilities::default(),
            security: SecurityOptions::default(),
            devices: Vec::new(),
            tmpfs: Vec::new(),
            resources: Resources::default(),
            mounts: Vec::new(),
            secrets: Vec::new(),
            ports: Vec::new(),
        }
    }
}

/// Changes to the default capability set; names upper-case with `CAP_`, or `ALL`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Removed first.
    pub drop: Vec<String>,
    /// Added then.
    pub add: Vec<String>,
}

/// Parsed `securityOpts`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecurityOptions {
    /// Explicit choice; unset means on (off when privileged).
    pub no_new_privileges: Option<bool>,
    /// System call filter.
    pub seccomp: Seccomp,
}

/// System call filter of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// The built-in profile; none when privileged.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A profile in a host file, JSON in the OCI runtime-spec form.
    Profile(String),
}

/// A memory file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tmpfs {
    /// Absolute path in the container.
    pub path: String,
    /// Bytes; 0 is the kernel's default.
    pub size_bytes: u64,
    /// Further options.
    pub options: Vec<String>,
}

/// Limits; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resources {
    /// Bytes (`memory.max`).
    pub memory_bytes: Option<u64>,
    /// v1 shares 2..=262144, mapped to `cpu.weight`.
    pub cpu_shares: Option<u64>,
    /// Tasks (`pids.max`).
    pub pids: Option<u64>,
}

/// Something mounted into a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Absolute path in the container.
    pub target: String,
    /// Read-only.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A host file or directory, absolute path.
    Bind(String),
    /// A memory file system.
    Tmpfs {
        /// Bytes; 0 is the kernel's default.
        size_bytes: u64,
        /// Permission bits; 0 is the kernel's default.
        mode: u32,
    },
    /// The data of a volume.
    Volume {
        /// Which one.
        source: KeptSource,
        /// Make it in the stack when it is not there.
        ensure: bool,
    },
}
