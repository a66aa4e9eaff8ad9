//! The target `argocd` against an API server in memory: what is sent, and what
//! follows from the answers. The schema and the semantics of server-side apply
//! are the business of the tests against a real one.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::apiserver::Server;

use super::super::clusters::Clusters;
use super::super::local::fake::Fake;
use super::super::{Action, Activation, Gate, Health, Reason, Target, Targets, Withdrawal, links};
use super::ArgoCd;
use crate::api::v1;
use crate::model::delivery::{self, Artifact, DeletionPolicy, Resource, TargetType};

fn digest() -> String {
    format!("sha256:{}", "ab".repeat(32))
}

fn activation(inventory: Vec<Resource>) -> Activation {
    Activation {
        namespace: "shop".parse().unwrap(),
        recipe: "web".parse().unwrap(),
        preparation: "web-abababababab".parse().unwrap(),
        artifact: Artifact {
            oci_ref: format!("oci://local/preparations/shop/web@{}", digest()),
            digest: digest(),
            size: 1,
        },
        manifest: Vec::new(),
        commit_message: "first".into(),
        target: delivery::Target {
            kind: TargetType::ArgoCd,
            ..Default::default()
        },
        allow_empty: false,
        registry_url: "https://10.0.0.1:5050".into(),
        inventory,
        defer_prune: false,
    }
}

fn withdrawal(inventory: &[Resource], policy: DeletionPolicy) -> Withdrawal {
    Withdrawal {
        namespace: "shop".parse().unwrap(),
        recipe: "web".parse().unwrap(),
        policy,
        inventory: inventory.to_vec(),
    }
}

/// A connected cluster.
async fn connected() -> (Server, ArgoCd, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let clusters = Clusters::open(dir.path()).unwrap();
    let server = Server::default();
    server.set(|s| s.argocd = true);
    let request = v1::ConnectClusterRequest {
        kubeconfig: server.start().await,
        ..Default::default()
    };
    links::connect(&clusters, &Fake::default(), request, "")
        .await
        .unwrap();
    (server, ArgoCd::new(clusters), dir)
}

#[tokio::test]
async fn without_argocd_nothing_is_kept_and_the_reason_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let clusters = Clusters::open(dir.path()).unwrap();
    let target = ArgoCd::new(clusters.clone());
    let wanted = activation(Vec::new());
    let error = target.apply(&wanted).await.unwrap_err();
    assert_eq!(error.reason.as_str(), "ArgoCDUnavailable");
    assert!(error.message.contains("kuke argocd connect"), "{error}");

    let server = Server::default();
    let request = v1::ConnectClusterRequest {
        kubeconfig: server.start().await,
        registry_username: "robot".into(),
        registry_password: "s3cret".into(),
        ..Default::default()
    };
    let registry = "10.0.0.1:5050";
    let machine = Fake::default();
    let refused = links::connect(&clusters, &machine, request.clone(), registry).await;
    assert_eq!(refused.unwrap_err().reason, "ArgoCDUnavailable");
    assert!(clusters.names().unwrap().is_empty());

    server.set(|s| s.argocd = true);
    let connect = |request| links::connect(&clusters, &machine, request, registry);
    // A dry run asks, writes nothing there, and keeps nothing here.
    let asked = v1::ConnectClusterRequest {
        dry_run: true,
        ..request.clone()
    };
    let told = connect(asked).await.unwrap();
    assert_eq!(told.registry, "oci://10.0.0.1:5050");
    assert_eq!(told.secret, "argocd/kukeon-registry");
    assert!(clusters.names().unwrap().is_empty() && machine.done().is_empty());
    server.set(|s| assert!(s.objects.is_empty()));
    // A Secret of somebody else is told before anything is made, a login as well.
    let path = "/api/v1/namespaces/argocd/secrets/kukeon-registry";
    let theirs = json!({ "metadata": { "name": "kukeon-registry" } });
    server.set(|s| drop(s.objects.insert(path.into(), theirs.clone())));
    for dry_run in [true, false] {
        let request = v1::ConnectClusterRequest {
            dry_run,
            registry_username: String::new(),
            registry_password: String::new(),
            ..request.clone()
        };
        let refused = connect(request).await.unwrap_err();
        assert!(refused.message.contains("it is there already"), "{refused}");
    }
    assert!(clusters.names().unwrap().is_empty() && machine.done().is_empty());
    server.set(|s| assert_eq!(s.objects.remove(path), Some(theirs)));
    let made = connect(request.clone()).await.unwrap();
    assert_eq!(made.registry, "oci://10.0.0.1:5050");
    assert_eq!(made.secret, "argocd/kukeon-registry");
    let secret = || {
        let mut data = Value::Null;
        server.set(|s| data = s.objects[path]["data"].clone());
        data
    };
    let encoded = |text: &str| json!(STANDARD.encode(text));
    assert_eq!(secret()["username"], encoded("robot"));
    assert_eq!(secret()["password"], encoded("s3cret"));
    assert_eq!(secret().get("insecureOCIForceHttp"), None);
    assert!(machine.done().is_empty());
    // Without a login it gets one that may only fetch artifacts.
    let unnamed = v1::ConnectClusterRequest {
        registry_username: String::new(),
        registry_password: String::new(),
        ..request
    };
    connect(unnamed).await.unwrap();
    assert_eq!(
        machine.done(),
        ["login argocd-default preparations/**=pull"]
    );
    assert_eq!(secret()["username"], encoded("argocd-default"));
    assert_eq!(secret()["password"], encoded("generated"));
    assert_eq!(secret()["insecureOCIForceHttp"], encoded("true"));
    target.apply(&wanted).await.unwrap();

    // It goes away: that is told again, and nothing else breaks.
    server.set(|s| s.argocd = false);
    for error in [
        target.plan(&wanted).await.unwrap_err(),
        target.apply(&wanted).await.unwrap_err(),
        target.observe(&wanted).await.unwrap_err(),
        target.prune(&wanted).await.unwrap_err(),
    ] {
        assert_eq!(error.reason, Reason::ArgoCdUnavailable, "{error}");
        assert!(!error.is_terminal());
    }
    let all = links::list(&clusters, Default::default()).await.unwrap();
    assert!(!all.clusters[0].ready);
    let told = all.clusters[0].error.clone().unwrap();
    assert_eq!(told.reason, "ArgoCDUnavailable");
}

#[tokio::test]
async fn one_application_with_exactly_these_fields() {
    let (server, target, _dir) = connected().await;
    let wanted = activation(Vec::new());
    let plan = target.plan(&wanted).await.unwrap();
    assert_eq!(plan.objects[0].action, Action::Create);
    assert!(
        server.application("web").is_none(),
        "a plan changes nothing"
    );

    let applied = target.apply(&wanted).await.unwrap();
    let entry = Resource {
        api_version: "argoproj.io/v1alpha1".into(),
        kind: "Application".into(),
        cluster: "default".into(),
        namespace: "argocd".into(),
        name: "web".into(),
        hash: digest(),
        ..Default::default()
    };
    assert_eq!(applied.inventory, [entry]);
    assert_eq!(plan.inventory(), applied.inventory);
    let (place, sent) = server.sent().pop().unwrap();
    assert!(place.contains("fieldManager=kukeon"), "{place}");
    assert!(!place.contains("force=true"), "{place}");
    assert_eq!(
        sent,
        json!({
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
                    "delivery.kokumi.dev/preparation": "web-abababababab",
                    "delivery.kokumi.dev/commit-message": "first",
                },
                "finalizers": ["resources-finalizer.argocd.argoproj.io"],
            },
            "spec": {
                "project": "default",
                "source": {
                    "repoURL": "oci://10.0.0.1:5050/preparations/shop/web",
                    "targetRevision": digest(),
                    "path": ".",
                },
                "destination": { "server": "https://kubernetes.default.svc", "namespace": "shop" },
                "syncPolicy": {
                    "automated": { "prune": true, "selfHeal": true },
                    "syncOptions": ["ServerSideApply=true"],
                },
            },
        })
    );
    let again = target.apply(&wanted).await.unwrap();
    assert_eq!(again.objects[0].action, Action::Unchanged);
    assert!(target.plan(&wanted).await.unwrap().is_empty());

    let mut run = activation(applied.inventory);
    run.defer_prune = true;
    let plan = target.plan(&run).await.unwrap();
    assert_eq!(
        plan.objects[0].changes,
        ["spec.syncPolicy.automated.prune: is true, want false"]
    );
    target.apply(&run).await.unwrap();
    assert_eq!(target.prune(&run).await.unwrap(), run.inventory);
    let prunes = |server: &Server| {
        let live = server.application("web").unwrap();
        live["spec"]["syncPolicy"]["automated"]["prune"].clone()
    };
    assert_eq!(prunes(&server), false);
    run.defer_prune = false;
    assert_eq!(target.prune(&run).await.unwrap(), run.inventory);
    assert_eq!(prunes(&server), true);
}

#[tokio::test]
async fn health_is_that_of_the_wanted_digest() {
    let (server, target, _dir) = connected().await;
    let wanted = activation(Vec::new());
    let seen = target.observe(&wanted).await.unwrap();
    assert!(!seen.synced && seen.drift[0].ends_with("it is not there"));
    target.apply(&wanted).await.unwrap();
    let seen = target.observe(&wanted).await.unwrap();
    assert!(matches!(seen.health, Health::Waiting(_)), "{seen:?}");
    let status = |revision: &str, health: &str, phase: &str| {
        json!({
            "sync": { "status": "Synced", "revision": revision },
            "health": { "status": health },
            "operationState": { "phase": phase, "message": "boom", "syncResult": { "revision": revision } },
        })
    };
    for (revision, health, phase, part) in [
        ("sha256:old", "Healthy", "Succeeded", "Waiting"),
        (&digest(), "Progressing", "Succeeded", "Waiting"),
        (&digest(), "Degraded", "Succeeded", "Degraded"),
        (&digest(), "Healthy", "Failed", "Failed(DeploymentFailed"),
        (&digest(), "Healthy", "Succeeded", "Ready"),
    ] {
        server.edit("web", |o| o["status"] = status(revision, health, phase));
        let seen = target.observe(&wanted).await.unwrap();
        let told = format!("{:?}", seen.health);
        assert!(
            told.starts_with(part),
            "{revision} {health} {phase}: {told}"
        );
    }
    server.edit("web", |o| o["spec"]["project"] = "theirs".into());
    let seen = target.observe(&wanted).await.unwrap();
    assert!(!seen.synced);
    assert!(seen.drift[0].ends_with("project: is \"theirs\", want \"default\""));
    assert_eq!(Gate::of(&wanted.target).timeout.as_secs(), 300);
}

#[tokio::test]
async fn somebody_elses_application_is_left_alone() {
    let (server, target, _dir) = connected().await;
    let wanted = activation(Vec::new());
    let inventory = target.apply(&wanted).await.unwrap().inventory;
    let owner = "delivery.kokumi.dev/allowed-order";
    server.edit("web", |o| {
        o["metadata"]["annotations"][owner] = "mall/web".into()
    });
    let before = server.application("web");
    for error in [
        target.plan(&wanted).await.unwrap_err(),
        target.apply(&wanted).await.unwrap_err(),
        target.observe(&wanted).await.unwrap_err(),
    ] {
        assert_eq!(error.reason, Reason::OptInRequired, "{error}");
        assert!(error.is_terminal() && error.message.contains("mall/web"));
    }
    // It was handed over, so it is not part of a withdrawal any more.
    let withdrawal = withdrawal(&inventory, DeletionPolicy::Delete);
    assert!(target.withdraw(&withdrawal).await.unwrap().is_empty());
    assert_eq!(server.application("web"), before);
}

#[tokio::test]
async fn withdrawing_waits_for_argocd_or_leaves_the_workload() {
    let (server, target, _dir) = connected().await;
    let wanted = activation(Vec::new());
    let inventory = target.apply(&wanted).await.unwrap().inventory;
    let delete = withdrawal(&inventory, DeletionPolicy::Delete);
    assert_eq!(target.withdraw(&delete).await.unwrap(), inventory);
    let live = server.application("web").unwrap();
    assert!(live["metadata"]["deletionTimestamp"].is_string());
    // Argo CD has removed the workload.
    server.set(|s| s.objects.clear());
    assert!(target.withdraw(&delete).await.unwrap().is_empty());

    target.apply(&wanted).await.unwrap();
    let orphan = withdrawal(&inventory, DeletionPolicy::Orphan);
    assert!(target.withdraw(&orphan).await.unwrap().is_empty());
    assert!(server.application("web").is_none());
}

#[tokio::test]
async fn a_renamed_application_does_not_take_the_workload_along() {
    let (server, target, _dir) = connected().await;
    let mut wanted = activation(Vec::new());
    wanted.inventory = target.apply(&wanted).await.unwrap().inventory;
    wanted.target.argocd.application_name = Some("site".into());
    let plan = target.plan(&wanted).await.unwrap();
    assert_eq!(plan.objects[1].action, Action::Prune);
    let applied = target.apply(&wanted).await.unwrap();
    assert_eq!(applied.awaiting.len(), 1);
    wanted.inventory = applied.inventory;
    let left = target.prune(&wanted).await.unwrap();
    assert_eq!(left.len(), 1);
    // Gone at once: without its finalizer, Argo CD leaves the workload alone.
    assert!(server.application("web").is_none());
    assert!(server.application("site").is_some());
}

#[tokio::test]
async fn a_registry_that_no_cluster_can_reach() {
    let (server, target, _dir) = connected().await;
    let mut wanted = activation(Vec::new());
    wanted.registry_url = String::new();
    let error = target.plan(&wanted).await.unwrap_err();
    assert_eq!(error.reason, Reason::DeploymentFailed);
    assert!(error.is_terminal() && error.hint.contains("registryUrl"));
    // What is kept elsewhere is fetched from there.
    wanted.artifact.oci_ref = format!("oci://reg.example/web@{}", digest());
    target.plan(&wanted).await.unwrap();
    target.apply(&wanted).await.unwrap();
    let (_, sent) = server.sent().pop().unwrap();
    let source = &sent["spec"]["source"];
    assert_eq!(source["repoURL"], "oci://reg.example/web");
    assert_eq!(source["targetRevision"], digest());
}

#[tokio::test]
async fn a_release_that_moves_leaves_nothing_behind() {
    let (server, _, dir) = connected().await;
    let machine = Fake::default();
    machine.image("one");
    let both = Targets::open(Arc::new(machine.clone()), dir.path()).unwrap();
    let mut wanted = activation(Vec::new());
    wanted.target.kind = TargetType::Kuke;
    wanted.manifest = b"apiVersion: v1beta1\nkind: Cell\nmetadata: {name: web}\nspec: {realmId: shop, spaceId: s, stackId: t, containers: [{id: a, image: one}]}\n".to_vec();
    wanted.inventory = both.apply(&wanted).await.unwrap().inventory;
    wanted.inventory = both.prune(&wanted).await.unwrap();
    assert_eq!(wanted.inventory.len(), 3);

    wanted.target.kind = TargetType::ArgoCd;
    let plan = both.plan(&wanted).await.unwrap();
    let prunes = plan.objects.iter().filter(|o| o.action == Action::Prune);
    assert_eq!(prunes.count(), 3);
    let applied = both.apply(&wanted).await.unwrap();
    assert_eq!(applied.inventory.len(), 4);
    assert!(
        machine.object("Cell", "web").is_some(),
        "until the new one works"
    );
    wanted.inventory = applied.inventory;
    wanted.inventory = both.prune(&wanted).await.unwrap();
    assert_eq!(wanted.inventory.len(), 1);
    assert!(machine.object("Cell", "web").is_none());

    // And back: Argo CD takes its time, and the rest is told until it is gone.
    wanted.target.kind = TargetType::Kuke;
    wanted.inventory = both.apply(&wanted).await.unwrap().inventory;
    assert_eq!(wanted.inventory.len(), 4);
    wanted.inventory = both.prune(&wanted).await.unwrap();
    assert_eq!(wanted.inventory.len(), 4);
    server.set(|s| s.objects.clear());
    wanted.inventory = both.prune(&wanted).await.unwrap();
    assert_eq!(wanted.inventory.len(), 3);
}
