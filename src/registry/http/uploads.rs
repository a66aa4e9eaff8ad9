//! Upload sessions: end-4a, 4b, 5, 6, 11, 13.

use std::collections::HashMap;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderName, LOCATION, RANGE};
use http::{HeaderMap, StatusCode, Uri};

use super::answer::{Answer, DOCKER_DIGEST, Failure, empty, value};
use super::body::receive;
use super::range::{chunk, progress};
use super::{Call, blocking};
use crate::oci::Digest;
use crate::registry::auth::Action;
use crate::registry::storage::Upload;
use crate::registry::{Error, Repository, Result};

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// end-4a: begins a session. end-4b: takes a whole blob. end-11: shows one of
/// another repository.
pub(super) async fn begin(call: &Call<'_>, request: Request) -> Answer {
    call.may(Action::Push)?;
    let query = query(request.uri());
    if let Some(digest) = query.get("mount")
        && let Some(response) = mount(call, digest, query.get("from")).await?
    {
        return Ok(response);
    }
    let digest = digest_in(&query)?;
    let length = length(request.headers());
    let storage = call.app.storage().clone();
    let repository = call.repository.clone();
    let mut upload = blocking(move || storage.begin_upload(&repository)).await?;
    let Some(digest) = digest else {
        return Ok(accepted(&call.repository, upload.id(), 0));
    };
    upload.will_be(digest.algorithm());
    fits(&upload, length)?;
    finish(call, upload, digest, length, request.into_body()).await
}

/// end-5: adds a chunk.
pub(super) async fn patch(call: &Call<'_>, id: &str, request: Request) -> Answer {
    call.may(Action::Push)?;
    let upload = call.app.storage().resume_upload(&call.repository, id)?;
    let stated = in_order(call, &upload, request.headers())?;
    fits(&upload, stated.or_else(|| length(request.headers())))?;
    let check = move |upload: Upload, came| {
        complete(stated, came)?;
        Ok(upload.size())
    };
    let size = receive(upload, request.into_body(), check).await?;
    Ok(accepted(&call.repository, id, size))
}

/// end-6: adds the last chunk, if any, and makes a blob of it.
pub(super) async fn put(call: &Call<'_>, id: &str, request: Request) -> Answer {
    call.may(Action::Push)?;
    let digest = digest_in(&query(request.uri()))?.ok_or_else(no_digest)?;
    let mut upload = call.app.storage().resume_upload(&call.repository, id)?;
    upload.will_be(digest.algorithm());
    let stated = in_order(call, &upload, request.headers())?;
    let stated = stated.or_else(|| length(request.headers()));
    fits(&upload, stated)?;
    finish(call, upload, digest, stated, request.into_body()).await
}

/// end-13: how far a session is.
pub(super) async fn progress_of(call: &Call<'_>, id: &str) -> Answer {
    call.may(Action::Push)?;
    let size = call.app.storage().upload_size(&call.repository, id)?;
    Ok(empty(
        StatusCode::NO_CONTENT,
        [
            (LOCATION, value(&location(&call.repository, id))),
            (RANGE, value(&progress(size))),
            (UPLOAD_ID, value(id)),
        ],
    ))
}

/// Gives a session up.
pub(super) async fn cancel(call: &Call<'_>, id: &str) -> Answer {
    call.may(Action::Push)?;
    let upload = call.app.storage().resume_upload(&call.repository, id)?;
    blocking(move || upload.cancel()).await?;
    Ok(empty(StatusCode::NO_CONTENT, []))
}

async fn mount(
    call: &Call<'_>,
    digest: &str,
    from: Option<&String>,
) -> Result<Option<Response>, Failure> {
    let digest: Digest = digest.parse().map_err(Failure::digest)?;
    // Without a source it is for the registry to know; ours asks who may pull.
    let Some(from) = from else {
        return Ok(None);
    };
    let from: Repository = from.parse()?;
    let auth = call.app.auth();
    if auth.allow(&call.who, Action::Pull, &from).is_err() {
        // Not a word on whether it is there.
        return Ok(None);
    }
    let storage = call.app.storage().clone();
    let (repository, wanted) = (call.repository.clone(), digest.clone());
    let mounted = blocking(move || storage.mount_blob(&repository, &wanted, &from)).await?;
    Ok(mounted.then(|| created(&call.repository, &digest)))
}

async fn finish(
    call: &Call<'_>,
    upload: Upload,
    digest: Digest,
    stated: Option<u64>,
    body: Body,
) -> Answer {
    let expected = digest.clone();
    let then = move |upload: Upload, came| {
        complete(stated, came)?;
        upload.finish(Some(&expected))
    };
    receive(upload, body, then).await?;
    Ok(created(&call.repository, &digest))
}

/// Bytes that a chunk says it has, after a look at where it begins.
fn in_order(call: &Call<'_>, upload: &Upload, headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let Some(header) = headers.get(CONTENT_RANGE) else {
        return Ok(None);
    };
    let range = header.to_str().ok().and_then(chunk);
    let expected = upload.size();
    let at = |failure: Failure| {
        failure
            .with(LOCATION, value(&location(&call.repository, upload.id())))
            .with(RANGE, value(&progress(expected)))
    };
    match range {
        Some((first, last)) if first == expected => {
            let stated = last - first + 1;
            match length(headers) {
                Some(got) if got != stated => Err(Error::ChunkSize { stated, got }.into()),
                _ => Ok(Some(stated)),
            }
        }
        Some((got, _)) => Err(at(Error::OutOfOrder { expected, got }.into())),
        None => Err(at(Failure::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            super::answer::Code::BlobUploadInvalid,
            "the Content-Range cannot be read: it must be <first>-<last>",
        ))),
    }
}

fn complete(stated: Option<u64>, came: u64) -> Result<()> {
    match stated {
        Some(stated) if stated != came => Err(Error::ChunkSize { stated, got: came }),
        _ => Ok(()),
    }
}

/// Refuses what cannot be kept before it is sent.
fn fits(upload: &Upload, length: Option<u64>) -> Result<(), Failure> {
    Ok(upload.announce(length.unwrap_or(0))?)
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn digest_in(query: &HashMap<String, String>) -> Result<Option<Digest>, Failure> {
    let digest = query.get("digest").map(|text| text.parse());
    digest.transpose().map_err(Failure::digest)
}

fn no_digest() -> Failure {
    Failure::new(
        StatusCode::BAD_REQUEST,
        super::answer::Code::DigestInvalid,
        "the query has no digest",
    )
}

/// Parameters of a query; of several with one name the first counts.
pub(super) fn query(uri: &Uri) -> HashMap<String, String> {
    let mut all = HashMap::new();
    for (name, value) in pairs(uri.query().unwrap_or("")) {
        all.entry(name).or_insert(value);
    }
    all
}

/// Parameters in their order.
pub(super) fn pairs(text: &str) -> impl Iterator<Item = (String, String)> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text)
            .decode_utf8_lossy()
            .into_owned()
    };
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(move |pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
}

fn location(repository: &Repository, id: &str) -> String {
    format!("/v2/{repository}/blobs/uploads/{id}")
}

fn accepted(repository: &Repository, id: &str, size: u64) -> Response {
    empty(
        StatusCode::ACCEPTED,
        [
            (LOCATION, value(&location(repository, id))),
            (RANGE, value(&progress(size))),
            (UPLOAD_ID, value(id)),
        ],
    )
}

fn created(repository: &Repository, digest: &Digest) -> Response {
    empty(
        StatusCode::CREATED,
        [
            (LOCATION, value(&format!("/v2/{repository}/blobs/{digest}"))),
            (DOCKER_DIGEST, value(digest.as_str())),
        ],
    )
}
