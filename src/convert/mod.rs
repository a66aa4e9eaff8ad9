//! Between our documents and those of other tools: out to Kubernetes, in from
//! Kubernetes and compose files. Pure: texts and objects in, texts and objects
//! out; what the tables in `docs/convert.md` say is decided here.
//!
//! What one side says and the other cannot is a [`Loss`] that names document,
//! field and remedy. Losses are errors unless the caller asks for what is left.

pub mod compose;
pub mod kubernetes;
mod loss;
mod ours;
mod quantity;
mod walk;

pub use kubernetes::to_kubernetes;
pub use loss::{Error, Loss};
pub use ours::Scope;

/// Result of a conversion.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One input: its name in messages, and its bytes.
pub type Source<'a> = (&'a str, &'a [u8]);

/// What a conversion came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// A stream of YAML documents, canonical: the same input gives the same bytes.
    pub text: String,
    /// What is missing in it; empty unless losses were allowed.
    pub losses: Vec<Loss>,
    /// What to know of it, for people; nothing is missing.
    pub notes: Vec<String>,
}

/// The stream of documents, each after a `---`.
fn stream<T: serde::Serialize>(documents: &[T]) -> Result<String> {
    let mut text = String::new();
    for document in documents {
        text.push_str("---\n");
        text.push_str(&crate::api::yaml::to_string(document)?);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(text)
}
