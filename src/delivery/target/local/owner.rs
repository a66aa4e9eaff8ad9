//! Whose a live object is: labels, and what people allow.

use super::super::Problem;
use super::key::Key;
use crate::model::delivery::keys;
use crate::model::{Labels, Meta, Name};

/// The labels that name an owner.
pub(super) const LABELS: [&str; 3] = [keys::RECIPE, keys::SERVING, keys::NAMESPACE];

/// A Serving, as owner of live objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    /// Namespace of Recipe and Serving.
    pub namespace: Name,
    /// Recipe, and Serving of the same name.
    pub recipe: Name,
}

impl Owner {
    /// Labels of everything it makes.
    pub fn labels(&self) -> [(&'static str, &str); 3] {
        [
            (keys::RECIPE, self.recipe.as_str()),
            (keys::SERVING, self.recipe.as_str()),
            (keys::NAMESPACE, self.namespace.as_str()),
        ]
    }

    /// `<namespace>/<recipe>`, which tells same-named Recipes apart.
    pub fn full(&self) -> String {
        format!("{}/{}", self.namespace, self.recipe)
    }

    /// Whether an object is labelled as made by it.
    pub fn owns(&self, meta: &Meta) -> bool {
        let is = |key, value: &Name| meta.labels.get(key).is_some_and(|v| *v == value.as_str());
        is(keys::SERVING, &self.recipe) && is(keys::NAMESPACE, &self.namespace)
    }

    /// Whether somebody allowed it to take an object over, or to work in a realm.
    pub fn is_allowed(&self, meta: &Meta) -> bool {
        [keys::ALLOWED_RECIPE, keys::ALLOWED_ORDER]
            .into_iter()
            .filter_map(|key| note(meta, key))
            .any(|value| value == self.full() || value == self.recipe.as_str())
    }

    /// What is wrong with an object that it may not touch.
    pub fn foreign(&self, key: &Key, meta: &Meta) -> Problem {
        let whose = match other(meta) {
            Some(owner) => format!("{key} belongs to the Serving {owner}"),
            None => format!("{key} was not made by a Serving"),
        };
        Problem {
            resource: key.resource(String::new()),
            reason: "OptInRequired".to_owned(),
            message: whose,
            hint: format!(
                "to hand it over, `kuke annotate` it with {}={}, then `kuke sync` the Recipe",
                keys::ALLOWED_RECIPE,
                self.full()
            ),
        }
    }
}

/// The owner an object is labelled with, as `<namespace>/<name>`.
fn other(meta: &Meta) -> Option<String> {
    let of = |key| meta.labels.get(key).filter(|v| !v.is_empty());
    let serving = of(keys::SERVING)?;
    Some(match of(keys::NAMESPACE) {
        Some(namespace) => format!("{namespace}/{serving}"),
        None => serving.clone(),
    })
}

/// What people note on an object, as an annotation or as a label.
fn note<'a>(meta: &'a Meta, key: &str) -> Option<&'a str> {
    let found = meta.annotations.get(key).or_else(|| meta.labels.get(key));
    found.map(String::as_str)
}

/// Whether an object is never pruned.
pub(super) fn stays(meta: &Meta) -> bool {
    note(meta, keys::PRUNE) == Some("disabled")
}

/// Puts what people noted for delivery on a live object onto the wanted one:
/// the artifact says nothing of it, so it does not take it away.
pub(super) fn keep_notes(live: &Meta, wanted: &mut Meta) {
    let keep = |from: &Labels, to: &mut Labels| {
        for (key, value) in from {
            if key.starts_with(keys::PREFIX) && !LABELS.contains(&key.as_str()) {
                to.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
    };
    keep(&live.labels, &mut wanted.labels);
    keep(&live.annotations, &mut wanted.annotations);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner {
            namespace: "shop".parse().unwrap(),
            recipe: "web".parse().unwrap(),
        }
    }

    fn labelled(pairs: &[(&str, &str)]) -> Meta {
        let pair = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        Meta {
            labels: pairs.iter().map(pair).collect(),
            ..Meta::default()
        }
    }

    #[test]
    fn the_namespace_tells_owners_apart() {
        let ours = owner();
        assert!(ours.owns(&labelled(&ours.labels())));
        let theirs = [(keys::SERVING, "web"), (keys::NAMESPACE, "other")];
        assert!(!ours.owns(&labelled(&theirs)));
        assert!(!ours.owns(&labelled(&[(keys::SERVING, "web")])));
        let key = Key::Object(
            crate::model::RealmRef {
                realm: "r".parse().unwrap(),
            }
            .into(),
        );
        let problem = ours.foreign(&key, &labelled(&theirs));
        assert_eq!(
            problem.message,
            "realm \"r\" belongs to the Serving other/web"
        );
        assert!(problem.hint.contains("allowed-recipe=shop/web"));
    }

    #[test]
    fn people_allow_it_by_either_name_and_either_key() {
        let ours = owner();
        for (key, value, allowed) in [
            (keys::ALLOWED_RECIPE, "shop/web", true),
            (keys::ALLOWED_RECIPE, "web", true),
            (keys::ALLOWED_ORDER, "shop/web", true),
            (keys::ALLOWED_RECIPE, "other/web", false),
            (keys::ALLOWED_RECIPE, "", false),
        ] {
            let label = labelled(&[(key, value)]);
            let mut note = Meta::default();
            note.annotations.insert(key.into(), value.into());
            assert_eq!(ours.is_allowed(&label), allowed, "{key}={value}");
            assert_eq!(ours.is_allowed(&note), allowed, "{key}={value}");
        }
    }

    #[test]
    fn notes_for_delivery_stay_and_owners_do_not() {
        let mut live = labelled(&[
            (keys::PRUNE, "disabled"),
            (keys::SERVING, "other"),
            ("theirs", "1"),
        ]);
        live.annotations
            .insert(keys::ALLOWED_RECIPE.into(), "web".into());
        let mut wanted = Meta::default();
        keep_notes(&live, &mut wanted);
        assert_eq!(wanted.labels, labelled(&[(keys::PRUNE, "disabled")]).labels);
        assert_eq!(wanted.annotations.len(), 1);
        assert!(stays(&wanted));
    }
}
