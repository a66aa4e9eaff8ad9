//! Ctrl-C in the middle of each verb: it ends soon, and doing it again converges.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::cases_in_both_modes;
use crate::host::{Host, LIMIT, Mode};
use crate::manifest::{shell, sleeper};
use crate::runner::{Case, Verdict};
use crate::world::world;

pub const CASES: &[&[Case]] = &[cases_in_both_modes![
    cells,
    images,
    waiting,
    init_and_uninstall
]];

/// Interrupts a verb after some milliseconds and runs it again to its end.
#[track_caller]
fn interrupt(host: &Host, delay: u64, arguments: &[&str]) {
    let running = host.start(arguments);
    std::thread::sleep(Duration::from_millis(delay));
    running.signal(Signal::SIGINT);
    let done = running.wait(Duration::from_secs(15));
    // -2: the signal came before the program could take it.
    assert!(
        [0, 130, -2].contains(&done.code),
        "done or interrupted: {}",
        done.show()
    );
    let again = host.kuke(arguments);
    let deleted_before = again.code == 3 && ["delete", "image"].contains(&arguments[0]);
    assert!(again.code == 0 || deleted_before, "{}", again.show());
}

fn cells(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply(&sleeper("warm-up")).ok();
    host.kuke(&["delete", "cell", "warm-up"]).ok();
    let before = host.census();
    let file = host.file("cell.yaml", sleeper("c"));
    for delay in [5, 20, 45, 80, 140, 250] {
        interrupt(&host, delay, &["apply", "-f", &file]);
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
        let mut difference = String::new();
        for _ in 0..60 {
            difference = before.difference(&host.census());
            if difference.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(difference, "", "after an interrupt at {delay} ms");
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
    let script = "trap '' TERM INT; echo up; while :; do sleep 1; done";
    host.apply(&shell("deaf", script, &["stopGraceSeconds: 30"]))
        .ok();
    host.await_state("deaf", "Ready");
    let soon = Duration::from_secs(10);
    let stopping = host.start(&["stop", "deaf"]);
    std::thread::sleep(Duration::from_secs(1));
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
    crate::command::eventually(10.0, "it runs", || running.out().contains("up"));
    running.signal(Signal::SIGINT);
    let done = running.wait(soon);
    assert!([4, 130].contains(&done.code), "{}", done.show());
    crate::command::eventually(10.0, "nothing runs on", || host.census().count("task") == 0);
    host.finish();
    Ok(())
}

fn init_and_uninstall(mode: Mode) -> Verdict {
    let mut host = Host::bare(mode, crate::host::Engine::Shared);
    if mode == Mode::Daemon {
        host.start_daemon();
    }
    for delay in [5, 60, 200] {
        interrupt(&host, delay, &["init"]);
    }
    host.load_busybox();
    host.apply(&sleeper("c")).ok();
    let running = host.start(&["uninstall", "--yes"]);
    std::thread::sleep(Duration::from_millis(60));
    running.signal(Signal::SIGINT);
    running.wait(LIMIT);
    host.finish(); // uninstalls again
    Ok(())
}
