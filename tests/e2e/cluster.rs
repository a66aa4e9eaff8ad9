//! Releases on a cluster, alone and in Menus: a real API server with Argo CD's own
//! schema.
//! What Argo CD would do to an Application, the test does.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::argocd_programs::{self as programs, Programs};
use crate::command::{Done, Running, eventually, system};
use crate::delivery::{HEAD, text};
use crate::host::{Host, LIMIT, Mode};
use crate::menus::version;
use crate::runner::{Case, Skip, Verdict};
use crate::{cases, cases_in_both_modes};

pub const CASES: &[&[Case]] = &[
    cases_in_both_modes![
        a_serving_moves_a_cluster_by_itself,
        a_menu_moves_a_cluster_and_this_machine,
        a_menu_takes_back_what_a_cluster_had_not
    ],
    cases![a_menu_with_a_cluster_is_finished_wherever_it_is_cut],
];

const RUN: &[&str] = &["menu", "run", "lunch", "--wait"];
const BOTH: [&str; 2] = ["front", "back"];
const PORT: u16 = 6443;
const APPLICATIONS: &str = "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications";
const KINDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// An API server in the network of a host; it ends with the test.
struct Cluster<'a> {
    host: &'a Host,
    children: Vec<Running>,
    dir: PathBuf,
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        for mut child in self.children.drain(..).rev() {
            child.signal(Signal::SIGKILL);
            while child.alive() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

impl<'a> Cluster<'a> {
    /// Started again it knows what it knew.
    fn start(host: &'a Host, programs: &Programs) -> Self {
        let dir = host.dir.join("cluster");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("tokens"), "admin,admin,1,system:masters\n").unwrap();
        let key = dir.join("key");
        if !key.exists() {
            system(
                "openssl",
                &["genrsa", "-out", &key.display().to_string(), "2048"],
            )
            .ok();
        }
        let start = |program: &PathBuf, arguments: Vec<String>| {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            host.start_inside(&program.display().to_string(), &arguments)
        };
        let children = vec![
            start(&programs.etcd, programs::etcd(&dir, 2380, 2379)),
            start(&programs.api_server, programs::api_server(&dir, 2379, PORT)),
        ];
        let cluster = Self {
            host,
            children,
            dir,
        };
        eventually(60.0, "the API server is ready", || {
            cluster.request("GET", "/readyz", None).1 == "ok"
        });
        let schema = std::fs::read_to_string(&programs.schema).unwrap();
        cluster.apply(&format!("{KINDS}/applications.argoproj.io"), &schema);
        let namespace =
            r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "argocd"}}"#;
        cluster.apply("/api/v1/namespaces/argocd", namespace);
        eventually(30.0, "Applications are served", || {
            cluster.request("GET", APPLICATIONS, None).0 == 200
                && cluster
                    .request("GET", "/apis/argoproj.io/v1alpha1", None)
                    .1
                    .contains("Application")
        });
        cluster
    }

    /// Status and body of an answer; 0 when there is none.
    fn request(&self, method: &str, path: &str, body: Option<(&str, &str)>) -> (u16, String) {
        let url = format!("https://127.0.0.1:{PORT}{path}");
        let mut arguments = vec![
            "-ksS",
            "--max-time",
            "10",
            "-X",
            method,
            "-H",
            "Authorization: Bearer admin",
            "-w",
            "\n%{http_code}",
        ];
        let (kind, file);
        if let Some((content, body)) = body {
            kind = format!("Content-Type: {content}");
            let path = self.dir.join("body");
            std::fs::write(&path, body).unwrap();
            file = format!("@{}", path.display());
            arguments.extend(["-H", &kind, "--data-binary", &file]);
        }
        arguments.push(&url);
        let done = crate::runner::quietly(|| self.host.inside("curl", &arguments));
        let (body, status) = done.out.rsplit_once('\n').unwrap_or_default();
        (status.parse().unwrap_or(0), body.to_owned())
    }

    /// Server-side apply of a document.
    fn apply(&self, path: &str, document: &str) {
        let path = format!("{path}?fieldManager=test");
        let body = Some(("application/apply-patch+yaml", document));
        let (status, said) = self.request("PATCH", &path, body);
        assert!(matches!(status, 200 | 201), "{path}: {status} {said}");
    }

    /// An Application; nothing when there is none.
    fn application(&self, name: &str) -> Option<Value> {
        let (status, body) = self.request("GET", &format!("{APPLICATIONS}/{name}"), None);
        (status == 200).then(|| serde_json::from_str(&body).unwrap())
    }

    /// Digest that an Application is told to deploy; empty when there is none.
    fn revision(&self, name: &str) -> String {
        let application = self.application(name).unwrap_or_default();
        text(&application["spec"]["source"]["targetRevision"])
    }

    /// Whether Argo CD may remove what an artifact no longer holds.
    fn prunes(&self, name: &str) -> bool {
        let application = self.application(name).expect("an Application");
        application["spec"]["syncPolicy"]["automated"]["prune"] == true
    }

    fn edit(&self, name: &str, patch: &Value) {
        let path = format!("{APPLICATIONS}/{name}?fieldManager=argocd");
        let body = patch.to_string();
        self.request(
            "PATCH",
            &path,
            Some(("application/merge-patch+json", &body)),
        );
    }

    /// What Argo CD does when it looks: it deploys what it is told and says how
    /// it went, and it removes what is to be removed.
    fn argocd_looks(&self, name: &str, healthy: impl Fn(&str) -> bool) {
        let Some(application) = self.application(name) else {
            return;
        };
        if !application["metadata"]["deletionTimestamp"].is_null() {
            self.edit(name, &json!({ "metadata": { "finalizers": null } }));
            return;
        }
        let source = &application["spec"]["source"];
        let wanted = text(&source["targetRevision"]);
        let health = match healthy(&wanted) {
            true => "Healthy",
            false => "Degraded",
        };
        let seen = &application["status"];
        if seen["sync"]["revision"] == wanted && seen["health"]["status"] == health {
            return;
        }
        let status = json!({ "status": {
            "sync": { "status": "Synced", "revision": wanted, "comparedTo": {
                "destination": {}, "source": { "repoURL": source["repoURL"] } } },
            "health": { "status": health },
        }});
        self.edit(name, &status);
    }
}

/// A Recipe `front` for the cluster, a Recipe `back` for this machine, and a Menu
/// `lunch` of both, which moves `first` first.
fn setting(host: &Host, first: &str) {
    let root = host.dir.join("sources");
    for name in BOTH {
        std::fs::create_dir_all(root.join(name)).unwrap();
        write(host, name, "v1");
    }
    let root = root.display();
    let second = if first == "front" { "back" } else { "front" };
    let documents = [
        format!(
            "kind: Kitchen\nmetadata: {{name: default}}\nspec: {{sourceRoots: [{root}], registryUrl: '10.0.0.1:5050'}}\n"
        ),
        format!(
            "kind: Recipe\nmetadata: {{name: front}}\nspec:\n  source: {{path: {root}/front}}\n  target: {{type: argocd}}\n"
        ),
        format!(
            "kind: Recipe\nmetadata: {{name: back}}\nspec:\n  source: {{path: {root}/back}}\n  target: {{kuke: {{minHealthy: 0s, healthTimeout: 20s}}}}\n"
        ),
        format!(
            "kind: Menu\nmetadata: {{name: lunch}}\nspec:\n  recipes:\n  - {{name: {first}}}\n  - {{name: {second}, dependsOn: [{first}]}}\n  strategy: {{healthTimeout: 60s, minHealthy: 300ms}}\n"
        ),
    ];
    let text = documents.map(|d| format!("{HEAD}{d}")).join("---\n");
    host.apply(&text).ok();
    eventually(20.0, "both recipes are ready", || {
        both(host, digest).iter().all(|digest| !digest.is_empty())
    });
}

/// A source of this version: a ConfigMap for the cluster, a cell for here.
fn write(host: &Host, name: &str, version: &str) {
    if name == "back" {
        return crate::menus::write(host, name, version, true);
    }
    let text = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: front}}\ndata: {{version: {version}}}\n"
    );
    host.file("sources/front/manifest.yaml", text);
}

/// Renders both anew; returns their digests.
fn next(host: &Host, version: &str) -> [String; 2] {
    let before = both(host, digest);
    for name in BOTH {
        write(host, name, version);
        host.kuke(&["recipe", "refresh", name]).ok();
    }
    eventually(20.0, "both are rendered", || {
        let now = both(host, digest);
        now[0] != before[0] && now[1] != before[1]
    });
    both(host, digest)
}

fn both(host: &Host, of: fn(&Host, &str) -> String) -> [String; 2] {
    BOTH.map(|name| of(host, name))
}

fn digest(host: &Host, recipe: &str) -> String {
    text(&host.get("recipe", recipe)["status"]["latestArtifactDigest"])
}

/// The phase of a Serving that nothing holds.
fn phase(host: &Host, name: &str) -> String {
    let serving = host.get("serving", name);
    match serving["status"].get("lock") {
        Some(_) => "locked".to_owned(),
        None => text(&serving["status"]["phase"]),
    }
}

/// Argo CD works until a command has ended; `during` sees each look. Returns how
/// the command ended.
fn follow(
    cluster: &Cluster,
    mut command: Running,
    healthy: impl Fn(&str) -> bool,
    mut during: impl FnMut(),
) -> Done {
    while command.alive() {
        during();
        cluster.argocd_looks("front", &healthy);
        std::thread::sleep(Duration::from_millis(100));
    }
    command.wait(LIMIT)
}

/// A run of the Menu in which the cluster does as it is told.
fn run(cluster: &Cluster) -> Done {
    let command = cluster.host.start(RUN);
    follow(cluster, command, |_| true, || ())
}

fn connect(cluster: &Cluster) {
    let config = programs::kubeconfig(PORT, "admin");
    let connect = ["argocd", "connect", "--kubeconfig", "-"];
    cluster.host.kuke_with(&connect, config).ok();
}

fn find_programs() -> Result<Programs, Skip> {
    Programs::find().map_err(|why| Skip(why.to_owned()))
}

/// Both go, and Argo CD removes the Application's workload.
fn delete(cluster: &Cluster) {
    let host = cluster.host;
    host.kuke(&["delete", "menu", "lunch"]).ok();
    let command = host.start(&["delete", "recipe", "front", "back"]);
    follow(cluster, command, |_| true, || ()).ok();
    eventually(20.0, "the Application is gone", || {
        cluster.argocd_looks("front", |_| true);
        cluster.application("front").is_none()
    });
    eventually(20.0, "the servings are gone", || {
        // Without a daemon whoever looks goes on with a deletion.
        BOTH.iter()
            .all(|name| host.kuke(&["get", "serving", name]).code == 3)
    });
}

/// Promoted, ill, rolled back, edited and deleted by others: all without a Menu.
fn a_serving_moves_a_cluster_by_itself(mode: Mode) -> Verdict {
    let programs = find_programs()?;
    let host = Host::new(mode);
    let cluster = Cluster::start(&host, &programs);
    connect(&cluster);
    setting(&host, "back");
    let well = |_: &str| true;
    let wait = |verb: &str, healthy: &dyn Fn(&str) -> bool| {
        let command = host.start(&[verb, "front", "--wait"]);
        follow(&cluster, command, healthy, || ())
    };
    let status = || host.get("serving", "front")["status"].clone();
    let first = digest(&host, "front");
    wait("promote", &well).ok();
    assert_eq!(cluster.revision("front"), first);
    let now = status();
    assert_eq!(
        (text(&now["phase"]), text(&now["deployedDigest"])),
        ("Deployed".into(), first.clone())
    );
    for kind in ["Ready", "Synced", "Healthy"] {
        let conditions = now["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|c| c["type"] == kind).unwrap();
        assert_eq!(found["status"], "True", "{found}");
    }

    // The second is ill: it is told within its time, and the first is what was
    // healthy last.
    let recipe = host
        .kuke(&["get", "recipe", "front", "-o", "yaml"])
        .ok()
        .out;
    let hasty = recipe.replacen(
        "type: argocd",
        "type: argocd\n    argocd: {waitTimeout: 4s}",
        1,
    );
    assert!(
        !recipe.contains("waitTimeout") && hasty != recipe,
        "{recipe}"
    );
    host.apply(&hasty).ok();
    let second = next(&host, "v2")[0].clone();
    wait("promote", &|digest| digest != second)
        .code(1)
        .says(&["front", "Degraded"]);
    assert_eq!(cluster.revision("front"), second);
    let now = status();
    assert_eq!(
        (text(&now["phase"]), text(&now["deployedDigest"])),
        ("Failed".into(), first.clone())
    );
    wait("rollback", &well).ok();
    assert_eq!(cluster.revision("front"), first);
    wait("promote", &well).ok();
    assert_eq!(
        (cluster.revision("front"), phase(&host, "front")),
        (second.clone(), "Deployed".into())
    );

    // What others do to the Application is put back; what others add stays.
    let looked = |what: &str, holds: &dyn Fn(&Value) -> bool| {
        eventually(30.0, what, || {
            if mode == Mode::InProcess {
                wait("sync", &well).ok();
            }
            cluster.argocd_looks("front", well);
            cluster.application("front").is_some_and(|app| holds(&app))
        });
    };
    let theirs =
        json!({ "spec": { "project": "theirs", "info": [{ "name": "who", "value": "they" }] } });
    cluster.edit("front", &theirs);
    looked("the project is put back", &|app| {
        app["spec"]["project"] == "default"
    });
    let app = cluster.application("front").unwrap();
    assert_eq!(app["spec"]["info"][0]["value"], "they", "{app}");
    let uid = text(&app["metadata"]["uid"]);
    cluster.request("DELETE", &format!("{APPLICATIONS}/front"), None);
    looked("it is made again", &|app| {
        text(&app["metadata"]["uid"]) != uid && app["spec"]["source"]["targetRevision"] == second
    });
    eventually(20.0, "all is well", || {
        cluster.argocd_looks("front", well);
        phase(&host, "front") == "Deployed"
    });
    delete(&cluster);
    drop(cluster);
    host.finish();
    Ok(())
}

fn a_menu_moves_a_cluster_and_this_machine(mode: Mode) -> Verdict {
    let programs = find_programs()?;
    let host = Host::new(mode);
    let cluster = Cluster::start(&host, &programs);
    connect(&cluster);
    setting(&host, "back");
    let first = both(&host, digest);
    run(&cluster).ok();
    assert_eq!(cluster.revision("front"), first[0]);
    assert_eq!(version(&host, "back"), "v1");
    assert!(cluster.prunes("front"));

    // While both move, nothing is pruned; afterwards it is.
    let second = next(&host, "v2");
    let mut pruned = Vec::new();
    let command = host.start(RUN);
    let during = || {
        if cluster.revision("front") == second[0] {
            pruned.push(cluster.prunes("front"));
        }
    };
    follow(&cluster, command, |_| true, during).ok();
    assert_eq!(pruned.first(), Some(&false), "{pruned:?}");
    assert!(cluster.prunes("front"));
    assert_eq!(cluster.revision("front"), second[0]);
    assert_eq!(version(&host, "back"), "v2");
    assert_eq!(both(&host, phase), ["Deployed", "Deployed"]);

    // The third does not work on the cluster: both stay.
    let third = next(&host, "v3");
    let menu = host.kuke(&["get", "menu", "lunch", "-o", "yaml"]).ok().out;
    let impatient = menu.replacen("healthTimeout: 1m", "healthTimeout: 8s", 1);
    assert!(menu != impatient, "{menu}");
    host.apply(&impatient).ok();
    let mut tried = false;
    let command = host.start(RUN);
    let during = || tried |= cluster.revision("front") == third[0];
    follow(&cluster, command, |digest| digest != third[0], during)
        .code(1)
        .says(&["rolled back", "front", "Degraded"]);
    assert!(tried, "the third was tried");
    assert_eq!(cluster.revision("front"), second[0]);
    assert_eq!(version(&host, "back"), "v2");
    // The members are looked at once more when nothing holds them.
    eventually(20.0, "all is as before", || {
        cluster.argocd_looks("front", |_| true);
        cluster.prunes("front")
            && both(&host, phase) == ["Deployed", "Deployed"]
            && host.state("back") == "Ready"
    });

    // A cluster that is gone is told before anything is changed.
    next(&host, "v4");
    drop(cluster);
    host.kuke(RUN).code(1).says(&["front", "cannot be reached"]);
    assert_eq!(version(&host, "back"), "v2");
    let cluster = Cluster::start(&host, &programs);
    assert_eq!(cluster.revision("front"), second[0]);
    delete(&cluster);
    drop(cluster);
    host.finish();
    Ok(())
}

/// The cluster's member is out when the other one fails: its Application goes.
fn a_menu_takes_back_what_a_cluster_had_not(mode: Mode) -> Verdict {
    let programs = find_programs()?;
    let host = Host::new(mode);
    let cluster = Cluster::start(&host, &programs);
    connect(&cluster);
    setting(&host, "front");
    crate::menus::write(&host, "back", "v1", false);
    host.kuke(&["recipe", "refresh", "back"]).ok();
    let mut out = false;
    let command = host.start(RUN);
    let during = || out |= cluster.application("front").is_some();
    follow(&cluster, command, |_| true, during)
        .code(1)
        .says(&["rolled back", "back"]);
    assert!(out, "the first wave was out");
    assert!(cluster.application("front").is_none());
    assert_eq!(version(&host, "back"), "");
    for name in BOTH {
        host.kuke(&["get", "serving", name]).code(3);
    }
    delete(&cluster);
    drop(cluster);
    host.finish();
    Ok(())
}

/// A death at steps of a run: the next one finishes it, one way or the other, and
/// the cluster is where this machine is.
fn a_menu_with_a_cluster_is_finished_wherever_it_is_cut() -> Verdict {
    let programs = find_programs()?;
    let host = Host::new(Mode::InProcess);
    let cluster = Cluster::start(&host, &programs);
    connect(&cluster);
    setting(&host, "back");
    run(&cluster).ok();
    let mut cuts = 0;
    for step in (1..60).step_by(4) {
        let wanted = format!("v1{step}");
        let before = (cluster.revision("front"), version(&host, "back"));
        let after = (next(&host, &wanted)[0].clone(), wanted);
        let mut command = host.command(Mode::InProcess, RUN);
        command.env("KUKEON_FAILPOINT_JOURNAL", step.to_string());
        let command = Running::start(command, format!("a run that dies at {step}"), None);
        let now = || (cluster.revision("front"), version(&host, "back"));
        if follow(&cluster, command, |_| true, || ()).code == 0 {
            assert_eq!(now(), after);
            break;
        }
        cuts += 1;
        run(&cluster);
        assert!(now() == after || now() == before, "{step}: {:?}", now());
        let menu = host.get("menu", "lunch");
        assert!(menu["status"].get("currentRun").is_none(), "{step}: {menu}");
        assert!(cluster.prunes("front"), "{step}");
        if now() == before {
            run(&cluster).ok();
            assert_eq!(now(), after);
        }
    }
    assert!(cuts > 4, "only {cuts} cuts");
    delete(&cluster);
    drop(cluster);
    host.finish();
    Ok(())
}
