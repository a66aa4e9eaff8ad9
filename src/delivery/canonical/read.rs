//! YAML streams as documents: anchors and merge keys expanded, everything
//! ambiguous or costly refused.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span, Tag};

use crate::delivery::failure::{Failure, Result};
use crate::model::{Value, ValueMap};

use super::{Document, Octal, Origin, flatten_one, scalar};

/// Deepest nesting, aliases expanded.
const MAX_DEPTH: usize = 64;
/// Most values of a stream, aliases expanded.
const MAX_NODES: usize = 2_000_000;
/// Most bytes of text in a stream, aliases expanded.
const MAX_TEXT: usize = 64 << 20;
/// Most documents in a stream.
const MAX_DOCUMENTS: usize = 10_000;

/// Reads a YAML or JSON stream into its documents: `List` flattened, empty ones
/// dropped. `file` is its name in messages. YAML 1.2, with merge keys.
///
/// Refused (`ManifestInvalid`): syntax errors, text that is not UTF-8, duplicate
/// keys, keys that are no scalars, tags beyond the core schema, numbers that
/// JSON does not know, and streams too deep or too large.
pub fn read(file: &str, bytes: &[u8], octal: Octal) -> Result<Vec<Document>> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        Failure::invalid(format!("{file}:{line}: not UTF-8 text"))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut options = Options::default();
    options.emit_comments = false;
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    let mut reader = Reader {
        file,
        octal,
        ..Reader::default()
    };
    for event in Parser::new_from_str_with_options(text, options) {
        match event {
            Ok((event, span)) => reader.event(event, &span)?,
            Err(error) => {
                let mark = error.marker();
                let at = (mark.line(), mark.col() + 1);
                return Err(reader.fault(at, error.info()));
            }
        }
    }
    Ok(reader.documents)
}

/// Line and column, from 1.
type At = (usize, usize);

/// A value with what it costs.
#[derive(Clone)]
struct Sized {
    value: Value,
    nodes: usize,
    text: usize,
    depth: usize,
}

/// An open list or mapping.
struct Open {
    value: Sized,
    anchor: usize,
    at: At,
    /// Mapping: the key that waits for its value.
    key: Option<Key>,
    /// Mapping: keys that came from `<<`, which own ones replace.
    merged: HashSet<String>,
    seen_merge: bool,
    /// Lines of the items, kept for the list below `items` of the root.
    lines: Vec<usize>,
}

enum Key {
    Name(String, At),
    Merge(At),
}

#[derive(Default)]
struct Reader<'f> {
    file: &'f str,
    octal: Octal,
    documents: Vec<Document>,
    /// Documents seen, empty ones too.
    seen: usize,
    line: usize,
    open: Vec<Open>,
    root: Option<Value>,
    item_lines: Vec<usize>,
    anchors: HashMap<usize, Sized>,
    nodes: usize,
    text: usize,
}

impl Reader<'_> {
    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<()> {
        let at = (span.start.line(), span.start.col() + 1);
        match event {
            Event::DocumentStart(..) => {
                self.seen += 1;
                if self.seen > MAX_DOCUMENTS {
                    return Err(self.large(at, format!("more than {MAX_DOCUMENTS} documents")));
                }
                self.line = 0;
                self.anchors.clear();
                self.item_lines.clear();
            }
            Event::DocumentEnd => return self.finish(),
            Event::Scalar(text, style, anchor, tag) => {
                return self.scalar(at, text, style, anchor, tag.as_deref());
            }
            Event::Alias(anchor) => {
                let Some(value) = self.anchors.get(&anchor) else {
                    return Err(self.fault(at, "the alias refers to a value that contains it"));
                };
                if self.open.len() + value.depth > MAX_DEPTH {
                    return Err(self.deep(at));
                }
                let (nodes, text) = (value.nodes, value.text);
                self.count(at, nodes, text)?;
                // Looked up again: counting needs the whole reader.
                let value = self.anchors.get(&anchor).cloned();
                let name = value
                    .as_ref()
                    .and_then(|v| v.value.as_str().map(str::to_owned));
                if let Some(value) = value {
                    return self.put(at, value, name);
                }
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.tagged(at, tag.as_deref(), "seq")?;
                self.begin(at, Value::List(Vec::new()), anchor)?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.tagged(at, tag.as_deref(), "map")?;
                self.begin(at, Value::map(), anchor)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(done) = self.open.pop() {
                    self.end(done)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn scalar(
        &mut self,
        at: At,
        text: Cow<'_, str>,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
    ) -> Result<()> {
        self.count(at, 1, text.len())?;
        let plain = style == ScalarStyle::Plain && tag.is_none();
        if plain && text == "<<" && self.wants_key() {
            if let Some(open) = self.open.last_mut() {
                open.key = Some(Key::Merge(at));
            }
            return Ok(());
        }
        let value = match tag {
            Some(tag) => self.explicit(at, &text, tag)?,
            None if plain => match scalar::resolve(&text, self.octal) {
                Ok(value) => value,
                // As a key it is only its text.
                Err(_) if self.wants_key() => Value::from(&*text),
                Err(why) => return Err(self.fault(at, why)),
            },
            None => Value::from(&*text),
        };
        let name = (!value.is_null()).then(|| text.to_string());
        let value = Sized {
            value,
            nodes: 1,
            text: text.len(),
            depth: 0,
        };
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        self.put(at, value, name)
    }

    /// A scalar whose tag says what it is.
    fn explicit(&self, at: At, text: &str, tag: &Tag) -> Result<Value> {
        let wrong = |what: &str| self.fault(at, format!("{text:?} is not {what}"));
        match tag.core_suffix() {
            Some("str") => Ok(text.into()),
            Some("null") if scalar::is_null(text) => Ok(Value::Null),
            Some("null") => Err(wrong("null")),
            Some("bool") => scalar::truth(text)
                .map(Value::Bool)
                .ok_or_else(|| wrong("true or false")),
            Some("int" | "float") => match scalar::number(text, self.octal) {
                Ok(Some(number)) => Ok(Value::Number(number)),
                Ok(None) => Err(wrong("a number")),
                Err(why) => Err(self.fault(at, why)),
            },
            // The tag `!` alone says that it is text.
            _ if tag.to_string() == "!" => Ok(text.into()),
            _ => Err(self.fault(at, format!("the tag {tag} is not supported"))),
        }
    }

    /// Refuses tags that a list or mapping cannot have.
    fn tagged(&self, at: At, tag: Option<&Tag>, own: &str) -> Result<()> {
        match tag {
            Some(tag) if tag.core_suffix() != Some(own) && tag.to_string() != "!" => {
                Err(self.fault(at, format!("the tag {tag} is not supported here")))
            }
            _ => Ok(()),
        }
    }

    fn wants_key(&self) -> bool {
        let open = self.open.last();
        open.is_some_and(|open| open.key.is_none() && open.value.value.as_map().is_some())
    }

    fn begin(&mut self, at: At, value: Value, anchor: usize) -> Result<()> {
        if self.wants_key() {
            return Err(self.fault(at, "a key must be text, not a list or a mapping"));
        }
        self.count(at, 1, 0)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(self.deep(at));
        }
        let value = Sized {
            value,
            nodes: 1,
            text: 0,
            depth: 1,
        };
        self.open.push(Open {
            value,
            anchor,
            at,
            key: None,
            merged: HashSet::new(),
            seen_merge: false,
            lines: Vec::new(),
        });
        Ok(())
    }

    fn end(&mut self, done: Open) -> Result<()> {
        // The list below `items` of the root: its items become documents.
        if let [root] = self.open.as_slice()
            && matches!(&root.key, Some(Key::Name(name, _)) if name == "items")
        {
            self.item_lines = done.lines;
        }
        if done.anchor > 0 {
            self.anchors.insert(done.anchor, done.value.clone());
        }
        self.put(done.at, done.value, None)
    }

    /// Puts a value where it belongs. `name` is its text as a key.
    fn put(&mut self, at: At, value: Sized, name: Option<String>) -> Result<()> {
        let within = self.open.len();
        let Some(open) = self.open.last_mut() else {
            self.line = at.0;
            self.root = Some(value.value);
            return Ok(());
        };
        open.value.nodes += value.nodes;
        open.value.text += value.text;
        open.value.depth = open.value.depth.max(value.depth + 1);
        let fault = match &mut open.value.value {
            Value::List(list) => {
                if within == 2 {
                    open.lines.push(at.0);
                }
                list.push(value.value);
                return Ok(());
            }
            Value::Map(map) => match (open.key.take(), name) {
                (None, Some(name)) => {
                    open.key = Some(Key::Name(name, at));
                    return Ok(());
                }
                (None, None) => (at, "a key must be text".to_owned()),
                (Some(Key::Merge(at)), _) if std::mem::replace(&mut open.seen_merge, true) => {
                    (at, "the key << is there twice; give it a list".to_owned())
                }
                (Some(Key::Merge(_)), _) => match merge(map, &mut open.merged, value.value) {
                    Ok(()) => return Ok(()),
                    Err(why) => (at, why.to_owned()),
                },
                (Some(Key::Name(name, at)), _) => {
                    let own = !open.merged.remove(&name);
                    if own && map.contains_key(&name) {
                        (at, format!("the key {name:?} is there twice"))
                    } else {
                        map.insert(name, value.value);
                        return Ok(());
                    }
                }
            },
            _ => return Ok(()),
        };
        Err(self.fault(fault.0, fault.1))
    }

    fn finish(&mut self) -> Result<()> {
        let Some(value) = self.root.take() else {
            return Ok(());
        };
        let origin = Origin {
            file: self.file.to_owned(),
            index: self.seen,
            line: self.line,
        };
        let lines = std::mem::take(&mut self.item_lines);
        flatten_one(Document { value, origin }, &lines, &mut self.documents)
    }

    fn count(&mut self, at: At, nodes: usize, text: usize) -> Result<()> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.text = self.text.saturating_add(text);
        if self.nodes > MAX_NODES {
            let message = format!("more than {MAX_NODES} values, aliases expanded");
            return Err(self.large(at, message));
        }
        if self.text > MAX_TEXT {
            let message = format!("more than {MAX_TEXT} bytes of text, aliases expanded");
            return Err(self.large(at, message));
        }
        Ok(())
    }

    fn deep(&self, at: At) -> Failure {
        self.large(at, format!("nested deeper than {MAX_DEPTH} levels"))
    }

    fn large(&self, at: At, message: String) -> Failure {
        self.fault(at, format!("too large: {message}"))
    }

    fn fault(&self, at: At, message: impl std::fmt::Display) -> Failure {
        let (line, column) = at;
        let (index, file) = (self.seen.max(1), self.file);
        Failure::invalid(format!(
            "document {index} at {file}:{line}:{column}: {message}"
        ))
    }
}

/// Takes in what `<<` refers to: a mapping, or several of which the first wins.
/// Keys that are there already stay as they are.
fn merge(
    map: &mut ValueMap,
    merged: &mut HashSet<String>,
    value: Value,
) -> Result<(), &'static str> {
    let sources = match value {
        Value::List(list) => list,
        value => vec![value],
    };
    for source in sources {
        let Value::Map(source) = source else {
            return Err("<< needs a mapping, or a list of mappings");
        };
        for (key, value) in source {
            if !map.contains_key(&key) {
                merged.insert(key.clone());
                map.insert(key, value);
            }
        }
    }
    Ok(())
}
