//! `plan`: what has to be done to get from what is observed to what is wanted.
//!
//! Pure: no I/O, no clock (the time is part of the observation), no randomness.
//! Creation, update, restart, repair and deletion are all this one function.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::status::{ended, is_current, run_of};
use super::step::{Plan, Step};
use crate::model::{
    Cell, ContainerSpec, ContainerStatus, Meta, Mount, MountKind, Name, ObservedCell,
    ObservedContainer, ObservedScope, PullPolicy, Resources, RestartPolicy, RunState, SecretTarget,
    SecretUse, TaskExit, TaskState, label,
};
use crate::runtime::container_id;
use crate::runtime::image::normalise;

/// Seconds between SIGTERM and SIGKILL where the manifest does not say.
pub const DEFAULT_GRACE: u32 = 10;
/// Longest pause before a restart, in seconds.
const MAX_BACKOFF: u64 = 300;
/// How far, in seconds, an exit may lie ahead of the time of a plan: it may have
/// come between the two readings of the clock.
const CLOCK_SKEW: i64 = 10;
/// A run of this many seconds makes earlier failures forgotten.
const RESET_AFTER: i64 = 600;
/// Restarts in a row that `on-failure` makes where the manifest does not say.
const DEFAULT_RETRIES: u32 = 5;

/// What a caller may choose for one execution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Seconds between SIGTERM and SIGKILL instead of each container's own.
    pub grace: Option<u32>,
    /// Limit for containers that state none, in bytes.
    pub default_memory: Option<u64>,
}

/// What shall be with one container now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It shall run; `true` when a restart policy says so.
    Run(bool),
    /// It waits for its restart until then.
    Wait(Timestamp),
    /// It has ended and stays so.
    Done,
    /// It shall not run.
    Down,
}

/// Steps for a realm, and for the part that every scope has.
pub fn plan_realm(meta: &Meta, observed: &ObservedScope) -> Plan {
    let mut plan = Plan::default();
    if meta.deletion.is_some() {
        plan.step_if(observed.namespace, Step::RemoveNamespace);
        plan.step_if(observed.cgroup, Step::RemoveCgroup);
        plan.step_if(true, Step::RemoveDocument);
    } else {
        plan.stage(vec![
            lane_if(!observed.namespace, Step::EnsureNamespace),
            lane_if(!observed.cgroup, Step::EnsureCgroup),
        ]);
    }
    plan
}

/// Steps for a space.
pub fn plan_space(meta: &Meta, observed: &ObservedScope) -> Plan {
    let mut plan = Plan::default();
    if meta.deletion.is_some() {
        // Removal is cheap and exact, so it is not made to depend on what was seen.
        plan.step_if(true, Step::RemoveNetwork);
        plan.step_if(observed.cgroup, Step::RemoveCgroup);
        plan.step_if(true, Step::RemoveDocument);
    } else {
        plan.stage(vec![
            lane_if(!observed.network.ready(), Step::EnsureNetwork),
            lane_if(!observed.cgroup, Step::EnsureCgroup),
        ]);
    }
    plan
}

/// Steps for a stack.
pub fn plan_stack(meta: &Meta, observed: &ObservedScope) -> Plan {
    let mut plan = Plan::default();
    if meta.deletion.is_some() {
        plan.step_if(observed.cgroup, Step::RemoveCgroup);
        plan.step_if(true, Step::RemoveDocument);
    } else {
        plan.step_if(!observed.cgroup, Step::EnsureCgroup);
    }
    plan
}

/// Steps for a secret or volume: nothing is on the host but its files, which
/// the store makes with the document.
pub fn plan_kept(meta: &Meta) -> Plan {
    let mut plan = Plan::default();
    plan.step_if(meta.deletion.is_some(), Step::RemoveDocument);
    plan
}

fn lane_if(wanted: bool, step: Step) -> Vec<Step> {
    if wanted { vec![step] } else { Vec::new() }
}

/// Steps for a cell and its containers.
pub fn plan_cell(cell: &Cell, observed: &ObservedCell, options: &Options) -> Plan {
    if cell.meta.deletion.is_some() {
        return plan_deletion(cell, observed, options);
    }
    let verdicts = verdicts(cell, observed);
    let runs = |v: &Verdict| matches!(v, Verdict::Run(_));
    let any_runs = verdicts.iter().any(|(_, v)| runs(v));
    let keep_sandbox = any_runs || verdicts.iter().any(|(_, v)| matches!(v, Verdict::Wait(_)));
    // Tasks that joined namespaces which are no longer pinned cannot be kept:
    // containers started later would land in other namespaces.
    let rebuild = any_runs && !observed.sandbox.pinned;

    let mut plan = Plan::default();
    let mut down = Vec::new();
    let mut up = Vec::new();
    let mut start = Vec::new();
    let mut pulls = Vec::new();

    for (spec, verdict) in &verdicts {
        let record = observed.containers.get(&spec.id);
        if !runs(verdict) {
            let mut lane = take_down(spec, record, observed, options, cell, rebuild);
            let waits = matches!(verdict, Verdict::Wait(_));
            lane.extend(unstage(&spec.id, observed, !waits));
            down.push(lane);
            continue;
        }
        let mut work = bring_up(cell, spec, record, observed, options, rebuild);
        work.down
            .extend(unstage(&spec.id, observed, !has_files(spec)));
        if work.starts && *verdict == Verdict::Run(true) {
            plan.restarts.push(spec.id.clone());
        }
        pulls.push(work.pull);
        down.push(work.down);
        up.push(work.up);
        if work.starts {
            start.push(vec![Step::StartTask {
                container: spec.id.clone(),
            }]);
        }
    }
    for (name, record) in strangers(cell, observed) {
        let mut lane = stop(name, record, grace(None, record, observed, options));
        lane.push(Step::RemoveContainer {
            container: name.clone(),
            id: record.id.clone(),
        });
        lane.push(Step::RemoveLog {
            container: name.clone(),
        });
        lane.extend(unstage(name, observed, true));
        down.push(lane);
    }
    // Left by one that is gone.
    for name in &observed.staged {
        let known = cell.spec.containers.iter().any(|c| c.id == *name);
        let gone = !known && !observed.containers.contains_key(name);
        down.push(unstage(name, observed, gone).collect());
    }

    plan.stage(unique(pulls));
    plan.stage(down);
    let host_network = cell.host_network();
    if keep_sandbox && !rebuild {
        let attach = any_runs && !host_network && !observed.sandbox.attached;
        let stale = attach && observed.sandbox.attachment.is_some();
        plan.step_if(stale, Step::DetachNetwork);
        plan.stage(vec![
            lane_if(any_runs && !observed.cgroup, Step::EnsureCgroup),
            // A task cannot be made without the files it binds.
            lane_if(any_runs && !observed.host_files, Step::WriteHostFiles),
        ]);
        finish(&mut plan, attach, up, start);
    } else if rebuild {
        plan.step_if(observed.sandbox.attachment.is_some(), Step::DetachNetwork);
        plan.stage(vec![
            lane_if(!observed.cgroup, Step::EnsureCgroup),
            vec![Step::WriteHostFiles, Step::CreateSandbox],
        ]);
        finish(&mut plan, !host_network, up, start);
    } else {
        plan.step_if(observed.sandbox.attachment.is_some(), Step::DetachNetwork);
        plan.step_if(observed.sandbox.exists, Step::RemoveSandbox);
        plan.step_if(observed.staging, Step::RemoveStaging);
    }
    plan
}

/// The files of a container's secrets go when they are there and not wanted.
fn unstage(
    name: &Name,
    observed: &ObservedCell,
    unwanted: bool,
) -> impl Iterator<Item = Step> + use<> {
    let there = unwanted && observed.staged.contains(name);
    let step = there.then(|| Step::Unstage {
        container: name.clone(),
    });
    step.into_iter()
}

/// Whether a container has files of secrets.
fn has_files(spec: &ContainerSpec) -> bool {
    let file = |s: &SecretUse| matches!(s.target, SecretTarget::File { .. });
    spec.secrets.iter().any(file)
}

/// Whether anything has to be put in place before a task is made.
fn needs_stage(spec: &ContainerSpec) -> bool {
    let volume = |m: &Mount| matches!(m.kind, MountKind::Volume { .. });
    !spec.secrets.is_empty() || spec.mounts.iter().any(volume)
}

/// Whether a record holds old values of secrets in its environment.
fn old_values(spec: &ContainerSpec, record: &ObservedContainer, observed: &ObservedCell) -> bool {
    let env = |s: &SecretUse| s.target == SecretTarget::Env;
    spec.secrets.iter().any(env)
        && record.labels.get(label::SECRETS) != observed.secrets.get(&spec.id)
}

/// ADD runs beside the creation of containers and tasks; nothing is started
/// before both are done.
fn finish(plan: &mut Plan, attach: bool, up: Vec<Vec<Step>>, start: Vec<Vec<Step>>) {
    let mut lanes = up;
    if attach {
        lanes.insert(0, vec![Step::AttachNetwork, Step::WriteHostFiles]);
    }
    plan.stage(lanes);
    plan.stage(start);
}

fn plan_deletion(cell: &Cell, observed: &ObservedCell, options: &Options) -> Plan {
    let mut plan = Plan::default();
    let lanes = observed.containers.iter().map(|(name, record)| {
        let spec = cell.spec.containers.iter().find(|c| c.id == *name);
        let mut lane = stop(name, record, grace(spec, record, observed, options));
        lane.push(Step::RemoveContainer {
            container: name.clone(),
            id: record.id.clone(),
        });
        lane
    });
    // A crash may have left a snapshot whose record was never written.
    let unrecorded = cell
        .spec
        .containers
        .iter()
        .filter(|spec| !observed.containers.contains_key(&spec.id))
        .map(|spec| {
            vec![Step::RemoveContainer {
                container: spec.id.clone(),
                id: container_id(&cell.at, &spec.id),
            }]
        });
    plan.stage(lanes.chain(unrecorded).collect());
    plan.step_if(observed.sandbox.attachment.is_some(), Step::DetachNetwork);
    plan.step_if(observed.sandbox.exists, Step::RemoveSandbox);
    plan.step_if(observed.staging, Step::RemoveStaging);
    plan.step_if(observed.cgroup, Step::RemoveCgroup);
    plan.step_if(true, Step::RemoveDocument);
    plan
}

/// Steps that end every grace which somebody gives a task now: one that was told
/// to end has lost its run label.
pub fn plan_cut(observed: &ObservedCell) -> Plan {
    let graced = observed.containers.iter().filter(|(_, record)| {
        let state = record.task.map(|t| t.state);
        let up = matches!(state, Some(TaskState::Running | TaskState::Paused));
        up && run_of(record) == 0
    });
    let mut plan = Plan::default();
    plan.stage(
        graced
            .map(|(name, record)| {
                vec![Step::StopTask {
                    container: name.clone(),
                    id: record.id.clone(),
                    grace: 0,
                }]
            })
            .collect(),
    );
    plan
}

/// What shall be with every container, in spec order.
pub fn verdicts<'a>(cell: &'a Cell, observed: &ObservedCell) -> Vec<(&'a ContainerSpec, Verdict)> {
    let own = |spec: &ContainerSpec| verdict(cell, spec, observed);
    let root_done = cell
        .spec
        .containers
        .iter()
        .any(|spec| spec.root && own(spec) == Verdict::Done);
    let all = cell.spec.containers.iter();
    all.map(|spec| match own(spec) {
        // The root's end is the cell's end; the others go down with it.
        Verdict::Run(_) | Verdict::Wait(_) if root_done => (spec, Verdict::Down),
        verdict => (spec, verdict),
    })
    .collect()
}

fn verdict(cell: &Cell, spec: &ContainerSpec, observed: &ObservedCell) -> Verdict {
    if cell.spec.run_state == RunState::Stopped {
        return Verdict::Down;
    }
    let status = cell.status.containers.iter().find(|s| s.name == spec.id);
    let record = observed.containers.get(&spec.id);
    let exit = ended(cell.spec.run_generation, spec, status, record);
    let alive = record.filter(|r| {
        let state = r.task.map(|t| t.state);
        let up = matches!(
            state,
            Some(TaskState::Created | TaskState::Running | TaskState::Paused)
        );
        // What runs with another spec is no sign that this one has not ended:
        // a change of an ended job may just have been undone.
        up && (exit.is_none() || is_current(spec, r))
    });
    match exit {
        Some(exit) if alive.is_none() => after_exit(spec, status, exit, observed.now),
        _ => Verdict::Run(false),
    }
}

/// What the restart policy says after an exit.
fn after_exit(
    spec: &ContainerSpec,
    status: Option<&ContainerStatus>,
    exit: TaskExit,
    now: Timestamp,
) -> Verdict {
    let count = status.map_or(0, |s| failures_in_a_row(s, exit));
    match spec.restart_policy {
        RestartPolicy::Never => return Verdict::Done,
        RestartPolicy::OnFailure => {
            let limit = spec.restart_max_retries.unwrap_or(DEFAULT_RETRIES);
            if exit.code == 0 || count >= limit {
                return Verdict::Done;
            }
        }
        RestartPolicy::Always => {}
    }
    let due = exit
        .at
        .as_millisecond()
        .saturating_add(backoff_ms(spec, count));
    // An exit that is still to come: the clock was set back since, by as much as
    // nobody would wait.
    let set_back = exit.at.as_second() - now.as_second() > CLOCK_SKEW;
    if set_back || now.as_millisecond() >= due {
        Verdict::Run(true)
    } else {
        Verdict::Wait(Timestamp::from_millisecond(due).unwrap_or(now))
    }
}

/// Restarts since the last run that was long enough to count as good.
pub fn failures_in_a_row(status: &ContainerStatus, exit: TaskExit) -> u32 {
    let ran_long = status
        .started_at
        .is_some_and(|started| exit.at.as_second() - started.as_second() >= RESET_AFTER);
    if ran_long { 0 } else { status.restart_count }
}

/// Exponential pause with a spread of ±10 % that depends only on the container
/// and the count, so that `plan` stays pure and neighbours don't start in step.
fn backoff_ms(spec: &ContainerSpec, count: u32) -> i64 {
    let base = u64::from(spec.restart_backoff_seconds.unwrap_or(1)) * 1000;
    let full = base
        .saturating_mul(1 << count.min(20))
        .min(MAX_BACKOFF * 1000);
    let seed = spec.id.as_str().bytes().fold(u64::from(count) + 1, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    let spread = full / 5;
    let jittered = full - spread / 2 + if spread == 0 { 0 } else { seed % spread };
    i64::try_from(jittered).unwrap_or(i64::MAX)
}

/// Seconds that a task is given: as asked for now, else what is left of what it
/// was given when it was told to end, else its own.
fn grace(
    spec: Option<&ContainerSpec>,
    record: &ObservedContainer,
    observed: &ObservedCell,
    options: &Options,
) -> u32 {
    options
        .grace
        .or_else(|| grace_left(record, observed.now))
        .or(spec.and_then(|s| s.stop_grace_seconds))
        .unwrap_or(DEFAULT_GRACE)
}

/// What is left of a grace that somebody began to give; none where nobody did.
/// Of a clock that was set back it is all.
fn grace_left(record: &ObservedContainer, now: Timestamp) -> Option<u32> {
    let (began, given) = record.labels.get(label::GRACE)?.split_once('/')?;
    let began: Timestamp = began.parse().ok()?;
    let given: SignedDuration = given.parse().ok()?;
    let over = now.duration_since(began).max(SignedDuration::ZERO);
    let left = given.saturating_sub(over).max(SignedDuration::ZERO);
    let left = left.as_secs() + i64::from(left.subsec_nanos() > 0);
    let told = run_of(record) == 0;
    told.then(|| u32::try_from(left).unwrap_or(u32::MAX))
}

/// Records of the cell that no container of the spec wants.
fn strangers<'a>(
    cell: &'a Cell,
    observed: &'a ObservedCell,
) -> impl Iterator<Item = (&'a Name, &'a ObservedContainer)> {
    let wanted: BTreeSet<&Name> = cell.spec.containers.iter().map(|c| &c.id).collect();
    observed
        .containers
        .iter()
        .filter(move |(name, _)| !wanted.contains(name))
}

/// Stops and removes a task, whatever state it is in.
fn stop(name: &Name, record: &ObservedContainer, grace: u32) -> Vec<Step> {
    let Some(task) = record.task else {
        return Vec::new();
    };
    let mut lane = Vec::new();
    if !matches!(task.state, TaskState::Stopped(_)) {
        // A made but not started process does not act on SIGTERM.
        let grace = if task.state == TaskState::Created {
            0
        } else {
            grace
        };
        lane.push(Step::StopTask {
            container: name.clone(),
            id: record.id.clone(),
            grace,
        });
    }
    lane.push(Step::RemoveTask {
        container: name.clone(),
        id: record.id.clone(),
    });
    lane
}

fn take_down(
    spec: &ContainerSpec,
    record: Option<&ObservedContainer>,
    observed: &ObservedCell,
    options: &Options,
    cell: &Cell,
    rebuild: bool,
) -> Vec<Step> {
    let Some(record) = record else {
        return Vec::new();
    };
    let grace = grace(Some(spec), record, observed, options);
    let mut lane = stop(&spec.id, record, grace);
    // An ended container whose record is outdated is made anew at its next start.
    let outdated = !is_current(spec, record);
    if outdated && cell.spec.run_state == RunState::Running && !rebuild {
        lane.push(Step::RemoveContainer {
            container: spec.id.clone(),
            id: record.id.clone(),
        });
    }
    lane
}

struct BringUp {
    pull: Vec<Step>,
    down: Vec<Step>,
    up: Vec<Step>,
    starts: bool,
}

fn bring_up(
    cell: &Cell,
    spec: &ContainerSpec,
    record: Option<&ObservedContainer>,
    observed: &ObservedCell,
    options: &Options,
    rebuild: bool,
) -> BringUp {
    let mut work = BringUp {
        pull: Vec::new(),
        down: Vec::new(),
        up: Vec::new(),
        starts: false,
    };
    let name = || spec.id.clone();
    let usable = record.filter(|r| r.snapshot && is_current(spec, r));

    let state = usable.and_then(|r| r.task).map(|t| t.state);
    let limits = effective_limits(spec, options);
    let limit = Step::LimitContainer {
        container: name(),
        limits,
    };
    let relabel = usable
        .filter(|r| run_of(r) != cell.spec.run_generation)
        .map(|r| Step::LabelRun {
            container: name(),
            id: r.id.clone(),
        });
    let may_go_on = usable.is_some_and(|r| run_of(r) >= oldest_run(cell));
    if matches!(state, Some(TaskState::Running | TaskState::Paused)) && may_go_on && !rebuild {
        work.up.extend(relabel);
        if observed.limits_differ.contains(&spec.id) {
            work.up.push(limit);
        }
        return work;
    }
    work.starts = true;
    // What is started gets the values of now.
    let usable = usable.filter(|r| !old_values(spec, r, observed));
    let state = state.filter(|_| usable.is_some());
    let relabel = relabel.filter(|_| usable.is_some());
    if state == Some(TaskState::Created) && !rebuild {
        work.up.extend(relabel);
        return work;
    }
    if let Some(record) = record {
        let grace = grace(Some(spec), record, observed, options);
        work.down = stop(&spec.id, record, grace);
        if usable.is_none() {
            work.down.push(Step::RemoveContainer {
                container: name(),
                id: record.id.clone(),
            });
        }
    }
    if usable.is_none() {
        let here = normalise(&spec.image).is_ok_and(|name| observed.images.contains_key(&name));
        if spec.pull_policy == PullPolicy::Always || !here {
            work.pull.push(Step::PullImage {
                image: spec.image.clone(),
                policy: spec.pull_policy,
            });
        }
        work.up.push(Step::CreateContainer { container: name() });
    }
    work.up.extend(relabel);
    if limits != Resources::default() {
        work.up.push(limit);
    }
    if needs_stage(spec) {
        work.up.push(Step::Stage { container: name() });
    }
    work.up.push(Step::CreateTask { container: name() });
    work
}

/// The oldest run whose tasks may go on. Run 0 is of those that were told to
/// end, perhaps by somebody who did not live to see it.
fn oldest_run(cell: &Cell) -> i64 {
    let spec = &cell.spec;
    spec.restart_generation.max(1).min(spec.run_generation)
}

/// The container's limits with the instance's fallback.
pub fn effective_limits(spec: &ContainerSpec, options: &Options) -> Resources {
    Resources {
        memory_bytes: spec.resources.memory_bytes.or(options.default_memory),
        ..spec.resources
    }
}

/// Each image is pulled once, however many containers use it.
fn unique(lanes: Vec<Vec<Step>>) -> Vec<Vec<Step>> {
    let mut seen: Vec<Step> = Vec::new();
    let mut kept = Vec::new();
    for step in lanes.into_iter().flatten() {
        if !seen.contains(&step) {
            seen.push(step.clone());
            kept.push(vec![step]);
        }
    }
    kept
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
