//! `kuke get --watch`: what changed since the last look.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;

use crate::api::v1::{self, Object};
use crate::cli::failure::Failure;
use crate::cli::kind::Kind;
use crate::cli::output::{Format, Out, objects};
use crate::client::Kukeon;

/// Time between two looks.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// Tells when an object of a release kind changed.
pub(super) struct Changes {
    stream: BoxStream<'static, crate::api::Result<v1::ReleaseChange>>,
    kind: Kind,
}

impl Changes {
    /// From now on; none where nobody tells.
    pub(super) async fn of(kukeon: &dyn Kukeon, kind: Kind) -> Option<Self> {
        let asked = kukeon.watch_releases(v1::WatchReleasesRequest {}).await;
        let mut stream = asked.ok()?;
        // What there is comes first: a look shows that as well.
        while !stream.next().await?.ok()?.synced {}
        Some(Self { stream, kind })
    }

    /// Comes back when there is something to look at; false when there will be
    /// nothing more. Changes that wait are one.
    pub(super) async fn next(&mut self) -> bool {
        loop {
            match self.stream.next().await {
                Some(Ok(change)) if change.kind == self.kind.as_str() => break,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return false,
            }
        }
        while let Some(Some(Ok(_))) = self.stream.next().now_or_never() {}
        true
    }
}

/// What was seen, and how it is shown.
pub(super) struct Watched {
    kind: Kind,
    format: Format,
    headers: bool,
    /// As document, by identity.
    seen: BTreeMap<String, (serde_json::Value, Vec<String>)>,
    /// Widest cell of every column so far.
    widths: Vec<usize>,
    begun: bool,
}

impl Watched {
    pub(super) fn new(kind: Kind, format: Format, headers: bool) -> Self {
        Self {
            kind,
            format,
            headers,
            seen: BTreeMap::new(),
            widths: Vec::new(),
            begun: false,
        }
    }

    /// Prints what is new, another than before, or gone.
    pub(super) fn look(&mut self, out: &Out, found: &[Object]) -> Result<(), Failure> {
        let wide = self.format == Format::Wide;
        let now = Timestamp::now();
        let mut fresh = Vec::new();
        let mut there = Vec::new();
        for object in found {
            let value = serde_json::to_value(object)
                .map_err(|e| crate::api::Error::failed("Output", e.to_string()))?;
            let key = identity(&value);
            let row = objects::row(object, wide, now);
            let changed = self.seen.get(&key).is_none_or(|(old, _)| *old != value);
            if changed {
                fresh.push((object, row.clone()));
                self.seen.insert(key.clone(), (value, row));
            }
            there.push(key);
        }
        let lost: Vec<String> = self.seen.keys().cloned().collect();
        let mut gone = Vec::new();
        for key in lost.into_iter().filter(|key| !there.contains(key)) {
            gone.extend(self.seen.remove(&key).map(|(_, row)| row));
        }
        if !self.begun {
            let header = objects::header(self.kind, wide);
            self.widths = header.iter().map(|title| title.len()).collect();
            for (_, row) in &fresh {
                self.widen(row);
            }
            self.begun = true;
            if self.headers && matches!(self.format, Format::Table | Format::Wide) {
                let titles: Vec<String> = header.iter().map(|t| (*t).to_owned()).collect();
                out.line(self.line(&titles))?;
            }
        }
        for (object, row) in fresh {
            match self.format {
                Format::Table | Format::Wide => {
                    self.widen(&row);
                    out.line(self.line(&row))?;
                }
                Format::Yaml => {
                    out.line("---")?;
                    objects::single(out, self.format, self.kind, object, false)?;
                }
                Format::Json | Format::Name => {
                    objects::single(out, self.format, self.kind, object, false)?;
                }
            }
        }
        for row in gone {
            let name = row.first().map(String::as_str).unwrap_or_default();
            match self.format {
                // A program sees no more of it.
                Format::Json | Format::Yaml | Format::Name => {}
                Format::Table | Format::Wide => {
                    out.line(format_args!("{}/{name} deleted", self.kind.singular()))?;
                }
            }
        }
        Ok(())
    }

    fn widen(&mut self, row: &[String]) {
        for (width, cell) in self.widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }

    fn line(&self, row: &[String]) -> String {
        let cell = |(cell, width): (&String, &usize)| {
            let text = if cell.is_empty() { "-" } else { cell };
            let text = text.replace(|c: char| c.is_control(), " ");
            format!("{text:width$}")
        };
        let cells: Vec<String> = row.iter().zip(&self.widths).map(cell).collect();
        cells.join("  ").trim_end().to_owned()
    }
}

/// What tells an object from all others of its kind.
fn identity(value: &serde_json::Value) -> String {
    let meta = &value["metadata"];
    let spec = &value["spec"];
    let parts = [
        &meta["namespace"],
        &spec["realmId"],
        &spec["spaceId"],
        &spec["stackId"],
        &spec["cellId"],
        &meta["name"],
    ];
    let parts = parts.map(|part| part.as_str().unwrap_or_default());
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::delivery::v1alpha1::{Metadata, Recipe, RecipeStatus};
    use crate::api::v1::object::Object as Any;

    fn recipe(name: &str, latest: &str) -> Object {
        Object {
            object: Some(Any::Recipe(Recipe {
                metadata: Some(Metadata {
                    name: name.into(),
                    ..Default::default()
                }),
                status: Some(RecipeStatus {
                    latest_preparation_name: latest.into(),
                    ..Default::default()
                }),
                ..Default::default()
            })),
        }
    }

    #[tokio::test]
    async fn changes_of_the_kind_are_told_together_and_end_with_the_stream() {
        let change = |kind: &str| {
            Ok(v1::ReleaseChange {
                kind: kind.into(),
                ..Default::default()
            })
        };
        let told = [change("Menu"), change("Recipe"), change("Recipe")];
        let mut changes = Changes {
            stream: futures::stream::iter(told).boxed(),
            kind: Kind::Recipe,
        };
        assert!(changes.next().await);
        assert!(!changes.next().await, "both were one");
    }

    #[test]
    fn only_what_changed_is_told() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let out = Out::to(Box::new(file.reopen().expect("open")));
        let mut watched = Watched::new(Kind::Recipe, Format::Table, true);
        let looks = [
            vec![recipe("a", ""), recipe("b", "")],
            vec![recipe("a", ""), recipe("b", "")],
            vec![recipe("a", "a-1"), recipe("b", "")],
            vec![recipe("b", "")],
        ];
        for found in &looks {
            watched.look(&out, found).expect("printed");
        }
        out.flush().expect("flushed");
        let text = std::fs::read_to_string(file.path()).expect("text");
        let firsts: Vec<&str> = text
            .lines()
            .map(|line| line.split_whitespace().next().unwrap_or_default())
            .collect();
        assert_eq!(firsts, ["NAME", "a", "b", "a", "recipe/a"], "{text}");
        assert!(
            text.contains("a-1") && text.contains("recipe/a deleted"),
            "{text}"
        );
    }
}
