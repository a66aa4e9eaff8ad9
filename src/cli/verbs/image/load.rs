//! `kuke image load`: an archive is read and sent piece by piece.

use clap::Args;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::Realm;
use crate::api::v1::{self, LoadImageRequest};
use crate::api::{Code, Error, Result};
use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::cli::follow::{follow, single_failure};

/// Bytes in one message; well below the limit of a gRPC message.
const CHUNK: usize = 256 * 1024;

#[derive(Debug, Args)]
pub(super) struct Load {
    /// Archive; - for standard input
    #[arg(value_name = "FILE|-")]
    file: String,
    #[command(flatten)]
    realm: Realm,
}

impl Load {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let realm = self.realm.realm.clone();
        let source = if self.file == "-" {
            "standard input"
        } else {
            &self.file
        };
        let input: BoxStream<'static, _> = if self.file == "-" {
            pieces(tokio::io::stdin(), source, &realm)
        } else {
            let file = File::open(&self.file)
                .await
                .map_err(|e| unreadable(source, &e))?;
            pieces(file, source, &realm)
        };
        let kukeon = context.kukeon().await?;
        let source = source.to_owned();
        let events = kukeon
            .load_image(input)
            .await
            .map_err(|e| named(e, &source))?;
        let of = source.clone();
        let events = events
            .map(move |event| event.map_err(|e| named(e, &of)))
            .boxed();
        let results = follow(context, events, |_| Ok(())).await?;
        if let Some(error) = single_failure(&results) {
            return Err(named(error, &source).into());
        }
        let namespace = match results.first() {
            Some(first) => {
                let request = v1::InspectImageRequest {
                    realm: realm.clone(),
                    name: first.name.clone(),
                };
                kukeon
                    .inspect_image(request)
                    .await?
                    .image
                    .unwrap_or_default()
                    .namespace
            }
            None => String::new(),
        };
        context.out.line(format_args!(
            "loaded {} image(s) into realm {realm:?} (namespace {namespace:?})",
            results.len()
        ))?;
        for result in &results {
            context.out.line(format_args!("  - {}", result.name))?;
        }
        Ok(0)
    }
}

/// The other side does not know what the archive is called.
fn named(error: Error, source: &str) -> Error {
    if error.message.contains(source) {
        error
    } else {
        error.context(source)
    }
}

/// The archive as messages. The first carries the realm and is sent even when
/// there is nothing to read.
fn pieces(
    from: impl AsyncRead + Unpin + Send + 'static,
    source: &str,
    realm: &str,
) -> BoxStream<'static, Result<LoadImageRequest>> {
    let first = LoadImageRequest {
        realm: realm.to_owned(),
        data: Vec::new(),
    };
    let source = source.to_owned();
    let rest = stream::unfold(Some((from, source)), |state| async move {
        let (mut from, source) = state?;
        let mut data = vec![0; CHUNK];
        match from.read(&mut data).await {
            Ok(0) => None,
            Ok(n) => {
                data.truncate(n);
                let message = LoadImageRequest {
                    realm: String::new(),
                    data,
                };
                Some((Ok(message), Some((from, source))))
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
    async fn the_realm_comes_first_and_every_byte_after_it() {
        let bytes = vec![7; CHUNK + 1];
        let sent: Vec<_> = pieces(std::io::Cursor::new(bytes), "f", "r")
            .collect()
            .await;
        let sent: Vec<_> = sent.into_iter().map(|m| m.expect("message")).collect();
        assert_eq!((sent[0].realm.as_str(), sent[0].data.len()), ("r", 0));
        assert_eq!(sent.iter().map(|m| m.data.len()).sum::<usize>(), CHUNK + 1);
        let empty: Vec<_> = pieces(tokio::io::empty(), "f", "r").collect().await;
        assert_eq!(empty.len(), 1);
    }
}
