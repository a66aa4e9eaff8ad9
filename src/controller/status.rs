//! Derivation of status from intent and observation. Pure, like `plan`.

use super::errors::UNREACHABLE;
use super::plan::{Options, Verdict, verdicts};
use crate::apply::spec_hash;
use crate::model::{
    Cell, CellState, CellStatus, ContainerSpec, ContainerState, ContainerStatus, NetworkStatus,
    ObservedCell, ObservedContainer, RunState, TaskExit, TaskState, label,
};

/// The run that a record belongs to; 0 when it is of none, as after it was told
/// to end.
pub fn run_of(record: &ObservedContainer) -> i64 {
    let run = record.labels.get(label::RUN);
    run.and_then(|run| run.parse().ok()).unwrap_or_default()
}

/// Whether a record was made for this spec, and not for an earlier one.
pub fn is_current(spec: &ContainerSpec, record: &ObservedContainer) -> bool {
    record.labels.get(label::SPEC_HASH) == Some(&spec_hash(spec))
}

/// How a container ended in the given run, from its stopped task or, when that
/// is gone, from what was recorded; `None` when it has not ended in this run.
/// The task of an earlier spec says nothing of this one.
pub fn ended(
    run_generation: i64,
    spec: &ContainerSpec,
    status: Option<&ContainerStatus>,
    record: Option<&ObservedContainer>,
) -> Option<TaskExit> {
    if let Some(record) = record.filter(|r| is_current(spec, r)) {
        let this_run = run_of(record) == run_generation;
        if let (true, Some(TaskState::Stopped(exit))) = (this_run, record.task.map(|t| t.state)) {
            return Some(exit);
        }
    }
    let status = status.filter(|s| s.run_generation == run_generation)?;
    if !matches!(status.state, ContainerState::Exited | ContainerState::Error) {
        return None;
    }
    Some(TaskExit {
        code: status.exit_code?,
        at: status.finished_at?,
    })
}

/// The status of a cell after an observation. What cannot be observed any more
/// (an exit whose task was removed, counters) is carried over from before.
pub fn derive(cell: &Cell, observed: &ObservedCell, cgroup_path: &str, netns: &str) -> CellStatus {
    let before = &cell.status;
    let verdicts = verdicts(cell, observed);
    let containers: Vec<ContainerStatus> = verdicts
        .iter()
        .map(|(spec, verdict)| {
            let known = before.containers.iter().find(|s| s.name == spec.id);
            let record = observed.containers.get(&spec.id);
            let mut status = container(cell, known, record, *verdict, spec, observed.now);
            let version = observed.secrets.get(&spec.id);
            let old = record.is_some_and(|r| r.labels.get(label::SECRETS) != version);
            if status.state == ContainerState::Ready && version.is_some() && old {
                "a secret has changed since it was started; restart the cell to use it"
                    .clone_into(&mut status.message);
            }
            status
        })
        .collect();
    let (state, reason, message) = summarise(cell, &containers, &verdicts);
    let network = network(observed, netns);
    let ready_at = match state {
        CellState::Ready if before.state == CellState::Ready => before.ready_at,
        CellState::Ready => Some(observed.now),
        _ => before.ready_at,
    };
    CellStatus {
        state,
        reason,
        message,
        observed_generation: before.observed_generation,
        cgroup_path: cgroup_path.to_owned(),
        network,
        containers,
        ready_at,
    }
}

fn network(observed: &ObservedCell, netns: &str) -> NetworkStatus {
    let attachment = observed
        .sandbox
        .attachment
        .clone()
        .filter(|_| observed.sandbox.attached);
    let Some(a) = attachment else {
        return NetworkStatus::default();
    };
    NetworkStatus {
        name: a.network,
        bridge: a.bridge,
        subnet: String::new(),
        addresses: a.addresses,
        interface: a.interface,
        host_interface: a.host_interface,
        netns: netns.to_owned(),
    }
}

fn container(
    cell: &Cell,
    known: Option<&ContainerStatus>,
    record: Option<&ObservedContainer>,
    verdict: Verdict,
    spec: &ContainerSpec,
    now: jiff::Timestamp,
) -> ContainerStatus {
    let run = cell.spec.run_generation;
    let mut status = known
        .cloned()
        .unwrap_or_else(|| ContainerStatus::new(spec.id.clone()));
    let new_run = status.run_generation != run;
    let exit = ended(run, spec, known, record);
    if new_run {
        status.restart_count = 0;
    }
    status.next_restart_at = None;
    let pid_before = std::mem::take(&mut status.pid);
    if let Some(record) = record {
        status.containerd_id.clone_from(&record.id);
    }
    // A task of another spec does not take an end back that is known of this one.
    let own = record.filter(|r| exit.is_none() || is_current(spec, r));
    let task = own.and_then(|r| r.task);
    match task.map(|t| (t.state, t.pid)) {
        Some((TaskState::Running, pid)) => {
            status.state = ContainerState::Ready;
            status.pid = pid;
            status.message.clear();
            if record.is_some_and(|r| run_of(r) == run) {
                if new_run && pid != pid_before {
                    // Started by somebody who did not live to note it.
                    status.started_at = Some(now);
                    status.finished_at = None;
                    status.exit_code = None;
                }
                status.run_generation = run;
            }
        }
        Some((TaskState::Paused, pid)) => {
            status.state = ContainerState::Paused;
            status.pid = pid;
        }
        Some((TaskState::Unknown, _)) => status.state = ContainerState::Unknown,
        Some((TaskState::Stopped(last), _)) => {
            status.exit_code = Some(last.code);
            status.finished_at = Some(last.at);
            // What was stopped to be started anew has not ended for good.
            status.state = match verdict {
                Verdict::Run(_) if exit.is_none() => ContainerState::Pending,
                _ => ended_state(cell, last),
            };
            if exit.is_some() {
                status.run_generation = run;
            }
        }
        Some((TaskState::Created, _)) => status.state = ContainerState::Pending,
        None => {
            status.state = match (exit, record) {
                (Some(exit), _) => ended_state(cell, exit),
                _ if cell.spec.run_state == RunState::Stopped => ContainerState::Stopped,
                (None, Some(_)) => ContainerState::Pending,
                (None, None) => ContainerState::NotCreated,
            };
        }
    }
    if let Verdict::Wait(due) = verdict {
        status.next_restart_at = Some(due);
    }
    status
}

fn ended_state(cell: &Cell, exit: TaskExit) -> ContainerState {
    if cell.spec.run_state == RunState::Stopped {
        ContainerState::Stopped
    } else if exit.code == 0 {
        ContainerState::Exited
    } else {
        ContainerState::Error
    }
}

fn summarise(
    cell: &Cell,
    containers: &[ContainerStatus],
    verdicts: &[(&ContainerSpec, Verdict)],
) -> (CellState, String, String) {
    let none = String::new;
    if cell.spec.run_state == RunState::Stopped {
        let up = containers.iter().find(|c| c.state == ContainerState::Ready);
        return match up {
            None => (CellState::Stopped, none(), none()),
            Some(c) => (
                CellState::Degraded,
                "Stopping".into(),
                format!("container {} still runs", c.name),
            ),
        };
    }
    if let Some(c) = containers
        .iter()
        .find(|c| c.state == ContainerState::Unknown)
    {
        let text = format!("container {} cannot be observed", c.name);
        return (CellState::Unknown, "ContainerUnknown".into(), text);
    }
    let running = containers
        .iter()
        .any(|c| matches!(c.state, ContainerState::Ready | ContainerState::Paused));
    let waits = verdicts
        .iter()
        .zip(containers)
        .find(|((_, v), _)| matches!(v, Verdict::Wait(_)));
    let failed = containers.iter().find(|c| c.state == ContainerState::Error);
    let describe = |c: &ContainerStatus| {
        format!(
            "container {} exited with code {}",
            c.name,
            c.exit_code.unwrap_or(-1)
        )
    };
    if let Some((_, c)) = waits {
        let text = format!("{}; it is restarted after a pause", describe(c));
        return (CellState::Degraded, "RestartBackOff".into(), text);
    }
    let all_done = verdicts
        .iter()
        .all(|(_, v)| matches!(v, Verdict::Done | Verdict::Down));
    match (running, failed) {
        (true, Some(c)) => (CellState::Degraded, "WorkloadFailed".into(), describe(c)),
        (true, None) if all_done => (CellState::Degraded, "Ending".into(), none()),
        (true, None) => {
            let missing = containers.iter().zip(verdicts).find(|(c, (_, v))| {
                matches!(v, Verdict::Run(_))
                    && !matches!(c.state, ContainerState::Ready | ContainerState::Paused)
            });
            match missing {
                None => (CellState::Ready, none(), none()),
                Some((c, _)) => (
                    CellState::Degraded,
                    "Starting".into(),
                    format!("container {} does not run", c.name),
                ),
            }
        }
        (false, Some(c)) if all_done => (CellState::Error, "WorkloadFailed".into(), describe(c)),
        (false, _) if all_done => (CellState::Exited, none(), none()),
        (false, _) => (CellState::Pending, none(), none()),
    }
}

/// A cell that cannot be observed now, and why: what was last seen is told as
/// such, and not as what is.
pub fn last_seen(mut cell: Cell, why: &str) -> Cell {
    let status = &mut cell.status;
    status.message = format!("last seen {:?}: {why}", status.state);
    UNREACHABLE.clone_into(&mut status.reason);
    status.state = CellState::Unknown;
    for container in &mut status.containers {
        container.message = format!("last seen {:?}", container.state);
        container.state = ContainerState::Unknown;
    }
    cell
}

/// When the cell must be looked at again, if time alone changes its plan.
pub fn next_look(
    cell: &Cell,
    observed: &ObservedCell,
    _options: &Options,
) -> Option<jiff::Timestamp> {
    verdicts(cell, observed)
        .iter()
        .filter_map(|(_, v)| match v {
            Verdict::Wait(due) => Some(*due),
            _ => None,
        })
        .min()
}
