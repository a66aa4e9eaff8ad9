//! Waiting for objects of the runtime: a state, or their end.

use super::Delivery;
use super::requests::LOOK;
use crate::api::v1::{self, object};
use crate::api::{Code, Error, Result, v1beta1};
use crate::model::{ContainerSpec, RestartPolicy};
use crate::scheme;

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
            if request.settled {
                match found.as_ref().map(|found| settled(&request.name, found)) {
                    // It has done its work and removed itself.
                    None => return Ok(told("deleted")),
                    Some(Settled::Yes) => {
                        return Ok(v1::ResourceResult {
                            object: found,
                            ..told("condition met")
                        });
                    }
                    Some(Settled::Failed(error)) => return Err(error),
                    Some(Settled::NotYet) => {}
                }
            }
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

/// Whether an object that was applied is where it should be.
#[derive(Debug, PartialEq, Eq)]
enum Settled {
    Yes,
    NotYet,
    Failed(Error),
}

fn settled(name: &str, found: &v1::Object) -> Settled {
    let now = state(found);
    let cell = match &found.object {
        Some(object::Object::Cell(cell)) => Some(cell),
        _ => None,
    };
    match now.as_str() {
        "Ready" => Settled::Yes,
        "Exited" if cell.is_none_or(ends_for_good) => Settled::Yes,
        "Failed" | "Error" | "Stopped" => {
            let status = cell.and_then(|cell| cell.status.as_ref());
            let why = status.map_or("", |status| &status.message);
            let message = format!(
                "{name:?} is {now}{}{why}",
                if why.is_empty() { "" } else { ": " }
            );
            Settled::Failed(Error::new(Code::Failed, "NotReady", message))
        }
        _ => Settled::NotYet,
    }
}

/// Whether none of a Cell's containers is started again after it ended.
fn ends_for_good(cell: &v1beta1::Cell) -> bool {
    let cell = scheme::cell_to_model(cell.clone());
    let never = |c: &ContainerSpec| c.restart_policy == RestartPolicy::Never;
    cell.is_ok_and(|cell| cell.spec.containers.iter().all(never))
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

    /// A Cell in this state, whose container has this policy.
    fn cell(state: &str, policy: &str) -> v1::Object {
        let text = format!(
            "apiVersion: v1beta1\nkind: Cell\nmetadata: {{name: web}}\nspec: {{realmId: r, \
             spaceId: s, stackId: t, containers: [{{id: a, image: b, restartPolicy: {policy}}}]}}\n\
             status: {{state: {state}}}\n"
        );
        v1::Object {
            object: Some(object::Object::Cell(serde_saphyr::from_str(&text).unwrap())),
        }
    }

    #[test]
    fn what_was_applied_settles_or_fails() {
        let look = |state, policy| settled("web", &cell(state, policy));
        assert_eq!(look("Ready", "always"), Settled::Yes);
        assert_eq!(look("Exited", "never"), Settled::Yes);
        assert_eq!(look("Exited", "always"), Settled::NotYet);
        for waits in ["Pending", "Degraded", "Unknown"] {
            assert_eq!(look(waits, "never"), Settled::NotYet, "{waits}");
        }
        for fails in ["Error", "Failed", "Stopped"] {
            let failed = look(fails, "never");
            assert!(matches!(failed, Settled::Failed(_)), "{failed:?}");
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
