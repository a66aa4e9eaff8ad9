//! Which step of a run comes next. Pure: all it knows is the saved run and a
//! look at the members.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::Name;
use crate::model::delivery::{MemberOutcome, MenuRun, MenuRunMember, MenuStrategy, RunPhase};

/// How one member stands towards the Preparation that its run wants now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It was not handed to the target yet.
    NotApplied,
    /// It is not there yet: what is waited for.
    Waiting(String),
    /// It is on the target and healthy; or gone, where it should be.
    Healthy,
    /// It will not get there: why.
    Failed(String),
}

/// A look at everything a run depends on.
#[derive(Debug, Clone)]
pub struct Look {
    /// Now.
    pub now: Timestamp,
    /// Every member. One that is missing counts as not applied.
    pub members: BTreeMap<Name, Health>,
    /// How long all of them have been healthy without a break.
    pub healthy_for: Duration,
}

/// What is done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Lock the members and check everything; nothing live changes.
    Prepare,
    /// Hand these to the target.
    Apply(Vec<Name>),
    /// These have arrived.
    Mark(Vec<Name>, MemberOutcome),
    /// All waves are out.
    Verify,
    /// All members are healthy together.
    Commit,
    /// Remove what the artifacts that are active now do not hold, unlock, end.
    Finish,
    /// Move all pointers back.
    RollBack(String),
    /// Bring these back, or take away those that had nothing before.
    Undo(Vec<Name>),
    /// Stop where it is, with all locks.
    Halt(String),
    /// Look again in a while.
    Wait,
    /// The run has ended.
    Done,
}

/// The next step of a run.
pub fn next(run: &MenuRun, strategy: &MenuStrategy, look: &Look) -> Step {
    match run.phase {
        RunPhase::Preparing => Step::Prepare,
        RunPhase::Activating => match fault(run, strategy, look) {
            Some(why) => Step::RollBack(why),
            None => activate(run, look),
        },
        // First what was reached: it is not failed for the time this look came late.
        RunPhase::Verifying if verified(run, strategy, look) => Step::Commit,
        RunPhase::Verifying => match fault(run, strategy, look) {
            Some(why) => Step::RollBack(why),
            None => Step::Wait,
        },
        RunPhase::RollingBack => undo(run, strategy, look),
        RunPhase::Committed
        | RunPhase::RolledBack
        | RunPhase::PrepareFailed
        | RunPhase::Aborted => match run.finished_at {
            None => Step::Finish,
            Some(_) => Step::Done,
        },
        RunPhase::Failed => Step::Done,
    }
}

/// How a member stands.
fn health<'a>(member: &MenuRunMember, look: &'a Look) -> &'a Health {
    look.members
        .get(&member.recipe)
        .unwrap_or(&Health::NotApplied)
}

fn all_healthy(run: &MenuRun, look: &Look) -> bool {
    run.members
        .iter()
        .all(|m| *health(m, look) == Health::Healthy)
}

/// Whether all members have been healthy together for long enough, and were so
/// before the time was over.
fn verified(run: &MenuRun, strategy: &MenuStrategy, look: &Look) -> bool {
    let Some(late) = look.healthy_for.checked_sub(strategy.min_healthy) else {
        return false;
    };
    all_healthy(run, look) && !over(run, strategy.health_timeout + late, look)
}

/// Why the run cannot succeed any more.
fn fault(run: &MenuRun, strategy: &MenuStrategy, look: &Look) -> Option<String> {
    let failed = run.members.iter().find_map(|m| match health(m, look) {
        Health::Failed(why) => Some(format!("{}: {why}", m.recipe)),
        _ => None,
    });
    failed.or_else(|| {
        over(run, strategy.health_timeout, look).then(|| {
            format!(
                "not all members were healthy within {:?}{}",
                strategy.health_timeout,
                waited_for(run, look)
            )
        })
    })
}

/// Whether the phase has taken longer than `limit`.
fn over(run: &MenuRun, limit: Duration, look: &Look) -> bool {
    let Some(since) = run.phase_since else {
        return false;
    };
    look.now.duration_since(since).unsigned_abs() > limit && look.now > since
}

/// The lowest wave that is not out yet.
fn activate(run: &MenuRun, look: &Look) -> Step {
    let open = |m: &&MenuRunMember| m.outcome != MemberOutcome::Deployed;
    let Some(wave) = run.members.iter().filter(open).map(|m| m.wave).min() else {
        return Step::Verify;
    };
    let of_wave: Vec<_> = run
        .members
        .iter()
        .filter(open)
        .filter(|m| m.wave == wave)
        .collect();
    advance(&of_wave, look, Step::Apply, |_| MemberOutcome::Deployed)
}

/// The highest wave that is not back yet.
fn undo(run: &MenuRun, strategy: &MenuStrategy, look: &Look) -> Step {
    let back = |m: &&MenuRunMember| {
        matches!(
            m.outcome,
            MemberOutcome::RolledBack | MemberOutcome::Withdrawn
        )
    };
    let open = |m: &&MenuRunMember| !back(m);
    let Some(wave) = run.members.iter().filter(open).map(|m| m.wave).max() else {
        return Step::Finish;
    };
    let of_wave: Vec<_> = run
        .members
        .iter()
        .filter(open)
        .filter(|m| m.wave == wave)
        .collect();
    let failed = of_wave.iter().find_map(|m| match health(m, look) {
        Health::Failed(why) => Some(format!("{} cannot be brought back: {why}", m.recipe)),
        _ => None,
    });
    if let Some(why) = failed {
        return Step::Halt(why);
    }
    let step = advance(&of_wave, look, Step::Undo, |m| match m.from_preparation {
        Some(_) => MemberOutcome::RolledBack,
        None => MemberOutcome::Withdrawn,
    });
    // Each wave back may take as long as all of them might have taken out.
    let waves = u32::try_from(run.members.len()).unwrap_or(u32::MAX);
    let limit = strategy.health_timeout.saturating_mul(waves.max(1));
    if step == Step::Wait && over(run, limit, look) {
        let waiting = waited_for(run, look);
        return Step::Halt(format!("the members were not back in time{waiting}"));
    }
    step
}

/// The first member that is waited for, and what for, to be put at the end of a
/// message; empty when there is none.
fn waited_for(run: &MenuRun, look: &Look) -> String {
    let mut waiting = run.members.iter().filter_map(|m| match health(m, look) {
        Health::Waiting(what) => Some(format!("; {}: {what}", m.recipe)),
        _ => None,
    });
    waiting.next().unwrap_or_default()
}

/// Applies what was not applied, marks what has arrived, or waits.
fn advance(
    members: &[&MenuRunMember],
    look: &Look,
    apply: fn(Vec<Name>) -> Step,
    outcome: fn(&MenuRunMember) -> MemberOutcome,
) -> Step {
    let names = |wanted: &Health| -> Vec<Name> {
        let found = members.iter().filter(|m| health(m, look) == wanted);
        found.map(|m| m.recipe.clone()).collect()
    };
    let new = names(&Health::NotApplied);
    if !new.is_empty() {
        return apply(new);
    }
    let arrived: Vec<_> = members
        .iter()
        .filter(|m| *health(m, look) == Health::Healthy)
        .collect();
    match arrived.first() {
        Some(first) => {
            let kind = outcome(first);
            let alike = arrived.iter().filter(|m| outcome(m) == kind);
            Step::Mark(alike.map(|m| m.recipe.clone()).collect(), kind)
        }
        None => Step::Wait,
    }
}
