//! Reads an image archive once, front to back: blobs go straight into the
//! content store, the few documents that name them are kept. Entries may come
//! in any order; nothing is written to disk by path.

use std::collections::HashMap;
use std::io;

use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_tar::Archive as Tar;

use super::digest::{self, Hasher};
use super::document::MAX_DOCUMENT;
use super::source::{Allowance, Compression, Gate, compression, decompressed, drain};
use super::store::Store;
use super::writer::{PIECE, Writer};
use crate::model::{Progress, ProgressSink};
use crate::runtime::{Error, Result};

/// An image of a thousand layers, each with its legacy metadata, has fewer.
const MAX_ENTRIES: usize = 20_000;
/// PATH_MAX; longer names are an attack.
const MAX_NAME: usize = 4096;
/// What headers between two entries may take, long names and pax records
/// included: the tar reader holds them in memory.
const MAX_HEADERS: u64 = 1 << 20;

/// A file of the archive that is in the content store now.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// Its digest.
    pub(crate) digest: String,
    /// Its bytes.
    pub(crate) size: u64,
    /// How it is compressed.
    pub(crate) compression: Compression,
}

/// What an archive held.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// `index.json` of an OCI layout.
    pub(crate) index: Option<Vec<u8>>,
    /// `manifest.json` of a Docker archive.
    pub(crate) manifest: Option<Vec<u8>>,
    files: HashMap<String, Stored>,
    links: HashMap<String, String>,
}

impl Contents {
    /// The file at a path, following the archive's own links.
    pub(crate) fn file(&self, path: &str) -> Option<&Stored> {
        let mut at = clean(path).ok()?;
        // Links may form a circle.
        for _ in 0..16 {
            if let Some(file) = self.files.get(&at) {
                return Some(file);
            }
            at.clone_from(self.links.get(&at)?);
        }
        None
    }
}

/// Reads a whole archive; blobs are kept by the lease of `store`.
pub(crate) async fn read(
    store: &Store,
    source: Box<dyn AsyncRead + Send + Unpin>,
    progress: &ProgressSink,
) -> Result<Contents> {
    let allowance = Allowance::default();
    let mut tar = Tar::new(Gate::new(decompressed(source).await?, &allowance));
    let mut entries = tar.entries().map_err(unreadable)?;
    let mut contents = Contents::default();
    let mut seen = 0;
    loop {
        allowance.set(MAX_HEADERS);
        let Some(entry) = entries.next().await else {
            break;
        };
        let mut entry = entry.map_err(unreadable)?;
        allowance.set(u64::MAX);
        seen += 1;
        if seen > MAX_ENTRIES {
            return Err(bad(format!("it has more than {MAX_ENTRIES} entries")));
        }
        let raw = entry.path_bytes().map_err(unreadable)?.into_owned();
        let path = clean(text(&raw)?)?;
        let kind = entry.header().entry_type();
        if kind.is_symlink() || kind.is_hard_link() {
            let target = entry.link_name_bytes().map_err(unreadable)?;
            let target = text(&target.unwrap_or_default())?.to_owned();
            let base = if kind.is_symlink() { parent(&path) } else { "" };
            let target = resolve(base, &target)?;
            contents.links.insert(path, target);
        } else if kind.is_file() || kind.is_contiguous() {
            let size = entry.effective_size();
            take(store, &mut contents, path, size, &mut entry, progress).await?;
        } else if !kind.is_dir() && !kind.is_pax_global_extensions() {
            return Err(bad(format!(
                "entry {path:?} is neither file, link nor directory"
            )));
        }
        // Whatever was not wanted: the reader must stand at the next header.
        drain(&mut entry).await?;
    }
    // The rest of the stream carries the compression's checksum.
    drop(entries);
    if let Ok(mut rest) = tar.into_inner() {
        allowance.set(u64::MAX);
        drain(&mut rest).await?;
    }
    if seen == 0 {
        return Err(bad("it is empty or not a tar archive"));
    }
    Ok(contents)
}

/// Puts one file where it belongs.
async fn take<R: AsyncRead + Unpin>(
    store: &Store,
    contents: &mut Contents,
    path: String,
    size: u64,
    entry: &mut R,
    progress: &ProgressSink,
) -> Result<()> {
    match path.as_str() {
        "index.json" => keep(&mut contents.index, &path, size, entry).await,
        "manifest.json" => keep(&mut contents.manifest, &path, size, entry).await,
        "oci-layout" | "repositories" => Ok(()),
        _ if legacy(&path) => Ok(()),
        _ => {
            let stored = match path.strip_prefix("blobs/") {
                Some(name) => {
                    let digest = name.replacen('/', ":", 1);
                    if !digest::is_valid(&digest) {
                        return Err(bad(format!(
                            "blob {path:?} is not named by a sha256 digest"
                        )));
                    }
                    blob(store, &digest, size, entry, progress).await?
                }
                None => file(store, &path, size, entry, progress).await?,
            };
            contents.files.insert(path, stored);
            Ok(())
        }
    }
}

/// Metadata of Docker's first image format, which newer writers still add.
fn legacy(path: &str) -> bool {
    path.ends_with("/VERSION") || path.ends_with("/json")
}

/// Keeps a document in memory.
async fn keep<R: AsyncRead + Unpin>(
    slot: &mut Option<Vec<u8>>,
    path: &str,
    size: u64,
    entry: &mut R,
) -> Result<()> {
    if slot.is_some() {
        return Err(bad(format!("{path} comes twice")));
    }
    if size > MAX_DOCUMENT {
        return Err(bad(format!("{path} is larger than {MAX_DOCUMENT} bytes")));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).await.map_err(unreadable)?;
    complete(path, size, bytes.len() as u64)?;
    *slot = Some(bytes);
    Ok(())
}

/// Stores a blob whose digest is its name.
async fn blob<R: AsyncRead + Unpin>(
    store: &Store,
    digest: &str,
    size: u64,
    entry: &mut R,
    progress: &ProgressSink,
) -> Result<Stored> {
    let key = format!("{}-{digest}", store.lease().unwrap_or("load"));
    let mut copy = Copy::new(digest, size, progress);
    match Writer::open(store, &key, Some(digest), size).await? {
        Some(mut writer) if writer.offset() == 0 => {
            let result = copy.run(entry, Some(&mut writer)).await;
            settle(writer, result, Some(digest)).await?;
        }
        // It is here, or in another namespace that shares it: the archive's
        // own bytes must be right nevertheless.
        there => {
            copy.hasher = Some(Hasher::default());
            copy.run(entry, None).await?;
            let got = copy.hasher.take().unwrap_or_default().finish();
            same(digest, got)?;
            if let Some(writer) = there {
                writer.commit(digest).await?;
            }
        }
    }
    copy.report("loaded", size, true);
    Ok(Stored {
        digest: digest.to_owned(),
        size,
        compression: copy.compression,
    })
}

/// Stores a file whose digest is not known beforehand.
async fn file<R: AsyncRead + Unpin>(
    store: &Store,
    path: &str,
    size: u64,
    entry: &mut R,
    progress: &ProgressSink,
) -> Result<Stored> {
    let key = format!("{}-{path}", store.lease().unwrap_or("load"));
    let mut copy = Copy::new(path, size, progress);
    let Some(mut writer) = Writer::open(store, &key, None, size).await? else {
        return Err(bad(format!("{path} cannot be stored")));
    };
    let result = copy.run(entry, Some(&mut writer)).await;
    let digest = settle(writer, result, None).await?;
    copy.report("loaded", size, true);
    Ok(Stored {
        digest,
        size,
        compression: copy.compression,
    })
}

/// Commits what was copied, or drops it.
async fn settle(mut writer: Writer, copied: Result<()>, expected: Option<&str>) -> Result<String> {
    let checked = match copied {
        Ok(()) => writer.digest().await,
        Err(error) => Err(error),
    };
    let checked = checked.and_then(|got| match expected {
        Some(expected) => same(expected, got),
        None => Ok(got),
    });
    match checked {
        Ok(digest) => {
            writer.commit(&digest).await?;
            Ok(digest)
        }
        Err(error) => {
            if let Err(error) = writer.abort().await {
                tracing::debug!(%error, "unfinished write is left to its lease");
            }
            Err(error)
        }
    }
}

fn same(expected: &str, got: String) -> Result<String> {
    if got == expected {
        return Ok(got);
    }
    Err(bad(format!("digest of blob {expected} is {got}")))
}

/// Moves one entry in pieces.
struct Copy<'a> {
    id: String,
    path: &'a str,
    size: u64,
    progress: &'a ProgressSink,
    compression: Compression,
    hasher: Option<Hasher>,
}

impl<'a> Copy<'a> {
    fn new(path: &'a str, size: u64, progress: &'a ProgressSink) -> Self {
        // Docker archives name a layer `<id>/layer.tar` or `<id>.tar`.
        let id = path.trim_end_matches("/layer.tar");
        Self {
            id: digest::short(id),
            path,
            size,
            progress,
            compression: Compression::None,
            hasher: None,
        }
    }

    async fn run<R: AsyncRead + Unpin>(
        &mut self,
        from: &mut R,
        mut to: Option<&mut Writer>,
    ) -> Result<()> {
        let mut done = 0;
        while done < self.size {
            let want = usize::try_from(self.size - done)
                .unwrap_or(PIECE)
                .min(PIECE);
            let mut piece = Vec::with_capacity(want);
            let limited = &mut (&mut *from).take(want as u64);
            limited.read_to_end(&mut piece).await.map_err(unreadable)?;
            if piece.is_empty() {
                break;
            }
            if done == 0 {
                self.compression = compression(&piece);
            }
            done += piece.len() as u64;
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&piece);
            }
            if let Some(writer) = &mut to {
                writer.write(piece).await?;
            }
            self.report("loading", done, false);
        }
        complete(self.path, self.size, done)
    }

    fn report(&self, text: &str, current: u64, done: bool) {
        // Documents would only flicker by.
        if self.size < 64 << 10 {
            return;
        }
        self.progress.send(Progress {
            id: self.id.clone(),
            text: text.to_owned(),
            current,
            total: self.size,
            done,
            ..Progress::default()
        });
    }
}

fn complete(path: &str, size: u64, came: u64) -> Result<()> {
    if came == size {
        return Ok(());
    }
    Err(bad(format!(
        "it is truncated: {path} ends after {came} of {size} bytes"
    )))
}

/// A path inside the archive in one form: no `.`, no doubled slashes. Ones
/// that lead outside are refused, although none is ever opened.
fn clean(path: &str) -> Result<String> {
    if path.len() > MAX_NAME {
        return Err(bad("an entry's path is too long"));
    }
    if path.starts_with('/') {
        return Err(bad(format!("entry {path:?} has an absolute path")));
    }
    resolve("", path)
}

fn resolve(base: &str, path: &str) -> Result<String> {
    let mut parts: Vec<&str> = base.split('/').filter(|p| !p.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return Err(bad(format!("entry {path:?} leads out of the archive")));
                }
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| bad("an entry's path is not UTF-8"))
}

/// A read that failed, or whose bytes make no sense.
pub(crate) fn unreadable(error: io::Error) -> Error {
    bad(format!("it cannot be read: {error}"))
}

/// An archive that is damaged or of an unknown form.
pub(crate) fn bad(why: impl Into<String>) -> Error {
    Error::BadArchive(why.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        assert_eq!(clean("./blobs//sha256/./x").unwrap(), "blobs/sha256/x");
        assert_eq!(resolve("a/b", "../c/layer.tar").unwrap(), "a/c/layer.tar");
        for path in ["/etc/passwd", "../x", "a/../../x"] {
            assert!(clean(path).is_err(), "{path}");
        }
        assert!(clean(&"a/".repeat(4000)).is_err());
    }

    #[test]
    fn links_are_followed_but_not_in_circles() {
        let stored = Stored {
            digest: digest::of(b""),
            size: 0,
            compression: Compression::None,
        };
        let contents = Contents {
            files: HashMap::from([("a".to_owned(), stored)]),
            links: HashMap::from([
                ("b".to_owned(), "a".to_owned()),
                ("c".to_owned(), "d".to_owned()),
                ("d".to_owned(), "c".to_owned()),
            ]),
            ..Contents::default()
        };
        assert!(contents.file("b").is_some());
        assert!(contents.file("c").is_none());
        assert!(contents.file("nowhere").is_none());
    }
}
