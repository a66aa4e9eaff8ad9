//! The image that is always there: made from the product's own program, so
//! that a first cell needs no registry.

use std::collections::HashMap;
use std::io::SeekFrom;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::json;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_tar::{EntryType, Header};

use super::digest::{self, Hasher};
use super::document::{self, Descriptor, MAX_DOCUMENT, Manifest};
use super::lease::Lease;
use super::platform::Platform;
use super::query::target;
use super::store::Store;
use super::tree::{Choice, Tree};
use super::unpack::{self, Unpacker};
use super::writer::{PIECE, Writer};
use crate::model::ProgressSink;
use crate::runtime::{Connection, Error, HELLO_IMAGE, Result};

/// Label: the file the image was made from, as far as `stat` tells.
const PROGRAM: &str = "kukeon.io/program";
/// Label: the snapshot it was unpacked to.
const CHAIN: &str = "kukeon.io/chain-id";
/// To be raised when the layer or configuration below changes.
const RECIPE: u32 = 1;

const PASSWD: &str = "root:x:0:0:root:/:/kuke\nnobody:x:65534:65534:nobody:/:/kuke\n";
const GROUP: &str = "root:x:0:\nnobody:x:65534:\n";

/// Makes the built-in image; true when something changed.
pub(crate) async fn ensure(
    connection: &Connection,
    namespace: &str,
    program: &Path,
) -> Result<bool> {
    let store = Store::new(connection, namespace);
    let mut file = open(program).await?;
    let stat = fingerprint(&file).await.map_err(unreadable(program))?;
    if is_current(&store, &stat).await? {
        return Ok(false);
    }
    check_static(&mut file, program).await?;
    let size = file.metadata().await.map_err(unreadable(program))?.len();
    let layer = describe(&mut file, size)
        .await
        .map_err(unreadable(program))?;
    let lease = Lease::take(connection, namespace, "builtin").await?;
    let result = make(&lease, &mut file, program, size, &layer, &stat).await;
    lease.finish(result).await
}

/// Whether the record was made from this very file and all of it is here.
async fn is_current(store: &Store, stat: &str) -> Result<bool> {
    let Some(image) = store.image(HELLO_IMAGE).await? else {
        return Ok(false);
    };
    if image.labels.get(PROGRAM).map(String::as_str) != Some(stat) {
        return Ok(false);
    }
    is_whole(store, &target(&image), image.labels.get(CHAIN)).await
}

async fn is_whole(store: &Store, target: &Descriptor, chain: Option<&String>) -> Result<bool> {
    let Some(chain) = chain else {
        return Ok(false);
    };
    Ok(store.info(&target.digest).await?.is_some() && unpack::exists(store, chain).await?)
}

async fn make(
    lease: &Lease,
    file: &mut File,
    program: &Path,
    size: u64,
    layer: &Descriptor,
    stat: &str,
) -> Result<bool> {
    let store = lease.store();
    let config = config(&layer.digest).to_string().into_bytes();
    let manifest = Manifest {
        schema_version: 2,
        media_type: document::MANIFEST.to_owned(),
        config: Descriptor::of(document::CONFIG, &config),
        layers: vec![layer.clone()],
    };
    let bytes = serde_json::to_vec(&manifest).map_err(|e| other(program, e))?;
    let wanted = digest::of(&bytes);
    let labels = HashMap::from([
        (PROGRAM.to_owned(), stat.to_owned()),
        (CHAIN.to_owned(), layer.digest.clone()),
    ]);
    // The same bytes under another inode or time: only the label is old.
    if let Some(image) = store.image(HELLO_IMAGE).await? {
        let at = target(&image);
        if at.digest == wanted && is_whole(store, &at, Some(&layer.digest)).await? {
            store.set_image(HELLO_IMAGE, &at, labels).await?;
            return Ok(false);
        }
    }
    write_layer(store, file, program, size, layer).await?;
    store.put(document::CONFIG, config).await?;
    let target = store.put(document::MANIFEST, bytes).await?;
    let host = Platform::host();
    let tree = Tree::read(store, HELLO_IMAGE, &target, &host, Choice::Strict).await?;
    let diff_ids = &tree.config.rootfs.diff_ids;
    let none = ProgressSink::none();
    let unpacker = Unpacker::new(lease, &tree.manifest, diff_ids, &none).await?;
    unpacker.run().await?;
    tree.label(store).await?;
    store.set_image(HELLO_IMAGE, &target, labels).await?;
    Ok(true)
}

/// Configuration of the image. The layer is not compressed, so its digest is
/// its diff id.
fn config(diff_id: &str) -> serde_json::Value {
    let host = Platform::host();
    let mut config = json!({
        "created": "1970-01-01T00:00:00Z",
        "os": host.os,
        "architecture": host.arch,
        "config": {
            "Entrypoint": ["/kuke", "hello"],
            "ExposedPorts": {"8080/tcp": {}},
            "Env": ["PATH=/"],
            "WorkingDir": "/",
            "Labels": {"org.opencontainers.image.title": "kukeon hello"},
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "kukeon"}],
    });
    if !host.variant.is_empty() {
        config["variant"] = host.variant.into();
    }
    config
}

/// The layer up to the program's bytes, and after them. Times, owners and order
/// are fixed: one program makes one digest.
fn frame(size: u64) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    let mut front = Vec::new();
    for (path, mode) in [("etc/", 0o755), ("tmp/", 0o1777)] {
        front.extend(header(path, EntryType::Directory, mode, 0)?);
    }
    for (path, content) in [("etc/group", GROUP), ("etc/passwd", PASSWD)] {
        front.extend(header(
            path,
            EntryType::Regular,
            0o644,
            content.len() as u64,
        )?);
        front.extend(content.as_bytes());
        front.extend(padding(content.len() as u64));
    }
    front.extend(header("kuke", EntryType::Regular, 0o755, size)?);
    let mut back = padding(size);
    // Two empty blocks end an archive.
    back.extend([0; 1024]);
    Ok((front, back))
}

fn header(path: &str, kind: EntryType, mode: u32, size: u64) -> std::io::Result<Vec<u8>> {
    let mut header = Header::new_ustar();
    header.set_path(path)?;
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header.as_bytes().to_vec())
}

fn padding(size: u64) -> Vec<u8> {
    // The remainder is below 512.
    vec![0; ((512 - size % 512) % 512) as usize]
}

/// Digest and size of the layer, without storing it.
async fn describe(file: &mut File, size: u64) -> std::io::Result<Descriptor> {
    let (front, back) = frame(size)?;
    let mut hasher = Hasher::default();
    hasher.update(&front);
    file.seek(SeekFrom::Start(0)).await?;
    let mut left = size;
    while left > 0 {
        let piece = piece(file, left).await?;
        left -= piece.len() as u64;
        hasher.update(&piece);
    }
    hasher.update(&back);
    Ok(Descriptor {
        media_type: document::LAYER.to_owned(),
        digest: hasher.finish(),
        size: front.len() as u64 + size + back.len() as u64,
        ..Descriptor::default()
    })
}

async fn write_layer(
    store: &Store,
    file: &mut File,
    program: &Path,
    size: u64,
    layer: &Descriptor,
) -> Result<()> {
    let key = format!("{}-{}", store.lease().unwrap_or("builtin"), layer.digest);
    let writer = Writer::open(store, &key, Some(&layer.digest), layer.size).await?;
    let Some(mut writer) = writer else {
        return Ok(());
    };
    if writer.offset() == 0 {
        let (front, back) = frame(size).map_err(unreadable(program))?;
        writer.write(front).await?;
        file.seek(SeekFrom::Start(0))
            .await
            .map_err(unreadable(program))?;
        let mut left = size;
        while left > 0 {
            let piece = piece(file, left).await.map_err(unreadable(program))?;
            left -= piece.len() as u64;
            writer.write(piece).await?;
        }
        writer.write(back).await?;
    }
    // Fails when the program was replaced since it was measured.
    writer.commit(&layer.digest).await
}

async fn piece(file: &mut File, left: u64) -> std::io::Result<Vec<u8>> {
    let want = left.min(PIECE as u64);
    let mut piece = Vec::new();
    file.take(want).read_to_end(&mut piece).await?;
    if piece.is_empty() {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(piece)
}

async fn open(program: &Path) -> Result<File> {
    File::open(program).await.map_err(unreadable(program))
}

/// What tells one state of the file from another without reading it.
async fn fingerprint(file: &File) -> std::io::Result<String> {
    let m = file.metadata().await?;
    Ok(format!(
        "{RECIPE}:{}:{}:{}:{}.{}:{}.{}",
        m.dev(),
        m.ino(),
        m.size(),
        m.mtime(),
        m.mtime_nsec(),
        m.ctime(),
        m.ctime_nsec()
    ))
}

/// Refuses a program that needs a dynamic linker: the image has none.
async fn check_static(file: &mut File, program: &Path) -> Result<()> {
    let mut front = Vec::new();
    file.take(MAX_DOCUMENT.min(64 << 10))
        .read_to_end(&mut front)
        .await
        .map_err(unreadable(program))?;
    match interpreter(&front) {
        Some(false) => Ok(()),
        Some(true) => Err(other(
            program,
            "it is linked dynamically and cannot run in an image of its own; build it with \
             `cargo rustc --release --bin kuke -- -C target-feature=+crt-static`",
        )),
        None => Err(other(program, "it is not an ELF program")),
    }
}

/// Whether an ELF file (elf(5)) names an interpreter; `None` when it is no ELF
/// file with its program headers at the front.
fn interpreter(bytes: &[u8]) -> Option<bool> {
    const PT_INTERP: u64 = 3;

    let wide = match bytes.get(..6)? {
        [0x7f, b'E', b'L', b'F', class @ (1 | 2), 1 | 2] => *class == 2,
        _ => return None,
    };
    let little = bytes[5] == 1;
    let number = |at: usize, length: usize| -> Option<u64> {
        let field = bytes.get(at..at.checked_add(length)?)?;
        let fold = |n: u64, b: &u8| n << 8 | u64::from(*b);
        Some(if little {
            field.iter().rev().fold(0, fold)
        } else {
            field.iter().fold(0, fold)
        })
    };
    // e_phoff, e_phentsize, e_phnum.
    let (offset, entry, count) = if wide {
        (number(32, 8)?, number(54, 2)?, number(56, 2)?)
    } else {
        (number(28, 4)?, number(42, 2)?, number(44, 2)?)
    };
    for n in 0..count {
        let at = offset.checked_add(n * entry)?;
        if number(usize::try_from(at).ok()?, 4)? == PT_INTERP {
            return Some(true);
        }
    }
    Some(false)
}

fn unreadable(program: &Path) -> impl Fn(std::io::Error) -> Error {
    move |error| other(program, error)
}

fn other(program: &Path, cause: impl ToString) -> Error {
    Error::Other {
        what: format!("built-in image from {}", program.display()),
        cause: cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 64-bit little-endian header with one program header of that type.
    fn elf(kind: u8) -> Vec<u8> {
        let mut bytes = vec![0; 120];
        bytes[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64] = kind;
        bytes
    }

    #[test]
    fn interpreters_are_found() {
        assert_eq!(interpreter(&elf(3)), Some(true));
        assert_eq!(interpreter(&elf(1)), Some(false));
        assert_eq!(interpreter(&elf(1)[..60]), None);
        assert_eq!(interpreter(b"#!/bin/sh\n"), None);
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(
            interpreter(&own),
            Some(cfg!(not(target_feature = "crt-static")))
        );
    }

    #[tokio::test]
    async fn one_program_makes_one_digest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        std::fs::write(&path, vec![7; 1000]).unwrap();
        let mut file = open(&path).await.unwrap();
        let first = describe(&mut file, 1000).await.unwrap();
        assert_eq!(first, describe(&mut file, 1000).await.unwrap());
        assert_eq!(first.size % 512, 0);
        std::fs::write(&path, vec![8; 1000]).unwrap();
        assert_ne!(
            first.digest,
            describe(&mut file, 1000).await.unwrap().digest
        );
        // A file that shrinks meanwhile is noticed.
        assert!(describe(&mut file, 1001).await.is_err());
    }

    #[tokio::test]
    async fn the_layer_is_a_readable_tar() {
        use futures::StreamExt;

        let (mut bytes, back) = frame(3).unwrap();
        bytes.extend(b"abc");
        bytes.extend(back);
        let mut tar = tokio_tar::Archive::new(&bytes[..]);
        let mut entries = tar.entries().unwrap();
        let mut found = vec![];
        while let Some(entry) = entries.next().await {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(header.mtime().unwrap(), 0);
            let path = entry.path().unwrap().display().to_string();
            found.push((path, header.mode().unwrap()));
        }
        let wanted = [
            ("etc/", 0o755),
            ("tmp/", 0o1777),
            ("etc/group", 0o644),
            ("etc/passwd", 0o644),
            ("kuke", 0o755),
        ];
        assert_eq!(found, wanted.map(|(p, m)| (p.to_owned(), m)));
    }
}
