//! A registry for one test, and a client that hides nothing.

use std::path::Path;

use kukeon::oci::Digest;
use kukeon::registry::auth::AccountKind;
use kukeon::registry::serve::{Server, serve};
use kukeon::registry::{Config, Storage};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

pub const USER: &str = "admin";
pub const PASSWORD: &str = "a password for tests";
pub const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub struct Registry {
    pub server: Server,
    pub dir: tempfile::TempDir,
    client: reqwest::Client,
}

/// A registry on a free port, with an account that may do everything.
pub async fn start() -> Registry {
    start_with(|_| {}).await
}

pub async fn start_with(change: impl FnOnce(&mut Config)) -> Registry {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        min_free: 0,
        ..Config::default()
    };
    change(&mut config);
    let server = serve(&dir.path().join("registry"), &config).await.unwrap();
    let rules = vec!["**=*".parse().unwrap()];
    let storage = server.storage();
    storage
        .set_account(USER, AccountKind::User, rules, Some(PASSWORD))
        .unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy();
    // With no installed certificates building fails, even for plain HTTP.
    let client = client.tls_certs_only([]).build().unwrap();
    Registry {
        server,
        dir,
        client,
    }
}

impl Registry {
    pub fn host(&self) -> String {
        self.server.address().to_string()
    }

    pub fn storage(&self) -> &Storage {
        self.server.storage()
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A request of nobody in particular.
    pub fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("http://{}{path}", self.server.address());
        self.client.request(method, url)
    }

    /// A request of the account.
    pub fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path)
            .basic_auth(USER, Some(PASSWORD))
    }

    pub async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path).send().await.unwrap()
    }

    pub async fn head(&self, path: &str) -> Response {
        self.ask(Method::HEAD, path).send().await.unwrap()
    }

    pub async fn delete(&self, path: &str) -> Response {
        self.ask(Method::DELETE, path).send().await.unwrap()
    }

    /// Begins an upload; gives where to go on.
    pub async fn begin(&self, repository: &str) -> String {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let answer = self.ask(Method::POST, &path).send().await.unwrap();
        assert_eq!(answer.status(), 202);
        header(&answer, "location")
    }

    /// Uploads a blob in the two usual steps.
    pub async fn blob(&self, repository: &str, content: &[u8]) -> Digest {
        let digest = Digest::sha256(content);
        let to = format!("{}?digest={digest}", self.begin(repository).await);
        let put = self.ask(Method::PUT, &to).body(content.to_vec());
        let answer = put.send().await.unwrap();
        assert_eq!(answer.status(), 201);
        assert_eq!(header(&answer, "docker-content-digest"), digest.as_str());
        digest
    }

    pub async fn put_manifest(&self, path: &str, kind: &str, bytes: &[u8]) -> Response {
        self.ask(Method::PUT, path)
            .header("content-type", kind)
            .body(bytes.to_vec())
            .send()
            .await
            .unwrap()
    }

    /// Uploads the blobs of an image; gives its manifest.
    pub async fn image(&self, repository: &str, layer: &[u8]) -> Vec<u8> {
        let config = self.blob(repository, b"{}").await;
        let digest = self.blob(repository, layer).await;
        json!({
            "schemaVersion": 2, "mediaType": IMAGE,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config.as_str(), "size": 2},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": digest.as_str(), "size": layer.len()}],
        })
        .to_string()
        .into_bytes()
    }

    /// Uploads an image under a tag.
    pub async fn tagged(&self, repository: &str, tag: &str, layer: &[u8]) -> Digest {
        let manifest = self.image(repository, layer).await;
        let path = format!("/v2/{repository}/manifests/{tag}");
        let answer = self.put_manifest(&path, IMAGE, &manifest).await;
        assert_eq!(answer.status(), 201);
        Digest::sha256(&manifest)
    }
}

/// A header that has to be there.
pub fn header(answer: &Response, name: &str) -> String {
    let value = answer.headers().get(name);
    let value = value.unwrap_or_else(|| panic!("no {name} in {answer:?}"));
    value.to_str().unwrap().to_owned()
}

/// Status and first code of a failure, whose envelope is checked.
pub async fn failure(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    assert_eq!(header(&answer, "content-type"), "application/json");
    let body: Value = answer.json().await.unwrap();
    let first = &body["errors"][0];
    assert!(first["message"].as_str().is_some_and(|m| !m.is_empty()));
    (status, first["code"].as_str().unwrap().to_owned())
}
