//! What stays and what goes: the built-in image, removal, pruning.

use std::io::Cursor;
use std::path::Path;

use kukeon::model::ProgressSink;
use kukeon::runtime::{Error, HELLO_IMAGE, Runtime};

use super::build;
use super::host::{Host, missing};
use super::load::load;

const NEEDS: &[&str] = &["containerd", "ctr", "runc", "busybox"];

#[tokio::test]
async fn the_built_in_image_is_made_once() {
    if missing("the_built_in_image_is_made_once", NEEDS) {
        return;
    }
    let host = Host::start();
    let runtime = host.runtime();
    // Any static program will do here.
    let program = host.path("program");
    std::fs::copy("/bin/busybox", &program).unwrap();
    assert!(runtime.ensure_builtin_image("n", &program).await.unwrap());
    let first = runtime.image("n", HELLO_IMAGE).await.unwrap();
    assert!(
        first.config.contains(r#""Entrypoint":["/kuke","hello"]"#),
        "{}",
        first.config
    );
    assert!(first.config.contains("8080/tcp") && !first.chain_id.is_empty());
    assert!(!runtime.ensure_builtin_image("n", &program).await.unwrap());
    // Another file with the same bytes makes the same image.
    let copy = host.path("copy");
    std::fs::copy(&program, &copy).unwrap();
    assert!(!runtime.ensure_builtin_image("n", &copy).await.unwrap());
    assert!(runtime.ensure_builtin_image("other", &copy).await.unwrap());
    let other = runtime.image("other", HELLO_IMAGE).await.unwrap();
    assert_eq!(other.info.digest, first.info.digest);
    let modes = unpacked_modes(&host, &["tmp", "kuke", "etc/passwd"]);
    assert_eq!(modes, [0o1777, 0o755, 0o644]);
    // It is put back when something is missing.
    host.ok("n", &["images", "rm", "--sync", HELLO_IMAGE]);
    assert!(runtime.ensure_builtin_image("n", &copy).await.unwrap());
    // New bytes replace it, and the old ones go.
    let mut bytes = std::fs::read(&program).unwrap();
    bytes.push(0);
    std::fs::write(&program, bytes).unwrap();
    assert!(runtime.ensure_builtin_image("n", &program).await.unwrap());
    runtime.prune_images("n").await.unwrap();
    let images = runtime.images("n").await.unwrap();
    assert_eq!(images.len(), 1);
    assert_ne!(images[0].digest, first.info.digest);
    assert_eq!(host.ok("n", &["content", "ls", "-q"]).lines().count(), 3);
    assert_eq!(host.ok("n", &["leases", "ls", "-q"]), "");

    let dynamic = std::env::current_exe().unwrap();
    let error = runtime
        .ensure_builtin_image("d", &dynamic)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("crt-static"), "{error}");
    let error = runtime
        .ensure_builtin_image("d", Path::new("/etc/passwd"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("ELF"), "{error}");
    assert_eq!(host.left("d"), [""; 0]);
}

/// Permissions of files in the one snapshot that holds the program.
fn unpacked_modes(host: &Host, names: &[&str]) -> Vec<u32> {
    use std::os::unix::fs::PermissionsExt as _;

    let snapshots = host.path("root/io.containerd.snapshotter.v1.overlayfs/snapshots");
    let mut roots = std::fs::read_dir(snapshots)
        .unwrap()
        .map(|entry| entry.unwrap().path().join("fs"));
    let root = roots.find(|root| root.join("kuke").exists()).unwrap();
    let mode = |name: &&str| root.join(name).metadata().unwrap().permissions().mode() & 0o7777;
    names.iter().map(mode).collect()
}

#[tokio::test]
async fn removal_and_pruning_spare_what_is_used() {
    if missing("removal_and_pruning_spare_what_is_used", NEEDS) {
        return;
    }
    let host = Host::start();
    let runtime = host.runtime();
    for name in ["used", "idle", "kukeon.internal/own"] {
        let archive = build::tar(&build::simple(name, &[name, "common"]));
        load(&runtime, "p", archive).await.unwrap();
    }
    host.ok(
        "p",
        &[
            "containers",
            "create",
            "docker.io/library/used:latest",
            "box",
        ],
    );
    let error = runtime.remove_image("p", "used").await.unwrap_err();
    assert!(
        matches!(&error, Error::InUse(text) if text.contains("box")),
        "{error}"
    );
    let error = runtime.remove_image("p", "nowhere").await.unwrap_err();
    assert!(matches!(&error, Error::ImageNotFound(n) if n == "docker.io/library/nowhere:latest"));
    // A lease of ours whose process is gone, one of somebody else.
    let dead = "kukeon.io/lease-owner=4194304:1:gone";
    host.ok(
        "p",
        &[
            "leases",
            "create",
            "--id",
            "dead",
            "kukeon.io/lease=pull",
            dead,
        ],
    );
    host.ok("p", &["leases", "create", "--id", "foreign"]);
    let report = runtime.prune_images("p").await.unwrap();
    assert_eq!(report.images, ["docker.io/library/idle:latest"]);
    assert_eq!((report.leases_released, report.leases_retained), (1, 0));
    assert_eq!(host.ok("p", &["leases", "ls", "-q"]).trim(), "foreign");
    let kept = runtime.image_digests("p").await.unwrap();
    let names: Vec<_> = kept.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "docker.io/library/used:latest",
            "kukeon.internal/own:latest"
        ]
    );
    let content = host.ok("p", &["content", "ls", "-q"]);
    assert!(
        !content.contains(&build::digest(&build::layer("idle"))),
        "{content}"
    );
    assert!(
        content.contains(&build::digest(&build::layer("used"))),
        "{content}"
    );

    host.ok("p", &["containers", "rm", "box"]);
    host.ok("p", &["leases", "rm", "foreign"]);
    for name in ["used", "kukeon.internal/own:latest"] {
        runtime.remove_image("p", name).await.unwrap();
    }
    assert_eq!(host.left("p"), [""; 0], "removal is synchronous");
}

/// Many loads and queries at the same time, of the same and of other images.
#[tokio::test(flavor = "multi_thread")]
async fn loads_side_by_side_share_chains() {
    if missing("loads_side_by_side_share_chains", NEEDS) {
        return;
    }
    let host = Host::start();
    let runtime = host.runtime();
    let loads = (0..6).map(|n| {
        let files = build::simple(&format!("i{}", n % 3), &["common", "second"]);
        let archive = Box::new(Cursor::new(build::tar(&files)));
        runtime.load_image("s", archive, ProgressSink::none())
    });
    for result in futures::future::join_all(loads).await {
        result.unwrap();
    }
    assert_eq!(runtime.images("s").await.unwrap().len(), 3);
    let snapshots = host.ok("s", &["snapshots", "ls"]);
    assert_eq!(
        snapshots
            .lines()
            .filter(|l| l.contains("Committed"))
            .count(),
        2,
        "{snapshots}"
    );
    assert!(!snapshots.contains("extract-"), "{snapshots}");
}
