//! Release objects: `.delivery/<namespace>/<plural>/<name>.yaml`.
//!
//! Writers compare the version they read with the one that is there. Several
//! objects change together or not at all: what a transaction writes is put into
//! a write-ahead file first, synced, and copied to its places then; whoever
//! finds such a file finishes the copying.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{Error, Result, Store, codec};
use crate::model::delivery::{AnyRelease, Preparation, PreparationPhase, ReleaseKind, ReleaseRef};
use crate::model::delivery::{ReleaseMeta, keys};
use crate::model::{Labels, Name};
use crate::sys::beneath::Sync;
use crate::sys::failpoint::Failpoint;

/// Directory of everything here. It has a dot, so no realm has this name.
pub(super) const DIR: &str = super::RELEASES;
const LOCK: &str = ".delivery/.lock";
const AHEAD: &str = ".delivery/.transaction";
const FILE_MODE: u32 = 0o640;
/// Pantries hold passwords, and the write-ahead file may hold a Pantry.
const SECRET_MODE: u32 = 0o600;

/// Hit before and after every durable step of a transaction.
static STEP: Failpoint = Failpoint::new("KUKEON_FAILPOINT_JOURNAL");

/// Identity of a file: inode, seconds and nanoseconds of its last change.
pub type ReleaseMark = (u64, i64, u64);

/// A release that cannot be read, and why.
pub type DamagedRelease = (ReleaseRef, Error);

/// One change of a transaction.
#[derive(Debug, Clone)]
pub enum ReleaseChange {
    /// Saves an object. `meta.resource_version` is the version that was read; 0
    /// is a new object.
    Put(AnyRelease),
    /// Removes an object that has this version.
    Remove(ReleaseRef, i64),
}

impl<T: Into<AnyRelease>> From<T> for ReleaseChange {
    fn from(object: T) -> Self {
        ReleaseChange::Put(object.into())
    }
}

/// What is written: place, and content; none removes.
#[derive(Debug, Serialize, Deserialize)]
struct Ahead {
    files: BTreeMap<String, Option<String>>,
}

fn path(at: &ReleaseRef) -> String {
    format!("{}/{}.yaml", dir(at.kind, &at.namespace), at.name)
}

fn dir(kind: ReleaseKind, namespace: &Name) -> String {
    format!("{DIR}/{namespace}/{}", kind.plural())
}

/// Reading.
impl Store {
    /// An object; none when there is no such object. A Pantry comes with its password.
    pub fn release(&self, at: &ReleaseRef) -> Result<Option<AnyRelease>> {
        let path = path(at);
        let Some((_, bytes)) = self.inner.root.read(&path)? else {
            return Ok(None);
        };
        let corrupt = |cause: String| Error::Corrupt {
            path: self.inner.root.join(&path),
            cause,
        };
        let text = String::from_utf8(bytes).map_err(|_| corrupt("it is not UTF-8".to_owned()))?;
        let found = codec::decode_release(at.kind, &text).map_err(corrupt)?;
        match found.at() == *at {
            true => Ok(Some(found)),
            false => Err(corrupt(format!("it describes {}, not {at}", found.at()))),
        }
    }

    /// References of a kind, in one namespace or all, sorted.
    pub fn release_refs(
        &self,
        kind: ReleaseKind,
        namespace: Option<&Name>,
    ) -> Result<Vec<ReleaseRef>> {
        let namespaces = match namespace {
            Some(namespace) => vec![namespace.clone()],
            None => self.release_namespaces()?,
        };
        let mut found = Vec::new();
        for namespace in namespaces {
            let entries = self.inner.root.list(&dir(kind, &namespace))?;
            for entry in entries.unwrap_or_default() {
                let name = entry.name.strip_suffix(".yaml").map(str::parse::<Name>);
                if let Some(Ok(name)) = name {
                    found.push(ReleaseRef::new(kind, &namespace, &name));
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// What tells whether an object's file was replaced; none when it is gone.
    pub fn release_mark(&self, at: &ReleaseRef) -> Result<Option<ReleaseMark>> {
        let stat = self.inner.root.stat(&path(at))?;
        Ok(stat.map(|s| (s.st_ino, s.st_mtime, s.st_mtime_nsec)))
    }

    /// Objects of a kind, in one namespace or all, sorted. Those that are
    /// damaged are left out; reading one of them tells.
    pub fn releases(&self, kind: ReleaseKind, namespace: Option<&Name>) -> Result<Vec<AnyRelease>> {
        let (found, damaged) = self.releases_and_damaged(kind, namespace)?;
        for (at, error) in damaged {
            tracing::warn!(object = %at, %error, "left out");
        }
        Ok(found)
    }

    /// The same, with those that are damaged and why they cannot be read.
    pub fn releases_and_damaged(
        &self,
        kind: ReleaseKind,
        namespace: Option<&Name>,
    ) -> Result<(Vec<AnyRelease>, Vec<DamagedRelease>)> {
        let (mut found, mut damaged) = (Vec::new(), Vec::new());
        for at in self.release_refs(kind, namespace)? {
            match self.release(&at) {
                Ok(object) => found.extend(object),
                Err(error @ Error::Corrupt { .. }) => damaged.push((at, error)),
                Err(error) => return Err(error),
            }
        }
        Ok((found, damaged))
    }

    fn release_namespaces(&self) -> Result<Vec<Name>> {
        let entries = self.inner.root.list(DIR)?.unwrap_or_default();
        Ok(entries
            .into_iter()
            .filter(|entry| entry.is_dir)
            .filter_map(|entry| entry.name.parse().ok())
            .collect())
    }
}

/// Writing.
impl Store {
    /// Makes all changes or none, durably. Gives the saved objects as they are
    /// now; an object that would not change is not written and keeps its version.
    ///
    /// # Errors
    /// [`Error::Stale`] when an object is not in the version that was read,
    /// [`Error::Immutable`] when a Preparation would change,
    /// [`Error::Unreadable`] when an object could not be read again.
    pub fn commit(&self, changes: Vec<ReleaseChange>) -> Result<Vec<AnyRelease>> {
        let _lock = self.releases_lock()?;
        self.finish_ahead()?;
        let mut files = BTreeMap::new();
        let mut saved = Vec::new();
        for change in changes {
            match change {
                ReleaseChange::Put(object) => {
                    let (object, text) = self.checked(object)?;
                    if let Some(text) = text {
                        files.insert(path(&object.at()), Some(text));
                    }
                    saved.push(object);
                }
                ReleaseChange::Remove(at, version) => {
                    match self.release(&at)? {
                        Some(now) if now.meta().resource_version == version => {}
                        _ => return Err(stale(&at)),
                    }
                    files.insert(path(&at), None);
                }
            }
        }
        match files.len() {
            0 => {}
            // One file is replaced atomically as it is.
            1 => {
                STEP.hit();
                for (path, text) in &files {
                    self.copy(path, text.as_deref())?;
                }
                STEP.hit();
            }
            _ => {
                STEP.hit();
                self.write_ahead(&Ahead { files })?;
                STEP.hit();
                self.finish_ahead()?;
                STEP.hit();
            }
        }
        Ok(saved)
    }

    /// Finishes a transaction that a process left when it died.
    pub fn recover_releases(&self) -> Result<()> {
        if self.inner.root.stat(AHEAD)?.is_none() {
            return Ok(());
        }
        let _lock = self.releases_lock()?;
        self.finish_ahead()
    }

    /// The object with its new version, and its text when it changes anything.
    fn checked(&self, mut object: AnyRelease) -> Result<(AnyRelease, Option<String>)> {
        let at = object.at();
        let now = self.release(&at)?;
        let version = now.as_ref().map_or(0, |now| now.meta().resource_version);
        if version != object.meta().resource_version {
            return Err(stale(&at));
        }
        if now.as_ref() == Some(&object) {
            return Ok((object, None));
        }
        if let (Some(AnyRelease::Preparation(now)), AnyRelease::Preparation(wanted)) =
            (&now, &object)
        {
            check_immutable(now, wanted)?;
        }
        object.meta_mut().resource_version = version + 1;
        let unreadable = |cause: String| Error::Unreadable {
            object: at.to_string(),
            cause,
        };
        let text = codec::encode_release(&object).map_err(unreadable)?;
        // Written, it would be damaged for everybody, also for who deletes it.
        codec::decode_release(at.kind, &text).map_err(unreadable)?;
        Ok((object, Some(text)))
    }

    fn write_ahead(&self, ahead: &Ahead) -> Result<()> {
        let text = serde_json::to_vec(ahead).map_err(|error| Error::Corrupt {
            path: self.inner.root.join(AHEAD),
            cause: error.to_string(),
        })?;
        Ok(self
            .inner
            .root
            .replace(AHEAD, &text, SECRET_MODE, Sync::Full)?)
    }

    /// Copies what the write-ahead file holds to its places. Repeating it does
    /// no harm: nobody commits before it is through.
    fn finish_ahead(&self) -> Result<()> {
        let Some((_, bytes)) = self.inner.root.read(AHEAD)? else {
            return Ok(());
        };
        let ahead: Ahead = serde_json::from_slice(&bytes).map_err(|error| Error::Corrupt {
            path: self.inner.root.join(AHEAD),
            // Its content may hold a password.
            cause: format!("it cannot be read at column {}", error.column()),
        })?;
        for (path, text) in &ahead.files {
            self.copy(path, text.as_deref())?;
            STEP.hit();
        }
        self.remove_file(AHEAD)
    }

    fn copy(&self, path: &str, text: Option<&str>) -> Result<()> {
        let secret = format!("/{}/", ReleaseKind::Pantry.plural());
        let mode = match path.contains(&secret) {
            true => SECRET_MODE,
            false => FILE_MODE,
        };
        match text {
            Some(text) => Ok(self
                .inner
                .root
                .replace(path, text.as_bytes(), mode, Sync::Full)?),
            None => self.remove_file(path),
        }
    }

    fn remove_file(&self, path: &str) -> Result<()> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        if let Some(dir) = self.inner.root.dir(above)? {
            self.inner.root.unlink(dir.as_fd(), above, name)?;
            self.inner.root.sync(dir.as_fd(), above)?;
        }
        Ok(())
    }

    /// Held, for milliseconds, by whoever commits.
    fn releases_lock(&self) -> Result<OwnedFd> {
        let file = self.inner.root.lock_file(LOCK)?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(file),
                Err(Errno::INTR) => {}
                Err(cause) => return Err(Error::io(self.inner.root.join(LOCK), "lock", cause)),
            }
        }
    }
}

fn stale(at: &ReleaseRef) -> Error {
    Error::Stale {
        object: at.to_string(),
    }
}

/// A Preparation keeps its spec for ever and, once Ready, its status; labels and
/// annotations of delivery's own may change (delivery spec, section 6).
fn check_immutable(now: &Preparation, wanted: &Preparation) -> Result<()> {
    let others = |labels: &Labels| -> Labels {
        let foreign = labels
            .iter()
            .filter(|(key, _)| !key.starts_with(keys::PREFIX));
        foreign.map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    let rest = |meta: &ReleaseMeta| ReleaseMeta {
        labels: others(&meta.labels),
        annotations: others(&meta.annotations),
        deletion: None,
        finalizers: Vec::new(),
        ..meta.clone()
    };
    let ready = now.status.phase == PreparationPhase::Ready;
    let field = if now.spec != wanted.spec {
        "spec"
    } else if ready && now.status != wanted.status {
        "status"
    } else if ready && rest(&now.meta) != rest(&wanted.meta) {
        "metadata"
    } else {
        return Ok(());
    };
    Err(Error::Immutable {
        object: now.at().to_string(),
        field,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::delivery::{
        Kitchen, KitchenSpec, OciRepository, Pantry, PantrySpec, PantryStatus,
    };

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        (dir, store)
    }

    fn pantry(at: &str, user: &str) -> Pantry {
        Pantry {
            meta: ReleaseMeta::new(name("shop"), name(at)),
            spec: PantrySpec {
                oci: OciRepository {
                    host: "h".into(),
                    repository: "a".into(),
                },
                username: user.into(),
                password: "hush".into(),
                ca: String::new(),
                plain_http: false,
            },
            status: PantryStatus::default(),
        }
    }

    fn user(store: &Store, at: &str) -> Option<String> {
        let at = ReleaseRef::new(ReleaseKind::Pantry, &name("shop"), &name(at));
        let found = store.release(&at).unwrap()?;
        Some(Pantry::try_from(found).unwrap().spec.username)
    }

    #[test]
    fn versions_are_compared_and_equal_content_is_not_written() {
        let (_dir, store) = store();
        let saved = store.commit(vec![pantry("a", "u").into()]).unwrap();
        assert_eq!(saved[0].meta().resource_version, 1);
        let stale = store.commit(vec![pantry("a", "v").into()]).unwrap_err();
        assert!(matches!(stale, Error::Stale { .. }), "{stale}");
        let again = store.commit(vec![ReleaseChange::Put(saved[0].clone())]);
        assert_eq!(again.unwrap()[0].meta().resource_version, 1);
        // All or nothing: one stale object refuses the other.
        let both = vec![pantry("b", "u").into(), pantry("a", "v").into()];
        assert!(store.commit(both).is_err());
        assert_eq!(user(&store, "b"), None);
        let gone = ReleaseChange::Remove(saved[0].at(), 1);
        store.commit(vec![gone]).unwrap();
        assert_eq!(user(&store, "a"), None);
    }

    #[test]
    fn a_damaged_document_hides_no_other_and_is_told() {
        let (dir, store) = store();
        let both = vec![pantry("a", "u").into(), pantry("b", "u").into()];
        store.commit(both).unwrap();
        let file = dir.path().join(".delivery/shop/pantries/a.yaml");
        std::fs::write(&file, "kind: Pan").unwrap();
        let found = store.releases_and_damaged(ReleaseKind::Pantry, None);
        let (found, damaged) = found.unwrap();
        let names = found.iter().map(|o| o.at().name.to_string());
        assert_eq!(names.collect::<Vec<_>>(), ["b"]);
        let [(at, Error::Corrupt { path, .. })] = &damaged[..] else {
            panic!("{damaged:?}");
        };
        assert_eq!((at.name.as_str(), path), ("a", &file));
        assert_eq!(store.releases(ReleaseKind::Pantry, None).unwrap().len(), 1);
    }

    #[test]
    fn what_could_not_be_read_back_is_not_written() {
        let (dir, store) = store();
        store.commit(vec![pantry("a", "u").into()]).unwrap();
        let mut bad = pantry("b", "u");
        let message = "x".repeat(crate::scheme::v1alpha1::MAX_MESSAGE + 1);
        bad.meta
            .annotations
            .insert(keys::COMMIT_MESSAGE.to_owned(), message);
        let mut other = store.release(&pantry("a", "u").at()).unwrap().unwrap();
        let note = ("note".to_owned(), "new".to_owned());
        other.meta_mut().annotations.extend([note]);
        let both = vec![ReleaseChange::Put(other), bad.into()];
        let error = store.commit(both).unwrap_err();
        assert!(matches!(error, Error::Unreadable { .. }), "{error}");
        assert!(error.to_string().contains("at most 512"), "{error}");
        // Neither of the two.
        assert_eq!(user(&store, "b"), None);
        let saved = store.release(&pantry("a", "u").at()).unwrap().unwrap();
        assert_eq!(saved.meta().resource_version, 1);
        assert!(!dir.path().join(AHEAD).exists());
    }

    #[test]
    fn passwords_are_for_root_only() {
        use std::os::unix::fs::PermissionsExt;

        let (dir, store) = store();
        store.commit(vec![pantry("a", "u").into()]).unwrap();
        let file = dir.path().join(".delivery/shop/pantries/a.yaml");
        let mode = std::fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_transaction_that_was_cut_short_is_finished() {
        let (dir, store) = store();
        let first = vec![pantry("a", "old").into(), pantry("b", "old").into()];
        store.commit(first).unwrap();
        let texts = |user: &str| -> BTreeMap<String, Option<String>> {
            let mut files = BTreeMap::new();
            for at in ["a", "b", "c"] {
                let mut object = AnyRelease::from(pantry(at, user));
                object.meta_mut().resource_version = 2;
                let text = codec::encode_release(&object).unwrap();
                files.insert(path(&object.at()), Some(text));
            }
            files
        };
        // As it is after a death that came when one of three was copied.
        let files = texts("new");
        let (path, text) = files.iter().next().unwrap();
        store.copy(path, text.as_deref()).unwrap();
        store
            .write_ahead(&Ahead {
                files: texts("new"),
            })
            .unwrap();
        let users = |store: &Store| ["a", "b", "c"].map(|at| user(store, at));
        assert_eq!(users(&store)[1].as_deref(), Some("old"));
        let again = Store::open(dir.path()).unwrap();
        again.recover_releases().unwrap();
        assert_eq!(
            users(&again),
            ["a", "b", "c"].map(|_| Some("new".to_owned()))
        );
        assert!(!dir.path().join(AHEAD).exists());
        // The next commit finds nothing left over.
        let kitchen = Kitchen {
            meta: ReleaseMeta::new(name("default"), name("default")),
            spec: KitchenSpec::default(),
        };
        again.commit(vec![kitchen.into()]).unwrap();
    }
}
