//! YAML of schemas that are not ours: documents as trees of owned values that
//! know where they stand. Aliases and merge keys (`<<`) are resolved, duplicate
//! keys are refused; what the values mean is left to the reader.

use std::collections::HashMap;

use super::super::document::text;
use super::super::problem::{Located, report};
use super::super::{Error, Problem, Result};
use super::tree::{self, Node, Position, Tree};

/// A value and the place where it (not its alias) is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Where it begins.
    pub at: Position,
    /// What it is.
    pub kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Text as written, and whether it stands without quotes.
    Scalar(String, bool),
    /// A list.
    List(Vec<Value>),
    /// A mapping, in the order of the source, every key once.
    Map(Vec<Entry>),
}

/// A key of a mapping with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key begins.
    pub at: Position,
    /// Its value.
    pub value: Value,
}

/// A text with its documents.
#[derive(Debug)]
pub struct Stream<'t> {
    /// Name of the text in messages.
    pub source: String,
    text: &'t str,
    /// All that are not blank.
    pub documents: Vec<Value>,
}

impl<'t> Stream<'t> {
    /// Reads a stream.
    ///
    /// # Errors
    /// What is not YAML, costs too much to read, or has a key twice; an input
    /// without documents.
    pub fn read(source: &str, bytes: &'t [u8]) -> Result<Self> {
        let text = text(source, bytes)?;
        let (trees, fault) = tree::read(text);
        let mut problems = Vec::new();
        let mut documents = Vec::new();
        for tree in &trees {
            documents.push(expand(tree, &mut problems));
        }
        if let Some(fault) = fault {
            let (problem, at) = fault.located();
            problems.push((problem, at));
        }
        let stream = Self {
            source: source.to_owned(),
            text,
            documents,
        };
        if !problems.is_empty() {
            let located = |(problem, at)| Located {
                problem,
                at,
                document: String::new(),
            };
            let problems: Vec<_> = problems.into_iter().map(located).collect();
            return Err(stream.refuse(&problems));
        }
        if stream.documents.is_empty() {
            let message = format!("{source}: no documents found");
            return Err(Error::invalid("NoDocuments", message));
        }
        Ok(stream)
    }

    /// One error that lists problems with their source lines.
    pub fn refuse(&self, problems: &[Located]) -> Error {
        match report::<()>(&self.source, self.text, problems) {
            Err(error) => error,
            Ok(()) => Error::invalid("Invalid", self.source.clone()),
        }
    }
}

/// The document with aliases and merge keys resolved.
pub(super) fn expand(tree: &Tree<'_>, problems: &mut Vec<(Problem, Option<Position>)>) -> Value {
    let mut expansion = Expansion {
        anchors: HashMap::new(),
        problems,
    };
    expansion.value(&tree.root)
}

struct Expansion<'p> {
    anchors: HashMap<usize, Value>,
    problems: &'p mut Vec<(Problem, Option<Position>)>,
}

impl Expansion<'_> {
    /// What aliases expand to was counted when the tree was read.
    fn value(&mut self, node: &Node<'_>) -> Value {
        let kind = match &node.value {
            tree::Value::Scalar(text, plain) => Kind::Scalar(text.clone().into_owned(), *plain),
            tree::Value::List(list) => Kind::List(list.iter().map(|n| self.value(n)).collect()),
            tree::Value::Map(entries) => Kind::Map(self.map(entries)),
            tree::Value::Alias(anchor) => match self.anchors.get(anchor) {
                Some(value) => return value.clone(),
                None => Kind::Scalar(String::new(), true),
            },
        };
        let value = Value { at: node.at, kind };
        if node.anchor != 0 {
            self.anchors.insert(node.anchor, value.clone());
        }
        value
    }

    fn map(&mut self, entries: &[(Node<'_>, Node<'_>)]) -> Vec<Entry> {
        let mut out: Vec<Entry> = Vec::new();
        let mut merged: Vec<Entry> = Vec::new();
        for (key, value) in entries {
            let name = match &key.value {
                tree::Value::Scalar(text, _) => text.clone().into_owned(),
                _ => {
                    let message = format!("expected text as a key, found {}", key.found());
                    self.bad("WrongType", message, key.at);
                    continue;
                }
            };
            let is_merge =
                name == "<<" && matches!(key.value, tree::Value::Scalar(_, plain) if plain);
            let value = self.value(value);
            if is_merge {
                self.merge(value, &mut merged);
            } else if let Some(first) = out.iter().find(|e| e.key == name) {
                let message = format!(
                    "the key {name:?} is there twice; the first is on line {}",
                    first.at.line
                );
                self.bad("DuplicateKey", message, key.at);
            } else {
                out.push(Entry {
                    key: name,
                    at: key.at,
                    value,
                });
            }
        }
        // What stands in the mapping itself wins (YAML merge key type).
        merged.retain(|entry| !out.iter().any(|own| own.key == entry.key));
        out.extend(merged);
        out
    }

    fn merge(&mut self, value: Value, into: &mut Vec<Entry>) {
        match value.kind {
            Kind::Map(entries) => {
                for entry in entries {
                    if !into.iter().any(|e| e.key == entry.key) {
                        into.push(entry);
                    }
                }
            }
            Kind::List(list) => list.into_iter().for_each(|value| match value.kind {
                Kind::Map(_) => self.merge(value, into),
                _ => self.bad("WrongType", "a merge key takes mappings".into(), value.at),
            }),
            Kind::Scalar(..) => {
                self.bad("WrongType", "a merge key takes a mapping".into(), value.at);
            }
        }
    }

    fn bad(&mut self, reason: &'static str, message: String, at: Position) {
        self.problems
            .push((Problem::new("", reason, message), Some(at)));
    }
}

impl Value {
    /// Nothing, or an explicit null.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(text, true) if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What it is, for people; texts are cut.
    pub fn found(&self) -> String {
        match &self.kind {
            _ if self.is_null() => "nothing".to_owned(),
            Kind::Scalar(text, _) => {
                let short: String = text.chars().take(40).collect();
                format!("{short:?}")
            }
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a mapping".to_owned(),
        }
    }

    /// The value of a key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.value),
            _ => None,
        }
    }

    /// Its text; none for lists, mappings and nothing.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(text, _) if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// As JSON, by the core schema of YAML 1.2.2 (section 10.3).
    pub fn to_json(&self) -> serde_json::Value {
        match &self.kind {
            _ if self.is_null() => serde_json::Value::Null,
            Kind::Scalar(text, false) => text.as_str().into(),
            Kind::Scalar(text, true) => match text.as_str() {
                "true" | "True" | "TRUE" => true.into(),
                "false" | "False" | "FALSE" => false.into(),
                text => match text.parse::<i64>() {
                    Ok(number) => number.into(),
                    Err(_) => match text.parse::<f64>() {
                        // `inf` and `nan` are words in YAML.
                        Ok(number) if text.contains(|c: char| c.is_ascii_digit()) => number.into(),
                        _ => text.into(),
                    },
                },
            },
            Kind::List(list) => list.iter().map(Value::to_json).collect(),
            Kind::Map(entries) => serde_json::Value::Object(
                entries
                    .iter()
                    .map(|e| (e.key.clone(), e.value.to_json()))
                    .collect(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn aliases_and_merges_are_resolved() {
        let text = "base: &b {a: 1, b: '2', c: [x]}\nmore: &m {b: 9, d: ~}\nout:\n  <<: [*b, *m]\n  a: yes\n  list: *b\n";
        let stream = Stream::read("f", text.as_bytes()).unwrap();
        let out = stream.documents[0].get("out").unwrap();
        let base = json!({"a": 1, "b": "2", "c": ["x"]});
        assert_eq!(
            out.to_json(),
            json!({"a": "yes", "b": "2", "c": ["x"], "d": null, "list": base})
        );
        // A merged value is shown where it is written.
        assert_eq!(out.get("b").unwrap().at.line, 1);
    }

    #[test]
    fn twice_is_refused_with_both_places() {
        let error = Stream::read("f", b"a: 1\nb: 2\na: 3\n").unwrap_err();
        assert_eq!(error.reason, "DuplicateKey");
        assert!(
            error.message.starts_with("f:3:1: the key \"a\""),
            "{}",
            error.message
        );
        assert!(error.message.contains("on line 1"));
        assert_eq!(Stream::read("f", b"a: [\n").unwrap_err().reason, "BadYaml");
        assert_eq!(
            Stream::read("f", b"# x\n").unwrap_err().reason,
            "NoDocuments"
        );
        assert_eq!(
            Stream::read("f", b"a: 1\n<<: 3\n").unwrap_err().reason,
            "WrongType"
        );
    }

    #[test]
    fn scalars_by_the_core_schema() {
        let text = "[1, '1', 1.5, 1e3, true, 'true', no, ~, \"\", 0x1F, nan, 007a]";
        let stream = Stream::read("f", text.as_bytes()).unwrap();
        assert_eq!(
            stream.documents[0].to_json(),
            json!([
                1, "1", 1.5, 1000.0, true, "true", "no", null, "", "0x1F", "nan", "007a"
            ])
        );
    }
}
