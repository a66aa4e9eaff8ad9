//! Secrets and ports of a container.

use std::collections::BTreeSet;

use super::super::check::Check;
use super::kept::scope;
use crate::api::v1beta1;
use crate::model::{ContainerPort, KeptSource, Name, ObjectRef, SecretTarget, SecretUse};

/// What a container names: by its name alone, or at one place.
pub(super) fn source(
    check: &mut Check,
    path: &str,
    name: &str,
    [realm, space, stack, cell]: [&str; 4],
) -> Option<KeptSource> {
    let name = check.name(&format!("{path}.name"), name);
    let coordinates = [
        ("realm", realm),
        ("space", space),
        ("stack", stack),
        ("cell", cell),
    ];
    let scope = scope(check, path, coordinates);
    Some(KeptSource { name: name?, scope })
}

/// The coordinates of a place, from the realm down; empty where there is none.
pub(super) fn coordinates(source: &KeptSource) -> [String; 4] {
    let names = source.scope.as_ref().map(ObjectRef::names);
    let names: Vec<&Name> = names.unwrap_or_default();
    [0, 1, 2, 3].map(|n| names.get(n).map(ToString::to_string).unwrap_or_default())
}

/// `secrets` entries.
pub(super) fn secrets(
    check: &mut Check,
    path: &str,
    list: Vec<v1beta1::ContainerSecret>,
    env: &[String],
) -> Vec<SecretUse> {
    let mut variables: BTreeSet<String> = env
        .iter()
        .filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()))
        .collect();
    let read = |(i, secret)| {
        let path = format!("{path}[{i}]");
        let secret = read_secret(check, &path, secret)?;
        if secret.target == SecretTarget::Env && !variables.insert(secret.name.clone()) {
            check.bad(
                format!("{path}.name"),
                "Duplicate",
                format!("the variable {:?} is set already", secret.name),
            );
        }
        Some(secret)
    };
    list.into_iter().enumerate().filter_map(read).collect()
}

fn read_secret(
    check: &mut Check,
    path: &str,
    secret: v1beta1::ContainerSecret,
) -> Option<SecretUse> {
    let v1beta1::ContainerSecret {
        name,
        secret_ref,
        mount_path,
        from_file,
        from_env,
        uid,
        gid,
        mode,
    } = secret;
    let at = |field: &str| format!("{path}.{field}");
    for (field, set, what) in [
        ("fromFile", !from_file.is_empty(), "a file of the host"),
        ("fromEnv", !from_env.is_empty(), "a variable of kukeond"),
    ] {
        if set {
            check
                .bad(
                    at(field),
                    "NotSupported",
                    format!("{what} is not given to containers: whoever may apply a manifest could read it"),
                )
                .suggestion =
                "store the value with `kuke create secret`, and name that with secretRef".to_owned();
        }
    }
    let odd = |c: char| c.is_whitespace() || c.is_control() || "=/".contains(c);
    if name.is_empty() {
        check
            .bad(at("name"), "MissingField", "is required")
            .suggestion = "add the name of the variable or file".to_owned();
    } else if name.contains(odd) || name.len() > 253 {
        let message = format!("{name:?} is not the name of a variable or file");
        check.bad(at("name"), "BadValue", message);
    }
    let target = if mount_path.is_empty() {
        for (field, set) in [
            ("uid", uid.is_some()),
            ("gid", gid.is_some()),
            ("mode", mode.is_some()),
        ] {
            if set {
                check
                    .bad(at(field), "Contradiction", "is only for a file")
                    .suggestion = "set mountPath, or leave it out".to_owned();
            }
        }
        SecretTarget::Env
    } else {
        super::mount::target_path(check, &at("mountPath"), &mount_path);
        for (field, id) in [("uid", uid), ("gid", gid)] {
            // (uid_t)-1 means "no change" to the kernel.
            if id == Some(u32::MAX) {
                check.bad(at(field), "OutOfRange", "is not an id");
            }
        }
        if let Some(mode) = mode
            && check.range(&at("mode"), i64::from(mode), 0, 0o777)
            && mode & 0o222 != 0
        {
            check
                .bad(at("mode"), "BadValue", "a secret is read-only")
                .suggestion = format!("write {} (0{:o})", mode & 0o555, mode & 0o555);
        }
        SecretTarget::File {
            path: mount_path,
            uid,
            gid,
            mode,
        }
    };
    let Some(reference) = secret_ref else {
        if from_file.is_empty() && from_env.is_empty() {
            check
                .bad(at("secretRef"), "MissingField", "is required")
                .suggestion = "add secretRef with the name of a Secret".to_owned();
        }
        return None;
    };
    let v1beta1::SecretRef {
        name: of,
        realm,
        space,
        stack,
        cell,
    } = reference;
    let source = source(
        check,
        &at("secretRef"),
        &of,
        [&realm, &space, &stack, &cell],
    )?;
    Some(SecretUse {
        name,
        source,
        target,
    })
}

/// External form of a secret.
pub(super) fn secret_to_external(secret: &SecretUse) -> v1beta1::ContainerSecret {
    let SecretUse {
        name,
        source,
        target,
    } = secret;
    let [realm, space, stack, cell] = coordinates(source);
    let base = v1beta1::ContainerSecret {
        name: name.clone(),
        secret_ref: Some(v1beta1::SecretRef {
            name: source.name.to_string(),
            realm,
            space,
            stack,
            cell,
        }),
        ..Default::default()
    };
    match target {
        SecretTarget::Env => base,
        SecretTarget::File {
            path,
            uid,
            gid,
            mode,
        } => v1beta1::ContainerSecret {
            mount_path: path.clone(),
            uid: *uid,
            gid: *gid,
            mode: *mode,
            ..base
        },
    }
}

/// `ports` entries, each once.
pub(super) fn ports(check: &mut Check, path: &str, list: &[String]) -> Vec<ContainerPort> {
    let mut out: Vec<ContainerPort> = Vec::new();
    for (i, text) in list.iter().enumerate() {
        let at = format!("{path}[{i}]");
        match text.parse::<ContainerPort>() {
            Ok(port) if out.contains(&port) => {
                check.bad(at, "Duplicate", format!("{text:?} is listed twice"));
            }
            Ok(port) => out.push(port),
            Err(()) => {
                let problem = check.bad(
                    at,
                    "BadValue",
                    format!("{text:?} is not PORT[/tcp|udp|sctp]"),
                );
                if text.contains(':') {
                    "ports of the host are not published; write the port of the container alone"
                        .clone_into(&mut problem.suggestion);
                }
            }
        }
    }
    out
}
