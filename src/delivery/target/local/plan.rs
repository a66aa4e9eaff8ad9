//! From what an artifact wants and what is there to what has to be done. Pure.

use super::super::{Action, Error, Plan, Planned, Problem, Reason, Result};
use super::key::Key;
use super::live::Live;
use super::owner::{self, Owner};
use super::wanted::{Wanted, meta_mut};
use crate::apply::{self, Change};
use crate::model::delivery::Resource;
use crate::model::{AnyObject, Name, Reclaim};

/// One wanted object, and what has to be done for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// The object, with what others noted on the live one.
    pub wanted: Wanted,
    /// `Create`, `Update` or `Unchanged`.
    pub action: Action,
    /// What changes, for people.
    pub changes: Vec<String>,
}

/// Something of an older activation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stale {
    /// Which.
    pub key: Key,
    /// Its entry in the inventory.
    pub resource: Resource,
    /// Whether it stays where it is.
    pub stays: bool,
}

/// Everything that has to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// Wanted objects, parents first.
    pub steps: Vec<Step>,
    /// No longer wanted objects, children first.
    pub stale: Vec<Stale>,
}

/// How an activation is planned.
#[derive(Debug, Clone)]
pub(super) struct Terms<'a> {
    /// Whose it is.
    pub owner: &'a Owner,
    /// The realm it works in.
    pub realm: &'a Name,
    /// Whether what is no longer wanted is removed.
    pub prune: bool,
}

/// Plans an activation.
///
/// [`Reason::OptInRequired`] with every object, and the realm, that is somebody
/// else's; [`Reason::ApplyFailed`] with what would be refused.
pub(super) fn plan(
    terms: &Terms<'_>,
    wanted: Vec<Wanted>,
    live: &Live,
    inventory: &[Resource],
) -> Result<Work> {
    let owner = terms.owner;
    let mut foreign: Vec<Problem> = realm_problem(terms, live).into_iter().collect();
    let mut refused = Vec::new();
    let mut steps = Vec::new();
    for wanted in wanted {
        if let Some(meta) = live.meta(&wanted.key) {
            if wanted.implied && !owner.owns(meta) {
                // It was there before; we only live in it.
                continue;
            }
            if !owner.owns(meta) && !owner.is_allowed(meta) {
                foreign.push(owner.foreign(&wanted.key, meta));
                continue;
            }
            if meta.deletion.is_some() {
                let message = format!("{} is being deleted", wanted.key);
                refused.push(problem(&wanted, "BeingDeleted", message));
                continue;
            }
        }
        match step(wanted, live, inventory) {
            Ok(step) => steps.push(step),
            Err(problem) => refused.push(problem),
        }
    }
    if !foreign.is_empty() {
        return Err(Error::of(Reason::OptInRequired, foreign));
    }
    if !refused.is_empty() {
        return Err(Error::of(Reason::ApplyFailed, refused));
    }
    let stale = stale(terms, &steps, live, inventory);
    Ok(Work { steps, stale })
}

fn problem(wanted: &Wanted, reason: &str, message: String) -> Problem {
    Problem {
        resource: wanted.resource(),
        reason: reason.to_owned(),
        message,
        hint: String::new(),
    }
}

/// A Recipe works in the realm of its namespace. Another realm has to allow it.
fn realm_problem(terms: &Terms<'_>, live: &Live) -> Option<Problem> {
    let Terms { owner, realm, .. } = terms;
    if **realm == owner.namespace {
        return None;
    }
    let realm = crate::model::RealmRef {
        realm: (*realm).clone(),
    };
    let key = Key::Object(realm.into());
    if live.meta(&key).is_some_and(|meta| owner.is_allowed(meta)) {
        return None;
    }
    Some(Problem {
        hint: format!(
            "`kuke annotate` the realm with {}={}, then `kuke sync` the Recipe",
            crate::model::delivery::keys::ALLOWED_RECIPE,
            owner.full()
        ),
        message: format!("{key} is not that of the Recipe's namespace, and does not allow it"),
        reason: "OptInRequired".to_owned(),
        resource: key.resource(String::new()),
    })
}

fn step(mut wanted: Wanted, live: &Live, inventory: &[Resource]) -> Result<Step, Problem> {
    let changes = match &mut wanted.object {
        AnyObject::Container(container) => {
            let cell = container.at.clone().into();
            if live.cell(&cell).is_none() {
                let message = format!("{}: there is no such cell", wanted.key);
                return Err(problem(&wanted, "CellNotFound", message));
            }
            let old = live.container(&wanted.key);
            old.map(|old| apply::diff_container(old, &container.spec))
        }
        _ => live
            .0
            .get(&wanted.key.at())
            .map(|old| differences(old, &mut wanted)),
    };
    let Some(changes) = changes else {
        return Ok(missing(wanted, inventory));
    };
    let fixed: Vec<&str> = changes
        .iter()
        .filter(|c| c.action == apply::Action::Immutable)
        .map(|c| c.text.as_str())
        .collect();
    if !fixed.is_empty() {
        let message = format!(
            "{}: cannot be changed after creation: {}",
            wanted.key,
            fixed.join("; ")
        );
        return Err(problem(&wanted, "ImmutableField", message));
    }
    Ok(Step {
        action: match changes.is_empty() {
            true => Action::Unchanged,
            false => Action::Update,
        },
        changes: changes.into_iter().map(|c| c.text).collect(),
        wanted,
    })
}

/// A cell that removes itself after its work is not begun again.
fn missing(wanted: Wanted, inventory: &[Resource]) -> Step {
    let done = match &wanted.object {
        AnyObject::Cell(cell) => cell.spec.auto_delete && inventory.contains(&wanted.resource()),
        _ => false,
    };
    Step {
        wanted,
        action: if done {
            Action::Unchanged
        } else {
            Action::Create
        },
        changes: Vec::new(),
    }
}

fn differences(live: &AnyObject, wanted: &mut Wanted) -> Vec<Change> {
    if let Some(meta) = meta_mut(&mut wanted.object) {
        owner::keep_notes(live.meta(), meta);
        if wanted.implied {
            // Nothing is said of it, so everything else stays.
            for (key, value) in &live.meta().labels {
                meta.labels
                    .entry(key.clone())
                    .or_insert_with(|| value.clone());
            }
            meta.annotations.clone_from(&live.meta().annotations);
        }
    }
    apply::inherit(live, &mut wanted.object);
    match (live, &wanted.object) {
        (AnyObject::Realm(live), AnyObject::Realm(wanted)) => apply::diff_realm(live, wanted),
        (AnyObject::Space(live), AnyObject::Space(wanted)) => apply::diff_space(live, wanted),
        (AnyObject::Stack(live), AnyObject::Stack(wanted)) => apply::diff_stack(live, wanted),
        (AnyObject::Cell(live), AnyObject::Cell(wanted)) => apply::diff_cell(live, wanted),
        (AnyObject::Volume(live), AnyObject::Volume(wanted)) => apply::diff_volume(live, wanted),
        // The reference says the kind, so the kinds are equal.
        _ => Vec::new(),
    }
}

/// What older activations left: still there, still ours, and not wanted.
fn stale(terms: &Terms<'_>, steps: &[Step], live: &Live, inventory: &[Resource]) -> Vec<Stale> {
    let mut out = Vec::new();
    for resource in inventory {
        let Some(key) = Key::of_resource(resource) else {
            continue;
        };
        let wanted = |key: &Key| steps.iter().any(|s| s.wanted.key == *key);
        // A container of a wanted cell goes, or stays, with the cell's spec.
        if wanted(&key) || wanted(&Key::Object(key.at())) {
            continue;
        }
        let Some(meta) = live.meta(&key).filter(|_| live.has(&key)) else {
            continue;
        };
        if !is_ours(terms.owner, &key, meta) {
            continue;
        }
        out.push(Stale {
            stays: !terms.prune || owner::stays(meta) || is_retained(&key, live),
            key,
            resource: resource.clone(),
        });
    }
    out.sort_by_key(|stale| std::cmp::Reverse(stale.key.depth()));
    out
}

/// Whether it is a volume that says that its data shall stay.
fn is_retained(key: &Key, live: &Live) -> bool {
    matches!(live.0.get(&key.at()), Some(AnyObject::Volume(v)) if v.reclaim == Reclaim::Retain)
}

/// Whether something of the inventory may be removed. A container has no labels;
/// its cell either is ours or allowed us to put it there.
pub(super) fn is_ours(owner: &Owner, key: &Key, meta: &crate::model::Meta) -> bool {
    match key {
        Key::Object(_) => owner.owns(meta),
        Key::Container(..) => owner.owns(meta) || owner.is_allowed(meta),
    }
}

impl Work {
    /// For everybody else.
    pub fn plan(&self) -> Plan {
        let steps = self.steps.iter().map(|step| Planned {
            resource: step.wanted.resource(),
            action: step.action,
            changes: step.changes.clone(),
        });
        let stale = self.stale.iter().map(|stale| Planned {
            resource: stale.resource.clone(),
            action: if stale.stays {
                Action::Keep
            } else {
                Action::Prune
            },
            changes: Vec::new(),
        });
        Plan {
            objects: steps.chain(stale).collect(),
            images: Vec::new(),
        }
    }

    /// The steps that change something.
    pub fn due(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|s| s.action != Action::Unchanged)
    }
}
