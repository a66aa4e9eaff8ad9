//! Access tokens: a session's name, an account and an end, signed with
//! HMAC-SHA-256 by a key of this instance. They are shown with every request and
//! are good for minutes; whether the session still lives is asked each time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::auth::files::{read_or_make, secret};
use crate::auth::{Error, Result};
use crate::sys::beneath::Root;

/// How long a token is good.
pub const LIFE: Duration = Duration::from_secs(15 * 60);
const FILE: &str = "signing.key";
/// What is signed begins so: a signature of something else is none of a token.
const USE: &str = "kukeon-web-access.";

/// What stands in a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Session.
    pub sid: String,
    /// Account.
    pub sub: String,
    /// End, in seconds since 1970.
    pub exp: u64,
}

/// Makes and reads tokens.
pub struct Tokens {
    key: Vec<u8>,
}

impl Tokens {
    /// Reads the key; makes one when there is none.
    pub fn open(root: &Root) -> Result<Self> {
        let key = read_or_make(root, FILE, || Ok(secret::<32>()?.to_vec()))?;
        if key.len() != 32 {
            let why = "it is not 32 bytes; remove it and a new one is made";
            return Err(Error::setup(root.join(FILE).display().to_string())(
                why.to_owned(),
            ));
        }
        Ok(Self { key })
    }

    /// A token for a session.
    pub fn issue(&self, sid: &str, sub: &str) -> Result<String> {
        self.issue_until(sid, sub, now() + LIFE.as_secs())
    }

    fn issue_until(&self, sid: &str, sub: &str, exp: u64) -> Result<String> {
        let claims = Claims {
            sid: sid.to_owned(),
            sub: sub.to_owned(),
            exp,
        };
        let bad = |e: serde_json::Error| Error::setup("a token")(e.to_string());
        let payload = BASE64.encode(serde_json::to_vec(&claims).map_err(bad)?);
        let mac = self.mac(&payload)?.finalize().into_bytes();
        Ok(format!("{payload}.{}", BASE64.encode(mac)))
    }

    /// What stands in a token that is of this instance and of now.
    pub fn check(&self, token: &str) -> Option<Claims> {
        let (payload, signature) = token.split_once('.')?;
        let signature = BASE64.decode(signature).ok()?;
        // Before anything in it is believed; takes the same time for all.
        self.mac(payload).ok()?.verify_slice(&signature).ok()?;
        let claims: Claims = serde_json::from_slice(&BASE64.decode(payload).ok()?).ok()?;
        (now() < claims.exp).then_some(claims)
    }

    fn mac(&self, text: &str) -> Result<Hmac<Sha256>> {
        let mut mac = Hmac::new_from_slice(&self.key)
            .map_err(|e| Error::setup("the signing key")(e.to_string()))?;
        mac.update(USE.as_bytes());
        mac.update(text.as_bytes());
        Ok(mac)
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_this_instance_and_of_now_only() {
        let ours = Tokens { key: vec![1; 32] };
        let token = ours.issue("s", "ann").unwrap();
        assert_eq!(ours.check(&token).unwrap().sub, "ann");
        assert!(Tokens { key: vec![2; 32] }.check(&token).is_none());
        let old = ours.issue_until("s", "ann", now()).unwrap();
        assert!(ours.check(&old).is_none());
        let (payload, signature) = token.split_once('.').unwrap();
        let root = BASE64.encode(r#"{"sid":"s","sub":"root","exp":99999999999}"#);
        for bad in [
            String::new(),
            ".".to_owned(),
            payload.to_owned(),
            format!("{payload}."),
            format!("{root}.{signature}"),
        ] {
            assert!(ours.check(&bad).is_none(), "{bad}");
        }
    }
}
