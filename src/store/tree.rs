//! Listing, reading and writing objects.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::cache::{self, Version};
use super::{Error, Result, Store, check_name, codec, document, rel};
use crate::model::{
    Cell, CellRef, CellStatus, KeptKind, KeptRef, Name, ObjectRef, Realm, RealmRef, ScopeStatus,
    Secret, Space, SpaceRef, Stack, StackRef, Volume,
};
use crate::sys::beneath::{self, Sync};

/// What must be there before an object is stored. A cell needs its secrets to
/// start, so they may come before it.
fn home(at: &ObjectRef) -> Option<ObjectRef> {
    match (at, at.parent()) {
        (ObjectRef::Kept(_), Some(cell @ ObjectRef::Cell(_))) => cell.parent(),
        (_, parent) => parent,
    }
}

const FILE_MODE: u32 = 0o640;
/// realm.yaml holds registry passwords.
const SECRET_MODE: u32 = 0o600;

/// An object that has a document.
trait Document: Any + Send + std::marker::Sync + Clone {
    const MODE: u32;
    fn at(&self) -> ObjectRef;
    fn encode(&self) -> Result<String, String>;
    fn decode(text: &str) -> Result<Self, String>;
}

macro_rules! document {
    ($type:ident, $mode:ident, $encode:ident, $decode:ident) => {
        impl Document for $type {
            const MODE: u32 = $mode;
            fn at(&self) -> ObjectRef {
                self.at.clone().into()
            }
            fn encode(&self) -> Result<String, String> {
                codec::$encode(self)
            }
            fn decode(text: &str) -> Result<Self, String> {
                codec::$decode(text)
            }
        }
    };
}

document!(Realm, SECRET_MODE, encode_realm, decode_realm);
document!(Space, FILE_MODE, encode_space, decode_space);
document!(Stack, FILE_MODE, encode_stack, decode_stack);
document!(Cell, FILE_MODE, encode_cell, decode_cell);
document!(Volume, FILE_MODE, encode_volume, decode_volume);
document!(Secret, SECRET_MODE, encode_secret, decode_secret);

/// Listing. What has no valid name, or lacks its document, is no object and is
/// left out; an object whose document is damaged is listed, and reading it
/// fails with [`Error::Corrupt`]. Sorted by name.
impl Store {
    /// Realms.
    pub fn realms(&self) -> Result<Vec<RealmRef>> {
        let names = self.names("", "realm.yaml")?;
        let reserved = |name: &Name| super::RESERVED.contains(&name.as_str());
        Ok(names
            .into_iter()
            .filter(|n| !reserved(n))
            .map(|realm| RealmRef { realm })
            .collect())
    }

    /// Spaces of a realm.
    pub fn spaces(&self, realm: &RealmRef) -> Result<Vec<SpaceRef>> {
        let names = self.names(&rel(&realm.clone().into()), "space.yaml")?;
        Ok(names.into_iter().map(|n| realm.space(n)).collect())
    }

    /// Stacks of a space.
    pub fn stacks(&self, space: &SpaceRef) -> Result<Vec<StackRef>> {
        let names = self.names(&rel(&space.clone().into()), "stack.yaml")?;
        Ok(names.into_iter().map(|n| space.stack(n)).collect())
    }

    /// Cells of a stack.
    pub fn cells(&self, stack: &StackRef) -> Result<Vec<CellRef>> {
        let names = self.names(&rel(&stack.clone().into()), "cell.yaml")?;
        Ok(names.into_iter().map(|n| stack.cell(n)).collect())
    }

    /// Cells of a stack whose names are `wanted`, with what is stored of them:
    /// one look at each, where [`Store::cells`] and [`Store::cell`] take two. A
    /// damaged one has its error.
    pub fn read_cells(
        &self,
        stack: &StackRef,
        wanted: impl Fn(&Name) -> bool,
    ) -> Result<Vec<(CellRef, Result<Arc<Cell>>)>> {
        let mut names = self.directories(&rel(&stack.clone().into()))?;
        names.retain(wanted);
        let cells = names.into_iter().map(|name| stack.cell(name));
        let read = cells.filter_map(|at| {
            let cell = self.shared(&at.clone().into()).transpose()?;
            Some((at, cell))
        });
        Ok(read.collect())
    }

    /// Names of the objects directly below; a cell has none.
    pub fn children(&self, at: &ObjectRef) -> Result<BTreeSet<Name>> {
        let file = match at {
            ObjectRef::Realm(_) => "space.yaml",
            ObjectRef::Space(_) => "stack.yaml",
            ObjectRef::Stack(_) => "cell.yaml",
            ObjectRef::Cell(_) | ObjectRef::Kept(_) => return Ok(BTreeSet::new()),
        };
        Ok(self.names(&rel(at), file)?.into_iter().collect())
    }

    /// Containers of a cell whose document or log lies in its directory,
    /// whatever `cell.yaml` says.
    pub fn container_names(&self, at: &CellRef) -> Result<Vec<Name>> {
        let dir = beneath::join(&rel(&at.clone().into()), "containers");
        let mut found = BTreeSet::new();
        for entry in self.inner.root.list(&dir)?.unwrap_or_default() {
            let stem = entry.name.split_once('.').map(|(stem, _)| stem.parse());
            if let (false, Some(Ok(name))) = (entry.is_dir, stem) {
                found.insert(name);
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Whether the object has a document, damaged or not.
    pub fn exists(&self, at: &ObjectRef) -> Result<bool> {
        let path = beneath::join(&rel(at), document(at));
        Ok(self.inner.root.stat(&path)?.is_some())
    }

    /// Every object, parents before children, in order of their names.
    pub fn objects(&self) -> Result<Vec<ObjectRef>> {
        let mut found = Vec::new();
        for realm in self.realms()? {
            found.push(realm.clone().into());
            for space in self.spaces(&realm)? {
                found.push(space.clone().into());
                for stack in self.stacks(&space)? {
                    found.push(stack.clone().into());
                    found.extend(self.cells(&stack)?.into_iter().map(ObjectRef::from));
                }
            }
        }
        Ok(found)
    }

    /// Documents that cannot be read, one error each.
    pub fn problems(&self) -> Result<Vec<Error>> {
        let mut found = Vec::new();
        for at in self.objects()? {
            let read = match &at {
                ObjectRef::Realm(r) => self.realm(r).map(|_| ()),
                ObjectRef::Space(r) => self.space(r).map(|_| ()),
                ObjectRef::Stack(r) => self.stack(r).map(|_| ()),
                ObjectRef::Cell(r) => self.cell(r).map(|_| ()),
                // Listed below with its scope.
                ObjectRef::Kept(_) => Ok(()),
            };
            found.extend(read.err());
            for kind in KeptKind::ALL {
                for kept in self.kept(&at, kind)? {
                    let read = match kind {
                        KeptKind::Volume => self.volume(&kept).map(|_| ()),
                        KeptKind::Secret => self.secret(&kept).map(|_| ()),
                    };
                    found.extend(read.err());
                }
            }
        }
        Ok(found)
    }

    pub(super) fn names(&self, dir: &str, file: &str) -> Result<Vec<Name>> {
        let mut found = Vec::new();
        for name in self.directories(dir)? {
            let path = format!("{}/{file}", beneath::join(dir, name.as_str()));
            match self.inner.root.stat(&path).map_err(Error::from) {
                Ok(Some(_)) => found.push(name),
                Ok(None) => {}
                // A link in the place of the document: its owner is told on
                // reading, the neighbours are not disturbed.
                Err(Error::Corrupt { .. }) => found.push(name),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Directories that may be those of objects.
    pub(super) fn directories(&self, dir: &str) -> Result<Vec<Name>> {
        let entries = self.inner.root.list(dir)?.unwrap_or_default();
        let dirs = entries.iter().filter(|entry| entry.is_dir);
        Ok(dirs.filter_map(|entry| entry.name.parse().ok()).collect())
    }
}

/// Reading; none when there is no such object.
impl Store {
    /// A realm, with its passwords.
    pub fn realm(&self, at: &RealmRef) -> Result<Option<Realm>> {
        self.read(&at.clone().into())
    }

    /// A space.
    pub fn space(&self, at: &SpaceRef) -> Result<Option<Space>> {
        self.read(&at.clone().into())
    }

    /// A stack.
    pub fn stack(&self, at: &StackRef) -> Result<Option<Stack>> {
        self.read(&at.clone().into())
    }

    /// A cell.
    pub fn cell(&self, at: &CellRef) -> Result<Option<Cell>> {
        self.read(&at.clone().into())
    }

    /// A volume.
    pub fn volume(&self, at: &KeptRef) -> Result<Option<Volume>> {
        self.read(&at.clone().into())
    }

    /// A secret, with its value.
    pub fn secret(&self, at: &KeptRef) -> Result<Option<Secret>> {
        self.read(&at.clone().into())
    }

    fn read<T: Document>(&self, at: &ObjectRef) -> Result<Option<T>> {
        Ok(self.shared(at)?.map(Arc::unwrap_or_clone))
    }

    fn shared<T: Document>(&self, at: &ObjectRef) -> Result<Option<Arc<T>>> {
        let path = beneath::join(&rel(at), document(at));
        let Some(stat) = self.inner.root.stat(&path)? else {
            self.inner.cache.forget(&path);
            return Ok(None);
        };
        if let Some(found) = self.inner.cache.get::<T>(&path, &Version::of(&stat)) {
            return Ok(Some(found));
        }
        let read_at = cache::now();
        let Some((stat, bytes)) = self.inner.root.read(&path)? else {
            return Ok(None);
        };
        let corrupt = |cause: String| Error::Corrupt {
            path: self.inner.root.join(&path),
            cause,
        };
        if bytes.is_empty() {
            return Err(corrupt("it is empty".to_owned()));
        }
        let text = String::from_utf8(bytes).map_err(|_| corrupt("it is not UTF-8".to_owned()))?;
        let found = T::decode(&text).map_err(corrupt)?;
        if found.at() != *at {
            return Err(corrupt(format!("it describes {}, not {at}", found.at())));
        }
        let found = Arc::new(found);
        self.inner
            .cache
            .put(&path, Version::of(&stat), read_at, &found);
        Ok(Some(found))
    }
}

/// Writing. The caller holds the object's exclusive lock. Content that is
/// already there is not written again.
impl Store {
    /// Saves a realm, atomically and durably.
    pub fn put_realm(&self, realm: &Realm) -> Result<()> {
        self.write(realm, Sync::Full).map(|_| ())
    }

    /// Saves a space, atomically and durably.
    pub fn put_space(&self, space: &Space) -> Result<()> {
        self.write(space, Sync::Full).map(|_| ())
    }

    /// Saves a stack, atomically and durably.
    pub fn put_stack(&self, stack: &Stack) -> Result<()> {
        self.write(stack, Sync::Full).map(|_| ())
    }

    /// Saves a volume, atomically and durably, and makes its data directory.
    pub fn put_volume(&self, volume: &Volume) -> Result<()> {
        self.write(volume, Sync::Full)?;
        self.make_data(&volume.at)
    }

    /// Saves a secret, atomically and durably, where root alone can look.
    pub fn put_secret(&self, secret: &Secret) -> Result<()> {
        self.make_private(&secret.at)?;
        self.write(secret, Sync::Full).map(|_| ())
    }

    /// Saves a cell, atomically and durably, then its `containers/*.yaml`.
    pub fn put_cell(&self, cell: &Cell) -> Result<()> {
        self.write(cell, Sync::Full)?;
        self.write_containers(cell)
    }

    /// Saves only the status of a realm, space or stack; true when it changed.
    /// Atomic; a power cut may bring the former status back. A gone object is
    /// left gone. For a cell see [`Store::put_cell_status`].
    pub fn put_scope_status(&self, at: &ObjectRef, status: &ScopeStatus) -> Result<bool> {
        match at {
            ObjectRef::Realm(r) => self.update(self.realm(r)?, |o| o.status = status.clone()),
            ObjectRef::Space(r) => self.update(self.space(r)?, |o| o.status = status.clone()),
            ObjectRef::Stack(r) => self.update(self.stack(r)?, |o| o.status = status.clone()),
            ObjectRef::Cell(_) | ObjectRef::Kept(_) => Ok(false),
        }
    }

    /// Saves only the status of a cell; true when it changed. Atomic; a power
    /// cut may bring the former status back. A gone cell is left gone.
    pub fn put_cell_status(&self, at: &CellRef, status: &CellStatus) -> Result<bool> {
        let Some(mut cell) = self.cell(at)? else {
            return Ok(false);
        };
        cell.status = status.clone();
        let changed = self.write(&cell, Sync::Content)?;
        if changed {
            self.write_containers(&cell)?;
        }
        Ok(changed)
    }

    fn update<T: Document>(&self, object: Option<T>, change: impl FnOnce(&mut T)) -> Result<bool> {
        match object {
            Some(mut object) => {
                change(&mut object);
                self.write(&object, Sync::Content)
            }
            None => Ok(false),
        }
    }

    fn write<T: Document>(&self, object: &T, durable: Sync) -> Result<bool> {
        let at = object.at();
        check_name(&at)?;
        let path = beneath::join(&rel(&at), document(&at));
        let text = object.encode().map_err(|cause| Error::Corrupt {
            path: self.inner.root.join(&path),
            cause,
        })?;
        // What cannot be read is replaced.
        if let Ok(Some((stat, now))) = self.inner.root.read(&path)
            && now == text.as_bytes()
            && stat.st_mode & 0o7777 == T::MODE
        {
            return Ok(false);
        }
        if let Some(parent) = home(&at)
            && !self.exists(&parent)?
        {
            return Err(Error::ParentMissing {
                object: at.to_string(),
                parent: parent.to_string(),
            });
        }
        let dir = rel(&at);
        self.inner.root.sweep(&dir)?;
        self.inner.cache.forget(&path);
        self.inner
            .root
            .replace(&path, text.as_bytes(), T::MODE, durable)?;
        Ok(true)
    }

    /// Brings `containers/*.yaml` in line with the cell. They are for people
    /// and derived from cell.yaml, so they need not survive a power cut.
    fn write_containers(&self, cell: &Cell) -> Result<()> {
        use std::os::fd::AsFd;

        let dir = beneath::join(&rel(&cell.at.clone().into()), "containers");
        let fd = self.inner.root.make_dir(&dir)?;
        let mut wanted = BTreeSet::new();
        let documents = codec::encode_containers(cell).map_err(|cause| Error::Corrupt {
            path: self.inner.root.join(&dir),
            cause,
        })?;
        for (name, text) in documents {
            let file = format!("{name}.yaml");
            let path = beneath::join(&dir, &file);
            let same =
                matches!(self.inner.root.read(&path), Ok(Some((_, now))) if now == text.as_bytes());
            if !same {
                self.inner
                    .root
                    .replace(&path, text.as_bytes(), FILE_MODE, Sync::None)?;
            }
            wanted.insert(file);
        }
        for entry in self.inner.root.list(&dir)?.unwrap_or_default() {
            let of_container = entry
                .name
                .strip_suffix(".yaml")
                .is_some_and(|stem| stem.parse::<Name>().is_ok());
            if !entry.is_dir && of_container && !wanted.contains(&entry.name) {
                self.inner.root.unlink(fd.as_fd(), &dir, &entry.name)?;
            }
        }
        Ok(self.inner.root.sweep(&dir)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CellSpec, ContainerSpec, Meta, RealmSpec, RegistryCredential, SpaceSpec};
    use crate::sys::beneath::CRASH_AT;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn cell_ref() -> CellRef {
        RealmRef { realm: name("r") }
            .space(name("s"))
            .stack(name("t"))
            .cell(name("c"))
    }

    fn cell(image: &str) -> Cell {
        Cell {
            at: cell_ref(),
            meta: Meta::default(),
            spec: CellSpec {
                containers: vec![ContainerSpec::new(name("main"), image)],
                ..CellSpec::default()
            },
            status: CellStatus::default(),
        }
    }

    /// A store with realm `r` (one login), space `s` and stack `t`.
    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("root")).unwrap();
        let at = cell_ref();
        let realm = Realm {
            at: at.stack().space().realm(),
            meta: Meta::default(),
            spec: RealmSpec {
                namespace: String::new(),
                credentials: vec![RegistryCredential {
                    server: "registry.example".to_owned(),
                    username: "me".to_owned(),
                    password: "hunter2: \"#'".to_owned(),
                }],
            },
            status: ScopeStatus::default(),
        };
        store.put_realm(&realm).unwrap();
        assert_eq!(store.realm(&realm.at).unwrap().unwrap(), realm);
        let space = Space {
            at: at.stack().space(),
            meta: Meta::default(),
            spec: SpaceSpec::default(),
            status: ScopeStatus::default(),
        };
        store.put_space(&space).unwrap();
        let stack = Stack {
            at: at.stack(),
            meta: Meta::default(),
            status: ScopeStatus::default(),
        };
        store.put_stack(&stack).unwrap();
        (dir, store)
    }

    #[test]
    fn many_cells_are_read_as_each_by_itself() {
        let (_dir, store) = store();
        let stack = cell_ref().stack();
        for id in ["a", "b", "c"] {
            let at = stack.cell(name(id));
            store.put_cell(&Cell { at, ..cell(id) }).unwrap();
        }
        // Damaged, without a document, and no cell at all.
        let root = store.root().to_owned();
        let dir = root.join(rel(&stack.clone().into()));
        std::fs::write(dir.join("b/cell.yaml"), "kind: [").unwrap();
        std::fs::create_dir(dir.join("empty")).unwrap();
        std::fs::create_dir(dir.join("link")).unwrap();
        std::os::unix::fs::symlink("../a/cell.yaml", dir.join("link/cell.yaml")).unwrap();
        std::fs::create_dir(dir.join("Not-A-Name")).unwrap();
        let read = store.read_cells(&stack, |_| true).unwrap();
        let places: Vec<_> = read.iter().map(|(at, _)| at.clone()).collect();
        assert_eq!(places, store.cells(&stack).unwrap());
        for (at, found) in &read {
            match (found, store.cell(at)) {
                (Ok(found), Ok(Some(alone))) => assert_eq!(**found, alone),
                (Err(Error::Corrupt { .. }), Err(Error::Corrupt { .. })) => {
                    assert!(["b", "link"].contains(&at.cell.as_str()), "{at}");
                }
                other => panic!("{at}: {other:?}"),
            }
        }
        assert_eq!(read.len(), 4);
        let read = store.read_cells(&stack, |name| *name == *"c").unwrap();
        assert_eq!(read.len(), 1);
        // Nothing that is listed hides the rest.
        assert_eq!(store.objects().unwrap().len(), 3 + 4);
    }

    #[test]
    fn a_write_that_dies_at_any_step_leaves_old_or_new() {
        for step in 1..=5 {
            let (_dir, store) = store();
            let (old, new) = (cell("old:1"), cell("new:1"));
            store.put_cell(&old).unwrap();
            CRASH_AT.set(step);
            assert!(store.put_cell(&new).is_err(), "step {step}");
            CRASH_AT.set(0);
            let reopened = Store::open(store.root()).unwrap();
            let wanted = if step <= 3 { &old } else { &new };
            assert_eq!(reopened.cell(&old.at).unwrap().as_ref(), Some(wanted));
            assert_eq!(store.cell(&old.at).unwrap().as_ref(), Some(wanted));
            assert_eq!(
                reopened.cells(&old.at.stack()).unwrap(),
                std::slice::from_ref(&old.at)
            );
            // What is left does not stand in the way of writing or removing.
            store.put_cell(&new).unwrap();
            assert_eq!(reopened.cell(&new.at).unwrap(), Some(new));
            let left = std::fs::read_dir(store.root().join("r/s/t/c"))
                .unwrap()
                .count();
            assert_eq!(left, if step <= 3 { 3 } else { 2 }, "step {step}");
            store.remove(&old.at.clone().into()).unwrap();
            assert!(!store.root().join("r/s/t/c").exists(), "step {step}");
        }
    }
}
