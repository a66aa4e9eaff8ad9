//! Menus and their runs. Without a namespace it is `default`.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::look::Within;
use crate::api::v1::{self, Action};
use crate::auth::people::Role;
use crate::web::answer::{Answer, Refusal, json_ok, object_with};
use crate::web::app::App;
use crate::web::caller::Caller;
use crate::web::object;
use crate::web::request::{
    DEFAULT, Document, apply, change, if_match, list, one, scope, unchanged,
};

const KIND: &str = "Menu";

pub fn routes() -> Router<App> {
    Router::new()
        .route("/menus", get(all).post(create))
        .route("/menus/{name}", get(read).put(replace).delete(remove))
        .route("/menus/{ns}/{name}", get(read).put(replace).delete(remove))
        .route("/menus/{ns}/{name}/runs", get(runs).post(run))
        .route("/menus/{ns}/{name}/plan", get(plan))
        .route("/menus/{ns}/{name}/{action}", post(act))
}

/// Namespace and name, or a name alone.
#[derive(serde::Deserialize)]
struct At {
    #[serde(default = "default")]
    ns: String,
    name: String,
}

fn default() -> String {
    DEFAULT.to_owned()
}

async fn all(State(app): State<App>, _: Caller, Query(at): Query<Within>) -> Answer {
    let found = list(&app, KIND, &at.namespace, "").await?;
    Ok(json_ok(&json!({ "items": found })))
}

async fn read(State(app): State<App>, _: Caller, Path(at): Path<At>) -> Answer {
    let found = one(&app, KIND, &at.ns, &at.name).await?;
    Ok(object_with(StatusCode::OK, &found))
}

async fn create(State(app): State<App>, caller: Caller, body: Bytes) -> Answer {
    caller.needs(Role::Deployer)?;
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
    Path(at): Path<At>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    caller.needs(Role::Deployer)?;
    let document = Document::read(&body, KIND)?;
    document.is_about(&at.ns, &at.name)?;
    one(&app, KIND, &at.ns, &at.name).await?;
    let request = v1::ApplyRequest {
        expected_version: if_match(&headers)?,
        ..Default::default()
    };
    apply(&app, &caller, &document, request).await?;
    let found = one(&app, KIND, &at.ns, &at.name).await?;
    Ok(object_with(StatusCode::OK, &found))
}

async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path(at): Path<At>,
    headers: HeaderMap,
) -> Answer {
    caller.needs(Role::Deployer)?;
    let request = v1::DeleteRequest {
        kind: KIND.to_owned(),
        name: at.name.clone(),
        scope: scope(&at.ns),
        expected_version: if_match(&headers)?,
        ..Default::default()
    };
    let what = format!("delete {KIND} {}/{}", at.ns, at.name);
    change(&caller, &what, app.kukeon().delete(request)).await?;
    Ok(json_ok(&json!({})))
}

async fn runs(State(app): State<App>, _: Caller, Path(at): Path<At>) -> Answer {
    let found = one(&app, KIND, &at.ns, &at.name).await?;
    let menu = object::menus(vec![found]).pop().unwrap_or_default();
    let status = menu.status.unwrap_or_default();
    Ok(json_ok(&json!({
        "currentRun": status.current_run,
        "items": status.runs,
    })))
}

/// What a run would do; nothing is changed.
async fn plan(State(app): State<App>, caller: Caller, Path(at): Path<At>) -> Answer {
    // It asks registries whether images are there.
    caller.needs(Role::Deployer)?;
    let results = asked(&app, &caller, &at, Action::Plan, true).await?;
    Ok(json_ok(&json!({ "results": results })))
}

async fn run(
    State(app): State<App>,
    caller: Caller,
    Path(at): Path<At>,
    headers: HeaderMap,
) -> Answer {
    acted(app, caller, at, headers, Action::Run).await
}

async fn act(
    State(app): State<App>,
    caller: Caller,
    Path((ns, name, action)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Answer {
    let action = match action.as_str() {
        "run" => Action::Run,
        "retry" => Action::Retry,
        "abort" => Action::Abort,
        "force" => Action::Force,
        "suspend" => Action::Suspend,
        "unsuspend" => Action::Unsuspend,
        other => {
            let message = format!("there is no action {other:?}");
            return Err(Refusal::new(
                StatusCode::NOT_FOUND,
                "NoSuchAddress",
                message,
            ));
        }
    };
    acted(app, caller, At { ns, name }, headers, action).await
}

async fn acted(app: App, caller: Caller, at: At, headers: HeaderMap, action: Action) -> Answer {
    caller.needs(Role::Deployer)?;
    unchanged(&headers, &one(&app, KIND, &at.ns, &at.name).await?)?;
    let results = asked(&app, &caller, &at, action, false).await?;
    Ok(json_ok(&json!({ "results": results })))
}

async fn asked(
    app: &App,
    caller: &Caller,
    at: &At,
    action: Action,
    dry_run: bool,
) -> Result<Vec<v1::ResourceResult>, Refusal> {
    let request = v1::ActRequest {
        kind: KIND.to_owned(),
        namespace: at.ns.clone(),
        name: at.name.clone(),
        action: action.into(),
        dry_run,
        ..Default::default()
    };
    let what = format!("{} {}/{}", action.as_str_name(), at.ns, at.name);
    change(caller, &what, app.kukeon().act(request)).await
}
