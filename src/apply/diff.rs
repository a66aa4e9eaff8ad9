//! Differences between what is stored and what is wanted, with the action that
//! each asks for. Call `inherit` first, so that what a manifest leaves out does
//! not count as a difference.

use std::collections::BTreeSet;

use super::{Action, Change, diff_container};
use crate::model::{
    Cell, CellSpec, ContainerSpec, Labels, Meta, Name, Realm, RealmSpec, Reclaim, RunState, Secret,
    Space, SpaceSpec, Stack, Volume,
};

fn change(path: impl Into<String>, action: Action, what: impl AsRef<str>) -> Change {
    let path = path.into();
    Change {
        text: format!("{path}: {}", what.as_ref()),
        path,
        action,
        container: None,
    }
}

/// Realm: labels and logins are live, the namespace cannot change.
pub fn diff_realm(current: &Realm, wanted: &Realm) -> Vec<Change> {
    let Realm {
        at: _,
        meta,
        spec: RealmSpec {
            namespace,
            credentials,
        },
        status,
    } = current;
    let mut out = meta_changes(meta, &wanted.meta);
    // What is in use counts, whether it was written or is the default.
    let used = match namespace.as_str() {
        "" => status.namespace.as_str(),
        namespace => namespace,
    };
    let asked = &wanted.spec.namespace;
    if !asked.is_empty() && asked != namespace {
        let action = match used {
            "" => Action::Live,
            used if used == asked => Action::None,
            _ => Action::Immutable,
        };
        out.push(change(
            "spec.namespace",
            action,
            format!("{used:?} → {asked:?}"),
        ));
    }
    let kept = super::inherit::credentials(credentials, &wanted.spec.credentials);
    if kept != *credentials {
        out.push(change("spec.registryCredentials", Action::Live, "changed"));
    }
    out
}

/// Space: the network cannot change.
pub fn diff_space(current: &Space, wanted: &Space) -> Vec<Change> {
    let Space {
        at: _,
        meta,
        spec: SpaceSpec { cni_config_path },
        status: _,
    } = current;
    let mut out = meta_changes(meta, &wanted.meta);
    let asked = &wanted.spec.cni_config_path;
    if asked.is_some() && asked != cni_config_path {
        let shown = |path: &Option<String>| match path {
            Some(path) => format!("{path:?}"),
            None => "the generated one".to_owned(),
        };
        let text = format!("{} → {}", shown(cni_config_path), shown(asked));
        out.push(change("spec.cniConfigPath", Action::Immutable, text));
    }
    out
}

/// Stack: labels only.
pub fn diff_stack(current: &Stack, wanted: &Stack) -> Vec<Change> {
    let Stack {
        at: _,
        meta,
        status: _,
    } = current;
    meta_changes(meta, &wanted.meta)
}

/// Volume: what becomes of the data is live; the place is its identity.
pub fn diff_volume(current: &Volume, wanted: &Volume) -> Vec<Change> {
    let Volume {
        at: _,
        meta,
        reclaim,
        path: _,
    } = current;
    let mut out = meta_changes(meta, &wanted.meta);
    if *reclaim != wanted.reclaim {
        let text = match wanted.reclaim {
            Reclaim::Retain => "Delete → Retain",
            Reclaim::Delete => "Retain → Delete",
        };
        out.push(change("spec.reclaimPolicy", Action::Live, text));
    }
    out
}

/// Secret: containers see a new value when they are next started.
pub fn diff_secret(current: &Secret, wanted: &Secret) -> Vec<Change> {
    let Secret { at: _, meta, data } = current;
    let mut out = meta_changes(meta, &wanted.meta);
    if *data != wanted.data {
        out.push(change("spec.data", Action::Live, "changed"));
    }
    out
}

/// Cell: its own fields, and its containers by id.
pub fn diff_cell(current: &Cell, wanted: &Cell) -> Vec<Change> {
    let Cell {
        at: _,
        meta,
        spec:
            CellSpec {
                containers,
                auto_delete,
                run_state,
                // Raised by verbs, not by manifests.
                run_generation: _,
                restart_generation: _,
            },
        status: _,
    } = current;
    let mut out = meta_changes(meta, &wanted.meta);
    if *auto_delete != wanted.spec.auto_delete {
        let text = format!("{auto_delete} → {}", wanted.spec.auto_delete);
        out.push(change("spec.autoDelete", Action::Live, text));
    }
    if *run_state != wanted.spec.run_state {
        let text = match wanted.spec.run_state {
            RunState::Running => "Stopped → Running",
            RunState::Stopped => "Running → Stopped",
        };
        out.push(change("spec.runState", Action::Live, text));
    }
    for old in containers {
        match wanted.spec.containers.iter().find(|c| c.id == old.id) {
            Some(new) => out.extend(diff_container(old, new)),
            None => out.push(of_container(&old.id, "removed")),
        }
    }
    for new in &wanted.spec.containers {
        if !containers.iter().any(|c| c.id == new.id) {
            out.push(of_container(&new.id, "added"));
        }
    }
    let order = |list: &[ContainerSpec], other: &[ContainerSpec]| {
        let kept = |c: &&ContainerSpec| other.iter().any(|o| o.id == c.id);
        list.iter()
            .filter(kept)
            .map(|c| c.id.clone())
            .collect::<Vec<Name>>()
    };
    if order(containers, &wanted.spec.containers) != order(&wanted.spec.containers, containers) {
        out.push(change("spec.containers", Action::None, "order changed"));
    }
    out
}

/// The others of the cell go on running.
fn of_container(id: &Name, what: &str) -> Change {
    Change {
        container: Some(id.clone()),
        ..change(format!("spec.containers[{id}]"), Action::Live, what)
    }
}

fn meta_changes(current: &Meta, wanted: &Meta) -> Vec<Change> {
    let Meta {
        labels,
        annotations,
        generation: _,
        uid: _,
        created_at: _,
        deletion: _,
    } = current;
    let mut out = Vec::new();
    for (path, action, old, new) in [
        ("metadata.labels", Action::Live, labels, &wanted.labels),
        (
            "metadata.annotations",
            Action::None,
            annotations,
            &wanted.annotations,
        ),
    ] {
        if old != new {
            out.push(change(path, action, keys(old, new)));
        }
    }
    out
}

/// `+added, -removed, ~changed`.
pub(super) fn keys(old: &Labels, new: &Labels) -> String {
    let all: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let parts = all
        .into_iter()
        .filter_map(|key| match (old.get(key), new.get(key)) {
            (None, Some(_)) => Some(format!("+{key}")),
            (Some(_), None) => Some(format!("-{key}")),
            (a, b) if a != b => Some(format!("~{key}")),
            _ => None,
        });
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api;
    use crate::apply::{inherit, read};
    use crate::model::{AnyObject, ScopeState};
    use crate::scheme::{Secrets, realm_to_external};

    fn object(text: &str) -> AnyObject {
        read(&[("t", text.as_bytes())]).unwrap().remove(0).1
    }

    fn realm(spec: &str) -> Realm {
        match object(&format!(
            "kind: Realm\nmetadata: {{name: a}}\nspec: {{{spec}}}\n"
        )) {
            AnyObject::Realm(realm) => realm,
            other => panic!("{other:?}"),
        }
    }

    fn cell(spec: &str) -> Cell {
        let text = format!(
            "kind: Cell\nmetadata: {{name: a}}\nspec: {{realmId: r, spaceId: s, stackId: t, {spec}}}\n"
        );
        match object(&text) {
            AnyObject::Cell(cell) => cell,
            other => panic!("{other:?}"),
        }
    }

    fn told(changes: &[Change]) -> Vec<(Action, &str)> {
        changes
            .iter()
            .map(|c| (c.action, c.text.as_str()))
            .collect()
    }

    #[test]
    fn a_realm_keeps_its_namespace() {
        let mut current = realm("");
        current.status.namespace = "a.kukeon.io".to_owned();
        assert_eq!(diff_realm(&current, &realm("")), []);
        assert!(
            diff_realm(&current, &realm("namespace: a.kukeon.io"))
                .iter()
                .all(|c| c.action == Action::None)
        );
        let changes = diff_realm(&current, &realm("namespace: b"));
        assert_eq!(
            told(&changes),
            [(Action::Immutable, "spec.namespace: \"a.kukeon.io\" → \"b\"")]
        );
        let written = realm("namespace: b");
        assert_eq!(diff_realm(&written, &realm("")), []);
    }

    #[test]
    fn what_was_read_and_written_again_changes_nothing() {
        let mut current = realm("registryCredentials: [{username: u, password: p}]");
        current.meta.uid = "1".to_owned();
        current.meta.generation = 3;
        current
            .meta
            .labels
            .insert("realm.kukeon.io".to_owned(), "a".to_owned());
        current.status.state = ScopeState::Ready;
        let mut shown = realm_to_external(&current, Secrets::Hide);
        shown.metadata.as_mut().unwrap().labels.clear();
        let mut wanted = object(&api::yaml::to_string(&shown).unwrap());
        let current = AnyObject::Realm(current);
        inherit(&current, &mut wanted);
        assert_eq!(wanted, current);
    }

    #[test]
    fn new_logins_are_live_and_their_text_is_silent() {
        let current = realm("registryCredentials: [{username: u, password: old}]");
        let wanted = realm("registryCredentials: [{username: u, password: new}]");
        assert_eq!(
            told(&diff_realm(&current, &wanted)),
            [(Action::Live, "spec.registryCredentials: changed")]
        );
        let blank = realm("registryCredentials: [{username: u}]");
        assert_eq!(diff_realm(&current, &blank), []);
    }

    #[test]
    fn a_space_keeps_its_network() {
        let space = |spec: &str| match object(&format!(
            "kind: Space\nmetadata: {{name: a}}\nspec: {{realmId: r{spec}}}\n"
        )) {
            AnyObject::Space(space) => space,
            other => panic!("{other:?}"),
        };
        let (generated, own) = (space(""), space(", cniConfigPath: /x"));
        assert_eq!(diff_space(&generated, &own)[0].action, Action::Immutable);
        assert_eq!(diff_space(&own, &generated), []);
        assert_eq!(diff_space(&own, &own), []);
    }

    #[test]
    fn cells_by_field_and_containers_by_id() {
        let current = cell("containers: [{id: a, image: x}, {id: b, image: y}, {id: c, image: z}]");
        let wanted = cell(
            "autoDelete: true, runState: Stopped, containers: [{id: c, image: z}, {id: a, image: w}, {id: d, image: v}]",
        );
        let changes = diff_cell(&current, &wanted);
        assert_eq!(
            told(&changes),
            [
                (Action::Live, "spec.autoDelete: false → true"),
                (Action::Live, "spec.runState: Running → Stopped"),
                (Action::Restart, "spec.containers[a].image: \"x\" → \"w\""),
                (Action::Live, "spec.containers[b]: removed"),
                (Action::Live, "spec.containers[d]: added"),
                (Action::None, "spec.containers: order changed"),
            ]
        );
        assert_eq!(diff_cell(&wanted, &wanted), []);
    }

    #[test]
    fn the_host_network_concerns_the_whole_cell() {
        let current = cell("containers: [{id: a, image: x}, {id: b, image: y}]");
        let wanted = cell("containers: [{id: a, image: x, hostNetwork: true}, {id: b, image: y}]");
        let changes = diff_cell(&current, &wanted);
        assert!(changes.iter().all(|c| c.action == Action::Recreate));
        assert_eq!(changes.len(), 2);
    }

    #[test]
    fn labels_replace_and_annotations_are_only_recorded() {
        let mut current = cell("containers: [{id: a, image: x}]");
        let mut wanted = current.clone();
        current.meta.labels = Labels::from([("a".into(), "1".into()), ("b".into(), "1".into())]);
        wanted.meta.labels = Labels::from([("b".into(), "2".into()), ("c".into(), "1".into())]);
        wanted.meta.annotations = Labels::from([("n".into(), "x".into())]);
        assert_eq!(
            told(&diff_cell(&current, &wanted)),
            [
                (Action::Live, "metadata.labels: -a, ~b, +c"),
                (Action::None, "metadata.annotations: +n"),
            ]
        );
    }
}
