//! Archives: what comes in, and what a bad one leaves (nothing).

use std::io::Cursor;

use kukeon::model::ProgressSink;
use kukeon::runtime::{Containerd, Error, Runtime};

use super::build;
use super::host::{Host, missing, run};

const NEEDS: &[&str] = &["containerd", "ctr", "runc", "busybox"];

pub async fn load(
    runtime: &Containerd,
    namespace: &str,
    bytes: Vec<u8>,
) -> Result<Vec<String>, Error> {
    let archive = Box::new(Cursor::new(bytes));
    runtime
        .load_image(namespace, archive, ProgressSink::none())
        .await
}

/// containerd's own client agrees that the image is whole, and runs it.
pub fn runs(host: &Host, namespace: &str, name: &str) {
    is_whole(host, namespace, name);
    // Of its own, which goes with the container: what ctr makes by itself stays.
    let cgroup = format!("/kukeon-test-image-{}-{namespace}", std::process::id());
    let own = ["--cpu-shares", "0", "--cgroup", &cgroup];
    let args = [&["run", "--rm"][..], &own, &[name, "t1"]].concat();
    // Not by what it says: ctr drops the last words of what ends at once.
    let ended = host.ctr(namespace, &args).status.code();
    assert_eq!(ended, Some(build::ITS_CODE));
}

fn is_whole(host: &Host, namespace: &str, name: &str) {
    let checked = host.ok(namespace, &["images", "check", &format!("name=={name}")]);
    let row = checked.lines().find(|l| l.starts_with(name)).unwrap();
    assert!(
        row.contains("complete") && row.ends_with("true"),
        "{checked}"
    );
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

/// Every damage gets its error and leaves the namespace as it was: empty.
#[tokio::test]
async fn bad_archives_leave_nothing() {
    if missing("bad_archives_leave_nothing", NEEDS) {
        return;
    }
    let host = Host::start();
    let runtime = host.runtime();
    let good = build::simple("a", &["one"]);
    let whole = build::tar(&good);
    let layer_at =
        |files: &build::Files| files.iter().position(|(_, b)| b.len() > 100_000).unwrap();
    let changed = |change: &dyn Fn(&mut build::Files)| {
        let mut files = good.clone();
        change(&mut files);
        build::tar(&files)
    };
    let mut with_device = vec![];
    build::entry(&mut with_device, "x", 0o644, b"");
    with_device[156] = b'3';
    rechecksum(&mut with_device);
    let mut long_name = vec![];
    build::entry(&mut long_name, "././@LongLink", 0o644, &vec![b'a'; 3 << 20]);
    long_name[156] = b'L';
    // GNU's header, which alone may carry long names.
    long_name[257..265].copy_from_slice(b"ustar  \0");
    rechecksum(&mut long_name);
    let far = {
        let mut files = vec![];
        let image = build::image(&mut files, "s390x", &[build::layer("far")]);
        build::layout(&mut files, Some("far"), image);
        files
    };
    let unnamed = {
        let mut files = vec![];
        let image = build::image(&mut files, build::arch(), &[build::layer("one")]);
        build::layout(&mut files, None, image);
        files
    };
    let damaged: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "empty"),
        ("no tar", vec![b'x'; 4096], "cannot be read"),
        ("only zeros", vec![0; 4096], "not a tar archive"),
        ("truncated in a layer", whole[..1_000_000].to_vec(), ""),
        (
            "truncated in a header",
            whole[..whole.len() - 1300].to_vec(),
            "",
        ),
        (
            "wrong byte in a layer",
            changed(&|f| {
                let n = layer_at(f);
                f[n].1[5000] ^= 1;
            }),
            "digest of blob",
        ),
        (
            "layer is missing",
            changed(&|f| {
                let n = layer_at(f);
                f.remove(n);
            }),
            "is missing",
        ),
        (
            "no index",
            changed(&|f| f.retain(|(p, _)| p != "index.json")),
            "index.json",
        ),
        (
            "index twice",
            changed(&|f| {
                let i = f.iter().find(|(p, _)| p == "index.json").unwrap().clone();
                f.push(i);
            }),
            "comes twice",
        ),
        (
            "index is no JSON",
            changed(&|f| {
                for (p, b) in f.iter_mut() {
                    if p == "index.json" {
                        b.truncate(20);
                    }
                }
            }),
            "index is not valid",
        ),
        (
            "huge index",
            changed(&|f| {
                for (p, b) in f.iter_mut() {
                    if p == "index.json" {
                        b.resize(9 << 20, b' ');
                    }
                }
            }),
            "larger than",
        ),
        (
            "blob with another name",
            changed(&|f| f[0].0 = "blobs/sha256/nonsense".into()),
            "named by",
        ),
        (
            "absolute path",
            changed(&|f| f.push(("/etc/passwd".into(), vec![1]))),
            "absolute",
        ),
        (
            "path upwards",
            changed(&|f| f.push(("../../etc/passwd".into(), vec![1]))),
            "leads out",
        ),
        ("device", with_device, "neither file"),
        ("long name", long_name, "header is too large"),
        (
            "many entries",
            changed(&|f| f.extend((0..20_001).map(|n| (format!("{n}/VERSION"), vec![])))),
            "entries",
        ),
        (
            "bad name",
            build::tar(&build::simple("A b", &["one"])),
            "is invalid",
        ),
        ("unnamed", build::tar(&unnamed), "names no image"),
        (
            "unnamed docker",
            build::tar(&build::docker(&[], &["one"])),
            "names no image",
        ),
        ("other platform", build::tar(&far), "linux/s390x"),
        (
            "docker without its layer",
            {
                let mut f = build::docker(&["d"], &["one"]);
                f.remove(0);
                build::tar(&f)
            },
            "is missing",
        ),
    ];
    for (what, bytes, says) in damaged {
        let error = load(&runtime, "bad", bytes).await.expect_err(what);
        let kind = match what {
            "other platform" => matches!(error, Error::Platform { .. }),
            _ => matches!(error, Error::BadArchive(_)),
        };
        assert!(
            kind && error.to_string().contains(says),
            "{what}: {error:?}"
        );
        assert_eq!(host.left("bad"), [""; 0], "{what}: {error}");
    }
    // None of it was in the way.
    load(&runtime, "bad", whole).await.unwrap();
    runs(&host, "bad", "docker.io/library/a:latest");
}

fn rechecksum(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header[..512].iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[tokio::test]
async fn several_platforms_keep_the_index_and_this_platforms_layers() {
    if missing("several_platforms", NEEDS) {
        return;
    }
    let host = Host::start();
    let runtime = host.runtime();
    let mut files = vec![];
    let here = build::image(&mut files, build::arch(), &[build::layer("here")]);
    let far = build::image(&mut files, "s390x", &[build::layer("far")]);
    let index = build::index(&mut files, &[far, here]);
    build::layout(&mut files, Some("m:1"), index.clone());
    load(&runtime, "m", build::tar(&files)).await.unwrap();
    runs(&host, "m", "docker.io/library/m:1");
    let detail = runtime.image("m", "m:1").await.unwrap();
    assert_eq!(detail.info.digest, index["digest"]);
    assert!(detail.config.contains(build::arch()) && !detail.chain_id.is_empty());
    let listed = runtime.images("m").await.unwrap();
    assert_eq!(listed, [detail.info]);
    // The collector, once asked to run, takes what no one needs and no more.
    runtime.prune_images("other").await.unwrap();
    let kept = host.ok("m", &["content", "ls", "-q"]);
    assert!(
        kept.contains(&build::digest(&build::layer("here"))),
        "{kept}"
    );
    assert!(
        !kept.contains(&build::digest(&build::layer("far"))),
        "{kept}"
    );
    runs(&host, "m", "docker.io/library/m:1");
}

#[tokio::test]
async fn what_other_tools_write() {
    let mut needs = NEEDS.to_vec();
    needs.push("skopeo");
    if missing("what_other_tools_write", &needs) {
        return;
    }
    let host = Host::start();
    let runtime = host.runtime();
    let source = host.path("source.tar");
    std::fs::write(&source, build::tar(&build::simple("s", &["one", "two"]))).unwrap();
    let from = format!("oci-archive:{}", source.display());
    for (kind, name) in [("docker-archive", "d:1"), ("oci-archive", "o:1")] {
        let path = host.path(kind);
        let to = format!("{kind}:{}:{name}", path.display());
        run("skopeo", &["copy", "-q", &from, &to]);
        let names = load(&runtime, kind, std::fs::read(&path).unwrap())
            .await
            .unwrap();
        assert_eq!(names, [format!("docker.io/library/{name}")]);
        runs(&host, kind, &names[0]);
        // And back: containerd's own client exports what we imported, and we
        // read that again.
        let exported = host.path("exported.tar");
        host.ok(
            kind,
            &["images", "export", exported.to_str().unwrap(), &names[0]],
        );
        let again = load(&runtime, "again", std::fs::read(&exported).unwrap())
            .await
            .unwrap();
        assert_eq!(again, names);
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_left_usable() {
    if missing("a_full_disk_is_told_and_left_usable", NEEDS) {
        return;
    }
    let host = Host::with_small_disk(24);
    let runtime = host.runtime();
    for (mib, what) in [(40, "content"), (14, "snapshot")] {
        let path = host.path("big.tar");
        build::big_docker_archive(&path, "big:1", mib);
        let file = Box::new(tokio::fs::File::open(&path).await.unwrap());
        let result = runtime.load_image("f", file, ProgressSink::none()).await;
        let error = result.expect_err(what);
        assert!(matches!(error, Error::Storage(_)), "{what}: {error:?}");
        assert_eq!(host.left("f"), [""; 0], "{what}");
    }
    let small = build::tar(&build::simple("small", &["one"]));
    load(&runtime, "f", small).await.unwrap();
    // `ctr run` would mount what only containerd sees.
    is_whole(&host, "f", "docker.io/library/small:latest");
}

/// A large layer passes through; it is never held in memory.
#[test]
fn memory_stays_flat() {
    if missing("memory_stays_flat", NEEDS) {
        return;
    }
    // The peak is the whole process's: it must run nothing else.
    if std::env::var_os("KUKEON_TEST_ALONE").is_none() {
        let alone = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "load::memory_stays_flat", "--nocapture"])
            .env("KUKEON_TEST_ALONE", "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&alone.stdout);
        // Not the inner summary: whoever counts tests would count it too.
        said.lines()
            .filter(|line| line.starts_with("layer of"))
            .for_each(|line| println!("{line}"));
        assert!(alone.status.success(), "{said}");
        return;
    }
    let host = Host::start();
    let size: u64 = std::env::var("KUKEON_TEST_LAYER_MIB").map_or(128, |v| v.parse().unwrap());
    let archive = host.path("big.tar");
    build::big_docker_archive(&archive, "big:1", size);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (names, grown) = runtime.block_on(async {
        let containerd = host.runtime();
        containerd.images("big").await.unwrap();
        // proc(5): 5 sets the peak to what is resident now.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = resident_peak();
        let file = Box::new(tokio::fs::File::open(&archive).await.unwrap());
        let names = containerd
            .load_image("big", file, ProgressSink::none())
            .await;
        (names.unwrap(), resident_peak() - before)
    });
    println!("layer of {size} MiB: the peak grew by {grown} KiB");
    assert_eq!(names, ["docker.io/library/big:1"]);
    assert!(grown < 24 << 10, "{grown} KiB for {size} MiB");
}

/// Peak resident memory of this process in KiB.
fn resident_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
