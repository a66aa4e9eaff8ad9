//! Compose files as people write them.

use std::collections::BTreeMap;

use super::*;
use crate::model::AnyObject;

const SHOP: &str = include_str!("example.yaml");

fn convert(text: &str, partial: bool) -> Result<Converted> {
    let variables: BTreeMap<String, String> = [("PW", "secret"), ("HOME", "/home/u"), ("SET", "1")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    let read = |path: &str| match path {
        "web.env" => Ok("FROM_FILE=1\nTZ=file\n".to_owned()),
        path => Err(api::Error::invalid(
            "FileUnreadable",
            format!("no file {path}"),
        )),
    };
    let project = Project {
        source: ("compose.yaml", text.as_bytes()),
        directory: "/srv/My_Shop",
        variables: &variables,
        read: &read,
    };
    from_compose(&project, &Scope::default(), partial)
}

fn cells(text: &str) -> Vec<crate::model::Cell> {
    let objects = crate::apply::read(&[("out", text.as_bytes())]).unwrap();
    let cell = |(_, object)| match object {
        AnyObject::Cell(cell) => Some(cell),
        _ => None,
    };
    objects.into_iter().filter_map(cell).collect()
}

/// The one service `a`, with these fields.
fn service(fields: &str) -> String {
    let fields: String = fields.lines().map(|l| format!("    {l}\n")).collect();
    format!("services:\n  a:\n    image: x\n{fields}")
}

fn one(fields: &str) -> crate::model::Cell {
    let converted = convert(&service(fields), false).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(converted.losses, []);
    cells(&converted.text).remove(0)
}

fn losses(text: &str) -> Vec<String> {
    let converted = convert(text, true).unwrap_or_else(|e| panic!("{e}"));
    // What is left can be applied.
    cells(&converted.text);
    converted.losses.iter().map(Loss::line).collect()
}

#[test]
fn a_project_in_full() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/convert/compose/example.kukeon.yaml"
    );
    let converted = convert(SHOP, true).unwrap_or_else(|e| panic!("{e}"));
    if std::env::var_os("KUKEON_WRITE_DOCS").is_some() {
        std::fs::write(path, &converted.text).unwrap();
    }
    assert_eq!(converted.text, std::fs::read_to_string(path).unwrap());
    let lines: Vec<String> = converted.losses.iter().map(Loss::line).collect();
    let wanted = [
        "services.web.ports[0]: ports of the host are not published",
        "services.web.depends_on: has no equivalent",
        "services.web.deploy.resources.limits.cpus: has no equivalent; use cpu_shares",
        "services.db.healthcheck: has no equivalent",
        "services: services do not find each other by name",
    ];
    assert_eq!(lines.len(), wanted.len(), "{lines:#?}");
    for wanted in wanted {
        assert!(
            lines.iter().any(|line| line.contains(wanted)),
            "{wanted}: {lines:#?}"
        );
    }
    assert!(
        lines.iter().all(|line| line.contains("compose.yaml:")),
        "{lines:#?}"
    );
    // Without leave each of them is an error.
    let error = api::Error::from(convert(SHOP, false).unwrap_err());
    assert_eq!(error.reason, "NoEquivalent");
    assert!(
        error
            .message
            .contains("compose.yaml:11:13: services.web.ports[0]"),
        "{}",
        error.message
    );
    // From here a cluster is one step away, Services and all.
    let objects: Vec<AnyObject> = cells(&converted.text)
        .into_iter()
        .map(AnyObject::Cell)
        .collect();
    let values = crate::convert::to_kubernetes(&objects, crate::scheme::Secrets::Hide).unwrap();
    let kinds: Vec<_> = values.iter().map(|v| v["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        ["NetworkPolicy", "Service", "Service", "Job", "Deployment"]
    );
}

#[test]
fn commands_and_entrypoints() {
    let argv = |fields: &str| {
        let spec = one(fields).spec.containers.remove(0);
        (spec.command, spec.args)
    };
    let args = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    assert_eq!(argv("command: [a, \"b c\"]"), (None, args(&["a", "b c"])));
    assert_eq!(
        argv("command: sh -c 'echo $$X'"),
        (None, args(&["sh", "-c", "echo $X"]))
    );
    assert_eq!(
        argv("entrypoint: /run.sh --x\ncommand: [y]"),
        (Some("/run.sh".to_owned()), args(&["--x", "y"]))
    );
    assert_eq!(
        argv("entrypoint: []\ncommand: [y, z]"),
        (Some("y".to_owned()), args(&["z"]))
    );
}

#[test]
fn environment_files_and_variables() {
    let env = |fields: &str| one(fields).spec.containers.remove(0).env;
    assert_eq!(
        env("env_file: web.env\nenvironment: {TZ: own, SET: , UNSET: ~, N: 1.10}"),
        ["FROM_FILE=1", "TZ=own", "SET=1", "N=1.10"]
    );
    assert_eq!(
        env(
            "env_file:\n  - {path: none.env, required: false}\n  - web.env\nenvironment:\n  - A=b=c\n  - SET"
        ),
        ["FROM_FILE=1", "TZ=file", "A=b=c", "SET=1"]
    );
    let error = convert(&service("env_file: none.env"), true)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("compose.yaml:4:15: services.a.env_file[0]: no file none.env"),
        "{error}"
    );
    assert_eq!(losses(&service("user: $NONE")).len(), 1);
    let error = convert(&service("user: ${NONE:?say who}"), true)
        .unwrap_err()
        .to_string();
    assert!(error.contains("\"NONE\" is not set: say who"), "{error}");
}

#[test]
fn the_rest_of_a_service() {
    let cell = one("\
restart: on-failure:3
user: '1000:1000'
working_dir: /w
cap_add: [NET_ADMIN]
cap_drop: [ALL]
read_only: true
security_opt: ['no-new-privileges:true', 'seccomp:unconfined']
devices: [/dev/fuse]
tmpfs: ['/run:size=64m,mode=1777', /tmp]
volumes:
  - ~/x:/x
  - ../y:/y:ro
  - {type: tmpfs, target: /t, tmpfs: {size: 1048576, mode: 0o700}}
  - {type: bind, source: /abs, target: /abs, read_only: true}
mem_limit: 1g
cpu_shares: 512
pids_limit: 100
pull_policy: always
stop_grace_period: 1m
labels: [a=b]
annotations: {note: hi}
expose: ['80', 53/udp]
profiles: [debug]
x-more: {any: thing}");
    let spec = &cell.spec.containers[0];
    assert_eq!(cell.at.stack.as_str(), "my-shop");
    assert_eq!(cell.spec.run_state, crate::model::RunState::Stopped);
    assert_eq!(spec.restart_max_retries, Some(3));
    assert_eq!(spec.security.no_new_privileges, Some(true));
    assert_eq!(spec.capabilities.drop, ["ALL"]);
    assert_eq!(spec.tmpfs[0].size_bytes, 64 << 20);
    assert_eq!(spec.tmpfs[0].options, ["mode=1777"]);
    let sources: Vec<_> = spec
        .mounts
        .iter()
        .map(|m| match &m.kind {
            crate::model::MountKind::Bind(source) => (source.as_str(), m.read_only),
            crate::model::MountKind::Volume { source, .. } => (source.name.as_str(), m.read_only),
            crate::model::MountKind::Tmpfs { .. } => ("tmpfs", m.read_only),
        })
        .collect();
    assert_eq!(
        sources,
        [
            ("/home/u/x", false),
            ("/srv/y", true),
            ("tmpfs", false),
            ("/abs", true)
        ]
    );
    assert_eq!(spec.resources.memory_bytes, Some(1 << 30));
    assert_eq!(spec.stop_grace_seconds, Some(60));
    assert_eq!(cell.meta.labels["a"], "b");
    let ports: Vec<_> = spec.ports.iter().map(ToString::to_string).collect();
    assert_eq!(ports, ["80", "53/udp"]);
    assert!(
        !cell
            .meta
            .annotations
            .contains_key("convert.kukeon.io/ports")
    );
}

#[test]
fn configs_and_secrets_are_files_of_the_host() {
    let text = "\
services:
  a:
    image: x
    configs: [site, {source: site, target: /etc/site}]
    secrets: [key]
configs: {site: {file: ./site.conf}}
secrets: {key: {file: /keys/k}}
";
    let converted = convert(text, false).unwrap_or_else(|e| panic!("{e}"));
    let cell = cells(&converted.text).remove(0);
    let targets: Vec<_> = cell.spec.containers[0]
        .mounts
        .iter()
        .map(|m| m.target.as_str())
        .collect();
    assert_eq!(targets, ["/site", "/etc/site", "/run/secrets/key"]);
    assert!(converted.text.contains("/srv/My_Shop/site.conf"));
    let lost = losses(&text.replace("file: /keys/k", "environment: PW"));
    assert!(
        lost.len() == 1 && lost[0].contains("secrets.key.environment"),
        "{lost:#?}"
    );
    let error = convert(&text.replace("[key]", "[kee]"), true)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("none of the top-level secrets is called \"kee\""),
        "{error}"
    );
}

#[test]
fn what_has_no_equivalent_is_named() {
    for (fields, words) in [
        (
            "extra_hosts: ['a:1.2.3.4']",
            "services.a.extra_hosts: has no equivalent; mount a hosts file",
        ),
        ("network_mode: none", "services.a.network_mode"),
        ("hostname: b", "by no other name"),
        ("logging: {driver: none}", "remove it"),
        ("init: true", "services.a.init"),
        ("deploy: {replicas: 3}", "runs once, not 3 times"),
        ("volumes: [data:/data]", "mount a directory of the host"),
        ("volumes: ['./a:/b:z']", "the mode \"z\""),
        ("devices: ['/dev/a:/dev/b']", "the same path inside"),
        ("security_opt: ['apparmor:x']", "services.a.security_opt[0]"),
        (
            "networks: {default: {aliases: [b]}}",
            "use the name of the service",
        ),
        ("networks: [one, two]", "not be kept apart"),
        ("ulimits: {nofile: 5}", "set them on the daemon"),
        ("stop_signal: SIGINT", "SIGTERM"),
        ("labels: {kukeon.io/realm: x}", "reserved for kukeon"),
    ] {
        let found = losses(&service(fields));
        assert_eq!(found.len(), 1, "{fields}: {found:#?}");
        assert!(found[0].contains(words), "{fields}: {found:#?}");
        let error = api::Error::from(convert(&service(fields), false).unwrap_err());
        assert_eq!(
            (error.code, error.reason.as_str()),
            (api::Code::Invalid, "NoEquivalent")
        );
    }
}

#[test]
fn what_is_wrong_is_refused_even_with_leave() {
    for (text, reason, words) in [
        (
            service("imagee: y"),
            "UnknownField",
            "compose.yaml:4:5: unknown field \"imagee\" in services.a; did you mean \"image\"?",
        ),
        (
            service("restart: sometimes"),
            "BadValue",
            "services.a.restart",
        ),
        (
            service("read_only: maybe"),
            "WrongType",
            "expected true or false",
        ),
        (service("ports: [http]"), "BadValue", "services.a.ports[0]"),
        (
            service("command: 'a \"b'"),
            "BadValue",
            "a quote is not closed",
        ),
        (service("mem_limit: lots"), "BadValue", "such as 64m"),
        (
            service("stop_grace_period: 10"),
            "BadValue",
            "such as 1m30s",
        ),
        (
            "services: {My_Db: {image: x}}".to_owned(),
            "BadName",
            "\"my-db\" would be a name",
        ),
        (
            "services: {a: {}}".to_owned(),
            "MissingField",
            "neither image nor build",
        ),
        (
            "servces: {}".to_owned(),
            "UnknownField",
            "did you mean \"services\"?",
        ),
        (
            "services: []".to_owned(),
            "WrongType",
            "expected a mapping, found a list",
        ),
        (
            "services: {a: {image: x, image: y}}".to_owned(),
            "DuplicateKey",
            "there twice",
        ),
        (
            "services: {a: {image: 'x y'}}".to_owned(),
            "BadImage",
            "services.a: as spec.containers[0].image",
        ),
    ] {
        let error = api::Error::from(convert(&text, true).unwrap_err());
        assert_eq!(error.reason, reason, "{}", error.message);
        assert!(error.message.contains(words), "{}", error.message);
    }
}
