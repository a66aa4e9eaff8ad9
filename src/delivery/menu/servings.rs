//! A Menu's run on the stored Servings and their targets.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::diffs;
use super::engine::Health;
use super::held::refusal;
use super::plan::claims;
use super::run::{Checked, Refusal, Servings};
use crate::api::{Code, Error, Result};
use crate::delivery::Delivery;
use crate::delivery::promote::Promotion;
use crate::delivery::stream::Emitter;
use crate::model::Name;
use crate::model::delivery::{
    ActivationCause, ConditionStatus, ConditionType, MemberOutcome, Menu, MenuPhase, MenuRun,
    MenuRunMember, Preparation, ReleaseKind, ReleaseRef, RunPhase, Serving, TargetType, keys,
};
use crate::store::ReleaseChange;

/// Runs that a Menu remembers.
const RUNS: usize = 20;
/// Runs of which it remembers what they change, which may be much.
const TOLD_RUNS: usize = 3;

/// The Servings of one Menu.
pub(super) struct Members {
    pub delivery: Arc<Delivery>,
    pub menu: ReleaseRef,
    /// Who is told how far it is.
    pub emit: Option<Emitter>,
}

impl Members {
    fn serving_ref(&self, recipe: &Name) -> ReleaseRef {
        ReleaseRef::new(ReleaseKind::Serving, &self.menu.namespace, recipe)
    }

    fn preparation_ref(&self, name: &Name) -> ReleaseRef {
        ReleaseRef::new(ReleaseKind::Preparation, &self.menu.namespace, name)
    }

    fn serving(&self, recipe: &Name) -> Result<Option<Serving>> {
        self.delivery.read(&self.serving_ref(recipe))
    }

    fn preparation(&self, name: &Name) -> Result<Preparation> {
        let at = self.preparation_ref(name);
        let missing = || super::super::not_found(&at);
        self.delivery.read(&at)?.ok_or_else(missing)
    }

    fn tell(&self, run: &MenuRun) {
        if let Some(emit) = &self.emit {
            let out = |m: &&MenuRunMember| m.outcome != MemberOutcome::Pending;
            let done = run.members.iter().filter(out).count();
            let text = format!("{:?} {done}/{}", run.phase, run.members.len());
            emit.progress(self.menu.to_string(), text, run.finished_at.is_some());
        }
    }

    /// What holds a Serving for a run.
    fn lock_of(&self, run: &MenuRun) -> String {
        format!("{}/{}", self.menu.name, run.id)
    }

    /// The Menu with the run in its status.
    fn with_run(&self, run: &MenuRun) -> Result<ReleaseChange> {
        let menu: Option<Menu> = self.delivery.read(&self.menu)?;
        let mut menu = menu.ok_or_else(|| super::super::not_found(&self.menu))?;
        note(&mut menu, run, Timestamp::now());
        Ok(menu.into())
    }

    /// The change of one member's pointer; none for a member that had nothing
    /// before the run and has nothing again.
    fn moved(
        &self,
        run: &MenuRun,
        member: &MenuRunMember,
        back: bool,
    ) -> Result<Option<ReleaseChange>> {
        let lock = self.lock_of(run);
        let now = self.serving(&member.recipe)?;
        let held = |s: &Serving| s.status.lock.as_ref() == Some(&lock);
        if now.as_ref().is_some_and(|s| !held(s)) {
            let at = self.serving_ref(&member.recipe);
            let message = format!("{at} is not held by the menu run {lock}");
            return Err(Error::new(Code::Conflict, "ServingLocked", message));
        }
        let wanted = match back {
            false => Some(&member.to_preparation),
            true => member.from_preparation.as_ref(),
        };
        let Some(preparation) = wanted else {
            // It served nothing before the run: it goes, by its own deletion.
            let Some(mut serving) = now else {
                return Ok(None);
            };
            serving.meta.deletion.get_or_insert_with(Timestamp::now);
            return Ok(Some(serving.into()));
        };
        let (_, promoted) = self.delivery.pointer(&Promotion {
            namespace: self.menu.namespace.clone(),
            recipe: member.recipe.clone(),
            preparation: preparation.clone(),
            expected: None,
            message: format!("menu {} run {}", self.menu.name, run.id),
            cause: ActivationCause::Menu,
            actor: run.actor.clone(),
            dry_run: false,
        })?;
        let mut serving = promoted.serving;
        serving.status.lock = Some(lock);
        Ok(Some(serving.into()))
    }

    /// What can be told of one member without changing anything: what activating
    /// it would change.
    async fn checked(
        &self,
        member: &MenuRunMember,
        members: usize,
    ) -> std::result::Result<Vec<String>, String> {
        let preparation = self.preparation(&member.to_preparation).map_err(told)?;
        if preparation.spec.artifact.digest != member.to_digest {
            return Err(format!(
                "{} has another artifact by now",
                member.to_preparation
            ));
        }
        // What is active stays so, whatever is demanded by now.
        let stays = member.from_digest.as_ref() == Some(&member.to_digest);
        let whole = match stays {
            true => self.delivery.whole(&preparation).await,
            false => self.delivery.acceptable(&preparation).await,
        };
        whole.map_err(|fault| told(fault.into()))?;
        let serving = self.serving(&member.recipe).map_err(told)?;
        let checked = self
            .delivery
            .prepare_activation(&preparation, serving.as_ref());
        let plan = checked.await.map_err(|fault| fault.text())?;
        let active = member.from_preparation.as_ref();
        let active = active.and_then(|name| self.preparation(name).ok());
        Ok(diffs::lines(
            &plan,
            preparation.spec.target.kind,
            &active.map(|old| old.spec.resources).unwrap_or_default(),
            &preparation.spec.resources,
            members,
        ))
    }
}

#[async_trait]
impl Servings for Members {
    type Error = Error;

    async fn save(&self, run: &MenuRun) -> Result<()> {
        self.tell(run);
        self.delivery
            .transact(|| Ok((vec![self.with_run(run)?], ())))
    }

    async fn lock(&self, run: &MenuRun) -> Result<std::result::Result<(), String>> {
        let lock = self.lock_of(run);
        let mut members: Vec<_> = run.members.iter().collect();
        members.sort_by(|a, b| a.recipe.cmp(&b.recipe));
        self.delivery.transact(|| {
            let mut changes = Vec::new();
            for member in &members {
                let serving = self.serving(&member.recipe)?;
                let now = serving.as_ref().map(|s| &s.spec.preparation);
                if now != member.from_preparation.as_ref() {
                    let why = format!("{} was promoted in the meantime", member.recipe);
                    return Ok((Vec::new(), Err(why)));
                }
                let Some(mut serving) = serving else { continue };
                match &serving.status.lock {
                    Some(held) if *held != lock => {
                        let why = format!("{} is held by the menu run {held}", member.recipe);
                        return Ok((Vec::new(), Err(why)));
                    }
                    _ => serving.status.lock = Some(lock.clone()),
                }
                changes.push(serving.into());
            }
            Ok((changes, Ok(())))
        })
    }

    async fn check(&self, run: &MenuRun) -> Checked {
        let mut checked = Checked::default();
        let mut owned = Vec::new();
        for member in &run.members {
            let recipe = member.recipe.clone();
            match self.checked(member, run.members.len()).await {
                Ok(changes) => {
                    checked.changes.insert(recipe, changes);
                }
                Err(why) => checked.problems.push((recipe, why)),
            }
            if let Ok(preparation) = self.preparation(&member.to_preparation) {
                let target = &preparation.spec.target;
                let place = match target.kind {
                    TargetType::Kuke => "this machine".to_owned(),
                    TargetType::ArgoCd => format!(
                        "{} {:?}",
                        target.argocd.cluster, target.argocd.destination_namespace
                    ),
                };
                owned.push((member.recipe.clone(), place, preparation.spec.resources));
            }
        }
        if let Err(clash) = claims(&owned) {
            let recipe = clash.recipes.1.clone();
            checked.problems.push((recipe, clash.to_string()));
        }
        checked
    }

    async fn point(&self, run: &MenuRun, back: bool) -> Result<()> {
        self.tell(run);
        self.delivery.transact(|| {
            let members = run.members.iter();
            let moves = members.filter_map(|member| self.moved(run, member, back).transpose());
            let mut changes: Vec<ReleaseChange> = moves.collect::<Result<_>>()?;
            changes.push(self.with_run(run)?);
            Ok((changes, ()))
        })
    }

    async fn apply(
        &self,
        recipe: &Name,
        wanted: Option<&Name>,
    ) -> std::result::Result<(), Refusal> {
        let at = self.serving_ref(recipe);
        match wanted {
            Some(_) => self.delivery.deploy_held(&at).await.map_err(refusal),
            None => self.delivery.withdraw_held(&at).await.map_err(refusal),
        }
    }

    async fn health(&self, recipe: &Name, wanted: Option<&Name>) -> Health {
        let at = self.serving_ref(recipe);
        match (wanted, self.serving(recipe)) {
            (None, Ok(None)) => Health::Healthy,
            (None, Ok(Some(_))) => match self.delivery.withdraw_held(&at).await {
                Ok(()) => Health::Waiting("it is being removed".to_owned()),
                Err(fault) => match refusal(fault) {
                    Refusal::Final(why) => Health::Failed(why),
                    Refusal::Passing(why) => Health::Waiting(why),
                },
            },
            (Some(_), Ok(Some(_))) => self.delivery.health_held(&at).await,
            (Some(_), Ok(None)) => Health::Failed(format!("{at} is gone")),
            (_, Err(error)) => Health::Waiting(told(error)),
        }
    }

    fn abort_asked(&self, run: &MenuRun) -> bool {
        let menu: Result<Option<Menu>> = self.delivery.read(&self.menu);
        let asked = |menu: Menu| menu.meta.annotations.get(keys::ABORT) == Some(&run.id);
        menu.ok().flatten().is_some_and(asked)
    }

    async fn prune(&self, recipe: &Name) -> std::result::Result<(), String> {
        let at = self.serving_ref(recipe);
        let pruned = self.delivery.prune_held(&at).await;
        pruned.map_err(|fault| fault.text())
    }

    async fn unlock(&self, run: &MenuRun) -> Result<()> {
        let lock = self.lock_of(run);
        self.delivery.transact(|| {
            let mut changes = vec![self.with_run(run)?];
            for member in &run.members {
                if let Some(mut serving) = self.serving(&member.recipe)?
                    && serving.status.lock.as_ref() == Some(&lock)
                {
                    serving.status.lock = None;
                    changes.push(serving.into());
                }
            }
            Ok((changes, ()))
        })
    }
}

fn told(error: Error) -> String {
    match error.hint.is_empty() {
        true => error.message,
        false => format!("{} ({})", error.message, error.hint),
    }
}

/// Puts a run into a Menu's status.
fn note(menu: &mut Menu, run: &MenuRun, now: Timestamp) {
    let status = &mut menu.status;
    match status.runs.iter_mut().find(|r| r.id == run.id) {
        Some(known) => *known = run.clone(),
        None => status.runs.push(run.clone()),
    }
    let old = status.runs.len().saturating_sub(RUNS);
    status.runs.drain(..old);
    let old = status.runs.len().saturating_sub(TOLD_RUNS);
    for member in status.runs[..old]
        .iter_mut()
        .flat_map(|run| &mut run.members)
    {
        member.changes.clear();
    }
    // A run that stopped half-way keeps its locks, and the Menu.
    let open = run.finished_at.is_none() || run.phase == RunPhase::Failed;
    status.current_run = open.then(|| run.id.clone());
    status.phase = match run.phase {
        RunPhase::Preparing => MenuPhase::Preparing,
        RunPhase::Activating => MenuPhase::Activating,
        RunPhase::Verifying => MenuPhase::Verifying,
        RunPhase::Committed => MenuPhase::Deployed,
        RunPhase::RollingBack => MenuPhase::RollingBack,
        RunPhase::RolledBack => MenuPhase::RolledBack,
        RunPhase::PrepareFailed | RunPhase::Failed => MenuPhase::Failed,
        RunPhase::Aborted => MenuPhase::Idle,
    };
    match run.phase {
        RunPhase::Committed => status.last_failed_plan_hash = None,
        RunPhase::RolledBack | RunPhase::Failed => {
            status.last_failed_plan_hash = Some(run.plan_hash.clone());
        }
        _ => {}
    }
    if run.finished_at.is_some() {
        menu.meta.annotations.remove(keys::ABORT);
    }
    status.observed_generation = menu.meta.generation;
    let (ready, reason) = match run.phase {
        RunPhase::Committed => (ConditionStatus::True, "Deployed"),
        RunPhase::PrepareFailed => (ConditionStatus::False, "PrepareFailed"),
        RunPhase::RolledBack => (ConditionStatus::False, "RolledBack"),
        RunPhase::Aborted => (ConditionStatus::False, "Aborted"),
        RunPhase::Failed if run.message.starts_with(super::ROLLBACK_FAILED) => {
            (ConditionStatus::False, super::ROLLBACK_FAILED)
        }
        RunPhase::Failed => (ConditionStatus::False, "Failed"),
        RunPhase::RollingBack => (ConditionStatus::False, "RollingBack"),
        RunPhase::Preparing | RunPhase::Activating | RunPhase::Verifying => {
            (ConditionStatus::False, "Deploying")
        }
    };
    let message = match run.message.is_empty() {
        true => format!("run {}", run.id),
        false => format!("run {}: {}", run.id, run.message),
    };
    let generation = menu.meta.generation;
    let conditions = &mut status.conditions;
    conditions.set(
        ConditionType::Ready,
        ready,
        reason,
        &message,
        generation,
        now,
    );
}
