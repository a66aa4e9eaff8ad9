//! From a Recipe's inputs to canonical bytes (delivery spec, sections 3 to 5).

pub mod identity;
