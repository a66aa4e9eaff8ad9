//! Applying secrets and volumes.

use super::*;
use crate::model::{KeptRef, Reclaim};

impl Controller {
    pub(super) async fn apply_kept(
        &self,
        mut wanted: AnyObject,
        at: &KeptRef,
        mode: Mode,
    ) -> Result<Applied> {
        let object = ObjectRef::from(at.clone());
        let _lock = self
            .store
            .lock(&object, LockMode::Exclusive, LOCK_WAIT)
            .await?;
        self.refuse_if_parent_goes(&object)?;
        let mut current = self.stored(&object)?;
        if let Some(expected) = mode.expected {
            let now = current.as_ref().map(AnyObject::meta);
            let as_seen = |m: &&Meta| m.deletion.is_none() && m.generation == expected;
            now.filter(as_seen).ok_or_else(|| Error::changed(&object))?;
        }
        if mode.create_only && current.is_some() {
            return Err(exists(&object));
        }
        if current
            .as_ref()
            .is_some_and(|c| c.meta().deletion.is_some())
            && !mode.dry_run
        {
            // Whoever began with it holds the lock no more.
            self.store.remove(&object)?;
            current = None;
        }
        let Some(current) = current else {
            if !mode.dry_run {
                stamp_new(meta_mut(&mut wanted));
                self.put(&wanted)?;
            }
            return Ok(Applied::new("created", Vec::new(), Vec::new()));
        };
        apply::inherit(&current, &mut wanted);
        let changes = match (&current, &wanted) {
            (AnyObject::Volume(a), AnyObject::Volume(b)) => apply::diff_volume(a, b),
            (AnyObject::Secret(a), AnyObject::Secret(b)) => apply::diff_secret(a, b),
            _ => Vec::new(),
        };
        if changes.is_empty() {
            return Ok(Applied::new("unchanged", Vec::new(), Vec::new()));
        }
        if !mode.dry_run {
            // Also the version of a secret's value, so labels do not count.
            let respec = changes.iter().any(|c| c.path.starts_with("spec."));
            meta_mut(&mut wanted).generation += i64::from(respec);
            self.put(&wanted)?;
            if respec && at.kind == KeptKind::Secret && self.is_live() {
                // Their status tells that they have an old value.
                for cell in self.readable_users_of(at)? {
                    self.queue.add(cell.into());
                }
            }
        }
        Ok(Applied::new("updated", texts(&changes), Vec::new()))
    }

    /// Makes the volumes that a cell wants made. Returns those that were not
    /// there, for [`Controller::take_volumes_back`].
    pub(super) async fn ensure_volumes(&self, cell: &Cell, mode: Mode) -> Result<Vec<KeptRef>> {
        let missing = self.volumes_to_make(cell)?;
        let mut made = Vec::new();
        for at in missing {
            let volume = AnyObject::Volume(Volume {
                at: at.clone(),
                meta: Meta::default(),
                reclaim: Reclaim::Delete,
                path: String::new(),
            });
            let mode = Mode {
                create_only: false,
                // It was asked of the cell.
                expected: None,
                ..mode
            };
            if self.apply_kept(volume, &at, mode).await?.action == "created" {
                made.push(at);
            }
        }
        Ok(made)
    }

    /// Removes volumes again that were made for a cell which then failed, unless
    /// somebody uses them by now.
    pub(super) async fn take_volumes_back(&self, made: &[KeptRef]) {
        for at in made {
            let object = ObjectRef::from(at.clone());
            let removed = async {
                let _lock = self
                    .store
                    .lock(&object, LockMode::Exclusive, LOCK_WAIT)
                    .await?;
                match self.users_of(at)?.is_empty() {
                    true => Ok(self.store.remove(&object)?),
                    false => Ok::<(), Error>(()),
                }
            };
            if let Err(error) = removed.await {
                tracing::warn!(volume = %at, %error, "made for a cell that failed, and left in place");
            }
        }
    }
}
