//! `kuke registry login`.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;

use super::docker;
use crate::api::{Error, v1};
use crate::cli::context::Context;
use crate::cli::failure::{Outcome, usage};
use crate::cli::output::Format;

pub(super) const EXAMPLES: &str = "Examples:
  kuke registry login
  kuke registry login --username ci --robot --allow 'team/**=pull,push' --print
  kuke registry login --username ci --remove

A login that exists gets a new password. Patterns end with /** for everything below.";

#[derive(Debug, Args)]
pub(super) struct Login {
    /// Name [default: the user who calls]
    #[arg(long, short, value_name = "NAME")]
    username: Option<String>,
    /// Read the password from standard input [default: a random one]
    #[arg(long)]
    password_stdin: bool,
    /// What it may do, PATTERN=ACTION,…; may be given several times
    #[arg(long, value_name = "RULE", default_value = "**=pull,push,delete")]
    allow: Vec<String>,
    /// For a program, not for a person
    #[arg(long)]
    robot: bool,
    /// Show the password instead of storing it
    #[arg(long)]
    print: bool,
    /// Store it in this file [default: $DOCKER_CONFIG/config.json or ~/.docker/config.json]
    #[arg(long, value_name = "FILE", conflicts_with = "print")]
    store: Option<PathBuf>,
    /// Remove the login
    #[arg(long, conflicts_with_all = ["print", "store", "password_stdin", "robot"])]
    remove: bool,
    /// Only check whether it could be done
    #[arg(long)]
    dry_run: bool,
    /// Output format; a password that was stored is shown only with --print
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

impl Login {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let name = self.username.unwrap_or_else(caller);
        let password = match self.password_stdin {
            true => from_stdin()?,
            false => String::new(),
        };
        let request = v1::RegistryLoginRequest {
            name: name.clone(),
            rules: match self.remove {
                true => Vec::new(),
                false => self.allow,
            },
            password,
            robot: self.robot,
            remove: self.remove,
            dry_run: self.dry_run,
        };
        let made_up = request.password.is_empty();
        let mut answer = context.kukeon().await?.registry_login(request).await?;
        let out = &context.out;
        let served = !answer.address.is_empty();
        let changed = !self.remove && !self.dry_run;
        let stored = match changed && served && !self.print {
            true => {
                let file = self.store.map_or_else(docker::file, Ok)?;
                docker::store(&file, &answer.address, &name, &answer.password)?;
                Some(file)
            }
            false => None,
        };
        if self.output.is_structured() {
            if stored.is_some() {
                // It is where programs look for it.
                answer.password.clear();
            }
            out.structured(self.output, &answer)?;
            return Ok(0);
        }
        // A name alone would be all that is left of a password that was made up.
        let kept = !changed || stored.is_some() || (!made_up && !self.print);
        if self.output == Format::Name && kept {
            out.line(format_args!("login/{name}"))?;
            return Ok(0);
        }
        if !changed {
            let would = if self.dry_run { "would be " } else { "" };
            out.line(match (self.remove, answer.existed) {
                (true, true) => format!("login {name:?} {would}removed"),
                (true, false) => format!("there is no login {name:?}"),
                (false, true) => format!("login {name:?} {would}changed"),
                (false, false) => format!("login {name:?} {would}made"),
            })?;
            return Ok(0);
        }
        match stored {
            Some(file) => out.line(format_args!(
                "logged in to {} as {name:?}; stored in {}",
                answer.address,
                file.display()
            ))?,
            None => {
                let address = if served {
                    &answer.address
                } else {
                    "(not served)"
                };
                out.line(format_args!("address:  {address}"))?;
                out.line(format_args!("username: {name}"))?;
                out.line(format_args!("password: {}", answer.password))?;
            }
        }
        if answer.tls {
            let at = context.config.resolved.settings.registry_dir();
            out.line(format_args!(
                "clients have to trust {}",
                at.join("auth/ca.pem").display()
            ))?;
        }
        Ok(0)
    }
}

/// Whoever became root to call.
fn caller() -> String {
    let named = |variable| std::env::var(variable).ok().filter(|n| !n.is_empty());
    named("SUDO_USER")
        .or_else(|| named("USER"))
        .unwrap_or_else(|| "root".to_owned())
}

/// A password from standard input.
pub(in crate::cli::verbs) fn from_stdin() -> Result<String, crate::cli::failure::Failure> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(4096)
        .read_to_string(&mut text)
        .map_err(|e| Error::failed("StandardInput", format!("reading the password: {e}")))?;
    let password = text.trim_end_matches(['\r', '\n']).to_owned();
    if password.is_empty() {
        return Err(usage("standard input holds no password").into());
    }
    Ok(password)
}
