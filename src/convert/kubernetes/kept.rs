//! Volumes as claims, secrets as Secrets, and how pods name them.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::loss::lost;
use super::{Labels, names};
use crate::api::{Problem, v1beta1};
use crate::model::{
    CellRef, KeptKind, KeptRef, KeptSource, Meta, Name, ObjectRef, RealmRef, Reclaim, Secret,
    Volume, label,
};
use crate::scheme::Secrets;

/// Key of the value in a Secret.
pub(super) const VALUE: &str = "value";
/// Annotation of a workload: where it looks for what it names, by place in the
/// pod, where that is not said by the name alone.
pub(super) const SOURCES: &str = "convert.kukeon.io/sources";
/// Annotation of a Volume: how much a cluster shall give it.
pub(super) const SIZE: &str = "convert.kukeon.io/storage";
/// Annotation of a Volume: storage class of the claim.
pub(super) const CLASS: &str = "convert.kukeon.io/storage-class";
/// Annotation of a claim: its reclaim policy, which clusters keep elsewhere.
pub(super) const RECLAIM: &str = "convert.kukeon.io/reclaim-policy";
/// Label of claims and Secrets that come of ours: the name there.
pub(super) const NAME: &str = "kukeon.io/name";
/// What a claim asks for that says nothing.
const DEFAULT_SIZE: &str = "1Gi";
/// Permission bits of a secret's file that says nothing. A cluster cannot give it
/// to the container's user, so everybody in the container may read it.
pub(super) const FILE_MODE: u32 = 0o444;

/// What the documents keep, and what one cell names of it.
pub(super) struct Named<'a> {
    cell: CellRef,
    known: &'a BTreeSet<KeptRef>,
    sources: BTreeMap<String, String>,
    /// Named, and in no document.
    pub missing: BTreeSet<String>,
}

impl<'a> Named<'a> {
    pub(super) fn new(cell: &CellRef, known: &'a BTreeSet<KeptRef>) -> Self {
        Self {
            cell: cell.clone(),
            known,
            sources: BTreeMap::new(),
            missing: BTreeSet::new(),
        }
    }

    /// Name of the object that is meant at a place of the pod.
    pub(super) fn object(&mut self, place: &str, kind: KeptKind, source: &KeptSource) -> String {
        let places = source.places(kind, &self.cell);
        let found = places.iter().find(|at| self.known.contains(at));
        let name = match found.or(places.last()) {
            Some(at) => object_name(at),
            None => source.name.to_string(),
        };
        if found.is_none() {
            let word = match kind {
                KeptKind::Volume => "PersistentVolumeClaim",
                KeptKind::Secret => "Secret",
            };
            self.missing.insert(format!("{word} {name:?}"));
        }
        let path = path_of(source);
        if path != name {
            self.sources.insert(place.to_owned(), path);
        }
        name
    }

    /// The annotation that leads back, when one is needed.
    pub(super) fn annotation(&self) -> Option<String> {
        (!self.sources.is_empty()).then(|| json!(self.sources).to_string())
    }
}

/// `NAME`, or `REALM[/SPACE[/STACK[/CELL]]]/NAME` for one at that place.
fn path_of(source: &KeptSource) -> String {
    let scope = source.scope.as_ref().map(ObjectRef::names);
    let mut parts: Vec<&str> = scope.iter().flatten().map(|n| n.as_str()).collect();
    parts.push(source.name.as_str());
    parts.join("/")
}

/// What [`path_of`] wrote.
pub(super) fn parse_path(text: &str) -> Option<KeptSource> {
    let mut names = Vec::new();
    for part in text.split('/') {
        names.push(part.parse::<Name>().ok()?);
    }
    let name = names.pop()?;
    Some(KeptSource {
        name,
        scope: scope_of(names),
    })
}

/// What a workload names at a place of its pod: as it noted, or by the name
/// alone, wherever that is kept.
pub(super) fn source(
    noted: &BTreeMap<String, String>,
    place: &str,
    name: &str,
) -> Option<KeptSource> {
    parse_path(noted.get(place).map_or(name, String::as_str))
}

/// Realm, space, stack and cell of a place; empty where there is none.
fn coordinates(source: &KeptSource) -> [String; 4] {
    let names = source
        .scope
        .as_ref()
        .map(ObjectRef::names)
        .unwrap_or_default();
    [0, 1, 2, 3].map(|n| names.get(n).map(ToString::to_string).unwrap_or_default())
}

/// A mount of a volume, without its target.
pub(super) fn mount_of(source: &KeptSource) -> v1beta1::VolumeMount {
    let [realm, space, stack, _] = coordinates(source);
    let name = source.name.to_string();
    let mut mount = v1beta1::VolumeMount {
        kind: "volume".to_owned(),
        ..Default::default()
    };
    match source.scope {
        None => mount.source = name,
        Some(_) => {
            mount.volume_ref = Some(v1beta1::VolumeRef {
                name,
                realm,
                space,
                stack,
            });
        }
    }
    mount
}

/// A secret as a container names it: a variable until it has a path.
pub(super) fn use_of(name: &str, source: &KeptSource) -> v1beta1::ContainerSecret {
    let [realm, space, stack, cell] = coordinates(source);
    v1beta1::ContainerSecret {
        name: name.to_owned(),
        secret_ref: Some(v1beta1::SecretRef {
            name: source.name.to_string(),
            realm,
            space,
            stack,
            cell,
        }),
        ..Default::default()
    }
}

/// Our name for one key of a Secret. What we wrote has one key, and its name.
pub(super) fn secret_name(name: &str, key: &str) -> String {
    let whole = match key {
        VALUE => name.to_owned(),
        key => format!("{name}-{key}"),
    };
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let text: String = whole.chars().map(plain).collect();
    names::shortened(text.trim_matches('-'))
}

/// The scope with these names, from the realm down.
pub(super) fn scope_of(names: Vec<Name>) -> Option<ObjectRef> {
    let mut names = names.into_iter();
    let realm = RealmRef {
        realm: names.next()?,
    };
    let (space, stack, cell) = (names.next(), names.next(), names.next());
    Some(match (space, stack, cell) {
        (Some(space), Some(stack), Some(cell)) => realm.space(space).stack(stack).cell(cell).into(),
        (Some(space), Some(stack), None) => realm.space(space).stack(stack).into(),
        (Some(space), None, _) => realm.space(space).into(),
        _ => realm.into(),
    })
}

/// Name in the namespace of the realm: those of space, stack and cell, unless
/// space and stack are `default`, and its own.
fn object_name(at: &KeptRef) -> String {
    let names = at.scope.names();
    let parts = names.iter().enumerate().skip(1);
    let mut parts: Vec<&str> = parts
        .filter(|(level, name)| *level > 2 || name.as_str() != "default")
        .map(|(_, name)| name.as_str())
        .collect();
    parts.push(at.name.as_str());
    names::shortened(&parts.join("-"))
}

fn metadata(at: &KeptRef, meta: &Meta, losses: &mut Vec<Problem>) -> (Value, Labels) {
    let mut labels = names::labels(&meta.labels, losses);
    let keys = [label::REALM, label::SPACE, label::STACK, label::CELL];
    for (key, name) in keys.iter().zip(at.scope.names()) {
        labels.insert((*key).to_owned(), name.to_string());
    }
    labels.insert(NAME.to_owned(), at.name.to_string());
    let annotations = names::annotations(&meta.annotations, losses);
    let realm = at.scope.names().first().map(ToString::to_string);
    let metadata = json!({
        "name": object_name(at),
        "namespace": realm.unwrap_or_default(),
        "labels": labels,
    });
    (metadata, annotations)
}

/// A claim. The size is not known here: an annotation says it, or it is small.
pub(super) fn volume(volume: &Volume, losses: &mut Vec<Problem>, notes: &mut Vec<String>) -> Value {
    let Volume {
        at,
        meta,
        reclaim,
        path: _,
    } = volume;
    let (mut metadata, mut annotations) = metadata(at, meta, losses);
    let size = annotations.get(SIZE).cloned().unwrap_or_else(|| {
        notes.push(format!(
            "{at}: asks for {DEFAULT_SIZE}; the annotation {SIZE} says another size"
        ));
        DEFAULT_SIZE.to_owned()
    });
    if *reclaim == Reclaim::Retain {
        annotations.insert(RECLAIM.to_owned(), "Retain".to_owned());
    }
    let class = annotations.get(CLASS).cloned();
    if !annotations.is_empty() {
        metadata["annotations"] = json!(annotations);
    }
    let mut spec = json!({
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
    });
    if let Some(class) = class {
        spec["storageClassName"] = class.into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": spec,
    })
}

/// A Secret with the value; none for an artifact, which must not hold any.
pub(super) fn secret(
    secret: &Secret,
    secrets: Secrets,
    losses: &mut Vec<Problem>,
) -> Option<Value> {
    let Secret { at, meta, data } = secret;
    if secrets == Secrets::Hide {
        losses.push(lost(
            "spec.data",
            "the value of a secret does not belong into an artifact",
            "remove the document, and make the Secret on the cluster",
        ));
        return None;
    }
    let (mut metadata, annotations) = metadata(at, meta, losses);
    if !annotations.is_empty() {
        metadata["annotations"] = json!(annotations);
    }
    Some(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "Opaque",
        "data": {VALUE: STANDARD.encode(&data.0)},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_back() {
        for text in ["a", "r/a", "r/s/a", "r/s/t/a", "r/s/t/c/a"] {
            assert_eq!(path_of(&parse_path(text).unwrap()), text);
        }
        assert_eq!(parse_path("r/../a"), None);
        assert_eq!(parse_path(""), None);
    }
}
