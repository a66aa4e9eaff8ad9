//! Serving.

use super::super::Error;
use super::super::check::{Check, Words};
use super::status::{
    conditions_to_external, conditions_to_model, lookup, resource_to_external, resource_to_model,
};
use super::{VERSION, envelope, metadata, some_text, text_of, time_text, word_of};
use crate::api::delivery::v1alpha1 as external;
use crate::model::delivery::{
    ActivationCause, ActivationRecord, Hold, Policy, ReleaseKind, Serving, ServingPhase,
    ServingSpec, ServingStatus,
};

const POLICIES: &Words<Policy> = &[("Manual", Policy::Manual), ("Automatic", Policy::Automatic)];

const PHASES: &Words<ServingPhase> = &[
    ("Pending", ServingPhase::Pending),
    ("Deploying", ServingPhase::Deploying),
    ("Deployed", ServingPhase::Deployed),
    ("Failed", ServingPhase::Failed),
];

const CAUSES: &Words<ActivationCause> = &[
    ("promote", ActivationCause::Promote),
    ("rollback", ActivationCause::Rollback),
    ("auto", ActivationCause::Auto),
    ("label", ActivationCause::Label),
    ("menu", ActivationCause::Menu),
    ("failure", ActivationCause::Failure),
];

/// Serving from its document.
pub fn serving_to_model(document: external::Serving) -> Result<Serving, Error> {
    let mut check = Check::default();
    let external::Serving {
        api_version,
        kind,
        metadata,
        spec,
        status,
    } = document;
    let meta = envelope(
        &mut check,
        ReleaseKind::Serving,
        &api_version,
        &kind,
        metadata,
    );
    let external::ServingSpec {
        recipe_name,
        preparation_name,
        preparation_policy,
        hold,
    } = spec.unwrap_or_default();
    let recipe = check.name("spec.recipeName", &recipe_name);
    let preparation = check.name("spec.preparationName", &preparation_name);
    let policy = preparation_policy.unwrap_or_default().r#type;
    let policy = check.word("spec.preparationPolicy.type", &policy, POLICIES);
    let hold = hold.map(|hold| Hold {
        reason: hold.reason,
        actor: hold.actor,
        time: super::time(&mut check, "spec.hold.time", &hold.time),
    });
    let spec = recipe
        .zip(preparation)
        .map(|(recipe, preparation)| ServingSpec {
            recipe,
            preparation,
            policy,
            hold,
        });
    let serving = meta.zip(spec).map(|(meta, spec)| Serving {
        meta,
        spec,
        status: status_to_model(status.unwrap_or_default()),
    });
    check.finish(serving)
}

/// Document of a Serving.
pub fn serving_to_external(serving: &Serving) -> external::Serving {
    let Serving { meta, spec, status } = serving;
    let ServingSpec {
        recipe,
        preparation,
        policy,
        hold,
    } = spec;
    external::Serving {
        api_version: VERSION.to_owned(),
        kind: "Serving".to_owned(),
        metadata: metadata(meta),
        spec: Some(external::ServingSpec {
            recipe_name: recipe.to_string(),
            preparation_name: preparation.to_string(),
            preparation_policy: Some(external::PreparationPolicy {
                r#type: word_of(POLICIES, policy),
            }),
            hold: hold.as_ref().map(|hold| external::Hold {
                reason: hold.reason.clone(),
                actor: hold.actor.clone(),
                time: time_text(hold.time),
            }),
        }),
        status: Some(status_to_external(status)),
    }
}

fn status_to_model(status: external::ServingStatus) -> ServingStatus {
    let external::ServingStatus {
        observed_generation,
        phase,
        conditions,
        observed_preparation_name,
        deployed_digest,
        previous_preparation_name,
        inventory,
        lock,
        activations,
        source,
        version,
        returns_to,
    } = status;
    ServingStatus {
        observed_generation,
        phase: lookup(PHASES, &phase).unwrap_or_default(),
        conditions: conditions_to_model(conditions),
        observed_preparation: observed_preparation_name.parse().ok(),
        deployed_digest: some_text(deployed_digest),
        previous_preparation: previous_preparation_name.parse().ok(),
        inventory: inventory.into_iter().map(resource_to_model).collect(),
        lock: some_text(lock),
        activations: activations
            .into_iter()
            .filter_map(activation_to_model)
            .collect(),
        source,
        version,
        returns_to: returns_to.parse().ok(),
    }
}

fn activation_to_model(activation: external::Activation) -> Option<ActivationRecord> {
    let external::Activation {
        number,
        preparation,
        digest,
        previous,
        cause,
        message,
        actor,
        time,
    } = activation;
    Some(ActivationRecord {
        number,
        preparation: preparation.parse().ok()?,
        digest,
        previous: previous.parse().ok(),
        cause: lookup(CAUSES, &cause).unwrap_or_default(),
        message,
        actor,
        time: time.parse().ok(),
    })
}

fn status_to_external(status: &ServingStatus) -> external::ServingStatus {
    let ServingStatus {
        observed_generation,
        phase,
        conditions,
        observed_preparation,
        deployed_digest,
        previous_preparation,
        inventory,
        lock,
        activations,
        source,
        version,
        returns_to,
    } = status;
    external::ServingStatus {
        observed_generation: *observed_generation,
        phase: word_of(PHASES, phase),
        conditions: conditions_to_external(conditions),
        observed_preparation_name: text_of(observed_preparation),
        deployed_digest: text_of(deployed_digest),
        previous_preparation_name: text_of(previous_preparation),
        inventory: inventory.iter().map(resource_to_external).collect(),
        lock: text_of(lock),
        activations: activations.iter().map(activation_to_external).collect(),
        source: source.clone(),
        version: version.clone(),
        returns_to: text_of(returns_to),
    }
}

/// One entry of a Serving's history.
pub fn activation_to_external(activation: &ActivationRecord) -> external::Activation {
    let ActivationRecord {
        number,
        preparation,
        digest,
        previous,
        cause,
        message,
        actor,
        time,
    } = activation;
    external::Activation {
        number: *number,
        preparation: preparation.to_string(),
        digest: digest.clone(),
        previous: text_of(previous),
        cause: word_of(CAUSES, cause),
        message: message.clone(),
        actor: actor.clone(),
        time: time_text(*time),
    }
}
