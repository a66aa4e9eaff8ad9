//! Passwords: argon2id, at most one at a time, and a memory of what was right,
//! because Basic credentials come with every request.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::password_hash::phc::{Output, PasswordHash, Salt};
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::sync::Semaphore;

use super::files::secret;
use super::{Error, Result};

/// 7 MiB, five passes, one lane: one of the equivalent choices of the OWASP
/// password storage guide, and the one that takes least memory of a daemon.
const MEMORY_KIB: u32 = 7168;
const PASSES: u32 = 5;
/// How long credentials that were right need no second look.
const REMEMBERED: Duration = Duration::from_secs(600);
const MOST: usize = 256;
/// Longer ones only cost time.
const LONGEST: usize = 1024;

type Key = [u8; 32];

/// Checks passwords, one at a time.
pub struct Checker {
    key: Key,
    /// For names that do not exist: they take as long as others.
    nobody: String,
    right: Mutex<HashMap<Key, Instant>>,
    turn: Semaphore,
}

impl Checker {
    /// A checker that remembers nothing yet.
    ///
    /// # Errors
    /// The kernel has no random bytes.
    pub fn new() -> Result<Self> {
        let (salt, output) = (secret::<16>()?, secret::<32>()?);
        Ok(Self {
            key: secret()?,
            nobody: no_password(&salt, &output)?,
            right: Mutex::default(),
            turn: Semaphore::new(1),
        })
    }

    /// Whether these very credentials were right a short time ago.
    pub fn remembers(&self, name: &str, password: &str, hash: Option<&str>) -> bool {
        let Some(key) = hash.and_then(|hash| self.mark(name, password, hash)) else {
            return false;
        };
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right
            .get(&key)
            .is_some_and(|when| when.elapsed() < REMEMBERED)
    }

    /// Whether a password belongs to a hash; without a hash it does not.
    pub async fn check(&self, name: &str, password: &str, hash: Option<&str>) -> Result<bool> {
        if password.len() > LONGEST {
            return Ok(false);
        }
        // Not closed anywhere.
        let turn = self.turn.acquire().await;
        let stored = hash.unwrap_or(&self.nobody).to_owned();
        let given = password.to_owned();
        let right = tokio::task::spawn_blocking(move || verify(&given, &stored))
            .await
            .map_err(|e| Error::setup("checking a password")(e.to_string()))?;
        drop(turn);
        let Some(hash) = hash.filter(|_| right) else {
            return Ok(false);
        };
        if let Some(key) = self.mark(name, password, hash) {
            let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
            if right.len() >= MOST {
                right.retain(|_, when| when.elapsed() < REMEMBERED);
            }
            if right.len() < MOST {
                right.insert(key, Instant::now());
            }
        }
        Ok(true)
    }

    /// Credentials as they are remembered: of no use to who reads our memory.
    fn mark(&self, name: &str, password: &str, hash: &str) -> Option<Key> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        for part in [name, password, hash] {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part.as_bytes());
        }
        Some(mac.finalize().into_bytes().into())
    }
}

fn argon2() -> Result<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).map_err(unusable)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Hash of a password with a salt of its own.
pub fn hash(password: &str) -> Result<String> {
    let salt: [u8; 16] = secret()?;
    let hash: PasswordHash = argon2()?
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map_err(unusable)?;
    Ok(hash.to_string())
}

/// What looks like a hash and takes as long to check, of no password: nobody can
/// tell it from one, and it costs nothing to make.
fn no_password(salt: &[u8], output: &[u8]) -> Result<String> {
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: argon2()?.params().try_into().map_err(unusable)?,
        salt: Some(Salt::new(salt).map_err(unusable)?),
        hash: Some(Output::new(output).map_err(unusable)?),
    };
    Ok(hash.to_string())
}

fn verify(password: &str, stored: &str) -> bool {
    let Ok(parsed) = PasswordHash::new(stored) else {
        return false;
    };
    argon2().is_ok_and(|a| a.verify_password(password.as_bytes(), &parsed).is_ok())
}

fn unusable(e: impl std::fmt::Display) -> Error {
    Error::Setup {
        what: "hashing a password".to_owned(),
        why: e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_salted_and_verified() {
        let one = hash("p").unwrap();
        assert!(one.starts_with("$argon2id$v=19$m=7168,t=5,p=1$"), "{one}");
        assert_ne!(one, hash("p").unwrap());
        assert!(verify("p", &one));
        assert!(!verify("q", &one));
        assert!(!verify("p", ""));
        assert!(!verify("p", "plain"));
        let none = no_password(&[1; 16], &[2; 32]).unwrap();
        let shape = |hash: &str| hash.split('$').map(str::len).collect::<Vec<_>>();
        assert_eq!(shape(&none), shape(&one));
        assert!(!verify("p", &none));
    }
}
