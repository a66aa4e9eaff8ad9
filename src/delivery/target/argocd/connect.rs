//! Linking a cluster: does it serve Applications, and can its Argo CD fetch
//! from the embedded registry.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use serde_json::json;

use super::{Cluster, Error, FIELD_MANAGER, Result};

/// How Argo CD reaches the registry's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryTrust {
    /// Plain HTTP.
    PlainHttp,
    /// A certificate of a public or already trusted authority.
    System,
    /// This authority, in PEM.
    Authority(String),
}

/// The login that Argo CD fetches artifacts with.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryLogin {
    /// `oci://host[:port]`, as the cluster sees the registry.
    pub url: String,
    /// Robot account; empty for none.
    pub username: String,
    /// Its password.
    pub password: String,
    /// How the registry is trusted.
    pub trust: RegistryTrust,
}

/// Hides the password.
impl std::fmt::Debug for RegistryLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryLogin")
            .field("url", &self.url)
            .field("username", &self.username)
            .field("trust", &self.trust)
            .finish_non_exhaustive()
    }
}

/// What a cluster said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// Version of Kubernetes.
    pub kubernetes: String,
    /// Name of the Secret with the registry login; empty when none was written.
    pub secret: String,
}

/// Fails with [`Error::Unavailable`] unless the cluster serves Applications.
pub(super) async fn check_served(cluster: &Cluster, client: &Client) -> Result<()> {
    let unavailable = |detail: String| Error::Unavailable {
        cluster: cluster.name().to_owned(),
        detail,
    };
    let missing = || {
        unavailable(
            "the API server has no argoproj.io/v1alpha1 Application; is Argo CD installed?"
                .to_owned(),
        )
    };
    let served: APIResourceList = match client
        .list_api_group_resources("argoproj.io/v1alpha1")
        .await
    {
        Ok(list) => list,
        Err(kube::Error::Api(status)) if status.code == 404 => return Err(missing()),
        Err(e) => return Err(Error::of(cluster, "the list of its kinds".to_owned(), e)),
    };
    match served.resources.iter().any(|r| r.kind == "Application") {
        true => Ok(()),
        false => Err(missing()),
    }
}

/// Verifies that Argo CD is there and, with a login, writes the Secret it
/// fetches artifacts with into `namespace` (Argo CD's own). In a dry run the server
/// is asked to try that, and to keep nothing.
pub async fn connect(
    cluster: &Cluster,
    namespace: &str,
    login: Option<&RegistryLogin>,
    dry_run: bool,
) -> Result<Connected> {
    let client = cluster.client()?;
    check_served(cluster, &client).await?;
    let version = client
        .apiserver_version()
        .await
        .map_err(|e| Error::of(cluster, "its version".to_owned(), e))?;
    let mut connected = Connected {
        kubernetes: version.git_version,
        secret: String::new(),
    };
    if let Some(login) = login {
        write_secret(cluster, &client, namespace, login, dry_run).await?;
        if let RegistryTrust::Authority(pem) = &login.trust {
            let authority = authority(namespace, &login.url, pem);
            let api = core(&client, namespace, "ConfigMap", "configmaps");
            let written = put(&api, AUTHORITIES, &authority, dry_run).await;
            let at = || {
                format!(
                    "ConfigMap {namespace}/{AUTHORITIES} on cluster {:?}",
                    cluster.name()
                )
            };
            written.map_err(|e| Error::of(cluster, at(), e))?;
        }
        connected.secret = format!("{namespace}/{SECRET}");
    }
    Ok(connected)
}

const SECRET: &str = "kukeon-registry";
/// Where Argo CD keeps the authorities it trusts, by host name.
const AUTHORITIES: &str = "argocd-tls-certs-cm";
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

async fn write_secret(
    cluster: &Cluster,
    client: &Client,
    namespace: &str,
    login: &RegistryLogin,
    dry_run: bool,
) -> Result<()> {
    let at = || {
        format!(
            "Secret {namespace}/{SECRET} on cluster {:?}",
            cluster.name()
        )
    };
    let api = core(client, namespace, "Secret", "secrets");
    let live = api
        .get_opt(SECRET)
        .await
        .map_err(|e| Error::of(cluster, at(), e))?;
    if live.is_some_and(|live| {
        let labels = live.metadata.labels.unwrap_or_default();
        labels.get(MANAGED_BY).map(String::as_str) != Some(FIELD_MANAGER)
    }) {
        return Err(Error::Rejected {
            at: at(),
            detail: format!("it is there already, without the label {MANAGED_BY}={FIELD_MANAGER}"),
        });
    }
    put(&api, SECRET, &secret(namespace, login), dry_run)
        .await
        .map_err(|e| Error::of(cluster, at(), e))
}

/// One entry of Argo CD's own list; an apply leaves the entries of others.
fn authority(namespace: &str, url: &str, pem: &str) -> serde_json::Value {
    let mut body = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": AUTHORITIES, "namespace": namespace },
        "data": {},
    });
    body["data"][host(url)] = pem.into();
    body
}

/// Host name of `oci://host[:port][/…]`, as Argo CD looks it up.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn core(client: &Client, namespace: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", kind), plural);
    Api::namespaced_with(client.clone(), namespace, &kind)
}

async fn put(
    api: &Api<DynamicObject>,
    name: &str,
    body: &serde_json::Value,
    dry_run: bool,
) -> std::result::Result<(), kube::Error> {
    let params = PatchParams {
        dry_run,
        ..PatchParams::apply(FIELD_MANAGER).force()
    };
    api.patch(name, &params, &Patch::Apply(body))
        .await
        .map(drop)
}

/// The credential template that matches every repository of the registry.
///
/// Its `data`, not `stringData`: what an apply no longer names must go.
fn secret(namespace: &str, login: &RegistryLogin) -> serde_json::Value {
    let mut fields = vec![
        ("url", login.url.as_str()),
        // Untyped entries make OCI Applications flap to Unknown.
        ("type", "oci"),
    ];
    if !login.username.is_empty() {
        fields.push(("username", &login.username));
        fields.push(("password", &login.password));
    }
    if login.trust == RegistryTrust::PlainHttp {
        fields.push(("insecureOCIForceHttp", "true"));
    }
    let data: BTreeMap<_, _> = fields
        .into_iter()
        .map(|(key, value)| (key, STANDARD.encode(value)))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": SECRET,
            "namespace": namespace,
            "labels": {
                "argocd.argoproj.io/secret-type": "repo-creds",
                MANAGED_BY: FIELD_MANAGER,
            },
        },
        "data": data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(trust: RegistryTrust) -> RegistryLogin {
        RegistryLogin {
            url: "oci://10.0.0.1:5050".into(),
            username: "argocd".into(),
            password: "s3cret".into(),
            trust,
        }
    }

    #[test]
    fn the_secret_names_its_type() {
        let body = secret("argocd", &login(RegistryTrust::PlainHttp));
        assert_eq!(
            body["data"],
            json!({
                "url": STANDARD.encode("oci://10.0.0.1:5050"), "type": "b2Np",
                "username": STANDARD.encode("argocd"), "password": STANDARD.encode("s3cret"),
                "insecureOCIForceHttp": "dHJ1ZQ==",
            })
        );
        assert_eq!(
            body["metadata"]["labels"]["argocd.argoproj.io/secret-type"],
            "repo-creds"
        );
        let tls = secret("argocd", &login(RegistryTrust::System));
        assert!(tls["data"].get("insecureOCIForceHttp").is_none());
    }

    #[test]
    fn a_login_does_not_show_its_password() {
        assert!(!format!("{:?}", login(RegistryTrust::System)).contains("s3cret"));
    }

    #[test]
    fn authorities_are_looked_up_by_host_name() {
        assert_eq!(host("oci://reg.example:5050"), "reg.example");
        assert_eq!(host("oci://reg.example/a/b:c"), "reg.example");
        assert_eq!(host("reg.example"), "reg.example");
    }
}
