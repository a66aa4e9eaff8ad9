//! `kuke apply`.

use clap::Args;
use serde::Serialize;

use crate::api::v1::{self, ResourceResult};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::follow::{failures, follow};
use crate::cli::manifest;
use crate::cli::output::Format;

/// Make the host as manifests say
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kuke apply -f cell.yaml
  kuke apply -f manifests/          every *.yaml, *.yml and *.json in it, sorted
  kuke apply -f - < cell.yaml
  kuke apply -f cell.yaml --dry-run the steps that would be taken")]
pub struct Apply {
    /// File, directory, or - for standard input; may be repeated
    #[arg(long, short, required = true, value_name = "FILE|DIR|-")]
    file: Vec<String>,
    /// Show what would be done, change nothing
    #[arg(long)]
    dry_run: bool,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// What `-o json|yaml` prints.
#[derive(Serialize)]
pub struct Results {
    /// One entry per object.
    pub resources: Vec<ResourceResult>,
}

impl Apply {
    /// Applies all files as one stream and prints what became of each object.
    pub async fn run(self, context: &Context) -> Outcome {
        let request = v1::ApplyRequest {
            files: manifest::read_all(&self.file)?,
            dry_run: self.dry_run,
            progress: true,
            ..Default::default()
        };
        let events = context.kukeon().await?.apply(request).await?;
        let results = follow(context, events, |result| self.print(context, result)).await?;
        let failure = failures(&results, "some resources failed to apply");
        if self.output.is_structured() {
            let results = Results { resources: results };
            context.out.structured(self.output, &results)?;
        }
        match failure {
            Some(error) => Err(error.into()),
            None => Ok(0),
        }
    }

    fn print(&self, context: &Context, result: &ResourceResult) -> Result<(), Failure> {
        match self.output {
            Format::Json | Format::Yaml => Ok(()),
            Format::Name => context.out.line(format_args!(
                "{}/{}",
                result.kind.to_ascii_lowercase(),
                result.name
            )),
            Format::Table | Format::Wide => {
                let steps = self.dry_run || self.output == Format::Wide;
                print_result(context, result, steps)
            }
        }
    }
}

/// `Cell "web": updated`, then what changed, the steps if wanted, and the error.
pub fn print_result(
    context: &Context,
    result: &ResourceResult,
    steps: bool,
) -> Result<(), Failure> {
    let out = &context.out;
    let action = match (result.action.as_str(), &result.error) {
        ("", Some(_)) => "failed",
        (action, _) => action,
    };
    out.line(format_args!("{} {:?}: {action}", result.kind, result.name))?;
    for change in &result.changes {
        out.line(format_args!("  - {change}"))?;
    }
    if steps {
        for step in &result.steps {
            out.line(format_args!("  > {step}"))?;
        }
    }
    if let Some(error) = &result.error {
        out.line(format_args!("  Error: {}", error.message))?;
        if !error.hint.is_empty() {
            out.line(format_args!("  {}", error.hint))?;
        }
    }
    Ok(())
}
