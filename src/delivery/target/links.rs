//! `argocd connect` and `argocd status`: links to clusters, made and looked at.

use super::argocd::{self, Cluster, RegistryLogin, RegistryTrust};
use super::clusters::{Clusters, Connection};
use crate::api::{Code, Error, Result, v1};
use crate::client::Kukeon;
use crate::model::Name;

/// Connects a cluster: verifies that its Argo CD is there, tells it how to fetch
/// from the registry, and only then keeps the connection.
///
/// `registry` is the address that the Kitchen says clusters use; empty for none.
/// Unless a login is given, `kukeon` makes one that may only fetch artifacts.
///
/// # Errors
/// A kubeconfig that cannot be used, a cluster that cannot be reached or has no
/// Argo CD, rights that the login lacks.
pub async fn connect(
    clusters: &Clusters,
    kukeon: &dyn Kukeon,
    mut request: v1::ConnectClusterRequest,
    registry: &str,
) -> Result<v1::ConnectClusterResponse> {
    let name: Name = or(&request.name, "default").parse()?;
    let namespace = or(&request.namespace, "argocd").to_owned();
    let address = or(&request.registry_url, registry).to_owned();
    let asked = login(&request, &address)?;
    let cluster =
        Cluster::from_kubeconfig(name.as_str(), &request.kubeconfig, &request.context).await?;
    // Asked first: a cluster that cannot be connected leaves no login behind.
    let found = argocd::connect(&cluster, &namespace, asked.as_ref(), true).await?;
    if request.dry_run {
        return Ok(v1::ConnectClusterResponse {
            name: name.to_string(),
            server: cluster.server(),
            kubernetes: found.kubernetes,
            registry: asked.map(|login| login.url).unwrap_or_default(),
            secret: found.secret,
        });
    }
    if !address.is_empty() && request.registry_username.is_empty() {
        robot(kukeon, &name, &address, &mut request).await?;
    }
    let login = login(&request, &address)?;
    let made = argocd::connect(&cluster, &namespace, login.as_ref(), false).await?;
    let connection = Connection {
        kubeconfig: request.kubeconfig,
        context: request.context,
        namespace,
        registry: login.map(|login| login.url).unwrap_or_default(),
    };
    clusters.put(&name, &connection)?;
    Ok(v1::ConnectClusterResponse {
        name: name.to_string(),
        server: cluster.server(),
        kubernetes: made.kubernetes,
        registry: connection.registry,
        secret: made.secret,
    })
}

/// Fills in a login of the embedded registry, made anew each time because its
/// password is known only then, and how the registry is trusted.
async fn robot(
    kukeon: &dyn Kukeon,
    cluster: &Name,
    address: &str,
    request: &mut v1::ConnectClusterRequest,
) -> Result<()> {
    let wanted = v1::RegistryLoginRequest {
        name: format!("argocd-{cluster}"),
        rules: vec!["preparations/**=pull".to_owned()],
        robot: true,
        ..Default::default()
    };
    let made = match kukeon.registry_login(wanted).await {
        Ok(made) => made,
        // Without an embedded registry it is another one, without a login.
        Err(error) if error.reason == "NoRegistry" => return Ok(()),
        Err(error) => return Err(error),
    };
    request.registry_username = made.name;
    request.registry_password = made.password;
    if request.registry_ca.is_empty() && made.tls {
        request.registry_ca = made.ca;
    }
    // `https://` says that something in front of it speaks TLS.
    request.registry_plain_http |= !made.tls && !address.starts_with("https://");
    Ok(())
}

/// Asks every connected cluster, or the one that is named, how it is.
///
/// # Errors
/// A name that is not connected.
pub async fn list(
    clusters: &Clusters,
    request: v1::ListClustersRequest,
) -> Result<v1::ListClustersResponse> {
    let names = match request.name.as_str() {
        "" => clusters.names()?,
        name => vec![name.parse()?],
    };
    if let [name] = &names[..] {
        // Only a missing one is an error; a damaged one is shown as such.
        if let Err(error @ argocd::Error::NotConnected(_)) = clusters.get(name.as_str()) {
            return Err(error.into());
        }
    }
    let looks = names.iter().map(|name| look(clusters, name));
    Ok(v1::ListClustersResponse {
        clusters: futures::future::join_all(looks).await,
    })
}

async fn look(clusters: &Clusters, name: &Name) -> v1::ClusterStatus {
    let mut status = v1::ClusterStatus {
        name: name.to_string(),
        ..Default::default()
    };
    if let Ok(connection) = clusters.get(name.as_str()) {
        status.namespace = connection.namespace;
        status.registry = connection.registry;
    }
    let asked = async {
        let cluster = clusters.cluster(name.as_str()).await?;
        status.server = cluster.server();
        // Without a login nothing is written: it only asks.
        argocd::connect(&cluster, &status.namespace, None, false).await
    };
    match asked.await {
        Ok(made) => {
            status.kubernetes = made.kubernetes;
            status.ready = true;
        }
        Err(error) => status.error = Some((&Error::from(error)).into()),
    }
    status
}

fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}

/// How Argo CD fetches artifacts; none when no address is known.
fn login(request: &v1::ConnectClusterRequest, address: &str) -> Result<Option<RegistryLogin>> {
    let (scheme, host) = address.split_once("://").unwrap_or(("oci", address));
    let host = host.trim_end_matches('/');
    if host.is_empty() {
        let told = !request.registry_username.is_empty() || !request.registry_ca.is_empty();
        return match told {
            false => Ok(None),
            true => Err(Error::invalid(
                "RegistryAddressMissing",
                "a login for the registry was given, but not its address",
            )
            .hint("add --registry-url, or set `spec.registryUrl` of the Kitchen")),
        };
    }
    if host.contains(char::is_whitespace) || host.contains(['/', '@']) {
        return Err(Error::invalid(
            "BadRegistryAddress",
            format!("{address:?} is not the address of a registry"),
        )
        .hint("write host or host:port"));
    }
    let trust = match (
        request.registry_plain_http || scheme == "http",
        &request.registry_ca,
    ) {
        (true, _) => RegistryTrust::PlainHttp,
        (false, ca) if ca.is_empty() => RegistryTrust::System,
        (false, ca) => RegistryTrust::Authority(ca.clone()),
    };
    Ok(Some(RegistryLogin {
        url: format!("oci://{host}"),
        username: request.registry_username.clone(),
        password: request.registry_password.clone(),
        trust,
    }))
}

impl From<argocd::Error> for Error {
    fn from(error: argocd::Error) -> Self {
        use argocd::Error as E;
        let message = error.to_string();
        let (code, reason) = match &error {
            E::NotConnected(_) => (Code::NotFound, "ClusterNotFound"),
            E::Connection { .. } => (Code::Invalid, "BadConnection"),
            E::Unavailable { .. } => (Code::Unavailable, error.reason().as_str()),
            E::Forbidden { .. } => (Code::Permission, "ClusterForbidden"),
            E::OptInRequired { .. } => (Code::Conflict, error.reason().as_str()),
            E::Busy { .. } => (Code::Conflict, "ClusterBusy"),
            E::Rejected { .. } => (Code::Conflict, "ClusterRejected"),
        };
        Error::new(code, reason, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(url: &str, ca: &str, plain: bool) -> v1::ConnectClusterRequest {
        v1::ConnectClusterRequest {
            registry_url: url.into(),
            registry_ca: ca.into(),
            registry_plain_http: plain,
            ..Default::default()
        }
    }

    #[test]
    fn the_registry_is_trusted_as_it_was_told() {
        for (url, ca, plain, found) in [
            ("10.0.0.1:5050", "", false, RegistryTrust::System),
            ("oci://10.0.0.1:5050/", "", true, RegistryTrust::PlainHttp),
            ("http://10.0.0.1:5050", "", false, RegistryTrust::PlainHttp),
            (
                "https://10.0.0.1:5050",
                "PEM",
                false,
                RegistryTrust::Authority("PEM".into()),
            ),
        ] {
            let login = login(&asked(url, ca, plain), url).unwrap().unwrap();
            assert_eq!(
                (login.url.as_str(), login.trust),
                ("oci://10.0.0.1:5050", found)
            );
        }
        assert_eq!(login(&asked("", "", false), "").unwrap(), None);
        assert!(login(&asked("", "PEM", false), "").is_err());
        assert!(login(&asked("a b", "", false), "a b").is_err());
    }
}
