//! Conditions, and other parts that several statuses share.

use super::super::check::Words;
use super::{time_text, word_of};
use crate::api::delivery::v1alpha1 as external;
use crate::model::delivery::{Condition, ConditionStatus, ConditionType, Conditions, Resource};

const TYPES: &Words<ConditionType> = &[
    ("Ready", ConditionType::Ready),
    ("SourceResolved", ConditionType::SourceResolved),
    ("Rendered", ConditionType::Rendered),
    ("Stored", ConditionType::Stored),
    ("Synced", ConditionType::Synced),
    ("Healthy", ConditionType::Healthy),
];

const STATUSES: &Words<ConditionStatus> = &[
    ("True", ConditionStatus::True),
    ("False", ConditionStatus::False),
    ("Unknown", ConditionStatus::Unknown),
];

/// The type of a condition as it is written; none when there is no such type.
pub fn condition_type(text: &str) -> Option<ConditionType> {
    lookup(TYPES, text)
}

/// The value that an outside word stands for.
pub(super) fn lookup<T: Copy>(words: &Words<T>, text: &str) -> Option<T> {
    words
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, value)| *value)
}

pub(super) fn conditions_to_model(conditions: Vec<external::Condition>) -> Conditions {
    let known = conditions.into_iter().filter_map(|condition| {
        let external::Condition {
            r#type,
            status,
            reason,
            message,
            observed_generation,
            last_transition_time,
        } = condition;
        Some(Condition {
            kind: lookup(TYPES, &r#type)?,
            status: lookup(STATUSES, &status).unwrap_or_default(),
            reason,
            message,
            observed_generation,
            last_transition: last_transition_time.parse().ok(),
        })
    });
    Conditions(known.collect())
}

pub(super) fn conditions_to_external(conditions: &Conditions) -> Vec<external::Condition> {
    let each = |condition: &Condition| {
        let Condition {
            kind,
            status,
            reason,
            message,
            observed_generation,
            last_transition,
        } = condition;
        external::Condition {
            r#type: word_of(TYPES, kind),
            status: word_of(STATUSES, status),
            reason: reason.clone(),
            message: message.clone(),
            observed_generation: *observed_generation,
            last_transition_time: time_text(*last_transition),
        }
    };
    conditions.0.iter().map(each).collect()
}

pub(super) fn resource_to_model(resource: external::Resource) -> Resource {
    let external::Resource {
        api_version,
        kind,
        name,
        namespace,
        realm,
        space,
        stack,
        cell,
        hash,
        cluster,
    } = resource;
    Resource {
        api_version,
        kind,
        cluster,
        namespace,
        realm,
        space,
        stack,
        cell,
        name,
        hash,
    }
}

pub(super) fn resource_to_external(resource: &Resource) -> external::Resource {
    let Resource {
        api_version,
        kind,
        cluster,
        namespace,
        realm,
        space,
        stack,
        cell,
        name,
        hash,
    } = resource.clone();
    external::Resource {
        api_version,
        kind,
        name,
        namespace,
        realm,
        space,
        stack,
        cell,
        hash,
        cluster,
    }
}
