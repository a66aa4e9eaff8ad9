//! Adding to a repository (OCI distribution spec 1.1, "Push").

use std::io;

use bytes::Bytes;
use futures::Stream;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, Url};

use super::{Failure, Patience, Registry, Result, lock};
use std::sync::atomic::Ordering;

/// What a registry says about a manifest that it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// It lists the manifest among the referrers of its subject; one that does
    /// not leaves that to the client (distribution spec 1.1, "Pushing Manifests
    /// with Subject").
    pub lists_subject: bool,
}

impl Registry {
    /// Makes sure that the repository has a blob, trying again what may pass.
    ///
    /// # Errors
    /// What the registry did not do.
    pub async fn put_blob(&self, digest: &str, bytes: &[u8]) -> Result<()> {
        let mut patience = Patience::default();
        loop {
            let tried = match self.has_blob(digest).await {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    let piece = Ok(Bytes::copy_from_slice(bytes));
                    let content = futures::stream::iter([piece]);
                    self.push_blob(digest, bytes.len() as u64, content).await
                }
                Err(failure) => Err(failure),
            };
            match tried {
                Ok(()) => return Ok(()),
                Err(failure) => patience.wait(self, failure).await?,
            }
        }
    }

    /// Stores a manifest under a tag or its digest, trying again what may pass.
    ///
    /// # Errors
    /// What the registry did not do.
    pub async fn put_manifest(
        &self,
        object: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Stored> {
        let mut patience = Patience::default();
        loop {
            match self.push_manifest(object, media_type, bytes).await {
                Ok(stored) => return Ok(stored),
                Err(failure) => patience.wait(self, failure).await?,
            }
        }
    }

    /// Whether the repository has a blob.
    ///
    /// # Errors
    /// What kept it from saying so.
    pub async fn has_blob(&self, digest: &str) -> Result<bool, Failure> {
        let path = format!("blobs/{digest}");
        let answer = self.ask(&Method::HEAD, &path, |request| request).await?;
        match answer.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            status => Err(self.refused(status, answer).await),
        }
    }

    /// Uploads a blob of `size` bytes; its content is read once.
    ///
    /// # Errors
    /// What the registry did not do, or the content's own.
    pub async fn push_blob(
        &self,
        digest: &str,
        size: u64,
        content: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<(), Failure> {
        let begun = self
            .ask(&Method::POST, "blobs/uploads/", |request| {
                request.header(CONTENT_LENGTH, 0)
            })
            .await?;
        if begun.status() != StatusCode::ACCEPTED {
            return Err(self.refused(begun.status(), begun).await);
        }
        let mut to = self.upload_at(&begun)?;
        to.query_pairs_mut().append_pair("digest", digest);
        let https = to.scheme() == "https";
        let mut request = self
            .client(https)?
            .put(to.clone())
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, size)
            .body(Body::wrap_stream(content));
        let authorization = lock(&self.authorization).clone();
        // The login is for this registry, not for where it stores.
        if let Some(value) = authorization
            && to.host_str() == begun.url().host_str()
        {
            request = request.header(AUTHORIZATION, value);
        }
        let answer = request.send().await.map_err(|e| self.unsent(&e))?;
        match answer.status() {
            StatusCode::CREATED => Ok(()),
            // The token ran out on the way: the next attempt has a new one.
            StatusCode::UNAUTHORIZED => {
                *lock(&self.authorization) = None;
                Err(Failure::passing("its token ran out"))
            }
            status => Err(self.refused(status, answer).await),
        }
    }

    /// Stores a manifest under a tag or its digest.
    ///
    /// # Errors
    /// What the registry did not do.
    pub async fn push_manifest(
        &self,
        object: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Stored, Failure> {
        let path = format!("manifests/{object}");
        let answer = self
            .ask(&Method::PUT, &path, |request| {
                request
                    .header(CONTENT_TYPE, media_type)
                    .body(bytes.to_vec())
            })
            .await?;
        match answer.status() {
            StatusCode::CREATED => Ok(Stored {
                lists_subject: answer.headers().contains_key("oci-subject"),
            }),
            status => Err(self.refused(status, answer).await),
        }
    }

    /// Sends a request, logging in when the answer asks for it; any other answer
    /// is the caller's.
    async fn ask(
        &self,
        method: &Method,
        path: &str,
        complete: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Failure> {
        let mut logged_in = false;
        loop {
            let https = self.https.load(Ordering::Relaxed);
            let url = self.url(https, path)?;
            let mut request = complete(self.client(https)?.request(method.clone(), url));
            let authorization = lock(&self.authorization).clone();
            if let Some(value) = &authorization {
                request = request.header(AUTHORIZATION, value);
            }
            let answer = request.send().await.map_err(|e| self.unsent(&e))?;
            match answer.status() {
                StatusCode::UNAUTHORIZED if !logged_in => {
                    logged_in = true;
                    self.log_in(answer, authorization.is_some()).await?;
                }
                StatusCode::BAD_REQUEST if !https => {
                    match self.refusal(StatusCode::BAD_REQUEST, answer).await {
                        Some(failure) => return Err(failure),
                        None => self.https.store(true, Ordering::Relaxed),
                    }
                }
                _ => return Ok(answer),
            }
        }
    }

    /// Where an upload goes on.
    fn upload_at(&self, begun: &Response) -> Result<Url, Failure> {
        let location = begun.headers().get(LOCATION).and_then(|l| l.to_str().ok());
        let at = location.and_then(|location| begun.url().join(location).ok());
        let at = at.ok_or_else(|| self.broken("it does not say where to upload".to_owned()))?;
        let safe = at.scheme() == begun.url().scheme() || at.scheme() == "https";
        if !safe {
            return Err(self.broken(format!("it wants the upload at {at}")).into());
        }
        Ok(at)
    }

    async fn refused(&self, status: StatusCode, answer: Response) -> Failure {
        match self.refusal(status, answer).await {
            Some(failure) => failure,
            None => self.broken(status.to_string()).into(),
        }
    }
}
