//! A container of a pod as one of ours.

use super::super::super::loss::Notes;
use super::super::super::quantity::{bytes, milli_cpu, milli_to_shares};
use super::super::super::walk::Fields;
use super::super::kept;
use super::config::{Config, Store};
use super::expand::expand;
use crate::api::v1beta1;
use crate::api::yaml::located::Value;

/// What the pod says for all its containers.
#[derive(Debug, Clone, Default)]
pub(super) struct Whole {
    pub namespace: String,
    /// What it noted of what it names, by place.
    pub sources: std::collections::BTreeMap<String, String>,
    pub security: Security,
}

/// A security context.
#[derive(Debug, Clone, Default)]
pub(super) struct Security {
    user: Option<i64>,
    group: Option<i64>,
    seccomp: Option<&'static str>,
    non_root: bool,
}

/// A container, its named ports, its mounts and its own restart policy.
pub(super) struct Read<'a> {
    pub spec: v1beta1::ContainerSpec,
    pub ports: Vec<(String, u16)>,
    pub mounts: Vec<(String, &'a Value)>,
    pub restart: String,
}

const PROBE: &str = "cells have no probes yet: check it from outside";

/// Fields of a container that have no equivalent.
const WITHOUT: &[(&str, &str)] = &[
    ("livenessProbe", PROBE),
    ("readinessProbe", PROBE),
    ("startupProbe", PROBE),
    ("lifecycle", "do it in the program or a wrapper script"),
    ("stdin", "remove it"),
    ("stdinOnce", "remove it"),
    ("tty", "remove it"),
    ("volumeDevices", "use devices of the container"),
    ("resizePolicy", "remove it"),
    ("restartPolicyRules", "remove it"),
];

/// Reads one.
pub(super) fn read<'a>(
    value: &'a Value,
    path: &str,
    whole: &Whole,
    config: &Config,
    notes: &mut Notes,
) -> Read<'a> {
    let mut fields = Fields::of(notes, value, path);
    let mut spec = v1beta1::ContainerSpec {
        id: fields.text(notes, "name"),
        image: fields.text(notes, "image"),
        working_dir: fields.text(notes, "workingDir"),
        ..Default::default()
    };
    let pull = fields.text(notes, "imagePullPolicy");
    spec.image_pull_policy = match pull.as_str() {
        "Always" => "always".to_owned(),
        "Never" => "never".to_owned(),
        // What is called latest is asked for each time, unless said otherwise.
        "" if is_latest(&spec.image) => "always".to_owned(),
        "" | "IfNotPresent" => String::new(),
        other => {
            let message = format!("{other:?} is not one of: Always, IfNotPresent, Never");
            notes.error(fields.sub("imagePullPolicy"), value.at, "BadValue", message);
            String::new()
        }
    };
    let id = spec.id.clone();
    let variables = environment(&mut fields, &id, &mut spec.secrets, whole, config, notes);
    let expanded = |list: Vec<String>| list.into_iter().map(|t| expand(&t, &variables));
    let mut command = expanded(fields.strings(notes, "command"));
    spec.command = command.next().unwrap_or_default();
    spec.args = command.collect();
    spec.args.extend(expanded(fields.strings(notes, "args")));
    spec.env = variables
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    resources(&mut fields, &mut spec, notes);
    security(&mut fields, &mut spec, whole, notes);
    let ports = ports(&mut fields, &mut spec, notes);
    let mounts = fields.list(notes, "volumeMounts");
    let at = fields.sub("volumeMounts");
    let mounts = mounts
        .iter()
        .enumerate()
        .map(|(i, mount)| (format!("{at}[{i}]"), mount))
        .collect();
    let restart = fields.text(notes, "restartPolicy");
    fields.finish(
        notes,
        &["terminationMessagePath", "terminationMessagePolicy"],
        WITHOUT,
    );
    Read {
        spec,
        ports,
        mounts,
        restart,
    }
}

fn is_latest(image: &str) -> bool {
    let last = image.rsplit('/').next().unwrap_or(image);
    !image.contains('@') && (!last.contains(':') || last.ends_with(":latest"))
}

fn environment(
    fields: &mut Fields<'_>,
    id: &str,
    secrets: &mut Vec<v1beta1::ContainerSecret>,
    whole: &Whole,
    config: &Config,
    notes: &mut Notes,
) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Vec::new();
    let mut set = |name: String, value: String| {
        out.retain(|(key, _)| *key != name);
        out.push((name, value));
    };
    let path = fields.sub("envFrom");
    for (i, value) in fields.list(notes, "envFrom").iter().enumerate() {
        let mut from = Fields::of(notes, value, format!("{path}[{i}]"));
        let prefix = from.text(notes, "prefix");
        for (key, store) in [
            ("configMapRef", Store::ConfigMap),
            ("secretRef", Store::Secret),
        ] {
            let at = from.sub(key);
            let Some(reference) = from.take(key) else {
                continue;
            };
            let mut reference = Fields::of(notes, reference, at);
            let name = reference.text(notes, "name");
            let optional = reference.bool(notes, "optional") == Some(true);
            let path = reference.path.clone();
            reference.finish(notes, &[], &[]);
            match config.values(store, &whole.namespace, &name) {
                Some(values) if store == Store::Secret => {
                    for (key, _) in values {
                        let variable = format!("{prefix}{key}");
                        secrets.extend(variable_of(id, &variable, &name, key, whole));
                    }
                }
                Some(values) => {
                    for (key, value) in values {
                        set(format!("{prefix}{key}"), value.clone());
                    }
                }
                None if optional => {}
                None => missing(store, &name, &path, value, notes),
            }
        }
        from.finish(notes, &[], &[]);
    }
    let mut plain: Vec<(String, String)> = Vec::new();
    let path = fields.sub("env");
    for (i, value) in fields.list(notes, "env").iter().enumerate() {
        let mut pair = Fields::of(notes, value, format!("{path}[{i}]"));
        let name = pair.text(notes, "name");
        let text = pair.text(notes, "value");
        let from = pair.take("valueFrom");
        let at = pair.sub("valueFrom");
        pair.finish(notes, &[], &[]);
        match from {
            None => plain.push((name, text)),
            Some(from) => {
                if let Some((secret, key)) = secret_key(from) {
                    secrets.extend(variable_of(id, &name, secret, key, whole));
                } else if let Some(text) = value_from(from, &at, whole, config, notes) {
                    // Only what stands in the pod is expanded, not what is referred to.
                    plain.push((name, text.replace('$', "$$")));
                }
            }
        }
    }
    for (name, text) in plain {
        let value = expand(&text, &out);
        out.retain(|(key, _)| *key != name);
        out.push((name, value));
    }
    out
}

/// The Secret and the key of a `secretKeyRef`, where nothing else is said.
fn secret_key(from: &Value) -> Option<(&str, &str)> {
    let reference = from.get("secretKeyRef")?;
    let text = |key| reference.get(key).and_then(Value::text);
    match text("optional") {
        Some("true") => None,
        _ => Some((text("name")?, text("key")?)),
    }
}

/// A variable with the value of a secret.
fn variable_of(
    container: &str,
    variable: &str,
    secret: &str,
    key: &str,
    whole: &Whole,
) -> Option<v1beta1::ContainerSecret> {
    let place = format!("env-{container}-{variable}");
    let own = kept::secret_name(secret, key);
    let source = kept::source(&whole.sources, &place, &own)?;
    Some(kept::use_of(variable, &source))
}

fn value_from(
    value: &Value,
    path: &str,
    whole: &Whole,
    config: &Config,
    notes: &mut Notes,
) -> Option<String> {
    let mut fields = Fields::of(notes, value, path);
    let mut out = None;
    for (key, store) in [
        ("configMapKeyRef", Store::ConfigMap),
        ("secretKeyRef", Store::Secret),
    ] {
        let at = fields.sub(key);
        let Some(reference) = fields.take(key) else {
            continue;
        };
        let mut reference = Fields::of(notes, reference, at);
        let name = reference.text(notes, "name");
        let key = reference.text(notes, "key");
        let optional = reference.bool(notes, "optional") == Some(true);
        let path = reference.path.clone();
        reference.finish(notes, &[], &[]);
        let values = config.values(store, &whole.namespace, &name);
        match values.and_then(|values| values.iter().rev().find(|(k, _)| *k == key)) {
            Some((_, text)) => {
                out = Some(text.clone());
            }
            None if optional => {}
            None => missing(store, &format!("{name}/{key}"), &path, value, notes),
        }
    }
    let known = "write the value";
    fields.finish(
        notes,
        &[],
        &[
            ("fieldRef", known),
            ("resourceFieldRef", known),
            ("fileKeyRef", known),
        ],
    );
    out
}

fn missing(store: Store, name: &str, path: &str, value: &Value, notes: &mut Notes) {
    let kind = store.kind();
    notes.lost(
        path,
        value.at,
        format!("the {kind} {name:?} is not in the input"),
        "add its document with -f, or write the value",
    );
}

fn resources(fields: &mut Fields<'_>, spec: &mut v1beta1::ContainerSpec, notes: &mut Notes) {
    let path = fields.sub("resources");
    let Some(value) = fields.take("resources") else {
        return;
    };
    let mut out = v1beta1::Resources::default();
    let mut resources = Fields::of(notes, value, path);
    let bad = |notes: &mut Notes, path: String, text: &str| {
        let message = format!("{text:?} is not a quantity");
        notes.error(path, value.at, "BadValue", message);
    };
    let at = resources.sub("limits");
    if let Some(limits) = resources.take("limits") {
        let mut limits = Fields::of(notes, limits, at);
        let text = limits.text(notes, "memory");
        match bytes(&text).and_then(|n| i64::try_from(n).ok()) {
            Some(n) => out.memory_limit_bytes = n,
            None if text.is_empty() => {}
            None => bad(notes, limits.sub("memory"), &text),
        }
        limits.finish(
            notes,
            &[],
            &[
                ("cpu", "cells have a weight only: use requests.cpu"),
                ("ephemeral-storage", "remove it"),
            ],
        );
    }
    let at = resources.sub("requests");
    if let Some(requests) = resources.take("requests") {
        let mut requests = Fields::of(notes, requests, at);
        let text = requests.text(notes, "cpu");
        match milli_cpu(&text) {
            Some(milli) => {
                out.cpu_shares = i64::try_from(milli_to_shares(milli)).unwrap_or_default();
            }
            None if text.is_empty() => {}
            None => bad(notes, requests.sub("cpu"), &text),
        }
        // Memory that is asked for reserves a place on a node: there is one.
        requests.finish(notes, &["memory"], &[("ephemeral-storage", "remove it")]);
    }
    resources.finish(notes, &[], &[("claims", "remove them")]);
    if out != v1beta1::Resources::default() {
        spec.resources = Some(out);
    }
}

/// Reads what pod and container have in common.
fn common(fields: &mut Fields<'_>, notes: &mut Notes) -> Security {
    let mut out = Security {
        user: fields.int(notes, "runAsUser"),
        group: fields.int(notes, "runAsGroup"),
        seccomp: None,
        non_root: fields.bool(notes, "runAsNonRoot") == Some(true),
    };
    let path = fields.sub("seccompProfile");
    if let Some(value) = fields.take("seccompProfile") {
        let mut profile = Fields::of(notes, value, path);
        let kind = profile.text(notes, "type");
        let path = profile.path.clone();
        profile.take("localhostProfile");
        profile.finish(notes, &[], &[]);
        out.seccomp = match kind.as_str() {
            "RuntimeDefault" => Some(""),
            "Unconfined" => Some("seccomp=unconfined"),
            _ => {
                let remedy = "use the default profile, or name one of the host in securityOpts";
                notes.lost(path, value.at, "is a file of a node", remedy);
                None
            }
        };
    }
    out
}

/// The pod's own security context.
pub(super) fn of_pod(value: &Value, path: &str, notes: &mut Notes) -> Security {
    let mut fields = Fields::of(notes, value, path);
    let out = common(&mut fields, notes);
    let remedy = "give the directory the right owner on the host";
    fields.finish(
        notes,
        &["fsGroupChangePolicy", "supplementalGroupsPolicy"],
        &[
            ("fsGroup", remedy),
            (
                "supplementalGroups",
                "put the user into the groups in the image",
            ),
            ("sysctls", "set them on the host"),
            ("seLinuxOptions", "remove them"),
            ("seLinuxChangePolicy", "remove it"),
            ("appArmorProfile", "remove it"),
            ("windowsOptions", "remove them"),
        ],
    );
    out
}

fn security(
    fields: &mut Fields<'_>,
    spec: &mut v1beta1::ContainerSpec,
    whole: &Whole,
    notes: &mut Notes,
) {
    let path = fields.sub("securityContext");
    let value = fields.take("securityContext");
    let mut own = Security::default();
    let mut gain = None;
    if let Some(value) = value {
        let mut context = Fields::of(notes, value, path.clone());
        own = common(&mut context, notes);
        spec.privileged = context.bool(notes, "privileged") == Some(true);
        spec.read_only_root_filesystem =
            context.bool(notes, "readOnlyRootFilesystem") == Some(true);
        gain = context.bool(notes, "allowPrivilegeEscalation");
        let at = context.sub("capabilities");
        if let Some(value) = context.take("capabilities") {
            let mut list = Fields::of(notes, value, at);
            let capabilities = v1beta1::Capabilities {
                add: list.strings(notes, "add"),
                drop: list.strings(notes, "drop"),
            };
            list.finish(notes, &[], &[]);
            if capabilities != v1beta1::Capabilities::default() {
                spec.capabilities = Some(capabilities);
            }
        }
        context.finish(
            notes,
            &[],
            &[
                ("procMount", "remove it"),
                ("seLinuxOptions", "remove them"),
                ("appArmorProfile", "remove it"),
                ("windowsOptions", "remove them"),
            ],
        );
    }
    let pod = &whole.security;
    let at = value.map_or(fields.at, |v| v.at);
    let (user, group) = (own.user.or(pod.user), own.group.or(pod.group));
    match (user, group) {
        (Some(user), Some(group)) => spec.user = format!("{user}:{group}"),
        (Some(user), None) => spec.user = user.to_string(),
        (None, Some(_)) => {
            notes.lost(path.clone(), at, "a group without a user", "set runAsUser");
        }
        (None, None) => {}
    }
    if (own.non_root || pod.non_root) && user.is_none_or(|user| user == 0) {
        let message = "that the image's user is not root is not checked";
        notes.lost(
            path.clone(),
            at,
            message,
            "set runAsUser to a number above 0",
        );
    }
    if let Some(seccomp) = own.seccomp.or(pod.seccomp)
        && !seccomp.is_empty()
        && !spec.privileged
    {
        spec.security_opts.push(seccomp.to_owned());
    }
    if !spec.privileged && gain != Some(false) {
        spec.security_opts
            .insert(0, "no-new-privileges=false".to_owned());
    }
}

fn ports(
    fields: &mut Fields<'_>,
    spec: &mut v1beta1::ContainerSpec,
    notes: &mut Notes,
) -> Vec<(String, u16)> {
    let mut out = Vec::new();
    let path = fields.sub("ports");
    for (i, value) in fields.list(notes, "ports").iter().enumerate() {
        let mut port = Fields::of(notes, value, format!("{path}[{i}]"));
        let name = port.text(notes, "name");
        let number = port.int(notes, "containerPort");
        let remedy = "kukeon does not publish ports: use the cell's address, or hostNetwork";
        if let Some(number) = number.and_then(|n| u16::try_from(n).ok())
            && !name.is_empty()
        {
            out.push((name, number));
        }
        let protocol = port.text_or_absent(notes, "protocol");
        if let Some(number) = number {
            let protocol = protocol.unwrap_or_else(|| "TCP".to_owned());
            let text = match protocol.to_ascii_lowercase().as_str() {
                "tcp" => number.to_string(),
                other => format!("{number}/{other}"),
            };
            if !spec.ports.contains(&text) {
                spec.ports.push(text);
            }
        }
        port.finish(notes, &[], &[("hostPort", remedy), ("hostIP", remedy)]);
    }
    out
}
