//! Releases: intent (Recipe), artifact (Preparation), activation (Serving) and
//! the atomic rollout of several (Menu), on top of the runtime.

pub mod canonical;
pub mod failure;
pub mod target;

pub use failure::{Failure, Reason};
