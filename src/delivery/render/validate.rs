//! What every document must be before it becomes part of an artifact.

use std::collections::HashMap;

use crate::apply;
use crate::delivery::canonical::{self, Document};
use crate::delivery::failure::{Failure, Result};
use crate::model::delivery::Resource;
use crate::model::{AnyObject, Name, Value, ValueMap};

use super::identity;

/// Where documents of the local target belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Realm; documents of another are refused.
    pub realm: Name,
    /// Space of those that name none.
    pub space: Name,
    /// Stack of those that name none.
    pub stack: Name,
}

/// What holds for every target: identities, whole and unique. Returns them.
pub(super) fn identities(documents: &[Document], allow_empty: bool) -> Result<Vec<Resource>> {
    if documents.is_empty() && !allow_empty {
        return Err(Failure::invalid("the manifest has no documents")
            .hint("set allowEmpty: true if that is meant"));
    }
    let mut seen: HashMap<Resource, usize> = HashMap::new();
    let mut out = Vec::with_capacity(documents.len());
    for (index, document) in documents.iter().enumerate() {
        let missing = |field: &str| {
            let place = document.place();
            Failure::invalid(format!("{place}: {field} is required, and must be text"))
        };
        for field in ["apiVersion", "kind"] {
            if document.field(field).is_empty() {
                return Err(missing(field));
            }
        }
        if document.value.at(&["metadata", "generateName"]).is_some() {
            let message = format!(
                "{}: metadata.generateName gives another name each time",
                document.place()
            );
            return Err(Failure::invalid(message).hint("write metadata.name"));
        }
        if document.metadata("name").is_empty() {
            return Err(missing("metadata.name"));
        }
        let found = identity::of(document);
        let mut key = found.clone();
        // Versions of one group are views of the same objects.
        if let Some((group, _)) = found.api_version.split_once('/') {
            key.api_version = group.to_owned();
        } else {
            key.api_version = String::new();
        }
        if let Some(first) = seen.insert(key, index) {
            let first = documents[first].place();
            let message = format!(
                "{}: it is there twice; the first is {first}",
                document.place()
            );
            return Err(Failure::invalid(message));
        }
        out.push(found);
    }
    Ok(out)
}

/// Fills in the scope that documents of the runtime leave out.
pub(super) fn fill(documents: &mut [Document], scope: &Scope) {
    for document in documents.iter_mut().filter(|d| identity::is_runtime(d)) {
        let fields: &[(&str, &Name)] = match document.field("kind") {
            "Space" => &[("realmId", &scope.realm)],
            "Stack" => &[("realmId", &scope.realm), ("spaceId", &scope.space)],
            "Cell" | "Container" => &[
                ("realmId", &scope.realm),
                ("spaceId", &scope.space),
                ("stackId", &scope.stack),
            ],
            _ => continue,
        };
        let Value::Map(map) = &mut document.value else {
            continue;
        };
        let spec = map.entry("spec".to_owned()).or_default();
        if spec.is_null() {
            *spec = Value::Map(ValueMap::new());
        }
        let Value::Map(spec) = spec else { continue };
        for (field, name) in fields {
            let slot = spec.entry((*field).to_owned()).or_default();
            if slot.is_null() || slot.as_str() == Some("") {
                *slot = name.as_str().into();
            }
        }
    }
}

/// What the local target takes: kinds of the runtime, inside the realm, and
/// nothing secret. Returns them as objects.
pub(super) fn local(documents: &[Document], scope: &Scope) -> Result<Vec<AnyObject>> {
    for document in documents {
        let place = document.place();
        if document.field("kind") == "Secret" {
            let carries = |value: &Value| {
                ["data", "stringData", "value"]
                    .iter()
                    .any(|field| value.get(field).is_some())
            };
            if carries(&document.value) || document.value.get("spec").is_some_and(carries) {
                let message = format!(
                    "{place}: a Secret with its content would be readable in every artifact"
                );
                return Err(Failure::invalid(message)
                    .hint("make the secret on the machine and refer to it by name"));
            }
        }
        if !identity::is_runtime(document) {
            let (version, kind) = (document.field("apiVersion"), document.field("kind"));
            let message = format!("{place}: {version} {kind} cannot be deployed to this machine");
            return Err(Failure::invalid(message)
                .hint("choose target.type: argocd, or write the kinds of v1beta1"));
        }
        let found = identity::of(document);
        let realm = match document.field("kind") {
            "Realm" => &found.name,
            _ => &found.realm,
        };
        if *realm != *scope.realm.as_str() {
            let message = format!(
                "{place}: it belongs to realm {realm:?}, the target is realm {:?}",
                scope.realm.as_str()
            );
            return Err(
                Failure::invalid(message).hint("set target.kuke.realm, or leave the realm out")
            );
        }
    }
    // Everything else is what `apply` itself would say.
    let texts: Vec<(String, String)> = documents
        .iter()
        .enumerate()
        .map(|(i, d)| {
            (
                format!("manifest.yaml#{}", i + 1),
                canonical::to_yaml(&d.value),
            )
        })
        .collect();
    let sources: Vec<apply::Source<'_>> = texts
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_bytes()))
        .collect();
    match apply::read(&sources) {
        Ok(objects) => Ok(objects.into_iter().map(|(_, object)| object).collect()),
        Err(error) => {
            let number = texts.iter().position(|(name, _)| {
                let at = format!("{name}:");
                error.message.contains(&at)
            });
            let place = number
                .map(|i| format!("{}: ", documents[i].place()))
                .unwrap_or_default();
            Err(Failure::invalid(format!("{place}{}", error.message)))
        }
    }
}
