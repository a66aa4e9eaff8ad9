//! The OCI registry, and the client of others.

pub mod client;
