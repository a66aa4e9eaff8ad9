//! `kuke web`: who may use the pages that the daemon serves.

use clap::{Args, Subcommand};

use super::registry::from_stdin;
use crate::api::{Code, Error, v1};
use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::cli::output::{Format, table};

const EXAMPLES: &str = "Examples:
  kuke web password
  kuke web password ann --role deployer
  kuke web password ann --password-stdin

An account that is not there is made, as a viewer unless a role is named. Whoever is
logged in as that account has to log in again.";

/// Say who may use the pages that kukeond serves
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Web {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Give an account a new password and show it once
    #[command(after_help = EXAMPLES)]
    Password(Password),
    /// List accounts
    #[command(alias = "list")]
    Ls(List),
    /// Remove an account
    Remove(Remove),
}

#[derive(Debug, Args)]
struct Password {
    /// Account
    #[arg(value_name = "NAME", default_value = "admin")]
    name: String,
    /// viewer, editor, deployer or admin [default: as it is; admin for the account admin]
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Read the password from standard input [default: a random one]
    #[arg(long)]
    password_stdin: bool,
}

#[derive(Debug, Args)]
struct List {
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    /// Leave the header out of tables
    #[arg(long)]
    no_headers: bool,
}

#[derive(Debug, Args)]
struct Remove {
    /// Account
    #[arg(value_name = "NAME")]
    name: String,
}

impl Web {
    /// The name of the inner verb, and whether it changes something.
    pub fn shape(&self) -> (&'static str, bool) {
        match &self.verb {
            Verb::Password(_) => ("web password", true),
            Verb::Ls(_) => ("web ls", false),
            Verb::Remove(_) => ("web remove", true),
        }
    }

    /// Runs the inner verb.
    pub async fn run(self, context: &Context) -> Outcome {
        match self.verb {
            Verb::Password(verb) => verb.run(context).await,
            Verb::Ls(verb) => verb.run(context).await,
            Verb::Remove(verb) => verb.run(context).await,
        }
    }
}

impl Password {
    async fn run(self, context: &Context) -> Outcome {
        let password = match self.password_stdin {
            true => from_stdin()?,
            false => String::new(),
        };
        let role = match (self.role, self.name.as_str()) {
            (Some(role), _) => role,
            (None, "admin") => "admin".to_owned(),
            (None, _) => String::new(),
        };
        let request = v1::WebAccountRequest {
            name: self.name.clone(),
            role,
            password,
            remove: false,
        };
        let answer = context.kukeon().await?.web_account(request).await?;
        let out = &context.out;
        let address = match answer.address.as_str() {
            "" => "(not served)",
            address => address,
        };
        out.line(format_args!("address:  {address}"))?;
        out.line(format_args!("username: {}", self.name))?;
        if let Some(account) = answer.accounts.first() {
            out.line(format_args!("role:     {}", account.role))?;
        }
        if !self.password_stdin {
            out.line(format_args!("password: {}", answer.password))?;
        }
        Ok(0)
    }
}

impl List {
    async fn run(self, context: &Context) -> Outcome {
        let request = v1::WebAccountRequest::default();
        let answer = context.kukeon().await?.web_account(request).await?;
        let out = &context.out;
        if self.output.is_structured() {
            out.structured(self.output, &answer)?;
            return Ok(0);
        }
        if answer.accounts.is_empty() {
            out.line("No accounts found.")?;
            return Ok(0);
        }
        let rows: Vec<Vec<String>> = answer
            .accounts
            .into_iter()
            .map(|account| vec![account.name, account.role])
            .collect();
        table::print(out, &["NAME", "ROLE"], &rows, !self.no_headers)?;
        Ok(0)
    }
}

impl Remove {
    async fn run(self, context: &Context) -> Outcome {
        let request = v1::WebAccountRequest {
            name: self.name.clone(),
            remove: true,
            ..Default::default()
        };
        let answer = context.kukeon().await?.web_account(request).await?;
        if !answer.removed {
            let message = format!("there is no account {:?}", self.name);
            return Err(Error::new(Code::NotFound, "AccountNotFound", message)
                .hint("`kuke web ls` lists them")
                .into());
        }
        context
            .out
            .line(format_args!("removed account {:?}", self.name))?;
        Ok(0)
    }
}
