//! Content by digest, and which repository shows it.

use std::fs::File;
use std::io::Read;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use super::{FILE_MODE, Policy, Storage, blob_path, size_of};
use crate::oci::Digest;
use crate::registry::{Error, Repository, Result};
use crate::sys::beneath::{Sync, join};

/// Content of this age is marked as fresh when somebody relies on it, so that a
/// collection leaves it alone.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// Content that can be read.
#[derive(Debug)]
pub struct Blob {
    /// At its beginning.
    pub file: File,
    /// Bytes.
    pub size: u64,
}

impl Storage {
    /// Stores content in one go and shows it in a repository.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] when `expected` is another digest; no space.
    pub fn put_blob(
        &self,
        repository: &Repository,
        bytes: &[u8],
        expected: Option<&Digest>,
    ) -> Result<Digest> {
        self.put_blob_from(repository, bytes, expected)
    }

    /// Stores content from a reader, in flat memory.
    ///
    /// # Errors
    /// As [`Storage::put_blob`], and what the reader says.
    pub fn put_blob_from(
        &self,
        repository: &Repository,
        mut content: impl Read,
        expected: Option<&Digest>,
    ) -> Result<Digest> {
        let mut upload = self.begin_upload(repository)?;
        upload.will_be(expected.map(Digest::algorithm).unwrap_or_default());
        let mut buffer = vec![0; 256 << 10];
        let copied = loop {
            match content.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(n) => {
                    if let Err(e) = upload.append(&buffer[..n]) {
                        break Err(e);
                    }
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => break Err(Error::io("reading content")(e)),
            }
        };
        // Nobody could take it up again.
        match copied.and_then(|()| self.check_space(upload.size())) {
            Ok(()) => upload.finish(expected),
            Err(e) => {
                upload.cancel()?;
                Err(e)
            }
        }
    }

    /// Size of a blob that a repository shows.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`], [`Error::Corrupt`].
    pub fn blob_size(&self, repository: &Repository, digest: &Digest) -> Result<u64> {
        let stated = self.blob_link(repository, digest)?;
        let stat = self.root().stat(&blob_path(digest))?;
        let stat = stat.ok_or_else(|| unknown(repository, digest))?;
        sized(digest, stated, size_of(&stat))?;
        self.refresh(digest, &stat)?;
        Ok(stated)
    }

    /// Opens a blob that a repository shows.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`], [`Error::Corrupt`].
    pub fn open_blob(&self, repository: &Repository, digest: &Digest) -> Result<Blob> {
        let size = self.blob_link(repository, digest)?;
        let found = self.root().open_file(&blob_path(digest))?;
        let (file, stat) = found.ok_or_else(|| unknown(repository, digest))?;
        sized(digest, size, size_of(&stat))?;
        Ok(Blob { file, size })
    }

    /// Reads a whole blob of at most `limit` bytes and checks its digest.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`], [`Error::Corrupt`], also for one that is larger.
    pub fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        limit: u64,
    ) -> Result<Vec<u8>> {
        let blob = self.open_blob(repository, digest)?;
        if blob.size > limit {
            return Err(Error::Corrupt {
                what: digest.to_string(),
                why: format!("it has {} bytes, at most {limit} make sense", blob.size),
            });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(blob.size).unwrap_or(0));
        (&blob.file)
            .take(blob.size)
            .read_to_end(&mut bytes)
            .map_err(Error::io("reading a blob"))?;
        authentic(digest, &bytes)?;
        Ok(bytes)
    }

    /// Shows a blob of one repository in another; false when `from` has it not.
    ///
    /// # Errors
    /// The disk's.
    pub fn mount_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: &Repository,
    ) -> Result<bool> {
        let _lock = self.shared()?;
        match self.blob_size(from, digest) {
            Ok(size) => self.link_blob(repository, digest, size).map(|()| true),
            Err(Error::BlobUnknown { .. } | Error::Corrupt { .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Takes a blob out of a repository; its content goes when nothing refers to
    /// it for a week.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`]; [`Error::ImmutableArtifact`] below `preparations/`.
    pub fn delete_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        policy: Policy,
    ) -> Result<()> {
        let _lock = self.exclusive()?;
        self.blob_link(repository, digest)?;
        if policy == Policy::Enforce && repository.holds_preparations() {
            return Err(Error::ImmutableArtifact {
                repository: repository.clone(),
                digest: digest.clone(),
            });
        }
        self.root().remove_file(&link_path(repository, digest))?;
        Ok(())
    }

    /// Makes content show in a repository. The shared lock is held.
    pub(super) fn link_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
    ) -> Result<()> {
        let path = link_path(repository, digest);
        if matches!(self.blob_link(repository, digest), Ok(now) if now == size) {
            return Ok(());
        }
        let text = size.to_string();
        self.root()
            .replace(&path, text.as_bytes(), FILE_MODE, Sync::Full)?;
        Ok(())
    }

    /// Size in a link.
    fn blob_link(&self, repository: &Repository, digest: &Digest) -> Result<u64> {
        let path = link_path(repository, digest);
        let Some((_, bytes)) = self.root().read(&path)? else {
            return Err(unknown(repository, digest));
        };
        let text = String::from_utf8_lossy(&bytes);
        text.parse().map_err(|_| Error::Corrupt {
            what: self.root().join(&path).display().to_string(),
            why: "it is no link".to_owned(),
        })
    }

    /// Takes a file with content in: it becomes durable at the digest's place,
    /// also over content that was damaged there.
    pub(super) fn adopt(&self, file: &File, from: &str, digest: &Digest, size: u64) -> Result<()> {
        file.sync_data().map_err(Error::io("syncing content"))?;
        let place = blob_path(digest);
        let known = self.root().stat(&place)?.is_some();
        self.root().rename(from, &place)?;
        if !known {
            self.inner.used.add(size);
        }
        Ok(())
    }

    /// Marks content as needed, when that was long ago.
    pub(super) fn refresh(&self, digest: &Digest, stat: &rustix::fs::Stat) -> Result<()> {
        if age(stat, SystemTime::now()) < FRESH {
            return Ok(());
        }
        let path = blob_path(digest);
        let (above, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let Some(dir) = self.root().dir(above)? else {
            return Ok(());
        };
        let omit = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        };
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        };
        let times = Timestamps {
            last_access: omit,
            last_modification: now,
        };
        match rustix::fs::utimensat(&dir, name, &times, AtFlags::SYMLINK_NOFOLLOW) {
            // On a read-only disk nothing is collected either.
            Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::ROFS) => Ok(()),
            Err(e) => Err(Error::io("marking content as needed")(e.into())),
        }
    }
}

/// Link of a blob in a repository.
pub(super) fn link_path(repository: &Repository, digest: &Digest) -> String {
    join(&join(&repository.dir(), "blobs"), digest.as_str())
}

/// How long ago a file was changed; nothing when that is in the future.
pub(super) fn age(stat: &rustix::fs::Stat, now: SystemTime) -> Duration {
    let changed = UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
    now.duration_since(changed).unwrap_or_default()
}

/// Compares content with its digest.
pub(super) fn authentic(digest: &Digest, bytes: &[u8]) -> Result<()> {
    if Digest::of(digest.algorithm(), bytes) == *digest {
        return Ok(());
    }
    Err(Error::Corrupt {
        what: digest.to_string(),
        why: "its content has another digest".to_owned(),
    })
}

fn unknown(repository: &Repository, digest: &Digest) -> Error {
    Error::BlobUnknown {
        repository: repository.clone(),
        digest: digest.clone(),
    }
}

fn sized(digest: &Digest, stated: u64, actual: u64) -> Result<()> {
    if stated == actual {
        return Ok(());
    }
    Err(Error::Corrupt {
        what: digest.to_string(),
        why: format!("{actual} bytes are left of {stated}"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{repo, scratch};
    use super::*;
    use crate::oci::Algorithm;

    fn all(blob: Blob) -> Vec<u8> {
        let mut bytes = Vec::new();
        (&blob.file).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, blob.size);
        bytes
    }

    #[test]
    fn content_is_kept_once_and_shown_where_it_was_put() {
        let s = scratch();
        let (a, b) = (repo("a"), repo("b/c"));
        let digest = s.put_blob(&a, b"content", None).unwrap();
        assert_eq!(digest, Digest::sha256(b"content"));
        assert_eq!(all(s.open_blob(&a, &digest).unwrap()), b"content");
        assert_eq!(s.read_blob(&a, &digest, 7).unwrap(), b"content");
        assert!(matches!(
            s.read_blob(&a, &digest, 6),
            Err(Error::Corrupt { .. })
        ));
        assert!(matches!(
            s.open_blob(&b, &digest),
            Err(Error::BlobUnknown { .. })
        ));
        s.put_blob(&b, b"content", Some(&digest)).unwrap();
        assert_eq!(s.blob_size(&b, &digest).unwrap(), 7);
        let file = s.dir.path().join("registry").join(blob_path(&digest));
        assert_eq!(std::fs::read(file).unwrap(), b"content");
        let uploads = std::fs::read_dir(s.path().join("uploads")).unwrap();
        assert_eq!(uploads.count(), 0);
    }

    #[test]
    fn both_algorithms() {
        let s = scratch();
        let a = repo("a");
        let long = Digest::of(Algorithm::Sha512, b"x");
        assert_eq!(s.put_blob(&a, b"x", Some(&long)).unwrap(), long);
        assert_eq!(s.read_blob(&a, &long, 1).unwrap(), b"x");
    }

    #[test]
    fn other_content_than_announced_leaves_nothing() {
        let s = scratch();
        let wrong = Digest::sha256(b"right");
        let result = s.put_blob(&repo("a"), b"wrong", Some(&wrong));
        assert!(matches!(result, Err(Error::DigestMismatch { .. })));
        assert!(s.open_blob(&repo("a"), &wrong).is_err());
        let uploads = std::fs::read_dir(s.path().join("uploads")).unwrap();
        assert_eq!(uploads.count(), 0);
        assert!(!s.path().join("blobs").exists());
    }

    #[test]
    fn mounting_shows_and_deleting_hides_in_one_repository() {
        let s = scratch();
        let (a, b) = (repo("a"), repo("b"));
        let digest = s.put_blob(&a, b"x", None).unwrap();
        assert!(!s.mount_blob(&b, &digest, &repo("none")).unwrap());
        assert!(s.mount_blob(&b, &digest, &a).unwrap());
        s.delete_blob(&a, &digest, Policy::Enforce).unwrap();
        assert!(s.open_blob(&a, &digest).is_err());
        assert_eq!(all(s.open_blob(&b, &digest).unwrap()), b"x");
        let again = s.delete_blob(&a, &digest, Policy::Enforce);
        assert!(matches!(again, Err(Error::BlobUnknown { .. })));
    }

    #[test]
    fn blobs_of_preparations_stay() {
        let s = scratch();
        let p = repo("preparations/default/web");
        let digest = s.put_blob(&p, b"x", None).unwrap();
        let refused = s.delete_blob(&p, &digest, Policy::Enforce);
        assert!(matches!(refused, Err(Error::ImmutableArtifact { .. })));
        s.delete_blob(&p, &digest, Policy::Override).unwrap();
    }

    #[test]
    fn damage_is_noticed_and_mended_by_pushing_again() {
        let s = scratch();
        let a = repo("a");
        let digest = s.put_blob(&a, b"content", None).unwrap();
        let file = s.path().join(blob_path(&digest));
        std::fs::write(&file, b"cont").unwrap();
        assert!(matches!(
            s.open_blob(&a, &digest),
            Err(Error::Corrupt { .. })
        ));
        std::fs::write(&file, b"CONTENT").unwrap();
        assert!(matches!(
            s.read_blob(&a, &digest, 9),
            Err(Error::Corrupt { .. })
        ));
        s.put_blob(&a, b"content", Some(&digest)).unwrap();
        assert_eq!(s.read_blob(&a, &digest, 9).unwrap(), b"content");
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(
            s.open_blob(&a, &digest),
            Err(Error::BlobUnknown { .. })
        ));
    }

    #[test]
    fn the_same_blob_from_many_sides_at_once() {
        let s = scratch();
        let content = vec![7; 3 << 20];
        let digest = Digest::sha256(&content);
        std::thread::scope(|scope| {
            for n in 0..8 {
                let (s, content, digest) = (&s, &content, &digest);
                scope.spawn(move || {
                    for _ in 0..4 {
                        let at = repo(&format!("r{}", n % 3));
                        s.put_blob(&at, content, Some(digest)).unwrap();
                        assert_eq!(all(s.open_blob(&at, digest).unwrap()), *content);
                    }
                });
            }
        });
    }

    #[test]
    fn old_content_becomes_fresh_when_it_is_asked_for() {
        let s = scratch();
        let digest = s.put_blob(&repo("a"), b"x", None).unwrap();
        let file = File::open(s.path().join(blob_path(&digest))).unwrap();
        let old = SystemTime::now() - Duration::from_secs(30 * 24 * 3600);
        file.set_modified(old).unwrap();
        s.blob_size(&repo("a"), &digest).unwrap();
        let now = file.metadata().unwrap().modified().unwrap();
        assert!(now.elapsed().unwrap() < FRESH);
    }
}
