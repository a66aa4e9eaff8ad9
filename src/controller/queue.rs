//! Keyed work queue: a key is in it at most once, is worked on by one worker at
//! a time, and comes back after a back-off when its work failed.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// First pause after a failure.
const BASE: Duration = Duration::from_millis(500);
/// Longest pause after a failure.
const MAX: Duration = Duration::from_secs(60);

/// How often the first pause is doubled at most.
const DOUBLED: u32 = 10;
/// The same for a key that was added while its work failed.
const MEANWHILE: u32 = 2;

/// The queue. Cheap to clone.
pub struct Queue<K>(Arc<Inner<K>>);

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<K> {
    /// First and longest pause after a failure.
    pauses: (Duration, Duration),
    state: Mutex<State<K>>,
    wake: Notify,
}

struct State<K> {
    ready: VecDeque<K>,
    queued: HashSet<K>,
    /// Keys in work; `true` when they were added again meanwhile.
    active: HashMap<K, bool>,
    later: BTreeMap<(Instant, u64), K>,
    due: HashMap<K, (Instant, u64)>,
    failures: HashMap<K, u32>,
    serial: u64,
}

impl<K: Clone + Eq + Hash + Ord> Default for Queue<K> {
    fn default() -> Self {
        Self::with_back_off(BASE, MAX)
    }
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    /// A queue with this first and this longest pause after a failure.
    pub fn with_back_off(first: Duration, longest: Duration) -> Self {
        Self(Arc::new(Inner {
            pauses: (first, longest),
            state: Mutex::new(State {
                ready: VecDeque::new(),
                queued: HashSet::new(),
                active: HashMap::new(),
                later: BTreeMap::new(),
                due: HashMap::new(),
                failures: HashMap::new(),
                serial: 0,
            }),
            wake: Notify::new(),
        }))
    }
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    fn state(&self) -> MutexGuard<'_, State<K>> {
        // Nothing inside panics halfway through a change, so the data is whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a key now.
    pub fn add(&self, key: K) {
        let mut state = self.state();
        state.forget_timer(&key);
        state.enqueue(key);
        drop(state);
        self.0.wake.notify_one();
    }

    /// Adds a key after a pause; an earlier date already set wins.
    pub fn add_after(&self, key: K, pause: Duration) {
        let mut state = self.state();
        let at = Instant::now() + pause;
        if state.queued.contains(&key) || state.due.get(&key).is_some_and(|(due, _)| *due <= at) {
            return;
        }
        state.forget_timer(&key);
        state.serial += 1;
        let slot = (at, state.serial);
        state.later.insert(slot, key.clone());
        state.due.insert(key, slot);
        drop(state);
        self.0.wake.notify_one();
    }

    /// As [`Queue::add_after`], but leaves a key in work alone: its worker gives
    /// it back with the back-off that its failures ask for.
    pub fn add_after_unless_active(&self, key: K, pause: Duration) {
        if !self.state().active.contains_key(&key) {
            self.add_after(key, pause);
        }
    }

    /// The next key that is due now, which is the caller's until [`Queue::done`].
    pub fn try_next(&self) -> Option<K> {
        let mut state = self.state();
        state.promote(Instant::now());
        let key = state.ready.pop_front()?;
        state.queued.remove(&key);
        state.active.insert(key.clone(), false);
        Some(key)
    }

    /// The next key, which is the caller's until [`Queue::done`].
    pub async fn next(&self) -> K {
        loop {
            let wait = {
                let mut state = self.state();
                state.promote(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.queued.remove(&key);
                    state.active.insert(key.clone(), false);
                    let more = !state.ready.is_empty();
                    drop(state);
                    if more {
                        self.0.wake.notify_one();
                    }
                    return key;
                }
                state.later.keys().next().map(|(at, _)| *at)
            };
            match wait {
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = self.0.wake.notified() => {}
                },
                None => self.0.wake.notified().await,
            }
        }
    }

    /// Gives a key back. Failed work comes again after an exponential pause; a
    /// short one, where the key was added meanwhile, since what has changed may
    /// help. Not at once: failed work may be what changed something.
    pub fn done(&self, key: &K, ok: bool) {
        let mut state = self.state();
        let again = state.active.remove(key).unwrap_or(false);
        if ok {
            state.failures.remove(key);
        }
        if again && ok {
            state.enqueue(key.clone());
            drop(state);
            self.0.wake.notify_one();
        } else if !ok {
            let count = state.failures.entry(key.clone()).or_insert(0);
            *count += 1;
            let (first, longest) = self.0.pauses;
            let doubled = (*count - 1).min(if again { MEANWHILE } else { DOUBLED });
            let pause = first.saturating_mul(1 << doubled).min(longest);
            drop(state);
            self.add_after(key.clone(), jitter(pause));
        }
    }
}

/// Up to a tenth more, so that many failures don't come back at once.
fn jitter(pause: Duration) -> Duration {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.subsec_nanos());
    pause + pause.mul_f64(f64::from(nanos % 1000) / 10_000.0)
}

impl<K: Clone + Eq + Hash + Ord> State<K> {
    fn enqueue(&mut self, key: K) {
        if let Some(again) = self.active.get_mut(&key) {
            *again = true;
        } else if self.queued.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    fn forget_timer(&mut self, key: &K) {
        if let Some(slot) = self.due.remove(key) {
            self.later.remove(&slot);
        }
    }

    fn promote(&mut self, now: Instant) {
        while let Some(entry) = self.later.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let key = entry.remove();
            self.due.remove(&key);
            self.enqueue(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_in_the_queue_once_and_serial() {
        let queue = Queue::default();
        queue.add(1);
        queue.add(1);
        assert_eq!(queue.next().await, 1);
        queue.add(1);
        let other = tokio::time::timeout(Duration::from_secs(1), queue.next()).await;
        assert!(other.is_err(), "a key in work is not handed out again");
        queue.done(&1, true);
        assert_eq!(
            queue.next().await,
            1,
            "what was added meanwhile comes after"
        );
        queue.done(&1, true);
        let none = tokio::time::timeout(Duration::from_secs(1), queue.next()).await;
        assert!(none.is_err(), "nothing is left");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_come_back_later_and_later() {
        let queue = Queue::default();
        queue.add("a");
        let mut last = Duration::ZERO;
        for _ in 0..4 {
            let before = Instant::now();
            assert_eq!(queue.next().await, "a");
            let pause = before.elapsed();
            assert!(pause >= last, "{pause:?} after {last:?}");
            last = pause;
            queue.done(&"a", false);
        }
        assert!(last >= Duration::from_millis(2000));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_added_meanwhile_does_not_wait_for_long() {
        let queue = Queue::default();
        queue.add("a");
        for _ in 0..8 {
            assert_eq!(queue.next().await, "a");
            queue.done(&"a", false);
        }
        for _ in 0..2 {
            assert_eq!(queue.next().await, "a");
            queue.add("a");
            let before = Instant::now();
            queue.done(&"a", false);
            assert_eq!(queue.next().await, "a");
            let pause = before.elapsed();
            assert!(pause >= BASE, "{pause:?}: it may fail because of itself");
            assert!(pause <= BASE * 5, "{pause:?}");
            queue.done(&"a", false);
        }
        assert_eq!(queue.next().await, "a");
        let before = Instant::now();
        queue.done(&"a", false);
        assert_eq!(queue.next().await, "a");
        assert!(before.elapsed() >= MAX, "nothing changed");
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_date_wins() {
        let queue = Queue::default();
        queue.add_after("a", Duration::from_secs(10));
        queue.add_after("a", Duration::from_secs(1));
        queue.add_after("a", Duration::from_secs(5));
        let before = Instant::now();
        assert_eq!(queue.next().await, "a");
        assert_eq!(before.elapsed().as_secs(), 1);
    }
}
