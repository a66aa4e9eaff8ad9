//! The Pantry controller: whether its repository answers with its login.

use jiff::Timestamp;

use super::Delivery;
use super::fault::{Fault, Result};
use super::recipe::access;
use super::work::Next;
use crate::model::delivery::{ConditionStatus, ConditionType, Pantry, PantryPhase, ReleaseRef};
use crate::registry::client::{Error, Location, Registry};

impl Delivery {
    /// Asks the repository itself, which needs no rights beyond it.
    pub(super) async fn reconcile_pantry(&self, at: &ReleaseRef) -> Result<Next> {
        let Some(pantry) = self.read::<Pantry>(at)? else {
            return Ok(Next::Rest);
        };
        let fault = match pantry.spec.oci.is_local() {
            true => None,
            false => probe(&pantry).await.err(),
        };
        self.transact(|| {
            let Some(mut now) = self.read::<Pantry>(at)? else {
                return Ok((Vec::new(), ()));
            };
            if now.meta.generation != pantry.meta.generation {
                return Ok((Vec::new(), ()));
            }
            let (phase, status, reason, message) = match &fault {
                None => {
                    let message = format!("{} answers", pantry.spec.oci);
                    (
                        PantryPhase::Ready,
                        ConditionStatus::True,
                        "Reachable",
                        message,
                    )
                }
                Some(fault) => {
                    let no = ConditionStatus::False;
                    (PantryPhase::Failed, no, &*fault.reason, fault.text())
                }
            };
            let generation = now.meta.generation;
            now.status.phase = phase;
            now.status.observed_generation = generation;
            let conditions = &mut now.status.conditions;
            let at = Timestamp::now();
            conditions.set(
                ConditionType::Ready,
                status,
                reason,
                &message,
                generation,
                at,
            );
            Ok((vec![now.into()], ()))
        })?;
        match fault {
            Some(fault) if fault.transient => Err(fault),
            _ => Ok(Next::Rest),
        }
    }
}

async fn probe(pantry: &Pantry) -> Result<()> {
    let oci = &pantry.spec.oci;
    let location = Location {
        host: oci.host.clone(),
        repository: oci.repository.clone(),
        shown: oci.to_string(),
    };
    let registry = Registry::new(location, access(&pantry.spec));
    match registry.tags().await {
        // Nothing was pushed yet; the registry and the login are good.
        Ok(_) | Err(Error::NotFound(_)) => Ok(()),
        Err(error @ Error::Unauthorized { .. }) => {
            Err(Fault::new("Unauthorized", error.to_string())
                .hint("check username and password of the Pantry"))
        }
        Err(error) => Err(Fault::new("Unreachable", error.to_string()).passing()),
    }
}
