//! What a release does to this machine, and what it leaves alone; and a cluster
//! that is not there.

use serde_json::Value;

use crate::command::eventually;
use crate::delivery::{HEAD, active, latest, source, text};
use crate::host::{Engine, Host, Mode};
use crate::manifest::{container, sleeper};
use crate::runner::{Case, Verdict};
use crate::{cases, cases_in_both_modes};

pub const CASES: &[&[Case]] = &[
    cases_in_both_modes![
        what_leaves_the_artifact_is_pruned,
        an_image_that_is_not_there_takes_nothing_down,
        what_is_let_go_stays,
    ],
    cases![
        work_that_has_ended_is_not_begun_again,
        a_manifest_over_a_release_is_drift,
        another_realm_has_to_allow_it,
        a_target_that_does_not_prune_keeps_all,
        without_argocd_only_its_release_fails,
        what_could_not_be_deleted_is_deleted_later,
    ],
];

const ALLOWED: &str = "delivery.kokumi.dev/allowed-recipe";
const SERVING: &str = "delivery.kokumi.dev/serving";

/// A cell in the space `shop` with one container.
fn cell(name: &str, containers: &str) -> String {
    crate::manifest::cell(name, containers).replace("spaceId: default", "spaceId: shop")
}

/// A cell in the space `shop` that runs until it is stopped.
fn shop(name: &str) -> String {
    sleeper(name).replace("spaceId: default", "spaceId: shop")
}

fn recipe(dir: &str, kuke: &str, more: &str) -> String {
    format!(
        "{HEAD}kind: Recipe\nmetadata: {{name: site}}\nspec:\n  source: {{path: {dir}}}\n  \
         target: {{kuke: {{minHealthy: 0s, healthTimeout: 20s{kuke}}}{more}}}\n"
    )
}

/// Renders what the source holds now and activates it.
fn release(host: &Host, documents: &[&str]) {
    host.file("app/manifest.yaml", documents.join("---\n"));
    host.kuke(&["recipe", "refresh", "site"]).ok();
    host.kuke(&["promote", "site", "--wait"]).ok();
}

/// An object of the space `shop`.
fn found(host: &Host, kind: &str, name: &str) -> Option<Value> {
    let mut arguments = vec!["get", kind, name, "-o", "json"];
    if kind != "space" {
        arguments.extend(["--space", "shop"]);
    }
    let done = host.kuke(&arguments);
    match done.code {
        3 => None,
        _ => Some(done.ok().json()),
    }
}

fn pid(host: &Host, cell: &str) -> Value {
    let cell = found(host, "cell", cell).expect("a cell");
    assert_eq!(cell["status"]["state"], "Ready", "{cell}");
    cell["status"]["containers"][0]["pid"].clone()
}

fn reason(host: &Host) -> String {
    let serving = host.get("serving", "site");
    let conditions = serving["status"]["conditions"].as_array().cloned();
    let ready = conditions.unwrap_or_default();
    let ready = ready.iter().find(|c| c["type"] == "Ready");
    ready.map(|c| text(&c["reason"])).unwrap_or_default()
}

fn inventory(host: &Host) -> Vec<String> {
    let serving = host.get("serving", "site");
    let entries = serving["status"]["inventory"].as_array().cloned();
    let name = |r: &Value| format!("{}/{}", text(&r["kind"]), text(&r["name"]));
    entries.unwrap_or_default().iter().map(name).collect()
}

fn what_leaves_the_artifact_is_pruned(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let dir = source(&host, &format!("{}---\n{}", shop("a"), shop("b")));
    host.apply(&recipe(&dir, "", "")).ok();
    host.kuke(&["promote", "site", "--wait"]).ok();
    assert_eq!(
        inventory(&host),
        ["Space/shop", "Stack/default", "Cell/a", "Cell/b"]
    );
    for (kind, name) in [("space", "shop"), ("stack", "default"), ("cell", "a")] {
        let labels = &found(&host, kind, name).expect(name)["metadata"]["labels"];
        assert_eq!(labels[SERVING], "site", "{labels}");
    }
    let before = pid(&host, "a");

    // Labels of an owner restart nothing, and neither does a release beside it.
    release(&host, &[&shop("a"), &shop("c")]);
    assert_eq!(pid(&host, "a"), before);
    assert!(found(&host, "cell", "b").is_none());
    assert_eq!(
        inventory(&host),
        ["Space/shop", "Stack/default", "Cell/a", "Cell/c"]
    );

    // Somebody moves in; what a person marks is not pruned.
    host.apply(&shop("guest")).ok();
    let marked = host
        .kuke(&["get", "cell", "c", "--space", "shop", "-o", "yaml"])
        .ok()
        .out
        .replacen(
            "  labels:\n",
            "  annotations:\n    delivery.kokumi.dev/prune: disabled\n  labels:\n",
            1,
        );
    host.apply(&marked).ok();
    release(&host, &[&sleeper("elsewhere")]);
    assert!(found(&host, "cell", "a").is_none());
    assert!(found(&host, "cell", "c").is_some());
    assert_eq!(host.state("elsewhere"), "Ready");
    assert_eq!(inventory(&host), ["Cell/elsewhere", "Cell/c"]);
    let space = found(&host, "space", "shop").expect("still in use");
    assert!(
        space["metadata"]["labels"].get(SERVING).is_none(),
        "{space}"
    );

    host.kuke(&["delete", "recipe", "site"]).ok();
    assert_eq!(host.state("elsewhere"), "");
    pid(&host, "guest");
    pid(&host, "c");
    host.finish();
    Ok(())
}

fn an_image_that_is_not_there_takes_nothing_down(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let dir = source(&host, &format!("{}---\n{}", shop("a"), shop("b")));
    host.apply(&recipe(&dir, "", "")).ok();
    host.kuke(&["promote", "site", "--wait"]).ok();
    let before = pid(&host, "a");
    let missing = shop("a").replace(
        "image: busybox",
        "image: 127.0.0.1:9/no/such:1\n      imagePullPolicy: never",
    );
    host.file("app/manifest.yaml", missing);
    host.kuke(&["recipe", "refresh", "site"]).ok();
    let failed = host.kuke(&["promote", "site", "--wait"]);
    assert_ne!(failed.code, 0, "{}", failed.show());
    failed.says(&["127.0.0.1:9/no/such:1", "kuke image load"]);
    assert_eq!(reason(&host), "ApplyFailed");
    assert_eq!(pid(&host, "a"), before);
    pid(&host, "b");
    host.kuke(&["rollback", "site", "--wait"]).ok();
    assert_eq!(pid(&host, "a"), before);
    host.finish();
    Ok(())
}

fn what_is_let_go_stays(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let dir = source(&host, &shop("a"));
    host.apply(&recipe(&dir, "", ", deletionPolicy: Orphan"))
        .ok();
    host.kuke(&["promote", "site", "--wait"]).ok();
    let before = pid(&host, "a");
    host.kuke(&["delete", "recipe", "site"]).ok();
    assert_eq!(pid(&host, "a"), before);
    for (kind, name) in [("space", "shop"), ("stack", "default"), ("cell", "a")] {
        let object = found(&host, kind, name).expect(name);
        assert!(
            object["metadata"]["labels"].get(SERVING).is_none(),
            "{object}"
        );
    }
    // It is nobody's by now, so a new release does not get it by itself.
    host.apply(&recipe(&dir, "", "")).ok();
    assert_ne!(host.kuke(&["promote", "site", "--wait"]).code, 0);
    assert_eq!(reason(&host), "OptInRequired");
    host.finish();
    Ok(())
}

fn work_that_has_ended_is_not_begun_again() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let job = cell("job", &container("exit 0", &["restartPolicy: never"]));
    let dir = source(&host, &job);
    host.apply(&recipe(&dir, "", "")).ok();
    host.kuke(&["promote", "site", "--wait"]).ok();
    let ended = || {
        let job = found(&host, "cell", "job").expect("the job");
        assert_eq!(job["status"]["state"], "Exited", "{job}");
        job["status"]["containers"][0]["finishedAt"].clone()
    };
    let first = ended();
    host.kuke(&["sync", "site", "--wait"]).ok();
    release(&host, &[&job, &shop("a")]);
    assert_eq!(ended(), first);
    // A job that shall run again and has ended is not healthy.
    let again = job.replace("restartPolicy: never", "restartPolicy: on-failure");
    host.file("app/manifest.yaml", again);
    host.kuke(&["recipe", "refresh", "site"]).ok();
    assert_ne!(host.kuke(&["promote", "site", "--wait"]).code, 0);
    assert_eq!(reason(&host), "Unhealthy");
    host.finish();
    Ok(())
}

fn a_manifest_over_a_release_is_drift() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let dir = source(&host, &shop("a"));
    host.apply(&recipe(&dir, ", selfHeal: false", "")).ok();
    host.kuke(&["promote", "site", "--wait"]).ok();
    host.apply(&shop("a").replace(
        "image: busybox",
        "image: busybox\n      env: [COLOUR=wrong]",
    ))
    .ok();
    let labels = &found(&host, "cell", "a").expect("a")["metadata"]["labels"];
    assert_eq!(labels[SERVING], "site", "still its release's");
    host.kuke(&["diff", "site", "--live"])
        .code(1)
        .says(&["spec.containers[main].env"])
        .says_nothing_of(&["wrong"]);
    host.kuke(&["sync", "site", "--wait"]).ok();
    let cell = found(&host, "cell", "a").expect("a");
    assert!(cell["spec"]["containers"][0].get("env").is_none(), "{cell}");
    host.kuke(&["diff", "site", "--live"]).ok();
    host.finish();
    Ok(())
}

fn another_realm_has_to_allow_it() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let realm =
        |notes: &str| format!("apiVersion: v1beta1\nkind: Realm\nmetadata:\n  name: mall\n{notes}");
    host.apply(&realm("")).ok();
    let archive = crate::world::world().busybox.display().to_string();
    host.kuke(&["image", "load", "--realm", "mall", &archive])
        .ok();
    let manifest = sleeper("a").replace("realmId: default", "realmId: mall");
    let dir = source(&host, &manifest);
    host.apply(&recipe(&dir, ", realm: mall", "")).ok();
    assert_ne!(host.kuke(&["promote", "site", "--wait"]).code, 0);
    assert_eq!(reason(&host), "OptInRequired");
    let none = host.kuke(&["get", "cells", "--realm", "mall", "-o", "name"]);
    assert_eq!(none.ok().out, "");

    host.apply(&realm(&format!(
        "  annotations: {{{ALLOWED}: default/site}}\n"
    )))
    .ok();
    host.kuke(&["promote", "site", "--wait"]).ok();
    host.kuke(&["get", "cells", "--realm", "mall", "-o", "name"])
        .ok()
        .says(&["a"]);
    host.finish();
    Ok(())
}

fn a_target_that_does_not_prune_keeps_all() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let dir = source(&host, &shop("a"));
    host.apply(&recipe(&dir, ", prune: false", "")).ok();
    host.kuke(&["promote", "site", "--wait"]).ok();
    release(&host, &[&shop("b")]);
    pid(&host, "a");
    pid(&host, "b");
    // It is still part of the release, and goes with it.
    host.kuke(&["delete", "recipe", "site"]).ok();
    assert!(found(&host, "space", "shop").is_none());
    host.finish();
    Ok(())
}

fn without_argocd_only_its_release_fails() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let dir = source(&host, &sleeper("web"));
    host.kuke(&["argocd", "status"])
        .ok()
        .says(&["no cluster is connected"]);
    host.kuke(&["argocd", "status", "prod"]).code(3);
    let config = "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}]\n\
         contexts: [{name: c, context: {cluster: c, user: u}}]\n\
         users: [{name: u, user: {token: s3cret}}]\n";
    let connect = ["argocd", "connect", "--kubeconfig", "-"];
    host.kuke_with(&connect, config)
        .code(5)
        .says(&["cannot be reached"])
        .says_nothing_of(&["s3cret"]);
    host.kuke_with(&connect, "users: [{name: u, user: {exec: {command: x}}}]")
        .code(2);
    // What could not be reached is not kept.
    host.kuke(&["argocd", "status"])
        .ok()
        .says(&["no cluster is connected"]);

    let cluster = format!(
        "{HEAD}kind: Recipe\nmetadata: {{name: site}}\nspec:\n  source: {{path: {dir}}}\n  \
         target: {{type: argocd}}\n  autoDeployLatest: true\n"
    );
    host.apply(&cluster).ok();
    eventually(20.0, "the reason", || reason(&host) == "DeploymentFailed");
    let kitchen = format!(
        "{HEAD}kind: Kitchen\nmetadata: {{name: default}}\nspec: {{sourceRoots: [{dir}], registryUrl: '10.0.0.1:5050'}}\n"
    );
    host.apply(&kitchen).ok();
    assert_ne!(host.kuke(&["sync", "site", "--wait"]).code, 0);
    eventually(20.0, "the reason", || reason(&host) == "ArgoCDUnavailable");
    // Everything else goes on.
    let local = recipe(&dir, "", "").replace("name: site", "name: local");
    host.apply(&local).ok();
    host.kuke(&["promote", "local", "--wait"]).ok();
    assert_eq!(active(&host, "local"), latest(&host, "local"));
    assert_eq!(host.state("web"), "Ready");
    host.finish();
    Ok(())
}

/// The daemon goes on by itself with what it was asked for while containerd was away.
fn what_could_not_be_deleted_is_deleted_later() -> Verdict {
    let mut host = Host::bare(Mode::Daemon, Engine::Private);
    host.start_daemon();
    host.kuke(&["init"]).ok();
    host.load_busybox();
    let dir = source(&host, &sleeper("web"));
    host.apply(&recipe(&dir, "", "")).ok();
    host.kuke(&["promote", "site", "--wait"]).ok();
    let engine = host.dir.join("containerd");
    host.engine.as_mut().unwrap().kill();
    std::fs::remove_file(engine.join("containerd.sock")).ok();
    assert_ne!(host.kuke(&["delete", "recipe", "site"]).code, 0);
    host.engine = Some(crate::world::Containerd::start(&engine));
    // Long before the next look at everything, which is every ten minutes.
    eventually(30.0, "it is deleted", || {
        host.kuke(&["get", "recipe", "site"]).code == 3
    });
    assert_eq!(host.state("web"), "");
    host.finish();
    Ok(())
}
