//! A container of ours as one of a pod, with the volumes it brings along.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::super::loss::lost;
use super::super::quantity::{bytes_text, shares_to_milli};
use super::kept::{FILE_MODE, Named, VALUE};
use crate::api::Problem;
use crate::model::{
    ContainerPort, ContainerSpec, KeptKind, Mount, MountKind, PullPolicy, Seccomp, SecretTarget,
    Tmpfs,
};

/// Options of a memory file system that change nothing for the programs in it.
const IMPLIED: &[&str] = &["nosuid", "nodev", "rw"];

/// Largest user or group id that Kubernetes takes.
const MAX_ID: u32 = i32::MAX as u32;

/// A container and the volumes of the pod that are its own. What concerns the
/// whole pod (restarts, grace, host namespaces) is written there.
pub(super) fn write(
    spec: &ContainerSpec,
    path: &str,
    index: usize,
    named: &mut Named<'_>,
    losses: &mut Vec<Problem>,
) -> (Value, Vec<Value>) {
    let ContainerSpec {
        id,
        root: _,
        image,
        command,
        args,
        working_dir,
        env,
        user: _,
        restart_policy: _,
        restart_backoff_seconds,
        restart_max_retries: _,
        stop_grace_seconds: _,
        pull_policy,
        privileged: _,
        host_network: _,
        host_pid: _,
        host_cgroup,
        read_only_root: _,
        capabilities: _,
        security: _,
        devices,
        tmpfs,
        resources,
        mounts,
        secrets,
        ports,
    } = spec;
    let mut lose = |field: &str, message: &str, remedy: &str| {
        losses.push(lost(format!("{path}.{field}"), message, remedy));
    };
    if restart_backoff_seconds.is_some() {
        lose(
            "restartBackoffSeconds",
            "Kubernetes decides the pause before a restart itself",
            "remove it",
        );
    }
    if *host_cgroup {
        lose(
            "hostCgroup",
            "a pod cannot use the host's cgroup namespace",
            "remove it, or mount /sys/fs/cgroup with a volume",
        );
    }
    if resources.pids.is_some() {
        lose(
            "resources.pidsLimit",
            "a pod has no limit of processes of its own",
            "remove it and set podPidsLimit of the kubelet",
        );
    }
    if !devices.is_empty() {
        lose(
            "devices",
            "a pod cannot name device nodes",
            "use a device plugin of the cluster, or privileged with a volume",
        );
    }
    let mut out = Map::new();
    out.insert("name".into(), id.as_str().into());
    out.insert("image".into(), image.as_str().into());
    let pull = match pull_policy {
        PullPolicy::Missing => "IfNotPresent",
        PullPolicy::Always => "Always",
        PullPolicy::Never => "Never",
    };
    out.insert("imagePullPolicy".into(), pull.into());
    if let Some(command) = command {
        out.insert("command".into(), json!([escaped(command)]));
    }
    if !args.is_empty() {
        out.insert("args".into(), args.iter().map(|a| escaped(a)).collect());
    }
    if let Some(directory) = working_dir {
        out.insert("workingDir".into(), directory.as_str().into());
    }
    let mut env = environment(env, path, losses);
    for secret in secrets.iter().filter(|s| s.target == SecretTarget::Env) {
        let place = format!("env-{id}-{}", secret.name);
        let object = named.object(&place, KeptKind::Secret, &secret.source);
        let from = json!({"secretKeyRef": {"name": object, "key": VALUE}});
        env.push(json!({"name": secret.name, "valueFrom": from}));
    }
    if !env.is_empty() {
        out.insert("env".into(), env.into());
    }
    if !ports.is_empty() {
        let port = |port: &ContainerPort| {
            let protocol = port.protocol.as_str().to_ascii_uppercase();
            json!({"containerPort": port.port, "protocol": protocol})
        };
        out.insert("ports".into(), ports.iter().map(port).collect());
    }
    out.insert(
        "securityContext".into(),
        security_context(spec, path, losses),
    );
    let mut limits = Map::new();
    if let Some(bytes) = resources.memory_bytes {
        limits.insert("limits".into(), json!({"memory": bytes_text(bytes)}));
    }
    if let Some(shares) = resources.cpu_shares {
        let milli = format!("{}m", shares_to_milli(shares));
        limits.insert("requests".into(), json!({"cpu": milli}));
    }
    if !limits.is_empty() {
        out.insert("resources".into(), limits.into());
    }
    let mut volumes = Vec::new();
    let mut inside = Vec::new();
    for (n, tmpfs) in tmpfs.iter().enumerate() {
        let name = format!("tmpfs-{index}-{n}");
        inside.push(json!({"name": name, "mountPath": tmpfs.path}));
        volumes.push(memory(&name, tmpfs.size_bytes));
        tmpfs_options(tmpfs, &format!("{path}.tmpfs[{n}]"), losses);
    }
    for (n, mount) in mounts.iter().enumerate() {
        let name = format!("volume-{index}-{n}");
        volumes.push(volume(
            &name,
            mount,
            &format!("{path}.volumes[{n}]"),
            named,
            losses,
        ));
        let mut place = json!({"name": name, "mountPath": mount.target});
        if mount.read_only {
            place["readOnly"] = true.into();
        }
        inside.push(place);
    }
    let files = files(spec, path, index, named, losses);
    if !inside.is_empty() {
        for (n, place) in inside.iter().enumerate() {
            // validateVolumeMounts refuses ':' in mountPath.
            if place["mountPath"].as_str().is_some_and(|p| p.contains(':')) {
                let field = match n.checked_sub(tmpfs.len()) {
                    None => format!("{path}.tmpfs[{n}].path"),
                    Some(n) => format!("{path}.volumes[{n}].target"),
                };
                losses.push(lost(field, "contains a \":\"", "use another path"));
            }
        }
    }
    for (place, volume) in files {
        inside.push(place);
        volumes.push(volume);
    }
    if !inside.is_empty() {
        out.insert("volumeMounts".into(), inside.into());
    }
    (out.into(), volumes)
}

/// The files of a container's secrets: where each is mounted, and its volume.
fn files(
    spec: &ContainerSpec,
    path: &str,
    index: usize,
    named: &mut Named<'_>,
    losses: &mut Vec<Problem>,
) -> Vec<(Value, Value)> {
    let mut out = Vec::new();
    for (n, secret) in spec.secrets.iter().enumerate() {
        let SecretTarget::File {
            path: target,
            uid,
            gid,
            mode,
        } = &secret.target
        else {
            continue;
        };
        for (field, id) in [("uid", uid), ("gid", gid)] {
            if id.is_some() {
                losses.push(lost(
                    format!("{path}.secrets[{n}].{field}"),
                    "the files of a Secret belong to root",
                    "remove it, and set mode",
                ));
            }
        }
        if target.contains(':') {
            losses.push(lost(
                format!("{path}.secrets[{n}].mountPath"),
                "contains a \":\"",
                "use another path",
            ));
        }
        let name = format!("secret-{index}-{}", out.len());
        let object = named.object(&name, KeptKind::Secret, &secret.source);
        let mode = mode.unwrap_or(FILE_MODE);
        let item = json!({"key": VALUE, "path": VALUE, "mode": mode});
        let volume = json!({"name": name, "secret": {"secretName": object, "items": [item]}});
        let place = json!({"name": name, "mountPath": target, "subPath": VALUE, "readOnly": true});
        out.push((place, volume));
    }
    out
}

/// Kubernetes expands `$(NAME)` in commands and values and reads `$$` as `$`.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        out.push(c);
        if c == '$' && matches!(rest.peek(), Some('$' | '(')) {
            out.push('$');
        }
    }
    out
}

fn environment(env: &[String], path: &str, losses: &mut Vec<Problem>) -> Vec<Value> {
    let mut names = BTreeSet::new();
    let mut out = Vec::new();
    for (i, pair) in env.iter().enumerate() {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let at = format!("{path}.env[{i}]");
        if !is_variable(name) {
            let message = format!("{name:?} is not a variable name in Kubernetes");
            losses.push(lost(
                at,
                message,
                "use letters, digits, '-', '_' and '.', not a digit first",
            ));
        } else if !names.insert(name) {
            let message = format!("{name:?} is set twice");
            losses.push(lost(at, message, "keep the last one"));
        } else {
            out.push(json!({"name": name, "value": escaped(value)}));
        }
    }
    out
}

fn is_variable(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    !matches!(name, "" | "." | "..")
        && name.bytes().all(inner)
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.starts_with("..")
}

fn security_context(spec: &ContainerSpec, path: &str, losses: &mut Vec<Problem>) -> Value {
    let mut out = Map::new();
    if let Some(user) = &spec.user {
        match ids(user) {
            Some((uid, gid)) => {
                out.insert("runAsUser".into(), uid.into());
                if let Some(gid) = gid {
                    out.insert("runAsGroup".into(), gid.into());
                }
            }
            None => losses.push(lost(
                format!("{path}.user"),
                format!("a pod takes numbers up to {MAX_ID}, not {user:?}"),
                "write uid or uid:gid, as in the image's /etc/passwd",
            )),
        }
    }
    if spec.read_only_root {
        out.insert("readOnlyRootFilesystem".into(), true.into());
    }
    let bare = |names: &[String]| -> Vec<Value> {
        names
            .iter()
            .map(|name| name.strip_prefix("CAP_").unwrap_or(name).into())
            .collect()
    };
    let mut capabilities = Map::new();
    for (key, names) in [
        ("add", &spec.capabilities.add),
        ("drop", &spec.capabilities.drop),
    ] {
        if !names.is_empty() {
            capabilities.insert(key.into(), bare(names).into());
        }
    }
    if !capabilities.is_empty() {
        out.insert("capabilities".into(), capabilities.into());
    }
    let seccomp = match (&spec.security.seccomp, spec.privileged) {
        (Seccomp::Default, false) => Some("RuntimeDefault"),
        (Seccomp::Unconfined, false) => Some("Unconfined"),
        // Nothing filters a privileged container on either side.
        (Seccomp::Default | Seccomp::Unconfined, true) => None,
        (Seccomp::Profile(_), privileged) => {
            losses.push(lost(
                format!("{path}.securityOpts"),
                "a seccomp profile is a file of this host",
                "install it on the nodes and name it in the pod, or use the default profile",
            ));
            (!privileged).then_some("RuntimeDefault")
        }
    };
    if let Some(seccomp) = seccomp {
        out.insert("seccompProfile".into(), json!({"type": seccomp}));
    }
    if spec.privileged {
        out.insert("privileged".into(), true.into());
        if spec.security.no_new_privileges == Some(true) {
            losses.push(lost(
                format!("{path}.securityOpts"),
                "a privileged container of a pod may always gain privileges",
                "remove no-new-privileges or privileged",
            ));
        }
    } else {
        // Ours is the stricter default, so it is always said.
        let may_gain = spec.security.no_new_privileges == Some(false);
        out.insert("allowPrivilegeEscalation".into(), may_gain.into());
    }
    out.into()
}

fn ids(user: &str) -> Option<(u32, Option<u32>)> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|id| *id <= MAX_ID);
    match user.split_once(':') {
        Some((uid, gid)) => Some((number(uid)?, Some(number(gid)?))),
        None => Some((number(user)?, None)),
    }
}

fn memory(name: &str, size_bytes: u64) -> Value {
    let mut empty = json!({"medium": "Memory"});
    if size_bytes != 0 {
        empty["sizeLimit"] = bytes_text(size_bytes).into();
    }
    json!({"name": name, "emptyDir": empty})
}

fn tmpfs_options(tmpfs: &Tmpfs, path: &str, losses: &mut Vec<Problem>) {
    for (i, option) in tmpfs.options.iter().enumerate() {
        if !IMPLIED.contains(&option.as_str()) {
            losses.push(lost(
                format!("{path}.options[{i}]"),
                format!("a memory volume of a pod has no option {option:?}"),
                "remove it; write size= as sizeBytes",
            ));
        }
    }
}

fn volume(
    name: &str,
    mount: &Mount,
    path: &str,
    named: &mut Named<'_>,
    losses: &mut Vec<Problem>,
) -> Value {
    match &mount.kind {
        MountKind::Bind(source) => json!({"name": name, "hostPath": {"path": source}}),
        // A cluster makes no claim by itself, so `ensure` is for whoever applies it.
        MountKind::Volume { source, ensure: _ } => {
            let claim = named.object(name, KeptKind::Volume, source);
            json!({"name": name, "persistentVolumeClaim": {"claimName": claim}})
        }
        MountKind::Tmpfs { size_bytes, mode } => {
            if *mode != 0 {
                losses.push(lost(
                    format!("{path}.mode"),
                    "a memory volume of a pod always has the mode 0777",
                    "remove it",
                ));
            }
            memory(name, *size_bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_survive_the_expansion() {
        for (text, expected) in [
            ("$HOME", "$HOME"),
            ("$(HOME)", "$$(HOME)"),
            ("a$$b", "a$$$b"),
            ("$$(x)", "$$$$(x)"),
            ("end$", "end$"),
        ] {
            assert_eq!(escaped(text), expected, "{text}");
        }
    }

    #[test]
    fn ids_are_numbers() {
        assert_eq!(ids("0"), Some((0, None)));
        assert_eq!(ids("1000:50"), Some((1000, Some(50))));
        assert_eq!(ids("www-data"), None);
        assert_eq!(ids("4294967294"), None);
    }
}
