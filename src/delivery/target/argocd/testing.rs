//! A sample for tests.

use super::Application;

pub(super) fn application(name: &str) -> Application {
    Application {
        name: name.into(),
        namespace: "argocd".into(),
        owner_namespace: "shop".into(),
        recipe: name.into(),
        preparation: format!("{name}-0123456789ab"),
        commit_message: "first".into(),
        project: "default".into(),
        repository: format!("oci://registry.example:5050/preparations/shop/{name}"),
        digest: format!("sha256:{}", "ab".repeat(32)),
        destination_server: "https://kubernetes.default.svc".into(),
        destination_namespace: "shop".into(),
        prune: true,
        self_heal: true,
        server_side_apply: true,
        allow_empty: false,
        cascade: true,
    }
}
