//! Targets.

use super::super::check::{Check, Words};
use super::{some_name, some_pause, some_text, text_of, word_of};
use crate::api::delivery::v1alpha1 as external;
use crate::model::delivery::{ArgoTarget, DeletionPolicy, KukeTarget, Target, TargetType};
use crate::model::duration;

const TYPES: &Words<TargetType> = &[("kuke", TargetType::Kuke), ("argocd", TargetType::ArgoCd)];
const DELETION: &Words<DeletionPolicy> = &[
    ("Delete", DeletionPolicy::Delete),
    ("Orphan", DeletionPolicy::Orphan),
];

pub(super) fn target_to_model(check: &mut Check, path: &str, target: external::Target) -> Target {
    let external::Target {
        r#type,
        kuke,
        argocd,
        deletion_policy,
    } = target;
    let at = |field: &str| format!("{path}.{field}");
    Target {
        kind: check.word(&at("type"), &r#type, TYPES),
        kuke: kuke.map_or_else(KukeTarget::default, |kuke| {
            kuke_to_model(check, &at("kuke"), kuke)
        }),
        argocd: argocd.map_or_else(ArgoTarget::default, |argocd| {
            argo_to_model(check, &at("argocd"), argocd)
        }),
        deletion_policy: check.word(&at("deletionPolicy"), &deletion_policy, DELETION),
    }
}

fn kuke_to_model(check: &mut Check, path: &str, kuke: external::KukeTarget) -> KukeTarget {
    let external::KukeTarget {
        realm,
        space,
        stack,
        prune,
        self_heal,
        health_timeout,
        min_healthy,
    } = kuke;
    let at = |field: &str| format!("{path}.{field}");
    let default = KukeTarget::default();
    if realm == KukeTarget::SYSTEM_REALM {
        let message = format!("releases must not touch the realm {realm:?}");
        check.bad(at("realm"), "SystemRealm", message);
    }
    KukeTarget {
        realm: some_name(check, &at("realm"), &realm),
        space: some_name(check, &at("space"), &space),
        stack: some_name(check, &at("stack"), &stack),
        prune: prune.unwrap_or(default.prune),
        self_heal: self_heal.unwrap_or(default.self_heal),
        health_timeout: some_pause(
            check,
            &at("healthTimeout"),
            &health_timeout,
            default.health_timeout,
        ),
        min_healthy: super::pause(check, &at("minHealthy"), &min_healthy, default.min_healthy),
    }
}

fn argo_to_model(check: &mut Check, path: &str, argocd: external::ArgoTarget) -> ArgoTarget {
    let external::ArgoTarget {
        cluster,
        namespace,
        application_name,
        project,
        destination_server,
        destination_namespace,
        prune,
        self_heal,
        server_side_apply,
        wait_timeout,
    } = argocd;
    let at = |field: &str| format!("{path}.{field}");
    for (field, text) in [
        ("cluster", &cluster),
        ("namespace", &namespace),
        ("applicationName", &application_name),
        ("project", &project),
        ("destinationNamespace", &destination_namespace),
    ] {
        some_name(check, &at(field), text);
    }
    let schemes = ["https://", "http://"];
    let is_url = |text: &str| {
        let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
        rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace))
    };
    if !destination_server.is_empty() && !is_url(&destination_server) {
        let message = format!("{destination_server:?} is not an https:// or http:// address");
        check.bad(at("destinationServer"), "BadUrl", message);
    }
    let default = ArgoTarget::default();
    ArgoTarget {
        cluster: some_text(cluster).unwrap_or(default.cluster),
        namespace: some_text(namespace).unwrap_or(default.namespace),
        application_name: some_text(application_name),
        project: some_text(project).unwrap_or(default.project),
        destination_server: some_text(destination_server).unwrap_or(default.destination_server),
        destination_namespace: some_text(destination_namespace),
        prune: prune.unwrap_or(default.prune),
        self_heal: self_heal.unwrap_or(default.self_heal),
        server_side_apply: server_side_apply.unwrap_or(default.server_side_apply),
        wait_timeout: some_pause(
            check,
            &at("waitTimeout"),
            &wait_timeout,
            default.wait_timeout,
        ),
    }
}

pub(super) fn target_to_external(target: &Target) -> external::Target {
    let Target {
        kind,
        kuke,
        argocd,
        deletion_policy,
    } = target;
    external::Target {
        r#type: word_of(TYPES, kind),
        kuke: (*kuke != KukeTarget::default()).then(|| kuke_to_external(kuke)),
        argocd: (*argocd != ArgoTarget::default()).then(|| argo_to_external(argocd)),
        deletion_policy: match deletion_policy {
            DeletionPolicy::Delete => String::new(),
            other => word_of(DELETION, other),
        },
    }
}

fn kuke_to_external(kuke: &KukeTarget) -> external::KukeTarget {
    let KukeTarget {
        realm,
        space,
        stack,
        prune,
        self_heal,
        health_timeout,
        min_healthy,
    } = kuke;
    external::KukeTarget {
        realm: text_of(realm),
        space: text_of(space),
        stack: text_of(stack),
        prune: Some(*prune),
        self_heal: Some(*self_heal),
        health_timeout: duration::show(*health_timeout),
        min_healthy: duration::show(*min_healthy),
    }
}

fn argo_to_external(argocd: &ArgoTarget) -> external::ArgoTarget {
    let ArgoTarget {
        cluster,
        namespace,
        application_name,
        project,
        destination_server,
        destination_namespace,
        prune,
        self_heal,
        server_side_apply,
        wait_timeout,
    } = argocd;
    external::ArgoTarget {
        cluster: cluster.clone(),
        namespace: namespace.clone(),
        application_name: text_of(application_name),
        project: project.clone(),
        destination_server: destination_server.clone(),
        destination_namespace: text_of(destination_namespace),
        prune: Some(*prune),
        self_heal: Some(*self_heal),
        server_side_apply: Some(*server_side_apply),
        wait_timeout: duration::show(*wait_timeout),
    }
}
