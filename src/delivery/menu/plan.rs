//! What a run of a Menu would do. Pure.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;

use crate::model::Name;
use crate::model::delivery::{
    Activation, MemberOutcome, Menu, MenuFailure, MenuMember, MenuRun, MenuRunMember, Resource,
    RunPhase,
};
use crate::oci::Digest;

/// One Preparation by name and artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    /// Its name.
    pub preparation: Name,
    /// Its artifact.
    pub digest: String,
}

/// What is to be done about a Menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Every member serves what it should.
    Nothing,
    /// This very plan failed before; a change or a retry is waited for.
    FailedBefore,
    /// A run that has not begun.
    Run(MenuRun),
}

/// Compares what the members serve with what they should serve.
///
/// `members` gives each Recipe's pointer now (none: nothing is served) and the
/// one wanted, in the order of the Menu. With `retry` a plan that failed before
/// is tried again.
pub fn decide(
    menu: &Menu,
    members: &[(Option<Pointer>, Pointer)],
    retry: bool,
    actor: &str,
    now: Timestamp,
) -> Decision {
    let served = |(from, to): &(Option<Pointer>, Pointer)| {
        from.as_ref().is_some_and(|from| from.digest == to.digest)
    };
    if members.iter().all(served) {
        return Decision::Nothing;
    }
    let waves = waves(&menu.spec.recipes, menu.spec.strategy.activation);
    let members: Vec<MenuRunMember> = menu
        .spec
        .recipes
        .iter()
        .zip(members)
        .map(|(member, (from, to))| MenuRunMember {
            recipe: member.name.clone(),
            from_preparation: from.as_ref().map(|p| p.preparation.clone()),
            from_digest: from.as_ref().map(|p| p.digest.clone()),
            to_preparation: to.preparation.clone(),
            to_digest: to.digest.clone(),
            wave: waves.get(&member.name).copied().unwrap_or_default(),
            outcome: MemberOutcome::Pending,
            message: String::new(),
            changes: Vec::new(),
        })
        .collect();
    let plan_hash = plan_hash(menu, &members);
    if !retry && menu.status.last_failed_plan_hash.as_ref() == Some(&plan_hash) {
        return Decision::FailedBefore;
    }
    let last = menu.status.runs.last();
    let id = last.and_then(|run| run.id.parse::<u64>().ok()).unwrap_or(0) + 1;
    Decision::Run(MenuRun {
        id: id.to_string(),
        plan_hash,
        phase: RunPhase::Preparing,
        members,
        message: String::new(),
        started_at: Some(now),
        finished_at: None,
        phase_since: Some(now),
        actor: actor.to_owned(),
    })
}

/// Hash of all that decides how a run goes: the targets and the strategy.
fn plan_hash(menu: &Menu, members: &[MenuRunMember]) -> String {
    let mut text = String::new();
    for member in members {
        text += &format!("{} {} {}\n", member.recipe, member.to_digest, member.wave);
    }
    let strategy = &menu.spec.strategy;
    let failure = match strategy.on_failure {
        MenuFailure::Rollback => "rollback",
        MenuFailure::Halt => "halt",
    };
    text += &format!(
        "{} {} {} {failure}\n",
        strategy.prepare_timeout.as_millis(),
        strategy.health_timeout.as_millis(),
        strategy.min_healthy.as_millis(),
    );
    Digest::sha256(text.as_bytes()).as_str().to_owned()
}

/// Wave of every member: one after all it depends on. The dependencies of a
/// Menu that was accepted have no cycle; in one, members end up in wave 0.
fn waves(members: &[MenuMember], activation: Activation) -> BTreeMap<Name, u32> {
    let mut waves: BTreeMap<Name, u32> = members.iter().map(|m| (m.name.clone(), 0)).collect();
    if activation == Activation::Parallel {
        return waves;
    }
    // Every pass settles one more wave.
    for _ in 0..members.len() {
        let mut moved = false;
        for member in members {
            let of = |name: &Name| waves.get(name).map_or(0, |wave| wave + 1);
            let wave = member.depends_on.iter().map(of).max().unwrap_or(0);
            if waves.get(&member.name) != Some(&wave) {
                waves.insert(member.name.clone(), wave);
                moved = true;
            }
        }
        if !moved {
            return waves;
        }
    }
    members.iter().map(|m| (m.name.clone(), 0)).collect()
}

/// Two members of a Menu with one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// The resource, for people.
    pub resource: String,
    /// The two Recipes.
    pub recipes: (Name, Name),
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (one, other) = &self.recipes;
        write!(f, "{} is in both {one} and {other}", self.resource)
    }
}

/// Finds a resource that two members would both own.
///
/// `members` gives each Recipe with where its documents go (a realm, or a
/// cluster with its namespace: resources of different places do not clash).
pub fn claims(members: &[(Name, String, Vec<Resource>)]) -> Result<(), Clash> {
    let mut owners = BTreeMap::new();
    for (recipe, place, resources) in members {
        for resource in resources {
            let key = (place, resource.identity());
            if let Some(other) = owners.insert(key, recipe)
                && other != recipe
            {
                return Err(Clash {
                    resource: format!("{} {:?}", resource.kind, resource.name),
                    recipes: (other.clone(), recipe.clone()),
                });
            }
        }
    }
    Ok(())
}
