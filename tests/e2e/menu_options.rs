//! What a Menu's fields change about a run: order, pins, who else may deploy,
//! and what becomes of a run that fails.

use crate::command::eventually;
use crate::host::{Host, Mode};
use crate::menus::{latest, refresh, setting, text, version, versions, write};
use crate::runner::{Case, Verdict};
use crate::{cases, cases_in_both_modes};

pub const CASES: &[&[Case]] = &[
    cases_in_both_modes![a_run_that_halts_is_forced, members_are_pinned],
    cases![members_deploy_themselves_where_they_may],
];

/// The Menu of both members with other fields.
fn menu(host: &Host, recipes: &str, more: &str) {
    host.apply(&format!(
        "apiVersion: delivery.kokumi.dev/v1alpha1\nkind: Menu\nmetadata: {{name: lunch}}\nspec:\n  \
         recipes: {recipes}\n{more}"
    ))
    .ok();
}

fn locked(host: &Host, name: &str) -> bool {
    host.get("serving", name)["status"]["lock"].is_string()
}

/// A run that is to halt leaves everything as it is, locks included, until
/// somebody decides.
fn a_run_that_halts_is_forced(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    setting(&host);
    let strategy = "  strategy: {onFailure: Halt, activation: Parallel, healthTimeout: 20s, minHealthy: 300ms}\n";
    menu(
        &host,
        "[{name: back}, {name: front, dependsOn: [back]}]",
        strategy,
    );
    // All at once, whoever depends on whom.
    host.kuke(&["menu", "plan", "lunch"])
        .ok()
        .says(&["wave 0: back", "wave 0: front"])
        .says_nothing_of(&["wave 1"]);
    host.kuke(&["menu", "run", "lunch", "--wait"]).ok();
    assert_eq!(versions(&host), ["v1", "v1"]);
    write(&host, "front", "v2", false);
    write(&host, "back", "v2", true);
    refresh(&host);
    host.kuke(&["menu", "run", "lunch", "--wait"])
        .code(1)
        .says(&["front"]);
    assert_eq!(versions(&host), ["v2", "v2"], "nothing goes back");
    assert_eq!(host.get("menu", "lunch")["status"]["phase"], "Failed");
    let newest = latest(&host, "front");
    let first = host.get("recipe", "front")["status"]["revisions"][0]["preparation"].clone();
    for name in ["front", "back"] {
        assert!(locked(&host, name));
        host.kuke(&["rollback", name])
            .code(4)
            .says(&["menu", "lunch"]);
    }
    host.kuke(&["menu", "force", "lunch"]).ok();
    eventually(20.0, "the locks are given up", || {
        ["front", "back"].iter().all(|name| !locked(&host, name))
    });
    assert_eq!(versions(&host), ["v2", "v2"], "they stay as they are");
    assert_ne!(text(&first), newest);
    host.kuke(&["rollback", "front", "--wait"]).ok();
    assert_eq!(versions(&host), ["v1", "v2"]);
    host.kuke(&["describe", "menu", "lunch"])
        .ok()
        .says(&["lunch", "front", "back"]);
    host.finish();
    Ok(())
}

/// A pinned member stays at its Preparation, by name, by digest and by number.
fn members_are_pinned(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    setting(&host);
    let old = latest(&host, "back");
    let digest = text(&host.get("prep", &old)["spec"]["artifact"]["digest"]);
    write(&host, "front", "v2", true);
    write(&host, "back", "v2", true);
    refresh(&host);
    let strategy = "  strategy: {healthTimeout: 20s, minHealthy: 300ms}\n";
    for pin in [&old, &digest, "rev-1"] {
        let recipes = format!("[{{name: back, preparation: '{pin}'}}, {{name: front}}]");
        menu(&host, &recipes, strategy);
        host.kuke(&["menu", "run", "lunch", "--wait"]).ok();
        assert_eq!(versions(&host), ["v2", "v1"], "{pin}");
        menu(&host, "[{name: back}, {name: front}]", strategy);
        host.kuke(&["menu", "run", "lunch", "--wait"]).ok();
        assert_eq!(versions(&host), ["v2", "v2"], "{pin}");
    }
    // One that is not there is told before anything changes.
    menu(
        &host,
        "[{name: back, preparation: rev-9}, {name: front}]",
        strategy,
    );
    let done = host.kuke(&["menu", "run", "lunch", "--wait"]);
    assert_ne!(done.code, 0, "{}", done.show());
    done.says(&["rev-9"]);
    assert_eq!(versions(&host), ["v2", "v2"]);
    // Times that no run could keep.
    let done = host.apply(
        "apiVersion: delivery.kokumi.dev/v1alpha1\nkind: Menu\nmetadata: {name: lunch}\nspec:\n  \
         recipes: [{name: back}, {name: front}]\n  strategy: {healthTimeout: 1m, minHealthy: 1m}\n",
    );
    assert_ne!(done.code, 0, "{}", done.show());
    done.says(&["minHealthy", "healthTimeout"]);
    // Two members that want the same cell.
    let root = host.dir.join("sources");
    let same = "apiVersion: delivery.kokumi.dev/v1alpha1\nkind: Recipe\nmetadata: {name: twin}\n";
    host.apply(&format!(
        "{same}spec: {{source: {{path: {}/back}}}}\n",
        root.display()
    ))
    .ok();
    menu(&host, "[{name: back}, {name: twin}]", strategy);
    let done = host.kuke(&["menu", "run", "lunch", "--wait"]);
    assert_ne!(done.code, 0, "{}", done.show());
    done.says(&["back", "twin"]);
    host.kuke(&["get", "serving", "twin"]).code(3);
    host.finish();
    Ok(())
}

/// Only an exclusive Menu keeps its members from deploying themselves; one that
/// is suspended starts nothing by itself.
fn members_deploy_themselves_where_they_may() -> Verdict {
    let host = Host::new(Mode::Daemon);
    setting(&host);
    let recipes = "[{name: back}, {name: front}]";
    let quick = "  strategy: {healthTimeout: 20s, minHealthy: 300ms}\n";
    menu(
        &host,
        recipes,
        &format!("{quick}  autoDeployLatest: true\n  suspend: true\n"),
    );
    for name in ["front", "back"] {
        let document = host.kuke(&["get", "recipe", name, "-o", "yaml"]).ok().out;
        let auto = document.replacen("\nspec:\n", "\nspec:\n  autoDeployLatest: true\n", 1);
        assert_ne!(document, auto);
        host.apply(&auto).ok();
    }
    write(&host, "front", "v2", true);
    write(&host, "back", "v2", true);
    refresh(&host);
    host.kuke(&["get", "servings"]).ok().says(&["No servings"]);
    // The Menu starts a run when it may.
    menu(
        &host,
        recipes,
        &format!("{quick}  autoDeployLatest: true\n"),
    );
    eventually(30.0, "the Menu deploys both", || {
        versions(&host) == ["v2", "v2"]
            && host.get("menu", "lunch")["status"]["phase"] == "Deployed"
    });
    // Without it being exclusive each is on its own.
    menu(&host, recipes, &format!("{quick}  exclusive: false\n"));
    write(&host, "front", "v3", true);
    host.kuke(&["recipe", "refresh", "front"]).ok();
    eventually(30.0, "the member deploys itself", || {
        version(&host, "front") == "v3"
    });
    assert_eq!(version(&host, "back"), "v2");
    host.finish();
    Ok(())
}
