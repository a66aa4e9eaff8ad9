//! Upload sessions: content that comes in pieces, over several requests and
//! over restarts of the daemon.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use super::{FILE_MODE, Storage, size_of};
use crate::oci::{Algorithm, Digest, Hasher};
use crate::registry::{Error, Repository, Result};
use crate::sys::writeback;

pub(super) const DIR: &str = "uploads";
/// How many sessions' hashes are remembered; others are computed again.
const REMEMBERED: usize = 1024;
/// Space is looked at again after this many bytes.
const SPACE_STEP: u64 = 16 << 20;
/// So many bytes go to the disk together while further ones come, so that the
/// client does not wait for all of them at the end.
const WRITE_STEP: u64 = 8 << 20;
const RANDOM_LEN: usize = 32;
const BOUND_LEN: usize = 16;

/// Where sessions of this process stand.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<String, State>>);

enum State {
    /// A request writes to it.
    Busy,
    /// Hash of what came so far, which are so many bytes.
    Idle { size: u64, hasher: Box<Hasher> },
}

/// A session that this request has for itself. Dropping it keeps what came.
pub struct Upload {
    storage: Storage,
    repository: Repository,
    id: String,
    file: File,
    size: u64,
    /// Hash of the first `size` bytes; none when they were not all seen.
    hasher: Option<Hasher>,
    next_check: u64,
    /// Up to here, the disk was asked to write.
    begun: u64,
    open: bool,
}

impl Storage {
    /// Begins a session. Its id cannot be guessed.
    ///
    /// # Errors
    /// [`Error::Quota`], [`Error::LowDisk`], the disk's.
    pub fn begin_upload(&self, repository: &Repository) -> Result<Upload> {
        self.check_upload("", 0)?;
        let random = uuid::Uuid::new_v4().simple().to_string();
        let id = format!("{random}{}", bound(&random, repository));
        let file = self.root().create_new(&path(&id), FILE_MODE)?;
        self.sessions().insert(id.clone(), State::Busy);
        Ok(Upload {
            storage: self.clone(),
            repository: repository.clone(),
            id,
            file,
            size: 0,
            hasher: Some(Hasher::default()),
            next_check: SPACE_STEP,
            begun: 0,
            open: true,
        })
    }

    /// Takes a session up again, for this caller alone.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`], also for a session of another repository;
    /// [`Error::UploadBusy`] while another request has it.
    pub fn resume_upload(&self, repository: &Repository, id: &str) -> Result<Upload> {
        check_id(repository, id)?;
        let mut sessions = self.sessions();
        if matches!(sessions.get(id), Some(State::Busy)) {
            return Err(Error::UploadBusy);
        }
        let Some((file, stat)) = self.root().open_to_write(&path(id))? else {
            sessions.remove(id);
            return Err(Error::UploadUnknown);
        };
        let size = size_of(&stat);
        let hasher = match sessions.insert(id.to_owned(), State::Busy) {
            Some(State::Idle { size: seen, hasher }) if seen == size => Some(*hasher),
            _ => None,
        };
        drop(sessions);
        Ok(Upload {
            storage: self.clone(),
            repository: repository.clone(),
            id: id.to_owned(),
            file,
            size,
            hasher,
            next_check: size + SPACE_STEP,
            begun: size,
            open: true,
        })
    }

    /// Bytes that a session has, without taking it up.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`].
    pub fn upload_size(&self, repository: &Repository, id: &str) -> Result<u64> {
        check_id(repository, id)?;
        let stat = self.root().stat(&path(id))?;
        stat.map(|stat| size_of(&stat)).ok_or(Error::UploadUnknown)
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, HashMap<String, State>> {
        let all = &self.inner.sessions.0;
        all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request of this process writes to a session.
    pub(super) fn is_busy(&self, id: &str) -> bool {
        matches!(self.sessions().get(id), Some(State::Busy))
    }
}

impl Upload {
    /// Name of the session.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Says which digest will be asked for, which saves a second reading.
    pub fn will_be(&mut self, algorithm: Algorithm) {
        if self.size == 0 {
            self.hasher = Some(Hasher::new(algorithm));
        }
    }

    /// Fails unless so many further bytes may come.
    ///
    /// # Errors
    /// [`Error::Quota`], [`Error::LowDisk`].
    pub fn announce(&self, further: u64) -> Result<()> {
        let bytes = self.size.saturating_add(further);
        self.storage.check_upload(&self.id, bytes)
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// [`Error::Quota`], [`Error::LowDisk`], the disk's. What was written before
    /// stays.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.size + bytes.len() as u64;
        if end > self.next_check {
            self.storage.check_upload(&self.id, end)?;
            self.next_check = end + SPACE_STEP;
        }
        if self.hasher.is_none() {
            self.hasher = Some(self.hash(Algorithm::default())?);
        }
        if let Err(e) = self.file.write_all_at(bytes, self.size) {
            // Part of it may be there; the next request measures again.
            self.hasher = None;
            return Err(Error::io("writing an upload")(e));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.size = end;
        if end - self.begun >= WRITE_STEP {
            writeback::begin(&self.file, self.begun, end - self.begun);
            self.begun = end;
        }
        Ok(())
    }

    fn hash(&self, algorithm: Algorithm) -> Result<Hasher> {
        let mut hasher = Hasher::new(algorithm);
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))
            .map_err(Error::io("reading an upload"))?;
        hash_all(&mut hasher, file.take(self.size)).map_err(Error::io("reading an upload"))?;
        Ok(hasher)
    }

    /// Ends the session: its content is now a blob of the repository.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`]; the session is gone then.
    pub fn finish(self, expected: Option<&Digest>) -> Result<Digest> {
        let repository = self.repository.clone();
        let storage = self.storage.clone();
        let (digest, size) = self.commit(expected)?;
        let _lock = storage.shared()?;
        storage.link_blob(&repository, &digest, size)?;
        Ok(digest)
    }

    /// As [`Upload::finish`], but no repository shows the content yet.
    pub(super) fn commit(mut self, expected: Option<&Digest>) -> Result<(Digest, u64)> {
        let algorithm = expected.map(Digest::algorithm).unwrap_or_default();
        let hasher = match self.hasher.take() {
            Some(hasher) if hasher.algorithm() == algorithm => hasher,
            _ => self.hash(algorithm)?,
        };
        let got = hasher.finish();
        if let Some(expected) = expected
            && got != *expected
        {
            self.discard()?;
            return Err(Error::DigestMismatch {
                expected: expected.clone(),
                got,
            });
        }
        self.storage.check_space(self.size)?;
        let from = path(&self.id);
        self.storage.adopt(&self.file, &from, &got, self.size)?;
        self.forget();
        Ok((got, self.size))
    }

    /// Ends the session; nothing of it stays.
    ///
    /// # Errors
    /// The disk's.
    pub fn cancel(mut self) -> Result<()> {
        self.discard()
    }

    fn discard(&mut self) -> Result<()> {
        self.storage.root().remove_file(&path(&self.id))?;
        self.forget();
        Ok(())
    }

    fn forget(&mut self) {
        self.open = false;
        self.storage.sessions().remove(&self.id);
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let mut sessions = self.storage.sessions();
        sessions.remove(&self.id);
        if sessions.len() >= REMEMBERED {
            sessions.retain(|_, state| matches!(state, State::Busy));
        }
        if let Some(hasher) = self.hasher.take() {
            let (size, hasher) = (self.size, Box::new(hasher));
            sessions.insert(self.id.clone(), State::Idle { size, hasher });
        }
    }
}

/// Feeds a reader to a hash, in flat memory. Gives the number of bytes.
pub(super) fn hash_all(hasher: &mut Hasher, mut from: impl Read) -> std::io::Result<u64> {
    let mut buffer = vec![0; 256 << 10];
    let mut total = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                total += n as u64;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn path(id: &str) -> String {
    format!("{DIR}/{id}")
}

/// The second part of an id, which binds it to its repository, so that no file
/// has to say so.
fn bound(random: &str, repository: &Repository) -> String {
    let digest = Digest::sha256(format!("{random} {repository}").as_bytes());
    digest.hex()[..BOUND_LEN].to_owned()
}

fn check_id(repository: &Repository, id: &str) -> Result<()> {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if id.len() != RANDOM_LEN + BOUND_LEN || !id.bytes().all(hex) {
        return Err(Error::UploadUnknown);
    }
    let (random, binding) = id.split_at(RANDOM_LEN);
    if bound(random, repository) == binding {
        Ok(())
    } else {
        Err(Error::UploadUnknown)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{repo, scratch};
    use super::*;
    use crate::registry::Limits;

    #[test]
    fn pieces_over_several_requests() {
        let s = scratch();
        let a = repo("a");
        let mut upload = s.begin_upload(&a).unwrap();
        let id = upload.id().to_owned();
        upload.append(b"con").unwrap();
        assert!(matches!(s.resume_upload(&a, &id), Err(Error::UploadBusy)));
        drop(upload);
        assert_eq!(s.upload_size(&a, &id).unwrap(), 3);
        let mut upload = s.resume_upload(&a, &id).unwrap();
        assert_eq!(upload.size(), 3);
        upload.append(b"tent").unwrap();
        drop(upload);
        let digest = Digest::sha256(b"content");
        let upload = s.resume_upload(&a, &id).unwrap();
        assert_eq!(upload.finish(Some(&digest)).unwrap(), digest);
        assert_eq!(s.read_blob(&a, &digest, 9).unwrap(), b"content");
        assert!(matches!(
            s.resume_upload(&a, &id),
            Err(Error::UploadUnknown)
        ));
    }

    #[test]
    fn a_session_outlives_the_process() {
        let s = scratch();
        let a = repo("a");
        let mut upload = s.begin_upload(&a).unwrap();
        let id = upload.id().to_owned();
        upload.append(b"con").unwrap();
        drop(upload);
        let again = Storage::open(s.path(), Limits::default()).unwrap();
        let mut upload = again.resume_upload(&a, &id).unwrap();
        assert_eq!(upload.size(), 3);
        upload.append(b"tent").unwrap();
        drop(upload);
        // The first process has an outdated hash of it.
        let upload = s.resume_upload(&a, &id).unwrap();
        let digest = Digest::sha256(b"content");
        assert_eq!(upload.finish(Some(&digest)).unwrap(), digest);
    }

    #[test]
    fn the_other_algorithm_is_read_again() {
        let s = scratch();
        let mut upload = s.begin_upload(&repo("a")).unwrap();
        upload.append(b"x").unwrap();
        let digest = Digest::of(Algorithm::Sha512, b"x");
        assert_eq!(upload.finish(Some(&digest)).unwrap(), digest);
    }

    #[test]
    fn ids_belong_to_one_repository() {
        let s = scratch();
        let upload = s.begin_upload(&repo("a")).unwrap();
        let id = upload.id().to_owned();
        drop(upload);
        assert!(s.upload_size(&repo("a"), &id).is_ok());
        for (name, id) in [
            ("b", id.as_str()),
            ("a", "x"),
            ("a", ""),
            ("a", "../../../../etc/passwd"),
            ("a", &id.to_uppercase()),
        ] {
            let result = s.upload_size(&repo(name), id);
            assert!(matches!(result, Err(Error::UploadUnknown)), "{id}");
        }
    }

    #[test]
    fn cancelling_leaves_nothing() {
        let s = scratch();
        let mut upload = s.begin_upload(&repo("a")).unwrap();
        upload.append(b"x").unwrap();
        let id = upload.id().to_owned();
        upload.cancel().unwrap();
        assert!(matches!(
            s.upload_size(&repo("a"), &id),
            Err(Error::UploadUnknown)
        ));
    }
}
