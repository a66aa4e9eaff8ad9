//! Archives: what comes in, and what a bad one leaves (nothing).

use std::io::Cursor;

use kukeon::model::ProgressSink;
use kukeon::runtime::{Containerd, Error, Runtime};

use super::build;
use super::host::{Host, missing, run};

const NEEDS: &[&str] = &["containerd", "ctr", "runc", "busybox"];

async fn load(runtime: &Containerd, namespace: &str, bytes: Vec<u8>) -> Result<Vec<String>, Error> {
    let archive = Box::new(Cursor::new(bytes));
    runtime
        .load_image(namespace, archive, ProgressSink::none())
        .await
}

/// containerd's own client agrees that the image is whole, and runs it.
pub fn runs(host: &Host, namespace: &str, name: &str) {
    let checked = host.ok(namespace, &["images", "check", &format!("name=={name}")]);
    let row = checked.lines().find(|l| l.starts_with(name)).unwrap();
    assert!(
        row.contains("complete") && row.ends_with("true"),
        "{checked}"
    );
    let args = ["run", "--rm", "--cpu-shares", "0", name, "t1"];
    assert_eq!(host.ok(namespace, &args).trim(), "it runs");
}

#[tokio::test]
async fn layouts_and_docker_archives_in_any_order_and_compression() {
    if missing("layouts_and_docker_archives", NEEDS) {
        return;
    }
    let host = Host::start();
    let runtime = host.runtime();
    let plain = build::tar(&build::simple("a:1", &["one", "two"]));
    assert_eq!(
        load(&runtime, "a", plain).await.unwrap(),
        ["docker.io/library/a:1"]
    );
    runs(&host, "a", "docker.io/library/a:1");

    let mut files = build::simple("localhost:5000/b", &["one"]);
    files.reverse();
    let backwards = build::tar(&files);
    let names = load(&runtime, "b", backwards.clone()).await.unwrap();
    assert_eq!(names, ["localhost:5000/b:latest"]);
    runs(&host, "b", "localhost:5000/b:latest");
    // Again: the same.
    assert_eq!(load(&runtime, "b", backwards).await.unwrap(), names);

    let docker = build::docker(&["c:1", "c:2"], &["three", "four"]);
    let names = load(&runtime, "c", build::tar(&docker)).await.unwrap();
    assert_eq!(names, ["docker.io/library/c:1", "docker.io/library/c:2"]);
    runs(&host, "c", "docker.io/library/c:2");

    for (program, suffix) in [("gzip", "gz"), ("zstd", "zst")] {
        let path = host.path("packed.tar");
        std::fs::write(&path, build::tar(&build::simple("d", &["five"]))).unwrap();
        run(program, &["-f", "-q", path.to_str().unwrap()]);
        let packed = std::fs::read(host.path(&format!("packed.tar.{suffix}"))).unwrap();
        load(&runtime, suffix, packed.clone()).await.unwrap();
        runs(&host, suffix, "docker.io/library/d:latest");
        // A flipped bit near the end is found by the checksum or the digests.
        let mut broken = packed;
        let at = broken.len() - 6;
        broken[at] ^= 0x10;
        let error = load(&runtime, "broken", broken).await.unwrap_err();
        assert!(
            matches!(error, Error::BadArchive(_) | Error::Digest { .. }),
            "{error}"
        );
        assert_eq!(host.left("broken"), [""; 0]);
    }
}
