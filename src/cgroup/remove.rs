//! Ending everything in a cgroup and removing it.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::AtFlags;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::statistics::keyed;
use super::{Error, Result, files};

/// How long processes may take to go. One in an uninterruptible wait (a dead
/// network file system) never goes.
const PATIENCE: Duration = Duration::from_secs(10);
/// When processes were killed one by one: time until those left are killed.
const KILL_AGAIN: Duration = Duration::from_millis(100);
/// A cgroup whose last process has just gone may be busy for a moment.
const PAUSE: Duration = Duration::from_millis(5);

pub(super) fn remove(root: BorrowedFd<'_>, path: &str) -> Result<()> {
    remove_within(root, path, PATIENCE)
}

fn remove_within(root: BorrowedFd<'_>, path: &str, patience: Duration) -> Result<()> {
    let parts = files::parts(path)?;
    let Some((name, above)) = parts.split_last() else {
        return Err(Error::BadPath(
            path.to_owned(),
            "the mount itself cannot be removed".to_owned(),
        ));
    };
    let failed = |what: &'static str| move |e: Errno| Error::file(path, what, e);
    let parent = match files::dir(root, above) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(failed("open"))?,
    };
    let until = Instant::now() + patience;
    loop {
        let cgroup = match files::dir(parent.as_fd(), &[name]) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(failed("open"))?,
        };
        let pids = files::all_processes(cgroup.as_fd()).map_err(failed("cgroup.procs"))?;
        if pids.contains(&std::process::id()) {
            return Err(Error::BadPath(
                path.to_owned(),
                "the process that should remove it runs in it".to_owned(),
            ));
        }
        let wait = if kill(cgroup.as_fd(), path)? {
            until
        } else {
            until.min(Instant::now() + KILL_AGAIN)
        };
        wait_empty(cgroup.as_fd(), wait).map_err(failed("cgroup.events"))?;
        match rmdir(parent.as_fd(), name) {
            Ok(()) => return Ok(()),
            Err(Errno::BUSY) if Instant::now() < until => std::thread::sleep(PAUSE),
            Err(Errno::BUSY) => {
                let left = files::all_processes(cgroup.as_fd()).unwrap_or_default();
                return Err(Error::Busy(path.to_owned(), left));
            }
            Err(e) => return Err(failed("remove")(e)),
        }
    }
}

/// Sends SIGKILL to everything in the cgroup and below it; false when what is
/// being forked may have escaped it.
fn kill(cgroup: BorrowedFd<'_>, path: &str) -> Result<bool> {
    match files::write(cgroup, "cgroup.kill", "1") {
        // The cgroup went meanwhile.
        Ok(()) | Err(Errno::NODEV) => return Ok(true),
        // Before Linux 5.14, and in threaded cgroups: one by one.
        Err(Errno::NOENT | Errno::OPNOTSUPP) => {}
        Err(e) => return Err(Error::file(path, "cgroup.kill", e)),
    }
    let pids = files::all_processes(cgroup).map_err(|e| Error::file(path, "cgroup.procs", e))?;
    for pid in pids {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        match pid.map(|pid| kill_process(pid, Signal::KILL)) {
            None | Some(Ok(()) | Err(Errno::SRCH)) => {}
            Some(Err(e)) => return Err(Error::file(path, "kill", e)),
        }
    }
    Ok(false)
}

/// Waits until no process is left; returns as well when the time is over. The
/// kernel reports a change of cgroup.events as `POLLPRI` (cgroup-v2.rst).
fn wait_empty(cgroup: BorrowedFd<'_>, until: Instant) -> Result<(), Errno> {
    let events = match files::file(cgroup, "cgroup.events") {
        Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
        other => other?,
    };
    // The file is read anew after each wait: a change between reading and
    // polling is reported at once, since the poll starts from the last read.
    loop {
        let mut text = [0; 256];
        let length = match rustix::io::pread(&events, &mut text, 0) {
            Err(Errno::NODEV) => return Ok(()),
            other => other?,
        };
        let text = String::from_utf8_lossy(&text[..length]);
        let left = until.saturating_duration_since(Instant::now());
        if keyed(&text, "populated") != Some(1) || left.is_zero() {
            return Ok(());
        }
        let timeout = Timespec::try_from(left).map_err(|_| Errno::INVAL)?;
        match poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Removes a cgroup, those below it first.
fn rmdir(parent: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    match files::dir(parent, &[name]) {
        Ok(cgroup) => {
            for child in files::children(cgroup.as_fd())? {
                rmdir(cgroup.as_fd(), &child)?;
            }
        }
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(e),
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        // A cgroup that was made below meanwhile: the caller starts again.
        Err(Errno::NOTEMPTY) => Err(Errno::BUSY),
        Err(e) => Err(e),
    }
}
