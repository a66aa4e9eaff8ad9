//! Signatures of artifacts that were made with a key pair, in the forms of
//! cosign: simple signing (cosign's `SIGNATURE_SPEC.md`) and Sigstore bundles
//! 0.3 with a DSSE envelope. Certificates and transparency logs, which take
//! somebody else's servers, are not looked at.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use serde::Deserialize;
use serde_json::Value;
use webpki::RawPublicKeyEntity;
use webpki::ring::{
    ECDSA_P256_SHA256, ECDSA_P384_SHA256, ECDSA_P384_SHA384, ED25519, RSA_PKCS1_2048_8192_SHA256,
};

use super::Digest;

/// Type of the artifact that carries a simple signature.
pub const SIMPLE_TYPE: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
/// Type of the layer with what a simple signature signs.
pub const SIMPLE_LAYER: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Annotation of such a layer: the signature, in Base64.
pub const SIMPLE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";
/// Type of a Sigstore bundle, as artifact and as layer.
pub const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

const SIMPLE_SIGNED: &str = "cosign container image signature";
const STATEMENT: &str = "application/vnd.in-toto+json";
/// Other predicates say something about an artifact, and do not vouch for it.
const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";
/// One of them fits a key.
const ALGORITHMS: [&dyn SignatureVerificationAlgorithm; 5] = [
    ECDSA_P256_SHA256,
    ECDSA_P384_SHA256,
    ECDSA_P384_SHA384,
    ED25519,
    RSA_PKCS1_2048_8192_SHA256,
];
/// The same for signing.
const SCHEMES: [SignatureScheme; 4] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PKCS1_SHA256,
];
const SHOWN: usize = 12;

/// What is signed of an artifact, in the simple form.
pub fn payload(reference: &str, artifact: &Digest) -> Vec<u8> {
    let said = serde_json::json!({
        "critical": {
            "identity": {"docker-reference": reference},
            "image": {"docker-manifest-digest": artifact.to_string()},
            "type": SIMPLE_SIGNED,
        },
        "optional": null,
    });
    said.to_string().into_bytes()
}

/// Signs with a private key in PEM (PKCS #8, SEC 1 or PKCS #1, not encrypted):
/// ECDSA with P-256 or P-384, Ed25519, or RSA. Gives the signature in Base64.
///
/// # Errors
/// What is wrong with the key, in words.
pub fn sign(private_key: &[u8], message: &[u8]) -> Result<String, String> {
    let key = PrivateKeyDer::from_pem_slice(private_key)
        .map_err(|e| format!("no private key in PEM that is not encrypted: {e}"))?;
    let key = any_supported_type(&key).map_err(|e| e.to_string())?;
    let signer = key.choose_scheme(&SCHEMES);
    let signer = signer.ok_or("it is no ECDSA (P-256, P-384), Ed25519 or RSA key")?;
    let signature = signer.sign(message).map_err(|e| e.to_string())?;
    Ok(BASE64.encode(signature))
}

/// A public key whose signatures count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// From PEM (`BEGIN PUBLIC KEY`, RFC 7468): ECDSA with P-256 or P-384,
    /// Ed25519, or RSA.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn from_pem(text: &str) -> Result<Self, String> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes())
            .map_err(|e| format!("no public key in PEM: {e}"))?;
        let fits = |entity: &RawPublicKeyEntity<'_>| {
            // What a key says of an empty signature tells whether its kind is known.
            ALGORITHMS.iter().any(|algorithm| {
                let error = entity.verify_signature(*algorithm, b"", b"").err();
                matches!(error, Some(webpki::Error::InvalidSignatureForPublicKey))
            })
        };
        match RawPublicKeyEntity::try_from(&der) {
            Ok(entity) if fits(&entity) => Ok(Self(der.to_vec())),
            Ok(_) => Err("it is no ECDSA (P-256, P-384), Ed25519 or RSA key".to_owned()),
            Err(e) => Err(format!("no public key: {e}")),
        }
    }

    /// Whether a signature over a message was made with this key.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let der = SubjectPublicKeyInfoDer::from(self.0.as_slice());
        RawPublicKeyEntity::try_from(&der).is_ok_and(|entity| {
            ALGORITHMS.iter().any(|algorithm| {
                let verified = entity.verify_signature(*algorithm, message, signature);
                verified.is_ok()
            })
        })
    }
}

/// The beginning of the SHA-256 of the key's encoding (DER).
impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&Digest::sha256(&self.0).hex()[..SHOWN])
    }
}

/// One signature of an artifact, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl Signature {
    /// From the content of a layer of [`SIMPLE_LAYER`] and its annotation; none
    /// when it is not about `artifact`.
    pub fn simple(payload: Vec<u8>, annotation: &str, artifact: &Digest) -> Option<Self> {
        let said: Value = serde_json::from_slice(&payload).ok()?;
        let critical = &said["critical"];
        let about = critical["image"]["docker-manifest-digest"].as_str()?;
        if about != artifact.to_string() || critical["type"] != SIMPLE_SIGNED {
            return None;
        }
        Some(Self {
            message: payload,
            signature: BASE64.decode(annotation).ok()?,
        })
    }

    /// Those in a bundle that are about `artifact`.
    pub fn bundle(bytes: &[u8], artifact: &Digest) -> Vec<Self> {
        let Some((payload, signatures)) = signed(bytes, artifact) else {
            return Vec::new();
        };
        // What is signed is the statement with its type (DSSE, "PAE").
        let mut message =
            format!("DSSEv1 {} {STATEMENT} {} ", STATEMENT.len(), payload.len()).into_bytes();
        message.extend_from_slice(&payload);
        let decoded = signatures
            .into_iter()
            .filter_map(|s| BASE64.decode(s.sig).ok());
        decoded
            .map(|signature| Self {
                message: message.clone(),
                signature,
            })
            .collect()
    }

    /// The key that made it, if it is one of these.
    pub fn made_with<'k>(&self, keys: &'k [PublicKey]) -> Option<&'k PublicKey> {
        let mut keys = keys.iter();
        keys.find(|key| key.verifies(&self.message, &self.signature))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Envelope,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Sig>,
}

#[derive(Deserialize)]
struct Sig {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    subject: Vec<Subject>,
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    digest: std::collections::BTreeMap<String, String>,
}

/// The statement in a bundle that signs this artifact, and its signatures.
fn signed(bytes: &[u8], artifact: &Digest) -> Option<(Vec<u8>, Vec<Sig>)> {
    let bundle: Bundle = serde_json::from_slice(bytes).ok()?;
    let envelope = bundle.dsse_envelope;
    let payload = BASE64.decode(&envelope.payload).ok()?;
    let statement: Statement = serde_json::from_slice(&payload).ok()?;
    let algorithm = artifact.algorithm().as_str();
    let about = |subject: &Subject| {
        subject.digest.get(algorithm).map(String::as_str) == Some(artifact.hex())
    };
    let signs = envelope.payload_type == STATEMENT
        && statement.predicate_type == SIGNED
        && statement.subject.iter().any(about);
    signs.then_some((payload, envelope.signatures))
}

#[cfg(test)]
mod tests {
    use super::*;

    // What cosign 2.6.5 made with one key for one artifact.
    const ARTIFACT: &str =
        "sha256:288e33d2eeee65055ccfe532f043f4fb3052fdd604fc3b1a0aac8159f7d85219";
    const KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEeTkSdCUUoVP3wt9g1MDgqwoNTRn1
TFsSRpPAhQX1BqpM5rvab8iYLYU9E8Aa4KiHIb+0pfs2Ufw1LK8APO/W/w==
-----END PUBLIC KEY-----
";
    const ANOTHER: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEYYAxK1dSd+qG2zqvoJZte5QAz5/W
GxYLzTCnfBOD1iXfeIx0zTfgeCDIqrK0HexX3YONfTF90rYaRqmA/qdIZQ==
-----END PUBLIC KEY-----
";
    const SIMPLE: &str = r#"{"critical":{"identity":{"docker-reference":"127.0.0.1:5050/x/hello"},"image":{"docker-manifest-digest":"sha256:288e33d2eeee65055ccfe532f043f4fb3052fdd604fc3b1a0aac8159f7d85219"},"type":"cosign container image signature"},"optional":null}"#;
    const SIMPLE_SIGNATURE: &str = "MEUCIDQQlXERvittmKa8BcnHGnFiIGZcUVuPSbNBD1r7JqN8AiEAlRvYUP+OeRCRUPkMlXMmiQDyigweKtWr7yoegYLBV2Q=";
    const BUNDLE: &str = r#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial":{"publicKey":{"hint":"+xko6pm4xKQLyo1LYesqPs2xQSDVIxjCd6frsF2QlvE="}}, "dsseEnvelope":{"payload":"eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjEiLCAic3ViamVjdCI6W3siZGlnZXN0Ijp7InNoYTI1NiI6IjI4OGUzM2QyZWVlZTY1MDU1Y2NmZTUzMmYwNDNmNGZiMzA1MmZkZDYwNGZjM2IxYTBhYWM4MTU5ZjdkODUyMTkifX1dLCAicHJlZGljYXRlVHlwZSI6Imh0dHBzOi8vc2lnc3RvcmUuZGV2L2Nvc2lnbi9zaWduL3YxIn0=", "payloadType":"application/vnd.in-toto+json", "signatures":[{"sig":"MEUCIDyIEj32RSvxF3NYZCaoV4mGeph87yj/7DRdcLLmUGWRAiEA5/CBAzpKG1f4gKqTtLqbssaTDzVlQ0uV9QZMHYEbQ1g="}]}}"#;

    fn artifact() -> Digest {
        ARTIFACT.parse().unwrap()
    }

    fn keys(pem: &[&str]) -> Vec<PublicKey> {
        pem.iter()
            .map(|text| PublicKey::from_pem(text).unwrap())
            .collect()
    }

    #[test]
    fn what_cosign_signed_is_verified() {
        let simple = Signature::simple(SIMPLE.into(), SIMPLE_SIGNATURE, &artifact()).unwrap();
        let bundle = Signature::bundle(BUNDLE.as_bytes(), &artifact());
        let [bundle] = bundle.as_slice() else {
            panic!("{bundle:?}");
        };
        let known = keys(&[ANOTHER, KEY]);
        for signature in [&simple, bundle] {
            assert_eq!(signature.made_with(&known), Some(&known[1]));
            assert_eq!(signature.made_with(&known[..1]), None);
            assert_eq!(signature.made_with(&[]), None);
        }
    }

    #[test]
    fn nothing_else_counts() {
        let key = keys(&[KEY]);
        let other = Digest::sha256(b"another artifact");
        assert_eq!(
            Signature::simple(SIMPLE.into(), SIMPLE_SIGNATURE, &other),
            None
        );
        assert_eq!(Signature::bundle(BUNDLE.as_bytes(), &other), []);
        // One byte less, and it is not what was signed.
        let changed = SIMPLE.replace("x/hello", "x/hell");
        let changed = Signature::simple(changed.into(), SIMPLE_SIGNATURE, &artifact()).unwrap();
        assert_eq!(changed.made_with(&key), None);
        for text in [
            "",
            "{}",
            "[]",
            "null",
            &SIMPLE.replace("cosign container", "some"),
        ] {
            assert_eq!(
                Signature::simple(text.into(), SIMPLE_SIGNATURE, &artifact()),
                None
            );
            assert_eq!(Signature::bundle(text.as_bytes(), &artifact()), []);
        }
        assert_eq!(
            Signature::simple(SIMPLE.into(), "no base64!", &artifact()),
            None
        );
        // A signed statement with another predicate vouches for nothing.
        let statement = BASE64.encode(format!(
            r#"{{"subject":[{{"digest":{{"sha256":"{}"}}}}],"predicateType":"https://spdx.dev/Document"}}"#,
            artifact().hex()
        ));
        let payload = serde_json::from_str::<Value>(BUNDLE).unwrap();
        let payload = payload["dsseEnvelope"]["payload"].as_str().unwrap();
        let attested = BUNDLE.replace(payload, &statement);
        assert_eq!(Signature::bundle(attested.as_bytes(), &artifact()), []);
    }

    #[test]
    fn what_is_to_be_signed_is_what_cosign_signs() {
        let made = payload("127.0.0.1:5050/x/hello", &artifact());
        assert_eq!(String::from_utf8(made).unwrap(), SIMPLE);
    }

    #[test]
    fn keys_of_every_kind() {
        let pem = |der: &[u8]| {
            format!(
                "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
                BASE64.encode(der)
            )
        };
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ED25519,
        ] {
            use rcgen::PublicKeyData;
            let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let key = PublicKey::from_pem(&pem(&pair.subject_public_key_info())).unwrap();
            let signature = sign(pair.serialize_pem().as_bytes(), b"message").unwrap();
            let signature = BASE64.decode(signature).unwrap();
            assert!(key.verifies(b"message", &signature), "{algorithm:?}");
            assert!(!key.verifies(b"massage", &signature), "{algorithm:?}");
            assert_eq!(key.to_string().len(), SHOWN);
        }
        for bad in [
            "",
            "x",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        ] {
            assert!(PublicKey::from_pem(bad).is_err(), "{bad}");
            assert!(sign(bad.as_bytes(), b"").is_err(), "{bad}");
            // A public key signs nothing.
            assert!(sign(KEY.as_bytes(), b"").is_err());
        }
    }
}
