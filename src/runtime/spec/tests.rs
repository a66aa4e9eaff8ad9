//! Tests of the assembled document.

use oci_spec::runtime::{Capabilities, Capability, LinuxSeccompAction};
use serde_json::{Value, json};

use super::devices::Device;
use super::*;
use crate::model::{CellRef, ContainerSpec};
use crate::runtime::SandboxNamespaces;

/// A plain request: container `web` of cell `main/lab/default/hello`.
pub(super) fn request() -> ContainerRequest {
    ContainerRequest {
        namespace: "main.kukeon.io".into(),
        id: "lab_default_hello_web".into(),
        cell: CellRef {
            realm: "main".parse().unwrap(),
            space: "lab".parse().unwrap(),
            stack: "default".parse().unwrap(),
            cell: "hello".parse().unwrap(),
        },
        labels: Default::default(),
        spec: ContainerSpec::new("web".parse().unwrap(), "bb"),
        image: "docker.io/library/bb:latest".into(),
        sandbox: SandboxNamespaces {
            net: Some("/pins/net".into()),
            ipc: Some("/pins/ipc".into()),
            uts: Some("/pins/uts".into()),
        },
        cgroup_path: "/kukeon/main/lab/default/hello/web".into(),
        files: Vec::new(),
        secrets: Vec::new(),
    }
}

fn host() -> Host {
    Host {
        capabilities: [
            Capability::Chown,
            Capability::SysAdmin,
            Capability::NetAdmin,
            Capability::Kill,
        ]
        .into(),
        devices: Vec::new(),
        recursive_ro: true,
        set_oom_score: true,
        profile: None,
    }
}

fn document(request: &ContainerRequest, host: &Host) -> Value {
    let mut request = request.clone();
    request.spec.command.get_or_insert("/bin/true".into());
    let user = Wanted::parse("")
        .unwrap()
        .without_lookup()
        .unwrap()
        .unwrap();
    let spec = assemble(&request, &ImageConfiguration::default(), host, user).unwrap();
    serde_json::to_value(spec).unwrap()
}

#[test]
fn a_plain_container_is_closed_by_default() {
    let d = document(&request(), &host());
    assert_eq!(d["ociVersion"], "1.0.2");
    assert_eq!(d["root"], json!({"path": "rootfs", "readonly": false}));
    assert_eq!(d["process"]["noNewPrivileges"], true);
    assert_eq!(d["process"]["oomScoreAdj"], 0);
    assert_eq!(d["process"]["capabilities"]["inheritable"], json!([]));
    assert_eq!(d["process"]["capabilities"]["ambient"], json!([]));
    assert_eq!(
        d["linux"]["cgroupsPath"],
        "/kukeon/main/lab/default/hello/web"
    );
    assert_eq!(d["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
    assert!(
        d["linux"]["maskedPaths"]
            .as_array()
            .unwrap()
            .contains(&json!("/proc/kcore"))
    );
    assert!(
        d["linux"]["readonlyPaths"]
            .as_array()
            .unwrap()
            .contains(&json!("/proc/sys"))
    );
}

#[test]
fn nothing_is_said_about_limits_or_the_host_name() {
    let d = document(&request(), &host());
    assert_eq!(d.get("hostname"), None);
    assert_eq!(d["process"].get("rlimits"), None);
    let resources = d["linux"]["resources"].as_object().unwrap();
    assert_eq!(resources.keys().collect::<Vec<_>>(), ["devices"]);
}

#[test]
fn namespaces_are_new_joined_or_the_hosts() {
    let kinds = |d: &Value| -> Vec<(String, Value)> {
        let list = d["linux"]["namespaces"].as_array().unwrap().clone();
        list.into_iter()
            .map(|n| (n["type"].as_str().unwrap().to_owned(), n["path"].clone()))
            .collect()
    };
    let d = document(&request(), &host());
    assert_eq!(
        kinds(&d),
        [
            ("mount".into(), Value::Null),
            ("pid".into(), Value::Null),
            ("cgroup".into(), Value::Null),
            ("network".into(), json!("/pins/net")),
            ("ipc".into(), json!("/pins/ipc")),
            ("uts".into(), json!("/pins/uts")),
        ]
    );
    assert!(d["linux"]["sysctl"]["net.ipv4.ip_unprivileged_port_start"] == "0");

    let mut request = request();
    request.sandbox = SandboxNamespaces::default();
    request.spec.host_pid = true;
    request.spec.host_cgroup = true;
    let d = document(&request, &host());
    assert_eq!(kinds(&d), [("mount".into(), Value::Null)]);
    // The host's network is not ours to tune.
    assert_eq!(d["linux"]["sysctl"], json!({}));
}

#[test]
fn privilege_lifts_every_fence() {
    let mut request = request();
    request.spec.privileged = true;
    let mut host = host();
    host.devices = vec![Device::at("/dev/zero").unwrap()];
    let d = document(&request, &host);
    assert_eq!(d["process"]["noNewPrivileges"], false);
    let bounding: Capabilities =
        serde_json::from_value(d["process"]["capabilities"]["bounding"].clone()).unwrap();
    assert_eq!(bounding, host.capabilities);
    for absent in ["seccomp", "maskedPaths", "readonlyPaths"] {
        assert_eq!(d["linux"].get(absent), None, "{absent}");
    }
    assert_eq!(
        d["linux"]["resources"]["devices"],
        json!([{"allow": true, "access": "rwm"}])
    );
    assert_eq!(d["linux"]["devices"][0]["path"], "/dev/zero");
}

#[test]
fn security_options_win_over_privilege_and_default() {
    let mut request = request();
    request.spec.security.no_new_privileges = Some(false);
    request.spec.security.seccomp = Seccomp::Unconfined;
    let d = document(&request, &host());
    assert_eq!(d["process"]["noNewPrivileges"], false);
    assert_eq!(d["linux"].get("seccomp"), None);

    request.spec.privileged = true;
    request.spec.security.no_new_privileges = Some(true);
    request.spec.security.seccomp = Seccomp::Profile("/p".into());
    let mut host = host();
    let mut profile = seccomp::default_profile(&Capabilities::new(), false).unwrap();
    profile.set_default_action(LinuxSeccompAction::ScmpActLog);
    host.profile = Some(profile);
    let d = document(&request, &host);
    assert_eq!(d["process"]["noNewPrivileges"], true);
    assert_eq!(d["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_LOG");
}

#[test]
fn a_read_only_root_and_a_host_that_keeps_its_score_are_respected() {
    let mut request = request();
    request.spec.read_only_root = true;
    let mut host = host();
    host.set_oom_score = false;
    let d = document(&request, &host);
    assert_eq!(d["root"]["readonly"], true);
    assert_eq!(d["process"].get("oomScoreAdj"), None);
}

fn exec_request(command: &[&str]) -> ExecRequest {
    ExecRequest {
        namespace: "main.kukeon.io".into(),
        id: "lab_default_hello_web".into(),
        command: command.iter().map(|c| (*c).into()).collect(),
        tty: None,
        stdin: false,
        env: Vec::new(),
        working_dir: None,
        user: None,
    }
}

#[test]
fn an_exec_is_the_containers_process_with_changes() {
    let container: Spec = serde_json::from_value(document(&request(), &host())).unwrap();
    let mut request = exec_request(&["sh", "-c", "id"]);
    let plain = exec(&container, &request, None).unwrap();
    assert_eq!(plain.args().as_deref().unwrap(), ["sh", "-c", "id"]);
    assert_eq!(
        plain.capabilities(),
        container.process().as_ref().unwrap().capabilities()
    );
    assert_eq!(plain.terminal(), Some(false));

    request.tty = Some((24, 80));
    request.env = vec!["KUKEON_REALM=other".into()];
    request.working_dir = Some("/tmp".into());
    let user = Wanted::parse("5:6")
        .unwrap()
        .without_lookup()
        .unwrap()
        .unwrap();
    let process = exec(&container, &request, Some(user)).unwrap();
    let size = process.console_size().unwrap();
    assert_eq!((size.height(), size.width()), (24, 80));
    let env = process.env().clone().unwrap();
    assert!(env.contains(&"TERM=xterm".into()) && env.contains(&"KUKEON_REALM=other".into()));
    assert_eq!(
        env.iter()
            .filter(|e| e.starts_with("KUKEON_REALM="))
            .count(),
        1
    );
    assert_eq!((process.user().uid(), process.user().gid()), (5, 6));
    assert_eq!(process.cwd(), std::path::Path::new("/tmp"));
}

#[test]
fn a_bad_exec_is_refused() {
    let container: Spec = serde_json::from_value(document(&request(), &host())).unwrap();
    assert!(exec(&container, &exec_request(&[]), None).is_err());
    assert!(exec(&container, &exec_request(&[""]), None).is_err());
    let mut request = exec_request(&["true"]);
    request.working_dir = Some("here".into());
    assert!(exec(&container, &request, None).is_err());
}

/// The accounts of this very process, through the same path an exec takes.
#[test]
fn accounts_of_a_process_are_read_through_its_root() {
    let accounts = accounts::of_process(std::process::id()).unwrap();
    assert_eq!(
        accounts.passwd,
        std::fs::read_to_string("/etc/passwd").unwrap()
    );
}
