//! `kuke menu`, `kuke prep`, and what `kuke recipe` shares with them.

use clap::{Args, Subcommand};

use super::sign::{Sign, Verify};
use super::{Common, Patience};
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
    Run(Noted),
    /// Show what a run would do, also one that failed before
    Plan(Plan),
    /// Roll a plan out that failed, or go on with a run that is stuck
    Retry(Noted),
    /// End a run; its members go back
    Abort(Named),
    /// Give the locks of a stuck run up; its members stay as they are
    Force(Named),
}

/// Of which Menu.
#[derive(Debug, Args)]
struct Plan {
    /// Name
    #[arg(value_name = "NAME")]
    object: String,
    #[command(flatten)]
    common: Common,
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

/// Which object, and whether it is done or only shown.
#[derive(Debug, Args)]
pub struct Named {
    /// Name
    #[arg(value_name = "NAME")]
    object: String,
    /// Only show what it would come to; nothing is changed
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    common: Common,
}

/// The same for what leaves something in a history.
#[derive(Debug, Args)]
pub struct Noted {
    /// Message for the history
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    #[command(flatten)]
    named: Named,
}

impl Named {
    /// Asks the controller of a Recipe.
    pub async fn recipe(self, context: &Context, action: Action) -> Outcome {
        self.act(context, "Recipe", action, None).await
    }

    async fn act(
        self,
        context: &Context,
        kind: &str,
        action: Action,
        message: Option<String>,
    ) -> Outcome {
        let request = v1::ActRequest {
            kind: kind.to_owned(),
            namespace: self.common.namespace,
            name: self.object.clone(),
            action: action.into(),
            wait: self.patience.waits(),
            message: message.unwrap_or_default(),
            dry_run: self.dry_run,
        };
        let events = context.kukeon().await?.act(request).await?;
        let what = format!("{}/{}", kind.to_ascii_lowercase(), self.object);
        let patience = &self.patience;
        patience
            .finish(context, self.common.output, &what, events)
            .await
    }
}

impl Noted {
    /// Asks the controller of a Recipe.
    pub async fn recipe(self, context: &Context, action: Action) -> Outcome {
        self.named
            .act(context, "Recipe", action, self.message)
            .await
    }
}

/// Which preparation goes, or would go.
#[derive(Debug, Args)]
struct Deletion {
    /// Name
    #[arg(value_name = "NAME")]
    object: String,
    /// Only check whether it could be done
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    common: Common,
}

impl Menu {
    /// Whether it changes something.
    pub fn changes(&self) -> bool {
        !matches!(self.verb, MenuVerb::Plan(_))
    }

    /// Asks and prints.
    pub async fn run(self, context: &Context) -> Outcome {
        let (named, action, message) = match self.verb {
            MenuVerb::Run(noted) => (noted.named, Action::Run, noted.message),
            MenuVerb::Retry(noted) => (noted.named, Action::Retry, noted.message),
            MenuVerb::Plan(plan) => {
                let named = Named {
                    object: plan.object,
                    dry_run: true,
                    patience: Patience::new(false, None),
                    common: plan.common,
                };
                (named, Action::Plan, None)
            }
            MenuVerb::Abort(named) => (named, Action::Abort, None),
            MenuVerb::Force(named) => (named, Action::Force, None),
        };
        named.act(context, "Menu", action, message).await
    }
}

impl Prep {
    /// Whether it changes something.
    pub fn changes(&self) -> bool {
        matches!(self.verb, PrepVerb::Delete(_) | PrepVerb::Sign(_))
    }

    /// Asks and prints.
    pub async fn run(self, context: &Context) -> Outcome {
        let Deletion {
            object,
            dry_run,
            patience,
            common,
        } = match self.verb {
            PrepVerb::Delete(deletion) => deletion,
            PrepVerb::Verify(verify) => return verify.run(context).await,
            PrepVerb::Sign(sign) => return sign.run(context).await,
        };
        let request = v1::DeleteRequest {
            kind: "Preparation".to_owned(),
            name: object.clone(),
            scope: Some(v1::Scope {
                realm: common.namespace,
                ..Default::default()
            }),
            dry_run,
            ..Default::default()
        };
        let events = context.kukeon().await?.delete(request).await?;
        let what = format!("the end of preparation/{object}");
        patience.finish(context, common.output, &what, events).await
    }
}
