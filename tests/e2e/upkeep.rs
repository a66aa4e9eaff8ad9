//! What the daemon looks after without being told, and what it tells of use.

use std::fs;

use crate::command::{eventually, system};
use crate::host::{Host, Mode};
use crate::manifest::sleeper;
use crate::runner::{Case, Verdict};
use crate::{cases, cases_in_both_modes};

pub const CASES: &[&[Case]] = &[
    cases![lost_address_is_given_back, garbage_is_collected],
    cases_in_both_modes![use_is_told_when_asked],
];

/// Links and files are as they should be: only CNI CHECK sees what is wrong.
fn lost_address_is_given_back() -> Verdict {
    let host = Host::new(Mode::Daemon);
    host.apply(include_str!("../../manifests/hello-world.yaml"))
        .ok();
    eventually(20.0, "hello answers", || host.answers("hello"));
    let pid = host.container("hello", "hello")["pid"].clone();
    let netns = host.get("cell", "hello")["status"]["network"]["netns"].clone();
    let enter = format!("--net={}", netns.as_str().unwrap());
    let flush = ["ip", "address", "flush", "dev", "eth0"];
    host.inside("nsenter", &[&[enter.as_str()], &flush[..]].concat())
        .ok();
    assert!(!host.answers("hello"), "the address is gone");
    eventually(20.0, "hello answers again", || host.answers("hello"));
    assert_eq!(
        host.container("hello", "hello")["pid"],
        pid,
        "the container was not touched"
    );
    host.finish();
    Ok(())
}

/// At the daemon's start and later: leases that belong to nobody are freed, the
/// cells' own stay.
fn garbage_is_collected() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    host.apply(&sleeper("c")).ok();
    host.await_state("c", "Ready");
    let leases = host.run_path.join(".cni/networks/default_default");
    let address = host.address("c");
    let stray = leases.join("10.200.0.77");
    let plant = || fs::write(&stray, "nobody\r\neth0").unwrap();
    plant();
    eventually(20.0, "a stray lease is freed", || !stray.exists());
    host.stop_daemon();
    plant();
    let upload = |name: &str, age: &str| {
        let file = host.run_path.join("registry/uploads").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "begun").unwrap();
        let file = file.to_str().unwrap().to_owned();
        system("touch", &["-d", age, &file]).ok();
        std::path::PathBuf::from(file)
    };
    let (idle, young) = (upload("idle", "2 days ago"), upload("young", "1 hour ago"));
    host.start_daemon();
    eventually(20.0, "an idle upload is given up", || !idle.exists());
    assert!(young.exists(), "one that may go on stays");
    eventually(20.0, "at the start as well", || !stray.exists());
    assert!(leases.join(&address).exists(), "the cell keeps its lease");
    assert_eq!(host.address("c"), address);
    host.finish();
    Ok(())
}

fn use_is_told_when_asked(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply(&sleeper("c")).ok();
    host.await_state("c", "Ready");
    let cell = host.get("cell", "c");
    let status = &cell["status"];
    let cpu = |usage: &serde_json::Value| usage["cpuUsec"].as_u64().unwrap_or_default();
    assert!(cpu(&status["usage"]) > 0, "{status:#}");
    assert!(cpu(&status["containers"][0]["usage"]) > 0, "{status:#}");
    // What the host has no controller for is left out, not made up.
    let controllers = host.kuke(&["status"]).out;
    let memory = controllers
        .split("controllers:")
        .nth(1)
        .is_some_and(|list| {
            list.lines()
                .next()
                .is_some_and(|line| line.contains("memory"))
        });
    let told = &status["containers"][0]["usage"]["memoryBytes"];
    assert_eq!(told.as_u64().is_some(), memory, "{told}");
    host.kuke(&["get", "cells", "-o", "wide"])
        .ok()
        .says(&["MEMORY", "CPU"]);
    let table = host.kuke(&["get", "containers", "--cell", "c", "-o", "wide"]);
    table.ok().says(&[if memory { "iB" } else { " - " }, "CPU"]);
    // Not kept: a stopped cell uses nothing.
    host.kuke(&["stop", "c"]).ok();
    let cell = host.get("cell", "c");
    assert!(
        cell["status"]["containers"][0].get("usage").is_none(),
        "{cell:#}"
    );
    host.finish();
    Ok(())
}
