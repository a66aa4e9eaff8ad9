//! Waits for changes of a log: inotify(7) on its directory, or a short sleep
//! where that is not to be had (instances are limited, some file systems have none).
#![allow(unsafe_code)] // registering a descriptor with tokio is

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Pause between looks without inotify.
const POLL: Duration = Duration::from_millis(100);

/// Pause between looks with inotify, for what it does not see.
const SAFETY: Duration = Duration::from_secs(2);

/// A watch on the directory of a log.
pub(super) struct Watcher {
    inotify: Option<AsyncFd<OwnedFd>>,
}

impl Watcher {
    /// Watches from now on.
    pub(super) fn new(path: &Path) -> Self {
        Self {
            inotify: Self::inotify(path),
        }
    }

    fn inotify(path: &Path) -> Option<AsyncFd<OwnedFd>> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        // The directory sees writes to its files as well as renames.
        let events =
            WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        inotify::add_watch(&inotify, path.parent()?, events).ok()?;
        // SAFETY: an OwnedFd is a valid descriptor and stays the same and open until
        // the AsyncFd drops it.
        unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) }.ok()
    }

    /// Returns when the log may have changed.
    pub(super) async fn changed(&mut self, path: &Path) {
        let Some(inotify) = &self.inotify else {
            tokio::time::sleep(POLL).await;
            // The directory may have come into being.
            self.inotify = Self::inotify(path);
            return;
        };
        tokio::select! {
            guard = inotify.readable() => {
                let Ok(mut guard) = guard else {
                    self.inotify = None;
                    return;
                };
                // What happened does not matter: the reader looks for itself.
                let mut events = [0; 4096];
                while rustix::io::read(guard.get_inner(), &mut events).is_ok_and(|n| n > 0) {}
                guard.clear_ready();
            }
            () = tokio::time::sleep(SAFETY) => {}
        }
    }
}
