//! `execute`: carries a plan out through the managers, step by step.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::Controller;
use super::context::{CellContext, Parents, main_address};
use super::errors::{cancelled, not_found};
use super::hostfiles;
use super::step::{Plan, Step};
use crate::api::{Code, Error, Result};
use crate::apply::spec_hash;
use crate::model::{
    Cell, CellRef, ContainerSpec, Labels, Name, ObjectRef, Progress, ProgressSink, PullPolicy,
    label,
};
use crate::network::SpaceNetwork;
use crate::runtime::{
    self, ContainerRequest, HELLO_IMAGE, PullRequest, SandboxNamespaces, TaskRequest, container_id,
};
use crate::sys::failpoint::Failpoint;

/// How long a killed task may take to be reported as ended.
const KILL_WAIT: Duration = Duration::from_secs(10);
/// SIGTERM and SIGKILL, signal(7).
const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// What the steps of one execution are about.
pub(super) struct Target<'a> {
    /// The object.
    pub at: ObjectRef,
    /// Its parents.
    pub parents: &'a Parents,
    /// The cell, when it is one.
    pub cell: Option<&'a Cell>,
}

impl<'a> From<&'a CellContext> for Target<'a> {
    fn from(context: &'a CellContext) -> Self {
        Self {
            at: context.cell.at.clone().into(),
            parents: &context.parents,
            cell: Some(&context.cell),
        }
    }
}

/// How long work is told about and stopped.
#[derive(Clone, Default)]
pub(super) struct Watch {
    /// Where progress goes.
    pub progress: ProgressSink,
    /// Cancelled at the next step boundary (pulls and waits at once).
    pub cancel: CancellationToken,
}

impl Controller {
    /// Runs a plan to its end, its first error or its cancellation; see
    /// [`Controller::carry`].
    pub(super) async fn execute(
        &self,
        target: &Target<'_>,
        plan: &Plan,
        watch: &Watch,
    ) -> Result<()> {
        self.carry(target, plan, watch).await.1
    }

    /// Runs a plan. A container that fails, or whose image does, does not keep
    /// the others of its cell from being started. Returns what was started, also
    /// beside an error.
    pub(super) async fn carry(
        &self,
        target: &Target<'_>,
        plan: &Plan,
        watch: &Watch,
    ) -> (BTreeSet<Name>, Result<()>) {
        let mut started = BTreeSet::new();
        let mut failed: BTreeSet<Name> = BTreeSet::new();
        let mut first: Option<Error> = None;
        for stage in &plan.stages {
            let lanes = stage.iter().filter(|lane| {
                let mut about = lane.iter().filter_map(Step::container);
                !about.any(|c| failed.contains(c))
            });
            let lanes: Vec<_> = lanes.collect();
            let work = lanes.iter().map(|lane| self.run_lane(target, lane, watch));
            let mut fatal = false;
            for (lane, done) in lanes.iter().zip(join_all(work).await) {
                let Err((step, error)) = done else {
                    started.extend(lane.iter().filter_map(Step::starts).cloned());
                    continue;
                };
                match concerned(target, plan, step) {
                    Some(containers) if error.code != Code::Cancelled => failed.extend(containers),
                    _ => fatal = true,
                }
                first.get_or_insert(error);
            }
            if fatal || all_failed(target, &failed) {
                break;
            }
        }
        (started, first.map_or(Ok(()), Err))
    }

    async fn run_lane<'a>(
        &self,
        target: &Target<'_>,
        lane: &'a [Step],
        watch: &Watch,
    ) -> Result<(), (&'a Step, Error)> {
        for step in lane {
            if watch.cancel.is_cancelled() {
                return Err((step, cancelled(&target.at)));
            }
            tracing::debug!(object = %target.at, %step, "step");
            if step.may_be_long() {
                watch.progress.send(Progress {
                    id: target.at.to_string(),
                    text: step.to_string(),
                    ..Progress::default()
                });
            }
            self.run_step(target, step, watch)
                .await
                .map_err(|error| (step, error.context(format!("{}: {step}", target.at))))?;
            STEP.hit();
        }
        Ok(())
    }

    async fn run_step(&self, target: &Target<'_>, step: &Step, watch: &Watch) -> Result<()> {
        let namespace = &target.parents.namespace;
        match step {
            Step::EnsureNamespace => {
                let labels = self.realm_labels(&target.parents.realm.at.realm);
                self.runtime.ensure_namespace(namespace, &labels).await?;
            }
            Step::RemoveNamespace => self.runtime.remove_namespace(namespace).await?,
            Step::EnsureCgroup => {
                self.cgroups
                    .ensure(&self.settings.cgroup_path(&target.at), true)?;
            }
            Step::RemoveCgroup => {
                let cgroups = self.cgroups.clone();
                let path = self.settings.cgroup_path(&target.at);
                blocking(move || cgroups.remove(&path)).await??;
            }
            Step::EnsureNetwork => self.network.ensure_network(network(target)?).await?,
            Step::RemoveNetwork => self.network.remove_network(network(target)?).await?,
            Step::RemoveDocument => self.store.remove(&target.at)?,
            Step::PullImage { image, policy } => {
                self.pull(target.parents, image, *policy, watch).await?;
            }
            _ => {
                let cell = target.cell.ok_or_else(|| not_found(&target.at))?;
                self.run_cell_step(target, cell, step, watch).await?;
            }
        }
        Ok(())
    }

    async fn run_cell_step(
        &self,
        target: &Target<'_>,
        cell: &Cell,
        step: &Step,
        watch: &Watch,
    ) -> Result<()> {
        let namespace = &target.parents.namespace;
        let at = &cell.at;
        match step {
            Step::CreateSandbox => {
                self.network.create_sandbox(at, cell.host_network()).await?;
            }
            Step::RemoveSandbox => self.network.remove_sandbox(at).await?,
            Step::AttachNetwork => {
                self.network.attach(at, network(target)?).await?;
            }
            Step::DetachNetwork => self.network.detach(at, network(target)?).await?,
            Step::WriteHostFiles => self.write_host_files(cell).await?,
            Step::CreateContainer { container } => {
                let request = self.container_request(target, cell, container)?;
                self.runtime.create_container(&request).await?;
            }
            Step::LabelRun { id, .. } => {
                let labels = run_label(cell.spec.run_generation);
                self.runtime.set_labels(namespace, id, &labels).await?;
            }
            Step::LimitContainer { container, limits } => {
                let path = self.settings.container_cgroup_path(at, container);
                self.cgroups.ensure(&path, false)?;
                self.cgroups.set_limits(&path, limits)?;
            }
            Step::Stage { container } => {
                let spec = container_spec(cell, container)?;
                let id = container_id(at, container);
                let user = self.runtime.container_user(namespace, &id).await?;
                self.stage(cell, spec, user)?;
                let labels = self.secrets_label(cell, spec);
                self.runtime.set_labels(namespace, &id, &labels).await?;
            }
            Step::Unstage { container } => self.unstage(at, container)?,
            Step::RemoveStaging => self.remove_staging(at)?,
            Step::CreateTask { container } => {
                let request = TaskRequest {
                    namespace: namespace.clone(),
                    id: container_id(at, container),
                    log: self.store.log_path(at, container),
                };
                self.runtime.create_task(&request).await?;
            }
            Step::StartTask { container } => {
                let id = container_id(at, container);
                self.runtime.start_task(namespace, &id).await?;
            }
            Step::StopTask { id, grace, .. } => {
                self.stop_task(target, id, *grace, watch).await?;
            }
            Step::RemoveTask { id, .. } => {
                self.runtime.remove_task(namespace, id).await?;
            }
            Step::RemoveContainer { id, .. } => {
                self.runtime.remove_container(namespace, id).await?;
            }
            Step::RemoveLog { container } => {
                runtime::log::remove(&self.store.log_path(at, container))?;
            }
            // The steps of every object were handled by the caller.
            _ => {}
        }
        Ok(())
    }

    /// Asks politely, waits, then kills everything in the container. The record
    /// first loses its run: should we not live to see the end, it is neither
    /// taken for one by itself nor for something that goes on. It keeps the
    /// grace, for whoever goes on then.
    async fn stop_task(
        &self,
        target: &Target<'_>,
        id: &str,
        grace: u32,
        watch: &Watch,
    ) -> Result<()> {
        let runtime = &self.runtime;
        let namespace = &target.parents.namespace;
        let mut labels = run_label(0);
        let given = jiff::SignedDuration::from_secs(grace.into());
        let interval = format!("{}/{given}", jiff::Timestamp::now());
        labels.insert(label::GRACE.to_owned(), interval);
        match runtime.set_labels(namespace, id, &labels).await {
            Ok(()) | Err(runtime::Error::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        if grace > 0 {
            runtime.signal_task(namespace, id, SIGTERM, false).await?;
            let grace = Duration::from_secs(grace.into());
            tokio::select! {
                ended = tokio::time::timeout(grace, runtime.wait_task(namespace, id)) => match ended {
                    Ok(Ok(_) | Err(runtime::Error::NotFound(_))) => return Ok(()),
                    Ok(Err(error)) => return Err(error.into()),
                    Err(_) => {}
                },
                () = watch.cancel.cancelled() => {
                    return Err(Error::new(Code::Cancelled, "Cancelled", "cancelled during the grace period"));
                }
            }
        }
        runtime.signal_task(namespace, id, SIGKILL, true).await?;
        match tokio::time::timeout(KILL_WAIT, runtime.wait_task(namespace, id)).await {
            Ok(Ok(_) | Err(runtime::Error::NotFound(_))) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Error::new(
                Code::Timeout,
                "TaskSurvived",
                format!("task {id} is still there {KILL_WAIT:?} after SIGKILL"),
            )
            .hint("a process of it may hang in the kernel; see `ps -o pid,stat,wchan`")),
        }
    }

    async fn pull(
        &self,
        parents: &Parents,
        image: &str,
        policy: PullPolicy,
        watch: &Watch,
    ) -> Result<()> {
        let runtime = &self.runtime;
        let normalised = runtime::image::normalise(image)?;
        if normalised == HELLO_IMAGE {
            runtime
                .ensure_builtin_image(&parents.namespace, &self.settings.program)
                .await?;
            return Ok(());
        }
        if normalised.starts_with("kukeon.internal/") {
            return Err(runtime::Error::ImageNotFound(normalised).into());
        }
        if policy == PullPolicy::Never {
            let error: Error = runtime::Error::ImageNotFound(normalised).into();
            return Err(error.hint("its pull policy is `never`: load it with `kuke image load`"));
        }
        let request = PullRequest {
            namespace: parents.namespace.clone(),
            reference: image.to_owned(),
            platform: None,
            credentials: self.logins(&parents.realm.spec.credentials),
        };
        tokio::select! {
            pulled = runtime.pull_image(&request, watch.progress.clone()) => {
                pulled?;
                Ok(())
            }
            () = watch.cancel.cancelled() => Err(Error::new(
                Code::Cancelled,
                "Cancelled",
                format!("pull of {image} was cancelled"),
            )),
        }
    }

    async fn write_host_files(&self, cell: &Cell) -> Result<()> {
        let at: ObjectRef = cell.at.clone().into();
        let attachment = self
            .network
            .observe_sandbox(&cell.at, cell.host_network())
            .await?
            .attachment;
        let attachment = attachment.unwrap_or_default();
        let hosts = hostfiles::hosts(&cell.at.cell, main_address(&attachment.addresses));
        let resolv =
            hostfiles::resolv_conf(&hostfiles::host_resolv_conf(), &attachment.nameservers);
        // Bound into running containers: the inode must stay.
        self.store
            .rewrite_file(&at, "hosts", hosts.as_bytes(), 0o644)?;
        self.store.rewrite_file(
            &at,
            "hostname",
            format!("{}\n", cell.at.cell).as_bytes(),
            0o644,
        )?;
        self.store
            .rewrite_file(&at, "resolv.conf", resolv.as_bytes(), 0o644)?;
        Ok(())
    }

    fn container_request(
        &self,
        target: &Target<'_>,
        cell: &Cell,
        container: &Name,
    ) -> Result<ContainerRequest> {
        let spec = container_spec(cell, container)?;
        let at: ObjectRef = cell.at.clone().into();
        let pins = self.network.sandbox_paths(&cell.at);
        let host_network = cell.host_network();
        let file = |name: &str| self.store.file_path(&at, name);
        let mut files = vec![(file("hostname"), "/etc/hostname".to_owned())];
        if !host_network {
            files.push((file("hosts"), "/etc/hosts".to_owned()));
            files.push((file("resolv.conf"), "/etc/resolv.conf".to_owned()));
        } else {
            for path in ["/etc/hosts", "/etc/resolv.conf"] {
                if std::path::Path::new(path).exists() {
                    files.push((path.into(), path.to_owned()));
                }
            }
        }
        let mut labels = self.container_labels(cell, spec);
        labels.extend(run_label(cell.spec.run_generation));
        labels.extend(self.secrets_label(cell, spec));
        let mut inside = spec.clone();
        inside.mounts = self.host_mounts(cell, spec)?;
        inside.env.extend(self.secret_env(cell, spec)?);
        Ok(ContainerRequest {
            namespace: target.parents.namespace.clone(),
            id: container_id(&cell.at, container),
            cell: cell.at.clone(),
            labels,
            spec: inside,
            image: runtime::image::normalise(&spec.image)?,
            sandbox: SandboxNamespaces {
                net: (!host_network).then_some(pins.net),
                ipc: Some(pins.ipc),
                uts: Some(pins.uts),
            },
            cgroup_path: self.settings.container_cgroup_path(&cell.at, container),
            files,
            secrets: self.secret_files(cell, spec),
        })
    }

    fn secrets_label(&self, cell: &Cell, spec: &ContainerSpec) -> Labels {
        let versions = self.secret_versions(&cell.at, spec);
        let label = versions.map(|versions| (label::SECRETS.to_owned(), versions));
        label.into_iter().collect()
    }

    fn container_labels(&self, cell: &Cell, spec: &ContainerSpec) -> Labels {
        let mut labels = cell.meta.labels.clone();
        labels.extend(self.owner_labels(&cell.at));
        labels.insert(label::CONTAINER.to_owned(), spec.id.to_string());
        labels.insert(label::SPEC_HASH.to_owned(), spec_hash(spec));
        labels
    }

    pub(super) fn realm_labels(&self, realm: &Name) -> Labels {
        Labels::from([
            (label::INSTANCE.to_owned(), self.settings.instance()),
            (label::REALM.to_owned(), realm.to_string()),
        ])
    }
}

/// The containers that cannot go on without a step; none when nothing can.
fn concerned(target: &Target<'_>, plan: &Plan, step: &Step) -> Option<Vec<Name>> {
    if let Some(container) = step.container() {
        return Some(vec![container.clone()]);
    }
    let (Step::PullImage { image, .. }, Some(cell)) = (step, target.cell) else {
        return None;
    };
    let need = |c: &&ContainerSpec| {
        let made =
            |step: &Step| matches!(step, Step::CreateContainer { container } if *container == c.id);
        c.image == *image && plan.steps().any(made)
    };
    let needing = cell.spec.containers.iter().filter(need);
    Some(needing.map(|c| c.id.clone()).collect())
}

/// Whether no container of a cell is left to go on with.
fn all_failed(target: &Target<'_>, failed: &BTreeSet<Name>) -> bool {
    let all = target.cell.map(|cell| &cell.spec.containers);
    all.is_some_and(|all| all.iter().all(|c| failed.contains(&c.id)))
}

fn run_label(run: i64) -> Labels {
    Labels::from([(label::RUN.to_owned(), run.to_string())])
}

fn network<'a>(target: &'a Target<'_>) -> Result<&'a SpaceNetwork> {
    target
        .parents
        .network
        .as_ref()
        .ok_or_else(|| not_found(&target.at))
}

/// A container of a cell, or the error that it is not there.
pub(super) fn container_spec<'a>(cell: &'a Cell, container: &Name) -> Result<&'a ContainerSpec> {
    cell.spec
        .containers
        .iter()
        .find(|c| c.id == *container)
        .ok_or_else(|| container_not_found(&cell.at, container.as_str()))
}

/// `ContainerNotFound`.
pub(super) fn container_not_found(at: &CellRef, container: &str) -> Error {
    Error::new(
        Code::NotFound,
        "ContainerNotFound",
        format!("container {container:?} not found in {at}"),
    )
}

/// Runs blocking work on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(panicked)
}

/// A task of ours that did not end by itself.
pub(super) fn panicked(error: tokio::task::JoinError) -> Error {
    Error::failed("Panicked", format!("internal work failed: {error}"))
}

/// For crash tests: hit right after every step.
static STEP: Failpoint = Failpoint::new("KUKEON_FAILPOINT");
