//! kukeond dies in what its controllers do by themselves (auto-deploy, approvals,
//! ways back, putting back what drifted) and in what ends; the next one finishes it.

use std::cell::{Cell, RefCell};

use serde_json::Value;

use crate::census::Census;
use crate::deaths::{DELIVERY, JOURNAL, dies_at_each_step, get, rests};
use crate::delivery::{HEAD, latest, source, text};
use crate::host::{Host, Mode};
use crate::manifest::sleeper;
use crate::releases::approved;
use crate::runner::{Case, Verdict};

pub const CASES: &[&[Case]] = &[crate::cases![
    kukeond_dies_while_it_deploys_by_itself,
    kukeond_dies_while_it_takes_an_approval,
    kukeond_dies_on_the_way_back,
    kukeond_dies_while_it_puts_back_what_drifted,
    kukeond_dies_while_a_release_ends,
    kukeond_dies_while_a_workload_is_let_go,
]];

/// Steps of the runtime below the releases.
const RUNTIME: &str = "KUKEON_FAILPOINT";
const APPROVAL: &str = "delivery.kokumi.dev/approve-deploy";
const APPROVED_AT: &str = "delivery.kokumi.dev/approved-at";

/// A Recipe `web` of one cell whose variable is `colour`, and more fields.
fn recipe(dir: &str, colour: &str, target: &str, more: &str) -> String {
    format!(
        "{HEAD}kind: Recipe\nmetadata: {{name: web}}\nspec:\n  source: {{path: {dir}}}\n  \
         target: {{{target}kuke: {{minHealthy: 0s, healthTimeout: 20s}}}}\n{more}  patches:\n  \
         - target: {{kind: Cell, name: web}}\n    \
         set: {{'.spec.containers[id=main].env': ['COLOUR={colour}']}}\n"
    )
}

/// Causes of all activations, the oldest first.
fn causes(host: &Host) -> Vec<String> {
    let serving = get(host, "serving", "web");
    let all = serving["status"]["activations"].as_array().cloned();
    let all = all.unwrap_or_default();
    all.iter().map(|a| text(&a["cause"])).collect()
}

fn digest(host: &Host, preparation: &str) -> String {
    text(&get(host, "prep", preparation)["spec"]["artifact"]["digest"])
}

/// Whether the cell has this variable; there is none while nobody answers.
fn runs(host: &Host, colour: &str) -> bool {
    let cell = get(host, "cell", "web");
    cell["spec"]["containers"][0]["env"][0] == *format!("COLOUR={colour}")
}

/// Every revision is made once and deployed once, also when kukeond died after it
/// was stored and before it was promoted.
fn kukeond_dies_while_it_deploys_by_itself() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    let dir = source(&host, &sleeper("web"));
    let auto = |n: i64| recipe(&dir, &format!("g{n}"), "", "  autoDeployLatest: true\n");
    host.apply(&auto(1)).ok();
    let file = host.file("recipe.yaml", auto(1));
    let (next, alone) = (Cell::new(1), Cell::new(0));
    let deployed = |host: &Host| {
        let (found, wanted) = (get(host, "recipe", "web"), next.get());
        let latest = text(&found["status"]["latestArtifactDigest"]);
        found["status"]["revision"] == wanted
            && rests(host, "web", &[&latest])
            && runs(host, &format!("g{wanted}"))
            && causes(host) == vec!["auto"; wanted as usize]
    };
    for point in [JOURNAL, DELIVERY] {
        let asked = Cell::new(false);
        dies_at_each_step(
            &mut host,
            point,
            |host| {
                next.set(next.get() + 1);
                asked.set(false);
                host.file("recipe.yaml", auto(next.get()));
            },
            &["apply", "-f", &file],
            |host| {
                // Only what was not stored is asked for once more.
                let wanted = format!("COLOUR=g{}", next.get());
                let spec = get(host, "recipe", "web")["spec"].to_string();
                if !spec.contains(&wanted) && !asked.replace(true) {
                    host.kuke(&["apply", "-f", &file]).ok();
                }
                let done = deployed(host);
                alone.set(alone.get() + i32::from(done && !asked.get()));
                done
            },
            deployed,
        );
    }
    crate::runner::note(format!("{} were finished by the next kukeond", alone.get()));
    assert!(alone.get() > 10, "only {} were found again", alone.get());
    host.kuke(&["delete", "recipe", "web"]).ok();
    host.finish();
    Ok(())
}

/// The label is used up together with the promotion: once, and never left over.
fn kukeond_dies_while_it_takes_an_approval() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    let dir = source(&host, &sleeper("web"));
    let made = ["one", "two"].map(|colour| {
        host.apply(&recipe(&dir, colour, "", "")).ok();
        latest(&host, "web")
    });
    let digests = [0, 1].map(|i| digest(&host, &made[i]));
    let rollback = ["rollback", "web", "--to", "rev-1", "--wait"];
    host.kuke(&["promote", "web", "--to", "rev-1", "--wait"])
        .ok();
    let labels = |host: &Host| causes(host).iter().filter(|c| *c == "label").count();
    let meta = |host: &Host, key: &str, part: &str| {
        let found = get(host, "prep", &made[1]);
        (!found.is_null()).then(|| found["metadata"][part][key].clone())
    };
    // When it was approved last, and how often it was promoted for that.
    let before = RefCell::new((Value::Null, 0));
    let alone = Cell::new(0);
    let file = host.file("approved.yaml", "");
    let settled = |host: &Host| {
        let (at, promoted) = &*before.borrow();
        let now = meta(host, APPROVED_AT, "annotations");
        if meta(host, APPROVAL, "labels") != Some(Value::Null) || now.is_none() {
            return false;
        }
        // Either it was never labelled, or it is active, for one more reason.
        let taken = now.as_ref() != Some(at);
        rests(host, "web", &[&digests[usize::from(taken)]])
            && labels(host) == promoted + usize::from(taken)
    };
    for point in [JOURNAL, DELIVERY] {
        dies_at_each_step(
            &mut host,
            point,
            |host| {
                host.kuke(&rollback);
                before.replace((
                    meta(host, APPROVED_AT, "annotations").unwrap(),
                    labels(host),
                ));
                host.file("approved.yaml", approved(host, &[&made[1]]));
            },
            &["apply", "-f", &file],
            |host| {
                let done = settled(host);
                let taken = labels(host) > before.borrow().1;
                alone.set(alone.get() + i32::from(done && taken));
                done
            },
            |host| settled(host) && labels(host) > before.borrow().1,
        );
    }
    assert!(alone.get() > 5, "only {} were taken", alone.get());
    host.kuke(&["delete", "recipe", "web"]).ok();
    host.finish();
    Ok(())
}

/// A release that does not become healthy goes back, whenever kukeond dies
/// meanwhile, and why is kept.
fn kukeond_dies_on_the_way_back() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    let dir = source(&host, &sleeper("web"));
    let back = |colour: &str, more: &str| {
        let text = recipe(&dir, colour, "", &format!("  onFailure: Rollback\n{more}"));
        text.replace("minHealthy: 0s", "minHealthy: 1s")
    };
    host.apply(&back("one", "")).ok();
    host.kuke(&["promote", "web", "--wait"]).ok();
    let broken = back("two", "").replace(
        "['COLOUR=two']",
        "['COLOUR=two'], '.spec.containers[id=main].args': ['-c', 'exit 3'], \
         '.spec.containers[id=main].restartPolicy': never",
    );
    let good = digest(&host, &latest(&host, "web"));
    host.apply(&broken).ok();
    let before = Cell::new(0);
    let settled = |host: &Host| {
        let all = causes(host);
        let new = &all[before.get().min(all.len())..];
        // It was not asked for, or it went there and back, once.
        let whole = new.is_empty() || *new == ["promote", "failure"];
        whole && rests(host, "web", &[&good])
    };
    let returned = |host: &Host| causes(host).len() > before.get() && settled(host);
    for point in [JOURNAL, DELIVERY] {
        dies_at_each_step(
            &mut host,
            point,
            |host| before.set(causes(host).len()),
            &["promote", "web"],
            settled,
            returned,
        );
    }
    let serving = get(&host, "serving", "web");
    assert!(serving["spec"]["hold"]["reason"].is_string(), "{serving}");
    let last = serving["status"]["activations"].as_array().unwrap().last();
    let why = text(&last.unwrap()["message"]);
    assert!(why.starts_with("Unhealthy: "), "{why}");
    host.kuke(&["delete", "recipe", "web"]).ok();
    host.finish();
    Ok(())
}

fn kukeond_dies_while_it_puts_back_what_drifted() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    let dir = source(&host, &sleeper("web"));
    host.apply(&recipe(&dir, "one", "", "")).ok();
    host.kuke(&["promote", "web", "--wait"]).ok();
    let good = digest(&host, &latest(&host, "web"));
    let uid = |host: &Host| text(&get(host, "cell", "web")["metadata"]["uid"]);
    let before = RefCell::new(String::new());
    let settled = |host: &Host| {
        let serving = get(host, "serving", "web");
        let conditions = serving["status"]["conditions"].as_array().cloned();
        let well = |c: &Value| c["status"] == "True";
        conditions.is_some_and(|all| all.iter().all(well))
            && runs(host, "one")
            && host.state("web") == "Ready"
            && rests(host, "web", &[&good])
    };
    for point in [JOURNAL, DELIVERY, RUNTIME] {
        dies_at_each_step(
            &mut host,
            point,
            |host| {
                let now = uid(host);
                assert!(!now.is_empty());
                before.replace(now);
            },
            // Not by the one that dies, which has only this to put back.
            &["delete", "cell", "web", "--grace", "0s", "--no-daemon"],
            settled,
            |host| {
                let now = uid(host);
                !now.is_empty() && now != *before.borrow() && settled(host)
            },
        );
        assert_eq!(causes(&host), ["promote"], "nothing was promoted anew");
        assert_eq!(host.census().count("task"), 1);
    }
    host.kuke(&["delete", "recipe", "web"]).ok();
    host.finish();
    Ok(())
}

/// What is on the host, but for processes: kukeond is another one by now. A shim
/// and a task are counted by their own names.
fn counted(host: &Host) -> Census {
    host.census().without(&["process"])
}

/// Whether an object is known to be gone.
fn gone(host: &Host, kind: &str) -> bool {
    host.kuke(&["get", kind, "web"]).code == 3
}

fn kukeond_dies_while_a_release_ends() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    let dir = source(&host, &sleeper("web"));
    let make = |host: &Host| {
        host.apply(&recipe(&dir, "one", "", "")).ok();
        host.kuke(&["promote", "web", "--wait"]).ok();
    };
    let delete = ["delete", "recipe", "web", "--purge-artifacts"];
    make(&host);
    host.kuke(&delete).ok();
    let before = counted(&host);
    let done = |host: &Host| {
        let objects = ["recipe", "serving", "cell"];
        objects.iter().all(|kind| gone(host, kind))
            && host.kuke(&["get", "preps", "-o", "name"]).out.is_empty()
            && !host.kuke(&["registry", "ls"]).out.contains("rev-1")
            && before.difference(&counted(host)).is_empty()
    };
    for point in [JOURNAL, DELIVERY, RUNTIME] {
        dies_at_each_step(
            &mut host,
            point,
            make,
            &delete,
            |host| {
                ask_again(host, &delete);
                done(host)
            },
            done,
        );
    }
    host.kuke(&["registry", "verify"]).ok();
    host.finish();
    Ok(())
}

/// Deletes a recipe once more whose deletion was not stored before the death.
fn ask_again(host: &Host, delete: &[&str]) {
    let recipe = get(host, "recipe", "web");
    let marked = recipe["metadata"]["deletionTimestamp"].is_string();
    if !recipe.is_null() && !marked {
        host.kuke(delete).ok();
    }
}

/// It runs on, and is nobody's.
fn kukeond_dies_while_a_workload_is_let_go() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    let dir = source(&host, &sleeper("web"));
    let pid = |host: &Host| get(host, "cell", "web")["status"]["containers"][0]["pid"].clone();
    let before = RefCell::new(Value::Null);
    let done = |host: &Host| {
        let labels = get(host, "cell", "web")["metadata"]["labels"].clone();
        gone(host, "recipe")
            && gone(host, "serving")
            && labels.get("delivery.kokumi.dev/serving").is_none()
            && pid(host) == *before.borrow()
    };
    let delete = ["delete", "recipe", "web"];
    // The host itself is not touched.
    for point in [JOURNAL, DELIVERY] {
        dies_at_each_step(
            &mut host,
            point,
            |host| {
                host.kuke(&["delete", "cell", "web", "--grace", "0s"]);
                host.apply(&recipe(&dir, "one", "deletionPolicy: Orphan, ", ""))
                    .ok();
                host.kuke(&["promote", "web", "--wait"]).ok();
                before.replace(pid(host));
            },
            &delete,
            |host| {
                ask_again(host, &delete);
                done(host)
            },
            done,
        );
    }
    host.finish();
    Ok(())
}
