//! Pages, REST interface and event stream of releases, against the real daemon.

use std::fs;
use std::io::Write;

use serde_json::{Value, json};

use crate::cases;
use crate::command::eventually;
use crate::delivery::{active, latest, source, text};
use crate::host::{Engine, Host, Mode};
use crate::manifest::sleeper;
use crate::runner::{Case, Verdict};

pub const CASES: &[&[Case]] = &[cases![
    nobody_comes_in_without_a_password,
    sessions_are_changed_and_end,
    objects_are_made_and_changed,
    promote_and_rollback_change_what_runs,
    a_serving_that_a_menu_holds_is_a_conflict,
    events_tell_and_come_again,
    another_program_has_the_port,
]];

const ADDRESS: &str = "127.0.0.1:5080";
pub const ORIGIN: &str = "http://127.0.0.1:5080";

/// A host whose daemon serves pages, and the password of `admin`.
pub fn serving() -> (Host, String) {
    let mut host = Host::bare(Mode::Daemon, Engine::Shared);
    with_pages(&host);
    host.start_daemon();
    let told = host.kuke(&["init"]).ok();
    let password = told
        .out
        .lines()
        .find_map(|line| line.trim().strip_prefix("password, not shown again: "));
    let password = password
        .unwrap_or_else(|| panic!("no password in {}", told.show()))
        .to_owned();
    // Once.
    host.kuke(&["init"]).ok().says_nothing_of(&["password"]);
    host.load_busybox();
    await_pages(&host);
    (host, password)
}

fn with_pages(host: &Host) {
    let file = fs::File::options()
        .append(true)
        .open(host.dir.join("kukeond.yaml"));
    writeln!(file.unwrap(), "  web:\n    listen: {ADDRESS}").unwrap();
}

fn await_pages(host: &Host) {
    eventually(20.0, "the pages answer", || {
        host.inside("curl", &["-sf", &format!("{ORIGIN}/healthz")])
            .code
            == 0
    });
}

/// Answer of a request.
#[derive(Debug)]
pub struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Value of a header, in lower case.
    fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.head.lines().filter_map(|line| line.split_once(": "));
        found
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    /// Value of a cookie that is set.
    fn cookie(&self, what: &str) -> String {
        let mut lines = self
            .head
            .lines()
            .filter_map(|line| line.strip_prefix("set-cookie: "));
        let start = format!("kukeon.{what}.5080=");
        let found = lines.find_map(|line| line.strip_prefix(&start));
        let found = found.unwrap_or_else(|| panic!("no cookie {what}: {}", self.head));
        found.split(';').next().unwrap().to_owned()
    }
}

/// One request; `more` are further arguments of curl.
fn call(host: &Host, method: &str, path: &str, body: Option<&str>, more: &[&str]) -> Answer {
    let url = format!("{ORIGIN}{path}");
    let mut arguments = vec!["-s", "-i", "--max-time", "50", "-X", method, &url];
    let file = body.map(|text| host.file("body", text));
    let data = file.map(|file| format!("@{file}"));
    if let Some(data) = &data {
        arguments.extend([
            "-H",
            "content-type: application/json",
            "--data-binary",
            data,
        ]);
    }
    arguments.extend(more);
    let out = host.inside("curl", &arguments).ok().out.replace('\r', "");
    let (head, body) = out.split_once("\n\n").unwrap_or((&out, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    Answer {
        status: status.unwrap_or_else(|| panic!("no status in {out}")),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

fn login(host: &Host, name: &str, password: &str) -> Answer {
    let body = json!({ "username": name, "password": password }).to_string();
    call(host, "POST", "/api/v1/auth/login", Some(&body), &[])
}

/// A program that is logged in.
pub struct Program<'a> {
    host: &'a Host,
    header: String,
}

impl<'a> Program<'a> {
    pub fn new(host: &'a Host, name: &str, password: &str) -> Self {
        let token = text(&login(host, name, password).is(200).json()["accessToken"]);
        Self {
            host,
            header: format!("authorization: Bearer {token}"),
        }
    }

    pub fn call(&self, method: &str, path: &str, body: Option<&str>) -> Answer {
        self.call_with(method, path, body, &[])
    }

    fn call_with(&self, method: &str, path: &str, body: Option<&str>, more: &[&str]) -> Answer {
        let arguments: Vec<&str> = ["-H", &self.header]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        call(
            self.host,
            method,
            &format!("/api/v1{path}"),
            body,
            &arguments,
        )
    }
}

/// An account with a role, logged in.
fn someone<'a>(host: &'a Host, name: &str, role: &str) -> Program<'a> {
    let made = host.kuke(&["web", "password", name, "--role", role]).ok();
    let password = made
        .out
        .lines()
        .find_map(|l| l.strip_prefix("password: "))
        .unwrap()
        .to_owned();
    Program::new(host, name, &password)
}

pub fn recipe(dir: &str, colour: &str) -> String {
    let patch = json!([{
        "target": { "kind": "Cell", "name": "web" },
        "set": { ".spec.containers[id=main].env": [format!("COLOUR={colour}")] },
    }]);
    json!({
        "apiVersion": "delivery.kokumi.dev/v1alpha1",
        "kind": "Recipe",
        "metadata": { "name": "web" },
        "spec": {
            "source": { "path": dir },
            "patches": patch,
            "target": { "kuke": { "minHealthy": "0s", "healthTimeout": "20s" } },
        },
    })
    .to_string()
}

fn nobody_comes_in_without_a_password() -> Verdict {
    let (host, password) = serving();
    let info = call(&host, "GET", "/api/v1/info", None, &[]).is(200);
    assert_eq!(info.json()["authEnabled"], true);
    call(&host, "GET", "/readyz", None, &[]).is(200);
    for path in [
        "/orders",
        "/recipes",
        "/menus",
        "/pantries",
        "/settings",
        "/events",
        "/registry/default",
    ] {
        let refused = call(&host, "GET", &format!("/api/v1{path}"), None, &[]).is(401);
        assert_eq!(refused.json()["reason"], "LoginRequired", "{path}");
    }
    let forged = ["-H", "authorization: Bearer e30.e30"];
    call(&host, "GET", "/api/v1/orders", None, &forged).is(401);
    // No answer lets a browser run anything but our own files.
    for path in ["/login", "/", "/api/v1/info", "/no/such"] {
        let answer = call(&host, "GET", path, None, &[]);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(
            answer.header("x-content-type-options"),
            Some("nosniff"),
            "{path}"
        );
        assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{path}");
    }
    let there = login(&host, "admin", &password).is(200);
    for line in there
        .head
        .lines()
        .filter(|line| line.starts_with("set-cookie"))
    {
        assert!(line.contains("HttpOnly; SameSite=Strict"), "{line}");
    }
    let elsewhere = ["-H", "origin: http://evil.example"];
    let body = json!({ "username": "admin", "password": password }).to_string();
    call(&host, "POST", "/api/v1/auth/login", Some(&body), &elsewhere).is(403);
    // A name that is not there and one that is are told apart by nothing.
    let wrong = login(&host, "admin", "wrong wrong wrong").is(401);
    assert_eq!(
        login(&host, "nobody", "wrong wrong wrong").is(401).body,
        wrong.body
    );
    let slowed = (0..20).find_map(|_| {
        let answer = login(&host, "admin", "wrong wrong wrong");
        (answer.status == 429).then_some(answer)
    });
    let slowed = slowed.expect("guessing is slowed down");
    assert!(
        slowed
            .header("retry-after")
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > 0
    );
    // The right one as well, else guessing would go on.
    login(&host, "admin", &password).is(429);
    let accounts = fs::read_to_string(host.run_path.join(".web/accounts.json")).unwrap();
    assert!(accounts.contains("$argon2id$") && !accounts.contains(&password));
    host.kuke(&["web", "ls"]).ok().says(&["admin"]);
    host.kuke(&["web", "password", "ann", "--role", "king"])
        .code(2)
        .says(&["viewer, editor, deployer, admin"]);
    host.kuke(&["web", "remove", "ann"]).code(3).says(&["ann"]);
    host.kuke_in(Mode::InProcess, &["web", "password", "ann"])
        .ok()
        .says(&["role:     viewer"]);
    host.kuke(&["web", "remove", "ann"]).ok();
    host.finish();
    Ok(())
}

fn sessions_are_changed_and_end() -> Verdict {
    let (host, password) = serving();
    let here = format!("origin: {ORIGIN}");
    let with = |what: &str, value: &str| format!("cookie: kukeon.{what}.5080={value}");
    let refresh = |token: &str, origin: &str| {
        call(
            &host,
            "POST",
            "/api/v1/auth/refresh",
            None,
            &["-H", &with("refresh", token), "-H", origin],
        )
    };
    let first = login(&host, "admin", &password).is(200);
    let session = with("session", &first.cookie("session"));
    call(&host, "GET", "/api/v1/orders", None, &["-H", &session]).is(200);
    // A cookie that another site made a browser send changes nothing.
    for said in [
        None,
        Some("origin: http://evil.example"),
        Some("sec-fetch-site: cross-site"),
    ] {
        let mut arguments = vec!["-H", session.as_str()];
        arguments.extend(said.iter().flat_map(|said| ["-H", *said]));
        let refused = call(
            &host,
            "POST",
            "/api/v1/orders/default/web/promote",
            Some("{}"),
            &arguments,
        )
        .is(403);
        assert_eq!(refused.json()["reason"], "CrossSite");
    }
    let ours = ["-H", &session, "-H", &here];
    call(
        &host,
        "POST",
        "/api/v1/orders/default/web/promote",
        Some("{}"),
        &ours,
    )
    .is(404);
    let old = first.cookie("refresh");
    refresh(&old, "origin: http://evil.example").is(403);
    let second = refresh(&old, &here).is(200);
    let new = second.cookie("refresh");
    assert_ne!(old, new);
    // At once it may be another tab, which gets nothing; later it is a thief.
    let again = refresh(&old, &here);
    assert!(matches!(again.status, 409 | 401), "{again:?}");
    eventually(15.0, "the old token ends the session", || {
        refresh(&old, &here).status == 401
    });
    refresh(&new, &here).is(401);
    call(&host, "GET", "/api/v1/orders", None, &["-H", &session]).is(401);
    // Logging out ends both tokens.
    let third = login(&host, "admin", &password).is(200);
    let session = with("session", &third.cookie("session"));
    let all = format!("{session}; kukeon.refresh.5080={}", third.cookie("refresh"));
    call(
        &host,
        "POST",
        "/api/v1/auth/logout",
        None,
        &["-H", &all, "-H", &here],
    )
    .is(200);
    call(&host, "GET", "/api/v1/orders", None, &["-H", &session]).is(401);
    refresh(&third.cookie("refresh"), &here).is(401);
    // A new password ends what was begun with the old one.
    let program = Program::new(&host, "admin", &password);
    program.call("GET", "/orders", None).is(200);
    host.kuke(&["web", "password"])
        .ok()
        .says(&["role:     admin", "password: "]);
    program.call("GET", "/orders", None).is(401);
    login(&host, "admin", &password).is(401);
    host.finish();
    Ok(())
}

fn objects_are_made_and_changed() -> Verdict {
    let (host, password) = serving();
    let dir = source(&host, &sleeper("web"));
    let admin = Program::new(&host, "admin", &password);
    let made = admin
        .call("POST", "/orders", Some(&recipe(&dir, "red")))
        .is(201);
    assert_eq!(made.json()["status"]["phase"], "Ready");
    admin
        .call("POST", "/orders", Some(&recipe(&dir, "red")))
        .is(409);
    let found = admin.call("GET", "/recipes/default/web", None).is(200);
    let tag = found.header("etag").unwrap().to_owned();
    // A preview stores nothing.
    let shown = admin
        .call("POST", "/orders/preview", Some(&recipe(&dir, "green")))
        .is(200)
        .json();
    assert!(text(&shown["unified"]).contains("+"), "{shown}");
    assert!(text(&shown["text"]).contains("COLOUR=green"));
    let broken = recipe(&dir, "red").replace("\"Cell\"", "\"Nothing\"");
    let refused = admin
        .call("POST", "/orders/preview", Some(&broken))
        .is(422)
        .json();
    assert_eq!(refused["reason"], "PatchTargetMissing");
    let list = admin
        .call("GET", "/orders/default/web/preparations", None)
        .is(200)
        .json();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    // What was not seen is not overwritten.
    let fresh = format!("if-match: {tag}");
    let blue = recipe(&dir, "blue");
    let put = |more: &[&str]| admin.call_with("PUT", "/orders/default/web", Some(&blue), more);
    put(&["-H", "if-match: \"1\""]).is(412);
    put(&["-H", &fresh]).is(200);
    let stale = put(&["-H", &fresh]).is(412).json();
    assert_eq!(stale["reason"], "VersionChanged");
    assert!(text(&stale["error"]).contains("web") && stale["details"].is_object());
    admin
        .call_with("DELETE", "/orders/default/web", None, &["-H", &fresh])
        .is(412);
    admin
        .call("PUT", "/orders/default/other", Some(&blue))
        .is(400);
    // Edits, and taking them away again.
    let edits = json!({
        "edits": [{ "target": { "kind": "Cell", "name": "web" }, "set": { ".metadata.labels.by": "hand" } }],
        "message": "by hand",
    });
    let edited = admin
        .call("PUT", "/orders/default/web/edits", Some(&edits.to_string()))
        .is(200)
        .json();
    assert_eq!(edited["spec"]["edits"].as_array().unwrap().len(), 1);
    let history = admin
        .call("GET", "/orders/default/web/history", None)
        .is(200)
        .json();
    let last = history["revisions"]
        .as_array()
        .unwrap()
        .last()
        .unwrap()
        .clone();
    assert_eq!(
        (text(&last["message"]), text(&last["actor"])),
        ("by hand".into(), "web:admin".into())
    );
    put(&[]).is(200);
    let kept = admin.call("GET", "/orders/default/web", None).json();
    assert_eq!(kept["spec"]["edits"].as_array().unwrap().len(), 1);
    let none = json!({ "edits": [] }).to_string();
    let cleared = admin
        .call("PUT", "/orders/default/web/edits", Some(&none))
        .is(200)
        .json();
    assert!(
        cleared["spec"]["edits"]
            .as_array()
            .is_none_or(Vec::is_empty),
        "{cleared}"
    );
    let prep = latest(&host, "web");
    let manifest = admin
        .call(
            "GET",
            &format!("/preparations/default/{prep}/manifest"),
            None,
        )
        .is(200)
        .json();
    assert!(text(&manifest["text"]).contains("COLOUR=blue"));
    // Passwords go in only.
    let pantry = json!({
        "apiVersion": "delivery.kokumi.dev/v1alpha1",
        "kind": "Pantry",
        "metadata": { "name": "shelf" },
        "spec": { "oci": "oci://local/team/app", "username": "ann", "password": "hush hush" },
    });
    let made = admin
        .call("POST", "/pantries", Some(&pantry.to_string()))
        .is(201);
    assert!(!made.body.contains("hush"), "{made:?}");
    let read = admin.call("GET", "/pantries/default/shelf", None).is(200);
    assert!(
        !read.body.contains("hush") && read.body.contains("ann"),
        "{read:?}"
    );
    admin
        .call("DELETE", "/pantries/default/shelf", None)
        .is(200);
    admin.call("GET", "/pantries/default/shelf", None).is(404);
    let settings = admin.call("GET", "/settings", None).is(200).json();
    assert_eq!(settings["spec"]["sourceRoots"][0], dir);
    let own = admin.call("GET", "/registry/default", None).is(200).json();
    assert_eq!(own["repositories"][0]["name"], "preparations/default/web");
    let tags = admin
        .call("GET", "/registry/tags?ref=preparations/default/web", None)
        .is(200)
        .json();
    assert!(
        tags["tags"].as_array().unwrap().contains(&json!("rev-1")),
        "{tags}"
    );
    let artifact = admin.call(
        "GET",
        "/registry/artifact?ref=preparations/default/web&version=rev-1",
        None,
    );
    assert_eq!(artifact.is(200).json()["files"][0]["path"], "manifest.yaml");
    // Roles.
    let viewer = someone(&host, "vera", "viewer");
    let editor = someone(&host, "ed", "editor");
    viewer.call("GET", "/orders", None).is(200);
    for path in ["/orders", "/orders/preview"] {
        let refused = viewer.call("POST", path, Some(&blue)).is(403).json();
        assert_eq!(refused["reason"], "RoleTooLow");
    }
    let automatic = blue.replace("\"spec\":{", "\"spec\":{\"autoDeployLatest\":true,");
    editor
        .call("PUT", "/orders/default/web", Some(&automatic))
        .is(403);
    editor
        .call("PUT", "/orders/default/web", Some(&blue))
        .is(200);
    editor.call("DELETE", "/orders/default/web", None).is(403);
    editor
        .call("POST", "/pantries", Some(&pantry.to_string()))
        .is(403);
    editor.call("PUT", "/settings", Some("{}")).is(403);
    admin.call("DELETE", "/orders/default/web", None).is(200);
    host.kuke(&["get", "recipe", "web"]).code(3);
    host.finish();
    Ok(())
}

fn colour(host: &Host) -> String {
    text(&host.get("cell", "web")["spec"]["containers"][0]["env"][0])
}

fn promote_and_rollback_change_what_runs() -> Verdict {
    let (host, password) = serving();
    let dir = source(&host, &sleeper("web"));
    let admin = Program::new(&host, "admin", &password);
    admin
        .call("POST", "/orders", Some(&recipe(&dir, "red")))
        .is(201);
    let red = latest(&host, "web");
    for name in ["viewer", "editor"] {
        let refused =
            someone(&host, name, name).call("POST", "/orders/default/web/promote", Some("{}"));
        assert_eq!(refused.is(403).json()["reason"], "RoleTooLow");
    }
    host.kuke(&["get", "serving", "web"]).code(3);
    let deployer = someone(&host, "dan", "deployer");
    let wanted = json!({ "preparation": red, "message": "go" }).to_string();
    deployer
        .call("POST", "/orders/default/web/promote", Some(&wanted))
        .is(201);
    eventually(40.0, "red is active", || {
        admin
            .call("GET", "/servings/default/web", None)
            .body
            .contains("\"Deployed\"")
    });
    host.await_state("web", "Ready");
    assert_eq!(colour(&host), "COLOUR=red");
    admin
        .call("PUT", "/orders/default/web", Some(&recipe(&dir, "blue")))
        .is(200);
    let blue = latest(&host, "web");
    let diff = admin
        .call("GET", "/orders/default/web/diff", None)
        .is(200)
        .json();
    assert!(text(&diff["unified"]).contains("COLOUR=blue"));
    let expected =
        |current: &str| json!({ "preparation": blue, "expectedCurrent": current }).to_string();
    let conflict = deployer
        .call(
            "POST",
            "/orders/default/web/promote",
            Some(&expected(&blue)),
        )
        .is(409);
    assert_eq!(conflict.json()["reason"], "CurrentChanged");
    deployer
        .call("POST", "/orders/default/web/promote", Some(&expected(&red)))
        .is(200);
    eventually(40.0, "blue is active", || active(&host, "web") == blue);
    assert_eq!(colour(&host), "COLOUR=blue");
    deployer
        .call("POST", "/orders/default/web/rollback", None)
        .is(200);
    eventually(40.0, "red is active again", || active(&host, "web") == red);
    assert_eq!(colour(&host), "COLOUR=red");
    let serving = admin.call("GET", "/servings/default/web", None).json();
    assert_eq!(serving["spec"]["hold"]["actor"], "web:dan");
    deployer
        .call("POST", "/orders/default/web/resume", None)
        .is(200);
    deployer
        .call("POST", "/orders/default/web/sync", None)
        .is(200);
    host.kuke(&["history", "web"])
        .ok()
        .says(&["web:dan", "rollback", "go"]);
    host.finish();
    Ok(())
}

fn a_serving_that_a_menu_holds_is_a_conflict() -> Verdict {
    let (host, password) = serving();
    let dir = source(&host, &sleeper("web"));
    fs::create_dir(format!("{dir}/side")).unwrap();
    fs::write(format!("{dir}/side/manifest.yaml"), sleeper("side")).unwrap();
    let admin = Program::new(&host, "admin", &password);
    let side = recipe(&format!("{dir}/side"), "red").replace("\"web\"", "\"side\"");
    for document in [recipe(&dir, "red"), side] {
        admin.call("POST", "/orders", Some(&document)).is(201);
    }
    // A run that takes longer than this test.
    let menu = "apiVersion: delivery.kokumi.dev/v1alpha1\nkind: Menu\nmetadata: {name: lunch}\nspec:\n  \
        recipes: [{name: web}, {name: side}]\n  strategy: {healthTimeout: 600s, minHealthy: 300s}\n";
    host.apply(menu).ok();
    host.kuke(&["menu", "run", "lunch"]).ok();
    eventually(30.0, "the member is locked", || {
        let serving = admin.call("GET", "/servings/default/web", None);
        serving.status == 200 && serving.json()["status"]["lock"].is_string()
    });
    let promote = "/orders/default/web/promote";
    let refused = admin.call("POST", promote, Some("{}")).is(409).json();
    assert_eq!(refused["reason"], "ServingLocked", "{refused}");
    host.kuke(&["menu", "abort", "lunch", "--wait"]).ok();
    admin.call("POST", promote, Some("{}")).is(201);
    host.kuke(&["delete", "menu", "lunch"]).ok();
    host.finish();
    Ok(())
}

/// A stream of events that writes what it gets to a file.
fn listen(
    host: &Host,
    program: &Program<'_>,
    name: &str,
    last: Option<&str>,
) -> (crate::command::Running, std::path::PathBuf) {
    let file = host.dir.join(name);
    let (url, out) = (
        format!("{ORIGIN}/api/v1/events"),
        file.display().to_string(),
    );
    let last = last.map(|id| format!("last-event-id: {id}"));
    let mut arguments = vec!["-sN", "-o", &out, "-H", &program.header];
    arguments.extend(last.iter().flat_map(|last| ["-H", last.as_str()]));
    arguments.push(&url);
    (host.start_inside("curl", &arguments), file)
}

fn events_tell_and_come_again() -> Verdict {
    let (host, password) = serving();
    let dir = source(&host, &sleeper("web"));
    let admin = Program::new(&host, "admin", &password);
    admin
        .call("POST", "/orders", Some(&recipe(&dir, "red")))
        .is(201);
    let read = |file: &std::path::Path| fs::read_to_string(file).unwrap_or_default();
    let (stream, file) = listen(&host, &admin, "first", None);
    eventually(15.0, "snapshots come", || {
        read(&file).contains("event: pantries")
    });
    let first = read(&file);
    for topic in ["counts", "orders", "preparations", "servings", "menus"] {
        assert!(
            first.contains(&format!("event: {topic}\n")),
            "{topic}: {first}"
        );
    }
    assert!(first.contains("\"type\":\"snapshot\"") && first.contains("\"name\":\"web\""));
    admin
        .call("POST", "/orders/default/web/promote", Some("{}"))
        .is(201);
    eventually(40.0, "the promotion is told", || {
        let told = read(&file);
        let deltas: Vec<&str> = told
            .lines()
            .filter(|l| l.contains("\"type\":\"delta\""))
            .collect();
        deltas
            .iter()
            .any(|l| l.contains("\"Serving\"") && l.contains("\"phase\":\"Deployed\""))
    });
    let told = read(&file);
    let ids: Vec<&str> = told
        .lines()
        .filter_map(|l| l.strip_prefix("id: "))
        .collect();
    let snapshot = ids.first().unwrap().to_string();
    stream.signal(nix::sys::signal::Signal::SIGTERM);
    stream.wait(crate::host::LIMIT);
    // Whoever comes back gets what was missed, and no snapshot.
    let (stream, file) = listen(&host, &admin, "second", Some(&snapshot));
    eventually(15.0, "what was missed comes", || {
        read(&file).contains("\"Deployed\"")
    });
    assert!(!read(&file).contains("snapshot"), "{}", read(&file));
    stream.signal(nix::sys::signal::Signal::SIGTERM);
    stream.wait(crate::host::LIMIT);
    // An id of another life begins again.
    let (stream, file) = listen(&host, &admin, "third", Some("other-1"));
    eventually(15.0, "snapshots come", || {
        read(&file).contains("event: pantries")
    });
    stream.signal(nix::sys::signal::Signal::SIGTERM);
    stream.wait(crate::host::LIMIT);
    // No token in an address.
    let token = admin.header.rsplit(' ').next().unwrap();
    let url = format!("/api/v1/events?access_token={token}");
    call(&host, "GET", &url, None, &[]).is(401);
    host.finish();
    Ok(())
}

fn another_program_has_the_port() -> Verdict {
    let mut host = Host::bare(Mode::Daemon, Engine::Shared);
    with_pages(&host);
    let busy = host.dir.join("busy").display().to_string();
    let script = format!("busybox nc -ll -p 5080 -e cat & echo $! > {busy}; wait");
    let listener = host.start_inside("sh", &["-c", &script]);
    eventually(10.0, "somebody else listens", || {
        host.inside("sh", &["-c", "ss -ltn | grep -q :5080"]).code == 0
    });
    host.start_daemon();
    host.kuke(&["init"]).ok();
    eventually(10.0, "the daemon says so", || {
        host.daemon_log().contains("the pages are not served")
    });
    let pid = fs::read_to_string(&busy).unwrap();
    crate::command::system("kill", &[pid.trim()]).ok();
    listener.wait(crate::host::LIMIT);
    eventually(40.0, "the pages are served", || {
        host.daemon_log().contains("serving the pages")
    });
    host.finish();
    Ok(())
}
