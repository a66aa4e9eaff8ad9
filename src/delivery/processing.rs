//! What a Recipe says of itself while it is rendered.

use jiff::Timestamp;

use super::Delivery;
use super::fault::Result;
use crate::model::delivery::{ConditionStatus, ConditionType, Recipe, RecipePhase};

impl Delivery {
    /// A render begins, which may take long. What is observed stays: of this
    /// generation nothing is known yet.
    pub(super) fn say_processing(&self, seen: &Recipe) -> Result<()> {
        self.say(
            seen,
            RecipePhase::Processing,
            "Processing",
            "it is being rendered",
        )
    }

    /// A Recipe that was suspended while it was rendered is no longer at it.
    pub(super) fn let_go(&self, seen: &Recipe) -> Result<()> {
        if seen.status.phase != RecipePhase::Processing {
            return Ok(());
        }
        let why = "it was suspended before it was rendered";
        self.say(seen, RecipePhase::Pending, "Pending", why)
    }

    /// Phase and condition of what is not ready yet.
    fn say(&self, seen: &Recipe, phase: RecipePhase, reason: &str, message: &str) -> Result<()> {
        let at = seen.at();
        self.transact(|| {
            let Some(mut recipe) = self.read::<Recipe>(&at)? else {
                return Ok((Vec::new(), ()));
            };
            if recipe.meta.generation != seen.meta.generation || recipe.meta.deletion.is_some() {
                return Ok((Vec::new(), ()));
            }
            let generation = recipe.meta.generation;
            recipe.status.phase = phase;
            let (ready, no) = (ConditionType::Ready, ConditionStatus::False);
            let conditions = &mut recipe.status.conditions;
            conditions.set(ready, no, reason, message, generation, Timestamp::now());
            Ok((vec![recipe.into()], ()))
        })?;
        Ok(())
    }
}
