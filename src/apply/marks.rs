//! Marks: single labels and annotations, set and removed beside all others.

use std::collections::BTreeSet;

use super::diff::keys as changed_keys;
use crate::api::v1::MarkRequest;
use crate::api::{Code, Error, Result};
use crate::model::Labels;
use crate::model::delivery::keys;
use crate::scheme;

/// Keys of [`keys::PREFIX`] that people set.
///
/// Not the commit message: it belongs to the change of a Recipe that it comes with.
const PEOPLES: [&str; 4] = [
    keys::ALLOWED_ORDER,
    keys::ALLOWED_RECIPE,
    keys::APPROVE_DEPLOY,
    keys::PRUNE,
];

/// Sets and removes what a request asks for; gives what changed, for people.
///
/// # Errors
/// `ManagedMark` for what kukeon writes itself or would take back, `MarkExists` for
/// another value where it is not to be replaced, `DuplicateMark`, and `BadLabel` or
/// `OutOfRange` for what no document may hold either.
pub fn mark(
    request: &MarkRequest,
    labels: &mut Labels,
    annotations: &mut Labels,
) -> Result<Vec<String>> {
    let release = labels.get(keys::SERVING).cloned().unwrap_or_default();
    let mut changes = Vec::new();
    let mut seen = BTreeSet::new();
    for (field, marks, all) in [
        ("metadata.labels", &request.labels, &mut *labels),
        (
            "metadata.annotations",
            &request.annotations,
            &mut *annotations,
        ),
    ] {
        let before = all.clone();
        for mark in marks {
            let key = &mark.key;
            if !seen.insert((field, key)) {
                let message = format!("{key:?} is given twice");
                return Err(Error::invalid("DuplicateMark", message));
            }
            let now = before.get(key);
            // What is so already is refused to nobody.
            if now == mark.value.as_ref() {
                continue;
            }
            may_be_set(key, &release)?;
            let Some(value) = &mark.value else {
                all.remove(key);
                continue;
            };
            if let Some(other) = now.filter(|_| !request.overwrite) {
                let message = format!("{key:?} in {field} is {other:?} already");
                return Err(Error::new(Code::Conflict, "MarkExists", message)
                    .hint("give --overwrite to replace it"));
            }
            all.insert(key.clone(), value.clone());
        }
        if before != *all {
            changes.push(format!("{field}: {}", changed_keys(&before, all)));
        }
    }
    if !changes.is_empty() {
        scheme::check_marks(labels, annotations)?;
    }
    Ok(changes)
}

/// Refuses what only kukeon writes, and what would not stay on an object that the
/// Serving `release` keeps.
fn may_be_set(key: &str, release: &str) -> Result<()> {
    let ours = key.starts_with(keys::PREFIX);
    if scheme::is_reserved_label(key) || (ours && !PEOPLES.contains(&key)) {
        let message = format!("{key:?} is written by kukeon itself");
        let hint = format!("people set {}", PEOPLES.join(", "));
        return Err(Error::new(Code::Conflict, "ManagedMark", message).hint(hint));
    }
    if !ours && !release.is_empty() {
        let message = format!("the Serving {release:?} keeps this object: {key:?} would not stay");
        return Err(Error::new(Code::Conflict, "ManagedMark", message)
            .hint("put it into the manifests of its Recipe, or into the Recipe's patches"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1::Mark;

    fn marks(all: &[&str]) -> Vec<Mark> {
        let read = |text: &&str| match text.split_once('=') {
            Some((key, value)) => Mark {
                key: key.into(),
                value: Some(value.into()),
            },
            None => Mark {
                key: (*text).into(),
                value: None,
            },
        };
        all.iter().map(read).collect()
    }

    fn labels(all: &[(&str, &str)]) -> Labels {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        all.iter().map(owned).collect()
    }

    fn put(now: &mut Labels, all: &[&str], overwrite: bool) -> Result<Vec<String>> {
        let request = MarkRequest {
            labels: marks(all),
            overwrite,
            ..Default::default()
        };
        mark(&request, now, &mut Labels::new())
    }

    #[test]
    fn others_stay_as_they_are() {
        let mut now = labels(&[("x", "y")]);
        let told = put(&mut now, &["b=1", "a=2"], false).expect("set");
        assert_eq!(told, ["metadata.labels: +a, +b"]);
        assert_eq!(now, labels(&[("a", "2"), ("b", "1"), ("x", "y")]));
        // The same again, and the removal of what is not there, are no changes.
        let told = put(&mut now, &["b=1", "c"], false).expect("the same");
        assert!(told.is_empty(), "{told:?}");
        let error = put(&mut now, &["b=3"], false).expect_err("it is there");
        assert_eq!(
            (error.code, error.reason.as_str()),
            (Code::Conflict, "MarkExists")
        );
        let told = put(&mut now, &["b=3", "a"], true).expect("replaced");
        assert_eq!(told, ["metadata.labels: -a, ~b"]);
        assert_eq!(now, labels(&[("b", "3"), ("x", "y")]));
        let told = put(&mut now, &["b"], false).expect("removed");
        assert_eq!(told, ["metadata.labels: -b"]);
        let error = put(&mut now, &["a=1", "a"], true).expect_err("twice");
        assert_eq!(error.reason, "DuplicateMark");
        let error = put(&mut now, &["a b=1"], true).expect_err("no key");
        assert!(error.message.contains("a b"), "{error:?}");
    }

    #[test]
    fn annotations_are_apart_from_labels() {
        let request = MarkRequest {
            labels: marks(&["a=1"]),
            annotations: marks(&["a=2"]),
            ..Default::default()
        };
        let (mut labels, mut annotations) = (Labels::new(), Labels::new());
        mark(&request, &mut labels, &mut annotations).expect("both");
        assert_eq!(
            (labels["a"].as_str(), annotations["a"].as_str()),
            ("1", "2")
        );
    }

    #[test]
    fn annotations_hold_any_text_but_not_too_much() {
        let annotate = |text: String| {
            let request = MarkRequest {
                annotations: vec![Mark {
                    key: "notes".into(),
                    value: Some(text),
                }],
                ..Default::default()
            };
            mark(&request, &mut Labels::new(), &mut Labels::new())
        };
        // Longer than any label may be.
        annotate("a line of notes\n".repeat(2000)).expect("notes");
        let error = annotate("x".repeat(300_000)).expect_err("too much");
        assert_eq!(error.code, Code::Invalid, "{error:?}");
        assert!(error.message.contains("300005 bytes"), "{error:?}");
    }

    #[test]
    fn what_kukeon_writes_is_not_for_people() {
        let mut plain = Labels::new();
        for key in [
            "x.kukeon.io",
            keys::SERVING,
            keys::RECIPE,
            keys::APPROVED_AT,
        ] {
            let error = put(&mut plain, &[&format!("{key}=x")], true).expect_err(key);
            assert_eq!(error.reason, "ManagedMark");
            let mut there = labels(&[(key, "y")]);
            let error = put(&mut there, &[key], true).expect_err(key);
            assert_eq!(error.reason, "ManagedMark");
            // As it is already: nothing to refuse.
            let told = put(&mut there, &[&format!("{key}=y")], false).expect(key);
            assert!(told.is_empty(), "{told:?}");
            let told = put(&mut plain, &[key], false).expect(key);
            assert!(told.is_empty(), "{told:?}");
        }
        for key in PEOPLES {
            put(&mut plain, &[&format!("{key}=x")], false).expect(key);
        }
        // A release takes back what it does not know; what it asks for may be set.
        let mut kept = labels(&[(keys::SERVING, "web")]);
        let error = put(&mut kept, &["tier=front"], false).expect_err("it would not stay");
        assert!(error.message.contains("\"web\""), "{error:?}");
        put(&mut kept, &["delivery.kokumi.dev/prune=disabled"], false).expect("it stays");
    }
}
