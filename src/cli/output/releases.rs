//! Release objects as rows of a table.

use jiff::Timestamp;

use super::objects::Columns;
use crate::api::delivery::v1alpha1::{
    Condition, Kitchen, Menu, Metadata, Pantry, Preparation, Recipe, RecipeTemplate, Serving,
    Source,
};
use crate::api::v1::object::Object as Any;
use crate::cli::age;
use crate::cli::kind::Kind;

pub(super) fn header(kind: Kind, wide: bool) -> &'static [&'static str] {
    match (kind, wide) {
        (Kind::Recipe, false) => &[
            "NAME", "READY", "REASON", "LATEST", "SOURCE", "VERSION", "POLICY", "AGE",
        ],
        (Kind::Recipe, true) => &[
            "NAME",
            "READY",
            "REASON",
            "LATEST",
            "SOURCE",
            "VERSION",
            "POLICY",
            "AGE",
            "NAMESPACE",
            "REVISION",
            "DIGEST",
            "TARGET",
            "MESSAGE",
        ],
        (Kind::Preparation, false) => &[
            "NAME", "READY", "RECIPE", "REVISION", "VERSION", "MESSAGE", "AGE",
        ],
        (Kind::Preparation, true) => &[
            "NAME",
            "READY",
            "RECIPE",
            "REVISION",
            "VERSION",
            "MESSAGE",
            "AGE",
            "NAMESPACE",
            "DIGEST",
            "SIZE",
            "PARENT",
        ],
        (Kind::Serving, false) => &[
            "NAME",
            "READY",
            "REASON",
            "PREPARATION",
            "SYNCED",
            "HEALTHY",
            "POLICY",
            "AGE",
        ],
        (Kind::Serving, true) => &[
            "NAME",
            "READY",
            "REASON",
            "PREPARATION",
            "SYNCED",
            "HEALTHY",
            "POLICY",
            "AGE",
            "NAMESPACE",
            "DEPLOYED",
            "HOLD",
            "LOCK",
            "MESSAGE",
        ],
        (Kind::Menu, false) => &["NAME", "READY", "REASON", "PHASE", "MEMBERS", "RUN", "AGE"],
        (Kind::Menu, true) => &[
            "NAME",
            "READY",
            "REASON",
            "PHASE",
            "MEMBERS",
            "RUN",
            "AGE",
            "NAMESPACE",
            "MESSAGE",
        ],
        (Kind::Pantry, false) => &["NAME", "URL", "USER", "AGE"],
        (Kind::Pantry, true) => &["NAME", "URL", "USER", "AGE", "NAMESPACE"],
        (Kind::RecipeTemplate, false) => &["NAME", "SOURCE", "VERSION", "AGE"],
        (Kind::RecipeTemplate, true) => &["NAME", "SOURCE", "VERSION", "AGE", "NAMESPACE"],
        _ => &["NAME", "AGE"],
    }
}

/// Metadata of a release object.
pub(super) fn metadata(object: &Any) -> Option<&Metadata> {
    match object {
        Any::Kitchen(o) => o.metadata.as_ref(),
        Any::Pantry(o) => o.metadata.as_ref(),
        Any::RecipeTemplate(o) => o.metadata.as_ref(),
        Any::Recipe(o) => o.metadata.as_ref(),
        Any::Preparation(o) => o.metadata.as_ref(),
        Any::Serving(o) => o.metadata.as_ref(),
        Any::Menu(o) => o.metadata.as_ref(),
        _ => None,
    }
}

pub(super) fn row(object: &Any, now: Timestamp) -> Columns {
    let meta = metadata(object).cloned().unwrap_or_default();
    let age = age::since(&meta.created_at, now);
    let (mut cells, more) = match object {
        Any::Recipe(recipe) => recipe_row(recipe, age),
        Any::Preparation(preparation) => preparation_row(preparation, age),
        Any::Serving(serving) => serving_row(serving, age),
        Any::Menu(menu) => menu_row(menu, age),
        Any::Pantry(pantry) => pantry_row(pantry, age),
        Any::RecipeTemplate(template) => template_row(template, age),
        Any::Kitchen(Kitchen { .. }) => (vec![age], Vec::new()),
        // Of the runtime.
        _ => Default::default(),
    };
    cells.insert(0, meta.name);
    let mut wide = vec![meta.namespace];
    wide.extend(more);
    (cells, wide)
}

/// Status, reason and message of a condition.
fn condition(conditions: &[Condition], kind: &str) -> [String; 3] {
    match conditions.iter().find(|c| c.r#type == kind) {
        Some(c) => [c.status.clone(), c.reason.clone(), c.message.clone()],
        None => ["Unknown".to_owned(), "Pending".to_owned(), String::new()],
    }
}

fn source(source: Option<&Source>) -> [String; 2] {
    let Some(source) = source else {
        return ["-".to_owned(), "-".to_owned()];
    };
    let from = match &source.pantry_ref {
        Some(pantry) => format!("pantry/{}", pantry.name),
        None if source.oci.is_empty() => source.path.clone(),
        None => source.oci.clone(),
    };
    [from, or_dash(&source.version)]
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

fn policy(automatic: bool) -> String {
    if automatic { "Automatic" } else { "Manual" }.to_owned()
}

fn recipe_row(recipe: &Recipe, age: String) -> Columns {
    let spec = recipe.spec.clone().unwrap_or_default();
    let status = recipe.status.clone().unwrap_or_default();
    let [ready, reason, message] = condition(&status.conditions, "Ready");
    let [from, version] = match &spec.template_ref {
        Some(template) => [format!("template/{}", template.name), "-".to_owned()],
        None => source(spec.source.as_ref()),
    };
    let cells = vec![
        ready,
        reason,
        or_dash(&status.latest_preparation_name),
        from,
        version,
        policy(spec.auto_deploy_latest.unwrap_or_default()),
        age,
    ];
    let target = spec.target.unwrap_or_default().r#type;
    let more = vec![
        status.revision.to_string(),
        or_dash(&status.latest_artifact_digest),
        or_dash(&target),
        message,
    ];
    (cells, more)
}

fn preparation_row(preparation: &Preparation, age: String) -> Columns {
    let spec = preparation.spec.clone().unwrap_or_default();
    let status = preparation.status.clone().unwrap_or_default();
    let [ready, ..] = condition(&status.conditions, "Ready");
    let artifact = spec.artifact.unwrap_or_default();
    let cells = vec![
        ready,
        spec.recipe_name,
        spec.revision.to_string(),
        or_dash(&spec.source.unwrap_or_default().version),
        spec.commit_message,
        age,
    ];
    let more = vec![
        artifact.digest,
        artifact.size.to_string(),
        or_dash(&spec.parent_digest),
    ];
    (cells, more)
}

fn serving_row(serving: &Serving, age: String) -> Columns {
    let spec = serving.spec.clone().unwrap_or_default();
    let status = serving.status.clone().unwrap_or_default();
    let [ready, reason, message] = condition(&status.conditions, "Ready");
    let [synced, ..] = condition(&status.conditions, "Synced");
    let [healthy, ..] = condition(&status.conditions, "Healthy");
    let cells = vec![
        ready,
        reason,
        spec.preparation_name,
        synced,
        healthy,
        or_dash(&spec.preparation_policy.unwrap_or_default().r#type),
        age,
    ];
    let more = vec![
        or_dash(&status.deployed_digest),
        spec.hold.map_or_else(|| "-".to_owned(), |hold| hold.reason),
        or_dash(&status.lock),
        message,
    ];
    (cells, more)
}

fn menu_row(menu: &Menu, age: String) -> Columns {
    let spec = menu.spec.clone().unwrap_or_default();
    let status = menu.status.clone().unwrap_or_default();
    let [ready, reason, message] = condition(&status.conditions, "Ready");
    let last = status.runs.last().map_or("", |run| run.id.as_str());
    let cells = vec![
        ready,
        reason,
        or_dash(&status.phase),
        spec.recipes.len().to_string(),
        or_dash(last),
        age,
    ];
    (cells, vec![message])
}

fn pantry_row(pantry: &Pantry, age: String) -> Columns {
    let spec = pantry.spec.clone().unwrap_or_default();
    (vec![spec.oci, or_dash(&spec.username), age], Vec::new())
}

fn template_row(template: &RecipeTemplate, age: String) -> Columns {
    let spec = template.spec.clone().unwrap_or_default();
    let [from, version] = source(spec.source.as_ref());
    (vec![from, version, age], Vec::new())
}
