//! Several approvals by label at once: the newest revision wins, the others are
//! used up, and a Menu's run makes them wait.

use std::fs;

use serde_json::Value;

use crate::command::{eventually, system};
use crate::delivery::{HEAD, active, latest, source, text};
use crate::host::{Host, LIMIT, Mode};
use crate::manifest::sleeper;
use crate::releases::{approved, coloured, recipe};
use crate::runner::{Case, Verdict};
use crate::{cases, cases_in_both_modes};

pub const CASES: &[&[Case]] = &[
    cases_in_both_modes![the_newest_of_one_apply_wins],
    cases![
        approvals_at_the_same_moment_are_used_up,
        approvals_wait_for_the_end_of_a_run,
        who_approves_by_label_is_remembered,
    ],
];

const APPROVAL: &str = "delivery.kokumi.dev/approve-deploy";

/// The Preparations of so many revisions of the Recipe `web`.
fn revisions(host: &Host, dir: &str, count: usize) -> Vec<String> {
    let of = |i: usize| {
        host.apply(&recipe("web", dir, &coloured(&format!("c{i}"))))
            .ok();
        latest(host, "web")
    };
    (0..count).map(of).collect()
}

fn labelled(host: &Host, preparation: &str) -> bool {
    let labels = host.get("prep", preparation)["metadata"]["labels"].clone();
    labels.get(APPROVAL).is_some()
}

/// Whether the last approval of a Preparation gave way to a newer one.
fn superseded(host: &Host, preparation: &str) -> bool {
    let notes = host.get("prep", preparation)["metadata"]["annotations"].clone();
    let at = text(&notes["delivery.kokumi.dev/approved-at"]);
    assert!(!at.is_empty(), "{notes}");
    at.contains("superseded")
}

/// What was activated by label, in its order.
fn by_label(host: &Host) -> Vec<String> {
    let serving = host.kuke(&["get", "serving", "web", "-o", "json"]);
    if serving.code != 0 {
        return Vec::new();
    }
    let all = serving.json()["status"]["activations"].as_array().cloned();
    let all = all.unwrap_or_default();
    let label = |a: &&Value| a["cause"] == "label";
    all.iter()
        .filter(label)
        .map(|a| text(&a["preparation"]))
        .collect()
}

/// The order in which they are named does not matter.
fn the_newest_of_one_apply_wins(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let dir = source(&host, &sleeper("web"));
    let made = revisions(&host, &dir, 4);
    host.apply(&approved(&host, &[&made[2], &made[0], &made[1]]))
        .ok();
    eventually(30.0, "the newest is active", || {
        host.kuke(&["get", "serving", "web"]).code == 0 && active(&host, "web") == made[2]
    });
    assert_eq!(by_label(&host), [made[2].clone()]);
    for (i, name) in made[..3].iter().enumerate() {
        assert!(!labelled(&host, name));
        assert_eq!(superseded(&host, name), i < 2, "{name}");
    }
    host.kuke(&["delete", "recipe", "web"]).ok();
    host.finish();
    Ok(())
}

/// Two people approve at the same moment. Either both were seen together, and the
/// newer one won, or one came after the other, and the later one is active.
fn approvals_at_the_same_moment_are_used_up() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let dir = source(&host, &sleeper("web"));
    let made = revisions(&host, &dir, 3);
    host.kuke(&["promote", "web", "--wait"]).ok();
    let mut together = 0;
    for round in 0..12 {
        let before = by_label(&host).len();
        let files = [0, 1].map(|i| {
            let document = approved(&host, &[&made[i]]);
            host.file(&format!("approval-{i}.yaml"), document)
        });
        // Each of them is first half of the time.
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        let asked = order.map(|i| host.start(&["apply", "-f", &files[i]]));
        for asked in asked {
            asked.wait(LIMIT).ok();
        }
        eventually(30.0, "both are used up", || {
            made[..2].iter().all(|name| !labelled(&host, name))
        });
        let new = by_label(&host)[before..].to_vec();
        match &new[..] {
            [one] => {
                // Both were seen together, or the other one was active anyway.
                assert_eq!(one, &made[1], "round {round}");
                assert!(superseded(&host, &made[0]) && !superseded(&host, &made[1]));
                together += 1;
            }
            [first, second] => {
                assert_ne!(first, second, "round {round}");
                let both = made[..2].iter();
                assert!(both.clone().all(|name| !superseded(&host, name)));
                assert!(both.clone().any(|name| name == first));
            }
            _ => panic!("round {round}: {new:?}"),
        }
        let last = new.last().cloned().unwrap_or_default();
        eventually(30.0, "the last one is active", || {
            active(&host, "web") == last
        });
        host.kuke(&["promote", "web", "--wait"]).ok();
    }
    crate::runner::note(format!("{together} of 12 were seen together"));
    host.kuke(&["delete", "recipe", "web"]).ok();
    host.finish();
    Ok(())
}

/// Whoever may call the daemon may approve, and is named: not the daemon's user.
fn who_approves_by_label_is_remembered() -> Verdict {
    const GROUP: &str = "64321";
    let mut host = Host::new(Mode::Daemon);
    host.stop_daemon();
    host.serve_with(&format!("  socketGID: {GROUP}\n"));
    host.start_daemon();
    let dir = source(&host, &sleeper("web"));
    let made = revisions(&host, &dir, 2);
    let home = host.dir.join("home").display().to_string();
    system("chmod", &["-R", "a+rX", &home]).ok();
    let home = format!("HOME={home}");
    let kuke = crate::world::world().kuke.display().to_string();
    let nobody = ["--reuid", "65534", "--regid", "65534", "--groups", GROUP];
    let mark = format!("{APPROVAL}=true");
    let call = ["env", &home, &kuke, "label", "prep", &made[0], &mark];
    system("setpriv", &[&nobody[..], &call[..]].concat()).ok();
    eventually(30.0, "the approved one is active", || {
        host.kuke(&["get", "serving", "web"]).code == 0 && active(&host, "web") == made[0]
    });
    let by = "delivery.kokumi.dev/approved-by";
    eventually(20.0, "who approved is noted", || {
        text(&host.get("prep", &made[0])["metadata"]["annotations"][by]) == "nobody"
    });
    host.kuke(&["history", "web"]).ok().says(&["nobody"]);
    host.kuke(&["delete", "recipe", "web"]).ok();
    host.finish();
    Ok(())
}

fn approvals_wait_for_the_end_of_a_run() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let dir = source(&host, &sleeper("web"));
    fs::create_dir(format!("{dir}/side")).unwrap();
    host.file("app/side/manifest.yaml", sleeper("side"));
    let made = revisions(&host, &dir, 3);
    host.kuke(&["promote", "web", "--to", "rev-1", "--wait"])
        .ok();
    host.apply(&recipe("side", &format!("{dir}/side"), "")).ok();
    host.apply(&format!(
        "{HEAD}kind: Menu\nmetadata: {{name: lunch}}\nspec:\n  \
         recipes: [{{name: web}}, {{name: side}}]\n  \
         strategy: {{healthTimeout: 10m, minHealthy: 9m}}\n"
    ))
    .ok();
    host.kuke(&["menu", "run", "lunch"]).ok();
    eventually(30.0, "all members are out", || {
        host.get("menu", "lunch")["status"]["phase"] == "Verifying"
    });
    host.apply(&approved(&host, &[&made[1], &made[0]])).ok();
    for name in ["web", "side"] {
        host.kuke(&["recipe", "refresh", name]).ok();
    }
    assert!(made[..2].iter().all(|name| labelled(&host, name)));
    assert_eq!(by_label(&host), [""; 0]);
    let pointer = host.get("serving", "web")["spec"]["preparationName"].clone();
    assert_eq!(pointer, *made[2], "the run's is active");
    host.kuke(&["menu", "abort", "lunch", "--wait"]).ok();
    eventually(30.0, "the newer one is active", || {
        active(&host, "web") == made[1]
    });
    assert_eq!(by_label(&host), [made[1].clone()]);
    assert!(!labelled(&host, &made[0]) && superseded(&host, &made[0]));
    host.kuke(&["delete", "menu", "lunch"]).ok();
    host.finish();
    Ok(())
}
