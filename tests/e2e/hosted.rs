//! The registry that kukeond hosts.

use std::fs;
use std::io::Write;

use crate::command::{eventually, system};
use crate::host::{Host, Mode};
use crate::image::{Layout, architecture, busybox_config, busybox_layer};
use crate::runner::{Case, Skip, Verdict};
use crate::world::world;
use crate::{cases, cases_in_both_modes};

pub const CASES: &[&[Case]] = &[
    cases![
        what_is_pushed_runs,
        containerd_pushes_and_pulls,
        another_daemon_has_the_port
    ],
    cases_in_both_modes![repositories_go_out_and_in],
];

const ADDRESS: &str = "127.0.0.1:5050";

/// A host whose daemon serves a registry.
fn serving() -> Host {
    let mut host = Host::bare(Mode::Daemon, crate::host::Engine::Shared);
    with_registry(&host);
    host.start_daemon();
    host.kuke(&["init"]).ok();
    host
}

fn with_registry(host: &Host) {
    let mut file = fs::File::options()
        .append(true)
        .open(host.dir.join("kukeond.yaml"))
        .unwrap();
    writeln!(
        file,
        "  registry:\n    listen: {ADDRESS}\n    minFreeBytes: 0"
    )
    .unwrap();
}

fn await_registry(host: &Host) {
    let url = format!("http://{ADDRESS}/v2/");
    eventually(20.0, "the registry answers", || {
        host.inside("curl", &["-s", "-o", "/dev/null", &url]).code == 0
    });
}

fn what_is_pushed_runs() -> Verdict {
    if system("sh", &["-c", "command -v skopeo"]).code != 0 {
        return Err(Skip("skopeo is not installed".into()));
    }
    let host = serving();
    await_registry(&host);
    let layer = busybox_layer(&host.dir);
    let place = host.dir.join("layout");
    let layout = Layout::new(&place, "box:1", architecture(), &layer, busybox_config());
    let from = format!("oci:{}", layout.dir().display());
    let to = format!("docker://{ADDRESS}/team/box:1");
    let push = [
        "--insecure-policy",
        "copy",
        "--dest-tls-verify=false",
        &from,
        &to,
    ];
    // Nobody pushes without a login.
    assert_ne!(host.inside("skopeo", &push).code, 0);
    host.kuke(&["registry", "login", "--username", "me"])
        .ok()
        .says(&[
            "logged in to 127.0.0.1:5050 as \"me\"",
            ".docker/config.json",
        ]);
    host.inside("skopeo", &push).ok();
    host.kuke(&["registry", "ls"]).ok().says(&["team/box"]);
    host.kuke(&["registry", "tags", "team/box"])
        .ok()
        .says(&["1", "sha256:"]);
    // The manifest names no login: the daemon has its own.
    let image = format!("{ADDRESS}/team/box:1");
    let run = [
        "run",
        "-d",
        "--name",
        "pushed",
        "--image",
        &image,
        "--",
        "/bin/sleep",
        "1000",
    ];
    host.kuke(&run).ok();
    host.await_state("pushed", "Ready");
    host.kuke(&["image", "tags", &image]).ok().says(&["1"]);
    let other = format!("{ADDRESS}/other/box:3");
    host.kuke(&["image", "push", &image, &other])
        .ok()
        .says(&["pushed image", &other]);
    let tags = host.kuke(&["registry", "tags", "other/box", "-o", "json"]);
    assert_eq!(tags.ok().json()[0]["name"], "3");
    let forbidden = format!("{ADDRESS}/preparations/default/web:active");
    host.kuke(&["image", "push", &image, &forbidden])
        .code(6)
        .says(&["preparations/"]);
    host.kuke(&["image", "push", "no/such", &other])
        .code(3)
        .says(&["no/such"]);
    // Over the socket root needs no login.
    let socket = host
        .run_path
        .join("run/registry.sock")
        .display()
        .to_string();
    host.inside(
        "curl",
        &["-sf", "--unix-socket", &socket, "http://x/v2/_catalog"],
    )
    .ok()
    .says(&["team/box"]);
    host.kuke(&["registry", "login", "--username", "me", "--remove"])
        .ok()
        .says(&["removed"]);
    let again = format!("docker://{ADDRESS}/team/box:2");
    let push = [
        "--insecure-policy",
        "copy",
        "--dest-tls-verify=false",
        &from,
        &again,
    ];
    assert_ne!(host.inside("skopeo", &push).code, 0);
    host.finish();
    Ok(())
}

/// The port is taken: the daemon serves everything else, and the registry as
/// soon as it can.
fn another_daemon_has_the_port() -> Verdict {
    let mut host = Host::bare(Mode::Daemon, crate::host::Engine::Shared);
    with_registry(&host);
    let busy = host.dir.join("busy").display().to_string();
    let script = format!("busybox nc -ll -p 5050 -e cat & echo $! > {busy}; wait");
    let listener = host.start_inside("sh", &["-c", &script]);
    eventually(10.0, "somebody else listens", || {
        host.inside("sh", &["-c", "ss -ltn | grep -q :5050"]).code == 0
    });
    host.start_daemon();
    host.kuke(&["init"]).ok();
    eventually(10.0, "the daemon says so", || {
        host.daemon_log().contains("the registry is not served")
    });
    host.kuke(&["registry", "ls"])
        .ok()
        .says(&["No repositories found."]);
    let pid = fs::read_to_string(&busy).unwrap();
    system("kill", &[pid.trim()]).ok();
    listener.wait(crate::host::LIMIT);
    eventually(40.0, "the registry is served", || {
        host.daemon_log().contains("serving the registry")
    });
    host.finish();
    Ok(())
}

fn repositories_go_out_and_in(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let archive = world().busybox.display().to_string();
    host.kuke(&["registry", "ls"])
        .ok()
        .says(&["No repositories found."]);
    host.kuke(&["registry", "tags", "nothing"])
        .code(3)
        .says(&["nothing"]);
    host.kuke(&["registry", "import", "team/box:v1", &archive])
        .ok()
        .says(&["imported 1 manifest(s)", "v1 sha256:"]);
    let listed = host.kuke(&["registry", "ls", "-o", "json"]).ok().json();
    assert_eq!(listed["repositories"][0]["name"], "team/box");
    let digest = listed["repositories"][0]["tags"][0]["digest"].clone();
    let out = host.dir.join("out.tar").display().to_string();
    host.kuke(&["registry", "export", "team/box:v1", "-o", &out])
        .ok();
    host.kuke_with(
        &["registry", "import", "copy/box:v2", "-"],
        fs::read(&out).unwrap(),
    )
    .ok();
    host.kuke(&["registry", "tags", "copy/box"])
        .ok()
        .says(&["v2", digest.as_str().unwrap()]);
    // What is exported is what `image load` reads.
    host.kuke(&["image", "load", &out]).ok();
    host.kuke(&["registry", "verify"]).ok().says(&["read "]);
    host.kuke(&["registry", "gc", "--dry-run"])
        .ok()
        .says(&["would remove 0 blob(s)"]);
    host.kuke(&["registry", "login", "--username", "ci", "--print"])
        .ok()
        .says(&["username: ci", "password: "]);
    host.kuke(&[
        "registry",
        "login",
        "--username",
        "ci",
        "--allow",
        "x=write",
    ])
    .code(2)
    .says(&["\"write\" is no action"]);
    host.kuke(&["registry", "import", "team/box", "/no/such.tar"])
        .code(3);
    host.kuke_with(&["registry", "import", "team/box", "-"], "no archive")
        .code(2)
        .says(&["OCI image layout"]);
    let hex = digest.as_str().unwrap().trim_start_matches("sha256:");
    let file = host
        .run_path
        .join(format!("registry/blobs/sha256/{}/{hex}", &hex[..2]));
    fs::write(file, "damaged").unwrap();
    host.kuke(&["registry", "verify"])
        .code(1)
        .says(&[hex, "damaged"]);
    host.apply("apiVersion: v1beta1\nkind: Realm\nmetadata: {name: registry}\n")
        .code(1)
        .says(&["reserved"]);
    host.finish();
    Ok(())
}

/// containerd's own client, in the host's network; what it pulled runs.
fn containerd_pushes_and_pulls() -> Verdict {
    let host = serving();
    await_registry(&host);
    host.load_busybox();
    let store = host.dir.join("login.json").display().to_string();
    let login = [
        "registry",
        "login",
        "--username",
        "ctr",
        "--allow",
        "team/*=*",
        "--store",
        &store,
    ];
    host.kuke(&login).ok();
    let login: serde_json::Value = serde_json::from_slice(&fs::read(&store).unwrap()).unwrap();
    let auth = login["auths"][ADDRESS]["auth"].as_str().expect("a login");
    let decode = format!("printf %s {auth} | base64 -d");
    let login = host.inside("sh", &["-c", &decode]).ok().out;

    let socket = host.containerd_socket().expect("a containerd runs");
    let socket = socket.display().to_string();
    let namespace = host.namespace("default");
    let ctr = |verb: &str, user: &str, names: &[&str]| {
        let images = ["-a", &socket, "-n", &namespace, "images", verb];
        let with = ["--plain-http", "--user", user];
        host.inside("ctr", &[&images[..], &with, names].concat())
    };
    let (busybox, image) = (
        "docker.io/library/busybox:latest",
        format!("{ADDRESS}/team/box:ctr"),
    );
    assert_ne!(ctr("push", "ctr:wrong", &[&image, busybox]).code, 0);
    ctr("push", &login, &[&image, busybox]).ok();
    host.kuke(&["registry", "tags", "team/box"])
        .ok()
        .says(&["ctr", "sha256:"]);
    assert_ne!(ctr("pull", "ctr:wrong", &[&image]).code, 0);
    ctr("pull", &login, &[&image]).ok();
    let run = ["run", "-d", "--name", "pulled", "--image", &image];
    host.kuke(&[&run[..], &["--", "/bin/sleep", "1000"]].concat())
        .ok();
    host.await_state("pulled", "Ready");
    host.finish();
    Ok(())
}
