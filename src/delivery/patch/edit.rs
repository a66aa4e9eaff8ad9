//! Setting and removing at a path.

use crate::model::{Number, Value};

use super::path::{Path, Step};

/// Why a change cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// What the path leads to is not there.
    Absent(String),
    /// The path or operation does not fit the document.
    Invalid(String),
    /// A selection fits several items.
    Ambiguous(String),
}

/// Puts a value at a path. Missing entries of mappings are made; lists and
/// their items must be there, except those that `[+]` makes.
pub(super) fn set(root: &mut Value, path: &Path, value: Value) -> Result<(), Fault> {
    let mut slot = root;
    let mut here = String::new();
    for step in &path.0 {
        slot = enter(slot, step, &here)?;
        here.push_str(&step.to_string());
    }
    *slot = value;
    Ok(())
}

/// Removes what a path leads to.
pub(super) fn unset(root: &mut Value, path: &Path) -> Result<(), Fault> {
    let Some((last, before)) = path.0.split_last() else {
        return Err(Fault::Invalid("the path is empty".to_owned()));
    };
    let mut parent = root;
    let mut here = String::new();
    for step in before {
        parent = find(parent, step, &here)?;
        here.push_str(&step.to_string());
    }
    match (parent, last) {
        (Value::Map(map), Step::Key(key)) => match map.shift_remove(key) {
            Some(_) => Ok(()),
            None => Err(Fault::Absent(format!("there is no {here}{last}"))),
        },
        (Value::List(list), step @ (Step::Index(_) | Step::Select(..))) => {
            let index = index(list, step, &here)?;
            list.remove(index);
            Ok(())
        }
        (value, step) => Err(unfit(value, step, &here)),
    }
}

/// One step on, making what is missing.
fn enter<'v>(value: &'v mut Value, step: &Step, here: &str) -> Result<&'v mut Value, Fault> {
    // Nothing there is as good as an explicit nothing.
    if value.is_null() {
        match step {
            Step::Key(_) => *value = Value::map(),
            Step::Append => *value = Value::List(Vec::new()),
            Step::Index(_) | Step::Select(..) => {
                let here = if here.is_empty() {
                    "the document"
                } else {
                    here
                };
                return Err(Fault::Absent(format!("there is no list at {here}")));
            }
        }
    }
    match (value, step) {
        (Value::Map(map), Step::Key(key)) => Ok(map.entry(key.clone()).or_default()),
        (Value::List(list), Step::Append) => {
            let last = list.len();
            list.push(Value::Null);
            Ok(&mut list[last])
        }
        (value, step) => find(value, step, here),
    }
}

/// One step on, to something that is there.
fn find<'v>(value: &'v mut Value, step: &Step, here: &str) -> Result<&'v mut Value, Fault> {
    match (value, step) {
        (Value::Map(map), Step::Key(key)) => map
            .get_mut(key)
            .ok_or_else(|| Fault::Absent(format!("there is no {here}{step}"))),
        (Value::List(list), Step::Index(_) | Step::Select(..)) => {
            let index = index(list, step, here)?;
            Ok(&mut list[index])
        }
        (value, step) => Err(unfit(value, step, here)),
    }
}

/// Which item of a list is meant.
fn index(list: &[Value], step: &Step, here: &str) -> Result<usize, Fault> {
    match step {
        Step::Index(index) if *index < list.len() => Ok(*index),
        Step::Select(key, wanted) => {
            let fits = |item: &Value| item.get(key).is_some_and(|value| is_text(value, wanted));
            let mut found = list.iter().enumerate().filter(|(_, item)| fits(item));
            match (found.next(), found.count()) {
                (None, _) => Err(Fault::Absent(format!(
                    "no item of {here} has {key}={wanted}"
                ))),
                (Some((index, _)), 0) => Ok(index),
                (Some(_), more) => Err(Fault::Ambiguous(format!(
                    "{} items of {here} have {key}={wanted}",
                    more + 1
                ))),
            }
        }
        step => Err(Fault::Absent(format!(
            "{here} has {} items, there is no {here}{step}",
            list.len()
        ))),
    }
}

/// Whether a scalar is written like this text.
fn is_text(value: &Value, text: &str) -> bool {
    match value {
        Value::String(value) => value == text,
        Value::Number(number) => number.as_str() == text,
        Value::Bool(truth) => text == if *truth { "true" } else { "false" },
        _ => false,
    }
}

fn unfit(value: &Value, step: &Step, here: &str) -> Fault {
    let here = if here.is_empty() {
        "the document"
    } else {
        here
    };
    let wants = match step {
        Step::Key(_) => "a mapping",
        _ => "a list",
    };
    let what = value.what();
    let hint = match (value, step) {
        (Value::List(_), Step::Key(_)) => "; choose an item, for example [0] or [name=web]",
        _ => "",
    };
    let message = format!("{step} needs {wants}, but {here} is {what}{hint}");
    match value {
        Value::Null => Fault::Absent(message),
        _ => Fault::Invalid(message),
    }
}

/// Text that stands for true, false or a number becomes that, but only where
/// printing it gives the same text: `3` does, `1.10` does not.
pub(super) fn coerce(value: &Value) -> Value {
    let Value::String(text) = value else {
        return value.clone();
    };
    match text.as_str() {
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        _ => {}
    }
    let Ok(number) = Number::parse(text) else {
        return value.clone();
    };
    let whole = number.as_i128().is_some_and(|n| n.to_string() == *text);
    match whole || number.to_ecmascript().is_ok_and(|again| again == *text) {
        true => Value::Number(number),
        false => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        Value::from_json(text).unwrap()
    }

    fn after_set(json: &str, path: &str, to: &str) -> Result<String, Fault> {
        let mut root = value(json);
        set(&mut root, &Path::parse(path).unwrap(), value(to))?;
        Ok(root.to_json())
    }

    fn after_unset(json: &str, path: &str) -> Result<String, Fault> {
        let mut root = value(json);
        unset(&mut root, &Path::parse(path).unwrap())?;
        Ok(root.to_json())
    }

    #[test]
    fn setting() {
        let cases = [
            (r#"{"z":1,"a":2}"#, ".z", "3", r#"{"z":3,"a":2}"#),
            (r#"{"z":1}"#, ".b.c", "[]", r#"{"z":1,"b":{"c":[]}}"#),
            (r#"{"a":null}"#, "a.b", "1", r#"{"a":{"b":1}}"#),
            (r#"{"a":[1,2]}"#, "a[1]", "3", r#"{"a":[1,3]}"#),
            (r#"{"a":[1]}"#, "a[+]", "2", r#"{"a":[1,2]}"#),
            (r#"{}"#, "a[+].n", "2", r#"{"a":[{"n":2}]}"#),
            (
                r#"{"c":[{"name":"x"},{"name":"y","p":1}]}"#,
                "c[name=y].p",
                "2",
                r#"{"c":[{"name":"x"},{"name":"y","p":2}]}"#,
            ),
            (
                r#"{"c":[{"port":80},{"port":"81"}]}"#,
                "c[port=80]",
                "{}",
                r#"{"c":[{},{"port":"81"}]}"#,
            ),
        ];
        for (json, path, to, wanted) in cases {
            assert_eq!(after_set(json, path, to).unwrap(), wanted, "{path}");
        }
    }

    #[test]
    fn removing() {
        assert_eq!(
            after_unset(r#"{"a":1,"b":2,"c":3}"#, "a").unwrap(),
            r#"{"b":2,"c":3}"#
        );
        assert_eq!(
            after_unset(r#"{"a":[1,2,3]}"#, "a[0]").unwrap(),
            r#"{"a":[2,3]}"#
        );
        assert_eq!(
            after_unset(r#"{"a":[{"n":"x"},2]}"#, "a[n=x]").unwrap(),
            r#"{"a":[2]}"#
        );
        assert!(matches!(
            after_unset(r#"{"a":1}"#, "b"),
            Err(Fault::Absent(_))
        ));
        assert!(matches!(
            after_unset(r#"{"a":[1]}"#, "a[1]"),
            Err(Fault::Absent(_))
        ));
        assert!(matches!(
            after_unset(r#"{"a":[1]}"#, "a[+]"),
            Err(Fault::Invalid(_))
        ));
        assert!(matches!(
            after_unset(r#"{"a":1}"#, "a.b"),
            Err(Fault::Invalid(_))
        ));
    }

    #[test]
    fn what_does_not_fit() {
        let absent = |json, path| {
            assert!(
                matches!(after_set(json, path, "1"), Err(Fault::Absent(_))),
                "{path}"
            )
        };
        absent(r#"{"a":[1]}"#, "a[1]");
        absent(r#"{}"#, "a[0]");
        absent(r#"{"a":[{"n":"x"}]}"#, "a[n=y].z");
        absent(r#"{}"#, "a[n=y]");
        let invalid = |json, path| {
            assert!(
                matches!(after_set(json, path, "1"), Err(Fault::Invalid(_))),
                "{path}"
            )
        };
        invalid(r#"{"a":1}"#, "a.b");
        invalid(r#"{"a":{}}"#, "a[+]");
        invalid(r#"{"a":"x"}"#, "a[0]");
        assert_eq!(
            after_set(r#"{"a":{"b":[]}}"#, "a.b.c", "1"),
            Err(Fault::Invalid(".c needs a mapping, but .a.b is a list; choose an item, for example [0] or [name=web]".to_owned()))
        );
        assert!(matches!(
            after_set(r#"{"a":[{"n":1},{"n":1}]}"#, "a[n=1].x", "1"),
            Err(Fault::Ambiguous(_))
        ));
    }

    #[test]
    fn text_is_coerced_only_where_nothing_is_lost() {
        let coerced = ["3", "-7", "true", "false", "1.5", "0", "9007199254740993"];
        for text in coerced {
            let value = coerce(&text.into());
            assert!(
                value.as_str().is_none() && value.to_json() == text,
                "{text}"
            );
        }
        for text in [
            "1.10", "+3", "007", "1e3", "-0", "yes", "null", "", " 3", "0x1f", "True", "3 ",
        ] {
            assert_eq!(coerce(&text.into()), text.into(), "{text}");
        }
        assert_eq!(coerce(&value(r#"["3"]"#)), value(r#"["3"]"#));
    }
}
