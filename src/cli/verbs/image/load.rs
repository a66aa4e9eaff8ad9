//! `kuke image load`: an archive is read and sent piece by piece.

use clap::Args;
use futures::StreamExt;

use super::Realm;
use crate::api::Error;
use crate::api::v1::{self, LoadImageRequest};
use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::cli::follow::{follow, single_failure};
use crate::cli::upload::{open, pieces};

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
        let (source, from) = open(&self.file).await?;
        let first = LoadImageRequest {
            realm: realm.clone(),
            data: Vec::new(),
        };
        let input = pieces(from, &source, first, |data| LoadImageRequest {
            realm: String::new(),
            data,
        });
        let kukeon = context.kukeon().await?;
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
