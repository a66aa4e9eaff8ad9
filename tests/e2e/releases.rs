//! Rules of releases: templates, approvals, locks of Menus, and the same digest on
//! every instance.

use std::fs;

use crate::command::eventually;
use crate::delivery::{HEAD, active, latest, source, text};
use crate::host::{Host, Mode};
use crate::manifest::sleeper;
use crate::runner::{Case, Verdict};
use crate::{cases, cases_in_both_modes};

pub const CASES: &[&[Case]] = &[
    cases_in_both_modes![
        templates_render_their_consumers,
        an_approval_counts_while_the_recipe_fails,
        what_is_resumed_is_ready,
    ],
    cases![
        the_newest_of_several_approvals_wins,
        a_menu_run_locks_its_members,
        what_is_needed_is_not_deleted,
        a_long_message_damages_nothing,
        what_another_process_deletes_is_back,
        instances_make_the_same_artifact,
    ],
];

pub fn recipe(name: &str, dir: &str, more: &str) -> String {
    format!(
        "{HEAD}kind: Recipe\nmetadata: {{name: {name}}}\nspec:\n  source: {{path: {dir}}}\n  \
         target: {{kuke: {{minHealthy: 0s, healthTimeout: 20s}}}}\n{more}"
    )
}

pub fn coloured(colour: &str) -> String {
    format!(
        "  patches:\n  - target: {{kind: Cell, name: web}}\n    \
         set: {{'.spec.containers[id=main].env': ['COLOUR={colour}']}}\n"
    )
}

fn manifest(host: &Host, preparation: &str) -> String {
    host.kuke(&["manifest", preparation]).ok().out
}

/// Also a cell whose container has an id that does not tell whose it is.
fn what_another_process_deletes_is_back() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let dir = source(&host, &sleeper("web--1"));
    host.apply(&recipe("web", &dir, "")).ok();
    host.kuke(&["promote", "web", "--wait"]).ok();
    let first = host.get("cell", "web--1")["metadata"]["uid"].clone();
    host.kuke_in(Mode::InProcess, &["delete", "cell", "web--1"])
        .ok();
    eventually(20.0, "it is there again", || {
        host.state("web--1") == "Ready"
    });
    assert_ne!(host.get("cell", "web--1")["metadata"]["uid"], first);
    host.kuke(&["delete", "recipe", "web"]).ok();
    host.finish();
    Ok(())
}

/// A Recipe called `rev`: its Preparations are named as revisions begin.
fn what_is_needed_is_not_deleted() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let dir = source(&host, &sleeper("web"));
    let mut made = Vec::new();
    for colour in ["red", "green", "blue", "pink"] {
        host.apply(&recipe("rev", &dir, &coloured(colour))).ok();
        made.push(latest(&host, "rev"));
    }
    host.apply(&recipe("other", &dir, "")).ok();
    let [red, green, blue, pink] = &made[..] else {
        panic!("{made:?}");
    };
    // By name, which is no number; by number; by digest.
    let digest = text(&host.get("prep", green)["spec"]["artifact"]["digest"]);
    for (to, wanted) in [(red.as_str(), red), ("rev-2", green), (&digest, green)] {
        host.kuke(&["promote", "rev", "--to", to, "--wait"]).ok();
        assert_eq!(&active(&host, "rev"), wanted, "{to}");
    }
    host.kuke(&["promote", "rev", "--to", "rev-9"])
        .code(3)
        .says(&["no preparation"]);
    let refused = |prep: &str, why: &str| {
        for more in [&[][..], &["--dry-run"]] {
            host.kuke(&[&["prep", "delete", prep], more].concat())
                .code(4)
                .says(&[why]);
        }
    };
    refused(green, "is active");
    refused(red, "a rollback goes back to");
    refused(pink, "is the latest");
    let digest = text(&host.get("prep", blue)["spec"]["artifact"]["digest"]);
    let menu = |pin: &str| {
        let text = format!(
            "{HEAD}kind: Menu\nmetadata: {{name: lunch}}\nspec:\n  suspend: true\n  recipes:\n  \
             - {{name: rev, preparation: '{pin}'}}\n  - {{name: other}}\n"
        );
        host.apply(&text).ok();
    };
    for pin in ["rev-3", blue, &digest] {
        menu(pin);
        refused(blue, "pinned by menu lunch");
    }
    menu("rev-4");
    host.kuke(&["prep", "delete", blue, "--dry-run"]).ok();
    host.get("prep", blue);
    host.kuke(&["prep", "delete", blue]).ok();
    host.kuke(&["get", "prep", blue]).code(3);
    host.finish();
    Ok(())
}

/// It is refused where it is given; nothing is written that nobody could read.
fn a_long_message_damages_nothing() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let dir = source(&host, &sleeper("web"));
    host.apply(&recipe("web", &dir, "")).ok();
    let long = "x".repeat(513);
    for words in [
        &["recipe", "refresh", "web"][..],
        &["promote", "web"],
        &["rollback", "web"],
        &["recipe", "apply", "web", "--upload", &dir],
    ] {
        host.kuke(&[words, &["-m", &long]].concat())
            .code(2)
            .says(&["at most 512"]);
    }
    host.get("recipe", "web");
    host.kuke(&["recipe", "refresh", "web", "-m", &long[1..]])
        .ok();
    // What a dry run shows is not done.
    for (verb, told) in [("suspend", "suspended"), ("resume", "unchanged")] {
        host.kuke(&["recipe", verb, "web", "--dry-run"])
            .ok()
            .says(&[told]);
        assert_ne!(host.get("recipe", "web")["spec"]["suspend"], true);
    }
    host.finish();
    Ok(())
}

fn templates_render_their_consumers(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let dir = source(&host, &sleeper("web"));
    let template = |colour: &str| {
        format!(
            "{HEAD}kind: RecipeTemplate\nmetadata: {{name: base}}\nspec:\n  source: {{path: {dir}}}\n{}",
            coloured(colour)
        )
    };
    let consumer = |name: &str, more: &str| {
        format!(
            "{HEAD}kind: Recipe\nmetadata: {{name: {name}}}\nspec:\n  templateRef: {{name: base}}\n  \
             target: {{kuke: {{minHealthy: 0s, healthTimeout: 20s}}}}\n{more}"
        )
    };
    assert_ne!(host.apply(&consumer("web", "")).code, 0);
    let found = host.get("recipe", "web");
    assert_eq!(
        found["status"]["conditions"][0]["reason"],
        "TemplateNotFound"
    );
    host.apply(&template("red")).ok();
    eventually(20.0, "the template is found", || {
        !latest(&host, "web").is_empty()
    });
    host.apply(&consumer("own", &coloured("green"))).ok();
    host.kuke(&["promote", "web", "--wait"]).ok();
    let before = ["web", "own"].map(|name| latest(&host, name));
    assert!(manifest(&host, &before[0]).contains("COLOUR=red"));
    assert!(
        manifest(&host, &before[1]).contains("COLOUR=green"),
        "its own wins"
    );
    // An edit of the template renders all that use it, and activates nothing.
    host.apply(&template("blue")).ok();
    eventually(20.0, "it is rendered anew", || {
        latest(&host, "web") != before[0]
    });
    assert!(manifest(&host, &latest(&host, "web")).contains("COLOUR=blue"));
    assert_eq!(active(&host, "web"), before[0]);
    // The inputs of the other one came to the same bytes.
    assert!(manifest(&host, &latest(&host, "own")).contains("COLOUR=green"));
    // What an editor wrote goes by the same rules as a patch.
    let strict = format!(
        "{}  overrides: {{patches: {{policy: None}}}}\n",
        template("blue")
    );
    let edited = coloured("pink").replace("  patches:", "  edits:");
    host.apply(&strict).ok();
    for (name, more) in [("patched", coloured("pink")), ("edited", edited)] {
        assert_ne!(host.apply(&consumer(name, &more)).code, 0);
        let found = host.get("recipe", name);
        assert_eq!(
            found["status"]["conditions"][0]["reason"],
            "OverrideRefused"
        );
        host.kuke(&["delete", "recipe", name]).ok();
    }
    // Another source reaches all that use it.
    let other = host.dir.join("other");
    fs::create_dir_all(&other).unwrap();
    fs::write(
        other.join("manifest.yaml"),
        sleeper("web").replace("echo up", "echo other"),
    )
    .unwrap();
    let roots = format!(
        "{HEAD}kind: Kitchen\nmetadata: {{name: default}}\nspec: {{sourceRoots: [{}]}}\n",
        host.dir.display()
    );
    host.apply(&roots).ok();
    let before = latest(&host, "web");
    host.apply(&template("blue").replace(&dir, &other.display().to_string()))
        .ok();
    eventually(20.0, "it is rendered of the new source", || {
        latest(&host, "web") != before
    });
    assert!(manifest(&host, &latest(&host, "web")).contains("echo other"));
    host.kuke(&["delete", "recipetemplate", "base"])
        .code(4)
        .says(&["web"]);
    for name in ["web", "own"] {
        host.kuke(&["delete", "recipe", name]).ok();
    }
    host.kuke(&["delete", "recipetemplate", "base"]).ok();
    host.finish();
    Ok(())
}

/// The label is about the Preparation: that the newest render is broken is when
/// an older one is wanted most.
fn an_approval_counts_while_the_recipe_fails(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let dir = source(&host, &sleeper("web"));
    let made: Vec<String> = ["one", "two"]
        .iter()
        .map(|colour| {
            host.apply(&recipe("web", &dir, &coloured(colour))).ok();
            latest(&host, "web")
        })
        .collect();
    host.kuke(&["promote", "web", "--wait"]).ok();
    let broken = coloured("three").replace("name: web", "name: nothere");
    assert_ne!(host.apply(&recipe("web", &dir, &broken)).code, 0);
    host.apply(&approved(&host, &[&made[0]])).ok();
    eventually(30.0, "the approved one is active", || {
        active(&host, "web") == made[0]
    });
    assert_eq!(host.get("recipe", "web")["status"]["phase"], "Failed");
    host.kuke(&["delete", "recipe", "web"]).ok();
    host.finish();
    Ok(())
}

/// A hold that goes changes nothing that runs, so there is nothing to wait for.
fn what_is_resumed_is_ready(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let dir = source(&host, &sleeper("web"));
    for colour in ["one", "two"] {
        host.apply(&recipe("web", &dir, &coloured(colour))).ok();
        host.kuke(&["promote", "web", "--wait"]).ok();
    }
    host.kuke(&["rollback", "web", "--wait"]).ok();
    host.kuke(&["resume", "web"]).ok();
    let wait = [
        "wait",
        "serving/web",
        "--for=condition=Ready",
        "--timeout",
        "5s",
    ];
    host.kuke(&wait).ok();
    host.kuke(&["delete", "recipe", "web"]).ok();
    host.finish();
    Ok(())
}

/// The documents of these Preparations, with an approval on each.
pub fn approved(host: &Host, preparations: &[&String]) -> String {
    let documents = preparations.iter().map(|name| {
        let document = host.kuke(&["get", "prep", name, "-o", "yaml"]).ok().out;
        let with = "  labels:\n    delivery.kokumi.dev/approve-deploy: \"true\"\n";
        document.replacen("  labels:\n", with, 1)
    });
    documents.collect::<Vec<_>>().join("---\n")
}

fn the_newest_of_several_approvals_wins() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let dir = source(&host, &sleeper("web"));
    let made: Vec<String> = ["one", "two", "three"]
        .iter()
        .map(|colour| {
            host.apply(&recipe("web", &dir, &coloured(colour))).ok();
            latest(&host, "web")
        })
        .collect();
    // While the Recipe rests nobody takes them one by one.
    host.kuke(&["recipe", "suspend", "web"]).ok();
    host.apply(&approved(&host, &[&made[1], &made[0]])).ok();
    host.kuke(&["recipe", "resume", "web"]).ok();
    eventually(30.0, "the newer one is active", || {
        host.kuke(&["get", "serving", "web"]).code == 0 && active(&host, "web") == made[1]
    });
    for (name, superseded) in [(&made[0], true), (&made[1], false)] {
        let meta = host.get("prep", name)["metadata"].clone();
        assert!(
            meta["labels"]
                .get("delivery.kokumi.dev/approve-deploy")
                .is_none(),
            "{meta}"
        );
        let at = text(&meta["annotations"]["delivery.kokumi.dev/approved-at"]);
        assert_eq!(at.contains("superseded"), superseded, "{at}");
    }
    let history = host.kuke(&["history", "web"]).ok().out;
    assert_eq!(history.matches("approved by label").count(), 1, "{history}");
    host.finish();
    Ok(())
}

fn a_menu_run_locks_its_members() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let dir = source(&host, &sleeper("web"));
    fs::create_dir(format!("{dir}/side")).unwrap();
    fs::write(format!("{dir}/side/manifest.yaml"), sleeper("side")).unwrap();
    host.apply(&recipe("web", &dir, &coloured("one"))).ok();
    let first = latest(&host, "web");
    host.apply(&recipe("side", &format!("{dir}/side"), "")).ok();
    let menu = format!(
        "{HEAD}kind: Menu\nmetadata: {{name: lunch}}\nspec:\n  recipes: [{{name: web}}, {{name: side, dependsOn: [web]}}]\n  \
         strategy: {{healthTimeout: 60s, minHealthy: 20s}}\n"
    );
    host.apply(&menu).ok();
    host.kuke(&["menu", "run", "lunch"]).ok().says(&["started"]);
    eventually(30.0, "the members are locked", || {
        let serving = host.kuke(&["get", "serving", "side", "-o", "json"]);
        serving.code == 0 && serving.json()["status"]["lock"].is_string()
    });
    for verb in [
        &["promote", "web"][..],
        &["promote", "side"],
        &["sync", "web"],
    ] {
        host.kuke(verb)
            .code(4)
            .says(&["held by the menu run", "kuke menu abort"]);
    }
    host.kuke(&["menu", "run", "lunch"])
        .code(4)
        .says(&["in a run already"]);
    host.kuke(&["delete", "menu", "lunch"]).code(4);
    host.kuke(&["delete", "recipe", "side"])
        .code(4)
        .says(&["lunch"]);
    // An approval waits for the end.
    host.apply(&recipe("web", &dir, &coloured("two"))).ok();
    let second = latest(&host, "web");
    host.apply(&approved(&host, &[&second])).ok();
    host.kuke(&["recipe", "refresh", "web"]).ok();
    let label = |host: &Host| {
        let meta = host.get("prep", &second)["metadata"].clone();
        meta["labels"]
            .get("delivery.kokumi.dev/approve-deploy")
            .cloned()
    };
    assert!(label(&host).is_some(), "it waits");
    assert_eq!(
        text(&host.get("serving", "web")["spec"]["preparationName"]),
        first
    );
    host.kuke(&["menu", "abort", "lunch", "--wait"]).ok();
    eventually(30.0, "the approval is taken", || {
        label(&host).is_none()
            && host.kuke(&["get", "serving", "web"]).code == 0
            && active(&host, "web") == second
    });
    host.kuke(&["delete", "menu", "lunch"]).ok();
    host.finish();
    Ok(())
}

fn instances_make_the_same_artifact() -> Verdict {
    let digests = ["one", "two"].map(|_| {
        let host = Host::new(Mode::InProcess);
        let dir = source(&host, &sleeper("web"));
        host.apply(&recipe("web", &dir, &coloured("red"))).ok();
        let found = host.get("recipe", "web");
        let status = &found["status"];
        let made = (
            text(&status["latestArtifactDigest"]),
            text(&status["latestConfigHash"]),
        );
        host.finish();
        made
    });
    assert!(digests[0].0.starts_with("sha256:"), "{digests:?}");
    assert_eq!(digests[0], digests[1]);
    Ok(())
}
