//! The Argo CD target against a real Kubernetes API server, with Argo CD's own
//! schema of the Application. No controller runs: what Argo CD would write into
//! a status is written by the test.
//!
//! Needs `etcd`, a `kube-apiserver` (on the path or named by `KUBE_APISERVER`)
//! and the schema (named by `ARGOCD_CRD`); `tests/run.sh cluster` provides them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod programs;
mod server;

use std::time::Duration;

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kukeon::delivery::target::argocd::{
    self, Application, Applied, Cluster, Error, RegistryLogin, RegistryTrust, Verdict,
};
use serde_json::{Value, json};
use server::Server;

/// Everything, on one server: it takes seconds to come up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_real_api_server() {
    let Some(server) = Server::start() else {
        return;
    };
    let cluster = server.cluster().await;

    println!("without Argo CD");
    let wanted = application("web");
    let missing = argocd::apply(&cluster, &wanted).await.unwrap_err();
    assert!(matches!(missing, Error::Unavailable { .. }), "{missing}");
    assert_eq!(missing.reason().as_str(), "ArgoCDUnavailable");

    server.install_argocd().await;
    creates_updates_and_leaves_others_alone(&server, &cluster).await;
    refuses_what_belongs_to_others(&server, &cluster).await;
    follows_sync_and_health(&server, &cluster).await;
    notices_changes(&server, &cluster).await;
    deletes_with_and_without_the_workload(&server, &cluster).await;
    connects(&server, &cluster).await;

    println!("without rights");
    let stranger = server.stranger().await;
    let refused = argocd::apply(&stranger, &wanted).await.unwrap_err();
    assert!(matches!(refused, Error::Forbidden { .. }), "{refused}");
    assert_eq!(refused.reason().as_str(), "ApplyFailed");

    println!("with the server gone");
    drop(server);
    let gone = argocd::apply(&cluster, &wanted).await.unwrap_err();
    assert!(matches!(gone, Error::Unavailable { .. }), "{gone}");
    assert!(gone.to_string().contains("refused"), "{gone}");
}

async fn creates_updates_and_leaves_others_alone(server: &Server, cluster: &Cluster) {
    println!("create, update, leave alone");
    let mut wanted = application("web");
    let planned = argocd::plan(cluster, &wanted).await.unwrap();
    assert_eq!(planned, (Applied::Created, Vec::new()));
    let none = argocd::observe(cluster, &wanted).await.unwrap();
    assert!(none.is_none(), "a plan changes nothing");
    assert_eq!(
        argocd::apply(cluster, &wanted).await.unwrap(),
        Applied::Created
    );
    let planned = argocd::plan(cluster, &wanted).await.unwrap();
    assert_eq!(planned, (Applied::Unchanged, Vec::new()));
    let live = server.application("web").await;
    // Nothing was dropped, changed or added by the schema.
    let body = wanted.body();
    assert_eq!(live.data["spec"], body["spec"]);
    assert_eq!(json!(live.metadata.labels), body["metadata"]["labels"]);
    assert_eq!(
        json!(live.metadata.annotations),
        body["metadata"]["annotations"]
    );
    assert_eq!(
        json!(live.metadata.finalizers),
        body["metadata"]["finalizers"]
    );
    let manager = &live.metadata.managed_fields.unwrap()[0];
    assert_eq!(manager.manager.as_deref(), Some("kukeon"));

    assert_eq!(
        argocd::apply(cluster, &wanted).await.unwrap(),
        Applied::Unchanged
    );

    let theirs = json!({
        "metadata": { "annotations": { "example.com/note": "mine" } },
        "spec": { "info": [{ "name": "owner", "value": "team" }] },
    });
    server.edit("web", theirs, "somebody").await;
    wanted.digest = digest("cd");
    wanted.commit_message = String::new();
    let (applied, changes) = argocd::plan(cluster, &wanted).await.unwrap();
    assert_eq!(applied, Applied::Updated);
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert!(changes[0].starts_with("spec.source.targetRevision: is "));
    assert_eq!(
        changes[1],
        "metadata.annotations.delivery.kokumi.dev/commit-message: removed"
    );
    assert_eq!(
        argocd::apply(cluster, &wanted).await.unwrap(),
        Applied::Updated
    );
    let live = server.application("web").await;
    assert_eq!(live.data["spec"]["source"]["targetRevision"], wanted.digest);
    assert_eq!(live.data["spec"]["info"][0]["value"], "team");
    let annotations = live.metadata.annotations.unwrap();
    assert_eq!(annotations["example.com/note"], "mine");
    let mut renamed = wanted.clone();
    renamed.name = "other".into();
    assert!(
        argocd::same_destination(cluster, &wanted, &renamed)
            .await
            .unwrap()
    );
    renamed.destination_namespace = "elsewhere".into();
    assert!(
        !argocd::same_destination(cluster, &wanted, &renamed)
            .await
            .unwrap()
    );
    // What we no longer want goes.
    assert!(!annotations.contains_key("delivery.kokumi.dev/commit-message"));
}

async fn refuses_what_belongs_to_others(server: &Server, cluster: &Cluster) {
    println!("ownership");
    let mut theirs = application("shared");
    theirs.owner_namespace = "other".into();
    argocd::apply(cluster, &theirs).await.unwrap();
    let before = server.application("shared").await;

    let ours = application("shared");
    for error in [
        argocd::plan(cluster, &ours).await.unwrap_err(),
        argocd::observe(cluster, &ours).await.unwrap_err(),
        argocd::apply(cluster, &ours).await.unwrap_err(),
        argocd::delete(cluster, &ours, true).await.unwrap_err(),
    ] {
        assert_eq!(error.reason().as_str(), "OptInRequired");
        assert!(error.reason().is_terminal());
        assert!(error.to_string().contains("other/shared"), "{error}");
    }
    let after = server.application("shared").await;
    assert_eq!(
        before.metadata.resource_version,
        after.metadata.resource_version
    );

    let opt_in = json!({ "metadata": { "annotations": {
        "delivery.kokumi.dev/allowed-recipe": "shop/shared",
    }}});
    server.edit("shared", opt_in, "somebody").await;
    assert_eq!(
        argocd::apply(cluster, &ours).await.unwrap(),
        Applied::Updated
    );
}

async fn follows_sync_and_health(server: &Server, cluster: &Cluster) {
    println!("sync and health");
    let wanted = application("web");
    argocd::apply(cluster, &wanted).await.unwrap();
    let seen = argocd::observe(cluster, &wanted).await.unwrap().unwrap();
    assert!(matches!(seen.verdict, Verdict::Waiting(_)), "{seen:?}");

    let status = |sync: &str, health: &str| {
        json!({ "status": {
            "sync": { "status": sync, "revision": wanted.digest, "comparedTo": {
                "destination": {}, "source": { "repoURL": wanted.repository } } },
            "health": { "status": health },
        }})
    };
    server
        .edit("web", status("Synced", "Progressing"), "argocd")
        .await;
    let seen = argocd::observe(cluster, &wanted).await.unwrap().unwrap();
    assert!(seen.synced && !seen.healthy, "{seen:?}");
    server
        .edit("web", status("Synced", "Healthy"), "argocd")
        .await;
    let seen = argocd::observe(cluster, &wanted).await.unwrap().unwrap();
    assert_eq!(seen.verdict, Verdict::Deployed);

    // Our apply does not touch what Argo CD writes.
    argocd::apply(cluster, &wanted).await.unwrap();
    let seen = argocd::observe(cluster, &wanted).await.unwrap().unwrap();
    assert_eq!(seen.verdict, Verdict::Deployed);
    assert!(
        argocd::observe(cluster, &application("none"))
            .await
            .unwrap()
            .is_none()
    );
}

async fn notices_changes(server: &Server, cluster: &Cluster) {
    println!("changes");
    let wanted = application("web");
    let limit = Duration::from_secs(30);
    let began = std::time::Instant::now();
    let (seen, ()) = tokio::join!(argocd::changed(cluster, &wanted, None, limit), async {
        // Other Applications do not wake it.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let drift = json!({ "spec": { "project": "theirs" } });
        server.edit("web", drift, "somebody").await;
    });
    seen.unwrap();
    assert!(began.elapsed() < limit, "the change was not noticed");
    let seen = argocd::observe(cluster, &wanted).await.unwrap().unwrap();
    assert_eq!(seen.drifted, ["project: is \"theirs\", want \"default\""]);
    assert_eq!(
        argocd::apply(cluster, &wanted).await.unwrap(),
        Applied::Updated
    );
    let seen = argocd::observe(cluster, &wanted).await.unwrap().unwrap();
    assert!(seen.drifted.is_empty(), "{seen:?}");
}

async fn deletes_with_and_without_the_workload(server: &Server, cluster: &Cluster) {
    println!("delete");
    let wanted = application("web");
    // Argo CD removes the workload, then its finalizer.
    assert!(!argocd::delete(cluster, &wanted, true).await.unwrap());
    assert!(!argocd::delete(cluster, &wanted, true).await.unwrap());
    let done = json!({ "metadata": { "finalizers": null } });
    server.edit("web", done, "argocd").await;
    assert!(argocd::delete(cluster, &wanted, true).await.unwrap());

    let orphan = application("orphan");
    argocd::apply(cluster, &orphan).await.unwrap();
    assert!(argocd::delete(cluster, &orphan, false).await.unwrap());
    assert!(argocd::delete(cluster, &orphan, false).await.unwrap());
}

async fn connects(server: &Server, cluster: &Cluster) {
    println!("connect");
    let mut login = RegistryLogin {
        url: "oci://10.0.0.1:5050".into(),
        username: "argocd".into(),
        password: "s3cret".into(),
        trust: RegistryTrust::PlainHttp,
    };
    let made = argocd::connect(cluster, "argocd", Some(&login), false)
        .await
        .unwrap();
    assert_eq!(made.secret, "argocd/kukeon-registry");
    assert!(made.kubernetes.starts_with('v'), "{made:?}");
    let secret = server
        .core("Secret", "secrets")
        .get("kukeon-registry")
        .await
        .unwrap();
    // `oci` in base64.
    assert_eq!(secret.data["data"]["type"], "b2Np");
    assert_eq!(
        secret.metadata.labels.unwrap()["argocd.argoproj.io/secret-type"],
        "repo-creds"
    );
    login.trust = RegistryTrust::Authority("PEM".into());
    argocd::connect(cluster, "argocd", Some(&login), false)
        .await
        .unwrap();
    let secret = server
        .core("Secret", "secrets")
        .get("kukeon-registry")
        .await
        .unwrap();
    // What is no longer wanted goes.
    assert_eq!(
        secret.data["data"].get("insecureOCIForceHttp"),
        None,
        "{:?}",
        secret.data
    );
    let map = server.core("ConfigMap", "configmaps");
    let map = map.get("argocd-tls-certs-cm").await.unwrap();
    assert_eq!(map.data["data"]["10.0.0.1"], "PEM");
}

fn digest(pair: &str) -> String {
    format!("sha256:{}", pair.repeat(32))
}

fn application(name: &str) -> Application {
    Application {
        name: name.into(),
        namespace: "argocd".into(),
        owner_namespace: "shop".into(),
        recipe: name.into(),
        preparation: format!("{name}-0123456789ab"),
        commit_message: "first".into(),
        project: "default".into(),
        repository: format!("oci://10.0.0.1:5050/preparations/shop/{name}"),
        digest: digest("ab"),
        destination_server: "https://kubernetes.default.svc".into(),
        destination_namespace: "shop".into(),
        prune: true,
        self_heal: true,
        server_side_apply: true,
        allow_empty: false,
        cascade: true,
    }
}

impl Server {
    async fn application(&self, name: &str) -> DynamicObject {
        self.applications().get(name).await.unwrap()
    }

    /// A merge patch by somebody else.
    async fn edit(&self, name: &str, patch: Value, manager: &str) {
        let params = PatchParams {
            field_manager: Some(manager.to_owned()),
            ..PatchParams::default()
        };
        let api: Api<DynamicObject> = self.applications();
        api.patch(name, &params, &Patch::Merge(patch))
            .await
            .unwrap();
    }
}
