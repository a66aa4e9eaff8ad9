//! `kuke recipe`.

mod upload;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::api::v1::{self, Action};
use crate::api::{self, Error};
use crate::apply;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome, usage};
use crate::cli::kind::Kind;
use crate::cli::manifest;
use crate::cli::output::{Format, Out};
use crate::cli::verbs::edit::Edited;
use crate::cli::verbs::release::{Common, Named, Noted, Patience};
use crate::delivery::render::{Rendered, offline};
use crate::model::delivery::{AnyRelease, Recipe as Wanted};

/// Work with Recipes
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Recipe {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Render Recipes from files, without a daemon
    #[command(
        after_help = "Examples:\n  kuke recipe render -f recipe.yaml\n  kuke recipe render -f recipe.yaml --check\n  kuke recipe render -f recipe.yaml -o json | jq -r .digest"
    )]
    Render(Render),
    /// Pack a directory of this machine, and make it the source of a Recipe
    #[command(
        after_help = "The directory is kept in the registry of the daemon, by digest; the same files are the same source.

Examples:
  kuke recipe apply web --upload ./manifests -m 'more memory'
  kuke recipe apply -f recipe.yaml --upload .          with the rest of the Recipe from a file
  kuke recipe apply --upload ./web --dry-run           the Recipe web"
    )]
    Apply(upload::Apply),
    /// Change a Recipe in an editor
    Edit(Editing),
    /// Ask the source again, now
    Refresh(Noted),
    /// Do nothing until resumed
    Suspend(Named),
    /// Go on after suspend
    Resume(Named),
}

/// The same as `kuke edit recipe`.
#[derive(Debug, Args)]
struct Editing {
    /// Name
    #[arg(value_name = "NAME")]
    object: String,
    /// Message for the history
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    /// Only show what would change
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    common: Common,
}

impl Editing {
    async fn run(self, context: &Context) -> Outcome {
        let what = Edited {
            kind: Kind::Recipe,
            name: self.object,
            scope: v1::Scope {
                realm: self.common.namespace,
                ..Default::default()
            },
            message: self.message,
            dry_run: self.dry_run,
            patience: self.patience,
            output: self.common.output,
        };
        what.run(context).await
    }
}

/// Prints the canonical manifest; hash and digest go to standard error.
#[derive(Debug, Args)]
struct Render {
    /// File, directory, or - for standard input
    #[arg(long, short, value_name = "FILE|DIR|-", required = true)]
    file: Vec<String>,
    /// Say only whether it can be rendered, with hash and digest
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    common: Common,
}

/// What a program reads.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Printed<'a> {
    recipe: String,
    config_hash: &'a str,
    digest: &'a str,
    size: u64,
    renderer: &'a str,
    documents: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<&'a str>,
}

impl Recipe {
    /// The name of the inner verb, and whether it changes something.
    pub fn shape(&self) -> (&'static str, bool) {
        match &self.verb {
            Verb::Render(_) => ("recipe render", false),
            Verb::Apply(_) => ("recipe apply", true),
            Verb::Edit(_) => ("recipe edit", true),
            Verb::Refresh(_) => ("recipe refresh", true),
            Verb::Suspend(_) => ("recipe suspend", true),
            Verb::Resume(_) => ("recipe resume", true),
        }
    }

    /// Runs the inner verb.
    pub async fn run(self, context: &Context) -> Outcome {
        match self.verb {
            Verb::Render(verb) => verb.run(context).await,
            Verb::Apply(verb) => verb.run(context).await,
            Verb::Edit(verb) => verb.run(context).await,
            Verb::Refresh(verb) => verb.recipe(context, Action::Refresh).await,
            Verb::Suspend(verb) => verb.recipe(context, Action::Suspend).await,
            Verb::Resume(verb) => verb.recipe(context, Action::Unsuspend).await,
        }
    }
}

impl Render {
    async fn run(self, context: &Context) -> Outcome {
        let mut seen = 0;
        for file in manifest::read_all(&self.file)? {
            for recipe in recipes(&file.source, &file.text, &self.common.namespace)? {
                let rendered = offline::render(&recipe).await.map_err(|failure| {
                    Error::from(failure.about(format!("recipe {:?}", recipe.meta.name.as_str())))
                })?;
                self.print(&context.out, &recipe, &rendered)?;
                seen += 1;
            }
        }
        match seen {
            0 => Err(usage("the files hold no Recipe").into()),
            _ => Ok(0),
        }
    }

    fn print(&self, out: &Out, recipe: &Wanted, rendered: &Rendered) -> Result<(), Failure> {
        let name = recipe.meta.name.as_str();
        let (hash, digest) = (&rendered.config_hash, rendered.artifact.digest());
        let output = self.common.output;
        if output == Format::Name {
            return out.line(format_args!("recipe/{name}"));
        }
        if output.is_structured() {
            let printed = Printed {
                recipe: format!("{}/{name}", recipe.meta.namespace),
                config_hash: hash,
                digest,
                size: rendered.artifact.size(),
                renderer: &rendered.renderer.name,
                documents: rendered.resources.len(),
                manifest: (!self.check).then_some(&*rendered.manifest),
            };
            return out.structured(output, &printed);
        }
        let summary = format!(
            "recipe \"{name}\": documents: {}\nconfig hash {hash}\ndigest {digest}",
            rendered.resources.len()
        );
        match self.check {
            true => out.line(summary),
            false => {
                out.bytes(rendered.manifest.as_bytes())?;
                // Not among what a program reads.
                for line in summary.lines() {
                    crate::cli::failure::say!("{line}");
                }
                Ok(())
            }
        }
    }
}

/// The Recipes of a file.
fn recipes(source: &str, bytes: &[u8], namespace: &str) -> api::Result<Vec<Wanted>> {
    let wanted = apply::read_in(&[(source, bytes)], namespace)?;
    let recipe = |(_, release): (u32, AnyRelease)| Wanted::try_from(release).ok();
    Ok(wanted.releases.into_iter().filter_map(recipe).collect())
}
