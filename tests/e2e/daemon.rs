//! The daemon: crashes, repair, restart policies, both modes on one cell.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::cases;
use crate::command::{Running, eventually, system};
use crate::host::{Engine, Host, LIMIT, Mode};
use crate::manifest::{Gate, gated, shell, sleeper};
use crate::runner::{Case, Skip, Verdict};

pub const CASES: &[&[Case]] = &[cases![
    modes_interleave,
    same_output_both_ways,
    killed_daemon_leaves_cells_alone,
    killed_daemon_in_each_verb,
    exits_are_noticed_at_once,
    policy_always,
    policy_on_failure_gives_up,
    policy_never,
    stopped_stays_stopped,
    auto_delete,
    task_killed_behind_our_back,
    container_removed_behind_our_back,
    cable_pulled_behind_our_back,
    cgroup_and_pin_are_put_back,
    workers_wait_for_nobody,
    missing_image_keeps_no_other_down,
    socket_is_for_root,
    drains_on_sigterm,
    second_daemon_is_refused,
    other_settings_are_refused,
    start_and_stop_verbs,
    tells_systemd,
    socket_activation,
    status_and_version,
]];

fn modes_interleave() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let file = host.file("cell.yaml", sleeper("c"));
    let (daemon, own) = (Mode::Daemon, Mode::InProcess);
    host.kuke_in(daemon, &["apply", "-f", &file])
        .ok()
        .says(&["created"]);
    host.kuke_in(own, &["apply", "-f", &file])
        .ok()
        .says(&["unchanged"]);
    host.kuke_in(own, &["stop", "c"]).ok();
    host.kuke_in(daemon, &["get", "cell", "c"])
        .ok()
        .says(&["Stopped"]);
    host.kuke_in(daemon, &["start", "c"]).ok();
    host.kuke_in(own, &["get", "cell", "c"])
        .ok()
        .says(&["Ready"]);
    host.kuke_in(own, &["restart", "c"]).ok();
    host.kuke_in(daemon, &["kill", "c"]).ok();
    host.kuke_in(own, &["delete", "cell", "c"]).ok();
    host.kuke_in(daemon, &["get", "cell", "c"]).code(3);
    // Both at once, over and over.
    for _ in 0..3 {
        let starts = [
            host.command(daemon, &["apply", "-f", &file]),
            host.command(own, &["apply", "-f", &file]),
            host.command(daemon, &["restart", "c"]),
            host.command(own, &["restart", "c"]),
        ];
        let running =
            starts.map(|c| crate::command::Running::start(c, "both at once".into(), None));
        let done = running.map(|r| r.wait(LIMIT));
        assert!(done[0].code == 0 && done[1].code == 0, "{done:#?}");
        host.await_state("c", "Ready");
        assert_eq!(host.census().count("task"), 1);
        host.kuke_in(own, &["delete", "cell", "c"]).ok();
    }
    host.finish();
    Ok(())
}

fn same_output_both_ways() -> Verdict {
    let host = Host::new(Mode::Daemon);
    host.apply(&sleeper("c")).ok();
    host.await_state("c", "Ready");
    for arguments in [
        &["get", "cell", "c"][..],
        &["get", "cells", "-o", "wide"],
        &["get", "cell", "c", "-o", "yaml"],
        &["get", "cells", "-o", "json"],
        &["get", "realms"],
        &["get", "spaces", "-o", "yaml"],
        &["get", "containers", "--cell", "c"],
        &["get", "images"],
        &["image", "list"],
        &["get", "cell", "nothere"],
        &["delete", "realm", "default"],
        &["start", "nothere"],
    ] {
        // An age may tick over between the two, and what is used grows.
        let used = [
            "memoryBytes",
            "cpuUsec",
            "pids",
            "ioReadBytes",
            "ioWriteBytes",
        ];
        let ageless = |text: &str| {
            let lines = text
                .lines()
                .filter(|line| !used.iter().any(|key| line.contains(key)));
            let words = lines.flat_map(str::split_whitespace).map(|w| {
                match w.trim_end_matches('s').parse::<f32>() {
                    Ok(_) => "NUMBER",
                    Err(_) => w,
                }
            });
            words.collect::<Vec<_>>().join(" ")
        };
        let both = || {
            [Mode::Daemon, Mode::InProcess].map(|mode| {
                let said = host.kuke_in(mode, arguments);
                (said.code, said.err, ageless(&said.out))
            })
        };
        // The loop may note something new between the two (which controllers
        // runc has delegated, say), but not time and again.
        let mut said = both();
        for _ in 0..2 {
            if said[0] != said[1] {
                said = both();
            }
        }
        assert_eq!(said[0], said[1], "{arguments:?}");
    }
    host.finish();
    Ok(())
}

const TICK: &str = "n=0; while :; do n=$((n+1)); echo tick $n; sleep 0.2; done";

fn ticks(host: &Host) -> Vec<u32> {
    let log = host.kuke_in(Mode::InProcess, &["log", "ticker"]).ok().out;
    log.lines()
        .filter_map(|l| l.strip_prefix("tick ")?.parse().ok())
        .collect()
}

fn killed_daemon_leaves_cells_alone() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    host.apply(&shell("ticker", TICK, &["restartPolicy: always"]))
        .ok();
    host.await_state("ticker", "Ready");
    let before = host.container("ticker", "main");
    host.kill_daemon();
    let at_death = ticks(&host).len();
    let mut later = Vec::new();
    eventually(10.0, "logs go on", || {
        later = ticks(&host);
        later.len() >= at_death + 5
    });
    assert!(
        later.iter().copied().eq(1..=later.len() as u32),
        "no line is lost: {later:?}"
    );
    host.start_daemon();
    let census = host.census().without(&["process"]); // the script's own come and go
    std::thread::sleep(Duration::from_secs(3)); // more than one full pass
    assert_eq!(census.difference(&host.census().without(&["process"])), "");
    let after = host.container("ticker", "main");
    assert_eq!(
        (&before["pid"], &before["startedAt"]),
        (&after["pid"], &after["startedAt"]),
        "adopted, not restarted"
    );
    assert_eq!(host.state("ticker"), "Ready");
    // It is adopted for exits, too.
    system("kill", &["-9", &after["pid"].to_string()]).ok();
    eventually(10.0, "it is started again", || {
        let now = host.container("ticker", "main");
        now["state"] == "Ready" && now["pid"] != after["pid"]
    });
    host.finish();
    Ok(())
}

fn killed_daemon_in_each_verb() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    host.apply(&sleeper("warm-up")).ok();
    host.kuke(&["delete", "cell", "warm-up"]).ok();
    let before = host.census().without(&["process"]);
    let file = host.file("cell.yaml", sleeper("c"));
    let verbs: [&[&str]; 5] = [
        &["apply", "-f", &file],
        &["stop", "c"],
        &["start", "c"],
        &["restart", "c"],
        &["delete", "cell", "c"],
    ];
    for delay in [0, 10, 25, 50, 90, 150, 300] {
        for verb in verbs {
            let running = host.start(verb);
            std::thread::sleep(Duration::from_millis(delay));
            host.kill_daemon();
            let done = running.wait(LIMIT);
            assert!(
                [0, 5].contains(&done.code),
                "done, or the daemon is gone: {done:?}"
            );
            host.start_daemon();
            let again = host.kuke(verb);
            // What the first attempt already finished cannot be deleted again.
            assert!(
                again.code == 0 || (again.code == 3 && verb[0] == "delete"),
                "{again:?}"
            );
        }
        let now = host.census().without(&["process"]);
        assert_eq!(before.difference(&now), "", "after a kill at {delay} ms");
    }
    host.finish();
    Ok(())
}

fn exits_are_noticed_at_once() -> Verdict {
    let host = Host::bare(Mode::Daemon, Engine::Shared);
    host.configure("10.200.0.0/16", "0s"); // no resync: events alone
    let mut host = host;
    host.start_daemon();
    host.kuke(&["init"]).ok();
    host.load_busybox();
    host.apply(&sleeper("c")).ok();
    host.await_state("c", "Ready");
    let pid = host.container("c", "main")["pid"].to_string();
    system("kill", &["-9", &pid]).ok();
    // No pass of the loop would ever see it.
    eventually(2.0, "the exit is noticed", || host.state("c") == "Error");
    assert_eq!(host.container("c", "main")["exitSignal"], 9);
    host.finish();
    Ok(())
}

fn policy_always() -> Verdict {
    let host = Host::new(Mode::Daemon);
    host.apply(&shell("c", "sleep 0.3; exit 0", &["restartPolicy: always"]))
        .ok();
    eventually(30.0, "it is restarted again and again", || {
        host.container("c", "main")["restartCount"]
            .as_i64()
            .unwrap_or(0)
            >= 3
    });
    // The pauses double: 1 + 2 + 4 s for the next three.
    host.kuke(&["stop", "c"]).ok();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(host.state("c"), "Stopped");
    host.finish();
    Ok(())
}

fn policy_on_failure_gives_up() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let fields = [
        "restartPolicy: on-failure",
        "restartMaxRetries: 2",
        "restartBackoffSeconds: 1",
    ];
    let gate = Gate::new(&host, "end");
    host.apply(&gated("bad", &gate, "echo try; exit 1", &fields))
        .ok();
    host.apply(&gated("good", &gate, "echo try; exit 0", &fields))
        .ok();
    gate.open();
    eventually(30.0, "it gives up", || {
        host.kuke(&["log", "bad"]).out.matches("try").count() == 3 && host.state("bad") == "Error"
    });
    eventually(10.0, "the good one has ended", || {
        host.state("good") == "Exited"
    });
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(host.kuke(&["log", "bad"]).out.matches("try").count(), 3);
    assert_eq!(host.kuke(&["log", "good"]).out.matches("try").count(), 1);
    assert_eq!(host.state("good"), "Exited");
    host.finish();
    Ok(())
}

fn policy_never() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let gate = Gate::new(&host, "end");
    host.apply(&gated("c", &gate, "exit 1", &[])).ok();
    let ended = |host: &Host| host.container("c", "main")["finishedAt"].clone();
    gate.open();
    eventually(10.0, "Error", || host.state("c") == "Error");
    let first = ended(&host);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(
        host.container("c", "main")["restartCount"]
            .as_i64()
            .unwrap_or(0),
        0
    );
    host.kuke(&["start", "c"]).ok(); // by hand it runs again
    eventually(10.0, "Error again", || {
        host.state("c") == "Error" && ended(&host) != first
    });
    host.finish();
    Ok(())
}

fn stopped_stays_stopped() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    let manifest = sleeper("c").replace("id: main", "id: main\n      restartPolicy: always");
    host.apply(&manifest).ok();
    host.await_state("c", "Ready");
    host.kuke(&["stop", "c"]).ok();
    std::thread::sleep(Duration::from_secs(5)); // two full passes
    assert_eq!(host.state("c"), "Stopped");
    host.stop_daemon();
    host.start_daemon();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(host.state("c"), "Stopped");
    host.kuke(&["start", "c"]).ok();
    host.await_state("c", "Ready");
    host.finish();
    Ok(())
}

fn auto_delete() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let with = |text: String| {
        text.replace(
            "  stackId: default\n",
            "  stackId: default\n  autoDelete: true\n",
        )
    };
    let gate = Gate::new(&host, "end");
    host.apply(&with(shell("done", "exit 0", &[]))).ok();
    eventually(15.0, "a clean end deletes it", || {
        host.kuke(&["get", "cell", "done"]).code == 3
    });
    host.apply(&with(gated("kept", &gate, "exit 1", &[]))).ok();
    gate.open();
    eventually(10.0, "it has failed", || host.state("kept") == "Error");
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(host.state("kept"), "Error");
    host.finish();
    Ok(())
}

fn task_killed_behind_our_back() -> Verdict {
    let host = Host::new(Mode::Daemon);
    host.apply(&sleeper("c").replace("id: main", "id: main\n      restartPolicy: always"))
        .ok();
    host.await_state("c", "Ready");
    let before = host.container("c", "main");
    let id = before["containerdId"].as_str().unwrap();
    host.ctr("default", &["tasks", "kill", "-s", "KILL", id])
        .ok();
    eventually(15.0, "it runs again", || {
        let now = host.container("c", "main");
        now["state"] == "Ready" && now["pid"] != before["pid"]
    });
    host.finish();
    Ok(())
}

fn container_removed_behind_our_back() -> Verdict {
    let host = Host::new(Mode::Daemon);
    host.apply(&sleeper("c").replace("id: main", "id: main\n      restartPolicy: always"))
        .ok();
    host.await_state("c", "Ready");
    let before = host.container("c", "main");
    let id = before["containerdId"].as_str().unwrap();
    host.ctr("default", &["tasks", "rm", "-f", id]).ok();
    host.ctr("default", &["containers", "rm", id]);
    eventually(20.0, "it is made again", || {
        let now = host.container("c", "main");
        now["state"] == "Ready" && now["pid"] != before["pid"]
    });
    host.finish();
    Ok(())
}

fn cable_pulled_behind_our_back() -> Verdict {
    let host = Host::new(Mode::Daemon);
    host.apply(include_str!("../../manifests/hello-world.yaml"))
        .ok();
    host.await_state("hello", "Ready");
    let bridge = host.get("space", "default")["status"]["network"]["bridge"]
        .as_str()
        .unwrap()
        .to_owned();
    let ports = host
        .inside("ip", &["-o", "link", "show", "master", &bridge])
        .ok()
        .out;
    let veth = ports.split(": ").nth(1).unwrap().split('@').next().unwrap();
    host.inside("ip", &["link", "del", veth]).ok();
    eventually(20.0, "the cell answers again", || host.answers("hello"));
    host.inside("ip", &["link", "del", &bridge]).ok();
    eventually(
        20.0,
        "the cell answers again after its bridge was removed",
        || host.answers("hello"),
    );
    host.finish();
    Ok(())
}

fn cgroup_and_pin_are_put_back() -> Verdict {
    let host = Host::new(Mode::Daemon);
    host.apply(include_str!("../../manifests/hello-world.yaml"))
        .ok();
    host.await_state("hello", "Ready");
    host.kuke(&["stop", "hello"]).ok();
    let cell = host.cgroup("default/default/default/hello");
    assert!(cell.exists(), "a stopped cell keeps its cgroup");
    for dir in [cell.join("hello"), cell.clone()] {
        if dir.exists() {
            fs::remove_dir(dir).unwrap();
        }
    }
    host.kuke(&["start", "hello"]).ok();
    host.await_state("hello", "Ready");
    assert!(cell.join("hello").exists(), "it is put back");
    let pid = host.container("hello", "hello")["pid"].clone();
    let pin = host.get("cell", "hello")["status"]["network"]["netns"]
        .as_str()
        .unwrap()
        .to_owned();
    let pinned = || {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        mounts.split_whitespace().any(|word| word == pin)
    };
    assert!(pinned());
    system("umount", &[&pin]).ok();
    eventually(20.0, "the cell answers in a new sandbox", || {
        let now = host.container("hello", "hello");
        pinned() && now["state"] == "Ready" && now["pid"] != pid && host.answers("hello")
    });
    let pid = host.container("hello", "hello")["pid"].clone();
    let inode = |path: &str| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(&pin), inode(&format!("/proc/{pid}/ns/net")));
    host.finish();
    Ok(())
}

/// More cells than there are workers are being stopped by callers, which takes
/// its time; another that is due is started all the same.
fn workers_wait_for_nobody() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let deaf = "trap '' TERM; echo up; while :; do sleep 0.1; done";
    let names: Vec<String> = (0..6).map(|n| format!("deaf-{n}")).collect();
    for name in &names {
        host.apply(&shell(name, deaf, &["stopGraceSeconds: 40"]))
            .ok();
    }
    host.apply(&shell("due", "exec sleep 1000", &["restartPolicy: always"]))
        .ok();
    host.await_state("due", "Ready");
    let mut stopping: Vec<_> = names.iter().map(|n| host.start(&["stop", n])).collect();
    // Two passes of the loop: every worker has come across a cell in work.
    std::thread::sleep(Duration::from_secs(5));
    let pid = host.container("due", "main")["pid"].clone();
    system("kill", &["-9", &pid.to_string()]).ok();
    eventually(20.0, "it runs again", || {
        let now = host.container("due", "main");
        now["state"] == "Ready" && now["pid"] != pid
    });
    // Nor does what need not change of the stack they are in.
    let stack = "apiVersion: v1beta1\nkind: Stack\nmetadata: {name: default}\nspec: {realmId: default, spaceId: default}\n";
    host.apply(stack)
        .ok()
        .says(&["Stack \"default\": unchanged"]);
    assert!(stopping.iter_mut().all(|s| s.alive()), "they still wait");
    for name in &names {
        let pid = host.container(name, "main")["pid"].to_string();
        system("kill", &["-9", &pid]).ok();
    }
    for running in stopping {
        running.wait(LIMIT).ok();
    }
    host.finish();
    Ok(())
}

/// One container's image is gone: the other runs, and its restarts count.
fn missing_image_keeps_no_other_down() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let (image, twin) = ("docker.io/library/busybox:latest", "example.test/twin:1");
    host.ctr("default", &["images", "tag", image, twin]).ok();
    let run = |id: &str, more: &[&str]| {
        crate::manifest::container("exec sleep 1000", more)
            .replace("id: main", &format!("id: {id}"))
    };
    let containers = format!(
        "{}{}",
        run("good", &["restartPolicy: always"]),
        run("bad", &["imagePullPolicy: never"])
            .replace("image: busybox", &format!("image: {twin}"))
    );
    host.apply(&crate::manifest::cell("two", &containers)).ok();
    host.await_state("two", "Ready");
    let bad = host.container("two", "bad")["containerdId"].clone();
    host.kuke(&["stop", "two"]).ok();
    host.ctr("default", &["containers", "rm", bad.as_str().unwrap()])
        .ok();
    host.ctr("default", &["images", "rm", "--sync", twin]).ok();
    host.kuke(&["start", "two"]).code(3).says(&[twin]);
    let good = host.container("two", "good");
    assert_eq!(good["state"], "Ready", "{good:#}");
    assert!(good["startedAt"].is_string(), "{good:#}");
    system("kill", &["-9", &good["pid"].to_string()]).ok();
    eventually(20.0, "it is started again, and counted", || {
        let now = host.container("two", "good");
        now["state"] == "Ready" && now["pid"] != good["pid"] && now["restartCount"] == 1
    });
    host.finish();
    Ok(())
}

fn socket_is_for_root() -> Verdict {
    const GROUP: &str = "64321";
    let mut host = Host::new(Mode::Daemon);
    let mode = |host: &Host| {
        let socket = fs::metadata(host.api_socket()).unwrap();
        socket.permissions().mode() & 0o777
    };
    assert_eq!(mode(&host), 0o600);
    let home = host.dir.join("home").display().to_string();
    system("chmod", &["-R", "a+rX", &home]).ok();
    let home = format!("HOME={home}");
    let kuke = crate::world::world().kuke.display().to_string();
    let get = |groups: &[&str]| {
        let nobody = ["--reuid", "65534", "--regid", "65534"];
        let call = ["env", &home, &kuke, "get", "cells"];
        system("setpriv", &[&nobody, groups, &call].concat())
    };
    let before = host.census();
    let refused = ["kukeond.sock", "ermission"];
    get(&["--clear-groups"]).code(6).says(&refused);
    host.assert_left(&before);
    // One group may call, too; what the mode of the socket allows is not enough.
    host.stop_daemon();
    host.serve_with(&format!("  socketGID: {GROUP}\n"));
    host.start_daemon();
    assert_eq!(mode(&host), 0o660);
    get(&["--groups", GROUP]).ok();
    let open = fs::Permissions::from_mode(0o666);
    fs::set_permissions(host.api_socket(), open).unwrap();
    get(&["--groups", "64322"]).code(6).says(&["65534"]);
    get(&["--groups", &format!("64322,{GROUP}")]).ok();
    // Who ran something, and where; what it was may be a secret.
    host.apply(&sleeper("c")).ok();
    host.await_state("c", "Ready");
    host.kuke(&["exec", "c", "--", "echo", "hidden"]).ok();
    let log = host.daemon_log();
    let line = log.lines().find(|line| line.contains("call=\"exec\""));
    assert!(
        line.is_some_and(|line| line.contains("default/default/default/c")),
        "{log}"
    );
    assert!(!log.contains("hidden"), "{log}");
    host.finish();
    Ok(())
}

fn drains_on_sigterm() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    host.apply(&sleeper("c")).ok();
    host.await_state("c", "Ready");
    let mut following = host.start(&["log", "-f", "c"]);
    eventually(5.0, "it follows", || following.out().contains("up"));
    // A call that ends when the test lets it.
    let gate = Gate::new(&host, "end");
    let script = format!(
        "trap 'echo told; {}; exit 0' TERM; echo up; while :; do sleep 0.1; done",
        Gate::WAIT
    );
    let fields = [gate.volume(), "stopGraceSeconds: 300"];
    host.apply(&shell("slow", &script, &fields)).ok();
    host.await_log("slow", "up");
    let mut stopping = host.start(&["stop", "slow"]);
    host.await_log("slow", "told");
    let daemon = nix::unistd::Pid::from_raw(host.daemon_pid() as i32);
    nix::sys::signal::kill(daemon, Signal::SIGTERM).unwrap();
    eventually(10.0, "no new call is taken", || {
        host.kuke(&["get", "realms"]).code == 5
    });
    assert!(stopping.alive(), "the call in hand goes on");
    gate.open();
    stopping.wait(LIMIT).ok().says(&["Stopped cell \"slow\""]);
    host.stop_daemon();
    eventually(5.0, "who follows is told", || !following.alive());
    assert!(
        !host.api_socket().exists(),
        "the socket goes with the daemon"
    );
    host.start_daemon();
    assert_eq!(host.state("slow"), "Stopped");
    host.await_state("c", "Ready");
    host.finish();
    Ok(())
}

fn second_daemon_is_refused() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let kukeond = crate::world::world()
        .kuke
        .with_file_name("kukeond")
        .display()
        .to_string();
    let configuration = host.dir.join("kukeond.yaml").display().to_string();
    let done = system(
        "timeout",
        &["10", &kukeond, "serve", "--configuration", &configuration],
    );
    done.code(4).says(&["kukeond.sock"]);
    host.kuke(&["get", "realms"]).ok(); // the first one is unharmed
    host.finish();
    Ok(())
}

fn other_settings_are_refused() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    host.stop_daemon();
    let kukeond = crate::world::world()
        .kuke
        .with_file_name("kukeond")
        .display()
        .to_string();
    let configuration = host.dir.join("kukeond.yaml").display().to_string();
    let serve = ["10", &kukeond, "serve", "--configuration", &configuration];
    let other_suffix = [&serve[..], &["--containerd-namespace-suffix", "other.test"]].concat();
    system("timeout", &other_suffix)
        .code(4)
        .says(&["kukeon instance mismatch"]);
    let other_root = [&serve[..], &["--cgroup-root", "/elsewhere"]].concat();
    system("timeout", &other_root)
        .code(4)
        .says(&["kukeon instance mismatch"]);
    host.finish();
    Ok(())
}

fn start_and_stop_verbs() -> Verdict {
    let host = Host::bare(Mode::Daemon, Engine::Shared);
    if fs::metadata("/run/systemd/system").is_ok() {
        return Err(crate::runner::Skip(
            "systemd runs here: the verbs drive the installed unit".to_owned(),
        ));
    }
    host.kuke(&["get", "realms"])
        .code(5)
        .says(&["kukeond.sock"]);
    host.kuke(&["daemon", "start"])
        .ok()
        .says(&["kukeond started"]);
    host.kuke(&["daemon", "start"])
        .ok()
        .says(&["already running"]);
    host.kuke(&["daemon", "status"]).ok();
    host.kuke(&["init"]).ok();
    host.kuke(&["get", "realms"]).ok().says(&["default"]);
    host.kuke(&["daemon", "restart"]).ok();
    host.kuke(&["get", "realms"]).ok().says(&["default"]);
    host.kuke(&["daemon", "logs"]).ok();
    host.kuke(&["daemon", "stop"])
        .ok()
        .says(&["kukeond stopped"]);
    host.kuke(&["daemon", "stop"])
        .ok()
        .says(&["already stopped"]);
    host.kuke(&["get", "realms"]).code(5);
    host.kuke(&["daemon", "start"]).ok();
    host.finish(); // uninstall ends the daemon, too
    Ok(())
}

fn tells_systemd() -> Verdict {
    let host = Host::bare(Mode::Daemon, Engine::Shared);
    let place = host.dir.join("notify");
    let socket = UnixDatagram::bind(&place).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let kukeond = crate::world::world().kuke.with_file_name("kukeond");
    let mut command = std::process::Command::new(kukeond);
    command
        .args(["serve", "--configuration"])
        .arg(host.dir.join("kukeond.yaml"));
    command
        .env("NOTIFY_SOCKET", &place)
        .env("WATCHDOG_USEC", "1000000");
    let daemon = crate::command::Running::start(command, "kukeond serve".into(), None);
    let mut said = String::new();
    let mut hear = |word: &str| {
        let began = Instant::now();
        while !said.contains(word) && began.elapsed() < Duration::from_secs(60) {
            let mut buffer = [0; 4096];
            let n = socket.recv(&mut buffer).unwrap_or(0);
            said.push_str(&String::from_utf8_lossy(&buffer[..n]));
            said.push('\n');
        }
        assert!(said.contains(word), "{word} in {said:?}");
    };
    hear("READY=1");
    assert!(host.api_socket().exists());
    hear("WATCHDOG=1");
    daemon.signal(Signal::SIGTERM);
    hear("STOPPING=1");
    daemon.wait(LIMIT).ok();
    host.finish();
    Ok(())
}

/// The socket is somebody else's, who starts the daemon at the first call.
fn socket_activation() -> Verdict {
    if system("sh", &["-c", "command -v systemd-socket-activate"]).code != 0 {
        return Err(Skip("systemd-socket-activate is not installed".to_owned()));
    }
    let host = Host::bare(Mode::Daemon, Engine::Shared);
    let (socket, second) = (host.api_socket(), host.dir.join("second.sock"));
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let kukeond = crate::world::world().kuke.with_file_name("kukeond");
    let configuration = host.dir.join("kukeond.yaml");
    let text = |path: &std::path::Path| path.display().to_string();
    let (listen, other) = (text(&socket), text(&second));
    let (program, settings) = (text(&kukeond), text(&configuration));
    let serve = [program.as_str(), "serve", "--configuration", &settings];
    let activate = |sockets: &[&str]| {
        let mut arguments: Vec<&str> = sockets.iter().flat_map(|s| ["-l", s]).collect();
        arguments.extend(serve);
        let running = host.start_inside("/usr/bin/systemd-socket-activate", &arguments);
        eventually(5.0, "somebody listens", || {
            sockets.iter().all(|s| fs::metadata(s).is_ok())
        });
        running
    };

    let mut daemon = activate(&[&listen]);
    let runs = |daemon: &Running| {
        let program = fs::read_link(format!("/proc/{}/exe", daemon.pid())).unwrap();
        program.file_name() == Some("kukeond".as_ref())
    };
    // By the mode anybody may connect: the daemon looks who it is.
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(!runs(&daemon), "nobody has called yet");
    host.kuke(&["init"]).ok();
    assert!(runs(&daemon) && daemon.alive(), "the first call started it");
    host.load_busybox();
    host.apply(&sleeper("c")).ok();
    host.await_state("c", "Ready");
    let home = host.dir.join("home");
    system("chmod", &["-R", "a+rX", &text(&home)]).ok();
    let kuke = text(&crate::world::world().kuke);
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let call = [
        "env",
        &format!("HOME={}", home.display()),
        &kuke,
        "get",
        "cells",
    ];
    system("setpriv", &[&nobody[..], &call[..]].concat())
        .code(6)
        .says(&["may not use kukeond"]);

    // It ends, and the socket is left to its owner.
    daemon.signal(Signal::SIGTERM);
    daemon.wait(LIMIT).ok();
    assert!(socket.exists(), "it is not the daemon's to remove");
    fs::remove_file(&socket).unwrap();
    let daemon = activate(&[&listen]);
    host.kuke(&["get", "cells"]).ok().says(&["Ready"]);
    host.kuke(&["uninstall", "--yes"]).ok();
    daemon.signal(Signal::SIGTERM);
    daemon.wait(LIMIT);

    // Two sockets: which one is meant is not guessed.
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    fs::remove_file(&socket).ok();
    let daemon = activate(&[&listen, &other]);
    std::os::unix::net::UnixStream::connect(&socket).unwrap();
    daemon.wait(LIMIT).code(1).says(&["more than one socket"]);
    for left in [&socket, &second] {
        fs::remove_file(left).ok();
    }
    host.finish();
    Ok(())
}

fn status_and_version() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    host.kuke(&["status"])
        .ok()
        .says(&["Status: OK", "containerd", "cgroup"]);
    let json = host.kuke(&["status", "--json"]).ok().json();
    assert_eq!(json["ok"], true, "{json:#}");
    host.kuke(&["version"])
        .ok()
        .says(&["Client:", "Daemon:", env!("CARGO_PKG_VERSION")]);
    host.stop_daemon();
    host.kuke(&["version"])
        .ok()
        .says(&["Client:", "Warning: daemon unreachable"]);
    host.kuke(&["status"])
        .code(1)
        .says(&["Status: FAIL", "FAIL"]);
    host.kuke_in(Mode::InProcess, &["version"]).ok();
    host.finish();
    Ok(())
}
