//! Accounts of the pages in `accounts.json`: a name, a role, a password's hash.
//! Whoever may write the directory may change them, with the daemon running or
//! not.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::files::{secret, write};
use super::{Error, Result, password};
use crate::sys::beneath::Root;

const FILE: &str = "accounts.json";
const LOCK: &str = ".lock";
const LONGEST_NAME: usize = 64;
/// Shortest password that somebody may choose.
const SHORTEST_PASSWORD: usize = 12;

/// What somebody may do; each may also do what those before may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look.
    Viewer,
    /// Write Recipes.
    Editor,
    /// Decide what is active: promote, Menus, auto-deploy.
    Deployer,
    /// Pantries and settings.
    Admin,
}

impl Role {
    const ALL: [Role; 4] = [Role::Viewer, Role::Editor, Role::Deployer, Role::Admin];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Editor => "editor",
            Role::Deployer => "deployer",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        let why = "it is one of viewer, editor, deployer, admin";
        found.ok_or_else(|| Error::setup(format!("role {text:?}"))(why.to_owned()))
    }
}

/// One account.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Person {
    /// Name to log in with.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// argon2id hash of the password, in PHC form.
    pub hash: String,
    /// Changes with the password, so that what was given before is void.
    pub serial: u64,
}

impl fmt::Debug for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.name)
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    accounts: Vec<Person>,
}

fn load(root: &Root) -> Result<File> {
    let Some((_, bytes)) = root.read(FILE)? else {
        return Ok(File::default());
    };
    serde_json::from_slice(&bytes).map_err(|e| {
        // serde's message may quote the file.
        let why = format!("line {}: not a list of accounts", e.line());
        Error::setup(root.join(FILE).display().to_string())(why)
    })
}

/// All accounts, by name.
///
/// # Errors
/// The file cannot be read.
pub fn all(root: &Root) -> Result<Vec<Person>> {
    let mut people = load(root)?.accounts;
    people.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(people)
}

/// One account.
///
/// # Errors
/// As [`all`].
pub fn find(root: &Root, name: &str) -> Result<Option<Person>> {
    Ok(load(root)?.accounts.into_iter().find(|p| p.name == name))
}

/// Makes an account, or gives it a new password and, where one is named, a new
/// role. Without a password it gets a random one. Gives the password, which is
/// not kept.
///
/// # Errors
/// [`Error::Setup`] for a name or password that will not do.
pub fn set(root: &Root, name: &str, role: Option<Role>, chosen: Option<&str>) -> Result<String> {
    check_name(name)?;
    let chosen = match chosen {
        Some(text) if text.chars().count() < SHORTEST_PASSWORD => {
            let why = format!("it has fewer than {SHORTEST_PASSWORD} characters");
            return Err(Error::setup(format!("the password of account {name:?}"))(
                why,
            ));
        }
        Some(text) => text.to_owned(),
        None => URL_SAFE_NO_PAD.encode(secret::<24>()?),
    };
    let hash = password::hash(&chosen)?;
    change(root, |people| {
        let old = people.iter().find(|p| p.name == name);
        let person = Person {
            name: name.to_owned(),
            role: role.or(old.map(|p| p.role)).unwrap_or(Role::Viewer),
            hash,
            serial: old.map_or(1, |p| p.serial + 1),
        };
        people.retain(|p| p.name != name);
        people.push(person);
    })?;
    Ok(chosen)
}

/// Removes an account; false when there was none.
///
/// # Errors
/// The disk's.
pub fn remove(root: &Root, name: &str) -> Result<bool> {
    change(root, |people| {
        let before = people.len();
        people.retain(|p| p.name != name);
        people.len() != before
    })
}

fn change<T>(root: &Root, change: impl FnOnce(&mut Vec<Person>) -> T) -> Result<T> {
    let _lock = lock(root)?;
    let mut file = load(root)?;
    let result = change(&mut file.accounts);
    let unwritable = |e: serde_json::Error| Error::setup("accounts")(e.to_string());
    let mut text = serde_json::to_vec_pretty(&file).map_err(unwritable)?;
    text.push(b'\n');
    write(root, FILE, &text)?;
    Ok(result)
}

/// Held by whoever changes files of a directory of secrets.
///
/// # Errors
/// The disk's.
pub fn lock(root: &Root) -> Result<std::os::fd::OwnedFd> {
    let lock = root.lock_file(LOCK)?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
        .map_err(|e| Error::setup("locking the accounts")(e.to_string()))?;
    Ok(lock)
}

fn check_name(name: &str) -> Result<()> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'@' | b'+');
    if !name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(fine) {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    let why = "it must be 1 to 64 letters, digits or . - _ @ +".to_owned();
    Err(Error::setup(format!("account name {shown:?}"))(why))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn accounts_keep_their_role_and_no_password() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(&dir.path().join("web")).unwrap();
        let first = set(&root, "a", Some(Role::Deployer), None).unwrap();
        assert_eq!(first.len(), 32);
        set(&root, "b", None, Some("long enough it is")).unwrap();
        let again = set(&root, "a", None, None).unwrap();
        assert_ne!(first, again);
        let people = all(&root).unwrap();
        let shown: Vec<_> = people
            .iter()
            .map(|p| (&*p.name, p.role, p.serial))
            .collect();
        assert_eq!(shown, [("a", Role::Deployer, 2), ("b", Role::Viewer, 1)]);
        let file = dir.path().join("web").join(FILE);
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
        assert!(!std::fs::read_to_string(&file).unwrap().contains(&again));
        for (name, password) in [("", None), ("a:b", None), ("c", Some("short"))] {
            assert!(set(&root, name, None, password).is_err(), "{name}");
        }
        assert!(remove(&root, "a").unwrap());
        assert!(!remove(&root, "a").unwrap());
        assert!(find(&root, "a").unwrap().is_none());
        std::fs::write(&file, "{\"accounts\": [\"secret\"]}").unwrap();
        assert!(!all(&root).unwrap_err().to_string().contains("secret"));
    }

    #[test]
    fn roles_include_those_before() {
        assert!("admin".parse::<Role>().unwrap() > Role::Deployer);
        assert!(Role::Deployer > Role::Editor && Role::Editor > Role::Viewer);
        assert!("root".parse::<Role>().is_err());
    }
}
