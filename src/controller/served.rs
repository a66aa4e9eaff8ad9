//! Who is told that a cell changed: the Serving whose labels it carries.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::broadcast;

use crate::model::delivery::{ReleaseKind, ReleaseRef, keys};
use crate::model::{Cell, CellRef, CellStatus, Labels, RealmRef};

/// Changes that may wait for a slow reader; one that missed some looks at all.
const WAITING: usize = 256;

/// Cells of Servings, as they were last told of.
pub(super) struct Served {
    told: Mutex<HashMap<CellRef, (ReleaseRef, CellStatus)>>,
    sender: broadcast::Sender<ReleaseRef>,
}

impl Default for Served {
    fn default() -> Self {
        Self {
            told: Mutex::default(),
            sender: broadcast::Sender::new(WAITING),
        }
    }
}

impl Served {
    /// Servings as their cells change from now on.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<ReleaseRef> {
        self.sender.subscribe()
    }

    /// Tells the owner of a cell, where it has one and the cell is not as it was
    /// when it was last told. Another process may have changed what is stored.
    pub(super) fn tell(&self, cell: &Cell) {
        let Some(owner) = owner(&cell.meta.labels) else {
            return;
        };
        let changed = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            match cell.meta.deletion {
                Some(_) => {
                    told.remove(&cell.at);
                    true
                }
                None => {
                    let now = (owner.clone(), cell.status.clone());
                    let same = told.get(&cell.at) == Some(&now);
                    if !same {
                        told.insert(cell.at.clone(), now);
                    }
                    !same
                }
            }
        };
        if changed {
            self.send(owner);
        }
    }

    /// Tells the owner of a cell that is not there any more: another process may
    /// have deleted it.
    pub(super) fn gone(&self, at: &CellRef) {
        let known = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.remove(at)
        };
        if let Some((owner, _)) = known {
            self.send(owner);
        }
    }

    /// The cells of a realm that were told of.
    pub(super) fn cells_in(&self, realm: &RealmRef) -> Vec<CellRef> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let within = told.keys().filter(|at| at.realm == realm.realm);
        within.cloned().collect()
    }

    fn send(&self, owner: ReleaseRef) {
        // Nobody may listen.
        let _ = self.sender.send(owner);
    }
}

fn owner(labels: &Labels) -> Option<ReleaseRef> {
    let of = |key| labels.get(key)?.parse().ok();
    let (namespace, serving) = (of(keys::NAMESPACE)?, of(keys::SERVING)?);
    Some(ReleaseRef::new(ReleaseKind::Serving, &namespace, &serving))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CellSpec, CellState, Meta};

    fn cell(labels: &[(&str, &str)]) -> Cell {
        let name = |text: &str| text.parse().unwrap();
        let at = CellRef {
            realm: name("default"),
            space: name("default"),
            stack: name("default"),
            cell: name("web"),
        };
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Cell {
            meta: Meta {
                labels: labels.collect(),
                ..Meta::default()
            },
            spec: CellSpec::default(),
            status: CellStatus::default(),
            at,
        }
    }

    #[test]
    fn an_owner_is_told_once_of_each_change() {
        let served = Served::default();
        let mut told = served.subscribe();
        let mut cell = cell(&[(keys::SERVING, "shop"), (keys::NAMESPACE, "team")]);
        served.tell(&cell);
        let owner = told.try_recv().unwrap();
        assert_eq!(owner.to_string(), "serving \"shop\" in team");
        served.tell(&cell);
        assert!(told.try_recv().is_err(), "nothing changed");
        cell.status.state = CellState::Error;
        served.tell(&cell);
        assert_eq!(told.try_recv().unwrap(), owner);
        cell.meta.deletion = Some(jiff::Timestamp::UNIX_EPOCH);
        served.tell(&cell);
        assert_eq!(told.try_recv().unwrap(), owner);
        assert!(served.told.lock().unwrap().is_empty());
    }

    #[test]
    fn an_owner_is_told_of_what_others_deleted() {
        let served = Served::default();
        let mut told = served.subscribe();
        let cell = cell(&[(keys::SERVING, "shop"), (keys::NAMESPACE, "team")]);
        served.gone(&cell.at);
        assert!(told.try_recv().is_err(), "it was never there");
        served.tell(&cell);
        let owner = told.try_recv().unwrap();
        served.gone(&cell.at);
        assert_eq!(told.try_recv().unwrap(), owner);
        served.gone(&cell.at);
        assert!(told.try_recv().is_err(), "once");
    }

    #[test]
    fn what_was_told_of_is_known_by_its_realm() {
        let served = Served::default();
        let of = |namespace: &str| cell(&[(keys::SERVING, "shop"), (keys::NAMESPACE, namespace)]);
        let (here, mut there) = (of("team"), of("team"));
        there.at.realm = "other".parse().unwrap();
        served.tell(&here);
        served.tell(&there);
        let within = |at: &CellRef| served.cells_in(&at.stack().space().realm());
        assert_eq!(within(&here.at), std::slice::from_ref(&here.at));
        served.gone(&here.at);
        assert!(within(&here.at).is_empty());
        assert_eq!(within(&there.at), std::slice::from_ref(&there.at));
    }

    #[test]
    fn cells_of_nobody_are_not_remembered() {
        let served = Served::default();
        let mut told = served.subscribe();
        served.tell(&cell(&[]));
        served.tell(&cell(&[(keys::SERVING, "shop")]));
        assert!(told.try_recv().is_err());
        assert!(served.told.lock().unwrap().is_empty());
    }
}
