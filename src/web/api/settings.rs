//! Settings: the Kitchen.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::get;
use http::{HeaderMap, StatusCode};

use crate::api::delivery::v1alpha1::{Kitchen, KitchenSpec, Metadata};
use crate::api::v1;
use crate::auth::people::Role;
use crate::web::answer::{Answer, Refusal, object_with};
use crate::web::app::App;
use crate::web::caller::Caller;
use crate::web::request::{DEFAULT, Document, apply, if_match, list};

const KIND: &str = "Kitchen";

pub fn routes() -> Router<App> {
    Router::new().route("/settings", get(read).put(replace))
}

/// The Kitchen; one without settings where nobody made any.
pub async fn kitchen(app: &App) -> Result<v1::Object, Refusal> {
    let found = list(app, KIND, DEFAULT, "").await?;
    Ok(found.into_iter().next().unwrap_or_else(|| v1::Object {
        object: Some(v1::object::Object::Kitchen(Kitchen {
            api_version: "delivery.kokumi.dev/v1alpha1".to_owned(),
            kind: KIND.to_owned(),
            metadata: Some(Metadata {
                name: DEFAULT.to_owned(),
                namespace: DEFAULT.to_owned(),
                ..Default::default()
            }),
            spec: Some(KitchenSpec::default()),
        })),
    }))
}

async fn read(State(app): State<App>, _: Caller) -> Answer {
    Ok(object_with(StatusCode::OK, &kitchen(&app).await?))
}

async fn replace(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    caller.needs(Role::Admin)?;
    let document = Document::read(&body, KIND)?;
    document.is_about(DEFAULT, DEFAULT)?;
    let request = v1::ApplyRequest {
        // Version 0 is that there is none yet, which creating checks.
        expected_version: if_match(&headers)?.filter(|&version| version > 0),
        ..Default::default()
    };
    apply(&app, &caller, &document, request).await?;
    Ok(object_with(StatusCode::OK, &kitchen(&app).await?))
}
