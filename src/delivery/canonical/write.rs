//! Documents as canonical YAML. The bytes written here decide digests: whatever
//! changes one of them must raise [`CONTRACT`](super::CONTRACT).

use std::fmt::Write as _;

use crate::model::{Number, Value, ValueMap};

use super::{Document, scalar};

/// Longest key that YAML reads without a mark, in characters (1.2.2, 7.4.2).
const LONG_KEY: usize = 1000;

/// All documents of a manifest, each below a `---` of its own.
pub fn manifest<'d>(documents: impl IntoIterator<Item = &'d Document>) -> String {
    let mut out = String::new();
    for document in documents {
        out.push_str("---\n");
        root(&document.value, &mut out);
    }
    out
}

/// One value as a document without a mark, a newline at its end.
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    root(value, &mut out);
    out
}

fn root(value: &Value, out: &mut String) {
    match value {
        Value::Map(map) if !map.is_empty() => entries(map, 0, out),
        Value::List(list) if !list.is_empty() => items(list, 0, out),
        // A block needs something to be indented against.
        Value::String(text) => {
            quoted(text, out);
            out.push('\n');
        }
        value => {
            inline(value, 0, out);
            out.push('\n');
        }
    }
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// The entries of a mapping; the first begins where the cursor is.
fn entries(map: &ValueMap, indent: usize, out: &mut String) {
    for (i, (name, value)) in map.iter().enumerate() {
        if i > 0 {
            pad(indent, out);
        }
        key(name, indent, out);
        match value {
            Value::Map(map) if !map.is_empty() => {
                out.push('\n');
                pad(indent + 2, out);
                entries(map, indent + 2, out);
            }
            Value::List(list) if !list.is_empty() => {
                out.push('\n');
                pad(indent + 2, out);
                items(list, indent + 2, out);
            }
            value => {
                out.push(' ');
                inline(value, indent, out);
                out.push('\n');
            }
        }
    }
}

/// The items of a list; the first begins where the cursor is.
fn items(list: &[Value], indent: usize, out: &mut String) {
    for (i, value) in list.iter().enumerate() {
        if i > 0 {
            pad(indent, out);
        }
        out.push_str("- ");
        match value {
            Value::Map(map) if !map.is_empty() => entries(map, indent + 2, out),
            Value::List(list) if !list.is_empty() => items(list, indent + 2, out),
            value => {
                inline(value, indent, out);
                out.push('\n');
            }
        }
    }
}

/// A key with its colon.
fn key(name: &str, indent: usize, out: &mut String) {
    if name.chars().count() > LONG_KEY {
        out.push_str("? ");
        quoted(name, out);
        out.push('\n');
        pad(indent, out);
    } else if is_plain(name) {
        out.push_str(name);
    } else {
        quoted(name, out);
    }
    out.push(':');
}

/// A scalar or something empty, without the newline at its end. `indent` is
/// that of the entry or item it belongs to.
fn inline(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Number(value) => number(value, out),
        Value::String(text) if is_block(text) => block(text, indent + 2, out),
        Value::String(text) if is_plain(text) => out.push_str(text),
        Value::String(text) => quoted(text, out),
        Value::List(_) => out.push_str("[]"),
        Value::Map(_) => out.push_str("{}"),
    }
}

/// As it was written; an exponent needs a point and a sign for YAML 1.1.
fn number(number: &Number, out: &mut String) {
    let text = number.as_str();
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else {
        // A whole zero has no sign in YAML.
        out.push_str(if text == "-0" { "0" } else { text });
        return;
    };
    out.push_str(mantissa);
    if !mantissa.contains('.') {
        out.push_str(".0");
    }
    out.push('e');
    if !exponent.starts_with(['+', '-']) {
        out.push('+');
    }
    out.push_str(exponent);
}

/// Whether a text can stand without quotes wherever values and keys stand.
fn is_plain(text: &str) -> bool {
    let first = |c: char| {
        c.is_ascii_alphanumeric() || "_/.+-$(".contains(c) || (!c.is_ascii() && c.is_alphanumeric())
    };
    text.starts_with(first)
        && !text.ends_with([' ', ':'])
        && !text.starts_with("---")
        && !text.starts_with("...")
        && text != "-"
        && !text.starts_with("- ")
        && !text.contains(": ")
        && !text.contains(" #")
        && text.chars().all(is_shown)
        && !scalar::is_retyped(text)
}

/// Whether a character shows itself on one line, in every reader.
fn is_shown(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            // Spaces and marks that cannot be told from others, or from nothing.
            '\u{a0}' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{ffff}')
}

/// Whether a text of several lines can stand as a literal block, unchanged for
/// every reader.
fn is_block(text: &str) -> bool {
    text.contains('\n')
        && !text.starts_with([' ', '\n', '\t'])
        && text.chars().all(|c| is_shown(c) || matches!(c, '\n' | '\t'))
        // Readers differ on lines of blanks alone.
        && text.split('\n').all(|line| line.is_empty() || !line.trim_matches([' ', '\t']).is_empty())
}

fn block(text: &str, indent: usize, out: &mut String) {
    let body = text.trim_end_matches('\n');
    let ends = text.len() - body.len();
    out.push_str(match ends {
        0 => "|-",
        1 => "|",
        _ => "|+",
    });
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            pad(indent, out);
            out.push_str(line);
        }
    }
    // The last newline is written by whoever ends the value.
    out.extend(std::iter::repeat_n('\n', ends.saturating_sub(1)));
}

/// Double quotes, with an escape for everything that does not show.
fn quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_shown(c) => out.push(c),
            c => {
                let code = u32::from(c);
                // Writing to a string cannot fail.
                let _ = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    _ => write!(out, "\\u{code:04x}"),
                };
            }
        }
    }
    out.push('"');
}
