//! A Serving that failed: why is told, and where its Recipe wants that, it goes
//! back to what was healthy (delivery spec, section 7, `onFailure`).

use std::time::Duration;

use super::fault::{Fault, Result};
use super::promote::Promotion;
use super::serving::{ARGOCD_UNAVAILABLE, PROBE, set};
use super::work::Next;
use super::{Delivery, actor};
use crate::model::Name;
use crate::model::delivery::{
    ActivationCause, ConditionStatus, ConditionType, OnFailure, Preparation, Recipe, ReleaseKind,
    ReleaseRef, Serving, ServingPhase,
};

impl Delivery {
    /// Says why it failed, and goes back where that is wanted.
    pub(super) async fn failed(
        &self,
        serving: &Serving,
        recipe: Option<&Recipe>,
        fault: &Fault,
    ) -> Result<Next> {
        let at = serving.at();
        self.forget(&at);
        let gate = is_gate(&fault.reason);
        let mut fault = fault.clone();
        if gate && fault.hint.is_empty() {
            let name = &serving.spec.recipe;
            fault.hint =
                format!("look at `kuke log`, then `kuke rollback {name}` or a new revision");
        }
        let mut healthy = way_back(serving, recipe, &fault.reason);
        if let Some(name) = &healthy
            && let Some(lost) = self.lost(&at.namespace, name).await?
        {
            fault.hint = format!("it does not go back to {name}: {}", lost.text());
            healthy = None;
        }
        self.transact(|| {
            let Some(mut now) = self.same(serving)? else {
                return Ok((Vec::new(), ()));
            };
            now.status.phase = ServingPhase::Failed;
            now.status.observed_generation = now.meta.generation;
            now.status.returns_to.clone_from(&healthy);
            let no = ConditionStatus::False;
            let ready = ConditionType::Ready;
            set(&mut now, ready, no, &fault.reason, &fault.text());
            if gate {
                let healthy = ConditionType::Healthy;
                set(&mut now, healthy, no, &fault.reason, &fault.text());
            }
            if fault.reason == ARGOCD_UNAVAILABLE {
                // What was seen last may hold no longer.
                for kind in [ConditionType::Synced, ConditionType::Healthy] {
                    let unknown = ConditionStatus::Unknown;
                    set(&mut now, kind, unknown, &fault.reason, &fault.text());
                }
            }
            Ok((vec![now.into()], ()))
        })?;
        if let Some(healthy) = healthy {
            return self.go_back(serving, healthy, &fault.reason, &fault.text());
        }
        match fault.reason.as_str() {
            ARGOCD_UNAVAILABLE => Ok(Next::Rest.or_after(PROBE)),
            _ if gate || !fault.transient => Ok(Next::Rest),
            _ => Err(fault),
        }
    }

    /// Points a Serving that failed at what was healthy before. Its history keeps
    /// the reason, which its conditions have until that is deployed.
    pub(super) fn go_back(
        &self,
        serving: &Serving,
        healthy: Name,
        reason: &str,
        why: &str,
    ) -> Result<Next> {
        let promoted = self.promote_to(&Promotion {
            namespace: serving.meta.namespace.clone(),
            recipe: serving.spec.recipe.clone(),
            preparation: healthy,
            expected: Some(serving.spec.preparation.to_string()),
            message: format!("{reason}: {why}"),
            cause: ActivationCause::Failure,
            actor: actor::CONTROLLER.to_owned(),
            dry_run: false,
        });
        match promoted {
            Ok(_) => Ok(Next::Soon(Duration::ZERO)),
            // Somebody chose something else meanwhile.
            Err(error) if matches!(error.reason.as_str(), "CurrentChanged" | "ServingLocked") => {
                Ok(Next::Soon(Duration::ZERO))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Why a Preparation cannot be activated any more. A registry that does not
    /// answer is no reason: it may by then.
    async fn lost(&self, namespace: &Name, name: &Name) -> Result<Option<Fault>> {
        let at = ReleaseRef::new(ReleaseKind::Preparation, namespace, name);
        let Some(preparation) = self.read::<Preparation>(&at)? else {
            let message = format!("{at} not found");
            return Ok(Some(Fault::new("PreparationNotFound", message)));
        };
        let whole = self.whole(&preparation).await;
        Ok(whole.err().filter(|fault| !fault.transient))
    }
}

/// Whether what was applied did not become healthy.
fn is_gate(reason: &str) -> bool {
    matches!(reason, "Unhealthy" | "HealthTimeout")
}

/// What a Serving goes back to that failed for this reason, where its Recipe wants
/// that; none while a Menu holds it.
fn way_back(serving: &Serving, recipe: Option<&Recipe>, reason: &str) -> Option<Name> {
    let wanted = recipe.is_some_and(|r| r.spec.on_failure == OnFailure::Rollback);
    let back = wanted && is_gate(reason) && serving.status.lock.is_none();
    let healthy = serving.status.observed_preparation.clone();
    healthy.filter(|name| back && *name != serving.spec.preparation)
}
