//! `$NAME` and `${NAME…}` in the values of a compose file (compose specification,
//! "Interpolation").

use std::collections::BTreeMap;

use super::super::loss::Notes;
use super::super::walk::join;
use crate::api::yaml::located::{Kind, Value};

/// Replaces the variables in all values; keys stay as they are.
pub(super) fn interpolate(
    value: &mut Value,
    path: &str,
    variables: &BTreeMap<String, String>,
    notes: &mut Notes,
) {
    match &mut value.kind {
        Kind::Scalar(text, _) if text.contains('$') => {
            let mut unset = Vec::new();
            match expand(text, variables, &mut unset) {
                Ok(expanded) => *text = expanded,
                Err(message) => {
                    notes.error(path, value.at, "BadVariable", message);
                }
            }
            for name in unset {
                let message = format!("the variable {name:?} is not set");
                let remedy = format!("set it, or write ${{{name}:-}} for an empty value");
                notes.lost(path, value.at, message, remedy);
            }
        }
        Kind::Scalar(..) => {}
        Kind::List(list) => {
            for (i, item) in list.iter_mut().enumerate() {
                interpolate(item, &format!("{path}[{i}]"), variables, notes);
            }
        }
        Kind::Map(entries) => {
            for entry in entries {
                interpolate(&mut entry.value, &join(path, &entry.key), variables, notes);
            }
        }
    }
}

/// A text with its variables replaced; names without a value are added to `unset`.
pub(super) fn expand(
    text: &str,
    variables: &BTreeMap<String, String>,
    unset: &mut Vec<String>,
) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(more) = rest.strip_prefix('$') {
            out.push('$');
            rest = more;
        } else if let Some(more) = rest.strip_prefix('{') {
            let end =
                closing(more).ok_or_else(|| format!("{text:?} has no \"}}\" for its \"${{\""))?;
            out.push_str(&braced(&more[..end], variables, unset)?);
            rest = &more[end + 1..];
        } else {
            let name = name(rest);
            if name.is_empty() {
                return Err(format!(
                    "{text:?} has a \"$\" without a name; write \"$$\" for a \"$\""
                ));
            }
            match variables.get(name) {
                Some(value) => out.push_str(value),
                None => unset.push(name.to_owned()),
            }
            rest = &rest[name.len()..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Where the brace that was opened before is closed.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut before = ' ';
    for (i, c) in text.char_indices() {
        match c {
            '{' if before == '$' => depth += 1,
            '}' if depth == 0 => return Some(i),
            '}' => depth -= 1,
            _ => {}
        }
        before = c;
    }
    None
}

fn name(text: &str) -> &str {
    let digit = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(text.len());
    if digit { "" } else { &text[..end] }
}

fn braced(
    inner: &str,
    variables: &BTreeMap<String, String>,
    unset: &mut Vec<String>,
) -> Result<String, String> {
    let name = name(inner);
    let operator = &inner[name.len()..];
    if name.is_empty() {
        return Err(format!("\"${{{inner}}}\" names no variable"));
    }
    let value = variables.get(name);
    // With a colon, an empty value counts as none.
    let (value, operator) = match operator.strip_prefix(':') {
        Some(operator) => (value.filter(|v| !v.is_empty()), operator),
        None => (value, operator),
    };
    let mut characters = operator.chars();
    let kind = characters.next();
    let word = characters.as_str();
    match (kind, value) {
        (None, Some(value)) | (Some('-' | '?'), Some(value)) => Ok(value.clone()),
        (None, None) => {
            unset.push(name.to_owned());
            Ok(String::new())
        }
        (Some('-'), None) | (Some('+'), Some(_)) => expand(word, variables, unset),
        (Some('+'), None) => Ok(String::new()),
        (Some('?'), None) => {
            let why = expand(word, variables, unset)?;
            let why = if why.is_empty() {
                "it is required"
            } else {
                &why
            };
            Err(format!("the variable {name:?} is not set: {why}"))
        }
        _ => Err(format!(
            "\"${{{inner}}}\" is not a variable with :-, -, :?, ?, :+ or +"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form() {
        let variables: BTreeMap<_, _> = [("A", "1"), ("E", "")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        let mut unset = Vec::new();
        for (text, expected) in [
            ("$A-${A}b", "1-1b"),
            ("$$A", "$A"),
            ("${B:-x}", "x"),
            ("${E:-x}", "x"),
            ("${E-x}", ""),
            ("${B-${A}}", "1"),
            ("${B:-${C:-d}}e", "de"),
            ("${A:+yes}", "yes"),
            ("${E:+yes}", ""),
            ("${E+yes}", "yes"),
            ("${A:?no}", "1"),
        ] {
            assert_eq!(
                expand(text, &variables, &mut unset).unwrap(),
                expected,
                "{text}"
            );
        }
        assert_eq!(unset, Vec::<String>::new());
        assert_eq!(expand("<${B}$C>", &variables, &mut unset).unwrap(), "<>");
        assert_eq!(unset, ["B", "C"]);
        for bad in ["${A", "$", "${}", "${A!x}", "a $1", "${B:?need it}"] {
            assert!(expand(bad, &variables, &mut unset).is_err(), "{bad}");
        }
    }
}
