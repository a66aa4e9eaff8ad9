//! Properties of `plan`, on a model of the host that obeys the steps.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::status::derive;
use super::super::step::{Plan, Step};
use super::*;
use crate::apply::spec_hash;
use crate::model::{
    Attachment, Cell, CellState, ContainerSpec, ContainerState, KeptSource, Labels, Meta, Name,
    ObservedCell, ObservedContainer, ObservedTask, RestartPolicy, RunState, TaskExit, TaskState,
    label,
};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn cell(containers: Vec<ContainerSpec>) -> Cell {
    let at = crate::model::CellRef {
        realm: name("r"),
        space: name("s"),
        stack: name("t"),
        cell: name("c"),
    };
    let mut cell = Cell {
        at,
        meta: Meta::default(),
        spec: Default::default(),
        status: Default::default(),
    };
    cell.spec.containers = containers;
    cell.spec.run_generation = 1;
    cell
}

fn at(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(second).unwrap()
}

/// The host as far as plans can change it.
#[derive(Debug, Clone)]
struct Host {
    seen: ObservedCell,
    document: bool,
    /// How often each container was started.
    starts: BTreeMap<Name, u32>,
    pids: u32,
}

impl Host {
    fn new() -> Self {
        let seen = ObservedCell {
            now: at(1_000_000),
            ..ObservedCell::default()
        };
        Self {
            seen,
            document: true,
            starts: BTreeMap::new(),
            pids: 1,
        }
    }

    /// What a step does, with the preconditions that the real host has.
    fn run(&mut self, cell: &Cell, step: &Step) {
        let record = |host: &mut Self, c: &Name| host.seen.containers.get_mut(c).cloned();
        match step {
            Step::EnsureCgroup => self.seen.cgroup = true,
            Step::RemoveCgroup => {
                let busy = self.seen.containers.values().any(|c| c.task.is_some());
                assert!(!busy, "cgroup removed under a task");
                self.seen.cgroup = false;
            }
            Step::PullImage { image, .. } => {
                let image = crate::runtime::image::normalise(image).unwrap();
                self.seen.images.insert(image, "sha256:0".into());
            }
            Step::CreateSandbox => {
                self.seen.sandbox.pinned = true;
                self.seen.sandbox.exists = true;
            }
            Step::RemoveSandbox => {
                assert!(
                    self.seen.sandbox.attachment.is_none(),
                    "unpinned before DEL"
                );
                let busy = self.seen.containers.values().any(|c| c.task.is_some());
                assert!(!busy, "unpinned under a task");
                self.seen.sandbox.pinned = false;
                self.seen.sandbox.exists = false;
            }
            Step::AttachNetwork => {
                assert!(self.seen.sandbox.pinned, "ADD without a namespace");
                assert!(self.seen.sandbox.attachment.is_none(), "second ADD");
                self.seen.sandbox.attachment = Some(Attachment::default());
                self.seen.sandbox.attached = true;
            }
            Step::DetachNetwork => {
                self.seen.sandbox.attachment = None;
                self.seen.sandbox.attached = false;
            }
            Step::CreateContainer { container } => {
                assert!(record(self, container).is_none(), "record made twice");
                let spec = cell
                    .spec
                    .containers
                    .iter()
                    .find(|c| c.id == *container)
                    .unwrap();
                let image = crate::runtime::image::normalise(&spec.image).unwrap();
                assert!(self.seen.images.contains_key(&image), "no image");
                let mut labels = Labels::from([
                    (label::SPEC_HASH.into(), spec_hash(spec)),
                    (label::RUN.into(), cell.spec.run_generation.to_string()),
                ]);
                if let Some(version) = self.seen.secrets.get(container) {
                    labels.insert(label::SECRETS.into(), version.clone());
                }
                self.seen.containers.insert(
                    container.clone(),
                    ObservedContainer {
                        id: container.to_string(),
                        labels,
                        image,
                        snapshot: true,
                        task: None,
                    },
                );
            }
            Step::LabelRun { container, .. } => {
                let run = cell.spec.run_generation.to_string();
                let record = self
                    .seen
                    .containers
                    .get_mut(container)
                    .expect("labelled record");
                record.labels.insert(label::RUN.into(), run);
            }
            Step::Stage { container } => {
                let record = self.seen.containers.get_mut(container);
                let record = record.expect("staged before its record");
                assert!(record.task.is_none(), "staged under a task");
                let spec = cell.spec.containers.iter().find(|c| c.id == *container);
                if let Some(version) = self.seen.secrets.get(container) {
                    let label = (label::SECRETS.into(), version.clone());
                    record.labels.extend([label]);
                }
                if has_files(spec.unwrap()) {
                    self.seen.staging = true;
                    self.seen.staged.insert(container.clone());
                }
            }
            Step::Unstage { container } => {
                let task = record(self, container).and_then(|r| r.task);
                let spec = cell.spec.containers.iter().find(|c| c.id == *container);
                let unneeded = spec.is_none_or(|spec| !has_files(spec));
                assert!(task.is_none() || unneeded, "unstaged under a task");
                self.seen.staged.remove(container);
            }
            Step::RemoveStaging => {
                let busy = self.seen.containers.values().any(|c| c.task.is_some());
                assert!(!busy, "secrets removed under a task");
                self.seen.staging = false;
                self.seen.staged.clear();
            }
            Step::CreateTask { container } => {
                let spec = cell.spec.containers.iter().find(|c| c.id == *container);
                let staged = self.seen.staged.contains(container);
                assert!(
                    staged || !has_files(spec.unwrap()),
                    "task without its secrets"
                );
                self.pids += 1;
                assert!(self.seen.sandbox.pinned, "task without a sandbox");
                assert!(self.seen.host_files, "task without its files");
                let record = self
                    .seen
                    .containers
                    .get_mut(container)
                    .expect("task of no record");
                assert!(record.task.is_none(), "second task");
                record.task = Some(ObservedTask {
                    pid: self.pids,
                    state: TaskState::Created,
                });
            }
            Step::StartTask { container } => {
                let networked = self.seen.sandbox.attached || cell.host_network();
                assert!(networked, "started before ADD was done");
                let record = self
                    .seen
                    .containers
                    .get_mut(container)
                    .expect("start of no record");
                let task = record.task.as_mut().expect("start of no task");
                assert_eq!(task.state, TaskState::Created);
                task.state = TaskState::Running;
                *self.starts.entry(container.clone()).or_default() += 1;
            }
            Step::StopTask { container, .. } => {
                let now = self.seen.now;
                let record = self
                    .seen
                    .containers
                    .get_mut(container)
                    .expect("stop of no record");
                record.labels.insert(label::RUN.into(), "0".into());
                if let Some(task) = record.task.as_mut() {
                    task.state = TaskState::Stopped(TaskExit { code: 137, at: now });
                }
            }
            Step::RemoveTask { container, .. } => {
                if let Some(record) = self.seen.containers.get_mut(container) {
                    let state = record.task.map(|t| t.state);
                    assert!(
                        !matches!(state, Some(TaskState::Running)),
                        "running task removed"
                    );
                    record.task = None;
                }
            }
            Step::RemoveContainer { container, .. } => {
                let task = record(self, container).and_then(|r| r.task);
                assert!(task.is_none(), "record removed under a task");
                self.seen.containers.remove(container);
            }
            Step::RemoveDocument => {
                assert!(self.seen.containers.is_empty() && !self.seen.sandbox.exists);
                assert!(!self.seen.staging);
                self.document = false;
            }
            Step::WriteHostFiles => self.seen.host_files = true,
            Step::LimitContainer { .. } | Step::RemoveLog { .. } => {}
            Step::EnsureNamespace
            | Step::RemoveNamespace
            | Step::EnsureNetwork
            | Step::RemoveNetwork => panic!("not a step of a cell"),
        }
    }

    /// One round as the controller makes it, cut off after `limit` steps.
    /// Returns whether there was nothing to do.
    fn round(&mut self, cell: &mut Cell, limit: usize) -> bool {
        cell.status = derive(cell, &self.seen, "", "");
        let plan = plan_cell(cell, &self.seen, &Options::default());
        for step in plan.steps().take(limit) {
            self.run(cell, step);
        }
        plan.is_empty()
    }

    fn converge(&mut self, cell: &mut Cell) {
        for _ in 0..8 {
            if !self.document || self.round(cell, usize::MAX) {
                return;
            }
        }
        panic!("no convergence: {cell:?} on {self:?}");
    }
}

fn task_state() -> impl Strategy<Value = Option<TaskState>> {
    prop_oneof![
        Just(None),
        Just(Some(TaskState::Created)),
        Just(Some(TaskState::Running)),
        Just(Some(TaskState::Paused)),
        (prop_oneof![Just(0), Just(1)], 999_000i64..1_000_000)
            .prop_map(|(code, s)| Some(TaskState::Stopped(TaskExit { code, at: at(s) }))),
    ]
}

prop_compose! {
    fn container(id: &'static str)(
        root in any::<bool>(),
        policy in prop_oneof![
            Just(RestartPolicy::Never), Just(RestartPolicy::OnFailure), Just(RestartPolicy::Always)
        ],
        (env, file, volume) in any::<(bool, bool, bool)>(),
    ) -> ContainerSpec {
        let mut spec = ContainerSpec::new(name(id), "busybox");
        spec.root = root && id == "a";
        spec.restart_policy = policy;
        let source = KeptSource { name: name("x"), scope: None };
        let secret = |target| SecretUse { name: "X".into(), source: source.clone(), target };
        let path = "/x".to_owned();
        let target = SecretTarget::File { path, uid: None, gid: None, mode: None };
        spec.secrets.extend(env.then(|| secret(SecretTarget::Env)));
        spec.secrets.extend(file.then(|| secret(target)));
        spec.mounts.extend(volume.then(|| Mount {
            kind: MountKind::Volume { source: source.clone(), ensure: false },
            target: "/data".into(),
            read_only: false,
        }));
        spec
    }
}

prop_compose! {
    fn record(id: &'static str)(
        there in any::<bool>(),
        snapshot in prop_oneof![9 => Just(true), 1 => Just(false)],
        stale in any::<bool>(),
        run in 0i64..2,
        task in task_state(),
    ) -> Option<(String, bool, bool, i64, Option<TaskState>)> {
        there.then(|| (id.to_owned(), snapshot, stale, run, task))
    }
}

prop_compose! {
    fn situation()(
        a in container("a"),
        b in container("b"),
        two in any::<bool>(),
        stopped in any::<bool>(),
        deleted in any::<bool>(),
        records in (record("a"), record("b"), record("gone")),
        pinned in any::<bool>(),
        attached in 0..3,
        cgroup in any::<bool>(),
        image in any::<bool>(),
        host_files in any::<bool>(),
        (staged_a, staged_gone, old) in any::<(bool, bool, bool)>(),
    ) -> (Cell, Host) {
        let mut cell = cell(if two { vec![a, b] } else { vec![a] });
        cell.spec.run_state = if stopped { RunState::Stopped } else { RunState::Running };
        cell.meta.deletion = deleted.then(|| at(5));
        let mut host = Host::new();
        host.seen.cgroup = cgroup;
        host.seen.host_files = host_files;
        host.seen.sandbox.pinned = pinned;
        host.seen.sandbox.exists = pinned;
        if attached > 0 {
            host.seen.sandbox.attachment = Some(Attachment::default());
            host.seen.sandbox.attached = attached == 2 && pinned;
        }
        if image {
            host.seen.images.insert(crate::runtime::image::normalise("busybox").unwrap(), "d".into());
        }
        for (staged, id) in [(staged_a, "a"), (staged_gone, "gone")] {
            if staged {
                host.seen.staging = true;
                host.seen.staged.insert(name(id));
            }
        }
        for spec in cell.spec.containers.iter().filter(|c| !c.secrets.is_empty()) {
            host.seen.secrets.insert(spec.id.clone(), "now".into());
        }
        for (id, snapshot, stale, run, task) in [records.0, records.1, records.2].into_iter().flatten() {
            let spec = cell.spec.containers.iter().find(|c| c.id == name(&id));
            let hash = spec.filter(|_| !stale).map_or("old".into(), spec_hash);
            let labels = Labels::from([
                (label::SPEC_HASH.into(), hash),
                (label::RUN.into(), run.to_string()),
                (label::SECRETS.into(), if old { "old" } else { "now" }.to_owned()),
            ]);
            let record = ObservedContainer {
                id: id.clone(), labels, image: "i".into(), snapshot,
                task: task.map(|state| ObservedTask { pid: 1, state }),
            };
            host.seen.containers.insert(name(&id), record);
        }
        (cell, host)
    }
}

fn check_end(cell: &Cell, host: &Host) {
    if cell.meta.deletion.is_some() {
        assert!(!host.document);
        assert!(host.seen.containers.is_empty() && !host.seen.sandbox.exists && !host.seen.cgroup);
        assert!(!host.seen.staging);
        return;
    }
    let wanted: BTreeSet<_> = cell.spec.containers.iter().map(|c| c.id.clone()).collect();
    assert!(
        host.seen.containers.keys().all(|c| wanted.contains(c)),
        "strangers left"
    );
    if cell.spec.run_state == RunState::Stopped {
        assert!(host.seen.containers.values().all(|c| c.task.is_none()));
        assert!(!host.seen.sandbox.exists && host.seen.sandbox.attachment.is_none());
        assert!(!host.seen.staging && host.seen.staged.is_empty());
    }
    let ended = host.seen.containers.values().filter_map(|c| c.task);
    assert!(
        ended
            .into_iter()
            .all(|t| !matches!(t.state, TaskState::Stopped(_) | TaskState::Created)),
        "an ended task keeps its shim"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_state_converges_and_a_second_plan_is_empty((mut cell, mut host) in situation()) {
        host.converge(&mut cell);
        check_end(&cell, &host);
        if host.document {
            prop_assert!(plan_cell(&cell, &host.seen, &Options::default()).is_empty());
        }
    }

    #[test]
    fn a_crash_after_any_step_converges_all_the_same(
        (mut cell, mut host) in situation(),
        cuts in prop::collection::vec(0usize..12, 1..4),
    ) {
        for cut in cuts {
            if host.document {
                // The status of a crashed round may or may not have been saved.
                let before = cell.status.clone();
                host.round(&mut cell, cut);
                if cut % 2 == 0 {
                    cell.status = before;
                }
            }
        }
        host.converge(&mut cell);
        check_end(&cell, &host);
    }
}

fn exited(host: &mut Host, code: i32, second: i64) {
    for record in host.seen.containers.values_mut() {
        if let Some(task) = record.task.as_mut() {
            task.state = TaskState::Stopped(TaskExit {
                code,
                at: at(second),
            });
        }
    }
}

fn single(policy: RestartPolicy) -> (Cell, Host) {
    let mut spec = ContainerSpec::new(name("a"), "busybox");
    spec.restart_policy = policy;
    let mut cell = cell(vec![spec]);
    let mut host = Host::new();
    host.converge(&mut cell);
    assert_eq!(cell.status.state, CellState::Ready);
    (cell, host)
}

#[test]
fn add_runs_beside_creation_and_before_any_start() {
    let cell = cell(vec![ContainerSpec::new(name("a"), "busybox")]);
    let plan = plan_cell(&cell, &Host::new().seen, &Options::default());
    let stage = |wanted: &dyn Fn(&Step) -> bool| {
        plan.stages
            .iter()
            .position(|s| s.iter().flatten().any(wanted))
            .unwrap()
    };
    let add = stage(&|s| *s == Step::AttachNetwork);
    assert_eq!(add, stage(&|s| matches!(s, Step::CreateTask { .. })));
    assert!(add < stage(&|s| matches!(s, Step::StartTask { .. })));
}

#[test]
fn never_stays_ended_and_its_code_is_kept() {
    let (mut cell, mut host) = single(RestartPolicy::Never);
    exited(&mut host, 3, 1_000_000);
    host.converge(&mut cell);
    assert_eq!(cell.status.state, CellState::Error);
    assert_eq!(cell.status.containers[0].exit_code, Some(3));
    assert!(
        !host.seen.sandbox.exists,
        "an ended cell gives its address back"
    );
    // Also when containerd forgot the task and the machine was started anew.
    host.seen.now = at(2_000_000);
    assert!(plan_cell(&cell, &host.seen, &Options::default()).is_empty());
}

#[test]
fn always_waits_longer_and_longer() {
    let (mut cell, mut host) = single(RestartPolicy::Always);
    cell.status.containers[0].started_at = Some(at(999_999));
    let mut last = 0;
    for count in 0..6u32 {
        exited(&mut host, 1, 1_000_000);
        cell.status.containers[0].restart_count = count;
        host.seen.now = at(1_000_000);
        cell.status = derive(&cell, &host.seen, "", "");
        assert_eq!(cell.status.state, CellState::Degraded);
        let due = cell.status.containers[0]
            .next_restart_at
            .unwrap()
            .as_millisecond();
        assert!(due > last, "{due} after {last}");
        last = due;
        let early: Plan = plan_cell(&cell, &host.seen, &Options::default());
        assert!(!early.steps().any(|s| matches!(s, Step::StartTask { .. })));
    }
    host.seen.now = at(1_000_400);
    let plan = plan_cell(&cell, &host.seen, &Options::default());
    assert_eq!(plan.restarts, [name("a")]);
}

#[test]
fn on_failure_gives_up_after_its_retries() {
    let (mut cell, mut host) = single(RestartPolicy::OnFailure);
    cell.status.containers[0].started_at = Some(at(999_999));
    cell.status.containers[0].restart_count = 5;
    exited(&mut host, 1, 1_000_000);
    host.seen.now = at(2_000_000);
    host.converge(&mut cell);
    assert_eq!(cell.status.state, CellState::Error);
}

#[test]
fn a_clock_that_is_set_back_holds_nothing_up() {
    let (cell, mut host) = single(RestartPolicy::Always);
    exited(&mut host, 1, 1_000_000);
    // The two readings of the clock may lie a little apart; an hour is none of that.
    for (now, starts) in [(999_995, false), (996_400, true)] {
        host.seen.now = at(now);
        let plan = plan_cell(&cell, &host.seen, &Options::default());
        assert_eq!(!plan.restarts.is_empty(), starts, "at {now}");
    }
}

#[test]
fn the_end_of_the_root_is_the_end_of_the_cell() {
    let mut root = ContainerSpec::new(name("a"), "busybox");
    root.root = true;
    let mut side = ContainerSpec::new(name("b"), "busybox");
    side.restart_policy = RestartPolicy::Always;
    let mut cell = cell(vec![root, side]);
    let mut host = Host::new();
    host.converge(&mut cell);
    let record = host.seen.containers.get_mut(&name("a")).unwrap();
    record.task.as_mut().unwrap().state = TaskState::Stopped(TaskExit {
        code: 0,
        at: at(1_000_000),
    });
    host.converge(&mut cell);
    assert!(host.seen.containers.values().all(|c| c.task.is_none()));
    assert_eq!(cell.status.containers[0].state, ContainerState::Exited);
}

#[test]
fn a_container_that_is_started_again_gets_the_new_value() {
    let secret = |target| SecretUse {
        name: "X".into(),
        source: KeptSource {
            name: name("x"),
            scope: None,
        },
        target,
    };
    let mut a = ContainerSpec::new(name("a"), "busybox");
    a.secrets = vec![secret(SecretTarget::Env)];
    let mut b = ContainerSpec::new(name("b"), "busybox");
    b.secrets = vec![secret(SecretTarget::File {
        path: "/x".into(),
        uid: None,
        gid: None,
        mode: None,
    })];
    let mut cell = cell(vec![a, b]);
    let mut host = Host::new();
    let versions = |v: &str| BTreeMap::from([(name("a"), v.into()), (name("b"), v.into())]);
    host.seen.secrets = versions("1");
    host.converge(&mut cell);
    host.seen.secrets = versions("2");
    // What runs keeps what it has, and says so.
    cell.status = derive(&cell, &host.seen, "", "");
    assert!(plan_cell(&cell, &host.seen, &Options::default()).is_empty());
    for status in &cell.status.containers {
        assert!(
            status.message.contains("a secret has changed"),
            "{status:?}"
        );
    }
    cell.spec.run_generation += 1;
    cell.spec.restart_generation = cell.spec.run_generation;
    host.converge(&mut cell);
    for id in ["a", "b"] {
        let labels = &host.seen.containers[&name(id)].labels;
        assert_eq!(labels[label::SECRETS], "2", "{id}");
        assert_eq!(host.starts[&name(id)], 2, "{id}");
    }
    cell.status = derive(&cell, &host.seen, "", "");
    assert!(cell.status.containers.iter().all(|s| s.message.is_empty()));
}

#[test]
fn what_was_removed_behind_our_back_is_put_back() {
    let (mut cell, mut host) = single(RestartPolicy::Never);
    host.seen.containers.clear();
    host.converge(&mut cell);
    assert_eq!(cell.status.state, CellState::Ready);
}

#[path = "plan_cut_tests.rs"]
mod cuts;
