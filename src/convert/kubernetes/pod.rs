//! A cell as the workload that keeps its pod: a Deployment when it shall always
//! run, a Job when it shall come to an end.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::super::loss::lost;
use super::kept::{Named, SOURCES};
use super::{PORTS, container, names};
use crate::api::Problem;
use crate::model::{Cell, CellSpec, ContainerSpec, KeptRef, RestartPolicy, RunState};

/// Seconds between SIGTERM and SIGKILL of a container that says nothing.
pub(super) const GRACE: u32 = 10;
/// Restarts in a row of a container with `on-failure` that says nothing.
pub(super) const RETRIES: u32 = 5;

/// As many restarts as Kubernetes can count: without end.
pub(in crate::convert) const ENDLESS: u32 = i32::MAX as u32;

/// Annotation of Jobs: a Job cannot be changed, so Argo CD replaces it.
pub(super) const REPLACED: (&str, &str) =
    ("argocd.argoproj.io/sync-options", "Force=true,Replace=true");

/// What becomes of a cell.
enum Workload {
    /// Runs forever.
    Deployment,
    /// Runs to its end.
    Job {
        /// How often it is tried again.
        retries: u32,
        /// Containers that run beside the one whose end is the cell's end.
        beside: bool,
    },
}

/// The workload of a cell.
pub(super) fn write(
    cell: &Cell,
    known: &BTreeSet<KeptRef>,
    losses: &mut Vec<Problem>,
    notes: &mut Vec<String>,
) -> Value {
    let Cell {
        at,
        meta,
        spec,
        status: _,
    } = cell;
    let CellSpec {
        containers,
        auto_delete,
        run_state,
        // Written by kukeon only.
        run_generation: _,
        restart_generation: _,
    } = spec;
    let mut labels = names::labels(&meta.labels, losses);
    let mut annotations = names::annotations(&meta.annotations, losses);
    annotations.remove(PORTS);
    annotations.remove(SOURCES);
    let mut named = Named::new(at, known);
    if *auto_delete {
        losses.push(lost(
            "spec.autoDelete",
            "a Job is not removed for having succeeded only",
            "remove it; ttlSecondsAfterFinished of the Job removes failed ones as well",
        ));
    }
    let own = names::owner(at);
    labels.extend(own.clone());
    let workload = workload(containers, losses);
    if let Workload::Job { .. } = workload {
        let (key, value) = REPLACED;
        annotations
            .entry(key.into())
            .or_insert_with(|| value.into());
    }
    let pod = pod(cell, &workload, &mut named, losses);
    annotations.extend(named.annotation().map(|text| (SOURCES.to_owned(), text)));
    for missing in &named.missing {
        notes.push(format!(
            "{at}: needs the {missing}, which is not in the input"
        ));
    }
    let mut metadata = json!({
        "name": names::workload(at),
        "namespace": at.realm.as_str(),
        "labels": labels,
    });
    if !annotations.is_empty() {
        metadata["annotations"] = json!(annotations);
    }
    let stopped = *run_state == RunState::Stopped;
    let mut template = json!({"metadata": {"labels": labels}, "spec": pod});
    match workload {
        Workload::Deployment => {
            template["spec"]["restartPolicy"] = "Always".into();
            json!({
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": metadata,
                "spec": {
                    "replicas": if stopped { 0 } else { 1 },
                    "selector": {"matchLabels": own},
                    // Two of one cell never run at the same time.
                    "strategy": {"type": "Recreate"},
                    "template": template,
                },
            })
        }
        Workload::Job { retries, .. } => {
            let policy = if retries == 0 { "Never" } else { "OnFailure" };
            template["spec"]["restartPolicy"] = policy.into();
            let mut job = json!({"backoffLimit": retries, "template": template});
            if stopped {
                job["suspend"] = true.into();
            }
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": job})
        }
    }
}

fn retries(container: &ContainerSpec) -> u32 {
    match container.restart_policy {
        // `backoffLimit` is an int32; so many restarts are without end on both sides.
        RestartPolicy::OnFailure => container
            .restart_max_retries
            .unwrap_or(RETRIES)
            .min(ENDLESS),
        RestartPolicy::Never | RestartPolicy::Always => 0,
    }
}

fn workload(containers: &[ContainerSpec], losses: &mut Vec<Problem>) -> Workload {
    let always = |c: &&ContainerSpec| c.restart_policy == RestartPolicy::Always;
    let ending: Vec<&ContainerSpec> = containers.iter().filter(|c| !always(c)).collect();
    let Some(first) = ending.first() else {
        return Workload::Deployment;
    };
    let job = Workload::Job {
        retries: retries(first),
        beside: ending.len() < containers.len(),
    };
    let path = |wanted: &ContainerSpec, field: &str| {
        let index = containers.iter().position(|c| c.id == wanted.id);
        format!("spec.containers[{}].{field}", index.unwrap_or_default())
    };
    // Its end takes the others down. In a pod only those end with it that run
    // beside it as restartable init containers.
    if let Some(root) = ending.iter().find(|c| c.root)
        && ending.len() > 1
    {
        losses.push(lost(
            path(root, "root"),
            "the end of one container of a pod does not end the others",
            "set restartPolicy: always on the others, which then run beside it, or remove root",
        ));
    } else if ending.len() < containers.len() && !(ending.len() == 1 && first.root) {
        losses.push(lost(
            path(first, "restartPolicy"),
            "a pod has one restart policy for all its containers",
            "give all of them the same, or mark the only one that ends with root: true",
        ));
    }
    for other in &ending {
        if retries(other) != retries(first) {
            losses.push(lost(
                path(other, "restartPolicy"),
                "a pod has one restart policy for all its containers",
                "give all of them the same restartPolicy and restartMaxRetries",
            ));
        }
    }
    job
}

fn pod(
    cell: &Cell,
    workload: &Workload,
    named: &mut Named<'_>,
    losses: &mut Vec<Problem>,
) -> Value {
    let mut spec = Map::new();
    let beside = matches!(workload, Workload::Job { beside: true, .. });
    let (mut containers, mut init, mut volumes) = (Vec::new(), Vec::new(), Vec::new());
    for (i, container) in cell.spec.containers.iter().enumerate() {
        let path = format!("spec.containers[{i}]");
        let (mut value, own) = container::write(container, &path, i, named, losses);
        volumes.extend(own);
        if beside && container.restart_policy == RestartPolicy::Always {
            value["restartPolicy"] = "Always".into();
            init.push(value);
        } else {
            containers.push(value);
        }
    }
    spec.insert("containers".into(), containers.into());
    if !init.is_empty() {
        spec.insert("initContainers".into(), init.into());
    }
    if !volumes.is_empty() {
        spec.insert("volumes".into(), volumes.into());
    }
    spec.insert("automountServiceAccountToken".into(), false.into());
    spec.insert("enableServiceLinks".into(), false.into());
    if cell.host_network() {
        spec.insert("hostNetwork".into(), true.into());
    } else {
        spec.insert("hostname".into(), cell.at.cell.as_str().into());
    }
    let whole = &cell.spec.containers;
    if whole.iter().all(|c| c.host_pid) {
        spec.insert("hostPID".into(), true.into());
    } else if let Some(i) = whole.iter().position(|c| c.host_pid) {
        losses.push(lost(
            format!("spec.containers[{i}].hostPID"),
            "holds for all containers of a pod",
            "set it on all of them or on none",
        ));
    }
    let grace = |c: &ContainerSpec| c.stop_grace_seconds.unwrap_or(GRACE);
    let first = whole.first().map_or(GRACE, grace);
    if let Some(i) = whole.iter().position(|c| grace(c) != first) {
        losses.push(lost(
            format!("spec.containers[{i}].stopGraceSeconds"),
            format!("a pod has one for all its containers, and the first has {first}"),
            "give all of them the same",
        ));
    }
    spec.insert("terminationGracePeriodSeconds".into(), first.into());
    spec.into()
}
