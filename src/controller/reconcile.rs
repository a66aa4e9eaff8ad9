//! Reconciliation of one object: observe, derive status, plan, execute, until
//! nothing is left to do. Everything that changes a host goes through here.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Controller;
use super::context::CellContext;
use super::errors::is_damage;
use super::execute::{Target, Watch};
use super::plan::{Options, plan_cell, plan_kept, plan_realm, plan_space, plan_stack};
use super::status::{derive, next_look};
use super::step::Plan;
use crate::api::{Code, Error, Result};
use crate::model::{
    Cell, CellRef, CellState, Meta, Name, ObjectRef, ObservedScope, RunState, ScopeState,
    ScopeStatus,
};
use crate::store::LockMode;

/// Rounds of one reconciliation before it is left to the queue.
const ROUNDS: usize = 6;
/// How long another writer of the same object is waited for.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(60);

/// Pause before the loop takes up what a call could not finish.
const RETRY: Duration = Duration::from_secs(1);

/// What a reconciliation did.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Steps that were executed, for people.
    pub steps: Vec<String>,
    /// Containers that were started, but for those that a policy started again.
    pub started: Vec<Name>,
    /// When time alone will change the plan.
    pub again: Option<jiff::Timestamp>,
    /// The cell as it is now; none when it was deleted (or is no cell).
    pub cell: Option<Cell>,
}

impl Controller {
    /// Options of every plan of this instance.
    pub(super) fn options(&self, grace: Option<u32>) -> Options {
        Options {
            grace,
            default_memory: self.settings.default_memory_bytes,
        }
    }

    /// Reconciles an object under its lock; what is not in the store is no error.
    pub(super) async fn reconcile(&self, at: &ObjectRef, watch: &Watch) -> Result<Outcome> {
        self.reconcile_within(at, watch, LOCK_WAIT).await
    }

    /// As [`Controller::reconcile`], with another limit on the wait for the lock.
    pub(super) async fn reconcile_within(
        &self,
        at: &ObjectRef,
        watch: &Watch,
        wait: Duration,
    ) -> Result<Outcome> {
        // Keeping a scope as it is takes no exclusive lock: its steps are
        // idempotent, and it must not wait for (and so hold up) long work on a
        // cell below. Deleting one does.
        let scope = !matches!(at, ObjectRef::Cell(_));
        let kept = scope && !self.is_being_deleted(at)?;
        if scope && !kept && !self.store.children(at)?.is_empty() {
            // Its children go first; waiting for its lock would hold them up.
            self.mark_children(at, wait).await?;
            return Ok(Outcome {
                again: Some(soon()),
                ..Outcome::default()
            });
        }
        let mode = if kept {
            LockMode::Shared
        } else {
            LockMode::Exclusive
        };
        let _lock = self.store.lock(at, mode, wait).await?;
        match at {
            ObjectRef::Cell(at) => match self.store.cell(at)? {
                None => {
                    self.served.gone(at);
                    Ok(Outcome::default())
                }
                Some(cell) => self.reconcile_cell(cell, &self.options(None), watch).await,
            },
            // Marked meanwhile: whoever did so goes on with it.
            _ if kept && self.is_being_deleted(at)? => Ok(Outcome::default()),
            _ => self.reconcile_scope(at, watch).await,
        }
    }

    /// Goes on with a cascade that lost its caller: what lives in a scope that
    /// is being deleted is deleted too. One that cannot be marked now holds no
    /// other up; the first failure is told at the end.
    async fn mark_children(&self, at: &ObjectRef, wait: Duration) -> Result<()> {
        let mut failed = None;
        for child in self.child_refs(at)? {
            match self.mark_child(at, &child, wait).await {
                Ok(true) => self.queue.add(child),
                // It is gone, and this is one that came after it.
                Ok(false) => return Ok(()),
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Marks one; false when its parent is not being deleted any more.
    async fn mark_child(&self, at: &ObjectRef, child: &ObjectRef, wait: Duration) -> Result<bool> {
        let marked = match self.is_being_deleted(child) {
            Err(error) if is_damage(&error) => false,
            marked => marked?,
        };
        if marked {
            return Ok(true);
        }
        let _lock = self.store.lock(child, LockMode::Exclusive, wait).await?;
        if !self.is_being_deleted(at)? {
            return Ok(false);
        }
        if let Some(mut object) = self.stored_or_marked(child).await? {
            super::apply::meta_mut(&mut object)
                .deletion
                .get_or_insert_with(jiff::Timestamp::now);
            self.put(&object)?;
        }
        Ok(true)
    }

    pub(super) fn is_being_deleted(&self, at: &ObjectRef) -> Result<bool> {
        Ok(self
            .stored(at)?
            .is_some_and(|object| object.meta().deletion.is_some()))
    }

    /// Reconciles a cell whose lock the caller holds.
    pub(super) async fn reconcile_cell(
        &self,
        cell: Cell,
        options: &Options,
        watch: &Watch,
    ) -> Result<Outcome> {
        let mut context = self.cell_context(cell)?;
        let result = self.rounds(&mut context, options, watch).await;
        if let Err(error) = &result {
            self.record_failure(&mut context, error).await;
        }
        if self.is_live() {
            self.served.tell(&context.cell);
        }
        result
    }

    async fn rounds(
        &self,
        context: &mut CellContext,
        options: &Options,
        watch: &Watch,
    ) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        for _ in 0..ROUNDS {
            let observed = self.observe_cell(context).await?;
            context.cell.status = self.derive_status(context, &observed);
            let plan = plan_cell(&context.cell, &observed, options);
            if plan.is_empty() {
                context.cell.status.observed_generation = context.cell.meta.generation;
            }
            if context.cell.meta.deletion.is_none() {
                // Exits are on disk before their task is removed.
                self.store
                    .put_cell_status(&context.cell.at, &context.cell.status)?;
            }
            outcome.again = next_look(&context.cell, &observed, options);
            if plan.is_empty() && !self.mark_auto_deletion(context)? {
                outcome.cell = Some(context.cell.clone());
                return Ok(outcome);
            }
            self.carry_out(context, &plan, &mut outcome, watch).await?;
            if context.cell.meta.deletion.is_some() && !plan.is_empty() {
                return Ok(outcome);
            }
        }
        outcome.cell = Some(context.cell.clone());
        // Not settled: something works against us; the queue comes back soon.
        outcome.again.get_or_insert(soon());
        Ok(outcome)
    }

    async fn carry_out(
        &self,
        context: &mut CellContext,
        plan: &Plan,
        outcome: &mut Outcome,
        watch: &Watch,
    ) -> Result<()> {
        let at: ObjectRef = context.cell.at.clone().into();
        if context.cell.meta.deletion.is_none() && !plan.is_empty() {
            self.ensure_parents(context, watch, outcome).await?;
        }
        let (started, result) = self.carry(&Target::from(&*context), plan, watch).await;
        self.note_starts(context, plan, &started, outcome);
        if result.is_err() && !started.is_empty() {
            // Those that were started run, whatever becomes of the others.
            self.store
                .put_cell_status(&context.cell.at, &context.cell.status)?;
        }
        result?;
        outcome.steps.extend(plan.describe(&at));
        Ok(())
    }

    /// After a reboot (or a meddling hand) the parents' host objects may be
    /// gone; they are put back before the cell needs them.
    async fn ensure_parents(
        &self,
        context: &CellContext,
        watch: &Watch,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let mut chain = Vec::new();
        let mut parent = ObjectRef::from(context.cell.at.clone()).parent();
        while let Some(at) = parent {
            parent = at.parent();
            chain.push(at);
        }
        for at in chain.into_iter().rev() {
            let mut parents = context.parents.clone();
            if matches!(at, ObjectRef::Realm(_)) {
                parents.network = None;
            }
            let observed = self.observe_scope(&at, &parents).await?;
            let plan = plan_scope(&at, &Meta::default(), &observed);
            let target = Target {
                at: at.clone(),
                parents: &parents,
                cell: None,
            };
            self.execute(&target, &plan, watch).await?;
            outcome.steps.extend(plan.describe(&at));
        }
        Ok(())
    }

    /// Counters and times that only the one who starts a task knows.
    fn note_starts(
        &self,
        context: &mut CellContext,
        plan: &Plan,
        started: &BTreeSet<Name>,
        outcome: &mut Outcome,
    ) {
        let now = jiff::Timestamp::now();
        let run = context.cell.spec.run_generation;
        for name in started {
            let by_policy = plan.restarts.contains(name);
            if !by_policy {
                outcome.started.push(name.clone());
            }
            let Some(status) = context
                .cell
                .status
                .containers
                .iter_mut()
                .find(|s| s.name == *name)
            else {
                continue;
            };
            if by_policy {
                // A long good run makes earlier failures forgotten.
                let exit = status.finished_at.map(|at| crate::model::TaskExit {
                    code: status.exit_code.unwrap_or(0),
                    at,
                });
                let row = exit.map_or(0, |e| super::plan::failures_in_a_row(status, e));
                status.restart_count = row + 1;
            } else {
                status.exit_code = None;
                status.finished_at = None;
                if status.run_generation != run {
                    status.restart_count = 0;
                }
            }
            status.started_at = Some(now);
            status.run_generation = run;
            // No longer ended: the next observation tells what it is.
            status.state = crate::model::ContainerState::Pending;
        }
    }

    pub(super) fn derive_status(
        &self,
        context: &CellContext,
        observed: &crate::model::ObservedCell,
    ) -> crate::model::CellStatus {
        let cell = &context.cell;
        let path = self.settings.cgroup_path(&cell.at.clone().into());
        let netns = self
            .network
            .sandbox_paths(&cell.at)
            .net
            .display()
            .to_string();
        let mut status = derive(cell, observed, &path, &netns);
        for (container, spec) in status.containers.iter_mut().zip(&cell.spec.containers) {
            if let Some(digest) = crate::runtime::image::normalise(&spec.image)
                .ok()
                .and_then(|name| observed.images.get(&name))
            {
                container.image_digest.clone_from(digest);
            }
        }
        status
    }

    /// `autoDelete`: after a clean end the cell is deleted. True when it is so.
    fn mark_auto_deletion(&self, context: &mut CellContext) -> Result<bool> {
        let cell = &mut context.cell;
        let due = cell.spec.auto_delete
            && cell.spec.run_state == RunState::Running
            && cell.status.state == CellState::Exited
            && cell.meta.deletion.is_none();
        if due {
            cell.meta.deletion = Some(jiff::Timestamp::now());
            self.store.put_cell(cell)?;
        }
        Ok(due)
    }

    /// Intent is on disk, so the loop (where one runs) goes on with it; until
    /// then the status tells what went wrong.
    async fn record_failure(&self, context: &mut CellContext, error: &Error) {
        if self.is_live() {
            self.queue
                .add_after_unless_active(context.cell.at.clone().into(), RETRY);
        }
        if error.code == Code::Cancelled || context.cell.meta.deletion.is_some() {
            return;
        }
        if let Ok(observed) = self.observe_cell(context).await {
            context.cell.status = self.derive_status(context, &observed);
        }
        let status = &mut context.cell.status;
        status.state = CellState::Failed;
        status.reason.clone_from(&error.reason);
        status.message = one_line(&error.message);
        if let Err(error) = self
            .store
            .put_cell_status(&context.cell.at, &context.cell.status)
        {
            tracing::warn!(cell = %context.cell.at, %error, "status could not be saved");
        }
    }

    /// Reconciles a realm, space or stack whose lock the caller holds.
    pub(super) async fn reconcile_scope(&self, at: &ObjectRef, watch: &Watch) -> Result<Outcome> {
        let Some((meta, before)) = self.scope_of(at)? else {
            return Ok(Outcome::default());
        };
        let parents = self.parents(at)?;
        let observed = self.observe_scope(at, &parents).await?;
        if meta.deletion.is_some() && !observed.children.is_empty() {
            // Deletion waits for the children; they are marked too.
            return Ok(Outcome::default());
        }
        let plan = plan_scope(at, &meta, &observed);
        let target = Target {
            at: at.clone(),
            parents: &parents,
            cell: None,
        };
        let result = self.execute(&target, &plan, watch).await;
        let removed = meta.deletion.is_some() && result.is_ok();
        if !removed {
            let status = self.scope_status(at, &meta, before, &parents, result.as_ref().err());
            self.store.put_scope_status(at, &status)?;
        }
        result?;
        Ok(Outcome {
            steps: plan.describe(at),
            ..Outcome::default()
        })
    }

    fn scope_status(
        &self,
        at: &ObjectRef,
        meta: &Meta,
        before: ScopeStatus,
        parents: &super::context::Parents,
        error: Option<&Error>,
    ) -> ScopeStatus {
        let mut status = before;
        status.cgroup_path = self.settings.cgroup_path(at);
        status.observed_generation = meta.generation;
        status.state = match (error, meta.deletion) {
            (Some(_), _) => ScopeState::Failed,
            (None, Some(_)) => ScopeState::Deleting,
            (None, None) => ScopeState::Ready,
        };
        status.reason = error.map(|e| e.reason.clone()).unwrap_or_default();
        status.message = error.map(|e| one_line(&e.message)).unwrap_or_default();
        match at {
            ObjectRef::Realm(_) => status.namespace.clone_from(&parents.namespace),
            ObjectRef::Space(_) => {
                if let Some(network) = &parents.network {
                    status.network.subnet =
                        network.subnet.map(|s| s.to_string()).unwrap_or_default();
                    if network.own.is_none() {
                        status.network.name = network.name();
                        status.network.bridge = network.bridge();
                    }
                }
            }
            ObjectRef::Stack(_) | ObjectRef::Cell(_) | ObjectRef::Kept(_) => {}
        }
        if status.state == ScopeState::Ready {
            // Made by the plan already; asked again only for what is delegated.
            let delegated = self.cgroups.ensure(&status.cgroup_path, true);
            status.subtree_controllers = delegated.unwrap_or_default();
        }
        status
    }

    fn scope_of(&self, at: &ObjectRef) -> Result<Option<(Meta, ScopeStatus)>> {
        Ok(match at {
            ObjectRef::Realm(at) => self.store.realm(at)?.map(|o| (o.meta, o.status)),
            ObjectRef::Space(at) => self.store.space(at)?.map(|o| (o.meta, o.status)),
            ObjectRef::Stack(at) => self.store.stack(at)?.map(|o| (o.meta, o.status)),
            ObjectRef::Cell(_) | ObjectRef::Kept(_) => None,
        })
    }

    /// The last word on a cell that a caller waits for: its status, observed
    /// now, without changing anything.
    pub(super) async fn refresh_cell(&self, at: &CellRef) -> Result<Cell> {
        let mut context = self.cell_context(self.get_cell(at)?)?;
        let observed = self.observe_cell(&context).await?;
        context.cell.status = self.derive_status(&context, &observed);
        Ok(context.cell)
    }
}

/// When the loop takes up what is not settled yet.
fn soon() -> jiff::Timestamp {
    let pause = jiff::SignedDuration::try_from(RETRY).unwrap_or_default();
    jiff::Timestamp::now()
        .checked_add(pause)
        .unwrap_or(jiff::Timestamp::MAX)
}

/// The plan of a realm, space or stack.
pub(super) fn plan_scope(at: &ObjectRef, meta: &Meta, observed: &ObservedScope) -> Plan {
    match at {
        ObjectRef::Realm(_) => plan_realm(meta, observed),
        ObjectRef::Space(_) => plan_space(meta, observed),
        ObjectRef::Stack(_) | ObjectRef::Cell(_) => plan_stack(meta, observed),
        ObjectRef::Kept(_) => plan_kept(meta),
    }
}

/// At most 256 characters on one line, for `status.message`.
fn one_line(text: &str) -> String {
    let mut line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() > 256 {
        line = line.chars().take(255).collect();
        line.push('…');
    }
    line
}
