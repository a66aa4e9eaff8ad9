//! `kuke label` and `kuke annotate`: one mark of an object, and nothing else of it.

use clap::Args;

use crate::api::v1::{Mark, MarkRequest};
use crate::cli::context::Context;
use crate::cli::failure::{Outcome, usage};
use crate::cli::kind::Kind;
use crate::cli::output::Format;
use crate::cli::scope::PlaceFlags;
use crate::cli::verbs::apply::{Results, print_result};

/// Set or remove labels of an object
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "`KEY-` removes a label. One that has another value stays, unless --overwrite is given. What runs\ngoes on as it is.

Examples:
  kuke label cell web tier=front
  kuke label cell web tier-
  kuke label prep web-0123456789ab delivery.kokumi.dev/approve-deploy=true"
)]
pub struct Label {
    #[command(flatten)]
    marks: Marks,
}

impl Label {
    /// Sets and removes them.
    pub async fn run(self, context: &Context) -> Outcome {
        self.marks.run(context, true).await
    }
}

/// Set or remove annotations of an object
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "`KEY-` removes an annotation. One that has another value stays, unless --overwrite is given. What\nruns goes on as it is.

Examples:
  kuke annotate cell web delivery.kokumi.dev/allowed-recipe=default/web
  kuke annotate recipe web example.com/owner=ann --overwrite"
)]
pub struct Annotate {
    #[command(flatten)]
    marks: Marks,
}

impl Annotate {
    /// Sets and removes them.
    pub async fn run(self, context: &Context) -> Outcome {
        self.marks.run(context, false).await
    }
}

#[derive(Debug, Args)]
struct Marks {
    /// Kind
    #[arg(value_name = "KIND")]
    kind: Kind,
    /// Name
    #[arg(value_name = "NAME")]
    name: String,
    /// What to set, and with a dash at the end what to remove
    #[arg(value_name = "KEY=VALUE|KEY-", required = true, value_parser = mark)]
    marks: Vec<Mark>,
    /// Replace values that are there
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    place: PlaceFlags,
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

impl Marks {
    async fn run(self, context: &Context, labels: bool) -> Outcome {
        if self.kind == Kind::Image {
            return Err(usage("an image has no marks that could be set").into());
        }
        let (labels, annotations) = match labels {
            true => (self.marks, Vec::new()),
            false => (Vec::new(), self.marks),
        };
        let request = MarkRequest {
            kind: self.kind.as_str().to_owned(),
            name: self.name,
            scope: Some(self.place.scope().of(self.kind)),
            labels,
            annotations,
            overwrite: self.overwrite,
            dry_run: self.dry_run,
        };
        let result = context.kukeon().await?.mark(request).await?;
        let out = &context.out;
        match self.output {
            Format::Name => {
                let kind = self.kind.singular();
                out.line(format_args!("{kind}/{}", result.name))?;
            }
            Format::Table | Format::Wide => print_result(context, &result, self.dry_run)?,
            Format::Json | Format::Yaml => {
                let resources = vec![result];
                out.structured(self.output, &Results { resources })?;
            }
        }
        Ok(0)
    }
}

/// `KEY=VALUE` or `KEY-`.
fn mark(text: &str) -> std::result::Result<Mark, String> {
    let (key, value) = match (text.split_once('='), text.strip_suffix('-')) {
        (Some((key, value)), _) => (key, Some(value.to_owned())),
        (None, Some(key)) => (key, None),
        (None, None) => return Err("neither KEY=VALUE nor KEY-".to_owned()),
    };
    if key.is_empty() {
        return Err("the key is missing".to_owned());
    }
    let key = key.to_owned();
    Ok(Mark { key, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read() {
        let read = |text: &str| mark(text).map(|m| (m.key, m.value));
        let set = |key: &str, value: &str| Ok((key.to_owned(), Some(value.to_owned())));
        assert_eq!(read("a=b"), set("a", "b"));
        assert_eq!(read("a=b=c-"), set("a", "b=c-"));
        assert_eq!(read("a="), set("a", ""));
        assert_eq!(read("x.dev/a-b-"), Ok(("x.dev/a-b".to_owned(), None)));
        for wrong in ["a", "=b", "-", ""] {
            assert!(mark(wrong).is_err(), "{wrong:?}");
        }
    }
}
