//! Kubernetes objects as our documents.

mod config;
mod container;
mod expand;
mod meta;
mod pod;
mod service;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::super::loss::{Error, Loss, Notes};
use super::super::ours::{self, Draft, Scope};
use super::super::walk::Fields;
use super::super::{Converted, Result, Source};
use super::{kept, write};
use crate::api::closest;
use crate::api::yaml::located::{Kind, Stream, Value};
use crate::model::{
    AnyObject, ContainerPort, KeptKind, Meta, RealmRef, Reclaim, SpaceRef, Volume, label,
};
use crate::scheme::Secrets;
use config::Config;
use meta::Metadata;

/// One object of the input.
pub(super) struct Document<'a> {
    /// Which source it stands in.
    stream: usize,
    /// For messages.
    title: String,
    kind: String,
    value: &'a Value,
}

/// Kinds that are read.
const KINDS: &[&str] = &[
    "Namespace",
    "ConfigMap",
    "Secret",
    "ServiceAccount",
    "NetworkPolicy",
    "Service",
    "Pod",
    "Job",
    "Deployment",
    "StatefulSet",
    "PersistentVolumeClaim",
];

/// Kinds that are known and have no equivalent, with what to do.
const WITHOUT: &[(&str, &str)] = &[
    ("CronJob", "run the cell from cron or a systemd timer"),
    ("DaemonSet", "write a Deployment: there is one machine"),
    ("ReplicaSet", "write a Deployment"),
    ("ReplicationController", "write a Deployment"),
    ("Ingress", "run a reverse proxy in a cell"),
    ("Gateway", "run a reverse proxy in a cell"),
    ("HTTPRoute", "run a reverse proxy in a cell"),
    ("HorizontalPodAutoscaler", "remove it: there is one machine"),
    ("PodDisruptionBudget", "remove it: there is one machine"),
    (
        "PersistentVolume",
        "mount a host directory with a hostPath volume",
    ),
    ("StorageClass", "remove it"),
    ("Role", "remove it: there is no cluster to have rights in"),
    (
        "RoleBinding",
        "remove it: there is no cluster to have rights in",
    ),
    (
        "ClusterRole",
        "remove it: there is no cluster to have rights in",
    ),
    (
        "ClusterRoleBinding",
        "remove it: there is no cluster to have rights in",
    ),
    ("CustomResourceDefinition", "remove it"),
    ("LimitRange", "set resources on the containers"),
    ("ResourceQuota", "set resources on the containers"),
    ("PriorityClass", "remove it"),
];

/// Reads Kubernetes objects and writes our documents.
///
/// # Errors
/// Input that is no Kubernetes object; without `partial` also [`Error::Lost`].
pub fn from_kubernetes(sources: &[Source<'_>], scope: &Scope, partial: bool) -> Result<Converted> {
    let streams = sources
        .iter()
        .map(|(source, bytes)| Stream::read(source, bytes))
        .collect::<crate::api::Result<Vec<_>>>()?;
    let mut notes: Vec<Notes> = streams.iter().map(|_| Notes::default()).collect();
    let documents = documents(&streams, &mut notes);
    let mut reader = Reader {
        scope,
        config: Config::default(),
        draft: Draft::default(),
        workloads: Vec::new(),
    };
    // What others refer to is read first.
    for kind in KINDS {
        for document in documents.iter().filter(|d| d.kind == *kind) {
            let notes = &mut notes[document.stream];
            notes.document.clone_from(&document.title);
            reader.read(document, notes);
        }
    }
    for kind in ["Service"] {
        for document in documents.iter().filter(|d| d.kind == kind) {
            let notes = &mut notes[document.stream];
            notes.document.clone_from(&document.title);
            service::read(&mut reader, document.value, notes);
        }
    }
    reader.add_ports();
    reader.config.unused(&mut notes);
    let objects = reader.draft.finish();
    derived(&objects, &documents, &mut notes);
    for (stream, notes) in streams.iter().zip(&notes) {
        if !notes.errors.is_empty() {
            return Err(stream.refuse(&notes.errors).into());
        }
    }
    let losses: Vec<Loss> = streams
        .iter()
        .zip(&mut notes)
        .flat_map(|(stream, notes)| {
            let mut losses = std::mem::take(&mut notes.losses);
            losses.sort_by_key(|loss| loss.at);
            losses.into_iter().map(|located| Loss {
                located,
                source: stream.source.clone(),
            })
        })
        .collect();
    if !losses.is_empty() && !partial {
        return Err(match streams.as_slice() {
            [stream] => {
                let located: Vec<_> = losses.into_iter().map(|l| l.located).collect();
                Error::Input(stream.refuse(&located))
            }
            _ => Error::Lost(losses),
        });
    }
    Ok(Converted {
        text: ours::text(&objects)?,
        losses,
        notes: Vec::new(),
    })
}

/// The objects of all streams; Lists are flattened.
fn documents<'a>(streams: &'a [Stream<'_>], notes: &mut [Notes]) -> Vec<Document<'a>> {
    let mut out = Vec::new();
    for (stream, notes) in streams.iter().zip(notes).enumerate() {
        let (number, (stream, notes)) = (stream, notes);
        for value in &stream.documents {
            let is_list = value.get("kind").and_then(Value::text) == Some("List");
            match value.get("items").map(|items| &items.kind) {
                Some(Kind::List(items)) if is_list => {
                    for item in items {
                        document(item, number, notes, &mut out);
                    }
                }
                _ => document(value, number, notes, &mut out),
            }
        }
    }
    out
}

fn document<'a>(value: &'a Value, stream: usize, notes: &mut Notes, out: &mut Vec<Document<'a>>) {
    let text = |value: Option<&Value>| value.and_then(Value::text).unwrap_or_default().to_owned();
    let kind = text(value.get("kind"));
    let name = text(value.get("metadata").and_then(|m| m.get("name")));
    notes.document = match (kind.is_empty(), name.is_empty()) {
        (true, _) => format!("document on line {}", value.at.line),
        (false, true) => kind.clone(),
        (false, false) => format!("{kind} {name:?}"),
    };
    if kind.is_empty() || text(value.get("apiVersion")).is_empty() {
        let message = "expected a mapping with apiVersion and kind";
        notes.error("", value.at, "MissingField", message);
    } else if KINDS.contains(&kind.as_str()) {
        out.push(Document {
            stream,
            title: notes.document.clone(),
            kind,
            value,
        });
    } else if let Some((_, remedy)) = WITHOUT.iter().find(|(known, _)| *known == kind) {
        notes.lost(
            "kind",
            value.at,
            format!("a {kind} has no equivalent"),
            *remedy,
        );
    } else if let Some(meant) = closest(&kind, KINDS) {
        let message = format!("unknown kind {kind:?}");
        notes
            .error("kind", value.at, "UnknownKind", message)
            .suggestion = format!("did you mean {meant:?}?");
    } else {
        let message = format!("objects of the kind {kind:?} have no equivalent");
        notes.lost("kind", value.at, message, "remove the document");
    }
}

/// What is gathered from the objects.
pub(super) struct Reader<'a> {
    scope: &'a Scope,
    config: Config,
    draft: Draft,
    workloads: Vec<Pods>,
}

/// What Services know of a workload.
struct Pods {
    namespace: String,
    /// Labels of its pods.
    labels: Vec<(String, String)>,
    /// Index of the cell in the draft.
    cell: usize,
    /// Named ports.
    ports: Vec<(String, u16)>,
    /// What Services inside the cluster offer of it.
    offered: Vec<super::Port>,
}

impl Reader<'_> {
    /// A port that a Service offers and no container has becomes one of the first.
    fn add_ports(&mut self) {
        for pods in &self.workloads {
            let cell = &mut self.draft.cells[pods.cell];
            let published = cell.meta.annotations.get(super::PORTS);
            let published = super::parse_ports(published.map_or("", String::as_str));
            let published = published.unwrap_or_default();
            for port in &pods.offered {
                let same = |p: &super::Port| (p.port, &p.protocol) == (port.port, &port.protocol);
                let text = format!("{}/{}", port.port, port.protocol);
                let Ok(own) = text.parse::<ContainerPort>() else {
                    continue;
                };
                let known = cell.spec.containers.iter().any(|c| c.ports.contains(&own));
                if !known
                    && !published.iter().any(same)
                    && let Some(first) = cell.spec.containers.first_mut()
                {
                    first.ports.push(own);
                }
            }
        }
    }

    fn read(&mut self, document: &Document<'_>, notes: &mut Notes) {
        let mut fields = Fields::of(notes, document.value, "");
        fields.take("apiVersion");
        fields.take("kind");
        match document.kind.as_str() {
            "Namespace" => {
                let meta = Metadata::read(&mut fields, notes);
                fields.finish(notes, &["spec", "status"], &[]);
                if let Some(realm) = meta.name(notes, self.scope.realm.as_ref()) {
                    let realm = self.draft.realm(&RealmRef { realm });
                    realm.meta.labels = meta.plain_labels();
                    realm.meta.annotations = meta.annotations();
                }
            }
            "ConfigMap" | "Secret" => {
                self.config
                    .read(document, fields, notes, self.scope, &mut self.draft)
            }
            "ServiceAccount" => config::account(&self.config, fields, notes),
            "NetworkPolicy" => {
                let meta = Metadata::read(&mut fields, notes);
                // Compared as a whole later on.
                fields.rest();
                let is_space = meta.label(label::CELL).is_none();
                if let (Some(space), true) = (meta.label(label::SPACE), is_space)
                    && let Ok(space) = space.parse()
                    && let Some(realm) = meta.realm(notes, self.scope)
                {
                    let space = self.draft.space(&SpaceRef { realm, space });
                    space.meta.labels = meta.plain_labels();
                    space.meta.annotations = meta.annotations();
                }
            }
            "Service" => {
                fields.rest();
            }
            "PersistentVolumeClaim" => {
                let meta = Metadata::read(&mut fields, notes);
                // What a directory of this machine has no need of.
                fields.finish(notes, &["spec", "status"], &[]);
                if let Some(at) = meta.kept(notes, self.scope, KeptKind::Volume) {
                    let mut annotations = meta.annotations();
                    let retain = annotations
                        .remove(kept::RECLAIM)
                        .is_some_and(|p| p == "Retain");
                    self.draft.kept.push(AnyObject::Volume(Volume {
                        at,
                        meta: Meta {
                            labels: meta.plain_labels(),
                            annotations,
                            ..Meta::default()
                        },
                        reclaim: if retain {
                            Reclaim::Retain
                        } else {
                            Reclaim::Delete
                        },
                        path: String::new(),
                    }));
                }
            }
            _ => pod::read(self, &document.kind, fields, notes),
        }
    }
}

/// NetworkPolicies that say what a space or a cell becomes anyway are done with;
/// others say something that we cannot.
fn derived(objects: &[crate::model::AnyObject], documents: &[Document<'_>], notes: &mut [Notes]) {
    let policies: Vec<_> = documents
        .iter()
        .filter(|d| d.kind == "NetworkPolicy")
        .collect();
    if policies.is_empty() {
        return;
    }
    let (values, ..) = write::objects(objects, Secrets::Keep);
    let spec = |value: &Json| value["spec"].clone();
    let known: BTreeSet<String> = values
        .iter()
        .filter(|v| v["kind"] == "NetworkPolicy")
        .map(|v| spec(v).to_string())
        .collect();
    for document in policies {
        let found = spec(&document.value.to_json());
        if !known.contains(&found.to_string()) {
            let notes = &mut notes[document.stream];
            notes.document.clone_from(&document.title);
            notes.lost(
                "spec",
                document.value.at,
                "only the policy that a space becomes has an equivalent",
                "put what shall be kept apart into spaces of its own, and remove the policy",
            );
        }
    }
}
