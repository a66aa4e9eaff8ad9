//! One service as one cell with one container.

use std::collections::BTreeMap;

use super::super::kubernetes::{ENDLESS, PORTS, Port, ports_text};
use super::super::loss::Notes;
use super::super::quantity::compose_seconds;
use super::super::walk::{Fields, list, strings, text, wrong};
use super::words::{env_file, words};
use super::{Reader, deploy, mounts, ports};
use crate::api::v1beta1::{self, Capabilities, Cell, CellSpec, ContainerSpec, Metadata};
use crate::api::yaml::Position;
use crate::api::yaml::located::{Entry, Kind, Value};
use crate::scheme;

/// Fields of a service that mean nothing here.
const HARMLESS: &[&str] = &["attach", "develop"];

const REMOVE: &str = "remove it";
const HOSTS: &str = "mount a hosts file: ./hosts:/etc/hosts:ro";
const RESOLV: &str = "mount a resolv.conf: ./resolv.conf:/etc/resolv.conf:ro";

/// Fields of a service that have no equivalent.
const WITHOUT: &[(&str, &str)] = &[
    ("blkio_config", REMOVE),
    ("build", "build the image and name it with image"),
    ("cgroup_parent", REMOVE),
    ("cpu_count", "use cpu_shares"),
    ("cpu_percent", "use cpu_shares"),
    ("cpu_period", "use cpu_shares"),
    ("cpu_quota", "use cpu_shares"),
    ("cpu_rt_period", REMOVE),
    ("cpu_rt_runtime", REMOVE),
    ("cpus", "use cpu_shares: cells have a weight, no quota"),
    ("cpuset", REMOVE),
    ("credential_spec", REMOVE),
    (
        "depends_on",
        "let the program wait for what it needs; restart: on-failure helps",
    ),
    ("device_cgroup_rules", "use devices"),
    ("dns", RESOLV),
    ("dns_opt", RESOLV),
    ("dns_search", RESOLV),
    ("domainname", REMOVE),
    (
        "extends",
        "run `docker compose config` and convert what it prints",
    ),
    ("external_links", HOSTS),
    ("extra_hosts", HOSTS),
    ("gpus", "use devices"),
    ("group_add", "put the user into the groups in the image"),
    ("isolation", REMOVE),
    ("links", HOSTS),
    (
        "logging",
        "kukeon keeps and rotates the logs itself: remove it",
    ),
    ("mac_address", REMOVE),
    ("mem_reservation", REMOVE),
    ("mem_swappiness", REMOVE),
    ("memswap_limit", REMOVE),
    ("models", REMOVE),
    ("oom_kill_disable", REMOVE),
    ("oom_score_adj", REMOVE),
    ("platform", "name an image of this platform"),
    ("post_start", "do it in a wrapper script"),
    ("pre_stop", "do it in a wrapper script"),
    ("provider", REMOVE),
    ("runtime", REMOVE),
    ("shm_size", "mount a tmpfs on /dev/shm"),
    ("storage_opt", REMOVE),
    ("sysctls", "set them on the host"),
    ("ulimits", "set them on the daemon"),
    ("use_api_socket", REMOVE),
    ("userns_mode", REMOVE),
    ("uts", REMOVE),
    ("volumes_from", "name the volumes"),
];

/// Reads one service and adds its cell.
pub(super) fn read(reader: &mut Reader<'_>, entry: &Entry, notes: &mut Notes) {
    let name = entry.key.as_str();
    notes.document = format!("service {name:?}");
    let path = format!("services.{name}");
    let mut fields = Fields::of(notes, &entry.value, &path);
    let at = entry.at;
    let mut spec = ContainerSpec {
        id: name.to_owned(),
        image: fields.text(notes, "image"),
        working_dir: fields.text(notes, "working_dir"),
        user: fields.text(notes, "user"),
        privileged: fields.bool(notes, "privileged") == Some(true),
        read_only_root_filesystem: fields.bool(notes, "read_only") == Some(true),
        ..Default::default()
    };
    let has_build = entry.value.get("build").is_some();
    let mut cell = CellSpec {
        realm_id: reader.realm.to_string(),
        space_id: reader.space.to_string(),
        stack_id: reader.stack.to_string(),
        ..Default::default()
    };
    command(&mut fields, &mut spec, notes);
    environment(reader, &mut fields, &mut spec, notes);
    restart(&mut fields, &mut spec, notes);
    let replicas = deploy::read(&mut fields, &mut spec, notes);
    let profiles = fields.take("profiles");
    if replicas == 0 || profiles.is_some_and(|p| matches!(&p.kind, Kind::List(l) if !l.is_empty()))
    {
        cell.run_state = "Stopped".to_owned();
    }
    security(&mut fields, &mut spec, notes);
    namespaces(&mut fields, &mut spec, name, notes);
    let path_of = |key: &str| format!("{path}.{key}");
    if let Some(value) = fields.take("volumes") {
        mounts::volumes(reader, value, &path_of("volumes"), &mut spec, notes);
    }
    if let Some(value) = fields.take("tmpfs") {
        mounts::tmpfs(value, &path_of("tmpfs"), &mut spec, notes);
    }
    for key in ["configs", "secrets"] {
        if let Some(value) = fields.take(key) {
            mounts::files(reader, key, value, &path_of(key), &mut spec, notes);
        }
    }
    let mut offered: Vec<Port> = Vec::new();
    if let Some(value) = fields.take("expose") {
        offered.extend(ports::exposed(value, &path_of("expose"), notes));
    }
    if let Some(value) = fields.take("ports") {
        // On the host's own network they are open anyway.
        let mut own = Notes::default();
        let target = if spec.host_network {
            &mut own
        } else {
            &mut *notes
        };
        offered.extend(ports::published(value, &path_of("ports"), target));
        notes.errors.append(&mut own.errors);
    }
    reader.networks(&mut fields, spec.host_network, notes);
    if let Some(value) = fields.take("healthcheck") {
        let off = value.get("disable").and_then(Value::text) == Some("true");
        if !off {
            let remedy = "cells have no probes yet: check it from outside";
            notes.lost(
                path_of("healthcheck"),
                value.at,
                "has no equivalent",
                remedy,
            );
        }
    }
    pull_policy(&mut fields, &mut spec, notes);
    stop(&mut fields, &mut spec, notes);
    for key in ["stdin_open", "tty", "init"] {
        if fields.bool(notes, key) == Some(true) {
            notes.lost(path_of(key), at, "has no equivalent", REMOVE);
        }
    }
    let mut labels = pairs(&mut fields, "labels", notes);
    labels.retain(|key, _| {
        let reserved = scheme::is_reserved_label(key);
        if reserved {
            let message = format!("the label key {key:?} is reserved for kukeon");
            notes.lost(path_of("labels"), at, message, REMOVE);
        }
        !reserved
    });
    let mut annotations = pairs(&mut fields, "annotations", notes);
    for port in &offered {
        let text = match port.protocol.as_str() {
            "tcp" => port.port.to_string(),
            protocol => format!("{}/{protocol}", port.port),
        };
        if !spec.ports.contains(&text) {
            spec.ports.push(text);
        }
    }
    // A cell says where it listens; where the outside reaches it is for a cluster.
    offered.retain(|port| port.published.is_some());
    let text = ports_text(&offered);
    if !text.is_empty() {
        annotations.insert(PORTS.to_owned(), text);
    }
    fields.skip_extensions();
    fields.finish(notes, HARMLESS, WITHOUT);
    if spec.image.is_empty() {
        if !has_build {
            let message = "has neither image nor build";
            notes.error(path, at, "MissingField", message);
        }
        return;
    }
    cell.containers = vec![spec];
    let cell = Cell {
        metadata: Some(Metadata {
            name: name.to_owned(),
            labels,
            annotations,
            ..Default::default()
        }),
        spec: Some(cell),
        ..v1beta1::Cell::default()
    };
    reader.draft.cell(notes, &path, at, cell);
}

fn split(value: &Value, path: &str, notes: &mut Notes) -> Vec<String> {
    match &value.kind {
        Kind::List(_) => strings(notes, value, path),
        _ => {
            let text = text(notes, value, path);
            words(&text).unwrap_or_else(|| {
                notes.error(path, value.at, "BadValue", "a quote is not closed");
                Vec::new()
            })
        }
    }
}

fn command(fields: &mut Fields<'_>, spec: &mut ContainerSpec, notes: &mut Notes) {
    let at = fields.sub("entrypoint");
    let entrypoint = fields
        .take("entrypoint")
        .map(|value| split(value, &at, notes));
    let at = fields.sub("command");
    let command = fields.take("command").map(|value| split(value, &at, notes));
    let command = command.unwrap_or_default();
    spec.args = match entrypoint {
        None => command,
        Some(entrypoint) => {
            // An empty one clears that of the image.
            let mut whole = entrypoint.into_iter().chain(command);
            spec.command = whole.next().unwrap_or_default();
            whole.collect()
        }
    };
}

fn environment(
    reader: &Reader<'_>,
    fields: &mut Fields<'_>,
    spec: &mut ContainerSpec,
    notes: &mut Notes,
) {
    let mut out: Vec<(String, String)> = Vec::new();
    let mut set = |name: String, value: String| {
        out.retain(|(key, _)| *key != name);
        out.push((name, value));
    };
    let path = fields.sub("env_file");
    if let Some(value) = fields.take("env_file") {
        let one = std::slice::from_ref(value);
        let files = match &value.kind {
            Kind::List(files) => files.as_slice(),
            _ => one,
        };
        for (i, value) in files.iter().enumerate() {
            let path = format!("{path}[{i}]");
            let (file, required) = match &value.kind {
                Kind::Map(_) => {
                    let mut file = Fields::of(notes, value, &path);
                    let found = file.text(notes, "path");
                    let required = file.bool(notes, "required") != Some(false);
                    file.finish(notes, &[], &[("format", REMOVE)]);
                    (found, required)
                }
                _ => (text(notes, value, &path), true),
            };
            let found =
                (reader.read)(&file).and_then(|text| env_file(&file, &text, reader.variables));
            match found {
                Ok(pairs) => pairs.into_iter().for_each(|(k, v)| set(k, v)),
                Err(error) if error.reason == "FileUnreadable" && !required => {}
                Err(error) => {
                    notes.error(path, value.at, "BadEnv", error.message);
                }
            }
        }
    }
    let path = fields.sub("environment");
    if let Some(value) = fields.take("environment") {
        let mut one = |name: &str, given: Option<String>| {
            // A name alone takes the value of the environment, if there is one.
            if let Some(value) = given.or_else(|| reader.variables.get(name).cloned()) {
                set(name.to_owned(), value);
            }
        };
        match &value.kind {
            Kind::Map(entries) => {
                for entry in entries {
                    let given = match entry.value.is_null() {
                        true => None,
                        false => Some(text(notes, &entry.value, &format!("{path}.{}", entry.key))),
                    };
                    one(&entry.key, given);
                }
            }
            Kind::List(_) => {
                for pair in strings(notes, value, &path) {
                    match pair.split_once('=') {
                        Some((name, value)) => one(name, Some(value.to_owned())),
                        None => one(&pair, None),
                    }
                }
            }
            Kind::Scalar(..) => wrong(notes, &path, value, "a mapping or a list"),
        }
    }
    spec.env = out.into_iter().map(|(k, v)| format!("{k}={v}")).collect();
}

fn restart(fields: &mut Fields<'_>, spec: &mut ContainerSpec, notes: &mut Notes) {
    let at = fields.at;
    let word = fields.text(notes, "restart");
    let (policy, limit) = word.split_once(':').unwrap_or((&word, ""));
    match policy {
        "" | "no" | "false" => {}
        "always" | "unless-stopped" => spec.restart_policy = "always".to_owned(),
        "on-failure" => {
            spec.restart_policy = "on-failure".to_owned();
            // Without a number it is tried without end.
            spec.restart_max_retries = match limit {
                "" => Some(i64::from(ENDLESS)),
                limit => limit.parse().ok(),
            };
            if spec.restart_max_retries.is_none() {
                let message = format!("{limit:?} is not a number");
                notes.error(fields.sub("restart"), at, "BadValue", message);
            }
        }
        other => {
            let message =
                format!("{other:?} is not one of: no, always, on-failure, unless-stopped");
            notes.error(fields.sub("restart"), at, "BadValue", message);
        }
    }
}

fn security(fields: &mut Fields<'_>, spec: &mut ContainerSpec, notes: &mut Notes) {
    let capabilities = Capabilities {
        add: fields.strings(notes, "cap_add"),
        drop: fields.strings(notes, "cap_drop"),
    };
    if capabilities != Capabilities::default() {
        spec.capabilities = Some(capabilities);
    }
    let path = fields.sub("security_opt");
    for (i, value) in fields.list(notes, "security_opt").iter().enumerate() {
        let option = text(notes, value, &format!("{path}[{i}]"));
        if option.starts_with("apparmor") || option.starts_with("label") {
            notes.lost(
                format!("{path}[{i}]"),
                value.at,
                "has no equivalent",
                REMOVE,
            );
        } else {
            spec.security_opts.push(option.replacen(':', "=", 1));
        }
    }
    // Compose lets programs gain privileges unless told otherwise; we do not.
    let told = spec
        .security_opts
        .iter()
        .any(|o| o.starts_with("no-new-privileges"));
    if !told && !spec.privileged {
        spec.security_opts
            .push("no-new-privileges=false".to_owned());
    }
    let path = fields.sub("devices");
    for (i, value) in fields.list(notes, "devices").iter().enumerate() {
        let device = text(notes, value, &format!("{path}[{i}]"));
        let parts: Vec<&str> = device.split(':').collect();
        match parts[..] {
            [host] => spec.devices.push(host.to_owned()),
            [host, inside] | [host, inside, "rwm"] if host == inside => {
                spec.devices.push(host.to_owned());
            }
            _ => {
                let message = "a device has the same path inside, and all rights";
                notes.lost(
                    format!("{path}[{i}]"),
                    value.at,
                    message,
                    "name the path once",
                );
            }
        }
    }
}

fn namespaces(fields: &mut Fields<'_>, spec: &mut ContainerSpec, name: &str, notes: &mut Notes) {
    let at: Position = fields.at;
    match fields.text(notes, "network_mode").as_str() {
        "" | "bridge" => {}
        "host" => spec.host_network = true,
        _ => {
            let remedy = "use the project's network or host; containers of one Cell share one";
            notes.lost(fields.sub("network_mode"), at, "has no equivalent", remedy);
        }
    }
    match fields.text(notes, "pid").as_str() {
        "" => {}
        "host" => spec.host_pid = true,
        _ => notes.lost(fields.sub("pid"), at, "has no equivalent", REMOVE),
    }
    match fields.text(notes, "cgroup").as_str() {
        "" | "private" => {}
        "host" => spec.host_cgroup = true,
        _ => notes.lost(fields.sub("cgroup"), at, "has no equivalent", REMOVE),
    }
    if !matches!(
        fields.text(notes, "ipc").as_str(),
        "" | "private" | "shareable"
    ) {
        notes.lost(fields.sub("ipc"), at, "has no equivalent", REMOVE);
    }
    for key in ["hostname", "container_name"] {
        let other = fields.text(notes, key);
        if !other.is_empty() && other != name {
            let message = format!("the cell is called {name:?}, and by no other name");
            notes.lost(
                fields.sub(key),
                at,
                message,
                "remove it, or rename the service",
            );
        }
    }
}

fn pull_policy(fields: &mut Fields<'_>, spec: &mut ContainerSpec, notes: &mut Notes) {
    let at = fields.at;
    spec.image_pull_policy = match fields.text(notes, "pull_policy").as_str() {
        "" | "missing" | "if_not_present" => String::new(),
        "always" => "always".to_owned(),
        "never" => "never".to_owned(),
        other => {
            let message = format!("{other:?} has no equivalent");
            let remedy = "use always, missing or never";
            notes.lost(fields.sub("pull_policy"), at, message, remedy);
            String::new()
        }
    };
}

fn stop(fields: &mut Fields<'_>, spec: &mut ContainerSpec, notes: &mut Notes) {
    let at = fields.at;
    let grace = fields.text(notes, "stop_grace_period");
    if !grace.is_empty() {
        spec.stop_grace_seconds = compose_seconds(&grace);
        if spec.stop_grace_seconds.is_none() {
            let message = format!("{grace:?} is not a duration such as 1m30s");
            notes.error(fields.sub("stop_grace_period"), at, "BadValue", message);
        }
    }
    if !matches!(
        fields.text(notes, "stop_signal").as_str(),
        "" | "SIGTERM" | "TERM" | "15"
    ) {
        let remedy = "let the program end on SIGTERM";
        notes.lost(
            fields.sub("stop_signal"),
            at,
            "a cell is stopped with SIGTERM",
            remedy,
        );
    }
}

/// A mapping, or a list of `NAME=value`.
fn pairs(
    fields: &mut Fields<'_>,
    key: &'static str,
    notes: &mut Notes,
) -> BTreeMap<String, String> {
    let path = fields.sub(key);
    let Some(value) = fields.take(key) else {
        return BTreeMap::new();
    };
    match &value.kind {
        Kind::Map(entries) => entries
            .iter()
            .map(|e| {
                let text = match e.value.is_null() {
                    true => String::new(),
                    false => text(notes, &e.value, &format!("{path}.{}", e.key)),
                };
                (e.key.clone(), text)
            })
            .collect(),
        _ => list(notes, value, &path)
            .iter()
            .map(|item| {
                let text = text(notes, item, &path);
                let (name, value) = text.split_once('=').unwrap_or((&text, ""));
                (name.to_owned(), value.to_owned())
            })
            .collect(),
    }
}
