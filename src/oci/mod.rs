//! What every part that speaks of OCI content agrees on: digests, and the
//! grammars of repositories, tags and digests. No I/O.

pub mod digest;
pub mod grammar;
pub mod media;
pub mod signature;

pub use digest::{Algorithm, Digest, Hasher};
