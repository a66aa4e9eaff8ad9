//! Reading everything again and comparing it with its digest.

use super::document::Document;
use super::upload::hash_all;
use super::{Storage, blob_path, size_of};
use crate::oci::{Algorithm, Digest, Hasher};
use crate::registry::{Error, Reference, Repository, Result};

/// One thing that is not as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Repository, where it is about one.
    pub repository: Option<Repository>,
    /// Digest or tag.
    pub object: String,
    /// What is wrong.
    pub what: String,
}

/// What verifying came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Contents that were read.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Manifests of all repositories.
    pub manifests: u64,
    /// Nothing of it was changed.
    pub problems: Vec<Problem>,
}

impl Storage {
    /// Reads and hashes all content, and follows every link, tag and reference.
    /// `progress` is told the bytes read so far; it ends the work by `false`.
    ///
    /// # Errors
    /// The disk's, other than damage, which is reported.
    pub fn verify(&self, mut progress: impl FnMut(u64) -> bool) -> Result<Verified> {
        let mut verified = Verified::default();
        for algorithm in Algorithm::ALL {
            let mut all = Vec::new();
            self.each_blob(algorithm, |digest, _| {
                all.push(digest.clone());
                Ok(())
            })?;
            for digest in all {
                self.verify_blob(&digest, &mut verified)?;
                if !progress(verified.bytes) {
                    return Ok(verified);
                }
            }
        }
        for repository in self.repositories()? {
            self.verify_repository(&repository, &mut verified)?;
        }
        Ok(verified)
    }

    fn verify_blob(&self, digest: &Digest, verified: &mut Verified) -> Result<()> {
        let mut problem = |what: String| {
            verified.problems.push(Problem {
                repository: None,
                object: digest.to_string(),
                what,
            });
        };
        let opened = match self.root().open_file(&blob_path(digest)) {
            Ok(Some((file, _))) => file,
            // Collected meanwhile.
            Ok(None) => return Ok(()),
            Err(e) => {
                problem(e.to_string());
                return Ok(());
            }
        };
        let mut hasher = Hasher::new(digest.algorithm());
        match hash_all(&mut hasher, &opened) {
            Ok(bytes) => {
                verified.bytes += bytes;
                verified.blobs += 1;
                let got = hasher.finish();
                if got != *digest {
                    problem(format!("its content has digest {got}"));
                }
            }
            Err(e) => problem(format!("it cannot be read: {e}")),
        }
        Ok(())
    }

    fn verify_repository(&self, repository: &Repository, verified: &mut Verified) -> Result<()> {
        let mut problems = Vec::new();
        let mut problem = |object: String, what: String| {
            problems.push(Problem {
                repository: Some(repository.clone()),
                object,
                what,
            });
        };
        for digest in self.manifests(repository)? {
            verified.manifests += 1;
            match self.verify_manifest(repository, &digest) {
                Ok(()) => {}
                Err(Error::Files(e)) => return Err(Error::Files(e)),
                Err(e) => problem(digest.to_string(), e.to_string()),
            }
        }
        for tag in self.tags(repository)? {
            match self.resolve(repository, &Reference::Tag(tag.clone())) {
                Ok(_) => {}
                Err(Error::Files(e)) => return Err(Error::Files(e)),
                Err(e) => problem(tag.to_string(), e.to_string()),
            }
        }
        verified.problems.append(&mut problems);
        Ok(())
    }

    fn verify_manifest(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        let link = self.manifest_link(repository, digest)?;
        // Damage to the content itself is reported with the content.
        let Ok(Some(bytes)) = self.content(digest) else {
            return match self.root().stat(&blob_path(digest))? {
                Some(stat) if size_of(&stat) == link.size => Ok(()),
                _ => Err(corrupt(digest, "its content is missing or cut")),
            };
        };
        let document =
            Document::read(Some(&link.media_type), &bytes).map_err(|why| corrupt(digest, &why))?;
        for needed in document.blobs {
            self.blob_size(repository, &needed.digest)?;
        }
        for needed in document.children {
            self.manifest_link(repository, &needed.digest)?;
        }
        Ok(())
    }
}

fn corrupt(digest: &Digest, why: &str) -> Error {
    Error::Corrupt {
        what: digest.to_string(),
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{image, repo, scratch};
    use super::*;
    use crate::registry::Policy;

    #[test]
    fn all_damage_is_found() {
        let s = scratch();
        let a = repo("a");
        let manifest = image(&s, &a, b"layer");
        let tag = Reference::Tag("v1".parse().unwrap());
        s.put_manifest(&a, Some(&tag), None, &manifest, Policy::Enforce)
            .unwrap();
        let fine = s.verify(|_| true).unwrap();
        assert_eq!(fine.problems, []);
        assert_eq!((fine.blobs, fine.manifests), (3, 1));
        assert_eq!(fine.bytes, 2 + 5 + manifest.len() as u64);

        let layer = s.path().join(blob_path(&Digest::sha256(b"layer")));
        std::fs::write(&layer, b"LAYER").unwrap();
        std::fs::remove_file(s.path().join(blob_path(&Digest::sha256(b"{}")))).unwrap();
        let gone = Digest::sha256(b"gone");
        std::fs::write(s.path().join("repos/a/tags/v2"), gone.as_str()).unwrap();
        let bad = s.verify(|_| true).unwrap();
        let objects: Vec<&str> = bad.problems.iter().map(|p| p.object.as_str()).collect();
        let digest = Digest::sha256(&manifest);
        let layer = Digest::sha256(b"layer");
        assert_eq!(objects, [layer.as_str(), digest.as_str(), "v2"]);
    }

    #[test]
    fn it_can_be_ended() {
        let s = scratch();
        s.put_blob(&repo("a"), b"1", None).unwrap();
        s.put_blob(&repo("a"), b"2", None).unwrap();
        assert_eq!(s.verify(|_| false).unwrap().blobs, 1);
    }
}
