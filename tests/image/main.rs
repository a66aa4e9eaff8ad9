//! Images against a real containerd, which the tests start and end. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod build;
mod host;
mod keep;
mod load;
mod pull;
mod registry;
