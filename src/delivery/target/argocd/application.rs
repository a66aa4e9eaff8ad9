//! The Application as kukeon wants it, and whose a live one is. Pure.

use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};

use super::CASCADE;

const RECIPE: &str = "delivery.kokumi.dev/recipe";
const SERVING: &str = "delivery.kokumi.dev/serving";
const PREPARATION: &str = "delivery.kokumi.dev/preparation";
const COMMIT_MESSAGE: &str = "delivery.kokumi.dev/commit-message";
/// Owner, as the reference writes it.
const ALLOWED_ORDER: &str = "delivery.kokumi.dev/allowed-order";
/// Opt-in to adoption by a person.
const ALLOWED_RECIPE: &str = "delivery.kokumi.dev/allowed-recipe";

/// What a Serving wants of Argo CD.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Application {
    /// Name of the Application; default the Serving's.
    pub name: String,
    /// Namespace of the Application; default `argocd`.
    pub namespace: String,
    /// Namespace of the Recipe and the Serving.
    pub owner_namespace: String,
    /// Recipe, and Serving of the same name.
    pub recipe: String,
    /// Preparation that is activated.
    pub preparation: String,
    /// Its commit message; empty for none.
    pub commit_message: String,
    /// Argo CD project.
    pub project: String,
    /// `oci://host[:port]/repository`, without tag or digest.
    pub repository: String,
    /// `sha256:…` of the artifact.
    pub digest: String,
    /// API server of the destination.
    pub destination_server: String,
    /// Namespace of the workload.
    pub destination_namespace: String,
    /// Remove what is no longer in the artifact. Off during a Menu run.
    pub prune: bool,
    /// Put back what drifted.
    pub self_heal: bool,
    /// Sync by server-side apply.
    pub server_side_apply: bool,
    /// Whether an artifact without documents may remove everything.
    pub allow_empty: bool,
    /// Remove the workload with the Application.
    pub cascade: bool,
}

/// Whose a live Application is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ownership {
    /// This Serving's, or it may take it over.
    Ours,
    /// Somebody else's: the owner's name, empty when nobody is named.
    Foreign(String),
}

impl Application {
    /// `<namespace>/<recipe>`, which tells same-named Recipes apart.
    pub fn owner(&self) -> String {
        format!("{}/{}", self.owner_namespace, self.recipe)
    }

    /// For messages: `Application argocd/web on cluster "default"`.
    pub fn place(&self, cluster: &str) -> String {
        format!(
            "Application {}/{} on cluster {cluster:?}",
            self.namespace, self.name
        )
    }

    /// The fields that kukeon owns, for a server-side apply.
    pub fn body(&self) -> Value {
        let mut annotations = json!({
            ALLOWED_ORDER: self.owner(),
            PREPARATION: self.preparation,
        });
        if !self.commit_message.is_empty() {
            annotations[COMMIT_MESSAGE] = self.commit_message.clone().into();
        }
        let mut metadata = json!({
            "name": self.name,
            "namespace": self.namespace,
            "labels": { RECIPE: self.recipe, SERVING: self.recipe },
            "annotations": annotations,
        });
        if self.cascade {
            metadata["finalizers"] = json!([CASCADE]);
        }
        let mut automated = json!({ "prune": self.prune, "selfHeal": self.self_heal });
        if self.allow_empty {
            automated["allowEmpty"] = true.into();
        }
        let mut policy = json!({ "automated": automated });
        if self.server_side_apply {
            policy["syncOptions"] = json!(["ServerSideApply=true"]);
        }
        json!({
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Application",
            "metadata": metadata,
            "spec": {
                "project": self.project,
                "source": {
                    "repoURL": self.repository,
                    "targetRevision": self.digest,
                    // Argo CD wants a path for OCI, and no chart.
                    "path": ".",
                },
                "destination": {
                    "server": self.destination_server,
                    "namespace": self.destination_namespace,
                },
                "syncPolicy": policy,
            },
        })
    }
}

/// Group, version and kind of an Application.
pub(super) fn resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Application");
    ApiResource::from_gvk_with_plural(&kind, "applications")
}

/// Tells whose a live Application is.
///
/// It is ours when an annotation names our Recipe with its namespace. A bare
/// Recipe name counts as a person's opt-in, unless a namespaced owner is named too.
pub fn ownership(live: &DynamicObject, wanted: &Application) -> Ownership {
    let empty = Default::default();
    let annotations = live.metadata.annotations.as_ref().unwrap_or(&empty);
    let of = |key: &str| annotations.get(key).map(String::as_str).unwrap_or_default();
    let (opt_in, owner) = (of(ALLOWED_RECIPE), of(ALLOWED_ORDER));
    let full = wanted.owner();
    if opt_in == full || owner == full {
        return Ownership::Ours;
    }
    let bare = |text: &str| text == wanted.recipe;
    if bare(opt_in) || (opt_in.is_empty() && bare(owner)) {
        return Ownership::Ours;
    }
    Ownership::Foreign(if owner.is_empty() { opt_in } else { owner }.to_owned())
}

/// The finalizers an Application should have when it is deleted.
pub(super) fn finalizers(live: &DynamicObject, cascade: bool) -> Vec<String> {
    let mut now = live.metadata.finalizers.clone().unwrap_or_default();
    // Once deletion has begun, no finalizer can be added.
    let open = live.metadata.deletion_timestamp.is_none();
    if !cascade {
        // Argo CD also knows it with a suffix, as in `…/background`.
        now.retain(|f| f != CASCADE && !f.starts_with(&format!("{CASCADE}/")));
    } else if open && !now.iter().any(|f| f.starts_with(CASCADE)) {
        now.push(CASCADE.to_owned());
    }
    now
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn sample() -> Application {
        testing::application("web")
    }

    fn live(annotations: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
            "metadata": { "name": "web", "annotations": annotations },
        }))
        .unwrap()
    }

    #[test]
    fn has_exactly_the_documented_fields() {
        let want = json!({
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Application",
            "metadata": {
                "name": "web",
                "namespace": "argocd",
                "labels": {
                    "delivery.kokumi.dev/recipe": "web",
                    "delivery.kokumi.dev/serving": "web",
                },
                "annotations": {
                    "delivery.kokumi.dev/allowed-order": "shop/web",
                    "delivery.kokumi.dev/preparation": "web-0123456789ab",
                    "delivery.kokumi.dev/commit-message": "first",
                },
                "finalizers": ["resources-finalizer.argocd.argoproj.io"],
            },
            "spec": {
                "project": "default",
                "source": {
                    "repoURL": "oci://registry.example:5050/preparations/shop/web",
                    "targetRevision": format!("sha256:{}", "ab".repeat(32)),
                    "path": ".",
                },
                "destination": {
                    "server": "https://kubernetes.default.svc",
                    "namespace": "shop",
                },
                "syncPolicy": {
                    "automated": { "prune": true, "selfHeal": true },
                    "syncOptions": ["ServerSideApply=true"],
                },
            },
        });
        assert_eq!(sample().body(), want);
    }

    #[test]
    fn options_change_their_fields_only() {
        let mut other = sample();
        other.cascade = false;
        other.allow_empty = true;
        other.server_side_apply = false;
        other.commit_message = String::new();
        let body = other.body();
        assert!(body["metadata"].get("finalizers").is_none());
        assert!(
            body["metadata"]["annotations"]
                .get(COMMIT_MESSAGE)
                .is_none()
        );
        assert_eq!(body["spec"]["syncPolicy"]["automated"]["allowEmpty"], true);
        assert!(body["spec"]["syncPolicy"].get("syncOptions").is_none());
        assert_eq!(body["spec"]["source"], sample().body()["spec"]["source"]);
    }

    #[test]
    fn an_unnamed_application_is_foreign() {
        let ours = sample();
        assert_eq!(
            ownership(&live(json!({})), &ours),
            Ownership::Foreign(String::new())
        );
    }

    #[test]
    fn the_namespace_tells_owners_apart() {
        let ours = sample();
        let of = |v| ownership(&live(v), &ours);
        assert_eq!(of(json!({ ALLOWED_ORDER: "shop/web" })), Ownership::Ours);
        assert_eq!(
            of(json!({ ALLOWED_ORDER: "other/web" })),
            Ownership::Foreign("other/web".into())
        );
        assert_eq!(of(json!({ ALLOWED_ORDER: "web" })), Ownership::Ours);
        assert_eq!(of(json!({ ALLOWED_RECIPE: "web" })), Ownership::Ours);
        // A person hands it over from another owner.
        assert_eq!(
            of(json!({ ALLOWED_ORDER: "other/web", ALLOWED_RECIPE: "shop/web" })),
            Ownership::Ours
        );
    }

    #[test]
    fn without_cascade_the_finalizer_goes_and_others_stay() {
        let mut object = live(json!({}));
        object.metadata.finalizers = Some(vec![
            "example.com/mine".into(),
            CASCADE.into(),
            format!("{CASCADE}/background"),
        ]);
        assert_eq!(finalizers(&object, false), ["example.com/mine"]);
        assert_eq!(finalizers(&object, true).len(), 3);
        object.metadata.finalizers = None;
        assert_eq!(finalizers(&object, true), [CASCADE]);
    }
}
