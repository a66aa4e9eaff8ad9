//! Time limits of a Menu's run: a check that hangs, and a run that nobody drove
//! for too long.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::cases;
use crate::command::eventually;
use crate::deaths::DELIVERY;
use crate::host::{Host, Mode};
use crate::menus::{refresh, setting, text, versions, write};
use crate::registry::Registry;
use crate::runner::{Case, Verdict};

pub const CASES: &[&[Case]] = &[cases![
    a_check_that_hangs_changes_nothing,
    a_run_that_was_left_alone_too_long_goes_back,
]];

const BOTH: [&str; 2] = ["front", "back"];

/// The Menu with this strategy.
fn menu(host: &Host, strategy: &str) {
    host.apply(&format!(
        "apiVersion: delivery.kokumi.dev/v1alpha1\nkind: Menu\nmetadata: {{name: lunch}}\nspec:\n  \
         recipes: [{{name: back}}, {{name: front, dependsOn: [back]}}]\n  strategy: {{{strategy}}}\n"
    ))
    .ok();
}

/// Both Servings, without what every write changes.
fn servings(host: &Host) -> [Value; 2] {
    BOTH.map(|name| {
        let mut serving = host.get("serving", name);
        serving["metadata"]["resourceVersion"] = Value::Null;
        serving
    })
}

fn ready(host: &Host) -> (String, String) {
    let menu = host.get("menu", "lunch");
    let conditions = menu["status"]["conditions"].as_array().cloned();
    let conditions = conditions.unwrap_or_default();
    let ready = conditions.iter().find(|c| c["type"] == "Ready").unwrap();
    (text(&ready["reason"]), text(&ready["message"]))
}

/// A registry that takes the connection and says nothing has the image.
fn a_check_that_hangs_changes_nothing() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let registry = Registry::start(&host)?;
    let _silent = registry.slow_relay(5003, 1);
    setting(&host);
    host.kuke(&["menu", "run", "lunch", "--wait"]).ok();
    for name in BOTH {
        write(&host, name, "v2", true);
    }
    let file = host.dir.join("sources/front/manifest.yaml");
    let manifest = fs::read_to_string(&file).unwrap();
    let hangs = manifest.replace("image: busybox", "image: 127.0.0.1:5003/team/box:1");
    assert_ne!(hangs, manifest);
    fs::write(&file, hangs).unwrap();
    refresh(&host);
    menu(
        &host,
        "prepareTimeout: 2s, healthTimeout: 20s, minHealthy: 300ms",
    );
    let before = servings(&host);
    let run = host.start(&["menu", "run", "lunch", "--wait"]);
    eventually(20.0, "the members are locked", || {
        servings(&host)
            .iter()
            .all(|s| s["status"]["lock"].is_string())
    });
    run.wait(crate::host::LIMIT)
        .code(1)
        .says(&["PrepareFailed", "longer than 2s"]);
    let found = host.get("menu", "lunch");
    assert_eq!(found["status"]["phase"], "Failed", "{found}");
    assert!(found["status"].get("currentRun").is_none(), "{found}");
    assert_eq!(ready(&host).0, "PrepareFailed");
    assert_eq!(servings(&host), before, "pointers and locks are as before");
    assert_eq!(versions(&host), ["v1", "v1"]);
    // Nothing was tried that failed: the same may be run as soon as it can be had.
    write(&host, "front", "v3", true);
    host.kuke(&["recipe", "refresh", "front"]).ok();
    host.kuke(&["menu", "run", "lunch", "--wait"]).ok();
    assert_eq!(versions(&host), ["v3", "v2"]);
    drop(registry);
    host.finish();
    Ok(())
}

/// The phase as it is stored, while nobody runs who could be asked.
fn stored_phase(host: &Host) -> String {
    let file = host.run_path.join(".delivery/default/menus/lunch.yaml");
    let menu = fs::read_to_string(file).unwrap();
    let mut lines = menu.lines().filter_map(|l| l.strip_prefix("  phase: "));
    lines.next().unwrap_or_default().to_owned()
}

fn a_run_that_was_left_alone_too_long_goes_back() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    setting(&host);
    host.kuke(&["menu", "run", "lunch", "--wait"]).ok();
    for name in BOTH {
        write(&host, name, "v2", true);
    }
    refresh(&host);
    menu(&host, "healthTimeout: 6s, minHealthy: 5s");
    for (phase, verb) in [("Activating", "run"), ("Verifying", "retry")] {
        let before = servings(&host);
        if phase == "Activating" {
            // It dies before anything is handed to the machine.
            host.stop_daemon();
            assert!(host.start_mortal_daemon(DELIVERY, 1));
            host.kuke(&["menu", verb, "lunch"]);
            eventually(20.0, "it has died", || !host.daemon_lives());
        } else {
            host.kuke(&["menu", verb, "lunch"]).ok();
            eventually(20.0, "all members are out", || {
                host.get("menu", "lunch")["status"]["phase"] == phase
            });
        }
        host.kill_daemon();
        assert_eq!(stored_phase(&host), phase);
        std::thread::sleep(Duration::from_secs(7));
        host.start_daemon();
        eventually(30.0, "it has gone back", || {
            host.get("menu", "lunch")["status"]["phase"] == "RolledBack"
        });
        let (reason, message) = ready(&host);
        assert_eq!(reason, "RolledBack");
        assert!(message.contains("within 6s"), "{message}");
        assert_eq!(versions(&host), ["v1", "v1"]);
        for (was, is) in before.iter().zip(servings(&host)) {
            assert!(is["status"].get("lock").is_none(), "{is}");
            let digest = |s: &Value| s["status"]["deployedDigest"].clone();
            assert_eq!(digest(&is), digest(was));
        }
    }
    // With time enough the same goes out.
    menu(&host, "healthTimeout: 60s, minHealthy: 300ms");
    host.kuke(&["menu", "retry", "lunch", "--wait"]).ok();
    assert_eq!(versions(&host), ["v2", "v2"]);
    host.finish();
    Ok(())
}
