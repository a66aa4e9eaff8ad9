//! Files and directories of this machine, below configured roots. Symbolic
//! links are followed as long as they stay below the root (openat2(2),
//! `RESOLVE_BENEATH`).

use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::delivery::failure::{Failure, Reason, Result};

use super::tree::{File, Tree, invalid};

/// Deepest directory that is read; links may form a circle.
const MAX_DEPTH: usize = 32;
/// How often a lookup is repeated that raced with a rename (`EAGAIN`).
const RACES: usize = 64;

/// Reads a file or directory. A file becomes a tree with that file alone; in
/// directories, `.git` is left out.
///
/// `SourceNotFound` where nothing is, or no root covers it; `SourceInvalid` for
/// links that lead out, special files, and more than fits.
pub fn read(roots: &[PathBuf], path: &Path) -> Result<Tree> {
    let (root, rel) = root_of(roots, path)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(root, flags, Mode::empty()).map_err(|e| failed(root, e))?;
    let rel = rel
        .to_str()
        .ok_or_else(|| invalid(format!("the path {} is not UTF-8", path.display())))?;
    let mut reader = Reader {
        fd: fd.as_fd(),
        root,
        tree: Tree::default(),
    };
    let kind = reader.kind(rel)?;
    match kind {
        FileType::Directory => reader.directory(rel, "", 0)?,
        _ => {
            let name = rel.rsplit('/').next().unwrap_or(rel).to_owned();
            reader.file(rel, &name)?;
        }
    }
    Ok(reader.tree)
}

/// The root that covers a path, and the rest of the path.
fn root_of<'r>(roots: &'r [PathBuf], path: &Path) -> Result<(&'r Path, PathBuf)> {
    let covered = roots
        .iter()
        .filter_map(|root| Some((root.as_path(), path.strip_prefix(root).ok()?.to_path_buf())))
        .max_by_key(|(root, _)| root.components().count());
    covered.ok_or_else(|| {
        let shown = path.display();
        Failure::new(
            Reason::SourceNotFound,
            format!("{shown} is below none of the source roots"),
        )
        .hint("add a directory to sourceRoots in the Kitchen's spec")
    })
}

struct Reader<'r> {
    fd: BorrowedFd<'r>,
    root: &'r Path,
    tree: Tree,
}

impl Reader<'_> {
    fn open(&self, rel: &str, flags: OFlags) -> Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let rel = if rel.is_empty() { "." } else { rel };
        let mut races = 0;
        loop {
            let flags = flags | OFlags::CLOEXEC;
            match rustix::fs::openat2(self.fd, rel, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) if races < RACES => races += 1,
                other => return other.map_err(|e| failed(&self.root.join(rel), e)),
            }
        }
    }

    fn kind(&self, rel: &str) -> Result<FileType> {
        let fd = self.open(rel, OFlags::PATH)?;
        let stat = rustix::fs::fstat(fd).map_err(|e| failed(&self.root.join(rel), e))?;
        Ok(FileType::from_raw_mode(stat.st_mode))
    }

    /// Reads a directory; `inner` is its path in the tree.
    fn directory(&mut self, rel: &str, inner: &str, depth: usize) -> Result<()> {
        let path = self.root.join(rel);
        if depth > MAX_DEPTH {
            let message = format!("{}: directories are nested too deep", path.display());
            return Err(invalid(message));
        }
        self.tree.count(0)?;
        let fd = self.open(rel, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(fd).map_err(|e| failed(&path, e))? {
            let entry = entry.map_err(|e| failed(&path, e))?;
            let name =
                entry.file_name().to_str().map(str::to_owned).map_err(|_| {
                    invalid(format!("{} has a name that is not UTF-8", path.display()))
                })?;
            if !matches!(&*name, "." | ".." | ".git") {
                names.push(name);
            }
        }
        for name in names {
            let join = |front: &str| match front {
                "" => name.clone(),
                front => format!("{front}/{name}"),
            };
            let (rel, inner) = (join(rel), join(inner));
            match self.kind(&rel)? {
                FileType::Directory => self.directory(&rel, &inner, depth + 1)?,
                _ => self.file(&rel, &inner)?,
            }
        }
        Ok(())
    }

    fn file(&mut self, rel: &str, inner: &str) -> Result<()> {
        // NONBLOCK: a FIFO must not hang us.
        let fd = self.open(rel, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let path = self.root.join(rel);
        let stat = rustix::fs::fstat(&fd).map_err(|e| failed(&path, e))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(invalid(format!("{} is no regular file", path.display())));
        }
        let mut bytes = Vec::new();
        // One more than fits, so that the tree refuses it.
        std::fs::File::from(fd)
            .take(self.tree.room() as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| invalid(format!("{}: {e}", path.display())))?;
        let executable = stat.st_mode & 0o111 != 0;
        self.tree.insert(inner, File { bytes, executable })
    }
}

fn failed(path: &Path, error: Errno) -> Failure {
    let shown = path.display();
    match error {
        Errno::NOENT | Errno::NOTDIR => {
            Failure::new(Reason::SourceNotFound, format!("{shown} is not there"))
                .hint("make it, or change spec.source.path; then `kuke recipe refresh`")
        }
        Errno::XDEV => invalid(format!(
            "{shown} is a link that leads out of the source root"
        )),
        Errno::LOOP => invalid(format!("{shown} is a link that leads to itself")),
        Errno::ACCESS | Errno::PERM => invalid(format!("{shown} may not be read")),
        error => invalid(format!("{shown}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn root() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("app/sub/.git")).unwrap();
        std::fs::write(root.join("app/b.yaml"), "b").unwrap();
        std::fs::write(root.join("app/sub/a.sh"), "a").unwrap();
        std::fs::write(root.join("app/sub/.git/x"), "x").unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(root.join("app/sub/a.sh"), mode).unwrap();
        std::fs::write(dir.path().join("outside"), "o").unwrap();
        (dir, root)
    }

    #[test]
    fn files_and_directories() {
        let (_dir, root) = root();
        let roots = [root.clone()];
        let tree = read(&roots, &root.join("app")).unwrap();
        let found: Vec<_> = tree.files().map(|(p, f)| (p, f.executable)).collect();
        assert_eq!(found, [("b.yaml", false), ("sub/a.sh", true)]);
        let tree = read(&roots, &root.join("app/b.yaml")).unwrap();
        assert_eq!(tree.get("b.yaml").unwrap().bytes, b"b");
        let digest = tree.digest();
        std::fs::write(root.join("app/b.yaml"), "c").unwrap();
        assert_ne!(
            read(&roots, &root.join("app/b.yaml")).unwrap().digest(),
            digest
        );
    }

    #[test]
    fn what_leads_out_is_refused() {
        let (dir, root) = root();
        let roots = [root.clone()];
        let reason = |path: &str| read(&roots, &root.join(path)).unwrap_err().reason;
        assert_eq!(reason("none"), Reason::SourceNotFound);
        assert_eq!(reason("app/b.yaml/x"), Reason::SourceNotFound);
        let outside = read(&roots, &dir.path().join("outside")).unwrap_err();
        assert_eq!(outside.reason, Reason::SourceNotFound);
        assert_eq!(reason("../outside"), Reason::SourceInvalid);
        symlink("b.yaml", root.join("app/link")).unwrap();
        assert_eq!(
            read(&roots, &root.join("app/link"))
                .unwrap()
                .get("link")
                .unwrap()
                .bytes,
            b"b"
        );
        symlink("../../outside", root.join("app/out")).unwrap();
        assert_eq!(reason("app"), Reason::SourceInvalid);
        std::fs::remove_file(root.join("app/out")).unwrap();
        symlink("/etc/hostname", root.join("app/out")).unwrap();
        assert_eq!(reason("app"), Reason::SourceInvalid);
        std::fs::remove_file(root.join("app/out")).unwrap();
        symlink(".", root.join("app/circle")).unwrap();
        assert_eq!(reason("app"), Reason::SourceInvalid);
        std::fs::remove_file(root.join("app/circle")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.join("app/fifo"),
            FileType::Fifo,
            Mode::RUSR,
            0,
        )
        .unwrap();
        assert_eq!(reason("app"), Reason::SourceInvalid);
    }
}
