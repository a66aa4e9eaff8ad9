//! Waiting for objects of the runtime: a state, or their end.

use super::Delivery;
use super::requests::LOOK;
use crate::api::v1::{self, object};
use crate::api::{Code, Error, Result};

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Until {
    State(String),
    /// The state is any other than this.
    Not(String),
    Gone,
}

impl Delivery {
    /// Waits until an object of the runtime is in a state, or gone. Its one
    /// condition, `Ready`, is the state of that name.
    pub(super) async fn wait_for_state(
        &self,
        request: &v1::WaitForRequest,
    ) -> Result<v1::ResourceResult> {
        let until = until(request)?;
        let asked = v1::GetRequest {
            kind: request.kind.clone(),
            name: request.name.clone(),
            scope: request.scope.clone(),
            ..Default::default()
        };
        let told = |action: &str| v1::ResourceResult {
            kind: request.kind.clone(),
            name: request.name.clone(),
            scope: request.scope.clone(),
            action: action.to_owned(),
            ..Default::default()
        };
        loop {
            let found = match self.inner.get(asked.clone()).await {
                Ok(found) => found.objects.into_iter().next(),
                Err(error) if error.code == Code::NotFound => None,
                Err(error) => return Err(error),
            };
            let now = found.as_ref().map(state);
            let met = match (&until, &now) {
                (Until::Gone, None) => return Ok(told("deleted")),
                (Until::State(wanted), Some(now)) => now == wanted,
                (Until::Not(other), Some(now)) => now != other,
                _ => false,
            };
            if met {
                return Ok(v1::ResourceResult {
                    object: found,
                    ..told("condition met")
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn until(request: &v1::WaitForRequest) -> Result<Until> {
    match (request.state.as_str(), request.condition.as_str()) {
        ("", "") => Ok(Until::Gone),
        ("", "Ready" | "ready") => match request.status.as_str() {
            "" | "True" | "true" => Ok(Until::State("Ready".to_owned())),
            "False" | "false" => Ok(Until::Not("Ready".to_owned())),
            other => {
                let message = format!("{other:?} is not True or False");
                Err(Error::invalid("BadStatus", message))
            }
        },
        ("", other) => {
            let message = format!("a {} has no condition {other:?}", request.kind);
            Err(Error::invalid("UnknownCondition", message)
                .hint("write --for=condition=Ready, --for=state=STATE or --for=delete"))
        }
        (state, _) => known(&request.kind, state).map(Until::State),
    }
}

/// States by kind, as objects show them; a slip would be waited for in vain.
fn known(kind: &str, state: &str) -> Result<String> {
    let all: &[&str] = match kind {
        "Cell" => &[
            "Pending", "Ready", "Stopped", "Failed", "Unknown", "Exited", "Error", "Degraded",
        ],
        "Container" => &[
            "Pending",
            "Ready",
            "Stopped",
            "Paused",
            "Failed",
            "Unknown",
            "NotCreated",
            "Exited",
            "Error",
        ],
        _ => &[
            "Pending", "Creating", "Ready", "Deleting", "Failed", "Unknown",
        ],
    };
    let found = all.iter().find(|known| known.eq_ignore_ascii_case(state));
    found.map(|known| (*known).to_owned()).ok_or_else(|| {
        let message = format!("a {kind} is never {state:?}");
        Error::invalid("UnknownState", message).hint(format!("its states are {}", all.join(", ")))
    })
}

fn state(object: &v1::Object) -> String {
    let state = match &object.object {
        Some(object::Object::Realm(o)) => o.status.as_ref().map(|s| s.state.clone()),
        Some(object::Object::Space(o)) => o.status.as_ref().map(|s| s.state.clone()),
        Some(object::Object::Stack(o)) => o.status.as_ref().map(|s| s.state.clone()),
        Some(object::Object::Cell(o)) => o.status.as_ref().map(|s| s.state.clone()),
        Some(object::Object::Container(o)) => o.status.as_ref().map(|s| s.state.clone()),
        _ => None,
    };
    state
        .filter(|state| !state.is_empty())
        .unwrap_or_else(|| "Pending".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(condition: &str, status: &str, state: &str) -> v1::WaitForRequest {
        v1::WaitForRequest {
            kind: "Cell".into(),
            condition: condition.into(),
            status: status.into(),
            state: state.into(),
            ..Default::default()
        }
    }

    #[test]
    fn what_can_be_waited_for() {
        let state = |s: &str| Until::State(s.to_owned());
        for (asked, wanted) in [
            (request("", "", ""), Until::Gone),
            (request("Ready", "True", ""), state("Ready")),
            (request("Ready", "False", ""), Until::Not("Ready".into())),
            (request("", "", "exited"), state("Exited")),
        ] {
            assert_eq!(until(&asked), Ok(wanted), "{asked:?}");
        }
        for wrong in [
            request("Synced", "True", ""),
            request("Ready", "perhaps", ""),
            request("", "", "Redy"),
        ] {
            assert!(until(&wrong).is_err(), "{wrong:?}");
        }
    }
}
