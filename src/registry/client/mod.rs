//! A registry, as far as pulling and pushing images need it (OCI distribution
//! spec 1.1).

mod auth;
mod error;
mod http;
mod location;
mod push;
mod read;

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RANGE};
use reqwest::{Client, Response, StatusCode, Url};

use crate::oci::media;

use auth::{Challenge, Login};
use http::{certificates, chain, client, is_loopback, message, range_start, retry_after};

pub use error::{Error, Failure, Result};
pub use location::{Access, Location};
pub use push::Stored;
pub use read::{Referrer, referrers_tag};

/// Largest document that is read into memory: registries refuse manifests
/// above 4 MiB, configurations are smaller still.
pub const MAX_DOCUMENT: u64 = 8 << 20;

/// Attempts without any headway.
const ATTEMPTS: u32 = 5;

/// A document from a registry.
pub struct Fetched {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What the registry says it is.
    pub media_type: String,
    /// The digest the registry promises, where it does.
    pub digest: Option<String>,
}

/// One repository of one registry.
pub struct Registry {
    at: Location,
    login: Option<Login>,
    ca: String,
    plain_http: bool,
    /// What the registry wanted to see the last time.
    authorization: Mutex<Option<HeaderValue>>,
    https: AtomicBool,
    plain: OnceLock<Client>,
    tls: OnceLock<Client>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// The registry at a place. Nothing is sent yet.
    pub fn new(at: Location, access: Access) -> Self {
        let server = at.server();
        // Plain HTTP never leaves this machine, and not where there is a
        // certificate for the host.
        let trusted = !access.ca.is_empty() || !certificates(server).is_empty();
        let plain = access.plain_http || (is_loopback(server) && !trusted);
        Self {
            login: Login::find(&access.credentials, &at),
            ca: access.ca,
            plain_http: access.plain_http,
            at,
            authorization: Mutex::default(),
            https: AtomicBool::new(!plain),
            plain: OnceLock::new(),
            tls: OnceLock::new(),
        }
    }

    /// A manifest or index by tag or digest.
    pub async fn manifest(&self, object: &str) -> Result<Fetched> {
        let accept = [
            media::INDEX,
            media::MANIFEST,
            media::DOCKER_LIST,
            media::DOCKER_MANIFEST,
        ]
        .join(", ");
        self.document(&format!("manifests/{object}"), &accept).await
    }

    /// Tags of the repository, page by page (distribution-spec, "Listing Tags").
    pub async fn tags(&self) -> Result<Vec<String>> {
        /// Tags asked for at once; registries may give fewer or ignore it.
        const PAGE: usize = 500;
        let mut tags: Vec<String> = Vec::new();
        loop {
            let last = tags
                .last()
                .map(|t| format!("&last={t}"))
                .unwrap_or_default();
            let path = format!("tags/list?n={PAGE}{last}");
            let page = self.document(&path, "application/json").await?;
            let page: TagList = serde_json::from_slice(&page.bytes)
                .map_err(|e| self.broken(format!("its list of tags: {e}")))?;
            let known: HashSet<String> = tags.iter().cloned().collect();
            let given = page.tags.unwrap_or_default();
            let full = given.len() == PAGE;
            let fresh: Vec<String> = given.into_iter().filter(|t| !known.contains(t)).collect();
            // A registry that ignores `last` gives the same page again.
            let end = !full || fresh.is_empty();
            tags.extend(fresh);
            if end {
                return Ok(tags);
            }
        }
    }

    /// A blob that is a document.
    pub async fn config(&self, digest: &str) -> Result<Fetched> {
        self.document(&format!("blobs/{digest}"), "*/*").await
    }

    async fn document(&self, path: &str, accept: &str) -> Result<Fetched> {
        let mut patience = Patience::default();
        loop {
            let failure = match self.attempt(path, accept).await {
                Ok(fetched) => return Ok(fetched),
                Err(failure) => failure,
            };
            patience.wait(self, failure).await?;
        }
    }

    async fn attempt(&self, path: &str, accept: &str) -> Result<Fetched, Failure> {
        let response = self.get(path, accept, 0).await?;
        let header = |name: &str| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let media_type = header(CONTENT_TYPE.as_str()).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        let (media_type, digest) = (media_type.to_owned(), header("docker-content-digest"));
        Ok(Fetched {
            bytes: self.limited(response, MAX_DOCUMENT).await?,
            media_type,
            digest,
        })
    }

    /// A blob from byte `from` on, if the registry can; the answer begins at the
    /// byte that is returned with it.
    pub async fn blob(&self, digest: &str, from: u64) -> Result<(Response, u64), Failure> {
        let response = self.get(&format!("blobs/{digest}"), "*/*", from).await?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok((response, 0));
        }
        let range = response.headers().get(reqwest::header::CONTENT_RANGE);
        let start = range.and_then(|r| range_start(r.to_str().ok()?));
        match start {
            Some(start) if start <= from => Ok((response, start)),
            _ => Err(Failure::passing("it sent another part than was asked for")),
        }
    }

    /// Sends a request; logs in and changes to TLS when the answer asks for it.
    async fn get(&self, path: &str, accept: &str, from: u64) -> Result<Response, Failure> {
        let (mut logged_in, mut from) = (false, from);
        loop {
            let https = self.https.load(Ordering::Relaxed);
            let url = self.url(https, path)?;
            let mut request = self.client(https)?.get(url).header(ACCEPT, accept);
            let authorization = lock(&self.authorization).clone();
            if let Some(value) = &authorization {
                request = request.header(AUTHORIZATION, value);
            }
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            let response = request.send().await.map_err(|e| self.unsent(&e))?;
            match response.status() {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => return Ok(response),
                StatusCode::UNAUTHORIZED if !logged_in => {
                    logged_in = true;
                    self.log_in(response, authorization.is_some()).await?;
                }
                // What we have is not the beginning of this blob.
                StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => from = 0,
                status => match self.refusal(status, response).await {
                    Some(failure) => return Err(failure),
                    None => self.https.store(true, Ordering::Relaxed),
                },
            }
        }
    }

    /// What a refusal means; `None` when it only wants TLS.
    async fn refusal(&self, status: StatusCode, response: Response) -> Option<Failure> {
        let after = retry_after(response.headers());
        let text = message(response).await;
        let cause = if text.is_empty() {
            status.to_string()
        } else {
            format!("{status}: {text}")
        };
        Some(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::Final(self.denied(cause)),
            StatusCode::NOT_FOUND => Failure::Final(Error::NotFound(self.at.shown.clone())),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Failure::Passing { cause, after }
            }
            status if status.is_server_error() => Failure::Passing { cause, after },
            // Go's server says so to whoever speaks plain HTTP to it.
            StatusCode::BAD_REQUEST
                if text.contains("HTTPS server") && !self.https.load(Ordering::Relaxed) =>
            {
                return None;
            }
            _ => Failure::Final(self.broken(cause)),
        })
    }

    /// Meets a challenge.
    async fn log_in(&self, refused: Response, again: bool) -> Result<(), Failure> {
        let challenge = auth::challenge(refused.headers());
        let header = match challenge {
            Some(Challenge::Basic) => match &self.login {
                Some(login) if !again => login.header(),
                Some(_) => return Err(self.denied(message(refused).await).into()),
                None => return Err(self.denied("it wants a login".into()).into()),
            },
            Some(Challenge::Bearer {
                realm,
                service,
                scope,
            }) => self.token(&realm, service, scope).await?,
            None => return Err(self.denied(message(refused).await).into()),
        };
        *lock(&self.authorization) = Some(header);
        Ok(())
    }

    /// Fetches a token, as the login or as nobody.
    async fn token(
        &self,
        realm: &str,
        service: Option<String>,
        scope: Option<String>,
    ) -> Result<HeaderValue, Failure> {
        let url = Url::parse(realm).map_err(|e| self.broken(format!("token server: {e}")))?;
        let local = url.host_str().is_some_and(is_loopback);
        let https = url.scheme() == "https";
        // A login must not travel in the clear.
        let safe = https || (url.scheme() == "http" && (local || self.plain_http));
        if !safe {
            return Err(self
                .broken(format!("its token server {url} is not safe"))
                .into());
        }
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.at.repository));
        let mut request = self.client(https)?.get(url).query(&[("scope", &scope)]);
        if let Some(service) = service {
            request = request.query(&[("service", &service)]);
        }
        if let Some(login) = &self.login {
            request = request.header(AUTHORIZATION, login.header());
        }
        let response = request.send().await.map_err(|e| self.unsent(&e))?;
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            let after = retry_after(response.headers());
            let cause = format!("token server: {status}");
            return Err(Failure::Passing { cause, after });
        }
        if !status.is_success() {
            let text = message(response).await;
            return Err(self.denied(format!("token server: {status} {text}")).into());
        }
        let body = self.limited(response, 1 << 20).await?;
        match auth::token(&body) {
            Some(token) => Ok(auth::bearer(&token)),
            None => Err(self.broken("its token server gave no token".into()).into()),
        }
    }

    /// A whole answer of bounded size.
    async fn limited(&self, mut response: Response, limit: u64) -> Result<Vec<u8>, Failure> {
        let mut bytes = vec![];
        loop {
            let chunk = response.chunk().await;
            match chunk.map_err(|e| Failure::passing(chain(&e)))? {
                None => return Ok(bytes),
                Some(chunk) => bytes.extend_from_slice(&chunk),
            }
            if bytes.len() as u64 > limit {
                let cause = format!("it sent a document of more than {limit} bytes");
                return Err(self.broken(cause).into());
            }
        }
    }

    fn url(&self, https: bool, path: &str) -> Result<Url> {
        let scheme = if https { "https" } else { "http" };
        let (server, repository) = (self.at.server(), &self.at.repository);
        let url = format!("{scheme}://{server}/v2/{repository}/{path}");
        Url::parse(&url).map_err(|e| self.broken(format!("{url}: {e}")))
    }

    fn client(&self, https: bool) -> Result<&Client> {
        let slot = if https { &self.tls } else { &self.plain };
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let client =
            client(https, self.at.server(), &self.ca).map_err(|cause| self.broken(cause))?;
        Ok(slot.get_or_init(|| client))
    }

    fn unsent(&self, error: &reqwest::Error) -> Failure {
        if error.is_redirect() || error.is_builder() {
            return self.broken(chain(error)).into();
        }
        Failure::passing(chain(error))
    }

    fn denied(&self, cause: String) -> Error {
        Error::Unauthorized {
            host: self.at.host.clone(),
            shown: self.at.shown.clone(),
            cause,
        }
    }

    /// An error of the registry's own.
    pub fn broken(&self, cause: String) -> Error {
        Error::Registry {
            host: self.at.host.clone(),
            cause,
        }
    }
}

/// Body of a tag list; `tags` is null for a repository without any.
#[derive(serde::Deserialize)]
struct TagList {
    tags: Option<Vec<String>>,
}

/// How long to go on after failures.
pub struct Patience {
    failures: u32,
    first: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            failures: 0,
            first: Duration::from_millis(200),
        }
    }
}

impl Patience {
    /// Something got through.
    pub fn renew(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next attempt: 0.2 s, doubled each time, with jitter.
    ///
    /// # Errors
    /// The failure itself, when it is final or was one too many.
    pub async fn wait<E: From<Error>>(
        &mut self,
        registry: &Registry,
        failure: Failure<E>,
    ) -> Result<(), E> {
        let (cause, after) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Passing { cause, after } => (cause, after),
        };
        self.failures += 1;
        if self.failures >= ATTEMPTS {
            return Err(registry.broken(cause).into());
        }
        let base = self.first * (1 << (self.failures - 1));
        // Random enough to part clients that failed together.
        let jitter = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
        let wait = after.unwrap_or(base + base * jitter / 512);
        tracing::debug!(host = registry.at.host, cause, ?wait, "trying again");
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing panics while holding it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(host: &str, repository: &str) -> Location {
        Location {
            host: host.into(),
            repository: repository.into(),
            shown: format!("{host}/{repository}"),
        }
    }

    #[test]
    fn plain_http_only_here() {
        let registry = |host: &str, repository: &str| {
            Registry::new(place(host, repository), Access::default())
        };
        let url = |r: &Registry| {
            r.url(r.https.load(Ordering::Relaxed), "manifests/1")
                .unwrap()
                .to_string()
        };
        assert_eq!(
            url(&registry("localhost:5000", "a/b")),
            "http://localhost:5000/v2/a/b/manifests/1"
        );
        assert_eq!(
            url(&registry("docker.io", "library/nginx")),
            "https://registry-1.docker.io/v2/library/nginx/manifests/1"
        );
    }

    #[tokio::test]
    async fn patience_ends() {
        let registry = Registry::new(place("h.io", "x"), Access::default());
        let mut patience = Patience {
            failures: 0,
            first: Duration::ZERO,
        };
        for _ in 1..ATTEMPTS {
            patience
                .wait(&registry, Failure::<Error>::passing("down"))
                .await
                .unwrap();
        }
        let error: Error = patience
            .wait(&registry, Failure::<Error>::passing("down"))
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "registry h.io: down");
        patience.renew();
        patience
            .wait(&registry, Failure::<Error>::passing("down"))
            .await
            .unwrap();
        let last: Failure = Failure::Final(Error::NotFound("x".into()));
        assert!(patience.wait(&registry, last).await.is_err());
    }
}
