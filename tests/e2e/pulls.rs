//! Who fetches the artifact of a Preparation from the registry of kukeond, with
//! the login of a robot: oras, and the clients that Argo CD and Flux are built
//! with (`tests/registry/argocd` and `flux`).

use std::fs;

use crate::cases;
use crate::command::{Done, eventually};
use crate::delivery::{HEAD, latest, source, text};
use crate::host::{Engine, Host, Mode};
use crate::runner::{Case, Verdict};
use crate::world::installed;

pub const CASES: &[&[Case]] = &[cases![
    oras_pulls_a_preparation,
    argocd_pulls_a_preparation,
    argocd_pulls_a_preparation_over_tls,
    flux_pulls_a_preparation,
]];

const ADDRESS: &str = "127.0.0.1:5050";
const ROBOT: &str = "argo";

/// Longer than a stored block of DEFLATE, and not only ASCII.
fn manifest() -> String {
    let long = "0123456789abcdef é\\n".repeat(5_000);
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: web}}\ndata: {{yes: 'no', long: \"{long}\"}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{ports: [{{port: 80}}]}}\n"
    )
}

/// A host whose registry holds an artifact.
struct Served {
    host: Host,
    /// `<host>/<repository>`.
    repository: String,
    digest: String,
    /// What is in it.
    content: String,
    password: String,
}

impl Served {
    fn new(scheme: &str) -> Self {
        let mut host = Host::bare(Mode::Daemon, Engine::Shared);
        host.serve_with(&format!(
            "  registry: {{listen: '{ADDRESS}', scheme: {scheme}, minFreeBytes: 0}}\n"
        ));
        host.start_daemon();
        host.kuke(&["init"]).ok();
        eventually(20.0, "the registry is served", || {
            host.daemon_log().contains("serving the registry")
        });
        let dir = source(&host, &manifest());
        host.apply(&format!(
            "{HEAD}kind: Recipe\nmetadata: {{name: web}}\nspec:\n  source: {{path: {dir}}}\n  target: {{type: argocd}}\n"
        ))
        .ok();
        let prep = latest(&host, "web");
        let artifact = host.get("prep", &prep)["spec"]["artifact"].clone();
        let at = text(&artifact["ociRef"]);
        let at = at.strip_prefix("oci://local/").unwrap();
        let (repository, digest) = at.split_once('@').unwrap();
        let login = "registry login --robot --allow preparations/**=pull --print --username";
        let mut login: Vec<&str> = login.split(' ').collect();
        login.push(ROBOT);
        let said = host.kuke(&login).ok().out;
        let password = said.lines().find_map(|l| l.strip_prefix("password: "));
        Self {
            repository: format!("{ADDRESS}/{repository}"),
            digest: digest.to_owned(),
            content: host.kuke(&["manifest", &prep]).ok().out,
            password: password.unwrap().to_owned(),
            host,
        }
    }

    /// Runs a client that has its password in the environment and a directory
    /// for what it fetches.
    fn client(&self, password: &str, line: &[&str], out: &tempfile::TempDir) -> Done {
        let password = format!("PASSWORD={password}");
        let home = format!("HOME={}", out.path().display());
        let all = [&[password.as_str(), home.as_str()], line].concat();
        self.host.inside("env", &all)
    }

    /// Runs a client, which must leave the manifest as it is shown, and nothing
    /// else; with another password it must leave nothing.
    fn fetched(self, line: impl Fn(&Self, &str) -> Vec<String>) -> Verdict {
        for password in [self.password.as_str(), "another"] {
            let out = tempfile::tempdir().unwrap();
            let into = out.path().join("out");
            fs::create_dir(&into).unwrap();
            let line = line(&self, &into.display().to_string());
            let line: Vec<&str> = line.iter().map(String::as_str).collect();
            let done = self.client(password, &line, &out);
            let left = fs::read_dir(&into).unwrap();
            let left: Vec<_> = left.map(|e| e.unwrap().file_name()).collect();
            if password == "another" {
                assert_ne!(done.code, 0, "{}", done.show());
                assert!(left.is_empty(), "{left:?}");
                continue;
            }
            let done = done.ok();
            assert_eq!(left, ["manifest.yaml"], "{}", done.show());
            let found = fs::read_to_string(into.join("manifest.yaml")).unwrap();
            assert!(found == self.content, "{found:.2000}");
            assert!(found.len() > 1 << 16, "{}", found.len());
        }
        self.host.finish();
        Ok(())
    }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn oras_pulls_a_preparation() -> Verdict {
    installed("oras")?;
    Served::new("http").fetched(|served, out| {
        let (at, digest) = (&served.repository, &served.digest);
        let pull =
            format!("oras pull --plain-http -u {ROBOT} -p \"$PASSWORD\" -o {out} {at}@{digest}");
        vec!["sh".to_owned(), "-c".to_owned(), pull]
    })
}

fn argocd_pulls_a_preparation() -> Verdict {
    installed("argocd-pull")?;
    Served::new("http").fetched(|served, out| {
        let (at, digest) = (&served.repository, &served.digest);
        words(&format!(
            "argocd-pull -plain-http -username {ROBOT} -output {out} oci://{at} {digest}"
        ))
    })
}

fn argocd_pulls_a_preparation_over_tls() -> Verdict {
    installed("argocd-pull")?;
    Served::new("tls").fetched(|served, out| {
        let (at, digest) = (&served.repository, &served.digest);
        let ca = served.host.run_path.join("registry/auth/ca.pem");
        let ca = ca.display();
        words(&format!(
            "argocd-pull -ca {ca} -username {ROBOT} -output {out} oci://{at} {digest}"
        ))
    })
}

fn flux_pulls_a_preparation() -> Verdict {
    installed("flux-pull")?;
    Served::new("http").fetched(|served, out| {
        let (at, digest) = (&served.repository, &served.digest);
        words(&format!(
            "flux-pull -plain-http -username {ROBOT} -output {out} oci://{at} {digest}"
        ))
    })
}
