//! Pages of Recipes.

use askama::Template;
use axum::extract::{Path, Query, State};

use super::frame::{Frame, Page, Visitor, failed, page};
use super::view::{self, Choice, Condition, Line, Recipe, filters};
use crate::api::delivery::v1alpha1 as v;
use crate::api::{v1, yaml};
use crate::web::answer::Refusal;
use crate::web::api::Compared;
use crate::web::app::App;
use crate::web::object;
use crate::web::request::{self, one as object_of};

type At = Path<(String, String)>;

#[derive(Template)]
#[template(path = "recipes.html", config = "src/web/askama.toml")]
struct Recipes {
    frame: Frame,
    rows: Vec<Recipe>,
}

pub async fn list(State(app): State<App>, visitor: Visitor) -> Page {
    let fail = failed(&visitor);
    let frame = visitor.frame("Recipes");
    let recipes = request::list(&app, "Recipe", "", "").await.map_err(&fail)?;
    let servings = request::list(&app, "Serving", "", "")
        .await
        .map_err(&fail)?;
    page(&Recipes {
        rows: view::rows(
            &object::recipes(recipes),
            &object::servings(servings),
            frame.deploys,
        ),
        frame,
    })
}

/// A revision of the list.
struct Revision {
    number: i64,
    preparation: String,
    href: String,
    message: String,
    actor: String,
    time: String,
    active: bool,
    latest: bool,
    choice: Option<Choice>,
}

#[derive(Template)]
#[template(path = "recipe.html", config = "src/web/askama.toml")]
struct One {
    frame: Frame,
    row: Recipe,
    source_link: Option<String>,
    resolved: String,
    hold: String,
    revisions: Vec<Revision>,
    activations: Vec<v::Activation>,
    conditions: Vec<Condition>,
    yaml: String,
}

async fn both(app: &App, ns: &str, name: &str) -> Result<(v::Recipe, Option<v::Serving>), Refusal> {
    let recipe = object_of(app, "Recipe", ns, name).await?;
    let serving = object_of(app, "Serving", ns, name).await.ok();
    Ok((
        object::recipes(vec![recipe]).pop().unwrap_or_default(),
        serving.and_then(|s| object::servings(vec![s]).pop()),
    ))
}

pub async fn one(State(app): State<App>, visitor: Visitor, Path((ns, name)): At) -> Page {
    let fail = failed(&visitor);
    let frame = visitor.frame("Recipes");
    let (recipe, serving) = both(&app, &ns, &name).await.map_err(&fail)?;
    let row = Recipe::of(&recipe, serving.as_ref(), frame.deploys);
    let status = recipe.status.clone().unwrap_or_default();
    let latest = object_of(&app, "Preparation", &ns, &row.latest).await.ok();
    let latest = latest.and_then(|p| object::preparations(vec![p]).pop());
    let git = latest.and_then(|p| p.spec?.git_source);
    let newest = status.revisions.last().map_or(0, |r| r.number);
    let revisions = status.revisions.into_iter().rev().map(|r| Revision {
        href: format!("/preparations/{ns}/{}", r.preparation),
        active: r.preparation == row.active && r.number == row.number(&r.preparation),
        latest: r.number == newest,
        // Older revisions of what was rendered again are history only.
        choice: row
            .point(&r.preparation, frame.deploys)
            .filter(|_| r.number == row.number(&r.preparation)),
        number: r.number,
        preparation: r.preparation,
        message: r.message,
        actor: r.actor,
        time: r.time,
    });
    let revisions = revisions.collect();
    let hold = serving.as_ref().and_then(|s| s.spec.clone()?.hold);
    let mut activations = serving
        .and_then(|s| s.status)
        .unwrap_or_default()
        .activations;
    activations.reverse();
    page(&One {
        source_link: git.as_ref().and_then(view::code),
        resolved: status.resolved_source_digest,
        hold: hold
            .map(|h| format!("{} ({})", h.reason, h.actor))
            .unwrap_or_default(),
        revisions,
        activations,
        conditions: status.conditions.into_iter().map(Into::into).collect(),
        yaml: text(recipe).map_err(&fail)?,
        row,
        frame,
    })
}

/// A Recipe as a person would write it.
fn text(mut recipe: v::Recipe) -> Result<String, Refusal> {
    recipe.status = None;
    recipe.metadata = recipe.metadata.map(super::settings::written);
    Ok(yaml::to_string(&recipe)?)
}

const NEW: &str = "apiVersion: delivery.kokumi.dev/v1alpha1
kind: Recipe
metadata:
  name: my-recipe
spec:
  source:
    oci: oci://local/team/app
    version: v1
";

pub async fn new(visitor: Visitor) -> Page {
    let frame = visitor.frame("Recipes");
    page(&super::settings::Edit {
        title: "New recipe".to_owned(),
        note: String::new(),
        label: "Recipe as YAML",
        method: "POST",
        url: "/api/v1/recipes".to_owned(),
        etag: 0,
        preview: "/api/v1/recipes/preview",
        done: "/recipes".to_owned(),
        text: NEW.to_owned(),
        may: frame.edits,
        frame,
    })
}

pub async fn edit(State(app): State<App>, visitor: Visitor, Path((ns, name)): At) -> Page {
    let fail = failed(&visitor);
    let frame = visitor.frame("Recipes");
    let (recipe, _) = both(&app, &ns, &name).await.map_err(&fail)?;
    let meta = recipe.metadata.clone().unwrap_or_default();
    let path = view::path(&meta);
    page(&super::settings::Edit {
        title: format!("Edit {}", view::full(&meta)),
        note: "A message for the history goes into the annotation \
               delivery.kokumi.dev/commit-message; it is used once."
            .to_owned(),
        label: "Recipe as YAML",
        method: "PUT",
        url: format!("/api/v1/recipes/{path}"),
        etag: meta.resource_version,
        preview: "/api/v1/recipes/preview",
        done: format!("/recipes/{path}"),
        text: text(recipe).map_err(&fail)?,
        may: frame.edits,
        frame,
    })
}

#[derive(Template)]
#[template(path = "diff.html", config = "src/web/askama.toml")]
struct Diff {
    frame: Frame,
    full: String,
    href: String,
    names: Vec<(String, String)>,
    from: String,
    to: String,
    choice: Option<Choice>,
    changes: Vec<String>,
    lines: Vec<Line>,
}

pub async fn diff(
    State(app): State<App>,
    visitor: Visitor,
    Path((ns, name)): At,
    Query(wanted): Query<Compared>,
) -> Page {
    let fail = failed(&visitor);
    let frame = visitor.frame("Recipes");
    let (recipe, serving) = both(&app, &ns, &name).await.map_err(&fail)?;
    let row = Recipe::of(&recipe, serving.as_ref(), frame.deploys);
    // Where nothing is active yet there is the one before, or itself.
    let from = match (wanted.from.as_str(), row.active.as_str(), wanted.live) {
        ("", "", false) => row
            .names()
            .get(1)
            .map_or(row.latest.clone(), |(n, _)| n.clone()),
        (from, ..) => from.to_owned(),
    };
    let request = v1::DiffRequest {
        namespace: ns,
        recipe: name,
        from,
        to: wanted.to,
        live: wanted.live,
    };
    let found = app
        .kukeon()
        .diff(request)
        .await
        .map_err(|e| fail(e.into()))?;
    page(&Diff {
        full: row.full.clone(),
        href: row.href.clone(),
        names: row.names(),
        choice: row.point(&found.to, frame.deploys),
        from: found.from,
        to: found.to,
        changes: found.changes,
        lines: view::lines(&found.unified),
        frame,
    })
}
