//! `kuke init`.

use std::sync::Arc;

use clap::Args;

use crate::api::v1::{self, ResourceResult};
use crate::api::{Code, Result};
use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::cli::follow::{failures, follow};
use crate::cli::output::Format;
use crate::cli::verbs::apply::Results;
use crate::client::Kukeon;

/// Prepare the host: default realm, space and stack, and the built-in image
#[derive(Debug, Args)]
#[command(
    after_help = "Repeating changes nothing. Works through the daemon when one runs, else in this process."
)]
pub struct Init {
    /// Realm to make
    #[arg(long, value_name = "NAME", default_value = "default")]
    realm: String,
    /// Space to make
    #[arg(long, value_name = "NAME", default_value = "default")]
    space: String,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

impl Init {
    /// Prepares and prints what was made.
    pub async fn run(self, context: &Context) -> Outcome {
        let (kukeon, daemon) = backend(context).await?;
        let request = v1::InitRequest {
            realm: self.realm.clone(),
            space: self.space.clone(),
        };
        let events = kukeon.init(request).await?;
        let results = follow(context, events, |_| Ok(())).await?;
        let failure = failures(&results, "the host could not be prepared");
        if self.output.is_structured() {
            let results = Results { resources: results };
            context.out.structured(self.output, &results)?;
        } else {
            let changed = results.iter().any(|result| result.action != "unchanged");
            let first = if failure.is_some() {
                "Kukeon runtime is not initialized"
            } else if changed {
                "Initialized Kukeon runtime"
            } else {
                "Kukeon runtime already initialized"
            };
            let settings = &context.config.resolved.settings;
            let out = &context.out;
            out.line(first)?;
            out.line(format_args!("Realm: {}", self.realm))?;
            out.line(format_args!("Run path: {}", settings.run_path.display()))?;
            out.line("Actions:")?;
            for result in &results {
                out.line(row(result))?;
                if result.kind == "Account" {
                    for line in &result.changes {
                        out.line(format_args!("      {line}"))?;
                    }
                }
            }
            if daemon {
                let socket = context.config.daemon_socket.display();
                out.line(format_args!("kukeond is ready (unix://{socket})"))?;
            }
        }
        match failure {
            Some(error) => Err(error.into()),
            None => Ok(0),
        }
    }
}

/// The daemon when one answers; without one the host can be prepared from here.
async fn backend(context: &Context) -> Result<(Arc<dyn Kukeon>, bool)> {
    match context.kukeon().await {
        Ok(kukeon) => Ok((kukeon, !context.works_here())),
        Err(error) if error.code == Code::Unavailable && !context.works_here() => {
            let kukeon = context.here().await?;
            crate::cli::failure::say!(
                "notice: kukeond does not run; the host is prepared by this process"
            );
            Ok((kukeon, false))
        }
        Err(error) => Err(error),
    }
}

fn row(result: &ResourceResult) -> String {
    let action = match (result.action.as_str(), &result.error) {
        (_, Some(error)) => format!("failed: {}", error.message),
        ("unchanged", _) => "already existed".to_owned(),
        (action, _) => action.to_owned(),
    };
    format!(
        "  - {} {:?}: {action}",
        result.kind.to_ascii_lowercase(),
        result.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_created_or_already_existed() {
        let result = |action: &str| ResourceResult {
            kind: "Realm".into(),
            name: "default".into(),
            action: action.into(),
            ..Default::default()
        };
        assert_eq!(row(&result("created")), "  - realm \"default\": created");
        assert_eq!(
            row(&result("unchanged")),
            "  - realm \"default\": already existed"
        );
    }
}
