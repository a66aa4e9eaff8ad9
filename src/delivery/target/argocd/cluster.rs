//! A connection to one cluster, from a kubeconfig.

use std::time::{Duration, Instant};

use http::{Request, Response};
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::BoxError;
use tower::buffer::BufferLayer;
use tower::retry::{Policy, RetryLayer};

use super::{Error, Result};

/// How long one answer of the API server may take.
const ANSWER: Duration = Duration::from_secs(20);
/// How long the connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Pauses between attempts at a server that is busy, the first and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// Attempts after the first.
const RETRIES: u32 = 4;
/// A connection that failed sooner is tried again.
const QUICK: Duration = Duration::from_secs(1);
/// Requests that wait for a connection.
const WAITING: usize = 64;

/// A cluster that was connected under a name.
#[derive(Clone)]
pub struct Cluster {
    name: String,
    config: Config,
}

/// Says nothing of the login.
impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("name", &self.name)
            .field("server", &self.config.cluster_url)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// Reads a kubeconfig: one self-contained document. `context` picks one of
    /// its contexts; empty means its current one.
    ///
    /// Logins by a command (`exec`) or a path on the client's disk are refused:
    /// the daemon runs as root, and the files may not be there tomorrow.
    pub async fn from_kubeconfig(name: &str, text: &str, context: &str) -> Result<Self> {
        let fail = |detail: String| Error::Connection {
            cluster: name.to_owned(),
            detail,
        };
        let parsed = Kubeconfig::from_yaml(text).map_err(|e| fail(e.to_string()))?;
        refuse_references(&parsed).map_err(fail)?;
        let options = KubeConfigOptions {
            context: (!context.is_empty()).then(|| context.to_owned()),
            ..KubeConfigOptions::default()
        };
        let mut config = Config::from_custom_kubeconfig(parsed, &options)
            .await
            .map_err(|e| fail(e.to_string()))?;
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(ANSWER);
        config.write_timeout = Some(ANSWER);
        // That goes on for a quarter of an hour; see `client_of`.
        config.default_retry = false;
        Ok(Self {
            name: name.to_owned(),
            config,
        })
    }

    /// Name of the connection.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Address of the API server.
    pub fn server(&self) -> String {
        self.config.cluster_url.to_string()
    }

    pub(super) fn client(&self) -> Result<Client> {
        self.client_of(self.config.clone())
    }

    /// A client that may hear nothing for so long.
    pub(super) fn watching(&self, limit: Duration) -> Result<Client> {
        let mut config = self.config.clone();
        config.read_timeout = Some(limit + ANSWER);
        self.client_of(config)
    }

    /// A server that is busy for a moment is asked again; one that stays so is
    /// told soon, and whoever asks tries again at its own pace.
    fn client_of(&self, config: Config) -> Result<Client> {
        let failed = |detail: String| Error::Connection {
            cluster: self.name.clone(),
            detail,
        };
        let busy = RetryPolicy::new(RETRY.0, RETRY.1, RETRIES, false);
        let policy = Retry {
            busy: busy.map_err(|e| failed(e.to_string()))?,
            attempts: 0,
            begun: Instant::now(),
        };
        let built = ClientBuilder::try_from(config).map_err(|e| failed(e.to_string()))?;
        Ok(built
            .with_layer(&BufferLayer::new(WAITING))
            .with_layer(&RetryLayer::new(policy))
            .build())
    }
}

/// Which requests are sent again. All that are sent here may be: an apply says
/// what is wanted, and a deletion names the version that it means.
#[derive(Clone)]
struct Retry {
    /// For a server that says that it is busy.
    busy: RetryPolicy,
    /// Made again for another reason: a connection that was cut, a server or a
    /// gateway that had an accident.
    attempts: u32,
    /// When the attempt that is under way began.
    begun: Instant,
}

impl<Answer> Policy<Request<Body>, Response<Answer>, BoxError> for Retry {
    type Future = tokio::time::Sleep;

    fn retry(
        &mut self,
        request: &mut Request<Body>,
        result: &mut std::result::Result<Response<Answer>, BoxError>,
    ) -> Option<Self::Future> {
        if let Some(pause) = self.busy.retry(request, result) {
            return Some(pause);
        }
        let accident = match result {
            Ok(response) => matches!(response.status().as_u16(), 500 | 502),
            // One that took its time would take it again: whoever waits has waited.
            Err(_) => self.begun.elapsed() < QUICK,
        };
        if !accident || self.attempts == RETRIES {
            return None;
        }
        let pause = RETRY.0 * 2_u32.pow(self.attempts);
        self.attempts += 1;
        Some(tokio::time::sleep(pause.min(RETRY.1)))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        self.begun = Instant::now();
        let policy: &mut dyn Policy<_, Response<Answer>, BoxError, Future = _> = &mut self.busy;
        policy.clone_request(request)
    }
}

/// Fails on anything that lives outside the document.
fn refuse_references(config: &Kubeconfig) -> std::result::Result<(), String> {
    for user in &config.auth_infos {
        let Some(info) = &user.auth_info else {
            continue;
        };
        let outside = [
            (info.exec.is_some(), "exec"),
            (info.auth_provider.is_some(), "auth-provider"),
            (info.token_file.is_some(), "tokenFile"),
            (info.client_certificate.is_some(), "client-certificate"),
            (info.client_key.is_some(), "client-key"),
        ];
        if let Some((_, field)) = outside.iter().find(|(found, _)| *found) {
            return Err(format!(
                "user {:?} has {field:?}, which points outside the document; use a token or \
                 embedded certificates (`kubectl config view --raw --flatten --minify`)",
                user.name
            ));
        }
    }
    for cluster in &config.clusters {
        if let Some(c) = &cluster.cluster
            && c.certificate_authority.is_some()
        {
            return Err(format!(
                "cluster {:?} has \"certificate-authority\", which points outside the document; \
                 embed it (`kubectl config view --raw --flatten --minify`)",
                cluster.name
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: k, cluster: {{server: 'http://127.0.0.1:1'}}}}]\n\
             contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             users: [{{name: u, user: {user}}}]\n"
        )
    }

    #[tokio::test]
    async fn a_token_is_taken_and_not_shown() {
        let made = Cluster::from_kubeconfig("default", &config("{token: s3cret}"), "").await;
        let made = made.unwrap();
        assert_eq!(made.server(), "http://127.0.0.1:1/");
        assert!(!format!("{made:?}").contains("s3cret"));
    }

    #[tokio::test]
    async fn what_lies_outside_is_refused() {
        for user in [
            "{exec: {command: id, apiVersion: client.authentication.k8s.io/v1}}",
            "{tokenFile: /etc/passwd}",
            "{client-certificate: /etc/passwd}",
        ] {
            let error = Cluster::from_kubeconfig("default", &config(user), "").await;
            let text = error.unwrap_err().to_string();
            assert!(text.contains("points outside the document"), "{text}");
        }
    }

    #[tokio::test]
    async fn an_unknown_context_is_an_error() {
        let error = Cluster::from_kubeconfig("default", &config("{}"), "nope").await;
        assert!(matches!(error, Err(Error::Connection { .. })));
    }
}
