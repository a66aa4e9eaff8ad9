//! Volume and Secret: what is kept in a scope.

use super::super::check::Check;
use super::{VERSION, bookkeeping, metadata, right_kind};
use crate::api::v1beta1;
use crate::model::{
    KeptKind, KeptRef, Meta, ObjectRef, RealmRef, Reclaim, Secret, SecretText, Volume,
};
use crate::scheme::{Error, Secrets};

/// Most bytes of a secret: what a cluster takes too.
const MAX_SECRET: usize = 1 << 20;

const RECLAIM: &[(&str, Reclaim)] = &[("Delete", Reclaim::Delete), ("Retain", Reclaim::Retain)];

/// Coordinates of a scope as they are written, each with its path.
pub(super) type Coordinates<'a> = [(&'static str, &'a str); 4];

/// The scope that realm, space, stack and cell name. A deeper coordinate needs
/// those above it.
pub(super) fn scope(
    check: &mut Check,
    prefix: &str,
    coordinates: Coordinates<'_>,
) -> Option<ObjectRef> {
    let mut at: Option<ObjectRef> = None;
    let mut missing: Option<&str> = None;
    for (level, (field, text)) in coordinates.into_iter().enumerate() {
        let path = format!("{prefix}.{field}");
        if text.is_empty() {
            missing.get_or_insert(field);
            continue;
        }
        if let Some(above) = missing {
            check
                .bad(path, "MissingField", format!("needs the field {above:?}"))
                .suggestion = format!("add \"{above}\" beside it");
            return None;
        }
        let name = check.name(&path, text)?;
        at = match (level, at) {
            (0, _) => Some(RealmRef { realm: name }.into()),
            (_, Some(ObjectRef::Realm(r))) => Some(r.space(name).into()),
            (_, Some(ObjectRef::Space(r))) => Some(r.stack(name).into()),
            (_, Some(ObjectRef::Stack(r))) => Some(r.cell(name).into()),
            (_, other) => other,
        };
    }
    at
}

fn place(
    check: &mut Check,
    kind: KeptKind,
    metadata: Option<v1beta1::ScopedMetadata>,
) -> (Option<KeptRef>, Meta) {
    let v1beta1::ScopedMetadata {
        name,
        labels,
        annotations,
        generation,
        uid,
        created_at,
        deletion_timestamp,
        realm,
        space,
        stack,
        cell,
    } = metadata.unwrap_or_default();
    if realm.is_empty() {
        check
            .bad(
                "metadata.realm",
                "MissingField",
                "is required: the realm it is kept in",
            )
            .suggestion = "add \"realm: default\" below metadata for the default realm".to_owned();
    }
    if kind == KeptKind::Volume && !cell.is_empty() {
        check
            .bad(
                "metadata.cell",
                "NotSupported",
                "a Volume outlives cells, so it is not kept in one",
            )
            .suggestion = "leave it out: the Volume is then kept in the stack".to_owned();
    }
    let coordinates = [
        ("realm", realm.as_str()),
        ("space", &space),
        ("stack", &stack),
        ("cell", &cell),
    ];
    let scope = scope(check, "metadata", coordinates);
    let (name, meta) = bookkeeping(
        check,
        v1beta1::Metadata {
            name,
            labels,
            annotations,
            generation,
            uid,
            created_at,
            deletion_timestamp,
        },
    );
    let at = scope.zip(name).map(|(scope, name)| scope.keeps(kind, name));
    (at, meta)
}

fn scoped_metadata(at: &KeptRef, meta: &Meta) -> Option<v1beta1::ScopedMetadata> {
    let v1beta1::Metadata {
        name,
        labels,
        annotations,
        generation,
        uid,
        created_at,
        deletion_timestamp,
    } = metadata(&at.name, meta)?;
    let names = at.scope.names();
    let part = |level: usize| {
        names
            .get(level)
            .map(ToString::to_string)
            .unwrap_or_default()
    };
    Some(v1beta1::ScopedMetadata {
        name,
        labels,
        annotations,
        generation,
        uid,
        created_at,
        deletion_timestamp,
        realm: part(0),
        space: part(1),
        stack: part(2),
        cell: part(3),
    })
}

/// Volume from its document.
pub fn volume_to_model(document: v1beta1::Volume) -> Result<Volume, Error> {
    let mut check = Check::default();
    let v1beta1::Volume {
        api_version,
        kind,
        metadata,
        spec,
        status,
    } = document;
    right_kind(&mut check, "Volume", &api_version, &kind);
    let (at, meta) = place(&mut check, KeptKind::Volume, metadata);
    let v1beta1::VolumeSpec { reclaim_policy } = spec.unwrap_or_default();
    let reclaim = check.word("spec.reclaimPolicy", &reclaim_policy, RECLAIM);
    let volume = at.map(|at| Volume {
        at,
        meta,
        reclaim,
        path: status.unwrap_or_default().path,
    });
    check.finish(volume)
}

/// Document of a volume.
pub fn volume_to_external(volume: &Volume) -> v1beta1::Volume {
    let Volume {
        at,
        meta,
        reclaim,
        path,
    } = volume;
    v1beta1::Volume {
        api_version: VERSION.to_owned(),
        kind: "Volume".to_owned(),
        metadata: scoped_metadata(at, meta),
        spec: Some(v1beta1::VolumeSpec {
            reclaim_policy: match reclaim {
                Reclaim::Delete => String::new(),
                Reclaim::Retain => "Retain".to_owned(),
            },
        }),
        status: (!path.is_empty()).then(|| v1beta1::VolumeStatus { path: path.clone() }),
    }
}

/// Secret from its document.
pub fn secret_to_model(document: v1beta1::Secret) -> Result<Secret, Error> {
    let mut check = Check::default();
    let v1beta1::Secret {
        api_version,
        kind,
        metadata,
        spec,
    } = document;
    right_kind(&mut check, "Secret", &api_version, &kind);
    let (at, meta) = place(&mut check, KeptKind::Secret, metadata);
    let v1beta1::SecretSpec { data } = spec.unwrap_or_default();
    // No message holds any of it.
    if data.trim().is_empty() {
        check
            .bad(
                "spec.data",
                "MissingField",
                "is required: the value, which is never shown",
            )
            .suggestion = "add it; what `kuke get` shows has no value".to_owned();
    } else if data.len() > MAX_SECRET {
        check.bad(
            "spec.data",
            "OutOfRange",
            format!(
                "holds {} bytes, at most {MAX_SECRET} are allowed",
                data.len()
            ),
        );
    }
    let secret = at.map(|at| Secret {
        at,
        meta,
        data: SecretText(data),
    });
    check.finish(secret)
}

/// Document of a secret.
pub fn secret_to_external(secret: &Secret, secrets: Secrets) -> v1beta1::Secret {
    let Secret { at, meta, data } = secret;
    v1beta1::Secret {
        api_version: VERSION.to_owned(),
        kind: "Secret".to_owned(),
        metadata: scoped_metadata(at, meta),
        spec: match secrets {
            Secrets::Keep => Some(v1beta1::SecretSpec {
                data: data.0.clone(),
            }),
            Secrets::Hide => None,
        },
    }
}
