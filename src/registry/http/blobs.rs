//! Blobs: end-2, end-10.

use axum::body::Body;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue,
    IF_NONE_MATCH, RANGE,
};
use http::{HeaderMap, Method, StatusCode};

use super::answer::{Answer, Code, DOCKER_DIGEST, Failure, empty, value, with_headers};
use super::range::{Wanted, wanted};
use super::{Call, blocking, body};
use crate::oci::Digest;
use crate::registry::Policy;
use crate::registry::auth::Action;

/// Content by digest never changes.
const FOR_EVER: &str = "max-age=31536000, immutable";

pub(super) async fn get(
    call: &Call<'_>,
    digest: &Digest,
    method: &Method,
    headers: &HeaderMap,
) -> Answer {
    call.may(Action::Pull)?;
    let storage = call.app.storage();
    // Short looks at the disk, not worth another thread.
    let (size, file) = if *method == Method::HEAD {
        (storage.blob_size(&call.repository, digest)?, None)
    } else {
        let blob = storage.open_blob(&call.repository, digest)?;
        (blob.size, Some(blob.file))
    };
    let etag = value(&format!("\"{digest}\""));
    if is_known(headers, &etag) {
        return Ok(empty(StatusCode::NOT_MODIFIED, [(ETAG, etag)]));
    }
    let range = headers.get(RANGE).and_then(|h| h.to_str().ok());
    let (status, from, length) = match wanted(range, size) {
        Wanted::All => (StatusCode::OK, 0, size),
        Wanted::Part(from, length) => (StatusCode::PARTIAL_CONTENT, from, length),
        Wanted::Nothing => {
            let message = format!("the range lies outside the {size} bytes of the blob");
            let status = StatusCode::RANGE_NOT_SATISFIABLE;
            let failure = Failure::new(status, Code::SizeInvalid, message);
            return Err(failure.with(CONTENT_RANGE, value(&format!("bytes */{size}"))));
        }
    };
    let content = match file {
        Some(file) => body::of_file(call.files.as_ref(), file, from, length),
        None => Body::empty(),
    };
    let mut response = with_headers(
        status,
        content,
        [
            (
                CONTENT_TYPE,
                HeaderValue::from_static("application/octet-stream"),
            ),
            (CONTENT_LENGTH, length.into()),
            (ACCEPT_RANGES, HeaderValue::from_static("bytes")),
            (DOCKER_DIGEST, value(digest.as_str())),
            (CACHE_CONTROL, HeaderValue::from_static(FOR_EVER)),
            (ETAG, etag),
        ],
    );
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {from}-{}/{size}", from + length - 1);
        response.headers_mut().insert(CONTENT_RANGE, value(&range));
    }
    Ok(response)
}

pub(super) async fn delete(call: &Call<'_>, digest: &Digest) -> Answer {
    call.may(Action::Delete)?;
    let storage = call.app.storage().clone();
    let (repository, digest) = (call.repository.clone(), digest.clone());
    blocking(move || storage.delete_blob(&repository, &digest, Policy::Enforce)).await?;
    Ok(empty(StatusCode::ACCEPTED, []))
}

/// Whether the client has it already.
pub(super) fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let Some(known) = headers.get(IF_NONE_MATCH).and_then(|h| h.to_str().ok()) else {
        return false;
    };
    known.split(',').any(|one| {
        let one = one.trim();
        one == "*" || one.strip_prefix("W/").unwrap_or(one).as_bytes() == etag.as_bytes()
    })
}
