//! What is only looked at: probes, preparations, servings.

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;

use crate::api::v1;
use crate::web::answer::{Answer, json_ok, object_with};
use crate::web::app::App;
use crate::web::caller::Caller;
use crate::web::request::{list, one};

pub fn routes() -> Router<App> {
    Router::new()
        .route("/preparations", get(preparations))
        .route("/preparations/{ns}/{name}", get(preparation))
        .route("/preparations/{ns}/{name}/manifest", get(manifest))
        .route("/preparations/{ns}/{name}/manifest/files", get(files))
        .route("/servings", get(servings))
        .route("/servings/{ns}/{name}", get(serving))
}

/// Which objects of a list.
#[derive(Default, Deserialize)]
pub struct Within {
    #[serde(default)]
    pub namespace: String,
}

pub async fn healthy() -> impl IntoResponse {
    "ok\n"
}

/// Whether the capability behind the pages answers.
pub async fn ready(State(app): State<App>) -> Answer {
    let request = v1::GetRequest {
        kind: "Kitchen".to_owned(),
        ..Default::default()
    };
    app.kukeon().get(request).await?;
    Ok("ok\n".into_response())
}

async fn preparations(State(app): State<App>, _: Caller, Query(at): Query<Within>) -> Answer {
    let found = list(&app, "Preparation", &at.namespace, "").await?;
    Ok(json_ok(&json!({ "items": found })))
}

async fn preparation(
    State(app): State<App>,
    _: Caller,
    Path((ns, name)): Path<(String, String)>,
) -> Answer {
    let found = one(&app, "Preparation", &ns, &name).await?;
    Ok(object_with(http::StatusCode::OK, &found))
}

async fn servings(State(app): State<App>, _: Caller, Query(at): Query<Within>) -> Answer {
    let found = list(&app, "Serving", &at.namespace, "").await?;
    Ok(json_ok(&json!({ "items": found })))
}

async fn serving(
    State(app): State<App>,
    _: Caller,
    Path((ns, name)): Path<(String, String)>,
) -> Answer {
    let found = one(&app, "Serving", &ns, &name).await?;
    Ok(object_with(http::StatusCode::OK, &found))
}

async fn text(
    app: &App,
    ns: String,
    name: String,
) -> Result<v1::ManifestResponse, crate::api::Error> {
    let request = v1::ManifestRequest {
        namespace: ns,
        preparation: name,
    };
    app.kukeon().manifest(request).await
}

async fn manifest(
    State(app): State<App>,
    _: Caller,
    Path((ns, name)): Path<(String, String)>,
) -> Answer {
    Ok(json_ok(&text(&app, ns, name).await?))
}

async fn files(
    State(app): State<App>,
    _: Caller,
    Path((ns, name)): Path<(String, String)>,
) -> Answer {
    let found = text(&app, ns, name).await?;
    let file = json!({ "name": "manifest.yaml", "content": found.text });
    Ok(json_ok(&json!({ "files": [file], "digest": found.digest })))
}
