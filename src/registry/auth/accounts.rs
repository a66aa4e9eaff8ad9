//! Accounts in `auth/accounts.json`. Whoever may write the registry's directory
//! may change them, with the daemon running or not.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::rules::{Action, Rule};
use super::{own, path};
use crate::auth::files::{secret, write};
use crate::auth::password;
use crate::registry::{Error, Repository, Result, Storage};

const FILE: &str = "accounts.json";
const LONGEST_NAME: usize = 64;
/// Shortest password that somebody may choose.
const SHORTEST_PASSWORD: usize = 12;

/// Who an account is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccountKind {
    /// A person.
    User,
    /// A program.
    Robot,
}

/// One account.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Account {
    /// Name to log in with.
    pub name: String,
    /// Who it is for.
    pub kind: AccountKind,
    /// argon2id hash of the password, in PHC form.
    pub(super) hash: String,
    /// What it may do.
    pub rules: Vec<Rule>,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}", self.kind, self.name)
    }
}

impl Account {
    /// Whether a rule of it allows an action.
    pub fn may(&self, action: Action, repository: &Repository) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.allows(action, repository))
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    accounts: Vec<Account>,
}

/// Identity of a file's content.
type Seen = (u64, i64, u64);

/// The accounts of a registry, read again when the file changed.
pub(super) struct Accounts {
    storage: Storage,
    known: Mutex<Option<(Seen, Arc<File>)>>,
}

impl Accounts {
    pub(super) fn new(storage: Storage) -> Self {
        Self {
            storage,
            known: Mutex::default(),
        }
    }

    pub(super) fn storage(&self) -> &Storage {
        &self.storage
    }

    pub(super) fn find(&self, name: &str) -> Result<Option<Account>> {
        let Some(stat) = self.storage.root().stat(&path(FILE))? else {
            return Ok(None);
        };
        // A replaced file has another inode or time.
        let seen = (stat.st_ino, stat.st_mtime, stat.st_mtime_nsec);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match known.as_ref() {
            Some((when, file)) if *when == seen => Arc::clone(file),
            _ => {
                let file = Arc::new(load(&self.storage)?);
                *known = Some((seen, Arc::clone(&file)));
                file
            }
        };
        drop(known);
        Ok(file.accounts.iter().find(|a| a.name == name).cloned())
    }
}

fn load(storage: &Storage) -> Result<File> {
    let Some((_, bytes)) = storage.root().read(&path(FILE))? else {
        return Ok(File::default());
    };
    serde_json::from_slice(&bytes).map_err(|e| Error::Setup {
        what: storage.root().join(&path(FILE)).display().to_string(),
        // serde's message may quote the file.
        why: format!(
            "line {}, column {}: not a list of accounts",
            e.line(),
            e.column()
        ),
    })
}

impl Storage {
    /// All accounts, by name.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn accounts(&self) -> Result<Vec<Account>> {
        let mut accounts = load(self)?.accounts;
        accounts.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(accounts)
    }

    /// Whether an account may have this name, and this password if one is given.
    ///
    /// # Errors
    /// [`Error::Setup`] for a name or password that will not do.
    pub fn check_account(name: &str, chosen: Option<&str>) -> Result<()> {
        check_name(name)?;
        match chosen {
            Some(text) if text.chars().count() < SHORTEST_PASSWORD => Err(Error::Setup {
                what: format!("the password of account {name:?}"),
                why: format!("it has fewer than {SHORTEST_PASSWORD} characters"),
            }),
            _ => Ok(()),
        }
    }

    /// Makes an account, or changes the one of that name. Without a password it
    /// gets a random one. Gives the password, which is not kept.
    ///
    /// # Errors
    /// [`Error::Setup`] for a name or password that will not do.
    pub fn set_account(
        &self,
        name: &str,
        kind: AccountKind,
        rules: Vec<Rule>,
        chosen: Option<&str>,
    ) -> Result<String> {
        Self::check_account(name, chosen)?;
        let chosen = match chosen {
            Some(text) => text.to_owned(),
            None => URL_SAFE_NO_PAD.encode(secret::<24>()?),
        };
        let account = Account {
            name: name.to_owned(),
            kind,
            hash: password::hash(&chosen)?,
            rules,
        };
        self.change_accounts(|accounts| {
            accounts.retain(|a| a.name != account.name);
            accounts.push(account);
        })?;
        Ok(chosen)
    }

    /// Removes an account; false when there was none.
    ///
    /// # Errors
    /// The disk's.
    pub fn remove_account(&self, name: &str) -> Result<bool> {
        self.change_accounts(|accounts| {
            let before = accounts.len();
            accounts.retain(|a| a.name != name);
            accounts.len() != before
        })
    }

    fn change_accounts<T>(&self, change: impl FnOnce(&mut Vec<Account>) -> T) -> Result<T> {
        let lock = self.root().lock_file(&path(".lock"))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|e| Error::io("locking the accounts")(e.into()))?;
        let mut file = load(self)?;
        let result = change(&mut file.accounts);
        let mut text =
            serde_json::to_vec_pretty(&file).map_err(|e| Error::io("accounts")(e.into()))?;
        text.push(b'\n');
        write(self.root(), &path(FILE), &text)?;
        Ok(result)
    }
}

fn check_name(name: &str) -> Result<()> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'@' | b'+');
    // A colon would end it in Basic credentials.
    if !name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(fine) && name != own::NAME
    {
        return Ok(());
    }
    Err(Error::Setup {
        what: format!(
            "account name {:?}",
            name.chars().take(80).collect::<String>()
        ),
        why: "it must be 1 to 64 letters, digits or . - _ @ +, and not kukeond".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::registry::Limits;

    #[test]
    fn the_file_is_for_its_owner_and_holds_no_password() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open(&dir.path().join("r"), Limits::default()).unwrap();
        let set =
            |name: &str, chosen| storage.set_account(name, AccountKind::User, Vec::new(), chosen);
        let password = set("a", None).unwrap();
        assert_eq!(password.len(), 32);
        assert_ne!(password, set("b", None).unwrap());
        let file = dir.path().join("r/auth/accounts.json");
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("$argon2id$"));
        assert!(!text.contains(&password));
        let names: Vec<String> = storage
            .accounts()
            .unwrap()
            .into_iter()
            .map(|a| a.name)
            .collect();
        assert_eq!(names, ["a", "b"]);
        assert!(storage.remove_account("a").unwrap());
        assert!(!storage.remove_account("a").unwrap());
        assert!(set("a:b", None).is_err());
        assert!(set("", None).is_err());
        assert!(set("c", Some("short")).is_err());
        std::fs::write(&file, "{\"accounts\": [\"secret\"]}").unwrap();
        let error = storage.accounts().unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
