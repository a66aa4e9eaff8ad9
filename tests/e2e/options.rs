//! Flags that every verb of releases has: the namespace, waiting, and looking
//! without doing.

use crate::command::eventually;
use crate::delivery::{HEAD, latest, source, text};
use crate::host::{Host, Mode};
use crate::manifest::{cell, container, sleeper};
use crate::menus::{refresh, setting, versions, write};
use crate::runner::{Case, Verdict};
use crate::signatures::key_pair;
use crate::{cases, cases_in_both_modes};

pub const CASES: &[&[Case]] = &[
    cases_in_both_modes![
        documents_go_into_a_namespace_and_are_waited_for,
        menu_actions_are_rehearsed,
        registry_changes_are_rehearsed,
    ],
    cases![a_serving_and_a_signature_are_shown],
];

fn recipe(dir: &str) -> String {
    format!(
        "{HEAD}kind: Recipe\nmetadata: {{name: web}}\nspec:\n  source: {{path: {dir}}}\n  \
         target: {{kuke: {{minHealthy: 0s, healthTimeout: 20s}}}}\n"
    )
}

fn documents_go_into_a_namespace_and_are_waited_for(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    // It is put into the realm of its release.
    let anywhere = "  realmId: default\n  spaceId: default\n  stackId: default\n";
    let dir = source(&host, &sleeper("web").replace(anywhere, ""));
    let file = host.file("recipe.yaml", recipe(&dir));
    let kuke = |words: &[&str]| host.kuke(words);
    let wait = ["--wait", "--timeout", "30s"];
    kuke(&["apply", "-f", &file, "-n", "Not_A_Name"]).code(2);
    kuke(&["apply", "-f", &file, "-n", "shop", "--dry-run"])
        .ok()
        .says(&["created"]);
    kuke(&["get", "recipe", "web", "-n", "shop"]).code(3);
    let seen = kuke(
        &[
            &["apply", "-f", &file, "-n", "shop", "-o", "json"],
            &wait[..],
        ]
        .concat(),
    )
    .ok()
    .json();
    let told = &seen["resources"][0];
    assert_eq!(told["object"]["metadata"]["namespace"], "shop", "{seen}");
    assert_eq!(told["object"]["status"]["phase"], "Ready", "{seen}");
    kuke(&["get", "recipe", "web"]).code(3);
    let rendered = ["recipe", "render", "-f", &file, "-n", "shop", "-o", "json"];
    assert_eq!(kuke(&rendered).ok().json()["recipe"], "shop/web");

    // A document that names its namespace keeps it.
    let named = recipe(&dir).replace("{name: web}", "{name: web, namespace: default}");
    let named = host.file("named.yaml", named);
    kuke(&["apply", "-f", &named, "-n", "shop"]).ok();
    kuke(&["get", "recipe", "web"]).ok();
    kuke(&["delete", "-f", &file, "-n", "shop", "--wait"]).ok();
    kuke(&["get", "recipe", "web", "-n", "shop"]).code(3);
    kuke(&["get", "recipe", "web"]).ok();
    kuke(&[&["delete", "recipe", "web"], &wait[..]].concat()).ok();
    kuke(&["get", "recipe", "web"]).code(3);

    // What runs, what has done its work, and what never will.
    let apply = |name: &str, text: String| {
        let file = host.file(name, text);
        kuke(&[&["apply", "-f", &file], &wait[..]].concat())
    };
    let job = |name: &str, code: &str| {
        let script = format!("exit {code}");
        cell(name, &container(&script, &["restartPolicy: never"]))
    };
    apply("alone.yaml", sleeper("alone"))
        .ok()
        .says(&["Cell \"alone\": settled"]);
    assert_eq!(host.get("cell", "alone")["status"]["state"], "Ready");
    apply("job.yaml", job("job", "0")).ok();
    assert_ne!(apply("broken.yaml", job("broken", "3")).code, 0);
    // Without --wait the time is the grace, as it ever was.
    kuke(&["delete", "cell", "alone", "--timeout", "1s"]).ok();
    kuke(&["delete", "cell", "job", "--timeout", "1s", "--grace", "1s"])
        .code(2)
        .says(&["--wait"]);
    host.finish();
    Ok(())
}

fn menu_actions_are_rehearsed(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    setting(&host);
    let strategy = "  strategy: {onFailure: Halt, healthTimeout: 20s, minHealthy: 300ms}\n";
    host.apply(&format!(
        "{HEAD}kind: Menu\nmetadata: {{name: lunch}}\nspec:\n  \
         recipes: [{{name: back}}, {{name: front, dependsOn: [back]}}]\n{strategy}"
    ))
    .ok();
    let dry = |verb: &str| {
        let before = host.get("menu", "lunch");
        let told = host.kuke(&["menu", verb, "lunch", "--dry-run"]);
        assert_eq!(host.get("menu", "lunch"), before, "{verb} changed it");
        told
    };
    let first = latest(&host, "back");
    dry("run")
        .ok()
        .says(&[&format!("wave 0: back: nothing -> {first}")]);
    dry("retry").ok().says(&["wave 1: front"]);
    dry("abort").ok().says(&["unchanged"]);
    assert_eq!(versions(&host), ["", ""]);
    host.kuke(&["menu", "run", "lunch", "--wait"]).ok();
    dry("run").ok().says(&["unchanged"]);

    write(&host, "front", "v2", false);
    write(&host, "back", "v2", true);
    refresh(&host);
    let second = latest(&host, "back");
    host.kuke(&["menu", "run", "lunch", "--wait"]).code(1);
    dry("run").code(4).says(&["stopped half-way", "retry"]);
    dry("retry")
        .ok()
        .says(&["goes on", &format!("back: {first} -> {second}")]);
    dry("abort")
        .ok()
        .says(&["goes back", &format!("back: {second} -> {first}")]);
    dry("force")
        .ok()
        .says(&["gives its locks up", &format!("back: stays at {second}")]);
    assert_eq!(versions(&host), ["v2", "v2"]);
    let locked = || host.get("serving", "back")["status"]["lock"].is_string();
    assert!(locked());
    host.kuke(&["menu", "abort", "lunch", "--wait"]).ok();
    assert_eq!(versions(&host), ["v1", "v1"]);
    // The same plan again is refused, and shown by its plan.
    dry("run").code(4).says(&["as it failed before"]);
    host.kuke(&["menu", "plan", "lunch"])
        .ok()
        .says(&[&format!("back: {first} -> {second}")]);
    host.finish();
    Ok(())
}

fn registry_changes_are_rehearsed(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let kuke = |words: &[&str]| host.kuke(words);
    let login = ["registry", "login", "--username", "ci"];
    let with = |more: &[&str]| kuke(&[&login[..], more].concat());
    with(&["--dry-run"]).ok().says(&["would be made"]);
    with(&["--dry-run", "--allow", "team/**=fly"]).code(2);
    with(&["--remove", "--dry-run"])
        .ok()
        .says(&["there is no login"]);
    let made = with(&["--print", "-o", "json"]).ok().json();
    assert!(!text(&made["password"]).is_empty(), "{made}");
    with(&["--dry-run"]).ok().says(&["would be changed"]);
    with(&["--remove", "--dry-run"])
        .ok()
        .says(&["would be removed"]);
    with(&["--remove", "-o", "name"]).ok().says(&["login/ci"]);
    with(&["--remove"]).ok().says(&["there is no login"]);

    // An archive of what an upload left in the registry.
    let dir = host.dir.join("web");
    std::fs::create_dir_all(&dir).unwrap();
    host.file("web/cell.yaml", sleeper("web"));
    let place = dir.display().to_string();
    kuke(&["recipe", "apply", "--upload", &place, "--wait"])
        .ok()
        .says(&["Recipe \"web\": settled"]);
    let archive = host.dir.join("web.tar").display().to_string();
    kuke(&["registry", "export", "sources/default/web", "-o", &archive]).ok();
    let import = ["registry", "import", "team/web:v1", &archive];
    let told = kuke(&[&import[..], &["--dry-run", "-o", "json"]].concat())
        .ok()
        .json();
    let list = || kuke(&["registry", "ls", "-o", "name"]).ok().out;
    assert!(!list().contains("team/web"), "{told}");
    let done = kuke(&[&import[..], &["-o", "json"]].concat()).ok().json();
    assert_eq!(done, told);
    assert_eq!(done["manifests"][0]["name"], "v1", "{done}");
    assert!(list().contains("team/web"));
    let bytes = std::fs::read(&archive).unwrap();
    std::fs::write(&archive, &bytes[..bytes.len() / 2]).unwrap();
    let cut = ["registry", "import", "team/other:v1", &archive, "--dry-run"];
    assert_ne!(kuke(&cut).code, 0);
    host.finish();
    Ok(())
}

fn a_serving_and_a_signature_are_shown() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let dir = source(&host, &sleeper("web"));
    host.apply(&recipe(&dir)).ok();
    host.kuke(&["promote", "web", "--wait"]).ok();
    host.kuke(&["get", "servings"])
        .ok()
        .says(&["SOURCE", "VERSION", &dir]);
    host.kuke(&["describe", "serving", "web"])
        .ok()
        .says(&[&dir]);
    assert_eq!(host.get("serving", "web")["status"]["source"], dir.as_str());
    let prep = latest(&host, "web");
    for words in [
        &["manifest", &prep, "-o", "name"][..],
        &["wait", &format!("prep/{prep}"), "-o", "name"],
    ] {
        let out = host.kuke(words).ok().out;
        assert_eq!(out.trim(), format!("preparation/{prep}"), "{words:?}");
    }

    let (key, public) = key_pair(&host, "release", "ED25519");
    let signature = || {
        let verify = ["prep", "verify", &prep, "--key", &public, "-o", "json"];
        text(&host.kuke(&verify).json()["signature"])
    };
    let sign = ["prep", "sign", &prep, "--key", &key];
    host.kuke(&[&sign[..], &["--dry-run"]].concat())
        .ok()
        .says(&["signed (dry run)"]);
    assert_eq!(signature(), "none");
    host.kuke(&sign).ok();
    assert_eq!(signature(), "valid");

    // What a watch shows is what a table shows.
    for kind in ["preps", "servings", "menus", "pantries"] {
        let watch = host.start(&["get", kind, "--watch"]);
        eventually(20.0, kind, || watch.out().contains("NAME"));
        watch.signal(nix::sys::signal::Signal::SIGINT);
        watch.wait(crate::host::LIMIT).code(130);
    }
    host.finish();
    Ok(())
}
