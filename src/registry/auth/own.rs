//! The daemon's own login: what it pulls images with for cells, and pushes them
//! with for `kuke image push`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::accounts::{Account, AccountKind};
use super::path;
use super::rules::{Actions, Rule};
use crate::auth::files::{read_or_make, secret};
use crate::registry::{Error, Result, Storage};

/// Name of the login; no account can take it.
pub(super) const NAME: &str = "kukeond";
const FILE: &str = "kukeond.secret";

impl Storage {
    /// Name and password that the registry of this store always accepts, for
    /// reading and adding; as for every account, not below `preparations/`.
    ///
    /// # Errors
    /// The disk's.
    pub fn own_login(&self) -> Result<(String, String)> {
        let bytes = read_or_make(self.root(), &path(FILE), || {
            Ok(URL_SAFE_NO_PAD.encode(secret::<32>()?).into_bytes())
        })?;
        let password = String::from_utf8(bytes).map_err(|_| Error::Setup {
            what: format!("auth/{FILE}"),
            why: "it is damaged; remove it and a new one is made".to_owned(),
        })?;
        Ok((NAME.to_owned(), password))
    }
}

/// The account behind the login, when the password is right. It is random and
/// long, so it needs no slow hash, only a comparison that takes the same time
/// for all.
pub(super) fn account(storage: &Storage, password: &str) -> Result<Option<Account>> {
    let (name, right) = storage.own_login()?;
    let key = secret::<32>()?;
    let mac = |text: &str| -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
        mac.update(text.as_bytes());
        Some(mac)
    };
    let (Some(given), Some(wanted)) = (mac(password), mac(&right)) else {
        return Ok(None);
    };
    if given.verify(&wanted.finalize().into_bytes()).is_err() {
        return Ok(None);
    }
    Ok(Some(Account {
        name,
        kind: AccountKind::Robot,
        hash: String::new(),
        rules: vec![Rule {
            repositories: "**".to_owned(),
            actions: Actions::lenient("pull,push"),
        }],
    }))
}
