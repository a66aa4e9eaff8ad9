//! Files go from the page cache to the socket without passing through this
//! process (sendfile(2)).
//!
//! The HTTP library knows bodies of bytes only. A part of a file is therefore
//! announced to the connection, and what the library is given in its place are
//! slices of [`STAND_IN`], of the same length. When the library hands one of
//! those to the connection, the connection sends as much of the file instead.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Bytes that stand for those of a file, at most so many at a time. They are
/// never read, so they take no memory.
static STAND_IN: [u8; PIECE] = [0; PIECE];
const PIECE: usize = 1 << 20;

/// What the kernel holds for a client on this host, in bytes (SO_SNDBUF of
/// socket(7), which the kernel doubles). Such a client is never far behind, and
/// what waits for it should still be in the processor's cache when it is read:
/// by default it may be megabytes.
const FOR_THIS_HOST: usize = 128 << 10;

/// Parts of files that a connection has still to send, in their order.
#[derive(Clone, Default)]
pub struct Files(Arc<Mutex<VecDeque<Part>>>);

struct Part {
    file: File,
    at: u64,
    left: u64,
}

impl Files {
    /// A body of a part of a file. Only for the connection that this belongs to.
    pub fn body(&self, file: File, from: u64, length: u64) -> Body {
        Body::new(StandIns {
            files: self.clone(),
            part: Some(Part {
                file,
                at: from,
                left: length,
            }),
            left: length,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Part>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends at most `length` bytes of the first part; never none.
    fn send(&self, to: &TcpStream, length: usize) -> io::Result<usize> {
        let mut parts = self.lock();
        let Some(part) = parts.front_mut() else {
            return Err(io::Error::other("a body of a file without a file"));
        };
        let wanted = length.min(usize::try_from(part.left).unwrap_or(usize::MAX));
        let sent = rustix::fs::sendfile(to, &part.file, Some(&mut part.at), wanted)?;
        if sent == 0 {
            // The length was promised: the connection must not look complete.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        part.left -= sent as u64;
        if part.left == 0 {
            parts.pop_front();
        }
        Ok(sent)
    }
}

/// What the library is given for a part of a file.
struct StandIns {
    files: Files,
    part: Option<Part>,
    left: u64,
}

impl http_body::Body for StandIns {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(part) = self.part.take() {
            self.files.lock().push_back(part);
        }
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let length = usize::try_from(self.left).map_or(PIECE, |left| left.min(PIECE));
        self.left -= length as u64;
        let stand_in = Bytes::from_static(&STAND_IN[..length]);
        Poll::Ready(Some(Ok(Frame::data(stand_in))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

fn is_stand_in(bytes: &[u8]) -> bool {
    STAND_IN.as_ptr_range().contains(&bytes.as_ptr())
}

/// Whether both ends are on this host: what comes from a loopback address, or
/// from the address that it goes to, has come over the loopback link.
fn is_of_this_host(stream: &TcpStream) -> bool {
    let (Ok(here), Ok(there)) = (stream.local_addr(), stream.peer_addr()) else {
        return false;
    };
    let there = there.ip().to_canonical();
    there.is_loopback() || there == here.ip().to_canonical()
}

/// A TCP connection that sends files where their stand-ins are written.
pub struct Connection {
    stream: TcpStream,
    files: Files,
}

impl Connection {
    /// With the files that bodies are made from.
    pub fn new(stream: TcpStream, files: Files) -> Self {
        if is_of_this_host(&stream) {
            // Without it, bodies are merely slower.
            let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, FOR_THIS_HOST);
        }
        Self { stream, files }
    }

    fn poll_send(&self, cx: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            let send = || self.files.send(&self.stream, length);
            match self.stream.try_io(Interest::WRITABLE, send) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return Poll::Ready(other),
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !bytes.is_empty() && is_stand_in(bytes) {
            return self.poll_send(cx, bytes.len());
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stands = |slice: &IoSlice<'_>| !slice.is_empty() && is_stand_in(slice);
        let first = slices.iter().position(|slice| !slice.is_empty());
        match first.map(|at| &slices[at]) {
            Some(slice) if stands(slice) => self.poll_send(cx, slice.len()),
            _ => {
                // What is no stand-in goes out up to the first one that is.
                let until = slices.iter().position(stands).unwrap_or(slices.len());
                Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..until])
            }
        }
    }

    // Without this the library copies bodies into a buffer of its own, and
    // stand-ins would be sent as what they are.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    async fn pair() -> (TcpStream, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().await.unwrap().0, client)
    }

    /// Writes all slices as the library does: several at once, as often as needed.
    async fn write_all(to: &mut Connection, all: &[&[u8]]) -> io::Result<()> {
        let mut queue: VecDeque<&[u8]> = all.iter().copied().collect();
        while !queue.is_empty() {
            let slices: Vec<IoSlice<'_>> = queue.iter().map(|s| IoSlice::new(s)).collect();
            let mut n = to.write_vectored(&slices).await?;
            while let Some(first) = queue.front_mut() {
                if n < first.len() {
                    *first = &first[n..];
                    break;
                }
                n -= first.len();
                queue.pop_front();
            }
        }
        to.flush().await
    }

    #[tokio::test]
    async fn files_go_out_where_their_stand_ins_are() {
        let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8 + 1).collect();
        let (stream, mut client) = pair().await;
        let files = Files::default();
        let mut connection = Connection::new(stream, files.clone());
        for (at, left) in [(10, 2_500_000), (0, 3)] {
            let file = file(&content);
            files.lock().push_back(Part { file, at, left });
        }
        let reading = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            all
        });
        let half = 500_000;
        let written = [
            b"head".as_slice(),
            &STAND_IN,
            &STAND_IN,
            &STAND_IN[..2_500_000 - 2 * PIECE],
            b"between",
            &STAND_IN[..3],
            b"",
            b"end",
        ];
        assert!(2_500_000 - 2 * PIECE < half);
        write_all(&mut connection, &written).await.unwrap();
        drop(connection);
        let expected = [
            b"head",
            &content[10..2_500_010],
            b"between",
            &content[..3],
            b"end",
        ]
        .concat();
        assert!(reading.await.unwrap() == expected);
        assert!(files.lock().is_empty());
    }

    #[tokio::test]
    async fn little_waits_for_a_client_on_this_host() {
        let (stream, mut client) = pair().await;
        let files = Files::default();
        let mut connection = Connection::new(stream, files.clone());
        let long = 64 * PIECE;
        let part = Part {
            file: file(&vec![7; long]),
            at: 0,
            left: long as u64,
        };
        files.lock().push_back(part);
        // A client that does not read: what is sent stops at the send buffer and
        // what the client's side takes.
        let all = vec![STAND_IN.as_slice(); 64];
        let writing = write_all(&mut connection, &all);
        let stuck = tokio::time::timeout(std::time::Duration::from_millis(300), writing).await;
        assert!(stuck.is_err());
        let buffer = rustix::net::sockopt::socket_send_buffer_size(&connection.stream).unwrap();
        assert_eq!(buffer, 2 * FOR_THIS_HOST);
        // And all of it arrives when it reads again.
        let sent = long as u64 - files.lock().front().unwrap().left;
        assert!(sent < (long / 2) as u64, "{sent}");
        drop(connection);
        let came = tokio::task::spawn_blocking(move || {
            let mut came = Vec::new();
            client.read_to_end(&mut came).unwrap();
            came.len() as u64
        });
        assert_eq!(came.await.unwrap(), sent);
    }

    #[tokio::test]
    async fn a_file_that_is_cut_breaks_the_connection() {
        let (stream, _client) = pair().await;
        let files = Files::default();
        let mut connection = Connection::new(stream, files.clone());
        let part = Part {
            file: file(b"short"),
            at: 0,
            left: 10,
        };
        files.lock().push_back(part);
        let error = write_all(&mut connection, &[&STAND_IN[..10]]).await;
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        // And stand-ins without a file are no content either.
        let none = Connection::new(pair().await.0, Files::default());
        let mut none = none;
        assert!(write_all(&mut none, &[&STAND_IN[..10]]).await.is_err());
    }
}
