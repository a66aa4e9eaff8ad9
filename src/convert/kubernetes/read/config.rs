//! ConfigMaps, Secrets and the logins among them: read for those who refer to them.

use std::cell::Cell;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::super::loss::Notes;
use super::super::super::ours::{Draft, Scope};
use super::super::super::walk::{Fields, join};
use super::super::kept::{self, NAME};
use super::super::realm::read_logins;
use super::Document;
use super::meta::Metadata;
use crate::api::yaml::Position;
use crate::model::{AnyObject, KeptKind, Meta, RealmRef, Secret, SecretText};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Store {
    ConfigMap,
    Secret,
}

impl Store {
    pub(super) fn kind(self) -> &'static str {
        match self {
            Store::ConfigMap => "ConfigMap",
            Store::Secret => "Secret",
        }
    }
}

struct Entry {
    stream: usize,
    title: String,
    at: Position,
    values: Vec<(String, String)>,
    used: Cell<bool>,
}

/// What was read.
#[derive(Default)]
pub(super) struct Config {
    entries: BTreeMap<(Store, String, String), Entry>,
}

impl Config {
    /// Reads a ConfigMap or Secret.
    pub(super) fn read(
        &mut self,
        document: &Document<'_>,
        mut fields: Fields<'_>,
        notes: &mut Notes,
        scope: &Scope,
        draft: &mut Draft,
    ) {
        let store = match document.kind.as_str() {
            "Secret" => Store::Secret,
            _ => Store::ConfigMap,
        };
        let meta = Metadata::read(&mut fields, notes);
        let mut values = fields.texts(notes, "data");
        if store == Store::Secret {
            let kind = fields.text(notes, "type");
            for (key, value) in &mut values {
                let bytes = STANDARD.decode(value.trim()).ok();
                match bytes.and_then(|bytes| String::from_utf8(bytes).ok()) {
                    Some(text) => *value = text,
                    None => {
                        let message = "is not text in base64";
                        notes.error(join("data", key), document.value.at, "BadValue", message);
                    }
                }
            }
            values.extend(fields.texts(notes, "stringData"));
            if kind == "kubernetes.io/dockerconfigjson" {
                let config = values.iter().find(|(key, _)| key == ".dockerconfigjson");
                let logins = config.and_then(|(_, text)| read_logins(text));
                match (logins, meta.realm(notes, scope)) {
                    (Some(logins), Some(realm)) => {
                        let credentials = &mut draft.realm(&RealmRef { realm }).spec.credentials;
                        for login in logins {
                            if !credentials.iter().any(|c| c.server == login.server) {
                                credentials.push(login);
                            }
                        }
                    }
                    (None, _) => {
                        let message = "holds no logins that can be read";
                        notes.error("data", document.value.at, "BadValue", message);
                    }
                    _ => {}
                }
            }
        }
        fields.finish(
            notes,
            &["immutable"],
            &[("binaryData", "mount a host file with a hostPath volume")],
        );
        let place = match store {
            Store::Secret => meta.kept(notes, scope, KeptKind::Secret),
            Store::ConfigMap => None,
        };
        let ours = meta.label(NAME).is_some();
        let (labels, annotations) = (meta.plain_labels(), meta.annotations());
        let key = (store, meta.namespace, meta.text);
        let key_of = key.clone();
        if self.entries.contains_key(&key) {
            let message = format!("the {} {:?} is there twice", store.kind(), key.2);
            notes.error("metadata.name", document.value.at, "Duplicate", message);
        }
        let is_login = values.iter().any(|(key, _)| key == ".dockerconfigjson");
        let is_secret = store == Store::Secret && !is_login;
        if is_secret && let Some(at) = place {
            for (key, value) in &values {
                let name = match (ours, kept::secret_name(&key_of.2, key).parse()) {
                    (true, _) => at.name.clone(),
                    (false, Ok(name)) => name,
                    (false, Err(_)) => continue,
                };
                if value.trim().is_empty() {
                    let message = "a secret has a value that is not blank";
                    let path = join("data", key);
                    notes.lost(path, document.value.at, message, "give it a value");
                    continue;
                }
                draft.kept.push(AnyObject::Secret(Secret {
                    at: at.scope.keeps(KeptKind::Secret, name),
                    meta: Meta {
                        labels: labels.clone(),
                        annotations: annotations.clone(),
                        ..Meta::default()
                    },
                    data: SecretText(value.clone()),
                }));
            }
        }
        self.entries.insert(
            key,
            Entry {
                stream: document.stream,
                title: document.title.clone(),
                at: document.value.at,
                values,
                used: Cell::new(is_login || is_secret),
            },
        );
    }

    /// Notes that something refers to it.
    pub(super) fn touch(&self, store: Store, namespace: &str, name: &str) -> bool {
        self.values(store, namespace, name).is_some()
    }

    /// The values of one.
    pub(super) fn values(
        &self,
        store: Store,
        namespace: &str,
        name: &str,
    ) -> Option<&[(String, String)]> {
        let key = (store, namespace.to_owned(), name.to_owned());
        let entry = self.entries.get(&key)?;
        entry.used.set(true);
        Some(&entry.values)
    }

    /// What nothing refers to would be lost.
    pub(super) fn unused(&self, notes: &mut [Notes]) {
        for ((store, ..), entry) in &self.entries {
            if !entry.used.get() {
                let notes = &mut notes[entry.stream];
                notes.document.clone_from(&entry.title);
                let message = format!("a {} has no equivalent of its own", store.kind());
                let remedy = "refer to it from env or envFrom, or remove it";
                notes.lost("kind", entry.at, message, remedy);
            }
        }
    }
}

/// A ServiceAccount: only that pods pull with its logins is known here.
pub(super) fn account(config: &Config, mut fields: Fields<'_>, notes: &mut Notes) {
    let meta = Metadata::read(&mut fields, notes);
    let secrets = fields.list(notes, "imagePullSecrets");
    logins(config, &meta.namespace, secrets, "imagePullSecrets", notes);
    if meta.text != "default" {
        let remedy = "remove it: there is no cluster to have rights in";
        notes.lost(
            "kind",
            fields.at,
            "an account of its own has no equivalent",
            remedy,
        );
    }
    fields.finish(notes, &["automountServiceAccountToken", "secrets"], &[]);
}

/// References to logins, which became those of the realm.
pub(super) fn logins(
    config: &Config,
    namespace: &str,
    list: &[crate::api::yaml::located::Value],
    path: &str,
    notes: &mut Notes,
) {
    for (i, value) in list.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let mut fields = Fields::of(notes, value, &path);
        let name = fields.text(notes, "name");
        fields.finish(notes, &[], &[]);
        if !config.touch(Store::Secret, namespace, &name) {
            let message = format!("the Secret {name:?} is not in the input");
            let remedy = "add it, or remove this and give the realm registryCredentials";
            notes.lost(path, value.at, message, remedy);
        }
    }
}
