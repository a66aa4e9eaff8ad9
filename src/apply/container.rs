//! The table of container fields: name, value, and what a change asks for. The
//! differences and the hash both come from it, so they cannot disagree.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Action, Change};
use crate::model::{
    Capabilities, ContainerSpec, KeptSource, Mount, MountKind, PullPolicy, Resources,
    RestartPolicy, Seccomp, SecretTarget, SecretUse, SecurityOptions, Tmpfs,
};

struct Field {
    name: &'static str,
    action: Action,
    value: Value,
    /// The value when nothing is said; it is left out of the hash, so that a
    /// field that a later release adds does not change the hashes of today.
    default: Value,
    /// May hold secrets: the text names what changed, not the values.
    private: bool,
}

/// Every field but the id, which is the key.
fn fields(spec: &ContainerSpec) -> Vec<Field> {
    let ContainerSpec {
        id: _,
        root,
        image,
        command,
        args,
        working_dir,
        env,
        user,
        restart_policy,
        restart_backoff_seconds,
        restart_max_retries,
        stop_grace_seconds,
        pull_policy,
        privileged,
        host_network,
        host_pid,
        host_cgroup,
        read_only_root,
        capabilities,
        security,
        devices,
        tmpfs,
        resources,
        mounts,
        secrets,
        ports,
    } = spec;
    use Action::{Live, Recreate, Restart};
    let restart_policy = match restart_policy {
        RestartPolicy::Never => "never",
        RestartPolicy::OnFailure => "on-failure",
        RestartPolicy::Always => "always",
    };
    let pull_policy = match pull_policy {
        PullPolicy::Missing => "missing",
        PullPolicy::Always => "always",
        PullPolicy::Never => "never",
    };
    let Resources {
        memory_bytes,
        cpu_shares,
        pids,
    } = resources;
    let Capabilities { drop, add } = capabilities;
    let SecurityOptions {
        no_new_privileges,
        seccomp,
    } = security;
    let seccomp = match seccomp {
        Seccomp::Default => Value::Null,
        Seccomp::Unconfined => json!("unconfined"),
        Seccomp::Profile(path) => json!(path),
    };
    let (no, null, none) = (json!(false), Value::Null, json!([]));
    let row = |name, action, value, default: &Value| Field {
        name,
        action,
        value,
        default: default.clone(),
        private: false,
    };
    let private = |field: Field| Field {
        private: true,
        ..field
    };
    vec![
        row("root", Live, json!(root), &no),
        row("image", Restart, json!(image), &null),
        row("command", Restart, json!(command), &null),
        private(row("args", Restart, json!(args), &none)),
        row("workingDir", Restart, json!(working_dir), &null),
        private(row("env", Restart, json!(env), &none)),
        row("user", Restart, json!(user), &null),
        row("restartPolicy", Live, json!(restart_policy), &null),
        row(
            "restartBackoffSeconds",
            Live,
            json!(restart_backoff_seconds),
            &null,
        ),
        row("restartMaxRetries", Live, json!(restart_max_retries), &null),
        row("stopGraceSeconds", Live, json!(stop_grace_seconds), &null),
        row("imagePullPolicy", Live, json!(pull_policy), &null),
        row("privileged", Restart, json!(privileged), &no),
        row("hostNetwork", Recreate, json!(host_network), &no),
        row("hostPID", Restart, json!(host_pid), &no),
        row("hostCgroup", Restart, json!(host_cgroup), &no),
        row(
            "readOnlyRootFilesystem",
            Restart,
            json!(read_only_root),
            &no,
        ),
        row(
            "capabilities",
            Restart,
            json!([drop, add]),
            &json!([[], []]),
        ),
        row(
            "securityOpts",
            Restart,
            json!([no_new_privileges, seccomp]),
            &json!([null, null]),
        ),
        row("devices", Restart, json!(devices), &none),
        row(
            "tmpfs",
            Restart,
            tmpfs.iter().map(tmpfs_value).collect(),
            &none,
        ),
        row(
            "resources.memoryLimitBytes",
            Live,
            json!(memory_bytes),
            &null,
        ),
        row("resources.cpuShares", Live, json!(cpu_shares), &null),
        row("resources.pidsLimit", Live, json!(pids), &null),
        row(
            "volumes",
            Restart,
            mounts.iter().map(mount_value).collect(),
            &none,
        ),
        row(
            "secrets",
            Restart,
            secrets.iter().map(secret_value).collect(),
            &none,
        ),
        row(
            "ports",
            Live,
            ports.iter().map(ToString::to_string).collect(),
            &none,
        ),
    ]
}

fn tmpfs_value(tmpfs: &Tmpfs) -> Value {
    let Tmpfs {
        path,
        size_bytes,
        options,
    } = tmpfs;
    json!([path, size_bytes, options])
}

fn mount_value(mount: &Mount) -> Value {
    let Mount {
        kind,
        target,
        read_only,
    } = mount;
    match kind {
        MountKind::Bind(source) => json!(["bind", source, target, read_only]),
        MountKind::Tmpfs { size_bytes, mode } => {
            json!(["tmpfs", size_bytes, mode, target, read_only])
        }
        MountKind::Volume { source, ensure } => {
            json!(["volume", source_value(source), ensure, target, read_only])
        }
    }
}

fn source_value(source: &KeptSource) -> Value {
    let KeptSource { name, scope } = source;
    json!([name.as_str(), scope.as_ref().map(ToString::to_string)])
}

/// Where it comes from and what it becomes; the value is not part of a spec.
fn secret_value(secret: &SecretUse) -> Value {
    let SecretUse {
        name,
        source,
        target,
    } = secret;
    let target = match target {
        SecretTarget::Env => Value::Null,
        SecretTarget::File {
            path,
            uid,
            gid,
            mode,
        } => json!([path, uid, gid, mode]),
    };
    json!([name, source_value(source), target])
}

/// Differences between two specs of one container, in the order of the fields.
pub fn diff_container(current: &ContainerSpec, wanted: &ContainerSpec) -> Vec<Change> {
    let pairs = fields(current).into_iter().zip(fields(wanted));
    pairs
        .filter(|(old, new)| old.value != new.value)
        .map(|(old, new)| {
            let path = format!("spec.containers[{}].{}", wanted.id, new.name);
            Change {
                text: format!("{path}: {}", text(&old, &new)),
                action: new.action,
                container: Some(wanted.id.clone()),
                path,
            }
        })
        .collect()
}

fn text(old: &Field, new: &Field) -> String {
    if new.name == "env" {
        return env_text(&old.value, &new.value);
    }
    let simple = |value: &Value| !matches!(value, Value::Array(_) | Value::Object(_));
    if new.private || !simple(&old.value) || !simple(&new.value) {
        return "changed".to_owned();
    }
    let shown = |value: &Value| match value {
        Value::Null => "unset".to_owned(),
        value => value.to_string(),
    };
    format!("{} → {}", shown(&old.value), shown(&new.value))
}

/// Names of the variables that differ; values may be secret.
fn env_text(old: &Value, new: &Value) -> String {
    let pairs = |value: &Value| -> BTreeSet<String> {
        let list = value.as_array().into_iter().flatten();
        list.filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let (old, new) = (pairs(old), pairs(new));
    let names: BTreeSet<&str> = old
        .symmetric_difference(&new)
        .map(|pair| pair.split('=').next().unwrap_or_default())
        .collect();
    if names.is_empty() {
        return "order changed".to_owned();
    }
    let names: Vec<&str> = names.into_iter().collect();
    format!("changed ({})", names.join(", "))
}

/// Hash over the fields whose change needs a new record in containerd, as
/// `v1:<64 hexadecimal digits>`. Equal specs have equal hashes in every release
/// that writes `v1`.
pub fn spec_hash(spec: &ContainerSpec) -> String {
    let mut hasher = Sha256::new();
    for field in fields(spec) {
        let needs_record = matches!(field.action, Action::Restart | Action::Recreate);
        if needs_record && field.value != field.default {
            // JSON escapes control characters, so the separators are unambiguous.
            hasher.update(format!("{}\n{}\n", field.name, field.value));
        }
    }
    let digest = hasher.finalize();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("v1:{hex}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::testing::container;

    fn base() -> ContainerSpec {
        ContainerSpec::new("web".parse().unwrap(), "nginx")
    }

    type Row = (&'static str, Action, fn(&mut ContainerSpec));

    /// One change for every field; the count makes sure that none is forgotten.
    fn changes() -> Vec<Row> {
        use Action::{Live, Recreate, Restart};
        vec![
            ("root", Live, |c| c.root = true),
            ("image", Restart, |c| c.image = "other".into()),
            ("command", Restart, |c| c.command = Some("/x".into())),
            ("args", Restart, |c| c.args = vec!["a".into()]),
            ("workingDir", Restart, |c| c.working_dir = Some("/w".into())),
            ("env", Restart, |c| c.env = vec!["A=1".into()]),
            ("user", Restart, |c| c.user = Some("1".into())),
            ("restartPolicy", Live, |c| {
                c.restart_policy = RestartPolicy::Always
            }),
            ("restartBackoffSeconds", Live, |c| {
                c.restart_backoff_seconds = Some(1)
            }),
            ("restartMaxRetries", Live, |c| {
                c.restart_max_retries = Some(1)
            }),
            ("stopGraceSeconds", Live, |c| c.stop_grace_seconds = Some(1)),
            ("imagePullPolicy", Live, |c| {
                c.pull_policy = PullPolicy::Always
            }),
            ("privileged", Restart, |c| c.privileged = true),
            ("hostNetwork", Recreate, |c| c.host_network = true),
            ("hostPID", Restart, |c| c.host_pid = true),
            ("hostCgroup", Restart, |c| c.host_cgroup = true),
            ("readOnlyRootFilesystem", Restart, |c| {
                c.read_only_root = true
            }),
            ("capabilities", Restart, |c| {
                c.capabilities.add = vec!["ALL".into()]
            }),
            ("securityOpts", Restart, |c| {
                c.security.no_new_privileges = Some(true)
            }),
            ("devices", Restart, |c| c.devices = vec!["/dev/null".into()]),
            ("tmpfs", Restart, |c| c.tmpfs = vec![Tmpfs::default()]),
            ("resources.memoryLimitBytes", Live, |c| {
                c.resources.memory_bytes = Some(1)
            }),
            ("resources.cpuShares", Live, |c| {
                c.resources.cpu_shares = Some(2)
            }),
            ("resources.pidsLimit", Live, |c| c.resources.pids = Some(1)),
            ("volumes", Restart, |c| {
                c.mounts = vec![Mount {
                    kind: MountKind::Bind("/a".into()),
                    target: "/b".into(),
                    read_only: false,
                }];
            }),
            ("secrets", Restart, |c| {
                c.secrets = vec![SecretUse {
                    name: "A".into(),
                    source: KeptSource {
                        name: "a".parse().unwrap(),
                        scope: None,
                    },
                    target: SecretTarget::Env,
                }];
            }),
            ("ports", Live, |c| c.ports = vec!["80".parse().unwrap()]),
        ]
    }

    #[test]
    fn every_field_is_noticed_with_its_action() {
        let table: Vec<_> = fields(&base()).iter().map(|f| (f.name, f.action)).collect();
        let tested: Vec<_> = changes()
            .iter()
            .map(|(name, action, _)| (*name, *action))
            .collect();
        assert_eq!(table, tested);
        for (name, action, change) in changes() {
            let mut wanted = base();
            change(&mut wanted);
            let found = diff_container(&base(), &wanted);
            assert_eq!(found.len(), 1, "{name}");
            assert_eq!(found[0].path, format!("spec.containers[web].{name}"));
            assert_eq!(found[0].action, action, "{name}");
            let new_record = action != Action::Live;
            assert_eq!(
                spec_hash(&base()) != spec_hash(&wanted),
                new_record,
                "{name}"
            );
        }
    }

    #[test]
    fn parts_within_a_field_are_noticed() {
        let pairs: [fn(&mut ContainerSpec); 6] = [
            |c| c.security.seccomp = Seccomp::Unconfined,
            |c| c.security.seccomp = Seccomp::Profile("/p".into()),
            |c| c.capabilities.drop = vec!["ALL".into()],
            |c| c.args = vec!["a".into(), "b".into()],
            |c| c.args = vec!["a\",\"b".into()],
            |c| c.args = vec!["a".into(), "b".into(), String::new()],
        ];
        let hashes: BTreeSet<String> = pairs
            .iter()
            .map(|change| {
                let mut spec = base();
                change(&mut spec);
                spec_hash(&spec)
            })
            .collect();
        assert_eq!(hashes.len(), pairs.len());
    }

    /// The label on running containers is compared across releases: if this
    /// fails, every container would be made anew at the upgrade.
    #[test]
    fn the_hash_is_the_same_in_every_release() {
        let mut spec = base();
        assert_eq!(
            spec_hash(&spec),
            "v1:4d2dda5442fb248ece81dfdfac2428b1afe48e3c955f1df8859c83b5e95b368b"
        );
        spec.env = vec!["A=ü\n".into()];
        assert_eq!(
            spec_hash(&spec),
            "v1:14f6c7104224c17df7eb70cb3d62f6a84664a70cc24816fe91616caffcbcc97a"
        );
    }

    #[test]
    fn texts_show_no_values_of_the_environment() {
        let mut current = base();
        current.env = vec!["A=1".into(), "TOKEN=hush".into()];
        let mut wanted = base();
        wanted.env = vec!["A=1".into(), "TOKEN=psst".into(), "B=2".into()];
        wanted.image = "other".into();
        let texts: Vec<_> = diff_container(&current, &wanted)
            .into_iter()
            .map(|c| c.text)
            .collect();
        assert_eq!(
            texts,
            [
                "spec.containers[web].image: \"nginx\" → \"other\"",
                "spec.containers[web].env: changed (B, TOKEN)"
            ]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_hash_differs_exactly_when_a_new_record_is_needed(a in container("web"), b in container("web")) {
            let needed = diff_container(&a, &b)
                .iter()
                .any(|c| matches!(c.action, Action::Restart | Action::Recreate));
            prop_assert_eq!(spec_hash(&a) != spec_hash(&b), needed);
            prop_assert_eq!(a == b, diff_container(&a, &b).is_empty());
        }
    }
}
