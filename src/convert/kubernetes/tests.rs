//! There and back again, and what Kubernetes itself says of the objects.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    Namespace, PersistentVolumeClaim, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::container::write as write_container;
use super::*;
use crate::convert::ours::Scope;
use crate::model::testing::{cell, realm, secret, space, volume};
use crate::model::{Cell, CellStatus, Meta, MountKind, RestartPolicy, Seccomp, SecretTarget};

/// The API's own types know every field: what they drop does not exist.
fn strict<T: DeserializeOwned + Serialize>(value: &Value) {
    let typed: T =
        serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{e}: {value:#}"));
    let mut again = serde_json::to_value(&typed).unwrap();
    let mut value = value.clone();
    // A condition of the selector's type, not of its content.
    for v in [&mut again, &mut value] {
        v.sort_all_objects();
    }
    assert_eq!(again, value);
}

fn check(value: &Value) {
    match value["kind"].as_str().unwrap() {
        "Namespace" => strict::<Namespace>(value),
        "Secret" => strict::<Secret>(value),
        "ServiceAccount" => strict::<ServiceAccount>(value),
        "NetworkPolicy" => strict::<NetworkPolicy>(value),
        "Service" => strict::<Service>(value),
        "Job" => strict::<Job>(value),
        "Deployment" => strict::<Deployment>(value),
        "PersistentVolumeClaim" => strict::<PersistentVolumeClaim>(value),
        kind => panic!("nothing checks a {kind}"),
    }
    let name = value["metadata"]["name"].as_str().unwrap();
    assert!(name.parse::<crate::model::Name>().is_ok(), "{name}");
}

fn objects(text: &str) -> Vec<AnyObject> {
    let objects = apply::read(&[("ours", text.as_bytes())]);
    objects
        .unwrap_or_else(|e| panic!("{}\n{text}", e.message))
        .into_iter()
        .map(|(_, object)| object)
        .collect()
}

fn back(text: &str) -> String {
    match from_kubernetes(&[("theirs", text.as_bytes())], &Scope::default(), false) {
        Ok(converted) => converted.text,
        Err(error) => panic!("{error}\n{text}"),
    }
}

/// What is left of a cell when everything that Kubernetes cannot say, or that
/// goes without saying, is taken away.
fn normal(cell: &Cell) -> Cell {
    let mut cell = cell.clone();
    cell.status = CellStatus::default();
    cell.spec.auto_delete = false;
    cell.spec.run_generation = 0;
    cell.spec.restart_generation = 0;
    cell.meta = normal_meta(&cell.meta);
    let ending = |p: RestartPolicy| p != RestartPolicy::Always;
    let job = cell
        .spec
        .containers
        .iter()
        .find(|c| ending(c.restart_policy))
        .cloned();
    let count = cell.spec.containers.len();
    let beside = cell
        .spec
        .containers
        .iter()
        .any(|c| !ending(c.restart_policy))
        && job.is_some();
    let pid = cell.spec.containers.iter().all(|c| c.host_pid);
    let grace = cell.spec.containers[0]
        .stop_grace_seconds
        .filter(|n| *n != 10);
    for c in &mut cell.spec.containers {
        c.root = beside && ending(c.restart_policy);
        if let Some(job) = &job
            && ending(c.restart_policy)
        {
            c.restart_policy = job.restart_policy;
            c.restart_max_retries = job.restart_max_retries;
        }
        c.restart_backoff_seconds = None;
        c.restart_max_retries = c
            .restart_max_retries
            .map(|n| n.min(i32::MAX as u32))
            .filter(|n| *n != 5);
        c.stop_grace_seconds = grace;
        c.host_pid = pid;
        c.host_cgroup = false;
        let number = |id: &str| id.parse::<i32>().is_ok();
        c.user = c.user.take().filter(|u| u.split(':').all(number));
        c.devices.clear();
        c.resources.pids = None;
        c.resources.cpu_shares = c.resources.cpu_shares.map(|shares| {
            super::super::quantity::milli_to_shares(super::super::quantity::shares_to_milli(shares))
        });
        if let Seccomp::Profile(_) = c.security.seccomp {
            c.security.seccomp = Seccomp::Default;
        }
        if c.privileged {
            c.security = Default::default();
        }
        if c.security.no_new_privileges == Some(true) {
            c.security.no_new_privileges = None;
        }
        c.tmpfs.iter_mut().for_each(|t| t.options.clear());
        for mount in &mut c.mounts {
            match &mut mount.kind {
                MountKind::Tmpfs { mode, .. } => *mode = 0,
                MountKind::Volume { ensure, .. } => *ensure = false,
                MountKind::Bind(_) => {}
            }
        }
        for secret in &mut c.secrets {
            if let SecretTarget::File { uid, gid, mode, .. } = &mut secret.target {
                (*uid, *gid) = (None, None);
                *mode = mode.filter(|mode| *mode != 0o444);
                // A name for people only.
                secret.name = secret.source.name.to_string();
            }
        }
        c.secrets.sort_by_key(|s| s.target != SecretTarget::Env);
        let mut seen = std::collections::BTreeSet::new();
        c.env.retain(|pair| {
            let name = pair.split('=').next().unwrap().to_owned();
            let legal = !name.starts_with("..") && name != ".";
            legal && seen.insert(name)
        });
    }
    if beside {
        cell.spec
            .containers
            .sort_by_key(|c| ending(c.restart_policy));
    }
    assert_eq!(cell.spec.containers.len(), count);
    cell
}

fn normal_meta(meta: &Meta) -> Meta {
    let mut losses = Vec::new();
    let labels = names::labels(&meta.labels, &mut losses);
    let annotations = names::annotations(&meta.annotations, &mut losses);
    Meta {
        labels,
        annotations,
        ..Meta::default()
    }
}

/// Cells that have an equivalent but for single fields.
fn convertible(mut cell: Cell) -> Cell {
    let ending = |c: &crate::model::ContainerSpec| c.restart_policy != RestartPolicy::Always;
    let endings = cell.spec.containers.iter().filter(|c| ending(c)).count();
    let count = cell.spec.containers.len();
    if endings > 1 {
        // One policy for all.
        let first = cell.spec.containers.iter().find(|c| ending(c)).cloned();
        for c in &mut cell.spec.containers {
            if let Some(first) = &first {
                c.restart_policy = first.restart_policy;
                c.restart_max_retries = first.restart_max_retries;
                c.restart_backoff_seconds = None;
            }
            c.root = false;
        }
    } else if endings == 1 && count > 1 {
        cell.spec
            .containers
            .iter_mut()
            .for_each(|c| c.root = ending(c));
    }
    if cell.at.realm.as_str().starts_with("kube-") {
        cell.at.realm = "r".parse().unwrap();
        crate::model::testing::put_in_realm(&mut cell);
    }
    let ports = cell.spec.containers.iter().any(|c| !c.ports.is_empty());
    if ports
        && cell
            .at
            .cell
            .as_str()
            .starts_with(|c: char| c.is_ascii_digit())
    {
        // Not the name of a Service.
        cell.at.cell = "web".parse().unwrap();
    }
    cell
}

/// What is written is legal, is read without loss, and means the same. In
/// debug builds the generator of cells alone takes most of a test's stack.
#[test]
fn a_cell_comes_back() {
    let run = || {
        let mut runner = TestRunner::new(ProptestConfig::with_cases(400));
        runner.run(&cell().prop_map(convertible), comes_back)
    };
    let thread = std::thread::Builder::new().stack_size(32 << 20).spawn(run);
    thread.unwrap().join().unwrap().unwrap();
}

fn comes_back(cell: Cell) -> Result<(), TestCaseError> {
    let (values, ..) = write::objects(&[AnyObject::Cell(cell.clone())], Secrets::Keep);
    values.iter().for_each(check);
    let text = stream(&values).unwrap();
    let ours = back(&text);
    let found = objects(&ours);
    let found: Vec<_> = found
        .into_iter()
        .filter_map(|object| match object {
            AnyObject::Cell(mut cell) => {
                cell.meta.annotations.remove(PORTS);
                Some(cell)
            }
            _ => None,
        })
        .collect();
    prop_assert_eq!(&found, &[normal(&cell)]);
    // And there again: the same bytes.
    let again = to_kubernetes(&objects(&ours), Secrets::Keep).unwrap();
    let known: Vec<&Value> = again.iter().collect();
    let order = found[0].spec.containers.iter().map(|c| &c.id).eq(cell
        .spec
        .containers
        .iter()
        .map(|c| &c.id));
    if order {
        prop_assert_eq!(
            known
                .iter()
                .filter(|v| ["Job", "Deployment"].contains(&v["kind"].as_str().unwrap()))
                .count(),
            1
        );
        prop_assert!(
            values.iter().all(|v| known.contains(&v)),
            "{text}\n{again:#?}"
        );
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_realm_and_a_space_come_back(realm in realm(), space in space()) {
        let documents = [AnyObject::Realm(realm.clone()), AnyObject::Space(space.clone())];
        let (values, ..) = write::objects(&documents, Secrets::Keep);
        values.iter().for_each(check);
        let found = objects(&back(&stream(&values).unwrap()));
        let mut logins: Vec<_> = realm.spec.credentials.into_iter()
            .filter(|c| !c.server.is_empty() && !c.password.is_empty() && !c.username.contains(':'))
            .collect();
        logins.sort_by(|a, b| a.server.cmp(&b.server));
        let wanted = normal_meta(&realm.meta);
        let has = found.iter().any(|o| match o {
            AnyObject::Realm(r) => r.at == realm.at && r.meta == wanted && logins.iter().all(|l| r.spec.credentials.contains(l)),
            _ => false,
        });
        prop_assert!(has, "{found:#?}");
        let wanted = normal_meta(&space.meta);
        let has = found.iter().any(|o| matches!(o, AnyObject::Space(s) if s.at == space.at && s.meta == wanted));
        prop_assert!(has, "{found:#?}");
    }
}

proptest! {
    #[test]
    fn a_volume_and_a_secret_come_back(volume in volume(), secret in secret()) {
        let (mut volume, mut secret) = (volume, secret);
        let documents = [AnyObject::Volume(volume.clone()), AnyObject::Secret(secret.clone())];
        let (values, ..) = write::objects(&documents, Secrets::Keep);
        values.iter().for_each(check);
        let found = objects(&back(&stream(&values).unwrap()));
        volume.meta = normal_meta(&volume.meta);
        secret.meta = normal_meta(&secret.meta);
        prop_assert!(found.contains(&AnyObject::Volume(volume)), "{found:#?}");
        prop_assert!(found.contains(&AnyObject::Secret(secret)), "{found:#?}");
    }
}

const SHOP: &str = "\
kind: Realm
metadata: {name: shop}
spec: {registryCredentials: [{serverAddress: registry.example.org, username: u, password: p}]}
---
kind: Space
metadata: {name: default}
spec: {realmId: shop}
---
kind: Stack
metadata: {name: front}
spec: {realmId: shop, spaceId: default}
---
kind: Cell
metadata:
  name: web
  labels: {app: web}
  annotations: {convert.kukeon.io/ports: '8080:80'}
spec:
  realmId: shop
  spaceId: default
  stackId: front
  containers:
    - id: app
      image: docker.io/library/nginx:1.27
      restartPolicy: always
      env: ['A=x', 'B=$(A)', 'NO=no']
      volumes: [{kind: bind, source: /srv/site, target: /site, readOnly: true}]
      resources: {memoryLimitBytes: 67108864, cpuShares: 512}
      ports: ['9090']
";

#[test]
fn an_example_in_full() {
    let converted = from_sources(&[("shop.yaml", SHOP.as_bytes())], false).unwrap();
    assert_eq!(converted.losses, []);
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/convert/kubernetes/example.yaml"
    );
    if std::env::var_os("KUKEON_WRITE_DOCS").is_some() {
        std::fs::write(path, &converted.text).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    assert_eq!(converted.text, golden, "\n{}", converted.text);
    let whole = objects(&back(&converted.text));
    assert_eq!(whole, objects(SHOP));
    assert_eq!(
        to_kubernetes(&whole, Secrets::Keep).unwrap(),
        to_kubernetes(&objects(SHOP), Secrets::Keep).unwrap()
    );
    to_kubernetes(&whole, Secrets::Keep)
        .unwrap()
        .iter()
        .for_each(check);
}

#[test]
fn an_artifact_holds_no_password() {
    let error = to_kubernetes(&objects(SHOP), Secrets::Hide)
        .unwrap_err()
        .to_string();
    assert!(error.contains("spec.registryCredentials"), "{error}");
}

#[test]
fn the_order_of_the_documents_does_not_matter() {
    let mut parts: Vec<&str> = SHOP.split("---\n").collect();
    parts.reverse();
    let reversed = parts.join("---\n");
    let text = |input: &str| {
        from_sources(&[("f", input.as_bytes())], false)
            .unwrap()
            .text
    };
    assert_eq!(text(&reversed), text(SHOP));
}

#[test]
fn what_has_no_equivalent_is_refused_with_its_place() {
    let cell = SHOP.replace("image: docker", "devices: [/dev/kvm]\n      image: docker");
    let error = from_sources(&[("shop.yaml", cell.as_bytes())], false).unwrap_err();
    let error = crate::api::Error::from(error);
    assert_eq!(error.reason, "NoEquivalent");
    assert!(
        error.message.contains("document 4 (Cell \"web\") at shop.yaml:24:7: spec.containers[0].devices: a pod cannot name device nodes; use a device plugin"),
        "{}", error.message
    );
    let partial = from_sources(&[("shop.yaml", cell.as_bytes())], true).unwrap();
    assert_eq!(partial.losses.len(), 1);
    assert_eq!(
        partial.text,
        from_sources(&[("f", SHOP.as_bytes())], false).unwrap().text
    );
}

/// Losses of the cell of the example after a change.
fn losses(from: &str, to: &str) -> Vec<String> {
    let text = SHOP.replace(from, to);
    assert_ne!(text, SHOP);
    let converted = from_sources(&[("f", text.as_bytes())], true).unwrap_or_else(|e| panic!("{e}"));
    converted.losses.iter().map(Loss::line).collect()
}

#[test]
fn every_kind_of_loss() {
    let container = |field: &str| losses("restartPolicy: always", field);
    for (found, words) in [
        (
            container("restartPolicy: always\n      restartBackoffSeconds: 3"),
            "restartBackoffSeconds",
        ),
        (
            container("restartPolicy: always\n      hostCgroup: true"),
            "hostCgroup",
        ),
        (
            container("restartPolicy: always\n      user: nginx"),
            "write uid or uid:gid",
        ),
        (
            container("restartPolicy: always\n      securityOpts: [seccomp=/p.json]"),
            "seccomp",
        ),
        (
            container("restartPolicy: always\n      tmpfs: [{path: /t, options: [noexec]}]"),
            "tmpfs[0].options[0]",
        ),
        (
            container(
                "restartPolicy: always\n      privileged: true\n      securityOpts: [no-new-privileges]",
            ),
            "privileged",
        ),
        (losses("cpuShares: 512", "pidsLimit: 5"), "pidsLimit"),
        (losses("'A=x'", "'A=x', 'A=y'"), "set twice"),
        (
            losses("labels: {app: web}", "labels: {app: two words}"),
            "metadata.labels.app",
        ),
        (losses("'8080:80'", "'http'"), "is not a port"),
        (
            losses("  containers:", "  autoDelete: true\n  containers:"),
            "autoDelete",
        ),
        (
            losses(
                "metadata: {name: front}",
                "metadata: {name: front, labels: {a: b}}",
            ),
            "a stack becomes a label",
        ),
        (
            losses(
                "spec: {realmId: shop}\n",
                "spec: {realmId: shop, cniConfigPath: /x}\n",
            ),
            "cniConfigPath",
        ),
        (
            losses("serverAddress: registry.example.org, ", ""),
            "name the registry",
        ),
        (
            losses(
                "    - id: app\n",
                "    - {id: job, image: a}\n    - id: app\n",
            ),
            "one restart policy",
        ),
    ] {
        assert_eq!(found.len(), 1, "{words}: {found:#?}");
        assert!(found[0].contains(words), "{words}: {found:#?}");
    }
}

#[test]
fn two_cells_that_would_have_one_name() {
    let twin = SHOP[SHOP.rfind("---\n").unwrap()..]
        .replace("stackId: front", "stackId: default")
        .replace("name: web", "name: front-web");
    let text = format!("{SHOP}{twin}");
    let error = from_sources(&[("f", text.as_bytes())], false)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("becomes the Deployment \"front-web\"")
            && error.contains("give one of them another name"),
        "{error}"
    );
}

#[test]
fn a_container_goes_with_its_cell() {
    let alone = "kind: Container\nmetadata: {name: side}\nspec: {realmId: shop, spaceId: default, stackId: front, cellId: web, image: a, restartPolicy: always}\n";
    let text = format!("{SHOP}---\n{alone}");
    let converted = from_sources(&[("f", text.as_bytes())], false).unwrap();
    assert!(converted.text.contains("name: side"), "{}", converted.text);
    let error = from_sources(&[("f", alone.as_bytes())], false)
        .unwrap_err()
        .to_string();
    assert!(error.contains("give the document of its Cell"), "{error}");
}

#[test]
fn a_container_is_told_of_by_itself() {
    let mut losses = Vec::new();
    let spec = crate::model::ContainerSpec::new("a".parse().unwrap(), "x");
    let at = crate::model::CellRef {
        realm: "r".parse().unwrap(),
        space: "s".parse().unwrap(),
        stack: "t".parse().unwrap(),
        cell: "c".parse().unwrap(),
    };
    let known = Default::default();
    let mut named = kept::Named::new(&at, &known);
    let (_, volumes) = write_container(&spec, "spec", 0, &mut named, &mut losses);
    assert!(volumes.is_empty() && losses.is_empty());
}
