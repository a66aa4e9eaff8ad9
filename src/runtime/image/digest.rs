//! Content digests: `sha256:` and 64 lower-case hexadecimal digits.

use crate::oci;
use crate::runtime::{Error, Result};

/// A running SHA-256.
#[derive(Default)]
pub(crate) struct Hasher(oci::Hasher);

impl Hasher {
    /// Takes further bytes in.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes.
    pub(crate) fn finish(self) -> String {
        self.0.finish().to_string()
    }
}

/// Digest of some bytes.
pub(crate) fn of(bytes: &[u8]) -> String {
    oci::Digest::sha256(bytes).to_string()
}

/// Whether this is a digest that containerd's content store can hold: it
/// checks blobs by SHA-256 only.
pub(crate) fn is_valid(digest: &str) -> bool {
    digest
        .parse::<oci::Digest>()
        .is_ok_and(|digest| digest.algorithm() == oci::Algorithm::Sha256)
}

/// Short form for progress lines: the first twelve digits.
pub(crate) fn short(digest: &str) -> String {
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    hex.chars().take(12).collect()
}

/// Compares what came with what was promised.
pub(crate) fn expect(what: &str, expected: &str, bytes: &[u8]) -> Result<()> {
    let got = of(bytes);
    if got == expected {
        return Ok(());
    }
    Err(Error::Digest {
        what: what.to_owned(),
        expected: expected.to_owned(),
        got,
    })
}

/// Chain ids of a stack of layers, the lowest first (OCI image spec, config,
/// "Layer ChainID"). The last one names the snapshot of the whole image.
pub(crate) fn chain_ids(diff_ids: &[String]) -> Vec<String> {
    let mut chain: Vec<String> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let id = match chain.last() {
            None => diff_id.clone(),
            Some(parent) => of(format!("{parent} {diff_id}").as_bytes()),
        };
        chain.push(id);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_of_the_empty_string() {
        assert_eq!(
            of(b""),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let mut hasher = Hasher::default();
        hasher.update(b"a");
        hasher.update(b"bc");
        assert_eq!(hasher.finish(), of(b"abc"));
    }

    #[test]
    fn only_full_lower_case_sha256_is_valid() {
        assert!(is_valid(&of(b"x")));
        assert!(!is_valid(&of(b"x").to_uppercase()));
        assert!(!is_valid("sha256:abc"));
        assert!(!is_valid(&format!("sha512:{}", "0".repeat(128))));
        assert!(!is_valid(&format!("sha256:{}", "/".repeat(64))));
    }

    #[test]
    fn chain_ids_build_on_their_parents() {
        let a = of(b"a");
        let b = of(b"b");
        let chain = chain_ids(&[a.clone(), b.clone()]);
        assert_eq!(chain[0], a);
        assert_eq!(chain[1], of(format!("{a} {b}").as_bytes()));
        assert!(chain_ids(&[]).is_empty());
    }
}
