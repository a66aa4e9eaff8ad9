//! An API server in memory, for tests: what was sent, and answers to it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Json, Response};
use serde_json::{Value, json};

pub const APPS: &str = "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications";

/// An API server.
#[derive(Clone, Default)]
pub struct Server(Arc<Mutex<Inside>>);

#[derive(Default)]
pub struct Inside {
    /// Whether Argo CD is installed.
    pub argocd: bool,
    /// Whether it says that it cannot answer.
    pub down: bool,
    /// So many requests are answered that it is busy.
    pub busy: usize,
    /// Status of so many answers, of a server that had an accident. A status of 0
    /// cuts the connection.
    pub accidents: (usize, u16),
    /// So many patches that are to be kept are answered that it is busy.
    pub busy_patches: usize,
    /// Whether every version is too old to be watched from.
    pub expired: bool,
    /// Lists of Applications.
    pub lists: usize,
    /// Objects by path.
    pub objects: BTreeMap<String, Value>,
    /// Patches: path with query, and body.
    pub patches: Vec<(String, Value)>,
    version: u64,
    /// Looks at single Applications.
    pub looks: usize,
}

async fn answer(State(server): State<Server>, method: Method, uri: Uri, body: Bytes) -> Response {
    let mut inside = server.0.lock().unwrap();
    let path = uri.path().to_owned();
    let dry = uri.query().is_some_and(|q| q.contains("dryRun=All"));
    let missing = || {
        let body = json!({ "kind": "Status", "status": "Failure", "code": 404, "message": "no", "reason": "NotFound" });
        (StatusCode::NOT_FOUND, Json(body)).into_response()
    };
    let kept = method == Method::PATCH && !dry;
    let busy = inside.busy > 0 || (kept && inside.busy_patches > 0);
    if inside.down || busy {
        inside.busy = inside.busy.saturating_sub(1);
        if kept {
            inside.busy_patches = inside.busy_patches.saturating_sub(1);
        }
        let body = json!({ "kind": "Status", "status": "Failure", "code": 503, "message": "down", "reason": "ServiceUnavailable" });
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    }
    if inside.accidents.0 > 0 {
        inside.accidents.0 -= 1;
        let status = inside.accidents.1;
        if status == 0 {
            drop(inside);
            // The connection ends with the task that serves it.
            std::panic::resume_unwind(Box::new("cut"));
        }
        let body = json!({ "kind": "Status", "status": "Failure", "code": status, "message": "oh", "reason": "InternalError" });
        return (StatusCode::from_u16(status).unwrap(), Json(body)).into_response();
    }
    match (method, path.as_str()) {
        (_, "/version") => {
            Json(json!({ "major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": "" })).into_response()
        }
        (_, "/apis/argoproj.io/v1alpha1") if inside.argocd => Json(json!({
            "kind": "APIResourceList", "groupVersion": "argoproj.io/v1alpha1", "resources": [{
                "name": "applications", "singularName": "application", "namespaced": true,
                "kind": "Application", "verbs": ["get"] }],
        }))
        .into_response(),
        (Method::GET, APPS) => {
            let query = uri.query().unwrap_or_default();
            if query.contains("watch=true") {
                let expired = inside.expired;
                drop(inside);
                return match expired {
                    true => too_old(),
                    false => watch(server, query),
                };
            }
            inside.lists += 1;
            let name = query.split("fieldSelector=metadata.name%3D").nth(1);
            let name = name.and_then(|rest| rest.split('&').next()).unwrap_or_default();
            let found = inside.objects.get(&format!("{APPS}/{name}"));
            Json(json!({
                "apiVersion": "argoproj.io/v1alpha1",
                "kind": "ApplicationList",
                "metadata": { "resourceVersion": inside.version.to_string() },
                "items": found.into_iter().collect::<Vec<_>>(),
            }))
            .into_response()
        }
        (Method::GET, path) => {
            inside.looks += 1;
            match inside.objects.get(path) {
                Some(object) => Json(object.clone()).into_response(),
                None => missing(),
            }
        }
        (Method::PATCH, path) => {
            let sent: Value = serde_json::from_slice(&body).unwrap();
            inside.patches.push((uri.to_string(), sent.clone()));
            let old = inside.objects.get(path).cloned();
            let mut new = match &old {
                // A merge patch of finalizers is the only one that is sent.
                Some(old) if sent.get("spec").is_none() && sent.get("data").is_none() => {
                    let mut new = old.clone();
                    new["metadata"]["finalizers"] = sent["metadata"]["finalizers"].clone();
                    new
                }
                Some(old) => {
                    let mut new = sent;
                    if let Some(status) = old.get("status") {
                        new["status"] = status.clone();
                    }
                    new
                }
                None => sent,
            };
            let plain = |object: &Value| {
                let mut object = object.clone();
                let meta = object["metadata"].as_object_mut().unwrap();
                meta.remove("resourceVersion");
                meta.remove("uid");
                object
            };
            let same = old.as_ref().is_some_and(|old| plain(old) == plain(&new));
            if same && let Some(old) = &old {
                new = old.clone();
            } else {
                inside.version += 1;
                new["metadata"]["resourceVersion"] = inside.version.to_string().into();
                new["metadata"]["uid"] = "1".into();
            }
            if !dry {
                inside.objects.insert(path.to_owned(), new.clone());
            }
            Json(new).into_response()
        }
        (Method::DELETE, path) => {
            let Some(object) = inside.objects.get_mut(path) else {
                return missing();
            };
            let held = object["metadata"]["finalizers"].as_array();
            if held.is_some_and(|f| !f.is_empty()) {
                object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
                return Json(object.clone()).into_response();
            }
            let gone = inside.objects.remove(path);
            Json(gone).into_response()
        }
        _ => missing(),
    }
}

/// What a server says to a version that it does not know any more.
fn too_old() -> Response {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410,
        "message": "too old resource version", "reason": "Expired" });
    let line = format!("{}\n", json!({ "type": "ERROR", "object": status }));
    Body::from(line).into_response()
}

/// Tells every change of one Application since the version that was asked for.
fn watch(server: Server, query: &str) -> Response {
    let of = |key: &str| {
        let mut found = query.split('&').filter_map(|part| part.strip_prefix(key));
        found.next().unwrap_or_default().to_owned()
    };
    let name = of("fieldSelector=metadata.name%3D");
    assert!(!name.is_empty() && of("watch=") == "true", "{query}");
    let from: u64 = of("resourceVersion=").parse().unwrap();
    // What the version that was listed had of the Application.
    let seen = server.application(&name).unwrap_or_default()["metadata"]["resourceVersion"].clone();
    let seen = match seen.as_str().and_then(|v| v.parse::<u64>().ok()) {
        Some(now) if now > from => json!("before"),
        _ => seen,
    };
    let events = futures::stream::unfold((server, seen), move |(server, seen)| {
        let name = name.clone();
        async move {
            loop {
                let now = server.application(&name).unwrap_or_default();
                let version = now["metadata"]["resourceVersion"].clone();
                if version != seen {
                    let (kind, object) = match (&seen, &version) {
                        (Value::Null, _) => ("ADDED", now),
                        (_, Value::Null) => ("DELETED", gone(&name)),
                        _ => ("MODIFIED", now),
                    };
                    let line = format!("{}\n", json!({ "type": kind, "object": object }));
                    return Some((Ok::<_, std::io::Error>(line), (server, version)));
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    Body::from_stream(events).into_response()
}

/// What is told of an object that was deleted.
fn gone(name: &str) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": { "name": name },
    })
}

impl Server {
    /// Serves on the loopback interface; gives a kubeconfig.
    pub async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: 'http://{address}'}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             users: [{{name: u, user: {{token: t}}}}]\n"
        )
    }

    pub fn set(&self, change: impl FnOnce(&mut Inside)) {
        change(&mut self.0.lock().unwrap());
    }

    /// Objects that were sent since the last call.
    pub fn sent(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.0.lock().unwrap().patches)
    }

    /// Looks at Applications since the last call.
    pub fn looks(&self) -> usize {
        std::mem::take(&mut self.0.lock().unwrap().looks)
    }

    pub fn application(&self, name: &str) -> Option<Value> {
        let inside = self.0.lock().unwrap();
        inside.objects.get(&format!("{APPS}/{name}")).cloned()
    }

    pub fn edit(&self, name: &str, edit: impl FnOnce(&mut Value)) {
        self.set(|s| {
            s.version += 1;
            let object = s.objects.get_mut(&format!("{APPS}/{name}")).unwrap();
            edit(object);
            object["metadata"]["resourceVersion"] = s.version.to_string().into();
        });
    }
}
