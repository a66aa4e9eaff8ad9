//! containerd manager: namespaces, images, snapshots, containers, tasks, OCI
//! spec, log and terminal I/O. Knows nothing of cgroup files or netlink.

mod connection;
mod containerd;
mod error;
pub mod image;
pub mod launch;
pub mod log;
mod spec;
mod staging;

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};

pub use connection::Connection;
pub use containerd::Containerd;
pub use error::{Error, Result};
pub use staging::{StagedFile, Staging};

use crate::model::{
    CellRef, ContainerSpec, Labels, Name, ObservedContainer, ProgressSink, RealmRef,
    RegistryCredential, TaskExit,
};

/// What the controller asks of containerd. One implementation talks to a real
/// containerd ([`Containerd`]); tests of faults use a recording one.
///
/// Every call is idempotent where it can be: making what exists as wanted and
/// removing what is gone succeed.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Version of the server.
    async fn server_version(&self) -> Result<String>;
    /// Waits until what calls that were dropped held is given back.
    async fn settle(&self);

    /// Namespaces with their labels.
    async fn namespaces(&self) -> Result<BTreeMap<String, Labels>>;
    /// Makes a namespace; true when it was not there.
    async fn ensure_namespace(&self, namespace: &str, labels: &Labels) -> Result<bool>;
    /// Drains and removes a namespace: tasks, containers, images, content,
    /// snapshots, leases, then the namespace itself.
    async fn remove_namespace(&self, namespace: &str) -> Result<()>;

    /// Containers (with snapshot and task state) that carry all given labels.
    async fn containers(&self, namespace: &str, labels: &Labels) -> Result<Vec<ObservedContainer>>;
    /// Makes snapshot and record from an unpacked image.
    async fn create_container(&self, request: &ContainerRequest) -> Result<()>;
    /// Adds or replaces labels of a record.
    async fn set_labels(&self, namespace: &str, id: &str, labels: &Labels) -> Result<()>;
    /// User and group id of the first process, as its record says.
    async fn container_user(&self, namespace: &str, id: &str) -> Result<(u32, u32)>;
    /// Removes record and snapshot. A task must be gone before.
    async fn remove_container(&self, namespace: &str, id: &str) -> Result<()>;

    /// Makes the task of a record (shim and `runc create`), output to the log writer.
    async fn create_task(&self, request: &TaskRequest) -> Result<()>;
    /// Starts the process of a made task. A program that is not in the image is
    /// [`Error::CommandNotFound`].
    async fn start_task(&self, namespace: &str, id: &str) -> Result<()>;
    /// Sends a signal to the first process, or to all of them. A gone task is no error.
    async fn signal_task(&self, namespace: &str, id: &str, signal: i32, all: bool) -> Result<()>;
    /// Waits until the task has ended. A gone task is [`Error::NotFound`].
    async fn wait_task(&self, namespace: &str, id: &str) -> Result<TaskExit>;
    /// Removes an ended task (killing it when it has not ended) with its shim.
    async fn remove_task(&self, namespace: &str, id: &str) -> Result<Option<TaskExit>>;

    /// Runs a further process in a running task.
    async fn exec(&self, request: ExecRequest) -> Result<ExecSession>;

    /// Task and container events from now on. The stream ends with the connection.
    async fn events(&self) -> Result<BoxStream<'static, Result<RuntimeEvent>>>;

    /// Images of a namespace.
    async fn images(&self, namespace: &str) -> Result<Vec<ImageInfo>>;
    /// One image with manifest and configuration; [`Error::ImageNotFound`] when absent.
    async fn image(&self, namespace: &str, reference: &str) -> Result<ImageDetail>;
    /// Normalised references of the namespace with their target digest (cheap).
    async fn image_digests(&self, namespace: &str) -> Result<BTreeMap<String, String>>;
    /// Fetches and unpacks an image under a lease; returns its normalised reference.
    async fn pull_image(&self, request: &PullRequest, progress: ProgressSink) -> Result<String>;
    /// Sends an image to a registry; returns the normalised reference there.
    async fn push_image(&self, request: &PushRequest, progress: ProgressSink) -> Result<String>;
    /// Repository of a reference (with its registry) and the tags the registry lists.
    async fn tags(
        &self,
        reference: &str,
        credentials: &[RegistryCredential],
    ) -> Result<(String, Vec<String>)>;
    /// Imports and unpacks an archive (OCI layout or docker save, plain, gzip or
    /// zstd), streaming; returns the normalised references.
    async fn load_image(
        &self,
        namespace: &str,
        archive: Box<dyn AsyncRead + Send + Unpin>,
        progress: ProgressSink,
    ) -> Result<Vec<String>>;
    /// Makes the built-in image from a static program; true when it changed.
    async fn ensure_builtin_image(
        &self,
        namespace: &str,
        program: &std::path::Path,
    ) -> Result<bool>;
    /// Removes an image, synchronously collecting what only it used.
    async fn remove_image(&self, namespace: &str, reference: &str) -> Result<String>;
    /// Removes images no container uses, and stale leases of kukeon.
    async fn prune_images(&self, namespace: &str) -> Result<PruneReport>;
}

/// Reference of the built-in image. `kukeon.internal/*` is never pulled.
pub const HELLO_IMAGE: &str = "kukeon.internal/hello:latest";

/// Everything needed to make a container record.
#[derive(Debug, Clone)]
pub struct ContainerRequest {
    /// containerd namespace.
    pub namespace: String,
    /// Id of the record and of its snapshot.
    pub id: String,
    /// Owning cell.
    pub cell: CellRef,
    /// Labels of record and snapshot.
    pub labels: Labels,
    /// What is wanted.
    pub spec: ContainerSpec,
    /// Normalised reference of an image that is in the namespace.
    pub image: String,
    /// Namespaces to join.
    pub sandbox: SandboxNamespaces,
    /// Path below the cgroup2 mount.
    pub cgroup_path: String,
    /// Host files bound read-only into the container: (host path, container path).
    pub files: Vec<(PathBuf, String)>,
    /// As `files`, but put in place between the record and its task, and never
    /// giving way to the user's mounts.
    pub secrets: Vec<(PathBuf, String)>,
}

/// Namespaces of a cell that its containers join. `None` is the host's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SandboxNamespaces {
    /// Pinned network namespace.
    pub net: Option<PathBuf>,
    /// Pinned IPC namespace.
    pub ipc: Option<PathBuf>,
    /// Pinned UTS namespace.
    pub uts: Option<PathBuf>,
}

/// Everything needed to make a task.
#[derive(Debug, Clone)]
pub struct TaskRequest {
    /// containerd namespace.
    pub namespace: String,
    /// Id of the record.
    pub id: String,
    /// Log file the output goes to.
    pub log: PathBuf,
}

/// A further process.
#[derive(Debug, Clone)]
pub struct ExecRequest {
    /// containerd namespace.
    pub namespace: String,
    /// Id of the record.
    pub id: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// With a terminal of this many (rows, columns).
    pub tty: Option<(u16, u16)>,
    /// Whether standard input will be written.
    pub stdin: bool,
    /// Further `NAME=value` pairs.
    pub env: Vec<String>,
    /// Working directory instead of the container's.
    pub working_dir: Option<String>,
    /// User instead of the container's.
    pub user: Option<String>,
}

/// A further process that runs. Dropping it kills the process and removes its FIFOs.
pub struct ExecSession {
    /// Its standard input; dropping it closes it.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Its standard output, or all of the terminal's.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// Its standard error; none with a terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Resizes and signals.
    pub control: mpsc::Sender<ExecControl>,
    /// Its end.
    pub exit: oneshot::Receiver<Result<TaskExit>>,
    /// Ends when the process and its FIFOs are removed, which is after its end
    /// and after the other parts were dropped.
    pub removed: oneshot::Receiver<()>,
}

/// What can be done to a running further process.
#[derive(Debug, Clone, Copy)]
pub enum ExecControl {
    /// New terminal size (rows, columns).
    Resize(u16, u16),
    /// Signal number.
    Signal(i32),
}

/// Something that happened in containerd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeEvent {
    /// containerd namespace.
    pub namespace: String,
    /// Id of the container it concerns.
    pub container: String,
    /// What happened.
    pub kind: RuntimeEventKind,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeEventKind {
    /// The task's first process has ended.
    Exit,
    /// The kernel killed for lack of memory.
    OutOfMemory,
    /// A task was started, removed, paused or resumed.
    TaskChanged,
    /// A record was made, changed or removed.
    ContainerChanged,
}

/// What to fetch.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// containerd namespace.
    pub namespace: String,
    /// Reference as written.
    pub reference: String,
    /// `os/arch[/variant]`; none is the host's.
    pub platform: Option<String>,
    /// Logins; matched by exact server, then an entry without server.
    pub credentials: Vec<RegistryCredential>,
}

/// What to send where.
#[derive(Debug, Clone)]
pub struct PushRequest {
    /// containerd namespace.
    pub namespace: String,
    /// Reference of the image here, as written.
    pub reference: String,
    /// Reference to send it to: registry, repository and tag.
    pub target: String,
    /// Logins; matched by exact server, then an entry without server.
    pub credentials: Vec<RegistryCredential>,
}

/// An image in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageInfo {
    /// Normalised reference.
    pub name: String,
    /// Digest of the target.
    pub digest: String,
    /// Media type of the target.
    pub media_type: String,
    /// Bytes of manifest, config and layers for this platform.
    pub size: u64,
    /// RFC 3339.
    pub created_at: String,
    /// Labels in containerd.
    pub labels: Labels,
}

/// An image with its documents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageDetail {
    /// The list entry.
    pub info: ImageInfo,
    /// Manifest JSON for this platform.
    pub manifest: String,
    /// Configuration JSON.
    pub config: String,
    /// Chain id of the layers; empty when not unpacked.
    pub chain_id: String,
}

/// What a prune did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Removed references.
    pub images: Vec<String>,
    /// Stale leases that were released.
    pub leases_released: u32,
    /// Leases that are in use.
    pub leases_retained: u32,
}

/// Id of a container in containerd: `<space>_<stack>_<cell>_<container>`, or,
/// where containerd's grammar (76 characters, no doubled separators) does not
/// allow that, the readable front of it and a digest of the whole.
pub fn container_id(cell: &CellRef, container: &Name) -> String {
    use sha2::{Digest, Sha256};

    let full = format!("{}_{}_{}_{container}", cell.space, cell.stack, cell.cell);
    if full.len() <= 76 && !full.contains("--") {
        return full;
    }
    let digest = Sha256::digest(full.as_bytes());
    let hex: String = digest.iter().take(10).map(|b| format!("{b:02x}")).collect();
    let front: String = full
        .replace("--", "-")
        .replace("--", "-")
        .chars()
        .take(55)
        .collect();
    format!("{}.{hex}", front.trim_end_matches(['-', '_']))
}

/// The cell whose container has this id in the namespace of its realm; none when
/// the id is a shortened one, which does not tell. See [`container_id`].
pub fn container_owner(realm: &RealmRef, id: &str) -> Option<CellRef> {
    // Names have no `_`, and only a shortened id has `--` or other parts.
    let parts: Vec<&str> = id.split('_').collect();
    let [space, stack, cell, container] = parts[..] else {
        return None;
    };
    let cell = realm
        .space(space.parse().ok()?)
        .stack(stack.parse().ok()?)
        .cell(cell.parse().ok()?);
    let container: Name = container.parse().ok()?;
    (container_id(&cell, &container) == id).then_some(cell)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_its_owner_unless_it_was_shortened() {
        let name = |text: &str| text.parse::<Name>().expect("a name");
        let realm = RealmRef { realm: name("r") };
        let cell = |cell: &str| realm.space(name("s")).stack(name("t")).cell(name(cell));
        let id = container_id(&cell("web-1"), &name("main"));
        assert_eq!(container_owner(&realm, &id), Some(cell("web-1")));
        for shortened in [cell(&"w".repeat(63)), cell("a--b")] {
            let id = container_id(&shortened, &name("a-container"));
            assert_eq!(container_owner(&realm, &id), None, "{id}");
        }
        for foreign in ["", "main", "a_b_c", "a_b_c_d_e", "A_b_c_d"] {
            assert_eq!(container_owner(&realm, foreign), None, "{foreign}");
        }
    }
}
