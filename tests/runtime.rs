//! The containerd manager against a real containerd that it brings up itself.
//! Needs root, containerd, runc and a static busybox; each test has an instance
//! of its own and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "runtime/container.rs"]
mod container;
#[path = "runtime/exec.rs"]
mod exec;
#[path = "runtime/instance.rs"]
mod instance;
#[path = "runtime/launch.rs"]
mod launch;
