//! `log` and `exec`.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::command::{Running, eventually};
use crate::host::{Host, LIMIT, Mode};
use crate::manifest::{shell, sleeper};
use crate::runner::{Case, Skip, Verdict};
use crate::{cases, cases_in_both_modes};

pub const CASES: &[&[Case]] = &[
    cases_in_both_modes![
        log_tail_since_timestamps,
        log_follow,
        log_rotates,
        log_keeps_every_byte,
        exec_codes_and_streams,
        exec_terminal,
        exec_refusals,
    ],
    cases![nobody_reads_standard_error],
];

/// As in `kuke … 2>&1 | head -1`: what cannot be told is not told, and the work
/// goes on.
fn nobody_reads_standard_error() -> Verdict {
    let host = Host::bare(Mode::Daemon, crate::host::Engine::Shared);
    // No daemon runs: one verb warns of it, the other fails because of it.
    for (arguments, code) in [(&["version"][..], 0), (&["get", "cells"], 5)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = host.command(Mode::Daemon, arguments);
        command.stderr(writer).stdout(std::process::Stdio::null());
        assert_eq!(command.status().unwrap().code(), Some(code));
    }
    host.finish();
    Ok(())
}

fn log_tail_since_timestamps(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply(&shell("c", "for i in 1 2 3 4 5; do echo line $i; done; sleep 2; echo late; echo oops >&2; exec sleep 1000", &[])).ok();
    eventually(10.0, "all is written", || {
        host.kuke(&["log", "c"]).out.contains("oops")
    });
    let all = host.kuke(&["log", "c"]).ok();
    assert_eq!(
        all.out,
        "line 1\nline 2\nline 3\nline 4\nline 5\nlate\noops\n"
    );
    assert_eq!(
        host.kuke(&["log", "c", "--tail", "2"]).ok().out,
        "late\noops\n"
    );
    assert_eq!(host.kuke(&["log", "c", "--tail", "0"]).ok().out, "");
    let stamped = host.kuke(&["log", "c", "--timestamps"]).ok().out;
    let times: Vec<jiff::Timestamp> = stamped
        .lines()
        .map(|l| {
            l.split(' ')
                .next()
                .unwrap()
                .parse()
                .unwrap_or_else(|e| panic!("{e}: {l}"))
        })
        .collect();
    assert_eq!(times.len(), 7);
    assert!(times.is_sorted());
    let since = times[5].to_string();
    assert_eq!(
        host.kuke(&["log", "c", "--since", &since]).ok().out,
        "late\noops\n"
    );
    assert_eq!(host.kuke(&["log", "c", "--since", "1h"]).ok().out, all.out);
    host.kuke(&["log", "c", "--since", "soon"])
        .code(2)
        .says(&["soon"]);
    host.kuke(&["log", "nothere"]).code(3).says(&["nothere"]);
    host.kuke(&["log", "c", "--container", "nothere"])
        .code(3)
        .says(&["nothere"]);
    host.finish();
    Ok(())
}

fn log_follow(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply(&shell(
        "c",
        "for i in 1 2 3 4; do echo line $i; sleep 0.5; done",
        &[],
    ))
    .ok();
    let following = host.start(&["log", "-f", "c"]);
    eventually(5.0, "the first line comes at once", || {
        following.out().contains("line 1")
    });
    let done = following.wait(LIMIT).ok();
    assert_eq!(
        done.out, "line 1\nline 2\nline 3\nline 4\n",
        "it ends with the container"
    );
    host.apply(&sleeper("long")).ok();
    host.await_state("long", "Ready");
    let following = host.start(&["log", "-f", "long"]);
    eventually(5.0, "it follows", || following.out().contains("up"));
    following.signal(Signal::SIGINT);
    let done = following.wait(LIMIT);
    assert!([0, 130].contains(&done.code), "{done:?}");
    host.finish();
    Ok(())
}

fn log_rotates(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    // 60 MB: several times what one file may hold.
    host.apply(&shell("c", "yes 0123456789012345678901234567890123456789012345678901234567 | head -n 1000000; echo the end", &[])).ok();
    eventually(60.0, "all is written", || {
        host.kuke(&["log", "c", "--tail", "1"]).out == "the end\n"
    });
    let files = host.dir.join("k");
    let size = crate::command::system("du", &["-sm", &files.display().to_string()])
        .ok()
        .out;
    let megabytes: u64 = size.split_whitespace().next().unwrap().parse().unwrap();
    assert!(megabytes < 60, "old files go: {megabytes} MB");
    let lines = host.kuke(&["log", "c", "--tail", "1000"]).ok().out;
    assert_eq!(lines.lines().count(), 1000);
    host.finish();
    Ok(())
}

fn log_keeps_every_byte(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let script = "printf 'no newline'; printf ' then one\\n'; printf 'tab\\tquote\" back\\\\ \\303\\244\\n'; \
                  head -c 40000 /dev/zero | tr '\\0' x; echo; printf 'unfinished'";
    host.apply(&shell("c", script, &[])).ok();
    let wanted = format!(
        "no newline then one\ntab\tquote\" back\\ ä\n{}\nunfinished",
        "x".repeat(40000)
    );
    eventually(10.0, "every byte is there", || {
        host.kuke(&["log", "c"]).out.trim_end() == wanted
    });
    host.finish();
    Ok(())
}

fn exec_codes_and_streams(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply(&sleeper("c")).ok();
    host.await_state("c", "Ready");
    host.kuke(&["exec", "c", "--", "true"]).ok();
    let done = host
        .kuke(&[
            "exec",
            "c",
            "--",
            "sh",
            "-c",
            "echo out; echo err >&2; exit 42",
        ])
        .code(42);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("out\n", "err\n"));
    host.kuke(&["exec", "c", "--", "no-such-program"])
        .code(127)
        .says(&["no-such-program"]);
    host.kuke(&["exec", "c", "--", "/etc/passwd"]).code(126);
    host.kuke(&["exec", "c", "--", "sh", "-c", "kill -9 $$"])
        .code(137);
    let input: Vec<u8> = (0..=255_u8).cycle().take(1_000_000).collect();
    let sum = host
        .kuke_with(&["exec", "-i", "c", "--", "wc", "-c"], input)
        .ok();
    assert_eq!(sum.out.trim(), "1000000");
    let back = host
        .kuke_with(&["exec", "-i", "c", "--", "cat"], "round trip")
        .ok();
    assert_eq!(back.out, "round trip");
    let many = host
        .kuke(&["exec", "c", "--", "sh", "-c", "yes | head -c 3000000"])
        .ok();
    assert_eq!(many.out.len(), 3_000_000);
    host.kuke(&["exec", "c", "--env", "A=b", "--", "sh", "-c", "echo $A"])
        .ok()
        .says(&["b"]);
    // Ctrl-C reaches the process, not only kuke.
    let running = host.start(&[
        "exec",
        "c",
        "--",
        "sh",
        "-c",
        "trap 'exit 9' INT; echo ready; while :; do sleep 0.1; done",
    ]);
    eventually(5.0, "it runs", || running.out().contains("ready"));
    running.signal(Signal::SIGINT);
    running.wait(Duration::from_secs(10)).code(9);
    host.finish();
    Ok(())
}

/// `script` of util-linux gives kuke a terminal.
fn exec_terminal(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    if crate::command::system("sh", &["-c", "command -v script"]).code != 0 {
        return Err(Skip("script is not installed".to_owned()));
    }
    host.apply(&sleeper("c")).ok();
    host.await_state("c", "Ready");
    let kuke = crate::world::world().kuke.display().to_string();
    let terminal = |line: String, input: &str| {
        let flag = if mode == Mode::Daemon {
            "false"
        } else {
            "true"
        };
        let command = format!(
            "stty rows 33 cols 77; KUKEON_NO_DAEMON={flag} HOME={}/home {line}",
            host.dir.display()
        );
        let mut script = std::process::Command::new("nsenter");
        script.arg(format!("--net={}", host.netns().display()));
        script
            .args(["--", "script", "-qec", &command, "/dev/null"])
            .env("TERM", "xterm");
        script.env("KUKEOND_CONFIGURATION", host.dir.join("kukeond.yaml"));
        Running::start(script, line, Some(input.into())).wait(LIMIT)
    };
    let done = terminal(
        format!("{kuke} exec -it c -- sh -c 'stty size; tty; exit 5'"),
        "",
    )
    .code(5);
    assert!(done.out.contains("33 77"), "{}", done.show());
    assert!(done.out.contains("/dev/pts/"), "{}", done.show());
    let done = terminal(
        format!("{kuke} exec -it c -- sh"),
        "echo $((6*7))\nexit 3\n",
    )
    .code(3);
    assert!(done.out.contains("42"), "{}", done.show());
    host.finish();
    Ok(())
}

fn exec_refusals(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.kuke(&["exec", "nothere", "--", "true"])
        .code(125)
        .says(&["nothere"]);
    host.apply(&sleeper("c")).ok();
    host.await_state("c", "Ready");
    host.kuke(&["exec", "c", "--container", "nothere", "--", "true"])
        .code(125)
        .says(&["nothere"]);
    host.kuke(&["exec", "c"]).code(2);
    host.kuke(&["stop", "c"]).ok();
    host.kuke(&["exec", "c", "--", "true"])
        .code(125)
        .says(&["c", "not running"]);
    host.finish();
    Ok(())
}
