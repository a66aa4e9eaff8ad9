//! Answers, and failures in the envelope of the distribution spec.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use http::header::{
    ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use serde_json::json;

use crate::oci::digest::DigestError;
use crate::registry::Error;
use crate::registry::auth::Refusal;

/// What a handler comes to.
pub(super) type Answer = Result<Response, Failure>;

pub(super) const DOCKER_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// Old clients look for this to tell a registry from a web server.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// The codes of the distribution spec ("Error Codes"), all fourteen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
}

impl Code {
    fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
        }
    }
}

/// A failure on its way to the client.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    /// Code, message and detail of each error.
    errors: Vec<(Code, String, serde_json::Value)>,
    headers: Vec<(HeaderName, HeaderValue)>,
    scope: Option<String>,
}

impl Failure {
    pub(super) fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self {
            status,
            errors: vec![(code, message.into(), serde_json::Value::Null)],
            headers: Vec::new(),
            scope: None,
        }
    }

    /// A path that names nothing.
    pub(super) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            Code::Unsupported,
            "this path is no part of the distribution API",
        )
    }

    /// A method that is not offered here.
    pub(super) fn method(allowed: &'static str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            Code::Unsupported,
            format!("this can be asked with {allowed} only"),
        )
        .with(ALLOW, HeaderValue::from_static(allowed))
    }

    /// A digest in a path or query.
    pub(super) fn digest(e: DigestError) -> Self {
        Error::DigestInvalid(e).into()
    }

    /// Somebody who is not let in.
    pub(super) fn refused(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unauthorized(why) => {
                Self::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, why)
            }
            Refusal::Denied(why) => Self::new(StatusCode::FORBIDDEN, Code::Denied, why),
            Refusal::Slower(wait) => {
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                Self::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    Code::TooManyRequests,
                    format!("too many requests; wait {seconds} s"),
                )
                .with(RETRY_AFTER, seconds.max(1).into())
            }
            Refusal::Failed(e) => e.into(),
        }
    }

    /// Names what a token would have to be for.
    pub(super) fn scope(mut self, scope: String) -> Self {
        self.scope = Some(scope);
        self
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The answer; `base` is how the client calls this registry.
    pub(super) fn into_response(self, base: &str) -> Response {
        let errors: Vec<_> = self
            .errors
            .into_iter()
            .map(|(code, message, detail)| {
                json!({"code": code.as_str(), "message": message, "detail": detail})
            })
            .collect();
        let mut response = plain(self.status, json!({ "errors": errors }).to_string());
        let headers = response.headers_mut();
        headers.extend(self.headers);
        if self.status == StatusCode::UNAUTHORIZED && !headers.contains_key(WWW_AUTHENTICATE) {
            let mut challenge =
                format!("Bearer realm=\"{base}/v2/token\",service=\"kukeon-registry\"");
            if let Some(scope) = self.scope {
                challenge.push_str(&format!(",scope=\"{scope}\""));
            }
            // Its parts have no characters that a header may not have.
            if let Ok(value) = HeaderValue::from_str(&challenge) {
                headers.insert(WWW_AUTHENTICATE, value);
            }
        }
        response
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        let message = e.to_string();
        let (status, code) = match &e {
            Error::NameInvalid { .. } => (StatusCode::BAD_REQUEST, Code::NameInvalid),
            Error::TagInvalid { .. } => (StatusCode::BAD_REQUEST, Code::ManifestInvalid),
            Error::DigestInvalid(_) | Error::DigestMismatch { .. } => {
                (StatusCode::BAD_REQUEST, Code::DigestInvalid)
            }
            Error::NameUnknown(_) => (StatusCode::NOT_FOUND, Code::NameUnknown),
            Error::BlobUnknown { .. } => (StatusCode::NOT_FOUND, Code::BlobUnknown),
            Error::ManifestUnknown { .. } => (StatusCode::NOT_FOUND, Code::ManifestUnknown),
            Error::ManifestInvalid { .. } => (StatusCode::BAD_REQUEST, Code::ManifestInvalid),
            Error::ManifestTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, Code::SizeInvalid),
            Error::MissingReferences { digests, .. } => {
                let errors = digests
                    .iter()
                    .map(|digest| {
                        let detail = json!({"digest": digest.as_str()});
                        (Code::ManifestBlobUnknown, message.clone(), detail)
                    })
                    .collect();
                return Self {
                    errors,
                    ..Self::new(StatusCode::BAD_REQUEST, Code::ManifestBlobUnknown, "")
                };
            }
            Error::SizeInvalid { .. } | Error::ChunkSize { .. } => {
                (StatusCode::BAD_REQUEST, Code::SizeInvalid)
            }
            Error::UploadUnknown => (StatusCode::NOT_FOUND, Code::BlobUploadUnknown),
            Error::UploadBusy => (StatusCode::CONFLICT, Code::BlobUploadInvalid),
            Error::OutOfOrder { .. } => {
                (StatusCode::RANGE_NOT_SATISFIABLE, Code::BlobUploadInvalid)
            }
            Error::ImmutableTag { .. } | Error::ImmutableArtifact { .. } => {
                (StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported)
            }
            e if e.is_full() => (StatusCode::INSUFFICIENT_STORAGE, Code::Denied),
            _ => {
                tracing::error!("registry: {message}");
                (StatusCode::INTERNAL_SERVER_ERROR, Code::Unsupported)
            }
        };
        let failure = Self::new(status, code, message);
        if status == StatusCode::METHOD_NOT_ALLOWED {
            return failure.with(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        failure
    }
}

/// An answer of JSON.
pub(super) fn plain(status: StatusCode, text: impl Into<String>) -> Response {
    let text = text.into();
    let length = text.len();
    with_headers(
        status,
        Body::from(text),
        [
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (CONTENT_LENGTH, length.into()),
        ],
    )
}

/// An answer without content.
pub(super) fn empty<const N: usize>(
    status: StatusCode,
    headers: [(HeaderName, HeaderValue); N],
) -> Response {
    let mut response = with_headers(status, Body::empty(), headers);
    if status != StatusCode::NO_CONTENT {
        let headers = response.headers_mut();
        headers.entry(CONTENT_LENGTH).or_insert(0.into());
    }
    response
}

/// An answer.
pub(super) fn with_headers<const N: usize>(
    status: StatusCode,
    body: Body,
    headers: [(HeaderName, HeaderValue); N],
) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let all = response.headers_mut();
    for (name, value) in headers {
        all.insert(name, value);
    }
    all.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    response
}

/// A header of text that came from our own grammars.
pub(super) fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
