//! Where a Preparation is activated.

pub mod argocd;
