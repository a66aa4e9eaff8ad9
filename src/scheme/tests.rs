//! Round trips lose nothing: model → external → YAML → external → model.

use proptest::prelude::*;

use super::*;
use crate::api::{v1beta1 as external, yaml};
use crate::model::testing;

/// Through YAML and through JSON.
fn again<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq>(document: &T) -> T {
    let text = yaml::to_string(document).unwrap();
    let from_yaml: T = yaml::from_str("t", &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let json = yaml::to_json(document).unwrap();
    let from_json: T = yaml::from_str("t", &json).unwrap_or_else(|e| panic!("{e}\n{json}"));
    assert!(from_yaml == *document, "YAML changed it:\n{text}");
    assert!(from_json == *document, "JSON changed it:\n{json}");
    from_yaml
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn realms(realm in testing::realm()) {
        let document = again(&realm_to_external(&realm, Secrets::Keep));
        prop_assert_eq!(realm_to_model(document).unwrap(), realm);
    }

    #[test]
    fn spaces(space in testing::space()) {
        prop_assert_eq!(space_to_model(again(&space_to_external(&space))).unwrap(), space);
    }

    #[test]
    fn stacks(stack in testing::stack()) {
        prop_assert_eq!(stack_to_model(again(&stack_to_external(&stack))).unwrap(), stack);
    }

    #[test]
    fn cells(cell in testing::cell()) {
        let document = again(&cell_to_external(&cell));
        prop_assert_eq!(cell_to_model(document).unwrap(), cell);
    }

    #[test]
    fn containers(cell in testing::cell()) {
        let spec = &cell.spec.containers[0];
        let document = again(&container_to_external(&cell, &spec.id).unwrap());
        let (at, _, found) = container_to_model(document).unwrap();
        prop_assert_eq!(&at, &cell.at);
        prop_assert_eq!(&found, spec);
    }

    #[test]
    fn volumes(volume in testing::volume()) {
        prop_assert_eq!(volume_to_model(again(&volume_to_external(&volume))).unwrap(), volume);
    }

    #[test]
    fn secrets(secret in testing::secret()) {
        let document = again(&secret_to_external(&secret, Secrets::Keep));
        prop_assert_eq!(&secret_to_model(document).unwrap(), &secret);
        let shown = yaml::to_string(&secret_to_external(&secret, Secrets::Hide)).unwrap();
        prop_assert!(!shown.contains("spec"), "{}", shown);
        let (debug, value) = (format!("{secret:?}"), &secret.data.0);
        prop_assert!(value.len() < 12 || !debug.contains(value), "{}", debug);
    }

    #[test]
    fn passwords_are_hidden_unless_kept(realm in testing::realm()) {
        let shown = realm_to_external(&realm, Secrets::Hide);
        let logins = shown.spec.unwrap().registry_credentials;
        prop_assert_eq!(logins.len(), realm.spec.credentials.len());
        prop_assert!(logins.iter().all(|login| login.password.is_empty()));
    }
}

fn runtime(decoded: Result<Decoded, Error>) -> Result<AnyObject, Error> {
    decoded.map(|decoded| match decoded {
        Decoded::Runtime(object) => object,
        Decoded::Release(object) => panic!("{object:?}"),
    })
}

fn cell(spec: &str) -> Result<AnyObject, Error> {
    let text = format!(
        "kind: Cell\nmetadata: {{name: web}}\nspec:\n  realmId: r\n  spaceId: s\n  stackId: t\n{spec}"
    );
    runtime(decode(
        crate::api::decode("t", text.as_bytes()).unwrap().remove(0),
    ))
}

fn problem(spec: &str) -> String {
    let error = cell(spec).unwrap_err();
    assert_eq!(error.problems.len(), 1, "{error}");
    error.to_string()
}

#[test]
fn wrong_values_name_their_field_and_the_remedy() {
    let container = |fields: &str| format!("  containers: [{{id: a, image: x, {fields}}}]\n");
    let cases = [
        (
            "restartPolicy: sometimes",
            "spec.containers[0].restartPolicy: \"sometimes\" is not one of: always, on-failure, never",
        ),
        ("restartPolicy: OnFailure", "did you mean \"on-failure\"?"),
        ("imagePullPolicy: IfNotPresent", "did you mean \"missing\"?"),
        ("restartBackoffSeconds: 3", "has no effect without restarts"),
        (
            "restartPolicy: always, restartMaxRetries: 3",
            "only limits restartPolicy on-failure",
        ),
        (
            "restartPolicy: on-failure, restartMaxRetries: 0",
            "0 is not between 1 and",
        ),
        (
            "stopGraceSeconds: -1",
            "spec.containers[0].stopGraceSeconds: -1",
        ),
        ("workingDir: app", "not an absolute path"),
        ("env: [FOO]", "for an empty value write NAME="),
        ("env: ['=x']", "spec.containers[0].env[0]"),
        (
            "args: [\"a\\0b\"]",
            "spec.containers[0].args[0]: contains a NUL byte",
        ),
        ("user: 'a:b:c'", "is not a user"),
        ("user: '4294967295'", "is not a user"),
        (
            "capabilities: {add: [NET_ADMN]}",
            "did you mean \"NET_ADMIN\"?",
        ),
        ("securityOpts: [apparmor=x]", "not supported"),
        (
            "devices: [/dev/a, /dev/a]",
            "spec.containers[0].devices[1]: \"/dev/a\" is listed twice",
        ),
        (
            "tmpfs: [{path: /t, options: [noexce]}]",
            "did you mean \"noexec\"?",
        ),
        (
            "tmpfs: [{path: /t}], volumes: [{source: /a, target: /t/}]",
            "mounted already by spec.containers[0].tmpfs[0].path",
        ),
        (
            "volumes: [{source: data, target: /t}]",
            "or set kind: volume",
        ),
        (
            "volumes: [{kind: volume, source: Data, target: /t}]",
            "name is invalid",
        ),
        (
            "volumes: [{kind: tmpfs, source: /a, target: /t}]",
            "a tmpfs has no source",
        ),
        (
            "volumes: [{source: /a, target: /t, mode: 448}]",
            "only for kind tmpfs",
        ),
        (
            "volumes: [{source: /a, target: /}]",
            "root cannot be mounted over",
        ),
        (
            "volumes: [{source: /a}]",
            "spec.containers[0].volumes[0].target: is required",
        ),
        (
            "resources: {memoryLimitBytes: 64}",
            "64 is not between 1048576",
        ),
        ("resources: {cpuShares: 1}", "1 is not between 2 and 262144"),
        ("resources: {pidsLimit: -1}", "-1 is not between 1"),
        ("realmId: other", "differs from the cell's own \"r\""),
    ];
    for (fields, part) in cases {
        let text = problem(&container(fields));
        assert!(text.contains(part), "{fields}: {text}");
    }
    let cases = [
        ("", "spec.containers: is empty"),
        (
            "  containers: [{id: a}]\n",
            "spec.containers[0].image: is required",
        ),
        (
            "  containers: [{image: x}]\n",
            "spec.containers[0].id: is required",
        ),
        (
            "  containers: [{id: A_b, image: x}]\n",
            "\"a-b\" would be a name",
        ),
        (
            "  containers: [{id: a, image: NGINX}]\n",
            "did you mean \"nginx\"?",
        ),
        (
            "  containers: [{id: a, image: x}, {id: a, image: y}]\n",
            "spec.containers[1].id: another container",
        ),
        (
            "  containers: [{id: a, image: x, root: true}, {id: b, image: y, root: true}]\n",
            "at most one",
        ),
        (
            "  rootContainerId: b\n  containers: [{id: a, image: x}]\n",
            "no container is called \"b\"",
        ),
        (
            "  rootContainerId: b\n  containers: [{id: a, image: x, root: true}, {id: b, image: y}]\n",
            "contradicts root: true on container \"a\"",
        ),
        (
            "  id: other\n  containers: [{id: a, image: x}]\n",
            "differs from metadata.name",
        ),
        (
            "  runState: running\n  containers: [{id: a, image: x}]\n",
            "did you mean \"Running\"?",
        ),
    ];
    for (spec, part) in cases {
        let text = problem(spec);
        assert!(text.contains(part), "{spec}: {text}");
    }
}

#[test]
fn all_problems_of_a_document_are_told_at_once() {
    let error =
        cell("  containers: [{id: A, image: ''}, {id: b, image: x, user: 'a b'}]\n").unwrap_err();
    let paths: Vec<&str> = error.problems.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "spec.containers[0].id",
            "spec.containers[0].image",
            "spec.containers[1].user"
        ]
    );
}

#[test]
fn missing_parents_are_named_with_the_line_to_add() {
    let text = "kind: Cell\nmetadata: {name: web}\nspec: {containers: [{id: a, image: x}]}\n";
    let error = decode(crate::api::decode("t", text.as_bytes()).unwrap().remove(0)).unwrap_err();
    assert_eq!(error.problems.len(), 3, "{error}");
    assert!(
        error
            .to_string()
            .contains("add \"realmId: default\" below spec"),
        "{error}"
    );
}

#[test]
fn a_root_by_id_and_a_host_network_by_one_hold_for_the_cell() {
    let object = cell(
        "  rootContainerId: b\n  containers: [{id: a, image: x, hostNetwork: true}, {id: b, image: y}]\n",
    );
    let AnyObject::Cell(cell) = object.unwrap() else {
        panic!("not a cell");
    };
    let flags: Vec<_> = cell
        .spec
        .containers
        .iter()
        .map(|c| (c.root, c.host_network))
        .collect();
    assert_eq!(flags, [(false, true), (true, true)]);
}

#[test]
fn what_only_kukeon_writes_is_ignored_or_refused() {
    let read = |metadata: &str| {
        let text =
            format!("kind: Realm\nmetadata: {{name: a, {metadata}}}\nstatus: {{state: Ready}}\n");
        decode(crate::api::decode("t", text.as_bytes()).unwrap().remove(0))
    };
    let Decoded::Runtime(AnyObject::Realm(realm)) =
        read("generation: 7, uid: x, createdAt: '2026-01-01T00:00:00Z'").unwrap()
    else {
        panic!("not a realm");
    };
    assert_eq!(realm.meta, crate::model::Meta::default());
    assert_eq!(realm.status, crate::model::ScopeStatus::default());
    for key in ["realm.kukeon.io", "kukeon.io/spec-hash"] {
        let error = read(&format!("labels: {{{key}: x}}")).unwrap_err();
        assert_eq!(error.reason(), "ReservedLabel");
    }
    assert!(read("labels: {kukeon.io/team: x, app: y}").is_ok());
}

#[test]
fn a_container_of_its_own_is_checked_like_one_in_a_cell() {
    let external = external::Container {
        metadata: Some(external::Metadata {
            name: "b".into(),
            ..Default::default()
        }),
        spec: Some(external::ContainerSpec {
            realm_id: "r".into(),
            space_id: "s".into(),
            stack_id: "t".into(),
            cell_id: "web".into(),
            image: "x".into(),
            restart_policy: "allways".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let error = container_to_model(external.clone()).unwrap_err();
    assert_eq!(error.problems[0].path, "spec.restartPolicy");
    let mut good = external;
    good.spec.as_mut().unwrap().restart_policy = "always".into();
    let (at, _, spec) = container_to_model(good.clone()).unwrap();
    assert_eq!(at.to_string(), "cell \"web\" in r/s/t");
    assert_eq!(spec.id.as_str(), "b");
    good.spec.as_mut().unwrap().cell_id.clear();
    assert!(
        container_to_model(good)
            .unwrap_err()
            .to_string()
            .contains("spec.cellId")
    );
}
