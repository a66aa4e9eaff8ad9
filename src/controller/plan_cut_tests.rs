//! Executions that are cut off: by a crash, a power cut, a cancelled caller.

use super::*;
use crate::controller::apply::undo::earlier;

impl Host {
    /// A round that ends after `limit` steps; when the step after them stops a
    /// task, it was told to end but not waited for. It then ends by itself.
    fn cut(&mut self, cell: &mut Cell, limit: usize, saved: bool) {
        let before = cell.status.clone();
        cell.status = derive(cell, &self.seen, "", "");
        let plan = plan_cell(cell, &self.seen, &Options::default());
        plan.steps()
            .take(limit)
            .for_each(|step| self.run(cell, step));
        if let Some(Step::StopTask { container, .. }) = plan.steps().nth(limit) {
            let record = self.seen.containers.get_mut(container).unwrap();
            record.labels.insert(label::RUN.into(), "0".into());
        }
        if !saved {
            cell.status = before;
        }
    }

    /// What was told to end does so.
    fn let_end(&mut self) {
        for record in self.seen.containers.values_mut() {
            let told = record.labels.get(label::RUN).is_some_and(|run| run == "0");
            if let (true, Some(task)) = (told, record.task.as_mut()) {
                task.state = TaskState::Stopped(TaskExit {
                    code: 0,
                    at: at(1_000_001),
                });
            }
        }
    }

    fn pid(&self, id: &str) -> u32 {
        self.seen.containers[&name(id)].task.unwrap().pid
    }
}

/// Two containers that run, `a` without and `b` with a restart policy.
fn pair() -> (Cell, Host) {
    let mut b = ContainerSpec::new(name("b"), "busybox");
    b.restart_policy = RestartPolicy::Always;
    let mut cell = cell(vec![ContainerSpec::new(name("a"), "busybox"), b]);
    let mut host = Host::new();
    host.converge(&mut cell);
    cell.status.containers[1].restart_count = 3;
    (cell, host)
}

/// Every way to cut a round off: after how many steps, whether its status was
/// saved, and whether what was told to end does so before the next round.
fn cuts() -> impl Iterator<Item = (usize, bool, bool)> {
    let ends = [(false, false), (false, true), (true, false), (true, true)];
    (0..16).flat_map(move |k| ends.map(|(saved, ends)| (k, saved, ends)))
}

#[test]
fn a_restart_that_is_cut_is_finished_once() {
    for (cut, saved, ends) in cuts() {
        let (mut cell, mut host) = pair();
        let old = [host.pid("a"), host.pid("b")];
        cell.spec.run_generation += 1;
        cell.spec.restart_generation = cell.spec.run_generation;
        host.cut(&mut cell, cut, saved);
        if ends {
            host.let_end();
        }
        host.converge(&mut cell);
        let case = format!("cut after {cut}, saved {saved}, ends {ends}");
        assert_eq!(cell.status.state, CellState::Ready, "{case}");
        for (id, old) in ["a", "b"].into_iter().zip(old) {
            assert_ne!(host.pid(id), old, "{case}");
            assert_eq!(host.starts[&name(id)], 2, "{case}");
            assert_eq!(host.seen.containers[&name(id)].labels[label::RUN], "2");
        }
        for status in &cell.status.containers {
            assert_eq!((status.run_generation, status.restart_count), (2, 0));
            assert_eq!(status.exit_code, None, "{case}");
        }
        // A job that now ends has ended.
        exited(&mut host, 0, 1_000_002);
        assert_eq!(verdicts(&cell, &host.seen)[0].1, Verdict::Done, "{case}");
    }
}

#[test]
fn a_start_leaves_alone_what_runs() {
    for (cut, saved, _) in cuts() {
        let (mut cell, mut host) = pair();
        let record = host.seen.containers.get_mut(&name("a")).unwrap();
        record.task.as_mut().unwrap().state = TaskState::Stopped(TaskExit {
            code: 1,
            at: at(1_000_000),
        });
        host.converge(&mut cell);
        assert_eq!(cell.status.state, CellState::Degraded);
        let goes_on = host.pid("b");
        let started = cell.status.containers[1].started_at;
        cell.spec.run_generation += 1;
        host.cut(&mut cell, cut, saved);
        host.converge(&mut cell);
        assert_eq!(cell.status.state, CellState::Ready);
        assert_eq!((host.pid("b"), host.starts[&name("b")]), (goes_on, 1));
        assert_eq!(cell.status.containers[1].started_at, started);
        assert_eq!(host.starts[&name("a")], 2, "cut after {cut}");
        assert_eq!(host.seen.containers[&name("b")].labels[label::RUN], "2");
    }
}

#[test]
fn a_replacement_that_is_cut_twice_is_finished() {
    for (first, saved, ends) in cuts() {
        for second in 0..6 {
            let (mut cell, mut host) = single(RestartPolicy::Never);
            cell.spec.containers[0].args = vec!["other".into()];
            for cut in [first, second] {
                host.cut(&mut cell, cut, saved);
                if ends {
                    host.let_end();
                }
            }
            host.converge(&mut cell);
            let case = format!("cut after {first} and {second}, saved {saved}, ends {ends}");
            assert_eq!(cell.status.state, CellState::Ready, "{case}");
            let hash = &host.seen.containers[&name("a")].labels[label::SPEC_HASH];
            assert_eq!(*hash, spec_hash(&cell.spec.containers[0]), "{case}");
            assert_eq!(host.starts[&name("a")], 2, "{case}");
        }
    }
}

/// A finished job beside a server whose change fails, wherever it fails: by the
/// end of the new container, or before.
#[test]
fn a_change_that_is_undone_leaves_the_others_alone() {
    for (cut, saved, ends) in cuts() {
        let (mut cell, mut host) = pair();
        let job = host.seen.containers.get_mut(&name("a")).unwrap();
        job.task.as_mut().unwrap().state = TaskState::Stopped(TaskExit {
            code: 0,
            at: at(1_000_000),
        });
        host.converge(&mut cell);
        let mut spec = ContainerSpec::new(name("c"), "busybox");
        spec.args = vec!["old".into()];
        cell.spec.containers.push(spec);
        host.converge(&mut cell);
        let goes_on = host.pid("b");

        let mut wanted = cell.clone();
        wanted.spec.containers[2].args = vec!["new".into()];
        wanted.meta.generation += 1;
        let seen = derive(&cell, &host.seen, "", "");
        let mut earlier = earlier(cell.clone(), &wanted, seen);
        host.cut(&mut wanted, cut, saved);
        if ends {
            host.let_end();
            let new = host.seen.containers.get_mut(&name("c"));
            if let Some(task) = new.and_then(|r| r.task.as_mut()) {
                task.state = TaskState::Stopped(TaskExit {
                    code: 1,
                    at: at(1_000_002),
                });
            }
        }
        host.converge(&mut earlier);

        let case = format!("cut after {cut}, saved {saved}, ends {ends}");
        let ended = &earlier.status.containers[0];
        assert_eq!(ended.state, ContainerState::Exited, "{case}");
        assert_eq!(host.starts[&name("a")], 1, "{case}");
        assert_eq!((host.pid("b"), host.starts[&name("b")]), (goes_on, 1));
        assert_eq!(earlier.status.containers[1].restart_count, 3, "{case}");
        assert_eq!(earlier.status.state, CellState::Ready, "{case}");
        let hash = &host.seen.containers[&name("c")].labels[label::SPEC_HASH];
        assert_eq!(*hash, spec_hash(&cell.spec.containers[2]), "{case}");
        assert!(earlier.meta.generation > wanted.meta.generation);
    }
}

/// A finished job beside a server: `cell`, `host`.
fn job_and_server() -> (Cell, Host) {
    let (mut cell, mut host) = pair();
    end_job(&mut host, 0);
    host.converge(&mut cell);
    assert_eq!(cell.status.containers[0].state, ContainerState::Exited);
    (cell, host)
}

fn end_job(host: &mut Host, code: i32) {
    let job = host.seen.containers.get_mut(&name("a")).unwrap();
    job.task.as_mut().unwrap().state = TaskState::Stopped(TaskExit {
        code,
        at: at(1_000_000),
    });
}

/// The cell with another command for `a`, as `apply` makes it.
fn with_another_job(current: &Cell) -> Cell {
    let mut wanted = current.clone();
    wanted.spec.containers[0].args = vec!["other".into()];
    let mut object = crate::model::AnyObject::Cell(wanted);
    crate::apply::inherit(&crate::model::AnyObject::Cell(current.clone()), &mut object);
    match object {
        crate::model::AnyObject::Cell(cell) => cell,
        _ => unreachable!("a cell stays one"),
    }
}

#[test]
fn what_has_ended_runs_once_when_it_is_changed() {
    for (cut, saved, ends) in cuts() {
        let (cell, mut host) = job_and_server();
        let server = host.pid("b");
        let mut cell = with_another_job(&cell);
        host.cut(&mut cell, cut, saved);
        if ends {
            host.let_end();
        }
        host.converge(&mut cell);
        let case = format!("cut after {cut}, saved {saved}, ends {ends}");
        assert_eq!(cell.status.state, CellState::Ready, "{case}");
        assert_eq!(host.starts[&name("a")], 2, "{case}");
        assert_eq!((host.pid("b"), host.starts[&name("b")]), (server, 1));
        let hash = &host.seen.containers[&name("a")].labels[label::SPEC_HASH];
        assert_eq!(*hash, spec_hash(&cell.spec.containers[0]), "{case}");
        // It ends in its turn, and that is that.
        end_job(&mut host, 3);
        host.converge(&mut cell);
        assert_eq!(host.starts[&name("a")], 2, "{case}");
        assert_eq!(cell.status.containers[0].exit_code, Some(3), "{case}");
        assert_eq!(cell.status.state, CellState::Degraded, "{case}");
    }
}

/// Nobody has noted the end before the change: its task is still there.
#[test]
fn an_end_of_the_earlier_spec_is_none_of_the_new_one() {
    let (cell, mut host) = pair();
    end_job(&mut host, 1);
    let mut cell = with_another_job(&cell);
    host.converge(&mut cell);
    assert_eq!(host.starts[&name("a")], 2);
    assert_eq!(cell.status.state, CellState::Ready);
    assert_eq!(cell.status.containers[0].exit_code, None);
}

#[test]
fn an_ended_job_whose_change_is_undone_stays_ended() {
    for (cut, saved, ends) in cuts() {
        let (cell, mut host) = job_and_server();
        let server = host.pid("b");
        let mut wanted = with_another_job(&cell);
        wanted.meta.generation += 1;
        let seen = derive(&cell, &host.seen, "", "");
        let mut earlier = earlier(cell, &wanted, seen);
        host.cut(&mut wanted, cut, saved);
        if ends {
            host.let_end();
        }
        let starts = host.starts[&name("a")];
        host.converge(&mut earlier);
        let case = format!("cut after {cut}, saved {saved}, ends {ends}");
        assert_eq!(host.starts[&name("a")], starts, "{case}");
        let job = &earlier.status.containers[0];
        assert_eq!(job.state, ContainerState::Exited, "{case}");
        assert_eq!(job.exit_code, Some(0), "{case}");
        assert_eq!((host.pid("b"), host.starts[&name("b")]), (server, 1));
        assert!(
            host.seen
                .containers
                .get(&name("a"))
                .is_none_or(|r| r.task.is_none())
        );
    }
}

#[test]
fn a_stopped_cell_stays_stopped_after_a_reboot() {
    let (mut cell, mut host) = single(RestartPolicy::Always);
    cell.spec.run_state = RunState::Stopped;
    host.converge(&mut cell);
    assert_eq!(cell.status.state, CellState::Stopped);
    host.seen.cgroup = false;
    assert!(plan_cell(&cell, &host.seen, &Options::default()).is_empty());
}

#[test]
fn a_running_cell_comes_back_after_a_reboot() {
    let (mut cell, mut host) = single(RestartPolicy::Never);
    for record in host.seen.containers.values_mut() {
        record.task = None;
    }
    host.seen.cgroup = false;
    host.seen.sandbox.pinned = false;
    host.seen.sandbox.attached = false;
    host.converge(&mut cell);
    assert_eq!(cell.status.state, CellState::Ready);
    assert!(host.seen.sandbox.attached);
}

/// `kill` ends what is told to end, in whatever process that is waited for, and
/// nothing else.
#[test]
fn only_a_grace_is_cut_short() {
    let (_, mut host) = pair();
    assert!(plan_cut(&host.seen).is_empty());
    let told = host.seen.containers.get_mut(&name("a")).unwrap();
    told.labels.insert(label::RUN.into(), "0".into());
    let id = told.id.clone();
    let steps: Vec<Step> = plan_cut(&host.seen).steps().cloned().collect();
    let wanted = Step::StopTask {
        container: name("a"),
        id,
        grace: 0,
    };
    assert_eq!(steps, [wanted]);
    host.let_end();
    assert!(plan_cut(&host.seen).is_empty());
}

/// Whoever goes on with a stop gives what is left, unless asked for another grace.
#[test]
fn a_grace_that_was_begun_is_gone_on_with() {
    let (mut cell, mut host) = pair();
    cell.spec.run_state = RunState::Stopped;
    cell.spec.containers[0].stop_grace_seconds = Some(7);
    let graces = |host: &Host, options: &Options| -> Vec<u32> {
        let plan = plan_cell(&cell, &host.seen, options);
        plan.steps()
            .filter_map(|step| match step {
                Step::StopTask {
                    container, grace, ..
                } if *container == cell.spec.containers[0].id => Some(*grace),
                _ => None,
            })
            .collect()
    };
    let label = |host: &mut Host, key: &str, value: &str| {
        let record = host.seen.containers.get_mut(&cell.spec.containers[0].id);
        record.unwrap().labels.insert(key.into(), value.into());
    };
    let asked = Options {
        grace: Some(3),
        ..Options::default()
    };
    assert_eq!(graces(&host, &Options::default()), [7]);
    let told = host.seen.now;
    label(&mut host, label::GRACE, &format!("{told}/PT60S"));
    // Of an earlier run.
    assert_eq!(graces(&host, &Options::default()), [7]);
    label(&mut host, label::RUN, "0");
    for (later, left) in [(0, 60), (20, 40), (60, 0), (3600, 0), (-3600, 60)] {
        host.seen.now = told + jiff::SignedDuration::from_secs(later);
        assert_eq!(graces(&host, &Options::default()), [left], "{later}");
        assert_eq!(graces(&host, &asked), [3]);
    }
    host.seen.now = told + jiff::SignedDuration::from_millis(59_900);
    assert_eq!(graces(&host, &Options::default()), [1]);
    for unreadable in ["", "PT5S", "now/PT5S", "2026-11-27T00:00:00Z/5"] {
        label(&mut host, label::GRACE, unreadable);
        assert_eq!(graces(&host, &Options::default()), [7], "{unreadable}");
    }
}

#[test]
fn what_cannot_be_observed_is_told_as_last_seen() {
    let (cell, _) = pair();
    assert_eq!(cell.status.state, CellState::Ready);
    let cell = crate::controller::status::last_seen(cell, "no answer");
    assert_eq!(cell.status.state, CellState::Unknown);
    assert_eq!(cell.status.message, "last seen Ready: no answer");
    let container = &cell.status.containers[0];
    assert_eq!(container.state, ContainerState::Unknown);
    assert_eq!(container.message, "last seen Ready");
}
