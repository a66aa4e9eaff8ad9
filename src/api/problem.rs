//! What is wrong in a document, where, and how it is shown.

use std::fmt;

use super::yaml::Position;
use super::{Error, Result};

/// Problems shown of one input.
const SHOWN: usize = 20;
/// Longest sentence about one problem, in characters; values are part of it.
const SENTENCE: usize = 400;
/// Longest part of a source line that is shown, in characters.
const WIDTH: usize = 100;

/// One wrong field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path in the document, for example `spec.containers[1].restartPolicy`;
    /// empty when the message says where.
    pub path: String,
    /// Stable CamelCase token, for example `BadName`.
    pub reason: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to write instead; empty when there is nothing to say.
    pub suggestion: String,
}

impl Problem {
    /// A problem without a suggestion.
    pub fn new(path: impl Into<String>, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            reason,
            message: message.into(),
            suggestion: String::new(),
        }
    }

    /// Adds what to write instead.
    #[must_use]
    pub fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = suggestion.into();
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if !self.suggestion.is_empty() {
            write!(f, "; {}", self.suggestion)?;
        }
        Ok(())
    }
}

/// A problem with its place in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// What is wrong.
    pub problem: Problem,
    /// None when it concerns the whole input.
    pub at: Option<Position>,
    /// `document 2 (Cell "web")`; empty when there is nothing to say.
    pub document: String,
}

impl Located {
    /// One line for people: document, place and problem, without the excerpt.
    pub fn line(&self, source: &str) -> String {
        let mut out = String::new();
        if !self.document.is_empty() {
            out.push_str(&tame(&self.document, WIDTH));
            out.push_str(" at ");
        }
        out.push_str(source);
        if let Some(at) = self.at {
            out.push_str(&format!(":{}:{}", at.line, at.column));
        }
        out.push_str(": ");
        out.push_str(&tame(&self.problem.to_string(), SENTENCE));
        out
    }
}

/// One error that lists every problem of an input, with the source lines; the
/// reason is that of the first.
pub(super) fn report<T>(source: &str, text: &str, problems: &[Located]) -> Result<T> {
    let mut out = String::new();
    for (i, located) in problems.iter().take(SHOWN).enumerate() {
        let Located {
            problem,
            at,
            document,
        } = located;
        if i > 0 {
            out.push('\n');
        }
        if !document.is_empty() {
            out.push_str(&tame(document, WIDTH));
            out.push_str(" at ");
        }
        let problem = tame(&problem.to_string(), SENTENCE);
        match at {
            Some(at) => {
                out.push_str(&format!("{source}:{}:{}: {problem}", at.line, at.column));
                if !is_private(document, text) {
                    excerpt(&mut out, text, *at);
                }
            }
            None => out.push_str(&format!("{source}: {problem}")),
        }
    }
    if problems.len() > SHOWN {
        out.push_str(&format!("\n… and {} more", problems.len() - SHOWN));
    }
    let reason = problems.first().map_or("Invalid", |l| l.problem.reason);
    Err(Error::invalid(reason, out))
}

/// What came from the input goes to terminals and logs: short, without controls.
fn tame(text: &str, most: usize) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    let mut out: String = text.chars().take(most).map(visible).collect();
    if text.chars().nth(most).is_some() {
        out.push('…');
    }
    out
}

/// Whether lines of a document may hold the value of a Secret. A document that
/// could not be read may be one when the word is anywhere in the text.
fn is_private(document: &str, text: &str) -> bool {
    let known = document.contains('"') || document.contains('(');
    match known {
        true => document.starts_with("Secret") || document.contains("(Secret"),
        false => text.contains("Secret"),
    }
}

/// The source line with a mark below the place.
fn excerpt(out: &mut String, text: &str, at: Position) {
    let Some(line) = text.lines().nth(at.line.saturating_sub(1)) else {
        return;
    };
    let column = at.column.saturating_sub(1);
    // Errors are logged; a password must not be.
    let secret = line.to_ascii_lowercase().contains("password");
    if line.trim().is_empty() || secret {
        return;
    }
    // Long lines (JSON on one line) are shown around the place.
    let skip = column.saturating_sub(WIDTH / 2);
    let skip = if line.chars().count() > WIDTH {
        skip
    } else {
        0
    };
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    let shown: String = line.chars().skip(skip).take(WIDTH).map(visible).collect();
    let word = line
        .chars()
        .skip(column)
        .take_while(|c| !c.is_whitespace() && !":,]}".contains(*c))
        .count()
        .clamp(1, WIDTH / 2);
    let pad = " ".repeat(column - skip);
    let marks = "^".repeat(word);
    out.push_str(&format!("\n{:>5} | {shown}\n      | {pad}{marks}", at.line));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stands_below_the_word() {
        let mut out = String::new();
        excerpt(
            &mut out,
            "a: b\n  ünit: wrong\n",
            Position { line: 2, column: 9 },
        );
        assert_eq!(out, "\n    2 |   ünit: wrong\n      |         ^^^^^");
    }

    #[test]
    fn lines_with_passwords_are_not_shown() {
        let mut out = String::new();
        let text = "{username: u, password: hush, x: y}";
        excerpt(
            &mut out,
            text,
            Position {
                line: 1,
                column: 31,
            },
        );
        assert_eq!(out, "");
    }

    #[test]
    fn lines_of_secrets_are_not_shown() {
        let text = "kind: Secret\nspec:\n  dta: hush\n";
        let at = Some(Position { line: 3, column: 3 });
        for document in [
            "Secret \"s\"",
            "document 2 (Secret \"s\")",
            "Secret",
            "",
            "document 3",
        ] {
            let located = Located {
                problem: Problem::new("spec", "UnknownField", "unknown field \"dta\""),
                at,
                document: document.to_owned(),
            };
            let error = report::<()>("f", text, &[located]).unwrap_err();
            assert!(!error.message.contains("hush"), "{error}");
            assert!(error.message.contains("f:3:3"), "{error}");
        }
        assert!(!is_private("Cell \"Secret\"", "kind: Secret"));
    }

    #[test]
    fn long_and_wild_values_are_tamed() {
        let problem = Problem::new(
            "kind",
            "UnknownKind",
            format!("\u{1b}[31m{}", "x".repeat(5000)),
        );
        let document = "Cell\n\n".repeat(500);
        let located = Located {
            problem,
            at: None,
            document,
        };
        let error = report::<()>("f", "", &[located]).unwrap_err();
        assert!(error.message.len() < 600, "{}", error.message.len());
        assert!(!error.message.contains(char::is_control));
    }

    #[test]
    fn long_lines_are_cropped() {
        let text = format!("{}wrong{}", "x".repeat(100_000), "y".repeat(100_000));
        let mut out = String::new();
        excerpt(
            &mut out,
            &text,
            Position {
                line: 1,
                column: 100_001,
            },
        );
        assert!(out.len() < 300, "{}", out.len());
        assert!(out.contains("xwrong"));
    }
}
