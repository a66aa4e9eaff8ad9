//! Answers: JSON, and failures as `{error, reason, details}`.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::object;
use crate::api::{Code, Error, v1};

/// What a handler ends with.
pub type Answer = Result<Response, Refusal>;

/// A failure on its way out.
#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    pub error: Error,
    /// Seconds after which it may be tried again.
    pub after: Option<u64>,
}

impl Refusal {
    pub fn new(status: StatusCode, reason: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            error: Error::new(Code::Invalid, reason, message),
            after: None,
        }
    }

    /// A request that makes no sense.
    pub fn bad(reason: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason, message)
    }

    /// Nobody is logged in.
    pub fn unauthorized(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "LoginRequired", message)
    }

    /// Somebody is, who may not do that.
    pub fn forbidden(reason: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, reason, message)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = match error.code {
            Code::Conflict if error.reason == "VersionChanged" => StatusCode::PRECONDITION_FAILED,
            Code::Invalid => StatusCode::BAD_REQUEST,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Conflict => StatusCode::CONFLICT,
            Code::Unavailable | Code::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
            Code::Permission => StatusCode::FORBIDDEN,
            Code::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Code::Exhausted => StatusCode::INSUFFICIENT_STORAGE,
            Code::Unsupported => StatusCode::UNPROCESSABLE_ENTITY,
            Code::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self {
            status,
            error,
            after: None,
        }
    }
}

impl From<crate::auth::Error> for Refusal {
    fn from(error: crate::auth::Error) -> Self {
        tracing::error!(%error, "the files of the pages cannot be used");
        let message = "accounts and sessions cannot be used; the daemon's log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "AccountFiles", message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self {
            status,
            error,
            after,
        } = self;
        let mut details = serde_json::Map::new();
        if !error.hint.is_empty() {
            details.insert("hint".to_owned(), error.hint.into());
        }
        let body = json!({
            "error": error.message,
            "reason": error.reason,
            "details": details,
        });
        let mut answer = json_with(status, &body);
        if let Some(after) = after {
            answer.headers_mut().insert(RETRY_AFTER, after.into());
        }
        answer
    }
}

/// A value as JSON.
pub fn json_with(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(text) => {
            let head = [
                (CONTENT_TYPE, "application/json"),
                // It is for whoever is logged in.
                (CACHE_CONTROL, "no-store"),
            ];
            (status, head, text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A value as JSON, and that all went well.
pub fn json_ok(value: &impl Serialize) -> Response {
    json_with(StatusCode::OK, value)
}

/// An object with its version as `ETag`.
pub fn object_with(status: StatusCode, found: &v1::Object) -> Response {
    let mut answer = json_with(status, found);
    let version = object::meta(found).resource_version;
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
        answer.headers_mut().insert(ETAG, tag);
    }
    answer
}
