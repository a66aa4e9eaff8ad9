//! Texts with a grammar of their own: env files and command lines.

use std::collections::BTreeMap;

use super::interpolate::expand;
use crate::api::{Error, Result};

/// Variables of an env file: `NAME=value` lines, `#` comments, quotes; values
/// without single quotes may refer to variables. A bare `NAME` takes the value
/// of the environment.
///
/// # Errors
/// Lines that are none of these, with file and line.
pub fn env_file(
    source: &str,
    text: &str,
    variables: &BTreeMap<String, String>,
) -> Result<Vec<(String, String)>> {
    let mut known = variables.clone();
    let mut out: Vec<(String, String)> = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((i, line)) = lines.next() {
        let bad = |what: &str| Error::invalid("BadEnv", format!("{source}:{}: {what}", i + 1));
        let line = line.trim_start();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, rest) = match line.split_once('=') {
            Some((name, rest)) => (name.trim_end(), Some(rest.trim_start())),
            None => (line.trim_end(), None),
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(bad("not of the form NAME=value"));
        }
        let value = match rest {
            None => match known.get(name) {
                Some(value) => value.clone(),
                None => continue,
            },
            Some(rest) => {
                let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
                let raw = match quote {
                    None => before_comment(rest).trim_end().to_owned(),
                    Some(quote) => {
                        let mut body = rest[1..].to_owned();
                        while end_of_quote(&body, quote).is_none() {
                            let (_, more) =
                                lines.next().ok_or_else(|| bad("a quote is not closed"))?;
                            body.push('\n');
                            body.push_str(more);
                        }
                        let end = end_of_quote(&body, quote).unwrap_or(body.len());
                        body.truncate(end);
                        if quote == '"' { unescaped(&body) } else { body }
                    }
                };
                match quote {
                    Some('\'') => raw,
                    // What is not set is empty, as compose reads it.
                    _ => expand(&raw, &known, &mut Vec::new()).map_err(|e| bad(&e))?,
                }
            }
        };
        known.insert(name.to_owned(), value.clone());
        out.retain(|(key, _)| key != name);
        out.push((name.to_owned(), value));
    }
    Ok(out)
}

fn before_comment(text: &str) -> &str {
    if text.starts_with('#') {
        return "";
    }
    text.find(" #").map_or(text, |at| &text[..at])
}

fn end_of_quote(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            c if c == quote => return Some(i),
            _ => {}
        }
    }
    None
}

fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some('t') => out.push('\t'),
                Some('$') => out.push_str("$$"),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            c => out.push(c),
        }
    }
    out
}

/// A command line as words, split as a shell does it (POSIX, section 2.2) but
/// without expansions; none when a quote is not closed.
pub(super) fn words(text: &str) -> Option<Vec<String>> {
    let mut out = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            c if c.is_whitespace() => out.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next()? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next()? {
                        '"' => break,
                        '\\' => match rest.next()? {
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(rest.next()?),
            c => word.get_or_insert_default().push(c),
        }
    }
    out.extend(word);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn env_files() {
        let variables = [("HOME".to_owned(), "/root".to_owned())].into();
        let text = "# note\nA=1\nexport B = two words # note\nC='$A'\nD=\"x\\n${A}\"\nHOME\nNONE\nE=\nF=\"a\nb\"\nA=2\n";
        let found = env_file("f", text, &variables).unwrap();
        let expected = [
            ("B", "two words"),
            ("C", "$A"),
            ("D", "x\n1"),
            ("HOME", "/root"),
            ("E", ""),
            ("F", "a\nb"),
            ("A", "2"),
        ];
        assert_eq!(found, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        let error = env_file("f", "A=1\nno good\n", &variables).unwrap_err();
        assert!(error.message.starts_with("f:2: "), "{}", error.message);
        assert!(env_file("f", "A='x\n", &variables).is_err());
    }

    #[test]
    fn command_lines() {
        let split = |text| words(text).unwrap();
        assert_eq!(
            split("nginx -g 'daemon off;'"),
            ["nginx", "-g", "daemon off;"]
        );
        assert_eq!(
            split(r#"sh -c "echo \"a b\" $$x" '' c\ d"#),
            ["sh", "-c", "echo \"a b\" $$x", "", "c d"]
        );
        assert_eq!(words("a 'b"), None);
    }
}
