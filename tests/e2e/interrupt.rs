//! Ctrl-C in the middle of each verb: it ends soon, and doing it again converges.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::census::Census;
use crate::command::eventually;
use crate::host::{Host, LIMIT, Mode};
use crate::images::realm;
use crate::manifest::{shell, sleeper};
use crate::registry::{ADDRESS, PASSWORD, Registry};
use crate::runner::{Case, Verdict};
use crate::world::world;
use crate::{cases_in_both_modes, image};

pub const CASES: &[&[Case]] = &[cases_in_both_modes![
    cells,
    detached_run,
    images,
    pulling,
    pruning,
    waiting,
    reading,
    executing,
    daemon_verbs,
    init_and_uninstall
]];

/// Interrupts a verb some milliseconds after it has taken the signal over (before
/// that nothing is begun). It ends soon, by itself: with 0, done, or with 130.
/// Returns the code, and after how many milliseconds the signal came; on a busy
/// machine that is more than was asked for.
#[track_caller]
fn cut(host: &Host, delay: u64, arguments: &[&str]) -> (i32, u128) {
    let mut running = host.start(arguments);
    let began = Instant::now();
    running.await_handler();
    std::thread::sleep(Duration::from_millis(delay));
    running.signal(Signal::SIGINT);
    let came = began.elapsed().as_millis();
    let done = running.wait(LIMIT / 2);
    assert!(
        [0, 130].contains(&done.code),
        "done or interrupted: {}",
        done.show()
    );
    (done.code, came)
}

/// Interrupts a verb and runs it again to its end.
#[track_caller]
fn interrupt(host: &Host, delay: u64, arguments: &[&str]) {
    cut(host, delay, arguments);
    let again = host.kuke(arguments);
    let deleted_before = again.code == 3 && ["delete", "image"].contains(&arguments[0]);
    assert!(again.code == 0 || deleted_before, "{}", again.show());
}

/// Fails unless the host becomes again what it was.
#[track_caller]
fn becomes(host: &Host, before: &Census, what: &str) {
    let mut difference = String::new();
    for _ in 0..100 {
        difference = before.difference(&host.census());
        if difference.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what}\n{difference}");
}

fn cells(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply(&sleeper("warm-up")).ok();
    host.kuke(&["delete", "cell", "warm-up"]).ok();
    let before = host.census();
    let file = host.file("cell.yaml", sleeper("c"));
    for delay in [5, 20, 45, 80, 140, 250] {
        let (code, came) = cut(&host, delay, &["apply", "-f", &file]);
        // What is applied is watched for 300 ms.
        if came < 300 {
            assert_eq!(code, 130, "an apply is not done after {came} ms");
            becomes(&host, &before, "an interrupted creation is taken back");
            host.kuke(&["get", "cell", "c"]).code(3);
        }
        host.kuke(&["apply", "-f", &file]).ok();
        host.await_state("c", "Ready");
        assert_eq!(host.census().count("task"), 1);
        interrupt(&host, delay, &["restart", "c"]);
        host.await_state("c", "Ready");
        interrupt(&host, delay, &["stop", "c"]);
        assert_eq!(host.state("c"), "Stopped");
        interrupt(&host, delay, &["start", "c"]);
        host.await_state("c", "Ready");
        interrupt(&host, delay, &["kill", "c"]);
        interrupt(&host, delay, &["delete", "cell", "c"]);
        becomes(&host, &before, &format!("after an interrupt at {delay} ms"));
    }
    host.finish();
    Ok(())
}

fn detached_run(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply(&sleeper("warm-up")).ok();
    host.kuke(&["delete", "cell", "warm-up"]).ok();
    let before = host.census();
    let run = [
        "run", "-d", "--name", "bg", "--image", "busybox", "--", "sleep", "1000",
    ];
    for delay in [0, 30, 90, 200] {
        let (code, came) = cut(&host, delay, &run);
        if came < 50 {
            assert_eq!(code, 130, "nothing is that quick");
            becomes(&host, &before, "an interrupted run is taken back");
        }
        // It may have been done before the signal was heard.
        let again = host.kuke(&run);
        assert!([0, 4].contains(&again.code), "{}", again.show());
        host.await_state("bg", "Ready");
        assert_eq!(host.census().count("task"), 1);
        host.kuke(&["delete", "cell", "bg"]).ok();
        becomes(&host, &before, &format!("after an interrupt at {delay} ms"));
    }
    host.finish();
    Ok(())
}

/// Pulls in the middle of a layer, by hand and for a cell.
fn pulling(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let registry = Registry::start(&host)?;
    registry.push_noise("team/big:1", 12_000_000);
    let relayed = "127.0.0.1:5056";
    let left = registry.slow_relay(5056, 4_000_000);
    host.apply(&realm(PASSWORD).replace(ADDRESS, relayed)).ok();
    let reference = format!("{relayed}/team/big:1");
    let manifest = sleeper("c").replace("image: busybox", &format!("image: {reference}"));
    let file = host.file("cell.yaml", manifest);
    let before = host.census();
    for arguments in [&["image", "pull", &reference][..], &["apply", "-f", &file]] {
        left.store(4_000_000, Ordering::Relaxed);
        let running = host.start(arguments);
        eventually(20.0, "the registry stalls", || {
            left.load(Ordering::Relaxed) <= 0
        });
        running.signal(Signal::SIGINT);
        running.wait(LIMIT / 2).code(130);
        let kept = before.clone().without(&["content"]);
        let now = || host.census().without(&["content"]);
        eventually(10.0, "only what a next pull goes on from is kept", || {
            kept.difference(&now()).is_empty()
        });
        host.kuke(&["get", "cell", "c"]).code(3);
    }
    left.store(i64::MAX, Ordering::Relaxed);
    host.kuke(&["image", "pull", &reference]).ok();
    host.kuke(&["image", "list"]).ok().says(&["team/big"]);
    host.finish();
    Ok(())
}

/// What a cell uses survives a prune that is cut off, too.
fn pruning(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply(&sleeper("c")).ok();
    host.await_state("c", "Ready");
    let unused = image::busybox(&host.dir.join("unused"), "example.test/unused:1");
    for delay in [0, 5, 20, 60] {
        let archive = unused.display().to_string();
        host.kuke(&["image", "load", &archive]).ok();
        host.kuke(&["image", "list"]).ok().says(&["unused"]);
        interrupt(&host, delay, &["image", "prune"]);
        host.kuke(&["image", "list"])
            .ok()
            .says(&["busybox"])
            .says_nothing_of(&["unused"]);
        host.kuke(&["restart", "c"]).ok();
        host.await_state("c", "Ready");
    }
    host.finish();
    Ok(())
}

fn images(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let archive = world().busybox.display().to_string();
    for delay in [5, 30, 80, 160] {
        interrupt(&host, delay, &["image", "rm", "busybox"]);
        interrupt(&host, delay, &["image", "load", &archive]);
    }
    host.apply(&sleeper("c")).ok();
    host.await_state("c", "Ready");
    host.finish();
    Ok(())
}

/// Verbs that would wait for long.
fn waiting(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let script = "trap 'echo told' TERM INT; echo up; while :; do sleep 0.2; done";
    host.apply(&shell("deaf", script, &["stopGraceSeconds: 300"]))
        .ok();
    host.await_log("deaf", "up");
    let soon = LIMIT / 2;
    let stopping = host.start(&["stop", "deaf"]);
    host.await_log("deaf", "told");
    stopping.signal(Signal::SIGINT);
    stopping.wait(soon).code(130);
    host.kuke(&["kill", "deaf"]).ok();
    // A foreground run passes the signal on and ends with the cell's own code.
    let running = host.start(&[
        "run",
        "--rm",
        "--image",
        "busybox",
        "--",
        "/bin/sh",
        "-c",
        "trap 'exit 4' INT TERM; echo up; while :; do sleep 0.1; done",
    ]);
    eventually(10.0, "it runs", || running.out().contains("up"));
    running.signal(Signal::SIGINT);
    let done = running.wait(soon);
    assert!([4, 130].contains(&done.code), "{}", done.show());
    eventually(10.0, "nothing runs on", || host.census().count("task") == 0);
    host.finish();
    Ok(())
}

/// Verbs that change nothing.
fn reading(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply(&shell("c", "echo up; exec sleep 1000", &[]))
        .ok();
    host.await_log("c", "up");
    let before = host.census();
    let document = host.run_path.join("default/default/default/c/cell.yaml");
    let stored = std::fs::read(&document).unwrap();
    let file = host.file("other.yaml", sleeper("other"));
    for delay in [0, 5, 40] {
        for verb in [
            &["get", "cells"][..],
            &["get", "cell", "c", "-o", "yaml"],
            &["log", "c"],
            &["image", "list"],
            &["image", "inspect", "busybox"],
            &["apply", "-f", &file, "--dry-run"],
            &["status"],
            &["version"],
        ] {
            interrupt(&host, delay, verb);
        }
    }
    let following = host.start(&["log", "-f", "c"]);
    eventually(10.0, "it follows", || following.out().contains("up"));
    following.signal(Signal::SIGINT);
    let done = following.wait(LIMIT / 2);
    assert!([0, 130].contains(&done.code), "{}", done.show());
    becomes(&host, &before, "reading verbs change nothing");
    assert_eq!(stored, std::fs::read(&document).unwrap());
    host.finish();
    Ok(())
}

/// The process that was run goes with the verb that ran it.
fn executing(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply(&shell("c", "exec sleep 1000", &[])).ok();
    host.await_state("c", "Ready");
    let before = host.census();
    let pid = host.container("c", "main")["pid"].clone();
    for script in [
        "echo up; exec sleep 1000",
        "trap 'exit 5' INT TERM; echo up; while :; do sleep 0.1; done",
    ] {
        let running = host.start(&["exec", "c", "--", "/bin/sh", "-c", script]);
        eventually(10.0, "it runs", || running.out().contains("up"));
        running.signal(Signal::SIGINT);
        let done = running.wait(LIMIT / 2);
        assert!([5, 130].contains(&done.code), "{}", done.show());
        becomes(&host, &before, "a process runs on");
    }
    assert_eq!(host.container("c", "main")["pid"], pid);
    host.finish();
    Ok(())
}

/// The daemon's own verbs, which need no daemon that answers.
fn daemon_verbs(mode: Mode) -> Verdict {
    if std::fs::metadata("/run/systemd/system").is_ok() {
        return Err(crate::runner::Skip(
            "systemd runs here: the verbs drive the installed unit".to_owned(),
        ));
    }
    let host = Host::bare(mode, crate::host::Engine::Shared);
    for delay in [0, 20, 100] {
        for verb in ["start", "status", "restart", "logs", "stop"] {
            cut(&host, delay, &["daemon", verb]);
            // Whatever it came to: started it answers, stopped it is gone.
            host.kuke(&["daemon", "start"]).ok();
            host.kuke_in(Mode::Daemon, &["status"]);
            host.kuke(&["daemon", "status"]).ok();
        }
        host.kuke(&["daemon", "stop"]).ok();
        host.kuke(&["daemon", "status"]).code(5);
    }
    host.kuke(&["daemon", "start"]).ok();
    host.kuke(&["init"]).ok();
    host.finish();
    Ok(())
}

fn init_and_uninstall(mode: Mode) -> Verdict {
    let mut host = Host::bare(mode, crate::host::Engine::Shared);
    if mode == Mode::Daemon {
        host.start_daemon();
    }
    for delay in [0, 5, 60, 200] {
        interrupt(&host, delay, &["init"]);
        host.kuke(&["get", "realms"]).ok().says(&["default"]);
    }
    for delay in [0, 60, 250] {
        host.kuke(&["init"]).ok();
        host.load_busybox();
        host.apply(&sleeper("c")).ok();
        host.await_state("c", "Ready");
        interrupt(&host, delay, &["uninstall", "--yes"]);
        host.stop_daemon();
        host.assert_untouched();
        if mode == Mode::Daemon {
            host.start_daemon();
        }
    }
    host.finish();
    Ok(())
}
