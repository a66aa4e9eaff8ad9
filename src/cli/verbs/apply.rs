//! `kuke apply`.

use clap::Args;
use serde::Serialize;

use crate::api;
use crate::api::v1::{self, ResourceResult, object};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::follow::{failures, follow};
use crate::cli::kind::Kind;
use crate::cli::manifest;
use crate::cli::output::Format;
use crate::cli::verbs::release::Patience;

/// Make the host as manifests say
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kuke apply -f cell.yaml
  kuke apply -f manifests/          every *.yaml, *.yml and *.json in it, sorted
  kuke apply -f - < cell.yaml
  kuke apply -f cell.yaml --dry-run the steps that would be taken
  kuke apply -f recipe.yaml -n shop --wait --timeout 2m

With --wait, what was applied has to become Ready; a cell whose containers are not
started again may as well end well. What failed is an error at once. Suspended recipes,
and kinds that are never Ready by themselves (labels of preparations and servings, menus,
templates, blueprints, configurations, the kitchen, volumes, secrets), are not waited for.")]
pub struct Apply {
    /// File, directory, or - for standard input; may be repeated
    #[arg(long, short, required = true, value_name = "FILE|DIR|-")]
    file: Vec<String>,
    /// Show what would be done, change nothing
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    /// Namespace of releases that name none
    #[arg(long, short, value_name = "NAME", help_heading = "Scope")]
    namespace: Option<String>,
    #[command(flatten)]
    patience: Patience,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// What `-o json|yaml` prints.
#[derive(Serialize)]
pub struct Results {
    /// One entry per object.
    pub resources: Vec<ResourceResult>,
}

impl Apply {
    /// Applies all files as one stream and prints what became of each object.
    pub async fn run(self, context: &Context) -> Outcome {
        let work = self.apply(context);
        self.patience.within("what was applied", work).await
    }

    async fn apply(&self, context: &Context) -> Outcome {
        let request = v1::ApplyRequest {
            files: manifest::read_all(&self.file)?,
            dry_run: self.dry_run,
            progress: true,
            namespace: self.namespace.clone().unwrap_or_default(),
            ..Default::default()
        };
        let events = context.kukeon().await?.apply(request).await?;
        let mut results = follow(context, events, |result| self.print(context, result)).await?;
        let mut failure = failures(&results, "some resources failed to apply");
        if failure.is_none() && self.patience.waits() {
            let table = matches!(self.output, Format::Table | Format::Wide);
            failure = settled(context, &mut results, table).await?.err();
        }
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
        match self.output {
            Format::Json | Format::Yaml => Ok(()),
            Format::Name => context.out.line(format_args!(
                "{}/{}",
                result.kind.to_ascii_lowercase(),
                result.name
            )),
            Format::Table | Format::Wide => {
                let steps = self.dry_run || self.output == Format::Wide;
                print_result(context, result, steps)
            }
        }
    }
}

/// Waits until what was applied is as `--wait` wants it, each after the other.
/// With `told` it says so on standard output. The inner error is of what failed.
pub async fn settled(
    context: &Context,
    results: &mut [ResourceResult],
    told: bool,
) -> Result<api::Result<()>, Failure> {
    let kukeon = context.kukeon().await?;
    for result in results.iter_mut().filter(|result| can_be_ready(result)) {
        let release = result.kind.parse().is_ok_and(Kind::is_release);
        let scope = result.scope.clone().unwrap_or_default();
        let request = v1::WaitForRequest {
            kind: result.kind.clone(),
            namespace: scope.realm.clone(),
            name: result.name.clone(),
            condition: "Ready".to_owned(),
            scope: (!release).then_some(scope),
            settled: true,
            ..Default::default()
        };
        match kukeon.wait_for(request).await {
            Ok(met) => result.object = met.object,
            Err(error) => {
                "failed".clone_into(&mut result.action);
                result.error = Some((&error).into());
                return Ok(Err(error));
            }
        }
        if told {
            let (kind, name) = (&result.kind, &result.name);
            context.out.line(format_args!("{kind} {name:?}: settled"))?;
            context.out.flush()?;
        }
    }
    Ok(Ok(()))
}

/// Whether a result is of something that becomes ready by itself.
fn can_be_ready(result: &ResourceResult) -> bool {
    let suspended = match result.object.as_ref().and_then(|o| o.object.as_ref()) {
        Some(object::Object::Recipe(recipe)) => recipe.spec.as_ref().is_some_and(|s| s.suspend),
        _ => false,
    };
    let kinds = [
        "Realm",
        "Space",
        "Stack",
        "Cell",
        "Container",
        "Recipe",
        "Pantry",
    ];
    kinds.contains(&result.kind.as_str()) && !suspended && result.error.is_none()
}

/// `Cell "web": updated`, then what changed, the steps if wanted, and the error.
pub fn print_result(
    context: &Context,
    result: &ResourceResult,
    steps: bool,
) -> Result<(), Failure> {
    let out = &context.out;
    let action = match (result.action.as_str(), &result.error) {
        ("", Some(_)) => "failed",
        (action, _) => action,
    };
    out.line(format_args!("{} {:?}: {action}", result.kind, result.name))?;
    for change in &result.changes {
        out.line(format_args!("  - {change}"))?;
    }
    if steps {
        for step in &result.steps {
            out.line(format_args!("  > {step}"))?;
        }
    }
    if let Some(error) = &result.error {
        out.line(format_args!("  Error: {}", error.message))?;
        if !error.hint.is_empty() {
            out.line(format_args!("  {}", error.hint))?;
        }
    }
    Ok(())
}
