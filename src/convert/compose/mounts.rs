//! Volumes, memory file systems, configs and secrets of a service.

use super::super::loss::Notes;
use super::super::quantity::compose_bytes;
use super::super::walk::{Fields, text, wrong};
use super::Reader;
use crate::api::v1beta1::{ContainerSpec, Tmpfs, VolumeMount};
use crate::api::yaml::Position;
use crate::api::yaml::located::{Kind, Value};

const NAMED: &str = "mount a directory of the host: ./data:/data";

/// `volumes:` of a service.
pub(super) fn volumes(
    reader: &Reader<'_>,
    value: &Value,
    path: &str,
    spec: &mut ContainerSpec,
    notes: &mut Notes,
) {
    for (i, value) in super::super::walk::list(notes, value, path)
        .iter()
        .enumerate()
    {
        let path = format!("{path}[{i}]");
        match &value.kind {
            Kind::Map(_) => long(reader, value, &path, spec, notes),
            _ => {
                let text = text(notes, value, &path);
                short(reader, &text, &path, value.at, spec, notes);
            }
        }
    }
}

fn short(
    reader: &Reader<'_>,
    text: &str,
    path: &str,
    at: Position,
    spec: &mut ContainerSpec,
    notes: &mut Notes,
) {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, modes) = match parts[..] {
        [target] => ("", target, ""),
        [source, target] => (source, target, ""),
        [source, target, modes] => (source, target, modes),
        _ => {
            notes.error(
                path,
                at,
                "BadValue",
                format!("{text:?} is not [SOURCE:]TARGET[:MODE]"),
            );
            return;
        }
    };
    let mut read_only = false;
    for mode in modes.split(',').filter(|m| !m.is_empty()) {
        match mode {
            "ro" => read_only = true,
            // What is mounted is not relabelled, and is always consistent.
            "rw" | "cached" | "delegated" | "consistent" => {}
            other => {
                let message = format!("the mode {other:?} has no equivalent");
                notes.lost(path, at, message, "remove it");
            }
        }
    }
    bind(reader, source, target, read_only, path, at, spec, notes);
}

#[allow(clippy::too_many_arguments)]
fn bind(
    reader: &Reader<'_>,
    source: &str,
    target: &str,
    read_only: bool,
    path: &str,
    at: Position,
    spec: &mut ContainerSpec,
    notes: &mut Notes,
) {
    let is_path = source.starts_with(['/', '.', '~']);
    let host = match is_path {
        true => Some(reader.host_path(source)),
        false => reader.devices.get(source).cloned(),
    };
    match host {
        Some(source) => spec.volumes.push(VolumeMount {
            kind: "bind".to_owned(),
            source,
            target: target.to_owned(),
            read_only,
            ..Default::default()
        }),
        None if reader.volumes.contains_key(source) => spec.volumes.push(VolumeMount {
            kind: "volume".to_owned(),
            source: reader.volumes[source].clone(),
            target: target.to_owned(),
            read_only,
            ..Default::default()
        }),
        None => notes.lost(path, at, "volumes without a name have no equivalent", NAMED),
    }
}

fn long(
    reader: &Reader<'_>,
    value: &Value,
    path: &str,
    spec: &mut ContainerSpec,
    notes: &mut Notes,
) {
    let mut fields = Fields::of(notes, value, path);
    let kind = fields.text(notes, "type");
    let source = fields.text(notes, "source");
    let target = fields.text(notes, "target");
    let read_only = fields.bool(notes, "read_only") == Some(true);
    let (mut size, mut mode) = (0, 0);
    let at = fields.sub("tmpfs");
    if let Some(value) = fields.take("tmpfs") {
        let mut options = Fields::of(notes, value, at);
        let text = options.text(notes, "size");
        if !text.is_empty() {
            size = bytes(&text, &options.sub("size"), value.at, notes);
        }
        if let Some(number) = options.int(notes, "mode") {
            mode = u32::try_from(number).unwrap_or(u32::MAX);
        }
        options.finish(notes, &[], &[]);
    }
    let at = fields.sub("bind");
    if let Some(value) = fields.take("bind") {
        let mut options = Fields::of(notes, value, at);
        options.skip_extensions();
        options.finish(
            notes,
            &["create_host_path"],
            &[
                ("propagation", "remove it"),
                ("selinux", "remove it"),
                ("recursive", "remove it"),
            ],
        );
    }
    fields.skip_extensions();
    fields.finish(
        notes,
        &["consistency"],
        &[("volume", NAMED), ("image", NAMED)],
    );
    match kind.as_str() {
        "bind" => {
            let source = match source.starts_with(['/', '.', '~']) {
                true => source,
                false => format!("./{source}"),
            };
            bind(
                reader, &source, &target, read_only, path, value.at, spec, notes,
            );
        }
        "volume" => bind(
            reader, &source, &target, read_only, path, value.at, spec, notes,
        ),
        "tmpfs" => spec.volumes.push(VolumeMount {
            kind,
            target,
            read_only,
            size_bytes: size,
            mode,
            ..Default::default()
        }),
        other => notes.lost(
            format!("{path}.type"),
            value.at,
            format!("mounts of the type {other:?} have no equivalent"),
            NAMED,
        ),
    }
}

/// `tmpfs:` of a service, `PATH[:OPTIONS]`.
pub(super) fn tmpfs(value: &Value, path: &str, spec: &mut ContainerSpec, notes: &mut Notes) {
    let one = std::slice::from_ref(value);
    let list = match &value.kind {
        Kind::List(list) => list.as_slice(),
        _ => one,
    };
    for value in list {
        let text = text(notes, value, path);
        let (target, options) = text.split_once(':').unwrap_or((&text, ""));
        let mut out = Tmpfs {
            path: target.to_owned(),
            ..Default::default()
        };
        for option in options.split(',').filter(|o| !o.is_empty()) {
            match option.strip_prefix("size=") {
                Some(size) => out.size_bytes = bytes(size, path, value.at, notes),
                None => out.options.push(option.to_owned()),
            }
        }
        spec.tmpfs.push(out);
    }
}

/// Bytes of a size.
pub(super) fn bytes(text: &str, path: &str, at: Position, notes: &mut Notes) -> i64 {
    let bytes = compose_bytes(text).and_then(|n| i64::try_from(n).ok());
    if bytes.is_none() {
        let message = format!("{text:?} is not a size such as 64m");
        notes.error(path, at, "BadValue", message);
    }
    bytes.unwrap_or_default()
}

/// `configs:` or `secrets:` of a service: files of the host that are mounted.
pub(super) fn files(
    reader: &Reader<'_>,
    kind: &str,
    value: &Value,
    path: &str,
    spec: &mut ContainerSpec,
    notes: &mut Notes,
) {
    for (i, value) in super::super::walk::list(notes, value, path)
        .iter()
        .enumerate()
    {
        let path = format!("{path}[{i}]");
        let (mut name, mut target) = (String::new(), String::new());
        match &value.kind {
            Kind::Map(_) => {
                let mut fields = Fields::of(notes, value, &path);
                name = fields.text(notes, "source");
                target = fields.text(notes, "target");
                let remedy = "give the file the right owner and mode on the host";
                fields.finish(
                    notes,
                    &[],
                    &[("uid", remedy), ("gid", remedy), ("mode", remedy)],
                );
            }
            Kind::Scalar(..) => name = text(notes, value, &path),
            Kind::List(_) => wrong(notes, &path, value, "a name or a mapping"),
        }
        let target = match (kind, target.as_str()) {
            (_, target) if target.starts_with('/') => target.to_owned(),
            ("secrets", "") => format!("/run/secrets/{name}"),
            ("secrets", target) => format!("/run/secrets/{target}"),
            (_, "") => format!("/{name}"),
            (_, target) => format!("/{target}"),
        };
        let sources = if kind == "secrets" {
            &reader.secrets
        } else {
            &reader.configs
        };
        match sources.get(&name) {
            None => {
                let message = format!("none of the top-level {kind} is called {name:?}");
                notes.error(path, value.at, "BadValue", message);
            }
            // Told where it is declared.
            Some(None) => {}
            Some(Some(source)) => spec.volumes.push(VolumeMount {
                kind: "bind".to_owned(),
                source: source.clone(),
                target,
                read_only: true,
                ..Default::default()
            }),
        }
    }
}
