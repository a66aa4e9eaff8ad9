//! Objects whose deletion was begun. What is applied comes after it: a deletion
//! that lost its caller is finished first, for perhaps no daemon runs that would
//! ever do so.

use super::*;

impl Controller {
    /// Finishes the deletion of a scope that is applied, or of one above. The
    /// deletion of a cell is finished under the lock of its own apply.
    pub(super) async fn finish_deletion(&self, object: &AnyObject, emit: &Emitter) -> Result<()> {
        let at = object.at();
        let mut marked = None;
        let mut next = if matches!(object, AnyObject::Cell(_)) {
            at.parent()
        } else {
            Some(at)
        };
        while let Some(at) = next {
            next = at.parent();
            if self.is_being_deleted(&at)? {
                // The outermost takes the others along.
                marked = Some(at);
            }
        }
        let Some(at) = marked else { return Ok(()) };
        let request = v1::DeleteRequest {
            cascade: true,
            ..v1::DeleteRequest::default()
        };
        match self.delete_tree(&at, &request, &emit.silent()).await {
            // Somebody else was quicker.
            Err(error) if error.code == Code::NotFound => Ok(()),
            done => done
                .map(drop)
                .map_err(|e| e.context(format!("{at} is being deleted"))),
        }
    }

    /// Whether an object, or a scope above it, is being deleted.
    pub(super) fn goes(&self, at: &ObjectRef) -> Result<bool> {
        let mut next = Some(at.clone());
        while let Some(at) = next {
            if self.is_being_deleted(&at)? {
                return Ok(true);
            }
            next = at.parent();
        }
        Ok(false)
    }

    /// For a deletion that began after [`Controller::finish_deletion`].
    pub(super) fn refuse_if_parent_goes(&self, at: &ObjectRef) -> Result<()> {
        let mut parent = at.parent();
        while let Some(above) = parent {
            if let Some(object) = self.stored(&above)? {
                refuse_deleted(&above, object.meta())?;
            }
            parent = above.parent();
        }
        Ok(())
    }
}

pub(in crate::controller) fn refuse_deleted(at: &ObjectRef, meta: &Meta) -> Result<()> {
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
