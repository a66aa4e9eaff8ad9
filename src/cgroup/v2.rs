//! The real cgroup v2 tree.

/// The cgroup v2 hierarchy of this host.
#[derive(Debug)]
pub struct V2 {}
