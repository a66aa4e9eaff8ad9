//! Streaming calls: work in a task of its own that tells what it does.

use std::sync::Arc;

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::Delivery;
use super::actor;
use crate::api::v1::{self, event};
use crate::api::{Error, Result};
use crate::client::EventStream;

/// Tells the caller what happens.
#[derive(Clone)]
pub(super) struct Emitter {
    sender: mpsc::UnboundedSender<Result<v1::Event>>,
}

impl Emitter {
    /// One object or action is done.
    pub fn result(&self, result: v1::ResourceResult) {
        self.event(v1::Event {
            event: Some(event::Event::Result(result)),
        });
    }

    /// Something is in progress.
    pub fn progress(&self, id: impl Into<String>, text: impl Into<String>, done: bool) {
        self.event(v1::Event {
            event: Some(event::Event::Progress(v1::Progress {
                id: id.into(),
                text: text.into(),
                done,
                ..Default::default()
            })),
        });
    }

    /// Anything, for example what another call told.
    pub fn event(&self, event: v1::Event) {
        // The caller may be gone; the work goes on.
        let _ = self.sender.send(Ok(event));
    }

    /// Whether nobody listens any more.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

impl Delivery {
    /// Runs `work` in a task, in the name of whoever asked. Its error ends the
    /// stream. What it does is durable at every step, so it goes on when the
    /// stream is dropped.
    pub(super) fn stream<F>(&self, work: impl FnOnce(Arc<Self>, Emitter) -> F) -> EventStream
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::unbounded_channel();
        let failed = sender.clone();
        if let Some(me) = self.me.upgrade() {
            let work = actor::scope(actor::current(), work(me, Emitter { sender }));
            self.tasks.spawn(async move {
                if let Err(error) = work.await {
                    let _: std::result::Result<(), _> = failed.send(Err::<_, Error>(error));
                }
            });
        }
        UnboundedReceiverStream::new(receiver).boxed()
    }
}
