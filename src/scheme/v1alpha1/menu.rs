//! Menu.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Error;
use super::super::check::{Check, Words};
use super::status::{conditions_to_external, conditions_to_model, lookup};
use super::{VERSION, envelope, metadata, pause, some_pause, some_text};
use super::{text_of, time_text, word_of};
use crate::api::delivery::v1alpha1 as external;
use crate::model::delivery::{
    Activation, MemberOutcome, Menu, MenuFailure, MenuMember, MenuPhase, MenuRun, MenuRunMember,
    MenuSpec, MenuStatus, MenuStrategy, ReleaseKind, RunPhase,
};
use crate::model::{Name, duration};

/// Fewest and most members.
const MEMBERS: (usize, usize) = (2, 64);

const ACTIVATIONS: &Words<Activation> = &[
    ("Ordered", Activation::Ordered),
    ("Parallel", Activation::Parallel),
];

const FAILURES: &Words<MenuFailure> = &[
    ("Rollback", MenuFailure::Rollback),
    ("Halt", MenuFailure::Halt),
];

const PHASES: &Words<MenuPhase> = &[
    ("Idle", MenuPhase::Idle),
    ("Preparing", MenuPhase::Preparing),
    ("Activating", MenuPhase::Activating),
    ("Verifying", MenuPhase::Verifying),
    ("Deployed", MenuPhase::Deployed),
    ("RollingBack", MenuPhase::RollingBack),
    ("RolledBack", MenuPhase::RolledBack),
    ("Failed", MenuPhase::Failed),
];

const RUN_PHASES: &Words<RunPhase> = &[
    ("Preparing", RunPhase::Preparing),
    ("Activating", RunPhase::Activating),
    ("Verifying", RunPhase::Verifying),
    ("Committed", RunPhase::Committed),
    ("RollingBack", RunPhase::RollingBack),
    ("RolledBack", RunPhase::RolledBack),
    ("PrepareFailed", RunPhase::PrepareFailed),
    ("Aborted", RunPhase::Aborted),
    ("Failed", RunPhase::Failed),
];

const OUTCOMES: &Words<MemberOutcome> = &[
    ("Pending", MemberOutcome::Pending),
    ("Deployed", MemberOutcome::Deployed),
    ("RolledBack", MemberOutcome::RolledBack),
    ("Withdrawn", MemberOutcome::Withdrawn),
    ("Failed", MemberOutcome::Failed),
];

/// Menu from its document.
pub fn menu_to_model(document: external::Menu) -> Result<Menu, Error> {
    let mut check = Check::default();
    let external::Menu {
        api_version,
        kind,
        metadata,
        spec,
        status,
    } = document;
    let meta = envelope(&mut check, ReleaseKind::Menu, &api_version, &kind, metadata);
    let spec = spec_to_model(&mut check, spec.unwrap_or_default());
    let menu = meta.map(|meta| Menu {
        meta,
        spec,
        status: status_to_model(status.unwrap_or_default()),
    });
    check.finish(menu)
}

fn spec_to_model(check: &mut Check, spec: external::MenuSpec) -> MenuSpec {
    let external::MenuSpec {
        recipes,
        strategy,
        auto_deploy_latest,
        exclusive,
        suspend,
    } = spec;
    let (fewest, most) = MEMBERS;
    if !(fewest..=most).contains(&recipes.len()) {
        let message = format!(
            "has {} members, {fewest} to {most} are needed",
            recipes.len()
        );
        check.bad("spec.recipes", "OutOfRange", message);
    }
    let mut seen = BTreeSet::new();
    let mut members: Vec<MenuMember> = Vec::new();
    for (i, member) in recipes.into_iter().enumerate() {
        let at = format!("spec.recipes[{i}]");
        let Some(name) = check.name(&format!("{at}.name"), &member.name) else {
            continue;
        };
        if !seen.insert(name.clone()) {
            let message = format!("{name:?} is there twice");
            check.bad(format!("{at}.name"), "Duplicate", message);
        }
        let pin = &member.preparation;
        if !pin.is_empty() && !super::is_digest(pin) {
            check.name(&format!("{at}.preparation"), pin);
        }
        let depends_on = member.depends_on.iter().enumerate();
        members.push(MenuMember {
            name,
            preparation: some_text(member.preparation.clone()),
            depends_on: depends_on
                .filter_map(|(k, name)| check.name(&format!("{at}.dependsOn[{k}]"), name))
                .collect(),
        });
    }
    for (i, member) in members.iter().enumerate() {
        for (k, other) in member.depends_on.iter().enumerate() {
            if !seen.contains(other) {
                let at = format!("spec.recipes[{i}].dependsOn[{k}]");
                let message = format!("{other:?} is not a member of this Menu");
                check.bad(at, "UnknownMember", message);
            }
        }
    }
    if let Some(cycle) = in_cycle(&members) {
        let names: Vec<_> = cycle.iter().map(ToString::to_string).collect();
        let message = format!("{} depend on each other in a circle", names.join(", "));
        check.bad("spec.recipes", "DependencyCycle", message);
    }
    let default = MenuStrategy::default();
    let external::MenuStrategy {
        activation,
        prepare_timeout,
        health_timeout,
        min_healthy,
        on_failure,
    } = strategy.unwrap_or_default();
    let at = |field: &str| format!("spec.strategy.{field}");
    MenuSpec {
        recipes: members,
        strategy: MenuStrategy {
            activation: check.word(&at("activation"), &activation, ACTIVATIONS),
            prepare_timeout: some_pause(
                check,
                &at("prepareTimeout"),
                &prepare_timeout,
                default.prepare_timeout,
            ),
            health_timeout: some_pause(
                check,
                &at("healthTimeout"),
                &health_timeout,
                default.health_timeout,
            ),
            min_healthy: pause(check, &at("minHealthy"), &min_healthy, default.min_healthy),
            on_failure: check.word(&at("onFailure"), &on_failure, FAILURES),
        },
        auto_deploy_latest,
        exclusive: exclusive.unwrap_or(true),
        suspend,
    }
}

/// The members that no order of dependency can be found for.
fn in_cycle(members: &[MenuMember]) -> Option<BTreeSet<&Name>> {
    let mut waiting: BTreeMap<&Name, &[Name]> = members
        .iter()
        .map(|member| (&member.name, member.depends_on.as_slice()))
        .collect();
    loop {
        let free: Vec<&Name> = waiting
            .iter()
            .filter(|(_, on)| !on.iter().any(|other| waiting.contains_key(other)))
            .map(|(name, _)| *name)
            .collect();
        if free.is_empty() {
            let stuck: BTreeSet<&Name> = waiting.into_keys().collect();
            return (!stuck.is_empty()).then_some(stuck);
        }
        waiting.retain(|name, _| !free.contains(name));
    }
}

/// Document of a Menu.
pub fn menu_to_external(menu: &Menu) -> external::Menu {
    let Menu { meta, spec, status } = menu;
    let MenuSpec {
        recipes,
        strategy,
        auto_deploy_latest,
        exclusive,
        suspend,
    } = spec;
    let MenuStrategy {
        activation,
        prepare_timeout,
        health_timeout,
        min_healthy,
        on_failure,
    } = strategy;
    let member = |member: &MenuMember| external::MenuMember {
        name: member.name.to_string(),
        preparation: text_of(&member.preparation),
        depends_on: member.depends_on.iter().map(Name::to_string).collect(),
    };
    external::Menu {
        api_version: VERSION.to_owned(),
        kind: "Menu".to_owned(),
        metadata: metadata(meta),
        spec: Some(external::MenuSpec {
            recipes: recipes.iter().map(member).collect(),
            strategy: Some(external::MenuStrategy {
                activation: word_of(ACTIVATIONS, activation),
                prepare_timeout: duration::show(*prepare_timeout),
                health_timeout: duration::show(*health_timeout),
                min_healthy: duration::show(*min_healthy),
                on_failure: word_of(FAILURES, on_failure),
            }),
            auto_deploy_latest: *auto_deploy_latest,
            exclusive: Some(*exclusive),
            suspend: *suspend,
        }),
        status: Some(status_to_external(status)),
    }
}

fn status_to_model(status: external::MenuStatus) -> MenuStatus {
    let external::MenuStatus {
        observed_generation,
        phase,
        conditions,
        current_run,
        runs,
        last_failed_plan_hash,
    } = status;
    MenuStatus {
        observed_generation,
        phase: lookup(PHASES, &phase).unwrap_or_default(),
        conditions: conditions_to_model(conditions),
        current_run: some_text(current_run),
        runs: runs.into_iter().map(run_to_model).collect(),
        last_failed_plan_hash: some_text(last_failed_plan_hash),
    }
}

fn run_to_model(run: external::MenuRun) -> MenuRun {
    let external::MenuRun {
        id,
        plan_hash,
        phase,
        members,
        message,
        started_at,
        finished_at,
        phase_since,
        actor,
    } = run;
    MenuRun {
        id,
        plan_hash,
        phase: lookup(RUN_PHASES, &phase).unwrap_or_default(),
        members: members.into_iter().filter_map(member_to_model).collect(),
        message,
        started_at: started_at.parse().ok(),
        finished_at: finished_at.parse().ok(),
        phase_since: phase_since.parse().ok(),
        actor,
    }
}

fn member_to_model(member: external::MenuRunMember) -> Option<MenuRunMember> {
    let external::MenuRunMember {
        recipe,
        from_preparation,
        from_digest,
        to_preparation,
        to_digest,
        wave,
        outcome,
        message,
        changes,
    } = member;
    Some(MenuRunMember {
        recipe: recipe.parse().ok()?,
        from_preparation: from_preparation.parse().ok(),
        from_digest: some_text(from_digest),
        to_preparation: to_preparation.parse().ok()?,
        to_digest,
        wave,
        outcome: lookup(OUTCOMES, &outcome).unwrap_or_default(),
        message,
        changes,
    })
}

fn status_to_external(status: &MenuStatus) -> external::MenuStatus {
    let MenuStatus {
        observed_generation,
        phase,
        conditions,
        current_run,
        runs,
        last_failed_plan_hash,
    } = status;
    external::MenuStatus {
        observed_generation: *observed_generation,
        phase: word_of(PHASES, phase),
        conditions: conditions_to_external(conditions),
        current_run: text_of(current_run),
        runs: runs.iter().map(run_to_external).collect(),
        last_failed_plan_hash: text_of(last_failed_plan_hash),
    }
}

/// One rollout.
pub fn run_to_external(run: &MenuRun) -> external::MenuRun {
    let MenuRun {
        id,
        plan_hash,
        phase,
        members,
        message,
        started_at,
        finished_at,
        phase_since,
        actor,
    } = run;
    external::MenuRun {
        id: id.clone(),
        plan_hash: plan_hash.clone(),
        phase: word_of(RUN_PHASES, phase),
        members: members.iter().map(member_to_external).collect(),
        message: message.clone(),
        started_at: time_text(*started_at),
        finished_at: time_text(*finished_at),
        phase_since: time_text(*phase_since),
        actor: actor.clone(),
    }
}

fn member_to_external(member: &MenuRunMember) -> external::MenuRunMember {
    let MenuRunMember {
        recipe,
        from_preparation,
        from_digest,
        to_preparation,
        to_digest,
        wave,
        outcome,
        message,
        changes,
    } = member;
    external::MenuRunMember {
        recipe: recipe.to_string(),
        from_preparation: text_of(from_preparation),
        from_digest: text_of(from_digest),
        to_preparation: to_preparation.to_string(),
        to_digest: to_digest.clone(),
        wave: *wave,
        outcome: word_of(OUTCOMES, outcome),
        message: message.clone(),
        changes: changes.clone(),
    }
}
