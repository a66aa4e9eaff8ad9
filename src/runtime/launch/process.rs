//! Identity of processes: never signal one by a bare number.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Process that listens on a unix socket (unix(7), SO_PEERCRED). `None` when
/// nobody does, or when it is in a PID namespace that ours does not contain.
pub fn listener(socket: &Path) -> Option<u32> {
    let stream = UnixStream::connect(socket).ok()?;
    let credentials = getsockopt(&stream, PeerCredentials).ok()?;
    u32::try_from(credentials.pid()).ok().filter(|pid| *pid > 0)
}

/// Arguments of a process; empty when it is gone.
pub fn arguments(pid: u32) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes.split(|b| *b == 0).map(<[u8]>::to_vec).collect()
}

/// Whether a process has `value` right after `flag` among its arguments.
pub fn has_argument(pid: u32, flag: &str, value: &OsStr) -> bool {
    arguments(pid)
        .windows(2)
        .any(|pair| pair[0] == flag.as_bytes() && pair[1] == value.as_bytes())
}

/// A process that cannot be mistaken for a later one of the same number.
#[derive(Debug)]
pub struct Held(OwnedFd);

impl Held {
    /// Takes hold of `pid` if, with the hold taken, `is_it` still says so.
    pub fn take(pid: u32, is_it: impl Fn(u32) -> bool) -> Option<Self> {
        let raw = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let fd = pidfd_open(raw, PidfdFlags::empty()).ok()?;
        is_it(pid).then_some(Self(fd))
    }

    /// SIGTERM, up to `grace`, then SIGKILL. Returns whether it has ended.
    pub fn end(&self, grace: Duration) -> io::Result<bool> {
        self.signal(Signal::TERM)?;
        if self.wait(grace)? {
            return Ok(true);
        }
        self.signal(Signal::KILL)?;
        self.wait(Duration::from_secs(10))
    }

    /// Sends a signal; to a process that has ended it is no error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.0, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it has ended (pidfd_open(2): readable then).
    fn wait(&self, limit: Duration) -> io::Result<bool> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    #[test]
    fn the_listener_of_a_socket_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        assert_eq!(listener(&path), None);
        let _l = UnixListener::bind(&path).unwrap();
        assert_eq!(listener(&path), Some(std::process::id()));
    }

    #[test]
    fn ends_a_process_it_has_identified_and_no_other() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        assert!(Held::take(pid, |_| false).is_none());
        let held = Held::take(pid, |_| true).unwrap();
        assert!(held.end(Duration::from_secs(5)).unwrap());
        assert!(!child.wait().unwrap().success());
        held.signal(Signal::TERM).unwrap();
    }

    #[test]
    fn arguments_are_matched_as_pairs() {
        let mut child = Command::new("sleep").args(["30", "31"]).spawn().unwrap();
        // The child is between fork and exec for a moment.
        for _ in 0..500 {
            if arguments(child.id()).first().is_some_and(|a| a == b"sleep") {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(has_argument(child.id(), "30", OsStr::new("31")));
        assert!(!has_argument(child.id(), "31", OsStr::new("30")));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
