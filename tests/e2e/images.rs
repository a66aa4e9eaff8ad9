//! Images: load, list, inspect, remove, prune, and pulls from a registry.

use std::fs;
use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use crate::cases_in_both_modes;
use crate::command::eventually;
use crate::host::{Host, LIMIT, Mode};
use crate::image::{Layout, architecture, busybox_config, busybox_layer};
use crate::manifest::shell;
use crate::registry::{ADDRESS, PASSWORD, Registry, USER};
use crate::runner::{Case, Verdict};
use crate::world::world;

pub const CASES: &[&[Case]] = &[cases_in_both_modes![
    load_list_inspect_remove_prune,
    load_compressed_and_from_stdin,
    docker_archive,
    corrupt_archives,
    other_platform,
    realm_is_kept_while_loading,
    pull_with_credentials,
    pulled_by_apply,
    wrong_digest_in_the_registry,
    registry_breaks_off,
]];

/// What the host has of images, without processes (a managed containerd's and our own come and go).
fn kept(host: &Host) -> crate::census::Census {
    host.census()
        .without(&["process", "mount", "mount of containerd"])
}

fn load_list_inspect_remove_prune(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let archive = world().busybox.display().to_string();
    host.kuke(&["image", "load", &archive]).ok().says(&[
        "loaded 1 image",
        "realm \"default\"",
        "docker.io/library/busybox:latest",
    ]);
    host.kuke(&["image", "list"]).ok().says(&[
        "docker.io/library/busybox:latest",
        "kukeon.internal/hello:latest",
    ]);
    host.kuke(&["get", "images"])
        .ok()
        .says(&["docker.io/library/busybox:latest"]);
    let detail = host
        .kuke(&["image", "inspect", "busybox", "-o", "json"])
        .ok()
        .json();
    assert_eq!(
        detail["image"]["name"], "docker.io/library/busybox:latest",
        "{detail:#}"
    );
    let listed = host.ctr("default", &["images", "ls"]).ok().out;
    let digest = detail["image"]["digest"].as_str().unwrap();
    assert!(listed.contains(digest), "{digest} in\n{listed}");
    host.apply(&shell("user", "exec sleep 1000", &[])).ok();
    host.await_state("user", "Ready");
    host.kuke(&["image", "prune"]).ok();
    host.kuke(&["image", "list"]).ok().says(&["busybox"]); // it is in use
    host.kuke(&["image", "rm", "busybox"])
        .code(4)
        .says(&["busybox", "user"]);
    host.kuke(&["delete", "cell", "user"]).ok();
    host.kuke(&["image", "rm", "busybox"])
        .ok()
        .says(&["deleted image \"docker.io/library/busybox:latest\""]);
    host.kuke(&["image", "rm", "busybox"])
        .code(3)
        .says(&["busybox", "not found"]);
    host.kuke(&["image", "inspect", "busybox"]).code(3);
    // Content and snapshots go with the image.
    let layers = host.ctr("default", &["content", "ls", "-q"]).ok().out;
    assert!(!layers.contains(digest), "{layers}");
    host.load_busybox();
    host.kuke(&["image", "prune"]).ok();
    host.kuke(&["image", "list"])
        .ok()
        .says_nothing_of(&["busybox"]);
    host.kuke(&["image", "load", &archive, "--realm", "nowhere"])
        .code(3)
        .says(&["nowhere"]);
    host.kuke(&["image", "load", "/no/such/file.tar"])
        .code(3)
        .says(&["/no/such/file.tar"]);
    host.finish();
    Ok(())
}

fn load_compressed_and_from_stdin(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let archive = fs::read(&world().busybox).unwrap();
    host.kuke(&["image", "rm", "busybox"]).ok();
    host.kuke_with(&["image", "load", "-"], archive.clone())
        .ok()
        .says(&["busybox"]);
    let packed = host.dir.join("busybox.tar.gz").display().to_string();
    crate::command::system(
        "sh",
        &[
            "-c",
            &format!("gzip -c {} > {packed}", world().busybox.display()),
        ],
    )
    .ok();
    host.kuke(&["image", "rm", "busybox"]).ok();
    host.kuke(&["image", "load", &packed])
        .ok()
        .says(&["busybox"]);
    host.apply(&shell("c", "exec sleep 1000", &[])).ok();
    host.await_state("c", "Ready");
    host.finish();
    Ok(())
}

/// What `docker save` writes, made by skopeo.
fn docker_archive(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let layout = Layout::new(
        &host.dir.join("layout"),
        "legacy",
        architecture(),
        &busybox_layer(&host.dir),
        busybox_config(),
    );
    let target = format!(
        "docker-archive:{}/saved.tar:example.org/legacy:7",
        host.dir.display()
    );
    let source = format!("oci:{}", layout.dir().display());
    let skopeo = crate::command::system("skopeo", &["--insecure-policy", "copy", &source, &target]);
    if skopeo.code != 0 {
        return Err(crate::runner::Skip(format!(
            "skopeo cannot write the archive: {}",
            skopeo.err.trim()
        )));
    }
    let archive = host.dir.join("saved.tar").display().to_string();
    host.kuke(&["image", "load", &archive])
        .ok()
        .says(&["example.org/legacy:7"]);
    host.apply(
        &shell("c", "exec sleep 1000", &[])
            .replace("image: busybox", "image: example.org/legacy:7"),
    )
    .ok();
    host.await_state("c", "Ready");
    host.finish();
    Ok(())
}

fn corrupt_archives(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let before = kept(&host);
    let whole = fs::read(&world().busybox).unwrap();
    let cut = host.file("cut.tar", &whole[..whole.len() / 2]);
    host.kuke(&["image", "load", &cut])
        .code(2)
        .says(&["cut.tar"]);
    let noise = host.file("noise.tar", vec![0x5a; 100_000]);
    host.kuke(&["image", "load", &noise])
        .code(2)
        .says(&["noise.tar"]);
    let empty = host.file("empty.tar", "");
    host.kuke(&["image", "load", &empty])
        .code(2)
        .says(&["empty.tar"]);
    let bent = Layout::new(
        &host.dir.join("bent"),
        "example.org/bent:1",
        architecture(),
        &busybox_layer(&host.dir),
        busybox_config(),
    );
    let blob = bent.blob(&bent.layer);
    let mut bytes = fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let archive = bent.pack().display().to_string();
    host.kuke(&["image", "load", &archive])
        .code(2)
        .says(&["digest", &bent.layer[..12], "bent"]);
    assert_eq!(before.difference(&kept(&host)), "");
    host.finish();
    Ok(())
}

/// A realm is not deleted under an archive that is being read.
fn realm_is_kept_while_loading(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply("apiVersion: v1beta1\nkind: Realm\nmetadata: {name: r}\nspec: {}\n")
        .ok();
    let pipe = host.dir.join("pipe");
    nix::unistd::mkfifo(
        &pipe,
        nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR,
    )
    .unwrap();
    let load = host.start(&["image", "load", &pipe.display().to_string(), "--realm", "r"]);
    let archive = fs::read(&world().busybox).unwrap();
    let mut writer = fs::File::options().write(true).open(&pipe).unwrap();
    let (front, rest) = archive.split_at(archive.len() / 2);
    writer.write_all(front).unwrap();
    eventually(20.0, "the archive is being read", || {
        !host.ctr("r", &["leases", "ls", "-q"]).ok().out.is_empty()
    });
    let mut delete = host.start(&["delete", "realm", "r", "--cascade"]);
    std::thread::sleep(Duration::from_millis(500));
    assert!(delete.alive(), "it waits");
    writer.write_all(rest).unwrap();
    drop(writer);
    load.wait(LIMIT).ok().says(&["loaded 1 image"]);
    delete.wait(LIMIT).ok();
    host.kuke(&["get", "realm", "r"]).code(3);
    host.finish();
    Ok(())
}

fn other_platform(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let before = kept(&host);
    let other = if architecture() == "amd64" {
        "arm64"
    } else {
        "amd64"
    };
    let layer = busybox_layer(&host.dir);
    let alien = Layout::new(
        &host.dir.join("alien"),
        "example.org/alien:1",
        other,
        &layer,
        busybox_config(),
    );
    let archive = alien.pack().display().to_string();
    host.kuke(&["image", "load", &archive]).code(4).says(&[
        "example.org/alien:1",
        other,
        architecture(),
    ]);
    assert_eq!(before.difference(&kept(&host)), "");
    host.finish();
    Ok(())
}

pub fn realm(password: &str) -> String {
    format!(
        "apiVersion: v1beta1\nkind: Realm\nmetadata: {{name: default}}\nspec:\n  registryCredentials:\n    - serverAddress: {ADDRESS}\n      username: {USER}\n      password: {password}\n"
    )
}

fn pull_with_credentials(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let registry = Registry::start(&host)?;
    registry.push("team/box:1");
    registry.push("team/box:2");
    let reference = format!("{ADDRESS}/team/box:1");
    host.kuke(&["image", "pull", &reference])
        .code(6)
        .says(&[ADDRESS, "registryCredentials"]);
    host.apply(&realm("wrong")).ok();
    host.kuke(&["image", "pull", &reference])
        .code(6)
        .says(&[ADDRESS])
        .says_nothing_of(&["wrong"]);
    host.apply(&realm(PASSWORD)).ok();
    host.kuke(&["image", "pull", &reference])
        .ok()
        .says(&[&reference]);
    host.kuke(&["image", "pull", &reference]).ok(); // nothing to fetch
    host.kuke(&["image", "list"]).ok().says(&[&reference]);
    host.kuke(&["image", "pull", &format!("{ADDRESS}/team/box:none")])
        .code(3)
        .says(&["team/box:none"]);
    host.kuke(&["image", "pull", &format!("{ADDRESS}/team/nothing")])
        .code(3)
        .says(&["team/nothing"]);
    let tags = host
        .kuke(&["image", "tags", &format!("{ADDRESS}/team/box")])
        .ok();
    let mut listed: Vec<&str> = tags.out.lines().collect();
    listed.sort_unstable(); // the registry says no order
    assert_eq!(listed, ["1", "2"]);
    // The password is kept for root only and never shown.
    host.kuke(&["get", "realm", "default", "-o", "yaml"])
        .ok()
        .says(&[USER])
        .says_nothing_of(&[PASSWORD]);
    assert!(!host.daemon_log().contains(PASSWORD));
    let by_digest = host
        .kuke(&["image", "inspect", &reference, "-o", "json"])
        .ok()
        .json();
    let digest = by_digest["image"]["digest"].as_str().unwrap().to_owned();
    let pinned = format!("{ADDRESS}/team/box@{digest}");
    host.kuke(&["image", "pull", &pinned]).ok();
    host.apply(
        &shell("c", "exec sleep 1000", &[]).replace("image: busybox", &format!("image: {pinned}")),
    )
    .ok();
    host.await_state("c", "Ready");
    assert_eq!(host.container("c", "main")["imageDigest"], digest.as_str());
    host.finish();
    Ok(())
}

fn pulled_by_apply(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let mut registry = Registry::start(&host)?;
    registry.push("team/box:1");
    host.apply(&realm(PASSWORD)).ok();
    let manifest = shell("c", "exec sleep 1000", &[])
        .replace("image: busybox", &format!("image: {ADDRESS}/team/box:1"));
    host.apply(&manifest).ok().says(&["Cell \"c\": created"]);
    host.await_state("c", "Ready");
    // A missing image is fetched once: without the registry all goes on.
    registry.kill();
    host.kuke(&["delete", "cell", "c"]).ok();
    host.apply(&manifest).ok();
    host.await_state("c", "Ready");
    host.kuke(&["delete", "cell", "c"]).ok();
    let always = manifest.replace("id: main", "id: main\n      imagePullPolicy: always");
    host.apply(&always).code(5).says(&[ADDRESS]);
    host.kuke(&["delete", "cell", "c"]);
    host.kuke(&["image", "rm", &format!("{ADDRESS}/team/box:1")])
        .ok();
    let never = manifest.replace("id: main", "id: main\n      imagePullPolicy: never");
    host.apply(&never).code(3).says(&["team/box:1"]);
    host.finish();
    Ok(())
}

fn wrong_digest_in_the_registry(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let registry = Registry::start(&host)?;
    let layout = registry.push("team/box:1");
    host.apply(&realm(PASSWORD)).ok();
    let before = kept(&host);
    // skopeo may have compressed the layer: take whichever blob is the largest.
    let blobs = registry
        .blob(&layout.manifest)
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .to_owned();
    let largest = format!(
        "find {} -name data -printf '%s %p\\n' | sort -n | tail -n 1 | cut -d' ' -f2",
        blobs.display()
    );
    let file = crate::command::system("sh", &["-c", &largest]).ok().out;
    let mut bytes = fs::read(file.trim()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file.trim(), bytes).unwrap();
    host.kuke(&["image", "pull", &format!("{ADDRESS}/team/box:1")])
        .code(1)
        .says(&["digest", "team/box:1"]);
    assert_eq!(
        before.difference(&kept(&host)),
        "",
        "the bad blob is not kept"
    );
    host.finish();
    Ok(())
}

/// A pull that breaks off in the middle leaves nothing but what it can go on from.
fn registry_breaks_off(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let registry = Registry::start(&host)?;
    registry.push_noise("team/big:1", 24_000_000);
    let relayed = "127.0.0.1:5055";
    let left = registry.relay(5055, 6_000_000);
    host.apply(&realm(PASSWORD).replace(ADDRESS, relayed)).ok();
    let reference = format!("{relayed}/team/big:1");
    let before = kept(&host).without(&["content"]);
    host.kuke(&["image", "pull", &reference])
        .code(5)
        .says(&["team/big:1"]);
    let difference = before.difference(&kept(&host).without(&["content"]));
    assert_eq!(difference, "", "only what a next pull goes on from is kept");
    host.kuke(&["image", "list"])
        .ok()
        .says_nothing_of(&["team/big"]);
    left.store(i64::MAX, Ordering::Relaxed);
    host.kuke(&["image", "pull", &reference]).ok();
    eventually(5.0, "it is there", || {
        host.kuke(&["image", "list"]).out.contains("team/big")
    });
    // A registry that is not there at all.
    let done = host
        .kuke(&["image", "pull", "127.0.0.1:5999/team/big:1"])
        .code(5);
    assert!(done.took < Duration::from_secs(30), "{done:?}");
    assert!(json!(done.err).to_string().contains("5999"));
    host.finish();
    Ok(())
}
