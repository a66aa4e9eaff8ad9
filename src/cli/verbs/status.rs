//! `kuke status`.

use clap::Args;

use crate::api::v1::{Check, StatusRequest, StatusResponse, VersionRequest};
use crate::api::{Code, Error};
use crate::cli::config::Place;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Format;

/// Check daemon, host and state
#[derive(Debug, Args)]
#[command(after_help = "Exit code: 0 when no check fails, else 1.")]
pub struct Status {
    /// As JSON; the same as -o json
    #[arg(long)]
    json: bool,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// Order in which sections are shown; others follow.
const SECTIONS: [&str; 4] = ["daemon", "host", "state", "storage"];

impl Status {
    /// Asks and prints. Without a daemon the host is looked at from here.
    pub async fn run(self, context: &Context) -> Outcome {
        let format = if self.json { Format::Json } else { self.output };
        let status = gather(context).await;
        if format.is_structured() {
            context.out.structured(format, &status)?;
        } else {
            text(context, &status)?;
        }
        Ok(u8::from(!status.ok))
    }
}

async fn gather(context: &Context) -> StatusResponse {
    let (socket, seen) = match &context.config.place {
        Place::Here => {
            let detail = "not asked: this is the view of this process";
            (check("OK", detail, ""), context.here().await)
        }
        Place::Daemon(path) => match connect(context).await {
            Ok((kukeon, version)) => {
                let detail = format!("kukeond {version} answers at {}", path.display());
                (check("OK", detail, ""), Ok(kukeon))
            }
            Err(error) => {
                let failed = check("FAIL", error.message.clone(), error.hint);
                (failed, context.here().await)
            }
        },
    };
    let host = match seen {
        Ok(kukeon) => kukeon.status(StatusRequest {}).await,
        Err(error) => Err(error),
    };
    let mut checks = vec![socket];
    match host {
        Ok(status) => {
            checks.extend(status.checks.into_iter().filter(|check| {
                (check.section.as_str(), check.name.as_str()) != ("daemon", "socket")
            }))
        }
        Err(error) => checks.push(unseen(error)),
    }
    let place = |section: &str| SECTIONS.iter().position(|known| *known == section);
    checks.sort_by_key(|check| place(&check.section).unwrap_or(SECTIONS.len()));
    StatusResponse {
        ok: checks.iter().all(|check| check.status != "FAIL"),
        checks,
    }
}

type Connected = (std::sync::Arc<dyn crate::client::Kukeon>, String);

/// A daemon that accepts but does not answer does not count as reachable.
async fn connect(context: &Context) -> Result<Connected, Error> {
    let kukeon = context.kukeon().await?;
    let version = kukeon.version(VersionRequest {}).await?.version;
    Ok((kukeon, version))
}

fn check(status: &str, detail: impl Into<String>, remediation: impl Into<String>) -> Check {
    Check {
        section: "daemon".to_owned(),
        name: "socket".to_owned(),
        status: status.to_owned(),
        detail: detail.into(),
        remediation: remediation.into(),
    }
}

/// The host could not be looked at.
fn unseen(error: Error) -> Check {
    let status = if error.code == Code::Permission {
        "WARN"
    } else {
        "FAIL"
    };
    Check {
        section: "host".to_owned(),
        name: "checks".to_owned(),
        ..check(status, error.message, error.hint)
    }
}

fn text(context: &Context, status: &StatusResponse) -> Result<(), Failure> {
    let out = &context.out;
    let widest = status.checks.iter().map(|check| check.name.len()).max();
    let width = widest.unwrap_or_default();
    let mut section = "";
    for check in &status.checks {
        if check.section != section {
            section = &check.section;
            out.line(section.to_ascii_uppercase())?;
        }
        let line = format!(
            "  {:width$}  {:4}  {}",
            check.name, check.status, check.detail
        );
        out.line(line.trim_end())?;
        if !check.remediation.is_empty() {
            out.line(format_args!(
                "  {:width$}        ↳ {}",
                "", check.remediation
            ))?;
        }
    }
    let overall = if status.ok { "OK" } else { "FAIL" };
    out.line(format_args!("Status: {overall}"))
}
