//! `kuke version`.

use clap::Args;
use serde::Serialize;

use crate::api::v1;
use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::cli::output::Format;

/// Show the versions of client, daemon and containerd
#[derive(Debug, Args)]
pub struct Version {
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    /// Fail when client and daemon differ in version
    #[arg(long)]
    strict: bool,
}

#[derive(Serialize)]
struct Versions {
    client: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    daemon: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    containerd: Option<String>,
}

impl Version {
    /// Asks and prints. A daemon that cannot be reached is only mentioned.
    pub async fn run(self, context: &Context) -> Outcome {
        let client = env!("CARGO_PKG_VERSION");
        let mut versions = Versions {
            client,
            daemon: None,
            containerd: None,
        };
        let mut warning = None;
        if !context.works_here() {
            match ask(context).await {
                Ok(answer) => {
                    if answer.version != client {
                        warning = Some(format!(
                            "version mismatch: client {client}, daemon {}",
                            answer.version
                        ));
                    }
                    versions.daemon = Some(answer.version);
                    versions.containerd = Some(answer.containerd).filter(|v| !v.is_empty());
                }
                Err(error) => warning = Some(format!("daemon unreachable: {error}")),
            }
        }
        if self.output.is_structured() {
            context.out.structured(self.output, &versions)?;
        } else {
            context.out.line(format_args!("Client: {client}"))?;
            if let Some(daemon) = &versions.daemon {
                context.out.line(format_args!("Daemon: {daemon}"))?;
            }
            if let Some(containerd) = &versions.containerd {
                context.out.line(format_args!("containerd: {containerd}"))?;
            }
        }
        context.out.flush()?;
        let differs = versions.daemon.is_some_and(|daemon| daemon != client);
        if let Some(warning) = warning {
            crate::cli::failure::say!("Warning: {warning}");
        }
        Ok(u8::from(self.strict && differs))
    }
}

async fn ask(context: &Context) -> crate::api::Result<v1::VersionResponse> {
    context.kukeon().await?.version(v1::VersionRequest {}).await
}
