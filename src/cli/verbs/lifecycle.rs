//! `kuke start`, `stop`, `kill` and `restart`.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures::{StreamExt, stream};

use crate::api::v1::{self, ResourceResult};
use crate::api::{Error, Result};
use crate::cli::config::duration;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome, say, tell};
use crate::cli::follow::{failures, follow, single_failure};
use crate::cli::output::Format;
use crate::cli::scope::ScopeFlags;
use crate::cli::verbs::apply::Results;
use crate::client::{EventStream, Kukeon};

/// How many cells are worked on at once.
const AT_ONCE: usize = 8;

/// Which cells.
#[derive(Debug, Args)]
pub struct Target {
    /// Cells
    #[arg(value_name = "CELL", required_unless_present = "selector")]
    cells: Vec<String>,
    /// Every cell with these labels instead: k=v, k!=v, k, !k; a comma means and
    #[arg(long, short = 'l', value_name = "SELECTOR", conflicts_with = "cells")]
    selector: Option<String>,
    #[command(flatten)]
    scope: ScopeFlags,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// Start cells
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kuke start web api\n  kuke start -l tier=backend")]
pub struct Start {
    #[command(flatten)]
    target: Target,
}

/// Stop cells; they stay stopped, also after a reboot
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kuke stop web api\n  kuke stop web --grace 30s\n  kuke stop -l tier=backend"
)]
pub struct Stop {
    #[command(flatten)]
    target: Target,
    /// Time between SIGTERM and SIGKILL [default: each container's own, 10s]
    #[arg(long, alias = "timeout", value_name = "DURATION", value_parser = duration)]
    grace: Option<Duration>,
}

/// End cells at once with SIGKILL; they stay stopped
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kuke kill web")]
pub struct Kill {
    #[command(flatten)]
    target: Target,
}

/// Stop cells and start them again
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kuke restart web\n  kuke restart -l app=shop")]
pub struct Restart {
    #[command(flatten)]
    target: Target,
    /// Time between SIGTERM and SIGKILL [default: each container's own, 10s]
    #[arg(long, alias = "timeout", value_name = "DURATION", value_parser = duration)]
    grace: Option<Duration>,
}

impl Start {
    /// Starts.
    pub async fn run(self, context: &Context) -> Outcome {
        self.target.change(context, "start", None).await
    }
}

impl Stop {
    /// Stops.
    pub async fn run(self, context: &Context) -> Outcome {
        self.target.change(context, "stop", self.grace).await
    }
}

impl Kill {
    /// Kills.
    pub async fn run(self, context: &Context) -> Outcome {
        self.target.change(context, "kill", None).await
    }
}

impl Restart {
    /// Restarts.
    pub async fn run(self, context: &Context) -> Outcome {
        self.target.change(context, "restart", self.grace).await
    }
}

impl Target {
    async fn change(self, context: &Context, action: &str, grace: Option<Duration>) -> Outcome {
        let kukeon = context.kukeon().await?;
        let cells = match &self.selector {
            Some(selector) => select(&kukeon, &self.scope, selector).await?,
            None => distinct(&self.cells)
                .map(|name| (name.clone(), self.scope.single()))
                .collect(),
        };
        if cells.is_empty() {
            return self.nothing(context);
        }
        let several = self.selector.is_some() || cells.len() > 1;
        let requests = cells
            .into_iter()
            .map(|(name, scope)| v1::TransitionRequest {
                name,
                scope: Some(scope),
                action: action.to_owned(),
                grace_seconds: grace.map(seconds),
            });
        let events = if several {
            at_once(kukeon, requests.collect())
        } else {
            let request = requests.into_iter().next().unwrap_or_default();
            kukeon.transition(request).await?
        };
        let results = follow(context, events, |result| {
            self.print(context, result, action, several)
        })
        .await?;
        let failure = if several {
            failures(&results, &format!("some cells failed to {action}"))
        } else {
            single_failure(&results)
        };
        if self.output.is_structured() {
            let results = Results { resources: results };
            context.out.structured(self.output, &results)?;
        }
        match failure {
            Some(error) => Err(error.into()),
            None => Ok(0),
        }
    }

    fn nothing(&self, context: &Context) -> Outcome {
        if self.output.is_structured() {
            let results = Results { resources: vec![] };
            context.out.structured(self.output, &results)?;
        } else {
            context.out.line("No cells matched the selector.")?;
        }
        Ok(0)
    }

    fn print(
        &self,
        context: &Context,
        result: &ResourceResult,
        action: &str,
        several: bool,
    ) -> std::result::Result<(), Failure> {
        if let Some(error) = &result.error {
            // The one failure of one cell is told by the end of the verb.
            if several {
                tell(&Error::from(error.clone()));
            }
            return Ok(());
        }
        match self.output {
            Format::Json | Format::Yaml => Ok(()),
            Format::Name => context.out.line(format_args!("cell/{}", result.name)),
            Format::Table | Format::Wide => {
                context.out.line(line(result, action))?;
                if self.output == Format::Wide {
                    for step in &result.steps {
                        context.out.line(format_args!("  > {step}"))?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// `Stopped cell "web" from stack "default"`.
fn line(result: &ResourceResult, action: &str) -> String {
    let word = match result.action.as_str() {
        "unchanged" | "" => action,
        done => done,
    };
    let done = match word {
        "start" | "started" => "Started",
        "stop" | "stopped" => "Stopped",
        "kill" | "killed" => "Killed",
        _ => "Restarted",
    };
    let note = match (result.action.as_str(), action) {
        ("unchanged", "start") => " (it was running already)",
        ("unchanged", "stop" | "kill") => " (it was stopped already)",
        _ => "",
    };
    let stack = result.scope.as_ref().map_or("", |scope| &scope.stack);
    format!("{done} cell {:?} from stack {stack:?}{note}", result.name)
}

/// Names, each once.
pub fn distinct(names: &[String]) -> impl Iterator<Item = &String> {
    let first = |(i, name): &(usize, &String)| !names[..*i].contains(name);
    names.iter().enumerate().filter(first).map(|(_, name)| name)
}

/// Cells that match, with their scope.
pub async fn select(
    kukeon: &Arc<dyn Kukeon>,
    scope: &ScopeFlags,
    selector: &str,
) -> Result<Vec<(String, v1::Scope)>> {
    let request = v1::GetRequest {
        kind: "Cell".to_owned(),
        name: String::new(),
        scope: Some(scope.filter()),
        selector: selector.to_owned(),
        ..v1::GetRequest::default()
    };
    let answer = kukeon.get(request).await?;
    for error in answer.damaged.into_iter().filter_map(|o| o.error) {
        // Its labels are not known: whether it is meant, nobody can say.
        say!("Warning: left out: {}", error.message);
        say!("{}", error.hint);
    }
    Ok(answer.objects.into_iter().filter_map(cell_place).collect())
}

fn cell_place(object: v1::Object) -> Option<(String, v1::Scope)> {
    let Some(v1::object::Object::Cell(cell)) = object.object else {
        return None;
    };
    let spec = cell.spec?;
    let scope = v1::Scope {
        realm: spec.realm_id,
        space: spec.space_id,
        stack: spec.stack_id,
        cell: String::new(),
    };
    Some((cell.metadata?.name, scope))
}

/// Changes many cells, a few at once. A call that fails becomes a failed result,
/// so that the others go on.
fn at_once(kukeon: Arc<dyn Kukeon>, requests: Vec<v1::TransitionRequest>) -> EventStream {
    stream::iter(requests)
        .map(move |request| {
            let kukeon = kukeon.clone();
            async move {
                let mut told = ResourceResult {
                    kind: "Cell".to_owned(),
                    name: request.name.clone(),
                    scope: request.scope.clone(),
                    ..Default::default()
                };
                let events = match kukeon.transition(request).await {
                    Ok(events) => events,
                    Err(error) => stream::iter([Err(error)]).boxed(),
                };
                events
                    .map(move |event| {
                        Ok(event.unwrap_or_else(|e| failed(std::mem::take(&mut told), &e)))
                    })
                    .boxed()
            }
        })
        .buffer_unordered(AT_ONCE)
        .flatten_unordered(AT_ONCE)
        .boxed()
}

/// The failure of a call as the failed result of the object it was about, so
/// that others go on.
pub fn failed(object: ResourceResult, error: &Error) -> v1::Event {
    let result = ResourceResult {
        action: "failed".to_owned(),
        error: Some(error.into()),
        ..object
    };
    v1::Event {
        event: Some(v1::event::Event::Result(result)),
    }
}

/// Whole seconds, rounded up: half a second of grace is not none.
pub fn seconds(grace: Duration) -> i64 {
    let whole = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
    i64::try_from(whole).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_what_was_done_and_what_was_so_already() {
        let result = |action: &str| ResourceResult {
            name: "web".into(),
            action: action.into(),
            scope: Some(v1::Scope {
                stack: "t".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let stopped = "Stopped cell \"web\" from stack \"t\"";
        assert_eq!(line(&result("stopped"), "stop"), stopped);
        assert!(line(&result("unchanged"), "stop").starts_with(stopped));
        // Restarting what did not run is a start.
        assert!(line(&result("started"), "restart").starts_with("Started"));
        assert!(line(&result("killed"), "kill").starts_with("Killed"));
    }

    #[test]
    fn a_name_that_is_said_twice_is_meant_once() {
        let names = ["b", "a", "b"].map(String::from);
        let distinct: Vec<_> = distinct(&names).collect();
        assert_eq!(distinct, ["b", "a"]);
    }

    #[test]
    fn a_little_grace_is_not_none() {
        assert_eq!(seconds(Duration::from_millis(500)), 1);
        assert_eq!(seconds(Duration::ZERO), 0);
        assert_eq!(seconds(Duration::from_secs(5)), 5);
    }
}
