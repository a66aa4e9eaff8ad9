//! Recipes, and what is done with them. `orders` is their older name.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::routing::{get, post, put};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::look::Within;
use crate::api::delivery::v1alpha1::{Patch, Recipe};
use crate::api::v1::{self, Action};
use crate::api::{Code, Error, Release};
use crate::auth::people::Role;
use crate::model::delivery::keys;
use crate::web::answer::{Answer, Refusal, json_ok, json_with, object_with};
use crate::web::app::App;
use crate::web::caller::Caller;
use crate::web::object;
use crate::web::request::{Document, apply, change, if_match, list, one, scope, unchanged};

const KIND: &str = "Recipe";

pub fn routes() -> Router<App> {
    Router::new()
        .route("/", get(all).post(create))
        .route("/preview", post(preview))
        .route("/preview/files", post(preview_files))
        .route("/{ns}/{name}", get(read).put(replace).delete(remove))
        .route("/{ns}/{name}/edits", put(edit))
        .route("/{ns}/{name}/preparations", get(preparations))
        .route("/{ns}/{name}/promote", post(promote))
        .route("/{ns}/{name}/rollback", post(rollback))
        .route("/{ns}/{name}/{action}", post(act))
        .route("/{ns}/{name}/history", get(history))
        .route("/{ns}/{name}/diff", get(diff))
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
    caller.needs(Role::Editor)?;
    let document = Document::read(&body, KIND)?;
    may_deploy(&caller, None, &document)?;
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
    caller.needs(Role::Editor)?;
    let document = Document::read(&body, KIND)?;
    document.is_about(&ns, &name)?;
    let old = one(&app, KIND, &ns, &name).await?;
    may_deploy(&caller, Some(&old), &document)?;
    let request = v1::ApplyRequest {
        // Whether somebody may was decided on what was read.
        expected_version: Some(match if_match(&headers)? {
            Some(version) => version,
            None => object::meta(&old).resource_version,
        }),
        ..Default::default()
    };
    apply(&app, &caller, &document, request).await?;
    Ok(object_with(
        StatusCode::OK,
        &one(&app, KIND, &ns, &name).await?,
    ))
}

/// Whoever makes what is rendered active by itself decides what is active.
fn may_deploy(
    caller: &Caller,
    old: Option<&v1::Object>,
    document: &Document,
) -> Result<(), Refusal> {
    let Release::Recipe(new) = &*document.object else {
        return Ok(());
    };
    let was = match old.and_then(|o| o.object.as_ref()) {
        Some(v1::object::Object::Recipe(old)) => deploys(old),
        _ => (false, String::new()),
    };
    let wanted = deploys(new);
    if wanted.0 && wanted != was {
        return caller.needs(Role::Deployer);
    }
    Ok(())
}

/// Whether a Recipe may deploy by itself, and by which template's default.
fn deploys(recipe: &Recipe) -> (bool, String) {
    let spec = recipe.spec.clone().unwrap_or_default();
    let older = spec.auto_deploy.as_ref().map(|json| json.text.as_str());
    let off = spec.auto_deploy_latest == Some(false)
        || matches!(older, Some("false" | "\"false\"" | "\"Disabled\""));
    let said = spec.auto_deploy_latest.is_some() || older.is_some_and(|text| !text.is_empty());
    match (off, said, spec.template_ref) {
        (true, ..) => (false, String::new()),
        (false, true, _) => (true, String::new()),
        // What the template says is not known here.
        (false, false, Some(template)) => (true, template.name),
        (false, false, None) => (false, String::new()),
    }
}

async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path((ns, name)): At,
    headers: HeaderMap,
) -> Answer {
    // What runs goes with it.
    caller.needs(Role::Deployer)?;
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Edits {
    edits: Vec<Patch>,
    #[serde(default)]
    message: String,
}

async fn edit(
    State(app): State<App>,
    caller: Caller,
    Path((ns, name)): At,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    caller.needs(Role::Editor)?;
    let wanted: Edits = serde_json::from_slice(&body)
        .map_err(|e| Refusal::bad("BadEdits", format!("the request: {e}")))?;
    let old = one(&app, KIND, &ns, &name).await?;
    let version = object::meta(&old).resource_version;
    let Some(v1::object::Object::Recipe(mut recipe)) = old.object else {
        return Err(Refusal::bad("WrongKind", "no Recipe"));
    };
    recipe.spec.get_or_insert_default().edits = wanted.edits;
    if !wanted.message.is_empty() {
        let meta = recipe.metadata.get_or_insert_default();
        let key = keys::COMMIT_MESSAGE.to_owned();
        meta.annotations.insert(key, wanted.message);
    }
    recipe.status = None;
    let text = serde_json::to_vec(&recipe)
        .map_err(|e| Error::new(Code::Failed, "Encode", e.to_string()))?;
    let document = Document::read(&text, KIND)?;
    let request = v1::ApplyRequest {
        expected_version: Some(if_match(&headers)?.unwrap_or(version)),
        replace_edits: true,
        ..Default::default()
    };
    apply(&app, &caller, &document, request).await?;
    Ok(object_with(
        StatusCode::OK,
        &one(&app, KIND, &ns, &name).await?,
    ))
}

async fn previewed(
    app: &App,
    caller: &Caller,
    body: &Bytes,
) -> Result<v1::PreviewResponse, Refusal> {
    // It asks sources, with the logins that are kept here.
    caller.needs(Role::Editor)?;
    Document::read(body, KIND)?;
    let request = v1::PreviewRequest {
        manifest: body.to_vec(),
    };
    app.kukeon().preview(request).await.map_err(|error| {
        // The request is fine; what it asks for cannot be rendered.
        let failed = matches!(error.code, Code::Failed | Code::Conflict);
        let mut refusal = Refusal::from(error);
        if failed {
            refusal.status = StatusCode::UNPROCESSABLE_ENTITY;
        }
        refusal
    })
}

async fn preview(State(app): State<App>, caller: Caller, body: Bytes) -> Answer {
    Ok(json_ok(&previewed(&app, &caller, &body).await?))
}

async fn preview_files(State(app): State<App>, caller: Caller, body: Bytes) -> Answer {
    let made = previewed(&app, &caller, &body).await?;
    let file = json!({ "name": "manifest.yaml", "content": made.text });
    Ok(json_ok(&json!({ "files": [file], "digest": made.digest })))
}

/// Newest first, with what is active.
async fn preparations(State(app): State<App>, _: Caller, Path((ns, name)): At) -> Answer {
    let request = v1::HistoryRequest {
        namespace: ns.clone(),
        recipe: name.clone(),
    };
    let history = app.kukeon().history(request).await?;
    let made = object::preparations(list(&app, "Preparation", &ns, "").await?);
    let mut items = Vec::new();
    let mut seen = Vec::new();
    for revision in history.revisions.iter().rev() {
        if seen.contains(&&revision.preparation) {
            continue;
        }
        seen.push(&revision.preparation);
        let is = |p: &&crate::api::delivery::v1alpha1::Preparation| {
            p.metadata
                .as_ref()
                .is_some_and(|m| m.name == revision.preparation)
        };
        let Some(found) = made.iter().find(is) else {
            continue;
        };
        items.push(json!({
            "revision": revision.number,
            "active": revision.preparation == history.active,
            "preparation": found,
        }));
    }
    Ok(json_ok(&json!({ "items": items })))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Promotion {
    /// Name, `rev-<n>` or digest; empty is the latest, or the one before.
    preparation: String,
    expected_current: String,
    message: String,
}

async fn promote(
    State(app): State<App>,
    caller: Caller,
    at: At,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    point(app, caller, at, headers, body, false).await
}

async fn rollback(
    State(app): State<App>,
    caller: Caller,
    at: At,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    point(app, caller, at, headers, body, true).await
}

async fn point(
    app: App,
    caller: Caller,
    Path((ns, name)): At,
    headers: HeaderMap,
    body: Bytes,
    rollback: bool,
) -> Answer {
    caller.needs(Role::Deployer)?;
    let wanted: Promotion = match body.is_empty() {
        true => Promotion::default(),
        false => serde_json::from_slice(&body)
            .map_err(|e| Refusal::bad("BadPromotion", format!("the request: {e}")))?,
    };
    unchanged(&headers, &one(&app, KIND, &ns, &name).await?)?;
    let served = one(&app, "Serving", &ns, &name).await.is_ok();
    let request = v1::PromoteRequest {
        namespace: ns.clone(),
        recipe: name.clone(),
        to: wanted.preparation,
        expected_current: wanted.expected_current,
        message: wanted.message,
        rollback,
        wait: false,
        dry_run: false,
    };
    let what = format!("promote {ns}/{name} to {}", request.to);
    let results = change(&caller, &what, app.kukeon().promote(request)).await?;
    let status = match served {
        true => StatusCode::OK,
        false => StatusCode::CREATED,
    };
    Ok(match results.into_iter().find_map(|r| r.object) {
        Some(serving) => object_with(status, &serving),
        None => json_with(status, &json!({})),
    })
}

async fn act(
    State(app): State<App>,
    caller: Caller,
    Path((ns, name, action)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Answer {
    let (role, action) = match action.as_str() {
        "resume" => (Role::Deployer, Action::Resume),
        "sync" => (Role::Deployer, Action::Sync),
        "refresh" => (Role::Editor, Action::Refresh),
        "suspend" => (Role::Editor, Action::Suspend),
        "unsuspend" => (Role::Editor, Action::Unsuspend),
        other => {
            let message = format!("there is no action {other:?}");
            return Err(Refusal::new(
                StatusCode::NOT_FOUND,
                "NoSuchAddress",
                message,
            ));
        }
    };
    caller.needs(role)?;
    unchanged(&headers, &one(&app, KIND, &ns, &name).await?)?;
    let request = v1::ActRequest {
        kind: KIND.to_owned(),
        namespace: ns.clone(),
        name: name.clone(),
        action: action.into(),
        ..Default::default()
    };
    let what = format!("{} {ns}/{name}", action.as_str_name());
    let results = change(&caller, &what, app.kukeon().act(request)).await?;
    Ok(json_ok(&json!({ "results": results })))
}

async fn history(State(app): State<App>, _: Caller, Path((ns, name)): At) -> Answer {
    let request = v1::HistoryRequest {
        namespace: ns,
        recipe: name,
    };
    Ok(json_ok(&app.kukeon().history(request).await?))
}

/// What is compared.
#[derive(Default, Deserialize)]
pub struct Compared {
    #[serde(default)]
    pub from: String,
    #[serde(default)]
    pub to: String,
    #[serde(default)]
    pub live: bool,
}

async fn diff(
    State(app): State<App>,
    _: Caller,
    Path((ns, name)): At,
    Query(wanted): Query<Compared>,
) -> Answer {
    let request = v1::DiffRequest {
        namespace: ns,
        recipe: name,
        from: wanted.from,
        to: wanted.to,
        live: wanted.live,
    };
    Ok(json_ok(&app.kukeon().diff(request).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(role: Role, old: Option<&str>, new: &str) -> bool {
        let document = |spec: &str| {
            let text = format!(
                "apiVersion: delivery.kokumi.dev/v1alpha1\nkind: Recipe\nmetadata: {{name: a}}\nspec: {spec}\n"
            );
            Document::read(text.as_bytes(), KIND).unwrap()
        };
        let object = |spec: &str| match *document(spec).object {
            Release::Recipe(recipe) => v1::Object {
                object: Some(v1::object::Object::Recipe(recipe)),
            },
            other => panic!("{other:?}"),
        };
        let caller = Caller {
            name: "ann".into(),
            role,
            sid: String::new(),
            until: 0,
        };
        let old = old.map(object);
        may_deploy(&caller, old.as_ref(), &document(new)).is_ok()
    }

    #[test]
    fn an_editor_turns_auto_deploy_on_by_no_way() {
        let plain = "{source: {path: /a}}";
        let on = "{source: {path: /a}, autoDeployLatest: true}";
        let template = "{templateRef: {name: t}}";
        for wanted in [
            on,
            "{source: {path: /a}, autoDeploy: true}",
            "{source: {path: /a}, autoDeploy: Enabled}",
            template,
        ] {
            assert!(!asked(Role::Editor, None, wanted), "{wanted}");
            assert!(!asked(Role::Editor, Some(plain), wanted), "{wanted}");
            assert!(asked(Role::Deployer, Some(plain), wanted), "{wanted}");
        }
        let other = "{templateRef: {name: u}}";
        assert!(!asked(Role::Editor, Some(template), other));
        for (old, new) in [
            (None, plain),
            (Some(on), on),
            (Some(on), plain),
            (Some(template), template),
            (None, "{templateRef: {name: t}, autoDeployLatest: false}"),
            (None, "{source: {path: /a}, autoDeploy: Disabled}"),
        ] {
            assert!(asked(Role::Editor, old, new), "{old:?} {new}");
        }
    }
}
