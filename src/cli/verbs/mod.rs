//! The verbs, one file a group.

pub mod apply;
pub mod get;
pub mod version;
