//! Paths of patches: `.a.b[0].c`, `.metadata.annotations["example.com/x"]`,
//! `containers[name=web].image`, `args[+]` (delivery spec, section 4).

use std::fmt;

/// Most steps of a path; manifests are not nested deeper.
const MAX_STEPS: usize = 64;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// An entry of a mapping.
    Key(String),
    /// An item of a list, from 0.
    Index(usize),
    /// The one item of a list in which this key has this text.
    Select(String, String),
    /// A new item behind the last.
    Append,
}

/// Steps from a document's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path(pub(super) Vec<Step>);

impl Path {
    /// Reads a path. `Err` says what is wrong and where.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text.strip_prefix('.').unwrap_or(text);
        let mut steps = Vec::new();
        if rest.is_empty() {
            return Err("the path is empty".to_owned());
        }
        // Whether a key must come: at the beginning and behind a dot.
        let mut wants_key = !rest.starts_with('[');
        while !rest.is_empty() || wants_key {
            let at = text.len() - rest.len();
            let wrong = |what: &str| format!("{what} at character {}", at + 1);
            if steps.len() == MAX_STEPS {
                return Err(format!("more than {MAX_STEPS} steps"));
            }
            let (step, after) = if wants_key {
                key(rest).ok_or_else(|| wrong("expected a key"))?
            } else {
                let inner = rest.strip_prefix('[');
                let inner = inner.ok_or_else(|| wrong("expected . or ["))?;
                let read = bracket(inner);
                read.ok_or_else(|| wrong("expected [0], [+], [\"key\"] or [key=value]"))?
            };
            steps.push(step);
            (rest, wants_key) = match after.strip_prefix('.') {
                Some(after) => (after, true),
                None => (after, false),
            };
        }
        Ok(Self(steps))
    }
}

/// A key, bare or in quotes.
fn key(text: &str) -> Option<(Step, &str)> {
    if text.starts_with(['"', '\'']) {
        let (key, rest) = quoted(text)?;
        return Some((Step::Key(key), rest));
    }
    let end = text.find(['.', '[']).unwrap_or(text.len());
    let (key, rest) = text.split_at(end);
    let bare = !key.is_empty() && !key.contains([']', '"', '\'']);
    bare.then(|| (Step::Key(key.to_owned()), rest))
}

/// What stands in brackets, behind the opening one.
fn bracket(text: &str) -> Option<(Step, &str)> {
    if let Some(rest) = text.strip_prefix("+]") {
        return Some((Step::Append, rest));
    }
    if text.starts_with(['"', '\'']) {
        let (key, rest) = quoted(text)?;
        if let Some(rest) = rest.strip_prefix(']') {
            return Some((Step::Key(key), rest));
        }
        return select(key, rest.strip_prefix('=')?);
    }
    let end = text.find([']', '='])?;
    let (word, rest) = text.split_at(end);
    if let Some(rest) = rest.strip_prefix('=') {
        return (!word.is_empty())
            .then_some(())
            .and_then(|()| select(word.to_owned(), rest));
    }
    let digits = !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    let index = digits.then(|| word.parse().ok())??;
    Some((Step::Index(index), &rest[1..]))
}

/// The value of a selection, behind the equals sign.
fn select(key: String, text: &str) -> Option<(Step, &str)> {
    if text.starts_with(['"', '\'']) {
        let (value, rest) = quoted(text)?;
        return Some((Step::Select(key, value), rest.strip_prefix(']')?));
    }
    let (value, rest) = text.split_once(']')?;
    Some((Step::Select(key, value.to_owned()), rest))
}

/// Text in quotes; a backslash takes the next character as it is.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut chars = text.char_indices();
    let (_, quote) = chars.next()?;
    let mut out = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => out.push(chars.next()?.1),
            c if c == quote => return Some((out, &text[at + c.len_utf8()..])),
            c => out.push(c),
        }
    }
    None
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Key(key) if key.contains(['.', '[', ']', '"', '\'']) || key.is_empty() => {
                write!(f, "[{key:?}]")
            }
            Step::Key(key) => write!(f, ".{key}"),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Select(key, value) => write!(f, "[{key}={value}]"),
            Step::Append => f.write_str("[+]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn steps(text: &str) -> Vec<Step> {
        Path::parse(text).unwrap().0
    }

    fn key(text: &str) -> Step {
        Step::Key(text.to_owned())
    }

    fn select(key: &str, value: &str) -> Step {
        Step::Select(key.to_owned(), value.to_owned())
    }

    #[test]
    fn the_grammar() {
        assert_eq!(
            steps(".a.b[0].c"),
            [key("a"), key("b"), Step::Index(0), key("c")]
        );
        assert_eq!(steps("a-b/c"), [key("a-b/c")]);
        assert_eq!(
            steps(".metadata.annotations[\"example.com/x\"]"),
            [key("metadata"), key("annotations"), key("example.com/x")]
        );
        assert_eq!(
            steps("x.'a.b'[\"c\\\"]\"][1][2]"),
            [
                key("x"),
                key("a.b"),
                key("c\"]"),
                Step::Index(1),
                Step::Index(2)
            ]
        );
        assert_eq!(
            steps("containers[name=web].args[+]"),
            [
                key("containers"),
                select("name", "web"),
                key("args"),
                Step::Append
            ]
        );
        assert_eq!(steps("[\"a\"][b=\"c]\"]"), [key("a"), select("b", "c]")]);
        assert_eq!(steps("a[x=]"), [key("a"), select("x", "")]);
    }

    #[test]
    fn what_is_no_path() {
        for text in [
            "",
            ".",
            "a.",
            "a..b",
            "..a",
            "a[",
            "a[]",
            "a[x]",
            "a[-1]",
            "a[0",
            "a[0]b",
            "a[\"x]",
            "a]",
            "a[=x]",
            "a[99999999999999999999]",
            "a.[0]",
            "\"a",
            "a[\"x\"y]",
        ] {
            assert!(Path::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(
            Path::parse("a.b[x]").unwrap_err(),
            "expected [0], [+], [\"key\"] or [key=value] at character 4"
        );
        assert!(Path::parse(&".a".repeat(65)).is_err());
    }

    proptest! {
        #[test]
        fn parsing_ends(text in "[a.=+0\"'\\[\\]\\\\é]{0,20}") {
            let _ = Path::parse(&text);
        }
    }
}
