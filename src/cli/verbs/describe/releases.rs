//! Pages of releases.

use super::{pairs, yes};
use crate::api::delivery::v1alpha1::{
    Activation, Condition, Destination, Hold, Kitchen, Menu, MenuRun, MenuRunMember, Metadata,
    Pantry, Preparation, Recipe, RecipeTemplate, Render, Serving, Source, Target,
};
use crate::api::v1::object::Object as Any;
use crate::cli::kind::Kind;
use crate::cli::output::page::Page;

/// Runs of a Menu that are shown.
const RUNS: usize = 5;

/// Whether an object belongs to one of this kind and name.
pub(super) fn belongs(any: &Any, kind: Kind, name: &str) -> bool {
    match (kind, any) {
        (Kind::Recipe, Any::Preparation(p)) => recipe_of(p) == name,
        (Kind::Recipe | Kind::Serving, Any::Menu(menu)) => members(menu).any(|m| m == name),
        (Kind::Recipe | Kind::Serving, other) => named(other) == Some(name),
        (Kind::Preparation, Any::Recipe(recipe)) => {
            let status = recipe.status.as_ref();
            status.is_some_and(|s| s.revisions.iter().any(|r| r.preparation == name))
        }
        (Kind::Preparation, Any::Serving(serving)) => {
            let spec = serving.spec.as_ref();
            spec.is_some_and(|s| s.preparation_name == name)
        }
        // Which members a Menu has is known by its page.
        (Kind::Menu, _) => true,
        (Kind::Pantry, Any::Recipe(recipe)) => {
            let spec = recipe.spec.clone().unwrap_or_default();
            let source = spec.source.and_then(|s| s.pantry_ref);
            let destination = spec.destination.and_then(|d| d.pantry_ref);
            [source, destination]
                .iter()
                .flatten()
                .any(|p| p.name == name)
        }
        (Kind::RecipeTemplate, Any::Recipe(recipe)) => {
            let spec = recipe.spec.as_ref();
            let template = spec.and_then(|s| s.template_ref.as_ref());
            template.is_some_and(|t| t.name == name)
        }
        _ => false,
    }
}

fn recipe_of(preparation: &Preparation) -> &str {
    preparation.spec.as_ref().map_or("", |s| &s.recipe_name)
}

fn members(menu: &Menu) -> impl Iterator<Item = &str> {
    let spec = menu.spec.as_ref();
    spec.into_iter()
        .flat_map(|spec| spec.recipes.iter().map(|m| m.name.as_str()))
}

fn named(any: &Any) -> Option<&str> {
    let meta = match any {
        Any::Recipe(o) => o.metadata.as_ref(),
        Any::Serving(o) => o.metadata.as_ref(),
        Any::Menu(o) => o.metadata.as_ref(),
        Any::Preparation(o) => o.metadata.as_ref(),
        _ => None,
    };
    Some(meta?.name.as_str())
}

pub(super) fn page(page: &mut Page, any: &Any, others: &[&Any]) {
    match any {
        Any::Recipe(o) => recipe(page, o, others),
        Any::Preparation(o) => preparation(page, o, others),
        Any::Serving(o) => serving(page, o, others),
        Any::Menu(o) => menu(page, o, others),
        Any::Pantry(o) => pantry(page, o, others),
        Any::RecipeTemplate(o) => template(page, o, others),
        Any::Kitchen(o) => kitchen(page, o),
        Any::Realm(_)
        | Any::Space(_)
        | Any::Stack(_)
        | Any::Cell(_)
        | Any::Container(_)
        | Any::Volume(_)
        | Any::Secret(_) => {}
    }
}

fn head(page: &mut Page, kind: &str, meta: Option<&Metadata>) {
    let meta = meta.cloned().unwrap_or_default();
    page.field("Name", meta.name);
    page.field("Kind", kind);
    page.field("Namespace", meta.namespace);
    page.field("Labels", pairs(&meta.labels));
    page.field("Annotations", pairs(&meta.annotations));
    page.field("Created", meta.created_at);
    page.field("Deleted", meta.deletion_timestamp);
    page.field("Generation", meta.generation.to_string());
}

fn conditions(page: &mut Page, conditions: &[Condition]) {
    let rows: Vec<_> = conditions
        .iter()
        .map(|c| {
            vec![
                c.r#type.clone(),
                c.status.clone(),
                c.reason.clone(),
                c.last_transition_time.clone(),
                c.message.clone(),
            ]
        })
        .collect();
    let header = ["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"];
    page.table("Conditions", &header, &rows);
}

fn source(page: &mut Page, source: Option<&Source>) {
    let Some(source) = source else { return };
    page.section("Source");
    page.field("Repository", source.oci.clone());
    let pantry = source.pantry_ref.as_ref();
    page.field("Pantry", pantry.map_or("", |p| p.name.as_str()));
    page.field("Path", source.path.clone());
    page.field("Version", source.version.clone());
    page.field("Pinned", source.digest.clone());
    page.field("Directory", source.sub_path.clone());
    page.field("Asked every", source.poll_interval.clone());
}

fn renderer(render: Option<&Render>) -> String {
    let render = render.cloned().unwrap_or_default();
    let method = match (&render.helm, &render.kustomize) {
        (Some(_), _) => "Helm chart".to_owned(),
        (_, Some(kustomize)) => format!("Kustomize {}", kustomize.path),
        _ => "manifests".to_owned(),
    };
    match render.kubernetes {
        true => format!("{}, as Kubernetes objects", method.trim_end()),
        false => method.trim_end().to_owned(),
    }
}

fn destination(to: Option<&Destination>) -> String {
    match to {
        None => String::new(),
        Some(to) => match &to.pantry_ref {
            Some(pantry) => format!("pantry/{}", pantry.name),
            None => to.oci.clone(),
        },
    }
}

fn target(page: &mut Page, target: Option<&Target>) {
    let Some(target) = target else { return };
    page.section("Target");
    let kind = match target.r#type.as_str() {
        "" => "kuke",
        kind => kind,
    };
    page.field("Type", kind);
    if let Some(kuke) = target.kuke.as_ref().filter(|_| kind == "kuke") {
        page.field("Realm", kuke.realm.clone());
        page.field("Space", kuke.space.clone());
        page.field("Stack", kuke.stack.clone());
        page.field("Health timeout", kuke.health_timeout.clone());
        page.field("Healthy for", kuke.min_healthy.clone());
    }
    if let Some(argocd) = target.argocd.as_ref().filter(|_| kind != "kuke") {
        page.field("Cluster", argocd.cluster.clone());
        page.field("Application", argocd.application_name.clone());
        page.field("Project", argocd.project.clone());
        page.field("Server", argocd.destination_server.clone());
        page.field("Namespace", argocd.destination_namespace.clone());
    }
    page.field("When deleted", target.deletion_policy.clone());
}

fn recipe(page: &mut Page, recipe: &Recipe, others: &[&Any]) {
    let spec = recipe.spec.clone().unwrap_or_default();
    let status = recipe.status.clone().unwrap_or_default();
    head(page, "Recipe", recipe.metadata.as_ref());
    page.field("Phase", status.phase);
    page.field("Latest", status.latest_preparation_name.clone());
    page.field("Digest", status.latest_artifact_digest);
    page.field("Source digest", status.resolved_source_digest);
    page.field("Resolved at", status.resolved_at);
    let template = spec.template_ref.as_ref();
    page.field("Template", template.map_or("", |t| t.name.as_str()));
    page.field("Rendered by", renderer(spec.render.as_ref()));
    page.field(
        "Auto-deploy",
        yes(spec.auto_deploy_latest.unwrap_or_default()),
    );
    page.field("Suspended", yes(spec.suspend));
    page.field("On failure", spec.on_failure);
    page.field("Destination", destination(spec.destination.as_ref()));
    source(page, spec.source.as_ref());
    target(page, spec.target.as_ref());
    let changed = [("patch", &spec.patches), ("edit", &spec.edits)];
    let lines = changed.iter().flat_map(|(what, patches)| {
        patches.iter().map(move |patch| {
            let at = patch.target.clone().unwrap_or_default();
            format!("{what} of {} {:?}", at.kind, at.name)
        })
    });
    page.lines("Changes", lines);
    conditions(page, &status.conditions);
    let active = others.iter().find_map(|o| match o {
        Any::Serving(serving) => serving.spec.as_ref().map(|s| s.preparation_name.clone()),
        _ => None,
    });
    let rows: Vec<_> = status
        .revisions
        .iter()
        .map(|r| {
            let mark = match active.as_ref() == Some(&r.preparation) {
                true => "active",
                false if r.preparation == status.latest_preparation_name => "latest",
                false => "",
            };
            vec![
                format!("rev-{}", r.number),
                r.preparation.clone(),
                mark.to_owned(),
                r.actor.clone(),
                r.time.clone(),
                r.message.clone(),
            ]
        })
        .collect();
    let header = ["REVISION", "PREPARATION", "IS", "BY", "AT", "MESSAGE"];
    page.table("Revisions", &header, &rows);
    for other in others {
        if let Any::Serving(serving) = other {
            let status = serving.status.clone().unwrap_or_default();
            activations(page, &status.activations);
        }
    }
    related(page, others);
}

fn activations(page: &mut Page, activations: &[Activation]) {
    let rows: Vec<_> = activations
        .iter()
        .map(|a| {
            vec![
                a.number.to_string(),
                a.preparation.clone(),
                a.cause.clone(),
                a.actor.clone(),
                a.time.clone(),
                a.message.clone(),
            ]
        })
        .collect();
    let header = ["ACTIVATION", "PREPARATION", "CAUSE", "BY", "AT", "MESSAGE"];
    page.table("Activations", &header, &rows);
}

/// Objects beside it, each with how it is.
fn related(page: &mut Page, others: &[&Any]) {
    let lines = others.iter().filter_map(|any| {
        Some(match any {
            Any::Recipe(o) => line("recipe", o.metadata.as_ref()?, &o.status.as_ref()?.phase),
            Any::Serving(o) => line("serving", o.metadata.as_ref()?, &o.status.as_ref()?.phase),
            Any::Menu(o) => line("menu", o.metadata.as_ref()?, &o.status.as_ref()?.phase),
            _ => return None,
        })
    });
    page.lines("Related", lines);
}

fn line(kind: &str, meta: &Metadata, phase: &str) -> String {
    match phase {
        "" => format!("{kind}/{}", meta.name),
        phase => format!("{kind}/{}  {phase}", meta.name),
    }
}

fn preparation(page: &mut Page, preparation: &Preparation, others: &[&Any]) {
    let spec = preparation.spec.clone().unwrap_or_default();
    let status = preparation.status.clone().unwrap_or_default();
    head(page, "Preparation", preparation.metadata.as_ref());
    page.field("Phase", status.phase);
    let active = others.iter().any(|o| matches!(o, Any::Serving(_)));
    page.field("Active", yes(active));
    page.field("Recipe", spec.recipe_name);
    page.field("Revision", format!("rev-{}", spec.revision));
    page.field("Message", spec.commit_message);
    let artifact = spec.artifact.unwrap_or_default();
    page.field("Artifact", artifact.oci_ref);
    page.field(
        "Size",
        indicatif::HumanBytes(artifact.size.unsigned_abs()).to_string(),
    );
    page.field("Parent", spec.parent_digest);
    page.field("Config hash", spec.config_hash);
    let renderer = spec.renderer.unwrap_or_default();
    page.field(
        "Renderer",
        format!("{} {}", renderer.name, renderer.version),
    );
    page.field("Executable", renderer.digest);
    let source = spec.source.unwrap_or_default();
    page.section("Source");
    page.field("Kind", source.kind);
    page.field("From", source.oci);
    page.field("Version", source.version);
    page.field("Digest", source.base_digest);
    let git = spec.git_source.unwrap_or_default();
    page.field("Code", git.repo);
    page.field("Tag", git.tag);
    page.field("Commit", git.commit_hash);
    target(page, spec.target.as_ref());
    conditions(page, &status.conditions);
    resources(page, "Documents", &spec.resources);
    related(page, others);
}

fn resources(page: &mut Page, title: &str, resources: &[crate::api::delivery::v1alpha1::Resource]) {
    let rows: Vec<_> = resources
        .iter()
        .map(|r| {
            let place = [&r.namespace, &r.realm, &r.space, &r.stack, &r.cell];
            let place: Vec<&str> = place
                .into_iter()
                .filter(|part| !part.is_empty())
                .map(String::as_str)
                .collect();
            vec![
                r.kind.clone(),
                r.name.clone(),
                place.join("/"),
                r.cluster.clone(),
            ]
        })
        .collect();
    page.table(title, &["KIND", "NAME", "IN", "CLUSTER"], &rows);
}

fn serving(page: &mut Page, serving: &Serving, others: &[&Any]) {
    let spec = serving.spec.clone().unwrap_or_default();
    let status = serving.status.clone().unwrap_or_default();
    head(page, "Serving", serving.metadata.as_ref());
    page.field("Phase", status.phase);
    page.field("Recipe", spec.recipe_name);
    page.field("Wanted", spec.preparation_name);
    page.field("Source", status.source);
    page.field("Version", status.version);
    page.field("Observed", status.observed_preparation_name);
    page.field("Digest", status.deployed_digest);
    page.field("Previous", status.previous_preparation_name);
    page.field("Policy", spec.preparation_policy.unwrap_or_default().r#type);
    page.field("Held", spec.hold.as_ref().map(held).unwrap_or_default());
    page.field("Locked by", status.lock);
    conditions(page, &status.conditions);
    resources(page, "Inventory", &status.inventory);
    activations(page, &status.activations);
    related(page, others);
}

fn held(hold: &Hold) -> String {
    let parts = [&hold.reason, &hold.actor, &hold.time];
    let parts: Vec<&str> = parts.into_iter().map(String::as_str).collect();
    parts.join(", ")
}

fn menu(page: &mut Page, menu: &Menu, others: &[&Any]) {
    let spec = menu.spec.clone().unwrap_or_default();
    let status = menu.status.clone().unwrap_or_default();
    head(page, "Menu", menu.metadata.as_ref());
    page.field("Phase", status.phase);
    page.field("Current run", status.current_run);
    page.field("Auto-deploy", yes(spec.auto_deploy_latest));
    page.field("Suspended", yes(spec.suspend));
    if let Some(strategy) = &spec.strategy {
        page.section("Strategy");
        page.field("Activation", strategy.activation.clone());
        page.field("Prepare timeout", strategy.prepare_timeout.clone());
        page.field("Health timeout", strategy.health_timeout.clone());
        page.field("Healthy for", strategy.min_healthy.clone());
        page.field("On failure", strategy.on_failure.clone());
    }
    let rows: Vec<_> = spec
        .recipes
        .iter()
        .map(|member| {
            let mut row = vec![member.name.clone(), member.depends_on.join(", ")];
            let own = |any: &&&Any| named(any) == Some(&member.name);
            let (mut latest, mut active, mut phase) = Default::default();
            for any in others.iter().filter(own) {
                match any {
                    Any::Recipe(o) => {
                        latest = o.status.clone().unwrap_or_default().latest_preparation_name;
                    }
                    Any::Serving(o) => {
                        let status = o.status.clone().unwrap_or_default();
                        active = status.observed_preparation_name;
                        phase = status.phase;
                    }
                    _ => {}
                }
            }
            row.extend([member.preparation.clone(), latest, active, phase]);
            row
        })
        .collect();
    let header = ["MEMBER", "AFTER", "PINNED", "LATEST", "ACTIVE", "PHASE"];
    page.table("Members", &header, &rows);
    conditions(page, &status.conditions);
    let from = status.runs.len().saturating_sub(RUNS);
    let rows: Vec<_> = status.runs[from..].iter().map(run).collect();
    let header = ["RUN", "PHASE", "BY", "STARTED", "FINISHED", "MESSAGE"];
    page.table("Runs", &header, &rows);
    if let Some(last) = status.runs.last() {
        let rows: Vec<_> = last
            .members
            .iter()
            .map(|m| {
                vec![
                    m.wave.to_string(),
                    m.recipe.clone(),
                    m.from_preparation.clone(),
                    m.to_preparation.clone(),
                    m.outcome.clone(),
                    m.message.clone(),
                ]
            })
            .collect();
        let header = ["WAVE", "MEMBER", "FROM", "TO", "OUTCOME", "MESSAGE"];
        page.table(&format!("Run {}", last.id), &header, &rows);
        let of = |m: &MenuRunMember| {
            let lines = m.changes.iter();
            let rows = lines.map(|line| vec![m.recipe.clone(), line.clone()]);
            rows.collect::<Vec<_>>()
        };
        let rows: Vec<_> = last.members.iter().flat_map(of).collect();
        page.table("What it changes", &["MEMBER", "CHANGE"], &rows);
    }
}

fn run(run: &MenuRun) -> Vec<String> {
    vec![
        run.id.clone(),
        run.phase.clone(),
        run.actor.clone(),
        run.started_at.clone(),
        run.finished_at.clone(),
        run.message.clone(),
    ]
}

fn pantry(page: &mut Page, pantry: &Pantry, others: &[&Any]) {
    let spec = pantry.spec.clone().unwrap_or_default();
    let status = pantry.status.clone().unwrap_or_default();
    head(page, "Pantry", pantry.metadata.as_ref());
    page.field("Phase", status.phase);
    page.field("Repository", spec.oci);
    page.field("User", spec.username);
    page.field("Certificate", yes(!spec.ca.is_empty()));
    page.field("Plain HTTP", yes(spec.plain_http));
    conditions(page, &status.conditions);
    related(page, others);
}

fn template(page: &mut Page, template: &RecipeTemplate, others: &[&Any]) {
    let spec = template.spec.clone().unwrap_or_default();
    head(page, "RecipeTemplate", template.metadata.as_ref());
    page.field("Rendered by", renderer(spec.render.as_ref()));
    page.field("Patches", spec.patches.len().to_string());
    source(page, spec.source.as_ref());
    related(page, others);
}

fn kitchen(page: &mut Page, kitchen: &Kitchen) {
    let spec = kitchen.spec.clone().unwrap_or_default();
    head(page, "Kitchen", kitchen.metadata.as_ref());
    page.field("Registry", spec.registry_url);
    page.lines("Source roots", spec.source_roots);
    if let Some(signatures) = spec.signatures {
        let keys = signatures.public_keys.len();
        let what = match signatures.required {
            true => format!("required, of {keys} keys"),
            false => format!("checked with {keys} keys"),
        };
        page.field("Signatures", what);
    }
    target(page, spec.default_target.as_ref());
}
