//! Artifacts in another registry: Debian's docker-registry with a password file.

use std::time::Duration;

use serde_json::Value;

use crate::command::eventually;
use crate::delivery::{HEAD, active, latest, source, text};
use crate::host::{Host, Mode};
use crate::manifest::sleeper;
use crate::registry::{ADDRESS, PASSWORD, Registry, USER};
use crate::runner::{Case, Verdict};
use crate::signatures::key_pair;
use crate::{cases, cases_in_both_modes};

pub const CASES: &[&[Case]] = &[
    cases_in_both_modes![artifacts_are_kept_in_another_registry],
    cases![
        a_registry_that_is_down_stops_nothing,
        a_registry_that_lists_no_referrers,
        a_menu_is_rolled_out_although_its_registry_goes_away,
    ],
];

const REPOSITORY: &str = "shop/web";

fn recipe(dir: &str, destination: &str, colour: &str) -> String {
    format!(
        "{HEAD}kind: Recipe\nmetadata: {{name: web}}\nspec:\n  source: {{path: {dir}}}\n  \
         target: {{kuke: {{minHealthy: 0s, healthTimeout: 20s}}}}\n  \
         destination: {{{destination}}}\n  patches:\n    - target: {{kind: Cell, name: web}}\n      \
         set: {{'.spec.containers[id=main].env': ['COLOUR={colour}']}}\n"
    )
}

fn by_reference() -> String {
    format!("oci: 'oci://{ADDRESS}/{REPOSITORY}'")
}

fn pantry(password: &str) -> String {
    format!(
        "{HEAD}kind: Pantry\nmetadata: {{name: shop}}\nspec: {{oci: 'oci://{ADDRESS}/{REPOSITORY}', \
         username: {USER}, password: {password}}}\n"
    )
}

fn reason(host: &Host, kind: &str) -> String {
    let found = host.get(kind, "web");
    let conditions = found["status"]["conditions"].as_array().cloned();
    let conditions = conditions.unwrap_or_default();
    let ready = conditions.iter().find(|c| c["type"] == "Ready");
    ready.map(|c| text(&c["reason"])).unwrap_or_default()
}

/// What the registry answers to somebody with the login.
fn ask(host: &Host, method: &str, path: &str) -> String {
    let login = format!("{USER}:{PASSWORD}");
    let url = format!("http://{ADDRESS}/v2/{REPOSITORY}/{path}");
    let accept = "Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";
    host.inside(
        "curl",
        &["-sf", "-X", method, "-u", &login, "-H", accept, &url],
    )
    .ok()
    .out
}

fn tags(host: &Host) -> Vec<String> {
    let listed: Value = serde_json::from_str(&ask(host, "GET", "tags/list")).unwrap();
    let tags = listed["tags"].as_array().cloned().unwrap_or_default();
    tags.iter().map(text).collect()
}

fn digest(host: &Host, prep: &str) -> String {
    text(&host.get("prep", prep)["spec"]["artifact"]["digest"])
}

fn pid(host: &Host) -> Value {
    host.get("cell", "web")["status"]["containers"][0]["pid"].clone()
}

fn artifacts_are_kept_in_another_registry(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let registry = Registry::start(&host)?;
    let dir = source(&host, &sleeper("web"));

    // Without a login nothing is stored, and the Recipe says so.
    host.apply(&recipe(&dir, &by_reference(), "one"))
        .code(1)
        .says(&["refused access", "Pantry"]);
    assert_eq!(reason(&host, "recipe"), "StoreFailed");
    host.kuke(&["get", "preps"]).ok().says(&["No preparations"]);
    host.apply(&pantry(PASSWORD))
        .ok()
        .says_nothing_of(&[PASSWORD]);
    host.kuke(&["recipe", "refresh", "web"]).ok();
    let first = latest(&host, "web");
    let artifact = host.get("prep", &first)["spec"]["artifact"].clone();
    let wanted = format!("oci://{ADDRESS}/{REPOSITORY}@sha256:");
    assert!(text(&artifact["ociRef"]).starts_with(&wanted), "{artifact}");

    // Tags, and the record of the revision for registries without referrers.
    let one = digest(&host, &first);
    let short = &one["sha256:".len()..][..12];
    let given = tags(&host);
    for tag in ["rev-1", short] {
        assert!(given.iter().any(|t| t == tag), "{tag} in {given:?}");
    }
    let index = ask(
        &host,
        "GET",
        &format!("manifests/{}", one.replace(':', "-")),
    );
    assert!(
        index.contains("application/vnd.kokumi.preparation.record.v1+json"),
        "{index}"
    );
    host.kuke(&["registry", "ls"])
        .ok()
        .says(&["No repositories"]);

    // What is served comes from there.
    host.kuke(&["promote", "web", "--wait"]).ok();
    assert_eq!(active(&host, "web"), first);
    assert!(tags(&host).iter().any(|t| t == "active"));
    host.kuke(&["prep", "verify", &first]).ok().says(&[
        "artifact: ok",
        "render: ok",
        "signature: ok: none",
    ]);
    let before = pid(&host);

    // The same by its Pantry; then the artifact is gone.
    host.apply(&recipe(&dir, "pantryRef: {name: shop}", "two"))
        .ok();
    let second = latest(&host, "web");
    assert_ne!(first, second);
    host.kuke(&["manifest", &second]).ok().says(&["COLOUR=two"]);
    host.kuke(&["delete", "pantry", "shop"])
        .code(4)
        .says(&["recipe web"]);
    ask(
        &host,
        "DELETE",
        &format!("manifests/{}", digest(&host, &second)),
    );
    host.kuke(&["promote", "web", "--wait"]).code(4).says(&[
        REPOSITORY,
        "does not have it",
        "nothing was changed",
    ]);
    assert_eq!(reason(&host, "serving"), "Deployed");
    assert_eq!(active(&host, "web"), first);
    assert_eq!(pid(&host), before, "what ran still runs");
    host.kuke(&["prep", "verify", &second]).code(1).says(&[
        "artifact: differs",
        REPOSITORY,
        "render: ok",
    ]);

    // Looked at again, the Recipe brings it back where it was.
    host.kuke(&["recipe", "refresh", "web"]).ok();
    assert_eq!(latest(&host, "web"), second);
    host.kuke(&["promote", "web", "--wait"]).ok();
    assert_eq!(active(&host, "web"), second);
    host.kuke(&["rollback", "web", "--wait"]).ok();
    assert_eq!(active(&host, "web"), first);
    drop(registry);
    host.finish();
    Ok(())
}

fn a_registry_that_is_down_stops_nothing() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    let mut registry = Registry::start(&host)?;
    let dir = source(&host, &sleeper("web"));
    host.apply(&pantry(PASSWORD)).ok();
    host.apply(&recipe(&dir, &by_reference(), "one")).ok();
    host.kuke(&["promote", "web", "--wait"]).ok();
    let (before, first) = (pid(&host), latest(&host, "web"));

    registry.kill();
    host.apply(&recipe(&dir, &by_reference(), "two"))
        .code(1)
        .says(&[ADDRESS]);
    assert_eq!(reason(&host, "recipe"), "StoreFailed");
    assert_eq!(latest(&host, "web"), first);
    assert_eq!(pid(&host), before);
    let serving = host.get("serving", "web");
    assert_eq!(serving["status"]["phase"], "Deployed", "{serving}");

    // A daemon that knows nothing yet cannot tell whether the artifact is there:
    // what runs has not failed for it.
    host.stop_daemon();
    let told = host.daemon_log().len();
    host.start_daemon();
    eventually(30.0, "the serving was looked at", || {
        let log = host.daemon_log();
        let mut lines = log[told..].lines();
        lines.any(|line| line.contains("tried again later") && line.contains("ArtifactUnavailable"))
    });
    let serving = host.get("serving", "web");
    assert_eq!(serving["status"]["phase"], "Deployed", "{serving}");
    assert_eq!(reason(&host, "serving"), "Deployed");
    host.kuke(&["sync", "web"]).code(1).says(&[ADDRESS]);
    assert_eq!(reason(&host, "serving"), "Deployed");
    assert_eq!(pid(&host), before);

    // Nobody has to do anything when it is back.
    registry.start_again();
    eventually(60.0, "the second preparation", || {
        latest(&host, "web") != first
    });
    assert_eq!(reason(&host, "recipe"), "Ready");
    host.kuke(&["promote", "web", "--wait"]).ok();
    drop(registry);
    host.finish();
    Ok(())
}

fn a_menu_is_rolled_out_although_its_registry_goes_away() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let mut registry = Registry::start(&host)?;
    let dir = source(&host, "");
    for name in ["web", "api"] {
        std::fs::create_dir(format!("{dir}/{name}")).unwrap();
        std::fs::write(format!("{dir}/{name}/manifest.yaml"), sleeper(name)).unwrap();
    }
    host.apply(&pantry(PASSWORD)).ok();
    let web = format!("{dir}/web");
    host.apply(&recipe(&web, &by_reference(), "one")).ok();
    host.apply(&format!(
        "{HEAD}kind: Recipe\nmetadata: {{name: api}}\nspec: {{source: {{path: {dir}/api}}}}\n"
    ))
    .ok();
    let menu = format!(
        "{HEAD}kind: Menu\nmetadata: {{name: lunch}}\nspec:\n  \
         recipes: [{{name: web}}, {{name: api}}]\n  \
         strategy: {{healthTimeout: 20s, minHealthy: 4s}}\n"
    );
    host.apply(&menu).ok();
    let run = host.start(&["menu", "run", "lunch", "--wait"]);
    eventually(30.0, "the members are out", || {
        host.get("menu", "lunch")["status"]["phase"] == "Verifying"
    });
    registry.kill();
    run.wait(Duration::from_secs(60)).ok();
    assert_eq!(host.get("menu", "lunch")["status"]["phase"], "Deployed");
    assert_eq!(active(&host, "web"), latest(&host, "web"));
    drop(registry);
    host.finish();
    Ok(())
}

/// One without the list keeps it under a tag; one that refuses to tell is no reason
/// to stop, and what it does not tell is not made up.
fn a_registry_that_lists_no_referrers() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let registry = Registry::start(&host)?;
    let status = registry.without_referrers(5002, 404);
    let there = |text: String| text.replace(ADDRESS, "127.0.0.1:5002");
    let recipe = |colour: &str| there(recipe(&dir(&host), &by_reference(), colour));
    source(&host, &sleeper("web"));
    host.apply(&there(pantry(PASSWORD))).ok();
    host.apply(&recipe("one")).ok();
    let first = latest(&host, "web");
    host.kuke(&["promote", "web", "--wait"]).ok();
    let index = |prep: &str| {
        let tag = digest(&host, prep).replace(':', "-");
        ask(&host, "GET", &format!("manifests/{tag}"))
    };
    let record = "application/vnd.kokumi.preparation.record.v1+json";
    assert!(index(&first).contains(record));
    let verified = |prep: &str, words: &[&str]| {
        host.kuke(&["prep", "verify", prep]).ok().says(words);
    };
    verified(
        &first,
        &["artifact: ok", "render: ok", "signature: ok: none"],
    );
    let (private, public) = key_pair(&host, "release", "EC");
    host.kuke(&["prep", "sign", &first, "--key", &private]).ok();
    // The record is still listed beside the signature.
    assert_eq!(index(&first).matches("artifactType").count(), 2);
    host.kuke(&["prep", "verify", &first, "--key", &public])
        .ok()
        .says(&["signature: ok: signed with the key"]);

    for (refusal, colour) in [(403, "two"), (500, "three")] {
        let before = latest(&host, "web");
        status.store(refusal, std::sync::atomic::Ordering::Relaxed);
        host.apply(&recipe(colour)).ok();
        let next = latest(&host, "web");
        assert_ne!(next, before);
        host.kuke(&["promote", "web", "--wait"]).ok();
        assert_eq!(active(&host, "web"), next);
        // Nobody knows whether it is signed: that is neither yes nor no.
        let told = host.kuke(&["prep", "verify", &next]).code(1);
        told.says(&["artifact: ok", "render: ok", "signature: unknown"]);
        let told = host.kuke(&["prep", "verify", &next, "-o", "json"]);
        assert_eq!(told.json()["signature"], "unknown");
        let revision = host.get("recipe", "web")["status"]["revision"].clone();
        let tag = format!("rev-{revision}");
        assert!(!tags(&host).contains(&tag), "it has no record yet");
        // When it tells again, what was not stored is made up for.
        status.store(404, std::sync::atomic::Ordering::Relaxed);
        host.kuke(&["recipe", "refresh", "web"]).ok();
        assert!(tags(&host).contains(&tag));
        assert_eq!(index(&next).matches(record).count(), 1);
    }
    drop(registry);
    host.finish();
    Ok(())
}

/// Where [`source`] is.
fn dir(host: &Host) -> String {
    host.dir.join("app").display().to_string()
}
