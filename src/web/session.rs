//! Who is logged in. A session has one refresh token at a time, of which a hash
//! is kept; it is changed for a new one at each use. One that was used before
//! is in the hands of two people, so the session ends.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::token::now;
use crate::auth::files::{secret, write};
use crate::auth::people::{Person, lock};
use crate::auth::{Error, Result};
use crate::sys::beneath::Root;

/// How long a session lives that nobody uses.
pub const LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// After that somebody has to log in again, however busy the session was.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
/// Two tabs may ask at once, with the same token: the later is told to look
/// again. It gets nothing.
const RACE: Duration = Duration::from_secs(3);
/// Sessions of one account; the oldest goes.
const MOST: usize = 32;
/// Hashes of earlier tokens that are remembered.
const EARLIER: usize = 64;
const FILE: &str = "sessions.json";

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Session {
    account: String,
    /// The account's, when it logged in.
    serial: u64,
    /// Hash of the refresh token.
    token: String,
    /// Hashes of those before, the newest last.
    earlier: Vec<String>,
    began: u64,
    used: u64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    sessions: BTreeMap<String, Session>,
}

/// What a refresh token is good for.
#[derive(Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// A new one, for this session and account.
    Again {
        /// Session.
        sid: String,
        /// Account.
        account: String,
        /// Refresh token.
        token: String,
    },
    /// It was changed for a new one this very moment, by the same browser.
    Raced,
    /// Nothing.
    Refused,
}

/// All sessions.
pub struct Sessions {
    root: Root,
    known: Mutex<File>,
}

impl Sessions {
    /// Reads them. A file that is damaged is as good as none: everybody logs in again.
    pub fn open(root: Root) -> Result<Self> {
        let file = match root.read(FILE)? {
            None => File::default(),
            Some((_, bytes)) => serde_json::from_slice(&bytes).unwrap_or_else(|e| {
                tracing::warn!(line = e.line(), "sessions cannot be read and end");
                File::default()
            }),
        };
        Ok(Self {
            root,
            known: Mutex::new(file),
        })
    }

    /// Directory of the accounts.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Begins a session; gives its name and refresh token.
    pub fn begin(&self, person: &Person) -> Result<(String, String)> {
        let sid = BASE64.encode(secret::<12>()?);
        let (token, hash) = token(&sid)?;
        let mut known = self.lock();
        let sessions = &mut known.sessions;
        sessions.retain(|_, s| lives(s));
        let own = sessions.iter().filter(|(_, s)| s.account == person.name);
        if own.clone().count() >= MOST
            && let Some(oldest) = own.min_by_key(|(_, s)| s.used).map(|(id, _)| id.clone())
        {
            sessions.remove(&oldest);
        }
        let session = Session {
            account: person.name.clone(),
            serial: person.serial,
            token: hash,
            earlier: Vec::new(),
            began: now(),
            used: now(),
        };
        sessions.insert(sid.clone(), session);
        self.save(&known)?;
        Ok((sid, token))
    }

    /// Whether a session lives, for an account as it is now.
    pub fn is_live(&self, sid: &str, person: &Person) -> bool {
        let known = self.lock();
        known
            .sessions
            .get(sid)
            .is_some_and(|s| lives(s) && s.account == person.name && s.serial == person.serial)
    }

    /// Changes a refresh token for a new one.
    pub fn refresh(&self, given: &str) -> Result<Refreshed> {
        let Some((sid, _)) = given.split_once('.') else {
            return Ok(Refreshed::Refused);
        };
        let hash = hashed(given);
        let mut known = self.lock();
        let Some(session) = known.sessions.get_mut(sid).filter(|s| lives(s)) else {
            return Ok(Refreshed::Refused);
        };
        if session.token == hash {
            let (token, new) = token(sid)?;
            let old = std::mem::replace(&mut session.token, new);
            session.earlier.push(old);
            let more = session.earlier.len().saturating_sub(EARLIER);
            session.earlier.drain(..more);
            session.used = now();
            let account = session.account.clone();
            self.save(&known)?;
            return Ok(Refreshed::Again {
                sid: sid.to_owned(),
                account,
                token,
            });
        }
        let raced = session.earlier.last() == Some(&hash)
            && now().saturating_sub(session.used) < RACE.as_secs();
        if raced {
            return Ok(Refreshed::Raced);
        }
        if session.earlier.contains(&hash) {
            tracing::warn!(
                account = session.account,
                "a refresh token came twice; the session ends"
            );
            known.sessions.remove(sid);
            self.save(&known)?;
        }
        Ok(Refreshed::Refused)
    }

    /// Ends a session.
    pub fn end(&self, sid: &str) -> Result<()> {
        let mut known = self.lock();
        match known.sessions.remove(sid) {
            Some(_) => self.save(&known),
            None => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, File> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self, file: &File) -> Result<()> {
        let _lock = lock(&self.root)?;
        let bad = |e: serde_json::Error| Error::setup("sessions")(e.to_string());
        write(&self.root, FILE, &serde_json::to_vec(file).map_err(bad)?)
    }
}

fn lives(session: &Session) -> bool {
    let now = now();
    now < session.used + LIFE.as_secs() && now < session.began + LONGEST.as_secs()
}

/// A new refresh token, and its hash. It is random and long, so it needs no slow
/// hash.
fn token(sid: &str) -> Result<(String, String)> {
    let token = format!("{sid}.{}", BASE64.encode(secret::<32>()?));
    let hash = hashed(&token);
    Ok((token, hash))
}

fn hashed(token: &str) -> String {
    BASE64.encode(Sha256::digest(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::people::Role;

    fn person(serial: u64) -> Person {
        Person {
            name: "ann".into(),
            role: Role::Viewer,
            hash: String::new(),
            serial,
        }
    }

    fn again(done: Refreshed) -> String {
        match done {
            Refreshed::Again { token, .. } => token,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tokens_are_good_once_and_a_stolen_one_ends_the_session() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w");
        let open = || Sessions::open(Root::open(&path).unwrap()).unwrap();
        let sessions = open();
        let (sid, first) = sessions.begin(&person(1)).unwrap();
        assert!(sessions.is_live(&sid, &person(1)));
        // A new password voids what was given before.
        assert!(!sessions.is_live(&sid, &person(2)));
        let second = again(sessions.refresh(&first).unwrap());
        // Sessions outlive the daemon.
        let sessions = open();
        assert_eq!(sessions.refresh(&first).unwrap(), Refreshed::Raced);
        let third = again(sessions.refresh(&second).unwrap());
        assert_eq!(sessions.refresh(&first).unwrap(), Refreshed::Refused);
        assert!(!sessions.is_live(&sid, &person(1)));
        assert_eq!(sessions.refresh(&third).unwrap(), Refreshed::Refused);
    }

    #[test]
    fn what_is_made_up_ends_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(Root::open(&dir.path().join("w")).unwrap()).unwrap();
        let (sid, token) = sessions.begin(&person(1)).unwrap();
        for bad in ["", "x", "x.y", &format!("{sid}.x")] {
            assert_eq!(sessions.refresh(bad).unwrap(), Refreshed::Refused);
        }
        assert!(sessions.is_live(&sid, &person(1)));
        let text = std::fs::read_to_string(dir.path().join("w").join(FILE)).unwrap();
        assert!(!text.contains(token.split_once('.').unwrap().1));
        sessions.end(&sid).unwrap();
        assert_eq!(sessions.refresh(&token).unwrap(), Refreshed::Refused);
    }
}
