//! Secrets: values that only containers see.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::command::{eventually, system};
use crate::host::{Host, Mode};
use crate::manifest::shell;
use crate::runner::{Case, Verdict};
use crate::{cases, cases_in_both_modes};

pub const CASES: &[&[Case]] = &[
    cases![
        a_lost_memory_file_system_is_filled_again,
        the_daemon_says_nothing_of_a_value,
        secrets_of_bad_manifests,
    ],
    cases_in_both_modes![
        a_file_for_the_containers_user,
        a_variable,
        a_new_value_comes_with_a_restart,
        what_a_cell_uses_stays,
        a_secret_of_a_cell_goes_with_it,
    ],
];

/// A value that is nowhere else on the machine.
const VALUE: &str = "hush-5f1c9e27";

fn secret(name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1beta1\nkind: Secret\nmetadata: {{name: {name}, realm: default}}\nspec: {{data: {value}}}\n"
    )
}

const FILE: &str = "secrets: [{name: token, secretRef: {name: token, realm: default}, mountPath: /run/secrets/token}]";
const ENV: &str = "secrets: [{name: TOKEN, secretRef: {name: token}}]";

const SLEEP: &str = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done";

/// A cell that shows what it got (scrambled, so that the value is in no log).
fn reader(show: &str, more: &[&str]) -> String {
    shell("c", &format!("{show} | tr a-z b-za; {SLEEP}"), more)
}

fn scrambled(value: &str) -> String {
    let turn = |c: char| match c {
        'z' => 'a',
        'a'..='y' => (c as u8 + 1) as char,
        other => other,
    };
    value.chars().map(turn).collect()
}

fn log(host: &Host) -> String {
    host.kuke(&["log", "c"]).ok().out
}

/// Everything below the run path but the secrets' own files, and what the
/// commands show.
fn assert_hidden(host: &Host, value: &str) {
    let grep = |dir: &Path, more: &[&str]| {
        let dir = dir.display().to_string();
        let done = system(
            "grep",
            &[&["-rlaF", "-D", "skip", value], more, &[&dir]].concat(),
        );
        assert_eq!(done.out, "", "in files");
    };
    grep(&host.run_path, &["--exclude-dir=.secrets"]);
    for words in [
        &["get", "secret", "token", "-o", "yaml"][..],
        &["get", "secrets", "-o", "json"],
        &["get", "cell", "c", "-o", "yaml"],
        &["get", "containers", "--cell", "c", "-o", "json"],
    ] {
        host.kuke(words).ok().says_nothing_of(&[value]);
    }
}

fn containers(host: &Host) -> String {
    let ids = host.ctr("default", &["containers", "ls", "-q"]).ok().out;
    let show = |id: &str| host.ctr("default", &["containers", "info", id]).ok().out;
    ids.lines().map(show).collect()
}

fn a_file_for_the_containers_user(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let cell = reader(
        "stat -c '%u:%g %a' /run/secrets/token; cat /run/secrets/token",
        &[FILE, "user: '1000:50'"],
    );
    let request = format!("{cell}---\n{}", secret("token", VALUE));
    host.kuke_with(&["apply", "-f", "-", "--dry-run"], request.as_str())
        .ok()
        .says(&["Secret \"token\": created"])
        .says_nothing_of(&[VALUE]);
    host.apply(&request)
        .ok()
        .says(&["Secret \"token\": created", "Cell \"c\": created"])
        .says_nothing_of(&[VALUE]);
    eventually(10.0, "it reads its secret", || {
        log(&host).contains(&scrambled(VALUE))
    });
    assert!(containers(&host).contains("/run/secrets/token"));
    assert!(!containers(&host).contains(VALUE));
    assert_hidden(&host, VALUE);
    let mode_of = |path: &str| {
        let path = host.run_path.join("default").join(path);
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode_of(".secrets/token/secret.yaml"), 0o600);
    assert_eq!(mode_of(".secrets"), 0o700);
    let inside = host
        .kuke(&[
            "exec",
            "c",
            "--",
            "stat",
            "-c",
            "%u:%g %a",
            "/run/secrets/token",
        ])
        .ok();
    assert_eq!(inside.out.trim(), "1000:50 400");
    host.kuke(&["exec", "c", "--", "sh", "-c", "echo x > /run/secrets/token"])
        .code(1);
    // Another owner and other bits.
    let other = FILE.replace(
        "/run/secrets/token}",
        "/run/secrets/token, uid: 0, gid: 7, mode: 288}",
    );
    host.apply(&reader("true", &[&other, "user: '1000:7'"]))
        .ok();
    let inside = host
        .kuke(&[
            "exec",
            "c",
            "--",
            "stat",
            "-c",
            "%u:%g %a",
            "/run/secrets/token",
        ])
        .ok();
    assert_eq!(inside.out.trim(), "0:7 440");
    assert!(host.census().count("mount") > 0);
    host.kuke(&["stop", "c"]).ok();
    assert!(
        !staging(&host).exists(),
        "secrets stay in memory after a stop"
    );
    host.kuke(&["start", "c"]).ok();
    host.kuke(&["exec", "c", "--", "cat", "/run/secrets/token"])
        .ok()
        .says(&[VALUE]);
    host.kuke(&["delete", "cell", "c"]).ok();
    assert!(
        !staging(&host).exists(),
        "secrets stay in memory after the cell"
    );
    host.kuke(&["delete", "secret", "token"])
        .ok()
        .says(&["Deleted secret \"token\""]);
    assert!(!host.run_path.join("default/.secrets").exists());
    host.finish();
    Ok(())
}

fn staging(host: &Host) -> std::path::PathBuf {
    host.run_path.join("run/ns/.secrets")
}

fn a_variable(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.kuke_with(&["create", "secret", "token", "--from-file", "-"], VALUE)
        .ok()
        .says(&["Secret \"token\": created"]);
    host.kuke(&["create", "secret", "other"])
        .code(2)
        .says(&["--from-file"]);
    host.apply(&reader("echo $TOKEN", &[ENV])).ok();
    eventually(10.0, "it has its variable", || {
        log(&host).contains(&scrambled(VALUE))
    });
    // In containerd's database, as the documentation says, and nowhere else.
    assert!(containers(&host).contains(&format!("TOKEN={VALUE}")));
    host.kuke(&["get", "cell", "c", "-o", "yaml"])
        .ok()
        .says_nothing_of(&[VALUE]);
    host.finish();
    Ok(())
}

fn a_new_value_comes_with_a_restart(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply(&secret("token", VALUE)).ok();
    let both = "secrets: [{name: TOKEN, secretRef: {name: token}}, {name: token, secretRef: {name: token}, mountPath: /token}]";
    host.apply(&reader("true", &[both])).ok();
    host.await_state("c", "Ready");
    let inside = |host: &Host| {
        let done = host
            .kuke(&["exec", "c", "--", "sh", "-c", "echo $TOKEN $(cat /token)"])
            .ok();
        done.out.trim().to_owned()
    };
    host.apply(&secret("token", "changed-7733"))
        .ok()
        .says(&["Secret \"token\": updated", "spec.data: changed"])
        .says_nothing_of(&["7733", VALUE]);
    host.apply(&secret("token", "changed-7733"))
        .ok()
        .says(&["unchanged"]);
    assert_eq!(inside(&host), format!("{VALUE} {VALUE}"));
    eventually(10.0, "the status tells of it", || {
        let message = host.container("c", "main")["message"].to_string();
        message.contains("a secret has changed")
    });
    let pid = host.container("c", "main")["pid"].clone();
    host.apply(&reader("true", &[both]))
        .ok()
        .says(&["Cell \"c\": unchanged"]);
    assert_eq!(host.container("c", "main")["pid"], pid);
    host.kuke(&["restart", "c"]).ok();
    assert_eq!(inside(&host), "changed-7733 changed-7733");
    eventually(10.0, "the status is content", || {
        host.container("c", "main")["message"].is_null()
    });
    host.finish();
    Ok(())
}

fn what_a_cell_uses_stays(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    host.apply(&reader("true", &[FILE])).code(3).says(&[
        "secret \"token\" in default not found",
        "kuke create secret",
    ]);
    host.kuke(&["get", "cell", "c"]).code(3);
    host.apply(&secret("token", VALUE)).ok();
    host.apply(&reader("true", &[FILE])).ok();
    let done = host
        .kuke(&["delete", "secret", "token", "-o", "json"])
        .code(4);
    assert_eq!(
        done.json()["resources"][0]["error"]["reason"],
        "SecretInUse"
    );
    host.kuke(&["delete", "cell", "c"]).ok();
    host.kuke(&["delete", "secret", "token"]).ok();
    host.kuke(&["delete", "secret", "token"])
        .code(3)
        .says(&["secret \"token\" in default not found"]);
    host.kuke(&["get", "secret", "token"]).code(3);
    host.finish();
    Ok(())
}

fn a_secret_of_a_cell_goes_with_it(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let own = secret("token", VALUE).replace(
        "realm: default",
        "realm: default, space: default, stack: default, cell: c",
    );
    // The realm's is hidden by the cell's own.
    host.apply(&format!(
        "{}---\n{own}---\n{}",
        secret("token", "far"),
        reader("echo $TOKEN", &[ENV])
    ))
    .ok();
    eventually(10.0, "it has the nearest", || {
        log(&host).contains(&scrambled(VALUE))
    });
    host.kuke(&["get", "secrets"]).ok().says(&["token", "CELL"]);
    let all = host.kuke(&["get", "secrets", "-o", "json"]).ok().json();
    assert_eq!(all.as_array().unwrap().len(), 2);
    let at = ["--space", "default", "--stack", "default", "--cell", "c"];
    host.kuke(&[&["get", "secret", "token"], &at[..]].concat())
        .ok();
    host.kuke(&[&["delete", "secret", "token"], &at[..]].concat())
        .code(4);
    host.kuke(&["delete", "cell", "c"]).ok();
    host.kuke(&[&["get", "secret", "token"], &at[..]].concat())
        .code(3);
    host.finish();
    Ok(())
}

/// As after a reboot: the memory is gone, the records are not.
fn a_lost_memory_file_system_is_filled_again() -> Verdict {
    let host = Host::new(Mode::InProcess);
    host.apply(&secret("token", VALUE)).ok();
    host.apply(&reader("cat /run/secrets/token", &[FILE])).ok();
    host.await_state("c", "Ready");
    let dir = staging(&host);
    let cell = dir.join("default.default.default.c");
    assert!(cell.join("main/0").exists());
    host.ctr(
        "default",
        &["tasks", "kill", "--all", "-s", "KILL", &id(&host)],
    )
    .ok();
    eventually(10.0, "it has ended", || host.state("c") != "Ready");
    system("umount", &["-l", &cell.display().to_string()]).ok();
    assert!(!cell.join("main").exists(), "nothing of it was on a disk");
    host.kuke(&["start", "c"]).ok();
    host.await_state("c", "Ready");
    host.kuke(&["exec", "c", "--", "cat", "/run/secrets/token"])
        .ok()
        .says(&[VALUE]);
    host.finish();
    Ok(())
}

fn id(host: &Host) -> String {
    let ids = host.ctr("default", &["containers", "ls", "-q"]).ok().out;
    ids.lines().next().unwrap().to_owned()
}

fn the_daemon_says_nothing_of_a_value() -> Verdict {
    let host = Host::new(Mode::Daemon);
    host.apply(&format!(
        "{}---\n{}",
        secret("token", VALUE),
        reader("true", &[FILE,])
    ))
    .ok();
    host.await_state("c", "Ready");
    // Wrong around the value, in many ways.
    for document in [
        secret("token", VALUE).replace("data:", "dta:"),
        secret("token", VALUE)
            .replace("spec: {data:", "spec: {data: {x:")
            .replace("}\n", "}}\n"),
        secret("token", VALUE).replace("kind: Secret", "kind: Secrett"),
        secret("token", VALUE).replace("name: token", "name: 'Bad Name'"),
        format!("{}  bad: [\n", secret("token", VALUE)),
        format!("{}spec: {{data: {VALUE}}}\n", secret("token", VALUE)),
    ] {
        host.apply(&document).code(2).says_nothing_of(&[VALUE]);
    }
    host.kuke(&["restart", "c"]).ok();
    host.kuke(&["delete", "cell", "c"]).ok();
    assert!(!host.daemon_log().contains(VALUE));
    host.finish();
    Ok(())
}

fn secrets_of_bad_manifests() -> Verdict {
    let host = Host::new(Mode::InProcess);
    for (document, words) in [
        (secret("token", "''"), "spec.data: is required"),
        (
            secret("token", "x").replace("realm: default", "realm: default, cell: c"),
            "metadata.cell: needs the field \"space\"",
        ),
        (secret("../../etc/x", "x"), "name is invalid"),
        (
            secret("token", "x").replace("{data: x}", "{data: x, type: y}"),
            ":4:17: unknown field \"type\"",
        ),
    ] {
        host.apply(&document).code(2).says(&[words]);
    }
    for (field, words) in [
        (
            "{name: T, fromFile: /etc/shadow}",
            "fromFile: a file of the host is not given to containers",
        ),
        (
            "{name: T, fromEnv: HOME}",
            "fromEnv: a variable of kukeond is not given to containers",
        ),
        ("{name: T}", "secretRef: is required"),
        ("{secretRef: {name: a}}", "secrets[0].name: is required"),
        ("{name: T, secretRef: {name: ../x}}", "name is invalid"),
        (
            "{name: T, secretRef: {name: a}, mountPath: t}",
            "is not an absolute path",
        ),
        (
            "{name: T, secretRef: {name: a}, mountPath: /../t}",
            "contains \"..\"",
        ),
        (
            "{name: T, secretRef: {name: a}, mode: 256}",
            "mode: is only for a file",
        ),
        (
            "{name: T, secretRef: {name: a}, mountPath: /t, mode: 384}",
            "a secret is read-only; write 256 (0400)",
        ),
        (
            "{name: 'A=B', secretRef: {name: a}}",
            "is not the name of a variable or file",
        ),
        (
            "{name: T, secretRef: {name: a, realm: other}}",
            "is not the realm of the cell",
        ),
        (
            "{name: T, secretRef: {name: a, stack: t}}",
            "needs the field \"realm\"",
        ),
        ("{name: T, secretRef: {nam: a}}", "unknown field \"nam\""),
        (
            "{name: T, secretRef: {name: a}}, {name: T, secretRef: {name: b}}",
            "the variable \"T\" is set already",
        ),
    ] {
        let cell = shell("c", "true", &[&format!("secrets: [{field}]")]);
        host.apply(&cell).code(2).says(&[words]);
    }
    host.finish();
    Ok(())
}
