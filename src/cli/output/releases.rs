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
            "NAME", "READY", "REASON", "RECIPE", "REVISION", "SOURCE", "VERSION", "MESSAGE", "AGE",
        ],
        (Kind::Preparation, true) => &[
            "NAME",
            "READY",
            "REASON",
            "RECIPE",
            "REVISION",
            "SOURCE",
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
            "SOURCE",
            "VERSION",
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
            "SOURCE",
            "VERSION",
            "POLICY",
            "AGE",
            "NAMESPACE",
            "DEPLOYED",
            "HOLD",
            "LOCK",
            "MESSAGE",
        ],
        (Kind::Menu, false) => &[
            "NAME", "READY", "REASON", "PHASE", "MEMBERS", "RUN", "POLICY", "AGE",
        ],
        (Kind::Menu, true) => &[
            "NAME",
            "READY",
            "REASON",
            "PHASE",
            "MEMBERS",
            "RUN",
            "POLICY",
            "AGE",
            "NAMESPACE",
            "MESSAGE",
        ],
        (Kind::Pantry, false) => &["NAME", "READY", "REASON", "URL", "USER", "AGE"],
        (Kind::Pantry, true) => &[
            "NAME",
            "READY",
            "REASON",
            "URL",
            "USER",
            "AGE",
            "NAMESPACE",
            "MESSAGE",
        ],
        (Kind::RecipeTemplate, false) => &["NAME", "SOURCE", "VERSION", "AGE"],
        (Kind::RecipeTemplate, true) => &["NAME", "SOURCE", "VERSION", "AGE", "NAMESPACE"],
        (Kind::Kitchen, true) => &["NAME", "AGE", "NAMESPACE"],
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
    let [ready, reason, ..] = condition(&status.conditions, "Ready");
    let artifact = spec.artifact.unwrap_or_default();
    let source = spec.source.unwrap_or_default();
    let cells = vec![
        ready,
        reason,
        spec.recipe_name,
        spec.revision.to_string(),
        or_dash(&source.oci),
        or_dash(&source.version),
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
        or_dash(&status.source),
        or_dash(&status.version),
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
        policy(spec.auto_deploy_latest),
        age,
    ];
    (cells, vec![message])
}

fn pantry_row(pantry: &Pantry, age: String) -> Columns {
    let spec = pantry.spec.clone().unwrap_or_default();
    let status = pantry.status.clone().unwrap_or_default();
    let [ready, reason, message] = condition(&status.conditions, "Ready");
    let cells = vec![ready, reason, spec.oci, or_dash(&spec.username), age];
    (cells, vec![message])
}

fn template_row(template: &RecipeTemplate, age: String) -> Columns {
    let spec = template.spec.clone().unwrap_or_default();
    let [from, version] = source(spec.source.as_ref());
    (vec![from, version, age], Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::delivery::v1alpha1::{
        PantrySpec, PantryStatus, PreparationSource, PreparationSpec, ServingStatus,
    };

    /// The row of an object, by the titles of its columns.
    fn shown(kind: Kind, object: Any) -> impl Fn(&str) -> String {
        let (mut cells, more) = row(&object, Timestamp::UNIX_EPOCH);
        assert_eq!(cells.len(), header(kind, false).len(), "{kind:?}");
        cells.extend(more);
        let titles = header(kind, true);
        assert_eq!(cells.len(), titles.len(), "{kind:?}");
        move |title| {
            let at = titles.iter().position(|t| *t == title).unwrap();
            cells[at].clone()
        }
    }

    #[test]
    fn every_column_has_a_title() {
        for (kind, object) in [
            (Kind::Recipe, Any::Recipe(Recipe::default())),
            (Kind::Serving, Any::Serving(Serving::default())),
            (Kind::Menu, Any::Menu(Menu::default())),
            (Kind::Kitchen, Any::Kitchen(Kitchen::default())),
            (
                Kind::RecipeTemplate,
                Any::RecipeTemplate(RecipeTemplate::default()),
            ),
        ] {
            assert_eq!(shown(kind, object)("NAMESPACE"), "", "{kind:?}");
        }
    }

    #[test]
    fn a_pantry_tells_whether_it_answers() {
        let mut pantry = Pantry {
            spec: Some(PantrySpec {
                oci: "oci://example.com/a".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let cell = shown(Kind::Pantry, Any::Pantry(pantry.clone()));
        assert_eq!([cell("READY"), cell("REASON")], ["Unknown", "Pending"]);
        pantry.status = Some(PantryStatus {
            conditions: vec![Condition {
                r#type: "Ready".into(),
                status: "False".into(),
                reason: "Unauthorized".into(),
                message: "the login is refused".into(),
                ..Default::default()
            }],
            ..Default::default()
        });
        let cell = shown(Kind::Pantry, Any::Pantry(pantry));
        assert_eq!([cell("READY"), cell("REASON")], ["False", "Unauthorized"]);
        assert_eq!(cell("MESSAGE"), "the login is refused");
        assert_eq!(cell("URL"), "oci://example.com/a");
    }

    #[test]
    fn a_serving_tells_the_source_of_what_it_points_at() {
        let mut serving = Serving::default();
        let cell = shown(Kind::Serving, Any::Serving(serving.clone()));
        assert_eq!([cell("SOURCE"), cell("VERSION")], ["-", "-"]);
        serving.status = Some(ServingStatus {
            source: "oci://example.com/a".into(),
            version: "1.2".into(),
            ..Default::default()
        });
        let cell = shown(Kind::Serving, Any::Serving(serving));
        assert_eq!(
            [cell("SOURCE"), cell("VERSION")],
            ["oci://example.com/a", "1.2"]
        );
    }

    #[test]
    fn a_preparation_tells_its_source() {
        let preparation = Preparation {
            spec: Some(PreparationSpec {
                source: Some(PreparationSource {
                    oci: "oci://example.com/a".into(),
                    version: "1.2".into(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let cell = shown(Kind::Preparation, Any::Preparation(preparation));
        assert_eq!(cell("SOURCE"), "oci://example.com/a");
        assert_eq!(cell("VERSION"), "1.2");
    }
}
