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
        let _lock = self.store.lock(&at, LockMode::Exclusive, LOCK_WAIT).await?;
        let mut object = self.stored(&at)?.ok_or_else(|| not_found(&at))?;
        refuse_deleted(&at, object.meta())?;
        let meta = meta_mut(&mut object);
        let changes = apply::mark(request, &mut meta.labels, &mut meta.annotations)?;
        let action = match changes.is_empty() {
            true => "unchanged",
            false => "updated",
        };
        if !changes.is_empty() && !request.dry_run {
            self.put(&object)?;
        }
        Ok(ResourceResult {
            changes,
            ..result_for(&at, action)
        })
    }
}
