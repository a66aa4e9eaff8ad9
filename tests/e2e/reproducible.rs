//! The same Recipe gives one artifact: on another host, by another way, and again.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::cases;
use crate::command::{Done, Running};
use crate::delivery::{HEAD, latest, text};
use crate::host::{Engine, Host, LIMIT, Mode};
use crate::runner::{Case, Verdict, note};
use crate::world::installed;

pub const CASES: &[&[Case]] = &[cases![
    a_bundle_has_one_digest,
    a_chart_has_one_digest,
    a_kustomization_has_one_digest,
]];

/// The digest of the artifact of [`BUNDLE`], on every machine and for good: what
/// is stored and pinned elsewhere is found again by it. It may change only
/// together with a contract number (`CONTRACT` in `src/delivery/render`, or that
/// of the artifact).
const BUNDLE_DIGEST: &str =
    "sha256:3cbcfc446cd67405d415efcd216e77bb221bb4ae0b76d9e2cceb77beaba1a876";

type Files = &'static [(&'static str, &'static str)];

const BUNDLE: Files = &[
    (
        "10-config.yaml",
        "# A comment that goes.\nkind: ConfigMap\napiVersion: v1\nmetadata: {name: a, labels: &l {app: \"yes\"}}\n\
         data:\n  x: yes\n  'y': 'no'\n  one: '1'\n  café: \"a\\tb\"\n  long: |\n    first\n      second\n---\n---\n",
    ),
    (
        "20-list.yml",
        "apiVersion: v1\nkind: List\nitems:\n- &base {apiVersion: v1, kind: Secret, metadata: {name: b}}\n\
         - {<<: *base, metadata: {name: c}, type: Opaque}\n",
    ),
];
const CHART: Files = &[
    ("Chart.yaml", "apiVersion: v2\nname: demo\nversion: 0.1.0\n"),
    ("values.yaml", "port: 80\n"),
    (
        "templates/b.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n\
         data: {all: {{ .Values | toJson | quote }}, sorted: {{ keys .Values | sortAlpha | join \"-\" }}}\n",
    ),
    (
        "templates/a.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: {{ .Release.Namespace }}}\n\
         spec: {ports: [{port: {{ .Values.port }}}]}\n",
    ),
];
const KUSTOMIZATION: Files = &[
    (
        "kustomization.yaml",
        "resources: [cm.yaml]\nnamespace: shop\nconfigMapGenerator: [{name: made, literals: [k=v]}]\n",
    ),
    (
        "cm.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: \"yes\"}\n",
    ),
];

/// A command with the surroundings of another machine.
fn elsewhere(command: &Command) -> Command {
    let mut other = Command::new("/bin/sh");
    other.args(["-c", "umask 077; exec \"$@\"", "sh"]);
    other.arg(command.get_program()).args(command.get_args());
    other.env_clear();
    for (name, value) in command.get_envs() {
        other.env(name, value.unwrap_or_default());
    }
    other.env("TZ", "Asia/Kathmandu");
    other.env("LANG", "tr_TR.UTF-8");
    other.env("LC_ALL", "tr_TR.UTF-8");
    other.current_dir(command.get_current_dir().unwrap());
    other
}

fn run(host: &Host, arguments: &[&str]) -> Done {
    let command = host.command(host.mode, arguments);
    let command = match host.mode {
        Mode::Daemon => command,
        Mode::InProcess => elsewhere(&command),
    };
    let line = format!("kuke {} ({:?})", arguments.join(" "), host.mode);
    Running::start(command, line, None).wait(LIMIT)
}

/// Digests of two renders on this host: one of the controller, and one offline.
fn digests(host: &Host, files: Files, rest: &str) -> [String; 2] {
    let dir = host.dir.join("source");
    for (path, text) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        fs::write(path, text).unwrap();
    }
    let dir = dir.display();
    host.apply(&format!(
        "{HEAD}kind: Kitchen\nmetadata: {{name: default}}\nspec: {{sourceRoots: [{dir}]}}\n"
    ))
    .ok();
    let recipe = format!(
        "{HEAD}kind: Recipe\nmetadata: {{name: web}}\nspec:\n  source: {{path: {dir}}}\n  target: {{type: argocd}}\n  \
         patches: [{{target: {{kind: ConfigMap, name: a}}, setString: {{.data.patched: '1'}}}}]\n{rest}"
    );
    note(&recipe);
    let recipe = host.file("recipe.yaml", recipe);
    run(host, &["apply", "-f", &recipe]).ok();
    let prep = latest(host, "web");
    let stored = text(&host.get("prep", &prep)["spec"]["artifact"]["digest"]);
    run(host, &["prep", "verify", &prep])
        .ok()
        .says(&["render: ok"]);
    let offline = run(host, &["recipe", "render", "-f", &recipe, "-o", "json"]);
    [stored, text(&offline.ok().json()["digest"])]
}

/// The one digest of two renders on each of two hosts.
fn one_digest(files: Files, rest: &str) -> String {
    let [first, second] = [Mode::Daemon, Mode::InProcess].map(|mode| {
        let mut host = Host::bare(mode, Engine::Shared);
        if mode == Mode::Daemon {
            host.start_daemon();
        }
        host.kuke(&["init"]).ok();
        let found = digests(&host, files, rest);
        host.finish();
        found
    });
    assert!(first[0].starts_with("sha256:"), "{first:?}");
    assert_eq!(first[0], first[1]);
    assert_eq!(first, second);
    first[0].clone()
}

fn a_bundle_has_one_digest() -> Verdict {
    assert_eq!(one_digest(BUNDLE, ""), BUNDLE_DIGEST);
    Ok(())
}

fn a_chart_has_one_digest() -> Verdict {
    installed("helm")?;
    one_digest(
        CHART,
        "  render: {helm: {values: {port: 81, b: [1, true], a: {z: 1, y: 2}}}}\n",
    );
    Ok(())
}

fn a_kustomization_has_one_digest() -> Verdict {
    installed("kustomize").or_else(|_| installed("kubectl"))?;
    one_digest(KUSTOMIZATION, "  render: {kustomize: {}}\n");
    Ok(())
}
