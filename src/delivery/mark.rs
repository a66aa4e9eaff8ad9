//! `label` and `annotate` on releases. A mark is no new spec: nothing is rendered.

use super::apply::{keep_approver, only_ours, refuse_deleted};
use super::external::result_for;
use super::{Delivery, namespace};
use crate::api::Result;
use crate::api::v1::{MarkRequest, ResourceResult};
use crate::apply;
use crate::model::delivery::{ReleaseKind, ReleaseRef};
use crate::store::ReleaseChange;

impl Delivery {
    /// Sets and removes marks of one object, as it is in the same transaction.
    pub(super) async fn mark_release(
        &self,
        kind: ReleaseKind,
        request: &MarkRequest,
    ) -> Result<ResourceResult> {
        let scope = request.scope.clone().unwrap_or_default();
        let at = ReleaseRef::new(kind, &namespace(&scope.realm)?, &request.name.parse()?);
        let changes = self.transact(|| {
            let old = self.get(&at)?;
            refuse_deleted(&at, old.meta())?;
            let mut object = old.clone();
            let meta = object.meta_mut();
            let changes = apply::mark(request, &mut meta.labels, &mut meta.annotations)?;
            if kind == ReleaseKind::Preparation {
                only_ours(&at, old.meta(), meta)?;
                keep_approver(old.meta(), meta);
            }
            let put = match request.dry_run || changes.is_empty() {
                true => Vec::new(),
                false => vec![ReleaseChange::Put(object)],
            };
            Ok((put, changes))
        })?;
        if changes.is_empty() {
            return Ok(result_for(&at, "unchanged"));
        }
        if kind == ReleaseKind::Preparation && !request.dry_run {
            // It may be an approval.
            self.approval_may_wait(&at).await?;
        }
        Ok(ResourceResult {
            changes,
            ..result_for(&at, "updated")
        })
    }
}
