//! The groups of who is at the other end of a socket (SO_PEERGROUPS; Linux 4.13,
//! `include/uapi/asm-generic/socket.h`).

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;

/// Enough for nearly everybody; the kernel says how many there are if it is not.
const USUAL: usize = 32;

/// Supplementary groups that the other end had when it connected. What
/// `/proc/PID/status` says is about whatever process has that number now.
///
/// # Errors
/// It is no connected Unix socket, or the kernel is too old.
pub fn groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups = vec![0; USUAL];
    loop {
        match ask(&socket, &mut groups) {
            Ok(count) => {
                groups.truncate(count);
                return Ok(groups);
            }
            Err((error, count)) if error.raw_os_error() == Some(libc::ERANGE) => {
                // They do not change any more; one turn is enough.
                if count <= groups.len() {
                    return Err(error);
                }
                groups.resize(count, 0);
            }
            Err((error, _)) => return Err(error),
        }
    }
}

/// Fills `groups`; gives how many there are, also where they do not fit.
#[allow(unsafe_code)] // getsockopt(2) has no safe wrapper for this option.
fn ask(socket: &impl AsFd, groups: &mut [libc::gid_t]) -> Result<usize, (io::Error, usize)> {
    const GROUP: usize = size_of::<libc::gid_t>();
    let room = size_of_val(groups);
    let mut length = libc::socklen_t::try_from(room).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: the kernel writes at most `length` bytes, which are not more than
    // `groups` has, and gid_t is a plain integer; then it writes `length`.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let error = io::Error::last_os_error();
    let count = length as usize / GROUP;
    match done {
        0 => Ok(count.min(groups.len())),
        _ => Err((error, count)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn it_is_the_groups_of_the_other_end() {
        let (one, _other) = UnixStream::pair().unwrap();
        let own: Vec<u32> = nix::unistd::getgroups()
            .unwrap()
            .into_iter()
            .map(nix::unistd::Gid::as_raw)
            .collect();
        assert_eq!(groups(&one).unwrap(), own);
        // Few or many: what does not fit says how much room it needs.
        match ask(&one, &mut []) {
            Ok(count) => assert_eq!((count, own.len()), (0, 0)),
            Err((error, count)) => {
                assert_eq!(error.raw_os_error(), Some(libc::ERANGE));
                assert_eq!(count, own.len());
            }
        }
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(groups(&file).is_err());
    }
}
