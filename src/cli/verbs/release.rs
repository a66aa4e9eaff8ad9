//! Verbs of releases: `promote`, `rollback`, `resume`, `sync`, `history`, `diff`,
//! `manifest`, `prep`, `menu` and `wait`.

mod groups;
mod look;
mod sign;

pub use groups::{Menu, Named, Noted, Prep};
pub use look::{Diff, History, Manifest, Wait};

use std::time::Duration;

use clap::Args;

use crate::api::v1::{self, Action, ResourceResult};
use crate::api::{Code, Error};
use crate::cli::config::duration;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::follow::{follow, single_failure};
use crate::cli::output::Format;
use crate::cli::verbs::apply::{Results, print_result, settled};
use crate::client::EventStream;

/// Where a release lives, and how the answer is printed.
#[derive(Debug, Args)]
pub struct Common {
    /// Namespace
    #[arg(
        long,
        short,
        value_name = "NAME",
        default_value = "default",
        help_heading = "Scope"
    )]
    pub namespace: String,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Format,
}

/// Make a preparation active, by default the latest
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  kuke promote web
  kuke promote web --to rev-3 -m 'back to what worked'
  kuke promote web --to web-0123456789ab --wait"
)]
pub struct Promote {
    #[command(flatten)]
    pointer: Pointer,
}

/// Make the preparation active that was active before
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Nothing is rendered. Auto-deploy pauses until `kuke resume`, or until the latest is promoted.

Examples:
  kuke rollback web --wait
  kuke rollback web --to rev-1"
)]
pub struct Rollback {
    #[command(flatten)]
    pointer: Pointer,
}

/// Whether the outcome is waited for.
#[derive(Debug, Clone, Copy, Args)]
pub struct Patience {
    /// Wait until it is ready, or failed
    #[arg(long)]
    wait: bool,
    /// With --wait: how long; 0 is for ever. What was begun goes on
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "wait")]
    timeout: Option<Duration>,
}

impl Patience {
    /// Until it has come to its end, or for this long; 0 is for ever.
    pub fn new(wait: bool, timeout: Option<Duration>) -> Self {
        Self { wait, timeout }
    }

    /// Whether the outcome is waited for.
    pub fn waits(&self) -> bool {
        self.wait
    }

    /// Follows a call to its end, or until the time is over (exit code 7).
    pub async fn finish(
        &self,
        context: &Context,
        output: Format,
        what: &str,
        events: EventStream,
    ) -> Outcome {
        self.within(what, finish(context, output, events)).await
    }

    /// Does work to its end, or until the time is over (exit code 7).
    pub async fn within<T>(
        &self,
        what: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match self.timeout.filter(|limit| !limit.is_zero()) {
            None => work.await,
            Some(limit) => match tokio::time::timeout(limit, work).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    let seconds = limit.as_secs_f32();
                    let message = format!("{what} did not come to its end within {seconds} s");
                    let hint = "it goes on; `kuke describe` shows what it waits for";
                    Err(Error::new(Code::Timeout, "WaitTimeout", message)
                        .hint(hint)
                        .into())
                }
            },
        }
    }
}

#[derive(Debug, Args)]
struct Pointer {
    /// Recipe
    #[arg(value_name = "RECIPE")]
    recipe: String,
    /// Preparation, rev-<number> or digest
    #[arg(long, value_name = "PREP|rev-N|DIGEST")]
    to: Option<String>,
    /// Message for the history
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    /// Refuse when another preparation than this is active
    #[arg(long, value_name = "PREP")]
    expected_current: Option<String>,
    #[command(flatten)]
    patience: Patience,
    /// Only check whether it could be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

impl Pointer {
    async fn run(self, context: &Context, rollback: bool) -> Outcome {
        let request = v1::PromoteRequest {
            namespace: self.common.namespace.clone(),
            recipe: self.recipe.clone(),
            to: self.to.unwrap_or_default(),
            expected_current: self.expected_current.unwrap_or_default(),
            message: self.message.unwrap_or_default(),
            rollback,
            wait: self.patience.wait,
            dry_run: self.dry_run,
        };
        let events = context.kukeon().await?.promote(request).await?;
        let what = format!("serving/{}", self.recipe);
        let patience = &self.patience;
        patience
            .finish(context, self.common.output, &what, events)
            .await
    }
}

impl Promote {
    /// Asks and prints.
    pub async fn run(self, context: &Context) -> Outcome {
        self.pointer.run(context, false).await
    }
}

impl Rollback {
    /// Asks and prints.
    pub async fn run(self, context: &Context) -> Outcome {
        self.pointer.run(context, true).await
    }
}

/// Let auto-deploy go on after a rollback
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  kuke resume web"
)]
pub struct Resume {
    #[command(flatten)]
    target: Target,
}

/// Apply what is active again
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  kuke sync web --wait"
)]
pub struct Sync {
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
struct Target {
    /// Recipe
    #[arg(value_name = "RECIPE")]
    recipe: String,
    /// Only show what would be done
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    common: Common,
}

impl Target {
    async fn run(self, context: &Context, action: Action) -> Outcome {
        let request = v1::ActRequest {
            kind: "Serving".to_owned(),
            namespace: self.common.namespace.clone(),
            name: self.recipe.clone(),
            action: action.into(),
            wait: self.patience.wait,
            dry_run: self.dry_run,
            ..Default::default()
        };
        let events = context.kukeon().await?.act(request).await?;
        let what = format!("serving/{}", self.recipe);
        let patience = &self.patience;
        patience
            .finish(context, self.common.output, &what, events)
            .await
    }
}

impl Resume {
    /// Asks and prints.
    pub async fn run(self, context: &Context) -> Outcome {
        self.target.run(context, Action::Resume).await
    }
}

impl Sync {
    /// Asks and prints.
    pub async fn run(self, context: &Context) -> Outcome {
        self.target.run(context, Action::Sync).await
    }
}

/// Follows a call to its end: a line per result, or all of them at once.
pub async fn finish(context: &Context, output: Format, events: EventStream) -> Outcome {
    finish_ready(context, output, events, false).await
}

/// The same; with `wait` what was applied has to become ready as well.
pub async fn finish_ready(
    context: &Context,
    output: Format,
    events: EventStream,
    wait: bool,
) -> Outcome {
    let each = |result: &ResourceResult| -> Result<(), Failure> {
        match output {
            Format::Json | Format::Yaml => Ok(()),
            Format::Name => context.out.line(format_args!(
                "{}/{}",
                result.kind.to_ascii_lowercase(),
                result.name
            )),
            // A failure is told at the end, once.
            Format::Table | Format::Wide if result.error.is_some() => Ok(()),
            Format::Table | Format::Wide => {
                print_result(context, result, result.action == "planned")
            }
        }
    };
    let mut results = follow(context, events, each).await?;
    let mut failure = single_failure(&results);
    if failure.is_none() && wait {
        let table = matches!(output, Format::Table | Format::Wide);
        failure = settled(context, &mut results, table).await?.err();
    }
    if output.is_structured() {
        let results = Results { resources: results };
        context.out.structured(output, &results)?;
    }
    match failure {
        Some(error) => Err(error.into()),
        None => Ok(0),
    }
}
