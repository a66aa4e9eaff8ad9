//! The network manager against the real kernel, plugins and nft.
//!
//! Each test has a "host" of its own: a network and a mount namespace with an
//! empty `/run` and its own `/sys`. So links, rules, mounts and files can be
//! counted exactly, and tests neither see each other nor the machine's network.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod chains;
mod generated;
mod host;
mod measure;
mod repair;
mod sandboxes;
