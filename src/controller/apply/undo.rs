//! Undoing a change of a cell that failed.

use super::*;

impl Controller {
    /// Undoes a change that failed, and says so in its error. What the change
    /// did not touch runs on; the others are stopped as politely as ever.
    pub(super) async fn put_back(&self, earlier: Cell, error: Error) -> Error {
        let at: ObjectRef = earlier.at.clone().into();
        let stored = self.store.put_cell(&earlier).map_err(Error::from);
        let result = match stored {
            Ok(()) => {
                let options = self.options(None);
                self.reconcile_cell(earlier, &options, &Watch::default())
                    .await
            }
            Err(error) => Err(error),
        };
        let put_back = match &result {
            Ok(outcome) => {
                self.enqueue_again(&at, outcome);
                "the change was undone, the earlier spec put back".to_owned()
            }
            Err(failed) => {
                tracing::warn!(object = %at, error = %failed, "a failed change could not be undone yet");
                self.queue.add(at);
                format!("the change is being undone, which also failed ({failed})")
            }
        };
        error.context(put_back)
    }
}

/// The cell as it was before a change, as a further generation: to be put back
/// should the change fail. It is a run of its own, so that an end in the failed
/// attempt is not taken for one of this; what had ended before stays ended.
pub(in crate::controller) fn earlier(current: Cell, wanted: &Cell, seen: CellStatus) -> Cell {
    let run = current.spec.run_generation;
    let mut cell = current;
    cell.meta.generation = wanted.meta.generation + 1;
    cell.spec.run_generation = wanted.spec.run_generation + 1;
    cell.status = seen;
    for status in &mut cell.status.containers {
        if status.run_generation == run {
            status.run_generation = cell.spec.run_generation;
        }
    }
    cell
}
