//! What registries hold: the embedded one, and those of Pantries.

use axum::Router;
use axum::extract::{Query, State};
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;

use crate::api::v1;
use crate::auth::people::Role;
use crate::web::answer::{Answer, Refusal, json_ok};
use crate::web::app::App;
use crate::web::caller::Caller;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/registry/default", get(own))
        .route("/registry/tags", get(tags))
        .route("/registry/artifact", get(artifact))
        .route("/registry/chart-info", get(chart))
}

/// Where to look.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// `oci://…`, or the name of a repository of the embedded registry.
    #[serde(default, rename = "ref")]
    reference: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    pantry_name: String,
    #[serde(default)]
    pantry_namespace: String,
}

impl Place {
    /// Anything but the embedded registry means a request of this machine to
    /// others, with the logins that are kept here.
    fn allowed(&self, caller: &Caller) -> Result<(), Refusal> {
        let own = self.pantry_name.is_empty()
            && (!self.reference.contains("://") || self.reference.starts_with("oci://local/"));
        match own {
            true => Ok(()),
            false => caller.needs(Role::Editor),
        }
    }

    fn request(self) -> v1::BrowseSourceRequest {
        let oci = match (self.pantry_name.is_empty(), self.reference.contains("://")) {
            (false, _) => String::new(),
            (true, true) => self.reference,
            (true, false) => format!("oci://local/{}", self.reference),
        };
        v1::BrowseSourceRequest {
            namespace: self.pantry_namespace,
            pantry: self.pantry_name,
            oci,
            version: self.version,
        }
    }
}

async fn own(State(app): State<App>, _: Caller) -> Answer {
    let request = v1::ListRegistryRequest::default();
    Ok(json_ok(&app.kukeon().list_registry(request).await?))
}

async fn tags(State(app): State<App>, caller: Caller, Query(place): Query<Place>) -> Answer {
    place.allowed(&caller)?;
    let request = v1::BrowseSourceRequest {
        version: String::new(),
        ..place.request()
    };
    let found = app.kukeon().browse_source(request).await?;
    Ok(json_ok(&json!({ "tags": found.tags })))
}

async fn content(
    app: &App,
    caller: &Caller,
    place: Place,
) -> Result<v1::BrowseSourceResponse, Refusal> {
    place.allowed(caller)?;
    if place.version.is_empty() {
        return Err(Refusal::bad("VersionMissing", "the query names no version"));
    }
    Ok(app.kukeon().browse_source(place.request()).await?)
}

async fn artifact(State(app): State<App>, caller: Caller, Query(place): Query<Place>) -> Answer {
    Ok(json_ok(&content(&app, &caller, place).await?))
}

async fn chart(State(app): State<App>, caller: Caller, Query(place): Query<Place>) -> Answer {
    let found = content(&app, &caller, place).await?;
    // A chart's files are below its own directory, or at the root.
    let text = |name: &str| {
        let is = |file: &&v1::SourceFile| {
            let inner = file.path.split_once('/').map_or("", |(_, inner)| inner);
            file.path == name || inner == name
        };
        found.files.iter().find(is).map(|file| file.text.as_str())
    };
    let Some(chart) = text("Chart.yaml") else {
        return Err(Refusal::bad("NotAChart", "there is no Chart.yaml in it"));
    };
    Ok(json_ok(&json!({
        "digest": found.digest,
        "chart": chart,
        "readme": text("README.md").unwrap_or_default(),
        "values": text("values.yaml").unwrap_or_default(),
    })))
}
