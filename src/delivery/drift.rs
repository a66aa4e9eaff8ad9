//! Looks at what came to rest: whether the target still holds what the artifact
//! says, and whether what failed is better by now (delivery spec, 7.1, step 8).

use std::time::Duration;

use jiff::Timestamp;

use super::Delivery;
use super::fault::Result;
use super::serving::{reason_of, set};
use super::target::{self, Activation, Gate, Health, Target};
use super::work::Next;
use crate::model::delivery::{
    ConditionStatus, ConditionType, Recipe, Serving, ServingPhase, TargetType,
};

impl Delivery {
    /// What is on the target and differs from what is active.
    pub(super) async fn drift(&self, serving: &Serving, recipe: &Recipe) -> Result<Vec<String>> {
        let activation = self.activation(serving, Some(recipe)).await?;
        Ok(self.targets.observe(&activation).await?.drift)
    }

    /// What is deployed is compared with the artifact, and put back (7.1, step 8).
    pub(super) async fn check_drift(
        &self,
        serving: &Serving,
        activation: &Activation,
        target: &dyn Target,
    ) -> Result<Next> {
        let observed = target.observe(activation).await?;
        let heals = target::self_heals(&activation.target);
        let drifted = !observed.synced && !observed.drift.is_empty();
        let (status, reason, message) = match drifted {
            true => (ConditionStatus::False, "Drifted", observed.drift.join("; ")),
            false => {
                let message = format!("{} is healthy", activation.preparation);
                (ConditionStatus::True, "Synced", message)
            }
        };
        let health = match &observed.health {
            Health::Ready(_) => (
                ConditionStatus::True,
                "Healthy",
                message_healthy(activation),
            ),
            // It says nothing bad of what runs: a look at a registry, for example.
            Health::Waiting(what) if activation.target.kind == TargetType::ArgoCd => {
                (ConditionStatus::Unknown, "Progressing", what.clone())
            }
            Health::Waiting(what) | Health::Degraded(what) => {
                (ConditionStatus::False, "Degraded", what.clone())
            }
            Health::Failed(reason, what) => (ConditionStatus::False, reason.as_str(), what.clone()),
        };
        let lasting = self.transact(|| {
            let Some(mut now) = self.same(serving)? else {
                return Ok((Vec::new(), None));
            };
            set(&mut now, ConditionType::Synced, status, reason, &message);
            let (status, reason, message) = &health;
            set(&mut now, ConditionType::Healthy, *status, reason, message);
            let (status, ready) = match status {
                ConditionStatus::True => (*status, "Deployed"),
                _ => (ConditionStatus::False, *reason),
            };
            set(&mut now, ConditionType::Ready, status, ready, message);
            // What can be put back is not given up.
            let left = patience(&now, activation).filter(|_| !(drifted && heals));
            if left == Some(Duration::ZERO) {
                fail(&mut now, activation, message);
            }
            Ok((vec![now.into()], left))
        })?;
        if lasting == Some(Duration::ZERO) {
            return Ok(Next::Rest);
        }
        // Work outstanding from a Menu's run: what it left is pruned now.
        let outstanding = serving.status.lock.is_none()
            && observed.synced
            && target.plan(activation).await.is_ok_and(|plan| {
                let prunes = |o: &target::Planned| o.action == target::Action::Prune;
                plan.objects.iter().any(prunes)
            });
        if outstanding {
            return self.passed(serving, activation, target).await;
        }
        if drifted && heals {
            super::STEP.hit();
            target.apply(activation).await?;
            super::STEP.hit();
            tracing::info!(object = %serving.at(), %message, "put back what drifted");
            return Ok(Next::Soon(Duration::from_millis(100)));
        }
        Ok(match lasting {
            Some(left) => Next::Rest.or_after(left),
            None => Next::Rest,
        })
    }

    /// Whether a Serving that failed is worth another attempt.
    pub(super) async fn looks_better(
        &self,
        serving: &Serving,
        activation: &Activation,
        target: &dyn Target,
    ) -> bool {
        match reason_of(serving) {
            "Unhealthy" | "HealthTimeout" => {
                let Ok(observed) = target.observe(activation).await else {
                    return false;
                };
                // It worked, and somebody changed or deleted it since.
                let worked = serving.status.observed_preparation.as_ref();
                let worked = worked == Some(&serving.spec.preparation);
                let heals = worked && target::self_heals(&activation.target);
                (observed.synced && matches!(observed.health, Health::Ready(_)))
                    || (heals && !observed.synced && !observed.drift.is_empty())
            }
            "OptInRequired" | "ArgoCDUnavailable" | "ManifestInvalid" | "DeploymentFailed" => {
                target.plan(activation).await.is_ok()
            }
            _ => true,
        }
    }
}

/// How much longer a deployed workload of a cluster may be ill until it has failed
/// (delivery spec, 7.2: degraded past `waitTimeout`); none while it is well. What
/// is on this machine is the business of its own restart policies.
fn patience(serving: &Serving, activation: &Activation) -> Option<Duration> {
    if activation.target.kind != TargetType::ArgoCd {
        return None;
    }
    let healthy = serving.status.conditions.get(ConditionType::Healthy)?;
    if healthy.status != ConditionStatus::False {
        return None;
    }
    let ill = Timestamp::now().duration_since(healthy.last_transition?);
    let ill = Duration::try_from(ill).unwrap_or_default();
    Some(Gate::of(&activation.target).timeout.saturating_sub(ill))
}

/// It is left alone until it looks better. Nothing goes back by itself: it was
/// healthy with this very Preparation.
fn fail(serving: &mut Serving, activation: &Activation, what: &str) {
    let seconds = Gate::of(&activation.target).timeout.as_secs_f32();
    let message = format!("not healthy for {seconds} s: {what}");
    let reason = target::Reason::HealthTimeout.as_str();
    serving.status.phase = ServingPhase::Failed;
    for kind in [ConditionType::Ready, ConditionType::Healthy] {
        set(serving, kind, ConditionStatus::False, reason, &message);
    }
}

fn message_healthy(activation: &Activation) -> String {
    format!("{} is healthy", activation.preparation)
}
