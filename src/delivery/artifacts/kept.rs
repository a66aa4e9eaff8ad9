//! Manifests of artifacts in other registries, for as long as they are looked
//! at: what a registry that does not answer has no say in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long one is kept that nobody asks for.
const IDLE: Duration = Duration::from_secs(60);
/// Most of them.
const COUNT: usize = 64;
/// Most bytes of all of them together.
const BYTES: usize = 16 << 20;

/// Verified manifests by the digest of their artifact, which never changes.
#[derive(Default)]
pub(in crate::delivery) struct Kept(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    entries: HashMap<String, Entry>,
    /// Somebody takes out what nobody asks for.
    swept: bool,
}

struct Entry {
    manifest: Vec<u8>,
    used: Instant,
}

impl Inner {
    fn bytes(&self) -> usize {
        self.entries.values().map(|e| e.manifest.len()).sum()
    }

    /// Makes room, for which the longest unused go first.
    fn shrink(&mut self) {
        while self.entries.len() > COUNT || self.bytes() > BYTES {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            let Some(digest) = oldest.map(|(digest, _)| digest.clone()) else {
                return;
            };
            self.entries.remove(&digest);
        }
    }

    /// Takes out what has not been used for long; when the next is due.
    fn sweep(&mut self) -> Option<Instant> {
        let now = Instant::now();
        self.entries.retain(|_, entry| entry.used + IDLE > now);
        let due = self.entries.values().map(|e| e.used + IDLE).min();
        if due.is_none() {
            self.swept = false;
            self.entries.shrink_to_fit();
        }
        due
    }
}

impl Kept {
    /// What is kept of an artifact.
    pub(in crate::delivery) fn get(&self, digest: &str) -> Option<Vec<u8>> {
        let mut inner = locked(&self.0);
        let entry = inner.entries.get_mut(digest)?;
        entry.used = Instant::now();
        Some(entry.manifest.clone())
    }

    /// Keeps a manifest that was verified. One that leaves no room for others
    /// is not kept.
    pub(in crate::delivery) fn put(&self, digest: &str, manifest: &[u8]) {
        if manifest.len() > BYTES / 2 {
            return;
        }
        let entry = Entry {
            manifest: manifest.to_vec(),
            used: Instant::now(),
        };
        let mut inner = locked(&self.0);
        inner.entries.insert(digest.to_owned(), entry);
        inner.shrink();
        if std::mem::replace(&mut inner.swept, true) {
            return;
        }
        let weak = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let mut due = Instant::now() + IDLE;
            loop {
                tokio::time::sleep_until(due).await;
                let Some(inner) = weak.upgrade() else { return };
                let next = locked(&inner).sweep();
                let Some(next) = next else { return };
                due = next;
            }
        });
    }
}

fn locked(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    // A panic cannot leave the map half changed.
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(kept: &Kept) -> usize {
        locked(&kept.0).entries.len()
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_asks_for_goes() {
        let kept = Kept::default();
        kept.put("a", b"1");
        kept.put("b", b"2");
        for _ in 0..5 {
            tokio::time::sleep(IDLE / 2).await;
            assert_eq!(kept.get("a").as_deref(), Some(&b"1"[..]));
        }
        assert_eq!((kept.get("b"), count(&kept)), (None, 1));
        // Nobody has to ask for it to go.
        tokio::time::sleep(IDLE * 2).await;
        assert_eq!(count(&kept), 0);
        kept.put("c", b"3");
        tokio::time::sleep(IDLE * 2).await;
        assert_eq!(count(&kept), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_an_end_of_room() {
        let kept = Kept::default();
        for i in 0..=COUNT {
            kept.put(&i.to_string(), b"x");
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!((kept.get("0"), count(&kept)), (None, COUNT));
        kept.put("wide", &vec![0; BYTES]);
        assert_eq!((kept.get("wide"), count(&kept)), (None, COUNT));
        for name in ["p", "q", "r"] {
            kept.put(name, &vec![0; BYTES / 2]);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(count(&kept), 2);
        assert!(kept.get("p").is_none() && kept.get("r").is_some());
    }
}
