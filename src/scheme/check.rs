//! Checks of values that several kinds and versions share.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::Error;
use crate::api::Problem;
use crate::model::{Labels, Name};

/// Result of an enumeration lookup: outside word and inside value.
pub(super) type Words<T> = [(&'static str, T)];

/// Collects the problems of one document.
#[derive(Debug, Default)]
pub(super) struct Check {
    problems: Vec<Problem>,
}

impl Check {
    /// Notes a problem.
    pub(super) fn bad(
        &mut self,
        path: impl Into<String>,
        reason: &'static str,
        message: impl Into<String>,
    ) -> &mut Problem {
        self.problems.push(Problem::new(path, reason, message));
        let last = self.problems.len() - 1;
        &mut self.problems[last]
    }

    /// The value if there was no problem.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, Error> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(Error {
                problems: self.problems,
            }),
        }
    }

    /// A name that must be there.
    pub(super) fn name(&mut self, path: &str, text: &str) -> Option<Name> {
        if text.is_empty() {
            self.bad(path, "MissingField", "is required").suggestion = format!(
                "add the field {:?}",
                path.rsplit('.').next().unwrap_or(path)
            );
            return None;
        }
        match Name::from_str(text) {
            Ok(name) => Some(name),
            Err(error) => {
                let problem = self.bad(path, "BadName", error.to_string());
                let fixed = repaired(text);
                if Name::from_str(&fixed).is_ok() {
                    problem.suggestion = format!("{fixed:?} would be a name");
                }
                None
            }
        }
    }

    /// A word of a fixed set; empty means the default.
    pub(super) fn word<T: Copy + Default>(
        &mut self,
        path: &str,
        text: &str,
        words: &Words<T>,
    ) -> T {
        if text.is_empty() {
            return T::default();
        }
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return *value;
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let list = known.join(", ");
        let problem = self.bad(path, "BadValue", format!("{text:?} is not one of: {list}"));
        if let Some(word) = alias(text, &known).or_else(|| crate::api::closest(text, &known)) {
            problem.suggestion = format!("did you mean {word:?}?");
        }
        T::default()
    }

    /// An absolute path without `..` and NUL. Empty counts as missing.
    pub(super) fn absolute(&mut self, path: &str, text: &str) -> bool {
        if text.is_empty() {
            self.bad(path, "MissingField", "is required");
        } else if text.contains('\0') {
            self.bad(path, "BadPath", "contains a NUL byte");
        } else if !text.starts_with('/') {
            self.bad(path, "BadPath", format!("{text:?} is not an absolute path"))
                .suggestion = "start it with \"/\"".to_owned();
        } else if text.split('/').any(|part| part == "..") {
            self.bad(path, "BadPath", format!("{text:?} contains \"..\""))
                .suggestion = "write the path it leads to".to_owned();
        } else if text.len() > 4095 {
            // PATH_MAX, limits.h, with its NUL.
            self.bad(path, "BadPath", "is longer than 4095 bytes");
        } else {
            return true;
        }
        false
    }

    /// Text that is handed to the kernel.
    pub(super) fn no_nul(&mut self, path: &str, text: &str) {
        if text.contains('\0') {
            self.bad(path, "BadValue", "contains a NUL byte");
        }
    }

    /// A whole number within bounds.
    pub(super) fn range(&mut self, path: &str, value: i64, min: i64, max: i64) -> bool {
        let ok = (min..=max).contains(&value);
        if !ok {
            self.bad(
                path,
                "OutOfRange",
                format!("{value} is not between {min} and {max}"),
            );
        }
        ok
    }

    /// Annotations: any text, not too much of it.
    pub(super) fn annotations(&mut self, path: &str, annotations: &Labels) {
        let notes: usize = annotations.iter().map(|(k, v)| k.len() + v.len()).sum();
        if notes > MAX_ANNOTATIONS {
            self.bad(
                path,
                "OutOfRange",
                format!("hold {notes} bytes, at most {MAX_ANNOTATIONS} are allowed"),
            );
        }
    }

    /// Labels: keys that selectors can express, short enough for containerd.
    pub(super) fn labels(&mut self, path: &str, labels: &Labels) {
        for (key, value) in labels {
            let at = format!("{path}.{key}");
            let odd = |c: char| c.is_whitespace() || c.is_control() || "=!,".contains(c);
            if key.is_empty() || key.contains(odd) {
                self.bad(
                    path,
                    "BadLabel",
                    format!("label key {key:?} is not allowed"),
                )
                .suggestion = "a key has no spaces and none of the characters = ! ,".to_owned();
            } else if value.chars().any(char::is_control) {
                self.bad(at, "BadLabel", "label value contains a control character");
            } else if key.len() + value.len() > MAX_LABEL {
                self.bad(
                    at,
                    "BadLabel",
                    format!("label is longer than {MAX_LABEL} bytes (key and value)"),
                );
            }
        }
    }
}

/// Checks labels and annotations that did not come with a document.
///
/// # Errors
/// `BadLabel` and `OutOfRange` for what no document may hold either.
pub fn check_marks(labels: &Labels, annotations: &Labels) -> Result<(), Error> {
    let mut check = Check::default();
    check.labels("metadata.labels", labels);
    check.annotations("metadata.annotations", annotations);
    check.finish(Some(()))
}

/// Largest text that annotations may hold in all, in bytes.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// containerd's limit for key and value of a label together (labels/validate.go).
const MAX_LABEL: usize = 4096;

/// A name made of a string that is none.
fn repaired(text: &str) -> String {
    let lower: String = text
        .trim()
        .chars()
        .map(|c| match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9' | '-') => c,
            _ => '-',
        })
        .take(63)
        .collect();
    lower.trim_matches('-').to_owned()
}

/// Words of other tools for the same thing.
fn alias<'a>(text: &str, known: &[&'a str]) -> Option<&'a str> {
    let words = BTreeMap::from([
        ("ifnotpresent", "missing"),
        ("no", "never"),
        ("onfailure", "on-failure"),
        ("unless-stopped", "always"),
    ]);
    let word = words.get(text.to_ascii_lowercase().as_str())?;
    known.iter().find(|known| *known == word).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_name_is_repaired_in_the_suggestion() {
        let mut check = Check::default();
        assert_eq!(check.name("metadata.name", "My_Web"), None);
        assert!(check.problems[0].suggestion.contains("\"my-web\""));
    }

    #[test]
    fn words_of_other_tools_are_understood() {
        let mut check = Check::default();
        check.word(
            "p",
            "IfNotPresent",
            &[("always", 1), ("missing", 2), ("never", 3)],
        );
        check.word("p", "Alway", &[("always", 1), ("missing", 2)]);
        check.word("p", "zzz", &[("always", 1), ("missing", 2)]);
        let found: Vec<&str> = check
            .problems
            .iter()
            .map(|p| p.suggestion.as_str())
            .collect();
        assert_eq!(
            found,
            ["did you mean \"missing\"?", "did you mean \"always\"?", ""]
        );
    }

    #[test]
    fn paths() {
        for (text, good) in [
            ("/a/b", true),
            ("/", true),
            ("a", false),
            ("", false),
            ("/a/../b", false),
            ("/a\0", false),
            ("/a..b", true),
        ] {
            assert_eq!(Check::default().absolute("p", text), good, "{text:?}");
        }
    }
}
