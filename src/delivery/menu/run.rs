//! Doing a run, one saved step after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::Instant;

use super::engine::{Health, Look, Step, next};
use crate::model::Name;
use crate::model::delivery::{
    MemberOutcome, MenuFailure, MenuRun, MenuRunMember, MenuStrategy, RunPhase,
};

/// How often the members are looked at.
const LOOK: Duration = Duration::from_millis(200);

/// How long it takes until a member is handed over again that nobody answered for.
const AGAIN: Duration = Duration::from_secs(2);

/// Front of the message of a run whose members could not all be brought back.
pub const ROLLBACK_FAILED: &str = "RollbackFailed";

/// Message of a run that somebody ended.
const ABORTED: &str = "aborted";

/// What preparing found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// What stands in the way, by member.
    pub problems: Vec<(Name, String)>,
    /// What activating would change, by member, for people.
    pub changes: BTreeMap<Name, Vec<String>>,
}

/// Why a member was not handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It will not be taken as it is.
    Final(String),
    /// Nobody answered who could take it; that may pass within the run's time.
    Passing(String),
}

/// What a run needs of the Servings of its Menu. `Err` of the calls that save
/// ends the drive, as a crash would: the run is found again as it was saved.
#[async_trait]
pub trait Servings: Send + Sync {
    /// Why something could not be saved.
    type Error: Send;

    /// Saves the run.
    async fn save(&self, run: &MenuRun) -> Result<(), Self::Error>;

    /// Locks every member's Serving for the run, in the order of their names,
    /// or none of them. The inner `Err` says who holds one.
    async fn lock(&self, run: &MenuRun) -> Result<Result<(), String>, Self::Error>;

    /// Checks everything that can be checked without changing anything: every
    /// Preparation, artifact, ownership, image, the target.
    async fn check(&self, run: &MenuRun) -> Checked;

    /// Moves the pointer of every member, to the new Preparation or back, and
    /// saves the run, in one transaction.
    async fn point(&self, run: &MenuRun, back: bool) -> Result<(), Self::Error>;

    /// Hands a member's wanted Preparation to its target, without pruning.
    /// Without one the member is withdrawn.
    async fn apply(&self, recipe: &Name, wanted: Option<&Name>) -> Result<(), Refusal>;

    /// How the member stands towards it, after it was handed over.
    async fn health(&self, recipe: &Name, wanted: Option<&Name>) -> Health;

    /// Whether somebody asked for the end of a run that is on its way.
    fn abort_asked(&self, run: &MenuRun) -> bool;

    /// Removes what the artifact that is active now does not hold.
    async fn prune(&self, recipe: &Name) -> Result<(), String>;

    /// Unlocks every Serving that this run holds and saves the run, in one transaction.
    async fn unlock(&self, run: &MenuRun) -> Result<(), Self::Error>;
}

/// Does a run to its end, from wherever it was saved.
///
/// Dropping the call leaves the run where it is; another call goes on. A run
/// that was found while it was preparing is ended: nothing was changed by it.
pub async fn drive<S: Servings>(
    servings: &S,
    strategy: &MenuStrategy,
    mut run: MenuRun,
    found: bool,
) -> Result<MenuRun, S::Error> {
    if found && run.phase == RunPhase::Preparing {
        enter(&mut run, RunPhase::PrepareFailed);
        run.message = "it was interrupted before anything was changed".to_owned();
        servings.save(&run).await?;
    }
    if found && run.phase == RunPhase::RollingBack {
        // The time nobody was there to bring them back does not count.
        run.phase_since = Some(Timestamp::now());
    }
    let mut memory = Memory::default();
    loop {
        let look = memory.look(servings, &run).await;
        if under_way(run.phase) && servings.abort_asked(&run) {
            run.message = ABORTED.to_owned();
            enter(&mut run, RunPhase::RollingBack);
            servings.point(&run, true).await?;
            memory = Memory::default();
            continue;
        }
        match next(&run, strategy, &look) {
            Step::Prepare => {
                prepare(servings, strategy, &mut run).await?;
                memory = Memory::default();
            }
            Step::Apply(names) | Step::Undo(names) => memory.apply(servings, &run, names).await,
            Step::Mark(names, outcome) => {
                let marked = run.members.iter_mut();
                for member in marked.filter(|m| names.contains(&m.recipe)) {
                    member.outcome = outcome;
                }
                servings.save(&run).await?;
            }
            Step::Verify => {
                // The time limit covers activation and verification together.
                run.phase = RunPhase::Verifying;
                servings.save(&run).await?;
            }
            Step::Commit => {
                enter(&mut run, RunPhase::Committed);
                servings.save(&run).await?;
            }
            Step::RollBack(why) => {
                blame(&mut run, &look);
                run.message = why;
                if strategy.on_failure == MenuFailure::Halt {
                    enter(&mut run, RunPhase::Failed);
                    run.finished_at = run.phase_since;
                    servings.save(&run).await?;
                } else {
                    enter(&mut run, RunPhase::RollingBack);
                    servings.point(&run, true).await?;
                    memory = Memory::default();
                }
            }
            Step::Halt(why) => {
                run.message = format!("{ROLLBACK_FAILED}: {why} (after: {})", run.message);
                enter(&mut run, RunPhase::Failed);
                run.finished_at = run.phase_since;
                servings.save(&run).await?;
            }
            Step::Finish => finish(servings, &mut run).await?,
            Step::Wait => tokio::time::sleep(LOOK).await,
            Step::Done => return Ok(run),
        }
    }
}

/// Ends a run that has not committed: its members go back.
///
/// Of a run that keeps its locks, `force` lets go of them and leaves the members
/// where they are.
pub async fn abort<S: Servings>(
    servings: &S,
    strategy: &MenuStrategy,
    mut run: MenuRun,
    force: bool,
) -> Result<MenuRun, S::Error> {
    if run.finished_at.is_some() && run.phase != RunPhase::Failed {
        // It came to its end before anybody ended it: its outcome stays.
        return Ok(run);
    }
    match run.phase {
        RunPhase::Preparing => enter(&mut run, RunPhase::Aborted),
        _ if force => enter(&mut run, RunPhase::Aborted),
        RunPhase::Activating | RunPhase::Verifying | RunPhase::Failed => {
            run.message = ABORTED.to_owned();
            run.finished_at = None;
            enter(&mut run, RunPhase::RollingBack);
            servings.point(&run, true).await?;
        }
        // Already on its way to an end.
        _ => {}
    }
    if run.phase == RunPhase::Aborted {
        run.finished_at = None;
        servings.save(&run).await?;
    }
    drive(servings, strategy, run, false).await
}

/// Goes on with a run that stopped half-way and kept its locks: forward after a
/// halt, back after a failed way back.
pub async fn retry<S: Servings>(
    servings: &S,
    strategy: &MenuStrategy,
    mut run: MenuRun,
) -> Result<MenuRun, S::Error> {
    if run.phase == RunPhase::Failed {
        let back = run.message.starts_with(ROLLBACK_FAILED);
        run.finished_at = None;
        for member in &mut run.members {
            if member.outcome == MemberOutcome::Failed {
                member.outcome = MemberOutcome::Pending;
            }
        }
        match back {
            true => enter(&mut run, RunPhase::RollingBack),
            false => enter(&mut run, RunPhase::Activating),
        }
        servings.point(&run, back).await?;
    }
    drive(servings, strategy, run, false).await
}

/// Locks, checks, and either begins or ends the run.
async fn prepare<S: Servings>(
    servings: &S,
    strategy: &MenuStrategy,
    run: &mut MenuRun,
) -> Result<(), S::Error> {
    servings.save(run).await?;
    if let Err(holder) = servings.lock(run).await? {
        run.message = holder;
        enter(run, RunPhase::PrepareFailed);
        return servings.save(run).await;
    }
    let checked = tokio::time::timeout(strategy.prepare_timeout, servings.check(run)).await;
    let Checked { problems, changes } = match checked {
        Ok(checked) => checked,
        Err(_) => {
            run.message = format!("checking took longer than {:?}", strategy.prepare_timeout);
            enter(run, RunPhase::PrepareFailed);
            return servings.save(run).await;
        }
    };
    for member in &mut run.members {
        member.changes = changes.get(&member.recipe).cloned().unwrap_or_default();
    }
    if servings.abort_asked(run) {
        // Nothing was changed: there is nothing to go back from.
        run.message = ABORTED.to_owned();
        enter(run, RunPhase::Aborted);
        return servings.save(run).await;
    }
    if problems.is_empty() {
        enter(run, RunPhase::Activating);
        return servings.point(run, false).await;
    }
    let told: Vec<String> = problems
        .iter()
        .map(|(who, why)| format!("{who}: {why}"))
        .collect();
    run.message = told.join("; ");
    for (recipe, why) in problems {
        if let Some(member) = run.members.iter_mut().find(|m| m.recipe == recipe) {
            member.outcome = MemberOutcome::Failed;
            member.message = why;
        }
    }
    enter(run, RunPhase::PrepareFailed);
    servings.save(run).await
}

/// Deferred prunes, which also say that a member is deployed; then the locks. A
/// prune that fails is told and left to the Serving's own resync.
async fn finish<S: Servings>(servings: &S, run: &mut MenuRun) -> Result<(), S::Error> {
    let back = is_back(run);
    if back || run.phase == RunPhase::Committed {
        // Of a member that is gone again nothing is left. The others go side by side.
        let work = run.members.iter().map(|member| async move {
            match back && member.from_preparation.is_none() {
                true => Ok(()),
                false => servings.prune(&member.recipe).await,
            }
        });
        let pruned = futures::future::join_all(work).await;
        for (member, done) in run.members.iter_mut().zip(pruned) {
            if let Err(why) = done {
                if !member.message.is_empty() {
                    member.message += "; ";
                }
                member.message += &format!("removing the leftovers failed: {why}");
            }
        }
    }
    if back {
        enter(run, RunPhase::RolledBack);
    }
    run.finished_at = Some(Timestamp::now());
    servings.unlock(run).await
}

fn enter(run: &mut MenuRun, phase: RunPhase) {
    run.phase = phase;
    run.phase_since = Some(Timestamp::now());
}

/// Notes which members made the run fail.
fn blame(run: &mut MenuRun, look: &Look) {
    for member in &mut run.members {
        if let Some(Health::Failed(why)) = look.members.get(&member.recipe) {
            member.outcome = MemberOutcome::Failed;
            member.message.clone_from(why);
        }
    }
}

/// What one process knows of a run beside what is saved. Losing it means that
/// members are handed over once more, which changes nothing.
#[derive(Default)]
struct Memory {
    applied: BTreeSet<Name>,
    failed: BTreeMap<Name, String>,
    /// Who could not be handed over when, and why.
    unanswered: BTreeMap<Name, (Instant, String)>,
    healthy_since: Option<Instant>,
}

impl Memory {
    async fn look<S: Servings>(&mut self, servings: &S, run: &MenuRun) -> Look {
        let mut members = BTreeMap::new();
        for member in &run.members {
            let name = &member.recipe;
            // What has arrived is on the target, whoever put it there.
            let there = member.outcome == MemberOutcome::Deployed && !is_back(run);
            let health = if let Some(why) = self.failed.get(name) {
                Health::Failed(why.clone())
            } else if let Some((at, why)) = self.unanswered.get(name)
                && at.elapsed() < AGAIN
            {
                Health::Waiting(why.clone())
            } else if self.applied.contains(name) || there {
                servings.health(name, wanted(run, member)).await
            } else {
                Health::NotApplied
            };
            members.insert(name.clone(), health);
        }
        if members.values().all(|h| *h == Health::Healthy) {
            self.healthy_since.get_or_insert_with(Instant::now);
        } else {
            self.healthy_since = None;
        }
        Look {
            now: Timestamp::now(),
            members,
            healthy_for: self.healthy_since.map_or(Duration::ZERO, |s| s.elapsed()),
        }
    }

    /// The members of a wave go side by side.
    async fn apply<S: Servings>(&mut self, servings: &S, run: &MenuRun, names: Vec<Name>) {
        let members = run.members.iter().filter(|m| names.contains(&m.recipe));
        let work = members.map(|m| async {
            let done = servings.apply(&m.recipe, wanted(run, m)).await;
            (m.recipe.clone(), done)
        });
        for (name, done) in futures::future::join_all(work).await {
            self.unanswered.remove(&name);
            match done {
                Ok(()) => {
                    self.applied.insert(name);
                }
                Err(Refusal::Final(why)) => {
                    self.failed.insert(name, why);
                }
                Err(Refusal::Passing(why)) => {
                    self.unanswered.insert(name, (Instant::now(), why));
                }
            }
        }
    }
}

/// Whether the pointers are new and the run may still go either way.
fn under_way(phase: RunPhase) -> bool {
    matches!(phase, RunPhase::Activating | RunPhase::Verifying)
}

fn is_back(run: &MenuRun) -> bool {
    run.phase == RunPhase::RollingBack
}

/// The Preparation a member should serve now; none when it should be gone.
fn wanted<'a>(run: &MenuRun, member: &'a MenuRunMember) -> Option<&'a Name> {
    match is_back(run) {
        true => member.from_preparation.as_ref(),
        false => Some(&member.to_preparation),
    }
}
