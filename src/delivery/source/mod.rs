//! Where the input of a Recipe comes from, as files in memory with a digest
//! (delivery spec, section 3).

pub mod archive;
mod tree;

pub use tree::{File, MAX_BYTES, MAX_ENTRIES, Tree};
