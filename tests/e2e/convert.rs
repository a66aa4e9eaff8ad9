//! `convert`: what comes out of it runs, and what cannot be said is said.

use std::fs;

use crate::host::{Engine, Host, Mode};
use crate::runner::{Case, Verdict};
use crate::{cases, cases_in_both_modes};

pub const CASES: &[&[Case]] = &[
    cases_in_both_modes![a_compose_project_runs],
    cases![
        to_kubernetes_and_back,
        what_has_no_equivalent_is_an_error,
        wrong_usage_and_wrong_input,
    ],
];

const COMPOSE: &str = "\
x-loop: &loop
  restart: unless-stopped
  stop_grace_period: 1s
services:
  web:
    <<: *loop
    image: busybox:${TAG:-latest}
    pull_policy: never
    entrypoint: [/bin/sh, -c]
    command: [\"trap 'exit 0' TERM; id -u; cat /site/page; echo $$GREETING; while :; do sleep 1 & wait $$!; done\"]
    env_file: web.env
    environment: {GREETING: \"${WORD} there\"}
    user: '1000:1000'
    read_only: true
    tmpfs: ['/scratch:size=1m']
    volumes: ['./site:/site:ro']
    expose: ['80']
";

fn a_compose_project_runs(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    fs::create_dir(host.dir.join("site")).unwrap();
    host.file("site/page", "a page\n");
    host.file(".env", "WORD=hello\n");
    host.file("web.env", "GREETING=wrong\nMORE='x $y'\n");
    let file = host.file("compose.yaml", COMPOSE);
    let cells = host
        .kuke(&["convert", "--from", "compose", &file, "--stack", "default"])
        .ok()
        .says_nothing_of(&["Left out"])
        .out;
    let cells = cells.replace("image: busybox:latest", "image: busybox");
    host.apply(&cells).ok().says(&["Cell \"web\": created"]);
    host.await_state("web", "Ready");
    crate::command::eventually(10.0, "it has said everything", || {
        host.kuke(&["log", "web"]).out == "1000\na page\nhello there\n"
    });
    host.kuke(&[
        "exec",
        "web",
        "--",
        "sh",
        "-c",
        "echo \"$MORE\"; touch /scratch/x; touch /site/x || echo read-only",
    ])
    .ok()
    .says(&["x $y", "read-only"]);
    // The same once more is the same.
    host.apply(&cells).ok().says(&["Cell \"web\": unchanged"]);
    host.finish();
    Ok(())
}

const CELL: &str = "\
kind: Space
metadata: {name: lab}
spec: {realmId: default}
---
kind: Cell
metadata:
  name: web
  annotations: {convert.kukeon.io/ports: '8080:80'}
spec:
  realmId: default
  spaceId: lab
  stackId: default
  containers:
    - {id: app, image: docker.io/library/nginx:1.27, restartPolicy: always}
";

fn to_kubernetes_and_back() -> Verdict {
    let host = Host::bare(Mode::InProcess, Engine::Shared);
    let file = host.file("cell.yaml", CELL);
    let there = host
        .kuke(&["convert", "--to", "kubernetes", "-f", &file])
        .ok();
    let kinds: Vec<&str> = there
        .out
        .lines()
        .filter_map(|l| l.strip_prefix("kind: "))
        .collect();
    assert_eq!(
        kinds,
        [
            "NetworkPolicy",
            "NetworkPolicy",
            "Service",
            "Service",
            "Deployment"
        ]
    );
    let again = host
        .kuke_with(&["convert", "--to", "k8s", "-f", "-"], CELL)
        .ok();
    assert_eq!(again.out, there.out);
    let objects = host.file("objects.yaml", &there.out);
    let out = host.dir.join("back.yaml");
    host.kuke(&[
        "convert",
        "--from",
        "kubernetes",
        &objects,
        "-o",
        &out.display().to_string(),
    ])
    .ok();
    let back = fs::read_to_string(&out).unwrap();
    assert!(back.contains("convert.kukeon.io/ports: 8080:80"), "{back}");
    let there_again = host
        .kuke_with(&["convert", "--to", "kubernetes", "-f", "-"], back)
        .ok();
    assert_eq!(there_again.out, there.out);
    host.assert_untouched();
    host.finish();
    Ok(())
}

fn what_has_no_equivalent_is_an_error() -> Verdict {
    let host = Host::bare(Mode::InProcess, Engine::Shared);
    let compose =
        "services:\n  a:\n    image: x\n    ports: ['8080:80']\n    healthcheck: {test: 'true'}\n";
    let file = host.file("compose.yaml", compose);
    host.kuke(&["convert", "--from", "compose", &file])
        .code(2)
        .says(&[
            "compose.yaml:4:13: services.a.ports[0]: ports of the host are not published",
            "compose.yaml:5:18: services.a.healthcheck",
            "--allow-partial",
        ]);
    let out = host.dir.join("none.yaml");
    let to = out.display().to_string();
    host.kuke(&["convert", "--from", "compose", &file, "-o", &to])
        .code(2);
    assert!(!out.exists());
    let partial = host
        .kuke(&["convert", "--from", "compose", &file, "--allow-partial"])
        .ok();
    assert_eq!(
        partial.err.matches("Left out: ").count(),
        2,
        "{}",
        partial.show()
    );
    assert!(partial.out.contains("image: x"), "{}", partial.show());
    let cell = CELL.replace("restartPolicy: always", "devices: [/dev/kvm]");
    host.kuke_with(&["convert", "--to", "kubernetes", "-f", "-"], cell)
        .code(2)
        .says(&[
            "document 2 (Cell \"web\") at standard input:14:",
            "spec.containers[0].devices",
            "device plugin",
        ]);
    host.finish();
    Ok(())
}

fn wrong_usage_and_wrong_input() -> Verdict {
    let host = Host::bare(Mode::InProcess, Engine::Shared);
    let file = host.file("cell.yaml", CELL);
    for arguments in [
        &["convert", "-f", &file][..],
        &["convert", "--to", "nomad", "-f", &file],
        &[
            "convert",
            "--to",
            "kubernetes",
            "--from",
            "compose",
            "-f",
            &file,
        ],
        &["convert", "--to", "kubernetes"],
        &["convert", "--to", "kubernetes", "-f", &file, "--stack", "s"],
        &[
            "convert",
            "--from",
            "kubernetes",
            &file,
            "--stack",
            "Bad_Name",
        ],
        &["convert", "--from", "kubernetes", &file, "--env-file", "x"],
        &["convert", "--from", "compose", &file, &file],
    ] {
        host.kuke(arguments).code(2);
    }
    host.kuke(&["convert", "--from", "compose", "/none.yaml"])
        .code(3)
        .says(&["/none.yaml"]);
    host.kuke(&["convert", "--from", "compose", &file])
        .code(2)
        .says(&["cell.yaml:1:1: unknown field \"kind\""]);
    host.kuke_with(&["convert", "--from", "kubernetes", "-"], "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers: [{name: a, imgae: x}]\n")
        .code(2)
        .says(&["standard input:5:26: unknown field \"imgae\" in spec.containers[0]; did you mean \"image\"?"]);
    host.kuke_with(
        &["convert", "--to", "kubernetes", "-f", "-"],
        "kind: Cell\nmetadata: {name: a\n",
    )
    .code(2);
    host.finish();
    Ok(())
}
