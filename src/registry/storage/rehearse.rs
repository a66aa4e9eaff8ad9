//! What an import would do, without storing anything.

use std::collections::BTreeMap;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::layout::{Imported, PIECE, unreadable};
use super::{Policy, Storage};
use crate::oci::{Digest, Hasher};
use crate::registry::{Error, MANIFEST_LIMIT, Repository, Result, Tag};

/// Most bytes that are kept of an archive that is only looked at. Its manifests
/// have to be in memory; those of a whole repository take a few of them.
const KEPT: usize = 64 << 20;

/// The manifests of an archive that is only looked at, by digest. Layers are
/// not kept.
#[derive(Debug, Default)]
pub(super) struct Kept(BTreeMap<Digest, Vec<u8>>);

impl Storage {
    /// As [`Storage::import`], but nothing is stored: says what it would bring.
    ///
    /// # Errors
    /// Those of the import, as far as they can be told before.
    pub async fn rehearse_import<R>(
        &self,
        repository: &Repository,
        tag: Option<&Tag>,
        from: R,
        policy: Policy,
    ) -> Result<Imported>
    where
        R: AsyncRead + Unpin + Send,
    {
        self.read_archive(repository, tag, from, policy, Some(Kept::default()))
            .await
    }
}

impl Kept {
    /// Reads one blob to its end: it has to be what its name says. Gives its size.
    pub(super) async fn look_at(
        &mut self,
        digest: &Digest,
        mut from: impl AsyncRead + Unpin,
    ) -> Result<u64> {
        let mut hasher = Hasher::new(digest.algorithm());
        let mut piece = Vec::with_capacity(PIECE);
        let mut whole = Some(Vec::new());
        let mut size = 0;
        loop {
            piece.clear();
            let read = (&mut from).take(PIECE as u64).read_to_end(&mut piece).await;
            if read.map_err(unreadable)? == 0 {
                break;
            }
            size += piece.len() as u64;
            hasher.update(&piece);
            // A manifest is a JSON object of bounded size.
            whole = whole.filter(|_| size <= MANIFEST_LIMIT);
            if let Some(whole) = &mut whole {
                whole.extend_from_slice(&piece);
            }
        }
        let got = hasher.finish();
        if got != *digest {
            let expected = digest.clone();
            return Err(Error::DigestMismatch { expected, got });
        }
        if let Some(whole) = whole.filter(|whole| whole.trim_ascii_start().starts_with(b"{")) {
            self.0.insert(got, whole);
            let kept: usize = self.0.values().map(Vec::len).sum();
            if kept > KEPT {
                let message = "it has too many documents to be looked at without storing them";
                return Err(Error::Layout(message.to_owned()));
            }
        }
        Ok(size)
    }

    /// The bytes of what may be a manifest.
    pub(super) fn get(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.0.get(digest).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{image, repo, scratch};
    use super::*;
    use crate::registry::Reference;

    #[tokio::test]
    async fn it_tells_what_an_import_does_and_stores_nothing() {
        let (from, to) = (scratch(), scratch());
        let (a, b) = (repo("a"), repo("b"));
        let bytes = image(&from, &a, b"layer of this image");
        let tag: Tag = "v1".parse().unwrap();
        let reference = Reference::Tag(tag.clone());
        from.put_manifest(&a, Some(&reference), None, &bytes, Policy::Enforce)
            .unwrap();
        let archive = from.export(&a, &[], Vec::new()).await.unwrap();
        let look = |bytes: Vec<u8>| {
            let (to, b) = (to.storage.clone(), b.clone());
            async move {
                to.rehearse_import(&b, None, bytes.as_slice(), Policy::Enforce)
                    .await
            }
        };
        let told = look(archive.clone()).await.unwrap();
        assert!(to.repositories().unwrap().is_empty());
        assert_eq!(to.verify(|_| true).unwrap().blobs, 0);

        let at = archive.windows(8).position(|w| w == b"layer of").unwrap();
        let mut changed = archive.clone();
        changed[at] = b'L';
        let refused = look(changed).await;
        assert!(matches!(refused, Err(Error::DigestMismatch { .. })));
        assert!(look(archive[..archive.len() / 2].to_vec()).await.is_err());

        let done = to
            .import(&b, None, archive.as_slice(), Policy::Enforce)
            .await
            .unwrap();
        assert_eq!(done, told);
        assert_eq!(done.manifests[0].1.as_ref(), Some(&tag));
    }

    /// What is there from before counts, as it does for an import.
    #[tokio::test]
    async fn what_the_archive_lacks_may_be_there() {
        let (from, to) = (scratch(), scratch());
        let a = repo("a");
        let bytes = image(&from, &a, b"1");
        let digest = from
            .put_manifest(&a, None, None, &bytes, Policy::Enforce)
            .unwrap()
            .digest;
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [
            {"mediaType": "application/vnd.oci.image.manifest.v1+json",
             "digest": digest.as_str(), "size": bytes.len()}]})
        .to_string();
        let mut archive = tokio_tar::Builder::new(Vec::new());
        let mut header = tokio_tar::Header::new_gnu();
        header.set_size(index.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, "index.json", index.as_bytes())
            .await
            .unwrap();
        let archive = archive.into_inner().await.unwrap();
        let look = |storage: Storage| {
            let (a, archive) = (a.clone(), archive.clone());
            async move {
                storage
                    .rehearse_import(&a, None, archive.as_slice(), Policy::Enforce)
                    .await
            }
        };
        assert!(look(to.storage.clone()).await.is_err());
        look(from.storage.clone()).await.unwrap();
    }
}
