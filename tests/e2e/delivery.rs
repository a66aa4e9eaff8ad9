//! Releases on the real stack: render, promote, change, roll back, label, drift,
//! deletion, and deaths in between.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::command::eventually;
use crate::host::{Host, Mode};
use crate::manifest::sleeper;
use crate::runner::{Case, Verdict};
use crate::{cases, cases_in_both_modes};

pub const CASES: &[&[Case]] = &[
    cases_in_both_modes![
        a_recipe_becomes_a_running_cell_and_goes_back,
        what_cannot_be_rendered_makes_no_preparation,
        equal_inputs_are_one_artifact,
        a_foreign_cell_is_not_taken,
        deleting_a_recipe_takes_its_cells,
    ],
    cases_in_both_modes![what_would_be_done_is_shown_only],
    cases![
        a_rollback_outlives_a_restart,
        a_label_promotes_once,
        drift_is_put_back,
        a_death_is_seen_at_once,
        an_unhealthy_release_goes_back,
        a_death_at_any_step_is_recovered_from,
    ],
];

pub const HEAD: &str = "apiVersion: delivery.kokumi.dev/v1alpha1\n";

/// A source directory with one cell, and the settings that allow it.
pub fn source(host: &Host, cell: &str) -> String {
    let dir = host.file("app", "");
    std::fs::remove_file(&dir).unwrap();
    std::fs::create_dir(&dir).unwrap();
    host.file("app/manifest.yaml", cell);
    let kitchen = format!(
        "{HEAD}kind: Kitchen\nmetadata: {{name: default}}\nspec: {{sourceRoots: [{dir}]}}\n"
    );
    host.apply(&kitchen).ok();
    dir
}

fn recipe(name: &str, dir: &str, more: &str) -> String {
    format!(
        "{HEAD}kind: Recipe\nmetadata: {{name: {name}}}\nspec:\n  source: {{path: {dir}}}\n  \
         target: {{kuke: {{minHealthy: 0s, healthTimeout: 20s}}}}\n{more}"
    )
}

/// A patch of an environment variable.
fn patched(value: &str) -> String {
    format!(
        "  patches:\n    - target: {{kind: Cell, name: web}}\n      \
         set: {{'.spec.containers[id=main].env': ['COLOUR={value}']}}\n"
    )
}

pub fn latest(host: &Host, recipe: &str) -> String {
    let found = host.get("recipe", recipe);
    text(&found["status"]["latestPreparationName"])
}

pub fn active(host: &Host, recipe: &str) -> String {
    let found = host.get("serving", recipe);
    text(&found["status"]["observedPreparationName"])
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn environment(host: &Host) -> String {
    let cell = host.get("cell", "web");
    text(&cell["spec"]["containers"][0]["env"][0])
}

fn a_recipe_becomes_a_running_cell_and_goes_back(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let dir = source(&host, &sleeper("web"));
    host.apply(&recipe("web", &dir, ""))
        .ok()
        .says(&["Recipe \"web\": created", "Preparation"]);
    let first = latest(&host, "web");
    // Rendering activates nothing.
    host.kuke(&["get", "serving", "web"]).code(3);
    assert_eq!(host.state("web"), "");
    host.kuke(&["promote", "web", "--wait"])
        .ok()
        .says(&["promoted", "deployed"]);
    assert_eq!(host.state("web"), "Ready");
    assert_eq!(active(&host, "web"), first);

    host.apply(&recipe("web", &dir, &patched("blue"))).ok();
    let second = latest(&host, "web");
    assert_ne!(first, second);
    host.kuke(&["diff", "web"])
        .code(1)
        .says(&["+", "COLOUR=blue"]);
    host.kuke(&["promote", "web", "--wait", "-m", "blue it is"])
        .ok();
    assert_eq!(environment(&host), "COLOUR=blue");

    host.kuke(&["rollback", "web", "--wait"])
        .ok()
        .says(&["rolled back", "deployed"]);
    assert_eq!(active(&host, "web"), first);
    assert_eq!(environment(&host), "");
    host.kuke(&["history", "web"])
        .ok()
        .says(&["rev-1", "rev-2", "rollback", "blue it is"]);
    host.kuke(&["manifest", &second])
        .ok()
        .says(&["COLOUR=blue"]);
    host.kuke(&[
        "wait",
        "serving/web",
        "--for=condition=Ready",
        "--timeout",
        "20s",
    ])
    .ok();
    host.finish();
    Ok(())
}

fn what_cannot_be_rendered_makes_no_preparation(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let dir = source(&host, &sleeper("web"));
    let missing = "  patches:\n    - target: {kind: Cell, name: nobody}\n      unset: [.spec.x]\n";
    let broken = "  patches:\n    - target: {kind: Cell, name: web}\n      unset: ['.spec.a[']\n";
    for (more, reason) in [
        (missing, "PatchTargetMissing"),
        (broken, "PatchPathInvalid"),
    ] {
        let failed = host.apply(&recipe("web", &dir, more));
        assert_ne!(failed.code, 0);
        let found = host.get("recipe", "web");
        let ready = &found["status"]["conditions"][0];
        assert_eq!(
            (text(&ready["status"]), text(&ready["reason"])),
            ("False".into(), reason.into())
        );
    }
    host.file("app/manifest.yaml", "kind: Cell\nmetadata: {name: web\n");
    host.apply(&recipe("web", &dir, "")).code(1);
    let found = host.get("recipe", "web");
    assert_eq!(
        text(&found["status"]["conditions"][0]["reason"]),
        "ManifestInvalid"
    );
    host.kuke(&["get", "preps"]).ok().says(&["No preparations"]);
    // A mistake that is mended is forgotten.
    host.file("app/manifest.yaml", sleeper("web"));
    host.kuke(&["recipe", "refresh", "web"]).ok();
    host.kuke(&["get", "preps", "-o", "name"])
        .ok()
        .says(&["preparation/web-"]);
    host.finish();
    Ok(())
}

fn equal_inputs_are_one_artifact(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let dir = source(&host, &sleeper("web"));
    host.apply(&recipe("web", &dir, "")).ok();
    let first = latest(&host, "web");
    host.apply(&recipe("web", &dir, &patched("red"))).ok();
    host.apply(&recipe("web", &dir, "")).ok();
    assert_eq!(latest(&host, "web"), first, "A, B, A is A again");
    let found = host.get("recipe", "web");
    assert_eq!(found["status"]["revision"], 3);
    let made = host.kuke(&["get", "preps", "-o", "name"]).ok();
    assert_eq!(made.out.lines().count(), 2);
    // A second look at anything writes nothing.
    let before = host.get("recipe", "web")["metadata"]["resourceVersion"].clone();
    host.apply(&recipe("web", &dir, ""))
        .ok()
        .says(&["unchanged"]);
    assert_eq!(
        host.get("recipe", "web")["metadata"]["resourceVersion"],
        before
    );
    host.finish();
    Ok(())
}

fn a_foreign_cell_is_not_taken(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply(&sleeper("web")).ok();
    let dir = source(&host, &sleeper("web"));
    host.apply(&recipe("web", &dir, "")).ok();
    let failed = host.kuke(&["promote", "web", "--wait"]);
    assert_ne!(failed.code, 0, "{}", failed.show());
    let found = host.get("serving", "web");
    assert_eq!(
        text(&found["status"]["conditions"][0]["reason"]),
        "OptInRequired"
    );
    // A script sees that it did not work.
    for sync in [&["sync", "web"][..], &["sync", "web", "--wait"]] {
        host.kuke(sync).code(1).says(&["was not made by a Serving"]);
    }
    assert_eq!(host.state("web"), "Ready", "what ran still runs");
    host.finish();
    Ok(())
}

fn deleting_a_recipe_takes_its_cells(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let dir = source(&host, &sleeper("web"));
    host.apply(&recipe("web", &dir, "")).ok();
    host.kuke(&["promote", "web", "--wait"]).ok();
    let prep = latest(&host, "web");
    host.kuke(&["delete", "prep", &prep])
        .code(4)
        .says(&["latest"]);
    host.kuke(&["delete", "recipe", "web"]).ok();
    assert_eq!(host.state("web"), "");
    for kind in ["recipe", "serving"] {
        host.kuke(&["get", kind, "web"]).code(3);
    }
    host.kuke(&["get", "preps"]).ok().says(&["No preparations"]);
    // Made again, it goes on counting: no revision loses its tag or record.
    host.apply(&recipe("web", &dir, &patched("new"))).ok();
    host.kuke(&["history", "web"])
        .ok()
        .says(&["rev-2"])
        .says_nothing_of(&["rev-1"]);
    let second = host.get("prep", &latest(&host, "web"));
    let tags = ["registry", "tags", "preparations/default/web", "-o", "json"];
    let tags = host.kuke(&tags).ok().out;
    for tag in ["rev-1", "rev-2"] {
        assert!(tags.contains(tag), "{tags}");
    }
    let digest = text(&second["spec"]["artifact"]["digest"]);
    let referrers = host
        .run_path
        .join("registry/repos/preparations/default/web/referrers");
    let recorded =
        crate::command::system("grep", &["-rl", "record", &referrers.display().to_string()]);
    let hex = digest.trim_start_matches("sha256:");
    assert!(recorded.out.contains(hex), "{hex}: {}", recorded.out);
    host.finish();
    Ok(())
}

fn what_would_be_done_is_shown_only(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let dir = source(&host, &sleeper("web"));
    let still =
        recipe("web", &dir, &patched("one")).replace("{minHealthy", "{selfHeal: false, minHealthy");
    host.apply(&still).ok();
    let first = latest(&host, "web");
    host.kuke(&["promote", "web", "--wait"]).ok();
    host.kuke(&["recipe", "refresh", "web", "--dry-run"])
        .ok()
        .says(&["unchanged"]);
    let changed = format!("{}---\n{}", sleeper("web"), sleeper("other"));
    host.file("app/manifest.yaml", &changed);
    host.kuke(&["recipe", "refresh", "web", "--dry-run"])
        .ok()
        .says(&["planned", "source: sha256:", "artifact: sha256:"]);
    assert_eq!(latest(&host, "web"), first);
    host.kuke(&["recipe", "refresh", "web"]).ok();
    let second = latest(&host, "web");
    assert_ne!(first, second);
    host.kuke(&["promote", "web", "--wait"]).ok();

    // What is missing is told, and stays missing.
    host.kuke(&["sync", "web", "--dry-run"])
        .ok()
        .says(&["unchanged"]);
    host.kuke(&["delete", "cell", "other"]).ok();
    host.kuke(&["sync", "web", "--dry-run"])
        .ok()
        .says(&["planned", "> create cell \"other\""]);
    host.kuke(&["get", "cell", "other"]).code(3);

    host.kuke(&["rollback", "web", "--wait"]).ok();
    let hold = || host.get("serving", "web")["spec"]["hold"].clone();
    let held = hold();
    assert!(held.is_object(), "{held}");
    host.kuke(&["resume", "web", "--dry-run"])
        .ok()
        .says(&["resumed", "hold: removed"]);
    assert_eq!(hold(), held);

    // Deletion: the checks, and nothing else.
    host.kuke(&["delete", "prep", &second, "--dry-run"])
        .code(4)
        .says(&["latest"]);
    host.kuke(&["delete", "recipe", "web", "--dry-run"])
        .ok()
        .says(&["(dry run)"]);
    host.kuke(&["delete", "recipe", "nobody", "--dry-run"])
        .code(3);
    host.kuke(&["delete", "cell", "web", "--dry-run"])
        .code(2)
        .says(&["releases"]);
    assert_eq!(host.state("web"), "Ready");
    assert_eq!(
        host.get("recipe", "web")["metadata"]["deletionTimestamp"],
        Value::Null
    );

    // With its artifacts.
    host.kuke(&["registry", "ls"])
        .ok()
        .says(&["preparations/default/web"]);
    host.kuke(&["delete", "recipe", "web", "--purge-artifacts"])
        .ok();
    host.kuke(&["registry", "ls"])
        .ok()
        .says_nothing_of(&["rev-1"]);
    host.kuke(&["registry", "tags", "preparations/default/web"])
        .says_nothing_of(&["rev-1", "rev-2", &second["web-".len()..]]);
    host.apply(&still).ok();
    host.kuke(&["history", "web"]).ok().says(&["rev-1"]);
    host.finish();
    Ok(())
}

fn a_rollback_outlives_a_restart() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    let dir = source(&host, &sleeper("web"));
    let auto = |value: &str| format!("  autoDeployLatest: true\n{}", patched(value));
    host.apply(&recipe("web", &dir, &auto("one"))).ok();
    host.kuke(&["wait", "serving/web", "--timeout", "30s"]).ok();
    host.apply(&recipe("web", &dir, &auto("two"))).ok();
    host.kuke(&["wait", "serving/web", "--timeout", "30s"]).ok();
    assert_eq!(environment(&host), "COLOUR=two");
    host.kuke(&["rollback", "web", "--wait"]).ok();
    assert_eq!(environment(&host), "COLOUR=one");
    host.stop_daemon();
    host.start_daemon();
    host.apply(&recipe("web", &dir, &auto("three"))).ok();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(environment(&host), "COLOUR=one", "held");
    host.kuke(&["resume", "web", "--wait"]).ok();
    host.kuke(&["wait", "serving/web", "--timeout", "30s"]).ok();
    crate::command::eventually(60.0, "the latest", || environment(&host) == "COLOUR=three");
    host.finish();
    Ok(())
}

fn a_label_promotes_once() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let dir = source(&host, &sleeper("web"));
    host.apply(&recipe("web", &dir, "")).ok();
    let prep = latest(&host, "web");
    let document = host.kuke(&["get", "prep", &prep, "-o", "yaml"]).ok().out;
    let labelled = document.replacen(
        "  labels:\n",
        "  labels:\n    delivery.kokumi.dev/approve-deploy: \"true\"\n",
        1,
    );
    host.apply(&labelled).ok();
    host.kuke(&["wait", "serving/web", "--timeout", "30s"]).ok();
    let found = host.get("prep", &prep);
    let labels = &found["metadata"]["labels"];
    assert!(
        labels.get("delivery.kokumi.dev/approve-deploy").is_none(),
        "{labels}"
    );
    let notes = &found["metadata"]["annotations"];
    assert!(
        notes["delivery.kokumi.dev/approved-by"].is_string(),
        "{notes}"
    );
    // What is rendered never changes.
    host.apply(&document.replace("commitMessage: initial", "commitMessage: other"))
        .code(4)
        .says(&["immutable"]);
    host.finish();
    Ok(())
}

fn drift_is_put_back() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let dir = source(&host, &sleeper("web"));
    let wanted = recipe("web", &dir, &patched("right"));
    let still = wanted.replace("minHealthy: 0s", "minHealthy: 0s, selfHeal: false");
    assert_ne!(still, wanted);
    host.apply(&still).ok();
    host.kuke(&["promote", "web", "--wait"]).ok();
    host.kuke(&["delete", "cell", "web"]).ok();
    host.kuke(&["diff", "web", "--live"]).code(1).says(&["web"]);
    host.kuke(&["sync", "web", "--wait"]).ok();
    assert_eq!(host.state("web"), "Ready");
    assert_eq!(environment(&host), "COLOUR=right");
    // By itself, where that is wanted: nobody waits for a resync.
    host.apply(&wanted).ok();
    host.kuke(&["delete", "cell", "web"]).ok();
    eventually(30.0, "the cell is back", || {
        host.kuke(&["get", "cell", "web"]).code == 0 && host.state("web") == "Ready"
    });
    assert_eq!(environment(&host), "COLOUR=right");
    host.finish();
    Ok(())
}

/// Status and reason of a condition of the Serving `web`.
fn condition(host: &Host, kind: &str) -> (String, String) {
    let found = host.get("serving", "web");
    let all = found["status"]["conditions"].as_array().cloned();
    let all = all.unwrap_or_default();
    let own = all.iter().find(|c| c["type"] == kind);
    let part = |key: &str| own.map(|c| text(&c[key])).unwrap_or_default();
    (part("status"), part("reason"))
}

fn a_death_is_seen_at_once() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let mortal = format!("{}      restartPolicy: never\n", sleeper("web"));
    let dir = source(&host, &mortal);
    host.apply(&recipe("web", &dir, "")).ok();
    host.kuke(&["promote", "web", "--wait"]).ok();
    let is = |status: &str| {
        let ready = condition(&host, "Ready");
        ready == condition(&host, "Healthy") && ready.0 == status
    };
    assert_eq!(condition(&host, "Ready").0, "True");
    let pid = host.get("cell", "web")["status"]["containers"][0]["pid"].clone();
    crate::command::system("kill", &["-9", &pid.to_string()]).ok();
    eventually(30.0, "the Serving says so", || is("False"));
    let serving = host.get("serving", "web");
    assert_eq!(serving["status"]["phase"], "Deployed", "{serving}");
    host.kuke(&["start", "web"]).ok();
    eventually(30.0, "it is well again", || {
        condition(&host, "Ready").0 == "True" && condition(&host, "Healthy").0 == "True"
    });
    host.kuke(&["wait", "serving/web", "--for=condition=Ready"])
        .ok();
    // Whoever deletes it, it is put back.
    for mode in [Mode::InProcess, Mode::Daemon] {
        let uid = host.get("cell", "web")["metadata"]["uid"].clone();
        host.kuke_in(mode, &["delete", "cell", "web", "--grace", "0s"])
            .ok();
        eventually(30.0, "it is made again", || {
            let found = host.kuke(&["get", "cell", "web", "-o", "json"]);
            found.code == 0 && found.json()["metadata"]["uid"] != uid
        });
        host.await_state("web", "Ready");
    }
    host.finish();
    Ok(())
}

fn an_unhealthy_release_goes_back() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let dir = source(&host, &sleeper("web"));
    // Longer than the broken one lives.
    let recipe = |name: &str, dir: &str, more: &str| {
        recipe(name, dir, more).replace("minHealthy: 0s", "minHealthy: 3s")
    };
    host.apply(&recipe("web", &dir, "  onFailure: Rollback\n"))
        .ok();
    host.kuke(&["promote", "web", "--wait"]).ok();
    let good = active(&host, "web");
    let broken = "  onFailure: Rollback\n  patches:\n    - target: {kind: Cell, name: web}\n      \
                  set: {'.spec.containers[id=main].args': ['-c', 'sleep 1; exit 3'], '.spec.containers[id=main].restartPolicy': never}\n";
    host.apply(&recipe("web", &dir, broken)).ok();
    host.kuke(&["promote", "web"]).ok();
    crate::command::eventually(60.0, "a way back", || {
        let found = host.get("serving", "web");
        text(&found["spec"]["preparationName"]) == good
            && text(&found["status"]["phase"]) == "Deployed"
    });
    let found = host.get("serving", "web");
    let hold = text(&found["spec"]["hold"]["reason"]);
    assert!(hold.contains("after a failure"), "{found}");
    // Why it went back is told although what serves is well.
    let last = found["status"]["activations"].as_array().unwrap().last();
    let last = last.unwrap().clone();
    assert_eq!(last["cause"], "failure");
    let why = text(&last["message"]);
    assert!(why.starts_with("Unhealthy: cell \"web\""), "{why}");
    host.kuke(&["history", "web"]).ok().says(&["Unhealthy"]);
    host.finish();
    Ok(())
}

/// Dies at the k-th step of journal and delivery, for every k until none is left.
fn a_death_at_any_step_is_recovered_from() -> Verdict {
    let host = Host::new(Mode::InProcess);
    let dir = source(&host, &sleeper("web"));
    for point in ["KUKEON_FAILPOINT_JOURNAL", "KUKEON_FAILPOINT_DELIVERY"] {
        let mut died = 0;
        for k in 1..40 {
            let value = format!("{point}-{k}").to_lowercase().replace('_', "-");
            let wanted = recipe("web", &dir, &patched(&value));
            let file = host.file("recipe.yaml", &wanted);
            let mut ended_well = true;
            for arguments in [&["apply", "-f", &file][..], &["promote", "web", "--wait"]] {
                let mut command: Command = host.command(Mode::InProcess, arguments);
                let done = command.env(point, k.to_string()).output().unwrap();
                ended_well &= done.status.code() == Some(0);
            }
            // Whatever state that left: the same again brings it there.
            host.kuke(&["apply", "-f", &file]).ok();
            host.kuke(&["promote", "web", "--wait"]).ok();
            assert_eq!(environment(&host), format!("COLOUR={value}"), "{point}={k}");
            assert_eq!(active(&host, "web"), latest(&host, "web"));
            if ended_well {
                break;
            }
            died += 1;
        }
        assert!(died > 2, "{point}: died only {died} times");
    }
    host.finish();
    Ok(())
}
