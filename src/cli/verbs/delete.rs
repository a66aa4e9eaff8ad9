//! `kuke delete`.

use std::time::Duration;

use clap::Args;

use futures::{StreamExt, stream};

use super::lifecycle::{distinct, failed, seconds, select};
use crate::api::v1::{self, ResourceResult};
use crate::cli::config::duration;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome, tell, usage};
use crate::cli::follow::{failures, follow, single_failure};
use crate::cli::kind::Kind;
use crate::cli::manifest;
use crate::cli::output::Format;
use crate::cli::scope::PlaceFlags;
use crate::cli::verbs::apply::{Results, print_result};
use crate::cli::verbs::release::Patience;

/// Delete objects
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kuke delete cell web
  kuke delete cell -l app=shop
  kuke delete realm shop --cascade
  kuke delete recipe web -n shop --wait --timeout 5m
  kuke delete -f stack.yaml        in reverse order, what is missing is no error")]
pub struct Delete {
    /// Kind
    #[arg(
        value_name = "KIND",
        required_unless_present = "file",
        conflicts_with = "file"
    )]
    kind: Option<Kind>,
    /// Names
    #[arg(value_name = "NAME", conflicts_with = "file")]
    names: Vec<String>,
    #[command(flatten)]
    place: PlaceFlags,
    /// Cell of a container or secret
    #[arg(long, value_name = "NAME", help_heading = "Scope")]
    cell: Option<String>,
    /// Delete the objects of these documents; file, directory, or - for standard input
    #[arg(long, short, value_name = "FILE|DIR|-")]
    file: Vec<String>,
    /// Every cell with these labels
    #[arg(long, short = 'l', value_name = "SELECTOR", conflicts_with_all = ["names", "file"])]
    selector: Option<String>,
    /// Delete what lives in it first
    #[arg(long)]
    cascade: bool,
    /// A recipe: although a menu has it; otherwise accepted for compatibility
    #[arg(long)]
    force: bool,
    /// What is missing is no error
    #[arg(long)]
    ignore_not_found: bool,
    /// A recipe: delete its artifacts in the registry of kukeond, too
    #[arg(long)]
    purge_artifacts: bool,
    /// Releases: only check whether it could be done
    #[arg(long)]
    dry_run: bool,
    /// Time between SIGTERM and SIGKILL [default: each container's own, 10s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    grace: Option<Duration>,
    /// Come back when it is gone, however long that takes; a release else says after a minute
    /// that its end goes on
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// With --wait: how long; 0 is for ever. What was begun goes on. Without it the same as --grace
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

impl Delete {
    /// Deletes and prints what became of each object.
    pub async fn run(mut self, context: &Context) -> Outcome {
        if !self.wait && self.timeout.is_some() {
            if self.grace.is_some() {
                return Err(usage("--timeout beside --grace needs --wait").into());
            }
            // What it was called before it could wait.
            self.grace = self.timeout.take();
        }
        let what = match (&self.names[..], self.kind) {
            ([name], Some(kind)) => format!("the end of {}/{name}", kind.singular()),
            _ => "the end of all".to_owned(),
        };
        let patience = Patience::new(self.wait, self.timeout);
        patience.within(&what, self.delete(context)).await
    }

    async fn delete(self, context: &Context) -> Outcome {
        let Some(kind) = self.kind else {
            return self.delete_files(context).await;
        };
        if self.dry_run && !kind.is_release() {
            return Err(usage("--dry-run is offered for releases").into());
        }
        if self.purge_artifacts && kind != Kind::Recipe {
            return Err(usage("--purge-artifacts is offered for recipes").into());
        }
        if self.names.is_empty() && self.selector.is_none() {
            return Err(usage(format!("{} name is required", kind.singular())).into());
        }
        if self.selector.is_some() && kind != Kind::Cell {
            return Err(usage("--selector is offered for cells").into());
        }
        if kind == Kind::Container && self.cell.is_none() {
            return Err(usage("delete container NAME needs --cell").into());
        }
        if kind == Kind::Image {
            return self.images(context).await;
        }
        self.named(context, kind).await
    }

    async fn named(&self, context: &Context, kind: Kind) -> Outcome {
        let kukeon = context.kukeon().await?;
        let scope = self
            .place
            .scope()
            .or_env("delete", kind.singular(), |name| std::env::var(name).ok());
        let targets = match &self.selector {
            Some(selector) => select(&kukeon, &scope, selector).await?,
            None => {
                let mut place = scope.of(kind);
                place.cell = self.cell.clone().unwrap_or_default();
                let named = |name: &String| (name.clone(), place.clone());
                distinct(&self.names).map(named).collect()
            }
        };
        if targets.is_empty() && !self.output.is_structured() {
            context.out.line("No cells matched the selector.")?;
        }
        let several = targets.len() > 1;
        let mut results = Vec::new();
        for (name, scope) in targets {
            let request = v1::DeleteRequest {
                kind: kind.as_str().to_owned(),
                name,
                scope: Some(scope),
                cascade: self.cascade || (kind.is_release() && self.force),
                ignore_not_found: self.ignore_not_found,
                grace_seconds: self.grace.map(seconds),
                dry_run: self.dry_run,
                purge_artifacts: self.purge_artifacts,
                wait: self.wait,
                ..Default::default()
            };
            let told = ResourceResult {
                kind: request.kind.clone(),
                name: request.name.clone(),
                scope: request.scope.clone(),
                ..Default::default()
            };
            let events = match kukeon.delete(request).await {
                // It does not keep the others from being deleted.
                Err(error) if several => stream::iter([Ok(failed(told, &error))]).boxed(),
                events => events?,
            };
            results.extend(follow(context, events, |result| self.print(context, result)).await?);
        }
        let failure = if several {
            failures(&results, "some resources failed to delete")
        } else {
            single_failure(&results)
        };
        self.end(context, results, failure)
    }

    async fn delete_files(&self, context: &Context) -> Outcome {
        let request = v1::DeleteRequest {
            files: manifest::read_all(&self.file)?,
            cascade: self.cascade,
            ignore_not_found: true,
            grace_seconds: self.grace.map(seconds),
            dry_run: self.dry_run,
            purge_artifacts: self.purge_artifacts,
            wait: self.wait,
            scope: Some(self.place.scope().filter()),
            ..Default::default()
        };
        let each = |result: &ResourceResult| match self.output {
            Format::Json | Format::Yaml => Ok(()),
            Format::Name => self.print(context, result),
            Format::Table | Format::Wide => {
                print_result(context, result, self.output == Format::Wide)
            }
        };
        let events = context.kukeon().await?.delete(request).await?;
        let results = follow(context, events, each).await?;
        let failure = failures(&results, "some resources failed to delete");
        self.end(context, results, failure)
    }

    async fn images(&self, context: &Context) -> Outcome {
        let kukeon = context.kukeon().await?;
        let realm = self.place.scope().single().realm;
        let mut results = Vec::new();
        for name in distinct(&self.names) {
            let request = v1::DeleteImageRequest {
                realm: realm.clone(),
                name: name.clone(),
            };
            match kukeon.delete_image(request).await {
                Ok(answer) => context.out.line(format_args!(
                    "deleted image {:?} from realm {realm:?}",
                    answer.name
                ))?,
                Err(error) if self.ignore_not_found && error.code == crate::api::Code::NotFound => {
                }
                Err(error) if self.names.len() == 1 => return Err(error.into()),
                Err(error) => {
                    tell(&error);
                    results.push(ResourceResult {
                        error: Some((&error).into()),
                        ..Default::default()
                    });
                }
            }
        }
        match failures(&results, "some images failed to delete") {
            Some(error) => Err(error.into()),
            None => Ok(0),
        }
    }

    fn end(
        &self,
        context: &Context,
        results: Vec<ResourceResult>,
        failure: Option<crate::api::Error>,
    ) -> Outcome {
        if self.output.is_structured() {
            let results = Results { resources: results };
            context.out.structured(self.output, &results)?;
        }
        match failure {
            Some(error) => Err(error.into()),
            None => Ok(0),
        }
    }

    fn print(&self, context: &Context, result: &ResourceResult) -> Result<(), Failure> {
        if result.error.is_some() && self.names.len() == 1 {
            return Ok(());
        }
        match self.output {
            Format::Json | Format::Yaml => Ok(()),
            Format::Name => context.out.line(format_args!(
                "{}/{}",
                result.kind.to_ascii_lowercase(),
                result.name
            )),
            Format::Table | Format::Wide if result.action == "deleted" => {
                let dry = if self.dry_run { " (dry run)" } else { "" };
                context.out.line(format_args!("{}{dry}", line(result)))
            }
            Format::Table | Format::Wide => print_result(context, result, false),
        }
    }
}

/// `Deleted cell "web" from stack "default"`.
fn line(result: &ResourceResult) -> String {
    let scope = result.scope.clone().unwrap_or_default();
    let from = match result.kind.as_str() {
        "Space" => format!(" from realm {:?}", scope.realm),
        "Stack" => format!(" from space {:?}", scope.space),
        "Cell" => format!(" from stack {:?}", scope.stack),
        "Container" => format!(" from cell {:?}", scope.cell),
        _ => String::new(),
    };
    format!(
        "Deleted {} {:?}{from}",
        result.kind.to_ascii_lowercase(),
        result.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_names_its_parent() {
        let result = |kind: &str| ResourceResult {
            kind: kind.into(),
            name: "n".into(),
            action: "deleted".into(),
            scope: Some(v1::Scope {
                realm: "r".into(),
                space: "s".into(),
                stack: "t".into(),
                cell: "c".into(),
            }),
            ..Default::default()
        };
        for (kind, wanted) in [
            ("Realm", "Deleted realm \"n\""),
            ("Space", "Deleted space \"n\" from realm \"r\""),
            ("Stack", "Deleted stack \"n\" from space \"s\""),
            ("Cell", "Deleted cell \"n\" from stack \"t\""),
            ("Container", "Deleted container \"n\" from cell \"c\""),
        ] {
            assert_eq!(line(&result(kind)), wanted);
        }
    }
}
