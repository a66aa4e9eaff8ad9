//! What holds for documents that a person wrote, and not for the store's own.

use super::Error;
use super::check::Check;
use crate::model::delivery::{AnyRelease, ReleaseMeta};
use crate::model::{AnyObject, CellStatus, Meta, ScopeStatus, label};

/// Keys that mark ownership on containerd objects.
const OWNED: &[&str] = &[
    label::REALM,
    label::SPACE,
    label::STACK,
    label::CELL,
    label::CONTAINER,
    label::INSTANCE,
    label::SPEC_HASH,
    label::RUN,
    label::GRACE,
    label::SECRETS,
];

/// Whether a label key is for kukeon alone to write.
pub fn is_reserved_label(key: &str) -> bool {
    key.ends_with(".kukeon.io") || OWNED.contains(&key)
}

/// Drops what only kukeon writes, refuses what only kukeon may write.
pub(super) fn desired(mut object: AnyObject) -> Result<AnyObject, Error> {
    let mut check = Check::default();
    match &mut object {
        AnyObject::Realm(o) => {
            o.status = ScopeStatus::default();
            clean(&mut check, &mut o.meta);
        }
        AnyObject::Space(o) => {
            o.status = ScopeStatus::default();
            clean(&mut check, &mut o.meta);
        }
        AnyObject::Stack(o) => {
            o.status = ScopeStatus::default();
            clean(&mut check, &mut o.meta);
        }
        AnyObject::Cell(o) => {
            o.status = CellStatus::default();
            o.spec.run_generation = 0;
            o.spec.restart_generation = 0;
            clean(&mut check, &mut o.meta);
        }
        AnyObject::Volume(o) => {
            o.path.clear();
            clean(&mut check, &mut o.meta);
        }
        AnyObject::Secret(o) => clean(&mut check, &mut o.meta),
        AnyObject::Container(o) => {
            clean(&mut check, &mut o.meta);
            for (field, set) in [
                ("labels", !o.meta.labels.is_empty()),
                ("annotations", !o.meta.annotations.is_empty()),
            ] {
                if set {
                    check
                        .bad(
                            format!("metadata.{field}"),
                            "NotSupported",
                            "a Container has none of its own",
                        )
                        .suggestion = "put them on the Cell".to_owned();
                }
            }
        }
    }
    check.finish(Some(object))
}

/// The same for releases.
pub(super) fn wanted(mut object: AnyRelease) -> Result<AnyRelease, Error> {
    let meta = object.meta_mut();
    *meta = ReleaseMeta {
        labels: std::mem::take(&mut meta.labels),
        annotations: std::mem::take(&mut meta.annotations),
        ..ReleaseMeta::new(meta.namespace.clone(), meta.name.clone())
    };
    match &mut object {
        AnyRelease::Recipe(o) => o.status = Default::default(),
        AnyRelease::Preparation(o) => o.status = Default::default(),
        AnyRelease::Serving(o) => o.status = Default::default(),
        AnyRelease::Menu(o) => o.status = Default::default(),
        AnyRelease::Pantry(o) => o.status = Default::default(),
        AnyRelease::Kitchen(_) | AnyRelease::RecipeTemplate(_) => {}
    }
    Ok(object)
}

fn clean(check: &mut Check, meta: &mut Meta) {
    let Meta {
        labels,
        annotations: _,
        generation,
        uid,
        created_at,
        deletion,
    } = meta;
    *generation = 0;
    uid.clear();
    *created_at = None;
    *deletion = None;
    for key in labels.keys() {
        if is_reserved_label(key) {
            check
                .bad(
                    format!("metadata.labels.{key}"),
                    "ReservedLabel",
                    format!("the label key {key:?} is reserved for kukeon"),
                )
                .suggestion = "remove it".to_owned();
        }
    }
}
