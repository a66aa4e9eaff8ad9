//! What is as it should be is not written again: a second apply, another look, a
//! start of kukeond.

use crate::cases;
use crate::command::{eventually, system};
use crate::delivery::{HEAD, source};
use crate::failures::pantry;
use crate::host::{Host, Mode};
use crate::manifest::sleeper;
use crate::registry::{PASSWORD, Registry};
use crate::releases::recipe;
use crate::runner::{Case, Verdict};

pub const CASES: &[&[Case]] = &[cases![
    what_is_as_it_should_be_is_not_written,
    a_second_look_at_every_kind_writes_nothing,
]];

/// Every file of the state with what tells whether it was written, but for the
/// daemon's own of this life, the locks, which are empty, and what a cell says.
fn written(host: &Host) -> String {
    let below = host.run_path.display().to_string();
    let own = ["run/*", "*.lock", "*.log"].map(|own| format!("{below}/{own}"));
    let mut arguments = vec![below.as_str(), "-type", "f"];
    for own in &own {
        arguments.extend(["-not", "-path", own]);
    }
    arguments.extend(["-printf", "%P %i %T@ %s\n"]);
    let found = system("find", &arguments);
    let mut lines: Vec<String> = found.ok().out.lines().map(str::to_owned).collect();
    lines.sort();
    assert!(lines.len() > 8, "{lines:?}");
    lines.join("\n")
}

/// The same once nothing is written any more.
pub fn at_rest(host: &Host) -> String {
    let mut before = written(host);
    eventually(20.0, "nothing is written any more", || {
        std::thread::sleep(std::time::Duration::from_secs(1));
        let after = written(host);
        std::mem::replace(&mut before, after.clone()) == after
    });
    before
}

fn what_is_as_it_should_be_is_not_written() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    let dir = source(&host, &sleeper("web"));
    host.apply(&recipe("web", &dir, "  autoDeployLatest: true\n"))
        .ok();
    host.kuke(&["wait", "serving/web", "--timeout", "30s"]).ok();
    let pid = host.get("cell", "web")["status"]["containers"][0]["pid"].clone();
    // runc delegates more controllers to a first container than we do; the next
    // start notes that of the scopes.
    host.stop_daemon();
    host.start_daemon();
    let before = at_rest(&host);
    host.apply(&recipe("web", &dir, "  autoDeployLatest: true\n"))
        .ok()
        .says(&["unchanged"]);
    // A start looks at everything again.
    host.stop_daemon();
    host.start_daemon();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(written(&host), before);
    host.kuke_in(Mode::InProcess, &["promote", "web", "--wait"])
        .ok();
    assert_eq!(written(&host), before);
    let now = host.get("cell", "web")["status"]["containers"][0]["pid"].clone();
    assert_eq!(now, pid);
    host.finish();
    Ok(())
}

/// The files that are not the same in both.
fn differing(before: &str, after: &str) -> Vec<String> {
    let name = |line: &&str| line.split(' ').next().unwrap_or_default().to_owned();
    let old = before
        .lines()
        .filter(|line| !after.lines().any(|l| l == *line));
    let new = after
        .lines()
        .filter(|line| !before.lines().any(|l| l == *line));
    let mut names: Vec<String> = old.chain(new).map(|line| name(&line)).collect();
    names.sort();
    names.dedup();
    names
}

/// A Recipe of a template, one of a Pantry and one of a path; the first two in a
/// Menu that begins its runs by itself.
fn every_kind(dir: &str) -> String {
    let named = |name: &str, source: &str| {
        let plain = recipe(name, dir, "");
        let other = plain.replace(&format!("source: {{path: {dir}}}"), source);
        assert_eq!(plain == other, source.contains(&format!("{{path: {dir}}}")));
        other
    };
    [
        pantry(PASSWORD),
        format!(
            "{HEAD}kind: RecipeTemplate\nmetadata: {{name: base}}\nspec: {{source: {{path: {dir}}}}}\n"
        ),
        named("web", "templateRef: {name: base}"),
        named("api", "source: {pantryRef: {name: larder}, version: v1}"),
        named("side", &format!("source: {{path: {dir}/side}}")),
        format!(
            "{HEAD}kind: Menu\nmetadata: {{name: lunch}}\nspec:\n  autoDeployLatest: true\n  \
             recipes: [{{name: web}}, {{name: api, dependsOn: [web]}}]\n  \
             strategy: {{healthTimeout: 60s, minHealthy: 300ms}}\n"
        ),
    ]
    .join("---\n")
}

fn a_second_look_at_every_kind_writes_nothing() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    let registry = Registry::start(&host)?;
    registry.push_files("team/app:v1", &[("manifest.yaml", &sleeper("api"))]);
    let dir = source(&host, &sleeper("web"));
    std::fs::create_dir(format!("{dir}/side")).unwrap();
    host.file("app/side/manifest.yaml", sleeper("side"));
    let documents = every_kind(&dir);
    host.apply(&documents).ok();
    let recipes = ["web", "api", "side"];
    host.kuke(&["promote", "side"]).ok();
    for name in recipes {
        eventually(30.0, "it is deployed", || {
            let serving = host.kuke(&["get", "serving", name, "-o", "json"]);
            serving.code == 0
                && serving.json()["status"]["phase"] == "Deployed"
                && serving.json()["status"].get("lock").is_none()
        });
    }
    host.stop_daemon();
    host.start_daemon();
    let before = at_rest(&host);

    // The same is wanted once more, of everything and in every way.
    let again = host.apply(&documents).ok();
    assert_eq!(again.out.matches(": unchanged").count(), 9, "{}", again.out);
    host.kuke(&["menu", "run", "lunch", "--wait"])
        .ok()
        .says(&["unchanged"]);
    host.kuke(&["promote", "side", "--wait"]).ok();
    assert_eq!(differing(&before, &at_rest(&host)), [""; 0]);
    let elsewhere = host.file("again.yaml", &documents);
    host.kuke_in(Mode::InProcess, &["apply", "-f", &elsewhere])
        .ok();
    assert_eq!(differing(&before, &at_rest(&host)), [""; 0]);

    // A start looks at everything again.
    let told = host.daemon_log().len();
    host.stop_daemon();
    host.start_daemon();
    assert_eq!(differing(&before, &at_rest(&host)), [""; 0]);
    assert!(!host.daemon_log()[told..].contains("tried again later"));

    // What somebody asks for is noted, and its note goes: nothing else is written.
    for name in recipes {
        let (was, before) = (host.get("recipe", name), at_rest(&host));
        host.kuke(&["recipe", "refresh", name]).ok();
        let mut is = host.get("recipe", name);
        let written = differing(&before, &at_rest(&host));
        let document = format!(".delivery/default/recipes/{name}.yaml");
        assert_eq!(written, [document]);
        let version = was["metadata"]["resourceVersion"].as_i64().unwrap();
        assert_eq!(is["metadata"]["resourceVersion"], version + 2);
        is["metadata"]["resourceVersion"] = version.into();
        assert_eq!(is, was);
    }
    host.kuke(&["delete", "menu", "lunch"]).ok();
    drop(registry);
    host.finish();
    Ok(())
}
