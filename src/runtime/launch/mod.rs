//! Finds a containerd or brings one up.
use super::{Connection, Result};
use crate::model::Settings;

/// Connects to the configured containerd.
pub async fn connect(settings: &Settings) -> Result<Connection> {
    Ok(Connection::lazy(&settings.containerd_socket, "overlayfs"))
}
