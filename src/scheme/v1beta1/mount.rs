//! Devices, memory file systems and volumes.

use std::collections::BTreeMap;

use super::super::check::Check;
use super::secret;
use crate::api::{closest, v1beta1};
use crate::model::{KeptSource, Mount, MountKind, SecretTarget, SecretUse, Tmpfs};

/// Options a memory file system takes (Documentation/filesystems/tmpfs.rst and
/// mount(8)); those with `=` need a value. `suid` and `dev` are not among them:
/// `nosuid,nodev` always hold.
const TMPFS_OPTIONS: &[&str] = &[
    "size=",
    "mode=",
    "uid=",
    "gid=",
    "nr_blocks=",
    "nr_inodes=",
    "huge=",
    "ro",
    "rw",
    "exec",
    "noexec",
    "nosuid",
    "nodev",
    "atime",
    "noatime",
    "relatime",
    "norelatime",
    "strictatime",
    "diratime",
    "nodiratime",
    "sync",
    "async",
    "dirsync",
    "noswap",
    "inode32",
    "inode64",
];

/// Device nodes: absolute host paths, each once.
pub(super) fn devices(check: &mut Check, path: &str, devices: &[String]) {
    for (i, device) in devices.iter().enumerate() {
        let at = format!("{path}[{i}]");
        if check.absolute(&at, device) && devices[..i].contains(device) {
            check.bad(at, "Duplicate", format!("{device:?} is listed twice"));
        }
    }
}

/// `tmpfs` entries.
pub(super) fn tmpfs(check: &mut Check, path: &str, list: Vec<v1beta1::Tmpfs>) -> Vec<Tmpfs> {
    let mut out = Vec::new();
    for (i, entry) in list.into_iter().enumerate() {
        let at = format!("{path}[{i}]");
        let v1beta1::Tmpfs {
            path: target,
            size_bytes,
            options,
        } = entry;
        target_path(check, &format!("{at}.path"), &target);
        check.range(&format!("{at}.sizeBytes"), size_bytes, 0, i64::MAX);
        for (n, option) in options.iter().enumerate() {
            tmpfs_option(check, &format!("{at}.options[{n}]"), option);
        }
        out.push(Tmpfs {
            path: target,
            size_bytes: u64::try_from(size_bytes).unwrap_or_default(),
            options,
        });
    }
    out
}

fn tmpfs_option(check: &mut Check, path: &str, option: &str) {
    let odd = |c: char| c == ',' || c.is_whitespace() || c.is_control();
    let known = !option.contains(odd)
        && match option.split_once('=') {
            Some((key, value)) => {
                !value.is_empty() && TMPFS_OPTIONS.contains(&format!("{key}=").as_str())
            }
            None => TMPFS_OPTIONS.contains(&option),
        };
    if !known {
        let problem = check.bad(
            path,
            "BadValue",
            format!("{option:?} is not an option of tmpfs"),
        );
        if let Some(word) = closest(option, TMPFS_OPTIONS) {
            problem.suggestion = format!("did you mean {word:?}?");
        }
    }
}

/// External form of a `tmpfs` entry.
pub(super) fn tmpfs_to_external(tmpfs: &Tmpfs) -> v1beta1::Tmpfs {
    let Tmpfs {
        path,
        size_bytes,
        options,
    } = tmpfs.clone();
    v1beta1::Tmpfs {
        path,
        size_bytes: i64::try_from(size_bytes).unwrap_or(i64::MAX),
        options,
    }
}

/// `volumes` entries.
pub(super) fn volumes(
    check: &mut Check,
    path: &str,
    list: Vec<v1beta1::VolumeMount>,
) -> Vec<Mount> {
    list.into_iter()
        .enumerate()
        .filter_map(|(i, volume)| read_volume(check, &format!("{path}[{i}]"), volume))
        .collect()
}

/// None when it names a volume badly; every problem is in `check`.
fn read_volume(check: &mut Check, path: &str, volume: v1beta1::VolumeMount) -> Option<Mount> {
    let v1beta1::VolumeMount {
        kind,
        source,
        target,
        read_only,
        size_bytes,
        mode,
        volume_ref,
        ensure,
    } = volume;
    let at = |field: &str| format!("{path}.{field}");
    if kind != "volume" {
        for (field, set) in [("volumeRef", volume_ref.is_some()), ("ensure", ensure)] {
            if set {
                check
                    .bad(at(field), "Contradiction", "is only for kind volume")
                    .suggestion = "leave it out, or set kind: volume".to_owned();
            }
        }
    }
    if kind != "tmpfs" {
        for (field, set) in [("sizeBytes", size_bytes != 0), ("mode", mode != 0)] {
            if set {
                check
                    .bad(at(field), "Contradiction", "is only for kind tmpfs")
                    .suggestion = "leave it out, or set kind: tmpfs".to_owned();
            }
        }
    }
    let kind = match kind.as_str() {
        "" | "bind" => {
            if !source.is_empty() && !source.starts_with('/') {
                check
                    .bad(
                        at("source"),
                        "BadPath",
                        format!("{source:?} is not an absolute path"),
                    )
                    .suggestion =
                    "write the host path in full, or set kind: volume for a Volume of that name"
                        .to_owned();
            } else {
                check.absolute(&at("source"), &source);
            }
            MountKind::Bind(source)
        }
        "tmpfs" => {
            if !source.is_empty() {
                check.bad(at("source"), "Contradiction", "a tmpfs has no source");
            }
            check.range(&at("sizeBytes"), size_bytes, 0, i64::MAX);
            check.range(&at("mode"), i64::from(mode), 0, 0o7777);
            MountKind::Tmpfs {
                size_bytes: u64::try_from(size_bytes).unwrap_or_default(),
                mode,
            }
        }
        "volume" => MountKind::Volume {
            source: volume_source(check, path, &source, volume_ref)?,
            ensure,
        },
        other => {
            let problem = check.bad(
                at("kind"),
                "BadValue",
                format!("{other:?} is not one of: bind, tmpfs, volume"),
            );
            if let Some(word) = closest(other, &["bind", "tmpfs", "volume"]) {
                problem.suggestion = format!("did you mean {word:?}?");
            }
            MountKind::Bind(source)
        }
    };
    target_path(check, &at("target"), &target);
    Some(Mount {
        kind,
        target,
        read_only,
    })
}

/// Which volume is meant.
fn volume_source(
    check: &mut Check,
    path: &str,
    source: &str,
    reference: Option<v1beta1::VolumeRef>,
) -> Option<KeptSource> {
    let at = |field: &str| format!("{path}.{field}");
    match (source, reference) {
        ("", Some(reference)) => {
            let v1beta1::VolumeRef {
                name,
                realm,
                space,
                stack,
            } = reference;
            secret::source(check, &at("volumeRef"), &name, [&realm, &space, &stack, ""])
        }
        ("", None) => {
            check
                .bad(at("source"), "MissingField", "is required")
                .suggestion = "add the name of a Volume".to_owned();
            None
        }
        (_, Some(_)) => {
            check
                .bad(
                    at("volumeRef"),
                    "Contradiction",
                    "source names a Volume already",
                )
                .suggestion = "keep one of the two".to_owned();
            None
        }
        (source, None) => Some(KeptSource {
            name: check.name(&at("source"), source)?,
            scope: None,
        }),
    }
}

/// External form of a mount.
pub(super) fn volume_to_external(mount: &Mount) -> v1beta1::VolumeMount {
    let Mount {
        kind,
        target,
        read_only,
    } = mount;
    let base = v1beta1::VolumeMount {
        target: target.clone(),
        read_only: *read_only,
        ..Default::default()
    };
    match kind {
        MountKind::Bind(source) => v1beta1::VolumeMount {
            kind: "bind".to_owned(),
            source: source.clone(),
            ..base
        },
        MountKind::Volume { source, ensure } => {
            let [realm, space, stack, _] = secret::coordinates(source);
            let name = source.name.to_string();
            let (source, volume_ref) = match &source.scope {
                None => (name, None),
                Some(_) => (
                    String::new(),
                    Some(v1beta1::VolumeRef {
                        name,
                        realm,
                        space,
                        stack,
                    }),
                ),
            };
            v1beta1::VolumeMount {
                kind: "volume".to_owned(),
                source,
                volume_ref,
                ensure: *ensure,
                ..base
            }
        }
        MountKind::Tmpfs { size_bytes, mode } => v1beta1::VolumeMount {
            kind: "tmpfs".to_owned(),
            size_bytes: i64::try_from(*size_bytes).unwrap_or(i64::MAX),
            mode: *mode,
            ..base
        },
    }
}

/// A place in the container: absolute and not its root.
pub(super) fn target_path(check: &mut Check, path: &str, target: &str) {
    if check.absolute(path, target) && plain(target).is_empty() {
        check.bad(
            path,
            "BadPath",
            "the container's root cannot be mounted over",
        );
    }
}

/// Two mounts at one place would hide each other.
pub(super) fn targets(
    check: &mut Check,
    path: &str,
    tmpfs: &[Tmpfs],
    mounts: &[Mount],
    secrets: &[SecretUse],
) {
    let files = secrets
        .iter()
        .enumerate()
        .filter_map(|(i, s)| match &s.target {
            SecretTarget::File { path: target, .. } => {
                Some((format!("{path}.secrets[{i}].mountPath"), target))
            }
            SecretTarget::Env => None,
        });
    let all = tmpfs
        .iter()
        .enumerate()
        .map(|(i, t)| (format!("{path}.tmpfs[{i}].path"), &t.path))
        .chain(
            mounts
                .iter()
                .enumerate()
                .map(|(i, m)| (format!("{path}.volumes[{i}].target"), &m.target)),
        )
        .chain(files);
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (at, target) in all {
        if target.is_empty() {
            continue;
        }
        if let Some(first) = seen.get(&plain(target)) {
            check.bad(
                at,
                "Duplicate",
                format!("{target:?} is mounted already by {first}"),
            );
        } else {
            seen.insert(plain(target), at);
        }
    }
}

/// The path with each part once: no empty and no `.` parts.
fn plain(path: &str) -> String {
    path.split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .map(|part| format!("/{part}"))
        .collect()
}
