//! Names and labels that Kubernetes accepts, made from ours.

use sha2::{Digest, Sha256};

use super::super::loss::lost;
use super::Labels;
use crate::api::Problem;
use crate::model::{CellRef, label};

/// Longest name of an object that is also used as a label value.
const LONGEST: usize = 63;

/// The scope whose name is not repeated in names.
const DEFAULT: &str = "default";

/// Labels that say which cell an object belongs to.
pub(super) fn owner(at: &CellRef) -> Labels {
    [
        (label::REALM, &at.realm),
        (label::SPACE, &at.space),
        (label::STACK, &at.stack),
        (label::CELL, &at.cell),
    ]
    .map(|(key, name)| (key.to_owned(), name.to_string()))
    .into()
}

/// Name of a cell's workload in the namespace of its realm: the names of space
/// and stack, unless they are `default`, and of the cell. A name depends on
/// nothing but the cell's own place.
pub(super) fn workload(at: &CellRef) -> String {
    let parts: Vec<&str> = [at.space.as_str(), at.stack.as_str()]
        .into_iter()
        .filter(|name| *name != DEFAULT)
        .chain([at.cell.as_str()])
        .collect();
    shortened(&parts.join("-"))
}

/// A name of at most 63 characters: what is longer ends in a hash of the whole.
pub(super) fn shortened(name: &str) -> String {
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    let hash = Sha256::digest(name.as_bytes());
    let hash: String = hash[..4].iter().map(|b| format!("{b:02x}")).collect();
    // Names are ASCII (RFC 1123).
    format!("{}-{hash}", name[..LONGEST - 9].trim_end_matches('-'))
}

/// The labels that Kubernetes takes; the others are losses
/// (apimachinery `IsQualifiedName`, `IsValidLabelValue`).
pub(super) fn labels(all: &Labels, losses: &mut Vec<Problem>) -> Labels {
    let mut out = all.clone();
    for (key, value) in all {
        let path = format!("metadata.labels.{key}");
        if !is_qualified(key) {
            let message = format!("the label key {key:?} is not one in Kubernetes");
            losses.push(lost(
                path,
                message,
                "use [domain/]name with letters, digits, '-', '_' and '.', at most 63 characters in the name",
            ));
            out.remove(key);
        } else if !(value.is_empty() || is_word(value)) {
            let message = format!("{value:?} is not a label value in Kubernetes");
            losses.push(lost(path, message, "use at most 63 letters, digits, '-', '_' and '.', or move it to metadata.annotations"));
            out.remove(key);
        }
    }
    out
}

/// The annotations that Kubernetes takes; those with other keys are losses.
pub(super) fn annotations(all: &Labels, losses: &mut Vec<Problem>) -> Labels {
    let mut out = all.clone();
    for key in all.keys().filter(|key| !is_qualified(key)) {
        out.remove(key);
        losses.push(lost(
            format!("metadata.annotations.{key}"),
            format!("the annotation key {key:?} is not one in Kubernetes"),
            "use [domain/]name with letters, digits, '-', '_' and '.', at most 63 characters in the name",
        ));
    }
    out
}

fn is_qualified(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => {
            let label = |part: &str| part.parse::<crate::model::Name>().is_ok();
            prefix.len() <= 253 && prefix.split('.').all(label) && is_word(name)
        }
        None => is_word(key),
    }
}

fn is_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    text.len() <= LONGEST
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(space: &str, stack: &str, cell: &str) -> CellRef {
        CellRef {
            realm: "r".parse().unwrap(),
            space: space.parse().unwrap(),
            stack: stack.parse().unwrap(),
            cell: cell.parse().unwrap(),
        }
    }

    #[test]
    fn names_are_short_where_they_can_be_and_always_legal() {
        assert_eq!(workload(&at("default", "default", "web")), "web");
        assert_eq!(workload(&at("default", "shop", "web")), "shop-web");
        assert_eq!(workload(&at("lab", "shop", "web")), "lab-shop-web");
        let (a, b) = ("a".repeat(63), "b".repeat(63));
        let (long, other) = (workload(&at("s", &a, &b)), workload(&at("s", &b, &a)));
        assert_eq!(long.len(), 63);
        assert!(long.parse::<crate::model::Name>().is_ok(), "{long}");
        assert_ne!(long, other);
        assert_eq!(long, workload(&at("s", &a, &b)));
    }

    #[test]
    fn labels_that_kubernetes_refuses_are_losses() {
        let all: Labels = [
            ("app.kubernetes.io/name", "web"),
            ("tier", ""),
            ("bad key", "x"),
            ("-x", "x"),
            ("a/b/c", "x"),
            ("note", "two words"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
        let mut losses = Vec::new();
        let kept = labels(&all, &mut losses);
        assert_eq!(kept.len(), 2);
        let paths: Vec<&str> = losses.iter().map(|l| l.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "metadata.labels.-x",
                "metadata.labels.a/b/c",
                "metadata.labels.bad key",
                "metadata.labels.note"
            ]
        );
    }
}
