//! The page of settings, and the editor that several pages have.

use askama::Template;
use axum::extract::State;

use super::frame::{Frame, Page, Visitor, failed, page};
use crate::api::delivery::v1alpha1::Metadata;
use crate::api::yaml;
use crate::web::api::kitchen;
use crate::web::app::App;
use crate::web::object;

/// A document in an editor.
#[derive(Template)]
#[template(path = "edit.html", config = "src/web/askama.toml")]
pub struct Edit {
    pub frame: Frame,
    pub title: String,
    pub note: String,
    pub label: &'static str,
    pub method: &'static str,
    pub url: String,
    /// Version that was read; 0 for a new one.
    pub etag: i64,
    /// Where it is tried; empty where it cannot be.
    pub preview: &'static str,
    pub done: String,
    pub text: String,
    pub may: bool,
}

/// Metadata as a person would write it.
pub fn written(meta: Metadata) -> Metadata {
    Metadata {
        name: meta.name,
        namespace: meta.namespace,
        labels: meta.labels,
        annotations: meta.annotations,
        ..Default::default()
    }
}

/// The Kitchen.
pub async fn kitchen_page(State(app): State<App>, visitor: Visitor) -> Page {
    let fail = failed(&visitor);
    let frame = visitor.frame("Settings");
    let found = kitchen(&app).await.map_err(&fail)?;
    let version = object::meta(&found).resource_version;
    let mut kitchen = object::kitchens(vec![found]).pop().unwrap_or_default();
    kitchen.metadata = kitchen.metadata.map(written);
    page(&Edit {
        title: "Settings".to_owned(),
        note: "argoCDURL, defaultTarget, registryUrl and sourceRoots; they hold at once. \
               Accounts are made with `kuke web password`."
            .to_owned(),
        label: "Kitchen as YAML",
        method: "PUT",
        url: "/api/v1/settings".to_owned(),
        etag: version,
        preview: "",
        done: "/settings".to_owned(),
        text: yaml::to_string(&kitchen).map_err(|e| fail(e.into()))?,
        may: frame.admin,
        frame,
    })
}
