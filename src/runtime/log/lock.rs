//! A mark on a log file that says a writer has it open: an open file description
//! lock (fcntl(2), `F_OFD_SETLK`). It goes with the writer, however that ends.

use std::fs::File;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// A write lock on the whole file.
fn whole() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0, // required to be 0 for this kind of lock
    }
}

/// Marks a file as being written. Not getting the mark (an older writer of the
/// same log still drains) is no reason not to write.
pub(super) fn mark(file: &File) {
    let _ = fcntl(file, FcntlArg::F_OFD_SETLK(&whole()));
}

/// Whether a writer has marked the file. Asks without taking the lock.
pub(super) fn marked(file: &File) -> Result<bool, Errno> {
    let mut lock = whole();
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_seen_from_outside_and_goes_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let writer = File::create(&path).unwrap();
        let reader = File::open(&path).unwrap();
        assert!(!marked(&reader).unwrap());
        mark(&writer);
        assert!(marked(&reader).unwrap());
        drop(writer);
        assert!(!marked(&reader).unwrap());
    }
}
