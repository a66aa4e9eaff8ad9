//! Quota and free space. Both refuse uploads; neither ever deletes anything.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::{Storage, size_of, upload};
use crate::oci::Algorithm;
use crate::registry::{Error, Result};
use crate::sys::beneath::join;

/// How long a count of all content is good for; other processes add and remove.
const COUNTED: Duration = Duration::from_secs(300);

type Counted = Mutex<Option<(Instant, u64)>>;

/// Counts by directory: whoever opens one in this process shares what is known
/// of it, so that the registry and the Preparations see each other at once.
static COUNTS: Mutex<Vec<(PathBuf, Weak<Counted>)>> = Mutex::new(Vec::new());

/// Bytes of all content, as far as they were counted.
pub(super) struct Used(Arc<Counted>);

impl Used {
    /// The count of a directory.
    pub(super) fn of(path: &Path) -> Self {
        let mut counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
        counts.retain(|(_, count)| count.strong_count() > 0);
        let known = counts.iter().find(|(known, _)| known == path);
        let known = known.and_then(|(_, count)| count.upgrade());
        Self(known.unwrap_or_else(|| {
            let count = Arc::new(Counted::default());
            counts.push((path.to_owned(), Arc::downgrade(&count)));
            count
        }))
    }

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
        self.check_room(bytes, || Ok(0))
    }

    /// The same for an upload of so many bytes that goes on, beside all others
    /// that are in hand. The first of them to end has its place.
    pub(super) fn check_upload(&self, id: &str, bytes: u64) -> Result<()> {
        self.check_room(bytes, || self.in_hand(id))
    }

    fn check_room(&self, bytes: u64, beside: impl FnOnce() -> Result<u64>) -> Result<()> {
        let limits = &self.inner.limits;
        if let Some(quota) = limits.quota {
            let used = self.used()?.saturating_add(beside()?);
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

    /// Bytes of the uploads that are being written to, but for one. Others may
    /// never go on, and must not keep everybody out until they are collected.
    fn in_hand(&self, own: &str) -> Result<u64> {
        let mut bytes: u64 = 0;
        for entry in self.root().list(upload::DIR)?.unwrap_or_default() {
            if entry.name == own || !self.is_busy(&entry.name) {
                continue;
            }
            // What ends meanwhile counts as content.
            if let Some(stat) = self.root().stat(&join(upload::DIR, &entry.name))? {
                bytes = bytes.saturating_add(size_of(&stat));
            }
        }
        Ok(bytes)
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
    fn whoever_has_it_open_knows_of_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let limits = Limits {
                quota: Some(100),
                min_free: 0,
            };
            Storage::open(dir.path(), limits).unwrap()
        };
        let (one, two) = (open(), open());
        assert_eq!((one.used().unwrap(), two.used().unwrap()), (0, 0));
        one.put_blob(&repo("a"), &[1; 60], None).unwrap();
        assert_eq!(two.used().unwrap(), 60);
        assert!(two.put_blob(&repo("b"), &[2; 60], None).is_err());
    }

    #[test]
    fn uploads_in_hand_count() {
        let s = limited(Limits {
            quota: Some(100),
            min_free: 0,
        });
        let a = repo("a");
        let mut first = s.begin_upload(&a).unwrap();
        first.append(&[1; 60]).unwrap();
        let second = s.begin_upload(&a).unwrap();
        assert!(matches!(
            second.announce(41),
            Err(Error::Quota { used: 60, .. })
        ));
        second.announce(40).unwrap();
        // Its own bytes are not counted twice.
        first.announce(40).unwrap();
        assert!(first.announce(41).is_err());
        let id = first.id().to_owned();
        drop(first);
        second.announce(100).unwrap();
        let first = s.resume_upload(&a, &id).unwrap();
        assert!(second.announce(41).is_err(), "it goes on");
        first.finish(None).unwrap();
        assert_eq!(s.used().unwrap(), 60);
        second.announce(40).unwrap();
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
