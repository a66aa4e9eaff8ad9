//! `kuke uninstall`.

use std::io::{BufRead, Write};

use clap::Args;

use crate::api::v1::{ResourceResult, UninstallRequest};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::follow::{failures, follow};
use crate::cli::process;

/// Remove everything kukeon made on this host, except its binaries
#[derive(Debug, Args)]
#[command(
    after_help = "Stops the daemon, deletes every realm with all its cells, and removes the run path.
Programs and the systemd unit are removed by `install.sh --uninstall`."
)]
pub struct Uninstall {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl Uninstall {
    /// Asks, stops the daemon, removes everything from this process.
    pub async fn run(self, context: &Context) -> Outcome {
        context.need_root()?;
        let settings = &context.config.resolved.settings;
        if !self.yes && !confirm(&settings.run_path.display().to_string())? {
            context.out.line("Aborted.")?;
            return Ok(1);
        }
        let stopped = process::stop(settings, process::GRACE).await?;
        process::remove_files(settings)?;
        let out = &context.out;
        out.line("kuke uninstall:")?;
        let daemon = match stopped {
            process::Stopped::Already => "absent",
            process::Stopped::Ended | process::Stopped::Killed => "stopped",
        };
        out.line(format_args!("  - kukeond: {daemon}"))?;
        let kukeon = context.here().await?;
        let events = kukeon.uninstall(UninstallRequest {}).await?;
        let results = follow(context, events, |result| out.line(row(result))).await?;
        match failures(&results, "some resources could not be removed") {
            Some(error) => Err(error.into()),
            None => Ok(0),
        }
    }
}

/// Asks until the answer is one; the end of input is a no with a reason.
fn confirm(run_path: &str) -> Result<bool, Failure> {
    let mut answers = std::io::stdin().lock().lines();
    loop {
        let mut to = std::io::stderr().lock();
        // Whoever cannot read the question gives no answer either.
        let _ = write!(
            to,
            "This removes every cell and everything below {run_path}. Are you sure? (yes/no) "
        );
        let _ = to.flush();
        let Some(answer) = answers.next() else {
            crate::cli::failure::say!();
            return Err(crate::cli::failure::usage("nobody answered")
                .hint("use --yes where nobody can be asked")
                .into());
        };
        match answer?.trim().to_ascii_lowercase().as_str() {
            "yes" | "y" => return Ok(true),
            "no" | "n" | "" => return Ok(false),
            _ => {}
        }
    }
}

fn row(result: &ResourceResult) -> String {
    let action = match &result.error {
        Some(error) => format!("FAILED: {}", error.message),
        None => result.action.clone(),
    };
    let row = match result.kind.as_str() {
        "Host" => format!("  - {}: {action}", result.name),
        kind => format!(
            "  - {} {:?}: {action}",
            kind.to_ascii_lowercase(),
            result.name
        ),
    };
    let changes = result
        .changes
        .iter()
        .map(|change| format!("    - {change}"));
    std::iter::once(row)
        .chain(changes)
        .collect::<Vec<_>>()
        .join("\n")
}
