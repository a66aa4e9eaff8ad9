//! Where the input of a Recipe comes from, as files in memory with a digest
//! (delivery spec, section 3).

pub mod archive;
pub mod local;
pub mod oci;
pub mod pack;
mod tree;

use std::collections::BTreeMap;

pub(crate) use tree::clean;
pub use tree::{File, MAX_BYTES, MAX_ENTRIES, Tree};

/// The files of a source, and what they are known by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// Content digest: that of the OCI manifest, or of the tree.
    pub digest: String,
    /// Annotations of the OCI manifest; empty for paths.
    pub annotations: BTreeMap<String, String>,
    /// The files.
    pub tree: Tree,
}

impl Content {
    /// Files of this machine, known by the digest of the tree.
    pub fn of_tree(tree: Tree) -> Self {
        Self {
            digest: tree.digest(),
            annotations: BTreeMap::new(),
            tree,
        }
    }
}
