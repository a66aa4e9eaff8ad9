//! The failure table of the releases: for every reason, that the object says so
//! and what to do, that nothing which is serving changes, and how it ends.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::command::{Done, Running, eventually, system};
use crate::delivery::{HEAD, active, latest, source, text};
use crate::host::{Engine, Host, LIMIT, Mode};
use crate::manifest::{container, sleeper};
use crate::registry::{ADDRESS, PASSWORD, Registry, USER};
use crate::runner::{Case, Verdict};
use crate::world::installed;
use crate::{cases, cases_in_both_modes};

pub const CASES: &[&[Case]] = &[
    cases![a_moved_tag_is_polled],
    cases_in_both_modes![
        sources_that_cannot_be_had,
        renders_that_cannot_be,
        artifacts_that_are_lost,
        what_is_lost_is_not_promoted,
        no_room_for_artifacts,
    ],
    cases![a_release_that_never_gets_healthy],
];

/// A Recipe `web` with this source, patches and the like after it.
pub fn recipe(source: &str, more: &str) -> String {
    format!(
        "{HEAD}kind: Recipe\nmetadata: {{name: web}}\nspec:\n  source: {source}\n  \
         target: {{kuke: {{minHealthy: 0s, healthTimeout: 20s}}}}\n{more}"
    )
}

pub fn pantry(password: &str) -> String {
    format!(
        "{HEAD}kind: Pantry\nmetadata: {{name: larder}}\nspec: {{oci: 'oci://{ADDRESS}/team/app', \
         username: {USER}, password: {password}, plainHttp: true}}\n"
    )
}

/// Status, reason and message of the condition `Ready`.
pub fn ready(host: &Host, kind: &str, name: &str) -> (String, String, String) {
    let found = host.get(kind, name);
    let conditions = found["status"]["conditions"].as_array().cloned();
    let conditions = conditions.unwrap_or_default();
    let ready = conditions.iter().find(|c| c["type"] == "Ready");
    let part = |key: &str| ready.map(|c| text(&c[key])).unwrap_or_default();
    (part("status"), part("reason"), part("message"))
}

/// Fails unless the object says this reason and these words in its message.
#[track_caller]
pub fn says(host: &Host, kind: &str, reason: &str, words: &[&str]) {
    let (status, found, message) = ready(host, kind, "web");
    assert_eq!((&*status, &*found), ("False", reason), "{message}");
    for word in words {
        assert!(message.contains(word), "wanted {word:?} in {message:?}");
    }
}

/// Fails unless a verb failed.
#[track_caller]
pub fn failed(done: Done) {
    assert_ne!(done.code, 0, "{}", done.show());
}

/// What must not change: the process of the cell, and what the Serving says.
#[derive(Debug, PartialEq)]
pub struct Live {
    pub pid: Value,
    pub preparation: String,
    pub digest: String,
}

pub fn live(host: &Host) -> Live {
    let cell = host.get("cell", "web");
    assert_eq!(cell["status"]["state"], "Ready", "{cell}");
    let serving = host.get("serving", "web");
    Live {
        pid: cell["status"]["containers"][0]["pid"].clone(),
        preparation: active(host, "web"),
        digest: text(&serving["status"]["deployedDigest"]),
    }
}

fn revision(host: &Host) -> i64 {
    let found = host.get("recipe", "web");
    found["status"]["revision"].as_i64().unwrap_or_default()
}

pub fn coloured(colour: &str) -> String {
    let with = format!("image: busybox\n      env: [COLOUR={colour}]");
    sleeper("web").replace("image: busybox", &with)
}

fn sources_that_cannot_be_had(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let mut registry = Registry::start(&host)?;
    registry.push_files("team/app:v1", &[("manifest.yaml", &sleeper("web"))]);
    host.apply(&pantry(PASSWORD)).ok();
    let wanted = "{pantryRef: {name: larder}, version: v1}";
    host.apply(&recipe(wanted, "")).ok();
    host.kuke(&["promote", "web", "--wait"]).ok();
    let (before, first) = (live(&host), latest(&host, "web"));
    let resolved = text(&host.get("recipe", "web")["status"]["resolvedSourceDigest"]);

    // It goes down, and comes back.
    registry.kill();
    failed(host.kuke(&["recipe", "refresh", "web"]));
    says(
        &host,
        "recipe",
        "SourceUnavailable",
        &[ADDRESS, "tried again"],
    );
    assert_eq!((live(&host), latest(&host, "web")), (before, first.clone()));
    registry.restart();
    if mode == Mode::InProcess {
        host.kuke(&["recipe", "refresh", "web"]).ok();
    }
    eventually(60.0, "it is ready by itself", || {
        ready(&host, "recipe", "web").0 == "True"
    });
    assert_eq!(revision(&host), 1, "the same content is no new revision");
    let before = live(&host);

    // What is not there, and what is not what was pinned.
    failed(host.apply(&recipe("{pantryRef: {name: larder}, version: v9}", "")));
    says(&host, "recipe", "SourceNotFound", &["v9", "spec.source"]);
    let other = format!("sha256:{}", "0".repeat(64));
    let pinned = |digest: &str| {
        recipe(
            &format!("{{pantryRef: {{name: larder}}, version: v1, digest: '{digest}'}}"),
            "",
        )
    };
    failed(host.apply(&pinned(&other)));
    let words = [&*other, &*resolved, "spec.source.digest"];
    says(&host, "recipe", "SourceDigestMismatch", &words);
    failed(host.apply(&recipe("{pantryRef: {name: nobody}, version: v1}", "")));
    says(
        &host,
        "recipe",
        "SourceNotFound",
        &["nobody", "apply the Pantry"],
    );
    host.apply(&pinned(&resolved)).ok();
    assert_eq!((live(&host), latest(&host, "web")), (before, first.clone()));
    host.apply(&recipe(wanted, "")).ok();

    // A login that changes is no new content, and one that is wrong is said.
    let (before, revisions) = (live(&host), revision(&host));
    host.apply(&pantry("wrong"));
    eventually(20.0, "the pantry says so", || {
        ready(&host, "pantry", "larder").1 == "Unauthorized"
    });
    assert_eq!(ready(&host, "recipe", "web").0, "True", "nobody had to ask");
    failed(host.kuke(&["recipe", "refresh", "web"]));
    says(&host, "recipe", "SourceUnavailable", &["login"]);
    host.apply(&pantry(PASSWORD)).ok();
    host.kuke(&["recipe", "refresh", "web"]).ok();
    eventually(20.0, "the login is good", || {
        ready(&host, "pantry", "larder").0 == "True"
    });
    assert_eq!((revision(&host), live(&host)), (revisions, before));

    // A tag that moved is seen when it is asked for, and not before.
    let before = live(&host);
    registry.push_files("team/app:v1", &[("manifest.yaml", &coloured("blue"))]);
    host.kuke(&["sync", "web", "--wait"]).ok();
    assert_eq!(latest(&host, "web"), first);
    host.kuke(&["recipe", "refresh", "web"]).ok();
    assert_ne!(latest(&host, "web"), first);
    host.kuke(&["history", "web"])
        .ok()
        .says(&["automatic: the source changed"]);
    assert_eq!(live(&host), before);
    host.kuke(&["promote", "web", "--wait"]).ok();
    host.finish();
    Ok(())
}

/// The shortest interval is 30 s.
fn a_moved_tag_is_polled() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let registry = Registry::start(&host)?;
    registry.push_files("team/app:v1", &[("manifest.yaml", &sleeper("web"))]);
    host.apply(&pantry(PASSWORD)).ok();
    let polled = "{pantryRef: {name: larder}, version: v1, pollInterval: 30s}";
    failed(host.apply(&recipe(&polled.replace("30s", "29s"), "")));
    host.apply(&recipe(polled, "  autoDeployLatest: true\n"))
        .ok();
    host.kuke(&["wait", "serving/web", "--timeout", "30s"]).ok();
    registry.push_files("team/app:v1", &[("manifest.yaml", &coloured("blue"))]);
    eventually(50.0, "the new content is deployed", || {
        let cell = host.get("cell", "web");
        cell["spec"]["containers"][0]["env"][0] == "COLOUR=blue"
    });
    host.finish();
    Ok(())
}

fn renders_that_cannot_be(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let dir = source(&host, &sleeper("web"));
    let plain = format!("{{path: {dir}}}");
    host.apply(&recipe(&plain, "")).ok();
    host.kuke(&["promote", "web", "--wait"]).ok();
    let (before, first) = (live(&host), latest(&host, "web"));

    let patch =
        |rest: &str| format!("  patches:\n    - target: {{kind: Cell, name: web}}\n      {rest}\n");
    let missing = patch("unset: [.spec.x]").replace("name: web", "name: nobody");
    let kubectl = installed("kubectl")
        .or_else(|_| installed("kustomize"))
        .is_ok();
    let mut table = vec![
        (missing, "PatchTargetMissing", vec!["patches[0]", "nobody"]),
        (
            patch("unset: ['.spec.a[']"),
            "PatchPathInvalid",
            vec!["patches[0]"],
        ),
        (
            patch("set: {'.spec.containers[id=none].image': x}"),
            "PatchPathInvalid",
            vec!["id=none"],
        ),
    ];
    if kubectl {
        let render = "  render: {kustomize: {path: broken}}\n".to_owned();
        let none = "  render: {kustomize: {}}\n".to_owned();
        table.push((none, "SourceKindMismatch", vec!["render.kustomize"]));
        table.push((render, "RenderFailed", vec!["nothing-here.yaml"]));
        let broken = PathBuf::from(&dir).join("broken");
        fs::create_dir(&broken).unwrap();
        let file = broken.join("kustomization.yaml");
        fs::write(file, "resources: [nothing-here.yaml]\n").unwrap();
    }
    for (more, reason, words) in table {
        failed(host.apply(&recipe(&plain, &more)));
        says(&host, "recipe", reason, &words);
        assert_eq!(latest(&host, "web"), first);
    }
    // Two of one name: which one is meant?
    let twice = format!(
        "{}---\n{}",
        sleeper("web"),
        sleeper("web").replace("spaceId: default", "spaceId: shop")
    );
    host.file("app/manifest.yaml", &twice);
    failed(host.apply(&recipe(&plain, &patch("unset: [.spec.x]"))));
    says(&host, "recipe", "AmbiguousTarget", &["patches[0]", "web"]);
    host.file("app/manifest.yaml", "kind: Cell\nmetadata: {name: web\n");
    failed(host.apply(&recipe(&plain, "")));
    says(&host, "recipe", "ManifestInvalid", &["manifest.yaml:2:"]);
    // A chart without its renderer's options, then without its renderer.
    fs::remove_file(PathBuf::from(&dir).join("manifest.yaml")).unwrap();
    host.file(
        "app/Chart.yaml",
        "apiVersion: v2\nname: demo\nversion: 0.1.0\n",
    );
    failed(host.apply(&recipe(&plain, "  allowEmpty: true\n")));
    says(&host, "recipe", "SourceKindMismatch", &["render.helm"]);
    if mode == Mode::InProcess {
        let document = recipe(&plain, "  render: {helm: {}}\n");
        let document = host.file("helm.yaml", document);
        failed(without_helm(&host, &["apply", "-f", &document]));
        says(&host, "recipe", "RendererUnavailable", &["install helm"]);
    }
    assert_eq!((live(&host), latest(&host, "web")), (before, first));
    let made = host.kuke(&["get", "preps", "-o", "name"]).ok();
    assert_eq!(made.out.lines().count(), 1, "{}", made.out);
    host.finish();
    Ok(())
}

/// `kuke` as on a machine without helm: wherever there is one, something else is.
fn without_helm(host: &Host, arguments: &[&str]) -> Done {
    let kuke = host.command(Mode::InProcess, arguments);
    let script = "for dir in $(echo \"$PATH:/usr/local/bin:/usr/bin:/bin\" | tr : ' '); do
        if [ -e \"$dir/helm\" ]; then mount --bind /dev/null \"$dir/helm\" || exit 9; fi
        done; exec \"$@\"";
    let mut command = std::process::Command::new("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        script,
        "sh",
    ]);
    command.arg(kuke.get_program()).args(kuke.get_args());
    for (name, value) in kuke.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    Running::start(command, "kuke … without helm".to_owned(), None).wait(LIMIT)
}

/// Files of the blobs of what is active, the largest first.
fn blobs(host: &Host) -> Vec<PathBuf> {
    let all = host.run_path.join("registry/blobs/sha256");
    let dir = all.display().to_string();
    let found = system("find", &[&dir, "-type", "f", "-printf", "%s %p\n"]).ok();
    let mut files: Vec<(u64, PathBuf)> = found
        .out
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(size, path)| (size.parse().unwrap(), path.into()))
        .collect();
    files.sort_by(|a, b| b.cmp(a));
    files.into_iter().map(|(_, path)| path).collect()
}

fn artifacts_that_are_lost(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let dir = source(&host, &sleeper("web"));
    host.apply(&recipe(&format!("{{path: {dir}}}"), "")).ok();
    host.kuke(&["promote", "web", "--wait"]).ok();
    let before = live(&host);
    let digest = before.digest.trim_start_matches("sha256:").to_owned();
    let manifest = host
        .run_path
        .join(format!("registry/blobs/sha256/{}/{digest}", &digest[..2]));
    let layer = blobs(&host).remove(0);
    // A daemon has read the manifest, and what has this digest does not change.
    let files = match mode {
        Mode::Daemon => vec![&layer],
        Mode::InProcess => vec![&layer, &manifest],
    };
    for file in files {
        let bytes = fs::read(file).unwrap();
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        for damage in [None, Some(&bytes[..bytes.len() / 2]), Some(&flipped)] {
            match damage {
                None => fs::remove_file(file).unwrap(),
                Some(bytes) => fs::write(file, bytes).unwrap(),
            }
            failed(host.kuke(&["sync", "web", "--wait"]));
            says(
                &host,
                "serving",
                "ArtifactUnavailable",
                &["kuke recipe refresh web"],
            );
            assert_eq!(live(&host), before, "{}", file.display());
            failed(host.kuke(&["manifest", &before.preparation]));
            // What the message says helps, and renders the same again.
            host.kuke(&["recipe", "refresh", "web"]).ok();
            assert_eq!(fs::read(file).unwrap(), bytes);
            host.kuke(&["sync", "web", "--wait"]).ok();
            assert_eq!(live(&host), before);
            assert_eq!(revision(&host), 1, "nothing new was made");
        }
    }
    // The object itself is gone.
    let (below, name) = (
        host.run_path.display().to_string(),
        format!("{}.yaml", before.preparation),
    );
    let file = system("find", &[&below, "-name", &name]).ok().out;
    let file = file.trim().to_owned();
    assert!(!file.is_empty(), "{name} below {below}");
    let bytes = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    failed(host.kuke(&["sync", "web", "--wait"]));
    says(
        &host,
        "serving",
        "PreparationNotFound",
        &[&before.preparation, "kuke "],
    );
    assert_eq!(live(&host).pid, before.pid);
    fs::write(&file, bytes).unwrap();
    host.kuke(&["sync", "web", "--wait"]).ok();
    assert_eq!(live(&host), before);
    host.finish();
    Ok(())
}

/// The file of a Preparation's manifest.
pub fn manifest_of(host: &Host, preparation: &str) -> PathBuf {
    let digest = text(&host.get("prep", preparation)["spec"]["artifact"]["digest"]);
    let hex = digest.trim_start_matches("sha256:");
    host.run_path
        .join(format!("registry/blobs/sha256/{}/{hex}", &hex[..2]))
}

fn what_is_lost_is_not_promoted(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let dir = source(&host, &coloured("one"));
    let wanted = recipe(&format!("{{path: {dir}}}"), "");
    host.apply(&wanted).ok();
    let first = latest(&host, "web");
    host.kuke(&["promote", "web", "--wait"]).ok();
    host.file("app/manifest.yaml", coloured("two"));
    host.kuke(&["recipe", "refresh", "web"]).ok();
    let second = latest(&host, "web");
    let history = || host.kuke(&["history", "web", "-o", "json"]).ok().out;
    let (before, told) = (live(&host), history());
    let refused = |arguments: &[&str], preparation: &str| {
        host.kuke(arguments).code(4).says(&[
            preparation,
            "nothing was changed",
            "kuke recipe refresh web",
        ]);
        assert_eq!((&live(&host), &history()), (&before, &told));
    };
    let file = manifest_of(&host, &second);
    let bytes = fs::read(&file).unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    for damage in [None, Some(&bytes[..0]), Some(&flipped)] {
        match damage {
            None => fs::remove_file(&file).unwrap(),
            Some(bytes) => fs::write(&file, bytes).unwrap(),
        }
        let digest = text(&host.get("prep", &second)["spec"]["artifact"]["digest"]);
        refused(&["promote", "web"], &digest);
        refused(&["promote", "web", "--dry-run"], &digest);
        // What the message says helps.
        host.kuke(&["recipe", "refresh", "web"]).ok();
        assert_eq!(fs::read(&file).unwrap(), bytes);
    }
    host.kuke(&["promote", "web", "--wait"]).ok();
    let (before, told) = (live(&host), history());
    assert_eq!(before.preparation, second);
    // The way back is looked at as well, and so is what was approved.
    let file = manifest_of(&host, &first);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, "damaged").unwrap();
    let digest = text(&host.get("prep", &first)["spec"]["artifact"]["digest"]);
    host.kuke(&["rollback", "web"])
        .code(4)
        .says(&[&digest, "nothing was changed"]);
    assert_eq!((&live(&host), &history()), (&before, &told));
    fs::write(&file, bytes).unwrap();
    host.kuke(&["rollback", "web", "--wait"]).ok();
    assert_eq!(live(&host).preparation, first);
    host.finish();
    Ok(())
}

/// A small file system below the registry's directory.
struct Small(PathBuf);

impl Small {
    fn mount(host: &Host) -> Self {
        let place = host.run_path.join("registry");
        fs::create_dir_all(&place).unwrap();
        let path = place.display().to_string();
        system(
            "mount",
            &["-t", "tmpfs", "-o", "size=1m,mode=0700", "none", &path],
        )
        .ok();
        Self(place)
    }

    fn fill(&self) {
        let path = self.0.join("filler").display().to_string();
        // It ends when nothing more fits.
        system("sh", &["-c", &format!("cat /dev/zero > {path}")]);
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        system("umount", &["-l", &self.0.display().to_string()]);
    }
}

fn no_room_for_artifacts(mode: Mode) -> Verdict {
    let mut host = Host::bare(mode, Engine::Shared);
    let small = Small::mount(&host);
    if mode == Mode::Daemon {
        host.start_daemon();
    }
    host.kuke(&["init"]).ok();
    host.load_busybox();
    let dir = source(&host, &sleeper("web"));
    let wanted = recipe(&format!("{{path: {dir}}}"), "");
    host.apply(&wanted).ok();
    host.kuke(&["promote", "web", "--wait"]).ok();
    let (before, first) = (live(&host), latest(&host, "web"));
    small.fill();
    let comment = "x".repeat(20_000);
    let long = coloured(&comment);
    host.file("app/manifest.yaml", &long);
    failed(host.kuke(&["recipe", "refresh", "web"]));
    says(&host, "recipe", "StoreFailed", &["space"]);
    assert_eq!((live(&host), latest(&host, "web")), (before, first.clone()));
    // What is there still activates.
    host.kuke(&["sync", "web", "--wait"]).ok();
    small.empty();
    if mode == Mode::InProcess {
        host.kuke(&["recipe", "refresh", "web"]).ok();
    }
    eventually(60.0, "it is stored by itself", || {
        latest(&host, "web") != first
    });
    host.kuke(&["promote", "web", "--wait"]).ok();
    host.kuke(&["registry", "verify"]).ok();
    host.stop_daemon();
    drop(small);
    if mode == Mode::Daemon {
        host.start_daemon();
    }
    host.finish();
    Ok(())
}

fn a_release_that_never_gets_healthy() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let dir = source(&host, &sleeper("other"));
    let wanted = recipe(&format!("{{path: {dir}}}"), "")
        .replace("minHealthy: 0s", "minHealthy: 1500ms")
        .replace("20s", "3s");
    host.apply(&wanted).ok();
    host.kuke(&["promote", "web", "--wait"]).ok();
    let good = active(&host, "web");
    // One of its two containers is always on its way.
    let restless = format!(
        "{}{}",
        sleeper("other"),
        container("exit 1", &["restartPolicy: always"]).replace("id: main", "id: restless")
    );
    host.file("app/manifest.yaml", &restless);
    host.kuke(&["recipe", "refresh", "web"]).ok();
    failed(host.kuke(&["promote", "web", "--wait"]));
    says(
        &host,
        "serving",
        "HealthTimeout",
        &["other", "kuke rollback web"],
    );
    assert_eq!(
        active(&host, "web"),
        good,
        "never healthy is never observed"
    );
    host.kuke(&["rollback", "web", "--wait"]).ok();
    assert_eq!(ready(&host, "serving", "web").0, "True");
    host.finish();
    Ok(())
}
