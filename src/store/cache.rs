//! Decoded documents, so that reading many objects costs one `stat` each and
//! still shows what another process has just written.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::Stat;

/// A file that changed less than this before it was read may change once more
/// without a visible difference: file times come from the kernel's tick (10 ms
/// at 100 Hz), and the inode number and size may repeat. Such a read is not kept.
const RACY_NS: i128 = 50_000_000;

/// What identifies one version of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    device: u64,
    inode: u64,
    size: i64,
    modified: i128,
    changed: i128,
}

impl Version {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: nanos(stat.st_mtime, stat.st_mtime_nsec),
            changed: nanos(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// Whether a later change is sure to show. `now` is in nanoseconds.
    fn is_settled(&self, now: i128) -> bool {
        now - self.modified.max(self.changed) > RACY_NS
    }
}

fn nanos(seconds: impl Into<i128>, nanos: impl Into<i128>) -> i128 {
    seconds.into() * 1_000_000_000 + nanos.into()
}

/// Nanoseconds of the real-time clock.
pub(super) fn now() -> i128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    // Before 1970 nothing is settled.
    now.map_or(0, |since| i128::try_from(since.as_nanos()).unwrap_or(0))
}

type Document = Arc<dyn Any + Send + Sync>;

/// Documents by their path below the root.
#[derive(Default)]
pub(super) struct Cache {
    entries: Mutex<HashMap<String, (Version, Document)>>,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cache({} documents)", self.entries().len())
    }
}

impl Cache {
    fn entries(&self) -> MutexGuard<'_, HashMap<String, (Version, Document)>> {
        // A panic cannot leave the map half changed.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The document at `rel`, when it was read from this very version.
    pub(super) fn get<T: Any + Send + Sync>(&self, rel: &str, version: &Version) -> Option<Arc<T>> {
        let found = match self.entries().get(rel) {
            Some((of, document)) if of == version => Arc::clone(document),
            _ => return None,
        };
        found.downcast().ok()
    }

    /// Keeps a document that was read from `version` at the time `read_at`,
    /// taken before the file was opened.
    pub(super) fn put<T: Any + Send + Sync>(
        &self,
        rel: &str,
        version: Version,
        read_at: i128,
        document: &Arc<T>,
    ) {
        if version.is_settled(read_at) {
            let document: Document = Arc::clone(document) as Document;
            self.entries().insert(rel.to_owned(), (version, document));
        }
    }

    /// Forgets a document.
    pub(super) fn forget(&self, rel: &str) {
        self.entries().remove(rel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(modified: i128) -> Version {
        Version {
            device: 1,
            inode: 2,
            size: 3,
            modified,
            changed: modified,
        }
    }

    #[test]
    fn keeps_only_settled_versions() {
        let cache = Cache::default();
        let at = 1_000_000_000;
        cache.put("a", version(at), at + RACY_NS, &Arc::new(1_u8));
        assert!(cache.get::<u8>("a", &version(at)).is_none());
        cache.put("a", version(at), at + RACY_NS + 1, &Arc::new(1_u8));
        assert_eq!(cache.get::<u8>("a", &version(at)).as_deref(), Some(&1));
        assert!(cache.get::<u8>("a", &version(at + 1)).is_none());
        assert!(cache.get::<u8>("b", &version(at)).is_none());
        cache.forget("a");
        assert!(cache.get::<u8>("a", &version(at)).is_none());
    }

    #[test]
    fn a_file_from_the_future_is_never_kept() {
        let cache = Cache::default();
        cache.put("a", version(2_000), 1_000, &Arc::new(1_u8));
        assert!(cache.get::<u8>("a", &version(2_000)).is_none());
    }
}
