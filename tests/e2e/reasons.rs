//! Rows of the failure table beyond `failures`: that nothing is tried while only a
//! change helps, and that what may pass is tried until it has.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::command::eventually;
use crate::delivery::{active, latest, source, text};
use crate::failures::{coloured, failed, live, manifest_of, pantry, ready, recipe, says};
use crate::host::{Host, Mode};
use crate::manifest::{shell, sleeper};
use crate::quiet::at_rest;
use crate::registry::{PASSWORD, Registry};
use crate::runner::{Case, Verdict};
use crate::world::installed;
use crate::{cases, cases_in_both_modes};

pub const CASES: &[&[Case]] = &[
    cases_in_both_modes![
        a_repository_that_is_not_there,
        a_chart_that_is_never_the_same,
        a_configuration_that_is_damaged,
    ],
    cases![
        what_is_foreign_is_left_alone_until_something_changes,
        what_cannot_be_applied_is_tried_again,
        a_damaged_artifact_is_seen_at_a_start,
    ],
];

fn a_repository_that_is_not_there(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let registry = Registry::start(&host)?;
    registry.push_files("team/app:v1", &[("manifest.yaml", &sleeper("web"))]);
    host.apply(&pantry(PASSWORD)).ok();
    let wanted = recipe("{pantryRef: {name: larder}, version: v1}", "");
    host.apply(&wanted).ok();
    host.kuke(&["promote", "web", "--wait"]).ok();
    let (before, first) = (live(&host), latest(&host, "web"));
    // The Pantry names another repository of the same registry.
    host.apply(&pantry(PASSWORD).replace("team/app", "team/nothing"));
    failed(host.kuke(&["recipe", "refresh", "web"]));
    let words = ["team/nothing", "spec.source"];
    says(&host, "recipe", "SourceNotFound", &words);
    assert_eq!((live(&host), latest(&host, "web")), (before, first.clone()));
    if mode == Mode::Daemon {
        // Only a change helps, so that nothing is tried.
        let written = at_rest(&host);
        assert!(!host.daemon_log().contains("\"SourceNotFound\""));
        registry.push_files("team/nothing:v1", &[("manifest.yaml", &sleeper("web"))]);
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(at_rest(&host), written);
    } else {
        registry.push_files("team/nothing:v1", &[("manifest.yaml", &sleeper("web"))]);
    }
    host.kuke(&["recipe", "refresh", "web"]).ok();
    assert_eq!(ready(&host, "recipe", "web").0, "True");
    drop(registry);
    host.finish();
    Ok(())
}

/// Neither an object nor anything in the registry comes of it.
fn a_chart_that_is_never_the_same(mode: Mode) -> Verdict {
    installed("helm")?;
    let host = Host::new(mode);
    let dir = source(&host, &sleeper("web"));
    fs::remove_file(PathBuf::from(&dir).join("manifest.yaml")).unwrap();
    let chart = "apiVersion: v2\nname: demo\nversion: 0.1.0\n";
    host.file("app/Chart.yaml", chart);
    fs::create_dir(PathBuf::from(&dir).join("templates")).unwrap();
    let cell = |value: &str| {
        sleeper("web").replace(
            "image: busybox",
            &format!("image: busybox\n      env: ['TOKEN={value}']"),
        )
    };
    host.file("app/templates/a.yaml", cell("{{ randAlphaNum 8 }}"));
    let wanted = recipe(&format!("{{path: {dir}}}"), "  render: {helm: {}}\n");
    failed(host.apply(&wanted));
    says(
        &host,
        "recipe",
        "NondeterministicRender",
        &["Cell \"web\".spec.containers[0].env[0]"],
    );
    let none = |arguments: &[&str]| {
        let said = host.kuke(arguments).ok().out;
        assert!(said.starts_with("No "), "{said}");
    };
    none(&["get", "preps"]);
    none(&["get", "servings"]);
    none(&["registry", "ls"]);
    host.file("app/templates/a.yaml", cell("fixed"));
    host.kuke(&["recipe", "refresh", "web"]).ok();
    host.kuke(&["promote", "web", "--wait"]).ok();
    host.finish();
    Ok(())
}

/// Nobody needs it to run what is there, and nothing is activated without it.
fn a_configuration_that_is_damaged(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let dir = source(&host, &coloured("one"));
    host.apply(&recipe(&format!("{{path: {dir}}}"), "")).ok();
    host.kuke(&["promote", "web", "--wait"]).ok();
    host.file("app/manifest.yaml", coloured("two"));
    host.kuke(&["recipe", "refresh", "web"]).ok();
    let (before, second) = (live(&host), latest(&host, "web"));
    let manifest = fs::read(manifest_of(&host, &second)).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let config = text(&manifest["config"]["digest"]);
    let hex = config.trim_start_matches("sha256:");
    let file = host
        .run_path
        .join(format!("registry/blobs/sha256/{}/{hex}", &hex[..2]));
    let bytes = fs::read(&file).unwrap();
    for damage in [None, Some(&b"damaged"[..])] {
        match damage {
            None => fs::remove_file(&file).unwrap(),
            Some(bytes) => fs::write(&file, bytes).unwrap(),
        }
        let promote = host.kuke(&["promote", "web"]);
        promote.code(4).says(&["nothing was changed", hex]);
        host.kuke(&["prep", "verify", &second])
            .code(1)
            .says(&["artifact: differs", hex]);
        assert_eq!(live(&host), before);
        // What the message says helps.
        host.kuke(&["recipe", "refresh", "web"]).ok();
        assert_eq!(fs::read(&file).unwrap(), bytes);
    }
    host.kuke(&["promote", "web", "--wait"]).ok();
    assert_eq!(active(&host, "web"), second);
    host.finish();
    Ok(())
}

/// Also while it was away a daemon's artifact may be damaged.
fn a_damaged_artifact_is_seen_at_a_start() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    let dir = source(&host, &coloured("one"));
    host.apply(&recipe(&format!("{{path: {dir}}}"), "")).ok();
    host.kuke(&["recipe", "suspend", "web"]).ok();
    host.kuke(&["promote", "web", "--wait"]).ok();
    let before = live(&host);
    let file = manifest_of(&host, &before.preparation);
    host.stop_daemon();
    fs::write(&file, "damaged").unwrap();
    host.start_daemon();
    eventually(30.0, "the serving says so", || {
        ready(&host, "serving", "web").1 == "ArtifactUnavailable"
    });
    says(
        &host,
        "serving",
        "ArtifactUnavailable",
        &["what runs goes on", "kuke recipe refresh web"],
    );
    assert_eq!(live(&host), before, "it runs all the same");
    host.kuke(&["recipe", "resume", "web"]).ok();
    host.kuke(&["recipe", "refresh", "web"]).ok();
    host.kuke(&["sync", "web", "--wait"]).ok();
    assert_eq!(live(&host), before);
    host.finish();
    Ok(())
}

/// A cell that somebody made by hand: the release has failed, and rests.
fn what_is_foreign_is_left_alone_until_something_changes() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    host.apply(&sleeper("web")).ok();
    host.await_state("web", "Ready");
    let dir = source(
        &host,
        &format!("{}---\n{}", sleeper("web"), sleeper("side")),
    );
    host.apply(&recipe(&format!("{{path: {dir}}}"), "")).ok();
    failed(host.kuke(&["promote", "web", "--wait"]));
    let told = ["web", "allowed-recipe"];
    says(&host, "serving", "OptInRequired", &told);
    assert_eq!(host.get("serving", "web")["status"]["phase"], "Failed");
    assert_eq!(host.state("side"), "", "nothing of it was begun");
    host.stop_daemon();
    host.start_daemon();
    let written = at_rest(&host);
    std::thread::sleep(Duration::from_secs(5));
    host.stop_daemon();
    host.start_daemon();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(at_rest(&host), written);
    let log = host.daemon_log();
    assert!(!log.contains("tried again later"), "{log}");
    says(&host, "serving", "OptInRequired", &told);
    // The change that helps.
    let document = host.kuke(&["get", "cell", "web", "-o", "yaml"]).ok().out;
    let allowed = document.replacen(
        "metadata:\n",
        "metadata:\n  annotations: {delivery.kokumi.dev/allowed-recipe: default/web}\n",
        1,
    );
    host.apply(&allowed).ok();
    host.kuke(&["sync", "web", "--wait"]).ok();
    assert_eq!(host.state("side"), "Ready");
    host.finish();
    Ok(())
}

/// One of three cells cannot be made for now: it is named, what leaves the release
/// stays meanwhile, and once it can be made nobody has to do anything.
fn what_cannot_be_applied_is_tried_again() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let dir = source(&host, &format!("{}---\n{}", sleeper("web"), sleeper("old")));
    host.apply(&recipe(&format!("{{path: {dir}}}"), "")).ok();
    host.kuke(&["promote", "web", "--wait"]).ok();
    let (before, old) = (live(&host), host.container("old", "main")["pid"].clone());
    let missing = host.dir.join("missing").display().to_string();
    let volume = format!("volumes: [{{source: {missing}, target: /data}}]");
    let bad = shell("bad", "exec sleep 100000", &[&volume]);
    host.file("app/manifest.yaml", format!("{}---\n{bad}", sleeper("web")));
    host.kuke(&["recipe", "refresh", "web"]).ok();
    host.kuke(&["promote", "web"]).ok();
    eventually(30.0, "the reason", || {
        ready(&host, "serving", "web").1 == "ApplyFailed"
    });
    says(&host, "serving", "ApplyFailed", &["cell \"bad\"", &missing]);
    assert_eq!(live(&host).pid, before.pid);
    assert_eq!(
        live(&host).digest,
        before.digest,
        "never healthy, never observed"
    );
    assert_eq!(
        host.container("old", "main")["pid"],
        old,
        "nothing is pruned"
    );
    let attempts = || host.daemon_log().matches("tried again later").count();
    let first = attempts();
    eventually(30.0, "it is tried again", || attempts() > first + 1);
    assert_eq!(host.container("old", "main")["pid"], old);
    fs::create_dir(&missing).unwrap();
    eventually(60.0, "it is deployed by itself", || {
        active(&host, "web") == latest(&host, "web")
    });
    assert_eq!(host.state("old"), "", "now it is pruned");
    assert_eq!(host.state("bad"), "Ready");
    host.finish();
    Ok(())
}
