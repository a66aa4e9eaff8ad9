//! Secrets and volumes: where they lie, and the directories of the data.

use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;

use super::{Error, Result, Store, document, rel};
use crate::model::{KeptKind, KeptRef, Name, ObjectRef, Reclaim, StackRef};
use crate::sys::beneath::{Sync, is_temp, join};

/// The data of a volume, in its directory.
pub(super) const DATA: &str = "data";
/// Beside it: who was given the data, `UID:GID`. Its being there says that it
/// is never given to anybody again.
const OWNER: &str = "owner";
/// Mode of a new data directory.
const DATA_MODE: u32 = 0o755;
/// Mode of the directories around secrets.
const PRIVATE_MODE: u32 = 0o700;

/// Directory of what a scope keeps of a kind. No name has a dot.
pub(super) fn dir(scope: &ObjectRef, kind: KeptKind) -> String {
    let name = match kind {
        KeptKind::Volume => ".volumes",
        KeptKind::Secret => ".secrets",
    };
    join(&rel(scope), name)
}

impl Store {
    /// What a scope keeps of a kind, in order of the names.
    pub fn kept(&self, scope: &ObjectRef, kind: KeptKind) -> Result<Vec<KeptRef>> {
        let probe: ObjectRef = match "x".parse::<Name>() {
            Ok(name) => scope.keeps(kind, name).into(),
            Err(_) => return Ok(Vec::new()),
        };
        let names = self.names(&dir(scope, kind), document(&probe))?;
        let kept = names.into_iter().map(|name| scope.keeps(kind, name));
        Ok(kept.collect())
    }

    /// Cells of a stack, also those that are not there (yet) but have secrets.
    pub fn cell_places(&self, stack: &StackRef) -> Result<Vec<ObjectRef>> {
        let names = self.directories(&rel(&stack.clone().into()))?;
        let cells = names.into_iter().map(|name| stack.cell(name).into());
        Ok(cells.collect())
    }

    /// Directory of a volume's data, for people and for binding. That every part
    /// of it is a directory and no link is checked by [`Store::make_data`].
    pub fn data_path(&self, at: &KeptRef) -> PathBuf {
        let dir = rel(&at.clone().into());
        self.inner.root.join(&join(&dir, DATA))
    }

    /// Makes the data directory of a volume, empty, unless it is there. A link in
    /// its place is an error.
    pub fn make_data(&self, at: &KeptRef) -> Result<()> {
        let dir = rel(&at.clone().into());
        let data = join(&dir, DATA);
        if self.inner.root.dir(&data)?.is_some() {
            return Ok(());
        }
        let fd = self.inner.root.make_dir(&data)?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(DATA_MODE))
            .map_err(|e| Error::io(self.inner.root.join(&data), "set mode", e))?;
        self.inner.root.sync(fd.as_fd(), &data)?;
        Ok(())
    }

    /// Gives the data of a volume to the first user that mounts it. Nothing in
    /// it is looked at, and a second call changes nothing.
    pub fn own_data(&self, at: &KeptRef, uid: u32, gid: u32) -> Result<()> {
        self.make_data(at)?;
        let object: ObjectRef = at.clone().into();
        let dir = rel(&object);
        let (data, owner) = (join(&dir, DATA), join(&dir, OWNER));
        if self.inner.root.stat(&owner)?.is_some() {
            return Ok(());
        }
        let path = self.inner.root.join(&data);
        let fd = self.inner.root.dir(&data)?;
        let fd = fd.ok_or_else(|| Error::io(&path, "open", Errno::NOENT))?;
        let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::fchown(&fd, Some(user), Some(group))
            .map_err(|e| Error::io(&path, "set owner", e))?;
        let text = format!("{uid}:{gid}\n");
        self.inner
            .root
            .replace(&owner, text.as_bytes(), 0o640, Sync::Full)?;
        Ok(())
    }

    /// The directories around a secret, which only root can enter.
    pub(super) fn make_private(&self, at: &KeptRef) -> Result<()> {
        let own = rel(&at.clone().into());
        for path in [dir(&at.scope, at.kind), own] {
            let fd = self.inner.root.make_dir(&path)?;
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(PRIVATE_MODE))
                .map_err(|e| Error::io(self.inner.root.join(&path), "set mode", e))?;
        }
        Ok(())
    }

    /// Removes one secret or volume, its data before its document.
    pub(super) fn remove_kept(&self, at: &KeptRef) -> Result<()> {
        let object: ObjectRef = at.clone().into();
        let own = rel(&object);
        let root = &self.inner.root;
        let Some(fd) = root.dir(&own)? else {
            return Ok(());
        };
        if at.kind == KeptKind::Volume {
            // The standard library follows no links below it.
            self.remove_tree(&join(&own, DATA))?;
            root.unlink(fd.as_fd(), &own, OWNER)?;
        }
        for entry in root.list(&own)?.unwrap_or_default() {
            if !entry.is_dir && is_temp(&entry.name) {
                root.unlink(fd.as_fd(), &own, &entry.name)?;
            }
        }
        root.sync(fd.as_fd(), &own)?;
        root.unlink(fd.as_fd(), &own, document(&object))?;
        root.sync(fd.as_fd(), &own)?;
        self.inner.cache.forget(&join(&own, document(&object)));
        drop(fd);
        root.rmdir(&own)?;
        root.rmdir(&dir(&at.scope, at.kind))?;
        Ok(())
    }

    /// Removes what a scope keeps, as far as it goes with the scope. Volumes that
    /// are retained stay, with the directories above them.
    pub(super) fn remove_all_kept(&self, scope: &ObjectRef, retain: bool) -> Result<()> {
        for kind in KeptKind::ALL {
            for at in self.kept(scope, kind)? {
                let stays = retain && kind == KeptKind::Volume && self.is_retained(&at);
                if !stays {
                    self.remove_kept(&at)?;
                }
            }
            // What a write left that was cut short.
            for entry in self.inner.root.list(&dir(scope, kind))?.unwrap_or_default() {
                let Ok(name) = entry.name.parse::<Name>() else {
                    continue;
                };
                let at = scope.keeps(kind, name);
                if !self.exists(&at.clone().into())? {
                    self.remove_kept(&at)?;
                }
            }
            self.inner.root.rmdir(&dir(scope, kind))?;
        }
        Ok(())
    }

    /// A volume whose document is damaged is not thrown away either.
    fn is_retained(&self, at: &KeptRef) -> bool {
        match self.volume(at) {
            Ok(Some(volume)) => volume.reclaim == Reclaim::Retain,
            Ok(None) => false,
            Err(_) => true,
        }
    }

    pub(super) fn remove_tree(&self, path: &str) -> Result<()> {
        let path = self.inner.root.join(path);
        match std::fs::remove_dir_all(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                let errno = e.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
                Err(Error::io(path, "remove", errno))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;
    use crate::model::{Meta, Realm, RealmRef, ScopeStatus, Secret, SecretText, Space, Volume};

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    /// A store with realm `r` and space `s`.
    fn store() -> (tempfile::TempDir, Store, ObjectRef) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("root")).unwrap();
        let realm = RealmRef { realm: name("r") };
        let at = realm.space(name("s"));
        let (meta, status) = (Meta::default(), ScopeStatus::default());
        let spec = Default::default();
        let realm = Realm {
            at: realm,
            meta: meta.clone(),
            spec,
            status: status.clone(),
        };
        store.put_realm(&realm).unwrap();
        let space = Space {
            at: at.clone(),
            meta,
            spec: Default::default(),
            status,
        };
        store.put_space(&space).unwrap();
        (dir, store, at.into())
    }

    fn volume(scope: &ObjectRef, at: &str, reclaim: Reclaim) -> Volume {
        Volume {
            at: scope.keeps(KeptKind::Volume, name(at)),
            meta: Meta::default(),
            reclaim,
            path: String::new(),
        }
    }

    #[test]
    fn only_root_can_look_at_a_secret() {
        let (_dir, store, scope) = store();
        let secret = Secret {
            at: scope.keeps(KeptKind::Secret, name("k")),
            meta: Meta::default(),
            data: SecretText("hush".into()),
        };
        store.put_secret(&secret).unwrap();
        assert_eq!(store.secret(&secret.at).unwrap(), Some(secret.clone()));
        let mode = |path: &str| {
            let path = store.root().join(path);
            std::fs::metadata(path).unwrap().permissions().mode() & 0o777
        };
        assert_eq!(mode("r/s/.secrets/k/secret.yaml"), 0o600);
        assert_eq!(
            (mode("r/s/.secrets"), mode("r/s/.secrets/k")),
            (0o700, 0o700)
        );
        assert_eq!(
            store.kept(&scope, KeptKind::Secret).unwrap(),
            std::slice::from_ref(&secret.at)
        );
        store.remove(&secret.at.clone().into()).unwrap();
        assert!(!store.root().join("r/s/.secrets").exists());
    }

    #[test]
    fn data_is_given_away_once_and_nothing_in_it_is_touched() {
        let (_dir, store, scope) = store();
        let at = volume(&scope, "v", Reclaim::Delete);
        store.put_volume(&at).unwrap();
        let data = store.data_path(&at.at);
        std::fs::write(data.join("mine"), "x").unwrap();
        let me = rustix::process::geteuid().as_raw();
        let other = if me == 0 { 1000 } else { me };
        store
            .own_data(&at.at, other, 50)
            .unwrap_or_else(|e| assert_ne!(me, 0, "{e}"));
        store
            .own_data(&at.at, me, 0)
            .unwrap_or_else(|e| assert_ne!(me, 0, "{e}"));
        let uid = |path: &std::path::Path| std::fs::metadata(path).unwrap().uid();
        assert_eq!((uid(&data), uid(&data.join("mine"))), (other, me));
        // A second save makes nothing anew.
        store.put_volume(&at).unwrap();
        assert!(data.join("mine").exists());
    }

    #[test]
    fn retained_data_outlives_its_scope_but_not_the_uninstall() {
        let (_dir, store, scope) = store();
        let stays = volume(&scope, "stays", Reclaim::Retain);
        let goes = volume(&scope, "goes", Reclaim::Delete);
        for v in [&stays, &goes] {
            store.put_volume(v).unwrap();
            std::fs::write(store.data_path(&v.at).join("x"), "x").unwrap();
        }
        store.remove(&scope).unwrap();
        store.remove(&scope.parent().unwrap()).unwrap();
        assert!(store.data_path(&stays.at).join("x").exists());
        assert!(!store.root().join("r/s/.volumes/goes").exists());
        assert!(store.realms().unwrap().is_empty());
        // It is the same volume for a scope of that name.
        assert_eq!(store.volume(&stays.at).unwrap(), Some(stays));
        assert_eq!(store.remove_all().unwrap(), Vec::<PathBuf>::new());
        assert!(!store.root().exists());
    }

    #[test]
    fn links_in_the_place_of_directories_lead_nowhere() {
        let (dir, store, scope) = store();
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("x"), "x").unwrap();
        let at = volume(&scope, "v", Reclaim::Delete);
        store.put_volume(&at).unwrap();
        std::fs::remove_dir(store.data_path(&at.at)).unwrap();
        symlink(&outside, store.data_path(&at.at)).unwrap();
        assert!(store.own_data(&at.at, 1000, 1000).is_err());
        assert_ne!(std::fs::metadata(&outside).unwrap().uid(), 1000);
        // A link inside the data goes; what it leads to stays.
        std::fs::remove_file(store.data_path(&at.at)).unwrap();
        store.put_volume(&at).unwrap();
        symlink(&outside, store.data_path(&at.at).join("link")).unwrap();
        store.remove(&at.at.clone().into()).unwrap();
        assert!(outside.join("x").exists());
        // Nor is anything stored through one.
        symlink(&outside, store.root().join("r/s/.volumes")).unwrap();
        assert!(store.put_volume(&at).is_err());
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    }
}
