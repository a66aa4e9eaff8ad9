//! containerd's event stream.

use std::time::Duration;

use containerd_client::events as event;
use containerd_client::services::v1::events_client::EventsClient;
use containerd_client::services::v1::{PublishRequest, SubscribeRequest};
use containerd_client::types::Envelope;
use futures::StreamExt;
use futures::stream::BoxStream;
use prost::{Message, Name};

use super::filter::quote;
use crate::runtime::{Connection, Result, RuntimeEvent, RuntimeEventKind};

/// Topics we listen to. Execs have topics of their own, but their exits share
/// `/tasks/exit` and `/tasks/delete`.
const TOPICS: [&str; 9] = [
    "/tasks/start",
    "/tasks/exit",
    "/tasks/oom",
    "/tasks/delete",
    "/tasks/paused",
    "/tasks/resumed",
    "/containers/create",
    "/containers/update",
    "/containers/delete",
];

/// A topic of our own, see [`subscribe`].
const MARK: &str = "/kukeon/subscribed";
/// First pause before the mark is published again.
const PAUSE: Duration = Duration::from_millis(5);

/// Events of all namespaces from now on.
///
/// containerd answers a subscription only with the first event, and tells in no
/// other way that it has taken effect. So an event is made for it to answer with:
/// when this returns, nothing that happens later is missed.
pub async fn subscribe(c: &Connection) -> Result<BoxStream<'static, Result<RuntimeEvent>>> {
    let filters = TOPICS
        .iter()
        .chain(&[MARK])
        .map(|topic| format!("topic=={}", quote(topic)))
        .collect();
    let mut client = EventsClient::new(c.channel.clone());
    // No namespace is filtered; the header is only a formality here.
    let answer = client.subscribe(c.request("default", SubscribeRequest { filters }));
    tokio::pin!(answer);
    let mut pause = PAUSE;
    let stream = loop {
        tokio::select! {
            answer = &mut answer => break answer,
            published = mark(c, pause) => published?,
        }
        pause *= 2;
    };
    let stream = stream
        .map_err(|s| c.error("subscribing to events", &s))?
        .into_inner();
    let c = c.clone();
    Ok(stream
        .filter_map(move |item| {
            let mapped = match item {
                Ok(envelope) => translate(envelope).map(Ok),
                Err(status) => Some(Err(c.error("reading events", &status))),
            };
            async move { mapped }
        })
        .boxed())
}

/// Publishes the mark after a pause. Its payload is of a type that every
/// client of containerd can decode.
async fn mark(c: &Connection, pause: Duration) -> Result<()> {
    tokio::time::sleep(pause).await;
    let payload = event::NamespaceUpdate {
        name: "kukeon".into(),
        ..Default::default()
    };
    let request = PublishRequest {
        topic: MARK.into(),
        event: Some(prost_types::Any {
            type_url: event::NamespaceUpdate::full_name(),
            value: payload.encode_to_vec(),
        }),
    };
    EventsClient::new(c.channel.clone())
        .publish(c.call("default", request))
        .await
        .map(drop)
        .map_err(|s| c.error("subscribing to events", &s))
}

/// What an envelope means; `None` when it does not concern a container itself.
fn translate(envelope: Envelope) -> Option<RuntimeEvent> {
    use RuntimeEventKind::{ContainerChanged, Exit, OutOfMemory, TaskChanged};

    let any = envelope.event?;
    let (container, kind) = match envelope.topic.as_str() {
        "/tasks/exit" => {
            let e: event::TaskExit = decode(&any)?;
            // The id is the exec's; the first process has the container's.
            if e.id != e.container_id {
                return None;
            }
            (e.container_id, Exit)
        }
        "/tasks/delete" => {
            let e: event::TaskDelete = decode(&any)?;
            // Empty for the first process on some versions.
            if !e.id.is_empty() && e.id != e.container_id {
                return None;
            }
            (e.container_id, TaskChanged)
        }
        "/tasks/oom" => (decode::<event::TaskOom>(&any)?.container_id, OutOfMemory),
        "/tasks/start" => (decode::<event::TaskStart>(&any)?.container_id, TaskChanged),
        "/tasks/paused" => (decode::<event::TaskPaused>(&any)?.container_id, TaskChanged),
        "/tasks/resumed" => (
            decode::<event::TaskResumed>(&any)?.container_id,
            TaskChanged,
        ),
        "/containers/create" => (decode::<event::ContainerCreate>(&any)?.id, ContainerChanged),
        "/containers/update" => (decode::<event::ContainerUpdate>(&any)?.id, ContainerChanged),
        "/containers/delete" => (decode::<event::ContainerDelete>(&any)?.id, ContainerChanged),
        _ => return None,
    };
    Some(RuntimeEvent {
        namespace: envelope.namespace,
        container,
        kind,
    })
}

/// Decodes the payload. Its type URL is the bare message name in containerd, so
/// prost's own check (which wants a host) does not fit.
fn decode<M: Message + Name + Default>(any: &prost_types::Any) -> Option<M> {
    (any.type_url.rsplit('/').next()? == M::full_name())
        .then(|| M::decode(any.value.as_slice()).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope<M: Message + Name>(topic: &str, message: &M) -> Envelope {
        Envelope {
            timestamp: None,
            namespace: "n".into(),
            topic: topic.into(),
            event: Some(prost_types::Any {
                type_url: M::full_name(),
                value: message.encode_to_vec(),
            }),
        }
    }

    fn exit(id: &str) -> event::TaskExit {
        event::TaskExit {
            container_id: "c".into(),
            id: id.into(),
            ..Default::default()
        }
    }

    #[test]
    fn exit_of_an_exec_is_not_the_containers() {
        assert_eq!(translate(envelope("/tasks/exit", &exit("exec-1"))), None);
        let own = translate(envelope("/tasks/exit", &exit("c"))).unwrap();
        assert_eq!(
            (own.container.as_str(), own.kind),
            ("c", RuntimeEventKind::Exit)
        );
        assert_eq!(own.namespace, "n");
    }

    #[test]
    fn a_foreign_payload_is_ignored() {
        assert_eq!(translate(envelope("/tasks/start", &exit("c"))), None);
        assert_eq!(translate(envelope("/images/create", &exit("c"))), None);
    }

    #[test]
    fn records_and_tasks_are_told_apart() {
        let deleted = event::ContainerDelete { id: "c".into() };
        assert_eq!(
            translate(envelope("/containers/delete", &deleted))
                .unwrap()
                .kind,
            RuntimeEventKind::ContainerChanged
        );
        let deleted = event::TaskDelete {
            container_id: "c".into(),
            ..Default::default()
        };
        assert_eq!(
            translate(envelope("/tasks/delete", &deleted)).unwrap().kind,
            RuntimeEventKind::TaskChanged
        );
    }
}
