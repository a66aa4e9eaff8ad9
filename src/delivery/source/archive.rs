//! Archives into a tree: regular files only, none outside, no bombs.

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use futures::StreamExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio_tar::Archive;

use crate::delivery::failure::Result;

use super::tree::{File, MAX_BYTES, MAX_ENTRIES, Tree, invalid};

/// What headers and padding may take besides the files.
const HEADERS: usize = MAX_ENTRIES * 1024 + (1 << 20);

/// Puts the files of a tar archive into a tree, below `strip`: archives of Helm
/// charts have one directory with everything in it, which is named `*`. Plain,
/// gzip and zstd are told by their first bytes.
///
/// Refused (`SourceInvalid`): links, devices, paths that leave the archive, and
/// more than fits.
pub async fn extract(bytes: &[u8], strip: &str, tree: &mut Tree) -> Result<()> {
    let plain = match bytes {
        [0x1f, 0x8b, ..] => {
            let mut decoder = GzipDecoder::new(bytes);
            decoder.multiple_members(true);
            decompress(decoder, tree.room()).await?
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = ZstdDecoder::new(bytes);
            decoder.multiple_members(true);
            decompress(decoder, tree.room()).await?
        }
        _ => bytes.to_vec(),
    };
    let mut archive = Archive::new(plain.as_slice());
    let mut entries = archive.entries().map_err(unreadable)?;
    let mut seen = false;
    while let Some(entry) = entries.next().await {
        let mut entry = entry.map_err(unreadable)?;
        seen = true;
        let raw = entry.path_bytes().map_err(unreadable)?.into_owned();
        let path = String::from_utf8(raw)
            .map_err(|_| invalid("the archive has a name that is not UTF-8"))?;
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            tree.count(0)?;
            continue;
        }
        if kind.is_pax_global_extensions() {
            continue;
        }
        if !kind.is_file() && !kind.is_contiguous() {
            return Err(invalid(format!(
                "{path:?} in the archive is no regular file"
            )));
        }
        let mode = entry.header().mode().unwrap_or(0o644);
        let size = usize::try_from(entry.effective_size()).unwrap_or(usize::MAX);
        if size > tree.room() {
            return Err(invalid(format!("more than {MAX_BYTES} bytes")));
        }
        let mut content = Vec::with_capacity(size.min(plain.len()));
        entry.read_to_end(&mut content).await.map_err(unreadable)?;
        let path = match strip {
            "" => path.as_str(),
            _ => path.split_once('/').map_or("", |(_, rest)| rest),
        };
        let executable = mode & 0o111 != 0;
        tree.insert(
            path,
            File {
                bytes: content,
                executable,
            },
        )?;
    }
    match seen {
        true => Ok(()),
        false => Err(invalid("it is empty or no tar archive")),
    }
}

/// The content behind a decoder, if it fits.
async fn decompress<R: AsyncRead + Unpin>(decoder: R, room: usize) -> Result<Vec<u8>> {
    let limit = room + HEADERS;
    let mut plain = Vec::new();
    let mut limited = decoder.take(limit as u64 + 1);
    limited.read_to_end(&mut plain).await.map_err(unreadable)?;
    match plain.len() > limit {
        true => Err(invalid(format!("more than {MAX_BYTES} bytes unpacked"))),
        false => Ok(plain),
    }
}

fn unreadable(error: std::io::Error) -> crate::delivery::failure::Failure {
    invalid(format!("the archive cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use tokio_tar::{Builder, EntryType, Header};

    use super::*;

    async fn archive(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (path, kind, bytes) in entries {
            let mut header = Header::new_gnu();
            // Set by hand: the library refuses bad paths.
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(bytes.len() as u64);
            header.set_mode(0o755);
            if kind.is_symlink() {
                header.set_link_name("target").unwrap();
            }
            header.set_cksum();
            builder.append(&header, *bytes).await.unwrap();
        }
        builder.into_inner().await.unwrap()
    }

    async fn unpack(bytes: &[u8], strip: &str) -> Result<Tree> {
        let mut tree = Tree::default();
        extract(bytes, strip, &mut tree).await?;
        Ok(tree)
    }

    #[tokio::test]
    async fn files_come_out() {
        let bytes = archive(&[
            ("chart/", EntryType::Directory, b""),
            ("chart/a.yaml", EntryType::Regular, b"x"),
            ("./chart/b", EntryType::Regular, b"y"),
        ])
        .await;
        let tree = unpack(&bytes, "").await.unwrap();
        let paths: Vec<&str> = tree.files().map(|(path, _)| path).collect();
        assert_eq!(paths, ["chart/a.yaml", "chart/b"]);
        assert!(tree.get("chart/b").unwrap().executable);
        let tree = unpack(&archive(&[("c/a", EntryType::Regular, b"x")]).await, "*").await;
        assert!(tree.unwrap().get("a").is_some());
    }

    #[tokio::test]
    async fn what_does_not_belong_is_refused() {
        let bad: [&[(&str, EntryType, &[u8])]; 5] = [
            &[("../a", EntryType::Regular, b"")],
            &[("/a", EntryType::Regular, b"")],
            &[("a", EntryType::Symlink, b"")],
            &[("a", EntryType::Link, b"")],
            &[("a", EntryType::Fifo, b"")],
        ];
        for entries in bad {
            let bytes = archive(entries).await;
            assert!(unpack(&bytes, "").await.is_err(), "{entries:?}");
        }
        assert!(unpack(b"", "").await.is_err());
        assert!(unpack(b"hello", "").await.is_err());
        assert!(unpack(&[0x1f, 0x8b, 8, 0, 0], "").await.is_err());
        let whole = archive(&[("a", EntryType::Regular, &[7; 4000])]).await;
        assert!(unpack(&whole[..1000], "").await.is_err());
    }

    #[tokio::test]
    async fn bombs_are_refused() {
        use async_compression::tokio::write::GzipEncoder;
        use tokio::io::AsyncWriteExt as _;

        let mut encoder = GzipEncoder::new(Vec::new());
        let zeros = vec![0; 1 << 20];
        for _ in 0..90 {
            encoder.write_all(&zeros).await.unwrap();
        }
        encoder.shutdown().await.unwrap();
        let failure = unpack(&encoder.into_inner(), "").await.unwrap_err();
        assert!(failure.message.contains("unpacked"), "{failure}");
    }
}
