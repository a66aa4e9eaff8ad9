//! Round trips lose nothing, and what the tables refuse is refused with its path.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::api::{self, Object, yaml};
use crate::model::delivery::*;
use crate::model::testing::{meta as runtime_meta, name};
use crate::model::{Name, Value};

fn read(text: &str) -> api::Result<AnyRelease> {
    let mut all = api::decode_each("f.yaml", text.as_bytes(), |document| {
        let Object::Release(release) = document.object else {
            panic!("no release");
        };
        release_to_model(*release).map_err(|error| error.problems)
    })?;
    Ok(all.remove(0))
}

fn written(object: &AnyRelease) -> String {
    let text = match release_to_external(object, Secrets::Keep) {
        Release::Kitchen(o) => yaml::to_string(&o),
        Release::Pantry(o) => yaml::to_string(&o),
        Release::RecipeTemplate(o) => yaml::to_string(&o),
        Release::Recipe(o) => yaml::to_string(&o),
        Release::Preparation(o) => yaml::to_string(&o),
        Release::Serving(o) => yaml::to_string(&o),
        Release::Menu(o) => yaml::to_string(&o),
    };
    text.unwrap()
}

fn time() -> impl Strategy<Value = Option<jiff::Timestamp>> {
    of((0i64..4_000_000_000).prop_map(|s| jiff::Timestamp::new(s, 0).unwrap()))
}

fn meta() -> impl Strategy<Value = ReleaseMeta> {
    (
        name(),
        name(),
        runtime_meta(),
        0i64..100,
        vec("[a-z./]{1,8}", 0..2),
    )
        .prop_map(
            |(namespace, name, meta, resource_version, finalizers)| ReleaseMeta {
                labels: meta.labels,
                annotations: meta.annotations,
                generation: meta.generation,
                uid: meta.uid,
                created_at: meta.created_at,
                deletion: meta.deletion,
                finalizers,
                resource_version,
                ..ReleaseMeta::new(namespace, name)
            },
        )
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::List),
            vec(("[a-z.]{1,6}", inner), 0..3).prop_map(|e| e.into_iter().collect()),
        ]
    })
}

fn mapping() -> impl Strategy<Value = Value> {
    vec(("[a-z]{1,5}", value()), 0..3).prop_map(|entries| entries.into_iter().collect())
}

fn pause() -> impl Strategy<Value = std::time::Duration> {
    (1u64..100_000).prop_map(std::time::Duration::from_millis)
}

fn digest_text() -> impl Strategy<Value = String> {
    "[0-9a-f]{64}".prop_map(|hex| format!("sha256:{hex}"))
}

fn oci() -> impl Strategy<Value = OciRepository> {
    (
        "[a-z]{1,5}(:[1-9][0-9]{1,3})?",
        "[a-z]{1,4}(/[a-z0-9]{1,3}(-|__|\\.)[a-z]{1,2})?",
    )
        .prop_map(|(host, repository)| OciRepository { host, repository })
}

fn source() -> impl Strategy<Value = Source> {
    let poll = prop_oneof![Just(0u64), 30u64..9999].prop_map(std::time::Duration::from_secs);
    let registry = prop_oneof![
        oci().prop_map(SourceFrom::Oci),
        name().prop_map(SourceFrom::Pantry)
    ];
    let version = prop_oneof!["[a-zA-Z0-9_][a-zA-Z0-9._-]{0,8}", digest_text()];
    let from = prop_oneof![
        (registry, version.prop_map(Some)),
        ("/[a-z]{1,4}".prop_map(SourceFrom::Path), Just(None)),
    ];
    let sub_path = select(vec![".", "a", "a/b"]).prop_map(str::to_owned);
    (from, of(digest_text()), sub_path, poll).prop_map(
        |((from, version), digest, sub_path, poll_interval)| Source {
            from,
            version,
            digest,
            sub_path,
            poll_interval,
        },
    )
}

fn render() -> impl Strategy<Value = Render> {
    let helm = (
        of("[a-z]{1,9}"),
        of(name()),
        any::<bool>(),
        prop_oneof![Just(Value::Null), mapping()],
        of("v1\\.[0-9]{2}"),
        vec("[a-z]{1,4}/v1", 0..2),
    )
        .prop_map(
            |(release_name, namespace, include_crds, values, kube_version, api_versions)| {
                RenderMethod::Helm(HelmRender {
                    release_name,
                    namespace,
                    include_crds,
                    values,
                    kube_version,
                    api_versions,
                })
            },
        );
    let method = prop_oneof![
        Just(RenderMethod::Manifest),
        helm,
        select(vec![".", "overlays/x"]).prop_map(|p| RenderMethod::Kustomize(p.to_owned())),
    ];
    (method, any::<bool>()).prop_map(|(method, kubernetes)| Render { method, kubernetes })
}

fn patch() -> impl Strategy<Value = Patch> {
    let target = (
        "[A-Z][a-z]{1,5}",
        "[a-z]{1,5}",
        of("[a-z]{1,5}"),
        of("[a-z]{1,5}"),
    )
        .prop_map(|(kind, name, namespace, realm)| PatchTarget {
            kind,
            name,
            namespace,
            realm,
            ..Default::default()
        });
    let path = "\\.[a-z]{1,4}(\\.[a-z]{1,4}|\\[[0-9]\\]|\\[name=x\\])?";
    let unique = |mut items: Vec<(String, Value)>| {
        let mut seen = std::collections::BTreeSet::new();
        items.retain(|(path, _)| seen.insert(path.clone()));
        items
    };
    (
        target,
        vec((path, value()), 1..4).prop_map(unique),
        of("[ -~]{0,6}"),
        vec(path, 0..2),
        of(mapping()),
        vec(mapping(), 0..2),
        any::<bool>(),
    )
        .prop_map(
            |(target, set, text, unset, merge, json_patch, ignore)| Patch {
                target,
                set,
                set_string: text.map(|t| (".a".to_owned(), t)).into_iter().collect(),
                unset,
                merge,
                json_patch,
                on_missing: if ignore {
                    OnMissing::Ignore
                } else {
                    OnMissing::Fail
                },
            },
        )
}

fn target() -> impl Strategy<Value = Target> {
    let kuke = (
        of(name()),
        of(name()),
        any::<bool>(),
        any::<bool>(),
        pause(),
        pause(),
    )
        .prop_map(
            |(realm, space, prune, self_heal, health_timeout, min_healthy)| KukeTarget {
                realm,
                space,
                stack: None,
                prune,
                self_heal,
                health_timeout,
                min_healthy,
            },
        );
    let argocd = (of("[a-z]{1,5}"), any::<bool>(), pause()).prop_map(
        |(application_name, prune, wait_timeout)| ArgoTarget {
            application_name,
            prune,
            wait_timeout,
            ..Default::default()
        },
    );
    (any::<bool>(), kuke, argocd, any::<bool>()).prop_map(|(local, kuke, argocd, orphan)| Target {
        kind: if local {
            TargetType::Kuke
        } else {
            TargetType::ArgoCd
        },
        kuke,
        argocd,
        deletion_policy: match orphan {
            true => DeletionPolicy::Orphan,
            false => DeletionPolicy::Delete,
        },
    })
}

fn conditions() -> impl Strategy<Value = Conditions> {
    let kinds = vec![
        ConditionType::Ready,
        ConditionType::Synced,
        ConditionType::Rendered,
    ];
    let status = select(vec![
        ConditionStatus::True,
        ConditionStatus::False,
        ConditionStatus::Unknown,
    ]);
    of((
        select(kinds),
        status,
        "[A-Z][a-z]{0,5}",
        "[ -~]{0,9}",
        time(),
    ))
    .prop_map(|condition| {
        let all = condition.map(
            |(kind, status, reason, message, last_transition)| Condition {
                kind,
                status,
                reason,
                message,
                observed_generation: 3,
                last_transition,
            },
        );
        Conditions(all.into_iter().collect())
    })
}

fn inputs() -> impl Strategy<Value = PreparationInputs> {
    (render(), vec(patch(), 0..2), vec(patch(), 0..2)).prop_map(|(render, patches, edits)| {
        PreparationInputs {
            sub_path: "app".into(),
            render,
            patches,
            edits,
            allow_empty: true,
        }
    })
}

fn recipe() -> impl Strategy<Value = AnyRelease> {
    let spec = (
        prop_oneof![
            source().prop_map(|s| (Some(s), None)),
            name().prop_map(|n| (None, Some(n)))
        ],
        render(),
        vec(patch(), 0..3),
        vec(patch(), 0..2),
        of(any::<bool>()),
        of(oci().prop_map(Destination::Oci)),
        of(target()),
        any::<bool>(),
    );
    let status = (
        conditions(),
        of(name()),
        of(digest_text()),
        time(),
        vec((name(), time()), 0..3),
    );
    (meta(), spec, status).prop_map(|(meta, spec, status)| {
        let ((source, template), render, patches, edits, auto, destination, target, flag) = spec;
        let (conditions, latest_preparation, digest, resolved_at, revisions) = status;
        let numbered = revisions.into_iter().enumerate();
        Recipe {
            meta,
            spec: RecipeSpec {
                source,
                render,
                patches,
                edits,
                auto_deploy_latest: auto,
                destination,
                target,
                on_failure: if flag {
                    OnFailure::Rollback
                } else {
                    OnFailure::Hold
                },
                allow_empty: flag,
                suspend: !flag,
                template,
            },
            status: RecipeStatus {
                observed_generation: 2,
                phase: RecipePhase::Ready,
                conditions,
                latest_preparation,
                latest_digest: digest.clone(),
                latest_config_hash: digest.clone(),
                resolved_source: digest.clone(),
                resolved_source_digest: digest,
                resolved_at,
                revision: 4,
                revisions: numbered
                    .map(|(i, (preparation, time))| Revision {
                        number: i as i64 + 1,
                        preparation,
                        config_hash: "h".into(),
                        message: "m: x".into(),
                        actor: "root".into(),
                        time,
                    })
                    .collect(),
            },
        }
        .into()
    })
}

fn resource() -> impl Strategy<Value = Resource> {
    (
        "[a-z0-9/]{1,6}",
        "[A-Z][a-z]{1,4}",
        "[a-z]{0,4}",
        "[a-z]{1,4}",
    )
        .prop_map(|(api_version, kind, realm, name)| Resource {
            api_version,
            kind,
            cluster: realm.clone(),
            realm,
            name,
            hash: "sha256:0".into(),
            ..Default::default()
        })
}

fn preparation() -> impl Strategy<Value = AnyRelease> {
    (
        meta(),
        name(),
        digest_text(),
        target(),
        vec(resource(), 0..3),
        of(digest_text()),
        conditions(),
        of(inputs()),
    )
        .prop_map(
            |(meta, recipe, digest, target, resources, parent_digest, conditions, recorded)| {
                Preparation {
                    meta,
                    spec: PreparationSpec {
                        recipe,
                        source: PreparationSource {
                            kind: SourceKind::Path,
                            reference: "/srv/app".into(),
                            version: String::new(),
                            base_digest: digest.clone(),
                        },
                        renderer: Renderer {
                            name: "manifest".into(),
                            version: "1".into(),
                            digest: String::new(),
                            render_type: RenderType::Kustomize,
                        },
                        config_hash: digest.clone(),
                        artifact: Artifact {
                            oci_ref: format!("oci://local/preparations/a/b@{digest}"),
                            digest,
                            size: 77,
                        },
                        commit_message: "initial".into(),
                        parent_digest,
                        git_source: GitSource {
                            repo: "https://example.org/x".into(),
                            ..Default::default()
                        },
                        target,
                        resources,
                        revision: 2,
                        inputs: recorded,
                    },
                    status: PreparationStatus {
                        observed_generation: 1,
                        phase: PreparationPhase::Ready,
                        conditions,
                    },
                }
                .into()
            },
        )
}

fn serving() -> impl Strategy<Value = AnyRelease> {
    let hold = of(time().prop_map(|time| Hold {
        reason: "rolled back".into(),
        actor: "root".into(),
        time,
    }));
    (
        meta(),
        name(),
        name(),
        hold,
        vec(resource(), 0..3),
        conditions(),
        time(),
    )
        .prop_map(
            |(meta, recipe, preparation, hold, inventory, conditions, time)| {
                Serving {
                    meta,
                    spec: ServingSpec {
                        recipe,
                        preparation: preparation.clone(),
                        policy: Policy::Automatic,
                        hold,
                    },
                    status: ServingStatus {
                        observed_generation: 5,
                        phase: ServingPhase::Deploying,
                        conditions,
                        observed_preparation: Some(preparation.clone()),
                        deployed_digest: Some("sha256:1".into()),
                        returns_to: Some("web-0".parse().unwrap()),
                        previous_preparation: None,
                        inventory,
                        lock: Some("m/1".into()),
                        activations: vec![ActivationRecord {
                            number: 1,
                            preparation,
                            digest: "sha256:1".into(),
                            previous: None,
                            cause: ActivationCause::Label,
                            message: "m".into(),
                            actor: "a".into(),
                            time,
                        }],
                        source: "oci://example.com/a".into(),
                        version: "1.2".into(),
                    },
                }
                .into()
            },
        )
}

fn menu() -> impl Strategy<Value = AnyRelease> {
    let members = proptest::collection::btree_set(name(), 2..5);
    (
        meta(),
        members,
        of(digest_text()),
        pause(),
        any::<bool>(),
        time(),
    )
        .prop_map(|(meta, names, pin, pause, flag, time)| {
            let names: Vec<Name> = names.into_iter().collect();
            let members = names.iter().enumerate();
            Menu {
                meta,
                spec: MenuSpec {
                    recipes: members
                        .map(|(i, name)| MenuMember {
                            name: name.clone(),
                            preparation: pin.clone(),
                            depends_on: names[..i].to_vec(),
                        })
                        .collect(),
                    strategy: MenuStrategy {
                        activation: Activation::Parallel,
                        prepare_timeout: pause,
                        on_failure: MenuFailure::Halt,
                        ..Default::default()
                    },
                    auto_deploy_latest: flag,
                    exclusive: !flag,
                    suspend: flag,
                },
                status: MenuStatus {
                    observed_generation: 1,
                    phase: MenuPhase::RollingBack,
                    current_run: Some("2".into()),
                    last_failed_plan_hash: pin.clone(),
                    runs: vec![MenuRun {
                        id: "2".into(),
                        plan_hash: "sha256:0".into(),
                        phase: RunPhase::Verifying,
                        members: vec![MenuRunMember {
                            recipe: names[0].clone(),
                            from_preparation: None,
                            from_digest: pin,
                            to_preparation: names[1].clone(),
                            to_digest: "sha256:2".into(),
                            wave: 1,
                            outcome: MemberOutcome::Withdrawn,
                            message: "x".into(),
                            changes: vec!["create Cell web".into()],
                        }],
                        message: String::new(),
                        started_at: time,
                        finished_at: None,
                        phase_since: time,
                        actor: "root".into(),
                    }],
                    ..Default::default()
                },
            }
            .into()
        })
}

fn settings() -> impl Strategy<Value = AnyRelease> {
    let pantry = (meta(), oci(), "[ -~]{1,8}", any::<bool>()).prop_map(
        |(meta, oci, password, plain_http)| {
            AnyRelease::from(Pantry {
                meta,
                spec: PantrySpec {
                    oci,
                    username: "u".into(),
                    password,
                    ca: String::new(),
                    plain_http,
                },
                status: PantryStatus::default(),
            })
        },
    );
    let policy = prop_oneof![
        Just(OverridePolicy::All),
        Just(OverridePolicy::None),
        vec("[a-z.]{1,5}", 0..3).prop_map(OverridePolicy::Restricted),
    ];
    let template = (
        meta(),
        source(),
        render(),
        vec(patch(), 0..2),
        policy,
        of(any::<bool>()),
    )
        .prop_map(|(meta, source, render, patches, values, auto_deploy)| {
            AnyRelease::from(RecipeTemplate {
                meta,
                spec: RecipeTemplateSpec {
                    source,
                    render,
                    patches,
                    overrides: Overrides {
                        values,
                        ..Default::default()
                    },
                    auto_deploy,
                },
            })
        });
    let kitchen = (meta(), of(target())).prop_map(|(meta, default_target)| {
        let default: Name = "default".parse().unwrap();
        AnyRelease::from(Kitchen {
            meta: ReleaseMeta {
                namespace: default.clone(),
                name: default,
                ..meta
            },
            spec: KitchenSpec {
                default_target,
                registry_url: "https://r".into(),
                source_roots: vec!["/srv".into()],
                ..Default::default()
            },
        })
    });
    prop_oneof![pantry, template, kitchen]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_kind_survives_yaml(
        object in prop_oneof![recipe(), preparation(), serving(), menu(), settings()],
    ) {
        let text = written(&object);
        let back = read(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        prop_assert_eq!(&back, &object);
        prop_assert_eq!(written(&back), text);
    }
}

const HEAD: &str = "apiVersion: delivery.kokumi.dev/v1alpha1\n";

#[test]
fn what_the_tables_refuse() {
    let long = "a".repeat(51);
    let recipe = |spec: &str| format!("kind: Recipe\nmetadata: {{name: web}}\nspec: {spec}\n");
    let source = "source: {oci: 'oci://local/app', version: v1}";
    let with = |more: &str| recipe(&format!("{{{source}, {more}}}"));
    let menu = |members: &str| {
        format!("kind: Menu\nmetadata: {{name: m}}\nspec: {{recipes: [{members}]}}\n")
    };
    let cases = [
        (
            format!("kind: Recipe\nmetadata: {{name: {long}}}\nspec: {{{source}}}\n"),
            "TooLong",
            "metadata.name",
        ),
        (recipe("{}"), "MissingField", "spec.source"),
        (recipe("{source: {}}"), "BadSource", "exactly one of"),
        (
            recipe("{source: {path: /a, oci: 'oci://h/a', version: v1}}"),
            "BadSource",
            "exactly one of",
        ),
        (recipe("{source: {path: a}}"), "BadPath", "spec.source.path"),
        (
            recipe("{source: {path: /a/../b}}"),
            "BadPath",
            "spec.source.path",
        ),
        (
            recipe("{source: {oci: 'oci://h/a'}}"),
            "MissingField",
            "spec.source.version",
        ),
        (
            recipe("{source: {oci: 'https://h/a', version: v1}}"),
            "BadReference",
            "must start with oci://",
        ),
        (
            recipe("{source: {oci: 'oci://h/a:v1', version: v1}}"),
            "BadReference",
            "holds a tag",
        ),
        (
            recipe("{source: {oci: 'oci://h/A', version: v1}}"),
            "BadReference",
            "spec.source.oci",
        ),
        (
            recipe("{source: {oci: 'oci://h/a', version: v1, digest: sha256:1}}"),
            "BadDigest",
            "spec.source.digest",
        ),
        (
            recipe("{source: {oci: 'oci://h/a', version: v1, pollInterval: 5s}}"),
            "OutOfRange",
            "30s",
        ),
        (
            recipe("{source: {oci: 'oci://h/a', version: v1, pollInterval: often}}"),
            "BadDuration",
            "pollInterval",
        ),
        (
            recipe("{source: {path: /a, subPath: ../b}}"),
            "BadPath",
            "subPath",
        ),
        (with("templateRef: {name: t}"), "BadSource", "exclude"),
        (
            with("render: {helm: {}, kustomize: {}}"),
            "BadRender",
            "only one",
        ),
        (
            with("render: {manifest: {layout: Multi}}"),
            "BadValue",
            "Single",
        ),
        (with("render: {helm: {values: [1]}}"), "WrongType", "values"),
        (with("autoDeploy: Sometimes"), "BadValue", "autoDeploy"),
        (
            with("autoDeploy: Enabled, autoDeployLatest: false"),
            "BadValue",
            "contradicts",
        ),
        (with("target: {type: k8s}"), "BadValue", "kuke, argocd"),
        (
            with("target: {kuke: {realm: kuke-system}}"),
            "SystemRealm",
            "kuke-system",
        ),
        (
            with("target: {kuke: {healthTimeout: 0s}}"),
            "OutOfRange",
            "healthTimeout",
        ),
        (
            with("target: {argocd: {destinationServer: ftp://x}}"),
            "BadUrl",
            "destinationServer",
        ),
        (with("onFailure: Explode"), "BadValue", "Hold, Rollback"),
        (
            with("destination: {oci: 'oci://h/a', pantryRef: {name: p}}"),
            "BadDestination",
            "exclude",
        ),
        (
            with("patches: [{target: {kind: Cell}, unset: [a]}]"),
            "MissingField",
            "patches[0].target.name",
        ),
        (
            with("patches: [{target: {kind: Cell, name: a}}]"),
            "MissingField",
            "changes nothing",
        ),
        (
            with("patches: [{target: {kind: Cell, name: a}, merge: 3}]"),
            "WrongType",
            "merge",
        ),
        (
            with("patches: [{target: {kind: Cell, name: a}, set: {a: 1, a: 2}}]"),
            "DuplicateKey",
            "twice",
        ),
        (with("patchs: []"), "UnknownField", "\"patches\""),
        (menu("{name: a}"), "OutOfRange", "2 to 64"),
        (menu("{name: a}, {name: a}"), "Duplicate", "twice"),
        (
            menu("{name: a}, {name: b, dependsOn: [c]}"),
            "UnknownMember",
            "\"c\"",
        ),
        (
            menu("{name: a, dependsOn: [b]}, {name: b, dependsOn: [a]}"),
            "DependencyCycle",
            "a, b",
        ),
        (
            "kind: Kitchen\nmetadata: {name: other}\n".to_owned(),
            "BadName",
            "one Kitchen",
        ),
        (
            "kind: Pantry\nmetadata: {name: p}\nspec: {oci: 'oci://h/a', password: x}\n".to_owned(),
            "MissingField",
            "spec.username",
        ),
    ];
    for (text, reason, part) in cases {
        let error = read(&format!("{HEAD}{text}")).expect_err(&text);
        assert!(error.message.contains(part), "{text}: {error}");
        assert!(error.message.contains("f.yaml:"), "{text}: {error}");
        assert_eq!(error.reason, reason, "{text}: {error}");
    }
}

#[test]
fn other_words_for_the_same() {
    let text = format!(
        "{HEAD}kind: Order\nmetadata: {{name: web, realm: shop}}\nspec: {{source: {{path: /a, subPath: ./b//c/}}, autoDeploy: Enabled}}\n"
    );
    let recipe = Recipe::try_from(read(&text).unwrap()).unwrap();
    assert_eq!(recipe.meta.namespace.as_str(), "shop");
    assert_eq!(recipe.spec.auto_deploy_latest, Some(true));
    assert_eq!(recipe.spec.source.unwrap().sub_path, "b/c");
}

#[test]
fn a_password_is_hidden_unless_kept() {
    let text = format!(
        "{HEAD}kind: Pantry\nmetadata: {{name: p}}\nspec: {{url: 'oci://h/a', username: u, password: hush}}\n"
    );
    let pantry = read(&text).unwrap();
    assert!(written(&pantry).contains("hush"));
    let Release::Pantry(shown) = release_to_external(&pantry, Secrets::Hide) else {
        panic!("{pantry:?}");
    };
    assert_eq!(shown.spec.unwrap().password, "");
}
