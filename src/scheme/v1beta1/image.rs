//! Grammar of image references, checked before anything is asked of a registry.
//!
//! `[host[:port]/]path[:tag][@digest]` as in the OCI distribution spec
//! ("Pulling manifests") and the reference grammar that registries share.

use super::super::check::Check;

/// Notes a problem if `image` is not a reference.
pub(super) fn check_image(check: &mut Check, path: &str, image: &str) {
    if image.is_empty() {
        check.bad(path, "MissingField", "is required").suggestion =
            "add an image reference, for example docker.io/library/nginx:1.27".to_owned();
    } else if let Err(why) = grammar(image) {
        let lower = image.to_lowercase();
        let problem = check.bad(
            path,
            "BadImage",
            format!("{image:?} is not an image reference: {why}"),
        );
        if grammar(&lower).is_ok() {
            problem.suggestion = format!("did you mean {lower:?}?");
        }
    }
}

fn grammar(image: &str) -> Result<(), &'static str> {
    if image.len() > 512 {
        return Err("it is longer than 512 bytes");
    }
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    if let Some(digest) = digest {
        check_digest(digest)?;
    }
    let slash = name.rfind('/').map_or(0, |i| i + 1);
    let (name, tag) = match name[slash..].find(':') {
        Some(colon) => (&name[..slash + colon], Some(&name[slash + colon + 1..])),
        None => (name, None),
    };
    if let Some(tag) = tag {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let good = tag.bytes().next().is_some_and(word)
            && tag.len() <= 128
            && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
        if !good {
            return Err("the tag is not one");
        }
    }
    let (host, repository) = match name.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => {
            (Some(host), rest)
        }
        _ => (None, name),
    };
    if let Some(host) = host {
        check_host(host)?;
    }
    if name.bytes().any(|b| b.is_ascii_uppercase()) && host.is_none() {
        return Err("the repository must be lower case");
    }
    if !repository.split('/').all(component) {
        return Err("the repository is not one");
    }
    Ok(())
}

fn check_host(host: &str) -> Result<(), &'static str> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(':') => (name, Some(port)),
        _ => (host, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err("the port is not one");
    }
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    if !name.split('.').all(label) {
        return Err("the registry host is not one");
    }
    Ok(())
}

/// `sha256:` and 64 hexadecimal digits, or `sha512:` and 128.
fn check_digest(digest: &str) -> Result<(), &'static str> {
    let hex = |text: &str, n: usize| {
        text.len() == n && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    match digest.split_once(':') {
        Some(("sha256", text)) if hex(text, 64) => Ok(()),
        Some(("sha512", text)) if hex(text, 128) => Ok(()),
        _ => Err("the digest is not one"),
    }
}

/// Lower-case letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let joints = text.split(|c: char| c.is_ascii() && word(c as u8));
    let ends = text.bytes().next().is_some_and(word) && text.bytes().last().is_some_and(word);
    ends && joints
        .into_iter()
        .all(|j| matches!(j, "" | "." | "_" | "__") || j.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_references() {
        let digest = format!("app@sha256:{}", "a".repeat(64));
        for good in [
            "nginx",
            "nginx:1.27",
            "docker.io/library/nginx:1.27",
            "localhost:5000/a/b:x_y.z-1",
            "localhost/a",
            "kukeon.internal/hello",
            "127.0.0.1:5000/app",
            "a__b/c--d",
            digest.as_str(),
            "Registry.example.org/a",
        ] {
            assert_eq!(grammar(good), Ok(()), "{good}");
        }
        for bad in [
            "Nginx",
            "a b",
            "a:",
            "a:b:c",
            "/a",
            "a/",
            "a//b",
            "a@sha256:1",
            "a___b",
            "-a",
            "a-",
            "https://a.b/c",
            "localhost:x/a",
            "a\n",
            "ä",
            "a:-x",
            "..",
            "a/../b",
        ] {
            assert!(grammar(bad).is_err(), "{bad:?}");
        }
    }

    /// Nothing that is accepted here is refused later by the parser of the pull.
    #[test]
    fn what_is_accepted_the_reference_parser_takes() {
        use proptest::prelude::*;
        use proptest::test_runner::TestRunner;
        let text =
            "[a-zA-Z0-9./:@_-]{1,24}|[a-z0-9._-]{1,8}(/[a-z0-9._-]{1,8}){0,2}(:[a-z0-9._-]{1,6})?";
        TestRunner::default()
            .run(&text, |image| {
                if grammar(&image).is_ok() {
                    prop_assert!(
                        image.parse::<oci_spec::distribution::Reference>().is_ok(),
                        "{}",
                        image
                    );
                }
                Ok(())
            })
            .unwrap();
    }
}
