//! Pages that are looked at: login, dashboard, preparations, servings.

use std::time::Duration;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::json;

use super::frame::{Frame, Page, Visitor, failed, page};
use super::view::{self, Choice, Condition, Recipe, filters};
use crate::api::delivery::v1alpha1 as v;
use crate::api::v1;
use crate::web::answer::Refusal;
use crate::web::api::kitchen;
use crate::web::app::App;
use crate::web::object;
use crate::web::request::{list, one};

#[derive(Template)]
#[template(path = "login.html", config = "src/web/askama.toml")]
struct Login {
    version: &'static str,
}

pub async fn login() -> Page {
    page(&Login {
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// An address without a page.
pub async fn nothing(visitor: Visitor) -> Response {
    let missing = Refusal::new(
        http::StatusCode::NOT_FOUND,
        "NoSuchPage",
        "there is no such page",
    );
    failed(&visitor)(missing)
}

/// Something that needs a look.
struct Finding {
    what: String,
    href: String,
    reason: String,
    message: String,
}

#[derive(Template)]
#[template(path = "dashboard.html", config = "src/web/askama.toml")]
struct Dashboard {
    frame: Frame,
    counts: Vec<(&'static str, usize, &'static str)>,
    open: Vec<Recipe>,
    failures: Vec<Finding>,
    drift: Vec<Finding>,
}

pub async fn dashboard(State(app): State<App>, visitor: Visitor) -> Page {
    let fail = failed(&visitor);
    let frame = visitor.frame("Dashboard");
    let all = async |kind: &str| list(&app, kind, "", "").await;
    let recipes = object::recipes(all("Recipe").await.map_err(&fail)?);
    let servings = object::servings(all("Serving").await.map_err(&fail)?);
    let menus = object::menus(all("Menu").await.map_err(&fail)?);
    let pantries = object::pantries(all("Pantry").await.map_err(&fail)?);
    let preparations = all("Preparation").await.map_err(&fail)?.len();
    let mut failures = Vec::new();
    let mut drift = Vec::new();
    let mut note = |kind: &str,
                    href: String,
                    meta: &Option<v::Metadata>,
                    phase: &str,
                    all: &[v::Condition]| {
        let meta = meta.clone().unwrap_or_default();
        let finding = |c: v::Condition| Finding {
            what: format!("{kind} {}", view::full(&meta)),
            href: href.clone(),
            reason: c.reason,
            message: c.message,
        };
        if phase == "Failed" {
            failures.push(finding(object::condition(all, "Ready")));
        }
        let synced = object::condition(all, "Synced");
        if synced.status == "False" && synced.reason == "Drifted" {
            drift.push(finding(synced));
        }
    };
    let at = |place: &str, meta: &Option<v::Metadata>| {
        format!("/{place}/{}", view::path(&meta.clone().unwrap_or_default()))
    };
    for o in &recipes {
        let s = o.status.clone().unwrap_or_default();
        note(
            "Recipe",
            at("recipes", &o.metadata),
            &o.metadata,
            &s.phase,
            &s.conditions,
        );
    }
    for o in &servings {
        let s = o.status.clone().unwrap_or_default();
        note(
            "Serving",
            at("recipes", &o.metadata),
            &o.metadata,
            &s.phase,
            &s.conditions,
        );
    }
    for o in &menus {
        let s = o.status.clone().unwrap_or_default();
        note(
            "Menu",
            at("menus", &o.metadata),
            &o.metadata,
            &s.phase,
            &s.conditions,
        );
    }
    for o in &pantries {
        let s = o.status.clone().unwrap_or_default();
        note(
            "Pantry",
            "/pantries".to_owned(),
            &o.metadata,
            &s.phase,
            &s.conditions,
        );
    }
    let rows = view::rows(&recipes, &servings, frame.deploys);
    page(&Dashboard {
        counts: vec![
            ("recipes", recipes.len(), "/recipes"),
            ("preparations", preparations, "/preparations"),
            ("servings", servings.len(), "/servings"),
            ("menus", menus.len(), "/menus"),
            ("pantries", pantries.len(), "/pantries"),
        ],
        open: rows
            .into_iter()
            .filter(|r| !r.latest.is_empty() && r.latest != r.active)
            .collect(),
        failures,
        drift,
        frame,
    })
}

/// A Preparation in a list.
struct Made {
    name: String,
    href: String,
    recipe: String,
    recipe_href: String,
    revision: i64,
    active: bool,
    digest: String,
    short: String,
    version: String,
    message: String,
    created: String,
}

impl Made {
    fn of(preparation: &v::Preparation, recipe: Option<&Recipe>) -> Self {
        let meta = preparation.metadata.clone().unwrap_or_default();
        let spec = preparation.spec.clone().unwrap_or_default();
        let artifact = spec.artifact.unwrap_or_default();
        let path = view::path(&meta);
        let namespace = path.split('/').next().unwrap_or_default();
        Self {
            href: format!("/preparations/{path}"),
            recipe_href: format!("/recipes/{namespace}/{}", spec.recipe_name),
            revision: recipe.map_or(spec.revision, |r| r.number(&meta.name)),
            active: recipe.is_some_and(|r| r.active == meta.name),
            short: view::short(&artifact.digest),
            digest: artifact.digest,
            version: spec.source.unwrap_or_default().version,
            message: spec.commit_message,
            recipe: spec.recipe_name,
            created: meta.created_at.clone(),
            name: meta.name,
        }
    }
}

#[derive(Template)]
#[template(path = "preparations.html", config = "src/web/askama.toml")]
struct Preparations {
    frame: Frame,
    rows: Vec<Made>,
}

pub async fn preparations(State(app): State<App>, visitor: Visitor) -> Page {
    let fail = failed(&visitor);
    let frame = visitor.frame("Preparations");
    let all = async |kind: &str| list(&app, kind, "", "").await;
    let recipes = object::recipes(all("Recipe").await.map_err(&fail)?);
    let servings = object::servings(all("Serving").await.map_err(&fail)?);
    let recipes = view::rows(&recipes, &servings, frame.deploys);
    let mut made = object::preparations(all("Preparation").await.map_err(&fail)?);
    made.sort_by_key(|p| std::cmp::Reverse(p.metadata.clone().unwrap_or_default().created_at));
    let row = |p: &v::Preparation| {
        let made = Made::of(p, None);
        let own = recipes.iter().find(|r| r.href == made.recipe_href);
        Made::of(p, own)
    };
    page(&Preparations {
        rows: made.iter().map(row).collect(),
        frame,
    })
}

/// A document of a manifest.
struct Part {
    crd: bool,
    text: String,
}

#[derive(Template)]
#[template(path = "preparation.html", config = "src/web/askama.toml")]
struct Preparation {
    frame: Frame,
    p: Made,
    choice: Option<Choice>,
    names: Vec<(String, String)>,
    hash: String,
    parent: String,
    source: String,
    source_link: Option<String>,
    renderer: String,
    signature: String,
    documents: Vec<Part>,
}

/// How long a page waits for the registry that has the signatures.
const SIGNATURES: Duration = Duration::from_secs(3);

/// Who signed a Preparation, in words.
async fn signature(app: &App, namespace: &str, preparation: &str) -> String {
    let request = v1::VerifyPreparationRequest {
        namespace: namespace.to_owned(),
        preparation: preparation.to_owned(),
        signature_only: true,
        ..Default::default()
    };
    let kukeon = app.kukeon();
    match tokio::time::timeout(SIGNATURES, kukeon.verify_preparation(request)).await {
        Ok(Ok(answer)) => answer
            .checks
            .into_iter()
            .map(|check| check.detail)
            .collect::<Vec<_>>()
            .join("; "),
        Ok(Err(error)) => format!("unknown: {error}"),
        Err(_) => "unknown: the registry does not answer".to_owned(),
    }
}

pub async fn preparation(
    State(app): State<App>,
    visitor: Visitor,
    Path((ns, name)): Path<(String, String)>,
) -> Page {
    let fail = failed(&visitor);
    let frame = visitor.frame("Preparations");
    let found = one(&app, "Preparation", &ns, &name).await.map_err(&fail)?;
    let found = object::preparations(vec![found]).pop().unwrap_or_default();
    let spec = found.spec.clone().unwrap_or_default();
    let recipe = one(&app, "Recipe", &ns, &spec.recipe_name).await.ok();
    let recipe = recipe.and_then(|r| object::recipes(vec![r]).pop());
    let serving = one(&app, "Serving", &ns, &spec.recipe_name).await.ok();
    let serving = serving.and_then(|s| object::servings(vec![s]).pop());
    let recipe = recipe.map(|r| Recipe::of(&r, serving.as_ref(), frame.deploys));
    let request = v1::ManifestRequest {
        namespace: ns.clone(),
        preparation: name.clone(),
    };
    let text = app
        .kukeon()
        .manifest(request)
        .await
        .map_err(|e| fail(e.into()))?
        .text;
    let signature = signature(&app, &ns, &name).await;
    let from = spec.source.unwrap_or_default();
    let renderer = spec.renderer.unwrap_or_default();
    page(&Preparation {
        p: Made::of(&found, recipe.as_ref()),
        choice: recipe.as_ref().and_then(|r| r.point(&name, frame.deploys)),
        names: recipe.map(|r| r.names()).unwrap_or_default(),
        hash: spec.config_hash,
        parent: spec.parent_digest,
        source: format!("{}:{} {}", from.oci, from.version, from.base_digest),
        source_link: spec.git_source.as_ref().and_then(view::code),
        renderer: format!("{} {}", renderer.name, renderer.version),
        signature,
        documents: parts(&text),
        frame,
    })
}

/// The documents of a canonical manifest: each begins with `---`.
fn parts(text: &str) -> Vec<Part> {
    let mut found: Vec<Part> = Vec::new();
    for line in text.lines() {
        if line == "---" || found.is_empty() {
            found.push(Part {
                crd: false,
                text: String::new(),
            });
        }
        if let Some(part) = found.last_mut() {
            part.crd |= line == "kind: CustomResourceDefinition";
            part.text.push_str(line);
            part.text.push('\n');
        }
    }
    found
}

/// A Serving in the list.
struct Served {
    full: String,
    href: String,
    api: String,
    phase: String,
    reason: String,
    message: String,
    desired: String,
    observed: String,
    source: String,
    healthy: Condition,
    synced: Condition,
    target: String,
    argo: Option<String>,
    hold: String,
    lock: String,
    goes_back: bool,
    expected: String,
    choice: Option<Choice>,
}

#[derive(Template)]
#[template(path = "servings.html", config = "src/web/askama.toml")]
struct Servings {
    frame: Frame,
    rows: Vec<Served>,
}

pub async fn servings(State(app): State<App>, visitor: Visitor) -> Page {
    let fail = failed(&visitor);
    let frame = visitor.frame("Servings");
    let servings = object::servings(list(&app, "Serving", "", "").await.map_err(&fail)?);
    let recipes = object::recipes(list(&app, "Recipe", "", "").await.map_err(&fail)?);
    let kitchen = object::kitchens(vec![kitchen(&app).await.map_err(&fail)?]).pop();
    let argo = kitchen
        .and_then(|k| k.spec)
        .map(|s| s.argocd_url)
        .unwrap_or_default();
    let rows = view::rows(&recipes, &servings, frame.deploys);
    let served = |s: &v::Serving| {
        let meta = s.metadata.clone().unwrap_or_default();
        let row = rows
            .iter()
            .find(|r| r.href.ends_with(&format!("/{}", view::path(&meta))));
        let own = |r: &&v::Recipe| {
            r.metadata
                .as_ref()
                .is_some_and(|m| view::path(m) == view::path(&meta))
        };
        let target = recipes
            .iter()
            .find(own)
            .and_then(|r| r.spec.clone()?.target);
        self::served(s, row, target.unwrap_or_default(), &argo)
    };
    page(&Servings {
        rows: servings.iter().map(served).collect(),
        frame,
    })
}

fn served(serving: &v::Serving, row: Option<&Recipe>, target: v::Target, argo: &str) -> Served {
    let meta = serving.metadata.clone().unwrap_or_default();
    let spec = serving.spec.clone().unwrap_or_default();
    let status = serving.status.clone().unwrap_or_default();
    let of = |kind: &str| object::condition(&status.conditions, kind);
    let ready = of("Ready");
    let path = view::path(&meta);
    let hold = spec.hold.map(|h| format!("{} ({})", h.reason, h.actor));
    let (target, argo) = match target.argocd.filter(|_| target.r#type == "argocd") {
        None => ("kuke".to_owned(), None),
        Some(t) => {
            let application = match t.application_name.as_str() {
                "" => meta.name.clone(),
                name => name.to_owned(),
            };
            let at = argo.trim_end_matches('/');
            let link = view::link(&format!("{at}/applications/{application}"));
            (
                format!("argocd {application}"),
                link.filter(|_| !at.is_empty()),
            )
        }
    };
    Served {
        full: view::full(&meta),
        href: format!("/recipes/{path}"),
        api: format!("/api/v1/recipes/{path}"),
        phase: status.phase,
        reason: ready.reason,
        message: ready.message,
        expected: json!({ "expectedCurrent": spec.preparation_name }).to_string(),
        desired: spec.preparation_name,
        observed: status.observed_preparation_name,
        source: format!("{} {}", status.source, status.version)
            .trim()
            .to_owned(),
        healthy: object::condition(&status.conditions, "Healthy").into(),
        synced: object::condition(&status.conditions, "Synced").into(),
        target,
        argo,
        hold: hold.unwrap_or_default(),
        lock: status.lock,
        goes_back: status.activations.len() > 1,
        choice: row.and_then(|r| r.choice.clone()).filter(|c| !c.rollback),
    }
}
