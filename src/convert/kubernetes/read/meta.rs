//! Metadata of an object, and the place it gives a cell.

use std::collections::BTreeMap;

use super::super::super::loss::Notes;
use super::super::super::ours::{self, Scope};
use super::super::super::walk::Fields;
use super::super::kept::{self, NAME, SOURCES};
use super::super::pod::REPLACED;
use crate::api::yaml::Position;
use crate::model::{KeptKind, KeptRef, Labels, Name, label};
use crate::scheme;

/// Labels that say where an object lives.
pub(super) const OWNED: &[&str] = &[label::REALM, label::SPACE, label::STACK, label::CELL, NAME];

/// Annotations that tools write for themselves.
const FOREIGN: &[&str] = &[
    "deployment.kubernetes.io/revision",
    "kubectl.kubernetes.io/last-applied-configuration",
];

/// What the server writes.
const SERVER: &[&str] = &[
    "creationTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Metadata of an object.
pub(super) struct Metadata {
    pub at: Position,
    pub text: String,
    pub namespace: String,
    pub labels: Vec<(String, String)>,
    notes: Vec<(String, String)>,
}

impl Metadata {
    /// Takes `metadata`.
    pub(super) fn read(fields: &mut Fields<'_>, notes: &mut Notes) -> Self {
        let path = fields.sub("metadata");
        let Some(value) = fields.take("metadata") else {
            return Self {
                at: fields.at,
                text: String::new(),
                namespace: String::new(),
                labels: Vec::new(),
                notes: Vec::new(),
            };
        };
        let mut fields = Fields::of(notes, value, path);
        let out = Self {
            at: value.at,
            text: fields.text(notes, "name"),
            namespace: fields.text(notes, "namespace"),
            labels: fields.texts(notes, "labels"),
            notes: fields.texts(notes, "annotations"),
        };
        for (key, _) in &out.labels {
            if scheme::is_reserved_label(key) && !OWNED.contains(&key.as_str()) {
                let path = format!("{}.labels.{key}", fields.path);
                let message = format!("the label key {key:?} is reserved for kukeon");
                notes.lost(path, value.at, message, "remove it");
            }
        }
        fields.finish(
            notes,
            SERVER,
            &[
                ("generateName", "write a name"),
                ("finalizers", "remove them"),
                ("ownerReferences", "remove them"),
            ],
        );
        out
    }

    pub(super) fn label(&self, key: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(k, _)| k == key);
        found.map(|(_, value)| value.as_str())
    }

    /// Labels without ours.
    pub(super) fn plain_labels(&self) -> Labels {
        let mut labels = ours::plain_labels(&self.labels, OWNED);
        labels.retain(|key, _| !scheme::is_reserved_label(key));
        labels
    }

    /// Annotations without those of tools.
    pub(super) fn annotations(&self) -> Labels {
        let mut notes = ours::plain_labels(&self.notes, FOREIGN);
        let (key, value) = REPLACED;
        if notes.get(key).is_some_and(|found| found == value) {
            notes.remove(key);
        }
        notes.remove(SOURCES);
        notes
    }

    /// What the workload noted of what it names, by place in its pod.
    pub(super) fn sources(&self) -> BTreeMap<String, String> {
        let noted = self.notes.iter().find(|(key, _)| key == SOURCES);
        noted
            .and_then(|(_, text)| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }

    /// Where a claim or Secret is kept; in the realm when it is not one of ours.
    pub(super) fn kept(&self, notes: &mut Notes, scope: &Scope, kind: KeptKind) -> Option<KeptRef> {
        let mut names = vec![self.realm(notes, scope)?];
        for key in [label::SPACE, label::STACK, label::CELL] {
            match self.label(key).map(str::parse) {
                Some(Ok(name)) if self.label(NAME).is_some() => names.push(name),
                _ => break,
            }
        }
        let text = self.label(NAME).unwrap_or(&self.text);
        let name = named(notes, "metadata.name", self.at, text)?;
        Some(kept::scope_of(names)?.keeps(kind, name))
    }

    /// The object's name as one of ours.
    pub(super) fn name(&self, notes: &mut Notes, instead: Option<&Name>) -> Option<Name> {
        match instead {
            Some(name) => Some(name.clone()),
            None => named(notes, "metadata.name", self.at, &self.text),
        }
    }

    /// The realm it belongs to.
    pub(super) fn realm(&self, notes: &mut Notes, scope: &Scope) -> Option<Name> {
        if let Some(realm) = &scope.realm {
            return Some(realm.clone());
        }
        let text = match (self.label(label::REALM), self.namespace.as_str()) {
            (Some(realm), _) => realm,
            (None, "") => ours::DEFAULT,
            (None, namespace) => namespace,
        };
        named(notes, "metadata.namespace", self.at, text)
    }

    /// Realm, space, stack and cell of a workload.
    pub(super) fn place(&self, notes: &mut Notes, scope: &Scope) -> Option<[Name; 4]> {
        let realm = self.realm(notes, scope);
        let mut part = |key: &str, given: &Option<Name>, otherwise: &str| match given {
            Some(name) => Some(name.clone()),
            None => {
                let text = self.label(key).unwrap_or(otherwise);
                named(notes, "metadata.name", self.at, text)
            }
        };
        let space = part(label::SPACE, &scope.space, ours::DEFAULT);
        let stack = part(label::STACK, &scope.stack, ours::DEFAULT);
        let cell = part(label::CELL, &None, &self.text);
        Some([realm?, space?, stack?, cell?])
    }
}

fn named(notes: &mut Notes, path: &str, at: Position, text: &str) -> Option<Name> {
    match text.parse() {
        Ok(name) => Some(name),
        Err(error) => {
            let error: crate::model::NameError = error;
            notes.error(path, at, "BadName", error.to_string());
            None
        }
    }
}
