//! Certificates that a server makes for itself: a CA that clients are told
//! to trust, once, and below it one for the server, made anew when its names
//! change or its time runs out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::files::read_or_make;
use super::{Error, Result};
use crate::sys::beneath::{Root, join};

const HANDSHAKE: Duration = Duration::from_secs(10);
/// Name of the CA's certificate below the registry's directory; it is no secret.
pub const CA: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
/// Years that a CA is good for.
const CA_YEARS: i64 = 20;
/// Days that a server's certificate is good for: what clients accept at most.
const DAYS: u64 = 397;

/// Who the certificates are for.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// Directory of the CA, from the root.
    pub dir: &'a str,
    /// Name of the server, for people.
    pub title: &'a str,
    /// Further names and addresses of it.
    pub names: &'a [String],
    /// Where it listens.
    pub address: SocketAddr,
}

/// Speaks TLS as the configured names.
///
/// # Errors
/// The disk's, and keys or names that cannot be used.
pub fn acceptor(root: &Root, owner: Owner<'_>) -> Result<TlsAcceptor> {
    let key = read_or_make(root, &join(owner.dir, CA_KEY), || {
        let key = KeyPair::generate().map_err(unusable)?;
        Ok(key.serialize_pem().into_bytes())
    })?;
    let key = String::from_utf8(key).map_err(unusable)?;
    let ca_key = KeyPair::from_pem(&key).map_err(unusable)?;
    read_or_make(root, &join(owner.dir, CA), || {
        let certificate = ca_params(owner.title)?
            .self_signed(&ca_key)
            .map_err(unusable)?;
        Ok(certificate.pem().into_bytes())
    })?;
    // What the CA's certificate says of its issuer is its name and a hash of its
    // key, which are the same each time.
    let ca = ca_params(owner.title)?;
    let issuer = Issuer::from_params(&ca, &ca_key);
    // Made at each start: there is nothing to keep up to date.
    let own_key = KeyPair::generate().map_err(unusable)?;
    let certificate = server_params(owner)?
        .signed_by(&own_key, &issuer)
        .map_err(unusable)?;
    let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
    let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(unusable)?;
    // HTTP/2 would put large blobs into small frames with windows of their own.
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

/// None when the client gave up or made no sense.
pub async fn handshake(acceptor: &TlsAcceptor, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(e)) => {
            tracing::debug!("TLS handshake: {e}");
            None
        }
        Err(_) => None,
    }
}

fn ca_params(title: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::<String>::new()).map_err(unusable)?;
    params
        .distinguished_name
        .push(DnType::CommonName, format!("{title} CA"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let (year, month, day) = today(0);
    params.not_before = rcgen::date_time_ymd(year, month, day.min(28));
    let end = year + i32::try_from(CA_YEARS).unwrap_or(20);
    params.not_after = rcgen::date_time_ymd(end, month, day.min(28));
    Ok(params)
}

fn server_params(owner: Owner<'_>) -> Result<CertificateParams> {
    let mut names: Vec<String> = vec!["localhost".into(), "127.0.0.1".into(), "::1".into()];
    let ip = owner.address.ip();
    if ip.is_unspecified() {
        names.extend(own_addresses());
        names.extend(host_name());
    } else {
        names.push(ip.to_string());
    }
    names.extend(owner.names.iter().cloned());
    names.sort();
    names.dedup();
    let mut params = CertificateParams::new(names).map_err(unusable)?;
    params
        .distinguished_name
        .push(DnType::CommonName, owner.title);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let (year, month, day) = today(0);
    params.not_before = rcgen::date_time_ymd(year, month, day);
    let (year, month, day) = today(DAYS);
    params.not_after = rcgen::date_time_ymd(year, month, day);
    Ok(params)
}

/// Addresses of this host's interfaces.
fn own_addresses() -> Vec<String> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    all.filter_map(|interface| {
        let address = interface.address?;
        if let Some(v4) = address.as_sockaddr_in() {
            return Some(IpAddr::V4(v4.ip()).to_string());
        }
        let v6 = address.as_sockaddr_in6()?.ip();
        // Addresses that need an interface's name go into no certificate.
        (!v6.is_unicast_link_local()).then(|| v6.to_string())
    })
    .collect()
}

fn host_name() -> Option<String> {
    rustix::system::uname()
        .nodename()
        .to_str()
        .ok()
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
}

/// Year, month and day, so many days from now, in UTC. Yesterday for none: a
/// client's clock may be behind.
fn today(days: u64) -> (i32, u8, u8) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = now.map_or(0, |d| d.as_secs()) + days * 86_400;
    let seconds = i64::try_from(seconds).unwrap_or(0) - 86_400;
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    let date = time.to_zoned(jiff::tz::TimeZone::UTC).date();
    // Months and days are positive and small.
    let small = |n: i8| u8::try_from(n).unwrap_or(1);
    (date.year().into(), small(date.month()), small(date.day()))
}

fn unusable(e: impl std::fmt::Display) -> Error {
    Error::Setup {
        what: "TLS certificate".to_owned(),
        why: e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ca_stays_and_its_key_is_kept_close() {
        use std::os::unix::fs::MetadataExt;

        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(&dir.path().join("r")).unwrap();
        let owner = Owner {
            dir: "auth",
            title: "kukeon registry",
            names: &["registry.example".into()],
            address: "0.0.0.0:1".parse().unwrap(),
        };
        acceptor(&root, owner).unwrap();
        let auth = dir.path().join("r/auth");
        let first = std::fs::read(auth.join(CA)).unwrap();
        acceptor(&root, owner).unwrap();
        assert_eq!(first, std::fs::read(auth.join(CA)).unwrap());
        let mode = auth.join(CA_KEY).metadata().unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(auth.join(CA_KEY), "x").unwrap();
        assert!(acceptor(&root, owner).is_err());
    }

    #[test]
    fn dates_go_on() {
        assert!(today(0) < today(DAYS));
    }
}
