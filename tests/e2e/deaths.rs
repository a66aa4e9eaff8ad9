//! kukeond dies at every durable step of a whole release story, and whoever
//! starts it again repairs nothing by hand.

use std::fs;

use crate::command::eventually;
use crate::delivery::{HEAD, text};
use crate::host::{Host, Mode};
use crate::runner::{Case, Verdict};

pub const CASES: &[&[Case]] = &[crate::cases![kukeond_dies_at_every_step_of_a_story]];

/// A host whose daemon keeps dying.
struct Story {
    host: Host,
    deaths: usize,
}

impl Story {
    /// Asks for something of a daemon that dies at its second step, then of one
    /// that dies at its third, and so on, until what was asked for is there.
    /// Every one of them begins with what the last one left: nobody else looks
    /// at the state in between, since whoever opens it finishes what was cut.
    fn until(&mut self, point: &str, arguments: &[&str], reached: impl Fn(&Host) -> bool) {
        for step in 2..80 {
            let mut there = false;
            if self.host.start_mortal_daemon(point, step) {
                // It is refused, cut off or done: the state tells.
                self.host.kuke(arguments);
                for _ in 0..20 {
                    there = reached(&self.host);
                    if there || !self.host.daemon_lives() {
                        break;
                    }
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
            }
            self.deaths += usize::from(!self.host.daemon_lives());
            self.host.kill_daemon();
            if there {
                return;
            }
        }
        panic!("never reached: {arguments:?}");
    }
}

/// An object as the daemon knows it; nothing when it is dead.
fn get(host: &Host, kind: &str, name: &str) -> serde_json::Value {
    let done = host.kuke(&["get", kind, name, "-o", "json"]);
    match done.code {
        0 => done.json(),
        _ => serde_json::Value::Null,
    }
}

fn deployed(host: &Host, recipe: &str) -> Option<String> {
    let serving = get(host, "serving", recipe);
    let is = serving["status"]["phase"] == "Deployed"
        && serving["status"]["observedPreparationName"] == serving["spec"]["preparationName"];
    is.then(|| text(&serving["status"]["deployedDigest"]))
}

fn digest(host: &Host, recipe: &str) -> String {
    text(&get(host, "recipe", recipe)["status"]["latestArtifactDigest"])
}

fn documents(dir: &str, greeting: &str, broken: bool) -> String {
    let mut text = format!(
        "{HEAD}kind: Kitchen\nmetadata: {{name: default}}\nspec: {{sourceRoots: [{dir}]}}\n"
    );
    for (recipe, cell, id) in [("hello", "hello", "hello"), ("pair", "pair", "")] {
        let mut patches =
            format!("{{'.metadata.annotations[\"example.com/greeting\"]': {greeting}");
        if broken && recipe == "hello" {
            patches += &format!(", '.spec.containers[id={id}].command': /no/such/program");
        }
        text += &format!(
            "---\n{HEAD}kind: Recipe\nmetadata: {{name: {recipe}}}\nspec:\n  \
             source: {{path: {dir}/{recipe}}}\n  \
             target: {{kuke: {{minHealthy: 0s, healthTimeout: 10s}}}}\n  \
             patches: [{{target: {{kind: Cell, name: {cell}}}, set: {patches}}}}}]\n"
        );
    }
    text
}

fn kukeond_dies_at_every_step_of_a_story() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests");
    let dir = host.dir.join("app");
    for (recipe, file) in [("hello", "hello-world.yaml"), ("pair", "sidecar.yaml")] {
        let to = dir.join(recipe);
        fs::create_dir_all(&to).unwrap();
        fs::copy(format!("{manifests}/{file}"), to.join("manifest.yaml")).unwrap();
    }
    let dir = dir.display().to_string();
    host.stop_daemon();
    let mut story = Story { host, deaths: 0 };
    let journal = "KUKEON_FAILPOINT_JOURNAL";
    let both = ["hello", "pair"];
    let write = |story: &Story, greeting: &str, broken: bool| {
        let text = documents(&dir, greeting, broken);
        story.host.file("documents.yaml", text)
    };
    // Rendered: every revision is there once, whoever had to do it twice.
    let rendered = |revision: i64| {
        move |host: &Host| {
            both.iter().all(|recipe| {
                let found = get(host, "recipe", recipe);
                found["status"]["phase"] == "Ready"
                    && found["status"]["revision"] == revision
                    && found["status"]["observedGeneration"] == found["metadata"]["generation"]
            })
        }
    };
    let file = write(&story, "one", false);
    story.until(journal, &["apply", "-f", &file], rendered(1));
    story.host.start_daemon();
    let first = both.map(|recipe| digest(&story.host, recipe));
    story.host.kill_daemon();
    story.until(journal, &["promote", "hello"], |host| {
        deployed(host, "hello").as_ref() == Some(&first[0])
    });
    let file = write(&story, "two", false);
    story.until(journal, &["apply", "-f", &file], rendered(2));
    story.host.start_daemon();
    let second = both.map(|recipe| digest(&story.host, recipe));
    assert!(first[0] != second[0] && first[1] != second[1]);
    assert_eq!(deployed(&story.host, "hello").as_ref(), Some(&first[0]));
    story.host.kill_daemon();
    for point in [journal, "KUKEON_FAILPOINT_DELIVERY"] {
        story.until(point, &["promote", "hello"], |host| {
            deployed(host, "hello").as_ref() == Some(&second[0])
        });
        story.until(point, &["rollback", "hello", "--to", "rev-1"], |host| {
            deployed(host, "hello").as_ref() == Some(&first[0])
        });
    }
    // Both as one.
    let menu = format!(
        "{HEAD}kind: Menu\nmetadata: {{name: lunch}}\nspec:\n  recipes: [{{name: hello}}, {{name: pair, dependsOn: [hello]}}]\n  \
         strategy: {{healthTimeout: 10s, minHealthy: 100ms}}\n"
    );
    let menu = story.host.file("menu.yaml", menu);
    let ended = |host: &Host, phase: &str| {
        let found = get(host, "menu", "lunch");
        found["status"]["phase"] == phase && found["status"].get("currentRun").is_none()
    };
    story.until(journal, &["apply", "-f", &menu], |host| {
        !get(host, "menu", "lunch").is_null()
    });
    story.until(journal, &["menu", "run", "lunch"], |host| {
        let all = both.map(|recipe| deployed(host, recipe).unwrap_or_default());
        ended(host, "Deployed") && all == second
    });
    let file = write(&story, "three", true);
    story.until(journal, &["apply", "-f", &file], rendered(3));
    story.until(journal, &["menu", "run", "lunch"], |host| {
        ended(host, "RolledBack")
    });
    // An ordinary daemon has nothing to repair, and nothing is half.
    story.host.start_daemon();
    eventually(30.0, "all are back on what they had", || {
        both.map(|recipe| deployed(&story.host, recipe).unwrap_or_default()) == second
    });
    for recipe in both {
        let serving = story.host.get("serving", recipe);
        assert!(serving["status"].get("lock").is_none(), "{serving}");
        story.host.await_state(recipe, "Ready");
    }
    story.host.kuke(&["registry", "verify"]).ok();
    let deaths = story.deaths;
    crate::runner::note(format!("it died {deaths} times"));
    assert!(deaths > 25, "it died only {deaths} times");
    story.host.kuke(&["delete", "menu", "lunch"]).ok();
    for recipe in both {
        story.host.kuke(&["delete", "recipe", recipe]).ok();
    }
    story.host.finish();
    Ok(())
}
