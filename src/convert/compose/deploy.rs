//! Limits and restarts of a service, written on it or below `deploy`.

use super::super::kubernetes::ENDLESS;
use super::super::loss::Notes;
use super::super::quantity::compose_seconds;
use super::super::walk::Fields;
use super::mounts::bytes;
use crate::api::v1beta1::{ContainerSpec, Resources};

const REMOVE: &str = "remove it";
const QUOTA: &str = "use cpu_shares: cells have a weight, no quota";

/// Reads both; gives how many shall run, 0 or 1.
pub(super) fn read(fields: &mut Fields<'_>, spec: &mut ContainerSpec, notes: &mut Notes) -> i64 {
    let mut limits = Resources::default();
    let at = fields.at;
    let text = fields.text(notes, "mem_limit");
    if !text.is_empty() {
        limits.memory_limit_bytes = bytes(&text, &fields.sub("mem_limit"), at, notes);
    }
    limits.cpu_shares = fields.int(notes, "cpu_shares").unwrap_or_default();
    // -1 is no limit.
    let pids = fields.int(notes, "pids_limit").filter(|n| *n > 0);
    limits.pids_limit = pids.unwrap_or_default();
    let mut replicas = fields.int(notes, "scale");
    let path = fields.sub("deploy");
    if let Some(value) = fields.take("deploy") {
        let mut deploy = Fields::of(notes, value, path);
        if let Some(number) = deploy.int(notes, "replicas") {
            replicas = Some(number);
        }
        let mode = deploy.text(notes, "mode");
        if !matches!(mode.as_str(), "" | "replicated" | "global") {
            notes.lost(deploy.sub("mode"), value.at, "has no equivalent", REMOVE);
        }
        let path = deploy.sub("resources");
        if let Some(value) = deploy.take("resources") {
            resources(Fields::of(notes, value, path), &mut limits, notes);
        }
        let path = deploy.sub("restart_policy");
        if let Some(value) = deploy.take("restart_policy") {
            restart(Fields::of(notes, value, path), spec, notes);
        }
        deploy.skip_extensions();
        deploy.finish(
            notes,
            &[],
            &[
                ("endpoint_mode", REMOVE),
                ("labels", "put them on the service"),
                ("placement", "remove it: there is one machine"),
                ("rollback_config", REMOVE),
                ("update_config", REMOVE),
            ],
        );
    }
    if limits != Resources::default() {
        spec.resources = Some(limits);
    }
    let replicas = replicas.unwrap_or(1);
    if !(0..=1).contains(&replicas) {
        let message = format!("a cell runs once, not {replicas} times");
        let remedy = "set it to 1, or write a service for each";
        notes.lost(fields.sub("deploy.replicas"), at, message, remedy);
    }
    replicas
}

fn resources(mut fields: Fields<'_>, out: &mut Resources, notes: &mut Notes) {
    let path = fields.sub("limits");
    if let Some(value) = fields.take("limits") {
        let mut limits = Fields::of(notes, value, path);
        let text = limits.text(notes, "memory");
        if !text.is_empty() {
            out.memory_limit_bytes = bytes(&text, &limits.sub("memory"), value.at, notes);
        }
        if let Some(pids) = limits.int(notes, "pids").filter(|n| *n > 0) {
            out.pids_limit = pids;
        }
        limits.finish(notes, &[], &[("cpus", QUOTA)]);
    }
    let path = fields.sub("reservations");
    if let Some(value) = fields.take("reservations") {
        let reservations = Fields::of(notes, value, path);
        reservations.finish(
            notes,
            &[],
            &[
                ("cpus", QUOTA),
                ("memory", "remove it: nothing is reserved on one machine"),
                ("devices", "use devices"),
                ("generic_resources", REMOVE),
            ],
        );
    }
    fields.finish(notes, &[], &[]);
}

fn restart(mut fields: Fields<'_>, spec: &mut ContainerSpec, notes: &mut Notes) {
    let at = fields.at;
    let condition = fields.text(notes, "condition");
    let attempts = fields.int(notes, "max_attempts");
    spec.restart_max_retries = None;
    spec.restart_policy = match condition.as_str() {
        "none" => String::new(),
        "on-failure" => {
            spec.restart_max_retries = Some(attempts.unwrap_or(i64::from(ENDLESS)));
            "on-failure".to_owned()
        }
        "" | "any" => {
            if attempts.is_some() {
                let remedy = "use the condition on-failure";
                notes.lost(
                    fields.sub("max_attempts"),
                    at,
                    "has no limit with any",
                    remedy,
                );
            }
            "always".to_owned()
        }
        other => {
            let message = format!("{other:?} is not one of: none, on-failure, any");
            notes.error(fields.sub("condition"), at, "BadValue", message);
            String::new()
        }
    };
    let delay = fields.text(notes, "delay");
    if !delay.is_empty() && !spec.restart_policy.is_empty() {
        spec.restart_backoff_seconds = compose_seconds(&delay);
        if spec.restart_backoff_seconds.is_none() {
            let message = format!("{delay:?} is not a duration such as 5s");
            notes.error(fields.sub("delay"), at, "BadValue", message);
        }
    }
    fields.finish(notes, &[], &[("window", REMOVE)]);
}
