//! `history`, `diff`, `manifest` and `wait`.

use std::time::Duration;

use clap::Args;

use super::Common;
use crate::api::v1;
use crate::api::{Code, Error};
use crate::cli::config::duration;
use crate::cli::context::Context;
use crate::cli::failure::{Outcome, usage};
use crate::cli::kind::Kind;
use crate::cli::output::{Format, table};
use crate::cli::scope::ScopeFlags;

/// Show what was rendered and what was activated
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  kuke history web\n  kuke history web -o yaml"
)]
pub struct History {
    /// Recipe
    #[arg(value_name = "RECIPE")]
    recipe: String,
    #[command(flatten)]
    common: Common,
}

impl History {
    /// Asks and prints.
    pub async fn run(self, context: &Context) -> Outcome {
        let request = v1::HistoryRequest {
            namespace: self.common.namespace.clone(),
            recipe: self.recipe,
        };
        let answer = context.kukeon().await?.history(request).await?;
        let out = &context.out;
        match self.common.output {
            format @ (Format::Json | Format::Yaml) => out.structured(format, &answer)?,
            Format::Name => {
                for revision in &answer.revisions {
                    out.line(format_args!("preparation/{}", revision.preparation))?;
                }
            }
            Format::Table | Format::Wide => {
                let rows: Vec<_> = answer
                    .revisions
                    .iter()
                    .map(|r| {
                        let active = match r.preparation == answer.active {
                            true => "*",
                            false => "",
                        };
                        vec![
                            format!("rev-{}", r.number),
                            r.preparation.clone(),
                            active.to_owned(),
                            r.actor.clone(),
                            r.time.clone(),
                            r.message.clone(),
                        ]
                    })
                    .collect();
                let header = ["REVISION", "PREPARATION", "ACTIVE", "BY", "AT", "MESSAGE"];
                table::print(out, &header, &rows, true)?;
                let rows: Vec<_> = answer
                    .activations
                    .iter()
                    .map(|a| {
                        vec![
                            a.number.to_string(),
                            a.preparation.clone(),
                            a.cause.clone(),
                            a.actor.clone(),
                            a.time.clone(),
                            a.message.clone(),
                        ]
                    })
                    .collect();
                if !rows.is_empty() {
                    out.line("")?;
                    let header = ["ACTIVATION", "PREPARATION", "CAUSE", "BY", "AT", "MESSAGE"];
                    table::print(out, &header, &rows, true)?;
                }
            }
        }
        Ok(0)
    }
}

/// Compare preparations, by default the active one with the latest
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Exit code 1 says that there are differences.

Examples:
  kuke diff web
  kuke diff web rev-1 rev-3
  kuke diff web --live          what differs on the target"
)]
pub struct Diff {
    /// Recipe
    #[arg(value_name = "RECIPE")]
    recipe: String,
    /// From: preparation, rev-<number> or digest
    #[arg(value_name = "A")]
    from: Option<String>,
    /// To: the same
    #[arg(value_name = "B")]
    to: Option<String>,
    /// Compare what is active with what is on the target
    #[arg(long, conflicts_with = "from")]
    live: bool,
    /// Field by field instead of line by line
    #[arg(long)]
    fields: bool,
    #[command(flatten)]
    common: Common,
}

impl Diff {
    /// Asks and prints.
    pub async fn run(self, context: &Context) -> Outcome {
        let request = v1::DiffRequest {
            namespace: self.common.namespace.clone(),
            recipe: self.recipe,
            from: self.from.unwrap_or_default(),
            to: self.to.unwrap_or_default(),
            live: self.live,
        };
        let answer = context.kukeon().await?.diff(request).await?;
        let out = &context.out;
        match self.common.output {
            format @ (Format::Json | Format::Yaml) => out.structured(format, &answer)?,
            Format::Name => {
                // What is on the target has no name.
                for side in [&answer.from, &answer.to]
                    .into_iter()
                    .filter(|s| *s != "live")
                {
                    out.line(format_args!("preparation/{side}"))?;
                }
            }
            _ if self.fields || self.live => {
                for change in &answer.changes {
                    out.line(change)?;
                }
            }
            _ => out.bytes(answer.unified.as_bytes())?,
        }
        let differs = !answer.changes.is_empty() || !answer.unified.is_empty();
        Ok(u8::from(differs))
    }
}

/// Print the content of a preparation
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  kuke manifest web-0123456789ab"
)]
pub struct Manifest {
    /// Preparation
    #[arg(value_name = "PREP")]
    preparation: String,
    #[command(flatten)]
    common: Common,
}

impl Manifest {
    /// Asks and prints.
    pub async fn run(self, context: &Context) -> Outcome {
        let request = v1::ManifestRequest {
            namespace: self.common.namespace.clone(),
            preparation: self.preparation.clone(),
        };
        let answer = context.kukeon().await?.manifest(request).await?;
        match self.common.output {
            format @ (Format::Json | Format::Yaml) => context.out.structured(format, &answer)?,
            Format::Name => {
                let name = &self.preparation;
                context.out.line(format_args!("preparation/{name}"))?;
            }
            _ => context.out.bytes(answer.text.as_bytes())?,
        }
        Ok(0)
    }
}

/// Wait until an object is as wanted
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Releases have conditions: Ready, Synced, Healthy and others. Cells and what is around them
have states, and the condition Ready. Exit code 7: the time was over.

Examples:
  kuke wait cell/web --for=condition=Ready
  kuke wait cell/job --for=state=Exited --timeout 1h
  kuke wait container/main --cell web --for=state=Ready
  kuke wait serving/web --for=condition=Ready
  kuke wait recipe/web --for=condition=Ready=False --timeout 30s
  kuke wait recipe/web --for=delete"
)]
pub struct Wait {
    /// Kind and name
    #[arg(value_name = "KIND/NAME")]
    object: String,
    /// condition=TYPE[=STATUS], state=STATE, or delete
    #[arg(long = "for", value_name = "WHAT", default_value = "condition=Ready")]
    until: String,
    /// How long to wait; 0 is for ever
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5m")]
    timeout: Duration,
    #[command(flatten)]
    scope: ScopeFlags,
    /// Cell of a container
    #[arg(long, value_name = "NAME", help_heading = "Scope")]
    cell: Option<String>,
    #[command(flatten)]
    common: Common,
}

impl Wait {
    /// Waits and prints.
    pub async fn run(self, context: &Context) -> Outcome {
        let Some((kind, name)) = self.object.split_once('/') else {
            return Err(usage("write KIND/NAME, for example serving/web").into());
        };
        let kind: Kind = kind.parse().map_err(usage)?;
        if kind == Kind::Image {
            return Err(usage("an image has no state to wait for").into());
        }
        if kind == Kind::Container && self.cell.is_none() {
            return Err(usage("a container is found by its cell: add --cell").into());
        }
        let (condition, status, state) = match until(&self.until) {
            Some((condition, status, state)) => (condition, status, state),
            None => {
                let what = "--for is condition=TYPE[=STATUS], state=STATE or delete";
                return Err(usage(what).into());
            }
        };
        let mut scope = self.scope.of(kind);
        scope.cell = self.cell.unwrap_or_default();
        let request = v1::WaitForRequest {
            kind: kind.as_str().to_owned(),
            namespace: self.common.namespace.clone(),
            name: name.to_owned(),
            condition,
            status,
            state,
            scope: (!kind.is_release()).then_some(scope),
            settled: false,
        };
        let kukeon = context.kukeon().await?;
        let met = kukeon.wait_for(request);
        let result = match self.timeout.is_zero() {
            true => met.await?,
            false => tokio::time::timeout(self.timeout, met)
                .await
                .map_err(|_| {
                    let message = format!(
                        "{}: {} was not met within {} s",
                        self.object,
                        self.until,
                        self.timeout.as_secs_f32()
                    );
                    Error::new(Code::Timeout, "WaitTimeout", message)
                })??,
        };
        let out = &context.out;
        match self.common.output {
            format @ (Format::Json | Format::Yaml) => out.structured(format, &result)?,
            Format::Name => out.line(format_args!(
                "{}/{}",
                result.kind.to_ascii_lowercase(),
                result.name
            ))?,
            _ => out.line(format_args!("{} {}", self.object, result.action))?,
        }
        Ok(0)
    }
}

/// Condition, its status, and state of what follows `--for=`.
fn until(text: &str) -> Option<(String, String, String)> {
    let none = String::new;
    if text == "delete" {
        return Some((none(), none(), none()));
    }
    if let Some(state) = text.strip_prefix("state=").filter(|s| !s.is_empty()) {
        return Some((none(), none(), state.to_owned()));
    }
    let rest = text.strip_prefix("condition=").filter(|c| !c.is_empty())?;
    let (condition, status) = rest.split_once('=').unwrap_or((rest, "True"));
    Some((condition.to_owned(), status.to_owned(), none()))
}

#[cfg(test)]
mod tests {
    use super::until;

    #[test]
    fn what_is_waited_for_is_read() {
        let read = |text| until(text).map(|(c, s, state)| format!("{c}|{s}|{state}"));
        assert_eq!(read("delete").as_deref(), Some("||"));
        assert_eq!(read("condition=Ready").as_deref(), Some("Ready|True|"));
        assert_eq!(
            read("condition=Ready=False").as_deref(),
            Some("Ready|False|")
        );
        assert_eq!(read("state=Exited").as_deref(), Some("||Exited"));
        for wrong in ["", "state=", "condition=", "ready", "Deleted"] {
            assert_eq!(until(wrong), None, "{wrong:?}");
        }
    }
}
