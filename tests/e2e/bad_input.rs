//! Wrong input: one clear error, the documented exit code, and host and store
//! as they were.

use std::fs;
use std::time::{Duration, Instant};

use crate::command::{Done, eventually, system};
use crate::host::{Engine, Host, LIMIT, Mode};
use crate::manifest::{cell, shell, sleeper};
use crate::runner::{Case, Skip, Verdict};
use crate::{cases, cases_in_both_modes};

pub const CASES: &[&[Case]] = &[
    cases_in_both_modes![
        manifests_that_do_not_decode,
        values_that_are_not_valid,
        huge_and_hostile_documents,
        missing_parents,
        image_not_found,
        command_not_in_the_image,
        missing_controller,
        address_pool_exhausted,
        port_in_use_is_the_cells_own,
        wrong_usage,
        two_applies_at_once,
        full_disk,
        read_only_disk,
    ],
    cases![
        request_timeout,
        daemon_down,
        containerd_down,
        containerd_dies_and_comes_back
    ],
];

/// Runs `f`, which must leave host and store as they were.
#[track_caller]
fn untouched(host: &Host, f: impl FnOnce() -> Done) -> Done {
    let store = |h: &Host| {
        let list = format!(
            "cd {} && find . -name '*.yaml' -exec sha256sum {{}} + | sort -k2",
            h.run_path.display()
        );
        system("sh", &["-c", &list]).out
    };
    let (files, census) = (store(host), host.census());
    let done = f();
    assert_eq!(files, store(host), "the store has changed\n{}", done.show());
    // The last helper processes of a verb may be on their way out.
    let mut difference = String::new();
    for _ in 0..40 {
        difference = census.difference(&host.census());
        if difference.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(difference, "", "the host has changed\n{}", done.show());
    done
}

/// Applies a file called `bad.yaml`; nothing may change.
#[track_caller]
fn refuse(host: &Host, manifest: &str, code: i32, words: &[&str]) {
    crate::runner::note(manifest.chars().take(2000).collect::<String>());
    let file = host.file("bad.yaml", manifest);
    untouched(host, || host.kuke(&["apply", "-f", &file]))
        .code(code)
        .says(words);
}

fn manifests_that_do_not_decode(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let good = sleeper("c");
    let line = |needle: &str, text: &str| {
        let at = text.lines().position(|l| l.contains(needle)).unwrap() + 1;
        format!("bad.yaml:{at}:")
    };
    refuse(
        &host,
        &good.replace("kind: Cell", "kind: Sell"),
        2,
        &["bad.yaml:2:", "Sell", "Cell"],
    );
    refuse(
        &host,
        &good.replace("v1beta1", "v2"),
        2,
        &["bad.yaml:1:", "v2", "v1beta1"],
    );
    let text = good.replace("image:", "imgae:");
    refuse(&host, &text, 2, &[&line("imgae", &text), "imgae", "image"]);
    let text = good.replace(
        "      image: busybox\n",
        "      image: busybox\n      image: other\n",
    );
    refuse(
        &host,
        &text,
        2,
        &[&line("image: other", &text), "twice", "image"],
    );
    refuse(
        &host,
        "apiVersion: v1beta1\nkind: Cell\n\tmetadata: {}\n",
        2,
        &["bad.yaml:3:"],
    );
    refuse(&host, "just text", 2, &["bad.yaml"]);
    refuse(&host, "", 2, &["bad.yaml", "no documents found"]);
    refuse(
        &host,
        "{\"apiVersion\": \"v1beta1\", \"kind\": \"Cell\",",
        2,
        &["bad.yaml:1:"],
    );
    refuse(
        &host,
        &good.replace("containers:", "containers: 7 #"),
        2,
        &["bad.yaml", "containers"],
    );
    refuse(
        &host,
        &format!("{good}      stopGraceSeconds: soon\n"),
        2,
        &["stopGraceSeconds", "soon"],
    );
    // A second document that is wrong stops the first, too.
    let two = format!(
        "{}---\n{}",
        sleeper("one"),
        good.replace("kind: Cell", "kind: Sell")
    );
    let text = line("Sell", &two);
    refuse(&host, &two, 2, &[&text, "Sell"]);
    let file = host.file(
        "latin1.yaml",
        b"apiVersion: v1beta1\nkind: Cell\nmetadata: {name: \xe4}\n",
    );
    untouched(&host, || host.kuke(&["apply", "-f", &file]))
        .code(2)
        .says(&["latin1.yaml"]);
    untouched(&host, || host.kuke(&["apply", "-f", "/no/such/file"]))
        .code(3)
        .says(&["/no/such/file"]);
    host.finish();
    Ok(())
}

fn values_that_are_not_valid(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let good = sleeper("c");
    let long = "a".repeat(64);
    for name in [
        "Hello_World",
        "-c",
        "c-",
        "a.b",
        "..",
        "a/b",
        "\"a b\"",
        "\"\"",
        "ä",
        long.as_str(),
    ] {
        let text = good.replace("name: c\n", &format!("name: {name}\n"));
        refuse(&host, &text, 2, &["bad.yaml", "metadata.name"]);
        let text = good.replace("stackId: default", &format!("stackId: {name}"));
        refuse(&host, &text, 2, &["bad.yaml", "spec.stackId"]);
    }
    refuse(
        &host,
        &good.replace("id: main", "id: Main"),
        2,
        &["containers[0].id", "Main"],
    );
    refuse(
        &host,
        &good.replace("id: main", "id: main\n      restartPolicy: sometimes"),
        2,
        &["restartPolicy", "sometimes", "always"],
    );
    refuse(
        &host,
        &good.replace("image: busybox", "image: 'UPPER CASE'"),
        2,
        &["image", "UPPER CASE"],
    );
    refuse(
        &host,
        &good.replace("id: main", "id: main\n      env: [NOEQUALS]"),
        2,
        &["env", "NOEQUALS"],
    );
    refuse(
        &host,
        &good.replace("id: main", "id: main\n      capabilities: {add: [FLY]}"),
        2,
        &["capabilities", "FLY"],
    );
    refuse(
        &host,
        &good.replace(
            "id: main",
            "id: main\n      volumes: [{source: relative, target: /x}]",
        ),
        2,
        &["volumes[0].source", "relative"],
    );
    refuse(
        &host,
        &good.replace("id: main", "id: main\n      stopGraceSeconds: -1"),
        2,
        &["stopGraceSeconds"],
    );
    refuse(
        &host,
        &good.replace(
            "id: main",
            "id: main\n      resources: {memoryLimitBytes: -5}",
        ),
        2,
        &["memoryLimitBytes"],
    );
    refuse(
        &host,
        &cell("c", "").replace("containers:\n", "containers: []\n"),
        2,
        &["containers"],
    );
    let twice = format!("{good}{}", good.split("containers:\n").nth(1).unwrap());
    refuse(&host, &twice, 2, &["main"]);
    let two_roots = format!(
        "{}    - id: other\n      root: true\n      image: busybox\n",
        good.replace("id: main", "id: main\n      root: true")
    );
    refuse(&host, &two_roots, 2, &["root"]);
    host.finish();
    Ok(())
}

fn huge_and_hostile_documents(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
    for (this, last) in ["b", "c", "d", "e", "f", "g", "h", "i"]
        .iter()
        .zip(["a", "b", "c", "d", "e", "f", "g", "h"])
    {
        bomb.push_str(&format!(
            "{this}: &{this} [{}]\n",
            vec![format!("*{last}"); 9].join(",")
        ));
    }
    let began = Instant::now();
    refuse(
        &host,
        &format!("apiVersion: v1beta1\nkind: Cell\n{bomb}"),
        2,
        &["bad.yaml"],
    );
    refuse(
        &host,
        &format!(
            "apiVersion: v1beta1\nkind: Cell\nmetadata: {}",
            "[".repeat(100_000)
        ),
        2,
        &["bad.yaml"],
    );
    let filler = format!("# {}\n", "x".repeat(98)).repeat(110_000);
    refuse(
        &host,
        &format!("{filler}{}", sleeper("c")),
        2,
        &["bad.yaml", "MiB"],
    );
    let label = "y".repeat(11_000_000);
    refuse(
        &host,
        &sleeper("c").replace(
            "name: c\n",
            &format!("name: c\n  annotations: {{note: {label}}}\n"),
        ),
        2,
        &["bad.yaml", "MiB"],
    );
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    host.finish();
    Ok(())
}

/// Scopes above are made and told; a container needs its cell.
fn missing_parents(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    refuse(
        &host,
        "apiVersion: v1beta1\nkind: Container\nmetadata: {name: m}\nspec: {realmId: default, spaceId: default, stackId: default, cellId: nowhere, image: busybox}\n",
        3,
        &["nowhere", "not found"],
    );
    let stack = "apiVersion: v1beta1\nkind: Stack\nmetadata: {name: t}\nspec: {realmId: made, spaceId: s}\n";
    host.apply(stack).ok().says(&[
        "Realm \"made\": created",
        "Space \"s\": created",
        "Stack \"t\": created",
    ]);
    for arguments in [
        &["get", "stack", "t", "--realm", "made", "--space", "nowhere"][..],
        &["start", "c", "--realm", "nowhere"],
        &["delete", "space", "s", "--realm", "nowhere"],
        &["log", "c", "--stack", "nowhere"],
    ] {
        untouched(&host, || host.kuke(arguments))
            .code(3)
            .says(&["nowhere"]);
    }
    host.finish();
    Ok(())
}

fn image_not_found(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let manifest = |image: &str| sleeper("c").replace("image: busybox", &format!("image: {image}"));
    // Never pulled, whatever the policy.
    refuse(
        &host,
        &manifest("kukeon.internal/nope:1"),
        3,
        &["kukeon.internal/nope:1", "cell \"c\""],
    );
    refuse(
        &host,
        &manifest("never.example/x:1")
            .replace("id: main", "id: main\n      imagePullPolicy: never"),
        3,
        &["never.example/x:1"],
    );
    // No such registry: the name does not resolve, or nothing listens.
    refuse(
        &host,
        &manifest("127.0.0.1:5998/team/x:1"),
        5,
        &["127.0.0.1:5998"],
    );
    host.finish();
    Ok(())
}

fn command_not_in_the_image(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let manifest = sleeper("c").replace("command: /bin/sh", "command: /bin/nothing");
    let before = host.census();
    host.apply(&manifest)
        .code(1)
        .says(&["\"/bin/nothing\"", "cell \"c\"", "main", "no such file"]);
    // A creation that fails is taken back.
    host.kuke(&["get", "cell", "c"]).code(3);
    host.assert_left(&before);
    // Put right, it starts.
    host.apply(&sleeper("c")).ok();
    host.await_state("c", "Ready");
    host.finish();
    Ok(())
}

fn missing_controller(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let offered =
        fs::read_to_string(crate::world::cgroup_mount().join("cgroup.controllers")).unwrap();
    let limits = [
        ("memory", "memoryLimitBytes: 67108864"),
        ("cpu", "cpuShares: 512"),
        ("pids", "pidsLimit: 64"),
    ];
    let mut missing = 0;
    for (controller, limit) in limits {
        let manifest = sleeper("c").replace(
            "id: main",
            &format!("id: main\n      resources: {{{limit}}}"),
        );
        if offered.split_whitespace().any(|c| c == controller) {
            host.apply(&manifest).ok();
            host.kuke(&["delete", "cell", "c"]).ok();
        } else {
            missing += 1;
            refuse(&host, &manifest, 4, &[controller, "cell \"c\""]);
        }
    }
    host.finish();
    if missing == 0 {
        return Err(Skip("this host offers every controller".to_owned()));
    }
    Ok(())
}

fn address_pool_exhausted(mode: Mode) -> Verdict {
    let mut host = Host::bare(mode, Engine::Shared);
    host.configure("10.200.0.0/24", "2s"); // room for one space
    if mode == Mode::Daemon {
        host.start_daemon();
    }
    host.kuke(&["init"]).ok();
    host.load_busybox();
    refuse(
        &host,
        "apiVersion: v1beta1\nkind: Space\nmetadata: {name: second}\nspec: {realmId: default}\n",
        1,
        &["10.200.0.0/24", "second"],
    );
    // A network of the user's own with two addresses for cells.
    let conflist = host.file(
        "small.conflist",
        r#"{"cniVersion": "1.0.0", "name": "small", "plugins": [{"type": "bridge", "bridge": "small0", "isGateway": true,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.77.0.0/29", "rangeStart": "10.77.0.2", "rangeEnd": "10.77.0.3"}]], "dataDir": "LEASES"}}]}"#
            .replace("LEASES", &host.dir.join("leases").display().to_string()),
    );
    let space = format!(
        "apiVersion: v1beta1\nkind: Space\nmetadata: {{name: small}}\nspec: {{realmId: default, cniConfigPath: {conflist}}}\n---\n"
    );
    let stack = "apiVersion: v1beta1\nkind: Stack\nmetadata: {name: default}\nspec: {realmId: default, spaceId: small}\n";
    host.apply(&format!("{space}{stack}")).ok();
    let cell = |n: u32| sleeper(&format!("c{n}")).replace("spaceId: default", "spaceId: small");
    host.apply(&cell(1)).ok();
    host.apply(&cell(2)).ok();
    let tasks = host.census().count("task");
    let done = host.apply(&cell(3));
    assert_ne!(done.code, 0, "{}", done.show());
    done.says(&["c3", "10.77.0"]);
    assert_eq!(host.census().count("task"), tasks);
    host.kuke(&["delete", "cell", "c3", "--space", "small"]);
    // An address that is given back is used again.
    host.kuke(&["delete", "cell", "c1", "--space", "small"])
        .ok();
    host.apply(&cell(4)).ok();
    host.kuke(&["delete", "space", "small", "--cascade"]).ok();
    // The user's own bridge is the user's own.
    host.inside("ip", &["link", "del", "small0"]).ok();
    host.finish();
    Ok(())
}

/// Cells have addresses of their own: the same port twice is no conflict, and
/// in one cell it is the second container's own failure.
fn port_in_use_is_the_cells_own(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let hello = include_str!("../../manifests/hello-world.yaml");
    host.apply(hello).ok();
    host.apply(&hello.replace("name: hello", "name: hello-too"))
        .ok();
    host.await_state("hello", "Ready");
    host.await_state("hello-too", "Ready");
    for name in ["hello", "hello-too"] {
        let url = format!("http://{}:8080/", host.address(name));
        eventually(5.0, "it answers", || host.fetch(&url).code == 0);
    }
    let both = cell(
        "clash",
        "    - id: one\n      image: kukeon.internal/hello:latest\n    - id: two\n      image: kukeon.internal/hello:latest\n",
    );
    host.apply(&both).code(1).says(&["clash", "8080"]);
    host.kuke(&["get", "cell", "clash"]).code(3);
    host.finish();
    Ok(())
}

/// One comes after the other, whichever it is: what is stored is what runs.
fn two_applies_at_once(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let text = |colour: &str| {
        shell(
            "c",
            "exec sleep 1000",
            &[&format!("env: [COLOUR={colour}]")],
        )
    };
    let files = ["red", "blue"].map(|c| host.file(&format!("{c}.yaml"), text(c)));
    for _ in 0..4 {
        let running = files.each_ref().map(|f| host.start(&["apply", "-f", f]));
        for running in running {
            running.wait(LIMIT).ok().says(&["Cell \"c\""]);
        }
        host.await_state("c", "Ready");
        let census = host.census();
        assert_eq!((census.count("container"), census.count("task")), (1, 1));
        let cell = host.get("cell", "c");
        let stored = cell["spec"]["containers"][0]["env"][0].clone();
        let pid = cell["status"]["containers"][0]["pid"].to_string();
        let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
        assert!(environment.contains(stored.as_str().unwrap()), "{stored}");
        host.kuke(&["delete", "cell", "c"]).ok();
    }
    host.finish();
    Ok(())
}

fn wrong_usage(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    for arguments in [
        &["aply"][..],
        &["apply"],
        &["apply", "-f", "a", "-f"],
        &["get", "cell", "Bad_Name"],
        &["delete", "cell"],
        &["stop", "c", "--no-such-flag"],
        &["log", "c", "--tail", "many"],
        &["exec"],
        &["run"],
        &["image", "load"],
        &["get", "cells", "-l", "=="],
    ] {
        let done = untouched(&host, || host.kuke(arguments));
        assert_eq!(done.code, 2, "{}", done.show());
        assert!(
            done.out.is_empty() && !done.err.is_empty(),
            "{}",
            done.show()
        );
    }
    host.kuke(&["aply"]).says(&["apply"]);
    // What docker's users type first.
    for image in ["kukeon.internal/hello", "busybox"] {
        host.kuke(&["run", "-d", image])
            .says(&[&format!("kuke run --image {image}")]);
    }
    host.kuke(&["--help"])
        .ok()
        .says(&["apply", "exec", "uninstall"]);
    for verb in [
        "apply",
        "get",
        "delete",
        "start",
        "stop",
        "kill",
        "restart",
        "run",
        "exec",
        "log",
        "image",
        "status",
        "version",
        "daemon",
        "init",
        "uninstall",
    ] {
        host.kuke(&[verb, "--help"]).ok().says(&["Usage"]);
    }
    host.finish();
    Ok(())
}

/// Gives the run path a file system of its own, small enough to fill.
fn small_disk(mode: Mode) -> Host {
    let mut host = Host::bare(mode, Engine::Shared);
    fs::create_dir(&host.run_path).unwrap();
    system(
        "mount",
        &[
            "-t",
            "tmpfs",
            "-o",
            "size=4m,mode=755",
            "tmpfs",
            &host.run_path.display().to_string(),
        ],
    )
    .ok();
    if mode == Mode::Daemon {
        host.start_daemon();
    }
    host.kuke(&["init"]).ok();
    host.load_busybox();
    host
}

fn end_small_disk(mut host: Host) {
    host.kuke(&["uninstall", "--yes"]);
    host.stop_daemon();
    system("umount", &["-R", &host.run_path.display().to_string()]);
    fs::remove_dir_all(&host.run_path).ok();
    host.finish();
}

fn full_disk(mode: Mode) -> Verdict {
    let host = small_disk(mode);
    host.apply(&shell("old", "exec sleep 1000", &[])).ok();
    host.await_state("old", "Ready");
    let filler = host.run_path.join("filler");
    system(
        "dd",
        &["if=/dev/zero", &format!("of={}", filler.display()), "bs=4k"],
    );
    let file = host.file("bad.yaml", shell("new", "exec sleep 1000", &[]));
    untouched(&host, || host.kuke(&["apply", "-f", &file]))
        .code(1)
        .says(&["no space is left"]);
    host.kuke(&["get", "cell", "old"]).ok().says(&["Ready"]);
    fs::remove_file(filler).unwrap();
    host.kuke(&["apply", "-f", &file]).ok();
    host.await_state("new", "Ready");
    end_small_disk(host);
    Ok(())
}

/// Nothing may have a file open for writing while it is made read-only: no cell
/// runs, and the daemon is started afterwards.
fn read_only_disk(mode: Mode) -> Verdict {
    let mut host = small_disk(mode);
    host.stop_daemon();
    let path = host.run_path.display().to_string();
    system("mount", &["-o", "remount,ro", &path]).ok();
    let file = host.file("bad.yaml", sleeper("new"));
    if mode == Mode::Daemon {
        host.kuke(&["daemon", "start"]).code(1).says(&["ead-only"]);
    } else {
        untouched(&host, || host.kuke(&["apply", "-f", &file]))
            .code(1)
            .says(&["ead-only"]);
        host.kuke(&["get", "realms"]).ok().says(&["default"]);
    }
    system("mount", &["-o", "remount,rw", &path]).ok();
    if mode == Mode::Daemon {
        host.start_daemon();
    }
    host.kuke(&["apply", "-f", &file]).ok();
    host.await_state("new", "Ready");
    end_small_disk(host);
    Ok(())
}

/// A call that takes longer than the user allows ends with 7, and what it made
/// is taken back.
fn request_timeout() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let script = "trap '' TERM; echo up; while :; do sleep 0.1; done";
    host.apply(&shell("deaf", script, &["stopGraceSeconds: 30"]))
        .ok();
    host.await_log("deaf", "up");
    let stop = ["stop", "deaf", "--request-timeout", "1s"];
    host.kuke(&stop).code(7).says(&["within 1 s"]);
    host.kuke(&["kill", "deaf"]).ok();
    let before = host.census();
    let file = host.file("bad.yaml", sleeper("new"));
    let apply = ["apply", "-f", &file, "--request-timeout", "150ms"];
    host.kuke(&apply).code(7);
    eventually(10.0, "it is taken back", || {
        host.kuke(&["get", "cell", "new"]).code == 3 && before.difference(&host.census()).is_empty()
    });
    host.finish();
    Ok(())
}

fn daemon_down() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    host.stop_daemon();
    let file = host.file("cell.yaml", sleeper("c"));
    for arguments in [
        &["apply", "-f", &file][..],
        &["get", "cells"],
        &["start", "c"],
        &["delete", "cell", "c"],
        &["log", "c"],
        &["image", "list"],
    ] {
        untouched(&host, || host.kuke(arguments))
            .code(5)
            .says(&["kukeond.sock", "kuke daemon start"]);
    }
    // A daemon that hangs is not waited for without end.
    host.start_daemon();
    let pid = nix::unistd::Pid::from_raw(host.daemon_pid() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let done = host.start(&["get", "cells"]).wait(LIMIT);
    let limited = host
        .start(&["get", "cells", "--request-timeout", "1s"])
        .wait(LIMIT);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
    assert!([5, 7].contains(&done.code), "{}", done.show());
    assert!(limited.took < done.took, "{}", limited.show());
    limited.code(7).says(&["within 1 s", "--request-timeout"]);
    host.finish();
    Ok(())
}

fn containerd_down() -> Verdict {
    let host = Host::bare(Mode::InProcess, Engine::Managed);
    let found = system("sh", &["-c", "command -v containerd"]).ok().out;
    let nothing = host.file("nothing", "");
    // In a mount namespace of its own the program is an empty file.
    let script = format!(
        "mount --bind {nothing} {} && exec {} init",
        found.trim(),
        crate::world::world().kuke.display()
    );
    let mut command = host.command(Mode::InProcess, &[]);
    let environment: Vec<_> = command
        .get_envs()
        .map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned)))
        .collect();
    command = std::process::Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]);
    for (name, value) in environment {
        command.env(name, value.unwrap_or_default());
    }
    let line = "kuke init without containerd".to_owned();
    let done = crate::command::Running::start(command, line, None).wait(LIMIT);
    assert_eq!(done.code, 5, "{}", done.show());
    done.says(&["no-containerd.sock"]);
    host.finish();
    Ok(())
}

/// containerd is killed under a running daemon; cells live on in their shims.
fn containerd_dies_and_comes_back() -> Verdict {
    let mut host = Host::bare(Mode::Daemon, Engine::Private);
    host.start_daemon();
    host.kuke(&["init"]).ok();
    host.load_busybox();
    host.apply(&shell(
        "c",
        "while :; do date; sleep 0.2; done",
        &["restartPolicy: always"],
    ))
    .ok();
    host.await_state("c", "Ready");
    let pid = host.container("c", "main")["pid"].clone();
    let mut following = host.start(&["log", "-f", "c"]);
    eventually(5.0, "it follows", || !following.out().is_empty());
    let dir = host.dir.join("containerd");
    host.engine.as_mut().unwrap().kill();
    fs::remove_file(dir.join("containerd.sock")).ok();
    let done = host.kuke(&["restart", "c"]);
    assert_eq!(done.code, 5, "{}", done.show());
    done.says(&["containerd"]);
    // What is new is refused, and not kept.
    let file = host.file("new.yaml", sleeper("new"));
    host.kuke(&["apply", "-f", &file])
        .code(5)
        .says(&["containerd"]);
    let document = host.run_path.join("default/default/default/new/cell.yaml");
    assert!(!document.exists(), "nothing is stored");
    // What was last seen is told as such, in both modes.
    for mode in [Mode::Daemon, Mode::InProcess] {
        let shown = host.kuke_in(mode, &["get", "cell", "c", "-o", "json"]).ok();
        let status = &shown.json()["status"];
        assert_eq!(status["state"], "Unknown", "{status}");
        assert_eq!(status["reason"], "ContainerdUnavailable");
        let message = status["message"].as_str().unwrap_or_default();
        assert!(message.contains("last seen"), "{message}");
    }
    std::thread::sleep(Duration::from_secs(4));
    let said = host
        .daemon_log()
        .matches("no events from containerd")
        .count();
    assert_eq!(said, 1, "it is told once");
    host.engine = Some(crate::world::Containerd::start(&dir));
    eventually(30.0, "the daemon finds it again", || {
        host.state("c") == "Ready"
    });
    assert_eq!(host.container("c", "main")["pid"], pid);
    let so_far = following.out().len();
    eventually(10.0, "who follows reads on", || {
        assert!(following.alive(), "the container has not ended");
        following.out().len() > so_far
    });
    following.signal(nix::sys::signal::Signal::SIGINT);
    following.wait(LIMIT);
    eventually(10.0, "verbs work again", || {
        host.kuke(&["restart", "c"]).code == 0
    });
    host.await_state("c", "Ready");
    host.finish();
    Ok(())
}
