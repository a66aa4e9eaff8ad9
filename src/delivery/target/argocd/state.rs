//! What an Application's status says of a Serving. Pure.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::application::Application;

/// How an Application stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Whether the live state is that of the wanted digest.
    pub synced: bool,
    /// Whether Argo CD calls it healthy.
    pub healthy: bool,
    /// `status.health.status`, for people; empty before the first look.
    pub health: String,
    /// `status.sync.status`, for people; empty before the first look.
    pub sync: String,
    /// Fields of the spec that others changed, as `path: have, want …`.
    pub drifted: Vec<String>,
    /// What to do about it.
    pub verdict: Verdict,
}

/// What follows from a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The wanted digest runs and is healthy.
    Deployed,
    /// Not there yet: what is waited for.
    Waiting(String),
    /// A sync of the wanted digest failed: why.
    Failed(String),
    /// Synced but not healthy: fails once the wait is over.
    Degraded(String),
}

/// Reads an Application's status.
pub(super) fn read(live: &DynamicObject, wanted: &Application) -> Observed {
    let status = &live.data["status"];
    let text = |path: &str| {
        let found = status.pointer(path).and_then(Value::as_str);
        found.unwrap_or_default().to_owned()
    };
    let (sync, health) = (text("/sync/status"), text("/health/status"));
    let at_wanted = text("/sync/revision") == wanted.digest;
    let synced = sync == "Synced" && at_wanted;
    let healthy = health == "Healthy";
    let why = || {
        let message = text("/health/message");
        match message.is_empty() {
            true => format!("health is {}", known(&health)),
            false => format!("health is {}: {message}", known(&health)),
        }
    };
    // An older digest's operation says nothing of this one.
    let operation_of_wanted = text("/operationState/syncResult/revision") == wanted.digest
        || text("/operationState/operation/sync/revision") == wanted.digest;
    let phase = text("/operationState/phase");
    let verdict = if operation_of_wanted && matches!(phase.as_str(), "Failed" | "Error") {
        Verdict::Failed(format!(
            "sync {}: {}",
            phase.to_lowercase(),
            known(&text("/operationState/message"))
        ))
    } else if !synced {
        let condition = error_condition(status);
        Verdict::Waiting(match (at_wanted, condition) {
            (_, Some(condition)) => condition,
            (true, None) => format!("sync is {}", known(&sync)),
            (false, None) => "Argo CD has not compared the new digest yet".to_owned(),
        })
    } else if healthy {
        Verdict::Deployed
    } else if health == "Degraded" {
        Verdict::Degraded(why())
    } else {
        Verdict::Waiting(why())
    };
    Observed {
        synced,
        healthy,
        health,
        sync,
        drifted: drifted("", &wanted.body()["spec"], &live.data["spec"]),
        verdict,
    }
}

/// The fields of ours in which an Application differs from what it will be.
pub(super) fn changes(live: &DynamicObject, then: &DynamicObject) -> Vec<String> {
    let of = |object: &DynamicObject| {
        json!({
            "metadata": {
                "labels": object.metadata.labels,
                "annotations": object.metadata.annotations,
                "finalizers": object.metadata.finalizers,
            },
            "spec": object.data["spec"],
        })
    };
    let (then, live) = (of(then), of(live));
    let mut changes = drifted("", &then, &live);
    // From the other side: what is there and will not be.
    let gone = drifted("", &live, &then).into_iter().filter_map(|line| {
        let (path, _) = line.split_once(": is null, want ")?;
        Some(format!("{path}: removed"))
    });
    changes.extend(gone);
    changes
}

/// The first of Argo CD's error conditions, such as an artifact it cannot fetch.
fn error_condition(status: &Value) -> Option<String> {
    let conditions = status["conditions"].as_array()?;
    let error = conditions
        .iter()
        .find(|c| c["type"].as_str().is_some_and(|t| t.ends_with("Error")))?;
    Some(format!(
        "{}: {}",
        error["type"].as_str().unwrap_or_default(),
        error["message"].as_str().unwrap_or_default()
    ))
}

fn known(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}

/// Wanted fields that differ in the live object; fields of others do not count.
fn drifted(path: &str, want: &Value, have: &Value) -> Vec<String> {
    match (want, have) {
        (Value::Object(want), Value::Object(have)) => want
            .iter()
            .flat_map(|(key, want)| {
                let path = match path {
                    "" => key.clone(),
                    _ => format!("{path}.{key}"),
                };
                drifted(&path, want, have.get(key).unwrap_or(&Value::Null))
            })
            .collect(),
        _ if want == have => Vec::new(),
        _ => vec![format!("{path}: is {have}, want {want}")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Application {
        super::super::testing::application("web")
    }

    fn look(status: Value) -> Observed {
        let mut live: DynamicObject = serde_json::from_value(wanted().body()).unwrap();
        live.data["status"] = status;
        read(&live, &wanted())
    }

    fn digest() -> String {
        wanted().digest
    }

    #[test]
    fn healthy_and_synced_at_the_digest_is_deployed() {
        let seen = look(json!({
            "sync": { "status": "Synced", "revision": digest() },
            "health": { "status": "Healthy" },
        }));
        assert_eq!(seen.verdict, Verdict::Deployed);
        assert!(seen.synced && seen.healthy && seen.drifted.is_empty());
    }

    #[test]
    fn synced_at_an_older_digest_is_not_deployed() {
        let seen = look(json!({
            "sync": { "status": "Synced", "revision": "sha256:old" },
            "health": { "status": "Healthy" },
        }));
        assert!(!seen.synced);
        assert!(matches!(seen.verdict, Verdict::Waiting(_)), "{seen:?}");
    }

    #[test]
    fn an_older_failure_does_not_count() {
        let failed = |revision: &str| {
            look(json!({
                "sync": { "status": "OutOfSync", "revision": digest() },
                "operationState": {
                    "phase": "Failed", "message": "no", "syncResult": { "revision": revision },
                },
            }))
            .verdict
        };
        assert_eq!(failed(&digest()), Verdict::Failed("sync failed: no".into()));
        assert!(matches!(failed("sha256:old"), Verdict::Waiting(_)));
    }

    #[test]
    fn degraded_says_why() {
        let seen = look(json!({
            "sync": { "status": "Synced", "revision": digest() },
            "health": { "status": "Degraded", "message": "0 of 1 ready" },
        }));
        assert_eq!(
            seen.verdict,
            Verdict::Degraded("health is Degraded: 0 of 1 ready".into())
        );
    }

    #[test]
    fn an_artifact_that_cannot_be_fetched_is_told() {
        let seen = look(json!({
            "conditions": [{ "type": "ComparisonError", "message": "manifest unknown" }],
        }));
        assert_eq!(
            seen.verdict,
            Verdict::Waiting("ComparisonError: manifest unknown".into())
        );
    }

    #[test]
    fn drift_names_our_fields_only() {
        let mut live: DynamicObject = serde_json::from_value(wanted().body()).unwrap();
        live.data["spec"]["project"] = "other".into();
        live.data["spec"]["info"] = json!([{ "name": "theirs" }]);
        let seen = read(&live, &wanted());
        assert_eq!(seen.drifted, ["project: is \"other\", want \"default\""]);
    }

    #[test]
    fn changes_are_what_comes_and_what_goes() {
        let live: DynamicObject = serde_json::from_value(wanted().body()).unwrap();
        let mut other = wanted();
        other.commit_message = String::new();
        other.prune = false;
        let then: DynamicObject = serde_json::from_value(other.body()).unwrap();
        assert_eq!(
            changes(&live, &then),
            [
                "spec.syncPolicy.automated.prune: is true, want false",
                "metadata.annotations.delivery.kokumi.dev/commit-message: removed",
            ]
        );
        assert!(changes(&live, &live).is_empty());
    }
}
