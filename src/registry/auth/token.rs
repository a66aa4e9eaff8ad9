//! Tokens: JSON Web Tokens with HMAC-SHA-256 (RFC 7515, RFC 7519) that only this
//! registry makes and reads, and the scopes that clients ask for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::path;
use super::rules::{Action, Actions};
use crate::auth::files::{read_or_make, secret};
use crate::registry::{Error, Repository, Result, Storage};

/// How long a token is good.
pub const LIFE: Duration = Duration::from_secs(300);
/// Clocks of a machine that was set back.
const SKEW: u64 = 60;
const FILE: &str = "token.key";
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const AUDIENCE: &str = "kukeon-registry";

/// What a client asks for: actions in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Where.
    pub repository: Repository,
    /// What.
    pub actions: Actions,
}

impl Scope {
    /// Reads `repository:<name>:<action>,…`; none for other kinds of resource.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, actions) = text.strip_prefix("repository:")?.rsplit_once(':')?;
        Some(Self {
            repository: name.parse().ok()?,
            actions: Actions::lenient(actions),
        })
    }
}

/// What a token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Where.
    pub repository: Repository,
    /// What.
    pub actions: Actions,
}

impl Access {
    /// Whether an action is allowed.
    pub fn allows(&self, action: Action, repository: &Repository) -> bool {
        self.repository == *repository && self.actions.has(action)
    }
}

/// What stands in a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) sub: String,
    pub(super) access: Vec<Access>,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    aud: String,
    sub: String,
    iat: u64,
    exp: u64,
    access: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    r#type: String,
    name: String,
    actions: Actions,
}

pub(super) struct Tokens {
    key: Vec<u8>,
}

impl Tokens {
    pub(super) fn open(storage: &Storage) -> Result<Self> {
        let key = read_or_make(storage.root(), &path(FILE), || Ok(secret::<32>()?.to_vec()))?;
        if key.len() != 32 {
            return Err(Error::Setup {
                what: format!("auth/{FILE}"),
                why: "it is not 32 bytes; remove it and a new one is made".to_owned(),
            });
        }
        Ok(Self { key })
    }

    pub(super) fn issue(&self, subject: String, access: Vec<Access>) -> Result<String> {
        self.issue_at(subject, access, now())
    }

    fn issue_at(&self, sub: String, access: Vec<Access>, iat: u64) -> Result<String> {
        let entry = |access: Access| Entry {
            r#type: "repository".to_owned(),
            name: access.repository.to_string(),
            actions: access.actions,
        };
        let payload = Payload {
            aud: AUDIENCE.to_owned(),
            sub,
            iat,
            exp: iat + LIFE.as_secs(),
            access: access.into_iter().map(entry).collect(),
        };
        let payload = serde_json::to_vec(&payload).map_err(|e| Error::io("a token")(e.into()))?;
        let signed = format!("{}.{}", BASE64.encode(HEADER), BASE64.encode(payload));
        let mac = self.mac(&signed)?.finalize().into_bytes();
        Ok(format!("{signed}.{}", BASE64.encode(mac)))
    }

    pub(super) fn check(&self, token: &str) -> Result<Claims, &'static str> {
        let bad = "the token is not one of this registry";
        let (signed, signature) = token.rsplit_once('.').ok_or(bad)?;
        let signature = BASE64.decode(signature).map_err(|_| bad)?;
        let mac = self.mac(signed).map_err(|_| bad)?;
        // Before anything in it is believed; takes the same time for all.
        mac.verify_slice(&signature).map_err(|_| bad)?;
        let payload = signed.split_once('.').ok_or(bad)?.1;
        let payload = BASE64.decode(payload).map_err(|_| bad)?;
        let payload: Payload = serde_json::from_slice(&payload).map_err(|_| bad)?;
        if payload.aud != AUDIENCE {
            return Err(bad);
        }
        let now = now();
        if now >= payload.exp || payload.iat > now + SKEW {
            return Err("the token has expired");
        }
        let access = payload.access.into_iter().filter_map(|entry| {
            Some(Access {
                repository: entry.name.parse().ok()?,
                actions: entry.actions,
            })
        });
        Ok(Claims {
            sub: payload.sub,
            access: access.collect(),
        })
    }

    fn mac(&self, text: &str) -> Result<Hmac<Sha256>> {
        let mut mac = Hmac::new_from_slice(&self.key).map_err(|e| Error::Setup {
            what: format!("auth/{FILE}"),
            why: e.to_string(),
        })?;
        mac.update(text.as_bytes());
        Ok(mac)
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Vec<Access> {
        vec![Access {
            repository: "a/b".parse().unwrap(),
            actions: Actions::lenient("pull,push"),
        }]
    }

    fn tokens(n: u8) -> Tokens {
        Tokens { key: vec![n; 32] }
    }

    #[test]
    fn tokens_of_this_registry_and_of_now_only() {
        let ours = tokens(1);
        let token = ours.issue("me".into(), access()).unwrap();
        let claims = ours.check(&token).unwrap();
        assert_eq!(claims.sub, "me");
        assert_eq!(claims.access, access());
        assert!(tokens(2).check(&token).is_err());
        let old = ours.issue_at("me".into(), access(), now() - 300).unwrap();
        assert_eq!(ours.check(&old), Err("the token has expired"));
        let future = ours.issue_at("me".into(), access(), now() + 600).unwrap();
        assert!(ours.check(&future).is_err());
    }

    #[test]
    fn changed_tokens_are_refused() {
        let ours = tokens(1);
        let token = ours.issue("me".into(), access()).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let none = BASE64.encode(r#"{"alg":"none"}"#);
        for bad in [
            String::new(),
            "..".to_owned(),
            format!("{none}.{}.", parts[1]),
            format!("{}.{}.{}", none, parts[1], parts[2]),
            format!("{}.{}x.{}", parts[0], parts[1], parts[2]),
            format!("{}.{}", parts[0], parts[1]),
            token[..token.len() - 2].to_owned(),
        ] {
            assert!(ours.check(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn scopes() {
        let scope = Scope::parse("repository:a/b:pull,push").unwrap();
        assert_eq!(scope.repository.as_str(), "a/b");
        assert!(scope.actions.has(Action::Push));
        assert!(!scope.actions.has(Action::Delete));
        let all = Scope::parse("repository:a:*").unwrap();
        assert!(all.actions.has(Action::Delete));
        for other in [
            "registry:catalog:*",
            "",
            "repository:a",
            "repository:A:pull",
        ] {
            assert_eq!(Scope::parse(other), None, "{other}");
        }
    }
}
