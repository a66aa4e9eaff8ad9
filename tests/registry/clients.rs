//! The programs that people use, as far as they are installed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use kukeon::oci::Digest;
use kukeon::registry::Scheme;
use serde_json::json;

use crate::support::{IMAGE, PASSWORD, Registry, USER, start, start_with};

/// Says so and ends the test where a program is missing.
macro_rules! need {
    ($test:literal, $program:literal) => {
        if !installed($program) {
            println!("skipped: {}: {} is not installed", $test, $program);
            return;
        }
    };
}

pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// A small image as an OCI layout; its digest.
fn layout(dir: &Path) -> Digest {
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = Digest::sha256(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        (digest, bytes.len())
    };
    // Two blocks of zeros are an empty archive. Compressed, or clients would do
    // that and change the manifest.
    let empty = [0; 1024];
    std::fs::write(dir.join("layer"), empty).unwrap();
    let gzip = Command::new("gzip")
        .arg("-cn")
        .arg(dir.join("layer"))
        .output();
    std::fs::remove_file(dir.join("layer")).unwrap();
    let (layer, layer_size) = put(&gzip.unwrap().stdout);
    let diff_id = Digest::sha256(&empty);
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id.as_str()]}});
    let (config, config_size) = put(config.to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "mediaType": IMAGE,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config.as_str(), "size": config_size},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": layer.as_str(), "size": layer_size}]});
    let (manifest, size) = put(manifest.to_string().as_bytes());
    let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": IMAGE,
        "digest": manifest.as_str(), "size": size,
        "annotations": {"org.opencontainers.image.ref.name": "v1"}}]});
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    manifest
}

/// Runs a program in a home of its own; its output, which must be a success.
async fn run(r: &Registry, program: &str, arguments: &[&str]) -> String {
    let output = try_run(r, program, arguments).await;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned() + &errors
}

async fn try_run(r: &Registry, program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("HOME", r.path())
        .env("XDG_RUNTIME_DIR", r.path())
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .current_dir(r.path());
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

fn login() -> String {
    format!("{USER}:{PASSWORD}")
}

#[tokio::test]
async fn skopeo_pushes_inspects_pulls_and_deletes() {
    need!("skopeo", "skopeo");
    let r = start().await;
    let digest = layout(&r.path().join("image"));
    let at = format!("docker://{}/team/app:v1", r.host());
    let creds = login();
    let plain = ["--tls-verify=false", "--creds", &creds];
    let push = [
        "copy",
        "--dest-tls-verify=false",
        "--dest-creds",
        &creds,
        "oci:image:v1",
        &at,
    ];
    run(&r, "skopeo", &push).await;
    let inspect = [&["inspect"], plain.as_slice(), &[&at]].concat();
    let shown = run(&r, "skopeo", &inspect).await;
    assert!(shown.contains(digest.as_str()), "{shown}");
    let pull = [
        "copy",
        "--src-tls-verify=false",
        "--src-creds",
        &creds,
        &at,
        "oci:back:v1",
    ];
    run(&r, "skopeo", &pull).await;
    let back = r.path().join("back/blobs/sha256").join(digest.hex());
    assert!(back.exists());
    let delete = [&["delete"], plain.as_slice(), &[&at]].concat();
    run(&r, "skopeo", &delete).await;
    let gone = try_run(&r, "skopeo", &inspect).await;
    assert!(!gone.status.success());
}

#[tokio::test]
async fn skopeo_reads_and_writes_what_is_exported_and_imported() {
    need!("skopeo layout", "skopeo");
    let r = start().await;
    let digest = layout(&r.path().join("image"));
    run(
        &r,
        "skopeo",
        &["copy", "oci:image:v1", "oci-archive:in.tar:v1"],
    )
    .await;
    let archive = tokio::fs::File::open(r.path().join("in.tar"))
        .await
        .unwrap();
    let repository = "team/app".parse().unwrap();
    let policy = kukeon::registry::Policy::Enforce;
    let storage = r.storage();
    let imported = storage
        .import(&repository, None, archive, policy)
        .await
        .unwrap();
    assert_eq!(
        imported.manifests,
        [(digest.clone(), Some("v1".parse().unwrap()))]
    );
    let out = tokio::fs::File::create(r.path().join("out.tar"))
        .await
        .unwrap();
    storage.export(&repository, &[], out).await.unwrap();
    let shown = run(&r, "skopeo", &["inspect", "oci-archive:out.tar:v1"]).await;
    assert!(shown.contains(digest.as_str()), "{shown}");
}

#[tokio::test]
async fn skopeo_over_tls_trusts_the_generated_authority() {
    need!("skopeo tls", "skopeo");
    let r = start_with(|c| c.scheme = Scheme::Tls).await;
    layout(&r.path().join("image"));
    let trusted = r.path().join("certs");
    std::fs::create_dir(&trusted).unwrap();
    let ca = r.path().join("registry/auth/ca.pem");
    std::fs::copy(ca, trusted.join("ca.crt")).unwrap();
    let at = format!("docker://{}/app:v1", r.host());
    let certs = trusted.display().to_string();
    let creds = login();
    let push = [
        "copy",
        "--dest-cert-dir",
        &certs,
        "--dest-creds",
        &creds,
        "oci:image:v1",
        &at,
    ];
    run(&r, "skopeo", &push).await;
    // Without it nobody is trusted.
    let push = ["copy", "--dest-creds", &creds, "oci:image:v1", &at];
    let refused = try_run(&r, "skopeo", &push).await;
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(errors.contains("certificate"), "{errors}");
}

#[tokio::test]
async fn podman_pulls_and_pushes() {
    need!("podman", "podman");
    let r = start().await;
    let image = r.path().join("image");
    layout(&image);
    push_layout(&r, &image, "team/app", "v1").await;
    let store = |name: &str| r.path().join(name).display().to_string();
    let (root, state) = (store("podman"), store("podman-run"));
    let common = [
        "--root",
        &root,
        "--runroot",
        &state,
        "--storage-driver",
        "vfs",
    ];
    let creds = login();
    let with = |arguments: &[&'static str]| {
        let mut all: Vec<String> = common.iter().map(|&a| a.to_owned()).collect();
        all.extend(arguments.iter().map(|&a| a.to_owned()));
        all.extend(["--tls-verify=false".into(), "--creds".into(), creds.clone()]);
        all
    };
    let here = format!("{}/team/app:v1", r.host());
    let there = format!("docker://{}/copy/app:v2", r.host());
    let mut pull = with(&["pull"]);
    pull.push(here.clone());
    let pull: Vec<&str> = pull.iter().map(String::as_str).collect();
    run(&r, "podman", &pull).await;
    let mut push = with(&["push", "--format", "oci"]);
    push.extend([here, there]);
    let push: Vec<&str> = push.iter().map(String::as_str).collect();
    run(&r, "podman", &push).await;
    let repository = "copy/app".parse().unwrap();
    let tags = r.storage().tags(&repository).unwrap();
    assert_eq!(tags, ["v2".parse().unwrap()]);
}

/// Hides the machine's containerd, which Docker would use, and keeps its key out
/// of the machine's `/etc`.
const APART: &str = "mount -t tmpfs none /run
mkdir /run/etc /run/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/work none /etc
exec \"$@\"";

/// Docker's daemon in a world of its own: it starts a containerd, and all of it
/// ends with the value.
struct Dockerd {
    child: Child,
    socket: String,
}

impl Dockerd {
    async fn start(dir: &Path) -> Self {
        let at = |name: &str| dir.join(name).display().to_string();
        let socket = format!("unix://{}", at("docker.sock"));
        std::fs::write(dir.join("docker.json"), "{}").unwrap();
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-ec", APART, "sh"])
            .args(["dockerd", "--host", &socket, "--data-root", &at("docker")])
            .args([
                "--exec-root",
                &at("docker-run"),
                "--pidfile",
                &at("docker.pid"),
            ])
            .args(["--config-file", &at("docker.json")])
            .args([
                "--storage-driver=vfs",
                "--bridge=none",
                "--ip-forward=false",
            ])
            .args(["--iptables=false", "--ip6tables=false"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("dockerd.log")).unwrap());
        let mut child = command.spawn().unwrap();
        for _ in 0..600 {
            let ended = child.try_wait().unwrap();
            let log = || std::fs::read_to_string(dir.join("dockerd.log")).unwrap();
            assert!(ended.is_none(), "dockerd: {}", log());
            if dir.join("docker.sock").exists() && log().contains("API listen on") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Self { child, socket }
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn docker_pulls_and_pushes() {
    need!("docker", "dockerd");
    let r = start().await;
    let image = r.path().join("image");
    layout(&image);
    push_layout(&r, &image, "team/app", "v1").await;
    let dockerd = Dockerd::start(r.path()).await;
    let (from, to) = (
        format!("{}/team/app:v1", r.host()),
        format!("{}/copy/app:v2", r.host()),
    );
    let refused = ["--host", &dockerd.socket, "pull", &from];
    assert!(!try_run(&r, "docker", &refused).await.status.success());
    let host = r.host();
    for arguments in [
        vec!["login", "--username", USER, "--password", PASSWORD, &host],
        vec!["pull", &from],
        vec!["tag", &from, &to],
        vec!["push", &to],
        vec!["image", "rm", &from, &to],
        vec!["pull", &to],
    ] {
        let all = [vec!["--host", &dockerd.socket], arguments].concat();
        run(&r, "docker", &all).await;
    }
    let tags = r.storage().tags(&"copy/app".parse().unwrap()).unwrap();
    assert_eq!(tags, ["v2".parse().unwrap()]);
}

#[tokio::test]
async fn crane_copies_and_validates() {
    need!("crane", "crane");
    let r = start().await;
    let image = r.path().join("image");
    let digest = layout(&image);
    push_layout(&r, &image, "team/app", "v1").await;
    let host = r.host();
    run(
        &r,
        "crane",
        &["auth", "login", &host, "-u", USER, "-p", PASSWORD],
    )
    .await;
    let (from, to) = (format!("{host}/team/app:v1"), format!("{host}/new/app:v2"));
    run(&r, "crane", &["--insecure", "copy", &from, &to]).await;
    let shown = run(&r, "crane", &["--insecure", "digest", &to]).await;
    assert_eq!(shown.trim(), digest.as_str());
    run(&r, "crane", &["--insecure", "validate", "--remote", &to]).await;
    let all = run(&r, "crane", &["--insecure", "catalog", &host]).await;
    assert_eq!(
        all.split_whitespace().collect::<Vec<_>>(),
        ["new/app", "team/app"]
    );
}

#[tokio::test]
async fn oras_attaches_and_discovers() {
    need!("oras", "oras");
    let r = start().await;
    std::fs::write(r.path().join("note.txt"), "hello").unwrap();
    let at = format!("{}/notes:v1", r.host());
    let common = ["--plain-http", "-u", USER, "-p", PASSWORD];
    let with = |verb: &'static str, rest: &[&'static str]| {
        let mut all: Vec<String> = vec![verb.into()];
        all.extend(common.iter().map(|&a| a.to_owned()));
        all.extend(rest.iter().map(|&a| a.to_owned()));
        all
    };
    let mut push = with("push", &["--artifact-type", "t/note"]);
    push.extend([at.clone(), "note.txt".into()]);
    let mut attach = with("attach", &["--artifact-type", "t/signature"]);
    attach.extend([at.clone(), "note.txt".into()]);
    let mut discover = with("discover", &[]);
    discover.push(at.clone());
    let mut pull = with("pull", &["-o", "back"]);
    pull.push(at);
    let mut shown = String::new();
    for arguments in [push, attach, pull, discover] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        shown = run(&r, "oras", &arguments).await;
    }
    assert!(shown.contains("t/signature"), "{shown}");
    let back = std::fs::read_to_string(r.path().join("back/note.txt"));
    assert_eq!(back.unwrap(), "hello");
}

/// Puts a layout into a repository without any client.
async fn push_layout(r: &Registry, dir: &Path, repository: &str, tag: &str) {
    let tar: PathBuf = r.path().join("layout.tar");
    let made = Command::new("tar")
        .arg("-C")
        .arg(dir)
        .arg("-cf")
        .arg(&tar)
        .arg(".")
        .status()
        .unwrap();
    assert!(made.success());
    let archive = tokio::fs::File::open(tar).await.unwrap();
    let (repository, tag) = (repository.parse().unwrap(), tag.parse().unwrap());
    let policy = kukeon::registry::Policy::Enforce;
    r.storage()
        .import(&repository, Some(&tag), archive, policy)
        .await
        .unwrap();
}
