//! Removing one object, and everything.

use std::os::fd::AsFd;
use std::path::PathBuf;

use super::{Error, Result, Store, document, own_files, rel};
use crate::model::{Name, ObjectRef, RealmRef};
use crate::sys::beneath::{Entry, is_temp, join};

impl Store {
    /// Removes an object: its files, the document last (it carries the intent to
    /// delete, so what is cut short can be taken up again), then its directory.
    /// A gone object is no error. Files that are not kukeon's are left, with
    /// the directory, and logged. [`Error::HasChildren`] when objects are below.
    ///
    /// The caller holds the exclusive lock.
    pub fn remove(&self, at: &ObjectRef) -> Result<()> {
        let children = self.children(at)?;
        if !children.is_empty() {
            return Err(Error::HasChildren {
                object: at.to_string(),
                children: children.iter().map(Name::to_string).collect(),
            });
        }
        if let ObjectRef::Kept(at) = at {
            return self.remove_kept(at);
        }
        let mut foreign = Vec::new();
        self.remove_object(at, true, &mut foreign)?;
        for path in foreign {
            tracing::warn!(path = %path.display(), "left in place: not a file of kukeon");
        }
        Ok(())
    }

    /// Removes everything that kukeon put below the root, for uninstall; then
    /// the root itself when nothing is left. Returns what was left because it is
    /// not kukeon's. `run/` is the runtime's and must be gone before, or it
    /// counts as foreign unless it is empty.
    pub fn remove_all(&self) -> Result<Vec<PathBuf>> {
        let root = &self.inner.root;
        let mut foreign = Vec::new();
        for realm in self.realms()? {
            for space in self.spaces(&realm)? {
                for stack in self.stacks(&space)? {
                    for cell in self.cells(&stack)? {
                        self.remove_object(&cell.into(), false, &mut foreign)?;
                    }
                    self.remove_object(&stack.into(), false, &mut foreign)?;
                }
                self.remove_object(&space.into(), false, &mut foreign)?;
            }
            self.remove_object(&realm.into(), false, &mut foreign)?;
        }
        // Volumes that outlived their realm.
        for entry in root.list("")?.unwrap_or_default() {
            let realm = entry.name.parse::<Name>().ok();
            let realm = realm.filter(|n| !super::RESERVED.contains(&n.as_str()));
            if let (true, Some(realm)) = (entry.is_dir, realm)
                && self.holds_volumes(&entry.name)?
            {
                self.remove_object(&RealmRef { realm }.into(), false, &mut foreign)?;
            }
        }
        // Whole trees of ours; the standard library follows no links in them.
        for tree in [
            super::releases::DIR,
            super::REGISTRY,
            super::WEB,
            ".clusters",
        ] {
            self.remove_tree(tree)?;
        }
        self.clear(".locks", |_| true, &mut foreign)?;
        root.rmdir(".locks")?;
        self.clear(
            "",
            |e| e.name == ".instance.yaml" || is_temp(&e.name),
            &mut Vec::new(),
        )?;
        for entry in root.list("")?.unwrap_or_default() {
            let path = root.join(&entry.name);
            let gone = entry.is_dir && root.rmdir(&entry.name)?;
            if !gone && !foreign.iter().any(|f| f.starts_with(&path)) {
                foreign.push(path);
            }
        }
        if foreign.is_empty() {
            match std::fs::remove_dir(root.path()) {
                Ok(()) => {}
                // A mount point, or a parent we may not change: an empty
                // directory stays.
                Err(e) => tracing::info!(path = %root.path().display(), %e, "empty run path stays"),
            }
        }
        foreign.sort();
        Ok(foreign)
    }

    /// With `retain` volumes that say so stay, with the directories above them.
    fn remove_object(
        &self,
        at: &ObjectRef,
        retain: bool,
        foreign: &mut Vec<PathBuf>,
    ) -> Result<()> {
        let root = &self.inner.root;
        let dir = rel(at);
        let Some(fd) = root.dir(&dir)? else {
            return Ok(());
        };
        if matches!(at, ObjectRef::Cell(_)) {
            let containers = join(&dir, "containers");
            self.clear(&containers, |e| is_container_file(&e.name), foreign)?;
            root.rmdir(&containers)?;
        }
        self.remove_all_kept(at, retain)?;
        let own = |e: &Entry| own_files(at).contains(&e.name.as_str()) || is_temp(&e.name);
        // Foreign files are counted once, below.
        self.clear(&dir, own, &mut Vec::new())?;
        // What is left of children whose removal was cut short.
        for entry in root.list(&dir)?.unwrap_or_default() {
            let child = entry.name.parse().ok().and_then(|name| below(at, name));
            if let (true, Some(child)) = (entry.is_dir, child)
                && !self.exists(&child)?
            {
                self.remove_object(&child, retain, foreign)?;
            }
        }
        root.sync(fd.as_fd(), &dir)?;
        root.unlink(fd.as_fd(), &dir, document(at))?;
        root.sync(fd.as_fd(), &dir)?;
        self.inner.cache.forget(&join(&dir, document(at)));
        drop(fd);
        if !root.rmdir(&dir)? {
            for entry in root.list(&dir)?.unwrap_or_default() {
                let path = root.join(&join(&dir, &entry.name));
                if retain && entry.is_dir && self.holds_volumes(&join(&dir, &entry.name))? {
                    continue;
                }
                if !foreign.iter().any(|f| f.starts_with(&path)) {
                    foreign.push(path);
                }
            }
        }
        Ok(())
    }

    /// Whether a directory is one of volumes, or has one somewhere below.
    fn holds_volumes(&self, dir: &str) -> Result<bool> {
        if dir.ends_with("/.volumes") {
            return Ok(true);
        }
        for entry in self.inner.root.list(dir)?.unwrap_or_default() {
            let path = join(dir, &entry.name);
            let scope = entry.name == ".volumes" || entry.name.parse::<Name>().is_ok();
            if entry.is_dir && scope && self.holds_volumes(&path)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes the files of a directory that are ours; notes the others.
    fn clear(
        &self,
        dir: &str,
        ours: impl Fn(&Entry) -> bool,
        foreign: &mut Vec<PathBuf>,
    ) -> Result<()> {
        let root = &self.inner.root;
        let Some(fd) = root.dir(dir)? else {
            return Ok(());
        };
        for entry in root.list(dir)?.unwrap_or_default() {
            if !entry.is_dir && ours(&entry) {
                root.unlink(fd.as_fd(), dir, &entry.name)?;
            } else {
                foreign.push(root.join(&join(dir, &entry.name)));
            }
        }
        Ok(())
    }
}

/// `<container>.yaml`, `<container>.log` and its rotated forms.
fn is_container_file(name: &str) -> bool {
    let Some((stem, rest)) = name.split_once('.') else {
        return false;
    };
    let kind = rest == "yaml" || rest == "log" || rest.starts_with("log.");
    is_temp(name) || (kind && stem.parse::<Name>().is_ok())
}

/// The object of that name one level down.
fn below(at: &ObjectRef, name: Name) -> Option<ObjectRef> {
    match at {
        ObjectRef::Realm(r) => Some(r.space(name).into()),
        ObjectRef::Space(r) => Some(r.stack(name).into()),
        ObjectRef::Stack(r) => Some(r.cell(name).into()),
        ObjectRef::Cell(_) | ObjectRef::Kept(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_files_of_containers() {
        for ours in ["web.yaml", "web.log", "web.log.1", "web.log.2.gz", ".tmp-0"] {
            assert!(is_container_file(ours), "{ours}");
        }
        for foreign in [
            "web",
            "web.txt",
            "Web.yaml",
            "notes.yaml.bak",
            "web.logs",
            ".log",
        ] {
            assert!(!is_container_file(foreign), "{foreign}");
        }
    }
}
