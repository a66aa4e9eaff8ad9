//! `kuke log`.

use std::collections::HashMap;
use std::time::Duration;

use clap::Args;
use futures::StreamExt;
use jiff::Timestamp;

use crate::api::v1::{self, LogChunk};
use crate::cli::config::duration;
use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::cli::scope::ScopeFlags;
use crate::cli::signals::Signals;

/// Show the output of a container
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kuke log web
  kuke log web -f --tail 20
  kuke log web -c proxy --since 10m --timestamps
  kuke log web --since 2026-01-02T15:04:05Z")]
pub struct Log {
    /// Cell
    #[arg(value_name = "CELL")]
    cell: String,
    #[command(flatten)]
    scope: ScopeFlags,
    /// Container [default: the root or only one]
    #[arg(long, short, value_name = "NAME")]
    container: Option<String>,
    /// Go on until the container ends
    #[arg(long, short)]
    pub follow: bool,
    /// Only the last lines
    #[arg(long, short = 'n', value_name = "LINES", value_parser = clap::value_parser!(u32))]
    tail: Option<u32>,
    /// Only what was written since a time or for a duration: 10m, 2026-01-02T15:04:05Z
    #[arg(long, value_name = "TIME|DURATION", value_parser = since)]
    since: Option<Since>,
    /// Put the time of writing before every line
    #[arg(long, short)]
    timestamps: bool,
}

/// A point in time, or so long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    At(Timestamp),
    Ago(Duration),
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(Since::At(at));
    }
    duration(text)
        .map(Since::Ago)
        .map_err(|_| "a duration such as 10m or an RFC 3339 time is needed".to_owned())
}

impl Since {
    fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Since::At(at) => at,
            Since::Ago(ago) => now.checked_sub(ago).unwrap_or(Timestamp::MIN),
        }
    }
}

impl Log {
    /// Prints; with `--follow` until the container ends or a signal comes.
    pub async fn run(self, context: &Context) -> Outcome {
        let mut signals = Signals::take()?;
        let follow = self.follow;
        tokio::select! {
            biased;
            signal = signals.next() => Ok(if follow { 0 } else { signal.exit_code() }),
            outcome = self.print(context) => outcome,
        }
    }

    async fn print(self, context: &Context) -> Outcome {
        let since = self.since.map(|since| since.resolve(Timestamp::now()));
        let request = v1::LogsRequest {
            name: self.cell,
            scope: Some(self.scope.single()),
            container: self.container.unwrap_or_default(),
            follow: self.follow,
            tail: self.tail.map(i64::from),
            since: since.map(|at| at.to_string()).unwrap_or_default(),
        };
        let chunks = context.kukeon().await?.logs(request).await?;
        // What is there already goes out together, what comes later at once.
        let mut chunks = chunks.ready_chunks(256);
        let mut stamps = self.timestamps.then(Stamps::default);
        while let Some(ready) = chunks.next().await {
            for chunk in ready {
                let chunk = chunk?;
                if let Some(stamps) = &mut stamps
                    && stamps.begins(&chunk)
                {
                    let stamp = format!("{} ", chunk.timestamp);
                    context.out.buffer(stamp.as_bytes())?;
                }
                context.out.buffer(&chunk.data)?;
            }
            context.out.flush()?;
        }
        Ok(0)
    }
}

/// Where lines begin: a chunk may be only part of one.
#[derive(Default)]
struct Stamps {
    inside_line: HashMap<String, bool>,
}

impl Stamps {
    /// Whether this chunk begins a line of its stream.
    fn begins(&mut self, chunk: &LogChunk) -> bool {
        let ended = chunk.data.last() == Some(&b'\n');
        let inside = self.inside_line.insert(chunk.stream.clone(), !ended);
        !inside.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_or_a_duration() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().expect("time");
        let ago = since("10m").expect("duration").resolve(now);
        assert_eq!(ago.to_string(), "2026-01-01T00:50:00Z");
        let at = since("2025-12-31T00:00:00+01:00")
            .expect("time")
            .resolve(now);
        assert_eq!(at.to_string(), "2025-12-30T23:00:00Z");
        assert!(since("yesterday").is_err());
    }

    #[test]
    fn a_stamp_comes_once_a_line() {
        let chunk = |stream: &str, data: &[u8]| LogChunk {
            stream: stream.into(),
            data: data.to_vec(),
            ..Default::default()
        };
        let mut stamps = Stamps::default();
        assert!(stamps.begins(&chunk("stdout", b"half")));
        assert!(stamps.begins(&chunk("stderr", b"other\n")));
        assert!(!stamps.begins(&chunk("stdout", b" a line\n")));
        assert!(stamps.begins(&chunk("stdout", b"next\n")));
    }
}
