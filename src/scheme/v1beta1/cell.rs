//! Cell, and the Container document that adds one container to a cell.

use std::collections::BTreeSet;

use super::super::check::Check;
use super::container::{read_container, write_container};
use super::status::cell_word;
use super::{
    VERSION, cell_status_to_external, cell_status_to_model, container_status_to_external, envelope,
    metadata, parent, same_id, time_text,
};
use crate::api::v1beta1;
use crate::model::{Cell, CellRef, CellSpec, ContainerSpec, Meta, MountKind, Name, RunState};
use crate::scheme::Error;

const RUN_STATES: &[(&str, RunState)] = &[
    ("Running", RunState::Running),
    ("Stopped", RunState::Stopped),
];

/// Cell from its document.
pub fn cell_to_model(document: v1beta1::Cell) -> Result<Cell, Error> {
    let mut check = Check::default();
    let v1beta1::Cell {
        api_version,
        kind,
        metadata,
        spec,
        status,
    } = document;
    let (name, meta) = envelope(&mut check, "Cell", &api_version, &kind, metadata);
    let v1beta1::CellSpec {
        id,
        realm_id,
        space_id,
        stack_id,
        root_container_id,
        containers,
        auto_delete,
        run_state,
        run_generation,
        restart_generation,
    } = spec.unwrap_or_default();
    same_id(&mut check, &id, name.as_ref());
    let realm = parent(&mut check, "realmId", "realm", &realm_id);
    let space = parent(&mut check, "spaceId", "space", &space_id);
    let stack = parent(&mut check, "stackId", "stack", &stack_id);
    let above = [&realm_id, &space_id, &stack_id, &name_text(name.as_ref())];
    let mut containers = read_containers(&mut check, containers, above.map(String::as_str));
    own_realm(&mut check, &containers, &realm_id);
    root(&mut check, &mut containers, &root_container_id);
    // They share one network namespace: what one says holds for all.
    if containers.iter().any(|c| c.host_network) {
        containers.iter_mut().for_each(|c| c.host_network = true);
    }
    let run_state = check.word("spec.runState", &run_state, RUN_STATES);
    if run_generation < 0 {
        check.bad("spec.runGeneration", "OutOfRange", "is negative");
    }
    if restart_generation < 0 {
        check.bad("spec.restartGeneration", "OutOfRange", "is negative");
    }
    let at = realm.zip(space).zip(stack).zip(name);
    let cell = at.map(|(((realm, space), stack), cell)| Cell {
        at: CellRef {
            realm,
            space,
            stack,
            cell,
        },
        meta,
        spec: CellSpec {
            containers,
            auto_delete,
            run_state,
            run_generation,
            restart_generation,
        },
        status: cell_status_to_model(status.unwrap_or_default()),
    });
    check.finish(cell)
}

fn read_containers(
    check: &mut Check,
    documents: Vec<v1beta1::ContainerSpec>,
    above: [&str; 4],
) -> Vec<ContainerSpec> {
    if documents.is_empty() {
        check
            .bad(
                "spec.containers",
                "MissingField",
                "is empty: a cell has at least one container",
            )
            .suggestion = "add one with an id and an image".to_owned();
    }
    let mut ids = BTreeSet::new();
    let mut containers = Vec::new();
    for (i, document) in documents.into_iter().enumerate() {
        let path = format!("spec.containers[{i}]");
        let found = [
            ("realmId", &document.realm_id),
            ("spaceId", &document.space_id),
            ("stackId", &document.stack_id),
            ("cellId", &document.cell_id),
        ];
        for ((field, found), wanted) in found.into_iter().zip(above) {
            if !found.is_empty() && found != wanted && !wanted.is_empty() {
                check
                    .bad(
                        format!("{path}.{field}"),
                        "Contradiction",
                        format!("{found:?} differs from the cell's own {wanted:?}"),
                    )
                    .suggestion = "leave it out inside a Cell".to_owned();
            }
        }
        if let Some(container) = read_container(check, &path, document) {
            if !ids.insert(container.id.clone()) {
                check.bad(
                    format!("{path}.id"),
                    "Duplicate",
                    format!(
                        "another container of this cell is called {:?}",
                        container.id
                    ),
                );
            }
            containers.push(container);
        }
    }
    containers
}

/// Realms are tenants: what one keeps is not for the cells of another.
fn own_realm(check: &mut Check, containers: &[ContainerSpec], realm: &str) {
    for (i, container) in containers.iter().enumerate() {
        let secrets = container.secrets.iter().enumerate();
        let secrets = secrets.map(|(n, s)| (format!("secrets[{n}].secretRef"), &s.source));
        let volumes = container.mounts.iter().enumerate();
        let volumes = volumes.filter_map(|(n, mount)| match &mount.kind {
            MountKind::Volume { source, .. } => Some((format!("volumes[{n}].volumeRef"), source)),
            _ => None,
        });
        for (field, source) in secrets.chain(volumes) {
            let other = source.scope.as_ref().map(|scope| scope.names()[0].as_str());
            if let Some(other) = other.filter(|other| *other != realm && !realm.is_empty()) {
                check
                    .bad(
                        format!("spec.containers[{i}].{field}.realm"),
                        "OtherRealm",
                        format!("{other:?} is not the realm of the cell, {realm:?}"),
                    )
                    .suggestion = "keep it in the cell's realm as well".to_owned();
            }
        }
    }
}

/// At most one root; `rootContainerId` and `root: true` must agree.
fn root(check: &mut Check, containers: &mut [ContainerSpec], id: &str) {
    let roots: Vec<usize> = (0..containers.len())
        .filter(|&i| containers[i].root)
        .collect();
    if let [first, second, ..] = roots[..] {
        let message = format!(
            "container {:?} is root already; a cell has at most one",
            containers[first].id
        );
        check.bad(
            format!("spec.containers[{second}].root"),
            "Contradiction",
            message,
        );
    }
    if id.is_empty() {
        return;
    }
    let path = "spec.rootContainerId";
    if let Some(&first) = roots.first()
        && containers[first].id != *id
    {
        let message = format!(
            "{id:?} contradicts root: true on container {:?}",
            containers[first].id
        );
        check.bad(path, "Contradiction", message);
    } else if let Some(container) = containers.iter_mut().find(|c| c.id == *id) {
        container.root = true;
    } else {
        let known: Vec<&str> = containers.iter().map(|c| c.id.as_str()).collect();
        let close = crate::api::closest(id, &known).map(|c| format!("did you mean {c:?}?"));
        check
            .bad(path, "BadValue", format!("no container is called {id:?}"))
            .suggestion = close.unwrap_or_default();
    }
}

/// Document of a cell.
pub fn cell_to_external(cell: &Cell) -> v1beta1::Cell {
    let Cell {
        at,
        meta,
        spec,
        status,
    } = cell;
    let CellSpec {
        containers,
        auto_delete,
        run_state,
        run_generation,
        restart_generation,
    } = spec;
    v1beta1::Cell {
        api_version: VERSION.to_owned(),
        kind: "Cell".to_owned(),
        metadata: metadata(&at.cell, meta),
        spec: Some(v1beta1::CellSpec {
            id: at.cell.to_string(),
            realm_id: at.realm.to_string(),
            space_id: at.space.to_string(),
            stack_id: at.stack.to_string(),
            root_container_id: String::new(), // `root: true` on the container says it
            containers: containers.iter().map(write_container).collect(),
            auto_delete: *auto_delete,
            run_state: run_state_word(*run_state).to_owned(),
            run_generation: *run_generation,
            restart_generation: *restart_generation,
        }),
        status: Some(cell_status_to_external(status)),
    }
}

/// Only name, place, birth and state, as a table of many shows them.
pub fn cell_to_brief(cell: &Cell) -> v1beta1::Cell {
    v1beta1::Cell {
        api_version: VERSION.to_owned(),
        kind: "Cell".to_owned(),
        metadata: Some(v1beta1::Metadata {
            name: cell.at.cell.to_string(),
            created_at: time_text(cell.meta.created_at),
            ..Default::default()
        }),
        spec: Some(v1beta1::CellSpec {
            id: cell.at.cell.to_string(),
            realm_id: cell.at.realm.to_string(),
            space_id: cell.at.space.to_string(),
            stack_id: cell.at.stack.to_string(),
            ..Default::default()
        }),
        status: Some(v1beta1::CellStatus {
            state: cell_word(cell.status.state),
            ..Default::default()
        }),
    }
}

fn run_state_word(state: RunState) -> &'static str {
    match state {
        RunState::Running => "Running",
        RunState::Stopped => "Stopped",
    }
}

/// Container from a document of its own: the cell it belongs to, its metadata
/// and its spec. Only the annotations and labels of the metadata are of use;
/// a container has no identity apart from its cell.
pub fn container_to_model(
    document: v1beta1::Container,
) -> Result<(CellRef, Meta, ContainerSpec), Error> {
    let mut check = Check::default();
    let v1beta1::Container {
        api_version,
        kind,
        metadata,
        spec,
        status: _, // part of the cell's
    } = document;
    let (name, meta) = envelope(&mut check, "Container", &api_version, &kind, metadata);
    let mut spec = spec.unwrap_or_default();
    same_id(&mut check, &spec.id, name.as_ref());
    spec.id = name_text(name.as_ref());
    let realm = parent(&mut check, "realmId", "realm", &spec.realm_id);
    let space = parent(&mut check, "spaceId", "space", &spec.space_id);
    let stack = parent(&mut check, "stackId", "stack", &spec.stack_id);
    let cell = match spec.cell_id.as_str() {
        "" => {
            check
                .bad(
                    "spec.cellId",
                    "MissingField",
                    "is required: the cell it belongs to",
                )
                .suggestion = "add the name of an existing cell".to_owned();
            None
        }
        id => check.name("spec.cellId", id),
    };
    let container = name
        .is_some()
        .then(|| read_container(&mut check, "spec", spec))
        .flatten();
    let at = realm.zip(space).zip(stack).zip(cell);
    let found = at
        .zip(container)
        .map(|((((realm, space), stack), cell), container)| {
            let at = CellRef {
                realm,
                space,
                stack,
                cell,
            };
            (at, meta, container)
        });
    check.finish(found)
}

fn name_text(name: Option<&Name>) -> String {
    name.map(Name::to_string).unwrap_or_default()
}

/// Document of one container of a cell; none when the cell has no such container.
pub fn container_to_external(cell: &Cell, id: &Name) -> Option<v1beta1::Container> {
    let spec = cell.spec.containers.iter().find(|c| c.id == *id)?;
    let status = cell.status.containers.iter().find(|c| c.name == *id);
    let mut document = write_container(spec);
    document.realm_id = cell.at.realm.to_string();
    document.space_id = cell.at.space.to_string();
    document.stack_id = cell.at.stack.to_string();
    document.cell_id = cell.at.cell.to_string();
    Some(v1beta1::Container {
        api_version: VERSION.to_owned(),
        kind: "Container".to_owned(),
        metadata: metadata(id, &Meta::default()),
        spec: Some(document),
        status: status.map(container_status_to_external),
    })
}
