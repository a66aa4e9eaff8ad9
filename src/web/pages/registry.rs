//! Pages of what registries hold, and of Pantries.

use askama::Template;
use axum::extract::{Path, Query, State};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::frame::{Frame, Page, Visitor, failed, page};
use super::settings::{Edit, written};
use super::view;
use crate::api::delivery::v1alpha1 as v;
use crate::api::{v1, yaml};
use crate::auth::people::Role;
use crate::web::app::App;
use crate::web::object;
use crate::web::request;

/// A repository in the list.
struct Row {
    name: String,
    manifests: i64,
    tags: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "registry.html", config = "src/web/askama.toml")]
struct Registry {
    frame: Frame,
    address: String,
    rows: Vec<Row>,
    at: String,
    digest: String,
    tags: Vec<(String, String)>,
    files: Vec<v1::SourceFile>,
}

/// What is looked at.
#[derive(Default, Deserialize)]
pub struct Wanted {
    /// Repository of the embedded registry.
    #[serde(default)]
    repository: String,
    /// `namespace/name`.
    #[serde(default)]
    pantry: String,
    #[serde(default)]
    version: String,
}

impl Wanted {
    fn href(&self, version: &str) -> String {
        let coded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let (key, value) = match self.pantry.is_empty() {
            true => ("repository", &self.repository),
            false => ("pantry", &self.pantry),
        };
        format!(
            "/registry?{key}={}&version={}",
            coded(value),
            coded(version)
        )
    }
}

pub async fn page_of(
    State(app): State<App>,
    visitor: Visitor,
    Query(wanted): Query<Wanted>,
) -> Page {
    let fail = failed(&visitor);
    let own = app
        .kukeon()
        .list_registry(v1::ListRegistryRequest::default())
        .await;
    let own = own.map_err(|e| fail(e.into()))?;
    let row = |r: v1::RegistryRepository| {
        let at = Wanted {
            repository: r.name.clone(),
            ..Default::default()
        };
        let tags = r.tags.into_iter().filter(|t| !t.name.is_empty());
        Row {
            name: r.name,
            manifests: r.manifests,
            tags: tags.map(|t| (t.name.clone(), at.href(&t.name))).collect(),
        }
    };
    let mut shown = Registry {
        address: own.address,
        rows: own.repositories.into_iter().map(row).collect(),
        at: String::new(),
        digest: String::new(),
        tags: Vec::new(),
        files: Vec::new(),
        frame: visitor.frame("Registry"),
    };
    if wanted.repository.is_empty() && wanted.pantry.is_empty() {
        return page(&shown);
    }
    if !wanted.pantry.is_empty() {
        // Others are asked, with the logins that are kept here.
        visitor.0.needs(Role::Editor).map_err(&fail)?;
    }
    let (namespace, pantry) = wanted.pantry.split_once('/').unwrap_or_default();
    let request = v1::BrowseSourceRequest {
        namespace: namespace.to_owned(),
        pantry: pantry.to_owned(),
        oci: match wanted.pantry.is_empty() {
            true => format!("oci://local/{}", wanted.repository),
            false => String::new(),
        },
        version: wanted.version.clone(),
    };
    let found = app
        .kukeon()
        .browse_source(request)
        .await
        .map_err(|e| fail(e.into()))?;
    let name = match wanted.pantry.is_empty() {
        true => wanted.repository.clone(),
        false => format!("pantry {}", wanted.pantry),
    };
    shown.at = match wanted.version.as_str() {
        "" => name,
        version => format!("{name}:{version}"),
    };
    shown.digest = found.digest;
    shown.tags = found
        .tags
        .into_iter()
        .map(|tag| (tag.clone(), wanted.href(&tag)))
        .collect();
    shown.files = found.files;
    page(&shown)
}

/// A Pantry in the list.
struct Shelf {
    full: String,
    href: String,
    api: String,
    test: String,
    version: i64,
    phase: String,
    reason: String,
    message: String,
    oci: String,
    username: String,
}

impl Shelf {
    fn of(pantry: &v::Pantry) -> Self {
        let meta = pantry.metadata.clone().unwrap_or_default();
        let spec = pantry.spec.clone().unwrap_or_default();
        let status = pantry.status.clone().unwrap_or_default();
        let ready = object::condition(&status.conditions, "Ready");
        let path = view::path(&meta);
        let test = Wanted {
            pantry: path.clone(),
            ..Default::default()
        };
        Self {
            full: view::full(&meta),
            href: format!("/pantries/{path}"),
            api: format!("/api/v1/pantries/{path}"),
            test: test.href(""),
            version: meta.resource_version,
            phase: match status.phase.as_str() {
                "" => "Pending".to_owned(),
                phase => phase.to_owned(),
            },
            reason: ready.reason,
            message: ready.message,
            oci: spec.oci,
            username: spec.username,
        }
    }
}

#[derive(Template)]
#[template(path = "pantries.html", config = "src/web/askama.toml")]
struct Pantries {
    frame: Frame,
    rows: Vec<Shelf>,
}

pub async fn pantries(State(app): State<App>, visitor: Visitor) -> Page {
    let fail = failed(&visitor);
    let found = request::list(&app, "Pantry", "", "").await.map_err(&fail)?;
    page(&Pantries {
        rows: object::pantries(found).iter().map(Shelf::of).collect(),
        frame: visitor.frame("Pantries"),
    })
}

const NEW: &str = "apiVersion: delivery.kokumi.dev/v1alpha1
kind: Pantry
metadata:
  name: my-pantry
spec:
  oci: oci://registry.example/team/app
  username: \"\"
  password: \"\"
";

pub async fn new_pantry(visitor: Visitor) -> Page {
    let frame = visitor.frame("Pantries");
    page(&Edit {
        title: "New pantry".to_owned(),
        note: "The password goes in and is never shown again.".to_owned(),
        label: "Pantry as YAML",
        method: "POST",
        url: "/api/v1/pantries".to_owned(),
        etag: 0,
        preview: "",
        done: "/pantries".to_owned(),
        text: NEW.to_owned(),
        may: frame.admin,
        frame,
    })
}

pub async fn edit_pantry(
    State(app): State<App>,
    visitor: Visitor,
    Path((ns, name)): Path<(String, String)>,
) -> Page {
    let fail = failed(&visitor);
    let frame = visitor.frame("Pantries");
    let found = request::one(&app, "Pantry", &ns, &name)
        .await
        .map_err(&fail)?;
    let mut pantry = object::pantries(vec![found]).pop().unwrap_or_default();
    let shelf = Shelf::of(&pantry);
    pantry.status = None;
    pantry.metadata = pantry.metadata.map(written);
    page(&Edit {
        title: format!("Edit {}", shelf.full),
        note: "A password that is not given stays as it is.".to_owned(),
        label: "Pantry as YAML",
        method: "PUT",
        url: shelf.api,
        etag: shelf.version,
        preview: "",
        done: "/pantries".to_owned(),
        text: yaml::to_string(&pantry).map_err(|e| fail(e.into()))?,
        may: frame.admin,
        frame,
    })
}
