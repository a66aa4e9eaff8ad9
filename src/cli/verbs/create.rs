//! `kuke create`: secrets and volumes without a manifest.

use std::io::Read;

use clap::{Args, Subcommand};

use super::apply::print_result;
use crate::api::{Error, v1, v1beta1, yaml};
use crate::cli::context::Context;
use crate::cli::failure::{Outcome, usage};
use crate::cli::follow::{follow, single_failure};
use crate::cli::kind::Kind;
use crate::cli::scope::ScopeFlags;

/// Make a secret or a volume
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kuke create volume db-data --space shop --stack front
  kuke create secret db-password --from-file password.txt
  pass show db | kuke create secret db-password --from-file -")]
pub struct Create {
    #[command(subcommand)]
    what: What,
}

/// What is made.
#[derive(Debug, Subcommand)]
enum What {
    /// A directory that outlives cells
    #[command(alias = "vol")]
    Volume {
        /// Name
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        scope: ScopeFlags,
        /// Keep the data when the scope is deleted with everything in it
        #[arg(long)]
        retain: bool,
    },
    /// A value that only containers see; an earlier one is replaced
    #[command(alias = "sec")]
    Secret {
        /// Name
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        scope: ScopeFlags,
        /// Cell that it goes with
        #[arg(long, value_name = "NAME", help_heading = "Scope")]
        cell: Option<String>,
        /// Read the value from a file, or - for standard input
        #[arg(long, value_name = "FILE|-", conflicts_with = "from_literal")]
        from_file: Option<String>,
        /// The value after KEY=; several make a line each. Others see it in the
        /// list of processes
        #[arg(long, value_name = "KEY=VALUE")]
        from_literal: Vec<String>,
    },
}

impl Create {
    /// Applies the document, and prints what became of it.
    pub async fn run(self, context: &Context) -> Outcome {
        let env = |name: &str| std::env::var(name).ok();
        let (kind, document) = match self.what {
            What::Volume {
                name,
                scope,
                retain,
            } => {
                let scope = scope.or_env("create", "volume", env);
                let document = v1beta1::Volume {
                    api_version: "v1beta1".to_owned(),
                    kind: "Volume".to_owned(),
                    metadata: Some(metadata(name, scope.of(Kind::Volume))),
                    spec: Some(v1beta1::VolumeSpec {
                        reclaim_policy: if retain { "Retain" } else { "" }.to_owned(),
                    }),
                    status: None,
                };
                ("volume", yaml::to_string(&document)?)
            }
            What::Secret {
                name,
                scope,
                cell,
                from_file,
                from_literal,
            } => {
                let mut scope = scope.or_env("create", "secret", env).of(Kind::Secret);
                scope.cell = cell.unwrap_or_default();
                let document = v1beta1::Secret {
                    api_version: "v1beta1".to_owned(),
                    kind: "Secret".to_owned(),
                    metadata: Some(metadata(name, scope)),
                    spec: Some(v1beta1::SecretSpec {
                        data: value(from_file.as_deref(), &from_literal)?,
                    }),
                };
                ("secret", yaml::to_string(&document)?)
            }
        };
        let request = v1::ApplyRequest {
            files: vec![v1::ManifestFile {
                source: kind.to_owned(),
                text: document.into_bytes(),
            }],
            ..Default::default()
        };
        let events = context.kukeon().await?.apply(request).await?;
        let print = |result: &v1::ResourceResult| match result.error {
            Some(_) => Ok(()),
            None => print_result(context, result, false),
        };
        let results = follow(context, events, print).await?;
        match single_failure(&results) {
            Some(error) => Err(error.into()),
            None => Ok(0),
        }
    }
}

fn metadata(name: String, scope: v1::Scope) -> v1beta1::ScopedMetadata {
    let v1::Scope {
        realm,
        space,
        stack,
        cell,
    } = scope;
    v1beta1::ScopedMetadata {
        name,
        realm,
        space,
        stack,
        cell,
        ..Default::default()
    }
}

/// No message holds any of it.
fn value(file: Option<&str>, literals: &[String]) -> Result<String, Error> {
    let Some(file) = file else {
        if literals.is_empty() {
            return Err(usage("one of --from-file and --from-literal is required"));
        }
        let values = literals.iter().map(|pair| {
            let pair = pair.split_once('=');
            pair.map(|(_, value)| value)
                .ok_or_else(|| usage("--from-literal is of the form KEY=VALUE"))
        });
        return Ok(values.collect::<Result<Vec<&str>, Error>>()?.join("\n"));
    };
    let mut bytes = Vec::new();
    let read = match file {
        "-" => std::io::stdin().read_to_end(&mut bytes).map(drop),
        path => std::fs::read(path).map(|found| bytes = found),
    };
    let unreadable = |cause: String| Error::invalid("FileUnreadable", format!("{file}: {cause}"));
    read.map_err(|e| unreadable(e.to_string()))?;
    String::from_utf8(bytes)
        .map_err(|_| unreadable("not UTF-8 text; encode it, for example with base64".to_owned()))
}
