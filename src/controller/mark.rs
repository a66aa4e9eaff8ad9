//! `label` and `annotate`: a change of the store alone. Nothing on the host is asked
//! about or changed.

use super::Controller;
use super::apply::{meta_mut, refuse_deleted};
use super::errors::not_found;
use super::reconcile::LOCK_WAIT;
use super::stream::{object_ref, result_for};
use crate::api::v1::{MarkRequest, ResourceResult};
use crate::api::{Error, Result};
use crate::apply;
use crate::model::{AnyObject, ObjectRef};
use crate::store::LockMode;

impl Controller {
    /// Sets and removes marks of one object, as it is when its turn comes.
    ///
    /// The generation stays: nobody has to act on a mark.
    pub(super) async fn mark_object(&self, request: &MarkRequest) -> Result<ResourceResult> {
        let scope = request.scope.clone().unwrap_or_default();
        if request.kind == "Container" {
            return Err(
                Error::invalid("NotSupported", "a container has no labels of its own")
                    .hint("put them on its cell"),
            );
        }
        let at = object_ref(&request.kind, &request.name, &scope)?;
        let told = |changes: Vec<String>| {
            let action = match changes.is_empty() {
                true => "unchanged",
                false => "updated",
            };
            ResourceResult {
                changes,
                ..result_for(&at, action)
            }
        };
        // Who changes nothing waits for nobody's work on what is below.
        {
            let _lock = self.store.lock(&at, LockMode::Shared, LOCK_WAIT).await?;
            let (_, changes) = self.marked(&at, request)?;
            if changes.is_empty() || request.dry_run {
                return Ok(told(changes));
            }
        }
        let _lock = self.store.lock(&at, LockMode::Exclusive, LOCK_WAIT).await?;
        let (object, changes) = self.marked(&at, request)?;
        if !changes.is_empty() {
            self.put(&object)?;
        }
        Ok(told(changes))
    }

    /// The object as it is stored, with the marks of a request; and what they change.
    fn marked(&self, at: &ObjectRef, request: &MarkRequest) -> Result<(AnyObject, Vec<String>)> {
        let mut object = self.stored(at)?.ok_or_else(|| not_found(at))?;
        refuse_deleted(at, object.meta())?;
        let meta = meta_mut(&mut object);
        let changes = apply::mark(request, &mut meta.labels, &mut meta.annotations)?;
        Ok((object, changes))
    }
}
