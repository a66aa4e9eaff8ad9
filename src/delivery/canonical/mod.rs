//! The one form a manifest has: YAML streams become documents, documents become
//! bytes, and equal documents become equal bytes on every host (delivery spec,
//! section 5).

mod read;
mod write;

use crate::api::yaml::scalar;
use crate::delivery::failure::{Failure, Result};
use crate::model::{Value, ValueMap};

pub use read::read;
pub use scalar::Octal;
pub use write::{manifest, to_yaml};

/// Raised whenever the bytes written for the same input could change.
pub const CONTRACT: u32 = 1;

/// A document and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its content.
    pub value: Value,
    /// Where it was written.
    pub origin: Origin,
}

/// A place in the input.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// File, relative to the source; empty for what came from no file.
    pub file: String,
    /// Number of the document in the file, from 1.
    pub index: usize,
    /// Line on which it begins, from 1.
    pub line: usize,
}

impl Document {
    /// Text of a top-level field; empty where it is absent or no text.
    pub fn field(&self, name: &str) -> &str {
        self.value.get(name).and_then(Value::as_str).unwrap_or("")
    }

    /// Text of a field of `metadata`.
    pub fn metadata(&self, name: &str) -> &str {
        let value = self.value.at(&["metadata", name]);
        value.and_then(Value::as_str).unwrap_or("")
    }

    /// `document 2 (Cell "web") at file.yaml:9`, as much of it as is known.
    pub fn place(&self) -> String {
        let (kind, name) = (self.field("kind"), self.metadata("name"));
        let Origin { file, index, line } = &self.origin;
        let what = match (kind.is_empty(), name.is_empty()) {
            (true, _) => String::new(),
            (false, true) => format!(" ({kind})"),
            (false, false) => format!(" ({kind} {name:?})"),
        };
        match file.is_empty() {
            true => format!("document {index}{what}, line {line}"),
            false => format!("document {index}{what} at {file}:{line}"),
        }
    }
}

/// Puts the items of `List` documents in their place, and drops documents that
/// are empty. Lists of one kind (`ConfigMapList`) count where they carry items
/// and no name; their items may leave out what the list says.
pub fn flatten(documents: Vec<Document>) -> Result<Vec<Document>> {
    let mut out = Vec::with_capacity(documents.len());
    for document in documents {
        flatten_one(document, &[], &mut out)?;
    }
    Ok(out)
}

/// `lines` are those of the items, where they are known.
fn flatten_one(document: Document, lines: &[usize], out: &mut Vec<Document>) -> Result<()> {
    let Document { value, origin } = document;
    let mut map = match value {
        Value::Null => return Ok(()),
        Value::Map(map) => map,
        other => {
            let place = Document {
                value: Value::Null,
                origin,
            }
            .place();
            let message = format!("{place}: expected a mapping, found {}", other.what());
            return Err(Failure::invalid(message)
                .hint("a document has the fields apiVersion, kind and metadata"));
        }
    };
    let Some(kind) = list_of(&map) else {
        let value = Value::Map(map);
        out.push(Document { value, origin });
        return Ok(());
    };
    let version = map.get("apiVersion").cloned();
    let items = match map.shift_remove("items") {
        Some(Value::List(items)) => items,
        None | Some(Value::Null) => return Ok(()),
        Some(other) => {
            let value = Value::Map(map);
            let place = Document { value, origin }.place();
            let message = format!("{place}: items: expected a list, found {}", other.what());
            return Err(Failure::invalid(message));
        }
    };
    for (i, mut value) in items.into_iter().enumerate() {
        if let (Value::Map(item), false) = (&mut value, kind.is_empty()) {
            complete(item, version.as_ref(), &kind);
        }
        let line = lines.get(i).copied().unwrap_or(origin.line);
        let origin = Origin {
            line,
            ..origin.clone()
        };
        flatten_one(Document { value, origin }, &[], out)?;
    }
    Ok(())
}

/// Whether this is a list: its items' kind, empty where they tell themselves.
fn list_of(map: &ValueMap) -> Option<String> {
    let kind = map.get("kind")?.as_str()?;
    if kind == "List" {
        return Some(String::new());
    }
    let named = map.get("metadata").and_then(|m| m.get("name")).is_some();
    let items = matches!(map.get("items"), Some(Value::List(_)));
    let kind = kind.strip_suffix("List")?;
    (items && !named).then(|| kind.to_owned())
}

/// Fills in what an item of a list of one kind may leave out, in front.
fn complete(item: &mut ValueMap, version: Option<&Value>, kind: &str) {
    if !item.contains_key("kind") {
        item.shift_insert(0, "kind".to_owned(), kind.into());
    }
    if let (false, Some(version)) = (item.contains_key("apiVersion"), version) {
        item.shift_insert(0, "apiVersion".to_owned(), version.clone());
    }
}

#[cfg(test)]
mod tests;
