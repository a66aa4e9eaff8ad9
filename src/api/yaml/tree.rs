//! Where everything stands in a YAML stream.
//!
//! One pass over the parser's events finds the documents, the position of every
//! key and value, duplicate keys, and refuses what would cost too much (nesting,
//! aliases that multiply), before anything is decoded into a type.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span};

/// Deepest nesting of lists and mappings; the schema needs 7.
pub(in crate::api) const MAX_DEPTH: usize = 64;
/// Most nodes in a stream, aliases counted as what they stand for.
pub(in crate::api) const MAX_NODES: usize = 200_000;
/// Most documents in a stream.
pub(in crate::api) const MAX_DOCUMENTS: usize = 1024;

/// A place in the text: line and column from 1, column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// Something the parser or its limits refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::api) struct Fault {
    pub(in crate::api) at: Position,
    pub(in crate::api) reason: &'static str,
    pub(in crate::api) message: String,
}

/// One document of a stream.
#[derive(Debug)]
pub(in crate::api) struct Tree<'t> {
    /// The text from the line of its `---` (or first key) to its end.
    pub(in crate::api) bytes: Range<usize>,
    /// Line on which `bytes` starts, from 1.
    pub(in crate::api) first_line: usize,
    pub(in crate::api) root: Node<'t>,
}

/// A value with its place.
#[derive(Debug)]
pub(in crate::api) struct Node<'t> {
    pub(in crate::api) at: Position,
    pub(in crate::api) value: Value<'t>,
    /// Number by which aliases refer to it; 0 when none can.
    pub(in crate::api) anchor: usize,
}

#[derive(Debug)]
pub(in crate::api) enum Value<'t> {
    /// Text; `true` when written without quotes, and not tagged as text.
    Scalar(Cow<'t, str>, bool),
    List(Vec<Node<'t>>),
    Map(Vec<(Node<'t>, Node<'t>)>),
    /// Refers to an earlier value by its anchor.
    Alias(usize),
}

/// All documents that are not blank, and the fault that ended the reading, if any.
pub(in crate::api) fn read(text: &str) -> (Vec<Tree<'_>>, Option<Fault>) {
    let mut options = Options::default();
    options.emit_comments = false;
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    let mut reader = Reader {
        text,
        documents: Vec::new(),
        open: Vec::new(),
        root: None,
        start: (0, 1),
        nodes: 0,
        seen: 0,
        sizes: HashMap::new(),
    };
    for event in Parser::new_from_str_with_options(text, options) {
        let fault = match event {
            Ok((event, span)) => reader.event(event, &span).err(),
            Err(error) => {
                let mark = error.marker();
                let message = error.info();
                let limit = message.contains("nest") || message.contains("recursion");
                let at = Position {
                    line: mark.line(),
                    column: mark.col() + 1,
                };
                Some(Fault {
                    at: indenting_tab(text, &message, at.line).unwrap_or(at),
                    reason: if limit { "YamlBudget" } else { "BadYaml" },
                    message,
                })
            }
        };
        if fault.is_some() {
            return (reader.documents, fault);
        }
    }
    (reader.documents, None)
}

/// The scanner reports a tab where the value began that it ended; people look
/// for the tab itself.
fn indenting_tab(text: &str, message: &str, from: usize) -> Option<Position> {
    if !message.contains("tab") {
        return None;
    }
    let lines = text.lines().enumerate().skip(from.saturating_sub(1));
    lines.take(100).find_map(|(i, line)| {
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        let tab = line[..indent].find('\t')?;
        Some(Position {
            line: i + 1,
            column: tab + 1,
        })
    })
}

/// An open list or mapping.
struct Open<'t> {
    node: Node<'t>,
    /// Nodes in the stream when it began.
    began: usize,
    /// Mapping: the key that waits for its value.
    key: Option<Node<'t>>,
}

struct Reader<'t> {
    text: &'t str,
    documents: Vec<Tree<'t>>,
    open: Vec<Open<'t>>,
    root: Option<Node<'t>>,
    /// Byte and line where the document begins.
    start: (usize, usize),
    nodes: usize,
    /// Documents seen, blank ones too.
    seen: usize,
    /// Nodes that an anchor stands for.
    sizes: HashMap<usize, usize>,
}

impl<'t> Reader<'t> {
    fn event(&mut self, event: Event<'t>, span: &Span) -> Result<(), Fault> {
        let at = Position {
            line: span.start.line(),
            column: span.start.col() + 1,
        };
        let byte = |mark: Option<usize>| mark.unwrap_or(self.text.len()).min(self.text.len());
        match event {
            Event::DocumentStart(..) => {
                self.seen += 1;
                if self.seen > MAX_DOCUMENTS {
                    return Err(budget(at, format!("more than {MAX_DOCUMENTS} documents")));
                }
                let byte = byte(span.start.byte_offset());
                let line_start = self.text[..byte].rfind(['\n', '\r']).map_or(0, |i| i + 1);
                self.start = (line_start, at.line);
                self.root = None;
                self.sizes.clear();
            }
            Event::DocumentEnd => {
                let end = byte(span.end.byte_offset()).max(self.start.0);
                let (start, first_line) = self.start;
                if let Some(root) = self.root.take().filter(|root| !root.is_blank()) {
                    self.documents.push(Tree {
                        bytes: start..end,
                        first_line,
                        root,
                    });
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = match tag.as_deref() {
                    None => style == ScalarStyle::Plain,
                    // The tag `!` alone says that it is text.
                    Some(tag) => match tag.core_suffix() {
                        Some("str") => false,
                        Some(_) => true,
                        None => style == ScalarStyle::Plain && tag.to_string() != "!",
                    },
                };
                let node = Node {
                    at,
                    value: Value::Scalar(text, plain),
                    anchor,
                };
                self.count(at, 1)?;
                self.sizes.insert(anchor, 1);
                self.put(node)?;
            }
            Event::Alias(anchor) => {
                let Some(size) = self.sizes.get(&anchor).copied() else {
                    return Err(Fault {
                        at,
                        reason: "BadYaml",
                        message: "the alias refers to a value that contains it".to_owned(),
                    });
                };
                self.count(at, size)?;
                self.put(Node {
                    at,
                    value: Value::Alias(anchor),
                    anchor: 0,
                })?;
            }
            Event::SequenceStart(_, anchor, _) => {
                self.begin(at, Value::List(Vec::new()), anchor)?
            }
            Event::MappingStart(_, anchor, _) => self.begin(at, Value::Map(Vec::new()), anchor)?,
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(done) = self.open.pop() {
                    self.sizes.insert(done.node.anchor, self.nodes - done.began);
                    self.put(done.node)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, at: Position, value: Value<'t>, anchor: usize) -> Result<(), Fault> {
        let began = self.nodes;
        self.count(at, 1)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(budget(at, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.open.push(Open {
            node: Node { at, value, anchor },
            began,
            key: None,
        });
        Ok(())
    }

    fn count(&mut self, at: Position, nodes: usize) -> Result<(), Fault> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(budget(
                at,
                format!("more than {MAX_NODES} values, aliases expanded"),
            ));
        }
        Ok(())
    }

    fn put(&mut self, node: Node<'t>) -> Result<(), Fault> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.node.value {
            Value::List(list) => list.push(node),
            Value::Map(entries) => match open.key.take() {
                None => open.key = Some(node),
                Some(key) => entries.push((key, node)),
            },
            Value::Scalar(..) | Value::Alias(_) => {}
        }
        Ok(())
    }
}

fn budget(at: Position, message: String) -> Fault {
    Fault {
        at,
        reason: "YamlBudget",
        message: format!("too large: {message}"),
    }
}

impl Node<'_> {
    /// Nothing, or an explicit null.
    pub(in crate::api) fn is_blank(&self) -> bool {
        matches!(&self.value, Value::Scalar(text, true) if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What it is, for people.
    pub(in crate::api) fn found(&self) -> String {
        match &self.value {
            _ if self.is_blank() => "nothing".to_owned(),
            Value::Scalar(text, _) => {
                let short: String = text.chars().take(40).collect();
                let dots = if short.len() < text.len() { "…" } else { "" };
                format!("{:?}", format!("{short}{dots}"))
            }
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
            Value::Alias(_) => "an alias".to_owned(),
        }
    }

    /// The value of a key of a mapping.
    pub(in crate::api) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries
                .iter()
                .find(|(k, _)| k.text() == key)
                .map(|(_, v)| v),
            _ => None,
        }
    }

    /// Its text; empty for lists and mappings.
    pub(in crate::api) fn text(&self) -> &str {
        match &self.value {
            Value::Scalar(text, _) => text,
            _ => "",
        }
    }

    /// Place of the value that a path such as `spec.containers[1].image` leads
    /// to, or of the deepest part of the path that is there.
    pub(in crate::api) fn locate(&self, path: &str) -> Position {
        self.walk(path, self.at)
    }

    fn walk(&self, path: &str, best: Position) -> Position {
        let path = path.strip_prefix('.').unwrap_or(path);
        match &self.value {
            Value::Map(entries) if !path.is_empty() => {
                // Keys may hold dots (labels), so the longest that fits wins.
                let fits = |key: &str| {
                    path.strip_prefix(key)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
                };
                let found = entries
                    .iter()
                    .filter(|(key, _)| !key.text().is_empty() && fits(key.text()))
                    .max_by_key(|(key, _)| key.text().len());
                match found {
                    Some((key, value)) => {
                        let at = if value.is_scalar() { value.at } else { key.at };
                        value.walk(&path[key.text().len()..], at)
                    }
                    None => best,
                }
            }
            Value::List(list) => {
                let part = path.strip_prefix('[').and_then(|rest| rest.split_once(']'));
                let item = part.and_then(|(index, rest)| {
                    let item = list.get(index.parse::<usize>().ok()?)?;
                    Some((item, rest))
                });
                match item {
                    Some((item, rest)) => item.walk(rest, item.at),
                    None => best,
                }
            }
            _ => best,
        }
    }

    fn is_scalar(&self) -> bool {
        matches!(self.value, Value::Scalar(..)) && !self.is_blank()
    }

    /// Path of the value that begins at a place, with the value.
    pub(in crate::api) fn value_at(&self, at: Position) -> Option<(String, &Self)> {
        let mut path = String::new();
        let node = self.search(at, false, &mut path)?;
        Some((path, node))
    }

    /// Path of the mapping that has a key at a place, with the mapping.
    pub(in crate::api) fn key_at(&self, at: Position) -> Option<(String, &Self)> {
        let mut path = String::new();
        let node = self.search(at, true, &mut path)?;
        Some((path, node))
    }

    /// Depth first; `path` leads to what was found.
    fn search(&self, at: Position, keys: bool, path: &mut String) -> Option<&Self> {
        if !keys && self.at == at {
            return Some(self);
        }
        let length = path.len();
        match &self.value {
            Value::Map(entries) => {
                if keys && entries.iter().any(|(key, _)| key.at == at) {
                    return Some(self);
                }
                for (key, value) in entries {
                    path.push_str(if path.is_empty() { "" } else { "." });
                    path.push_str(key.text());
                    if let Some(found) = value.search(at, keys, path) {
                        return Some(found);
                    }
                    path.truncate(length);
                }
            }
            Value::List(list) => {
                for (i, item) in list.iter().enumerate() {
                    path.push_str(&format!("[{i}]"));
                    if let Some(found) = item.search(at, keys, path) {
                        return Some(found);
                    }
                    path.truncate(length);
                }
            }
            Value::Scalar(..) | Value::Alias(_) => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Tree<'_> {
        let (mut documents, fault) = read(text);
        assert_eq!(fault, None);
        assert_eq!(documents.len(), 1);
        documents.remove(0)
    }

    #[test]
    fn documents_end_at_marks_not_at_text_that_looks_like_one() {
        let text =
            "# note\n---\na: |\n  ---\n  x\n---\n# only a note\n---\n--- {b: c}\n...\nd: e\n";
        let (documents, fault) = read(text);
        assert_eq!(fault, None);
        let parts: Vec<_> = documents
            .iter()
            .map(|d| (&text[d.bytes.clone()], d.first_line))
            .collect();
        assert_eq!(
            parts,
            [
                ("---\na: |\n  ---\n  x\n", 2),
                ("--- {b: c}\n...", 9),
                ("d: e\n", 11)
            ]
        );
    }

    #[test]
    fn paths_lead_to_places_and_back() {
        let tree =
            one("spec:\n  labels:\n    a.b: x\n    a: y\n  list:\n    - id: q\n      env: [A=1]\n");
        let at = |line, column| Position { line, column };
        for (path, place) in [
            ("spec.labels.a.b", at(3, 10)),
            ("spec.labels.a", at(4, 8)),
            ("spec.list[0].env[0]", at(7, 13)),
            ("spec.list[0]", at(6, 7)),
            ("spec.list[0].missing", at(6, 7)),
            ("spec.list[7].id", at(5, 3)),
            ("other", at(1, 1)),
        ] {
            assert_eq!(tree.root.locate(path), place, "{path}");
        }
        let value = |line, column| tree.root.value_at(at(line, column)).unwrap().0;
        let key = |line, column| tree.root.key_at(at(line, column)).unwrap().0;
        assert_eq!(value(7, 13), "spec.list[0].env[0]");
        assert_eq!(value(3, 5), "spec.labels");
        assert_eq!(key(7, 7), "spec.list[0]");
        assert_eq!(key(3, 5), "spec.labels");
    }

    #[test]
    fn a_bomb_is_refused_before_it_goes_off() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..12 {
            let refs = vec![format!("*a{}", i - 1); 9].join(", ");
            bomb.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
        }
        let started = std::time::Instant::now();
        let (documents, fault) = read(&bomb);
        assert!(documents.is_empty());
        assert_eq!(fault.unwrap().reason, "YamlBudget");
        assert!(started.elapsed().as_millis() < 500);
        for deep in ["[".repeat(5000), "- ".repeat(5000), "{a: ".repeat(5000)] {
            assert_eq!(read(&deep).1.unwrap().reason, "YamlBudget");
        }
        assert_eq!(read("a: &a [*a]").1.unwrap().reason, "BadYaml");
        assert_eq!(
            read(&"--- x\n".repeat(1025)).1.unwrap().reason,
            "YamlBudget"
        );
    }
}
