//! The bytes of an archive: decompressed on the way, and metered.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use tokio::io::{AsyncRead, AsyncReadExt, BufReader, ReadBuf};

use super::archive::{bad, unreadable};
use crate::runtime::Result;

/// How a blob is compressed, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// Tells gzip and zstd by their magic numbers.
pub(crate) fn compression(start: &[u8]) -> Compression {
    match start {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

/// Where an archive comes from.
pub(crate) type Source = Box<dyn AsyncRead + Send + Unpin>;

/// The archive without its compression.
pub(crate) async fn decompressed(mut source: Source) -> Result<Source> {
    let mut start = Vec::with_capacity(8);
    let head = &mut (&mut source).take(8);
    head.read_to_end(&mut start).await.map_err(unreadable)?;
    let unsupported = |name: &str| {
        Err(bad(format!(
            "it is compressed with {name}; plain, gzip and zstd can be read"
        )))
    };
    let kind = match start[..] {
        [] => return Err(bad("it is empty")),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => return unsupported("xz"),
        [b'B', b'Z', b'h', ..] => return unsupported("bzip2"),
        _ => compression(&start),
    };
    let whole = BufReader::with_capacity(256 << 10, io::Cursor::new(start).chain(source));
    Ok(match kind {
        Compression::None => Box::new(whole),
        Compression::Gzip => {
            let mut decoder = GzipDecoder::new(whole);
            decoder.multiple_members(true);
            Box::new(BufReader::with_capacity(256 << 10, decoder))
        }
        Compression::Zstd => {
            let mut decoder = ZstdDecoder::new(whole);
            decoder.multiple_members(true);
            Box::new(BufReader::with_capacity(256 << 10, decoder))
        }
    })
}

/// How many bytes a gate lets through; shared with whoever moves the limit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Allowance(Arc<AtomicU64>);

impl Allowance {
    /// Lets that many bytes through from now on.
    pub(crate) fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }
}

/// Fails a read once the allowance is used up.
pub(crate) struct Gate<R> {
    inner: R,
    allowance: Allowance,
}

impl<R> Gate<R> {
    /// A gate before `inner`, shut until the allowance is set.
    pub(crate) fn new(inner: R, allowance: &Allowance) -> Self {
        Self {
            inner,
            allowance: allowance.clone(),
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Gate<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = self.allowance.0.load(Ordering::Relaxed);
        if left == 0 {
            return Poll::Ready(Err(io::Error::other("a header is too large")));
        }
        let before = buf.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buf);
        let came = (buf.filled().len() - before) as u64;
        self.allowance.set(left.saturating_sub(came));
        result
    }
}

/// Reads to the end and drops what comes.
pub(crate) async fn drain<R: AsyncRead + Unpin>(from: &mut R) -> Result<()> {
    let mut sink = vec![0; 64 << 10];
    while from.read(&mut sink).await.map_err(unreadable)? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_is_told_by_magic() {
        assert_eq!(compression(&[0x1f, 0x8b, 8]), Compression::Gzip);
        assert_eq!(compression(&[0x28, 0xb5, 0x2f, 0xfd]), Compression::Zstd);
        assert_eq!(compression(b"usta"), Compression::None);
    }

    #[tokio::test]
    async fn foreign_compressions_are_named() {
        for (start, name) in [(&b"BZh91AY&SY"[..], "bzip2"), (b"\xfd7zXZ\0\0\x01", "xz")] {
            let error = decompressed(Box::new(io::Cursor::new(start.to_vec())))
                .await
                .err()
                .unwrap();
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[tokio::test]
    async fn the_gate_closes() {
        let allowance = Allowance::default();
        let mut gate = Gate::new(tokio::io::repeat(0), &allowance);
        allowance.set(10);
        let mut buf = [0; 8];
        gate.read_exact(&mut buf).await.unwrap();
        // The read that crosses the line still passes, the next does not.
        gate.read_exact(&mut buf).await.unwrap();
        assert!(gate.read_exact(&mut buf).await.is_err());
    }
}
