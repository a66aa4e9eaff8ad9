//! Compose files as our documents: the project is a stack, a service is a cell
//! with one container. Follows the compose specification (compose-spec.io).

mod deploy;
mod interpolate;
mod mounts;
mod ports;
mod service;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use super::loss::{Error, Loss, Notes};
use super::ours::{self, DEFAULT, Draft, Scope};
use super::walk::{Fields, join};
use super::{Converted, Result, Source};
use crate::api;
use crate::api::yaml::Position;
use crate::api::yaml::located::{Kind, Stream, Value};
use crate::model::{AnyObject, KeptKind, Meta, Name, ObjectRef, RealmRef, Reclaim, Volume};

pub use words::env_file;

/// A compose file with what it may refer to.
pub struct Project<'a> {
    /// The file.
    pub source: Source<'a>,
    /// Absolute path of the directory that relative paths start from.
    pub directory: &'a str,
    /// Variables for `${NAME}`.
    pub variables: &'a BTreeMap<String, String>,
    /// Reads a file that the project names, by its path as written there.
    pub read: &'a dyn Fn(&str) -> api::Result<String>,
}

/// What services need to know of their project.
struct Reader<'a> {
    realm: Name,
    space: Name,
    stack: Name,
    directory: &'a str,
    variables: &'a BTreeMap<String, String>,
    read: &'a dyn Fn(&str) -> api::Result<String>,
    /// Host directories of volumes that are binds.
    devices: BTreeMap<String, String>,
    /// Our names of volumes that are kept.
    volumes: BTreeMap<String, String>,
    configs: BTreeMap<String, Option<String>>,
    secrets: BTreeMap<String, Option<String>>,
    /// Networks in use, with the first place of each.
    used: BTreeMap<String, Position>,
    draft: Draft,
}

/// Reads a compose file and writes our documents.
///
/// # Errors
/// A file that is no compose file; without `partial` also what has no equivalent.
pub fn from_compose(project: &Project<'_>, scope: &Scope, partial: bool) -> Result<Converted> {
    let (source, bytes) = project.source;
    let mut stream = Stream::read(source, bytes)?;
    let mut notes = Notes::default();
    let mut documents = std::mem::take(&mut stream.documents);
    if documents.len() > 1 {
        let message = "a compose file is one document";
        notes.error("", documents[1].at, "BadYaml", message);
    }
    let mut document = documents.remove(0);
    interpolate::interpolate(&mut document, "", project.variables, &mut notes);
    let objects = read(&document, project, scope, &mut notes);
    if !notes.errors.is_empty() {
        return Err(stream.refuse(&notes.errors).into());
    }
    notes.losses.sort_by_key(|loss| loss.at);
    if !notes.losses.is_empty() && !partial {
        return Err(Error::Input(stream.refuse(&notes.losses)));
    }
    let losses = notes.losses.into_iter().map(|located| Loss {
        located,
        source: source.to_owned(),
    });
    Ok(Converted {
        text: ours::text(&objects)?,
        losses: losses.collect(),
        notes: Vec::new(),
    })
}

fn read(
    document: &Value,
    project: &Project<'_>,
    scope: &Scope,
    notes: &mut Notes,
) -> Vec<crate::model::AnyObject> {
    let mut fields = Fields::of(notes, document, "");
    let given = fields.text(notes, "name");
    let default = || {
        let name: std::result::Result<Name, _> = DEFAULT.parse();
        name.ok()
    };
    let stack = scope.stack.clone().or_else(|| {
        let name = stack_name(project, &given);
        match name.parse() {
            Ok(name) => Some(name),
            Err(_) => {
                let message = format!("{name:?} cannot be the name of a stack");
                notes
                    .error("name", document.at, "BadName", message)
                    .suggestion = "give the project a name, or use --stack".to_owned();
                None
            }
        }
    });
    let realm = scope.realm.clone().or_else(default);
    let space = scope.space.clone().or_else(default);
    let (Some(realm), Some(space), Some(stack)) = (realm, space, stack) else {
        return Vec::new();
    };
    let mut reader = Reader {
        realm,
        space,
        stack,
        directory: project.directory,
        variables: project.variables,
        read: project.read,
        devices: BTreeMap::new(),
        volumes: BTreeMap::new(),
        configs: BTreeMap::new(),
        secrets: BTreeMap::new(),
        used: BTreeMap::new(),
        draft: Draft::default(),
    };
    if let Some(value) = fields.take("volumes") {
        reader.named_volumes(value, notes);
    }
    for key in ["configs", "secrets"] {
        if let Some(value) = fields.take(key) {
            let files = reader.files(key, value, notes);
            match key {
                "configs" => reader.configs = files,
                _ => reader.secrets = files,
            }
        }
    }
    if let Some(value) = fields.take("networks") {
        top_networks(value, notes);
    }
    let services = fields.take("services");
    fields.skip_extensions();
    fields.finish(
        notes,
        &["version"],
        &[
            (
                "include",
                "run `docker compose config` and convert what it prints",
            ),
            ("models", "remove it"),
        ],
    );
    let Some(services) = services else {
        notes.error("services", document.at, "MissingField", "is required");
        return Vec::new();
    };
    let Kind::Map(entries) = &services.kind else {
        super::walk::wrong(notes, "services", services, "a mapping");
        return Vec::new();
    };
    for entry in entries {
        service::read(&mut reader, entry, notes);
    }
    notes.document.clear();
    if entries.len() > 1 {
        notes.lost(
            "services",
            services.at,
            "services do not find each other by name: cells have no name service yet",
            "use the addresses that `kuke get cells` shows, or put the containers into one Cell, where they share localhost",
        );
    }
    if reader.used.len() > 1 {
        let names: Vec<&str> = reader.used.keys().map(String::as_str).collect();
        let at = reader.used.values().max().copied().unwrap_or(services.at);
        notes.lost(
            "networks",
            at,
            format!(
                "services on {} would not be kept apart: a space is one network",
                names.join(", ")
            ),
            "use one network, or a file and --space for each",
        );
    }
    reader.draft.finish()
}

/// Name of the project as compose finds it, as a name of ours.
fn stack_name(project: &Project<'_>, given: &str) -> String {
    let from_environment = project.variables.get("COMPOSE_PROJECT_NAME");
    let directory = project.directory.trim_end_matches('/').rsplit('/').next();
    let name = match (from_environment, given) {
        (Some(name), _) if !name.is_empty() => name.as_str(),
        (_, "") => directory.unwrap_or_default(),
        (_, given) => given,
    };
    let name: String = name
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    name.trim_matches('-').to_owned()
}

/// What a top-level network says beyond its name has no equivalent.
fn top_networks(value: &Value, notes: &mut Notes) {
    for entry in Fields::of(notes, value, "networks").rest() {
        let path = join("networks", &entry.key);
        let mut network = Fields::of(notes, &entry.value, &path);
        let driver = network.text(notes, "driver");
        if !matches!(driver.as_str(), "" | "bridge" | "default") {
            let message = format!("the driver {driver:?} has no equivalent");
            notes.lost(network.sub("driver"), entry.at, message, "remove it");
        }
        for key in ["external", "internal", "enable_ipv6"] {
            if network.bool(notes, key) == Some(true) {
                notes.lost(network.sub(key), entry.at, "has no equivalent", "remove it");
            }
        }
        network.skip_extensions();
        let remedy = "remove it: a space chooses its addresses itself";
        network.finish(
            notes,
            &["name", "attachable", "labels", "enable_ipv4"],
            &[("ipam", remedy), ("driver_opts", remedy)],
        );
    }
}

impl Reader<'_> {
    /// Absolute path of a path as written in the file.
    fn host_path(&self, text: &str) -> String {
        let home = self.variables.get("HOME").map_or("/root", String::as_str);
        let joined = match text.strip_prefix('~') {
            Some(rest) => format!("{home}{rest}"),
            None if text.starts_with('/') => text.to_owned(),
            None => format!("{}/{text}", self.directory),
        };
        let mut parts: Vec<&str> = Vec::new();
        for part in joined.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        format!("/{}", parts.join("/"))
    }

    /// Volumes that are a directory of the host, and those that are kept.
    fn named_volumes(&mut self, value: &Value, notes: &mut Notes) {
        for entry in Fields::of(notes, value, "volumes").rest() {
            let option = |key: &str| {
                let options = entry.value.get("driver_opts")?;
                options.get(key).and_then(Value::text)
            };
            let is_bind =
                option("o").is_some_and(|o| o.split(',').any(|o| o == "bind" || o == "rbind"));
            if let (true, Some(device)) = (is_bind, option("device")) {
                let path = self.host_path(device);
                self.devices.insert(entry.key.clone(), path);
                continue;
            }
            let path = join("volumes", &entry.key);
            let mut fields = Fields::of(notes, &entry.value, &path);
            let driver = fields.text(notes, "driver");
            if !matches!(driver.as_str(), "" | "local") {
                let message = format!("the driver {driver:?} has no equivalent");
                notes.lost(fields.sub("driver"), entry.at, message, "remove it");
            }
            if fields.bool(notes, "external") == Some(true) {
                let message = "a volume that is there already is not taken over";
                let remedy = "copy its content into the new one";
                notes.lost(fields.sub("external"), entry.at, message, remedy);
            }
            fields.skip_extensions();
            let options = [("driver_opts", "mount it on the host, and that directory")];
            fields.finish(notes, &["name", "labels"], &options);
            let plain = |c: char| match c.is_ascii_alphanumeric() {
                true => c.to_ascii_lowercase(),
                false => '-',
            };
            let name: String = entry.key.chars().map(plain).collect();
            let Ok(name) = name.trim_matches('-').parse::<Name>() else {
                let message = format!("{:?} cannot be the name of a Volume", entry.key);
                notes.error(path, entry.at, "BadName", message);
                continue;
            };
            self.volumes.insert(entry.key.clone(), name.to_string());
            let realm = RealmRef {
                realm: self.realm.clone(),
            };
            let stack = realm.space(self.space.clone()).stack(self.stack.clone());
            self.draft.kept.push(AnyObject::Volume(Volume {
                at: ObjectRef::from(stack).keeps(KeptKind::Volume, name),
                meta: Meta::default(),
                reclaim: Reclaim::Delete,
                path: String::new(),
            }));
        }
    }

    /// Top-level `configs` or `secrets`: those that are files.
    fn files(
        &self,
        key: &'static str,
        value: &Value,
        notes: &mut Notes,
    ) -> BTreeMap<String, Option<String>> {
        let mut out = BTreeMap::new();
        for entry in Fields::of(notes, value, key).rest() {
            let mut fields = Fields::of(notes, &entry.value, join(key, &entry.key));
            let file = fields.text(notes, "file");
            fields.skip_extensions();
            let remedy = "write it to a file beside the compose file and name it with file";
            fields.finish(
                notes,
                &["name", "labels"],
                &[
                    ("content", remedy),
                    ("driver", remedy),
                    ("driver_opts", remedy),
                    ("environment", remedy),
                    ("external", remedy),
                    ("template_driver", remedy),
                ],
            );
            let path = Some(file).filter(|f| !f.is_empty());
            out.insert(entry.key.clone(), path.map(|f| self.host_path(&f)));
        }
        out
    }

    /// `networks:` of a service: all of the project share the space's.
    fn networks(&mut self, fields: &mut Fields<'_>, host: bool, notes: &mut Notes) {
        let path = fields.sub("networks");
        let mut names: BTreeSet<(String, Position)> = BTreeSet::new();
        match fields.take("networks") {
            None if host => {}
            None => {
                names.insert((DEFAULT.to_owned(), fields.at));
            }
            Some(value) => match &value.kind {
                Kind::Map(entries) => {
                    for entry in entries {
                        names.insert((entry.key.clone(), entry.at));
                        let options = Fields::of(notes, &entry.value, join(&path, &entry.key));
                        let remedy = "remove it";
                        options.finish(
                            notes,
                            &["priority", "gw_priority"],
                            &[
                                ("aliases", "use the name of the service"),
                                ("driver_opts", remedy),
                                ("interface_name", remedy),
                                ("ipv4_address", remedy),
                                ("ipv6_address", remedy),
                                ("link_local_ips", remedy),
                                ("mac_address", remedy),
                            ],
                        );
                    }
                }
                _ => {
                    for name in super::walk::strings(notes, value, &path) {
                        names.insert((name, value.at));
                    }
                }
            },
        }
        for (name, at) in names {
            self.used.entry(name).or_insert(at);
        }
    }
}
