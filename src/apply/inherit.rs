//! What a manifest leaves out and the stored object keeps.

use crate::model::{AnyObject, Meta, RegistryCredential};

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
        }
        _ => {}
    }
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
