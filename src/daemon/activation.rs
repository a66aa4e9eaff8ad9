//! The listening socket that a service manager passed (sd_listen_fds(3)).

#![allow(unsafe_code)] // A descriptor number has to become an owned descriptor.

use std::io;
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixListener;

/// The passed socket, if there is one.
///
/// # Errors
/// More than one descriptor, or one that is not a listening unix socket.
pub fn listener() -> io::Result<Option<UnixListener>> {
    let mut fds = sd_notify::listen_fds()?;
    let Some(fd) = fds.next() else {
        return Ok(None);
    };
    if fds.next().is_some() {
        return Err(io::Error::other("more than one socket was passed"));
    }
    // SAFETY: the service manager opened this descriptor for this very process
    // (LISTEN_PID was compared), nothing else here owns it, and this function
    // runs once, at start.
    let listener = unsafe { UnixListener::from_raw_fd(fd) };
    // Fails for anything that is not a unix socket.
    listener.local_addr()?;
    Ok(Some(listener))
}
