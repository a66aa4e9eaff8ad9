//! `kuke run`.

mod foreground;
mod source;

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use crate::api::v1::Scope;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome, tell, usage};
use crate::cli::output::Format;
use crate::cli::scope::ScopeFlags;
use crate::cli::workload;

/// Run a cell and follow it
#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("source").required(true).args(["cell", "file", "image"]),
    after_help = "Examples:
  kuke run --rm --image docker.io/library/busybox -- sh -c 'echo hello'
  kuke run -d --name web --image nginx
  kuke run -f job.yaml
  kuke run web

Without -d the output of the cell is shown until it ends; Ctrl-C stops it. Exit code: that
of the workload; 125 when kukeon failed, 126 when the program cannot be executed, 127 when
it does not exist.")]
pub struct Run {
    /// An existing cell
    #[arg(value_name = "CELL")]
    cell: Option<String>,
    #[command(flatten)]
    scope: ScopeFlags,
    /// One Cell document; - for standard input
    #[arg(long, short, value_name = "FILE|-")]
    file: Option<String>,
    /// Make a cell with one container of this image
    #[arg(long, value_name = "REF")]
    image: Option<String>,
    /// Name of the new cell [default: made from the image's]
    #[arg(long, value_name = "NAME", requires = "image")]
    name: Option<String>,
    /// Program instead of the image's
    #[arg(long, value_name = "PROGRAM", requires = "image")]
    command: Option<String>,
    /// Variables; may be repeated
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = workload::variable, requires = "image")]
    env: Vec<String>,
    /// Do not follow it
    #[arg(long, short)]
    detach: bool,
    /// Container to follow [default: the root or first one]
    #[arg(long, short, value_name = "NAME", conflicts_with = "detach")]
    container: Option<String>,
    /// Delete the cell when it has ended; with -d only after it ended well
    #[arg(long)]
    rm: bool,
    /// With -f: refuse a live cell that differs from the document
    #[arg(long, requires = "file")]
    require_synced: bool,
    /// Output format, with -d
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    /// Arguments of the program
    #[arg(last = true, value_name = "ARGS", requires = "image")]
    args: Vec<String>,
}

/// A cell that was brought up.
#[derive(Debug, Clone, Default)]
struct Up {
    name: String,
    scope: Scope,
    /// It did not exist before.
    created: bool,
    /// Something was started.
    started: bool,
    /// Its containers, the one to follow first.
    containers: Vec<String>,
}

impl Run {
    /// Brings the cell up; in the foreground follows it and gives its exit code.
    pub async fn run(self, context: &Context) -> Outcome {
        if !self.detach && self.output != Format::Table {
            return Err(usage("--output is incompatible with attach mode: add -d").into());
        }
        if self.detach {
            let up = source::bring_up(&self, context).await?;
            self.summary(context, &up)?;
            return Ok(0);
        }
        match foreground::run(&self, context).await {
            Err(Failure::Error(error)) => {
                tell(&error);
                Err(Failure::Exit(workload::exit_code(&error)))
            }
            other => other,
        }
    }

    /// Whether it comes back at once.
    pub fn is_detached(&self) -> bool {
        self.detach
    }

    fn summary(&self, context: &Context, up: &Up) -> Result<(), Failure> {
        match self.output {
            Format::Json | Format::Yaml => context.out.structured(self.output, &Summary::from(up)),
            Format::Name => context.out.line(format_args!("cell/{}", up.name)),
            Format::Table | Format::Wide => context.out.line(up.text()),
        }
    }
}

impl Up {
    /// The summary for people.
    fn text(&self) -> String {
        let Scope {
            realm,
            space,
            stack,
            ..
        } = &self.scope;
        let existed = if self.created {
            "created"
        } else {
            "already existed"
        };
        let mut lines = vec![
            format!(
                "Cell {:?} (realm {realm:?}, space {space:?}, stack {stack:?})",
                self.name
            ),
            format!("  - metadata: {existed}"),
        ];
        for container in &self.containers {
            lines.push(format!("  - container {container:?}: {existed}"));
        }
        let started = if self.started {
            "started"
        } else {
            "already running"
        };
        lines.push(format!("  - containers: {started}"));
        lines.join("\n")
    }
}

/// The summary for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    cell: SummaryCell<'a>,
    created: bool,
    started: bool,
    containers: Vec<SummaryContainer<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SummaryCell<'a> {
    name: &'a str,
    realm_id: &'a str,
    space_id: &'a str,
    stack_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SummaryContainer<'a> {
    name: &'a str,
    created: bool,
    exists_post: bool,
}

impl<'a> From<&'a Up> for Summary<'a> {
    fn from(up: &'a Up) -> Self {
        Self {
            cell: SummaryCell {
                name: &up.name,
                realm_id: &up.scope.realm,
                space_id: &up.scope.space,
                stack_id: &up.scope.stack,
            },
            created: up.created,
            started: up.started,
            containers: up
                .containers
                .iter()
                .map(|name| SummaryContainer {
                    name,
                    created: up.created,
                    exists_post: true,
                })
                .collect(),
        }
    }
}

/// The place a `-f` argument names.
fn path_of(file: &str) -> Option<PathBuf> {
    (file != "-").then(|| PathBuf::from(file))
}

/// What was written before this is of an earlier run.
fn now() -> String {
    Timestamp::now().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_that_containers_were_started() {
        let up = Up {
            name: "web".into(),
            created: true,
            started: true,
            containers: vec!["main".into()],
            ..Default::default()
        };
        assert!(up.text().contains("containers: started"));
        assert!(up.text().contains("container \"main\": created"));
        let json = serde_json::to_value(Summary::from(&up)).expect("json");
        assert_eq!(json["containers"][0]["existsPost"], true);
        assert_eq!(json["cell"]["name"], "web");
    }
}
