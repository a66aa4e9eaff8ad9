//! What `run`, `retry`, `abort` and `force` would do, without doing it.

use std::time::Duration;

use jiff::Timestamp;

use super::ROLLBACK_FAILED;
use super::control::{open_run, running};
use super::plan::{Decision, decide};
use super::run::{Checked, Servings};
use crate::api::Result;
use crate::api::v1::{self, Action};
use crate::delivery::external::{object, result_for};
use crate::delivery::stream::Emitter;
use crate::delivery::{Delivery, actor};
use crate::model::delivery::{
    Menu, MenuRun, MenuRunMember, ReleaseKind, ReleaseRef, RunPhase, Serving,
};
use crate::store;

/// Which way an open run would go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// To the new Preparations.
    Forth,
    /// To those of before.
    Back,
    /// Members stay where they are, without their locks.
    Stay,
    /// To its end, without moving a pointer.
    End,
}

impl Delivery {
    /// Tells what an action would do; what would be refused is refused.
    pub(super) async fn rehearse_menu(
        &self,
        menu: &Menu,
        action: Action,
        emit: &Emitter,
    ) -> Result<()> {
        if action == Action::Plan {
            return self.tell_plan(menu, emit).await;
        }
        let at = menu.at();
        let chosen = self.chosen(menu, action)?;
        let begins = matches!(action, Action::Run | Action::Retry);
        let run = match (chosen, open_run(menu)) {
            (Some(run), None) if begins => return self.tell_run(&at, &run, emit).await,
            (Some(run), Some(_)) => run,
            // Nothing to roll out, or a run that is over already.
            (None, _) | (Some(_), None) => {
                emit.result(v1::ResourceResult {
                    object: Some(object(&menu.clone().into())),
                    ..result_for(&at, "unchanged")
                });
                return Ok(());
            }
        };
        let driven = match self.store.lock_release(&at, Duration::ZERO).await {
            Err(store::Error::LockTimeout { .. }) => true,
            turn => {
                drop(turn?);
                false
            }
        };
        if begins && driven {
            return Err(running(&at));
        }
        let way = way(&run, action, driven);
        let mut told = v1::ResourceResult {
            changes: vec![format!("run {}: {}", run.id, purpose(way))],
            object: Some(object(&menu.clone().into())),
            ..result_for(&at, "planned")
        };
        let members = run.members.iter();
        match way {
            Way::Forth => told.steps.extend(members.map(forth)),
            Way::Back => told.steps.extend(members.rev().map(back)),
            Way::Stay => {
                for member in members {
                    let at = ReleaseRef::new(ReleaseKind::Serving, &at.namespace, &member.recipe);
                    let serving: Option<Serving> = self.read(&at)?;
                    let stays = serving.map(|serving| serving.spec.preparation);
                    let stays = stays.as_ref().map_or("nothing", |name| name.as_str());
                    told.steps
                        .push(format!("{}: stays at {stays}", member.recipe));
                }
            }
            Way::End => {}
        }
        emit.result(told);
        Ok(())
    }

    /// The plan with what stands against it, changing nothing.
    async fn tell_plan(&self, menu: &Menu, emit: &Emitter) -> Result<()> {
        let pointers = self.pointers(menu)?;
        match decide(menu, &pointers, true, &actor::current(), Timestamp::now()) {
            Decision::Run(run) => self.tell_run(&menu.at(), &run, emit).await,
            _ => {
                emit.result(result_for(&menu.at(), "unchanged"));
                Ok(())
            }
        }
    }

    /// What a new run would do, and what stands against it.
    async fn tell_run(&self, at: &ReleaseRef, run: &MenuRun, emit: &Emitter) -> Result<()> {
        let Checked { problems, changes } = self.members(at)?.check(run).await;
        let lines = run.members.iter().flat_map(|m| {
            let of = changes.get(&m.recipe).into_iter().flatten();
            of.map(|line| format!("{}: {line}", m.recipe))
        });
        let mut told = v1::ResourceResult {
            steps: run.members.iter().map(forth).collect(),
            changes: lines.collect(),
            ..result_for(at, "planned")
        };
        if !problems.is_empty() {
            let problems: Vec<_> = problems
                .iter()
                .map(|(who, why)| format!("{who}: {why}"))
                .collect();
            told.action = "failed".to_owned();
            told.error = Some(v1::ErrorDetail {
                reason: "PrepareFailed".to_owned(),
                message: format!("{at}: {}", problems.join("; ")),
                hint: String::new(),
                code: "Conflict".to_owned(),
            });
        }
        emit.result(told);
        Ok(())
    }
}

/// As doing it decides. A run that somebody drives is asked to go back first,
/// also by force.
fn way(run: &MenuRun, action: Action, driven: bool) -> Way {
    let stopped = run.phase == RunPhase::Failed;
    match (action, run.phase) {
        (Action::Abort, RunPhase::Activating | RunPhase::Verifying | RunPhase::Failed) => Way::Back,
        (Action::Force, RunPhase::Activating | RunPhase::Verifying) if driven => Way::Back,
        (Action::Force, RunPhase::Preparing) => Way::End,
        (Action::Force, _) if stopped || !driven => Way::Stay,
        (Action::Retry, RunPhase::Failed) if run.message.starts_with(ROLLBACK_FAILED) => Way::Back,
        (Action::Retry, RunPhase::Failed) => Way::Forth,
        (_, RunPhase::RollingBack) => Way::Back,
        (Action::Run | Action::Retry, RunPhase::Activating | RunPhase::Verifying) => Way::Forth,
        _ => Way::End,
    }
}

fn purpose(way: Way) -> &'static str {
    match way {
        Way::Forth => "goes on",
        Way::Back => "goes back",
        Way::Stay => "gives its locks up",
        Way::End => "ends, and moves nothing",
    }
}

/// `wave 1: web: web-0123456789ab -> web-ba9876543210`.
fn forth(member: &MenuRunMember) -> String {
    let (wave, recipe) = (member.wave, &member.recipe);
    format!(
        "wave {wave}: {recipe}: {} -> {}",
        before(member),
        member.to_preparation
    )
}

fn back(member: &MenuRunMember) -> String {
    let (wave, recipe) = (member.wave, &member.recipe);
    format!(
        "wave {wave}: {recipe}: {} -> {}",
        member.to_preparation,
        before(member)
    )
}

fn before(member: &MenuRunMember) -> &str {
    let before = member.from_preparation.as_ref();
    before.map_or("nothing", |name| name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_action_goes_its_way() {
        let run = |phase, message: &str| MenuRun {
            id: "1".to_owned(),
            plan_hash: String::new(),
            phase,
            members: Vec::new(),
            message: message.to_owned(),
            started_at: None,
            finished_at: None,
            phase_since: None,
            actor: String::new(),
        };
        let failed = run(RunPhase::Failed, "unhealthy");
        let stuck = run(RunPhase::Failed, ROLLBACK_FAILED);
        let active = run(RunPhase::Activating, "");
        let preparing = run(RunPhase::Preparing, "");
        let committed = run(RunPhase::Committed, "");
        for (run, action, driven, wanted) in [
            (&failed, Action::Retry, false, Way::Forth),
            (&stuck, Action::Retry, false, Way::Back),
            (&failed, Action::Abort, false, Way::Back),
            (&failed, Action::Force, false, Way::Stay),
            (&active, Action::Run, false, Way::Forth),
            (&active, Action::Abort, true, Way::Back),
            (&active, Action::Force, true, Way::Back),
            (&active, Action::Force, false, Way::Stay),
            (&preparing, Action::Abort, false, Way::End),
            (&preparing, Action::Run, false, Way::End),
            (&committed, Action::Abort, true, Way::End),
        ] {
            assert_eq!(
                way(run, action, driven),
                wanted,
                "{action:?} {:?}",
                run.phase
            );
        }
    }
}
