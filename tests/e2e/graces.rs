//! The time between SIGTERM and SIGKILL: who cuts it short, and who goes on with it.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::cases;
use crate::command::{Running, eventually};
use crate::host::{Host, LIMIT, Mode};
use crate::manifest::{Gate, shell};
use crate::runner::{Case, Verdict};

pub const CASES: &[&[Case]] = &[cases![
    kill_ends_the_grace_of_others,
    kill_ends_the_grace_of_another_process,
    stop_that_is_interrupted_goes_on_with_its_grace,
    grace_outlives_the_daemon,
]];

/// Both of a caller and, once that has left, of the loop.
fn kill_ends_the_grace_of_others() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let deaf = "trap '' TERM; echo up; while :; do sleep 0.1; done";
    host.apply(&shell("deaf", deaf, &["stopGraceSeconds: 300"]))
        .ok();
    for leaves in [false, true] {
        host.kuke(&["start", "deaf"]).ok();
        host.await_state("deaf", "Ready");
        let mut stopping = host.start(&["stop", "deaf"]);
        std::thread::sleep(Duration::from_secs(1));
        assert!(stopping.alive(), "it waits for the grace");
        if leaves {
            stopping.signal(Signal::SIGINT);
            // The loop takes it up.
            std::thread::sleep(Duration::from_secs(3));
        }
        host.kuke(&["kill", "deaf"]).ok();
        stopping.wait(LIMIT).code(if leaves { 130 } else { 0 });
        assert_eq!(host.census().count("task"), 0);
    }
    host.finish();
    Ok(())
}

/// Of the daemon by a `kuke` that works by itself, and the other way round.
fn kill_ends_the_grace_of_another_process() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let deaf = "trap 'echo told' TERM; echo up; while :; do sleep 0.1; done";
    host.apply(&shell("deaf", deaf, &["stopGraceSeconds: 300"]))
        .ok();
    for (waits, kills) in [
        (Mode::Daemon, Mode::InProcess),
        (Mode::InProcess, Mode::Daemon),
        (Mode::InProcess, Mode::InProcess),
    ] {
        host.kuke(&["start", "deaf"]).ok();
        host.await_state("deaf", "Ready");
        let told = |host: &Host| host.kuke(&["log", "deaf"]).out.matches("told").count();
        let before = told(&host);
        let line = "kuke stop deaf".to_owned();
        let command = host.command(waits, &["stop", "deaf"]);
        let stopping = Running::start(command, line, None);
        eventually(10.0, "it is told to end", || told(&host) > before);
        host.kuke_in(kills, &["kill", "deaf"]).ok();
        stopping.wait(LIMIT).code(0);
        assert_eq!(host.census().count("task"), 0);
    }
    host.finish();
    Ok(())
}

/// A cell `slow` whose own grace is short, in the middle of a stop with a long
/// one; it ends when the gate is opened.
fn stopping(host: &Host, gate: &Gate) -> Running {
    let wait = Gate::WAIT;
    let script = format!(
        "trap 'echo told; {wait}; echo gently; exit 0' TERM; echo up; while :; do sleep 0.1; done"
    );
    let fields = [gate.volume(), "stopGraceSeconds: 1"];
    host.apply(&shell("slow", &script, &fields)).ok();
    host.await_log("slow", "up");
    let stopping = host.start(&["stop", "slow", "--grace", "300s"]);
    host.await_log("slow", "told");
    stopping
}

/// The daemon goes on with the long grace, and the cell ends by itself.
fn ends_gently(host: &Host, gate: &Gate) {
    // Longer than until the loop takes it up, and its own grace.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(host.census().count("task"), 1);
    gate.open();
    host.await_state("slow", "Stopped");
    host.await_log("slow", "gently");
}

/// It is recorded, and the daemon goes on with the grace that was asked for.
fn stop_that_is_interrupted_goes_on_with_its_grace() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let gate = Gate::new(&host, "end");
    let stopping = stopping(&host, &gate);
    stopping.signal(Signal::SIGINT);
    stopping
        .wait(LIMIT)
        .code(130)
        .says(&["recorded: stop of cell slow", "kukeond goes on"])
        .says_nothing_of(&["nothing is finished"]);
    ends_gently(&host, &gate);
    host.finish();
    Ok(())
}

/// Whoever goes on with a stop gives what is left of the grace that was asked for.
fn grace_outlives_the_daemon() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    let gate = Gate::new(&host, "end");
    let stopping = stopping(&host, &gate);
    host.kill_daemon();
    assert_ne!(stopping.wait(LIMIT).code, 0);
    host.start_daemon();
    ends_gently(&host, &gate);
    // The next stop has its own again.
    host.kuke(&["start", "slow"]).ok();
    host.await_state("slow", "Ready");
    std::fs::remove_file(host.dir.join("gate-end/open")).unwrap();
    host.kuke(&["stop", "slow"]).ok();
    let said = host.kuke(&["log", "slow"]).ok().out;
    assert_eq!(said.matches("gently").count(), 1, "{said}");
    host.finish();
    Ok(())
}
