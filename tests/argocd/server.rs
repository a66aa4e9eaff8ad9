//! etcd and an API server on loopback, ended with the test.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::{Client, Config};
use kukeon::delivery::target::argocd::Cluster;
use serde_json::json;

use crate::programs::{self, Programs};

pub struct Server {
    children: Vec<Child>,
    dir: tempfile::TempDir,
    port: u16,
    client: Client,
}

impl Drop for Server {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Server {
    /// None, with the reason printed, when the programs are not here.
    pub fn start() -> Option<Self> {
        let Programs {
            api_server, etcd, ..
        } = Programs::find()
            .map_err(|why| println!("skipped: argocd::on_a_real_api_server: {why}"))
            .ok()?;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let (peer, store, port) = (free_port(), free_port(), free_port());
        let at = |name: &str| dir.path().join(name).display().to_string();
        fs::write(
            at("tokens"),
            "admin,admin,1,system:masters\nstranger,stranger,2\n",
        )
        .unwrap();
        let key = Command::new("openssl")
            .args(["genrsa", "-out", &at("key"), "2048"])
            .stderr(Stdio::null())
            .status();
        assert!(key.unwrap().success());
        let children = vec![
            spawn(
                &etcd,
                &at("etcd.log"),
                &programs::etcd(dir.path(), peer, store),
            ),
            spawn(
                &api_server,
                &at("api.log"),
                &programs::api_server(dir.path(), store, port),
            ),
        ];
        let mut config = Config::new(format!("https://127.0.0.1:{port}").parse().unwrap());
        config.accept_invalid_certs = true;
        config.auth_info.token = Some("admin".to_owned().into());
        let client = Client::try_from(config).unwrap();
        Some(Self {
            children,
            dir,
            port,
            client,
        })
    }

    async fn ready(&self) {
        let end = Instant::now() + Duration::from_secs(120);
        let request = || http::Request::get("/readyz").body(Vec::new()).unwrap();
        while self.client.request_text(request()).await.is_err() {
            let log = fs::read_to_string(self.dir.path().join("api.log")).unwrap_or_default();
            assert!(
                Instant::now() < end,
                "the API server did not come up:\n{log}"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The connection under test, once the server answers.
    pub async fn cluster(&self) -> Cluster {
        self.ready().await;
        self.connection("admin").await
    }

    /// A connection that may do nothing.
    pub async fn stranger(&self) -> Cluster {
        self.connection("stranger").await
    }

    async fn connection(&self, token: &str) -> Cluster {
        let config = programs::kubeconfig(self.port, token);
        Cluster::from_kubeconfig("default", &config, "")
            .await
            .unwrap()
    }

    /// Argo CD's schema and namespace.
    pub async fn install_argocd(&self) {
        let file = Programs::find().map(|p| p.schema).unwrap();
        let crd: serde_json::Value =
            serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
        let kind = ApiResource::from_gvk_with_plural(&kind, "customresourcedefinitions");
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind);
        let params = PatchParams::apply("test");
        api.patch("applications.argoproj.io", &params, &Patch::Apply(crd))
            .await
            .unwrap();
        let kind = ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk("", "v1", "Namespace"),
            "namespaces",
        );
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind);
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "argocd" },
        });
        api.patch("argocd", &params, &Patch::Apply(namespace))
            .await
            .unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        // What can be listed is told of a moment later.
        let served = async || {
            let group = self.client.list_api_group_resources("argoproj.io/v1alpha1");
            let listed = self.applications().list(&Default::default()).await.is_ok();
            listed && group.await.is_ok_and(|g| !g.resources.is_empty())
        };
        while !served().await {
            assert!(Instant::now() < end, "Applications are not served");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub fn applications(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Application");
        let kind = ApiResource::from_gvk_with_plural(&kind, "applications");
        Api::namespaced_with(self.client.clone(), "argocd", &kind)
    }

    pub fn core(&self, kind: &str, plural: &str) -> Api<DynamicObject> {
        let kind =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", kind), plural);
        Api::namespaced_with(self.client.clone(), "argocd", &kind)
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn spawn(program: &Path, log: &str, args: &[String]) -> Child {
    let log = fs::File::create(log).unwrap();
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        // Its own group: Ctrl-C at a terminal ends the test first.
        .process_group(0);
    command.spawn().unwrap()
}
