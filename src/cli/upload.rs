//! A file or standard input that is sent piece by piece.

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::api::{Code, Error, Result};

/// Bytes in one message; well below the limit of a gRPC message.
const CHUNK: usize = 256 * 1024;

/// What is read from.
pub type Source = Box<dyn AsyncRead + Unpin + Send>;

/// Opens a file, or standard input for `-`; with its name for people.
///
/// # Errors
/// A file that cannot be opened.
pub async fn open(file: &str) -> Result<(String, Source)> {
    if file == "-" {
        return Ok(("standard input".to_owned(), Box::new(tokio::io::stdin())));
    }
    let opened = File::open(file).await.map_err(|e| unreadable(file, &e))?;
    Ok((file.to_owned(), Box::new(opened)))
}

/// The bytes as messages. `first` says what they are for and is sent even when
/// there is nothing to read.
pub fn pieces<T: Send + 'static>(
    from: impl AsyncRead + Unpin + Send + 'static,
    source: &str,
    first: T,
    message: impl Fn(Vec<u8>) -> T + Send + 'static,
) -> BoxStream<'static, Result<T>> {
    let state = Some((from, source.to_owned(), message));
    let rest = stream::unfold(state, |state| async move {
        let (mut from, source, message) = state?;
        let mut data = vec![0; CHUNK];
        match from.read(&mut data).await {
            Ok(0) => None,
            Ok(n) => {
                data.truncate(n);
                Some((Ok(message(data)), Some((from, source, message))))
            }
            Err(error) => Some((Err(unreadable(&source, &error)), None)),
        }
    });
    stream::once(async { Ok(first) }).chain(rest).boxed()
}

fn unreadable(source: &str, error: &std::io::Error) -> Error {
    let code = match error.kind() {
        std::io::ErrorKind::NotFound => Code::NotFound,
        std::io::ErrorKind::PermissionDenied => Code::Permission,
        _ => Code::Failed,
    };
    Error::new(
        code,
        "FileUnreadable",
        format!("failed to open file {source}: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_it_is_for_comes_first_and_every_byte_after_it() {
        let bytes = vec![7; CHUNK + 1];
        let from = std::io::Cursor::new(bytes);
        let sent: Vec<_> = pieces(from, "f", vec![], |data| data).collect().await;
        let sent: Vec<_> = sent.into_iter().map(|m| m.expect("message")).collect();
        assert!(sent[0].is_empty());
        assert_eq!(sent.iter().map(Vec::len).sum::<usize>(), CHUNK + 1);
        let empty: Vec<_> = pieces(tokio::io::empty(), "f", vec![], |data| data)
            .collect()
            .await;
        assert_eq!(empty.len(), 1);
    }
}
