//! start, stop, kill, restart, run, delete.

use std::time::Duration;

use crate::command::eventually;
use crate::host::{Host, LIMIT, Mode};
use crate::manifest::{Gate, cell, container, gated, shell, sleeper};
use crate::runner::{Case, Verdict};
use crate::{cases, cases_in_both_modes};

pub const CASES: &[&[Case]] = &[
    cases![
        restart_is_finished_wherever_it_is_cut,
        deletion_that_was_cut_is_finished_by_apply,
        deletion_of_scopes_that_was_cut_is_finished_by_apply,
    ],
    cases_in_both_modes![
        stop_start_restart_kill,
        several_names,
        restart_that_is_interrupted_in_its_grace,
        start_leaves_alone_what_runs,
        changed_after_its_end_it_runs_beside_the_others,
        lost_host_files_are_written,
        stop_grace_then_kill,
        root_container_ends_the_cell,
        sidecars_share_a_sandbox,
        run_gives_the_exit_code,
        run_detached,
        exits_at_once,
        delete_leaves_nothing,
        host_network,
        options_of_a_container,
    ],
];

fn stop_start_restart_kill(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply(&sleeper("c")).ok();
    host.await_state("c", "Ready");
    let pid = |host: &Host| host.container("c", "main")["pid"].as_u64().unwrap_or(0);
    let first = pid(&host);
    host.kuke(&["start", "c"]).ok(); // repeating changes nothing
    assert_eq!(pid(&host), first);
    host.kuke(&["stop", "c"])
        .ok()
        .says(&["Stopped cell \"c\" from stack \"default\""]);
    assert_eq!(host.state("c"), "Stopped");
    assert_eq!(host.census().count("task"), 0);
    host.kuke(&["stop", "c"]).ok();
    host.kuke(&["start", "c"])
        .ok()
        .says(&["Started cell \"c\" from stack \"default\""]);
    host.await_state("c", "Ready");
    let second = pid(&host);
    assert_ne!(first, second);
    host.kuke(&["restart", "c"])
        .ok()
        .says(&["Restarted cell \"c\""]);
    host.await_state("c", "Ready");
    assert_ne!(second, pid(&host));
    host.kuke(&["kill", "c"]).ok().says(&["Killed cell \"c\""]);
    assert_eq!(host.state("c"), "Stopped");
    for verb in ["start", "stop", "restart", "kill"] {
        host.kuke(&[verb, "nothere"]).code(3).says(&["nothere"]);
        host.kuke(&[verb]).code(2);
    }
    host.finish();
    Ok(())
}

/// One that cannot be had keeps no other from it, and decides the exit code.
fn several_names(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    for cell in ["a", "b"] {
        host.apply(&sleeper(cell)).ok();
        host.await_log(cell, "up");
    }
    let three = ["a", "nothere", "b"];
    host.kuke(&[&["stop"][..], &three].concat()).code(3).says(&[
        "Stopped cell \"a\"",
        "Stopped cell \"b\"",
        "nothere",
    ]);
    assert_eq!(
        (host.state("a"), host.state("b")),
        ("Stopped".into(), "Stopped".into())
    );
    host.kuke(&["start", "a", "b", "a"]).ok();
    host.kuke(&["restart", "a", "b"]).ok();
    host.kuke(&["kill", "a", "BAD", "b"]).code(2).says(&["BAD"]);
    assert_eq!(
        (host.state("a"), host.state("b")),
        ("Stopped".into(), "Stopped".into())
    );
    // Two lines of header, then a row each.
    let shown = host.kuke(&[&["get", "cells"][..], &three].concat()).code(3);
    assert_eq!(shown.out.lines().count(), 4, "{}", shown.show());
    assert!(shown.err.contains("nothere"));
    let shown = host.kuke(&["get", "cells", "b", "a", "-o", "json"]).ok();
    assert_eq!(shown.json()[1]["metadata"]["name"], "a");
    host.kuke(&["get", "cells", "nothere", "BAD"]).code(1);
    host.kuke(&["get", "images", "busybox", "nothere"]).code(3);
    host.kuke(&["delete", "cells", "a", "nothere", "b"]).code(3);
    host.kuke(&["get", "cells", "a", "b"]).code(3);
    // What nobody wrote is not quoted.
    host.kuke(&["run", "-d", "--name", "BAD", "--image", "busybox"])
        .code(2)
        .says(&["--name", "BAD"])
        .says_nothing_of(&["apiVersion"]);
    let full = std::fs::File::options().write(true).open("/dev/full");
    for help in [
        &["--help"][..],
        &["get"],
        &["get", "--help"],
        &["--version"],
    ] {
        let mut command = host.command(mode, help);
        let done = command
            .stdout(full.as_ref().unwrap().try_clone().unwrap())
            .output();
        assert_eq!(done.unwrap().status.code(), Some(1), "{help:?}");
    }
    host.finish();
    Ok(())
}

/// How often a sleeper was started.
fn starts(host: &Host, cell: &str) -> usize {
    let log = host.kuke(&["log", cell, "--container", "main"]).ok().out;
    log.lines().filter(|l| *l == "up").count()
}

/// A power cut after each step of a restart.
fn restart_is_finished_wherever_it_is_cut() -> Verdict {
    let host = Host::new(Mode::InProcess);
    let mut cuts = 0;
    for step in 1.. {
        host.apply(&sleeper("c")).ok();
        host.await_state("c", "Ready");
        eventually(5.0, "it is up", || starts(&host, "c") == 1);
        let old = host.container("c", "main");
        let mut command = host.command(Mode::InProcess, &["restart", "c"]);
        command.env("KUKEON_FAILPOINT", step.to_string());
        let line = format!("kuke restart c, cut after step {step}");
        let done = crate::command::Running::start(command, line, None).wait(LIMIT);
        if done.code == 0 {
            break;
        }
        cuts += 1;
        assert_eq!(done.code, -9, "{}", done.show());
        host.apply(&sleeper("c")).ok();
        host.await_state("c", "Ready");
        let new = host.container("c", "main");
        assert_ne!(old["pid"], new["pid"], "cut after step {step}");
        assert_ne!(old["startedAt"], new["startedAt"], "cut after step {step}");
        assert_eq!(new["restartCount"].as_i64().unwrap_or(0), 0);
        eventually(5.0, "it is up again", || starts(&host, "c") >= 2);
        assert_eq!(starts(&host, "c"), 2, "cut after step {step}");
        host.kuke(&["delete", "cell", "c"]).ok();
    }
    assert!(cuts >= 4, "a restart has more than {cuts} steps");
    host.finish();
    Ok(())
}

/// Told to end, not waited for: it is neither left stopped nor left running.
fn restart_that_is_interrupted_in_its_grace(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let gate = Gate::new(&host, "end");
    let wait = Gate::WAIT;
    let script =
        format!("trap 'echo told; {wait}; exit 0' TERM; echo up; while :; do sleep 0.1; done");
    let fields = [gate.volume(), "stopGraceSeconds: 300"];
    host.apply(&shell("slow", &script, &fields)).ok();
    host.await_state("slow", "Ready");
    eventually(5.0, "it is up", || starts(&host, "slow") == 1);
    let pid = host.container("slow", "main")["pid"].clone();
    let mut restarting = host.start(&["restart", "slow"]);
    host.await_log("slow", "told");
    assert!(restarting.alive(), "it waits for the grace");
    restarting.signal(nix::sys::signal::Signal::SIGINT);
    restarting.wait(LIMIT).code(130);
    gate.open();
    if mode == Mode::InProcess {
        host.kuke(&["start", "slow"]).ok();
    }
    eventually(20.0, "it was started again", || {
        let now = host.container("slow", "main");
        now["state"] == "Ready" && now["pid"] != pid
    });
    eventually(5.0, "it is up again", || starts(&host, "slow") == 2);
    host.kuke(&["kill", "slow"]).ok();
    host.finish();
    Ok(())
}

fn start_leaves_alone_what_runs(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let containers = format!(
        "{}{}",
        container("echo up; sleep 1", &[]),
        container("exec sleep 1000", &["stopGraceSeconds: 1"]).replace("id: main", "id: helper")
    );
    host.apply(&cell("pair", &containers)).ok();
    let helper = host.container("pair", "helper")["pid"].clone();
    eventually(10.0, "the job is done", || {
        host.container("pair", "main")["state"] == "Exited"
    });
    host.kuke(&["start", "pair"]).ok();
    eventually(5.0, "the job runs again", || starts(&host, "pair") == 2);
    assert_eq!(host.container("pair", "helper")["pid"], helper);
    host.kuke(&["restart", "pair"]).ok();
    eventually(5.0, "the job runs again", || starts(&host, "pair") == 3);
    assert_ne!(host.container("pair", "helper")["pid"], helper);
    host.finish();
    Ok(())
}

/// A job that is done is changed while a server beside it goes on.
fn changed_after_its_end_it_runs_beside_the_others(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let pair = |script: &str| {
        let server = container("exec sleep 1000", &["stopGraceSeconds: 1"])
            .replace("id: main", "id: helper");
        cell("pair", &format!("{}{server}", container(script, &[])))
    };
    // What has ended and is wanted as it was is not run again. Without a daemon
    // this may be who tidies up after it, which is told as an update.
    let stays_ended = || {
        let started = host.container("pair", "main")["startedAt"].clone();
        host.apply(&pair("echo up")).ok();
        let main = host.container("pair", "main");
        assert_eq!(
            (&main["state"], &main["startedAt"]),
            (&"Exited".into(), &started)
        );
    };
    host.apply(&pair("echo up")).ok();
    let helper = host.container("pair", "helper")["pid"].clone();
    host.await_container("pair", "main", "Exited");
    stays_ended();
    let changed = host.apply(&pair("echo up; sleep 1000")).ok();
    changed.says(&["Cell \"pair\": updated", "main"]);
    host.await_state("pair", "Ready");
    eventually(10.0, "the changed one runs", || starts(&host, "pair") >= 1);
    assert_eq!(host.container("pair", "main")["state"], "Ready");
    assert_eq!(host.container("pair", "helper")["pid"], helper);
    host.apply(&pair("echo up; sleep 1000"))
        .ok()
        .says(&["unchanged"]);
    // Changed back it runs once more, ends, and stays so.
    host.apply(&pair("echo up")).ok();
    host.await_container("pair", "main", "Exited");
    stays_ended();
    // A change that fails at once is undone: the job is done as before.
    host.apply(&pair("echo broken; exit 3"))
        .code(1)
        .says(&["main", "code 3", "broken", "undone"]);
    host.await_container("pair", "main", "Exited");
    assert_eq!(host.container("pair", "helper")["pid"], helper);
    host.finish();
    Ok(())
}

/// The files of a cell that its containers bind are lost while it runs.
fn lost_host_files_are_written(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply(&sleeper("c")).ok();
    host.await_state("c", "Ready");
    let dir = host.run_path.join("default/default/default/c");
    for name in ["hosts", "hostname", "resolv.conf"] {
        std::fs::remove_file(dir.join(name)).unwrap();
    }
    host.kuke(&["restart", "c"]).ok();
    host.await_state("c", "Ready");
    host.kuke(&["exec", "c", "--", "cat", "/etc/hosts"])
        .ok()
        .says(&["localhost", &host.address("c")]);
    host.finish();
    Ok(())
}

/// No daemon runs that would go on with it.
fn deletion_that_was_cut_is_finished_by_apply() -> Verdict {
    let host = Host::new(Mode::InProcess);
    for step in 1..5 {
        host.apply(&sleeper("c")).ok();
        let pid = host.container("c", "main")["pid"].clone();
        let mut command = host.command(Mode::InProcess, &["delete", "cell", "c"]);
        command.env("KUKEON_FAILPOINT", step.to_string());
        let line = format!("kuke delete cell c, cut after step {step}");
        let done = crate::command::Running::start(command, line, None).wait(LIMIT);
        assert_eq!(done.code, -9, "{}", done.show());
        host.apply(&sleeper("c"))
            .ok()
            .says(&["Cell \"c\": created"]);
        host.await_state("c", "Ready");
        assert_ne!(host.container("c", "main")["pid"], pid);
        assert_eq!(host.census().count("task"), 1);
        host.kuke(&["delete", "cell", "c"]).ok();
    }
    host.finish();
    Ok(())
}

/// The same for a realm with all that is in it. What is applied again is the
/// whole of it, or only the cell.
fn deletion_of_scopes_that_was_cut_is_finished_by_apply() -> Verdict {
    let host = Host::new(Mode::InProcess);
    let hierarchy = include_str!("../../manifests/hierarchy.yaml");
    let cell = hierarchy.split("---\n").next().unwrap();
    let before = host.census();
    let deletion = ["delete", "realm", "shop", "--cascade"];
    let get = |kind: &str, name: &str| {
        let place = ["--realm", "shop", "--space", "blue", "--stack", "web"];
        let place = match kind {
            "realm" => &[][..],
            "space" => &place[..2],
            _ => &place,
        };
        let done = host.kuke(&[&["get", kind, name, "-o", "json"], place].concat());
        done.ok().json()
    };
    let mut cuts = 0;
    for step in 1.. {
        host.apply(hierarchy).ok();
        let uid = get("realm", "shop")["metadata"]["uid"].clone();
        let pid = get("cell", "api")["status"]["containers"][0]["pid"].clone();
        let mut command = host.command(Mode::InProcess, &deletion);
        command.env("KUKEON_FAILPOINT", step.to_string());
        let line = format!("kuke delete realm shop --cascade, cut after step {step}");
        let done = crate::command::Running::start(command, line, None).wait(LIMIT);
        if done.code == 0 {
            break;
        }
        cuts += 1;
        assert_eq!(done.code, -9, "{}", done.show());
        let manifest = if step % 2 == 0 { hierarchy } else { cell };
        let file = host.file("again.yaml", manifest);
        // Asked only, it says so and does nothing.
        let now = host.census();
        host.kuke(&["apply", "-f", &file, "--dry-run"])
            .ok()
            .says(&["Realm \"shop\": created", "Cell \"api\": created"]);
        assert_eq!(now.difference(&host.census()), "");
        host.apply(manifest).ok().says(&[
            "Realm \"shop\": created",
            "Space \"blue\": created",
            "Stack \"web\": created",
            "Cell \"api\": created",
        ]);
        let what = format!("cut after step {step}");
        assert_ne!(get("realm", "shop")["metadata"]["uid"], uid, "{what}");
        let api = get("cell", "api");
        assert_eq!(api["status"]["state"], "Ready", "{what}: {api:#}");
        assert_ne!(api["status"]["containers"][0]["pid"], pid, "{what}");
        assert_eq!(host.census().count("task"), 1, "{what}");
        host.apply(manifest).ok().says(&["unchanged"]);
    }
    assert!(cuts >= 8, "such a deletion has more than {cuts} steps");
    host.assert_left(&before);
    host.finish();
    Ok(())
}

fn stop_grace_then_kill(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let script = "trap 'echo ignored' TERM; echo up; while :; do sleep 1 & wait $!; done";
    host.apply(&shell("deaf", script, &["stopGraceSeconds: 1"]))
        .ok();
    host.await_state("deaf", "Ready");
    eventually(5.0, "the trap is set", || {
        host.kuke(&["log", "deaf"]).out.contains("up")
    });
    let done = host.kuke(&["stop", "deaf"]).ok();
    // Its own grace, and not the ten seconds where none is said.
    assert!((0.9..10.0).contains(&done.took.as_secs_f32()), "{done:?}");
    host.kuke(&["log", "deaf"]).ok().says(&["ignored"]);
    let polite = sleeper("polite").replace("id: main", "id: main\n      stopGraceSeconds: 50");
    host.apply(&polite).ok();
    host.await_state("polite", "Ready");
    eventually(5.0, "the trap is set", || {
        host.kuke(&["log", "polite"]).out.contains("up")
    });
    let done = host.kuke(&["stop", "polite"]).ok();
    assert!(
        done.took < Duration::from_secs(40),
        "SIGTERM is enough: {done:?}"
    );
    host.finish();
    Ok(())
}

fn root_container_ends_the_cell(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let gate = Gate::new(&host, "end");
    let containers = format!(
        "{}{}",
        container(Gate::WAIT, &[gate.volume(), "root: true"]),
        container("exec sleep 1000", &[]).replace("id: main", "id: helper")
    );
    host.apply(&cell("rooted", &containers)).ok();
    assert_eq!(host.census().count("task"), 2);
    gate.open();
    if mode == Mode::InProcess {
        // Without a daemon whoever follows the cell brings it to its end.
        host.kuke(&["log", "-f", "rooted"]).ok();
    }
    eventually(20.0, "the cell is over", || {
        host.state("rooted") == "Exited"
    });
    eventually(10.0, "the helper is stopped", || {
        host.census().count("task") == 0
    });
    host.finish();
    Ok(())
}

fn sidecars_share_a_sandbox(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let containers = format!(
        "    - id: server\n      image: kukeon.internal/hello:latest\n{}",
        container("hostname; exec sleep 1000", &[]).replace("id: main", "id: probe")
    );
    host.apply(&cell("pair", &containers)).ok();
    host.await_state("pair", "Ready");
    let fetch = [
        "exec",
        "pair",
        "--container",
        "probe",
        "--",
        "wget",
        "-q",
        "-O",
        "-",
        "http://127.0.0.1:8080/",
    ];
    eventually(5.0, "the server answers on loopback", || {
        host.kuke(&fetch).code == 0
    });
    host.kuke(&["log", "pair", "--container", "probe"])
        .ok()
        .says(&["pair"]);
    host.kuke(&[
        "exec",
        "pair",
        "--container",
        "probe",
        "--",
        "cat",
        "/etc/hosts",
    ])
    .ok()
    .says(&["pair", "127.0.0.1"]);
    host.kuke(&["log", "pair"])
        .code(2)
        .says(&["--container", "probe", "server"]);
    host.finish();
    Ok(())
}

fn run_gives_the_exit_code(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let before = host.census();
    let run = |script: &str| {
        host.kuke(&[
            "run", "--rm", "--image", "busybox", "--", "/bin/sh", "-c", script,
        ])
    };
    run("echo to-out; echo to-err >&2; exit 7")
        .code(7)
        .says(&["to-out", "to-err"]);
    run("exit 0").ok();
    // Process 1 of a namespace is deaf to its own SIGKILL; its child is not.
    run("sleep 60 & kill -9 $!; wait $!").code(137);
    host.kuke(&[
        "run",
        "--rm",
        "--image",
        "busybox",
        "--",
        "/no/such/program",
    ])
    .code(127)
    .says(&["/no/such/program"]);
    host.kuke(&["run", "--rm", "--image", "busybox", "--", "/etc/passwd"])
        .code(126)
        .says(&["/etc/passwd"]);
    host.kuke(&["run", "--rm", "--image", "kukeon.internal/nope"])
        .code(125)
        .says(&["kukeon.internal/nope"]);
    eventually(10.0, "--rm removes the cell", || {
        before.difference(&host.census()).is_empty()
    });
    host.finish();
    Ok(())
}

fn run_detached(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.kuke(&[
        "run", "-d", "--name", "bg", "--image", "busybox", "--", "sleep", "1000",
    ])
    .ok();
    host.await_state("bg", "Ready");
    host.kuke(&[
        "run", "-d", "--name", "bg", "--image", "busybox", "--", "sleep", "1000",
    ])
    .code(4)
    .says(&["bg", "already exists"]);
    host.kuke(&["delete", "cell", "bg"])
        .ok()
        .says(&["Deleted cell \"bg\" from stack \"default\""]);
    host.kuke(&["delete", "cell", "bg"]).code(3).says(&["bg"]);
    host.finish();
    Ok(())
}

fn exits_at_once(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply(&shell("quick", "exit 0", &[])).ok();
    eventually(10.0, "a clean end is Exited", || {
        host.state("quick") == "Exited"
    });
    // Applying ended work runs it again, as `start` does.
    host.apply(&shell("quick", "exit 0", &[]))
        .ok()
        .says(&["updated", "started again"]);
    host.kuke(&["delete", "cell", "quick"]).ok();
    // A creation that fails at once is taken back and says why.
    // The state is told before the sandbox is gone.
    let mut before = host.census();
    eventually(10.0, "the ended cell gives its sandbox back", || {
        std::thread::sleep(std::time::Duration::from_millis(500));
        let now = host.census();
        let settled = before.difference(&now).is_empty();
        before = now;
        settled
    });
    host.apply(&shell("crash", "echo broken >&2; exit 3", &[]))
        .code(1)
        .says(&["crash", "main", "code 3", "broken"]);
    host.kuke(&["get", "cell", "crash"]).code(3);
    assert_eq!(before.difference(&host.census()), "");
    // A later failure is the cell's state.
    let gate = Gate::new(&host, "end");
    let later = gated("crash", &gate, "echo broken >&2; exit 3", &[]);
    host.apply(&later).ok();
    gate.open();
    eventually(10.0, "a crash is Error", || host.state("crash") == "Error");
    assert_eq!(host.container("crash", "main")["exitCode"], 3);
    host.kuke(&["log", "crash"]).ok().says(&["broken"]);
    host.finish();
    Ok(())
}

fn delete_leaves_nothing(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply(&sleeper("warm-up")).ok();
    host.kuke(&["delete", "cell", "warm-up"]).ok();
    let before = host.census();
    for n in 0..3 {
        host.apply(&sleeper(&format!("c{n}"))).ok();
    }
    for n in 0..3 {
        host.kuke(&["delete", "cell", &format!("c{n}")]).ok();
    }
    assert_eq!(before.difference(&host.census()), "");
    host.kuke(&["get", "cells"]).ok().says(&["No cells found."]);
    host.finish();
    Ok(())
}

fn host_network(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply(&shell("open", "exec sleep 1000", &["hostNetwork: true"]))
        .ok();
    host.await_state("open", "Ready");
    let pid = host.container("open", "main")["pid"].as_u64().unwrap();
    let own = std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    // Of the machine, not of the cell: containerd's own namespace.
    let engine = crate::world::world().containerd_pid;
    assert_eq!(
        own,
        std::fs::read_link(format!("/proc/{engine}/ns/net")).unwrap()
    );
    assert!(
        host.get("cell", "open")["status"]["network"]["addresses"]
            .as_array()
            .is_none_or(Vec::is_empty)
    );
    host.finish();
    Ok(())
}

fn options_of_a_container(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let shared = host.dir.join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("note"), "from the host\n").unwrap();
    let script = "id -u; id -g; pwd; echo $COLOUR; cat /data/note; touch /data/x || echo read-only-volume; \
                  touch /x || echo read-only-root; touch /scratch/x && echo scratch-works; grep CapEff /proc/self/status; exec sleep 1000";
    let volume = format!(
        "  - {{source: {}, target: /data, readOnly: true}}",
        shared.display()
    );
    host.apply(&shell(
        "fenced",
        script,
        &[
            "user: guest",
            "workingDir: /home",
            "env: [COLOUR=blue]",
            "readOnlyRootFilesystem: true",
            "capabilities: {drop: [ALL]}",
            "tmpfs: [{path: /scratch, sizeBytes: 1048576, options: [mode=1777]}]",
            "volumes:",
            &volume,
        ],
    ))
    .ok();
    host.await_state("fenced", "Ready");
    eventually(5.0, "the script has run", || {
        host.kuke(&["log", "fenced"]).out.contains("CapEff")
    });
    host.kuke(&["log", "fenced"]).ok().says(&[
        "1000\n1000\n/home\nblue\n",
        "from the host\n",
        "read-only-volume",
        "read-only-root",
        "scratch-works",
        "CapEff:\t0000000000000000",
    ]);
    host.finish();
    Ok(())
}
