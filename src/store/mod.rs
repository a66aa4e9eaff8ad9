//! The authoritative YAML tree below the run path: atomic, durable writes,
//! per-object cross-process locks, every path opened beneath the root.
//!
//! ```text
//! <run path>/.instance.yaml                   settings that host objects are named by
//! <run path>/.locks/<realm>.<space>.…         lock files, never unlinked while in use
//! <run path>/.delivery/<namespace>/<kinds>/<name>.yaml   release objects; pantries 0600
//! …/.volumes/<name>/{volume.yaml,owner,data/}  of a realm, space or stack
//! …/.secrets/<name>/secret.yaml               0600 in 0700: of those, and of a cell
//! <run path>/run/                             sockets and pins; not the store's
//! <run path>/<realm>/realm.yaml               0600: holds registry passwords
//! …/<space>/{space.yaml,network.conflist}
//! …/<stack>/stack.yaml
//! …/<cell>/{cell.yaml,hosts,hostname,resolv.conf}
//! …/<cell>/containers/<container>.{yaml,log}  the document is derived from cell.yaml
//! ```
//!
//! A directory is an object when it holds the document of its level. Writers
//! take the object's [`LockGuard`] first; readers need none.

mod cache;
mod codec;
mod error;
mod instance;
mod kept;
mod lock;
mod releases;
mod remove;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::{Error, Result};
pub use lock::{LockGuard, LockMode};
pub use releases::{ReleaseChange, ReleaseMark};

use crate::model::{CellRef, KeptKind, Name, ObjectRef};
use crate::sys::beneath;

/// Names that no realm can take, because kukeon has directories of that name
/// directly below the run path. No other level has such names: everything else
/// kukeon keeps there has a dot in its name, which no [`Name`] has.
pub const RESERVED: &[&str] = &["run", REGISTRY];

/// Directory of releases.
pub const RELEASES: &str = ".delivery";
/// Directory of the embedded registry's content.
pub const REGISTRY: &str = "registry";
/// Directory of the accounts of the pages.
pub const WEB: &str = ".web";

/// Fails with [`Error::Reserved`] when the object's name is one of [`RESERVED`].
pub fn check_name(at: &ObjectRef) -> Result<()> {
    match at {
        ObjectRef::Realm(r) if RESERVED.contains(&r.realm.as_str()) => Err(Error::Reserved {
            name: r.realm.to_string(),
        }),
        _ => Ok(()),
    }
}

/// The files below one run path. A clone is the same store.
///
/// Calls are short and block only on the disk; a write waits for `fsync`.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: beneath::Root,
    cache: cache::Cache,
    locks: lock::Locks,
}

impl Store {
    /// Opens the state root, making it (0750) when it is missing.
    ///
    /// [`Error::Root`] when it is not absolute, no directory, not owned by the
    /// calling user or writable by others.
    pub fn open(run_path: &Path) -> Result<Self> {
        let root = beneath::Root::open(run_path)?;
        // A file system that is mounted read-only can still be read.
        if let Err(e) = root.sweep("").map_err(Error::from)
            && !matches!(e, Error::ReadOnly { .. })
        {
            return Err(e);
        }
        Ok(Self {
            inner: Arc::new(Inner {
                root,
                cache: cache::Cache::default(),
                locks: lock::Locks::default(),
            }),
        })
    }

    /// The run path with symbolic links resolved.
    pub fn root(&self) -> &Path {
        self.inner.root.path()
    }

    /// `<cell directory>/containers/<container>.log`. The directory exists from
    /// the first [`Store::put_cell`] on; rotated logs have a suffix after `.log`.
    pub fn log_path(&self, cell: &CellRef, container: &Name) -> PathBuf {
        let dir = rel(&cell.clone().into());
        self.inner
            .root
            .join(&format!("{dir}/containers/{container}.log"))
    }

    /// Path of a file in an object's directory, for other programs. See [`Store::write_file`].
    pub fn file_path(&self, at: &ObjectRef, file: &str) -> PathBuf {
        self.inner.root.join(&beneath::join(&rel(at), file))
    }

    /// Replaces a file in an object's directory, atomically and durably. `file`
    /// is one of the names in the layout above ([`Error::BadFile`] otherwise):
    /// only those are removed with the object.
    pub fn write_file(&self, at: &ObjectRef, file: &str, content: &[u8], mode: u32) -> Result<()> {
        let path = own_file(at, file)?;
        match self.inner.root.read(&path) {
            Ok(Some((_, now))) if now == content => Ok(()),
            _ => Ok(self
                .inner
                .root
                .replace(&path, content, mode, beneath::Sync::Full)?),
        }
    }

    /// Changes a file in place, keeping its inode: a file that is bound into
    /// running containers (`hosts`) would otherwise stay old inside them.
    pub fn rewrite_file(
        &self,
        at: &ObjectRef,
        file: &str,
        content: &[u8],
        mode: u32,
    ) -> Result<()> {
        let path = own_file(at, file)?;
        Ok(self.inner.root.rewrite(&path, content, mode)?)
    }

    /// Reads a file in an object's directory; none when there is none.
    pub fn read_file(&self, at: &ObjectRef, file: &str) -> Result<Option<Vec<u8>>> {
        let path = own_file(at, file)?;
        Ok(self.inner.root.read(&path)?.map(|(_, bytes)| bytes))
    }
}

/// Directory of an object below the root.
fn rel(at: &ObjectRef) -> String {
    if let ObjectRef::Kept(at) = at {
        return format!("{}/{}", kept::dir(&at.scope, at.kind), at.name);
    }
    let names: Vec<&str> = at.names().into_iter().map(Name::as_str).collect();
    names.join("/")
}

/// Name of an object's document.
fn document(at: &ObjectRef) -> &'static str {
    match at {
        ObjectRef::Realm(_) => "realm.yaml",
        ObjectRef::Space(_) => "space.yaml",
        ObjectRef::Stack(_) => "stack.yaml",
        ObjectRef::Cell(_) => "cell.yaml",
        ObjectRef::Kept(at) => match at.kind {
            KeptKind::Volume => "volume.yaml",
            KeptKind::Secret => "secret.yaml",
        },
    }
}

/// Files in an object's directory, beside the document, that go with the object.
fn own_files(at: &ObjectRef) -> &'static [&'static str] {
    match at {
        ObjectRef::Space(_) => &["network.conflist"],
        ObjectRef::Cell(_) => &["hosts", "hostname", "resolv.conf"],
        ObjectRef::Kept(at) if at.kind == KeptKind::Volume => &["owner"],
        ObjectRef::Realm(_) | ObjectRef::Stack(_) | ObjectRef::Kept(_) => &[],
    }
}

fn own_file(at: &ObjectRef, file: &str) -> Result<String> {
    if own_files(at).contains(&file) {
        Ok(beneath::join(&rel(at), file))
    } else {
        Err(Error::BadFile(file.to_owned()))
    }
}
