//! The Menu controller, and what people ask of it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::plan::{Decision, Pointer, decide};
use super::run::{Servings, abort, drive, retry};
use super::servings::Members;
use crate::api::v1::{self, Action};
use crate::api::{Code, Error, Result};
use crate::delivery::external::{object, result_for};
use crate::delivery::recipe::SIGNATURE_PROBE;
use crate::delivery::stream::Emitter;
use crate::delivery::work::Next;
use crate::delivery::{Delivery, actor, not_found};
use crate::model::Name;
use crate::model::delivery::{
    ActivationCause, ConditionType, Menu, MenuMember, MenuRun, Preparation, Recipe, ReleaseKind,
    ReleaseRef, RunPhase, Serving, keys,
};
use crate::store;

/// How long a request waits for its turn at a Menu.
const TURN: Duration = Duration::from_secs(1);

impl Delivery {
    /// Goes on with a run that nobody drives, or begins one where the Menu does
    /// so by itself. The caller has the turn at the Menu.
    pub(in crate::delivery) async fn reconcile_menu(
        &self,
        at: &ReleaseRef,
    ) -> crate::delivery::fault::Result<Next> {
        let Some(menu) = self.read::<Menu>(at)? else {
            return Ok(Next::Rest);
        };
        let members = self.members(at)?;
        let strategy = &menu.spec.strategy;
        if let Some(run) = open_run(&menu) {
            if run.phase != RunPhase::Failed {
                let run = drive(&members, strategy, run, true).await?;
                self.after(at, &run);
            }
            return Ok(Next::Rest);
        }
        if menu.spec.suspend || !menu.spec.auto_deploy_latest || menu.meta.deletion.is_some() {
            return Ok(Next::Rest);
        }
        // A member that is not ready yet has the Menu looked at again when it is.
        if !self.all_ready(&menu)? {
            return Ok(Next::Rest);
        }
        let Ok(pointers) = self.pointers(&menu) else {
            return Ok(Next::Rest);
        };
        if self.moves_held(&menu, &pointers)? {
            return Ok(Next::Rest);
        }
        let decision = decide(&menu, &pointers, false, actor::CONTROLLER, Timestamp::now());
        if let Decision::Run(run) = decision {
            for member in &run.members {
                let at = ReleaseRef::new(
                    ReleaseKind::Preparation,
                    &at.namespace,
                    &member.to_preparation,
                );
                let moves = member.from_digest.as_ref() != Some(&member.to_digest);
                if moves
                    && let Some(preparation) = self.read::<Preparation>(&at)?
                    && self.signed(&preparation).await.is_err()
                {
                    // A run would only be one more that could not begin.
                    return Ok(Next::Later(SIGNATURE_PROBE));
                }
            }
            let run = drive(&members, strategy, run, false).await?;
            self.after(at, &run);
            if run.phase == RunPhase::PrepareFailed {
                return Ok(Next::Later(Duration::from_secs(60)));
            }
        }
        Ok(Next::Rest)
    }

    /// Has the Menus looked at that have a Recipe as a member.
    pub(in crate::delivery) fn enqueue_menus(&self, recipe: &ReleaseRef) -> Result<()> {
        let menus: Vec<Menu> = self.list(ReleaseKind::Menu, Some(&recipe.namespace))?;
        for menu in menus {
            if menu.spec.auto_deploy_latest
                && menu.spec.recipes.iter().any(|m| m.name == recipe.name)
            {
                self.enqueue(&menu.at());
            }
        }
        Ok(())
    }

    /// `kuke menu run|plan|retry|abort`.
    pub(in crate::delivery) async fn act_on_menu(
        &self,
        at: &ReleaseRef,
        request: &v1::ActRequest,
        emit: &Emitter,
    ) -> Result<()> {
        let menu: Menu = self.read(at)?.ok_or_else(|| not_found(at))?;
        let action = request.action();
        if request.dry_run || action == Action::Plan {
            return self.rehearse_menu(&menu, action, emit).await;
        }
        let ends = matches!(action, Action::Abort | Action::Force);
        if let Some(run) = open_run(&menu)
            && ends
            && run.phase != RunPhase::Failed
        {
            // Whoever drives it sees this, and lets go of the turn at its end.
            self.ask_abort(at, &run.id)?;
            emit.progress(at.to_string(), "waiting for the run to go back", false);
        }
        let wait = match ends {
            true => menu.spec.strategy.health_timeout * 2 + TURN,
            false => TURN,
        };
        let turn = match self.store.lock_release(at, wait).await {
            Err(store::Error::LockTimeout { .. }) => return Err(running(at)),
            turn => turn?,
        };
        let menu: Menu = self.read(at)?.ok_or_else(|| not_found(at))?;
        let mut members = self.members(at)?;
        let told = match request.wait || !self.is_live() {
            true => Some(emit.clone()),
            false => None,
        };
        members.emit = told.clone();
        // A run that is open although nobody has the turn was cut off.
        let found = open_run(&menu).is_some();
        let run = self.begin(&menu, &members, action, request).await?;
        let Some(run) = run else {
            emit.result(v1::ResourceResult {
                object: Some(object(&menu.into())),
                ..result_for(at, "unchanged")
            });
            return Ok(());
        };
        let strategy = menu.spec.strategy.clone();
        let me = self.me.upgrade();
        let at_ = at.clone();
        let work = async move {
            let _turn = turn;
            let done = match action {
                Action::Abort => abort(&members, &strategy, run, false).await,
                Action::Force => abort(&members, &strategy, run, true).await,
                Action::Retry if run.phase == RunPhase::Failed => {
                    retry(&members, &strategy, run).await
                }
                _ => drive(&members, &strategy, run, found).await,
            };
            if let Some(me) = &me {
                match &done {
                    Ok(run) => me.after(&at_, run),
                    Err(_) if me.is_live() => me.enqueue(&at_),
                    Err(_) => {}
                }
            }
            done
        };
        let ending = self.ending.clone();
        let work = async move {
            let done = ending.run_until_cancelled(work).await;
            done.unwrap_or_else(|| {
                Err(Error::failed("ShuttingDown", "kukeon is ending")
                    .hint("the run goes on when kukeond is back, or with `kuke menu run`"))
            })
        };
        if told.is_none() {
            let at_ = at.clone();
            self.tasks.spawn(async move {
                if let Err(error) = work.await {
                    tracing::warn!(object = %at_, %error, "the run goes on later");
                }
            });
            emit.result(result_for(at, "started"));
            return Ok(());
        }
        let run = work.await?;
        if !self.is_live() {
            // Nobody else would bring the members to rest.
            for member in &run.members {
                let serving = ReleaseRef::new(ReleaseKind::Serving, &at.namespace, &member.recipe);
                let _ = self.settle_object(&serving).await;
            }
        }
        self.tell_outcome(at, &run, action, emit)
    }

    /// The run that an action is about; none where there is nothing to do. A new
    /// one is saved.
    async fn begin(
        &self,
        menu: &Menu,
        members: &Members,
        action: Action,
        request: &v1::ActRequest,
    ) -> Result<Option<MenuRun>> {
        let Some(mut run) = self.chosen(menu, action)? else {
            return Ok(None);
        };
        let begins = matches!(action, Action::Run | Action::Retry);
        if begins && open_run(menu).is_none() {
            run.message.clone_from(&request.message);
            // Saved before the answer: whoever looks finds it.
            members.save(&run).await?;
        }
        Ok(Some(run))
    }

    /// The same, changing nothing.
    pub(super) fn chosen(&self, menu: &Menu, action: Action) -> Result<Option<MenuRun>> {
        let at = menu.at();
        match (action, open_run(menu)) {
            (Action::Run, Some(run)) if run.phase != RunPhase::Failed => Ok(Some(run)),
            (Action::Run, Some(_)) => Err(conflict(&at, "MenuStuck", "has a run that stopped half-way")
                .hint("`kuke menu retry`, `kuke menu abort`, or `kuke menu force` to leave the members as they are")),
            (Action::Run | Action::Retry, None) => {
                let pointers = self.pointers(menu)?;
                let again = action == Action::Retry;
                let by = actor::current();
                match decide(menu, &pointers, again, &by, Timestamp::now()) {
                    Decision::Nothing => Ok(None),
                    Decision::FailedBefore => {
                        Err(conflict(&at, "FailedBefore", "would be rolled out as it failed before")
                            .hint("change a member, or `kuke menu retry`"))
                    }
                    Decision::Run(run) => Ok(Some(run)),
                }
            }
            (Action::Retry | Action::Abort | Action::Force, Some(run)) => Ok(Some(run)),
            (Action::Abort | Action::Force, None) => {
                // It ended while this waited for its turn.
                Ok(menu.status.runs.last().filter(|run| run.finished_at.is_some()).cloned())
            }
            (action, _) => Err(Error::new(
                Code::Unsupported,
                "NotSupported",
                format!("{} is not offered for menus", action.as_str_name()),
            )),
        }
    }

    /// Whether every member that goes with its latest has one of its spec as it is
    /// now.
    fn all_ready(&self, menu: &Menu) -> Result<bool> {
        for member in &menu.spec.recipes {
            let at = ReleaseRef::new(ReleaseKind::Recipe, &menu.meta.namespace, &member.name);
            let Some(recipe) = self.read::<Recipe>(&at)? else {
                return Ok(false);
            };
            // What a pin names was made before, and stays as it is.
            if member.preparation.is_none() && !is_ready(&recipe) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a run would move a Serving that somebody holds where it is.
    fn moves_held(&self, menu: &Menu, pointers: &[(Option<Pointer>, Pointer)]) -> Result<bool> {
        for (member, (now, wanted)) in menu.spec.recipes.iter().zip(pointers) {
            let at = ReleaseRef::new(ReleaseKind::Serving, &menu.meta.namespace, &member.name);
            let stays = now.as_ref() == Some(wanted);
            if !stays && self.read::<Serving>(&at)?.is_some_and(|s| is_held(&s)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What every member serves and should serve.
    pub(super) fn pointers(&self, menu: &Menu) -> Result<Vec<(Option<Pointer>, Pointer)>> {
        let namespace = &menu.meta.namespace;
        let of = |member: &MenuMember| {
            let at = ReleaseRef::new(ReleaseKind::Recipe, namespace, &member.name);
            let recipe: Recipe = self.read(&at)?.ok_or_else(|| not_found(&at))?;
            let wanted = match &member.preparation {
                Some(pin) => self.meant(&recipe, pin)?,
                None => recipe.status.latest_preparation.clone().ok_or_else(|| {
                    let message = format!("{at} has no preparation yet");
                    Error::new(Code::Conflict, "PreparationNotFound", message)
                })?,
            };
            let pointer = |name: &Name| {
                let at = ReleaseRef::new(ReleaseKind::Preparation, namespace, name);
                let found: Option<Preparation> = self.read(&at)?;
                let found = found.ok_or_else(|| not_found(&at))?;
                Ok::<_, Error>(Pointer {
                    preparation: name.clone(),
                    digest: found.spec.artifact.digest,
                })
            };
            let now: Option<Serving> = self.serving_of(&recipe)?;
            let now = now.map(|serving| serving.spec.preparation);
            let now = now.as_ref().map(&pointer).transpose()?;
            Ok((now, pointer(&wanted)?))
        };
        menu.spec.recipes.iter().map(of).collect()
    }

    fn tell_outcome(
        &self,
        at: &ReleaseRef,
        run: &MenuRun,
        action: Action,
        emit: &Emitter,
    ) -> Result<()> {
        let menu = self.get(at)?;
        let word = match run.phase {
            RunPhase::Committed => "deployed",
            RunPhase::RolledBack => "rolled back",
            RunPhase::Aborted => "aborted",
            _ => "failed",
        };
        let wanted = match action {
            Action::Abort | Action::Force => !matches!(run.phase, RunPhase::Failed),
            _ => run.phase == RunPhase::Committed,
        };
        let mut told = v1::ResourceResult {
            changes: run
                .members
                .iter()
                .map(|m| {
                    format!("{}: {:?} {}", m.recipe, m.outcome, m.message)
                        .trim_end()
                        .to_owned()
                })
                .collect(),
            object: Some(object(&menu)),
            ..result_for(at, word)
        };
        if !wanted {
            let reason = match run.phase {
                RunPhase::RolledBack => "RolledBack",
                RunPhase::PrepareFailed => "PrepareFailed",
                _ if run.message.starts_with(super::ROLLBACK_FAILED) => super::ROLLBACK_FAILED,
                _ => "MenuFailed",
            };
            told.action = "failed".to_owned();
            told.error = Some(v1::ErrorDetail {
                reason: reason.to_owned(),
                message: format!("{at}: run {} {word}: {}", run.id, run.message),
                hint: "`kuke get menu -o yaml` has every member; after a change, run it again"
                    .to_owned(),
                code: "Failed".to_owned(),
            });
        }
        emit.result(told);
        Ok(())
    }

    /// Leaves word for whoever drives a run.
    fn ask_abort(&self, at: &ReleaseRef, run: &str) -> Result<()> {
        self.transact(|| {
            let mut menu: Menu = self.read(at)?.ok_or_else(|| not_found(at))?;
            let notes = &mut menu.meta.annotations;
            notes.insert(keys::ABORT.to_owned(), run.to_owned());
            Ok((vec![menu.into()], ()))
        })
    }

    /// The members are free again: their own controllers look at them, and take
    /// up what had to wait, such as an approval.
    fn after(&self, at: &ReleaseRef, run: &MenuRun) {
        for member in &run.members {
            for kind in [ReleaseKind::Serving, ReleaseKind::Recipe] {
                self.enqueue(&ReleaseRef::new(kind, &at.namespace, &member.recipe));
            }
        }
    }

    pub(super) fn members(&self, at: &ReleaseRef) -> Result<Members> {
        let delivery: Option<Arc<Self>> = self.me.upgrade();
        Ok(Members {
            // Whoever calls holds it.
            delivery: delivery.ok_or_else(|| Error::failed("ShuttingDown", "kukeon is ending"))?,
            menu: at.clone(),
            emit: None,
        })
    }
}

/// Whether the latest of a Recipe is what its spec says. One that is suspended
/// does not look at its spec.
fn is_ready(recipe: &Recipe) -> bool {
    let status = &recipe.status;
    let current = recipe.spec.suspend || status.observed_generation == recipe.meta.generation;
    current && status.conditions.is_true(ConditionType::Ready) && recipe.meta.deletion.is_none()
}

/// Whether somebody holds a Serving where it is. A run that went back holds its
/// members as well, but only from that plan, which it remembers.
fn is_held(serving: &Serving) -> bool {
    let last = serving.status.activations.last();
    serving.spec.hold.is_some() && last.is_none_or(|a| a.cause != ActivationCause::Menu)
}

/// The run that is not over, or that keeps its locks.
pub(super) fn open_run(menu: &Menu) -> Option<MenuRun> {
    let id = menu.status.current_run.as_ref()?;
    menu.status.runs.iter().find(|run| run.id == *id).cloned()
}

/// The refusal of a second run beside one that somebody drives.
pub(super) fn running(at: &ReleaseRef) -> Error {
    conflict(at, "MenuRunning", "is in a run already")
        .hint("wait for its end, or `kuke menu abort`")
}

fn conflict(at: &ReleaseRef, reason: &str, what: &str) -> Error {
    Error::new(Code::Conflict, reason, format!("{at} {what}"))
}
