//! What changed between two values, for people.

use crate::model::Value;

/// Most changes that are listed.
const MOST: usize = 50;
/// Longest value that is shown, in characters.
const WIDTH: usize = 80;

/// Changes from one value to another, one line each: `spec.source.version: "v1"
/// → "v2"`. Values of passwords are not shown.
pub fn between(from: &Value, to: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk("", from, to, &mut found);
    let more = found.len().saturating_sub(MOST);
    found.truncate(MOST);
    if more > 0 {
        found.push(format!("… and {more} more"));
    }
    found
}

fn walk(path: &str, from: &Value, to: &Value, found: &mut Vec<String>) {
    match (from, to) {
        _ if from == to => {}
        (Value::Map(a), Value::Map(b)) => {
            let null = Value::Null;
            for (key, old) in a {
                walk(&below(path, key), old, b.get(key).unwrap_or(&null), found);
            }
            for (key, new) in b.iter().filter(|(key, _)| !a.contains_key(*key)) {
                walk(&below(path, key), &null, new, found);
            }
        }
        (Value::List(a), Value::List(b)) if a.len() == b.len() => {
            for (i, (old, new)) in a.iter().zip(b).enumerate() {
                walk(&format!("{path}[{i}]"), old, new, found);
            }
        }
        _ if path.ends_with("assword") => found.push(format!("{path}: changed")),
        (Value::Null, new) => found.push(format!("{path}: set to {}", shown(new))),
        (old, Value::Null) => found.push(format!("{path}: removed, was {}", shown(old))),
        (old, new) => found.push(format!("{path}: {} → {}", shown(old), shown(new))),
    }
}

fn below(path: &str, key: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_".contains(c);
    match (path.is_empty(), key.chars().all(plain)) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{key:?}]"),
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_json();
    match text.chars().nth(WIDTH) {
        None => text,
        Some(_) => format!("{}…", text.chars().take(WIDTH).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_named_and_passwords_are_not_shown() {
        let from = r#"{"a":1,"b":{"x.y/z":"u","l":[1,2]},"password":"old","gone":true}"#;
        let to = r#"{"a":2,"b":{"x.y/z":"v","l":[1,3]},"password":"new","new":{"k":1}}"#;
        let value = |text| Value::from_json(text).unwrap();
        assert_eq!(
            between(&value(from), &value(to)),
            [
                "a: 1 → 2",
                "b[\"x.y/z\"]: \"u\" → \"v\"",
                "b.l[1]: 2 → 3",
                "password: changed",
                "gone: removed, was true",
                "new: set to {\"k\":1}",
            ]
        );
        assert!(between(&value(from), &value(from)).is_empty());
    }
}
