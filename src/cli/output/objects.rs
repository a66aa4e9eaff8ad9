//! Objects as rows of a table, as documents, and as names.

use jiff::Timestamp;

use super::{Format, Out, releases, table};
use crate::api::v1::Object;
use crate::api::v1::object::Object as Any;
use crate::api::v1beta1::{
    Cell, CellSpec, Container, Metadata, NetworkStatus, Realm, Secret, Space, Stack, Usage, Volume,
};
use crate::cli::age;
use crate::cli::failure::Failure;
use crate::cli::kind::Kind;

/// Prints a list: an array of documents, names, or a table.
///
/// # Errors
/// See [`Out::line`].
pub fn list(
    out: &Out,
    format: Format,
    kind: Kind,
    objects: &[Object],
    headers: bool,
) -> Result<(), Failure> {
    match format {
        Format::Json | Format::Yaml => out.structured(format, &objects),
        Format::Name => objects
            .iter()
            .try_for_each(|object| out.line(format_args!("{}/{}", kind.singular(), name(object)))),
        Format::Table | Format::Wide if objects.is_empty() => {
            out.line(format_args!("No {} found.", kind.plural()))
        }
        Format::Table | Format::Wide => {
            let wide = format == Format::Wide;
            let now = Timestamp::now();
            let rows: Vec<_> = objects
                .iter()
                .map(|object| row(object, wide, now))
                .collect();
            table::print(out, header(kind, wide), &rows, headers)
        }
    }
}

/// Prints one object: its document, its name, or a table of one row.
///
/// # Errors
/// See [`Out::line`].
pub fn single(
    out: &Out,
    format: Format,
    kind: Kind,
    object: &Object,
    headers: bool,
) -> Result<(), Failure> {
    if format.is_structured() {
        return out.structured(format, object);
    }
    list(out, format, kind, std::slice::from_ref(object), headers)
}

/// Titles of the columns of a kind.
pub fn header(kind: Kind, wide: bool) -> &'static [&'static str] {
    match (kind, wide) {
        (Kind::Realm, false) => &["NAME", "STATE", "AGE"],
        (Kind::Realm, true) => &["NAME", "STATE", "AGE", "NAMESPACE"],
        (Kind::Space, false) => &["NAME", "REALM", "STATE", "AGE"],
        (Kind::Space, true) => &["NAME", "REALM", "STATE", "AGE", "SUBNET", "BRIDGE"],
        (Kind::Stack, false) => &["NAME", "REALM", "SPACE", "STATE", "AGE"],
        (Kind::Stack, true) => &["NAME", "REALM", "SPACE", "STATE", "AGE", "CGROUP"],
        (Kind::Cell, false) => &["NAME", "REALM", "SPACE", "STACK", "STATE", "SYNC", "AGE"],
        (Kind::Cell, true) => &[
            "NAME",
            "REALM",
            "SPACE",
            "STACK",
            "STATE",
            "SYNC",
            "AGE",
            "CONTAINERS",
            "ADDRESS",
            "BRIDGE",
            "MEMORY",
            "CPU",
        ],
        (Kind::Container, false) => &[
            "NAME", "REALM", "SPACE", "STACK", "CELL", "STATE", "RESTARTS", "AGE",
        ],
        (Kind::Container, true) => &[
            "NAME", "REALM", "SPACE", "STACK", "CELL", "STATE", "RESTARTS", "AGE", "IMAGE", "EXIT",
            "MEMORY", "CPU",
        ],
        (Kind::Volume, false) => &["NAME", "REALM", "SPACE", "STACK", "AGE"],
        (Kind::Volume, true) => &["NAME", "REALM", "SPACE", "STACK", "AGE", "RECLAIM", "PATH"],
        (Kind::Secret, _) => &["NAME", "REALM", "SPACE", "STACK", "CELL", "AGE"],
        (Kind::Image, false) => &["NAME", "REALM", "SIZE", "AGE"],
        (Kind::Image, true) => &["NAME", "REALM", "SIZE", "AGE", "CREATED", "DIGEST"],
        _ => releases::header(kind, wide),
    }
}

/// An object as a row of them.
pub fn row(object: &Object, wide: bool, now: Timestamp) -> Vec<String> {
    let (mut cells, more) = match &object.object {
        Some(Any::Realm(realm)) => realm_row(realm, now),
        Some(Any::Space(space)) => space_row(space, now),
        Some(Any::Stack(stack)) => stack_row(stack, now),
        Some(Any::Cell(cell)) => cell_row(cell, now),
        Some(Any::Container(container)) => container_row(container, now),
        Some(Any::Volume(volume)) => volume_row(volume, now),
        Some(Any::Secret(secret)) => secret_row(secret, now),
        Some(release) => releases::row(release, now),
        None => Default::default(),
    };
    if wide {
        cells.extend(more);
    }
    cells
}

/// The columns of a table, and what wide adds.
pub(super) type Columns = (Vec<String>, Vec<String>);

fn realm_row(realm: &Realm, now: Timestamp) -> Columns {
    let status = realm.status.clone().unwrap_or_default();
    let meta = meta(&realm.metadata);
    let cells = vec![meta.name.clone(), state(&status.state), age_of(&meta, now)];
    (cells, vec![status.namespace])
}

fn space_row(space: &Space, now: Timestamp) -> Columns {
    let spec = space.spec.clone().unwrap_or_default();
    let status = space.status.clone().unwrap_or_default();
    let network = status.network.unwrap_or_default();
    let meta = meta(&space.metadata);
    let cells = vec![
        meta.name.clone(),
        spec.realm_id,
        state(&status.state),
        age_of(&meta, now),
    ];
    (cells, vec![network.subnet, network.bridge])
}

fn stack_row(stack: &Stack, now: Timestamp) -> Columns {
    let spec = stack.spec.clone().unwrap_or_default();
    let status = stack.status.clone().unwrap_or_default();
    let meta = meta(&stack.metadata);
    let cells = vec![
        meta.name.clone(),
        spec.realm_id,
        spec.space_id,
        state(&status.state),
        age_of(&meta, now),
    ];
    (cells, vec![status.cgroup_path])
}

fn cell_row(cell: &Cell, now: Timestamp) -> Columns {
    // Many of them are shown: nothing of one is copied but what is shown.
    let spec = cell.spec.as_ref();
    let status = cell.status.as_ref();
    let place = |name: fn(&CellSpec) -> &String| spec.map(name).cloned().unwrap_or_default();
    let containers = status.map_or(&[][..], |status| &status.containers);
    let ready = containers.iter().filter(|c| c.state == "Ready").count();
    let network = status.and_then(|status| status.network.as_ref());
    let cells = vec![
        cell.metadata
            .as_ref()
            .map_or_else(String::new, |meta| meta.name.clone()),
        place(|spec| &spec.realm_id),
        place(|spec| &spec.space_id),
        place(|spec| &spec.stack_id),
        state(status.map_or("", |status| &status.state)),
        // Only cells made from a configuration can be out of sync with it.
        "-".to_owned(),
        age::since(cell.metadata.as_ref().map_or("", |m| &m.created_at), now),
    ];
    let all = spec.map_or(0, |spec| spec.containers.len());
    let mut more = vec![
        format!("{ready}/{all}"),
        network.map_or_else(String::new, address),
        network.map_or_else(String::new, |network| network.bridge.clone()),
    ];
    more.extend(usage(status.and_then(|status| status.usage.as_ref())));
    (cells, more)
}

fn container_row(container: &Container, now: Timestamp) -> Columns {
    let spec = container.spec.clone().unwrap_or_default();
    let status = container.status.clone().unwrap_or_default();
    let mut meta = meta(&container.metadata);
    if meta.created_at.is_empty() {
        // A container of a cell's own list has no document and no birth.
        meta.created_at.clone_from(&status.started_at);
    }
    let cells = vec![
        meta.name.clone(),
        spec.realm_id,
        spec.space_id,
        spec.stack_id,
        spec.cell_id,
        state(&status.state),
        status.restart_count.to_string(),
        age_of(&meta, now),
    ];
    let exit = status
        .exit_code
        .map_or_else(String::new, |code| format!("{code}/{}", status.exit_signal));
    let mut more = vec![spec.image, exit];
    more.extend(usage(status.usage.as_ref()));
    (cells, more)
}

fn volume_row(volume: &Volume, now: Timestamp) -> Columns {
    let meta = volume.metadata.clone().unwrap_or_default();
    let spec = volume.spec.clone().unwrap_or_default();
    let status = volume.status.clone().unwrap_or_default();
    let reclaim = match spec.reclaim_policy.as_str() {
        "" => "Delete".to_owned(),
        word => word.to_owned(),
    };
    let age = age::since(&meta.created_at, now);
    let cells = vec![
        meta.name,
        meta.realm,
        unset(meta.space),
        unset(meta.stack),
        age,
    ];
    (cells, vec![reclaim, status.path])
}

fn secret_row(secret: &Secret, now: Timestamp) -> Columns {
    let meta = secret.metadata.clone().unwrap_or_default();
    let age = age::since(&meta.created_at, now);
    let place = [
        meta.realm,
        unset(meta.space),
        unset(meta.stack),
        unset(meta.cell),
    ];
    let mut cells = vec![meta.name];
    cells.extend(place);
    cells.push(age);
    (cells, Vec::new())
}

fn unset(text: String) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text
    }
}

/// Memory, with the limit if there is one, and processor time; `-` for what is
/// not known.
fn usage(usage: Option<&Usage>) -> [String; 2] {
    let usage = usage.cloned().unwrap_or_default();
    let size = |bytes: u64| indicatif::HumanBytes(bytes).to_string();
    let memory = match (usage.memory_bytes, usage.memory_limit_bytes) {
        (None, _) => "-".to_owned(),
        (Some(used), None) => size(used),
        (Some(used), Some(limit)) => format!("{} / {}", size(used), size(limit)),
    };
    let cpu = usage.cpu_usec.map_or_else(
        || "-".to_owned(),
        |usec| format!("{}.{:02}s", usec / 1_000_000, usec % 1_000_000 / 10_000),
    );
    [memory, cpu]
}

/// Name of an object of any kind.
pub fn name(object: &Object) -> &str {
    let release = || Some(releases::metadata(object.object.as_ref()?)?.name.as_str());
    let kept = || match object.object.as_ref()? {
        Any::Volume(o) => Some(o.metadata.as_ref()?.name.as_str()),
        Any::Secret(o) => Some(o.metadata.as_ref()?.name.as_str()),
        _ => None,
    };
    let runtime = metadata(object).map(|meta| meta.name.as_str());
    runtime.or_else(kept).or_else(release).unwrap_or_default()
}

/// Metadata of an object of the runtime.
pub fn metadata(object: &Object) -> Option<&Metadata> {
    match object.object.as_ref()? {
        Any::Realm(realm) => realm.metadata.as_ref(),
        Any::Space(space) => space.metadata.as_ref(),
        Any::Stack(stack) => stack.metadata.as_ref(),
        Any::Cell(cell) => cell.metadata.as_ref(),
        Any::Container(container) => container.metadata.as_ref(),
        _ => None,
    }
}

fn meta(metadata: &Option<Metadata>) -> Metadata {
    metadata.clone().unwrap_or_default()
}

fn age_of(meta: &Metadata, now: Timestamp) -> String {
    age::since(&meta.created_at, now)
}

fn state(text: &str) -> String {
    if text.is_empty() { "Pending" } else { text }.to_owned()
}

/// The main address without its prefix length.
fn address(network: &NetworkStatus) -> String {
    let first = network.addresses.first().map_or("", String::as_str);
    first.split('/').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1beta1::{CellStatus, ContainerSpec, ContainerStatus};
    use crate::scheme;

    fn cell() -> Object {
        Object {
            object: Some(Any::Cell(Cell {
                metadata: Some(Metadata {
                    name: "web".into(),
                    created_at: "2026-01-01T00:00:00Z".into(),
                    ..Default::default()
                }),
                spec: Some(CellSpec {
                    realm_id: "r".into(),
                    space_id: "s".into(),
                    stack_id: "t".into(),
                    containers: vec![ContainerSpec::default(); 2],
                    ..Default::default()
                }),
                status: Some(CellStatus {
                    state: "Ready".into(),
                    containers: vec![ContainerStatus {
                        state: "Ready".into(),
                        ..Default::default()
                    }],
                    network: Some(NetworkStatus {
                        addresses: vec!["10.117.0.2/24".into()],
                        ..Default::default()
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            })),
        }
    }

    #[test]
    fn a_cell_as_a_row() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().expect("time");
        let narrow = row(&cell(), false, now);
        assert_eq!(narrow, ["web", "r", "s", "t", "Ready", "-", "1d"]);
        let wide = row(&cell(), true, now);
        assert_eq!(wide[7..], ["1/2", "10.117.0.2", "", "-", "-"]);
    }

    #[test]
    fn a_brief_cell_has_the_same_row() {
        let Some(Any::Cell(mut whole)) = cell().object else {
            panic!("no cell");
        };
        for (container, id) in whole
            .spec
            .iter_mut()
            .flat_map(|s| &mut s.containers)
            .zip(["a", "b"])
        {
            container.id = id.into();
            container.image = "image".into();
        }
        let stored = scheme::cell_to_model(whole).expect("model");
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().expect("time");
        let [whole, brief] = [scheme::cell_to_external, scheme::cell_to_brief].map(|form| Object {
            object: Some(Any::Cell(form(&stored))),
        });
        assert_eq!(row(&brief, false, now), row(&whole, false, now));
        assert_eq!(name(&brief), name(&whole));
        assert_ne!(brief, whole);
    }

    #[test]
    fn what_is_used_is_shown_as_far_as_it_is_known() {
        let mut known = Usage {
            cpu_usec: Some(61_239_999),
            ..Default::default()
        };
        assert_eq!(usage(Some(&known)), ["-", "61.23s"]);
        known.memory_bytes = Some(3 << 20);
        assert_eq!(usage(Some(&known))[0], "3.00 MiB");
        known.memory_limit_bytes = Some(64 << 20);
        assert_eq!(usage(Some(&known))[0], "3.00 MiB / 64.00 MiB");
    }

    #[test]
    fn rows_and_headers_have_as_many_columns() {
        let objects = [
            (Kind::Realm, Any::Realm(Realm::default())),
            (Kind::Space, Any::Space(Space::default())),
            (Kind::Stack, Any::Stack(Stack::default())),
            (Kind::Cell, Any::Cell(Cell::default())),
            (Kind::Container, Any::Container(Container::default())),
            (Kind::Volume, Any::Volume(Volume::default())),
            (Kind::Secret, Any::Secret(Secret::default())),
        ];
        for (kind, any) in objects {
            let object = Object { object: Some(any) };
            for wide in [false, true] {
                let row = row(&object, wide, Timestamp::UNIX_EPOCH);
                assert_eq!(row.len(), header(kind, wide).len(), "{kind:?} {wide}");
            }
        }
    }

    #[test]
    fn structured_output_is_the_document_without_a_wrapper() {
        let json = serde_json::to_value(cell()).expect("json");
        assert_eq!(json["metadata"]["name"], "web");
        assert_eq!(json["spec"]["realmId"], "r");
        let yaml = serde_saphyr::to_string(&cell()).expect("yaml");
        assert!(yaml.contains("name: web"), "{yaml}");
    }
}
