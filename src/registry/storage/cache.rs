//! Manifests in memory: content by digest never changes, so what was checked
//! once needs no second reading. Whether a repository shows it is asked of the
//! disk each time.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::oci::Digest;

/// Bytes of all manifests kept.
const TOTAL: usize = 4 << 20;
/// Larger ones are read each time.
const LARGEST: usize = 128 << 10;

#[derive(Default)]
pub(super) struct Cache(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    by_digest: HashMap<Digest, Bytes>,
    /// Oldest first.
    order: VecDeque<Digest>,
    bytes: usize,
}

impl Cache {
    pub(super) fn get(&self, digest: &Digest) -> Option<Bytes> {
        self.lock().by_digest.get(digest).cloned()
    }

    pub(super) fn put(&self, digest: &Digest, content: &Bytes) {
        if content.len() > LARGEST {
            return;
        }
        let mut kept = self.lock();
        if kept.by_digest.contains_key(digest) {
            return;
        }
        kept.bytes += content.len();
        // A copy of its own: the original may be a slice of a larger buffer.
        let own = Bytes::copy_from_slice(content);
        kept.by_digest.insert(digest.clone(), own);
        kept.order.push_back(digest.clone());
        while kept.bytes > TOTAL {
            let Some(oldest) = kept.order.pop_front() else {
                return;
            };
            if let Some(gone) = kept.by_digest.remove(&oldest) {
                kept.bytes -= gone.len();
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_bounds() {
        let cache = Cache::default();
        let all: Vec<Bytes> = (0..80_u8).map(|n| vec![n; 100 << 10].into()).collect();
        for content in &all {
            cache.put(&Digest::sha256(content), content);
            cache.put(&Digest::sha256(content), content);
        }
        let found = |content: &Bytes| cache.get(&Digest::sha256(content));
        assert_eq!(found(&all[79]).as_ref(), Some(&all[79]));
        assert_eq!(found(&all[0]), None);
        let kept = all.iter().filter(|c| found(c).is_some()).count();
        assert!((30..=41).contains(&kept), "{kept}");
        let large = Bytes::from(vec![0; LARGEST + 1]);
        cache.put(&Digest::sha256(&large), &large);
        assert_eq!(found(&large), None);
    }
}
