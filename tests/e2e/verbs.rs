//! Verbs of releases beside promote and rollback: upload, edit, label, describe,
//! wait, watch, and looking at a Preparation again.

use std::process::Command;

use crate::command::eventually;
use crate::delivery::{HEAD, active, latest, source, text};
use crate::host::{Host, LIMIT, Mode};
use crate::manifest::{shell, sleeper};
use crate::runner::{Case, Verdict};
use crate::{cases, cases_in_both_modes};

pub const CASES: &[&[Case]] = &[
    cases_in_both_modes![
        a_directory_is_uploaded_by_digest,
        a_recipe_is_edited,
        objects_are_labelled_and_annotated,
        a_preparation_is_rendered_again,
        objects_are_described_and_waited_for,
    ],
    cases![a_watch_tells_what_changed, names_are_completed],
];

const ENV: &str = ".spec.containers[id=main].env";

fn recipe(dir: &str) -> String {
    format!(
        "{HEAD}kind: Recipe\nmetadata: {{name: web}}\nspec:\n  source: {{path: {dir}}}\n  \
         target: {{kuke: {{minHealthy: 0s, healthTimeout: 20s}}}}\n  patches:\n    \
         - target: {{kind: Cell, name: web}}\n      set: {{'{ENV}': ['COLOUR=one']}}\n"
    )
}

fn a_directory_is_uploaded_by_digest(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let dir = host.dir.join("web");
    std::fs::create_dir_all(dir.join("more")).unwrap();
    host.file("web/cell.yaml", sleeper("web"));
    host.file("web/more/notes.txt", "not a manifest");
    let place = dir.display().to_string();
    let upload = ["recipe", "apply", "--upload", &place, "-m", "first"];

    // Nothing is sent in a dry run.
    host.kuke(&[&upload[..], &["--dry-run"]].concat())
        .ok()
        .says(&["Recipe \"web\": created"]);
    host.kuke(&["get", "recipe", "web"]).code(3);
    host.kuke(&["registry", "ls"])
        .ok()
        .says(&["No repositories"]);

    // The Recipe is named like the directory; no root of sources is needed.
    host.kuke(&upload).ok().says(&["Preparation"]);
    let first = latest(&host, "web");
    let found = host.get("recipe", "web");
    let from = &found["spec"]["source"];
    assert_eq!(from["oci"], "oci://local/sources/default/web", "{from}");
    assert!(text(&from["version"]).starts_with("sha256:"), "{from}");
    host.kuke(&["history", "web"])
        .ok()
        .says(&["rev-1", "first"]);
    host.kuke(&["promote", "web", "--wait", "--timeout", "30s"])
        .ok();
    host.await_state("web", "Ready");

    // The same files are the same source, whenever they were written.
    host.file("web/cell.yaml", sleeper("web"));
    host.kuke(&upload).ok().says(&["unchanged"]);
    assert_eq!(latest(&host, "web"), first);
    let changed = sleeper("web").replace("image: busybox", "image: busybox\n      env: [A=b]");
    host.file("web/cell.yaml", changed);
    host.kuke(&["recipe", "apply", "web", "--upload", &place, "-m", "second"])
        .ok();
    let second = latest(&host, "web");
    assert_ne!(second, first);
    host.kuke(&["manifest", &second]).ok().says(&["A=b"]);
    host.kuke(&["prep", "verify", &first])
        .ok()
        .says(&["render: ok"]);

    // The rest of a Recipe from a file.
    let more = host.file(
        "more.yaml",
        format!("{HEAD}kind: Recipe\nmetadata: {{name: other}}\nspec: {{suspend: true}}\n"),
    );
    host.kuke(&["recipe", "apply", "-f", &more, "--upload", &place])
        .ok();
    let other = host.get("recipe", "other");
    assert_eq!(other["spec"]["source"]["version"], {
        let found = host.get("recipe", "web");
        found["spec"]["source"]["version"].clone()
    });

    // What is no regular file is refused before anything is sent.
    let pipe = dir.join("pipe").display().to_string();
    host.inside("mkfifo", &[&pipe]).ok();
    host.kuke(&upload)
        .code(2)
        .says(&["pipe", "no regular file"]);
    host.kuke(&["recipe", "apply", "--upload", "/no/such"])
        .code(3);
    host.finish();
    Ok(())
}

/// Runs `kuke` with a shell script as editor; `$1` is the file.
#[track_caller]
fn edit(host: &Host, script: &str, arguments: &[&str]) -> crate::command::Done {
    let editor = host.file("editor", format!("#!/bin/sh\nset -e\n{script}\n"));
    let mut command: Command = host.command(host.mode, arguments);
    command.env("KUKE_EDITOR", format!("sh {editor}"));
    let line = format!("kuke {} with {script}", arguments.join(" "));
    crate::command::Running::start(command, line, None).wait(LIMIT)
}

/// A mark changes nothing else: what runs goes on. By marks a cell is handed over to
/// a release, and a Preparation approved.
fn objects_are_labelled_and_annotated(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply(&sleeper("web")).ok();
    host.await_state("web", "Ready");
    let pid = host.container("web", "main")["pid"].clone();
    let labels = || host.get("cell", "web")["metadata"]["labels"].clone();
    let label = |marks: &[&str]| host.kuke(&[&["label", "cell", "web"], marks].concat());
    let plain = labels();
    label(&["tier=front", "--dry-run"])
        .ok()
        .says(&["Cell \"web\": updated", "tier"]);
    assert_eq!(labels(), plain);
    label(&["tier=front", "a=b"]).ok().says(&["updated"]);
    assert_eq!(labels()["tier"], "front");
    label(&["tier=front", "none-"]).ok().says(&["unchanged"]);
    label(&["tier=back"])
        .code(4)
        .says(&["tier", "front", "--overwrite"]);
    let told = label(&["tier=back", "a-", "--overwrite", "-o", "name"]).ok();
    assert_eq!(told.out.trim(), "cell/web");
    assert_eq!(labels()["tier"], "back");
    label(&["tier-"]).ok();
    assert_eq!(labels(), plain);
    label(&["tier"]).code(2).says(&["KEY=VALUE"]);
    host.kuke(&["label", "cell", "nobody", "a=b"]).code(3);
    host.kuke(&["label", "image", "busybox", "a=b"]).code(2);

    label(&["a=1", "a-"]).code(2).says(&["twice"]);
    label(&["delivery.kokumi.dev/serving=web"])
        .code(4)
        .says(&["by kukeon itself"]);

    // What may be kept in a scope of any depth is found there, and keeps its value.
    host.kuke(&["create", "volume", "data"]).ok();
    let create = ["create", "secret", "token", "--from-file", "-"];
    host.kuke_with(&create, "hush").ok();
    for (kind, name) in [("volume", "data"), ("secret", "token")] {
        host.kuke(&["label", kind, name, "of=web"]).ok();
        let found = host.get(kind, name);
        assert_eq!(found["metadata"]["labels"]["of"], "web", "{found}");
        host.kuke(&["describe", kind, name]).ok();
    }
    let given =
        "secrets: [{name: token, secretRef: {name: token, realm: default}, mountPath: /run/token}]";
    let more = [given, "restartPolicy: never"];
    host.apply(&shell("reader", "cat /run/token; echo", &more));
    host.await_log("reader", "hush");
    for (kind, name) in [
        ("realm", "default"),
        ("space", "default"),
        ("stack", "default"),
    ] {
        host.kuke(&["label", kind, name, "of=web"]).ok();
        assert_eq!(host.get(kind, name)["metadata"]["labels"]["of"], "web");
    }

    // A mark that was set while somebody edits is not lost; nor is another intent.
    let call = |arguments: &str| {
        let in_process = mode == Mode::InProcess;
        let kuke = crate::world::world().kuke.display();
        format!("KUKEON_NO_DAEMON={in_process} {kuke} {arguments}; sed -i '/^spec:/i # mine' $1")
    };
    for other in ["label realm default of=others --overwrite", "stop reader"] {
        let (kind, name) = match other.starts_with("stop") {
            true => ("cell", "reader"),
            false => ("realm", "default"),
        };
        let refused = edit(&host, &call(other), &["edit", kind, name])
            .code(4)
            .says(&["somebody else", "kept in"]);
        let kept = refused.err.split("kept in ").nth(1).unwrap().trim();
        std::fs::remove_file(kept).unwrap();
    }
    assert_eq!(
        host.get("realm", "default")["metadata"]["labels"]["of"],
        "others"
    );
    // What an edit asks for is made with it.
    let with = "volumes: [{kind: volume, source: fresh, target: /fresh, ensure: true}]";
    let add = format!("sed -i 's|^\\( *\\)image: .*|&\\n\\1{with}|' $1");
    edit(&host, &add, &["edit", "cell", "reader"]).ok();
    host.kuke(&[
        "get", "volume", "fresh", "--space", "default", "--stack", "default",
    ])
    .ok();

    let dir = source(&host, &sleeper("web"));
    host.apply(&recipe(&dir)).ok();
    let first = latest(&host, "web");
    let refused = host.kuke(&["promote", "web", "--wait"]).code(1);
    let mark = "delivery.kokumi.dev/allowed-recipe=default/web";
    refused.says(&["kuke annotate", mark]);
    host.kuke(&["annotate", "cell", "web", mark]).ok();
    assert_eq!(
        host.container("web", "main")["pid"],
        pid,
        "it was restarted"
    );
    host.kuke(&["sync", "web", "--wait"]).ok();
    assert_eq!(active(&host, "web"), first);
    let environment = || host.get("cell", "web")["spec"]["containers"][0]["env"].to_string();
    assert!(environment().contains("COLOUR=one"), "{}", environment());

    host.apply(&recipe(&dir).replace("COLOUR=one", "COLOUR=two"))
        .ok();
    let second = latest(&host, "web");
    assert_ne!(first, second);
    let mark = "delivery.kokumi.dev/approve-deploy=true";
    host.kuke(&["label", "prep", &second, "tier=front"])
        .code(4)
        .says(&["delivery.kokumi.dev/"]);
    host.kuke(&["label", "prep", &second, mark]).ok();
    eventually(20.0, "the approved one is there", || {
        active(&host, "web") == second && environment().contains("COLOUR=two")
    });
    // It was used up, with who gave it. What runs is the release's by now.
    eventually(20.0, "the approval is used up", || {
        let meta = host.get("prep", &second)["metadata"].clone();
        meta["labels"]
            .get("delivery.kokumi.dev/approve-deploy")
            .is_none()
            && text(&meta["annotations"]["delivery.kokumi.dev/approved-by"]) == "root"
    });
    label(&["tier=front"]).code(4).says(&["web", "Recipe"]);
    label(&["delivery.kokumi.dev/prune=disabled"]).ok();
    host.kuke(&["label", "recipe", "web", "team=a", "-n", "default"])
        .ok();
    assert_eq!(host.get("recipe", "web")["metadata"]["labels"]["team"], "a");
    assert_eq!(latest(&host, "web"), second, "a mark renders nothing");
    host.finish();
    Ok(())
}

fn a_recipe_is_edited(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let dir = source(&host, &sleeper("web"));
    host.apply(&recipe(&dir)).ok();
    let first = latest(&host, "web");
    let kuke = ["recipe", "edit", "web"];
    edit(&host, "true", &kuke)
        .ok()
        .says(&["Recipe \"web\": unchanged"]);
    edit(&host, ": > $1", &kuke).ok().says(&["unchanged"]);
    let change = "sed -i s/COLOUR=one/COLOUR=two/ $1";
    let before = host.get("recipe", "web");
    edit(&host, change, &[&kuke[..], &["--dry-run"]].concat())
        .ok()
        .says(&["Recipe \"web\": updated", "COLOUR=two"]);
    assert_eq!(host.get("recipe", "web"), before);
    edit(
        &host,
        change,
        &[&kuke[..], &["-m", "two", "--wait"]].concat(),
    )
    .ok()
    .says(&["Recipe \"web\": updated", "Preparation", "settled"]);
    let second = latest(&host, "web");
    assert_ne!(first, second);
    host.kuke(&["history", "web"]).ok().says(&["rev-2", "two"]);

    // What is refused comes back with the reason on top, and can be mended.
    let seen = host.dir.join("seen").display().to_string();
    let mend = format!(
        "if grep -q 'It was not taken' $1; then cp $1 {seen}; sed -i s/pathh/path/ $1; \
         sed -i s/COLOUR=two/COLOUR=three/ $1; else sed -i 's/  path:/  pathh:/' $1; fi"
    );
    edit(&host, &mend, &kuke).ok().says(&["updated"]);
    let shown = std::fs::read_to_string(&seen).unwrap();
    assert!(
        shown
            .lines()
            .any(|l| l.starts_with("# ") && l.contains("pathh")),
        "{shown}"
    );
    edit(&host, "sed -i 's/^  name: web$/  name: web2/' $1", &kuke)
        .code(2)
        .says(&["given up"]);
    host.kuke(&["get", "recipe", "web2"]).code(3);

    // Somebody else was quicker.
    let before = host.get("recipe", "web")["metadata"]["generation"].clone();
    let other = host.file(
        "other.yaml",
        recipe(&dir).replace("COLOUR=one", "COLOUR=other"),
    );
    let env = match mode {
        Mode::Daemon => "false",
        Mode::InProcess => "true",
    };
    let kuke_path = crate::world::world().kuke.display();
    let race = format!(
        "KUKEON_NO_DAEMON={env} {kuke_path} apply -f {other}; sed -i s/COLOUR=three/COLOUR=mine/ $1"
    );
    let refused = edit(&host, &race, &kuke)
        .code(4)
        .says(&["somebody else", "kept in"]);
    let kept = refused.err.split("kept in ").nth(1).unwrap().trim();
    assert!(
        std::fs::read_to_string(kept)
            .unwrap()
            .contains("COLOUR=mine")
    );
    std::fs::remove_file(kept).unwrap();
    let now = host.get("recipe", "web");
    assert!(now["metadata"]["generation"].as_i64() > before.as_i64());
    assert!(now["spec"].to_string().contains("COLOUR=other"), "{now}");
    edit(&host, "exit 3", &kuke)
        .code(1)
        .says(&["editor", "nothing was changed"]);
    host.kuke(&["recipe", "edit", "nobody"]).code(3);

    // A manifest without edits leaves them; one that was shown does not.
    let edits =
        "  edits:\n  - target: {kind: Cell, name: web}\n    set: {'.metadata.labels.by': hand}\n";
    host.apply(&format!("{}{edits}", recipe(&dir))).ok();
    host.apply(&recipe(&dir)).ok();
    let edits = || host.get("recipe", "web")["spec"]["edits"].clone();
    assert!(edits().is_array(), "{}", edits());
    let cut = "awk '/^  edits:/ {cut = 1; next} /^  [a-z]/ {cut = 0} !cut' $1 > $1.new; cat $1.new > $1; rm $1.new";
    edit(&host, cut, &kuke).ok().says(&["updated"]);
    assert!(edits().is_null(), "{}", edits());

    // Cells as well.
    host.apply(&sleeper("alone")).ok();
    edit(
        &host,
        r"sed -i -E 's/^( *)image: (.*)$/\1image: \2\n\1env: [A=b]/' $1",
        &["edit", "cell", "alone"],
    )
    .ok()
    .says(&["Cell \"alone\": updated"]);
    let cell = host.get("cell", "alone");
    assert_eq!(cell["spec"]["containers"][0]["env"][0], "A=b", "{cell}");
    host.finish();
    Ok(())
}

fn a_preparation_is_rendered_again(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let dir = source(&host, &sleeper("web"));
    host.apply(&recipe(&dir)).ok();
    let first = latest(&host, "web");
    let verify = ["prep", "verify", &first];
    let seen = host
        .kuke(&[&verify[..], &["-o", "json"]].concat())
        .ok()
        .json();
    assert_eq!(seen["verified"], true, "{seen}");
    assert_eq!(seen["signature"], "none", "{seen}");

    // Its inputs are those of then, whatever became of the Recipe.
    host.apply(&recipe(&dir).replace("COLOUR=one", "COLOUR=two"))
        .ok();
    host.kuke(&verify).ok().says(&["render: ok"]);

    // The source went on.
    host.file("app/manifest.yaml", sleeper("other"));
    host.kuke(&verify).code(1).says(&[
        "artifact: ok",
        "render: unknown",
        "the source is gone",
        &dir,
    ]);
    host.file("app/manifest.yaml", sleeper("web"));
    host.kuke(&verify).ok();

    // Damage is told by the digest that is not there.
    let found = host.get("prep", &first);
    let digest = text(&found["spec"]["artifact"]["digest"]);
    let hex = digest.trim_start_matches("sha256:");
    let blob = host
        .run_path
        .join(format!("registry/blobs/sha256/{}/{hex}", &hex[..2]));
    let whole = std::fs::read(&blob).unwrap();
    std::fs::write(&blob, "damaged").unwrap();
    host.kuke(&verify)
        .code(1)
        .says(&["artifact: differs", "render: ok"]);
    std::fs::write(&blob, whole).unwrap();
    host.kuke(&["prep", "verify", "nobody"]).code(3);
    host.finish();
    Ok(())
}

fn objects_are_described_and_waited_for(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let dir = source(&host, &sleeper("web"));
    host.apply(&recipe(&dir)).ok();
    host.kuke(&["promote", "web", "--wait", "-m", "go"]).ok();
    let prep = latest(&host, "web");
    host.kuke(&["describe", "recipe", "web"]).ok().says(&[
        "Conditions:",
        "SourceResolved",
        "rev-1",
        "promote",
        "go",
        "serving/web  Deployed",
    ]);
    host.kuke(&["describe", "prep", &prep]).ok().says(&[
        "Documents:",
        "Artifact:",
        "Active:",
        "recipe/web",
    ]);
    host.kuke(&["describe", "serving", "web"])
        .ok()
        .says(&["Inventory:", "Synced", &prep]);
    host.kuke(&["describe", "kitchen", "default"])
        .ok()
        .says(&["Source roots:", &dir]);
    for (kind, name, word) in [
        ("realm", "default", "Spaces:"),
        ("space", "default", "Subnet:"),
        ("stack", "default", "web"),
        ("cell", "web", "Container \"main\":"),
    ] {
        host.kuke(&["describe", kind, name])
            .ok()
            .says(&[word, "Ready"]);
    }
    host.kuke(&["describe", "container", "main", "--cell", "web"])
        .ok()
        .says(&["Image:", "busybox"]);
    let described = host
        .kuke(&["describe", "recipe", "web", "-o", "json"])
        .ok()
        .json();
    assert_eq!(described["object"]["metadata"]["name"], "web");
    assert_eq!(described["related"].as_array().unwrap().len(), 2);
    host.kuke(&["describe", "recipe", "nobody"]).code(3);

    let wait = |what: &str, until: &str, timeout: &str| {
        let until = format!("--for={until}");
        host.kuke(&["wait", what, &until, "--timeout", timeout])
    };
    wait("cell/web", "condition=Ready", "20s")
        .ok()
        .says(&["condition met"]);
    wait("cell/web", "state=exited", "1s")
        .code(7)
        .says(&["state=exited"]);
    wait("cell/web", "state=Redy", "1s")
        .code(2)
        .says(&["Exited"]);
    wait("cell/nobody", "condition=Ready", "1s").code(7);
    host.apply(&crate::manifest::cell(
        "job",
        &crate::manifest::container("exit 0", &["restartPolicy: never"]),
    ))
    .ok();
    wait("cell/job", "state=Exited", "20s").ok();
    host.kuke(&["delete", "cell", "job"]).ok();
    wait("cell/job", "delete", "20s").ok().says(&["deleted"]);
    host.finish();
    Ok(())
}

fn a_watch_tells_what_changed() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let dir = source(&host, &sleeper("web"));
    host.apply(&recipe(&dir)).ok();
    let first = latest(&host, "web");
    let watch = host.start(&["get", "recipes", "--watch"]);
    eventually(20.0, "what there is", || watch.out().contains(&first));
    host.apply(&recipe(&dir).replace("COLOUR=one", "COLOUR=two"))
        .ok();
    let second = latest(&host, "web");
    eventually(20.0, "the change", || watch.out().contains(&second));
    host.kuke(&["delete", "recipe", "web"]).ok();
    eventually(20.0, "the end", || {
        watch.out().contains("recipe/web deleted")
    });
    let seen = watch.out();
    assert!(seen.lines().count() <= 8, "more than what changed:\n{seen}");
    watch.signal(nix::sys::signal::Signal::SIGINT);
    watch.wait(LIMIT).code(130);
    host.finish();
    Ok(())
}

fn names_are_completed() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let dir = source(&host, &sleeper("web"));
    host.apply(&recipe(&dir)).ok();
    let prep = latest(&host, "web");
    let offered = |words: &[&str]| {
        let mut command: Command = host.command(Mode::Daemon, &[]);
        command.env("KUKE_COMPLETE", "bash");
        command.env("_CLAP_COMPLETE_INDEX", words.len().to_string());
        command.args(["--", "kuke"]).args(words);
        let line = format!("completion of {words:?}");
        crate::command::Running::start(command, line, None)
            .wait(LIMIT)
            .ok()
            .out
    };
    for (words, wanted) in [
        (&["promote", "w"][..], "web"),
        (&["recipe", "refresh", "w"], "web"),
        (&["recipe", "edit", "w"], "web"),
        (&["describe", "recipe", "w"], "web"),
        (&["edit", "recipe", "w"], "web"),
        (&["prep", "verify", "w"], prep.as_str()),
        (&["prep", "delete", "w"], prep.as_str()),
        (&["promote", "web", "--to", "w"], prep.as_str()),
        (&["manifest", "w"], prep.as_str()),
        (&["wait", "recipe/w"], "recipe/web"),
        (&["wait", "serv"], "serving/"),
    ] {
        let out = offered(words);
        assert!(
            out.lines().any(|l| l.trim() == wanted),
            "{words:?}: {out:?}"
        );
    }
    host.finish();
    Ok(())
}
