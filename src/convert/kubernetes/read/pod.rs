//! A workload as a cell.

use std::collections::BTreeMap;

use super::super::super::loss::Notes;
use super::super::super::quantity::bytes;
use super::super::super::walk::Fields;
use super::super::kept;
use super::super::pod::{ENDLESS, GRACE, RETRIES};
use super::config::{self, Config, Store};
use super::container::{self, Whole};
use super::meta::Metadata;
use super::{Pods, Reader};
use crate::api::v1beta1;
use crate::api::yaml::Position;
use crate::api::yaml::located::Value;

const ONE: &str = "remove it: there is one machine";

/// Fields of a pod that have no equivalent.
const WITHOUT: &[(&str, &str)] = &[
    ("activeDeadlineSeconds", "let the program end itself"),
    ("affinity", ONE),
    ("dnsConfig", "mount a resolv.conf with a hostPath volume"),
    ("ephemeralContainers", "use kuke exec"),
    ("hostAliases", "mount a hosts file with a hostPath volume"),
    ("hostIPC", "remove it"),
    ("hostUsers", "remove it"),
    ("nodeName", ONE),
    ("nodeSelector", ONE),
    ("os", "remove it"),
    ("overhead", "remove it"),
    ("preemptionPolicy", ONE),
    ("priority", ONE),
    ("priorityClassName", ONE),
    ("readinessGates", "remove them"),
    ("resourceClaims", "remove them"),
    ("resources", "set them on the containers"),
    ("runtimeClassName", "remove it"),
    ("schedulingGates", "remove them"),
    ("setHostnameAsFQDN", "remove it"),
    ("shareProcessNamespace", "remove it"),
    ("subdomain", "remove it"),
    ("tolerations", ONE),
    ("topologySpreadConstraints", ONE),
];

/// Fields of a pod that mean nothing on one machine without a cluster.
const HARMLESS: &[&str] = &[
    "automountServiceAccountToken",
    "dnsPolicy",
    "enableServiceLinks",
    "schedulerName",
];

/// Why a pod ends and is started again.
struct Restarts {
    policy: String,
    retries: Option<i64>,
}

/// Reads Pod, Deployment, StatefulSet or Job.
pub(super) fn read(reader: &mut Reader<'_>, kind: &str, mut fields: Fields<'_>, notes: &mut Notes) {
    let meta = Metadata::read(&mut fields, notes);
    let at = fields.at;
    let Some(spec) = fields.take("spec") else {
        notes.error("spec", at, "MissingField", "is required");
        return;
    };
    fields.finish(notes, &["status"], &[]);
    let mut labels = meta.plain_labels();
    let mut pod_labels = meta.labels.clone();
    let mut cell = v1beta1::CellSpec::default();
    let mut limit = None;
    let mut template = None;
    if kind == "Pod" {
        template = Some((spec, "spec".to_owned()));
    } else {
        let mut outer = Fields::of(notes, spec, "spec");
        match kind {
            "Job" => {
                for key in ["completions", "parallelism"] {
                    if outer.int(notes, key).is_some_and(|n| n != 1) {
                        let message = "a cell runs once";
                        notes.lost(outer.sub(key), spec.at, message, "set it to 1");
                    }
                }
                limit = Some(outer.int(notes, "backoffLimit").unwrap_or(6));
                if outer.bool(notes, "suspend") == Some(true) {
                    cell.run_state = "Stopped".to_owned();
                }
            }
            _ => match outer.int(notes, "replicas") {
                Some(0) => cell.run_state = "Stopped".to_owned(),
                None | Some(1) => {}
                Some(n) => {
                    let message = format!("a cell runs once, not {n} times");
                    let remedy = "set it to 1, or write a workload for each";
                    notes.lost("spec.replicas", spec.at, message, remedy);
                }
            },
        }
        if let Some(value) = outer.take("template") {
            let mut fields = Fields::of(notes, value, "spec.template");
            let inner = Metadata::read(&mut fields, notes);
            pod_labels = inner.labels.clone();
            for (key, value) in inner.plain_labels() {
                let outer = labels.insert(key.clone(), value.clone());
                if outer.is_some_and(|outer| outer != value) {
                    let message = "differs from the label of the same name of the whole";
                    let path = format!("spec.template.metadata.labels.{key}");
                    notes.lost(path, inner.at, message, "give both the same value");
                }
            }
            if !inner.annotations().is_empty() {
                let path = "spec.template.metadata.annotations";
                let remedy = "put them on the whole, if anything reads them";
                notes.lost(path, inner.at, "a cell has one set of annotations", remedy);
            }
            template = fields
                .take("spec")
                .map(|v| (v, "spec.template.spec".to_owned()));
            fields.finish(notes, &[], &[]);
        }
        outer.finish(
            notes,
            &[
                "completionMode",
                "manualSelector",
                "minReadySeconds",
                "podManagementPolicy",
                "podReplacementPolicy",
                "progressDeadlineSeconds",
                "revisionHistoryLimit",
                "selector",
                "serviceName",
                "strategy",
                "updateStrategy",
            ],
            &[
                ("activeDeadlineSeconds", "let the program end itself"),
                ("paused", "remove it"),
                ("podFailurePolicy", "remove it"),
                ("successPolicy", "remove it"),
                (
                    "ttlSecondsAfterFinished",
                    "remove it; autoDelete removes a cell that succeeded",
                ),
                ("ordinals", "remove it"),
                ("persistentVolumeClaimRetentionPolicy", "remove it"),
                (
                    "volumeClaimTemplates",
                    "mount a host directory with a hostPath volume",
                ),
            ],
        );
    }
    let Some((value, path)) = template else {
        notes.error("spec.template.spec", at, "MissingField", "is required");
        return;
    };
    let Some([realm, space, stack, name]) = meta.place(notes, reader.scope) else {
        return;
    };
    let ports = pod(
        value,
        &path,
        kind,
        limit,
        &meta,
        &mut cell,
        &reader.config,
        notes,
    );
    cell.realm_id = realm.to_string();
    cell.space_id = space.to_string();
    cell.stack_id = stack.to_string();
    let cell = v1beta1::Cell {
        metadata: Some(v1beta1::Metadata {
            name: name.to_string(),
            labels,
            annotations: meta.annotations(),
            ..Default::default()
        }),
        spec: Some(cell),
        ..Default::default()
    };
    if reader.draft.cell(notes, &path, value.at, cell).is_some() {
        reader.workloads.push(Pods {
            namespace: meta.namespace,
            labels: pod_labels,
            cell: reader.draft.cells.len() - 1,
            ports,
            offered: Vec::new(),
        });
    }
}

#[allow(clippy::too_many_arguments)]
fn pod(
    value: &Value,
    path: &str,
    kind: &str,
    limit: Option<i64>,
    meta: &Metadata,
    cell: &mut v1beta1::CellSpec,
    config: &Config,
    notes: &mut Notes,
) -> Vec<(String, u16)> {
    let mut fields = Fields::of(notes, value, path);
    let mut whole = Whole {
        namespace: meta.namespace.clone(),
        sources: meta.sources(),
        ..Whole::default()
    };
    let at = fields.sub("securityContext");
    if let Some(context) = fields.take("securityContext") {
        whole.security = container::of_pod(context, &at, notes);
    }
    let restarts = restarts(&mut fields, kind, limit, notes);
    let grace = fields
        .int(notes, "terminationGracePeriodSeconds")
        .unwrap_or(30);
    let host_network = fields.bool(notes, "hostNetwork") == Some(true);
    let host_pid = fields.bool(notes, "hostPID") == Some(true);
    let hostname = fields.text(notes, "hostname");
    let own = meta.label(crate::model::label::CELL).unwrap_or(&meta.text);
    if !hostname.is_empty() && hostname != own {
        let message = format!("a cell is called by its own name, {own:?}");
        notes.lost(fields.sub("hostname"), value.at, message, "remove it");
    }
    let logins = fields.list(notes, "imagePullSecrets");
    config::logins(
        config,
        &meta.namespace,
        logins,
        &fields.sub("imagePullSecrets"),
        notes,
    );
    for key in ["serviceAccountName", "serviceAccount"] {
        let account = fields.text(notes, key);
        if !matches!(account.as_str(), "" | "default") {
            let remedy = "remove it: there is no cluster to have rights in";
            notes.lost(fields.sub(key), value.at, "has no equivalent", remedy);
        }
    }
    let mut volumes = volumes(&mut fields, meta, config, notes);
    let mut ports = Vec::new();
    let mut beside = 0;
    for key in ["initContainers", "containers"] {
        let list = fields.list(notes, key);
        let at = fields.sub(key);
        for (i, value) in list.iter().enumerate() {
            let at = format!("{at}[{i}]");
            let read = container::read(value, &at, &whole, config, notes);
            let mut spec = read.spec;
            let always = read.restart == "Always";
            if key == "initContainers" && always {
                beside += 1;
                spec.restart_policy = "always".to_owned();
            } else if key == "initContainers" {
                let remedy = "do it in the container's own command, or in a cell that runs before";
                notes.lost(
                    at.clone(),
                    value.at,
                    "a cell has no init containers",
                    remedy,
                );
                continue;
            } else {
                if !read.restart.is_empty() {
                    let message = "a container has no restart policy of its own";
                    notes.lost(
                        format!("{at}.restartPolicy"),
                        value.at,
                        message,
                        "set that of the pod",
                    );
                }
                spec.restart_policy.clone_from(&restarts.policy);
                spec.restart_max_retries = restarts.retries;
            }
            spec.host_network = host_network;
            spec.host_pid = host_pid;
            spec.stop_grace_seconds = Some(grace).filter(|n| *n != i64::from(GRACE));
            for (path, mount) in read.mounts {
                place(mount, &path, &mut volumes, &whole, &mut spec, notes);
            }
            ports.extend(read.ports);
            cell.containers.push(spec);
        }
    }
    // Those beside it end with it.
    if beside > 0 && restarts.policy != "always" {
        match cell.containers.len() - beside {
            1 => {
                if let Some(last) = cell.containers.last_mut() {
                    last.root = true;
                }
            }
            _ => {
                let message = "a cell ends with one container, not with several";
                let path = fields.sub("containers");
                notes.lost(
                    path,
                    value.at,
                    message,
                    "keep one beside the init containers",
                );
            }
        }
    }
    fields.finish(notes, HARMLESS, WITHOUT);
    ports
}

fn restarts(
    fields: &mut Fields<'_>,
    kind: &str,
    limit: Option<i64>,
    notes: &mut Notes,
) -> Restarts {
    let at = fields.at;
    let policy = fields.text(notes, "restartPolicy");
    let (policy, retries) = match (policy.as_str(), limit) {
        ("" | "Always", None) => ("always", None),
        ("Never", None) | ("Never" | "OnFailure", Some(0)) => ("", None),
        // A pod by itself is restarted without end.
        ("OnFailure", None) => ("on-failure", Some(i64::from(ENDLESS))),
        ("Never" | "OnFailure", Some(limit)) => ("on-failure", Some(limit)),
        (other, _) => {
            let message = format!("{other:?} is not a restart policy of a {kind}");
            notes.error(fields.sub("restartPolicy"), at, "BadValue", message);
            ("", None)
        }
    };
    Restarts {
        policy: policy.to_owned(),
        retries: retries.filter(|n| *n != i64::from(RETRIES)),
    }
}

/// A volume of a pod.
enum Volume {
    Bind(String),
    /// A claim, by its name.
    Claim(String),
    /// Files of a Secret: its name, and key, path and mode of each.
    Secret(String, Vec<(String, String, Option<i64>)>),
    Memory {
        size: i64,
        mounted: bool,
    },
    /// Told already.
    Lost,
}

fn volumes(
    fields: &mut Fields<'_>,
    meta: &Metadata,
    config: &Config,
    notes: &mut Notes,
) -> BTreeMap<String, Volume> {
    let mut out = BTreeMap::new();
    let path = fields.sub("volumes");
    for (i, value) in fields.list(notes, "volumes").iter().enumerate() {
        let mut volume = Fields::of(notes, value, format!("{path}[{i}]"));
        let name = volume.text(notes, "name");
        let mut found = Volume::Lost;
        let at = volume.sub("hostPath");
        if let Some(value) = volume.take("hostPath") {
            let mut host = Fields::of(notes, value, at);
            found = Volume::Bind(host.text(notes, "path"));
            let kind = host.text(notes, "type");
            if !matches!(kind.as_str(), "" | "Directory" | "File") {
                let remedy = "make it on the host and remove the type";
                notes.lost(
                    host.sub("type"),
                    value.at,
                    "only what exists is mounted",
                    remedy,
                );
            }
            host.finish(notes, &[], &[]);
        }
        let at = volume.sub("emptyDir");
        if let Some(value) = volume.take("emptyDir") {
            let mut empty = Fields::of(notes, value, at);
            let medium = empty.text(notes, "medium");
            let size = empty.text(notes, "sizeLimit");
            if medium == "Memory" {
                let size = match size.as_str() {
                    "" => Some(0),
                    text => bytes(text).and_then(|n| i64::try_from(n).ok()),
                };
                if size.is_none() {
                    notes.error(
                        empty.sub("sizeLimit"),
                        value.at,
                        "BadValue",
                        "is not a quantity",
                    );
                }
                found = Volume::Memory {
                    size: size.unwrap_or(0),
                    mounted: false,
                };
            } else {
                let remedy = "set medium: Memory, or mount a host directory with hostPath";
                let message = "an empty directory on disk has no equivalent yet";
                notes.lost(empty.path.clone(), value.at, message, remedy);
            }
            empty.finish(notes, &[], &[]);
        }
        let remedy = "mount a host file or directory with hostPath";
        if let Some(value) = volume.take("configMap") {
            let name = value.get("name").and_then(Value::text).unwrap_or_default();
            config.touch(Store::ConfigMap, &meta.namespace, name);
            notes.lost(
                volume.sub("configMap"),
                value.at,
                "has no equivalent",
                remedy,
            );
        }
        let at = volume.sub("secret");
        if let Some(value) = volume.take("secret") {
            found = secret_volume(value, &at, meta, config, notes);
        }
        let at = volume.sub("persistentVolumeClaim");
        if let Some(value) = volume.take("persistentVolumeClaim") {
            let mut claim = Fields::of(notes, value, at);
            found = Volume::Claim(claim.text(notes, "claimName"));
            if claim.bool(notes, "readOnly") == Some(true) {
                let message = "is said of each mount";
                notes.lost(
                    claim.sub("readOnly"),
                    value.at,
                    message,
                    "set readOnly of the mounts",
                );
            }
            claim.finish(notes, &[], &[]);
        }
        volume.finish(
            notes,
            &[],
            &[
                ("projected", remedy),
                ("downwardAPI", "write the values"),
                ("csi", remedy),
                ("ephemeral", remedy),
                ("image", remedy),
                ("nfs", "mount it on the host, then use hostPath"),
                ("iscsi", "mount it on the host, then use hostPath"),
            ],
        );
        out.insert(name, found);
    }
    out
}

fn secret_volume(
    value: &Value,
    path: &str,
    meta: &Metadata,
    config: &Config,
    notes: &mut Notes,
) -> Volume {
    let mut secret = Fields::of(notes, value, path);
    let name = secret.text(notes, "secretName");
    let default = secret.int(notes, "defaultMode");
    let mut files = Vec::new();
    let at = secret.sub("items");
    for (i, item) in secret.list(notes, "items").iter().enumerate() {
        let mut item = Fields::of(notes, item, format!("{at}[{i}]"));
        let key = item.text(notes, "key");
        let path = item.text(notes, "path");
        files.push((key, path, item.int(notes, "mode").or(default)));
        item.finish(notes, &[], &[]);
    }
    let optional = secret.bool(notes, "optional") == Some(true);
    secret.finish(notes, &[], &[]);
    if files.is_empty() {
        let values = config.values(Store::Secret, &meta.namespace, &name);
        for (key, _) in values.unwrap_or_default() {
            files.push((key.clone(), key.clone(), default));
        }
    }
    if files.is_empty() && !optional {
        let message = format!("the keys of the Secret {name:?} are not known");
        notes.lost(
            path,
            value.at,
            message,
            "add its document with -f, or write items",
        );
    }
    Volume::Secret(name, files)
}

fn place(
    value: &Value,
    path: &str,
    volumes: &mut BTreeMap<String, Volume>,
    whole: &Whole,
    spec: &mut v1beta1::ContainerSpec,
    notes: &mut Notes,
) {
    let mut fields = Fields::of(notes, value, path);
    let name = fields.text(notes, "name");
    let target = fields.text(notes, "mountPath");
    let read_only = fields.bool(notes, "readOnly") == Some(true);
    let at: Position = value.at;
    let remedy = "mount the directory itself";
    let part = match volumes.get(&name) {
        Some(Volume::Secret(..)) => fields.text(notes, "subPath"),
        _ => String::new(),
    };
    fields.finish(
        notes,
        &[],
        &[
            ("subPath", remedy),
            ("subPathExpr", remedy),
            ("mountPropagation", "remove it"),
            ("recursiveReadOnly", "use readOnly"),
        ],
    );
    let mount = v1beta1::VolumeMount {
        target: target.clone(),
        read_only,
        ..Default::default()
    };
    match volumes.get_mut(&name) {
        None => {
            let message = format!("no volume is called {name:?}");
            notes.error(format!("{path}.name"), at, "BadValue", message);
        }
        Some(Volume::Lost) => {}
        Some(Volume::Claim(claim)) => match kept::source(&whole.sources, &name, claim) {
            Some(source) => spec.volumes.push(v1beta1::VolumeMount {
                target,
                read_only,
                ..kept::mount_of(&source)
            }),
            None => {
                let message = format!("{claim:?} cannot be the name of a Volume");
                notes.error(format!("{path}.name"), at, "BadName", message);
            }
        },
        Some(Volume::Secret(secret, files)) => {
            for (key, file, mode) in files
                .iter()
                .filter(|(_, f, _)| part.is_empty() || *f == part)
            {
                let own = kept::secret_name(secret, key);
                let Some(source) = kept::source(&whole.sources, &name, &own) else {
                    let message = format!("{own:?} cannot be the name of a Secret");
                    notes.error(format!("{path}.name"), at, "BadName", message);
                    continue;
                };
                let mode = mode.and_then(|mode| u32::try_from(mode).ok());
                // 0644 is what a cluster does without a word.
                let mode = mode.filter(|mode| ![kept::FILE_MODE, 0o644].contains(mode));
                spec.secrets.push(v1beta1::ContainerSecret {
                    mount_path: match part.is_empty() {
                        true => format!("{}/{file}", target.trim_end_matches('/')),
                        false => target.clone(),
                    },
                    mode: mode.map(|mode| mode & 0o555),
                    ..kept::use_of(source.name.as_str(), &source)
                });
            }
        }
        Some(Volume::Bind(source)) => spec.volumes.push(v1beta1::VolumeMount {
            kind: "bind".to_owned(),
            source: source.clone(),
            ..mount
        }),
        Some(Volume::Memory { mounted: true, .. }) => {
            let message = "containers of a cell cannot share a memory file system";
            notes.lost(path, at, message, "share a host directory with hostPath");
        }
        Some(Volume::Memory { size, mounted }) => {
            *mounted = true;
            // Ours are called so; see `container::write`.
            if name.starts_with("tmpfs-") && !read_only {
                spec.tmpfs.push(v1beta1::Tmpfs {
                    path: target,
                    size_bytes: *size,
                    options: Vec::new(),
                });
            } else {
                spec.volumes.push(v1beta1::VolumeMount {
                    kind: "tmpfs".to_owned(),
                    size_bytes: *size,
                    ..mount
                });
            }
        }
    }
}
