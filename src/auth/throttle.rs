//! Slowing down those who guess passwords or ask too much.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many wrong passwords are anybody's mistake.
const FREE: u32 = 5;
/// Longest pause, in seconds.
const LONGEST: u64 = 300;
/// Peers that are kept count of.
const MOST: usize = 4096;
/// Requests that may come at once, in seconds' worth.
const BURST: f64 = 2.0;

/// Wrong passwords by peer and name, so that nobody locks others out. Peers
/// without an address count as one.
#[derive(Default)]
pub struct Failures(Mutex<HashMap<(Option<IpAddr>, String), Failed>>);

struct Failed {
    times: u32,
    until: Instant,
}

impl Failures {
    /// Fails with the time to wait.
    pub fn check(&self, peer: Option<IpAddr>, name: &str) -> Result<(), Duration> {
        let now = Instant::now();
        match lock(&self.0).get(&key(peer, name)) {
            Some(failed) if failed.times >= FREE && failed.until > now => Err(failed.until - now),
            _ => Ok(()),
        }
    }

    /// One more wrong password.
    pub fn count(&self, peer: Option<IpAddr>, name: &str) {
        let mut all = lock(&self.0);
        let now = Instant::now();
        let forgotten = Duration::from_secs(LONGEST);
        let key = key(peer, name);
        let matters = |failed: &Failed| failed.until + forgotten > now;
        // The longest pause is held the longest: other names do not shorten it.
        make_room(&mut all, &key, matters, |failed| failed.until);
        let failed = all.entry(key).or_insert(Failed {
            times: 0,
            until: now,
        });
        failed.times += 1;
        let doublings = failed.times.saturating_sub(FREE).min(16);
        let pause = LONGEST.min(1 << doublings);
        failed.until = now + Duration::from_secs(pause);
    }

    /// A right one came.
    pub fn forget(&self, peer: Option<IpAddr>, name: &str) {
        lock(&self.0).remove(&key(peer, name));
    }
}

fn key(peer: Option<IpAddr>, name: &str) -> (Option<IpAddr>, String) {
    (peer, name.chars().take(64).collect())
}

/// A bucket of requests for each address.
pub struct Rates {
    per_second: f64,
    buckets: Mutex<HashMap<IpAddr, (f64, Instant)>>,
}

impl Rates {
    /// So many requests a second.
    pub fn new(per_second: u32) -> Self {
        Self {
            per_second: f64::from(per_second.max(1)),
            buckets: Mutex::default(),
        }
    }

    /// Takes one; fails with the time until there is one.
    pub fn take(&self, ip: IpAddr) -> Result<(), Duration> {
        let now = Instant::now();
        let full = self.per_second * BURST;
        let mut buckets = lock(&self.buckets);
        let refilled = Duration::from_secs_f64(BURST);
        let matters = |(_, last): &(f64, Instant)| now.duration_since(*last) < refilled;
        make_room(&mut buckets, &ip, matters, |(_, last)| *last);
        let (left, last) = buckets.entry(ip).or_insert((full, now));
        let gained = now.duration_since(*last).as_secs_f64() * self.per_second;
        *left = (*left + gained).min(full);
        *last = now;
        if *left >= 1.0 {
            *left -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - *left) / self.per_second))
    }
}

/// Keeps a map within bounds, with room for a key: first what no longer matters
/// goes, then the oldest.
fn make_room<K: Eq + Hash + Clone, V>(
    all: &mut HashMap<K, V>,
    key: &K,
    matters: impl Fn(&V) -> bool,
    age: impl Fn(&V) -> Instant,
) {
    if all.len() < MOST || all.contains_key(key) {
        return;
    }
    all.retain(|_, value| matters(value));
    if all.len() >= MOST {
        let oldest = all.iter().min_by_key(|(_, value)| age(value));
        if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
            all.remove(&oldest);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_with_success() {
        let failures = Failures::default();
        let peer = None;
        let mut last = Duration::ZERO;
        for n in 1..=12 {
            failures.count(peer, "a");
            match failures.check(peer, "a") {
                Ok(()) => assert!(n < FREE, "{n}"),
                Err(wait) => {
                    assert!(n >= FREE, "{n}");
                    assert!(wait > last, "{n}: {wait:?}");
                    last = wait;
                }
            }
        }
        assert!(failures.check(peer, "b").is_ok());
        failures.forget(peer, "a");
        assert!(failures.check(peer, "a").is_ok());
    }

    #[test]
    fn counting_takes_bounded_memory() {
        let failures = Failures::default();
        for n in 0..10_000 {
            failures.count(None, &n.to_string());
        }
        assert_eq!(lock(&failures.0).len(), MOST);
    }

    #[test]
    fn other_names_do_not_end_a_pause() {
        let failures = Failures::default();
        for _ in 0..2 * FREE {
            failures.count(None, "root");
        }
        for n in 0..2 * MOST {
            failures.count(None, &n.to_string());
        }
        assert!(failures.check(None, "root").is_err());
        let rates = Rates::new(1);
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        for n in 0..MOST as u32 + 1 {
            assert!(rates.take(address(n)).is_ok(), "{n}");
        }
        assert_eq!(lock(&rates.buckets).len(), MOST);
        assert!(!lock(&rates.buckets).contains_key(&address(0)));
    }
}
