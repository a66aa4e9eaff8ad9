//! Descriptors the log writer is born with.
#![allow(unsafe_code)] // adopting a descriptor by number has no safe form

use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

/// Adopts an inherited descriptor; `None` when that number is not open. Each
/// number may be taken once, before the process opens anything of its own.
pub(super) fn take(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: the borrow does not outlive this call, which only asks whether the
    // number is open (EBADF is an answer, not a fault).
    let open = rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) }).is_ok();
    // SAFETY: it is open, was inherited (nothing in this process owns it) and is
    // taken once.
    open.then(|| unsafe { OwnedFd::from_raw_fd(number) })
}
