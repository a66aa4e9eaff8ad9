//! Realm, Space and Stack.

use super::super::check::Check;
use super::{VERSION, envelope, metadata, parent, same_id};
use super::{scope_status_to_external, scope_status_to_model};
use crate::api::v1beta1;
use crate::model::{
    Realm, RealmRef, RealmSpec, RegistryCredential, Space, SpaceRef, SpaceSpec, Stack, StackRef,
};
use crate::scheme::{Error, Secrets};

/// Realm from its document.
pub fn realm_to_model(document: v1beta1::Realm) -> Result<Realm, Error> {
    let mut check = Check::default();
    let v1beta1::Realm {
        api_version,
        kind,
        metadata,
        spec,
        status,
    } = document;
    let (name, meta) = envelope(&mut check, "Realm", &api_version, &kind, metadata);
    let v1beta1::RealmSpec {
        namespace,
        registry_credentials,
    } = spec.unwrap_or_default();
    namespace_grammar(&mut check, &namespace);
    let credentials: Vec<_> = registry_credentials.into_iter().map(credential).collect();
    for (i, c) in credentials.iter().enumerate() {
        let path = format!("spec.registryCredentials[{i}]");
        if c.username.is_empty() {
            check.bad(format!("{path}.username"), "MissingField", "is required");
        }
        if c.server.contains("://")
            || c.server.contains('/')
            || c.server.contains(char::is_whitespace)
        {
            check
                .bad(
                    format!("{path}.serverAddress"),
                    "BadValue",
                    format!("{:?} is not a host", c.server),
                )
                .suggestion = "write host or host:port, without scheme and path".to_owned();
        }
        if credentials[..i]
            .iter()
            .any(|other| other.server == c.server)
        {
            check.bad(
                format!("{path}.serverAddress"),
                "Duplicate",
                format!("{:?} has a login already", c.server),
            );
        }
    }
    let realm = name.map(|realm| Realm {
        at: RealmRef { realm },
        meta,
        spec: RealmSpec {
            namespace,
            credentials,
        },
        status: scope_status_to_model(status.unwrap_or_default()),
    });
    check.finish(realm)
}

/// containerd's identifier grammar (identifiers/validate.go): letters and digits,
/// joined by single `.`, `-` or `_`, at most 76 bytes.
fn namespace_grammar(check: &mut Check, text: &str) {
    let joined = |b: u8| matches!(b, b'.' | b'-' | b'_');
    let bytes = text.as_bytes();
    let good = bytes
        .iter()
        .all(|&b| b.is_ascii_alphanumeric() || joined(b))
        && !bytes.windows(2).any(|w| joined(w[0]) && joined(w[1]))
        && !bytes.first().is_some_and(|&b| joined(b))
        && !bytes.last().is_some_and(|&b| joined(b))
        && bytes.len() <= 76;
    if !good {
        check.bad(
            "spec.namespace",
            "BadName",
            format!("{text:?} is not a containerd namespace: letters and digits, joined by single . - or _, at most 76"),
        );
    }
}

fn credential(from: v1beta1::RegistryCredential) -> RegistryCredential {
    let v1beta1::RegistryCredential {
        server_address,
        username,
        password,
    } = from;
    RegistryCredential {
        server: server_address,
        username,
        password,
    }
}

/// Document of a realm.
pub fn realm_to_external(realm: &Realm, secrets: Secrets) -> v1beta1::Realm {
    let Realm {
        at,
        meta,
        spec,
        status,
    } = realm;
    let RealmSpec {
        namespace,
        credentials,
    } = spec;
    v1beta1::Realm {
        api_version: VERSION.to_owned(),
        kind: "Realm".to_owned(),
        metadata: metadata(&at.realm, meta),
        spec: Some(v1beta1::RealmSpec {
            namespace: namespace.clone(),
            registry_credentials: credentials
                .iter()
                .map(|c| v1beta1::RegistryCredential {
                    server_address: c.server.clone(),
                    username: c.username.clone(),
                    password: match secrets {
                        Secrets::Keep => c.password.clone(),
                        Secrets::Hide => String::new(),
                    },
                })
                .collect(),
        }),
        status: Some(scope_status_to_external(status)),
    }
}

/// Space from its document.
pub fn space_to_model(document: v1beta1::Space) -> Result<Space, Error> {
    let mut check = Check::default();
    let v1beta1::Space {
        api_version,
        kind,
        metadata,
        spec,
        status,
    } = document;
    let (name, meta) = envelope(&mut check, "Space", &api_version, &kind, metadata);
    let v1beta1::SpaceSpec {
        realm_id,
        cni_config_path,
    } = spec.unwrap_or_default();
    let realm = parent(&mut check, "realmId", "realm", &realm_id);
    if !cni_config_path.is_empty() {
        check.absolute("spec.cniConfigPath", &cni_config_path);
    }
    let at = realm
        .zip(name)
        .map(|(realm, space)| SpaceRef { realm, space });
    let space = at.map(|at| Space {
        at,
        meta,
        spec: SpaceSpec {
            cni_config_path: Some(cni_config_path).filter(|path| !path.is_empty()),
        },
        status: scope_status_to_model(status.unwrap_or_default()),
    });
    check.finish(space)
}

/// Document of a space.
pub fn space_to_external(space: &Space) -> v1beta1::Space {
    let Space {
        at,
        meta,
        spec,
        status,
    } = space;
    let SpaceSpec { cni_config_path } = spec;
    v1beta1::Space {
        api_version: VERSION.to_owned(),
        kind: "Space".to_owned(),
        metadata: metadata(&at.space, meta),
        spec: Some(v1beta1::SpaceSpec {
            realm_id: at.realm.to_string(),
            cni_config_path: cni_config_path.clone().unwrap_or_default(),
        }),
        status: Some(scope_status_to_external(status)),
    }
}

/// Stack from its document.
pub fn stack_to_model(document: v1beta1::Stack) -> Result<Stack, Error> {
    let mut check = Check::default();
    let v1beta1::Stack {
        api_version,
        kind,
        metadata,
        spec,
        status,
    } = document;
    let (name, meta) = envelope(&mut check, "Stack", &api_version, &kind, metadata);
    let v1beta1::StackSpec {
        id,
        realm_id,
        space_id,
    } = spec.unwrap_or_default();
    same_id(&mut check, &id, name.as_ref());
    let realm = parent(&mut check, "realmId", "realm", &realm_id);
    let space = parent(&mut check, "spaceId", "space", &space_id);
    let at = realm
        .zip(space)
        .zip(name)
        .map(|((realm, space), stack)| StackRef {
            realm,
            space,
            stack,
        });
    let stack = at.map(|at| Stack {
        at,
        meta,
        status: scope_status_to_model(status.unwrap_or_default()),
    });
    check.finish(stack)
}

/// Document of a stack.
pub fn stack_to_external(stack: &Stack) -> v1beta1::Stack {
    let Stack { at, meta, status } = stack;
    v1beta1::Stack {
        api_version: VERSION.to_owned(),
        kind: "Stack".to_owned(),
        metadata: metadata(&at.stack, meta),
        spec: Some(v1beta1::StackSpec {
            id: at.stack.to_string(),
            realm_id: at.realm.to_string(),
            space_id: at.space.to_string(),
        }),
        status: Some(scope_status_to_external(status)),
    }
}
