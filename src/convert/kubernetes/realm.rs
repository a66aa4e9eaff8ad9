//! A realm as a Namespace, with the logins its pods pull images with.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::super::loss::lost;
use super::{Labels, names};
use crate::api::Problem;
use crate::model::{Realm, RegistryCredential, label};
use crate::scheme::Secrets;

/// Name of the Secret that holds a realm's logins.
pub(super) const REGISTRIES: &str = "kukeon-registries";

/// How Docker Hub is called where logins are kept.
const HUB: &str = "https://index.docker.io/v1/";

/// The Namespace, and Secret and ServiceAccount when there are logins.
pub(super) fn write(realm: &Realm, secrets: Secrets, losses: &mut Vec<Problem>) -> Vec<Value> {
    let Realm {
        at,
        meta,
        spec,
        status: _,
    } = realm;
    let name = at.realm.as_str();
    let mut labels = names::labels(&meta.labels, losses);
    let annotations = names::annotations(&meta.annotations, losses);
    if name.starts_with("kube-") {
        losses.push(lost(
            "metadata.name",
            format!("the namespace {name:?} belongs to Kubernetes"),
            "give the realm another name",
        ));
    }
    if !spec.namespace.is_empty() {
        losses.push(lost(
            "spec.namespace",
            "is a namespace of containerd, which a cluster has one of for all",
            "remove it",
        ));
    }
    let own: Labels = [(label::REALM.to_owned(), name.to_owned())].into();
    labels.extend(own.clone());
    let mut namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels},
    });
    if !annotations.is_empty() {
        namespace["metadata"]["annotations"] = json!(annotations);
    }
    let mut out = vec![namespace];
    if secrets == Secrets::Hide && !spec.credentials.is_empty() {
        losses.push(lost(
            "spec.registryCredentials",
            "passwords do not belong into an artifact",
            "remove them, and make the pull secret on the cluster",
        ));
        return out;
    }
    let auths = logins(&spec.credentials, losses);
    if !auths.is_empty() {
        let config = STANDARD.encode(json!({"auths": auths}).to_string());
        out.push(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": REGISTRIES, "namespace": name, "labels": own},
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": config},
        }));
        out.push(account(name));
    }
    out
}

/// The account that pods run with when they name none.
pub(super) fn account(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {
            "name": "default",
            "namespace": namespace,
            "labels": {label::REALM: namespace},
        },
        "imagePullSecrets": [{"name": REGISTRIES}],
    })
}

fn logins(credentials: &[RegistryCredential], losses: &mut Vec<Problem>) -> Map<String, Value> {
    let mut auths = Map::new();
    for (i, credential) in credentials.iter().enumerate() {
        let RegistryCredential {
            server,
            username,
            password,
        } = credential;
        let path = format!("spec.registryCredentials[{i}]");
        if server.is_empty() {
            losses.push(lost(
                format!("{path}.serverAddress"),
                "a login of a cluster is for one registry",
                "name the registry",
            ));
        } else if password.is_empty() {
            losses.push(lost(
                format!("{path}.password"),
                "is not there; what kukeon shows of a realm has none",
                "write it",
            ));
        } else {
            let host = match server.as_str() {
                "docker.io" | "index.docker.io" => HUB,
                host => host,
            };
            let auth = STANDARD.encode(format!("{username}:{password}"));
            auths.insert(
                host.to_owned(),
                json!({"username": username, "password": password, "auth": auth}),
            );
        }
    }
    auths
}

/// Logins of a `.dockerconfigjson`; none when it is not one.
pub(super) fn read_logins(config: &str) -> Option<Vec<RegistryCredential>> {
    let json: Value = serde_json::from_str(config).ok()?;
    let auths = json.get("auths")?.as_object()?;
    auths
        .iter()
        .map(|(host, login)| {
            let field = |key: &str| login.get(key)?.as_str().map(str::to_owned);
            let both = field("auth").and_then(|auth| {
                let both = String::from_utf8(STANDARD.decode(auth).ok()?).ok()?;
                let (user, password) = both.split_once(':')?;
                Some((user.to_owned(), password.to_owned()))
            });
            let (username, password) = field("username").zip(field("password")).or(both)?;
            let server = match host.as_str() {
                HUB => "docker.io".to_owned(),
                host => host
                    .trim_start_matches("https://")
                    .trim_end_matches('/')
                    .to_owned(),
            };
            Some(RegistryCredential {
                server,
                username,
                password,
            })
        })
        .collect()
}
