//! Volumes: data that outlives cells.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

use crate::command::eventually;
use crate::host::{Host, Mode};
use crate::manifest::{shell, sleeper};
use crate::runner::{Case, Verdict};
use crate::{cases, cases_in_both_modes};

pub const CASES: &[&[Case]] = &[
    cases![data_survives_the_daemon, links_and_bad_names_lead_nowhere],
    cases_in_both_modes![
        data_outlives_the_cell,
        the_example_keeps_its_count,
        two_cells_share_a_volume,
        a_volume_goes_with_its_scope_unless_retained,
        what_a_cell_mounts_stays,
        volumes_that_are_not_there,
    ],
];

/// manifests/data.yaml, as it is.
fn the_example_keeps_its_count(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply(include_str!("../../manifests/data.yaml")).ok();
    host.await_log("counter", "1 /data/starts");
    host.kuke(&["restart", "counter"]).ok();
    host.await_log("counter", "2 /data/starts");
    let secret = ["exec", "counter", "--", "cat", "/run/secrets/greeting"];
    assert_eq!(host.kuke(&secret).ok().out, "nobody-else-sees-this");
    assert!(!log(&host, "counter").contains("nobody"));
    host.finish();
    Ok(())
}

const STACK: &str = "metadata: {name: data, realm: default, space: default, stack: default}";

fn volume(more: &str) -> String {
    format!("apiVersion: v1beta1\nkind: Volume\n{STACK}\n{more}")
}

const MOUNT: &str = "volumes: [{kind: volume, source: data, target: /data}]";

/// A cell that does something once and then sleeps.
fn with_volume(name: &str, script: &str, more: &[&str]) -> String {
    let script = format!("{script}; trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done");
    shell(name, &script, &[&[MOUNT], more].concat())
}

fn log(host: &Host, cell: &str) -> String {
    host.kuke(&["log", cell]).ok().out
}

fn get(host: &Host, scope: &[&str]) -> serde_json::Value {
    let words = ["get", "volume", "data", "-o", "json"];
    host.kuke(&[&words, scope].concat()).ok().json()
}

const IN_STACK: &[&str] = &["--space", "default", "--stack", "default"];

fn path(host: &Host) -> PathBuf {
    get(host, IN_STACK)["status"]["path"]
        .as_str()
        .unwrap()
        .into()
}

fn data_outlives_the_cell(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    // One request: the volume comes first, wherever it stands.
    let write = with_volume(
        "c",
        "id -u; echo kept > /data/file; ls -ldn /data",
        &["user: '1000:50'"],
    );
    let request = format!("{write}---\n{}", volume(""));
    host.kuke_with(&["apply", "-f", "-", "--dry-run"], request.as_str())
        .ok()
        .says(&["Volume \"data\": created", "Cell \"c\": created"]);
    host.kuke(&[
        "get", "volume", "data", "--space", "default", "--stack", "default",
    ])
    .code(3);
    host.apply(&request)
        .ok()
        .says(&["Volume \"data\": created", "Cell \"c\": created"]);
    host.apply(&request)
        .ok()
        .says(&["Volume \"data\": unchanged"]);
    let data = path(&host);
    eventually(10.0, "it has written", || data.join("file").exists());
    let owner = std::fs::metadata(&data).unwrap();
    assert_eq!((owner.uid(), owner.gid()), (1000, 50));
    host.kuke(&["restart", "c"]).ok();
    host.kuke(&["delete", "cell", "c"]).ok();
    // Another user reads it; the data is given away only once.
    host.apply(&with_volume("c", "cat /data/file", &[])).ok();
    eventually(10.0, "it reads what was written", || {
        log(&host, "c").contains("kept")
    });
    assert_eq!(std::fs::metadata(&data).unwrap().uid(), 1000);
    // Read-only, by reference.
    let reference = "volumes: [{kind: volume, volumeRef: {name: data, realm: default, space: default, stack: default}, target: /d, readOnly: true}]";
    host.apply(&shell(
        "r",
        "cat /d/file; touch /d/x || echo refused; sleep 100",
        &[reference, "stopGraceSeconds: 0"],
    ))
    .ok();
    eventually(10.0, "it cannot write", || {
        log(&host, "r").contains("refused")
    });
    assert!(log(&host, "r").contains("kept"));
    // Changed in place.
    host.apply(&volume("spec: {reclaimPolicy: Retain}"))
        .ok()
        .says(&[
            "Volume \"data\": updated",
            "spec.reclaimPolicy: Delete → Retain",
        ]);
    assert_eq!(get(&host, IN_STACK)["metadata"]["generation"], 2);
    host.kuke(&["get", "volumes", "-o", "wide"])
        .ok()
        .says(&["NAME", "RECLAIM", "data", "Retain"]);
    host.finish();
    Ok(())
}

fn two_cells_share_a_volume(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.kuke(&["create", "volume", "data"])
        .ok()
        .says(&["Volume \"data\": created"]);
    host.kuke(&["create", "volume", "data"])
        .ok()
        .says(&["unchanged"]);
    host.apply(&with_volume("a", "echo hello > /data/file", &[]))
        .ok();
    host.apply(&with_volume(
        "b",
        "until cat /data/file; do sleep 0.1; done",
        &[],
    ))
    .ok();
    eventually(10.0, "b sees what a wrote", || {
        log(&host, "b").contains("hello")
    });
    // The nearest one counts: the stack's before the realm's.
    host.apply(&volume("")).ok();
    host.apply(&with_volume("near", "ls /data; echo done", &[]))
        .ok();
    eventually(10.0, "it has looked", || {
        log(&host, "near").contains("done")
    });
    assert!(!log(&host, "near").contains("file"));
    host.finish();
    Ok(())
}

fn what_a_cell_mounts_stays(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply(&volume("")).ok();
    host.apply(&with_volume("c", "true", &[])).ok();
    let delete = [
        "delete", "volume", "data", "--space", "default", "--stack", "default",
    ];
    host.kuke(&delete)
        .code(4)
        .says(&["is used by cell \"c\" in default/default/default"]);
    let as_json = host.kuke(&[&delete[..], &["-o", "json"]].concat()).code(4);
    assert_eq!(
        as_json.json()["resources"][0]["error"]["reason"],
        "VolumeInUse"
    );
    host.kuke(&["stop", "c"]).ok();
    host.kuke(&delete).code(4);
    let data = path(&host);
    host.kuke(&["delete", "cell", "c"]).ok();
    host.kuke(&delete).ok().says(&["Deleted volume \"data\""]);
    assert!(!data.exists());
    host.kuke(&delete)
        .code(3)
        .says(&["volume \"data\" in default/default/default not found"]);
    // From a file, in the reverse order.
    let request = format!("{}---\n{}", volume(""), with_volume("c", "true", &[]));
    host.apply(&request).ok();
    host.kuke_with(&["delete", "-f", "-"], request.as_str())
        .ok()
        .says(&["Cell \"c\": deleted", "Volume \"data\": deleted"]);
    host.finish();
    Ok(())
}

fn a_volume_goes_with_its_scope_unless_retained(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let scope = ["--realm", "shop", "--space", "s", "--stack", "t"];
    let make = |name: &str, more: &[&str]| {
        host.kuke(&[&["create", "volume", name], &scope[..], more].concat())
            .ok();
        let found = host
            .kuke(&[&["get", "volume", name, "-o", "json"], &scope[..]].concat())
            .ok();
        PathBuf::from(found.json()["status"]["path"].as_str().unwrap())
    };
    let goes = make("goes", &[]);
    let stays = make("stays", &["--retain"]);
    for data in [&goes, &stays] {
        std::fs::write(data.join("file"), "x").unwrap();
    }
    host.kuke(&["delete", "stack", "t", "--realm", "shop", "--space", "s"])
        .code(4)
        .says(&["volume goes", "volume stays", "--cascade"]);
    let done = host.kuke(&["delete", "realm", "shop", "--cascade"]).ok();
    done.says(&[
        "volume \"goes\"",
        "Volume \"stays\": retained",
        &stays.display().to_string(),
    ]);
    assert!(!goes.exists() && stays.join("file").exists());
    host.kuke(&["get", "realm", "shop"]).code(3);
    host.kuke(&["get", "volumes"])
        .ok()
        .says_nothing_of(&["stays"]);
    // A scope of the same name has it again.
    let again = make("stays", &["--retain"]);
    assert_eq!(again, stays);
    assert!(stays.join("file").exists());
    host.kuke(&[&["delete", "volume", "stays"], &scope[..]].concat())
        .ok();
    assert!(!stays.exists());
    // What is retained does not stand in the way of the uninstall.
    make("stays", &["--retain"]);
    host.finish();
    Ok(())
}

fn volumes_that_are_not_there(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply(&with_volume("c", "true", &[])).code(3).says(&[
        "volume \"data\" not found in the scopes of cell \"c\"",
        "ensure: true",
    ]);
    host.kuke(&["get", "cell", "c"]).code(3);
    let ensured = with_volume("c", "echo x > /data/x", &[])
        .replace("source: data,", "source: data, ensure: true,");
    host.apply(&ensured).ok();
    let data = path(&host);
    eventually(10.0, "it has written", || data.join("x").exists());
    host.kuke(&["delete", "cell", "c"]).ok();
    assert!(data.join("x").exists());
    host.kuke(&[&["delete", "volume", "data"], IN_STACK].concat())
        .ok();
    // A cell that fails takes the volume along that was made for it.
    let broken = ensured.replace("image: busybox", "image: kukeon.internal/none");
    host.apply(&broken).code(3);
    host.kuke(&[&["get", "volume", "data"], IN_STACK].concat())
        .code(3);
    host.finish();
    Ok(())
}

fn data_survives_the_daemon() -> Verdict {
    let mut host = Host::new(Mode::Daemon);
    host.apply(&format!(
        "{}---\n{}",
        volume(""),
        with_volume("c", "echo x >> /data/x", &[])
    ))
    .ok();
    let data = path(&host);
    eventually(10.0, "it has written", || data.join("x").exists());
    host.kill_daemon();
    host.start_daemon();
    host.await_state("c", "Ready");
    host.kuke(&["restart", "c"]).ok();
    eventually(10.0, "it has written twice", || {
        std::fs::read_to_string(data.join("x")).is_ok_and(|t| t == "x\nx\n")
    });
    host.finish();
    Ok(())
}

fn links_and_bad_names_lead_nowhere() -> Verdict {
    let host = Host::new(Mode::InProcess);
    for (document, code, words) in [
        (
            volume("").replace("name: data", "name: ../../etc"),
            2,
            "name is invalid",
        ),
        (
            volume("").replace("name: data", "name: .volumes"),
            2,
            "name is invalid",
        ),
        (
            volume("").replace("space: default, ", ""),
            2,
            "metadata.stack: needs the field \"space\"",
        ),
        (
            volume("").replace("realm: default, ", ""),
            2,
            "metadata.realm: is required",
        ),
        (
            volume("").replace("stack: default}", "stack: default, cell: c}"),
            2,
            "not kept in one",
        ),
        (
            volume("spec: {reclaimPolicy: Keep}"),
            2,
            "\"Keep\" is not one of: Delete, Retain",
        ),
        (volume("spec: {size: 1}"), 2, "4:8: unknown field \"size\""),
    ] {
        host.apply(&document).code(code).says(&[words]);
    }
    for (field, words) in [
        ("source: ../x", "name is invalid"),
        ("source: /etc", "name is invalid"),
        (
            "source: data, volumeRef: {name: data}",
            "source names a Volume already",
        ),
        ("ensure: true", "volumes[0].source: is required"),
        ("source: data, sizeBytes: 5", "is only for kind tmpfs"),
        (
            "volumeRef: {name: data, realm: other}",
            "is not the realm of the cell",
        ),
        (
            "volumeRef: {name: data, stack: t}",
            "needs the field \"realm\"",
        ),
    ] {
        let cell = shell(
            "c",
            "true",
            &[&format!("volumes: [{{kind: volume, {field}, target: /d}}]")],
        );
        host.apply(&cell).code(2).says(&[words]);
    }
    // Somebody put a link in the place of the data.
    host.apply(&volume("")).ok();
    let data = path(&host);
    let outside = host.dir.join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::remove_dir(&data).unwrap();
    symlink(&outside, &data).unwrap();
    host.apply(&with_volume("c", "touch /data/x", &["user: '1000'"]))
        .code(1);
    assert!(!outside.join("x").exists());
    assert_ne!(std::fs::metadata(&outside).unwrap().uid(), 1000);
    std::fs::remove_file(&data).unwrap();
    // A link in it is for the container to follow, not for us.
    host.apply(&with_volume("c", "ln -s /etc /data/link", &[]))
        .ok();
    eventually(10.0, "the link is there", || data.join("link").is_symlink());
    host.kuke(&["delete", "cell", "c"]).ok();
    host.kuke(&[&["delete", "volume", "data"], IN_STACK].concat())
        .ok();
    assert!(std::path::Path::new("/etc/passwd").exists());
    std::fs::remove_dir(&outside).unwrap();
    host.apply(&sleeper("c")).ok();
    host.finish();
    Ok(())
}
