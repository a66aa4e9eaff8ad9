//! Content between the network and the disk, in flat memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures::stream::unfold;
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::answer::Failure;
use crate::registry::sendfile::Files;
use crate::registry::storage::Upload;
use crate::registry::{Error, Result};

/// Bytes that are read at a time.
const PIECE: u64 = 128 << 10;
/// Pieces that wait for the disk.
const WAITING: usize = 4;

/// A body of a part of a file. Where the connection cannot send it as it is, one
/// piece is sent while the next one is read.
pub(super) fn of_file(files: Option<&Files>, file: File, from: u64, length: u64) -> Body {
    if length == 0 {
        return Body::empty();
    }
    if let Some(files) = files {
        return files.body(file, from, length);
    }
    let file = Arc::new(file);
    let end = from + length;
    let first = read(&file, from, end);
    let pieces = unfold(Some((file, first)), move |state| async move {
        let (file, (at, pending)) = state?;
        let piece = match pending.await {
            Ok(piece) => piece,
            Err(e) => Err(e.into()),
        };
        let next = match &piece {
            Ok(piece) => at + piece.len() as u64,
            // The connection is broken off: the client must not take what came
            // for the whole.
            Err(_) => return Some((piece, None)),
        };
        let state = (next < end).then(|| {
            let pending = read(&file, next, end);
            (file, pending)
        });
        Some((piece, state))
    });
    Body::from_stream(pieces)
}

type Pending = JoinHandle<io::Result<Bytes>>;

fn read(file: &Arc<File>, at: u64, end: u64) -> (u64, Pending) {
    let file = Arc::clone(file);
    let length = usize::try_from((end - at).min(PIECE)).unwrap_or(0);
    let pending = tokio::task::spawn_blocking(move || {
        let mut piece = vec![0; length];
        file.read_exact_at(&mut piece, at)?;
        Ok(Bytes::from(piece))
    });
    (at, pending)
}

/// Writes a request's body to a session, then does `then` with it, on a thread
/// that may block. When the client goes away, what came stays in the session.
pub(super) async fn receive<T: Send + 'static>(
    mut upload: Upload,
    mut body: Body,
    then: impl FnOnce(Upload, u64) -> Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let (send, mut pieces) = mpsc::channel::<Option<Bytes>>(WAITING);
    let writing = tokio::task::spawn_blocking(move || {
        let mut came = 0;
        loop {
            match pieces.blocking_recv() {
                Some(Some(piece)) => {
                    came += piece.len() as u64;
                    if let Err(e) = upload.append(&piece) {
                        if e.is_full() {
                            // It would only keep the disk full.
                            upload.cancel()?;
                        }
                        return Err(e);
                    }
                }
                Some(None) => return then(upload, came),
                None => {
                    let gone = io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Err(Error::io("receiving an upload")(gone));
                }
            }
        }
    });
    let mut broken = false;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            broken = true;
            break;
        };
        if let Ok(piece) = frame.into_data()
            && send.send(Some(piece)).await.is_err()
        {
            // The writer has failed and says why.
            break;
        }
    }
    if !broken {
        let _ = send.send(None).await;
    }
    drop(send);
    match writing.await {
        Ok(result) => result.map_err(Failure::from),
        Err(e) => Err(Error::io("receiving an upload")(e.into()).into()),
    }
}

/// A whole body of at most `limit` bytes; none when it is larger.
pub(super) async fn whole(mut body: Body, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|e| Failure::from(Error::io("receiving a request")(io::Error::other(e))))?;
        if let Ok(piece) = frame.into_data() {
            if bytes.len() as u64 + piece.len() as u64 > limit {
                return Ok(None);
            }
            bytes.extend_from_slice(&piece);
        }
    }
    Ok(Some(bytes))
}
