//! start, stop, kill, restart, wait and logs of one cell.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;

use super::Controller;
use super::execute::{Target, Watch, container_not_found, panicked};
use super::plan::{Verdict, plan_cut, verdicts};
use super::reconcile::{LOCK_WAIT, Outcome};
use super::stream::{Emitter, cell_ref, result_for};
use crate::api::{Error, Result, v1};
use crate::model::{
    Cell, CellRef, CellState, ContainerState, ContainerStatus, Name, ObjectRef, Progress, RunState,
};
use crate::runtime::{container_id, log};
use crate::store::LockMode;

/// Longest pause between two looks at a container that does not run.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Pause between two attempts to end a grace.
const KILL_AGAIN: Duration = Duration::from_millis(100);

impl Controller {
    /// Changes the operator's intent and makes it so.
    pub(super) async fn change_run_state(
        &self,
        request: &v1::TransitionRequest,
        emit: &Emitter,
    ) -> Result<()> {
        let at = cell_ref(&request.name, request.scope.as_ref())?;
        let object: ObjectRef = at.clone().into();
        let (done, run_state) = match request.action.as_str() {
            "start" => ("started", RunState::Running),
            "stop" => ("stopped", RunState::Stopped),
            "kill" => ("killed", RunState::Stopped),
            "restart" => ("restarted", RunState::Running),
            other => {
                return Err(Error::invalid(
                    "UnknownAction",
                    format!("unknown action {other:?}"),
                ));
            }
        };
        self.get_cell(&at)?;
        self.require_containerd().await?;
        let lock = self.store.lock(&object, LockMode::Exclusive, LOCK_WAIT);
        let _lock = tokio::select! {
            lock = lock => lock?,
            never = self.cut_graces(&at), if request.action == "kill" => match never {},
        };
        let mut cell = self.get_cell(&at)?;
        if cell.meta.deletion.is_some() {
            return Err(Error::new(
                crate::api::Code::Conflict,
                "BeingDeleted",
                format!("{at} is being deleted"),
            ));
        }
        let grace = match request.action.as_str() {
            "kill" => Some(0),
            _ => request.grace_seconds.and_then(|g| u32::try_from(g).ok()),
        };
        let options = self.options(grace);
        let was_stopped = cell.spec.run_state == RunState::Stopped;
        cell.spec.run_state = run_state;
        let restart = request.action == "restart";
        let anew = restart
            || (run_state == RunState::Running
                && (was_stopped || self.anything_ended(&cell).await?));
        if anew {
            cell.spec.run_generation += 1;
        }
        if restart {
            cell.spec.restart_generation = cell.spec.run_generation;
        }
        self.store.put_cell(&cell)?;
        emit.watch.progress.send(Progress {
            id: at.to_string(),
            text: format!("{} of cell {}", request.action, at.cell),
            recorded: true,
            ..Progress::default()
        });
        // The loop would go on with it anyhow, but does not know of the grace.
        let watch = Watch {
            cancel: match self.is_live() {
                true => self.ending.clone(),
                false => emit.watch.cancel.clone(),
            },
            ..emit.watch.clone()
        };
        let outcome = self.reconcile_cell(cell, &options, &watch).await?;
        if let Some(due) = outcome.again {
            self.enqueue_at(object.clone(), due);
        }
        let steps = outcome.steps;
        let action = if steps.is_empty() { "unchanged" } else { done };
        emit.result(v1::ResourceResult {
            steps,
            object: self.external(&object)?,
            ..result_for(&object, action)
        });
        Ok(())
    }

    /// Ends the grace that anybody, in whatever process, gives a cell, again and
    /// again for as long as it is polled.
    async fn cut_graces(&self, at: &CellRef) -> std::convert::Infallible {
        loop {
            if let Err(error) = self.cut_grace(at).await {
                tracing::debug!(cell = %at, %error, "nothing is cut short");
            }
            tokio::time::sleep(KILL_AGAIN).await;
        }
    }

    /// Takes no lock: whoever holds it waits for the end of what is killed here.
    async fn cut_grace(&self, at: &CellRef) -> Result<()> {
        let context = self.cell_context(self.get_cell(at)?)?;
        let observed = self.observe_cell(&context).await?;
        let plan = plan_cut(&observed);
        self.execute(&Target::from(&context), &plan, &Watch::default())
            .await
    }

    /// Whether a container of a running cell has ended for good; `start` then
    /// starts it again.
    async fn anything_ended(&self, cell: &Cell) -> Result<bool> {
        let context = self.cell_context(cell.clone())?;
        let observed = self.observe_cell(&context).await?;
        let ended = verdicts(cell, &observed)
            .iter()
            .any(|(_, v)| matches!(v, Verdict::Done | Verdict::Down));
        Ok(ended)
    }

    /// Waits for the root or sole (or named) container of a cell to end for
    /// good, driving its restart policy meanwhile, so that it also works where
    /// no daemon runs.
    pub(super) async fn wait_for_end(&self, request: &v1::WaitRequest) -> Result<v1::WaitResponse> {
        let at = cell_ref(&request.name, request.scope.as_ref())?;
        let name = pick(&self.get_cell(&at)?, &request.container)?;
        let namespace = self.parents(&at.clone().into())?.namespace;
        let id = container_id(&at, &name);
        let mut last: Option<i32> = None;
        loop {
            let outcome = self.reconcile_apart(at.clone().into()).await?;
            let Some(cell) = outcome.cell else {
                // Deleted after its end (`autoDelete`), or by somebody.
                return match last {
                    Some(exit_code) => Ok(v1::WaitResponse { exit_code }),
                    None => Err(super::errors::not_found(&at.into())),
                };
            };
            let status = cell.status.containers.iter().find(|s| s.name == name);
            if let Some(exit_code) = status.and_then(|s| final_code(s, &cell, last)) {
                return Ok(v1::WaitResponse { exit_code });
            }
            match self.runtime.wait_task(&namespace, &id).await {
                Ok(exit) => last = Some(exit.code),
                Err(_) => tokio::time::sleep(pause_until(outcome.again)).await,
            }
        }
    }

    /// Reconciles in a task of its own: a caller who leaves cancels it, which it
    /// heeds between two steps and not in the middle of one.
    async fn reconcile_apart(&self, at: ObjectRef) -> Result<Outcome> {
        let watch = Watch::default();
        let _guard = watch.cancel.clone().drop_guard();
        let Some(me) = self.me.upgrade() else {
            return Ok(Outcome::default());
        };
        let work = async move { me.reconcile(&at, &watch).await };
        self.tasks.spawn(work).await.map_err(panicked)?
    }

    /// Output of a container, from its log files.
    pub(super) async fn read_logs(
        &self,
        request: &v1::LogsRequest,
    ) -> Result<BoxStream<'static, Result<v1::LogChunk>>> {
        let at = cell_ref(&request.name, request.scope.as_ref())?;
        let name = pick(&self.get_cell(&at)?, &request.container)?;
        let since = match request.since.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| {
                Error::invalid(
                    "BadTime",
                    format!("since: {text:?} is not an RFC 3339 time"),
                )
            })?),
        };
        let follow = request
            .follow
            .then(|| self.watch_for_end(at.clone(), name.clone()));
        let options = log::ReadOptions {
            follow,
            tail: request.tail.and_then(|n| u64::try_from(n).ok()),
            since,
        };
        let lines = log::read(self.store.log_path(&at, &name), options);
        Ok(Box::pin(lines.map(|line| {
            let line = line?;
            let mut data = line.data;
            if !line.partial {
                data.push(b'\n');
            }
            Ok(v1::LogChunk {
                timestamp: line.timestamp.to_string(),
                stream: if line.stderr { "stderr" } else { "stdout" }.to_owned(),
                data,
            })
        })))
    }

    /// Whether the store has the container, or cannot tell.
    fn has(&self, at: &CellRef, name: &Name) -> bool {
        match self.store.cell(at) {
            Ok(Some(cell)) => cell.spec.containers.iter().any(|c| c.id == *name),
            Ok(None) => false,
            Err(_) => true,
        }
    }

    /// A signal that turns true when the container has ended for good.
    fn watch_for_end(&self, at: CellRef, name: Name) -> tokio::sync::watch::Receiver<bool> {
        let (sender, receiver) = tokio::sync::watch::channel(false);
        let Some(me) = self.me.upgrade() else {
            return receiver;
        };
        tokio::spawn(async move {
            let request = v1::WaitRequest {
                name: at.cell.to_string(),
                scope: Some(super::stream::scope_of(&at.clone().into())),
                container: name.to_string(),
            };
            let end = async {
                // What fails for a while (containerd is away, somebody holds the
                // cell) is not its end; that the container is gone is.
                while me.wait_for_end(&request).await.is_err() && me.has(&at, &name) {
                    tokio::time::sleep(LONGEST_PAUSE).await;
                }
            };
            tokio::select! {
                () = end => {
                    let _ = sender.send(true);
                }
                () = sender.closed() => {}
            }
        });
        receiver
    }
}

/// Until a date, but not for long: others may start the container sooner.
fn pause_until(due: Option<jiff::Timestamp>) -> Duration {
    let left = due.map(|due| due.duration_since(jiff::Timestamp::now()));
    let left = left.map(|left| Duration::try_from(left).unwrap_or_default());
    left.map_or(LONGEST_PAUSE, |left| left.min(LONGEST_PAUSE))
}

/// Code of a container that will not run again by itself. `seen` is the code it
/// was seen to end with: after a stop the status may know none.
fn final_code(status: &ContainerStatus, cell: &Cell, seen: Option<i32>) -> Option<i32> {
    let over = match status.state {
        ContainerState::Exited | ContainerState::Error => status.next_restart_at.is_none(),
        ContainerState::Stopped => cell.spec.run_state == RunState::Stopped,
        // Taken down with the root, or never run: the cell's end is its end.
        _ => matches!(cell.status.state, CellState::Exited | CellState::Error),
    };
    over.then(|| status.exit_code.or(seen).unwrap_or(0))
}

/// The container a verb means: the named one, the root, or the sole one.
pub(super) fn pick(cell: &Cell, named: &str) -> Result<Name> {
    let all = &cell.spec.containers;
    if !named.is_empty() {
        return all
            .iter()
            .find(|c| c.id == *named)
            .map(|c| c.id.clone())
            .ok_or_else(|| container_not_found(&cell.at, named));
    }
    if let Some(root) = all.iter().find(|c| c.root) {
        return Ok(root.id.clone());
    }
    match all.as_slice() {
        [only] => Ok(only.id.clone()),
        many => {
            let mut names: Vec<String> = many.iter().map(|c| c.id.to_string()).collect();
            names.sort();
            Err(Error::invalid(
                "ContainerRequired",
                format!(
                    "{} has {} containers: {}",
                    cell.at,
                    many.len(),
                    names.join(", ")
                ),
            )
            .hint("name one with --container"))
        }
    }
}
