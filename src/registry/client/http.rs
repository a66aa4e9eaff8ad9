//! HTTP clients, and what answers say.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response, redirect};
use serde::Deserialize;

/// Longest time to reach a server.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest silence in the middle of an answer.
const SILENCE: Duration = Duration::from_secs(60);
/// Where operators put certificates of private registries, by host.
const CERTIFICATES: [&str; 2] = ["/etc/containerd/certs.d", "/etc/docker/certs.d"];

/// An HTTP client; for TLS with the system's and the operator's certificates,
/// and those of `ca` (PEM).
pub(crate) fn client(https: bool, server: &str, ca: &str) -> Result<Client, String> {
    // Whoever was first has set it: it is the same everywhere in the program.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("kukeon/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .redirect(redirect::Policy::custom(redirected));
    if https {
        for path in certificates(server) {
            let named = |e: &dyn fmt::Display| format!("{}: {e}", path.display());
            let pem = std::fs::read(&path).map_err(|e| named(&e))?;
            let extra = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| named(&e))?;
            builder = builder.tls_certs_merge(extra);
        }
        if !ca.is_empty() {
            let extra = reqwest::Certificate::from_pem_bundle(ca.as_bytes());
            let extra = extra.map_err(|e| format!("certificate: {e}"))?;
            builder = builder.tls_certs_merge(extra);
        }
    } else {
        // Without this the system's certificates are read, and must be there.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|e| chain(&e))
}

/// Follows redirects, but not from TLS to plain HTTP on another machine.
fn redirected(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let secure = attempt.url().scheme() == "https";
    let local = attempt.url().host_str().is_some_and(is_loopback);
    if attempt.previous().len() > 10 {
        attempt.error("too many redirects")
    } else if secure || local {
        attempt.follow()
    } else {
        attempt.error("redirected to plain HTTP")
    }
}

/// The operator's certificates for a host.
pub(crate) fn certificates(server: &str) -> Vec<std::path::PathBuf> {
    let found = CERTIFICATES.map(|dir| Path::new(dir).join(server).join("ca.crt"));
    found.into_iter().filter(|p| p.is_file()).collect()
}

/// Whether a host, with or without port, is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[');
    if let Some((address, _)) = bare.split_once(']') {
        return address == "::1";
    }
    let name = host.split(':').next().unwrap_or_default();
    name == "localhost"
        || name
            .parse::<std::net::Ipv4Addr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// The first byte of `bytes first-last/size`.
pub(crate) fn range_start(value: &str) -> Option<u64> {
    let range = value.strip_prefix("bytes ")?;
    range.split('-').next()?.trim().parse().ok()
}

/// How long an answer asks to wait; half a minute at most.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds.min(30)))
}

/// What a registry says about a refusal (distribution spec, "Error codes").
pub(crate) async fn message(mut response: Response) -> String {
    #[derive(Deserialize)]
    struct Envelope {
        errors: Vec<Said>,
    }
    #[derive(Deserialize)]
    struct Said {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }

    let mut body = vec![];
    while body.len() < 4096 {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            _ => break,
        }
    }
    if let Ok(envelope) = serde_json::from_slice::<Envelope>(&body) {
        let said = envelope.errors.iter().map(|e| match e.message.as_str() {
            "" => e.code.clone(),
            message => message.to_owned(),
        });
        return said.collect::<Vec<_>>().join("; ");
    }
    let text: String = String::from_utf8_lossy(&body).chars().take(200).collect();
    let clean = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // An HTML page says nothing in one line.
    if clean.starts_with('<') {
        String::new()
    } else {
        clean
    }
}

/// An error with its causes, the last of which tells most. What only says that
/// a request failed is left out: whoever reads it knows.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    const EMPTY: [&str; 2] = ["error sending request", "client error"];

    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut parts: Vec<String> = vec![];
    for part in causes.map(ToString::to_string) {
        if !parts.last().is_some_and(|last| last.contains(&part)) {
            parts.push(part);
        }
    }
    let last = parts.pop().unwrap_or_default();
    parts.retain(|part| !EMPTY.iter().any(|e| part.starts_with(e)) && !part.contains(&last));
    parts.push(last);
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for host in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "127.1.2.3",
            "[::1]:5000",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "localhost.example.com",
            "128.0.0.1",
            "127.example.com",
            "[::2]",
            "",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn causes_are_told_once_and_without_filler() {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Layer(&'static str, #[source] Option<Box<Layer>>);

        let end = Layer("connection refused", None);
        let middle = Layer("tcp connect error", Some(Box::new(end)));
        let client = Layer("client error (Connect)", Some(Box::new(middle)));
        let top = Layer("error sending request for url (x)", Some(Box::new(client)));
        assert_eq!(chain(&top), "tcp connect error: connection refused");
        let alone = Layer("error sending request", None);
        assert_eq!(chain(&alone), "error sending request");
    }

    #[test]
    fn ranges() {
        assert_eq!(range_start("bytes 10-19/20"), Some(10));
        assert_eq!(range_start("bytes */20"), None);
        assert_eq!(range_start("items 1-2/3"), None);
    }
}
