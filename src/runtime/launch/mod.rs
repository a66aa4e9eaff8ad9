//! Finds a containerd or brings one up.
//!
//! Which containerd holds an instance's containers is decided once and kept:
//! what was brought up before is brought up again, and what was found before is
//! waited for. Changing over in silence would hide every container there is.

mod bring_up;
mod inherit;
mod judge;
mod layout;
mod process;
mod role;
mod shut_down;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::containerd::snapshotters;
use super::{Connection, Error, Result};
use crate::model::Settings;
use layout::Layout;

pub use crate::sys::mounts::ensure_shared_dir;
pub use role::{ROLE, launcher_main};
pub use shut_down::shut_down;

/// Snapshotters in order of preference. overlayfs does not work on top of
/// another overlay; native copies and works everywhere.
const SNAPSHOTTERS: [&str; 2] = ["overlayfs", "native"];

/// Connects to the instance's containerd: the one it brought up before, else
/// the one on the configured socket if that can do the work, else a new one.
///
/// [`Error::Unreachable`] when there is none and none can be brought up.
pub async fn connect(settings: &Settings) -> Result<Connection> {
    let layout = Layout::new(settings);
    if exists(&layout.socket)? {
        match open_own(&layout).await {
            Ok(connection) => {
                bring_up::trim_log(&layout.log);
                return Ok(connection);
            }
            Err(error) if !dead(&layout.socket) => return Err(error),
            Err(_) => {}
        }
    }
    let why = if layout.root.is_dir() {
        "it is not running".to_owned()
    } else {
        let held = layout.holds_external(&settings.containerd_socket);
        match external(settings, &layout).await {
            Ok(connection) => {
                if !held {
                    layout.record_external(&settings.containerd_socket);
                }
                return Ok(connection);
            }
            Err(error) if held => return Err(error),
            Err(Error::Unreachable { cause, .. }) => cause,
            Err(error) => return Err(error),
        }
    };
    bring_up::bring_up(settings, &layout, &why).await
}

/// Where a containerd that the instance brings up itself listens.
pub fn managed_socket(settings: &Settings) -> PathBuf {
    Layout::new(settings).socket
}

/// The containerd on the configured socket, if it answers and can do the work.
async fn external(settings: &Settings, layout: &Layout) -> Result<Connection> {
    let socket = &settings.containerd_socket;
    if !exists(socket)? {
        return Err(unreachable(socket, "no such socket"));
    }
    let connection = open(socket).await?;
    let verdict = {
        let (settings, pins) = (settings.clone(), layout.pins.clone());
        tokio::task::spawn_blocking(move || judge::judge(&settings, &pins)).await
    };
    match verdict {
        Ok(Ok(())) => Ok(connection),
        Ok(Err(reason)) => {
            tracing::info!(socket = %socket.display(), reason, "this containerd cannot be used");
            Err(unreachable(socket, &reason))
        }
        Err(panic) => Err(unreachable(socket, &panic.to_string())),
    }
}

/// Whether a socket is there; a directory that may not be searched is an error,
/// because then nobody knows.
fn exists(socket: &Path) -> Result<bool> {
    match socket.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            Err(unreachable(socket, "permission denied"))
        }
        Err(_) => Ok(false),
    }
}

/// Whether nobody listens on a socket (any more).
fn dead(socket: &Path) -> bool {
    match std::os::unix::net::UnixStream::connect(socket) {
        Ok(_) => false,
        Err(e) => matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused),
    }
}

/// Connects to the containerd that the instance brought up.
async fn open_own(layout: &Layout) -> Result<Connection> {
    let mut connection = open(&layout.socket).await?;
    connection.runc_root = Some(layout.runc.clone());
    Ok(connection)
}

/// Connects and finds out what the server offers.
async fn open(socket: &Path) -> Result<Connection> {
    let mut connection = Connection::lazy(socket, SNAPSHOTTERS[0]);
    connection.version().await?;
    let offered = snapshotters(&connection).await?;
    let chosen = SNAPSHOTTERS
        .iter()
        .find(|s| offered.iter().any(|o| o == *s));
    match chosen {
        Some(snapshotter) => connection.snapshotter = (*snapshotter).to_owned(),
        None => {
            return Err(unreachable(
                socket,
                &format!(
                    "it offers none of the snapshotters {}",
                    SNAPSHOTTERS.join(", ")
                ),
            ));
        }
    }
    Ok(connection)
}

fn unreachable(socket: &Path, cause: &str) -> Error {
    Error::Unreachable {
        socket: socket.display().to_string(),
        cause: cause.to_owned(),
    }
}
