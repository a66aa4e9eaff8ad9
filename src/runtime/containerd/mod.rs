//! The real containerd.

mod events;
mod exec;
mod fifo;
mod filter;
mod making;
mod namespaces;
mod records;
mod runc;
mod shims;
mod snapshots;
mod tasks;

pub(super) use namespaces::snapshotters;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::io::AsyncRead;
use tokio::sync::Mutex;

use super::{
    Connection, ContainerRequest, Error, ExecRequest, ExecSession, ImageDetail, ImageInfo,
    PruneReport, PullRequest, PushRequest, Result, Runtime, RuntimeEvent, TaskRequest, image,
    launch,
};
use crate::model::{
    Labels, ObservedContainer, ProgressSink, RegistryCredential, Settings, TaskExit,
};

/// How long a failure to find or bring up containerd is remembered, so that many
/// waiting calls do not each try anew.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// containerd manager of one instance. Finds containerd, or brings one up, at
/// the first call, and again when it has gone.
#[derive(Debug)]
pub struct Containerd {
    settings: Settings,
    link: Mutex<Link>,
}

#[derive(Debug, Default)]
enum Link {
    #[default]
    None,
    Up(Connection),
    Failed(Instant, Error),
}

impl Containerd {
    /// A manager for the instance; nothing is contacted yet.
    pub fn open(settings: Settings) -> Result<Self> {
        Ok(Self {
            settings,
            link: Mutex::default(),
        })
    }

    /// A manager on a connection that is there.
    pub fn with_connection(settings: Settings, connection: Connection) -> Self {
        Self {
            settings,
            link: Mutex::new(Link::Up(connection)),
        }
    }

    /// The connection; finds a containerd or brings one up when there is none.
    pub async fn connection(&self) -> Result<Connection> {
        let mut link = self.link.lock().await;
        match &*link {
            Link::Up(connection) => {
                if !connection.lost() {
                    return Ok(connection.clone());
                }
                if connection.version().await.is_ok() {
                    connection.recovered();
                    return Ok(connection.clone());
                }
            }
            Link::Failed(at, error) if at.elapsed() < RETRY_AFTER => return Err(error.clone()),
            _ => {}
        }
        match launch::connect(&self.settings).await {
            Ok(connection) => {
                *link = Link::Up(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                *link = Link::Failed(Instant::now(), error.clone());
                Err(error)
            }
        }
    }
}

#[async_trait]
impl Runtime for Containerd {
    async fn server_version(&self) -> Result<String> {
        self.connection().await?.version().await
    }

    async fn settle(&self) {
        let connection = match &*self.link.lock().await {
            Link::Up(connection) => connection.clone(),
            Link::None | Link::Failed(..) => return,
        };
        connection.releases.close();
        connection.releases.wait().await;
        connection.releases.reopen();
    }

    async fn namespaces(&self) -> Result<BTreeMap<String, Labels>> {
        namespaces::list(&self.connection().await?).await
    }

    async fn ensure_namespace(&self, namespace: &str, labels: &Labels) -> Result<bool> {
        namespaces::ensure(&self.connection().await?, namespace, labels).await
    }

    async fn remove_namespace(&self, namespace: &str) -> Result<()> {
        let connection = self.connection().await?;
        namespaces::remove(&connection, namespace).await?;
        runc::forget_namespace(&connection, namespace);
        Ok(())
    }

    async fn containers(&self, namespace: &str, labels: &Labels) -> Result<Vec<ObservedContainer>> {
        records::list(&self.connection().await?, namespace, labels).await
    }

    async fn create_container(&self, request: &ContainerRequest) -> Result<()> {
        records::create(&self.connection().await?, request).await
    }

    async fn set_labels(&self, namespace: &str, id: &str, labels: &Labels) -> Result<()> {
        records::set_labels(&self.connection().await?, namespace, id, labels).await
    }

    async fn container_user(&self, namespace: &str, id: &str) -> Result<(u32, u32)> {
        records::user(&self.connection().await?, namespace, id).await
    }

    async fn remove_container(&self, namespace: &str, id: &str) -> Result<()> {
        records::remove(&self.connection().await?, namespace, id).await
    }

    async fn create_task(&self, request: &TaskRequest) -> Result<()> {
        tasks::create(&self.connection().await?, &self.settings.program, request).await
    }

    async fn start_task(&self, namespace: &str, id: &str) -> Result<()> {
        tasks::start(&self.connection().await?, namespace, id).await
    }

    async fn signal_task(&self, namespace: &str, id: &str, signal: i32, all: bool) -> Result<()> {
        tasks::signal(&self.connection().await?, namespace, id, signal, all).await
    }

    async fn wait_task(&self, namespace: &str, id: &str) -> Result<TaskExit> {
        tasks::wait(&self.connection().await?, namespace, id).await
    }

    async fn remove_task(&self, namespace: &str, id: &str) -> Result<Option<TaskExit>> {
        tasks::remove(&self.connection().await?, namespace, id).await
    }

    async fn exec(&self, request: ExecRequest) -> Result<ExecSession> {
        let directory = self.settings.runtime_dir.join("exec");
        exec::start(&self.connection().await?, &directory, request).await
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<RuntimeEvent>>> {
        events::subscribe(&self.connection().await?).await
    }

    async fn images(&self, namespace: &str) -> Result<Vec<ImageInfo>> {
        image::list(&self.connection().await?, namespace).await
    }

    async fn image(&self, namespace: &str, reference: &str) -> Result<ImageDetail> {
        image::detail(&self.connection().await?, namespace, reference).await
    }

    async fn image_digests(&self, namespace: &str) -> Result<BTreeMap<String, String>> {
        image::digests(&self.connection().await?, namespace).await
    }

    async fn pull_image(&self, request: &PullRequest, progress: ProgressSink) -> Result<String> {
        image::pull(&self.connection().await?, request, progress).await
    }

    async fn push_image(&self, request: &PushRequest, progress: ProgressSink) -> Result<String> {
        image::push(&self.connection().await?, request, progress).await
    }

    async fn load_image(
        &self,
        namespace: &str,
        archive: Box<dyn AsyncRead + Send + Unpin>,
        progress: ProgressSink,
    ) -> Result<Vec<String>> {
        image::load(&self.connection().await?, namespace, archive, progress).await
    }

    async fn ensure_builtin_image(&self, namespace: &str, program: &Path) -> Result<bool> {
        image::ensure_builtin(&self.connection().await?, namespace, program).await
    }

    async fn remove_image(&self, namespace: &str, reference: &str) -> Result<String> {
        image::remove(&self.connection().await?, namespace, reference).await
    }

    async fn tags(
        &self,
        reference: &str,
        credentials: &[RegistryCredential],
    ) -> Result<(String, Vec<String>)> {
        image::tags(reference, credentials).await
    }

    async fn prune_images(&self, namespace: &str) -> Result<PruneReport> {
        let connection = self.connection().await?;
        snapshots::sweep(&connection, namespace).await?;
        image::prune(&connection, namespace).await
    }
}
