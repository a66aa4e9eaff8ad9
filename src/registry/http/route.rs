//! Paths of the API.

use percent_encoding::percent_decode_str;

use super::answer::Failure;
use crate::oci::Digest;
use crate::registry::{Reference, Repository};

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// `/v2/`.
    Base,
    /// `/v2/token`.
    Token,
    /// `/v2/_catalog`.
    Catalog,
    /// Something in a repository.
    In(Repository, Route),
}

/// Something in a repository.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `blobs/<digest>`.
    Blob(Digest),
    /// `blobs/uploads/`.
    Uploads,
    /// `blobs/uploads/<id>`.
    Upload(String),
    /// `manifests/<reference>`.
    Manifest(Reference),
    /// `tags/list`.
    Tags,
    /// `referrers/<digest>`.
    Referrers(Digest),
}

/// Reads a path. The last words decide, because words of a repository's name may
/// be any.
pub(super) fn parse(path: &str) -> Result<Target, Failure> {
    let path = percent_decode_str(path)
        .decode_utf8()
        .map_err(|_| Failure::not_found())?;
    let rest = match path.strip_prefix("/v2") {
        Some("" | "/") => return Ok(Target::Base),
        Some(rest) => rest.strip_prefix('/').ok_or_else(Failure::not_found)?,
        None => return Err(Failure::not_found()),
    };
    match rest {
        "token" => return Ok(Target::Token),
        "_catalog" => return Ok(Target::Catalog),
        _ => {}
    }
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return Ok(Target::In(name.parse()?, Route::Tags));
    }
    let uploads = rest.strip_suffix("/blobs/uploads/");
    if let Some(name) = uploads.or_else(|| rest.strip_suffix("/blobs/uploads")) {
        return Ok(Target::In(name.parse()?, Route::Uploads));
    }
    let (front, last) = rest.rsplit_once('/').ok_or_else(Failure::not_found)?;
    if let Some(name) = front.strip_suffix("/blobs/uploads") {
        return Ok(Target::In(name.parse()?, Route::Upload(last.to_owned())));
    }
    let (name, kind) = front.rsplit_once('/').ok_or_else(Failure::not_found)?;
    if !matches!(kind, "blobs" | "manifests" | "referrers") {
        return Err(Failure::not_found());
    }
    let repository: Repository = name.parse()?;
    let route = match kind {
        "blobs" => Route::Blob(last.parse().map_err(Failure::digest)?),
        "manifests" => Route::Manifest(last.parse()?),
        _ => Route::Referrers(last.parse().map_err(Failure::digest)?),
    };
    Ok(Target::In(repository, route))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(path: &str) -> (String, Route) {
        match parse(path) {
            Ok(Target::In(name, route)) => (name.to_string(), route),
            other => panic!("{path}: {:?}", other.ok()),
        }
    }

    #[test]
    fn names_may_have_any_words() {
        let digest = Digest::sha256(b"");
        for name in [
            "a",
            "a/b/c",
            "blobs",
            "a/tags/list",
            "a/manifests/blobs/uploads",
        ] {
            let wanted = |route| (name.to_owned(), route);
            assert_eq!(
                inside(&format!("/v2/{name}/tags/list")),
                wanted(Route::Tags)
            );
            assert_eq!(
                inside(&format!("/v2/{name}/blobs/uploads/")),
                wanted(Route::Uploads)
            );
            assert_eq!(
                inside(&format!("/v2/{name}/blobs/uploads/12ab")),
                wanted(Route::Upload("12ab".into()))
            );
            assert_eq!(
                inside(&format!("/v2/{name}/blobs/{digest}")),
                wanted(Route::Blob(digest.clone()))
            );
            assert_eq!(
                inside(&format!("/v2/{name}/manifests/v1.0")),
                wanted(Route::Manifest("v1.0".parse().unwrap()))
            );
            let encoded = digest.as_str().replace(':', "%3A");
            assert_eq!(
                inside(&format!("/v2/{name}/referrers/{encoded}")),
                wanted(Route::Referrers(digest.clone()))
            );
        }
    }

    #[test]
    fn the_rest() {
        assert_eq!(parse("/v2/").ok(), Some(Target::Base));
        assert_eq!(parse("/v2").ok(), Some(Target::Base));
        assert_eq!(parse("/v2/token").ok(), Some(Target::Token));
        assert_eq!(parse("/v2/_catalog").ok(), Some(Target::Catalog));
        for bad in [
            "/",
            "/v1/",
            "/v2x/a/tags/list",
            "/v2/a",
            "/v2/a/b",
            "/v2/A/tags/list",
            "/v2/a/blobs/sha256:1",
            "/v2/a/manifests/",
            "/v2/../a/tags/list",
            "/v2/a/%2e%2e/b/tags/list",
            "/v2/%ff/tags/list",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
