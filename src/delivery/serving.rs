//! The Serving controller: from the pointer to a healthy target (delivery spec,
//! section 7).

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Delivery;
use super::fault::{Fault, Result};
use super::target::{self, Activation, Gate, Health, Target};
use super::work::Next;
use crate::model::delivery::{
    ConditionStatus, ConditionType, Preparation, Recipe, ReleaseKind, ReleaseRef, Resource,
    Serving, ServingPhase,
};

/// Longest time between two looks at what is on its way.
pub(super) const LOOK: Duration = Duration::from_secs(2);
/// How often an absent Argo CD is asked for.
pub(super) const PROBE: Duration = Duration::from_secs(30);

/// Reason of a cluster that does not answer, or has no Argo CD.
pub(super) const ARGOCD_UNAVAILABLE: &str = target::Reason::ArgoCdUnavailable.as_str();

/// What is known of an activation that waits to become healthy. Kept in memory:
/// after a restart the gate begins anew.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    generation: i64,
    began: Instant,
    healthy_since: Option<Instant>,
    manifest: Vec<u8>,
}

impl Delivery {
    /// Brings one Serving a step further. `force` applies again although
    /// everything is as it should be, and although it failed before.
    pub(super) async fn reconcile_serving(&self, at: &ReleaseRef, force: bool) -> Result<Next> {
        let Some(serving) = self.read::<Serving>(at)? else {
            self.forget(at);
            self.marked.forget(at);
            return Ok(Next::Rest);
        };
        // A Menu's run does the rest itself, in its own order.
        if serving.status.lock.is_some() {
            self.forget(at);
            return Ok(Next::Rest);
        }
        if serving.meta.deletion.is_some() {
            self.forget(at);
            return self.withdraw(&serving).await;
        }
        self.tell_source(&serving)?;
        if let Some(healthy) = serving.status.returns_to.clone().filter(|_| !force) {
            // Whoever told of the failure ended before it went back.
            let (reason, why) = ready_of(&serving);
            return self.go_back(&serving, healthy, reason, why);
        }
        let recipe_at = ReleaseRef::new(ReleaseKind::Recipe, &at.namespace, &serving.spec.recipe);
        let recipe: Option<Recipe> = self.read(&recipe_at)?;
        // While a gate is open, the artifact is not fetched again at every look.
        let known = self.waiting(at, &serving).filter(|_| !force);
        let mut known = known.map(|waiting| waiting.manifest);
        let current = serving.status.observed_generation == serving.meta.generation;
        let deployed = current
            && serving.status.phase == ServingPhase::Deployed
            && serving.status.observed_preparation.as_ref() == Some(&serving.spec.preparation);
        if deployed && known.is_none() {
            known = match self.known_manifest(&serving).await {
                Ok(manifest) => Some(manifest),
                // Nobody knows whether it is still there: what runs well has not
                // failed for it.
                Err(fault) if fault.is_unanswered() => return Err(fault),
                // It is met again below, and told.
                Err(_) => None,
            };
        }
        let activation = self.activation_with(&serving, recipe.as_ref(), known);
        let activation = match activation.await {
            Ok(activation) => activation,
            Err(fault) => return self.failed(&serving, recipe.as_ref(), &fault).await,
        };
        let step = self.step(&serving, &activation, deployed, force).await;
        let next = match step {
            Ok(Next::Rest) if deployed => {
                self.mark_active(at, &activation.artifact).await;
                Next::Rest
            }
            Ok(next) => next,
            // What runs goes on; only a verdict of its target takes it back.
            Err(fault) if deployed && !force && !takes_back(&fault) => return Err(fault),
            Err(fault) => self.failed(&serving, recipe.as_ref(), &fault).await?,
        };
        Ok(match next {
            Next::Rest => self.watch_application(at, &activation),
            Next::Later(due) => match self.watch_application(at, &activation) {
                Next::Later(sooner) if sooner < due => Next::Later(sooner),
                _ => Next::Later(due),
            },
            other => other,
        })
    }

    /// Promotion keeps the source; a Serving of before it did gets it here, once.
    fn tell_source(&self, serving: &Serving) -> Result<()> {
        if !serving.status.source.is_empty() {
            return Ok(());
        }
        // One that is lost is told by what follows.
        let Ok(preparation) = self.pointed_at(serving) else {
            return Ok(());
        };
        let source = preparation.spec.source;
        if source.reference.is_empty() {
            return Ok(());
        }
        self.transact(|| {
            let Some(mut now) = self.same(serving)? else {
                return Ok((Vec::new(), ()));
            };
            now.status.tell_source(&source);
            Ok((vec![now.into()], ()))
        })?;
        Ok(())
    }

    /// What is to be done about a Serving whose activation is known.
    async fn step(
        &self,
        serving: &Serving,
        activation: &Activation,
        deployed: bool,
        force: bool,
    ) -> Result<Next> {
        let target = &self.targets;
        if deployed && !force {
            return self.check_drift(serving, activation, target).await;
        }
        let current = serving.status.observed_generation == serving.meta.generation;
        let failed = current && serving.status.phase == ServingPhase::Failed;
        if failed && !force && self.waiting(&serving.at(), serving).is_none() {
            // What failed is left alone until it looks better by itself.
            if !self.looks_better(serving, activation, target).await {
                return Ok(match reason_of(serving) {
                    ARGOCD_UNAVAILABLE => Next::Rest.or_after(PROBE),
                    _ => Next::Rest,
                });
            }
        }
        self.advance(serving, activation, target, force).await
    }

    /// Everything the target has to know.
    pub(super) async fn activation(
        &self,
        serving: &Serving,
        recipe: Option<&Recipe>,
    ) -> Result<Activation> {
        self.activation_with(serving, recipe, None).await
    }

    /// The same, while another registry need not answer for what was read there
    /// a moment ago.
    pub(super) async fn activation_kept(
        &self,
        serving: &Serving,
        recipe: Option<&Recipe>,
    ) -> Result<Activation> {
        let known = self.known_manifest(serving).await?;
        self.activation_with(serving, recipe, Some(known)).await
    }

    /// The manifest that a Serving points at, as it was read a moment ago or else
    /// from where it is.
    async fn known_manifest(&self, serving: &Serving) -> Result<Vec<u8>> {
        let preparation = self.pointed_at(serving)?;
        if let Some(known) = self.kept.get(&preparation.spec.artifact.digest) {
            return Ok(known);
        }
        self.fetched(&preparation).await
    }

    /// A manifest from where it is. One from another registry is kept for a while;
    /// reading from the embedded one costs little, and shows at once what is lost.
    async fn fetched(&self, preparation: &Preparation) -> Result<Vec<u8>> {
        let artifact = &preparation.spec.artifact;
        let manifest = self.content_of(preparation).await?.into_bytes();
        let place = self.place_of(&preparation.meta.namespace, artifact)?;
        if !place.at.is_local() {
            self.kept.put(&artifact.digest, &manifest);
        }
        Ok(manifest)
    }

    /// The Preparation that a Serving points at.
    fn pointed_at(&self, serving: &Serving) -> Result<Preparation> {
        let at = ReleaseRef::new(
            ReleaseKind::Preparation,
            &serving.meta.namespace,
            &serving.spec.preparation,
        );
        let name = &serving.spec.recipe;
        self.read(&at)?.ok_or_else(|| {
            Fault::new("PreparationNotFound", format!("{at} not found")).hint(format!(
                "activate another with `kuke promote {name}`; `kuke history {name}` lists them"
            ))
        })
    }

    /// The same, with the manifest where it was fetched before.
    async fn activation_with(
        &self,
        serving: &Serving,
        recipe: Option<&Recipe>,
        known: Option<Vec<u8>>,
    ) -> Result<Activation> {
        let preparation = self.pointed_at(serving)?;
        let name = &serving.spec.recipe;
        let manifest = match known {
            Some(known) => known,
            None => self.fetched(&preparation).await.map_err(|fault| {
                fault.passing().hint(format!(
                    "what runs goes on; `kuke recipe refresh {name}` makes the latest again, \
                     `kuke rollback {name}` activates another"
                ))
            })?,
        };
        // What is not part of the artifact follows the Recipe as it is now.
        let effective = recipe.and_then(|recipe| self.effective(recipe).ok());
        let target = effective
            .map(|effective| effective.target)
            .filter(|target| target.kind == preparation.spec.target.kind)
            .unwrap_or_else(|| preparation.spec.target.clone());
        let kitchen = self.kitchen()?;
        Ok(Activation {
            namespace: serving.meta.namespace.clone(),
            recipe: serving.spec.recipe.clone(),
            preparation: preparation.meta.name.clone(),
            artifact: preparation.spec.artifact,
            manifest,
            commit_message: preparation.spec.commit_message,
            target,
            allow_empty: recipe.is_some_and(|recipe| recipe.spec.allow_empty),
            registry_url: kitchen.map(|k| k.spec.registry_url).unwrap_or_default(),
            inventory: serving.status.inventory.clone(),
            defer_prune: serving.status.lock.is_some(),
        })
    }

    /// Applies once, then asks until the gate is passed.
    async fn advance(
        &self,
        serving: &Serving,
        activation: &Activation,
        target: &dyn Target,
        force: bool,
    ) -> Result<Next> {
        let at = serving.at();
        let mut activation = activation.clone();
        let waiting = match self.waiting(&at, serving).filter(|_| !force) {
            Some(waiting) => waiting,
            None => {
                self.hand_over(serving, &mut activation).await?;
                let waiting = Waiting {
                    generation: serving.meta.generation,
                    began: Instant::now(),
                    healthy_since: None,
                    manifest: activation.manifest.clone(),
                };
                self.remember(&at, waiting.clone());
                waiting
            }
        };
        let observed = target.observe(&activation).await?;
        let gate = Gate::of(&activation.target);
        match observed.health {
            Health::Failed(reason, message) => Err(target::Error::new(reason, message).into()),
            Health::Ready(since) if observed.synced || observed.drift.is_empty() => {
                let now = Instant::now();
                let longest = since.map(|since| {
                    let age = Timestamp::now().duration_since(since);
                    Duration::try_from(age).unwrap_or_default()
                });
                let own = waiting.healthy_since.map(|at| now - at).unwrap_or_default();
                let healthy = longest.unwrap_or_default().max(own);
                if healthy >= gate.min_healthy {
                    return self.passed(serving, &activation, target).await;
                }
                self.remember(
                    &at,
                    Waiting {
                        healthy_since: waiting.healthy_since.or(Some(now)),
                        ..waiting
                    },
                );
                Ok(Next::Soon((gate.min_healthy - healthy).min(LOOK)))
            }
            Health::Ready(_) => self.still(&at, waiting, gate, &observed.drift.join("; ")),
            Health::Waiting(what) | Health::Degraded(what) => {
                let next = self.still(&at, waiting, gate, &what)?;
                target.changed(&activation, LOOK).await;
                Ok(next)
            }
        }
    }

    /// Prepares, applies, and persists what may be on the target before and
    /// after. Nothing is pruned.
    pub(super) async fn hand_over(
        &self,
        serving: &Serving,
        activation: &mut Activation,
    ) -> Result<()> {
        let plan = self.targets.prepare(activation).await?;
        let message = format!("applying {}", activation.preparation);
        self.say_deploying(serving, &message, plan.inventory())?;
        super::STEP.hit();
        activation.inventory = plan.inventory();
        let applied = self.targets.apply(activation).await?;
        super::STEP.hit();
        let message = format!("waiting for {}", activation.preparation);
        self.say_deploying(serving, &message, applied.inventory.clone())?;
        activation.inventory = applied.inventory;
        Ok(())
    }

    /// Not there yet: more time, or the end of it.
    fn still(&self, at: &ReleaseRef, waiting: Waiting, gate: Gate, what: &str) -> Result<Next> {
        if waiting.began.elapsed() >= gate.timeout {
            let seconds = gate.timeout.as_secs_f32();
            let message = format!("not healthy within {seconds} s: {what}");
            return Err(target::Error::new(target::Reason::HealthTimeout, message).into());
        }
        self.remember(
            at,
            Waiting {
                healthy_since: None,
                ..waiting
            },
        );
        Ok(Next::Soon(Duration::from_millis(100)))
    }

    /// The gate is passed: prune, then say so.
    pub(super) async fn passed(
        &self,
        serving: &Serving,
        activation: &Activation,
        target: &dyn Target,
    ) -> Result<Next> {
        let inventory = target.prune(activation).await?;
        super::STEP.hit();
        let at = serving.at();
        self.transact(|| {
            let Some(mut now) = self.same(serving)? else {
                return Ok((Vec::new(), ()));
            };
            let status = &mut now.status;
            if status.observed_preparation.as_ref() != Some(&activation.preparation) {
                status.previous_preparation = status.observed_preparation.take();
            }
            status.observed_preparation = Some(activation.preparation.clone());
            status.deployed_digest = Some(activation.artifact.digest.clone());
            status.inventory.clone_from(&inventory);
            status.phase = ServingPhase::Deployed;
            status.observed_generation = now.meta.generation;
            let message = format!("{} is healthy", activation.preparation);
            for (kind, reason) in [
                (ConditionType::Ready, "Deployed"),
                (ConditionType::Synced, "Synced"),
                (ConditionType::Healthy, "Healthy"),
            ] {
                set(&mut now, kind, ConditionStatus::True, reason, &message);
            }
            Ok((vec![now.into()], ()))
        })?;
        self.forget(&at);
        self.mark_active(&at, &activation.artifact).await;
        Ok(Next::Rest)
    }

    /// Persists what may be on the target from now on.
    fn say_deploying(
        &self,
        serving: &Serving,
        message: &str,
        inventory: Vec<Resource>,
    ) -> Result<()> {
        self.transact(|| {
            let Some(mut now) = self.same(serving)? else {
                return Ok((Vec::new(), ()));
            };
            now.status.inventory.clone_from(&inventory);
            now.status.phase = ServingPhase::Deploying;
            now.status.returns_to = None;
            now.status.observed_generation = now.meta.generation;
            let no = ConditionStatus::False;
            set(&mut now, ConditionType::Ready, no, "Deploying", message);
            Ok((vec![now.into()], ()))
        })?;
        Ok(())
    }

    /// The Serving as it is now, if it still wants what was looked at.
    pub(super) fn same(&self, seen: &Serving) -> crate::api::Result<Option<Serving>> {
        let now: Option<Serving> = self.read(&seen.at())?;
        Ok(now.filter(|now| {
            now.meta.uid == seen.meta.uid
                && now.meta.generation == seen.meta.generation
                && now.meta.deletion.is_none()
        }))
    }

    fn waiting(&self, at: &ReleaseRef, serving: &Serving) -> Option<Waiting> {
        let known = self.gates.lock().ok()?.get(at).cloned()?;
        Some(known).filter(|known| known.generation == serving.meta.generation)
    }

    fn remember(&self, at: &ReleaseRef, waiting: Waiting) {
        if let Ok(mut gates) = self.gates.lock() {
            gates.insert(at.clone(), waiting);
        }
    }

    pub(super) fn forget(&self, at: &ReleaseRef) {
        if let Ok(mut gates) = self.gates.lock() {
            gates.remove(at);
        }
    }
}

pub(super) fn set(
    serving: &mut Serving,
    kind: ConditionType,
    status: ConditionStatus,
    reason: &str,
    message: &str,
) {
    let generation = serving.meta.generation;
    let now = Timestamp::now();
    let conditions = &mut serving.status.conditions;
    conditions.set(kind, status, reason, message, generation, now);
}

/// Whether a failure of a look at what is deployed makes it `Failed` (delivery
/// spec, section 11): nobody answers for it, or only a change helps.
fn takes_back(fault: &Fault) -> bool {
    fault.reason == ARGOCD_UNAVAILABLE || !fault.transient
}

/// Reason and message of the condition `Ready`.
pub(super) fn ready_of(serving: &Serving) -> (&str, &str) {
    let ready = serving.status.conditions.get(ConditionType::Ready);
    ready.map_or(("", ""), |c| (&c.reason, &c.message))
}

pub(super) fn reason_of(serving: &Serving) -> &str {
    ready_of(serving).0
}
