//! `kuke registry`: the registry that the daemon hosts.

mod archive;
mod docker;
mod login;

pub(super) use login::from_stdin;

use clap::{Args, Subcommand};

use crate::api::{Code, Error, v1};
use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::cli::output::{Format, images::size, table};

/// Work with the registry that kukeond hosts
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Registry {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a login and store it where docker, podman, skopeo, crane and oras look
    #[command(after_help = login::EXAMPLES)]
    Login(login::Login),
    /// List repositories
    #[command(alias = "list")]
    Ls(List),
    /// List the tags of a repository
    Tags(Tags),
    /// Write a repository as an OCI image layout in a tar archive
    #[command(
        after_help = "Examples:\n  kuke registry export team/app -o app.tar\n  kuke registry export team/app:v1 | skopeo copy oci-archive:/dev/stdin docker://…"
    )]
    Export(archive::Export),
    /// Read an OCI image layout in a tar archive into a repository
    #[command(
        after_help = "Examples:\n  kuke registry import team/app app.tar\n  kuke registry import team/app:v2 -"
    )]
    Import(archive::Import),
    /// Read everything again and compare it with its digests
    Verify(Verify),
    /// Remove abandoned uploads, and content that no manifest needs for a week
    Gc(Collect),
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
struct Tags {
    /// Repository, for example team/app
    #[arg(value_name = "REPOSITORY")]
    repository: String,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    /// Leave the header out of tables
    #[arg(long)]
    no_headers: bool,
}

#[derive(Debug, Args)]
struct Verify {
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Args)]
struct Collect {
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

impl Registry {
    /// The name of the inner verb, and whether it changes something.
    pub fn shape(&self) -> (&'static str, bool) {
        match &self.verb {
            Verb::Login(_) => ("registry login", true),
            Verb::Ls(_) => ("registry ls", false),
            Verb::Tags(_) => ("registry tags", false),
            Verb::Export(_) => ("registry export", false),
            Verb::Import(_) => ("registry import", true),
            Verb::Verify(_) => ("registry verify", false),
            Verb::Gc(_) => ("registry gc", true),
        }
    }

    /// Runs the inner verb.
    pub async fn run(self, context: &Context) -> Outcome {
        match self.verb {
            Verb::Login(verb) => verb.run(context).await,
            Verb::Ls(verb) => verb.run(context).await,
            Verb::Tags(verb) => verb.run(context).await,
            Verb::Export(verb) => verb.run(context).await,
            Verb::Import(verb) => verb.run(context).await,
            Verb::Verify(verb) => verb.run(context).await,
            Verb::Gc(verb) => verb.run(context).await,
        }
    }
}

impl List {
    async fn run(self, context: &Context) -> Outcome {
        let request = v1::ListRegistryRequest::default();
        let answer = context.kukeon().await?.list_registry(request).await?;
        let out = &context.out;
        match self.output {
            Format::Json | Format::Yaml => out.structured(self.output, &answer)?,
            Format::Name => {
                for repository in &answer.repositories {
                    out.line(&repository.name)?;
                }
            }
            Format::Table | Format::Wide if answer.repositories.is_empty() => {
                out.line("No repositories found.")?;
            }
            Format::Table | Format::Wide => {
                let rows: Vec<_> = answer.repositories.iter().map(row).collect();
                let header = &["REPOSITORY", "TAGS", "MANIFESTS"];
                table::print(out, header, &rows, !self.no_headers)?;
            }
        }
        Ok(0)
    }
}

fn row(repository: &v1::RegistryRepository) -> Vec<String> {
    vec![
        repository.name.clone(),
        repository.tags.len().to_string(),
        repository.manifests.to_string(),
    ]
}

impl Tags {
    async fn run(self, context: &Context) -> Outcome {
        let request = v1::ListRegistryRequest {
            repository: self.repository,
        };
        let answer = context.kukeon().await?.list_registry(request).await?;
        let tags = answer
            .repositories
            .into_iter()
            .next()
            .unwrap_or_default()
            .tags;
        let out = &context.out;
        match self.output {
            Format::Json | Format::Yaml => out.structured(self.output, &tags)?,
            Format::Name => {
                for tag in &tags {
                    out.line(&tag.name)?;
                }
            }
            Format::Table | Format::Wide => {
                let row = |tag: &v1::RegistryTag| vec![tag.name.clone(), tag.digest.clone()];
                let rows: Vec<_> = tags.iter().map(row).collect();
                table::print(out, &["TAG", "DIGEST"], &rows, !self.no_headers)?;
            }
        }
        Ok(0)
    }
}

impl Verify {
    async fn run(self, context: &Context) -> Outcome {
        let request = v1::VerifyRegistryRequest {};
        let answer = context.kukeon().await?.verify_registry(request).await?;
        let out = &context.out;
        if self.output.is_structured() {
            out.structured(self.output, &answer)?;
        } else if self.output == Format::Name {
            for problem in &answer.problems {
                out.line(&problem.object)?;
            }
        } else {
            out.line(format_args!(
                "read {} blob(s), {}, of {} manifest(s)",
                answer.blobs,
                size(answer.bytes),
                answer.manifests
            ))?;
            for problem in &answer.problems {
                let at = match problem.repository.as_str() {
                    "" => problem.object.clone(),
                    repository => format!("{repository}: {}", problem.object),
                };
                out.line(format_args!("  - {at}: {}", problem.what))?;
            }
        }
        if answer.problems.is_empty() {
            return Ok(0);
        }
        let message = format!("{} object(s) are damaged", answer.problems.len());
        Err(Error::new(Code::Failed, "RegistryCorrupt", message)
            .hint("push or import what is named again")
            .into())
    }
}

impl Collect {
    async fn run(self, context: &Context) -> Outcome {
        let dry_run = self.dry_run;
        let request = v1::CollectRegistryRequest { dry_run };
        let answer = context.kukeon().await?.collect_registry(request).await?;
        let out = &context.out;
        match self.output {
            Format::Json | Format::Yaml => out.structured(self.output, &answer)?,
            Format::Name => {
                for blob in &answer.blobs {
                    out.line(blob)?;
                }
            }
            Format::Table | Format::Wide => {
                let done = if dry_run { "would remove" } else { "removed" };
                out.line(format_args!(
                    "{done} {} blob(s) and {} upload(s), {}",
                    answer.blobs.len(),
                    answer.uploads,
                    size(answer.bytes)
                ))?;
                for blob in &answer.blobs {
                    out.line(format_args!("  - {blob}"))?;
                }
            }
        }
        Ok(0)
    }
}
