//! The one place that reads and writes YAML.

mod explain;
mod free;
pub mod located;
pub mod scalar;
mod tree;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::problem::{Located, report};
use super::{Error, Result};

pub(super) use explain::explain;
pub(super) use free::free;
pub use tree::Position;
pub(super) use tree::{Fault, Node, Tree, Value, read};

/// Writes a value as one YAML document, without a document mark. Strings that
/// another reader could take for something else (`no`, `1`, `null`) are quoted.
pub fn to_string<T: Serialize>(value: &T) -> Result<String> {
    serde_saphyr::to_string(value)
        .map_err(|error| Error::failed("Encode", format!("cannot write YAML: {error}")))
}

/// Writes a value as indented JSON with a newline at the end. Characters that
/// JSON allows and YAML does not are escaped, so that it is YAML as well.
pub fn to_json<T: Serialize>(value: &T) -> Result<String> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::failed("Encode", format!("cannot write JSON: {error}")))?;
    // Beyond ASCII and controls can only stand inside strings.
    let odd = |c: char| {
        matches!(
            c,
            '\u{7f}'..='\u{9f}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
    };
    let mut out = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        if odd(c) {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out.push('\n');
    Ok(out)
}

/// Reads one document of a known type, strictly: unknown fields, duplicate keys
/// and wrong types are errors with line and column. `source` is its name there.
pub fn from_str<T: DeserializeOwned>(source: &str, text: &str) -> Result<T> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let error = match typed(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let (trees, fault) = read(text);
    let (problem, at) = match (fault, trees.as_slice()) {
        (Some(fault), _) => fault.located(),
        (None, [tree]) => explain(&error, tree, 1),
        (None, trees) => {
            let message = format!("expected one document, found {}", trees.len());
            (super::Problem::new("", "BadYaml", message), None)
        }
    };
    let document = String::new();
    report(
        source,
        text,
        &[Located {
            problem,
            at,
            document,
        }],
    )
}

/// Reads a text that holds one document into a type.
pub(super) fn typed<T: DeserializeOwned>(text: &str) -> Result<T, serde_saphyr::Error> {
    let mut budget = serde_saphyr::Budget::default();
    budget.max_depth = tree::MAX_DEPTH;
    budget.flow_nesting_limit = tree::MAX_DEPTH;
    budget.max_nodes = tree::MAX_NODES;
    // A ratio says nothing; what the aliases expand to is limited instead.
    budget.enforce_alias_anchor_ratio = false;
    let mut options = serde_saphyr::Options::default();
    options.alias_limits.max_total_replayed_events = 2 * tree::MAX_NODES;
    options.budget = Some(budget);
    options.emit_comments = false;
    options.reject_unsupported_tags = true;
    options.with_snippet = false;
    serde_saphyr::from_str_with_options(text, options)
}
