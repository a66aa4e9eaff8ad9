//! Whether what was applied works (delivery spec, 7.1.5). Pure.

use jiff::Timestamp;

use super::super::{Health, Reason};
use super::key::Key;
use super::live::Live;
use super::plan::Step;
use crate::model::{
    AnyObject, Cell, CellState, ContainerSpec, ContainerState, ContainerStatus, RestartPolicy,
    ScopeState,
};

/// What one look at an object says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Look {
    /// It works since then.
    Works(Option<Timestamp>),
    /// What is waited for.
    Waits(String),
    /// Why it does not.
    Fails(String),
}

/// The health of all wanted objects together. The first that failed decides,
/// then the first that waits. Also returns the containers that failed.
pub(super) fn judge(steps: &[Step], live: &Live) -> (Health, Option<Key>) {
    let mut since = None;
    let mut waits = None;
    for step in steps {
        let key = &step.wanted.key;
        match look(step, live) {
            Look::Works(at) => since = since.max(at),
            Look::Waits(why) => {
                waits.get_or_insert(format!("{key}: {why}"));
            }
            Look::Fails(why) => {
                let health = Health::Failed(Reason::Unhealthy, format!("{key}: {why}"));
                return (health, Some(key.clone()));
            }
        }
    }
    match waits {
        Some(why) => (Health::Waiting(why), None),
        None => (Health::Ready(since), None),
    }
}

fn look(step: &Step, live: &Live) -> Look {
    let key = &step.wanted.key;
    let status = match live.0.get(&key.at()) {
        Some(AnyObject::Cell(found)) => {
            return match &step.wanted.object {
                AnyObject::Container(wanted) => container(&wanted.spec, found),
                _ => cell(found),
            };
        }
        Some(AnyObject::Realm(o)) => &o.status,
        Some(AnyObject::Space(o)) => &o.status,
        Some(AnyObject::Stack(o)) => &o.status,
        Some(AnyObject::Volume(_)) => return Look::Works(None),
        // It has done its work and removed itself.
        _ if step.action == super::Action::Unchanged => return Look::Works(None),
        _ => return Look::Waits("it is not there".to_owned()),
    };
    match status.state {
        ScopeState::Ready => Look::Works(None),
        ScopeState::Failed => Look::Fails(told("it failed", &status.message)),
        state => Look::Waits(told(&format!("it is {state:?}"), &status.message)),
    }
}

fn told(what: &str, message: &str) -> String {
    match message {
        "" => what.to_owned(),
        message => format!("{what}: {message}"),
    }
}

fn cell(cell: &Cell) -> Look {
    let status = &cell.status;
    let why = told(&format!("it is {:?}", status.state), &status.message);
    match status.state {
        CellState::Ready if status.observed_generation < cell.meta.generation => {
            Look::Waits("its change is being made".to_owned())
        }
        CellState::Ready => Look::Works(running_since(cell)),
        CellState::Pending | CellState::Degraded | CellState::Unknown => Look::Waits(why),
        CellState::Exited => {
            let again = |c: &&ContainerSpec| c.restart_policy != RestartPolicy::Never;
            match cell.spec.containers.iter().find(again) {
                None => Look::Works(status.containers.iter().filter_map(|c| c.finished_at).max()),
                Some(c) => Look::Fails(format!(
                    "it is Exited, but container {} is to be restarted",
                    c.id
                )),
            }
        }
        CellState::Stopped | CellState::Failed | CellState::Error => Look::Fails(why),
    }
}

/// The last start of anything in it: a container that was made anew between two
/// looks shows in its own time only.
fn running_since(cell: &Cell) -> Option<Timestamp> {
    let started = cell.status.containers.iter().map(|c| c.started_at);
    started.chain([cell.status.ready_at]).max().flatten()
}

fn container(spec: &ContainerSpec, cell: &Cell) -> Look {
    let status = cell.status.containers.iter().find(|c| c.name == spec.id);
    let Some(status) = status else {
        return Look::Waits("it is not there".to_owned());
    };
    let never = spec.restart_policy == RestartPolicy::Never;
    let why = told(&format!("it is {:?}", status.state), &ended(status));
    match status.state {
        ContainerState::Ready => Look::Works(status.started_at),
        ContainerState::Exited if never => Look::Works(status.finished_at),
        ContainerState::Exited | ContainerState::Error if !never => Look::Waits(why),
        ContainerState::Exited
        | ContainerState::Error
        | ContainerState::Stopped
        | ContainerState::Failed => Look::Fails(why),
        ContainerState::Pending
        | ContainerState::Paused
        | ContainerState::Unknown
        | ContainerState::NotCreated => Look::Waits(why),
    }
}

fn ended(status: &ContainerStatus) -> String {
    match status.exit_code {
        Some(code) if status.message.is_empty() => format!("it ended with code {code}"),
        _ => status.message.clone(),
    }
}
