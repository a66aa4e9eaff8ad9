//! Pantries. Passwords go in and never come out.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::routing::get;
use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::look::Within;
use crate::api::v1;
use crate::auth::people::Role;
use crate::web::answer::{Answer, json_ok, object_with};
use crate::web::app::App;
use crate::web::caller::Caller;
use crate::web::request::{Document, apply, change, if_match, list, one, scope};

const KIND: &str = "Pantry";

pub fn routes() -> Router<App> {
    Router::new()
        .route("/pantries", get(all).post(create))
        .route(
            "/pantries/{ns}/{name}",
            get(read).put(replace).delete(remove),
        )
}

type At = Path<(String, String)>;

async fn all(State(app): State<App>, _: Caller, Query(at): Query<Within>) -> Answer {
    let found = list(&app, KIND, &at.namespace, "").await?;
    Ok(json_ok(&json!({ "items": found })))
}

async fn read(State(app): State<App>, _: Caller, Path((ns, name)): At) -> Answer {
    Ok(object_with(
        StatusCode::OK,
        &one(&app, KIND, &ns, &name).await?,
    ))
}

async fn create(State(app): State<App>, caller: Caller, body: Bytes) -> Answer {
    caller.needs(Role::Admin)?;
    let document = Document::read(&body, KIND)?;
    let request = v1::ApplyRequest {
        create_only: true,
        ..Default::default()
    };
    apply(&app, &caller, &document, request).await?;
    let made = one(&app, KIND, &document.namespace, &document.name).await?;
    Ok(object_with(StatusCode::CREATED, &made))
}

async fn replace(
    State(app): State<App>,
    caller: Caller,
    Path((ns, name)): At,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    caller.needs(Role::Admin)?;
    let document = Document::read(&body, KIND)?;
    document.is_about(&ns, &name)?;
    one(&app, KIND, &ns, &name).await?;
    let request = v1::ApplyRequest {
        expected_version: if_match(&headers)?,
        ..Default::default()
    };
    apply(&app, &caller, &document, request).await?;
    Ok(object_with(
        StatusCode::OK,
        &one(&app, KIND, &ns, &name).await?,
    ))
}

async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path((ns, name)): At,
    headers: HeaderMap,
) -> Answer {
    caller.needs(Role::Admin)?;
    let request = v1::DeleteRequest {
        kind: KIND.to_owned(),
        name: name.clone(),
        scope: scope(&ns),
        expected_version: if_match(&headers)?,
        ..Default::default()
    };
    let what = format!("delete {KIND} {ns}/{name}");
    change(&caller, &what, app.kukeon().delete(request)).await?;
    Ok(json_ok(&json!({})))
}
