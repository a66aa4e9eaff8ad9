//! Quota and free space. Both refuse uploads; neither ever deletes anything.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Storage, size_of};
use crate::oci::Algorithm;
use crate::registry::{Error, Result};

/// How long a count of all content is good for; other processes add and remove.
const COUNTED: Duration = Duration::from_secs(300);

/// Bytes of all content, as far as they were counted.
#[derive(Default)]
pub(super) struct Used(Mutex<Option<(Instant, u64)>>);

impl Used {
    /// Further content came.
    pub(super) fn add(&self, bytes: u64) {
        if let Some((_, used)) = self.lock().as_mut() {
            *used += bytes;
        }
    }

    /// Content went: it is counted anew.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Instant, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage {
    /// Fails when no further `bytes` may come.
    pub(super) fn check_space(&self, bytes: u64) -> Result<()> {
        let limits = &self.inner.limits;
        if let Some(quota) = limits.quota {
            let used = self.used()?;
            if used.saturating_add(bytes) > quota {
                return Err(Error::Quota { used, quota });
            }
        }
        if limits.min_free > 0 {
            // What came is on the disk already: only what is left counts.
            let disk = rustix::fs::statvfs(self.path())
                .map_err(|e| Error::io("asking for free space")(e.into()))?;
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            if free < limits.min_free {
                let reserve = limits.min_free;
                return Err(Error::LowDisk { free, reserve });
            }
        }
        Ok(())
    }

    /// Bytes of all content.
    ///
    /// # Errors
    /// The disk's.
    pub fn used(&self) -> Result<u64> {
        if let Some((when, used)) = *self.inner.used.lock()
            && when.elapsed() < COUNTED
        {
            return Ok(used);
        }
        let mut used = 0;
        for algorithm in Algorithm::ALL {
            self.each_blob(algorithm, |_, stat| {
                used += size_of(stat);
                Ok(())
            })?;
        }
        *self.inner.used.lock() = Some((Instant::now(), used));
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{limited, repo};
    use super::*;
    use crate::registry::Limits;

    #[test]
    fn over_quota_uploads_are_refused_and_nothing_is_deleted() {
        let s = limited(Limits {
            quota: Some(100),
            min_free: 0,
        });
        let a = repo("a");
        let first = s.put_blob(&a, &[1; 60], None).unwrap();
        assert_eq!(s.used().unwrap(), 60);
        let refused = s.put_blob(&a, &[2; 60], None);
        assert!(
            matches!(
                refused,
                Err(Error::Quota {
                    used: 60,
                    quota: 100
                })
            ),
            "{refused:?}"
        );
        assert!(s.begin_upload(&a).unwrap().announce(41).is_err());
        s.put_blob(&a, &[3; 40], None).unwrap();
        assert_eq!(s.used().unwrap(), 100);
        assert!(s.open_blob(&a, &first).is_ok());
    }

    #[test]
    fn a_full_disk_refuses_new_uploads() {
        let s = limited(Limits {
            quota: None,
            min_free: u64::MAX,
        });
        let refused = s.put_blob(&repo("a"), b"x", None).unwrap_err();
        assert!(matches!(refused, Error::LowDisk { .. }));
        assert!(refused.is_full());
    }
}
