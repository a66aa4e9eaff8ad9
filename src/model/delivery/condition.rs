//! Conditions: observed aspects of an object, keyed by type.

use jiff::Timestamp;

/// Which aspect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The object is as wanted. Always there.
    Ready,
    /// Recipe: the source was resolved to a content digest.
    SourceResolved,
    /// Recipe: the inputs were rendered.
    Rendered,
    /// Recipe: the artifact is stored.
    Stored,
    /// Serving: the target holds what the artifact says.
    Synced,
    /// Serving: what is on the target is healthy.
    Healthy,
}

/// What was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Not known.
    #[default]
    Unknown,
}

/// One observed aspect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Which.
    pub kind: ConditionType,
    /// What was found.
    pub status: ConditionStatus,
    /// Stable CamelCase reason.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Generation of the spec that was looked at.
    pub observed_generation: i64,
    /// When `status` last changed.
    pub last_transition: Option<Timestamp>,
}

/// The conditions of an object, one per type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions(pub Vec<Condition>);

impl Conditions {
    /// The condition of a type.
    pub fn get(&self, kind: ConditionType) -> Option<&Condition> {
        self.0.iter().find(|c| c.kind == kind)
    }

    /// Whether the condition of a type is there and true.
    pub fn is_true(&self, kind: ConditionType) -> bool {
        self.get(kind)
            .is_some_and(|c| c.status == ConditionStatus::True)
    }

    /// What was seen holds for this generation, too: nothing that it is about changed.
    pub fn holds_for(&mut self, generation: i64) {
        for condition in &mut self.0 {
            condition.observed_generation = generation;
        }
    }

    /// Sets a condition. `lastTransitionTime` moves only when its status flips.
    pub fn set(
        &mut self,
        kind: ConditionType,
        status: ConditionStatus,
        reason: &str,
        message: &str,
        generation: i64,
        now: Timestamp,
    ) {
        let mut condition = Condition {
            kind,
            status,
            reason: reason.to_owned(),
            message: message.to_owned(),
            observed_generation: generation,
            last_transition: Some(now),
        };
        match self.0.iter_mut().find(|c| c.kind == kind) {
            Some(old) => {
                if old.status == status {
                    condition.last_transition = old.last_transition;
                }
                *old = condition;
            }
            None => self.0.push(condition),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_moves_only_when_the_status_flips() {
        let at = |second| Timestamp::new(second, 0).unwrap();
        let ready = ConditionType::Ready;
        let mut all = Conditions::default();
        all.set(ready, ConditionStatus::False, "A", "", 1, at(1));
        all.set(ready, ConditionStatus::False, "B", "x", 2, at(2));
        let found = all.get(ready).unwrap();
        assert_eq!(
            (found.reason.as_str(), found.last_transition),
            ("B", Some(at(1)))
        );
        all.set(ready, ConditionStatus::True, "C", "", 2, at(3));
        assert_eq!(all.get(ready).unwrap().last_transition, Some(at(3)));
        assert_eq!(all.0.len(), 1);
    }
}
