//! Settings of one registry.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Largest manifest that is accepted, in bytes. The distribution spec asks for
/// at least 4 MiB.
pub const MANIFEST_LIMIT: u64 = 4 << 20;

/// Settings of one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where TCP clients connect. Port 0 takes a free one. Default `127.0.0.1:5050`.
    pub listen: SocketAddr,
    /// Unix socket whose peers are known by their uid: root and the daemon's own
    /// user may do everything a user may. None, the default, is no such socket.
    pub socket: Option<PathBuf>,
    /// Whether TCP clients speak HTTP or TLS.
    pub scheme: Scheme,
    /// Further names and addresses that the generated certificate is for.
    pub names: Vec<String>,
    /// Whether clients without credentials may pull. Default no.
    pub anonymous_pull: bool,
    /// Bytes of content that may be held; none, the default, is no limit. Above
    /// it uploads are refused; nothing is ever deleted for it.
    pub quota: Option<u64>,
    /// Bytes that uploads must leave free on the file system. Default 1 GiB.
    pub min_free: u64,
    /// Requests per second and peer address; none, the default, is no limit.
    /// Failed logins are always limited.
    pub requests_per_second: Option<u32>,
    /// Connections at a time; more of them wait. Default 512.
    pub connections: usize,
}

/// How TCP clients connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scheme {
    /// Plain HTTP on a loopback address, TLS with a generated certificate elsewhere.
    #[default]
    Auto,
    /// TLS on every address.
    Tls,
    /// Plain HTTP on every address: passwords and content can be read on the way.
    Plain,
}

impl Config {
    /// Where clients connect unless it is said otherwise.
    pub const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5050);
    /// What uploads leave free unless it is said otherwise, in bytes.
    pub const MIN_FREE: u64 = 1 << 30;

    /// Whether TCP clients have to speak TLS.
    pub fn uses_tls(&self) -> bool {
        match self.scheme {
            Scheme::Auto => !self.listen.ip().is_loopback(),
            Scheme::Tls => true,
            Scheme::Plain => false,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Self::LISTEN,
            socket: None,
            scheme: Scheme::default(),
            names: Vec::new(),
            anonymous_pull: false,
            quota: None,
            min_free: Self::MIN_FREE,
            requests_per_second: None,
            connections: 512,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_leaves_the_machine_only_when_asked_to() {
        let at = |listen: &str, scheme| {
            Config {
                listen: listen.parse().unwrap(),
                scheme,
                ..Config::default()
            }
            .uses_tls()
        };
        assert!(!at("127.0.0.1:5050", Scheme::Auto));
        assert!(!at("[::1]:5050", Scheme::Auto));
        assert!(at("0.0.0.0:5050", Scheme::Auto));
        assert!(at("192.0.2.1:5050", Scheme::Auto));
        assert!(at("127.0.0.1:5050", Scheme::Tls));
        assert!(!at("0.0.0.0:5050", Scheme::Plain));
    }
}
