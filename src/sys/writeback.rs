//! Writing to disk that begins before anybody waits for it (sync_file_range(2)).

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::libc;

/// Has the kernel begin to write a part of a file, `length` bytes from `from`,
/// so that a sync has less left to do. Nothing is promised by it: only a sync
/// makes content durable and tells of a disk that failed.
pub fn begin(file: &File, from: u64, length: u64) {
    let (Ok(from), Ok(length)) = (from.try_into(), length.try_into()) else {
        return;
    };
    #[allow(unsafe_code)] // sync_file_range(2) has no safe wrapper.
    // SAFETY: it takes numbers only, and the descriptor is open for the call.
    let _ = unsafe {
        libc::sync_file_range(file.as_raw_fd(), from, length, libc::SYNC_FILE_RANGE_WRITE)
    };
}
