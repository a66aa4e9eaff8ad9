//! Small wrappers of kernel facilities that several managers need. They know
//! nothing of kukeon's objects.

pub mod beneath;
pub mod failpoint;
pub mod mounts;
pub mod peer;
pub mod process;
pub mod program;
pub mod writeback;
