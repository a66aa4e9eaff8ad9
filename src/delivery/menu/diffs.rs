//! What activating a member would change, as its run keeps it (delivery spec, 8,
//! step 2). Pure.

use std::collections::BTreeMap;

use crate::delivery::target::{Action, Plan};
use crate::model::delivery::{Resource, TargetType};

/// Most lines that one run keeps of all its members.
const MOST: usize = 400;
/// Most and fewest of one member.
const EACH: (usize, usize) = (50, 6);
/// Longest line, in characters.
const WIDTH: usize = 200;

/// Lines of one of so many members: what its target would do, and for a cluster,
/// where the target's own part is one Application, which documents differ from
/// those that are active. No value of a document is told beside what the target tells.
pub(super) fn lines(
    plan: &Plan,
    kind: TargetType,
    active: &[Resource],
    wanted: &[Resource],
    members: usize,
) -> Vec<String> {
    let mut found = Vec::new();
    for planned in &plan.objects {
        let what = named(&planned.resource);
        match planned.action {
            Action::Unchanged | Action::Keep => {}
            action => found.push(format!("{} {what}", action.as_str())),
        }
        let changes = planned.changes.iter();
        found.extend(changes.map(|change| format!("{what}: {change}")));
    }
    if kind == TargetType::ArgoCd {
        found.extend(documents(active, wanted));
    }
    let most = (MOST / members.max(1)).clamp(EACH.1, EACH.0);
    let more = found.len().saturating_sub(most);
    found.truncate(most);
    let mut found: Vec<_> = found.into_iter().map(cut).collect();
    if more > 0 {
        found.push(format!("… and {more} more"));
    }
    found
}

/// Documents that come, differ and go.
fn documents(active: &[Resource], wanted: &[Resource]) -> Vec<String> {
    let by_identity = |resources: &[Resource]| -> BTreeMap<Resource, String> {
        let of = |r: &Resource| (r.identity(), r.hash.clone());
        resources.iter().map(of).collect()
    };
    let (active, wanted) = (by_identity(active), by_identity(wanted));
    let line = |action: Action, which| format!("{} {}", action.as_str(), named(which));
    let mut found = Vec::new();
    for (which, hash) in &wanted {
        match active.get(which) {
            None => found.push(line(Action::Create, which)),
            Some(old) if old != hash => found.push(line(Action::Update, which)),
            Some(_) => {}
        }
    }
    let gone = active.keys().filter(|which| !wanted.contains_key(*which));
    found.extend(gone.map(|which| line(Action::Prune, which)));
    found
}

/// A resource for people: its kind, and its name below its namespace or scopes.
fn named(resource: &Resource) -> String {
    let Resource {
        kind,
        namespace,
        realm,
        space,
        stack,
        cell,
        name,
        ..
    } = resource;
    let path = [namespace, realm, space, stack, cell, name];
    let path: Vec<&str> = path.into_iter().map(String::as_str).collect();
    let path: Vec<&str> = path.into_iter().filter(|part| !part.is_empty()).collect();
    format!("{kind} {}", path.join("/"))
}

fn cut(line: String) -> String {
    match line.char_indices().nth(WIDTH) {
        None => line,
        Some((end, _)) => format!("{}…", &line[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::target::Planned;

    fn resource(kind: &str, name: &str, hash: &str) -> Resource {
        Resource {
            kind: kind.into(),
            realm: "shop".into(),
            name: name.into(),
            hash: hash.into(),
            ..Resource::default()
        }
    }

    fn planned(name: &str, action: Action, changes: &[&str]) -> Planned {
        Planned {
            resource: resource("Cell", name, ""),
            action,
            changes: changes.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn only_what_changes_is_told() {
        let plan = Plan {
            objects: vec![
                planned("a", Action::Create, &[]),
                planned("b", Action::Unchanged, &[]),
                planned("c", Action::Update, &["spec.id: \"a\" → \"b\""]),
                planned("d", Action::Prune, &[]),
                planned("e", Action::Keep, &[]),
            ],
            images: Vec::new(),
        };
        assert_eq!(
            lines(
                &plan,
                TargetType::Kuke,
                &[],
                &[resource("Cell", "x", "1")],
                2
            ),
            [
                "create Cell shop/a",
                "update Cell shop/c",
                "Cell shop/c: spec.id: \"a\" → \"b\"",
                "prune Cell shop/d",
            ]
        );
    }

    #[test]
    fn documents_for_a_cluster_are_told_by_what_they_are() {
        let active = ["keep", "change", "go"].map(|n| resource("Secret", n, "1"));
        let mut wanted = ["keep", "change", "come"].map(|n| resource("Secret", n, "1"));
        wanted[1].hash = "2".into();
        assert_eq!(
            lines(&Plan::default(), TargetType::ArgoCd, &active, &wanted, 2),
            [
                "update Secret shop/change",
                "create Secret shop/come",
                "prune Secret shop/go",
            ]
        );
    }

    #[test]
    fn a_run_does_not_grow_without_end() {
        let objects =
            (0..90).map(|i| planned(&format!("{i}"), Action::Create, &[&"ä".repeat(900)]));
        let plan = Plan {
            objects: objects.collect(),
            images: Vec::new(),
        };
        let few = lines(&plan, TargetType::Kuke, &[], &[], 64);
        assert_eq!(few.len(), 7);
        assert_eq!(few.last().map(String::as_str), Some("… and 174 more"));
        assert!(few.iter().all(|line| line.chars().count() <= WIDTH + 1));
        assert_eq!(lines(&plan, TargetType::Kuke, &[], &[], 2).len(), 51);
    }
}
