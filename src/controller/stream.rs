//! Streaming calls: work in a task of its own that tells what it does.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Controller;
use super::execute::Watch;
use crate::api::v1::{self, event};
use crate::api::{Error, Result};
use crate::client::EventStream;
use crate::model::{CellRef, KeptKind, ObjectRef, Progress, ProgressSink, RealmRef};

/// Tells the caller what happens.
#[derive(Clone)]
pub(super) struct Emitter {
    sender: mpsc::UnboundedSender<Result<v1::Event>>,
    /// Progress and cancellation of the call.
    pub watch: Watch,
}

impl Emitter {
    /// For work on the way to what was asked for: its results are not told, its
    /// progress is.
    pub fn silent(&self) -> Self {
        let (sender, _) = mpsc::unbounded_channel();
        Self {
            sender,
            watch: self.watch.clone(),
        }
    }

    /// One object or action is done.
    pub fn result(&self, result: v1::ResourceResult) {
        let event = v1::Event {
            event: Some(event::Event::Result(result)),
        };
        // The caller may be gone; the work goes on to a consistent state.
        let _ = self.sender.send(Ok(event));
    }
}

struct Events {
    receiver: mpsc::UnboundedReceiver<Result<v1::Event>>,
    _cancel: DropGuard,
}

impl Stream for Events {
    type Item = Result<v1::Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(cx)
    }
}

impl Controller {
    /// Runs `work` in a task. Its error ends the stream; dropping the stream
    /// cancels the work, which then still cleans up after itself.
    pub(super) fn stream<F>(&self, work: impl FnOnce(Arc<Self>, Emitter) -> F) -> EventStream
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::unbounded_channel();
        let cancel = CancellationToken::new();
        let guard = cancel.clone().drop_guard();
        let progress = sender.clone();
        let watch = Watch {
            progress: ProgressSink::new(move |p| {
                let _ = progress.send(Ok(progress_event(p)));
            }),
            cancel,
        };
        let emitter = Emitter {
            sender: sender.clone(),
            watch,
        };
        if let Some(me) = self.me.upgrade() {
            let work = work(me, emitter);
            self.tasks.spawn(async move {
                if let Err(error) = work.await {
                    let _ = sender.send(Err(error));
                }
            });
        }
        Box::pin(Events {
            receiver,
            _cancel: guard,
        })
    }
}

fn progress_event(p: Progress) -> v1::Event {
    v1::Event {
        event: Some(event::Event::Progress(v1::Progress {
            id: p.id,
            text: p.text,
            current: p.current,
            total: p.total,
            done: p.done,
            recorded: p.recorded,
        })),
    }
}

/// A result for an object, with nothing but its identity and action.
pub(super) fn result_for(at: &ObjectRef, action: &str) -> v1::ResourceResult {
    let names = at.names();
    let name = names.last().map(ToString::to_string).unwrap_or_default();
    v1::ResourceResult {
        kind: at.kind().to_owned(),
        name,
        scope: Some(scope_of(at)),
        action: action.to_owned(),
        ..v1::ResourceResult::default()
    }
}

/// A failed result for an object.
pub(super) fn failure_for(at: &ObjectRef, error: &Error) -> v1::ResourceResult {
    v1::ResourceResult {
        error: Some(error.into()),
        ..result_for(at, "failed")
    }
}

/// Scope of an object: the names above it.
pub(super) fn scope_of(at: &ObjectRef) -> v1::Scope {
    let names = at.names();
    let above = |depth: usize| {
        if depth + 1 < names.len() {
            names[depth].to_string()
        } else {
            String::new()
        }
    };
    v1::Scope {
        realm: above(0),
        space: above(1),
        stack: above(2),
        cell: above(3),
    }
}

/// The scope that a request for a secret or volume names. Only the realm has a
/// default: what is left out keeps it higher up.
pub(super) fn kept_scope(scope: &v1::Scope) -> Result<ObjectRef> {
    let realm = RealmRef {
        realm: or_default(&scope.realm).parse()?,
    };
    let needs = |above: &str, below: &str| {
        Error::invalid("MissingField", format!("a {below} needs its {above}"))
            .hint(format!("add --{above}"))
    };
    let [space, stack, cell] = [&scope.space, &scope.stack, &scope.cell];
    match (space.is_empty(), stack.is_empty(), cell.is_empty()) {
        (true, true, true) => Ok(realm.into()),
        (false, true, true) => Ok(realm.space(space.parse()?).into()),
        (false, false, true) => Ok(realm.space(space.parse()?).stack(stack.parse()?).into()),
        (false, false, false) => {
            let stack = realm.space(space.parse()?).stack(stack.parse()?);
            Ok(stack.cell(cell.parse()?).into())
        }
        (true, false, _) => Err(needs("space", "stack")),
        (_, true, false) => Err(needs("stack", "cell")),
    }
}

/// The object a request names. An empty coordinate is `default`, but for what may
/// be kept in a scope of any depth.
///
/// # Errors
/// `UnknownKind`; containers are found by their cell.
pub(super) fn object_ref(kind: &str, name: &str, scope: &v1::Scope) -> Result<ObjectRef> {
    let realm = || -> Result<RealmRef> {
        Ok(RealmRef {
            realm: or_default(&scope.realm).parse()?,
        })
    };
    Ok(match kind {
        "Realm" => RealmRef {
            realm: name.parse()?,
        }
        .into(),
        "Space" => realm()?.space(name.parse()?).into(),
        "Stack" => realm()?
            .space(or_default(&scope.space).parse()?)
            .stack(name.parse()?)
            .into(),
        "Cell" => cell_ref(name, Some(scope))?.into(),
        "Volume" => kept_scope(scope)?
            .keeps(KeptKind::Volume, name.parse()?)
            .into(),
        "Secret" => kept_scope(scope)?
            .keeps(KeptKind::Secret, name.parse()?)
            .into(),
        other => {
            let message = format!("unknown kind {other:?}");
            return Err(Error::invalid("UnknownKind", message));
        }
    })
}

/// The cell a request names. An empty coordinate is `default`.
pub(super) fn cell_ref(name: &str, scope: Option<&v1::Scope>) -> Result<CellRef> {
    let scope = scope.cloned().unwrap_or_default();
    Ok(CellRef {
        realm: or_default(&scope.realm).parse()?,
        space: or_default(&scope.space).parse()?,
        stack: or_default(&scope.stack).parse()?,
        cell: name.parse()?,
    })
}

/// `default` where nothing is given.
pub(super) fn or_default(name: &str) -> &str {
    if name.is_empty() { "default" } else { name }
}
