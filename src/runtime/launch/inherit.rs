//! What a long-lived child must not inherit.
#![allow(unsafe_code)] // close_range(2) has no safe wrapper in the crates we use.

use nix::libc;

/// Marks every descriptor from 3 up as close-on-exec. Ours are so already; those
/// that our own parent left open (a script's lock, a pipe of a test) are not,
/// and a containerd that keeps them keeps their other end waiting.
pub fn close_others_on_exec() -> std::io::Result<()> {
    // SAFETY: takes three integers and touches no memory of ours. With this flag
    // no descriptor is closed now, so none that is in use becomes invalid.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3_u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}
