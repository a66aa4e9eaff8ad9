//! Pages of cells and what is around them.

use super::{pairs, yes};
use crate::api::v1::object::Object as Any;
use crate::api::v1beta1::{
    Cell, Container, ContainerSpec, ContainerStatus, Metadata, NetworkStatus, Realm,
    ScopedMetadata, Secret, Space, Stack, Status, Usage, Volume,
};
use crate::cli::output::page::Page;

fn head(page: &mut Page, kind: &str, meta: Option<&Metadata>) {
    let meta = meta.cloned().unwrap_or_default();
    page.field("Name", meta.name);
    page.field("Kind", kind);
    page.field("Labels", pairs(&meta.labels));
    page.field("Annotations", pairs(&meta.annotations));
    page.field("Created", meta.created_at);
    page.field("Deleted", meta.deletion_timestamp);
    page.field("Generation", meta.generation.to_string());
}

fn status(page: &mut Page, status: Option<&Status>) {
    let status = status.cloned().unwrap_or_default();
    page.field("State", state(&status.state));
    page.field("Reason", status.reason);
    page.field("Message", status.message);
    page.field("Namespace", status.namespace);
    page.field("Cgroup", status.cgroup_path);
    page.field("Controllers", status.subtree_controllers.join(", "));
    network(page, status.network.as_ref());
}

fn network(page: &mut Page, network: Option<&NetworkStatus>) {
    let Some(network) = network else { return };
    page.section("Network");
    page.field("Name", network.name.clone());
    page.field("Bridge", network.bridge.clone());
    page.field("Subnet", network.subnet.clone());
    page.field("Addresses", network.addresses.join("\n"));
    page.field("Interface", network.interface.clone());
    page.field("On the host", network.host_interface.clone());
    page.field("Namespace", network.netns.clone());
}

fn state(text: &str) -> &str {
    if text.is_empty() { "Pending" } else { text }
}

/// What lives in a scope.
fn children(page: &mut Page, title: &str, others: &[&Any]) {
    let rows: Vec<_> = others
        .iter()
        .filter_map(|any| {
            let (meta, seen) = match any {
                Any::Space(o) => (&o.metadata, o.status.as_ref().map(|s| s.state.clone())),
                Any::Stack(o) => (&o.metadata, o.status.as_ref().map(|s| s.state.clone())),
                Any::Cell(o) => (&o.metadata, o.status.as_ref().map(|s| s.state.clone())),
                _ => return None,
            };
            let seen = seen.unwrap_or_default();
            Some(vec![meta.as_ref()?.name.clone(), state(&seen).to_owned()])
        })
        .collect();
    page.table(title, &["NAME", "STATE"], &rows);
}

pub(super) fn realm(page: &mut Page, realm: &Realm, others: &[&Any]) {
    let spec = realm.spec.clone().unwrap_or_default();
    head(page, "Realm", realm.metadata.as_ref());
    status(page, realm.status.as_ref());
    let logins = spec.registry_credentials.iter();
    let logins = logins.map(|login| match login.server_address.as_str() {
        "" => format!("{} (any registry)", login.username),
        server => format!("{} at {server}", login.username),
    });
    page.lines("Registry logins", logins);
    children(page, "Spaces", others);
}

pub(super) fn space(page: &mut Page, space: &Space, others: &[&Any]) {
    let spec = space.spec.clone().unwrap_or_default();
    head(page, "Space", space.metadata.as_ref());
    page.field("Realm", spec.realm_id);
    page.field("CNI config", spec.cni_config_path);
    status(page, space.status.as_ref());
    children(page, "Stacks", others);
}

pub(super) fn stack(page: &mut Page, stack: &Stack, others: &[&Any]) {
    let spec = stack.spec.clone().unwrap_or_default();
    head(page, "Stack", stack.metadata.as_ref());
    page.field("Realm", spec.realm_id);
    page.field("Space", spec.space_id);
    status(page, stack.status.as_ref());
    children(page, "Cells", others);
}

pub(super) fn cell(page: &mut Page, cell: &Cell) {
    let spec = cell.spec.clone().unwrap_or_default();
    let seen = cell.status.clone().unwrap_or_default();
    head(page, "Cell", cell.metadata.as_ref());
    page.field("Realm", spec.realm_id);
    page.field("Space", spec.space_id);
    page.field("Stack", spec.stack_id);
    page.field("Wanted", spec.run_state);
    page.field("State", state(&seen.state));
    page.field("Reason", seen.reason);
    page.field("Message", seen.message);
    page.field("Ready since", seen.ready_at);
    page.field("Root container", spec.root_container_id);
    page.field("Goes when ended", yes(spec.auto_delete));
    page.field("Cgroup", seen.cgroup_path);
    usage(page, seen.usage.as_ref());
    network(page, seen.network.as_ref());
    for container in &spec.containers {
        let own = seen.containers.iter().find(|c| c.name == container.id);
        page.section(&format!("Container {:?}", container.id));
        one_container(page, container, own);
    }
}

pub(super) fn container(page: &mut Page, container: &Container) {
    let spec = container.spec.clone().unwrap_or_default();
    head(page, "Container", container.metadata.as_ref());
    page.field("Realm", spec.realm_id.clone());
    page.field("Space", spec.space_id.clone());
    page.field("Stack", spec.stack_id.clone());
    page.field("Cell", spec.cell_id.clone());
    one_container(page, &spec, container.status.as_ref());
}

fn one_container(page: &mut Page, spec: &ContainerSpec, seen: Option<&ContainerStatus>) {
    let seen = seen.cloned().unwrap_or_default();
    page.field("State", state(&seen.state));
    page.field("Message", seen.message);
    page.field("Image", spec.image.clone());
    page.field("Image digest", seen.image_digest);
    let command = std::iter::once(&spec.command).chain(&spec.args);
    let command: Vec<&str> = command
        .filter(|w| !w.is_empty())
        .map(String::as_str)
        .collect();
    page.field("Command", command.join(" "));
    page.field("Directory", spec.working_dir.clone());
    page.field("User", spec.user.clone());
    // Values may be secrets; the names say what is set.
    let names: Vec<&str> = spec
        .env
        .iter()
        .map(|pair| pair.split('=').next().unwrap_or_default())
        .collect();
    page.field("Variables", names.join(", "));
    page.field("Root", yes(spec.root));
    page.field("Privileged", yes(spec.privileged));
    page.field("Restart", spec.restart_policy.clone());
    page.field("Restarts", seen.restart_count.to_string());
    page.field("Next restart", seen.next_restart_at);
    if seen.pid > 0 {
        page.field("Process", seen.pid.to_string());
    }
    page.field("Started", seen.started_at);
    page.field("Finished", seen.finished_at);
    if let Some(code) = seen.exit_code {
        let signal = match seen.exit_signal {
            0 => String::new(),
            signal => format!(" (signal {signal})"),
        };
        page.field("Exit code", format!("{code}{signal}"));
    }
    let mounts = spec.volumes.iter().map(|v| {
        let read_only = if v.read_only { " (read-only)" } else { "" };
        format!("{} {} at {}{read_only}", v.kind, v.source, v.target)
    });
    page.field("Volumes", mounts.collect::<Vec<_>>().join("\n"));
    if let Some(limits) = &spec.resources {
        let size = |bytes: i64| indicatif::HumanBytes(bytes.unsigned_abs()).to_string();
        let shown = |n: i64, text: String| if n == 0 { String::new() } else { text };
        page.field(
            "Memory limit",
            shown(limits.memory_limit_bytes, size(limits.memory_limit_bytes)),
        );
        page.field(
            "CPU shares",
            shown(limits.cpu_shares, limits.cpu_shares.to_string()),
        );
        page.field(
            "Process limit",
            shown(limits.pids_limit, limits.pids_limit.to_string()),
        );
    }
    page.field("In containerd", seen.containerd_id);
    usage(page, seen.usage.as_ref());
}

fn kept(page: &mut Page, kind: &str, meta: Option<&ScopedMetadata>) {
    let meta = meta.cloned().unwrap_or_default();
    page.field("Name", meta.name);
    page.field("Kind", kind);
    page.field("Realm", meta.realm);
    page.field("Space", meta.space);
    page.field("Stack", meta.stack);
    page.field("Cell", meta.cell);
    page.field("Labels", pairs(&meta.labels));
    page.field("Annotations", pairs(&meta.annotations));
    page.field("Created", meta.created_at);
    page.field("Deleted", meta.deletion_timestamp);
    page.field("Generation", meta.generation.to_string());
}

pub(super) fn volume(page: &mut Page, volume: &Volume) {
    kept(page, "Volume", volume.metadata.as_ref());
    let spec = volume.spec.clone().unwrap_or_default();
    let reclaim = match spec.reclaim_policy.as_str() {
        "" => "Delete",
        policy => policy,
    };
    page.field("Reclaim", reclaim);
    let status = volume.status.clone().unwrap_or_default();
    page.field("Path", status.path);
}

/// What it holds is shown to nobody.
pub(super) fn secret(page: &mut Page, secret: &Secret) {
    kept(page, "Secret", secret.metadata.as_ref());
}

fn usage(page: &mut Page, usage: Option<&Usage>) {
    let Some(usage) = usage else { return };
    let size = |bytes: Option<u64>| bytes.map(|b| indicatif::HumanBytes(b).to_string());
    page.field("Memory", size(usage.memory_bytes).unwrap_or_default());
    let cpu = usage
        .cpu_usec
        .map(|usec| format!("{:.2} s", usec as f64 / 1e6));
    page.field("CPU time", cpu.unwrap_or_default());
    page.field(
        "Processes",
        usage.pids.map(|n| n.to_string()).unwrap_or_default(),
    );
    let killed = usage.oom_kills.filter(|n| *n > 0);
    page.field(
        "Killed for memory",
        killed.map(|n| n.to_string()).unwrap_or_default(),
    );
}
