//! `apply`: documents become desired state, desired state becomes host state.
//!
//! A new object that cannot be brought up is taken back, so that a wrong
//! request leaves host and store as they were.

use std::time::Duration;

use super::Controller;
use super::errors::{cancelled, not_found};
use super::execute::{Target, Watch};
use super::plan::{Options, plan_cell};
use super::reconcile::{LOCK_WAIT, Outcome, plan_scope};
use super::step::{Plan, Step};
use super::stream::{Emitter, failure_for, result_for};
use crate::api::v1::{self, object};
use crate::api::{Code, Error, Result};
use crate::apply::{self, Action, Change};
use crate::model::{
    AnyObject, Cell, CellContainer, CellState, Meta, Name, ObjectRef, ObservedCell, ObservedScope,
    Realm, RestartPolicy, RunState, Space, Stack, label,
};
use crate::scheme::{self, Secrets};
use crate::store::LockMode;

/// How long a started container is watched, so that one that ends at once is
/// told as a failure and not as a success.
const START_WATCH: Duration = Duration::from_millis(300);

/// What applying one object came to.
struct Applied {
    action: &'static str,
    changes: Vec<String>,
    steps: Vec<String>,
}

impl Applied {
    fn new(action: &'static str, changes: Vec<String>, steps: Vec<String>) -> Self {
        Self {
            action,
            changes,
            steps,
        }
    }
}

/// How one request is applied.
#[derive(Debug, Clone, Copy)]
struct Mode {
    dry_run: bool,
    create_only: bool,
    /// Watch started containers for [`START_WATCH`].
    watch_start: bool,
}

impl Controller {
    /// Reads and checks a whole request; nothing is applied when a part is wrong.
    pub(super) fn decode(request: &v1::ApplyRequest) -> Result<Vec<(u32, AnyObject)>> {
        apply::read(&request.source, &request.manifest)
    }

    /// Applies in dependency order. A failed object does not keep the others
    /// from being applied, but what lives in it is not tried.
    pub(super) async fn apply_all(
        &self,
        documents: Vec<(u32, AnyObject)>,
        request: &v1::ApplyRequest,
        emit: &Emitter,
    ) -> Result<()> {
        let mode = Mode {
            dry_run: request.dry_run,
            create_only: request.create_only,
            watch_start: !request.detach,
        };
        let mut failed: Vec<ObjectRef> = Vec::new();
        let mut planned: Vec<ObjectRef> = Vec::new();
        for (index, object) in apply::order(documents) {
            if emit.watch.cancel.is_cancelled() {
                return Err(cancelled(&object.at()));
            }
            let at = object.at();
            let kind = object.kind();
            let name = object.name().to_string();
            let blocked = failed.iter().find(|f| is_above(f, &at)).cloned();
            let result = match blocked {
                Some(above) => Err(Error::new(
                    Code::Conflict,
                    "ParentFailed",
                    format!("{at} was not applied because {above} failed"),
                )),
                None => self.apply_one(object, mode, &mut planned, emit).await,
            };
            let mut told = match result {
                Ok(done) => v1::ResourceResult {
                    changes: done.changes,
                    steps: done.steps,
                    object: self.external(&at).ok().flatten(),
                    ..result_for(&at, done.action)
                },
                Err(error) if error.code == Code::Cancelled => return Err(error),
                Err(error) => {
                    failed.push(at.clone());
                    failure_for(&at, &error)
                }
            };
            told.index = index;
            if kind == "Container" {
                kind.clone_into(&mut told.kind);
                if let Some(scope) = &mut told.scope {
                    scope.cell = std::mem::replace(&mut told.name, name);
                }
            }
            emit.result(told);
        }
        Ok(())
    }

    async fn apply_one(
        &self,
        object: AnyObject,
        mode: Mode,
        planned: &mut Vec<ObjectRef>,
        emit: &Emitter,
    ) -> Result<Applied> {
        let at = object.at();
        crate::store::check_name(&at)?;
        // In-process without containerd nothing can be done: say so before
        // anything is written.
        self.require_containerd().await?;
        if !matches!(object, AnyObject::Container(_)) {
            self.create_parents(&at, mode, planned, emit).await?;
        }
        let done = match object {
            AnyObject::Cell(cell) => self.apply_cell(cell, mode, planned, emit).await,
            AnyObject::Container(container) => {
                self.apply_container(*container, mode, planned, emit).await
            }
            scope => self.apply_scope(scope, mode, planned, &emit.watch).await,
        }?;
        if mode.dry_run && done.action == "created" {
            planned.push(at);
        }
        Ok(done)
    }

    /// Missing scopes above an object are made and told.
    async fn create_parents(
        &self,
        at: &ObjectRef,
        mode: Mode,
        planned: &mut Vec<ObjectRef>,
        emit: &Emitter,
    ) -> Result<()> {
        let mut missing = Vec::new();
        let mut parent = at.parent();
        while let Some(at) = parent {
            if self.store.exists(&at)? || planned.contains(&at) {
                break;
            }
            parent = at.parent();
            missing.push(at);
        }
        for at in missing.into_iter().rev() {
            let mode = Mode {
                create_only: false,
                ..mode
            };
            let scope = empty_scope(&at);
            let done = self.apply_scope(scope, mode, planned, &emit.watch).await?;
            if mode.dry_run {
                planned.push(at.clone());
            }
            emit.result(v1::ResourceResult {
                steps: done.steps,
                object: self.external(&at)?,
                ..result_for(&at, done.action)
            });
        }
        Ok(())
    }

    // ---- realms, spaces, stacks ----

    async fn apply_scope(
        &self,
        wanted: AnyObject,
        mode: Mode,
        planned: &[ObjectRef],
        watch: &Watch,
    ) -> Result<Applied> {
        let at = wanted.at();
        self.refuse_if_parent_goes(&at)?;
        let _lock = self.store.lock(&at, LockMode::Exclusive, LOCK_WAIT).await?;
        let current = self.stored(&at)?;
        match current {
            None => self.create_scope(wanted, mode, planned, watch).await,
            Some(current) => {
                if mode.create_only {
                    return Err(exists(&at));
                }
                refuse_deleted(&at, current.meta())?;
                self.update_scope(current, wanted, mode, watch).await
            }
        }
    }

    async fn create_scope(
        &self,
        mut wanted: AnyObject,
        mode: Mode,
        planned: &[ObjectRef],
        watch: &Watch,
    ) -> Result<Applied> {
        let at = wanted.at();
        if let AnyObject::Realm(realm) = &wanted {
            self.refuse_foreign_namespace(realm).await?;
        }
        if mode.dry_run {
            let plan = plan_scope(&at, &Meta::default(), &ObservedScope::default());
            return Ok(Applied::new("created", Vec::new(), plan.describe(&at)));
        }
        let above = at
            .parent()
            .is_none_or(|p| planned.contains(&p) || self.known(&p));
        if !above {
            return Err(not_found(&at));
        }
        stamp_new(meta_mut(&mut wanted));
        let _pool = match &mut wanted {
            AnyObject::Space(space) if space.spec.cni_config_path.is_none() => {
                let guard = self.store.lock_pool(LOCK_WAIT).await?;
                self.allocate_network(space).await?;
                Some(guard)
            }
            _ => None,
        };
        self.put(&wanted)?;
        match self.reconcile_scope(&at, watch).await {
            Ok(outcome) => Ok(Applied::new("created", Vec::new(), outcome.steps)),
            Err(error) => {
                meta_mut(&mut wanted).deletion = Some(jiff::Timestamp::now());
                self.put(&wanted)?;
                self.take_back(self.reconcile_scope(&at, &Watch::default()).await, &at);
                Err(error)
            }
        }
    }

    async fn update_scope(
        &self,
        current: AnyObject,
        mut wanted: AnyObject,
        mode: Mode,
        watch: &Watch,
    ) -> Result<Applied> {
        let at = wanted.at();
        apply::inherit(&current, &mut wanted);
        let changes = match (&current, &wanted) {
            (AnyObject::Realm(a), AnyObject::Realm(b)) => apply::diff_realm(a, b),
            (AnyObject::Space(a), AnyObject::Space(b)) => apply::diff_space(a, b),
            (AnyObject::Stack(a), AnyObject::Stack(b)) => apply::diff_stack(a, b),
            _ => Vec::new(),
        };
        refuse_immutable(&at, &changes)?;
        let parents = self.parents(&at)?;
        let observed = self.observe_scope(&at, &parents).await?;
        let plan = plan_scope(&at, current.meta(), &observed);
        let texts = texts(&changes);
        let action = if !changes.is_empty() || !plan.is_empty() {
            "updated"
        } else {
            "unchanged"
        };
        if !mode.dry_run {
            if !changes.is_empty() {
                meta_mut(&mut wanted).generation += 1;
                self.put(&wanted)?;
            }
            if action == "updated" {
                self.reconcile_scope(&at, watch).await?;
            }
        }
        Ok(Applied::new(action, texts, plan.describe(&at)))
    }

    /// A containerd namespace that somebody else made is not taken over: a
    /// later deletion of the realm would drain it.
    async fn refuse_foreign_namespace(&self, realm: &Realm) -> Result<()> {
        let namespace = self.settings.namespace(realm);
        let namespaces = self.runtime.namespaces().await?;
        let ours = self.settings.instance();
        match namespaces.get(&namespace) {
            Some(labels) if labels.get(label::INSTANCE) != Some(&ours) => Err(Error::new(
                Code::Conflict,
                "NamespaceTaken",
                format!(
                    "{}: containerd namespace {namespace:?} exists and does not belong to this kukeon",
                    realm.at
                ),
            )
            .hint("choose another `spec.namespace`, or another containerdNamespaceSuffix")),
            _ => Ok(()),
        }
    }

    /// Gives a new space its subnet, and a uid whose bridge name is free.
    async fn allocate_network(&self, space: &mut Space) -> Result<()> {
        let mut used = Vec::new();
        let mut uids = Vec::new();
        for realm in self.store.realms()? {
            for at in self.store.spaces(&realm)? {
                if let Some(other) = self.store.space(&at)? {
                    let network = self.space_network(&other);
                    used.extend(network.subnet);
                    uids.push(network.bridge());
                }
            }
        }
        while uids.contains(&self.space_network(space).bridge()) {
            space.meta.uid = uuid::Uuid::new_v4().to_string();
        }
        let subnet = self
            .network
            .allocate_subnet(self.settings.pod_subnet, &used)
            .await?;
        space.status.network.subnet = subnet.to_string();
        Ok(())
    }

    // ---- cells ----

    async fn apply_cell(
        &self,
        wanted: Cell,
        mode: Mode,
        planned: &[ObjectRef],
        emit: &Emitter,
    ) -> Result<Applied> {
        let at: ObjectRef = wanted.at.clone().into();
        self.check_limits(&wanted)?;
        if mode.dry_run && !self.store.exists(&at)? && planned.contains(&wanted.at.stack().into()) {
            let plan = self.plan_new_cell(wanted);
            return Ok(Applied::new("created", Vec::new(), plan.describe(&at)));
        }
        self.refuse_if_parent_goes(&at)?;
        let _lock = self.store.lock(&at, LockMode::Exclusive, LOCK_WAIT).await?;
        match self.store.cell(&wanted.at)? {
            None => self.create_cell(wanted, mode, emit).await,
            Some(_) if mode.create_only => Err(exists(&at)),
            Some(current) => {
                refuse_deleted(&at, &current.meta)?;
                self.update_cell(current, wanted, mode, emit).await
            }
        }
    }

    async fn apply_container(
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
        self.get_cell(&wanted.at)?;
        let _lock = self.store.lock(&at, LockMode::Exclusive, LOCK_WAIT).await?;
        let current = self.get_cell(&wanted.at)?;
        refuse_deleted(&at, &current.meta)?;
        let mut cell = current.clone();
        let id = wanted.spec.id.clone();
        let known = cell.spec.containers.iter_mut().find(|c| c.id == id);
        let new = known.is_none();
        match known {
            Some(spec) => *spec = wanted.spec,
            None => cell.spec.containers.push(wanted.spec),
        }
        // The cell with its new container is held to the same rules as any cell.
        let external = scheme::cell_to_external(&cell);
        scheme::cell_to_model(external)?;
        self.check_limits(&cell)?;
        let mut done = self.update_cell(current, cell, mode, emit).await?;
        if new {
            done.action = "created";
        }
        Ok(done)
    }

    async fn create_cell(&self, mut cell: Cell, mode: Mode, emit: &Emitter) -> Result<Applied> {
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
        let result = match self
            .reconcile_cell(cell.clone(), &self.options(None), &emit.watch)
            .await
        {
            Ok(outcome) => self.watch_start(outcome, mode, &emit.watch).await,
            Err(error) => Err(error),
        };
        match result {
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

    async fn update_cell(
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
        let rebuild = changes.iter().any(|c| c.action == Action::Recreate);
        let mut texts = texts(&changes);
        let runs = wanted.spec.run_state == RunState::Running;
        let ended = matches!(current.status.state, CellState::Exited | CellState::Error);
        let was_stopped = current.spec.run_state == RunState::Stopped;
        if runs && (was_stopped || (ended && changes.is_empty())) {
            // As `start` does: what has ended runs again.
            wanted.spec.run_generation += 1;
            if changes.is_empty() {
                texts.push("started again".to_owned());
            }
        }
        let respec = !changes.is_empty();
        wanted.meta.generation += i64::from(respec);
        let touched = respec || wanted.spec != current.spec;

        let context = self.cell_context(wanted.clone())?;
        let observed = self.observe_cell(&context).await?;
        let plan = plan_cell(&wanted, &observed, &self.options(None));
        if !touched && plan.is_empty() {
            return Ok(Applied::new("unchanged", Vec::new(), Vec::new()));
        }
        if mode.dry_run {
            return Ok(Applied::new("updated", texts, plan.describe(&at)));
        }
        let mut steps = self.fetch_images(&wanted, &emit.watch).await?;
        self.store.put_cell(&wanted)?;
        if rebuild {
            // Namespaces of another kind: down with the old, then up with the new.
            let mut down = wanted.clone();
            down.spec.run_state = RunState::Stopped;
            steps.extend(
                self.take_cell_down(down, &self.options(None), &emit.watch)
                    .await?,
            );
        }
        let outcome = self
            .reconcile_cell(wanted, &self.options(None), &emit.watch)
            .await?;
        let outcome = self.watch_start(outcome, mode, &emit.watch).await?;
        self.enqueue_again(&at, &outcome);
        steps.extend(outcome.steps);
        Ok(Applied::new("updated", texts, steps))
    }

    /// Executes the plan of a stopped cell without saying so in the store.
    pub(super) async fn take_cell_down(
        &self,
        cell: Cell,
        options: &Options,
        watch: &Watch,
    ) -> Result<Vec<String>> {
        let at: ObjectRef = cell.at.clone().into();
        let context = self.cell_context(cell)?;
        let observed = self.observe_cell(&context).await?;
        let plan = plan_cell(&context.cell, &observed, options);
        self.execute(&Target::from(&context), &plan, watch).await?;
        Ok(plan.describe(&at))
    }

    /// Executes only the pulls of a cell's plan.
    async fn fetch_images(&self, cell: &Cell, watch: &Watch) -> Result<Vec<String>> {
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

    fn plan_new_cell(&self, cell: Cell) -> Plan {
        plan_cell(&cell, &ObservedCell::default(), &self.options(None))
    }

    fn check_limits(&self, cell: &Cell) -> Result<()> {
        for spec in &cell.spec.containers {
            self.cgroups.check(&spec.resources).map_err(|error| {
                Error::from(error).context(format!("{}: container {}", cell.at, spec.id))
            })?;
        }
        Ok(())
    }

    /// A container that ends with an error right after its start is a failure
    /// of the request, told with its last words.
    async fn watch_start(&self, outcome: Outcome, mode: Mode, watch: &Watch) -> Result<Outcome> {
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

    async fn first_exit(&self, cell: &Cell, name: &Name, watch: &Watch) -> Result<()> {
        let parents = self.parents(&cell.at.clone().into())?;
        let id = crate::runtime::container_id(&cell.at, name);
        let runtime = &self.runtime;
        let exit = tokio::select! {
            exit = tokio::time::timeout(START_WATCH, runtime.wait_task(&parents.namespace, &id)) => exit,
            () = watch.cancel.cancelled() => return Err(cancelled(&cell.at.clone().into())),
        };
        let Ok(Ok(exit)) = exit else { return Ok(()) };
        if exit.code == 0 {
            return Ok(());
        }
        let log = self.store.log_path(&cell.at, name);
        crate::runtime::log::settled(&log, START_WATCH).await;
        let words = crate::runtime::log::last_lines(&log, 5).join("\n  ");
        let mut message = format!(
            "{}: container {name} exited at once with code {}",
            cell.at, exit.code
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

    // ---- common ----

    fn enqueue_again(&self, at: &ObjectRef, outcome: &Outcome) {
        if let Some(due) = outcome.again {
            self.enqueue_at(at.clone(), due);
        }
    }

    /// The result of taking a failed creation back; should that fail too, the
    /// deletion stays recorded and the loop goes on with it.
    fn take_back(&self, removed: Result<Outcome>, at: &ObjectRef) {
        if let Err(error) = removed {
            tracing::warn!(object = %at, %error, "a failed creation could not be taken back yet");
            self.queue.add(at.clone());
        }
    }

    fn known(&self, at: &ObjectRef) -> bool {
        self.store.exists(at).unwrap_or(false)
    }

    fn refuse_if_parent_goes(&self, at: &ObjectRef) -> Result<()> {
        let mut parent = at.parent();
        while let Some(above) = parent {
            if let Some(object) = self.stored(&above)? {
                refuse_deleted(&above, object.meta())?;
            }
            parent = above.parent();
        }
        Ok(())
    }

    /// An object from the store.
    pub(super) fn stored(&self, at: &ObjectRef) -> Result<Option<AnyObject>> {
        Ok(match at {
            ObjectRef::Realm(at) => self.store.realm(at)?.map(AnyObject::Realm),
            ObjectRef::Space(at) => self.store.space(at)?.map(AnyObject::Space),
            ObjectRef::Stack(at) => self.store.stack(at)?.map(AnyObject::Stack),
            ObjectRef::Cell(at) => self.store.cell(at)?.map(AnyObject::Cell),
        })
    }

    /// Saves an object.
    pub(super) fn put(&self, object: &AnyObject) -> Result<()> {
        match object {
            AnyObject::Realm(o) => self.store.put_realm(o)?,
            AnyObject::Space(o) => self.store.put_space(o)?,
            AnyObject::Stack(o) => self.store.put_stack(o)?,
            AnyObject::Cell(o) => self.store.put_cell(o)?,
            // Part of its cell.
            AnyObject::Container(_) => {}
        }
        Ok(())
    }

    /// An object of the store in its external form, without secrets.
    pub(super) fn external(&self, at: &ObjectRef) -> Result<Option<v1::Object>> {
        Ok(self.stored(at)?.as_ref().and_then(to_external))
    }
}

/// The external form of an object, without secrets; none for a lone container.
pub(super) fn to_external(object: &AnyObject) -> Option<v1::Object> {
    let object = match object {
        AnyObject::Realm(o) => object::Object::Realm(scheme::realm_to_external(o, Secrets::Hide)),
        AnyObject::Space(o) => object::Object::Space(scheme::space_to_external(o)),
        AnyObject::Stack(o) => object::Object::Stack(scheme::stack_to_external(o)),
        AnyObject::Cell(o) => object::Object::Cell(scheme::cell_to_external(o)),
        AnyObject::Container(_) => return None,
    };
    Some(v1::Object {
        object: Some(object),
    })
}

fn is_above(above: &ObjectRef, at: &ObjectRef) -> bool {
    at.names().starts_with(&above.names())
}

fn texts(changes: &[Change]) -> Vec<String> {
    changes.iter().map(|c| c.text.clone()).collect()
}

fn exists(at: &ObjectRef) -> Error {
    Error::new(
        Code::Conflict,
        format!("{}Exists", at.kind()),
        format!("{at} already exists"),
    )
    .hint("choose another name, or change it with `kuke apply`")
}

fn refuse_deleted(at: &ObjectRef, meta: &Meta) -> Result<()> {
    match meta.deletion {
        None => Ok(()),
        Some(_) => Err(Error::new(
            Code::Conflict,
            "BeingDeleted",
            format!("{at} is being deleted"),
        )
        .hint("try again when it is gone")),
    }
}

fn refuse_immutable(at: &ObjectRef, changes: &[Change]) -> Result<()> {
    let fixed: Vec<&str> = changes
        .iter()
        .filter(|c| c.action == Action::Immutable)
        .map(|c| c.text.as_str())
        .collect();
    if fixed.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Code::Conflict,
        "ImmutableField",
        format!(
            "{at}: cannot be changed after creation: {}",
            fixed.join("; ")
        ),
    )
    .hint("delete the object and apply it again"))
}

fn empty_scope(at: &ObjectRef) -> AnyObject {
    match at {
        ObjectRef::Realm(at) => AnyObject::Realm(Realm {
            at: at.clone(),
            meta: Meta::default(),
            spec: Default::default(),
            status: Default::default(),
        }),
        ObjectRef::Space(at) => AnyObject::Space(Space {
            at: at.clone(),
            meta: Meta::default(),
            spec: Default::default(),
            status: Default::default(),
        }),
        ObjectRef::Stack(at) => AnyObject::Stack(Stack {
            at: at.clone(),
            meta: Meta::default(),
            status: Default::default(),
        }),
        ObjectRef::Cell(at) => AnyObject::Cell(Cell {
            at: at.clone(),
            meta: Meta::default(),
            spec: Default::default(),
            status: Default::default(),
        }),
    }
}

pub(super) fn meta_mut(object: &mut AnyObject) -> &mut Meta {
    match object {
        AnyObject::Realm(o) => &mut o.meta,
        AnyObject::Space(o) => &mut o.meta,
        AnyObject::Stack(o) => &mut o.meta,
        AnyObject::Cell(o) => &mut o.meta,
        AnyObject::Container(o) => &mut o.meta,
    }
}

fn stamp_new(meta: &mut Meta) {
    meta.generation = 1;
    meta.uid = uuid::Uuid::new_v4().to_string();
    meta.created_at = Some(jiff::Timestamp::now());
    meta.deletion = None;
}
