//! Releases: intent (Recipe), artifact (Preparation), activation (Serving) and
//! the atomic rollout of several (Menu), on top of the runtime.

pub mod artifact;
pub mod canonical;
pub mod failure;
pub mod patch;
pub mod render;
pub mod source;
pub mod target;

pub use failure::{Failure, Reason};
