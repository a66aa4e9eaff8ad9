//! Repositories as OCI image layouts (image spec, "OCI Image Layout"), as one
//! tar archive: what `skopeo copy oci-archive:` and others read and write.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tar::{Archive, Builder, EntryType, Header};

use super::document::{Descriptor, Document, INDEX_TYPE};
use super::rehearse::Kept;
use super::{Policy, Storage, blob_path, size_of};
use crate::oci::Digest;
use crate::registry::{Error, MANIFEST_LIMIT, Reference, Repository, Result, Tag};

const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Bytes that are taken from an archive at a time.
pub(super) const PIECE: usize = 1 << 20;
/// Indexes within indexes.
const DEEPEST: usize = 8;

/// What an import brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Manifests of the layout's index, with their tags.
    pub manifests: Vec<(Digest, Option<Tag>)>,
    /// Blobs in the archive, manifests among them.
    pub blobs: u64,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

/// What came in an archive.
struct Came {
    /// Of every blob, in bytes.
    sizes: BTreeMap<Digest, u64>,
    /// In a rehearsal, where the storage does not have them.
    kept: Option<Kept>,
}

impl Storage {
    /// Writes a repository as an archive: the manifests of some tags, or with
    /// none all of them, with what they need and what refers to them.
    ///
    /// # Errors
    /// A tag that is not there; content that is missing or damaged; what the
    /// writer says.
    pub async fn export<W>(&self, repository: &Repository, tags: &[Tag], out: W) -> Result<W>
    where
        W: AsyncWrite + Unpin + Send,
    {
        let (index, content) = self.plan_export(repository, tags)?;
        let mut tar = Builder::new_non_terminated(out);
        let layout = json!({"imageLayoutVersion": "1.0.0"}).to_string();
        append(&mut tar, "oci-layout", layout.as_bytes()).await?;
        append(&mut tar, "index.json", index.to_string().as_bytes()).await?;
        for digest in content {
            let found = self.root().open_file(&blob_path(&digest))?;
            let (file, stat) = found.ok_or_else(|| Error::Corrupt {
                what: digest.to_string(),
                why: "it is missing".to_owned(),
            })?;
            let name = format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex());
            let mut header = header(size_of(&stat));
            let content = tokio::fs::File::from_std(file);
            tar.append_data(&mut header, name, content.take(size_of(&stat)))
                .await
                .map_err(Error::io("writing an archive"))?;
        }
        tar.finish()
            .await
            .map_err(Error::io("writing an archive"))?;
        let mut out = tar
            .into_inner()
            .await
            .map_err(Error::io("writing an archive"))?;
        out.flush().await.map_err(Error::io("writing an archive"))?;
        Ok(out)
    }

    /// The layout's index, and all content in it.
    fn plan_export(
        &self,
        repository: &Repository,
        tags: &[Tag],
    ) -> Result<(serde_json::Value, BTreeSet<Digest>)> {
        let known = self.tags(repository)?;
        let mut listed: Vec<(Digest, Option<Tag>)> = Vec::new();
        for tag in if tags.is_empty() { &known } else { tags } {
            let digest = self.resolve(repository, &Reference::Tag(tag.clone()))?;
            listed.push((digest, Some(tag.clone())));
        }
        let mut content = BTreeSet::new();
        for (digest, _) in &listed {
            self.closure(repository, digest, &mut content)?;
        }
        if tags.is_empty() {
            for digest in self.manifests(repository)? {
                if !content.contains(&digest) {
                    self.closure(repository, &digest, &mut content)?;
                    listed.push((digest, None));
                }
            }
        }
        // What refers to them may be referred to in turn.
        let mut at = 0;
        let mut subjects: Vec<Digest> = content.iter().cloned().collect();
        while at < subjects.len() {
            for referrer in self.referrers(repository, &subjects[at], None)? {
                let digest: Digest = referrer.digest.parse()?;
                if !content.contains(&digest) {
                    self.closure(repository, &digest, &mut content)?;
                    subjects.push(digest.clone());
                    listed.push((digest, None));
                }
            }
            at += 1;
        }
        let mut manifests = Vec::new();
        for (digest, tag) in listed {
            let link = self.manifest_link(repository, &digest)?;
            let name = |tag: Tag| BTreeMap::from([(REF_NAME.to_owned(), tag.to_string())]);
            manifests.push(Descriptor {
                media_type: link.media_type,
                digest: digest.to_string(),
                size: link.size,
                artifact_type: link.artifact_type,
                annotations: tag.map(name),
            });
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests});
        Ok((index, content))
    }

    /// A manifest with everything that it needs.
    fn closure(
        &self,
        repository: &Repository,
        digest: &Digest,
        content: &mut BTreeSet<Digest>,
    ) -> Result<()> {
        if !content.insert(digest.clone()) {
            return Ok(());
        }
        let manifest = self.get_manifest(repository, &digest.clone().into())?;
        let document = self.read(repository, Some(&manifest.media_type), &manifest.bytes)?;
        for needed in document.blobs {
            self.blob_size(repository, &needed.digest)?;
            content.insert(needed.digest);
        }
        for child in document.children {
            self.closure(repository, &child.digest, content)?;
        }
        Ok(())
    }

    /// Reads an archive into a repository. Tags are those of the layout's index,
    /// unless `tag` is given, which is for a layout of one image.
    ///
    /// # Errors
    /// [`Error::Layout`]; content that does not have its digest; what keeps
    /// manifests from being stored.
    pub async fn import<R>(
        &self,
        repository: &Repository,
        tag: Option<&Tag>,
        from: R,
        policy: Policy,
    ) -> Result<Imported>
    where
        R: AsyncRead + Unpin + Send,
    {
        self.read_archive(repository, tag, from, policy, None).await
    }

    /// Imports, or with `kept` only looks at what comes.
    pub(super) async fn read_archive<R>(
        &self,
        repository: &Repository,
        tag: Option<&Tag>,
        from: R,
        policy: Policy,
        mut kept: Option<Kept>,
    ) -> Result<Imported>
    where
        R: AsyncRead + Unpin + Send,
    {
        let mut tar = Archive::new(from);
        let mut entries = tar.entries().map_err(unreadable)?;
        let mut came = BTreeMap::new();
        let mut index = None;
        while let Some(entry) = entries.next().await {
            let entry = entry.map_err(unreadable)?;
            if !matches!(
                entry.header().entry_type(),
                EntryType::Regular | EntryType::Continuous
            ) {
                continue;
            }
            let path = entry.path().map_err(unreadable)?;
            let path = path.to_string_lossy().into_owned();
            let path = path.strip_prefix("./").unwrap_or(&path);
            if path == "index.json" {
                index = Some(document(entry).await?);
            } else if let Some(digest) = digest_of(path) {
                let size = match &mut kept {
                    Some(kept) => kept.look_at(&digest, entry).await?,
                    None => self.take_in(repository, &digest, entry).await?,
                };
                came.insert(digest, size);
            }
        }
        let index = index.ok_or_else(|| bad("it has no index.json"))?;
        let index: Index = serde_json::from_slice(&index).map_err(|e| bad(e.to_string()))?;
        if kept.is_some() {
            self.check_space(came.values().sum())?;
        }
        let storage = self.clone();
        let (repository, tag) = (repository.clone(), tag.cloned());
        let work = move || {
            let came = Came { sizes: came, kept };
            storage.list_in(&repository, tag.as_ref(), &index, &came, policy)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(e) => Err(Error::io("importing")(e.into())),
        }
    }

    /// One blob of an archive, that no repository shows yet.
    async fn take_in(
        &self,
        repository: &Repository,
        digest: &Digest,
        mut from: impl AsyncRead + Unpin,
    ) -> Result<u64> {
        let mut upload = self.begin_upload(repository)?;
        upload.will_be(digest.algorithm());
        let mut piece = Vec::with_capacity(PIECE);
        loop {
            piece.clear();
            let limit = PIECE as u64;
            let read = (&mut from).take(limit).read_to_end(&mut piece).await;
            if read.map_err(unreadable)? == 0 {
                break;
            }
            let work = move || {
                let appended = upload.append(&piece);
                (upload, piece, appended)
            };
            let done = tokio::task::spawn_blocking(work).await;
            let (back, buffer, appended) = done.map_err(|e| Error::io("importing")(e.into()))?;
            (upload, piece) = (back, buffer);
            if let Err(e) = appended {
                upload.cancel()?;
                return Err(e);
            }
        }
        let expected = digest.clone();
        let committed = tokio::task::spawn_blocking(move || upload.commit(Some(&expected))).await;
        let committed = committed.map_err(|e| Error::io("importing")(e.into()))?;
        committed.map(|(_, size)| size)
    }

    fn list_in(
        &self,
        repository: &Repository,
        tag: Option<&Tag>,
        index: &Index,
        came: &Came,
        policy: Policy,
    ) -> Result<Imported> {
        let given = match tag {
            Some(tag) => Some((tag, only_image(index)?)),
            None => None,
        };
        let mut imported = Imported {
            blobs: came.sizes.len() as u64,
            ..Imported::default()
        };
        for listed in &index.manifests {
            let digest: Digest = listed.digest.parse()?;
            self.put_in(
                repository,
                &digest,
                Some(&listed.media_type),
                came,
                policy,
                0,
            )?;
            let tag = match given {
                Some((tag, only)) => (listed.digest == only).then(|| tag.clone()),
                // Others write whole references there.
                None => name_of(listed)
                    .and_then(|name| name.rsplit(':').next())
                    .and_then(|tag| tag.parse().ok()),
            };
            if let Some(tag) = &tag {
                match came.kept {
                    Some(_) => self.check_tag_moves(repository, tag, &digest, policy)?,
                    None => self.tag(repository, tag, &digest, policy)?,
                }
            }
            imported.manifests.push((digest, tag));
        }
        Ok(imported)
    }

    /// Shows a manifest and what it needs, as far as it came with the archive.
    fn put_in(
        &self,
        repository: &Repository,
        digest: &Digest,
        media_type: Option<&str>,
        came: &Came,
        policy: Policy,
        depth: usize,
    ) -> Result<()> {
        if depth > DEEPEST {
            return Err(bad("its indexes are nested too deeply"));
        }
        if !came.sizes.contains_key(digest) {
            // It may be here from before.
            return self.manifest_link(repository, digest).map(|_| ());
        }
        let bytes = match &came.kept {
            Some(kept) => kept.get(digest),
            None => self.content(digest)?,
        };
        let bytes = bytes.ok_or_else(|| bad(format!("{digest} is missing, or no manifest")))?;
        let document = self.read(repository, media_type, &bytes)?;
        for child in &document.children {
            self.put_in(repository, &child.digest, None, came, policy, depth + 1)?;
        }
        if came.kept.is_some() {
            return self.check_needed(repository, &document, &came.sizes);
        }
        for needed in &document.blobs {
            if let Some(size) = came.sizes.get(&needed.digest) {
                let _lock = self.shared()?;
                self.link_blob(repository, &needed.digest, *size)?;
            }
        }
        let reference = Reference::Digest(digest.clone());
        let kind = Some(document.media_type.as_str());
        self.put_manifest(repository, Some(&reference), kind, &bytes, policy)?;
        Ok(())
    }

    fn read(
        &self,
        repository: &Repository,
        media_type: Option<&str>,
        bytes: &[u8],
    ) -> Result<Document> {
        Document::read(media_type, bytes).map_err(|why| Error::ManifestInvalid {
            repository: repository.clone(),
            why,
        })
    }
}

fn name_of(listed: &Descriptor) -> Option<&str> {
    let annotations = listed.annotations.as_ref()?;
    annotations.get(REF_NAME).map(String::as_str)
}

/// The one image of a layout: what has a name, and without names what is there.
/// What refers to it has none.
fn only_image(index: &Index) -> Result<&str> {
    let named = || index.manifests.iter().filter(|l| name_of(l).is_some());
    let all = index.manifests.iter();
    let found: BTreeSet<&str> = match named().next() {
        Some(_) => named().map(|l| l.digest.as_str()).collect(),
        None => all.map(|l| l.digest.as_str()).collect(),
    };
    match found.first() {
        Some(only) if found.len() == 1 => Ok(only),
        _ => Err(bad(format!(
            "it holds {} images; a tag can be given to one only",
            found.len()
        ))),
    }
}

fn digest_of(path: &str) -> Option<Digest> {
    let (algorithm, hex) = path.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}

async fn document(entry: impl AsyncRead + Unpin) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut entry = entry.take(MANIFEST_LIMIT + 1);
    entry.read_to_end(&mut bytes).await.map_err(unreadable)?;
    if bytes.len() as u64 > MANIFEST_LIMIT {
        return Err(bad("its index.json is too large"));
    }
    Ok(bytes)
}

fn header(size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

async fn append<W>(tar: &mut Builder<W>, name: &str, bytes: &[u8]) -> Result<()>
where
    W: AsyncWrite + Unpin + Send,
{
    let mut header = header(bytes.len() as u64);
    tar.append_data(&mut header, name, bytes)
        .await
        .map_err(Error::io("writing an archive"))
}

fn bad(why: impl Into<String>) -> Error {
    Error::Layout(why.into())
}

pub(super) fn unreadable(e: std::io::Error) -> Error {
    bad(e.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{image, repo, scratch};
    use super::*;

    #[tokio::test]
    async fn a_repository_goes_over_with_its_referrers() {
        let (from, to) = (scratch(), scratch());
        let a = repo("a");
        let one = image(&from, &a, b"1");
        let tag = |t: &str| Reference::Tag(t.parse().unwrap());
        let put = |bytes: &[u8], reference: Option<Reference>| {
            from.put_manifest(&a, reference.as_ref(), None, bytes, Policy::Enforce)
                .unwrap()
                .digest
        };
        let digest = put(&one, Some(tag("v1")));
        put(&one, Some(tag("latest")));
        let index = json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [
            {"mediaType": super::super::document::IMAGE_TYPE, "digest": digest.as_str(), "size": one.len()}]});
        put(index.to_string().as_bytes(), Some(tag("all")));
        let mut note: serde_json::Value = serde_json::from_slice(&one).unwrap();
        note["subject"] = json!({"mediaType": "t", "digest": digest.as_str(), "size": one.len()});
        put(note.to_string().as_bytes(), None);

        let archive = from.export(&a, &[], Vec::new()).await.unwrap();
        let b = repo("b");
        let imported = to
            .import(&b, None, archive.as_slice(), Policy::Enforce)
            .await
            .unwrap();
        assert_eq!(imported.manifests.len(), 4);
        assert_eq!(imported.blobs, 5);
        let tags: Vec<String> = to.tags(&b).unwrap().iter().map(Tag::to_string).collect();
        assert_eq!(tags, ["all", "latest", "v1"]);
        assert_eq!(to.resolve(&b, &tag("v1")).unwrap(), digest);
        assert_eq!(to.referrers(&b, &digest, None).unwrap().len(), 1);
        assert_eq!(to.verify(|_| true).unwrap().problems, []);

        let some = [tag_of("v1")];
        let archive = from.export(&a, &some, Vec::new()).await.unwrap();
        let c = repo("c");
        let new = tag_of("new");
        to.import(&c, Some(&new), archive.as_slice(), Policy::Enforce)
            .await
            .unwrap();
        assert_eq!(to.tags(&c).unwrap(), [tag_of("new")]);
        assert_eq!(to.referrers(&c, &digest, None).unwrap().len(), 1);
        let archive = from.export(&a, &[], Vec::new()).await.unwrap();
        let many = to.import(&c, Some(&new), archive.as_slice(), Policy::Enforce);
        assert!(matches!(many.await, Err(Error::Layout(_))));
    }

    fn tag_of(text: &str) -> Tag {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn archives_that_lie_bring_nothing() {
        let (from, to) = (scratch(), scratch());
        let a = repo("a");
        let bytes = image(&from, &a, b"layer of this image");
        let reference = Reference::Tag(tag_of("v1"));
        from.put_manifest(&a, Some(&reference), None, &bytes, Policy::Enforce)
            .unwrap();
        let archive = from.export(&a, &[], Vec::new()).await.unwrap();
        let at = archive.windows(8).position(|w| w == b"layer of").unwrap();
        let mut changed = archive.clone();
        changed[at] = b'L';
        let import = |bytes: Vec<u8>| {
            let to = to.storage.clone();
            let a = a.clone();
            async move { to.import(&a, None, bytes.as_slice(), Policy::Enforce).await }
        };
        assert!(matches!(
            import(changed).await,
            Err(Error::DigestMismatch { .. })
        ));
        assert!(import(archive[..archive.len() / 2].to_vec()).await.is_err());
        assert!(matches!(import(Vec::new()).await, Err(Error::Layout(_))));
        assert!(matches!(
            import(b"no archive at all".to_vec()).await,
            Err(Error::Layout(_))
        ));
        assert!(to.tags(&a).is_err());
        import(archive).await.unwrap();
        assert_eq!(to.tags(&a).unwrap().len(), 1);
    }
}
