//! Pages of Menus.

use askama::Template;
use axum::extract::{Path, Query, State};
use serde::Deserialize;

use super::frame::{Frame, Page, Visitor, failed, page};
use super::settings::{Edit, written};
use super::view::{self, filters};
use crate::api::delivery::v1alpha1 as v;
use crate::api::v1::{self, Action};
use crate::api::yaml;
use crate::web::app::App;
use crate::web::object;
use crate::web::request::{self, change};

type At = Path<(String, String)>;

/// A Menu in the list.
struct Row {
    full: String,
    href: String,
    api: String,
    version: i64,
    phase: String,
    reason: String,
    message: String,
    members: String,
    run: String,
    last: String,
}

impl Row {
    fn of(menu: &v::Menu) -> Self {
        let meta = menu.metadata.clone().unwrap_or_default();
        let status = menu.status.clone().unwrap_or_default();
        let ready = object::condition(&status.conditions, "Ready");
        let members = menu.spec.clone().unwrap_or_default().recipes;
        let names: Vec<String> = members.into_iter().map(|m| m.name).collect();
        let last = status.runs.last();
        Self {
            full: view::full(&meta),
            href: format!("/menus/{}", view::path(&meta)),
            api: format!("/api/v1/menus/{}", view::path(&meta)),
            version: meta.resource_version,
            phase: match status.phase.as_str() {
                "" => "Idle".to_owned(),
                phase => phase.to_owned(),
            },
            reason: ready.reason,
            message: ready.message,
            members: names.join(", "),
            last: last
                .map(|r| format!("{} {}", r.id, r.phase))
                .unwrap_or_default(),
            run: status.current_run,
        }
    }
}

#[derive(Template)]
#[template(path = "menus.html", config = "src/web/askama.toml")]
struct Menus {
    frame: Frame,
    rows: Vec<Row>,
}

pub async fn list(State(app): State<App>, visitor: Visitor) -> Page {
    let fail = failed(&visitor);
    let found = request::list(&app, "Menu", "", "").await.map_err(&fail)?;
    page(&Menus {
        rows: object::menus(found).iter().map(Row::of).collect(),
        frame: visitor.frame("Menus"),
    })
}

#[derive(Template)]
#[template(path = "menu.html", config = "src/web/askama.toml")]
struct One {
    frame: Frame,
    row: Row,
    plan: Option<Vec<String>>,
    members: Vec<v::MenuMember>,
    runs: Vec<v::MenuRun>,
}

/// What is shown besides.
#[derive(Default, Deserialize)]
pub struct Wanted {
    #[serde(default)]
    plan: bool,
}

pub async fn one(
    State(app): State<App>,
    visitor: Visitor,
    Path((ns, name)): At,
    Query(wanted): Query<Wanted>,
) -> Page {
    let fail = failed(&visitor);
    let found = request::one(&app, "Menu", &ns, &name)
        .await
        .map_err(&fail)?;
    let menu = object::menus(vec![found]).pop().unwrap_or_default();
    let frame = visitor.frame("Menus");
    // Planning asks sources and registries of images.
    let plan = match wanted.plan && frame.deploys {
        false => None,
        true => {
            let request = v1::ActRequest {
                kind: "Menu".to_owned(),
                namespace: ns,
                name,
                action: Action::Run.into(),
                dry_run: true,
                ..Default::default()
            };
            let call = app.kukeon().act(request);
            Some(match change(&visitor.0, "plan a menu", call).await {
                // What stands in the way is what the plan says.
                Err(refused) => vec![refused.error.message],
                Ok(told) => {
                    let lines = told.into_iter().flat_map(|r| {
                        let head = format!("{} {}: {}", r.kind, r.name, r.action);
                        [head].into_iter().chain(r.changes).chain(r.steps)
                    });
                    lines.collect()
                }
            })
        }
    };
    let mut runs = menu.status.clone().unwrap_or_default().runs;
    runs.reverse();
    page(&One {
        row: Row::of(&menu),
        plan,
        members: menu.spec.unwrap_or_default().recipes,
        runs,
        frame,
    })
}

const NEW: &str = "apiVersion: delivery.kokumi.dev/v1alpha1
kind: Menu
metadata:
  name: my-menu
spec:
  recipes:
    - name: database
    - name: web
      dependsOn: [database]
";

pub async fn new(visitor: Visitor) -> Page {
    let frame = visitor.frame("Menus");
    page(&Edit {
        title: "New menu".to_owned(),
        note: String::new(),
        label: "Menu as YAML",
        method: "POST",
        url: "/api/v1/menus".to_owned(),
        etag: 0,
        preview: "",
        done: "/menus".to_owned(),
        text: NEW.to_owned(),
        may: frame.deploys,
        frame,
    })
}

pub async fn edit(State(app): State<App>, visitor: Visitor, Path((ns, name)): At) -> Page {
    let fail = failed(&visitor);
    let frame = visitor.frame("Menus");
    let found = request::one(&app, "Menu", &ns, &name)
        .await
        .map_err(&fail)?;
    let mut menu = object::menus(vec![found]).pop().unwrap_or_default();
    let row = Row::of(&menu);
    menu.status = None;
    menu.metadata = menu.metadata.map(written);
    page(&Edit {
        title: format!("Edit {}", row.full),
        note: String::new(),
        label: "Menu as YAML",
        method: "PUT",
        url: row.api,
        etag: row.version,
        preview: "",
        done: row.href,
        text: yaml::to_string(&menu).map_err(|e| fail(e.into()))?,
        may: frame.deploys,
        frame,
    })
}
