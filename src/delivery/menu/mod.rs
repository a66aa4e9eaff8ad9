//! Menus: several Recipes rolled out as one, in two phases.
//!
//! [`plan`] says what a run would do, [`engine`] which step comes next, both
//! without touching anything; [`run`] does the steps. A run is saved before
//! every step that changes something, so whoever finds it goes on from there.

mod control;
mod diffs;
mod engine;
mod held;
mod plan;
mod rehearse;
mod run;
mod servings;
#[cfg(test)]
mod tests;

pub use engine::{Health, Look, Step, next};
pub use plan::{Clash, Decision, Pointer, claims, decide};
pub use run::{Checked, ROLLBACK_FAILED, Refusal, Servings, abort, drive, retry};
