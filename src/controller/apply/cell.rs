//! Applying cells, and containers into them.

use super::*;

impl Controller {
    pub(super) async fn apply_cell(
        &self,
        wanted: Cell,
        mode: Mode,
        planned: &[ObjectRef],
        emit: &Emitter,
    ) -> Result<Applied> {
        self.check_limits(&wanted)?;
        if mode.dry_run {
            let mut planned = planned.to_vec();
            planned.extend(
                self.volumes_to_make(&wanted)?
                    .into_iter()
                    .map(ObjectRef::from),
            );
            self.check_sources(&wanted, &planned)?;
            return self.apply_cell_alone(wanted, mode, &planned, emit).await;
        }
        let volumes = self.ensure_volumes(&wanted, mode).await?;
        let done = match self.check_sources(&wanted, &[]) {
            Ok(()) => self.apply_cell_alone(wanted, mode, planned, emit).await,
            Err(error) => Err(error),
        };
        if done.is_err() {
            self.take_volumes_back(&volumes).await;
        }
        done
    }

    async fn apply_cell_alone(
        &self,
        wanted: Cell,
        mode: Mode,
        planned: &[ObjectRef],
        emit: &Emitter,
    ) -> Result<Applied> {
        let at: ObjectRef = wanted.at.clone().into();
        let new = !self.store.exists(&at)? || self.goes(&at)?;
        if mode.dry_run && new && planned.contains(&wanted.at.stack().into()) {
            let plan = self.plan_new_cell(wanted);
            return Ok(Applied::new("created", Vec::new(), plan.describe(&at)));
        }
        let _lock = self.store.lock(&at, LockMode::Exclusive, LOCK_WAIT).await?;
        self.refuse_if_parent_goes(&at)?;
        match self.store.cell(&wanted.at)? {
            None if mode.expected.is_some() => Err(Error::changed(&at)),
            None => self.create_cell(wanted, mode, emit).await,
            Some(current) if mode.expected.is_some_and(|g| g != current.meta.generation) => {
                Err(Error::changed(&at))
            }
            Some(current) if current.meta.deletion.is_some() => {
                if mode.expected.is_some() {
                    refuse_deleted(&at, &current.meta)?;
                }
                // Whoever began with it holds the lock no more: it is finished
                // here, where perhaps no daemon would ever do so.
                if mode.dry_run {
                    let plan = self.plan_new_cell(wanted);
                    return Ok(Applied::new("created", Vec::new(), plan.describe(&at)));
                }
                let options = self.options(None);
                self.reconcile_cell(current, &options, &emit.watch).await?;
                self.create_cell(wanted, mode, emit).await
            }
            Some(_) if mode.create_only => Err(exists(&at)),
            Some(current) => self.update_cell(current, wanted, mode, emit).await,
        }
    }

    pub(super) async fn apply_container(
        &self,
        wanted: CellContainer,
        mode: Mode,
        planned: &[ObjectRef],
        emit: &Emitter,
    ) -> Result<Applied> {
        let at: ObjectRef = wanted.at.clone().into();
        if mode.dry_run && planned.contains(&at) {
            return Ok(Applied::new("created", Vec::new(), Vec::new()));
        }
        let alone = Cell {
            spec: crate::model::CellSpec {
                containers: vec![wanted.spec.clone()],
                ..Default::default()
            },
            ..self.get_cell(&wanted.at)?
        };
        let mut known = planned.to_vec();
        known.extend(
            self.volumes_to_make(&alone)?
                .into_iter()
                .map(ObjectRef::from),
        );
        self.check_sources(&alone, &known)?;
        if !mode.dry_run {
            self.ensure_volumes(&alone, mode).await?;
        }
        let _lock = self.store.lock(&at, LockMode::Exclusive, LOCK_WAIT).await?;
        self.refuse_if_parent_goes(&at)?;
        let current = self.get_cell(&wanted.at)?;
        refuse_deleted(&at, &current.meta)?;
        if mode.expected.is_some_and(|g| g != current.meta.generation) {
            return Err(Error::changed(&at));
        }
        let mut cell = current.clone();
        let id = wanted.spec.id.clone();
        let known = cell.spec.containers.iter_mut().find(|c| c.id == id);
        let new = known.is_none();
        match known {
            Some(spec) => *spec = wanted.spec,
            None => cell.spec.containers.push(wanted.spec),
        }
        // The cell with its new container is held to the same rules as any cell.
        cell.spec = scheme::cell_to_model(scheme::cell_to_external(&cell))?.spec;
        self.check_limits(&cell)?;
        let mut done = self.update_cell(current, cell, mode, emit).await?;
        if new {
            done.action = "created";
        }
        Ok(done)
    }

    pub(super) async fn create_cell(
        &self,
        mut cell: Cell,
        mode: Mode,
        emit: &Emitter,
    ) -> Result<Applied> {
        let at: ObjectRef = cell.at.clone().into();
        if mode.dry_run {
            let context = self.cell_context(cell)?;
            let observed = self.observe_cell(&context).await?;
            let plan = plan_cell(&context.cell, &observed, &self.options(None));
            return Ok(Applied::new("created", Vec::new(), plan.describe(&at)));
        }
        stamp_new(&mut cell.meta);
        cell.spec.run_generation = 1;
        let mut steps = Vec::new();
        // Images first: a wrong reference must leave nothing behind.
        steps.extend(self.fetch_images(&cell, &emit.watch).await?);
        self.store.put_cell(&cell)?;
        match self.bring_about(cell.clone(), mode, emit).await {
            Ok(outcome) => {
                self.enqueue_again(&at, &outcome);
                steps.extend(outcome.steps);
                Ok(Applied::new("created", Vec::new(), steps))
            }
            Err(error) => {
                cell.meta.deletion = Some(jiff::Timestamp::now());
                self.store.put_cell(&cell)?;
                let options = self.options(Some(0));
                let removed = self.reconcile_cell(cell, &options, &Watch::default()).await;
                self.take_back(removed, &at);
                Err(error)
            }
        }
    }

    pub(super) async fn update_cell(
        &self,
        current: Cell,
        wanted: Cell,
        mode: Mode,
        emit: &Emitter,
    ) -> Result<Applied> {
        let at: ObjectRef = wanted.at.clone().into();
        let mut object = AnyObject::Cell(wanted);
        apply::inherit(&AnyObject::Cell(current.clone()), &mut object);
        let AnyObject::Cell(mut wanted) = object else {
            return Err(not_found(&at));
        };
        let changes = apply::diff_cell(&current, &wanted);
        refuse_immutable(&at, &changes)?;
        let mut texts = texts(&changes);
        let runs = wanted.spec.run_state == RunState::Running;
        let was_stopped = current.spec.run_state == RunState::Stopped;
        let observed = {
            let context = self.cell_context(wanted.clone())?;
            self.observe_cell(&context).await?
        };
        // Observed, not recorded: without a daemon nobody has noted the end.
        let before = self.cell_context(current)?;
        let seen = self.derive_status(&before, &observed);
        let current = &before.cell;
        let state = seen.state;
        let anew = changes
            .iter()
            .any(|c| matches!(c.action, Action::Restart | Action::Recreate));
        let ended = matches!(state, CellState::Exited | CellState::Error);
        if runs && (was_stopped || (ended && (changes.is_empty() || anew))) {
            // As `start` does: what has ended runs again.
            wanted.spec.run_generation += 1;
            if changes.is_empty() {
                texts.push("started again".to_owned());
            }
        }
        let respec = !changes.is_empty();
        wanted.meta.generation += i64::from(respec);
        let touched = respec || wanted.spec != current.spec;

        let plan = plan_cell(&wanted, &observed, &self.options(None));
        if !touched && plan.is_empty() {
            return Ok(Applied::new("unchanged", Vec::new(), Vec::new()));
        }
        if mode.dry_run {
            return Ok(Applied::new("updated", texts, plan.describe(&at)));
        }
        let mut steps = self.fetch_images(&wanted, &emit.watch).await?;
        let earlier = undo::earlier(before.cell, &wanted, seen);
        self.store.put_cell(&wanted)?;
        match self.bring_about(wanted, mode, emit).await {
            Ok(outcome) => {
                self.enqueue_again(&at, &outcome);
                steps.extend(outcome.steps);
                Ok(Applied::new("updated", texts, steps))
            }
            Err(error) if respec => Err(self.put_back(earlier, error).await),
            Err(error) => Err(error),
        }
    }

    async fn bring_about(&self, cell: Cell, mode: Mode, emit: &Emitter) -> Result<Outcome> {
        let options = self.options(None);
        let outcome = self.reconcile_cell(cell, &options, &emit.watch).await?;
        self.watch_start(outcome, mode, &emit.watch).await
    }

    /// Executes only the pulls of a cell's plan.
    pub(super) async fn fetch_images(&self, cell: &Cell, watch: &Watch) -> Result<Vec<String>> {
        let context = self.cell_context(cell.clone())?;
        let observed = self.observe_cell(&context).await?;
        let full = plan_cell(cell, &observed, &self.options(None));
        let mut plan = Plan::default();
        for stage in full.stages {
            let pulls = stage
                .into_iter()
                .filter(|lane| matches!(lane.first(), Some(Step::PullImage { .. })))
                .collect();
            plan.stage(pulls);
        }
        self.execute(&Target::from(&context), &plan, watch).await?;
        Ok(plan.describe(&cell.at.clone().into()))
    }

    pub(super) fn plan_new_cell(&self, cell: Cell) -> Plan {
        plan_cell(&cell, &ObservedCell::default(), &self.options(None))
    }

    pub(super) fn check_limits(&self, cell: &Cell) -> Result<()> {
        for spec in &cell.spec.containers {
            self.cgroups.check(&spec.resources).map_err(|error| {
                Error::from(error).context(format!("{}: container {}", cell.at, spec.id))
            })?;
        }
        Ok(())
    }

    /// A container that ends with an error right after its start is a failure
    /// of the request, told with its last words.
    pub(super) async fn watch_start(
        &self,
        outcome: Outcome,
        mode: Mode,
        watch: &Watch,
    ) -> Result<Outcome> {
        let Some(cell) = outcome.cell.clone().filter(|_| mode.watch_start) else {
            return Ok(outcome);
        };
        let waits = outcome
            .started
            .iter()
            .map(|name| self.first_exit(&cell, name, watch));
        for exit in futures::future::join_all(waits).await {
            exit?;
        }
        Ok(outcome)
    }

    pub(super) async fn first_exit(&self, cell: &Cell, name: &Name, watch: &Watch) -> Result<()> {
        let parents = self.parents(&cell.at.clone().into())?;
        let id = crate::runtime::container_id(&cell.at, name);
        let runtime = &self.runtime;
        let exit = tokio::select! {
            exit = tokio::time::timeout(START_WATCH, runtime.wait_task(&parents.namespace, &id)) => exit,
            () = watch.cancel.cancelled() => return Err(cancelled(&cell.at.clone().into())),
        };
        let code = match exit {
            Ok(Ok(exit)) => exit.code,
            // Quicker than we could look: the task is gone, its end recorded.
            Ok(Err(_)) => recorded_exit(cell, name),
            Err(_) => return Ok(()),
        };
        if code == 0 {
            return Ok(());
        }
        let log = self.store.log_path(&cell.at, name);
        crate::runtime::log::settled(&log, START_WATCH).await;
        let words = crate::runtime::log::last_lines(&log, 5).join("\n  ");
        let mut message = format!(
            "{}: container {name} exited at once with code {code}",
            cell.at
        );
        if !words.is_empty() {
            message.push_str(&format!("; its last output:\n  {words}"));
        }
        let spec = cell.spec.containers.iter().find(|c| c.id == *name);
        let hint = match spec.map(|s| s.restart_policy) {
            Some(RestartPolicy::Never) | None => "check its command, arguments and environment",
            Some(_) => {
                "check its command, arguments and environment; a restart policy only helps once it ran"
            }
        };
        Err(Error::failed("ContainerExited", message).hint(hint))
    }
}

/// The code with which a container ended in the cell's current run, as recorded;
/// 0 when it has not.
fn recorded_exit(cell: &Cell, name: &Name) -> i32 {
    let status = cell.status.containers.iter().find(|s| s.name == *name);
    status
        .filter(|s| s.run_generation == cell.spec.run_generation)
        .and_then(|s| s.exit_code)
        .unwrap_or_default()
}
