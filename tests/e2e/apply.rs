//! `kuke apply`, `get` and what they claim of the host.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::command::eventually;
use crate::host::{Engine, Host, LIMIT, Mode};
use crate::manifest::{Gate, cell, container, shell, sleeper};
use crate::runner::{Case, Verdict};
use crate::{cases, cases_in_both_modes};

pub const CASES: &[&[Case]] = &[
    cases_in_both_modes![
        hello_world_twice,
        claims_match_the_host,
        hierarchy_in_one_file,
        update_replaces_the_container,
        failed_change_is_undone,
        many_cells_in_one_file,
        label_alone_replaces_nothing,
        dry_run_changes_nothing,
        eight_at_once,
        json_manifest,
        directory_of_manifests,
        output_formats,
    ],
    cases![examples_are_valid, default_containerd_is_brought_up],
];

fn example(name: &str) -> String {
    format!("{}/manifests/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn hello_world_twice(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let file = example("hello-world.yaml");
    host.kuke(&["apply", "-f", &file])
        .ok()
        .says(&["Cell \"hello\": created"]);
    host.await_state("hello", "Ready");
    let first = host.get("cell", "hello");
    let census = host.census();
    host.kuke(&["apply", "-f", &file])
        .ok()
        .says(&["Cell \"hello\": unchanged"]);
    let planned = host
        .kuke(&["apply", "--dry-run", "-f", &file, "-o", "json"])
        .ok()
        .json();
    let resource = &planned["resources"][0];
    assert_eq!(resource["action"], "unchanged", "{planned:#}");
    assert!(
        resource["steps"].as_array().is_none_or(Vec::is_empty),
        "a plan for nothing: {planned:#}"
    );
    assert_eq!(census.difference(&host.census()), "");
    let second = host.get("cell", "hello");
    assert_eq!(first["metadata"], second["metadata"]);
    assert_eq!(
        first["status"]["containers"][0]["pid"],
        second["status"]["containers"][0]["pid"]
    );
    let answer = host
        .fetch(&format!("http://{}:8080/", host.address("hello")))
        .ok();
    assert!(answer.out.contains("hello"), "{answer:?}");
    host.finish();
    Ok(())
}

fn claims_match_the_host(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.kuke(&["apply", "-f", &example("hello-world.yaml")])
        .ok();
    host.await_state("hello", "Ready");
    let cell = host.get("cell", "hello");
    let status = &cell["status"];
    let container = &status["containers"][0];

    let id = container["containerdId"].as_str().unwrap();
    let pid = container["pid"].as_u64().unwrap();
    let tasks = host.ctr("default", &["tasks", "ls"]).ok();
    let row = tasks
        .out
        .lines()
        .find(|l| l.starts_with(id))
        .unwrap_or_else(|| panic!("{id} in\n{}", tasks.out));
    let fields: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(fields[1..], [pid.to_string().as_str(), "RUNNING"]);

    let pin = status["network"]["netns"].as_str().unwrap();
    let inode = |path: &str| fs::metadata(path).unwrap().ino();
    assert_eq!(
        inode(pin),
        inode(&format!("/proc/{pid}/ns/net")),
        "the task is in the pinned namespace"
    );
    assert_ne!(inode(pin), inode("/proc/self/ns/net"));

    let address = status["network"]["addresses"][0].as_str().unwrap();
    let interface = status["network"]["interface"].as_str().unwrap();
    let shown = crate::command::system(
        "nsenter",
        &[
            &format!("--net={pin}"),
            "ip",
            "-o",
            "addr",
            "show",
            interface,
        ],
    )
    .ok();
    assert!(shown.out.contains(address), "{address} in\n{}", shown.out);

    let space = host.get("space", "default");
    let network = &space["status"]["network"];
    let bridge = network["bridge"].as_str().unwrap();
    let subnet: ipnet::Ipv4Net = network["subnet"].as_str().unwrap().parse().unwrap();
    assert!(
        subnet.contains(
            &address
                .split('/')
                .next()
                .unwrap()
                .parse::<std::net::Ipv4Addr>()
                .unwrap()
        )
    );
    let ports = host
        .inside("ip", &["-o", "link", "show", "master", bridge])
        .ok();
    assert_eq!(ports.out.lines().count(), 1, "{}", ports.out);
    if let Some(veth) = status["network"]["hostInterface"].as_str() {
        assert!(ports.out.contains(veth), "{veth} in\n{}", ports.out);
    }

    let cgroup = status["cgroupPath"].as_str().unwrap();
    assert_eq!(
        cgroup,
        format!("{}/default/default/default/hello", host.cgroup_root)
    );
    let processes =
        fs::read_to_string(host.cgroup("default/default/default/hello/hello/cgroup.procs"))
            .unwrap();
    assert!(
        processes.lines().any(|p| p == pid.to_string()),
        "{pid} in\n{processes}"
    );

    let yaml = host.kuke(&["get", "cell", "hello", "-o", "yaml"]).ok();
    yaml.says(&["kind: Cell", pin, address, cgroup]);
    host.finish();
    Ok(())
}

fn hierarchy_in_one_file(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let before = host.census();
    let file = example("hierarchy.yaml");
    // A realm of its own needs the built-in image in its own namespace.
    host.kuke(&["apply", "-f", &file]).ok().says(&[
        "Realm \"shop\": created",
        "Space \"blue\": created",
        "Stack \"web\": created",
        "Cell \"api\": created",
    ]);
    let scope = ["--realm", "shop", "--space", "blue", "--stack", "web"];
    let get: Vec<&str> = [&["get", "cell", "api", "-o", "json"], &scope[..]].concat();
    eventually(20.0, "api is ready", || {
        host.kuke(&get).json()["status"]["state"] == "Ready"
    });
    host.kuke(&["apply", "-f", &file])
        .ok()
        .says(&["Realm \"shop\": unchanged", "Cell \"api\": unchanged"]);
    host.kuke(&["delete", "realm", "shop"])
        .code(4)
        .says(&["shop", "--cascade"]);
    host.kuke(&["delete", "-f", &file])
        .ok()
        .says(&["Cell \"api\": deleted", "Realm \"shop\": deleted"]);
    host.kuke(&["delete", "-f", &file])
        .ok()
        .says(&["not found"]);
    assert_eq!(before.difference(&host.census()), "");
    host.finish();
    Ok(())
}

fn update_replaces_the_container(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply(&shell("job", "echo first; exec sleep 1000", &[]))
        .ok();
    host.await_state("job", "Ready");
    let old = host.container("job", "main");
    let address = host.address("job");
    host.apply(&shell("job", "echo second; exec sleep 1000", &[]))
        .ok()
        .says(&["Cell \"job\": updated", "args"]);
    host.await_state("job", "Ready");
    let new = host.container("job", "main");
    assert_ne!(old["pid"], new["pid"]);
    assert_eq!(address, host.address("job"), "the sandbox stays");
    eventually(5.0, "the new log", || {
        host.kuke(&["log", "job"]).out.contains("second")
    });
    assert_eq!(host.get("cell", "job")["metadata"]["generation"], 2);
    host.finish();
    Ok(())
}

/// A server, a finished job and a helper; whatever is wrong with a change of
/// the server, all three are afterwards as they were.
fn failed_change_is_undone(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    // `sleep` as process 1 is deaf to SIGTERM.
    const QUICK: &[&str] = &["stopGraceSeconds: 1"];
    let serve = "echo serving; exec sleep 1000";
    let manifest = |server: &str| {
        let others = [("job", "echo once"), ("helper", "exec sleep 1000")];
        let others = others
            .map(|(id, script)| container(script, QUICK).replace("id: main", &format!("id: {id}")));
        cell("trio", &format!("{server}{}", others.concat()))
    };
    host.apply(&manifest(&container(serve, QUICK))).ok();
    let said = |id: &str, word: &str| {
        let log = host.kuke(&["log", "trio", "--container", id]).ok().out;
        log.matches(word).count()
    };
    eventually(10.0, "the job is done and the server up", || {
        host.container("trio", "job")["state"] == "Exited" && said("main", "serving") == 1
    });
    let helper = host.container("trio", "helper")["pid"].clone();
    let address = host.address("trio");
    let mut generation = host.get("cell", "trio")["metadata"]["generation"].as_i64();
    let crash = container("echo broken >&2; exit 3", &[]);
    let nothing = container(serve, QUICK).replace("/bin/sh", "/bin/nothing");
    let added = format!(
        "{}{}",
        container(serve, QUICK),
        crash.replace("id: main", "id: extra")
    );
    let host_network = container("exit 3", &["hostNetwork: true"]);
    for (n, (server, code, words)) in [
        (crash, 1, &["code 3", "broken"][..]),
        (nothing, 1, &["/bin/nothing"]),
        (added, 1, &["extra", "code 3"]),
        (host_network, 1, &["code 3"]),
    ]
    .into_iter()
    .enumerate()
    {
        let done = host.apply(&manifest(&server)).code(code).says(words);
        let done = done.says(&["trio", "the earlier spec put back"]);
        let now = host.get("cell", "trio");
        assert!(now["metadata"]["generation"].as_i64() > generation);
        generation = now["metadata"]["generation"].as_i64();
        let containers = now["spec"]["containers"].as_array().unwrap();
        assert_eq!(containers.len(), 3, "{}", done.show());
        assert_eq!(containers[0]["args"][1], serve, "{now:#}");
        assert_eq!(host.container("trio", "main")["state"], "Ready");
        assert_eq!(host.container("trio", "job")["state"], "Exited");
        // The network is of all containers: with it they change, the job too.
        let runs = if n < 3 { 1 } else { 2 };
        assert_eq!(said("job", "once"), runs, "a finished job stays finished");
        if n < 3 {
            assert_eq!(host.container("trio", "helper")["pid"], helper);
            assert_eq!(host.address("trio"), address);
        }
        assert_eq!(host.census().count("task"), 2);
        // The record of an ended container goes when its spec changes.
        let records = host.census().count("container");
        assert_eq!(records, if n < 3 { 3 } else { 2 });
    }
    host.kuke(&[
        "exec",
        "trio",
        "--container",
        "main",
        "--",
        "cat",
        "/etc/hosts",
    ])
    .ok()
    .says(&[&host.address("trio")]);
    // What cannot even be fetched is not tried.
    let server = host.container("trio", "main")["pid"].clone();
    let missing = container(serve, &["imagePullPolicy: never"])
        .replace("image: busybox", "image: kukeon.internal/nope:1");
    host.apply(&manifest(&missing))
        .code(3)
        .says(&["kukeon.internal/nope:1"]);
    assert_eq!(host.container("trio", "main")["pid"], server);
    // What ends later is the cell's own state.
    let gate = Gate::new(&host, "end");
    let script = format!("{}; exit 3", Gate::WAIT);
    host.apply(&manifest(&container(&script, &[gate.volume()])))
        .ok();
    gate.open();
    eventually(10.0, "it has failed", || {
        host.container("trio", "main")["state"] == "Error"
    });
    host.finish();
    Ok(())
}

/// They are brought up side by side and told in the order of the file; one that
/// fails takes no other with it, nor the stack it shares with them.
fn many_cells_in_one_file(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let before = host.census();
    let in_stack = |text: String| text.replace("stackId: default", "stackId: fresh");
    let mut text = in_stack(shell("c0", "exit 3", &[]));
    for n in 1..9 {
        text.push_str("---\n");
        text.push_str(&in_stack(sleeper(&format!("c{n}"))));
    }
    let done = host.apply(&text).code(1).says(&["c0", "code 3"]);
    let told: Vec<&str> = done
        .out
        .lines()
        .filter(|l| l.ends_with(": created"))
        .collect();
    let mut wanted = vec!["Stack \"fresh\": created".to_owned()];
    wanted.extend((1..9).map(|n| format!("Cell \"c{n}\": created")));
    let told: Vec<&str> = told
        .iter()
        .map(|l| l.trim_start_matches([' ', '-']))
        .collect();
    assert_eq!(told, wanted, "{}", done.show());
    host.kuke(&["get", "cell", "c0", "--stack", "fresh"])
        .code(3);
    assert_eq!(host.census().count("task"), 8);
    host.kuke(&["delete", "stack", "fresh", "--cascade"]).ok();
    // A stack that was made for nothing is taken back.
    let lone = in_stack(shell("c0", "exit 3", &[]));
    host.apply(&lone).code(1);
    host.kuke(&["get", "stack", "fresh"]).code(3);
    eventually(10.0, "nothing of it is left", || {
        before.difference(&host.census()).is_empty()
    });
    host.finish();
    Ok(())
}

fn label_alone_replaces_nothing(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply(&sleeper("calm")).ok();
    host.await_state("calm", "Ready");
    let pid = host.container("calm", "main")["pid"].clone();
    let labelled = sleeper("calm").replace(
        "  name: calm\n",
        "  name: calm\n  labels:\n    team: blue\n",
    );
    host.apply(&labelled).ok().says(&["Cell \"calm\": updated"]);
    assert_eq!(host.container("calm", "main")["pid"], pid);
    assert_eq!(
        host.get("cell", "calm")["metadata"]["labels"]["team"],
        "blue"
    );
    host.kuke(&["get", "cells", "-l", "team=blue", "-o", "name"])
        .ok()
        .says(&["calm"]);
    host.kuke(&["get", "cells", "-l", "team=red", "-o", "name"])
        .ok()
        .says_nothing_of(&["cell/calm"]);
    host.finish();
    Ok(())
}

fn dry_run_changes_nothing(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let before = host.census();
    let done = host
        .kuke(&["apply", "--dry-run", "-f", &example("hello-world.yaml")])
        .ok();
    done.says(&["hello", "create sandbox", "create container hello"]);
    assert_eq!(before.difference(&host.census()), "");
    host.kuke(&["get", "cell", "hello"])
        .code(3)
        .says(&["hello", "not found"]);
    host.finish();
    Ok(())
}

fn eight_at_once(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let file = host.file("cell.yaml", sleeper("contested"));
    let running: Vec<_> = (0..8)
        .map(|_| host.start(&["apply", "-f", &file]))
        .collect();
    let done: Vec<_> = running.into_iter().map(|r| r.wait(LIMIT).ok()).collect();
    let created = done.iter().filter(|d| d.out.contains("created")).count();
    assert_eq!(created, 1, "one of them creates: {done:#?}");
    host.await_state("contested", "Ready");
    let census = host.census();
    assert_eq!(
        (census.count("container"), census.count("task")),
        (1, 1),
        "{census:#?}"
    );
    host.apply(&sleeper("contested")).ok().says(&["unchanged"]);
    // Different cells at once get different addresses.
    let files: Vec<_> = (0..6)
        .map(|n| host.file(&format!("{n}.yaml"), sleeper(&format!("cell-{n}"))))
        .collect();
    let running: Vec<_> = files
        .iter()
        .map(|f| host.start(&["apply", "-f", f]))
        .collect();
    running.into_iter().for_each(|r| drop(r.wait(LIMIT).ok()));
    let addresses: std::collections::BTreeSet<_> =
        (0..6).map(|n| host.address(&format!("cell-{n}"))).collect();
    assert_eq!(addresses.len(), 6, "{addresses:?}");
    host.finish();
    Ok(())
}

fn json_manifest(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let document = serde_json::json!({
        "apiVersion": "v1beta1", "kind": "Cell", "metadata": {"name": "json"},
        "spec": {"realmId": "default", "spaceId": "default", "stackId": "default",
                 "containers": [{"id": "main", "image": "kukeon.internal/hello"}]},
    });
    host.apply(&document.to_string())
        .ok()
        .says(&["Cell \"json\": created"]);
    // What `get` prints can be applied again and changes nothing.
    let printed = host.kuke(&["get", "cell", "json", "-o", "yaml"]).ok().out;
    host.apply(&printed)
        .ok()
        .says(&["Cell \"json\": unchanged"]);
    let printed = host.kuke(&["get", "cell", "json", "-o", "json"]).ok().out;
    host.apply(&printed)
        .ok()
        .says(&["Cell \"json\": unchanged"]);
    host.finish();
    Ok(())
}

fn directory_of_manifests(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let dir = host.dir.join("many");
    fs::create_dir(&dir).unwrap();
    // The cell's file sorts before its stack's.
    let cell = sleeper("one").replace("stackId: default", "stackId: extra");
    fs::write(dir.join("a.yaml"), cell).unwrap();
    fs::write(
        dir.join("b.yml"),
        "apiVersion: v1beta1\nkind: Stack\nmetadata: {name: extra}\nspec: {realmId: default, spaceId: default}\n",
    )
    .unwrap();
    fs::write(dir.join("notes.txt"), "not a manifest").unwrap();
    let path = dir.display().to_string();
    host.kuke(&["apply", "-f", &path])
        .ok()
        .says(&["Stack \"extra\": created", "Cell \"one\": created"]);
    host.kuke(&["delete", "-f", &path]).ok();
    host.finish();
    Ok(())
}

fn output_formats(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.kuke(&["get", "cells"]).ok().says(&["No cells found."]);
    assert_eq!(
        host.kuke(&["get", "cells", "-o", "json"]).ok().json(),
        serde_json::json!([])
    );
    host.apply(&sleeper("one")).ok();
    host.await_state("one", "Ready");
    let table = host.kuke(&["get", "cells"]).ok();
    let header: Vec<&str> = table
        .out
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(
        header[..5],
        ["NAME", "REALM", "SPACE", "STACK", "STATE"],
        "{}",
        table.out
    );
    assert!(table.out.lines().any(|l| {
        l.split_whitespace()
            .take(5)
            .eq(["one", "default", "default", "default", "Ready"])
    }));
    host.kuke(&["get", "cells", "-o", "wide"])
        .ok()
        .says(&["1/1"]);
    host.kuke(&["get", "containers", "--cell", "one"])
        .ok()
        .says(&["main", "Ready"]);
    for kind in ["realms", "spaces", "stacks"] {
        host.kuke(&["get", kind]).ok().says(&["default", "Ready"]);
    }
    host.kuke(&["get", "cells", "-o", "typo"])
        .code(2)
        .says(&["typo"]);
    host.kuke(&["get", "bogus"]).code(2).says(&["bogus"]);
    host.kuke(&["get", "cell", "nothere"])
        .code(3)
        .says(&["nothere"]);
    assert!(
        host.kuke(&["get", "cells", "-o", "name"])
            .ok()
            .out
            .lines()
            .any(|l| l.contains("one"))
    );
    host.finish();
    Ok(())
}

fn examples_are_valid() -> Verdict {
    let host = Host::new(Mode::InProcess);
    host.kuke(&["init"]).ok();
    let mut files = 0;
    for entry in fs::read_dir(example("")).unwrap().flatten() {
        files += 1;
        let file = entry.path().display().to_string();
        let done = host.kuke(&["apply", "--dry-run", "-f", &file]);
        if file.ends_with("limits.yaml") && done.code == 4 {
            done.says(&["memory"]); // a host without the controllers says so
            continue;
        }
        let text = fs::read_to_string(entry.path()).unwrap();
        let documents = text.lines().filter(|l| l.starts_with("kind:")).count();
        let done = done.ok();
        let told = done.out.lines().filter(|l| l.contains("created")).count();
        assert_eq!((documents > 0, told), (true, documents), "{}", done.show());
    }
    assert!(files >= 5, "{files} examples");
    host.finish();
    Ok(())
}

/// No containerd runs: kukeon starts one, keeps it over its own restarts, and
/// takes it along when it is uninstalled.
fn default_containerd_is_brought_up() -> Verdict {
    let mut host = Host::bare(Mode::Daemon, Engine::Managed);
    host.start_daemon();
    host.kuke(&["init"]).ok();
    host.kuke(&["apply", "-f", &example("hello-world.yaml")])
        .ok()
        .says(&["Cell \"hello\": created"]);
    host.await_state("hello", "Ready");
    let pid = host.container("hello", "hello")["pid"].clone();
    host.fetch(&format!("http://{}:8080/", host.address("hello")))
        .ok();
    host.stop_daemon();
    assert_eq!(
        host.ctr("default", &["tasks", "ls", "-q"])
            .ok()
            .out
            .lines()
            .count(),
        1
    );
    host.kuke_in(
        Mode::InProcess,
        &["apply", "-f", &example("hello-world.yaml")],
    )
    .ok()
    .says(&["unchanged"]);
    host.start_daemon();
    host.kuke(&["apply", "-f", &example("hello-world.yaml")])
        .ok()
        .says(&["unchanged"]);
    assert_eq!(host.container("hello", "hello")["pid"], pid);
    host.finish();
    Ok(())
}
