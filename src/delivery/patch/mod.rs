//! Patches and edits: changes to exactly one document each, in order, each of
//! them in its place or an error (delivery spec, section 4).

mod edit;
mod json;
mod path;

use crate::delivery::canonical::{Document, Origin};
use crate::delivery::failure::{Failure, Reason, Result};
use crate::delivery::render::identity;
use crate::model::Value;
use crate::model::delivery::{OnMissing, Patch, PatchTarget};

use edit::Fault;
use path::Path;

/// Deepest nesting a patch may make; what is read is not deeper either.
const MAX_DEPTH: usize = 64;
/// Most that the copies of all patches may add, in nodes and bytes of text.
const MAX_COPIES: usize = 64 << 20;

/// Applies patches to documents, in order. `list` is their name in messages:
/// `patches` or `edits`.
///
/// Each must match exactly one document (`PatchTargetMissing`,
/// `AmbiguousTarget`), and each of its changes must fit (`PatchPathInvalid`).
/// With `onMissing: Ignore` changes of what is not there are left out. A patch
/// may also remove its document, or bring one: JSON Patch with the path `""`.
pub fn apply(documents: &mut Vec<Document>, patches: &[Patch], list: &str) -> Result<()> {
    let mut budget = MAX_COPIES;
    for (index, patch) in patches.iter().enumerate() {
        let name = format!("{list}[{index}]");
        one(documents, patch, &name, &mut budget)
            .map_err(|failure| failure.about(format!("{name} for {}", shown(&patch.target))))?;
    }
    Ok(())
}

fn one(documents: &mut Vec<Document>, patch: &Patch, name: &str, budget: &mut usize) -> Result<()> {
    let target = &patch.target;
    let found: Vec<usize> = (0..documents.len())
        .filter(|i| matches(&documents[*i], target))
        .collect();
    match found.as_slice() {
        [index] => {
            let value = changed(Some(documents[*index].value.clone()), patch, budget)?;
            match value {
                Some(value) => documents[*index].value = value,
                None => drop(documents.remove(*index)),
            }
        }
        [] if patch.json_patch.first().is_some_and(json::adds_document) => {
            let Some(value) = changed(None, patch, budget)? else {
                return Ok(());
            };
            let origin = Origin {
                file: name.to_owned(),
                index: 1,
                line: 1,
            };
            let document = Document { value, origin };
            if !matches(&document, target) {
                let message = "the document it adds is not the one its target names";
                return Err(Failure::new(Reason::PatchPathInvalid, message));
            }
            documents.push(document);
        }
        [] if patch.on_missing == OnMissing::Ignore => {}
        [] => {
            let failure = Failure::new(Reason::PatchTargetMissing, "no document matches");
            return Err(match similar(documents, target) {
                Some(hint) => failure.hint(hint),
                None => failure.hint("set onMissing: Ignore if it may be absent"),
            });
        }
        several => {
            let places: Vec<String> = several.iter().map(|i| documents[*i].place()).collect();
            let message = format!("{} documents match: {}", places.len(), places.join(", "));
            return Err(Failure::new(Reason::AmbiguousTarget, message)
                .hint("narrow the target with apiVersion, namespace, realm, space or stack"));
        }
    }
    Ok(())
}

/// What a patch makes of a document; `None` is no document.
fn changed(value: Option<Value>, patch: &Patch, budget: &mut usize) -> Result<Option<Value>> {
    let mut value = value;
    // A new document comes first, then what is changed of it.
    let creates = value.is_none();
    if creates {
        operations(&mut value, patch, budget)?;
    }
    let absent = || Failure::new(Reason::PatchPathInvalid, "the document was removed");
    for (path, to) in &patch.set {
        let to = edit::coerce(to);
        let change = |value: &mut Value, path: &Path| edit::set(value, path, to.clone());
        at_path(
            value.as_mut().ok_or_else(absent)?,
            path,
            "set",
            patch,
            change,
        )?;
    }
    for (path, to) in &patch.set_string {
        let change = |value: &mut Value, path: &Path| edit::set(value, path, to.as_str().into());
        at_path(
            value.as_mut().ok_or_else(absent)?,
            path,
            "setString",
            patch,
            change,
        )?;
    }
    for path in &patch.unset {
        at_path(
            value.as_mut().ok_or_else(absent)?,
            path,
            "unset",
            patch,
            edit::unset,
        )?;
    }
    if let Some(merge) = &patch.merge {
        if merge.as_map().is_none() {
            let message = format!("merge: expected a mapping, found {}", merge.what());
            return Err(Failure::new(Reason::PatchPathInvalid, message));
        }
        json::merge(value.as_mut().ok_or_else(absent)?, merge);
    }
    if !creates {
        operations(&mut value, patch, budget)?;
    }
    if value
        .as_ref()
        .is_some_and(|value| !is_shallow(value, MAX_DEPTH))
    {
        let message = format!("the document would be nested deeper than {MAX_DEPTH} levels");
        return Err(Failure::new(Reason::PatchPathInvalid, message));
    }
    Ok(value)
}

/// One change at a path; one that is ignored leaves nothing behind.
fn at_path(
    value: &mut Value,
    text: &str,
    field: &str,
    patch: &Patch,
    change: impl Fn(&mut Value, &Path) -> Result<(), Fault>,
) -> Result<()> {
    let about = |fault| failure(fault).about(format!("{field} {text:?}"));
    let path = Path::parse(text).map_err(|why| about(Fault::Invalid(why)))?;
    let before = (patch.on_missing == OnMissing::Ignore).then(|| value.clone());
    match (change(value, &path), before) {
        (Err(Fault::Absent(_)), Some(before)) => {
            *value = before;
            Ok(())
        }
        (done, _) => done.map_err(about),
    }
}

fn operations(value: &mut Option<Value>, patch: &Patch, budget: &mut usize) -> Result<()> {
    for (index, operation) in patch.json_patch.iter().enumerate() {
        let path = operation.get("path").and_then(Value::as_str);
        let before = (patch.on_missing == OnMissing::Ignore).then(|| value.clone());
        let about = |fault| {
            failure(fault).about(format!("jsonPatch[{index}] {:?}", path.unwrap_or_default()))
        };
        match (json::operate(value, operation, budget), before) {
            (Err(Fault::Absent(_)), Some(before)) => *value = before,
            (done, _) => done.map_err(about)?,
        }
        if value
            .as_ref()
            .is_some_and(|value| !is_shallow(value, MAX_DEPTH))
        {
            let message = format!("nested deeper than {MAX_DEPTH} levels");
            return Err(about(Fault::Invalid(message)));
        }
    }
    Ok(())
}

fn failure(fault: Fault) -> Failure {
    match fault {
        Fault::Absent(why) | Fault::Invalid(why) => Failure::new(Reason::PatchPathInvalid, why),
        Fault::Ambiguous(why) => Failure::new(Reason::AmbiguousTarget, why),
    }
}

/// Whether nothing is nested deeper than so many levels.
fn is_shallow(value: &Value, levels: usize) -> bool {
    match value {
        Value::List(list) => levels > 0 && list.iter().all(|v| is_shallow(v, levels - 1)),
        Value::Map(map) => levels > 0 && map.values().all(|v| is_shallow(v, levels - 1)),
        _ => true,
    }
}

fn matches(document: &Document, target: &PatchTarget) -> bool {
    if document.field("kind") != target.kind || document.metadata("name") != target.name {
        return false;
    }
    let found = identity::of(document);
    let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|w| w == found);
    // What a runtime kind has for a namespace is its realm.
    let namespace = match found.realm.is_empty() {
        true => &found.namespace,
        false => &found.realm,
    };
    is(&target.api_version, &found.api_version)
        && is(&target.namespace, namespace)
        && is(&target.realm, &found.realm)
        && is(&target.space, &found.space)
        && is(&target.stack, &found.stack)
}

/// What may have been meant by a target that matches nothing.
fn similar(documents: &[Document], target: &PatchTarget) -> Option<String> {
    let named = documents
        .iter()
        .find(|d| d.metadata("name") == target.name || d.field("kind") == target.kind)?;
    let of_kind = documents.iter().filter(|d| d.field("kind") == target.kind);
    let names: Vec<&str> = of_kind.map(|d| d.metadata("name")).collect();
    Some(match names.is_empty() {
        true => format!("{:?} is a {}", target.name, named.field("kind")),
        false => {
            let shown: Vec<String> = names.iter().take(10).map(|n| format!("{n:?}")).collect();
            format!(
                "documents of the kind {}: {}",
                target.kind,
                shown.join(", ")
            )
        }
    })
}

/// `Cell "web" in realm "prod"`.
fn shown(target: &PatchTarget) -> String {
    let mut out = format!("{} {:?}", target.kind, target.name);
    let narrow = [
        ("apiVersion", &target.api_version),
        ("namespace", &target.namespace),
        ("realm", &target.realm),
        ("space", &target.space),
        ("stack", &target.stack),
    ];
    for (what, value) in narrow {
        if let Some(value) = value {
            out.push_str(&format!(" in {what} {value:?}"));
        }
    }
    out
}

#[cfg(test)]
mod tests;
