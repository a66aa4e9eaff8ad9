//! The real network: kernel namespaces and CNI plugins.

/// Network manager of one instance.
#[derive(Debug)]
pub struct Cni {}
