//! Recipe.

use super::super::Error;
use super::super::check::{Check, Words};
use super::patch::{patch_to_external, patches_to_model};
use super::source::{
    reference, render_to_external, render_to_model, repository, source_to_external,
    source_to_model, value,
};
use super::status::{conditions_to_external, conditions_to_model, lookup};
use super::target::{target_to_external, target_to_model};
use super::{MAX_RECIPE_NAME, VERSION, envelope, metadata, text_of, time_text, word_of};
use crate::api::delivery::v1alpha1 as external;
use crate::model::Value;
use crate::model::delivery::{
    Destination, OnFailure, Recipe, RecipePhase, RecipeSpec, RecipeStatus, ReleaseKind, Revision,
};

const ON_FAILURE: &Words<OnFailure> =
    &[("Hold", OnFailure::Hold), ("Rollback", OnFailure::Rollback)];

const PHASES: &Words<RecipePhase> = &[
    ("Pending", RecipePhase::Pending),
    ("Processing", RecipePhase::Processing),
    ("Ready", RecipePhase::Ready),
    ("Failed", RecipePhase::Failed),
];

/// Recipe from its document.
pub fn recipe_to_model(document: external::Recipe) -> Result<Recipe, Error> {
    let mut check = Check::default();
    let external::Recipe {
        api_version,
        kind,
        metadata,
        spec,
        status,
    } = document;
    let meta = envelope(
        &mut check,
        ReleaseKind::Recipe,
        &api_version,
        &kind,
        metadata,
    );
    if let Some(meta) = &meta {
        super::longest(
            &mut check,
            "metadata.name",
            meta.name.as_str(),
            MAX_RECIPE_NAME,
        );
    }
    let spec = spec_to_model(&mut check, spec.unwrap_or_default());
    let recipe = meta.map(|meta| Recipe {
        meta,
        spec,
        status: status_to_model(status.unwrap_or_default()),
    });
    check.finish(recipe)
}

fn spec_to_model(check: &mut Check, spec: external::RecipeSpec) -> RecipeSpec {
    let external::RecipeSpec {
        source,
        render,
        patches,
        edits,
        auto_deploy_latest,
        auto_deploy,
        destination,
        target,
        on_failure,
        allow_empty,
        suspend,
        template_ref,
    } = spec;
    match (&source, &template_ref) {
        (Some(_), Some(_)) => {
            let what = "templateRef and source exclude each other";
            check.bad("spec.templateRef", "BadSource", what);
        }
        (None, None) => {
            check
                .bad("spec.source", "MissingField", "is required")
                .suggestion = "add source, or templateRef".to_owned();
        }
        _ => {}
    }
    let older = auto_deploy.map(|json| value(check, "spec.autoDeploy", Some(&json)));
    let older = older.and_then(|older| match &older {
        Value::Bool(on) => Some(*on),
        Value::String(text) if text == "Enabled" => Some(true),
        Value::String(text) if text == "Disabled" => Some(false),
        other => {
            let message = format!("{other} is not true, false, Enabled or Disabled");
            check.bad("spec.autoDeploy", "BadValue", message).suggestion =
                "write autoDeployLatest: true".to_owned();
            None
        }
    });
    if older.is_some() && auto_deploy_latest.is_some() && older != auto_deploy_latest {
        let what = "contradicts autoDeployLatest";
        check.bad("spec.autoDeploy", "BadValue", what).suggestion = "remove it".to_owned();
    }
    RecipeSpec {
        source: source.and_then(|source| source_to_model(check, "spec.source", source)),
        render: render_to_model(check, "spec.render", render),
        patches: patches_to_model(check, "spec.patches", patches),
        edits: patches_to_model(check, "spec.edits", edits),
        auto_deploy_latest: auto_deploy_latest.or(older),
        destination: destination.and_then(|to| destination_to_model(check, to)),
        target: target.map(|target| target_to_model(check, "spec.target", target)),
        on_failure: check.word("spec.onFailure", &on_failure, ON_FAILURE),
        allow_empty,
        suspend,
        template: template_ref
            .and_then(|template| check.name("spec.templateRef.name", &template.name)),
    }
}

fn destination_to_model(check: &mut Check, to: external::Destination) -> Option<Destination> {
    let external::Destination { oci, pantry_ref } = to;
    match (oci.as_str(), pantry_ref) {
        ("", Some(pantry)) => check
            .name("spec.destination.pantryRef.name", &pantry.name)
            .map(Destination::Pantry),
        ("", None) => None,
        (oci, None) => repository(check, "spec.destination.oci", oci).map(Destination::Oci),
        (_, Some(_)) => {
            let what = "oci and pantryRef exclude each other";
            check.bad("spec.destination", "BadDestination", what);
            None
        }
    }
}

/// Document of a Recipe.
pub fn recipe_to_external(recipe: &Recipe) -> external::Recipe {
    let Recipe { meta, spec, status } = recipe;
    let RecipeSpec {
        source,
        render,
        patches,
        edits,
        auto_deploy_latest,
        destination,
        target,
        on_failure,
        allow_empty,
        suspend,
        template,
    } = spec;
    external::Recipe {
        api_version: VERSION.to_owned(),
        kind: "Recipe".to_owned(),
        metadata: metadata(meta),
        spec: Some(external::RecipeSpec {
            source: source.as_ref().map(source_to_external),
            render: render_to_external(render),
            patches: patches.iter().map(patch_to_external).collect(),
            edits: edits.iter().map(patch_to_external).collect(),
            auto_deploy_latest: *auto_deploy_latest,
            auto_deploy: None,
            destination: destination.as_ref().map(|to| match to {
                Destination::Oci(repository) => external::Destination {
                    oci: repository.to_string(),
                    pantry_ref: None,
                },
                Destination::Pantry(name) => external::Destination {
                    oci: String::new(),
                    pantry_ref: Some(reference(name)),
                },
            }),
            target: target.as_ref().map(target_to_external),
            on_failure: match on_failure {
                OnFailure::Hold => String::new(),
                other => word_of(ON_FAILURE, other),
            },
            allow_empty: *allow_empty,
            suspend: *suspend,
            template_ref: template.as_ref().map(reference),
        }),
        status: Some(status_to_external(status)),
    }
}

fn status_to_model(status: external::RecipeStatus) -> RecipeStatus {
    let external::RecipeStatus {
        observed_generation,
        phase,
        conditions,
        latest_preparation_name,
        latest_artifact_digest,
        latest_config_hash,
        resolved_source_digest,
        revision,
        revisions,
        resolved_at,
        resolved_source,
    } = status;
    RecipeStatus {
        observed_generation,
        phase: lookup(PHASES, &phase).unwrap_or_default(),
        conditions: conditions_to_model(conditions),
        latest_preparation: latest_preparation_name.parse().ok(),
        latest_digest: super::some_text(latest_artifact_digest),
        latest_config_hash: super::some_text(latest_config_hash),
        resolved_source_digest: super::some_text(resolved_source_digest),
        resolved_source: super::some_text(resolved_source),
        resolved_at: resolved_at.parse().ok(),
        revision,
        revisions: revisions
            .into_iter()
            .filter_map(revision_to_model)
            .collect(),
    }
}

fn revision_to_model(revision: external::Revision) -> Option<Revision> {
    let external::Revision {
        number,
        preparation,
        config_hash,
        message,
        actor,
        time,
    } = revision;
    Some(Revision {
        number,
        preparation: preparation.parse().ok()?,
        config_hash,
        message,
        actor,
        time: time.parse().ok(),
    })
}

fn status_to_external(status: &RecipeStatus) -> external::RecipeStatus {
    let RecipeStatus {
        observed_generation,
        phase,
        conditions,
        latest_preparation,
        latest_digest,
        latest_config_hash,
        resolved_source_digest,
        resolved_source,
        resolved_at,
        revision,
        revisions,
    } = status;
    external::RecipeStatus {
        observed_generation: *observed_generation,
        phase: word_of(PHASES, phase),
        conditions: conditions_to_external(conditions),
        latest_preparation_name: text_of(latest_preparation),
        latest_artifact_digest: text_of(latest_digest),
        latest_config_hash: text_of(latest_config_hash),
        resolved_source_digest: text_of(resolved_source_digest),
        revision: *revision,
        revisions: revisions.iter().map(revision_to_external).collect(),
        resolved_at: time_text(*resolved_at),
        resolved_source: text_of(resolved_source),
    }
}

/// One entry of a Recipe's history.
pub fn revision_to_external(revision: &Revision) -> external::Revision {
    let Revision {
        number,
        preparation,
        config_hash,
        message,
        actor,
        time,
    } = revision;
    external::Revision {
        number: *number,
        preparation: preparation.to_string(),
        config_hash: config_hash.clone(),
        message: message.clone(),
        actor: actor.clone(),
        time: time_text(*time),
    }
}
