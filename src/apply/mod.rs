//! What applying means, without doing it: documents in order of dependency, what
//! a manifest leaves out, and the table of fields and actions.

mod container;
mod diff;
mod inherit;
mod marks;
mod read;

pub use container::{diff_container, spec_hash};
pub use diff::{diff_cell, diff_realm, diff_secret, diff_space, diff_stack, diff_volume};
pub use inherit::inherit;
pub use marks::mark;
pub use read::{Source, Wanted, order, read, read_all, read_in};

use crate::model::Name;

/// What a changed field asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Nothing on the host; it is only recorded.
    None,
    /// Takes effect on what runs.
    Live,
    /// That container is made anew.
    Restart,
    /// The cell's sandbox and all its containers are made anew.
    Recreate,
    /// It cannot change; the apply is refused.
    Immutable,
}

/// One difference between what is and what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Field, for example `spec.containers[web].image`; containers go by id.
    pub path: String,
    /// What it asks for.
    pub action: Action,
    /// For people: path and what changed. Holds no secret.
    pub text: String,
    /// The container it concerns, if it concerns one.
    pub container: Option<Name>,
}
