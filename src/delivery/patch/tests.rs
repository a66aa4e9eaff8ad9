use super::*;
use crate::delivery::canonical::{Octal, manifest, read};

const BUNDLE: &str = "\
apiVersion: v1beta1
kind: Cell
metadata: {name: web}
spec:
  realmId: prod
  spaceId: default
  stackId: default
  containers:
    - {id: a, image: nginx}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web, namespace: one}
data: {a: x}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web, namespace: two}
";

fn bundle() -> Vec<Document> {
    read("f.yaml", BUNDLE.as_bytes(), Octal::Read).unwrap()
}

fn patch(kind: &str, name: &str) -> Patch {
    Patch {
        target: PatchTarget {
            kind: kind.to_owned(),
            name: name.to_owned(),
            ..PatchTarget::default()
        },
        set: Vec::new(),
        set_string: Vec::new(),
        unset: Vec::new(),
        merge: None,
        json_patch: Vec::new(),
        on_missing: OnMissing::Fail,
    }
}

fn value(text: &str) -> Value {
    Value::from_json(text).unwrap()
}

fn failed(patch: Patch) -> Failure {
    let mut documents = bundle();
    apply(&mut documents, &[patch], "patches").unwrap_err()
}

#[test]
fn changes_come_in_the_order_of_the_fields() {
    let mut change = patch("Cell", "web");
    change.set = vec![
        ("spec.containers[id=a].image".into(), "nginx:1.27".into()),
        ("spec.containers[0].restartMaxRetries".into(), "3".into()),
        ("spec.containers[0].args[+]".into(), "3.10".into()),
    ];
    change.set_string = vec![(".metadata.labels[\"a.b/c\"]".into(), "3".into())];
    change.unset = vec!["spec.stackId".into()];
    change.merge = Some(value(r#"{"spec":{"stackId":"s","spaceId":null}}"#));
    change.json_patch = vec![value(
        r#"{"op":"add","path":"/spec/runState","value":"Stopped"}"#,
    )];
    let mut documents = bundle();
    apply(&mut documents, &[change], "patches").unwrap();
    let wanted = "\
---
apiVersion: v1beta1
kind: Cell
metadata:
  name: web
  labels:
    a.b/c: \"3\"
spec:
  realmId: prod
  containers:
    - id: a
      image: nginx:1.27
      restartMaxRetries: 3
      args:
        - \"3.10\"
  stackId: s
  runState: Stopped
";
    assert_eq!(manifest(&documents[..1]), wanted);
}

#[test]
fn targets_must_be_exact() {
    let failure = failed(patch("ConfigMap", "web"));
    assert_eq!(failure.reason, Reason::AmbiguousTarget);
    assert!(
        failure
            .message
            .contains("patches[0] for ConfigMap \"web\": 2 documents match"),
        "{failure}"
    );
    assert!(failure.message.contains("at f.yaml:11"), "{failure}");
    for (kind, name) in [("Cell", "Web"), ("cell", "web"), ("Cell", "db")] {
        assert_eq!(failed(patch(kind, name)).reason, Reason::PatchTargetMissing);
    }
    assert!(failed(patch("ConfigMap", "db")).hint.contains("\"web\""));
    let mut two = patch("ConfigMap", "web");
    two.target.namespace = Some("two".into());
    two.merge = Some(value(r#"{"data":{"b":"y"}}"#));
    let mut in_realm = patch("Cell", "web");
    in_realm.target.namespace = Some("prod".into());
    in_realm.target.realm = Some("prod".into());
    in_realm.target.space = Some("default".into());
    in_realm.target.api_version = Some("v1beta1".into());
    let mut documents = bundle();
    apply(&mut documents, &[two, in_realm.clone()], "edits").unwrap();
    assert!(
        documents[2].value.get("data").is_some() && documents[1].value.at(&["data", "b"]).is_none()
    );
    in_realm.target.stack = Some("other".into());
    assert_eq!(failed(in_realm).reason, Reason::PatchTargetMissing);
}

#[test]
fn failures_name_the_patch_and_the_path() {
    let mut change = patch("Cell", "web");
    change.unset = vec![".spec.x".into()];
    let failure = failed(change.clone());
    assert_eq!(failure.reason, Reason::PatchPathInvalid);
    assert_eq!(
        failure.message,
        "patches[0] for Cell \"web\": unset \".spec.x\": there is no .spec.x"
    );
    change.unset = vec!["a[".into()];
    assert_eq!(failed(change.clone()).reason, Reason::PatchPathInvalid);
    change.unset = Vec::new();
    change.merge = Some(3.into());
    assert_eq!(failed(change.clone()).reason, Reason::PatchPathInvalid);
    change.merge = None;
    change.json_patch = vec![value(r#"{"op":"remove","path":"/x"}"#)];
    let failure = failed(change);
    assert_eq!(
        failure.message,
        "patches[0] for Cell \"web\": jsonPatch[0] \"/x\": there is no /x"
    );
}

#[test]
fn what_is_missing_can_be_ignored_without_a_trace() {
    let mut other = patch("Cell", "db");
    other.on_missing = OnMissing::Ignore;
    let mut change = patch("Cell", "web");
    change.on_missing = OnMissing::Ignore;
    change.set = vec![
        ("spec.new.list[0]".into(), 1.into()),
        ("spec.ok".into(), 1.into()),
    ];
    change.unset = vec!["spec.gone".into()];
    change.json_patch = vec![value(r#"{"op":"remove","path":"/x"}"#)];
    let mut documents = bundle();
    apply(&mut documents, &[other, change.clone()], "patches").unwrap();
    let spec = documents[0].value.get("spec").unwrap();
    assert!(spec.get("new").is_none() && spec.get("ok").is_some());
    // A path that cannot fit is no missing one.
    change.set = vec![("spec.realmId.x".into(), 1.into())];
    assert_eq!(failed(change.clone()).reason, Reason::PatchPathInvalid);
    change.set = vec![("a..b".into(), 1.into())];
    assert_eq!(failed(change).reason, Reason::PatchPathInvalid);
}

#[test]
fn whole_documents_come_and_go() {
    let mut gone = patch("Cell", "web");
    gone.json_patch = vec![value(r#"{"op":"remove","path":""}"#)];
    let mut new = patch("Cell", "db");
    new.json_patch = vec![value(
        r#"{"op":"add","path":"","value":{"apiVersion":"v1beta1","kind":"Cell","metadata":{"name":"db"}}}"#,
    )];
    new.set = vec![(".spec.realmId".into(), "prod".into())];
    let mut documents = bundle();
    apply(&mut documents, &[gone.clone(), new.clone()], "edits").unwrap();
    let names: Vec<_> = documents
        .iter()
        .map(|d| (d.field("kind"), d.metadata("name")))
        .collect();
    assert_eq!(
        names,
        [("ConfigMap", "web"), ("ConfigMap", "web"), ("Cell", "db")]
    );
    assert_eq!(
        documents[2].value.at(&["spec", "realmId"]),
        Some(&"prod".into())
    );
    new.target.name = "other".into();
    assert_eq!(failed(new).reason, Reason::PatchPathInvalid);
    gone.set_string = Vec::new();
    gone.json_patch
        .push(value(r#"{"op":"add","path":"/x","value":1}"#));
    assert_eq!(failed(gone).reason, Reason::PatchPathInvalid);
}

#[test]
fn copies_cannot_grow_without_end() {
    let mut wide = patch("Cell", "web");
    wide.json_patch = vec![value(r#"{"op":"copy","from":"/spec","path":"/spec/x"}"#); 100];
    let failure = failed(wide);
    assert!(
        failure.message.contains("deeper") || failure.message.contains("too large"),
        "{failure}"
    );
}
