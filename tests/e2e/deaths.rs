//! kukeond dies at every durable step of a whole release story, and whoever
//! starts it again repairs nothing by hand.

use std::fs;

use crate::command::eventually;
use crate::delivery::{HEAD, text};
use crate::host::{Host, Mode};
use crate::runner::{Case, Verdict};

pub const CASES: &[&[Case]] = &[crate::cases![
    kukeond_dies_at_each_step_of_a_menu_run,
    kukeond_dies_at_each_step_of_a_menu_that_goes_back,
    kukeond_dies_at_each_step_of_a_release,
    kukeond_dies_at_every_step_of_a_story,
]];

pub const JOURNAL: &str = "KUKEON_FAILPOINT_JOURNAL";
pub const DELIVERY: &str = "KUKEON_FAILPOINT_DELIVERY";
const BOTH: [&str; 2] = ["hello", "pair"];

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
pub fn get(host: &Host, kind: &str, name: &str) -> serde_json::Value {
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

/// A host with the sources of both Recipes, and where they are.
fn setting() -> (Host, String) {
    let host = Host::new(Mode::Daemon);
    let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests");
    let dir = host.dir.join("app");
    for (recipe, file) in [("hello", "hello-world.yaml"), ("pair", "sidecar.yaml")] {
        let to = dir.join(recipe);
        fs::create_dir_all(&to).unwrap();
        fs::copy(format!("{manifests}/{file}"), to.join("manifest.yaml")).unwrap();
    }
    let dir = dir.display().to_string();
    (host, dir)
}

/// Renders a revision of both with an ordinary daemon; returns the digests.
fn render(host: &Host, dir: &str, greeting: &str, broken: bool) -> [String; 2] {
    let file = host.file("documents.yaml", documents(dir, greeting, broken));
    host.kuke(&["apply", "-f", &file]).ok();
    eventually(20.0, "both are rendered", || {
        BOTH.iter().all(|recipe| rendered(host, recipe))
    });
    BOTH.map(|recipe| digest(host, recipe))
}

fn rendered(host: &Host, recipe: &str) -> bool {
    let found = get(host, "recipe", recipe);
    found["status"]["phase"] == "Ready"
        && found["status"]["observedGeneration"] == found["metadata"]["generation"]
}

/// Begins at the same place again and again; each time kukeond is killed one step
/// later in what it was asked for, until it is done before that. An ordinary one
/// after it comes to what `settled` asks, with nobody's help.
pub fn dies_at_each_step(
    host: &mut Host,
    point: &str,
    begin: impl Fn(&Host),
    ask: &[&str],
    settled: impl Fn(&Host) -> bool,
    done: impl Fn(&Host) -> bool,
) {
    for step in 1..120 {
        begin(host);
        host.kill_daemon();
        let mut there = false;
        if host.start_mortal_daemon(point, step) {
            // It is refused, cut off or done: the state tells.
            host.kuke(ask);
            let mut died = false;
            eventually(30.0, "it has done it or died", || {
                there = done(host);
                died = !host.daemon_lives();
                there || died
            });
            there &= !died;
        }
        host.kill_daemon();
        host.start_daemon();
        eventually(
            30.0,
            &format!("all is well after a death at {point}={step}"),
            || settled(host),
        );
        if there {
            crate::runner::note(format!("{ask:?}: it died {} times", step - 1));
            assert!(step > 2, "{ask:?} has more steps");
            return;
        }
    }
    panic!("never done: {ask:?}");
}

/// Whether a Serving has come to rest on one of these digests.
pub fn rests(host: &Host, recipe: &str, digests: &[&String]) -> bool {
    let found = get(host, "serving", recipe);
    found["status"].get("lock").is_none()
        && deployed(host, recipe).is_some_and(|d| digests.contains(&&d))
        && host.state(recipe) == "Ready"
}

fn kukeond_dies_at_each_step_of_a_release() -> Verdict {
    let (mut host, dir) = setting();
    let first = render(&host, &dir, "one", false);
    host.kuke(&["promote", "hello", "--wait"]).ok();
    let second = render(&host, &dir, "two", false);
    let either = [&first[0], &second[0]];
    let settled = |host: &Host| rests(host, "hello", &either);
    let promote = ["promote", "hello", "--wait"];
    let rollback = ["rollback", "hello", "--to", "rev-1", "--wait"];
    for point in [JOURNAL, DELIVERY] {
        for (begin, ask, wanted) in [
            (&rollback[..], &promote[..2], &second[0]),
            (&promote[..], &rollback[..4], &first[0]),
        ] {
            dies_at_each_step(
                &mut host,
                point,
                |host| {
                    // It may be there already, which is refused.
                    host.kuke(begin);
                },
                ask,
                settled,
                |host| rests(host, "hello", &[wanted]),
            );
        }
    }
    // A revision of its own each time, which is made once.
    let next = std::cell::Cell::new(2);
    let file = host.dir.join("documents.yaml").display().to_string();
    dies_at_each_step(
        &mut host,
        JOURNAL,
        |host| {
            next.set(next.get() + 1);
            host.file(
                "documents.yaml",
                documents(&dir, &format!("g{}", next.get()), false),
            );
        },
        &["apply", "-f", &file],
        |host| {
            // What was not stored yet is asked for once more, by whoever asked.
            host.kuke(&["apply", "-f", &file]).ok();
            BOTH.iter().all(|recipe| {
                let found = get(host, "recipe", recipe);
                rendered(host, recipe) && found["status"]["revision"] == next.get()
            })
        },
        |host| {
            BOTH.iter().all(|recipe| {
                let found = get(host, "recipe", recipe);
                rendered(host, recipe) && found["status"]["revision"] == next.get()
            })
        },
    );
    end(host)
}

fn menu(host: &Host) {
    let menu = format!(
        "{HEAD}kind: Menu\nmetadata: {{name: lunch}}\nspec:\n  recipes: [{{name: hello}}, {{name: pair, dependsOn: [hello]}}]\n  \
         strategy: {{healthTimeout: 20s, minHealthy: 100ms}}\n"
    );
    host.apply(&menu).ok();
}

/// Whether no run of the Menu is open and both are on the same of these pairs.
fn agree(host: &Host, pairs: &[&[String; 2]]) -> bool {
    let found = get(host, "menu", "lunch");
    let closed = !found.is_null() && found["status"].get("currentRun").is_none();
    let on = |pair: &[String; 2]| {
        let members = BOTH.iter().zip(pair);
        members.fold(true, |on, (name, d)| on && rests(host, name, &[d]))
    };
    closed && pairs.iter().any(|pair| on(pair))
}

fn kukeond_dies_at_each_step_of_a_menu_run() -> Verdict {
    let (mut host, dir) = setting();
    let first = render(&host, &dir, "one", false);
    menu(&host);
    host.kuke(&["menu", "run", "lunch", "--wait"]).ok();
    let second = render(&host, &dir, "two", false);
    for point in [JOURNAL, DELIVERY] {
        dies_at_each_step(
            &mut host,
            point,
            |host| {
                for recipe in BOTH {
                    host.kuke(&["rollback", recipe, "--to", "rev-1", "--wait"]);
                }
                eventually(20.0, "both are back", || agree(host, &[&first]));
            },
            &["menu", "run", "lunch"],
            |host| agree(host, &[&first, &second]),
            |host| agree(host, &[&second]),
        );
    }
    end(host)
}

fn kukeond_dies_at_each_step_of_a_menu_that_goes_back() -> Verdict {
    let (mut host, dir) = setting();
    let first = render(&host, &dir, "one", false);
    menu(&host);
    host.kuke(&["menu", "run", "lunch", "--wait"]).ok();
    render(&host, &dir, "two", true);
    host.kuke(&["menu", "run", "lunch", "--wait"]).code(1);
    let runs = |host: &Host| {
        let found = get(host, "menu", "lunch");
        let runs = found["status"]["runs"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        runs.last().map(|run| text(&run["id"])).unwrap_or_default()
    };
    let before = std::cell::RefCell::new(String::new());
    dies_at_each_step(
        &mut host,
        JOURNAL,
        |host| {
            eventually(20.0, "both are back", || agree(host, &[&first]));
            before.replace(runs(host));
        },
        &["menu", "retry", "lunch"],
        |host| agree(host, &[&first]),
        |host| runs(host) != *before.borrow() && agree(host, &[&first]),
    );
    end(host)
}

fn end(host: Host) -> Verdict {
    host.kuke(&["registry", "verify"]).ok();
    if !get(&host, "menu", "lunch").is_null() {
        host.kuke(&["delete", "menu", "lunch"]).ok();
    }
    for recipe in BOTH {
        host.kuke(&["delete", "recipe", recipe]).ok();
    }
    host.finish();
    Ok(())
}

fn kukeond_dies_at_every_step_of_a_story() -> Verdict {
    let (mut host, dir) = setting();
    host.stop_daemon();
    let mut story = Story { host, deaths: 0 };
    let journal = JOURNAL;
    let both = BOTH;
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
    for point in [journal, DELIVERY] {
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
