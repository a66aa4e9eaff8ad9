//! Documents to objects: who becomes what, and in which order.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::loss::{Loss, lost};
use super::{kept, network, pod, realm};
use crate::api::Problem;
use crate::model::{AnyObject, KeptRef, Stack};
use crate::scheme::Secrets;

/// Order of the kinds: what others need comes first.
const ORDER: &[&str] = &[
    "Namespace",
    "Secret",
    "PersistentVolumeClaim",
    "ServiceAccount",
    "NetworkPolicy",
    "Service",
    "Job",
    "Deployment",
];

/// All objects in a stable order, and what could not be said in them.
/// The last are notes for people.
pub(super) fn objects(
    documents: &[AnyObject],
    secrets: Secrets,
) -> (Vec<Value>, Vec<Loss>, Vec<String>) {
    let mut notes = Vec::new();
    let known: BTreeSet<KeptRef> = documents
        .iter()
        .filter_map(|document| match document {
            AnyObject::Volume(o) => Some(o.at.clone()),
            AnyObject::Secret(o) => Some(o.at.clone()),
            _ => None,
        })
        .collect();
    let mut out: BTreeMap<(usize, String, String), Value> = BTreeMap::new();
    let mut makers: BTreeMap<(usize, String, String), String> = BTreeMap::new();
    let mut losses = Vec::new();
    for document in documents {
        let title = title(document);
        let mut problems = Vec::new();
        let values = match document {
            AnyObject::Realm(realm) => realm::write(realm, secrets, &mut problems),
            AnyObject::Space(space) => vec![network::space(space, &mut problems)],
            AnyObject::Stack(stack) => {
                check_stack(stack, &mut problems);
                Vec::new()
            }
            AnyObject::Cell(cell) => {
                let mut values = network::cell(cell, &mut problems);
                values.push(pod::write(cell, &known, &mut problems, &mut notes));
                values
            }
            AnyObject::Volume(volume) => vec![kept::volume(volume, &mut problems, &mut notes)],
            AnyObject::Secret(secret) => kept::secret(secret, secrets, &mut problems)
                .into_iter()
                .collect(),
            AnyObject::Container(_) => {
                problems.push(lost(
                    "spec.cellId",
                    "a container cannot be added to a pod that is elsewhere",
                    "give the document of its Cell as well",
                ));
                Vec::new()
            }
        };
        for value in values {
            let key = key(&value);
            if let Some(first) = makers.get(&key) {
                let message = format!(
                    "becomes the {} {:?} in the namespace {:?}, as does {first}",
                    ORDER.get(key.0).unwrap_or(&"object"),
                    key.2,
                    key.1
                );
                problems.push(lost(
                    "metadata.name",
                    message,
                    "give one of them another name",
                ));
                continue;
            }
            makers.insert(key.clone(), title.clone());
            out.insert(key, value);
        }
        losses.extend(problems.into_iter().map(|p| Loss::of(&title, p)));
    }
    (out.into_values().collect(), losses, notes)
}

/// `Cell "web" in default/default/default`
pub(super) fn title(document: &AnyObject) -> String {
    let at = document.at();
    let names = at.names();
    let mut scope: Vec<&str> = names.iter().map(|n| n.as_str()).collect();
    if !matches!(document, AnyObject::Container(_)) {
        scope.pop();
    }
    let kind = document.kind();
    match scope.is_empty() {
        true => format!("{kind} {:?}", document.name()),
        false => format!("{kind} {:?} in {}", document.name(), scope.join("/")),
    }
}

/// A stack is a label on what is in it, nothing of its own.
fn check_stack(stack: &Stack, losses: &mut Vec<Problem>) {
    let Stack {
        at: _,
        meta,
        status: _,
    } = stack;
    for (field, set) in [
        ("labels", !meta.labels.is_empty()),
        ("annotations", !meta.annotations.is_empty()),
    ] {
        if set {
            losses.push(lost(
                format!("metadata.{field}"),
                "a stack becomes a label on the objects in it, which has none",
                "put them on its cells",
            ));
        }
    }
}

fn key(value: &Value) -> (usize, String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = text(&value["kind"]);
    let rank = ORDER.iter().position(|known| *known == kind);
    let metadata = &value["metadata"];
    (
        rank.unwrap_or(ORDER.len()),
        text(&metadata["namespace"]),
        text(&metadata["name"]),
    )
}
