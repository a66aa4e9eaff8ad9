//! Looks at what came to rest: whether the target still holds what the artifact
//! says, and whether what failed is better by now (delivery spec, 7.1, step 8).

use std::time::Duration;

use super::Delivery;
use super::fault::Result;
use super::serving::{reason_of, set};
use super::target::{self, Activation, Health, Target};
use super::work::Next;
use crate::model::delivery::{ConditionStatus, ConditionType, Recipe, Serving};

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
            Health::Waiting(what) => (ConditionStatus::False, "Degraded", what.clone()),
            Health::Failed(reason, what) => (ConditionStatus::False, reason.as_str(), what.clone()),
        };
        self.transact(|| {
            let Some(mut now) = self.same(serving)? else {
                return Ok((Vec::new(), ()));
            };
            set(&mut now, ConditionType::Synced, status, reason, &message);
            let (status, reason, message) = &health;
            set(&mut now, ConditionType::Healthy, *status, reason, message);
            let ready = match status {
                ConditionStatus::True => "Deployed",
                _ => reason,
            };
            set(&mut now, ConditionType::Ready, *status, ready, message);
            Ok((vec![now.into()], ()))
        })?;
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
        Ok(Next::Rest)
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
                let observed = target.observe(activation).await;
                observed.is_ok_and(|o| o.synced && matches!(o.health, Health::Ready(_)))
            }
            "OptInRequired" | "ArgoCDUnavailable" | "ManifestInvalid" | "DeploymentFailed" => {
                target.plan(activation).await.is_ok()
            }
            _ => true,
        }
    }
}

fn message_healthy(activation: &Activation) -> String {
    format!("{} is healthy", activation.preparation)
}
