//! Image references: `[host[:port]/]path[:tag][@digest]`.
//!
//! The grammar is that of the distribution project's reference package; the
//! short forms are Docker's: without a host it is `docker.io`, a single name
//! there is below `library/`, and without tag and digest it is `latest`.
//!
//! Parsed by hand: the usual regular expression takes tens of milliseconds to
//! compile, which the client would pay at every start.

use std::fmt;

use crate::oci::grammar::{MAX_NAME, check_path, check_tag};
use crate::registry::client::Location;
use crate::runtime::{Error, Result};

/// A normalised reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Registry host with port.
    pub(crate) host: String,
    /// Repository.
    pub(crate) path: String,
    /// Tag.
    pub(crate) tag: Option<String>,
    /// Digest.
    pub(crate) digest: Option<String>,
}

/// Normalises a reference: `nginx` is `docker.io/library/nginx:latest`.
///
/// # Errors
/// [`Error::BadReference`] says what is wrong with it.
pub fn normalise(reference: &str) -> Result<String> {
    Ok(Reference::parse(reference)?.to_string())
}

/// Whether an image is built in or local and must never be pulled.
pub fn is_internal(reference: &str) -> bool {
    reference.starts_with("kukeon.internal/")
}

impl Reference {
    /// Reads and normalises a reference.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::BadReference(text.to_owned(), why.to_owned());
        if text.is_empty() {
            return Err(bad("it is empty"));
        }
        let (name, digest) = match text.split_once('@') {
            None => (text, None),
            Some((name, digest)) => (name, Some(check_digest(digest).map_err(bad)?)),
        };
        // A colon after the last slash begins a tag; one before it, a port.
        let from = name.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match name[from..].find(':') {
            None => (name, None),
            Some(at) => {
                let tag = &name[from + at + 1..];
                check_tag(tag).map_err(bad)?;
                (&name[..from + at], Some(tag.to_owned()))
            }
        };
        let (host, path) = split_host(name);
        if let Some(host) = host {
            check_host(host).map_err(bad)?;
        }
        check_path(path).map_err(bad)?;
        let host = match host {
            None | Some("index.docker.io") => "docker.io",
            Some(host) => host,
        };
        let path = if host == "docker.io" && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        if path.len() > MAX_NAME {
            return Err(bad("the repository is longer than 255 characters"));
        }
        let tag = match (tag, &digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag,
        };
        Ok(Self {
            host: host.to_owned(),
            path,
            tag,
            digest: digest.map(str::to_owned),
        })
    }

    /// What a registry is asked for: the digest where there is one.
    pub(crate) fn object(&self) -> &str {
        self.digest
            .as_deref()
            .or(self.tag.as_deref())
            // Parsing sets one of the two.
            .unwrap_or("latest")
    }

    /// Where its registry is.
    pub(crate) fn location(&self) -> Location {
        Location {
            host: self.host.clone(),
            repository: self.path.clone(),
            shown: self.to_string(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// The first component is a host when it looks like one.
fn split_host(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) => {
            (Some(first), rest)
        }
        _ => (None, name),
    }
}

fn check_host(host: &str) -> Result<(), &'static str> {
    let (name, port) = match host.split_once(':') {
        None => (host, None),
        Some((name, port)) => (name, Some(port)),
    };
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    if !name.split('.').all(label) {
        return Err("the registry host is malformed");
    }
    match port {
        Some(p) if p.is_empty() || !p.bytes().all(|b| b.is_ascii_digit()) => {
            Err("the registry port is not a number")
        }
        _ => Ok(()),
    }
}

fn check_digest(digest: &str) -> Result<&str, &'static str> {
    let (algorithm, hex) = digest
        .split_once(':')
        .ok_or("the digest has no algorithm")?;
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err("the digest's algorithm is not known"),
    };
    if hex.len() != length {
        return Err("the digest has the wrong length");
    }
    if hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(digest)
    } else {
        Err("the digest is not hexadecimal")
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::distribution::Reference as Oracle;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_names_grow() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (short, long) in [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("nginx:1.27", "docker.io/library/nginx:1.27".to_owned()),
            ("a/b", "docker.io/a/b:latest".to_owned()),
            ("index.docker.io/a", "docker.io/library/a:latest".to_owned()),
            ("localhost/x", "localhost/x:latest".to_owned()),
            ("localhost:5000/x", "localhost:5000/x:latest".to_owned()),
            ("127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c".to_owned()),
            ("ghcr.io/a/b", "ghcr.io/a/b:latest".to_owned()),
            (
                "kukeon.internal/hello",
                "kukeon.internal/hello:latest".to_owned(),
            ),
            (
                &format!("x@{digest}"),
                format!("docker.io/library/x@{digest}"),
            ),
            (
                &format!("x:1@{digest}"),
                format!("docker.io/library/x:1@{digest}"),
            ),
        ] {
            assert_eq!(normalise(short).unwrap(), long);
            assert_eq!(normalise(&long).unwrap(), long, "not a fixed point");
        }
    }

    #[test]
    fn malformed_ones_are_refused() {
        for text in [
            "",
            ":tag",
            "/x",
            "x/",
            "X",
            "a//b",
            "a:",
            "a:b:c",
            "a@sha256:1",
            "a@md5:1",
            "-a",
            "a-",
            "a___b",
            "a..b",
            "ho_st.io/x",
            "0.0_a/a",
            "host.io:port/x",
            "host.io:/x",
            "a b",
            "a\n",
            "é",
            "../x",
            "x:..",
            "localhost:5000",
        ] {
            // `localhost:5000` alone is the tag 5000 of docker.io/library/localhost.
            let fine = text == "localhost:5000";
            assert_eq!(normalise(text).is_ok(), fine, "{text:?}");
        }
        let long = "a".repeat(256);
        assert!(normalise(&format!("host.io/{long}")).is_err());
        assert!(normalise(&format!("a:{}", "t".repeat(129))).is_err());
    }

    #[test]
    fn docker_hub_is_served_elsewhere() {
        assert_eq!(
            Reference::parse("a").unwrap().location().server(),
            "registry-1.docker.io"
        );
        assert_eq!(
            Reference::parse("h.io/a").unwrap().location().server(),
            "h.io"
        );
    }

    fn agrees(text: &str) {
        match (Reference::parse(text), Oracle::try_from(text)) {
            (Ok(ours), Ok(theirs)) => {
                assert_eq!(ours.host, theirs.registry(), "{text:?}");
                assert_eq!(ours.path, theirs.repository(), "{text:?}");
                assert_eq!(ours.tag.as_deref(), theirs.tag(), "{text:?}");
                assert_eq!(ours.digest.as_deref(), theirs.digest(), "{text:?}");
            }
            (Err(_), Err(_)) => {}
            // The oracle splits the host off by other rules than its own
            // expression. So it lets a repository in capitals through (`Z/a`),
            // which the distribution spec does not allow, and a host with a `_`
            // (`a.b_c/d`), which is in no name of a host (RFC 1123, section 2.1).
            (Err(_), Ok(theirs))
                if theirs.repository().contains(char::is_uppercase)
                    || theirs.registry().contains('_') => {}
            (ours, theirs) => panic!("{text:?}: {ours:?} but {theirs:?}"),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_regular_expression_on_noise(text in "[aZ0._:/@-]{0,14}") {
            agrees(&text);
        }

        #[test]
        fn agrees_on_likely_ones(
            host in "(|localhost/|localhost:50/|[a-z]{1,3}[.][a-z-]{1,3}(:[0-9]{0,3})?/)",
            path in "[a-z0-9]{1,3}([._-]{0,3}[a-z0-9]{1,2}){0,2}(/[a-z_]{1,3}){0,2}",
            tag in "(|:[a-zA-Z0-9_.-]{0,5})",
            digest in "(|@sha256:[0-9a-f]{64}|@sha512:[0-9A-F]{128}|@sha256:[0-9a-f]{32,40})",
        ) {
            agrees(&format!("{host}{path}{tag}{digest}"));
        }

        #[test]
        fn never_panics(text in "\\PC{0,40}") {
            let _ = normalise(&text);
        }
    }
}
