//! Patches and edits.

use super::super::check::{Check, Words};
use super::source::value;
use super::{some_text, text_of, word_of};
use crate::api::delivery::v1alpha1 as external;
use crate::model::Value;
use crate::model::delivery::{OnMissing, Patch, PatchTarget};

const ON_MISSING: &Words<OnMissing> = &[("Fail", OnMissing::Fail), ("Ignore", OnMissing::Ignore)];

pub(super) fn patches_to_model(
    check: &mut Check,
    path: &str,
    patches: Vec<external::Patch>,
) -> Vec<Patch> {
    let numbered = patches.into_iter().enumerate();
    numbered
        .map(|(i, patch)| patch_to_model(check, &format!("{path}[{i}]"), patch))
        .collect()
}

fn patch_to_model(check: &mut Check, path: &str, patch: external::Patch) -> Patch {
    let external::Patch {
        target,
        set,
        set_string,
        unset,
        merge,
        json_patch,
        on_missing,
    } = patch;
    let at = |field: &str| format!("{path}.{field}");
    let external::PatchTarget {
        kind,
        name,
        namespace,
        api_version,
        realm,
        space,
        stack,
    } = target.unwrap_or_default();
    for (field, text) in [("target.kind", &kind), ("target.name", &name)] {
        if text.is_empty() {
            check.bad(at(field), "MissingField", "is required");
        }
    }
    let mut items = |field: &str, from: Option<external::Assignments>| -> Vec<(String, Value)> {
        let items = from.unwrap_or_default().items.into_iter();
        items
            .map(|item| {
                let at = format!("{path}.{field}.{}", item.path);
                if item.path.is_empty() {
                    check.bad(format!("{path}.{field}"), "BadValue", "a path is empty");
                }
                let found = value(check, &at, item.value.as_ref());
                (item.path, found)
            })
            .collect()
    };
    let set = items("set", set);
    let texts = items("setString", set_string);
    let mut set_string = Vec::with_capacity(texts.len());
    for (key, found) in texts {
        let text = match found {
            Value::String(text) => text,
            Value::Bool(_) | Value::Number(_) => found.to_json(),
            Value::Null | Value::List(_) | Value::Map(_) => {
                let message = format!("expected text, found {}", found.what());
                check.bad(format!("{path}.setString.{key}"), "WrongType", message);
                continue;
            }
        };
        set_string.push((key, text));
    }
    if unset.iter().any(String::is_empty) {
        check.bad(at("unset"), "BadValue", "a path is empty");
    }
    let merge = merge.map(|merge| value(check, &at("merge"), Some(&merge)));
    if let Some(merge) = &merge
        && merge.as_map().is_none()
    {
        let message = format!("expected a mapping, found {}", merge.what());
        check.bad(at("merge"), "WrongType", message);
    }
    let json_patch = match value(check, &at("jsonPatch"), json_patch.as_ref()) {
        Value::Null => Vec::new(),
        Value::List(operations) => operations,
        other => {
            let message = format!("expected a list, found {}", other.what());
            check.bad(at("jsonPatch"), "WrongType", message);
            Vec::new()
        }
    };
    let changes = !set.is_empty()
        || !set_string.is_empty()
        || !unset.is_empty()
        || merge.is_some()
        || !json_patch.is_empty();
    if !changes {
        check
            .bad(path, "MissingField", "changes nothing")
            .suggestion = "add set, setString, unset, merge or jsonPatch".to_owned();
    }
    Patch {
        target: PatchTarget {
            kind,
            name,
            namespace: some_text(namespace),
            api_version: some_text(api_version),
            realm: some_text(realm),
            space: some_text(space),
            stack: some_text(stack),
        },
        set,
        set_string,
        unset,
        merge,
        json_patch,
        on_missing: check.word(&at("onMissing"), &on_missing, ON_MISSING),
    }
}

pub(super) fn patch_to_external(patch: &Patch) -> external::Patch {
    let Patch {
        target,
        set,
        set_string,
        unset,
        merge,
        json_patch,
        on_missing,
    } = patch;
    let PatchTarget {
        kind,
        name,
        namespace,
        api_version,
        realm,
        space,
        stack,
    } = target;
    let item = |(path, value): &(String, Value)| external::Assignment {
        path: path.clone(),
        value: Some(external::Json::new(value)),
    };
    let texts = set_string
        .iter()
        .map(|(path, text)| (path.clone(), Value::from(text.as_str())));
    external::Patch {
        target: Some(external::PatchTarget {
            kind: kind.clone(),
            name: name.clone(),
            namespace: text_of(namespace),
            api_version: text_of(api_version),
            realm: text_of(realm),
            space: text_of(space),
            stack: text_of(stack),
        }),
        set: (!set.is_empty()).then(|| external::Assignments {
            items: set.iter().map(item).collect(),
        }),
        set_string: (!set_string.is_empty()).then(|| external::Assignments {
            items: texts.map(|entry| item(&entry)).collect(),
        }),
        unset: unset.clone(),
        merge: merge.as_ref().map(external::Json::new),
        json_patch: (!json_patch.is_empty())
            .then(|| external::Json::new(&Value::List(json_patch.clone()))),
        on_missing: match on_missing {
            OnMissing::Fail => String::new(),
            other => word_of(ON_MISSING, other),
        },
    }
}
