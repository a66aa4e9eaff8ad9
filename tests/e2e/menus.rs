//! Menus on the real stack: several Recipes as one, all new or all old.

use serde_json::Value;

use crate::command::eventually;
use crate::host::{Host, Mode};
use crate::runner::{Case, Verdict};
use crate::{cases, cases_in_both_modes};

pub const CASES: &[&[Case]] = &[
    cases![
        menu_is_finished_wherever_it_is_cut,
        an_open_run_holds_no_end_up
    ],
    cases_in_both_modes![
        menu_moves_all_or_none,
        menu_that_cannot_be_rolled_out,
        menu_takes_back_what_had_nothing_before,
        menu_that_could_not_go_back_is_tried_again,
    ],
];

/// Documents of two Recipes `front` and `back` with a Menu of both. Each has
/// one cell, whose variable says its version.
pub fn setting(host: &Host) {
    let root = host.dir.join("sources");
    for name in ["front", "back"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
        write(host, name, "v1", true);
    }
    let root = root.display();
    let mut text = format!(
        "apiVersion: delivery.kokumi.dev/v1alpha1\nkind: Kitchen\nmetadata: {{name: default}}\nspec:\n  sourceRoots: [{root}]\n"
    );
    for name in ["front", "back"] {
        text += &format!(
            "---\napiVersion: delivery.kokumi.dev/v1alpha1\nkind: Recipe\nmetadata: {{name: {name}}}\nspec:\n  source: {{path: {root}/{name}}}\n  target: {{kuke: {{minHealthy: 200ms, healthTimeout: 20s}}}}\n"
        );
    }
    text += "---\napiVersion: delivery.kokumi.dev/v1alpha1\nkind: Menu\nmetadata: {name: lunch}\nspec:\n  recipes:\n  - {name: back}\n  - {name: front, dependsOn: [back]}\n  strategy: {healthTimeout: 20s, minHealthy: 300ms}\n";
    host.apply(&text).ok();
    eventually(20.0, "both recipes are ready", || {
        ["front", "back"]
            .iter()
            .all(|n| !latest(host, n).is_empty())
    });
}

/// Writes a Recipe's source. A version that does not work ends at once.
pub fn write(host: &Host, name: &str, version: &str, works: bool) {
    let script = match works {
        true => "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done",
        false => "exit 3",
    };
    let text = format!(
        "apiVersion: v1beta1\nkind: Cell\nmetadata: {{name: {name}}}\nspec:\n  containers:\n  - id: main\n    image: busybox\n    command: /bin/sh\n    args: ['-c', {script:?}]\n    env: [VERSION={version}]\n    restartPolicy: never\n"
    );
    let file = host.dir.join("sources").join(name).join("manifest.yaml");
    std::fs::write(file, text).unwrap();
}

pub fn latest(host: &Host, recipe: &str) -> String {
    text(&host.get("recipe", recipe)["status"]["latestPreparationName"])
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Renders what was written.
pub fn refresh(host: &Host) {
    for name in ["front", "back"] {
        let before = latest(host, name);
        host.kuke(&["recipe", "refresh", name]).ok();
        eventually(20.0, "a new preparation", || latest(host, name) != before);
    }
}

/// Version that a member's cell runs; empty when there is none.
pub fn version(host: &Host, name: &str) -> String {
    let cells = host.kuke(&["get", "cells", "-o", "json"]).ok().json();
    let items = cells
        .as_array()
        .cloned()
        .unwrap_or_else(|| cells["items"].as_array().cloned().unwrap_or_default());
    let cell = items.iter().find(|c| c["metadata"]["name"] == name);
    let env = cell.map(|c| c["spec"]["containers"][0]["env"].to_string());
    let env = env.unwrap_or_default();
    let at = env.find("VERSION=").map(|i| &env[i + 8..]);
    at.map(|v| v.chars().take_while(char::is_ascii_alphanumeric).collect())
        .unwrap_or_default()
}

/// File of a blob in the registry.
fn blob(host: &Host, digest: &str) -> std::path::PathBuf {
    let hex = digest.trim_start_matches("sha256:");
    let file = format!("registry/blobs/sha256/{}/{hex}", &hex[..2]);
    host.run_path.join(file)
}

pub fn versions(host: &Host) -> [String; 2] {
    [version(host, "front"), version(host, "back")]
}

fn menu_moves_all_or_none(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    setting(&host);
    host.kuke(&["menu", "plan", "lunch"])
        .ok()
        .says(&["wave 0: back", "wave 1: front"]);
    assert_eq!(versions(&host), ["", ""]);
    host.kuke(&["menu", "run", "lunch", "--wait"]).ok();
    assert_eq!(versions(&host), ["v1", "v1"]);
    host.kuke(&["menu", "run", "lunch", "--wait"])
        .ok()
        .says(&["unchanged"]);

    // Both move.
    write(&host, "front", "v2", true);
    write(&host, "back", "v2", true);
    refresh(&host);
    // The Menu alone decides when.
    assert_eq!(versions(&host), ["v1", "v1"]);
    host.kuke(&["menu", "run", "lunch", "--wait"]).ok();
    assert_eq!(versions(&host), ["v2", "v2"]);
    let digests = |host: &Host| {
        ["front", "back"].map(|n| text(&host.get("serving", n)["status"]["deployedDigest"]))
    };
    // A run that has ended has told its members.
    let deployed = |host: &Host| {
        for name in ["front", "back"] {
            let serving = host.get("serving", name);
            assert_eq!(serving["status"]["phase"], "Deployed", "{serving}");
        }
    };
    deployed(&host);
    let before = digests(&host);

    // One does not work: both stay.
    write(&host, "front", "v3", false);
    write(&host, "back", "v3", true);
    refresh(&host);
    host.kuke(&["menu", "run", "lunch", "--wait"])
        .code(1)
        .says(&["rolled back", "front"]);
    assert_eq!(versions(&host), ["v2", "v2"]);
    assert_eq!(digests(&host), before);
    deployed(&host);
    for name in ["front", "back"] {
        let serving = host.get("serving", name);
        assert!(serving["status"].get("lock").is_none(), "{serving}");
        host.await_state(name, "Ready");
    }
    let menu = host.get("menu", "lunch");
    assert_eq!(menu["status"]["phase"], "RolledBack");
    // The same is not tried again by itself.
    host.kuke(&["menu", "run", "lunch", "--wait"])
        .code(4)
        .says(&["retry"]);

    // A direct promotion is possible again, and a member cannot just be deleted.
    host.kuke(&["delete", "recipe", "front"])
        .code(4)
        .says(&["lunch"]);
    host.kuke(&["delete", "menu", "lunch"]).ok();
    for name in ["front", "back"] {
        host.kuke(&["delete", "recipe", name]).ok();
        eventually(30.0, "its cell is gone", || version(&host, name).is_empty());
    }
    host.finish();
    Ok(())
}

/// Members that served nothing before, and whose targets let a workload go that
/// somebody deletes: a run that goes back leaves nothing of the new all the same.
fn menu_takes_back_what_had_nothing_before(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    setting(&host);
    for name in ["front", "back"] {
        let document = host.kuke(&["get", "recipe", name, "-o", "yaml"]).ok().out;
        let orphans =
            document.replacen("  target:\n", "  target:\n    deletionPolicy: Orphan\n", 1);
        assert_ne!(document, orphans);
        host.apply(&orphans).ok();
    }
    // The first of both comes up, the second does not.
    write(&host, "front", "v2", false);
    host.kuke(&["recipe", "refresh", "front"]).ok();
    host.kuke(&["menu", "run", "lunch", "--wait"])
        .code(1)
        .says(&["front"]);
    assert_eq!(versions(&host), ["", ""]);
    for name in ["front", "back"] {
        host.kuke(&["get", "serving", name]).code(3);
    }
    // Nobody else's cell stands in the way afterwards.
    host.kuke(&["promote", "back", "--wait"]).ok();
    assert_eq!(version(&host, "back"), "v1");
    for kind in ["menu", "recipe"] {
        let names: &[&str] = if kind == "menu" {
            &["lunch"]
        } else {
            &["front", "back"]
        };
        for name in names {
            host.kuke(&["delete", kind, name]).ok();
        }
    }
    host.kuke(&["delete", "cell", "back"]).ok();
    host.finish();
    Ok(())
}

/// The way back stops half-way, when a new member is gone already: once what
/// stopped it is mended, it is gone on with.
fn menu_that_could_not_go_back_is_tried_again(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    setting(&host);
    host.kuke(&["promote", "back", "--wait"]).ok();
    let preparation = host.get("prep", &latest(&host, "back"));
    let digest = text(&preparation["spec"]["artifact"]["digest"]);
    let manifest = std::fs::read(blob(&host, &digest)).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let file = blob(&host, &text(&manifest["layers"][0]["digest"]));
    let bytes = std::fs::read(&file).unwrap();
    write(&host, "back", "v2", false);
    host.kuke(&["recipe", "refresh", "back"]).ok();
    for mends in [
        &["menu", "retry", "lunch", "--wait"][..],
        &["menu", "abort", "lunch", "--wait"],
    ] {
        // What it has to go back to is lost.
        std::fs::write(&file, "damaged").unwrap();
        let retry = ["menu", "retry", "lunch", "--wait"];
        host.kuke(&retry).code(1).says(&["RollbackFailed", "back"]);
        host.kuke(&["get", "serving", "front"]).code(3);
        let serving = host.get("serving", "back");
        assert!(serving["status"]["lock"].is_string(), "{serving}");
        host.kuke(&["menu", "run", "lunch"])
            .code(4)
            .says(&["retry"]);

        std::fs::write(&file, &bytes).unwrap();
        // To be back is what an abort wants, and not what a run wanted.
        let code = u8::from(mends[1] == "retry");
        host.kuke(mends).code(code.into()).says(&["rolled back"]);
        assert_eq!(versions(&host), ["", "v1"]);
        let serving = host.get("serving", "back");
        assert!(serving["status"].get("lock").is_none(), "{serving}");
        let menu = host.get("menu", "lunch");
        assert_eq!(menu["status"]["phase"], "RolledBack", "{menu}");
    }
    host.kuke(&["delete", "menu", "lunch"]).ok();
    for name in ["front", "back"] {
        host.kuke(&["delete", "recipe", name]).ok();
    }
    host.finish();
    Ok(())
}

/// What can be told before is told before, and nothing is touched.
fn menu_that_cannot_be_rolled_out(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    setting(&host);
    // Somebody else has a cell of that name.
    let foreign = crate::manifest::sleeper("front");
    host.apply(&foreign).ok();
    host.kuke(&["menu", "run", "lunch", "--wait"])
        .code(1)
        .says(&["front"]);
    assert_eq!(version(&host, "back"), "");
    assert_eq!(host.get("menu", "lunch")["status"]["phase"], "Failed");
    assert!(
        host.kuke(&["get", "servings", "-o", "name"])
            .ok()
            .out
            .trim()
            .is_empty()
    );
    host.kuke(&["delete", "cell", "front"]).ok();
    // An artifact is damaged: nothing is locked or changed, and the reason is told.
    let preparation = host.get("prep", &latest(&host, "front"));
    let digest = text(&preparation["spec"]["artifact"]["digest"]);
    let hex = digest.trim_start_matches("sha256:");
    let file = blob(&host, &digest);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, "damaged").unwrap();
    host.kuke(&["menu", "retry", "lunch", "--wait"])
        .code(1)
        .says(&["front: artifact", hex]);
    assert_eq!(versions(&host), ["", ""]);
    std::fs::write(&file, bytes).unwrap();
    host.kuke(&["menu", "retry", "lunch", "--wait"]).ok();
    assert_eq!(versions(&host), ["v1", "v1"]);
    host.kuke(&["menu", "run", "nothere"])
        .code(3)
        .says(&["nothere"]);
    host.finish();
    Ok(())
}

/// A power cut at each step of a run: the next look finishes it, one way or the
/// other, and both members are at the same version.
fn an_open_run_holds_no_end_up() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    setting(&host);
    host.apply(
        "apiVersion: delivery.kokumi.dev/v1alpha1\nkind: Menu\nmetadata: {name: lunch}\nspec:\n  \
         recipes: [{name: back}, {name: front}]\n  \
         strategy: {healthTimeout: 10m, minHealthy: 9m}\n",
    )
    .ok();
    let verifying = |host: &Host| {
        eventually(30.0, "all members are out", || {
            host.get("menu", "lunch")["status"]["phase"] == "Verifying"
        });
    };
    // A run of a request, and one that the loop found.
    host.kuke(&["menu", "run", "lunch"]).ok();
    for _ in 0..2 {
        verifying(&host);
        // The loop has it when whoever asks for a turn does not get one.
        eventually(20.0, "somebody drives the run", || {
            host.kuke(&["menu", "run", "lunch"]).code == 4
        });
        host.stop_daemon();
        let log = host.daemon_log();
        assert!(!log.contains("in time"), "{log}");
        host.start_daemon();
    }
    verifying(&host);
    host.kuke(&["menu", "abort", "lunch", "--wait"]).ok();
    host.kuke(&["delete", "recipe", "front", "--force"]).ok();
    host.kuke(&["delete", "recipe", "back", "--force"]).ok();
    host.finish();
    Ok(())
}

fn menu_is_finished_wherever_it_is_cut() -> Verdict {
    let host = Host::new(Mode::InProcess);
    setting(&host);
    host.kuke(&["menu", "run", "lunch", "--wait"]).ok();
    let mut cuts = 0;
    for (point, most) in [
        ("KUKEON_FAILPOINT_JOURNAL", 60),
        ("KUKEON_FAILPOINT_DELIVERY", 20),
    ] {
        for step in (1..most).step_by(3) {
            let wanted = format!("v{}{step}", point.len());
            write(&host, "front", &wanted, true);
            write(&host, "back", &wanted, true);
            refresh(&host);
            let before = versions(&host);
            let mut cut = host.command(Mode::InProcess, &["menu", "run", "lunch", "--wait"]);
            cut.env(point, step.to_string());
            let status = cut.output().unwrap().status;
            if status.success() {
                assert_eq!(versions(&host), [wanted.clone(), wanted]);
                break;
            }
            cuts += 1;
            // Nobody has to know how far it was.
            host.kuke(&["menu", "run", "lunch", "--wait"]);
            let after = versions(&host);
            let new = [wanted.clone(), wanted];
            assert!(after == new || after == before, "{point}={step}: {after:?}");
            let menu = host.get("menu", "lunch");
            assert!(
                menu["status"].get("currentRun").is_none(),
                "{point}={step}: {menu}"
            );
            if after == before {
                host.kuke(&["menu", "run", "lunch", "--wait"]).ok();
                assert_eq!(versions(&host), new);
            }
        }
    }
    assert!(cuts > 8, "only {cuts} cuts");
    host.kuke(&["delete", "menu", "lunch"]).ok();
    for name in ["front", "back"] {
        host.kuke(&["delete", "recipe", name]).ok();
    }
    host.finish();
    Ok(())
}
