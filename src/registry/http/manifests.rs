//! Manifests, tags, referrers and the catalog: end-3, 7, 8, 9, 12.

use std::collections::HashMap;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LINK, LOCATION};
use http::{HeaderMap, StatusCode, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::answer::{Answer, Code, DOCKER_DIGEST, Failure, empty, plain, value, with_headers};
use super::blobs::is_known;
use super::uploads::query;
use super::{App, Call, blocking, body};
use crate::oci::Digest;
use crate::registry::auth::{Action, Identity, Refusal};
use crate::registry::storage::INDEX_TYPE;
use crate::registry::{Error, MANIFEST_LIMIT, Policy, Reference};

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
/// Entries of a page, where the client does not say.
const PAGE: usize = 1000;
/// Entries of a page of referrers: their annotations may be long.
const REFERRERS_PAGE: usize = 100;

/// end-3.
pub(super) async fn get(call: &Call<'_>, reference: &Reference, headers: &HeaderMap) -> Answer {
    call.may(Action::Pull)?;
    // From memory or one short read: not worth another thread.
    let manifest = call
        .app
        .storage()
        .get_manifest(&call.repository, reference)?;
    let etag = value(&format!("\"{}\"", manifest.digest));
    if is_known(headers, &etag) {
        return Ok(empty(StatusCode::NOT_MODIFIED, [(ETAG, etag)]));
    }
    let length = manifest.bytes.len();
    // The server sends no body where it was asked with HEAD.
    Ok(with_headers(
        StatusCode::OK,
        Body::from(manifest.bytes),
        [
            (CONTENT_TYPE, value(&manifest.media_type)),
            (CONTENT_LENGTH, length.into()),
            (DOCKER_DIGEST, value(manifest.digest.as_str())),
            (ETAG, etag),
        ],
    ))
}

/// end-7.
pub(super) async fn put(call: &Call<'_>, reference: &Reference, request: Request) -> Answer {
    call.may(Action::Push)?;
    let content_type = match request.headers().get(CONTENT_TYPE) {
        None => None,
        Some(header) => Some(header.to_str().map(str::to_owned).map_err(|_| {
            let message = "the Content-Type cannot be read";
            Failure::new(StatusCode::BAD_REQUEST, Code::ManifestInvalid, message)
        })?),
    };
    let too_large = || Error::ManifestTooLarge {
        limit: MANIFEST_LIMIT,
    };
    let bytes = body::whole(request.into_body(), MANIFEST_LIMIT).await?;
    let bytes = bytes.ok_or_else(too_large)?;
    let storage = call.app.storage().clone();
    let (repository, to) = (call.repository.clone(), reference.clone());
    let stored = blocking(move || {
        let kind = content_type.as_deref();
        storage.put_manifest(&repository, Some(&to), kind, &bytes, Policy::Enforce)
    })
    .await?;
    let location = format!("/v2/{}/manifests/{}", call.repository, stored.digest);
    let mut response = empty(
        StatusCode::CREATED,
        [
            (LOCATION, value(&location)),
            (DOCKER_DIGEST, value(stored.digest.as_str())),
        ],
    );
    if let Some(subject) = stored.subject {
        let headers = response.headers_mut();
        headers.insert(OCI_SUBJECT, value(subject.as_str()));
    }
    Ok(response)
}

/// end-9.
pub(super) async fn delete(call: &Call<'_>, reference: &Reference) -> Answer {
    if call.repository.holds_preparations() {
        // Said of what is there, to those who may know; others hear that they
        // may not delete.
        call.may(Action::Pull)?;
        let storage = call.app.storage();
        let digest = storage.resolve(&call.repository, reference)?;
        let repository = call.repository.clone();
        return Err(Error::ImmutableArtifact { repository, digest }.into());
    }
    call.may(Action::Delete)?;
    let storage = call.app.storage().clone();
    let (repository, reference) = (call.repository.clone(), reference.clone());
    blocking(move || storage.delete_manifest(&repository, &reference, Policy::Enforce)).await?;
    Ok(empty(StatusCode::ACCEPTED, []))
}

/// end-8.
pub(super) async fn tags(call: &Call<'_>, uri: &Uri) -> Answer {
    call.may(Action::Pull)?;
    let storage = call.app.storage().clone();
    let repository = call.repository.clone();
    let tags = blocking(move || storage.tags(&repository)).await?;
    let tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
    let path = format!("/v2/{}/tags/list", call.repository);
    paged(
        &tags,
        uri,
        &path,
        |page| json!({"name": call.repository.as_str(), "tags": page}),
    )
}

/// Repositories that the asker may pull from.
pub(super) async fn catalog(app: &App, who: &Identity, uri: &Uri) -> Answer {
    if *who == Identity::Anonymous {
        let refusal = Refusal::Unauthorized("credentials are needed");
        return Err(Failure::refused(refusal).scope("registry:catalog:*".to_owned()));
    }
    let storage = app.storage().clone();
    let all = blocking(move || storage.repositories()).await?;
    let seen: Vec<String> = all
        .iter()
        .filter(|repository| app.auth().sees(who, repository))
        .map(ToString::to_string)
        .collect();
    paged(
        &seen,
        uri,
        "/v2/_catalog",
        |page| json!({ "repositories": page }),
    )
}

/// end-12.
pub(super) async fn referrers(call: &Call<'_>, subject: &Digest, uri: &Uri) -> Answer {
    call.may(Action::Pull)?;
    let query = query(uri);
    let filter = query.get("artifactType").filter(|t| !t.is_empty()).cloned();
    let storage = call.app.storage().clone();
    let (repository, of, kind) = (call.repository.clone(), subject.clone(), filter.clone());
    let all = blocking(move || storage.referrers(&repository, &of, kind.as_deref())).await?;
    let limit = number(&query, "n")?.unwrap_or(REFERRERS_PAGE).max(1);
    let last = query.get("last");
    let mut rest = all
        .into_iter()
        .filter(|d| last.is_none_or(|last| d.digest > *last));
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let more = rest.next().is_some();
    let next = page.last().filter(|_| more).map(|last| {
        let mut path = format!(
            "/v2/{}/referrers/{subject}?n={limit}&last={}",
            call.repository, last.digest
        );
        if let Some(filter) = &filter {
            path.push_str("&artifactType=");
            path.push_str(&encoded(filter));
        }
        path
    });
    let index = json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": page});
    let mut response = plain(StatusCode::OK, index.to_string());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(INDEX_TYPE));
    if filter.is_some() {
        headers.insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    if let Some(next) = next {
        headers.insert(LINK, link(&next));
    }
    Ok(response)
}

/// One page of a sorted list. `n` is its length, `last` the entry before it.
fn paged(
    all: &[String],
    uri: &Uri,
    path: &str,
    shape: impl FnOnce(&[String]) -> serde_json::Value,
) -> Result<Response, Failure> {
    let query = query(uri);
    let n = number(&query, "n")?;
    let limit = n.unwrap_or(if query.contains_key("last") {
        PAGE
    } else {
        usize::MAX
    });
    let start = match query.get("last") {
        Some(last) => all.partition_point(|entry| entry <= last),
        None => 0,
    };
    let rest = &all[start..];
    let page = &rest[..rest.len().min(limit)];
    let mut response = plain(StatusCode::OK, shape(page).to_string());
    if let Some(last) = page.last()
        && page.len() < rest.len()
    {
        let next = format!("{path}?n={limit}&last={}", encoded(last));
        response.headers_mut().insert(LINK, link(&next));
    }
    Ok(response)
}

fn number(query: &HashMap<String, String>, name: &str) -> Result<Option<usize>, Failure> {
    let Some(text) = query.get(name) else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| {
        let message = format!("{name} is no number");
        Failure::new(StatusCode::BAD_REQUEST, Code::Unsupported, message)
    })
}

/// RFC 8288.
fn link(path: &str) -> HeaderValue {
    value(&format!("<{path}>; rel=\"next\""))
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
