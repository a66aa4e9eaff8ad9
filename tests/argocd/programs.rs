//! How the tests start etcd and an API server, and what they lack for it.

use std::path::{Path, PathBuf};

/// The programs, and Argo CD's schema of the Application.
pub struct Programs {
    pub api_server: PathBuf,
    pub etcd: PathBuf,
    pub schema: PathBuf,
}

impl Programs {
    /// `Err` says what is missing.
    pub fn find() -> Result<Self, &'static str> {
        Ok(Self {
            api_server: program("KUBE_APISERVER", "kube-apiserver")
                .ok_or("there is no kube-apiserver (tests/run.sh --only cluster builds one)")?,
            etcd: program("ETCD", "etcd").ok_or("there is no etcd")?,
            schema: std::env::var_os("ARGOCD_CRD")
                .ok_or("ARGOCD_CRD does not name Argo CD's Application schema")?
                .into(),
        })
    }
}

fn program(variable: &str, name: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// Arguments of an etcd on loopback, with its data in `dir`.
pub fn etcd(dir: &Path, peers: u16, clients: u16) -> Vec<String> {
    let store = url(clients);
    let peer = url(peers);
    vec![
        format!("--data-dir={}", dir.join("etcd").display()),
        format!("--listen-client-urls={store}"),
        format!("--advertise-client-urls={store}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
    ]
}

/// Arguments of an API server on loopback, whose files are in `dir`: `tokens`
/// and an RSA `key` have to be there.
pub fn api_server(dir: &Path, store: u16, port: u16) -> Vec<String> {
    let at = |name: &str| dir.join(name).display().to_string();
    vec![
        format!("--etcd-servers={}", url(store)),
        "--bind-address=127.0.0.1".into(),
        // Nobody asks for it; without, there has to be a default route.
        "--advertise-address=192.0.2.1".into(),
        format!("--secure-port={port}"),
        format!("--cert-dir={}", at("certs")),
        format!("--token-auth-file={}", at("tokens")),
        "--authorization-mode=RBAC".into(),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--service-account-key-file={}", at("key")),
        format!("--service-account-signing-key-file={}", at("key")),
        "--service-cluster-ip-range=10.96.0.0/16".into(),
        "--disable-admission-plugins=ServiceAccount".into(),
        // Loopback cannot be the address of the built-in service.
        "--endpoint-reconciler-type=none".into(),
    ]
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// A kubeconfig of the user with this token.
pub fn kubeconfig(port: u16, token: &str) -> String {
    let config = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "k", "cluster": {
            "server": format!("https://127.0.0.1:{port}"),
            "insecure-skip-tls-verify": true,
        }}],
        "contexts": [{ "name": "c", "context": { "cluster": "k", "user": "u" } }],
        "users": [{ "name": "u", "user": { "token": token } }],
    });
    config.to_string()
}
