//! What a conversion could not do, and how it is told.

use crate::api::yaml::Position;
use crate::api::{Located, Problem};

/// Something that one side says and the other cannot. Without leave it is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Document and place, when they are known, and what is lost.
    pub located: Located,
    /// Name of the input it stands in; empty for documents that came without one.
    pub source: String,
}

impl Loss {
    /// A loss of a field of a document without a place in a text.
    pub(super) fn of(document: &str, problem: Problem) -> Self {
        Self {
            located: Located {
                problem,
                at: None,
                document: document.to_owned(),
            },
            source: String::new(),
        }
    }

    /// One line for people.
    pub fn line(&self) -> String {
        if self.source.is_empty() {
            let Located {
                problem, document, ..
            } = &self.located;
            format!("{document}: {problem}")
        } else {
            self.located.line(&self.source)
        }
    }
}

/// A field without an equivalent: its path, what it is, and what to do.
pub(super) fn lost(
    path: impl Into<String>,
    message: impl Into<String>,
    remedy: impl Into<String>,
) -> Problem {
    Problem::new(path, "NoEquivalent", message).suggest(remedy)
}

/// Why nothing was converted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input is wrong, with every problem in the message.
    #[error(transparent)]
    Input(#[from] crate::api::Error),
    /// Something has no equivalent; at least one entry.
    #[error("{}", lines(.0))]
    Lost(Vec<Loss>),
}

fn lines(losses: &[Loss]) -> String {
    let lines: Vec<String> = losses.iter().map(Loss::line).collect();
    lines.join("\n")
}

impl From<Error> for crate::api::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Input(error) => error,
            Error::Lost(losses) => crate::api::Error::invalid("NoEquivalent", lines(&losses)),
        }
    }
}

/// Notes problems of one document of a stream while it is read.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Title of the document that is read.
    pub document: String,
    /// Wrong input.
    pub errors: Vec<Located>,
    /// Right input that cannot be expressed.
    pub losses: Vec<Located>,
}

impl Notes {
    pub(super) fn error(
        &mut self,
        path: impl Into<String>,
        at: Position,
        reason: &'static str,
        message: impl Into<String>,
    ) -> &mut Problem {
        self.errors.push(Located {
            problem: Problem::new(path, reason, message),
            at: Some(at),
            document: self.document.clone(),
        });
        let last = self.errors.len() - 1;
        &mut self.errors[last].problem
    }

    pub(super) fn lost(
        &mut self,
        path: impl Into<String>,
        at: Position,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.losses.push(Located {
            problem: lost(path, message, remedy),
            at: Some(at),
            document: self.document.clone(),
        });
    }
}
