//! What is wrong with the values of a document, field by field.

use std::fmt;

use crate::api::Problem;

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
            problems: vec![Problem::new(path, reason, message)],
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
