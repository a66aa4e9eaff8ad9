//! After the end nothing is left.

use std::path::Path;

use crate::census::Census;
use crate::command::{eventually, system};
use crate::host::{Engine, Host, Mode};
use crate::manifest::sleeper;
use crate::runner::{Case, Skip, Verdict};
use crate::world::world;
use crate::{cases, cases_in_both_modes};

pub const CASES: &[&[Case]] = &[
    cases_in_both_modes![
        realm_with_cascade,
        uninstall,
        uninstall_what_is_broken,
        snapshot_without_a_record,
    ],
    cases![uninstall_takes_its_containerd_along, installer],
];

/// A realm `shop` with two spaces, and cells in each.
fn populate(host: &Host) {
    let hierarchy = include_str!("../../manifests/hierarchy.yaml");
    host.apply(hierarchy).ok();
    host.apply(&hierarchy.replace("blue", "green")).ok();
    let archive = world().busybox.display().to_string();
    host.kuke(&["image", "load", &archive, "--realm", "shop"])
        .ok();
    let cell = sleeper("busy")
        .replace("realmId: default", "realmId: shop")
        .replace("spaceId: default", "spaceId: blue")
        .replace("stackId: default", "stackId: web");
    host.apply(&cell).ok();
}

fn realm_with_cascade(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let before = host.census();
    populate(&host);
    let now = host.census();
    assert_eq!(
        (
            now.count("container") - before.count("container"),
            now.count("task")
        ),
        (3, 3)
    );
    assert!(
        now.count("link") > before.count("link"),
        "there is something to remove"
    );
    host.kuke(&["delete", "realm", "shop"]).code(4);
    host.kuke(&["delete", "space", "blue", "--realm", "shop"])
        .code(4)
        .says(&["--cascade"]);
    host.kuke(&[
        "delete",
        "stack",
        "web",
        "--realm",
        "shop",
        "--space",
        "green",
        "--cascade",
    ])
    .ok()
    .says(&["Deleted stack \"web\" from space \"green\""]);
    host.kuke(&["delete", "realm", "shop", "--cascade"])
        .ok()
        .says(&["Deleted realm \"shop\""]);
    eventually(5.0, "all is gone", || {
        before.difference(&host.census()).is_empty()
    });
    host.kuke(&["get", "realms"])
        .ok()
        .says_nothing_of(&["shop"]);
    host.finish();
    Ok(())
}

fn uninstall(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    populate(&host);
    host.apply(&sleeper("other")).ok();
    host.kuke_with(&["uninstall"], "no\n")
        .code(1)
        .says(&["Aborted"]);
    host.kuke(&["get", "realms"]).ok().says(&["shop"]);
    // What kukeon did not make stays, and is named.
    let foreign = host.run_path.join("mine");
    std::fs::write(&foreign, "x").unwrap();
    host.kuke(&["uninstall", "--yes"])
        .ok()
        .says(&["run path: kept", foreign.to_str().unwrap()]);
    assert!(foreign.exists());
    std::fs::remove_file(&foreign).unwrap();
    host.finish();
    Ok(())
}

/// Broken in every way that is easy to break: it still cleans up.
fn uninstall_what_is_broken(mode: Mode) -> Verdict {
    let mut host = Host::new(mode);
    populate(&host);
    host.apply(&sleeper("other")).ok();
    host.await_state("other", "Ready");
    host.kill_daemon();
    let cell = host
        .kuke_in(Mode::InProcess, &["get", "cell", "other", "-o", "json"])
        .ok()
        .json();
    let status = &cell["status"];
    system(
        "umount",
        &["-l", status["network"]["netns"].as_str().unwrap()],
    );
    system("kill", &["-9", &status["containers"][0]["pid"].to_string()]);
    let id = status["containers"][0]["containerdId"].as_str().unwrap();
    host.ctr("default", &["containers", "rm", id]);
    std::fs::write(
        host.run_path
            .join("default/default/default/other/cell.yaml"),
        "not: [yaml",
    )
    .unwrap();
    std::fs::remove_file(host.run_path.join("shop/blue/network.conflist")).ok();
    if mode == Mode::Daemon {
        host.start_daemon();
    }
    host.finish();
    Ok(())
}

/// What a crash between snapshot and record leaves: the cell's deletion takes it.
fn snapshot_without_a_record(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let before = host.census();
    host.apply(&sleeper("c")).ok();
    host.await_state("c", "Ready");
    host.kuke(&["stop", "c"]).ok();
    let id = host.container("c", "main")["containerdId"].clone();
    let id = id.as_str().unwrap();
    host.ctr("default", &["containers", "rm", "--keep-snapshot", id])
        .ok();
    let now = host.census();
    assert_eq!(now.count("container"), before.count("container"));
    assert_eq!(now.count("snapshot"), before.count("snapshot") + 1);
    host.kuke(&["delete", "cell", "c"]).ok();
    host.assert_left(&before);
    host.finish();
    Ok(())
}

fn uninstall_takes_its_containerd_along() -> Verdict {
    let host = Host::bare(Mode::InProcess, Engine::Managed);
    host.kuke(&["init"]).ok();
    host.load_busybox();
    populate(&host);
    host.finish();
    Ok(())
}

/// The real thing, on the machine itself: only where kukeon is not installed.
fn installer() -> Verdict {
    if Path::new("/opt/kukeon").exists() || Path::new("/run/kukeon").exists() {
        return Err(Skip(
            "kukeon is installed on this machine, or was used with its default run path".to_owned(),
        ));
    }
    let root = env!("CARGO_MANIFEST_DIR");
    let prefix = world().dir.join("prefix").display().to_string();
    let binary = world().kuke.display().to_string();
    let script = format!("{root}/install.sh");
    let place = ["--binary", binary.as_str(), "--prefix", prefix.as_str()];
    let before = Census::of_machine(Path::new(&prefix));
    system(&script, &[&["--check"], &place[..]].concat()).ok();
    let first = system(&script, &place).ok();
    assert!(first.out.contains("answers on http://"), "{}", first.show());
    assert!(first.out.contains("hello"), "{}", first.show());
    let second = system(&script, &place).ok();
    assert!(second.out.contains("Nothing changed."), "{}", second.show());
    let installed = Census::of_machine(Path::new(&prefix));
    for kind in ["link", "nft", "file", "process", "cgroup", "mount"] {
        assert!(
            installed.count(kind) > before.count(kind),
            "no {kind} to remove: the census is blind"
        );
    }
    let third = system(&script, &[&["--uninstall"], &place[2..]].concat()).ok();
    let left = before.difference(&Census::of_machine(Path::new(&prefix)));
    assert_eq!(left, "", "{}", third.show());
    Ok(())
}
