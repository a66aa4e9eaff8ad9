//! What is wrong with the values of a document, field by field.

use std::fmt;

/// One wrong field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path in the document, for example `spec.containers[1].restartPolicy`.
    pub path: String,
    /// Stable CamelCase token, for example `BadName`.
    pub reason: &'static str,
    /// What is wrong, without the path.
    pub message: String,
    /// What to write instead; empty when there is nothing to say.
    pub suggestion: String,
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

/// A document that cannot be translated: every problem found in it, at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// In the order of the fields.
    pub problems: Vec<Problem>,
}

impl Error {
    /// An error with one problem.
    pub fn new(path: impl Into<String>, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            problems: vec![Problem {
                path: path.into(),
                reason,
                message: message.into(),
                suggestion: String::new(),
            }],
        }
    }

    /// Reason of the first problem.
    pub fn reason(&self) -> &'static str {
        self.problems.first().map_or("Invalid", |p| p.reason)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl From<Error> for crate::api::Error {
    fn from(error: Error) -> Self {
        crate::api::Error::invalid(error.reason(), error.to_string())
    }
}
