//! Files of secrets on a memory file system of the cell's own, from where they
//! are bound into its containers.
//!
//! `<runtime_dir>/ns/.secrets/<realm>.<space>.<stack>.<cell>/<container>/<n>`, each
//! cell's directory a tmpfs that only root can enter. It lies below the shared
//! mount of the pins, so that a containerd in a mount namespace of its own sees it.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, Uid};
use rustix::mount::MountFlags;

use crate::model::{CellRef, Name};
use crate::sys::mounts;

/// All secrets of a cell together, at most.
const SIZE: &str = "size=64m,mode=0700";

/// One file to stage.
pub struct StagedFile {
    /// Its content.
    pub content: Vec<u8>,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// The staged secrets of one instance.
#[derive(Debug, Clone)]
pub struct Staging {
    /// The shared mount.
    shared: PathBuf,
}

impl Staging {
    /// Of the instance with this runtime directory.
    pub fn new(runtime_dir: &Path) -> Self {
        Self {
            shared: runtime_dir.join("ns"),
        }
    }

    fn root(&self) -> PathBuf {
        self.shared.join(".secrets")
    }

    fn cell_dir(&self, cell: &CellRef) -> PathBuf {
        let CellRef {
            realm,
            space,
            stack,
            cell,
        } = cell;
        self.root().join(format!("{realm}.{space}.{stack}.{cell}"))
    }

    /// Where the `n`th file of a container is, from 0.
    pub fn path(&self, cell: &CellRef, container: &Name, n: usize) -> PathBuf {
        let dir = self.cell_dir(cell).join(container.as_str());
        dir.join(n.to_string())
    }

    /// Anything is left of a cell's staging.
    pub fn exists(&self, cell: &CellRef) -> bool {
        fs::symlink_metadata(self.cell_dir(cell)).is_ok()
    }

    /// Containers of a cell that have files staged.
    pub fn staged(&self, cell: &CellRef) -> BTreeSet<Name> {
        let entries = fs::read_dir(self.cell_dir(cell)).into_iter().flatten();
        let name = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
        entries.filter_map(name).collect()
    }

    /// Puts exactly these files in place for a container. A file is replaced as
    /// a whole: what still has the old one bound keeps it.
    pub fn stage(&self, cell: &CellRef, container: &Name, files: &[StagedFile]) -> io::Result<()> {
        self.mount(cell)?;
        let dir = self.cell_dir(cell).join(container.as_str());
        make_private(&dir)?;
        for (n, file) in files.iter().enumerate() {
            let temp = dir.join(format!(".{n}"));
            remove_file(&temp)?;
            let mut to = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temp)?;
            to.write_all(&file.content)?;
            let (uid, gid) = (Uid::from_raw(file.uid), Gid::from_raw(file.gid));
            rustix::fs::fchown(&to, Some(uid), Some(gid))?;
            rustix::fs::fchmod(&to, Mode::from_raw_mode(file.mode))?;
            fs::rename(&temp, dir.join(n.to_string()))?;
        }
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let number = entry.file_name().to_str().and_then(|n| n.parse().ok());
            if number.is_none_or(|n: usize| n >= files.len()) {
                remove_file(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes the files of one container.
    pub fn unstage(&self, cell: &CellRef, container: &Name) -> io::Result<()> {
        gone(fs::remove_dir_all(
            self.cell_dir(cell).join(container.as_str()),
        ))
    }

    /// Removes everything staged for a cell, with its file system.
    pub fn remove(&self, cell: &CellRef) -> io::Result<()> {
        let dir = self.cell_dir(cell);
        if let Ok(entries) = fs::read_dir(&dir) {
            for entry in entries {
                gone(fs::remove_dir_all(entry?.path()))?;
            }
        }
        while mounts::unmount(&dir)? {}
        gone(fs::remove_dir(&dir))?;
        // The last one takes the directory of all along.
        let _ = fs::remove_dir(self.root());
        Ok(())
    }

    /// Mounts the cell's file system unless it is.
    fn mount(&self, cell: &CellRef) -> io::Result<()> {
        mounts::ensure_shared_dir(&self.shared)?;
        let dir = self.cell_dir(cell);
        let mut tries = 0;
        while let Err(e) = make_private(&self.root()).and_then(|()| make_private(&dir)) {
            // The last other cell may just have taken the root along.
            if e.kind() != ErrorKind::NotFound || tries == 8 {
                return Err(e);
            }
            tries += 1;
        }
        if fs::symlink_metadata(&dir)?.dev() != fs::symlink_metadata(self.root())?.dev() {
            return Ok(());
        }
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let mount = |data: String| {
            let data = std::ffi::CString::new(data).unwrap_or_default();
            rustix::mount::mount("tmpfs", &dir, "tmpfs", flags, Some(data.as_c_str()))
        };
        // Nothing of it shall reach a disk, where the kernel can promise that
        // (Documentation/filesystems/tmpfs.rst, Linux 6.4).
        if mount(format!("{SIZE},noswap")).is_err() {
            mount(SIZE.to_owned())?;
        }
        Ok(())
    }
}

fn make_private(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    gone(fs::remove_file(path))
}

/// What is gone need not be removed.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
