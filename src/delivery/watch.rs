//! Release objects as they change. Whoever changes them, this process or
//! another one, replaces their files; so the files are looked at, while somebody
//! watches.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Delivery, external};
use crate::api::{Error, Result, v1};
use crate::model::delivery::{ReleaseKind, ReleaseRef};
use crate::store::{ReleaseMark, Store};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(300);
/// Changes that may wait for a slow reader.
const WAITING: usize = 64;

type Seen = BTreeMap<ReleaseRef, ReleaseMark>;
type Sender = mpsc::Sender<Result<v1::ReleaseChange>>;

impl Delivery {
    /// All objects, a mark that these were all, then every change.
    pub(super) fn watch(&self) -> BoxStream<'static, Result<v1::ReleaseChange>> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let store = self.store.clone();
        tokio::spawn(async move {
            let mut seen = Seen::new();
            let mut synced = false;
            loop {
                match look(&store, &mut seen, &sender).await {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => {
                        let _ = sender.send(Err(error)).await;
                        return;
                    }
                }
                if !synced {
                    let mark = v1::ReleaseChange {
                        synced: true,
                        ..Default::default()
                    };
                    synced = sender.send(Ok(mark)).await.is_ok();
                }
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    () = sender.closed() => return,
                }
            }
        });
        ReceiverStream::new(receiver).boxed()
    }
}

/// Tells what is new since the last look; false when nobody listens.
async fn look(store: &Store, seen: &mut Seen, sender: &Sender) -> Result<bool> {
    let (from, known) = (store.clone(), std::mem::take(seen));
    let work = move || -> Result<_> {
        let mut now = Seen::new();
        let mut told = Vec::new();
        for kind in ReleaseKind::ALL {
            for at in from.release_refs(kind, None)? {
                let Some(mark) = from.release_mark(&at)? else {
                    continue;
                };
                if known.get(&at) != Some(&mark) {
                    told.push(at.clone());
                }
                now.insert(at, mark);
            }
        }
        let gone: Vec<ReleaseRef> = known
            .keys()
            .filter(|at| !now.contains_key(at))
            .cloned()
            .collect();
        Ok((now, told, gone))
    };
    let done = tokio::task::spawn_blocking(work).await;
    let (now, told, gone) = done.map_err(|e| Error::failed("Watch", e.to_string()))??;
    *seen = now;
    for at in told.into_iter().chain(gone) {
        let object = match store.release(&at) {
            Ok(found) => found.as_ref().map(external::object),
            // Reading it tells; the others go on.
            Err(error) => {
                tracing::warn!(object = %at, %error, "left out");
                continue;
            }
        };
        let change = v1::ReleaseChange {
            kind: at.kind.as_str().to_owned(),
            namespace: at.namespace.to_string(),
            name: at.name.to_string(),
            object,
            synced: false,
        };
        if sender.send(Ok(change)).await.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}
