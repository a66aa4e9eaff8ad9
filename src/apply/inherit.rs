//! What a manifest leaves out and the stored object keeps.

use super::container::spec_hash;
use crate::model::delivery::keys;
use crate::model::{AnyObject, Cell, Meta, Name, RegistryCredential};

/// Labels that say which release made an object.
const OWNER: [&str; 3] = [keys::RECIPE, keys::SERVING, keys::NAMESPACE];

/// Fills a wanted object with what only the stored one knows: bookkeeping,
/// status, reserved labels, a namespace or password that was left blank. The
/// generation is the stored one; raise it when the spec then still differs.
/// Objects of different kinds are left alone.
pub fn inherit(current: &AnyObject, wanted: &mut AnyObject) {
    match (current, wanted) {
        (AnyObject::Realm(current), AnyObject::Realm(wanted)) => {
            meta(&current.meta, &mut wanted.meta);
            wanted.status.clone_from(&current.status);
            let asked = &mut wanted.spec.namespace;
            if asked.is_empty() || *asked == current.status.namespace {
                asked.clone_from(&current.spec.namespace);
            }
            wanted.spec.credentials =
                credentials(&current.spec.credentials, &wanted.spec.credentials);
        }
        (AnyObject::Space(current), AnyObject::Space(wanted)) => {
            meta(&current.meta, &mut wanted.meta);
            wanted.status.clone_from(&current.status);
            let path = &mut wanted.spec.cni_config_path;
            if path.is_none() {
                path.clone_from(&current.spec.cni_config_path);
            }
        }
        (AnyObject::Stack(current), AnyObject::Stack(wanted)) => {
            meta(&current.meta, &mut wanted.meta);
            wanted.status.clone_from(&current.status);
        }
        (AnyObject::Cell(current), AnyObject::Cell(wanted)) => {
            meta(&current.meta, &mut wanted.meta);
            wanted.status.clone_from(&current.status);
            wanted.spec.run_generation = current.spec.run_generation;
            wanted.spec.restart_generation = current.spec.restart_generation;
            forget_runs(current, wanted);
        }
        (AnyObject::Volume(current), AnyObject::Volume(wanted)) => {
            meta(&current.meta, &mut wanted.meta);
            wanted.path.clone_from(&current.path);
        }
        (AnyObject::Secret(current), AnyObject::Secret(wanted)) => {
            meta(&current.meta, &mut wanted.meta);
        }
        _ => {}
    }
}

/// How a container ended says nothing of the one that it is changed into: that
/// one has not run yet.
fn forget_runs(current: &Cell, wanted: &mut Cell) {
    let hash = |cell: &Cell, name: &Name| {
        let mut containers = cell.spec.containers.iter();
        containers.find(|c| c.id == *name).map(spec_hash)
    };
    let mut statuses = std::mem::take(&mut wanted.status.containers);
    for status in &mut statuses {
        if hash(current, &status.name) != hash(wanted, &status.name) {
            status.run_generation = 0;
        }
    }
    wanted.status.containers = statuses;
}

fn meta(current: &Meta, wanted: &mut Meta) {
    let Meta {
        labels,
        annotations: _,
        generation,
        uid,
        created_at,
        deletion,
    } = current;
    for (key, value) in labels.iter().filter(|(key, _)| key.ends_with(".kukeon.io")) {
        wanted.labels.insert(key.clone(), value.clone());
    }
    // A person who applies a manifest does not mean to take the object from the
    // release that made it. An owner without a value lets it go.
    for key in OWNER {
        if let (Some(value), false) = (labels.get(key), wanted.labels.contains_key(key)) {
            wanted.labels.insert(key.to_owned(), value.clone());
        }
        if wanted.labels.get(key).is_some_and(String::is_empty) {
            wanted.labels.remove(key);
        }
    }
    wanted.generation = *generation;
    wanted.uid.clone_from(uid);
    wanted.created_at = *created_at;
    wanted.deletion = *deletion;
}

/// Passwords are never returned, so a login that comes back without one is a
/// login that was read and written again: it keeps its password.
pub(super) fn credentials(
    current: &[RegistryCredential],
    wanted: &[RegistryCredential],
) -> Vec<RegistryCredential> {
    let keep = |login: &RegistryCredential| {
        let same = |old: &&RegistryCredential| {
            old.server == login.server && old.username == login.username
        };
        match current.iter().find(same) {
            Some(old) if login.password.is_empty() => old.clone(),
            _ => login.clone(),
        }
    };
    wanted.iter().map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::read;

    fn stack(labels: &str) -> AnyObject {
        let text = format!(
            "kind: Stack\nmetadata: {{name: t, labels: {{{labels}}}}}\nspec: {{realmId: r, spaceId: s}}\n"
        );
        read(&[("t", text.as_bytes())]).unwrap().remove(0).1
    }

    #[test]
    fn an_owner_stays_until_it_lets_go() {
        let current = stack("a: x, delivery.kokumi.dev/serving: web");
        for (labels, kept) in [
            ("b: y", Some("web")),
            ("b: y, delivery.kokumi.dev/serving: api", Some("api")),
            ("b: y, delivery.kokumi.dev/serving: ''", None),
        ] {
            let mut wanted = stack(labels);
            inherit(&current, &mut wanted);
            let labels = &wanted.meta().labels;
            assert_eq!(labels.get(keys::SERVING).map(String::as_str), kept);
            assert!(labels.contains_key("b") && !labels.contains_key("a"));
        }
    }
}
