//! Documents of the store that cannot be read: the others are shown and work on,
//! and what the damaged one made goes without leaving anything.

use std::fs;

use crate::delivery::{HEAD, active, latest, source};
use crate::host::{Host, Mode};
use crate::manifest::{shell, sleeper};
use crate::runner::{Case, Verdict};
use crate::{cases, cases_in_both_modes};

pub const CASES: &[&[Case]] = &[
    cases_in_both_modes![
        a_damaged_cell_hides_no_other_and_can_be_deleted,
        a_damaged_cell_goes_with_its_stack,
        damaged_realms_spaces_and_stacks_can_be_deleted,
        damaged_secrets_and_volumes_hold_no_scope,
        a_damaged_menu_keeps_its_members,
    ],
    cases![a_daemon_starts_beside_a_damaged_cell],
];

/// What a document may look like after a mishap.
const DAMAGES: [&str; 4] = [
    "",
    "apiVersion: v1beta1\nkind: Cell\nmetadata:\n  na",
    "apiVersion: v9\nkind: Cell\nmetadata: {name: bad}\nspec: {realmId: default}\n",
    "{[",
];

fn damage(host: &Host, text: &str) {
    let document = host.run_path.join("default/default/default/bad/cell.yaml");
    fs::write(document, text).unwrap();
}

fn a_damaged_cell_hides_no_other_and_can_be_deleted(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    // One process, the same at each count.
    let good = shell("good", "exec sleep 100000", &["stopGraceSeconds: 1"]);
    host.apply(&good).ok();
    host.await_state("good", "Ready");
    let pid = host.container("good", "main")["pid"].clone();
    let before = host.census();
    for text in DAMAGES {
        host.apply(&sleeper("bad")).ok();
        host.await_state("bad", "Ready");
        damage(&host, text);

        let told = [
            "good",
            "bad/cell.yaml",
            "is damaged",
            "kuke delete cell bad",
        ];
        host.kuke(&["get", "cells"]).code(1).says(&told);
        host.kuke(&["get", "containers", "-A"]).code(1).says(&told);
        let shown = host.kuke(&["get", "cells", "-o", "json"]).code(1);
        let shown: serde_json::Value = serde_json::from_str(&shown.out).unwrap();
        assert_eq!(shown.as_array().map(Vec::len), Some(1), "{shown}");
        assert_eq!(shown[0]["metadata"]["name"], "good");
        host.kuke(&["get", "stacks"]).ok();
        host.kuke(&["get", "cell", "good"]).ok();
        let told = ["is damaged", "kuke delete cell bad"];
        host.kuke(&["get", "cell", "bad"]).code(1).says(&told);
        host.kuke(&["stop", "bad"]).code(1).says(&told);
        host.apply(&sleeper("bad")).code(1).says(&told);
        host.kuke(&["restart", "-l", "nobody=here"])
            .ok()
            .says(&told);

        host.kuke(&["delete", "cell", "bad", "--grace", "0s"]).ok();
        host.assert_left(&before);
        host.kuke(&["get", "cells"]).ok().says_nothing_of(&["bad"]);
    }
    assert_eq!(host.container("good", "main")["pid"], pid);
    host.finish();
    Ok(())
}

fn a_damaged_cell_goes_with_its_stack(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    for cell in ["good", "bad"] {
        host.apply(&sleeper(cell)).ok();
        host.await_state(cell, "Ready");
    }
    damage(&host, DAMAGES[1]);
    let stack = ["delete", "stack", "default"];
    host.kuke(&stack).code(4).says(&["bad", "good"]);
    host.kuke(&[&stack[..], &["--cascade", "--grace", "0s"]].concat())
        .ok();
    assert_eq!(host.census().count("task"), 0);
    host.finish();
    Ok(())
}

fn a_daemon_starts_beside_a_damaged_cell() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    for cell in ["good", "bad"] {
        host.apply(&sleeper(cell)).ok();
        host.await_state(cell, "Ready");
    }
    host.stop_daemon();
    damage(&host, DAMAGES[2]);
    host.start_daemon();
    host.kuke(&["restart", "good", "--grace", "0s"]).ok();
    host.await_state("good", "Ready");
    host.kuke(&["status"]).says(&["bad/cell.yaml"]);
    host.kuke(&["delete", "cell", "bad", "--grace", "0s"]).ok();
    host.kuke(&["get", "cells"]).ok();
    host.finish();
    Ok(())
}

/// What they made is found by its labels and marks: the namespace of another name
/// than the realm's, the bridge with its rules, the cgroups.
fn damaged_realms_spaces_and_stacks_can_be_deleted(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let before = host.census();
    let mut realm = format!(
        "apiVersion: v1beta1\nkind: Realm\nmetadata: {{name: shop}}\nspec: {{namespace: elsewhere.{}}}\n",
        host.suffix
    );
    for (kind, at) in [
        ("Space", "realmId: shop"),
        ("Stack", "realmId: shop, spaceId: front"),
    ] {
        realm += &format!(
            "---\napiVersion: v1beta1\nkind: {kind}\nmetadata: {{name: front}}\nspec: {{{at}}}\n"
        );
    }
    let cell = sleeper("web")
        .replace("realmId: default", "realmId: shop")
        .replace("spaceId: default", "spaceId: front")
        .replace("stackId: default", "stackId: front");
    let busybox = crate::world::world().busybox.display().to_string();
    let made = || {
        host.apply(&realm).ok();
        let load = ["image", "load", &busybox, "--realm", "shop"];
        host.kuke(&load).ok();
        host.apply(&cell).ok();
    };
    let scope = ["--realm", "shop", "--space", "front", "--stack", "front"];
    for (kind, name, file, damage) in [
        ("stack", "front", "shop/front/front/stack.yaml", DAMAGES[0]),
        ("space", "front", "shop/front/space.yaml", DAMAGES[1]),
        ("realm", "shop", "shop/realm.yaml", DAMAGES[3]),
    ] {
        made();
        let ready = || {
            let cell = host.kuke(&[&["get", "cell", "web", "-o", "json"], &scope[..]].concat());
            cell.code == 0 && cell.json()["status"]["state"] == "Ready"
        };
        crate::command::eventually(20.0, "the cell is ready", ready);
        fs::write(host.run_path.join(file), damage).unwrap();

        let told = [file, "is damaged", "--cascade"];
        let delete = ["delete", kind, name, "--realm", "shop", "--space", "front"];
        let delete: &[&str] = match kind {
            "stack" => &delete,
            _ => &delete[..5],
        };
        let delete = if kind == "realm" {
            &delete[..3]
        } else {
            delete
        };
        host.kuke(&["get", &format!("{kind}s"), "-A"])
            .code(1)
            .says(&told);
        host.kuke(delete).code(1).says(&told);
        host.kuke(&[delete, &["--cascade", "--grace", "0s"]].concat())
            .ok();
        host.kuke(&["get", &format!("{kind}s"), "-A"])
            .ok()
            .says_nothing_of(&[file]);
        // Made again it works, and goes as any other.
        made();
        crate::command::eventually(20.0, "the cell is ready again", ready);
        host.kuke(&["delete", "realm", "shop", "--cascade", "--grace", "0s"])
            .ok();
        host.assert_left(&before);
    }
    host.finish();
    Ok(())
}

fn a_damaged_menu_keeps_its_members(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let dir = source(&host, "");
    let mut text = String::new();
    for name in ["web", "api"] {
        fs::create_dir(format!("{dir}/{name}")).unwrap();
        fs::write(format!("{dir}/{name}/manifest.yaml"), sleeper(name)).unwrap();
        text += &format!(
            "{HEAD}kind: Recipe\nmetadata: {{name: {name}}}\nspec:\n  \
             source: {{path: {dir}/{name}}}\n  autoDeployLatest: {}\n  \
             target: {{kuke: {{minHealthy: 0s, healthTimeout: 20s}}}}\n---\n",
            name == "web"
        );
    }
    text += &format!(
        "{HEAD}kind: Menu\nmetadata: {{name: lunch}}\nspec:\n  \
         recipes: [{{name: web}}, {{name: api}}]\n  \
         strategy: {{healthTimeout: 20s, minHealthy: 0s}}\n"
    );
    host.apply(&text).ok();
    host.kuke(&["menu", "run", "lunch", "--wait"]).ok();
    let first = active(&host, "web");
    let document = |kind: &str, name: &str| {
        let path = format!(".delivery/default/{kind}/{name}.yaml");
        host.run_path.join(path)
    };
    let menu = fs::read(document("menus", "lunch")).unwrap();
    let torn = format!("{HEAD}kind: Menu\nmetadata:\n  na");
    fs::write(document("menus", "lunch"), torn).unwrap();

    // It is not left out without a word.
    let told = ["menus/lunch.yaml", "is damaged", "repair that file"];
    host.kuke(&["get", "menus"]).code(1).says(&told);
    host.kuke(&["get", "menus", "-n", "default", "-o", "json"])
        .code(1)
        .says(&told);
    host.kuke(&["get", "menu", "lunch"]).code(1).says(&told);
    let recipe = fs::read(document("recipes", "api")).unwrap();
    fs::write(document("recipes", "api"), "").unwrap();
    host.kuke(&["get", "recipes"])
        .code(1)
        .says(&["web", "recipes/api.yaml", "is damaged"]);
    // It may be made from any Pantry.
    host.apply(&format!(
        "{HEAD}kind: Pantry\nmetadata: {{name: shelf}}\nspec: {{oci: 'oci://reg.example/app'}}\n---\n\
         {HEAD}kind: RecipeTemplate\nmetadata: {{name: base}}\nspec: {{source: {{path: {dir}/web}}}}\n"
    ))
    .ok();
    for used in [
        ["delete", "pantry", "shelf"],
        ["delete", "template", "base"],
    ] {
        host.kuke(&used)
            .code(1)
            .says(&["recipes/api.yaml", "is damaged"]);
    }
    fs::write(document("recipes", "api"), recipe).unwrap();
    host.kuke(&["get", "recipes"]).ok();
    let template = fs::read(document("recipetemplates", "base")).unwrap();
    fs::write(document("recipetemplates", "base"), "").unwrap();
    host.kuke(&["delete", "pantry", "shelf"])
        .code(1)
        .says(&["recipetemplates/base.yaml", "is damaged"]);
    fs::write(document("recipetemplates", "base"), template).unwrap();
    host.kuke(&["delete", "template", "base"]).ok();
    host.kuke(&["delete", "pantry", "shelf"]).ok();

    // Nobody knows what it forbids: nothing goes live, and nothing goes.
    let changed = sleeper("web").replace("metadata:", "metadata:\n  labels: {tier: two}");
    assert_ne!(changed, sleeper("web"));
    fs::write(format!("{dir}/web/manifest.yaml"), changed).unwrap();
    host.kuke(&["recipe", "refresh", "web"]).code(1).says(&told);
    assert_ne!(latest(&host, "web"), first);
    let pointer = || host.get("serving", "web")["spec"]["preparationName"].clone();
    assert_eq!(pointer(), *first);
    host.kuke(&["delete", "recipe", "api"]).code(1).says(&told);

    // Repaired, it is asked.
    fs::write(document("menus", "lunch"), &menu).unwrap();
    host.kuke(&["get", "menus"]).ok();
    host.kuke(&["recipe", "refresh", "web"]).ok();
    assert_eq!(pointer(), *first);
    host.kuke(&["delete", "recipe", "api"])
        .code(4)
        .says(&["menu lunch"]);
    fs::write(document("menus", "lunch"), "").unwrap();
    // It may be made of the same artifact.
    fs::write(document("preparations", "torn"), "").unwrap();
    let purge = ["delete", "recipe", "api", "--force", "--purge-artifacts"];
    host.kuke(&purge)
        .code(1)
        .says(&["preparations/torn.yaml", "is damaged"]);
    fs::remove_file(document("preparations", "torn")).unwrap();
    host.kuke(&purge).ok();
    host.finish();
    Ok(())
}

/// A scope goes although it keeps what cannot be read, and what is somebody's
/// data stays.
fn damaged_secrets_and_volumes_hold_no_scope(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let mut documents =
        "apiVersion: v1beta1\nkind: Space\nmetadata: {name: shop}\nspec: {realmId: default}\n"
            .to_owned();
    documents += "---\napiVersion: v1beta1\nkind: Secret\nmetadata: {name: key, realm: default, space: shop}\nspec: {data: s3cret}\n\
         ---\napiVersion: v1beta1\nkind: Volume\nmetadata: {name: data, realm: default, space: shop}\n";
    host.apply(&documents).ok();
    let space = host.run_path.join("default/shop");
    let (mut secret, mut volume) = (None, None);
    for kept in crate::command::system("find", &[&space.display().to_string(), "-name", "*.yaml"])
        .out
        .lines()
    {
        match kept {
            kept if kept.contains("/key") => secret = Some(kept.to_owned()),
            kept if kept.contains("/data") => volume = Some(kept.to_owned()),
            _ => {}
        }
    }
    let (secret, volume) = (secret.expect("a secret"), volume.expect("a volume"));
    let data = ["get", "volume", "data", "--space", "shop", "-o", "json"];
    let data = host.kuke(&data).ok().json();
    let data = std::path::PathBuf::from(data["status"]["path"].as_str().expect("a path"));
    fs::write(data.join("mine"), "mine").unwrap();
    for file in [&secret, &volume] {
        fs::write(file, DAMAGES[3]).unwrap();
    }
    host.kuke(&["delete", "space", "shop"]).code(4);
    let delete = ["delete", "space", "shop", "--cascade"];
    host.kuke(&delete).ok().says(&["retained", "is damaged"]);
    host.kuke(&["get", "space", "shop"]).code(3);
    assert_eq!(fs::read_to_string(data.join("mine")).unwrap(), "mine");

    // A cell that cannot be read does not make a new value a failure.
    host.apply(&sleeper("bad")).ok();
    host.await_state("bad", "Ready");
    let key = |value: &str| {
        format!(
            "apiVersion: v1beta1\nkind: Secret\nmetadata: {{name: key, realm: default}}\nspec: {{data: {value}}}\n"
        )
    };
    host.apply(&key("one")).ok();
    damage(&host, DAMAGES[0]);
    host.apply(&key("two")).ok().says(&["updated"]);
    // Whether it uses the secret cannot be told.
    host.kuke(&["delete", "secret", "key"])
        .code(1)
        .says(&["is damaged"]);
    host.kuke(&["delete", "cell", "bad", "--grace", "0s"]).ok();
    host.kuke(&["delete", "secret", "key"]).ok();
    host.finish();
    Ok(())
}
