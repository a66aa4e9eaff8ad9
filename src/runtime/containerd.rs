//! The real containerd.

use super::Connection;

/// containerd manager of one instance.
#[derive(Debug)]
pub struct Containerd {
    /// The connection in use.
    pub connection: Connection,
}
