//! `kuke menu`, `kuke prep`, and what `kuke recipe` shares with them.

use clap::{Args, Subcommand};

use super::sign::{Sign, Verify};
use super::{Common, Patience, finish};
use crate::api::v1::{self, Action};
use crate::cli::context::Context;
use crate::cli::failure::Outcome;

/// Roll several recipes out as one
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Menu {
    #[command(subcommand)]
    verb: MenuVerb,
}

#[derive(Debug, Subcommand)]
enum MenuVerb {
    /// Roll out
    Run(Named),
    /// Show what a run would do
    Plan(Named),
    /// Roll a plan out that failed, or go on with a run that is stuck
    Retry(Named),
    /// End a run; its members go back
    Abort(Named),
    /// Give the locks of a stuck run up; its members stay as they are
    Force(Named),
}

/// Look after preparations
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Prep {
    #[command(subcommand)]
    verb: PrepVerb,
}

#[derive(Debug, Subcommand)]
enum PrepVerb {
    /// Delete a preparation that nothing needs
    Delete(Deletion),
    /// Render a preparation again, and compare it with what is stored
    #[command(
        after_help = "Exit code 0: everything was looked at and is as recorded; else 1.

Examples:
  kuke prep verify web-0123456789ab
  kuke prep verify web-0123456789ab --key cosign.pub
  kuke prep verify web-0123456789ab -o json | jq .signature"
    )]
    Verify(Verify),
    /// Sign a preparation with a private key, which stays here
    #[command(
        after_help = "The key is PEM and not encrypted (PKCS #8, as `openssl genpkey` makes it). A key that
only cosign or a token can use signs what --print-payload prints.

Examples:
  kuke prep sign web-0123456789ab --key release.pem
  kuke prep sign web-0123456789ab --print-payload > payload
  cosign sign-blob --key cosign.key --tlog-upload=false --output-signature signature payload
  kuke prep sign web-0123456789ab --signature signature"
    )]
    Sign(Sign),
}

/// Which preparation goes, or would go.
#[derive(Debug, Args)]
struct Deletion {
    /// Only check whether it could be done
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    #[command(flatten)]
    named: Named,
}

/// Which object.
#[derive(Debug, Args)]
pub struct Named {
    /// Name
    #[arg(value_name = "NAME")]
    object: String,
    /// Message for the history
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    common: Common,
}

impl Named {
    /// Asks the controller of a Recipe.
    pub async fn recipe(self, context: &Context, action: Action, dry_run: bool) -> Outcome {
        self.act(context, "Recipe", action, dry_run).await
    }

    async fn act(self, context: &Context, kind: &str, action: Action, dry_run: bool) -> Outcome {
        let request = v1::ActRequest {
            kind: kind.to_owned(),
            namespace: self.common.namespace.clone(),
            name: self.object.clone(),
            action: action.into(),
            wait: self.patience.wait,
            message: self.message.unwrap_or_default(),
            dry_run,
        };
        let events = context.kukeon().await?.act(request).await?;
        let what = format!("{}/{}", kind.to_ascii_lowercase(), self.object);
        let patience = &self.patience;
        patience
            .finish(context, self.common.output, &what, events)
            .await
    }
}

impl Menu {
    /// Whether it changes something.
    pub fn changes(&self) -> bool {
        !matches!(self.verb, MenuVerb::Plan(_))
    }

    /// Asks and prints.
    pub async fn run(self, context: &Context) -> Outcome {
        let (named, action, dry_run) = match self.verb {
            MenuVerb::Run(named) => (named, Action::Run, false),
            MenuVerb::Plan(named) => (named, Action::Run, true),
            MenuVerb::Retry(named) => (named, Action::Retry, false),
            MenuVerb::Abort(named) => (named, Action::Abort, false),
            MenuVerb::Force(named) => (named, Action::Force, false),
        };
        named.act(context, "Menu", action, dry_run).await
    }
}

impl Prep {
    /// Whether it changes something.
    pub fn changes(&self) -> bool {
        matches!(self.verb, PrepVerb::Delete(_) | PrepVerb::Sign(_))
    }

    /// Asks and prints.
    pub async fn run(self, context: &Context) -> Outcome {
        let Deletion { dry_run, named } = match self.verb {
            PrepVerb::Delete(deletion) => deletion,
            PrepVerb::Verify(verify) => return verify.run(context).await,
            PrepVerb::Sign(sign) => return sign.run(context).await,
        };
        let request = v1::DeleteRequest {
            kind: "Preparation".to_owned(),
            name: named.object,
            scope: Some(v1::Scope {
                realm: named.common.namespace.clone(),
                ..Default::default()
            }),
            dry_run,
            ..Default::default()
        };
        let events = context.kukeon().await?.delete(request).await?;
        finish(context, named.common.output, events).await
    }
}
