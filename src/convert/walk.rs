//! Strict reading of foreign documents: every field is asked for, known to have
//! no equivalent, or an error with its place.

use super::loss::Notes;
use crate::api::closest;
use crate::api::yaml::Position;
use crate::api::yaml::located::{Entry, Kind, Value};

/// A mapping of which fields are taken until nothing may be left.
pub(super) struct Fields<'a> {
    /// Where it stands in the document.
    pub path: String,
    /// Where it begins.
    pub at: Position,
    entries: Vec<&'a Entry>,
    asked: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// A value as a mapping; anything else is noted and read as an empty one.
    pub(super) fn of(notes: &mut Notes, value: &'a Value, path: impl Into<String>) -> Self {
        let path = path.into();
        let entries = match &value.kind {
            Kind::Map(entries) => entries.iter().collect(),
            _ if value.is_null() => Vec::new(),
            _ => {
                wrong(notes, &path, value, "a mapping");
                Vec::new()
            }
        };
        Self {
            path,
            at: value.at,
            entries,
            asked: Vec::new(),
        }
    }

    /// Path of a field.
    pub(super) fn sub(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// A field; none when it is absent or empty.
    pub(super) fn take(&mut self, key: &'static str) -> Option<&'a Value> {
        self.asked.push(key);
        let found = self.entries.iter().position(|e| e.key == key)?;
        let entry = self.entries.remove(found);
        Some(&entry.value).filter(|value| !value.is_null())
    }

    pub(super) fn text(&mut self, notes: &mut Notes, key: &'static str) -> String {
        let path = self.sub(key);
        self.take(key)
            .map(|value| text(notes, value, &path))
            .unwrap_or_default()
    }

    /// As [`Fields::text`], telling what is absent from what is empty.
    pub(super) fn text_or_absent(
        &mut self,
        notes: &mut Notes,
        key: &'static str,
    ) -> Option<String> {
        let path = self.sub(key);
        self.take(key).map(|value| text(notes, value, &path))
    }

    pub(super) fn bool(&mut self, notes: &mut Notes, key: &'static str) -> Option<bool> {
        let path = self.sub(key);
        let value = self.take(key)?;
        match value.text() {
            Some("true" | "True" | "TRUE") => Some(true),
            Some("false" | "False" | "FALSE") => Some(false),
            _ => {
                wrong(notes, &path, value, "true or false");
                None
            }
        }
    }

    pub(super) fn int(&mut self, notes: &mut Notes, key: &'static str) -> Option<i64> {
        let path = self.sub(key);
        let value = self.take(key)?;
        let number = value.text().and_then(number);
        if number.is_none() {
            wrong(notes, &path, value, "a whole number");
        }
        number
    }

    pub(super) fn strings(&mut self, notes: &mut Notes, key: &'static str) -> Vec<String> {
        let path = self.sub(key);
        self.take(key)
            .map(|value| strings(notes, value, &path))
            .unwrap_or_default()
    }

    pub(super) fn list(&mut self, notes: &mut Notes, key: &'static str) -> &'a [Value] {
        let path = self.sub(key);
        self.take(key)
            .map(|value| list(notes, value, &path))
            .unwrap_or_default()
    }

    /// A map of texts, in the order of the source.
    pub(super) fn texts(&mut self, notes: &mut Notes, key: &'static str) -> Vec<(String, String)> {
        let path = self.sub(key);
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let fields = Fields::of(notes, value, &path);
        fields
            .entries
            .iter()
            .map(|e| {
                let value = match e.value.is_null() {
                    true => String::new(),
                    false => text(notes, &e.value, &join(&path, &e.key)),
                };
                (e.key.clone(), value)
            })
            .collect()
    }

    /// Everything that is left, taken.
    pub(super) fn rest(&mut self) -> Vec<&'a Entry> {
        std::mem::take(&mut self.entries)
    }

    /// Drops extension fields.
    pub(super) fn skip_extensions(&mut self) {
        self.entries.retain(|e| !e.key.starts_with("x-"));
    }

    /// Nothing may be left but what is known and has no equivalent, each with
    /// its remedy; the rest is unknown. `harmless` means nothing to the result.
    pub(super) fn finish(
        mut self,
        notes: &mut Notes,
        harmless: &[&'static str],
        without: &[(&'static str, &'static str)],
    ) {
        for entry in self.rest() {
            let key = entry.key.as_str();
            if harmless.contains(&key)
                || (entry.value.is_null() && without.iter().any(|(k, _)| *k == key))
            {
                continue;
            }
            let path = self.sub(key);
            if let Some((_, remedy)) = without.iter().find(|(known, _)| *known == key) {
                notes.lost(path, entry.at, "has no equivalent", *remedy);
                continue;
            }
            let known: Vec<&str> = self
                .asked
                .iter()
                .chain(harmless)
                .copied()
                .chain(without.iter().map(|(known, _)| *known))
                .collect();
            let place = match self.path.as_str() {
                "" => String::new(),
                path => format!(" in {path}"),
            };
            let message = format!("unknown field {key:?}{place}");
            let problem = notes.error("", entry.at, "UnknownField", message);
            if let Some(word) = closest(key, &known) {
                problem.suggestion = format!("did you mean {word:?}?");
            }
        }
    }
}

/// A whole number as the other tools read it: `0o17`, and `017` as well, is octal.
fn number(text: &str) -> Option<i64> {
    let octal = text.strip_prefix("0o").or_else(|| text.strip_prefix('0'));
    match octal {
        Some(digits) if !digits.is_empty() => i64::from_str_radix(digits, 8).ok(),
        _ => text.parse().ok(),
    }
}

/// Path of a field in a mapping.
pub(super) fn join(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    }
}

/// Notes a value of another type than wanted.
pub(super) fn wrong(notes: &mut Notes, path: &str, value: &Value, expected: &str) {
    let message = format!("expected {expected}, found {}", value.found());
    notes.error(path, value.at, "WrongType", message);
}

/// A scalar as it is written.
pub(super) fn text(notes: &mut Notes, value: &Value, path: &str) -> String {
    match &value.kind {
        Kind::Scalar(text, _) if !value.is_null() => text.clone(),
        _ => {
            wrong(notes, path, value, "text");
            String::new()
        }
    }
}

/// A list.
pub(super) fn list<'a>(notes: &mut Notes, value: &'a Value, path: &str) -> &'a [Value] {
    match &value.kind {
        Kind::List(list) => list,
        _ => {
            wrong(notes, path, value, "a list");
            &[]
        }
    }
}

/// A list of texts.
pub(super) fn strings(notes: &mut Notes, value: &Value, path: &str) -> Vec<String> {
    list(notes, value, path)
        .iter()
        .enumerate()
        .map(|(i, item)| text(notes, item, &format!("{path}[{i}]")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::yaml::located::Stream;

    #[test]
    fn what_is_left_is_unknown_or_has_no_equivalent() {
        let stream = Stream::read("f", b"name: x\nimagee: y\ncpus: 2\nx-more: 1\n").unwrap();
        let mut notes = Notes::default();
        let mut fields = Fields::of(&mut notes, &stream.documents[0], "services.web");
        assert_eq!(fields.text(&mut notes, "name"), "x");
        assert_eq!(fields.text(&mut notes, "image"), "");
        fields.skip_extensions();
        fields.finish(&mut notes, &[], &[("cpus", "use cpuShares")]);
        assert_eq!(notes.errors.len(), 1);
        assert_eq!(
            notes.errors[0].line("f"),
            "f:2:1: unknown field \"imagee\" in services.web; did you mean \"image\"?"
        );
        assert_eq!(
            notes.losses[0].line("f"),
            "f:3:1: services.web.cpus: has no equivalent; use cpuShares"
        );
    }
}
