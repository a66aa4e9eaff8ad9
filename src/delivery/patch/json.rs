//! JSON Merge Patch (RFC 7386) and JSON Patch (RFC 6902) on values that keep
//! their order: what is replaced stays in its place, what is new goes behind.

use crate::model::{Value, ValueMap};

use super::edit::Fault;

/// Merges a patch into a value: mappings key by key, null removes, everything
/// else replaces.
pub(super) fn merge(value: &mut Value, patch: &Value) {
    let Value::Map(patch) = patch else {
        *value = patch.clone();
        return;
    };
    if value.as_map().is_none() {
        *value = Value::map();
    }
    let Value::Map(map) = value else { return };
    for (key, patch) in patch {
        if patch.is_null() {
            map.shift_remove(key);
        } else {
            merge(map.entry(key.clone()).or_default(), patch);
        }
    }
}

/// One operation of RFC 6902. The root is `None` where the document is absent:
/// before an `add` of the whole, and after a `remove` of it. `budget` bounds
/// what `copy` may add, in nodes and bytes of text.
pub(super) fn operate(
    root: &mut Option<Value>,
    operation: &Value,
    budget: &mut usize,
) -> Result<(), Fault> {
    let invalid = |message: &str| Fault::Invalid(message.to_owned());
    let text = |name: &str| operation.get(name).and_then(Value::as_str);
    let op = text("op").ok_or_else(|| invalid("an operation needs op"))?;
    let path = pointer(text("path").ok_or_else(|| invalid("an operation needs path"))?)?;
    let wanted = || {
        let value = operation.get("value");
        value
            .cloned()
            .ok_or_else(|| Fault::Invalid(format!("{op} needs value")))
    };
    let from = || pointer(text("from").ok_or_else(|| Fault::Invalid(format!("{op} needs from")))?);
    match op {
        "add" => add(root, &path, wanted()?),
        "remove" => remove(root, &path).map(drop),
        "replace" => {
            *find_mut(root, &path)? = wanted()?;
            Ok(())
        }
        "move" => {
            let from = from()?;
            if path.len() > from.len() && path.starts_with(&from) {
                return Err(invalid("a value cannot be moved into itself"));
            }
            let value = remove(root, &from)?;
            add(root, &path, value)
        }
        "copy" => {
            let value = find_mut(root, &from()?)?;
            let weight = weight(value);
            if weight > *budget {
                return Err(invalid("the copies are too large"));
            }
            *budget -= weight;
            let value = value.clone();
            add(root, &path, value)
        }
        "test" => {
            let wanted = wanted()?;
            match *find_mut(root, &path)? == wanted {
                true => Ok(()),
                false => Err(Fault::Invalid(format!(
                    "the test failed: {} is not {wanted}",
                    text("path").unwrap_or_default()
                ))),
            }
        }
        _ => Err(Fault::Invalid(format!("unknown op {op:?}"))),
    }
}

/// Whether an operation puts a whole document in the place of nothing.
pub(super) fn adds_document(operation: &Value) -> bool {
    let is = |name: &str, wanted: &str| operation.get(name).and_then(Value::as_str) == Some(wanted);
    is("op", "add") && is("path", "")
}

/// Tokens of a JSON pointer (RFC 6901).
fn pointer(text: &str) -> Result<Vec<String>, Fault> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let Some(rest) = text.strip_prefix('/') else {
        return Err(Fault::Invalid(format!("{text:?} must begin with /")));
    };
    let token = |token: &str| token.replace("~1", "/").replace("~0", "~");
    Ok(rest.split('/').map(token).collect())
}

fn show(path: &[String]) -> String {
    let mut out = String::new();
    for token in path {
        out.push('/');
        out.push_str(&token.replace('~', "~0").replace('/', "~1"));
    }
    out
}

fn absent(path: &[String]) -> Fault {
    match path {
        [] => Fault::Absent("the document is not there".to_owned()),
        path => Fault::Absent(format!("there is no {}", show(path))),
    }
}

/// An index without sign and leading zeros (RFC 6901, section 4).
fn index(token: &str) -> Option<usize> {
    let valid =
        token == "0" || (!token.starts_with('0') && token.bytes().all(|b| b.is_ascii_digit()));
    valid.then(|| token.parse().ok())?
}

fn find_mut<'v>(root: &'v mut Option<Value>, path: &[String]) -> Result<&'v mut Value, Fault> {
    let mut value = root.as_mut().ok_or_else(|| absent(&[]))?;
    for (n, token) in path.iter().enumerate() {
        let next = match value {
            Value::Map(map) => map.get_mut(token),
            Value::List(list) => index(token).and_then(|i| list.get_mut(i)),
            _ => None,
        };
        value = next.ok_or_else(|| absent(&path[..=n]))?;
    }
    Ok(value)
}

fn add(root: &mut Option<Value>, path: &[String], value: Value) -> Result<(), Fault> {
    let Some((last, parent)) = path.split_last() else {
        *root = Some(value);
        return Ok(());
    };
    match find_mut(root, parent)? {
        Value::Map(map) => {
            map.insert(last.clone(), value);
        }
        Value::List(list) => {
            let at = if last == "-" {
                Some(list.len())
            } else {
                index(last)
            };
            match at.filter(|at| *at <= list.len()) {
                Some(at) => list.insert(at, value),
                None => return Err(absent(path)),
            }
        }
        other => {
            let what = other.what();
            return Err(Fault::Invalid(format!("{} is {what}", show(parent))));
        }
    }
    Ok(())
}

fn remove(root: &mut Option<Value>, path: &[String]) -> Result<Value, Fault> {
    let Some((last, parent)) = path.split_last() else {
        return root.take().ok_or_else(|| absent(&[]));
    };
    let removed = match find_mut(root, parent)? {
        Value::Map(map) => map.shift_remove(last),
        Value::List(list) => {
            let at = index(last).filter(|at| *at < list.len());
            at.map(|at| list.remove(at))
        }
        _ => None,
    };
    removed.ok_or_else(|| absent(path))
}

/// Nodes and bytes of text of a value.
fn weight(value: &Value) -> usize {
    1 + match value {
        Value::String(text) => text.len(),
        Value::List(list) => list.iter().map(weight).sum(),
        Value::Map(map) => map_weight(map),
        _ => 0,
    }
}

fn map_weight(map: &ValueMap) -> usize {
    map.iter()
        .map(|(key, value)| key.len() + weight(value))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        Value::from_json(text).unwrap()
    }

    // The samples of RFC 7386, appendix A.
    #[test]
    fn merging() {
        let cases = [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (
                r#"{"a":{"b":"c"}}"#,
                r#"{"a":{"b":"d","c":null}}"#,
                r#"{"a":{"b":"d"}}"#,
            ),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ];
        for (before, patch, wanted) in cases {
            let mut found = value(before);
            merge(&mut found, &value(patch));
            assert_eq!(found.to_json(), wanted, "{before} + {patch}");
        }
    }

    fn run(before: &str, operations: &str) -> Result<String, Fault> {
        let mut root = Some(value(before));
        let mut budget = 1000;
        for operation in value(operations).as_list().unwrap() {
            operate(&mut root, operation, &mut budget)?;
        }
        Ok(root.map_or_else(|| "nothing".to_owned(), |root| root.to_json()))
    }

    // After the samples of RFC 6902, appendix A.
    #[test]
    fn operations() {
        let cases = [
            (
                r#"{"foo":"bar"}"#,
                r#"[{"op":"add","path":"/baz","value":"qux"}]"#,
                r#"{"foo":"bar","baz":"qux"}"#,
            ),
            (
                r#"{"foo":["bar","baz"]}"#,
                r#"[{"op":"add","path":"/foo/1","value":"qux"}]"#,
                r#"{"foo":["bar","qux","baz"]}"#,
            ),
            (
                r#"{"baz":"qux","foo":"bar"}"#,
                r#"[{"op":"remove","path":"/baz"}]"#,
                r#"{"foo":"bar"}"#,
            ),
            (
                r#"{"foo":["a","b","c"]}"#,
                r#"[{"op":"remove","path":"/foo/1"}]"#,
                r#"{"foo":["a","c"]}"#,
            ),
            (
                r#"{"baz":"qux","foo":"bar"}"#,
                r#"[{"op":"replace","path":"/baz","value":"boo"}]"#,
                r#"{"baz":"boo","foo":"bar"}"#,
            ),
            (
                r#"{"foo":{"bar":"baz","waldo":"fred"},"qux":{"corge":"grault"}}"#,
                r#"[{"op":"move","from":"/foo/waldo","path":"/qux/thud"}]"#,
                r#"{"foo":{"bar":"baz"},"qux":{"corge":"grault","thud":"fred"}}"#,
            ),
            (
                r#"{"foo":["a","b","c","d"]}"#,
                r#"[{"op":"move","from":"/foo/1","path":"/foo/3"}]"#,
                r#"{"foo":["a","c","d","b"]}"#,
            ),
            (
                r#"{"baz":"q","foo":["a",2,"c"]}"#,
                r#"[{"op":"test","path":"/baz","value":"q"},{"op":"test","path":"/foo/1","value":2.0}]"#,
                r#"{"baz":"q","foo":["a",2,"c"]}"#,
            ),
            (
                r#"{"foo":"bar"}"#,
                r#"[{"op":"add","path":"/child","value":{"g":{}},"xyz":1}]"#,
                r#"{"foo":"bar","child":{"g":{}}}"#,
            ),
            (
                r#"{"/":9,"~1":10}"#,
                r#"[{"op":"test","path":"/~01","value":10},{"op":"copy","from":"/~1","path":"/a"}]"#,
                r#"{"/":9,"~1":10,"a":9}"#,
            ),
            (
                r#"{"foo":["bar"]}"#,
                r#"[{"op":"add","path":"/foo/-","value":["x"]}]"#,
                r#"{"foo":["bar",["x"]]}"#,
            ),
            (
                r#"{"a":1}"#,
                r#"[{"op":"replace","path":"","value":{"b":2}}]"#,
                r#"{"b":2}"#,
            ),
            (r#"{"a":1}"#, r#"[{"op":"remove","path":""}]"#, "nothing"),
            (
                r#"{"a":1}"#,
                r#"[{"op":"remove","path":""},{"op":"add","path":"","value":3}]"#,
                "3",
            ),
            (
                r#"{"b":1,"a":2}"#,
                r#"[{"op":"add","path":"/b","value":3}]"#,
                r#"{"b":3,"a":2}"#,
            ),
        ];
        for (before, operations, wanted) in cases {
            assert_eq!(run(before, operations).unwrap(), wanted, "{operations}");
        }
    }

    #[test]
    fn what_is_refused() {
        let absent = [
            r#"[{"op":"remove","path":"/x"}]"#,
            r#"[{"op":"replace","path":"/x","value":1}]"#,
            r#"[{"op":"add","path":"/x/y","value":1}]"#,
            r#"[{"op":"add","path":"/l/2","value":1}]"#,
            r#"[{"op":"add","path":"/l/00","value":1}]"#,
            r#"[{"op":"replace","path":"/l/-","value":1}]"#,
            r#"[{"op":"move","from":"/x","path":"/y"}]"#,
            r#"[{"op":"remove","path":""},{"op":"test","path":"/a","value":1}]"#,
        ];
        for operations in absent {
            let found = run(r#"{"a":1,"l":[0],"m":{}}"#, operations);
            assert!(
                matches!(found, Err(Fault::Absent(_))),
                "{operations}: {found:?}"
            );
        }
        let invalid = [
            r#"[{"op":"test","path":"/a","value":2}]"#,
            r#"[{"op":"add","path":"/a/b","value":1}]"#,
            r#"[{"op":"add","path":"/a"}]"#,
            r#"[{"op":"add","path":"a","value":1}]"#,
            r#"[{"op":"spam","path":"/a"}]"#,
            r#"[{"path":"/a"}]"#,
            r#"[{"op":"copy","path":"/a"}]"#,
            r#"[3]"#,
            r#"[{"op":"move","from":"/m","path":"/m/x"}]"#,
        ];
        for operations in invalid {
            let found = run(r#"{"a":1,"l":[0],"m":{}}"#, operations);
            assert!(
                matches!(found, Err(Fault::Invalid(_))),
                "{operations}: {found:?}"
            );
        }
        let copies = vec![r#"{"op":"copy","from":"/l","path":"/l/-"}"#; 60].join(",");
        let found = run(r#"{"l":[1,2,3]}"#, &format!("[{copies}]"));
        assert!(matches!(found, Err(Fault::Invalid(_))));
    }
}
