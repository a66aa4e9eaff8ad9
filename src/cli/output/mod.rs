//! What goes to standard output, all of it through one writer that ends quietly
//! when its reader went away.

pub mod images;
pub mod objects;
pub mod page;
mod releases;
pub mod table;

use std::cell::RefCell;
use std::fmt::Display;
use std::io::{self, BufWriter, Write};

use clap::ValueEnum;
use serde::Serialize;

use super::failure::Failure;
use crate::api::Error;

/// Forms of output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people.
    #[default]
    Table,
    /// A table with more columns.
    Wide,
    /// JSON, two spaces deep.
    Json,
    /// YAML.
    Yaml,
    /// `kind/name`, one a line.
    Name,
}

/// The writer.
pub struct Out(RefCell<BufWriter<Box<dyn Write>>>);

impl Out {
    /// Standard output.
    pub fn stdout() -> Self {
        Self::to(Box::new(io::stdout()))
    }

    /// Any writer.
    pub fn to(writer: Box<dyn Write>) -> Self {
        Self(RefCell::new(BufWriter::with_capacity(64 * 1024, writer)))
    }

    /// One line.
    ///
    /// # Errors
    /// [`Failure::ClosedPipe`] when nobody reads any more.
    pub fn line(&self, text: impl Display) -> Result<(), Failure> {
        Ok(writeln!(self.0.borrow_mut(), "{text}")?)
    }

    /// Bytes as they are, at once.
    ///
    /// # Errors
    /// As [`Out::line`].
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut to = self.0.borrow_mut();
        to.write_all(bytes)?;
        Ok(to.flush()?)
    }

    /// Bytes as they are, when there are enough of them.
    ///
    /// # Errors
    /// As [`Out::line`].
    pub fn buffer(&self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.0.borrow_mut().write_all(bytes)?)
    }

    /// What was buffered.
    ///
    /// # Errors
    /// As [`Out::line`].
    pub fn flush(&self) -> Result<(), Failure> {
        Ok(self.0.borrow_mut().flush()?)
    }

    /// A value as JSON or YAML. Other formats print nothing here.
    ///
    /// # Errors
    /// As [`Out::line`].
    pub fn structured<T: Serialize>(&self, format: Format, value: &T) -> Result<(), Failure> {
        match format {
            Format::Json => {
                let text = serde_json::to_string_pretty(value)
                    .map_err(|e| Error::failed("Output", format!("writing JSON: {e}")))?;
                self.line(text)
            }
            Format::Yaml => {
                let text = serde_saphyr::to_string(value)
                    .map_err(|e| Error::failed("Output", format!("writing YAML: {e}")))?;
                self.line(text.trim_end())
            }
            Format::Table | Format::Wide | Format::Name => Ok(()),
        }
    }
}

impl Format {
    /// Whether a program reads it.
    pub fn is_structured(self) -> bool {
        matches!(self, Format::Json | Format::Yaml)
    }
}
