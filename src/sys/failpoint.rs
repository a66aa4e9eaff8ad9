//! Deaths at chosen points, for crash tests.

use std::sync::atomic::{AtomicI64, Ordering};

/// Ends the process, as by a power cut, when it is hit for the k-th time, where
/// k is the value of an environment variable. Without the variable, never.
#[derive(Debug)]
pub struct Failpoint {
    variable: &'static str,
    left: AtomicI64,
}

/// Not looked up yet.
const UNKNOWN: i64 = i64::MIN;
/// Never.
const NEVER: i64 = i64::MAX;

impl Failpoint {
    /// A point named by its variable.
    pub const fn new(variable: &'static str) -> Self {
        Self {
            variable,
            left: AtomicI64::new(UNKNOWN),
        }
    }

    /// Says that the point was reached.
    pub fn hit(&self) {
        let mut left = self.left.load(Ordering::Relaxed);
        if left == UNKNOWN {
            let set = std::env::var(self.variable).ok();
            left = set.and_then(|v| v.parse().ok()).unwrap_or(NEVER);
            self.left.store(left, Ordering::Relaxed);
        }
        if left != NEVER && self.left.fetch_sub(1, Ordering::Relaxed) <= 1 {
            die();
        }
    }
}

/// As `kill -9` does it: nothing is unwound, flushed or told.
fn die() -> ! {
    use rustix::process::{Signal, getpid, kill_process};
    // The signal is there before the call returns, if it is not refused.
    let _ = kill_process(getpid(), Signal::KILL);
    std::process::abort();
}
