//! Turns what the decoder says into what a person can act on.

use serde_saphyr::Error as Decode;

use super::super::{Problem, closest};
use super::tree::{Fault, Node, Position, Tree, Value};

/// Fields that are known and come with later releases.
const LATER: &[&str] = &[
    "attachable",
    "cniConfigPath",
    "containerdId",
    "defaults",
    "git",
    "ignoreDiskPressure",
    "nestedCgroupRuntime",
    "network",
    "networks",
    "networksAliases",
    "provenance",
    "repos",
    "runtimeEnv",
    "tty",
];

/// Names that other tools give to our fields.
const OTHERS: &[(&str, &str)] = &[
    ("cmd", "args"),
    ("destination", "target"),
    ("entrypoint", "command"),
    ("environment", "env"),
    ("hostPath", "source"),
    ("mountPath", "target"),
    ("name", "id"),
    ("terminationGracePeriodSeconds", "stopGraceSeconds"),
    ("volumeMounts", "volumes"),
];

impl Fault {
    /// As a problem with its place.
    pub(in crate::api) fn located(self) -> (Problem, Option<Position>) {
        let tab = self.message.contains("tab");
        let problem = Problem::new("", self.reason, self.message);
        match tab {
            true => (problem.suggest("indent with spaces"), Some(self.at)),
            false => (problem, Some(self.at)),
        }
    }
}

/// What the decoder's error means. `first_line` is the line of the source on
/// which the decoded text began.
pub(in crate::api) fn explain(
    error: &Decode,
    tree: &Tree<'_>,
    first_line: usize,
) -> (Problem, Option<Position>) {
    let error = match error.without_snippet() {
        Decode::AliasError { error, .. } => error,
        other => other,
    };
    let at = error.location().map(|location| Position {
        line: usize::try_from(location.line()).unwrap_or(0) + first_line - 1,
        column: usize::try_from(location.column()).unwrap_or(1),
    });
    let place = at.unwrap_or(tree.root.at);
    let problem = match error {
        Decode::SerdeUnknownField {
            field, expected, ..
        } => unknown_field(field, expected, tree, place),
        Decode::DuplicateMappingKey { .. } => duplicate(tree, place),
        Decode::Budget { .. }
        | Decode::AliasReplayLimitExceeded { .. }
        | Decode::AliasExpansionLimitExceeded { .. }
        | Decode::AliasReplayStackDepthExceeded { .. }
        | Decode::AliasReplayCounterOverflow { .. } => {
            Problem::new("", "YamlBudget", format!("too large: {}", bare(error)))
        }
        Decode::UnsupportedTag { tag, .. } => {
            Problem::new("", "BadYaml", format!("the tag {tag:?} is not allowed"))
        }
        _ => match expected(error) {
            Some(expected) => wrong_type(&expected, tree, place),
            None => Problem::new("", "BadYaml", bare(error)),
        },
    };
    (problem, at)
}

fn unknown_field(field: &str, expected: &[&str], tree: &Tree<'_>, at: Position) -> Problem {
    let path = tree
        .root
        .key_at(at)
        .map(|(path, _)| path)
        .unwrap_or_default();
    let place = match path.as_str() {
        "" => String::new(),
        path => format!(" in {path}"),
    };
    if LATER.contains(&field) {
        let message = format!("the field {field:?}{place} is not supported yet");
        return Problem::new("", "NotSupported", message).suggest("remove it");
    }
    let other = OTHERS
        .iter()
        .find(|(theirs, ours)| *theirs == field && expected.contains(ours))
        .map(|(_, ours)| *ours);
    let problem = Problem::new(
        "",
        "UnknownField",
        format!("unknown field {field:?}{place}"),
    );
    match other.or_else(|| closest(field, expected)) {
        Some(word) => problem.suggest(format!("did you mean {word:?}?")),
        None if expected.len() <= 10 => {
            problem.suggest(format!("the fields are {}", expected.join(", ")))
        }
        None => problem,
    }
}

fn duplicate(tree: &Tree<'_>, at: Position) -> Problem {
    let found = tree.root.key_at(at).and_then(|(path, map)| {
        let Value::Map(entries) = &map.value else {
            return None;
        };
        let (key, _) = entries.iter().find(|(key, _)| key.at == at)?;
        let (first, _) = entries.iter().find(|(k, _)| k.text() == key.text())?;
        Some((path, key.text().to_owned(), first.at.line))
    });
    match found {
        Some((path, key, line)) => {
            let place = match path.as_str() {
                "" => String::new(),
                path => format!(" in {path}"),
            };
            Problem::new(
                "",
                "DuplicateKey",
                format!("the key {key:?}{place} is there twice"),
            )
            .suggest(format!("the first is on line {line}"))
        }
        None => Problem::new("", "DuplicateKey", "a key is there twice"),
    }
}

/// What the decoder wanted to find, for people; none for errors of another kind.
fn expected(error: &Decode) -> Option<String> {
    let word = match error {
        Decode::Unexpected { expected, .. } if expected.contains("mapping start") => "a mapping",
        Decode::Unexpected { expected, .. } if expected.contains("sequence start") => "a list",
        Decode::Unexpected { expected, .. } if expected.contains("scalar") => "text",
        Decode::NullIntoString { .. } => "text",
        Decode::InvalidBooleanStrict { .. } => "true or false",
        Decode::InvalidScalar { ty, .. } => match *ty {
            "boolean" | "bool" => "true or false",
            "i64" | "i32" => "a whole number",
            "u64" | "u32" => "a whole number that is not negative",
            other => other,
        },
        Decode::SerdeInvalidType { expected, .. }
        | Decode::SerdeInvalidValue { expected, .. }
        | Decode::SerdeInvalidLength { expected, .. } => expected,
        _ => return None,
    };
    Some(word.to_owned())
}

fn wrong_type(expected: &str, tree: &Tree<'_>, at: Position) -> Problem {
    let Some((path, node)) = tree.root.value_at(at) else {
        return Problem::new("", "WrongType", format!("expected {expected}"));
    };
    let found = match path.ends_with("assword") && matches!(node.value, Value::Scalar(..)) {
        true => "something else".to_owned(),
        false => node.found(),
    };
    let message = format!("expected {expected}, found {found}");
    let problem = Problem::new(path.as_str(), "WrongType", message);
    let field = path.rsplit('.').next().unwrap_or_default();
    match advice(field, expected, node) {
        Some(advice) => problem.suggest(advice),
        None => problem,
    }
}

fn advice(field: &str, expected: &str, node: &Node<'_>) -> Option<String> {
    if node.is_blank() {
        return Some("write a value or remove it".to_owned());
    }
    match &node.value {
        Value::List(_) if field == "command" => {
            Some("write the program here and its arguments below args".to_owned())
        }
        Value::Map(_) if field.starts_with("env") => Some("write NAME=value".to_owned()),
        Value::Scalar(text, _) if expected == "a list" => Some(format!("write [{text}]")),
        Value::Scalar(text, _) if expected.starts_with("a whole number") => {
            if let Some(number) = text
                .strip_prefix('0')
                .and_then(|t| u32::from_str_radix(t, 8).ok())
            {
                return Some(format!("write 0o{number:o} for an octal number"));
            }
            bytes(text).map(|bytes| format!("write the number of bytes: {bytes}"))
        }
        _ => None,
    }
}

/// Bytes of a size with a unit such as `64Mi`, `1.5G` or `512 kB`.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let factor: u64 = match unit {
        "k" => 1000,
        "m" => 1000 * 1000,
        "g" => 1000 * 1000 * 1000,
        "ki" => 1 << 10,
        "mi" => 1 << 20,
        "gi" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// The decoder's own words without the place, which is given separately.
fn bare(error: &Decode) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}
