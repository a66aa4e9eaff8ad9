//! `GET /api/v1/events`: what changes, as server-sent events. One look at the
//! releases serves all browsers, and only while there are any.
//!
//! A stream begins with a snapshot of every topic, or with what was missed since
//! `Last-Event-ID` where that is still remembered; then come deltas. A client
//! that does not keep up is not told less: it is told to begin again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use http::HeaderMap;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use super::answer::{Answer, Refusal};
use super::app::App;
use super::caller::Caller;
use crate::api::v1;
use crate::client::Kukeon;

/// Events that wait for a slow client; more end its stream.
const WAITING: usize = 64;
/// Events that are remembered for clients that come back.
const REMEMBERED: usize = 256;
/// Between two signs of life.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Before the releases are looked at again after a failure.
const PAUSE: Duration = Duration::from_secs(2);
/// How long a new client waits for the first look.
const FIRST: Duration = Duration::from_secs(10);

/// Topics by kind.
const TOPICS: [(&str, &str); 5] = [
    ("Recipe", "orders"),
    ("Preparation", "preparations"),
    ("Serving", "servings"),
    ("Menu", "menus"),
    ("Pantry", "pantries"),
];

type Key = (String, String);

#[derive(Default)]
struct Known {
    /// Tells streams of one run of the daemon from those of another.
    epoch: String,
    last: u64,
    objects: BTreeMap<&'static str, BTreeMap<Key, Value>>,
    recent: VecDeque<(u64, Bytes)>,
    clients: Vec<mpsc::Sender<Bytes>>,
    synced: bool,
    task: Option<JoinHandle<()>>,
}

/// The one look at the releases.
#[derive(Clone)]
pub struct Hub {
    kukeon: Arc<dyn Kukeon>,
    state: Arc<Mutex<Known>>,
    ready: Arc<tokio::sync::Notify>,
}

impl Hub {
    /// Nothing is looked at before somebody listens.
    pub fn new(kukeon: Arc<dyn Kukeon>) -> Self {
        Self {
            kukeon,
            state: Arc::default(),
            ready: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream of events for one client.
    async fn join(&self, last: Option<&str>) -> Option<(Vec<Bytes>, mpsc::Receiver<Bytes>)> {
        loop {
            let ready = self.ready.notified();
            {
                let mut state = self.lock();
                if state.synced {
                    let first = state.missed(last).unwrap_or_else(|| state.snapshots());
                    let (sender, receiver) = mpsc::channel(WAITING);
                    state.clients.push(sender);
                    return Some((first, receiver));
                }
                let running = state.task.as_ref().is_some_and(|t| !t.is_finished());
                if !running {
                    state.task = Some(tokio::spawn(self.clone().run()));
                }
            }
            tokio::time::timeout(FIRST, ready).await.ok()?;
        }
    }

    /// Looks until nobody listens any more.
    async fn run(self) {
        loop {
            {
                let mut state = self.lock();
                *state = Known {
                    epoch: uuid::Uuid::new_v4().simple().to_string(),
                    task: state.task.take(),
                    ..Default::default()
                };
            }
            match self
                .kukeon
                .watch_releases(v1::WatchReleasesRequest {})
                .await
            {
                Err(error) => tracing::warn!(%error, "the releases cannot be watched"),
                Ok(mut changes) => {
                    let mut beat = tokio::time::interval(HEARTBEAT);
                    loop {
                        tokio::select! {
                            change = changes.next() => match change {
                                Some(Ok(change)) => self.take(change),
                                Some(Err(error)) => {
                                    tracing::warn!(%error, "the releases are watched no more");
                                    break;
                                }
                                None => break,
                            },
                            _ = beat.tick() => {
                                let mut state = self.lock();
                                state.send(&Bytes::from_static(b": alive\n\n"));
                                if state.synced && state.clients.is_empty() {
                                    *state = Known::default();
                                    return;
                                }
                            }
                        }
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
            let mut state = self.lock();
            if state.clients.is_empty() {
                *state = Known::default();
                return;
            }
            drop(state);
        }
    }

    fn take(&self, change: v1::ReleaseChange) {
        let mut state = self.lock();
        if change.synced {
            state.synced = true;
            self.ready.notify_waiters();
            return;
        }
        let Some((_, topic)) = TOPICS.iter().find(|(kind, _)| *kind == change.kind) else {
            return;
        };
        let key = (change.namespace, change.name);
        let value = change.object.as_ref().map(|o| json!(o));
        let objects = state.objects.entry(topic).or_default();
        match &value {
            Some(value) => objects.insert(key.clone(), value.clone()),
            None => objects.remove(&key),
        };
        if !state.synced {
            return;
        }
        let named = json!({ "namespace": key.0, "name": key.1 });
        let delta = match value {
            Some(value) => json!({ "type": "delta", "changed": [value], "removed": [] }),
            None => json!({ "type": "delta", "changed": [], "removed": [named] }),
        };
        state.tell(topic, &delta);
        let counts = state.counts();
        state.tell("counts", &counts);
    }
}

impl Known {
    fn counts(&self) -> Value {
        let count = |topic: &str| self.objects.get(topic).map_or(0, BTreeMap::len);
        let numbers = TOPICS
            .iter()
            .map(|(_, topic)| ((*topic).to_owned(), count(topic).into()));
        Value::Object(numbers.collect())
    }

    fn event(&self, id: u64, topic: &str, data: &Value) -> Bytes {
        // JSON has no line breaks outside strings, and none unescaped inside.
        format!("id: {}-{id}\nevent: {topic}\ndata: {data}\n\n", self.epoch).into()
    }

    fn snapshots(&self) -> Vec<Bytes> {
        let mut all = vec![self.event(self.last, "counts", &self.counts())];
        for (_, topic) in TOPICS {
            let items: Vec<&Value> = self
                .objects
                .get(topic)
                .into_iter()
                .flat_map(|o| o.values())
                .collect();
            let data = json!({ "type": "snapshot", "items": items });
            all.push(self.event(self.last, topic, &data));
        }
        all
    }

    /// What came after an event; none when that is not remembered.
    fn missed(&self, last: Option<&str>) -> Option<Vec<Bytes>> {
        let (epoch, number) = last?.split_once('-')?;
        let number: u64 = number.parse().ok()?;
        let oldest = self.recent.front().map_or(self.last + 1, |(id, _)| *id);
        let known = epoch == self.epoch && number <= self.last && number + 1 >= oldest;
        let after = self.recent.iter().filter(|(id, _)| *id > number);
        known.then(|| after.map(|(_, event)| event.clone()).collect())
    }

    fn tell(&mut self, topic: &str, data: &Value) {
        self.last += 1;
        let event = self.event(self.last, topic, data);
        self.recent.push_back((self.last, event.clone()));
        if self.recent.len() > REMEMBERED {
            self.recent.pop_front();
        }
        self.send(&event);
    }

    /// A client whose queue is full is dropped: it comes back, and gets what it
    /// missed or everything.
    fn send(&mut self, event: &Bytes) {
        self.clients
            .retain(|client| client.try_send(event.clone()).is_ok());
    }
}

/// The stream.
pub async fn stream(State(app): State<App>, caller: Caller, headers: HeaderMap) -> Answer {
    let last = headers.get("last-event-id").and_then(|v| v.to_str().ok());
    let Some((first, rest)) = app.hub().join(last).await else {
        return Err(Refusal::new(
            http::StatusCode::SERVICE_UNAVAILABLE,
            "NotWatching",
            "the releases cannot be watched now",
        ));
    };
    // Browsers wait so long before they come back.
    let hello = Bytes::from_static(b"retry: 2000\n\n");
    let first = futures::stream::iter([hello].into_iter().chain(first));
    let all = first.chain(ReceiverStream::new(rest));
    let all = all.take_until(app.stop().cancelled_owned());
    // Whoever is still logged in then comes back.
    let all = all.take_until(tokio::time::sleep(caller.left()));
    let body = Body::from_stream(all.map(Ok::<_, std::convert::Infallible>));
    let head = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
    ];
    let answer: Response = (head, body).into_response();
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> Known {
        Known {
            epoch: "e".into(),
            synced: true,
            ..Default::default()
        }
    }

    fn text(events: &[Bytes]) -> String {
        String::from_utf8(events.concat()).unwrap()
    }

    #[test]
    fn what_was_missed_comes_again_or_everything() {
        let mut state = state();
        for n in 0..3 {
            state.tell("orders", &json!({ "n": n }));
        }
        let missed = text(&state.missed(Some("e-1")).unwrap());
        assert!(
            missed.starts_with("id: e-2\nevent: orders\ndata: {\"n\":1}\n\n"),
            "{missed}"
        );
        assert!(missed.contains("id: e-3"));
        assert_eq!(state.missed(Some("e-3")).unwrap().len(), 0);
        for other in [None, Some("x-1"), Some("e-9"), Some("e"), Some("")] {
            assert!(state.missed(other).is_none(), "{other:?}");
        }
        for n in 0..REMEMBERED {
            state.tell("orders", &json!({ "n": n }));
        }
        assert!(state.missed(Some("e-1")).is_none());
        assert_eq!(state.snapshots().len(), 1 + TOPICS.len());
    }

    #[test]
    fn a_client_that_does_not_keep_up_is_dropped() {
        let mut state = state();
        let (sender, _receiver) = mpsc::channel(2);
        state.clients.push(sender);
        for n in 0..3 {
            state.tell("orders", &json!({ "n": n }));
        }
        assert!(state.clients.is_empty());
    }

    #[test]
    fn a_line_break_in_a_name_begins_no_field() {
        let state = state();
        let event = state.event(1, "orders", &json!({ "a": "x\nevent: y" }));
        assert_eq!(text(&[event]).lines().count(), 4);
    }
}
