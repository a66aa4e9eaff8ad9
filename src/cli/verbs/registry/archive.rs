//! `kuke registry export` and `import`.

use std::io::IsTerminal;
use std::path::Path;

use clap::Args;
use futures::StreamExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::api::{Error, v1};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome, usage};
use crate::cli::output::Format;
use crate::cli::upload::{open, pieces};

#[derive(Debug, Args)]
pub(super) struct Export {
    /// Repository with an optional tag; without one everything is written
    #[arg(value_name = "REPOSITORY[:TAG]")]
    what: String,
    /// Archive to write [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    /// Repository; a tag is given to the one image of the archive
    #[arg(value_name = "REPOSITORY[:TAG]")]
    what: String,
    /// Archive; - for standard input
    #[arg(value_name = "FILE|-")]
    file: String,
    /// Only look at what it would bring
    #[arg(long)]
    dry_run: bool,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

impl Export {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let (repository, tag) = split(&self.what);
        let request = v1::ExportRepositoryRequest {
            repository,
            tags: tag.into_iter().collect(),
        };
        let to_stdout = matches!(self.output.as_deref(), None | Some("-"));
        if to_stdout && std::io::stdout().is_terminal() {
            return Err(usage("an archive is nothing for a terminal")
                .hint("name a file with -o, or send it on with |")
                .into());
        }
        let answers = context.kukeon().await?.export_repository(request).await?;
        match self.output.as_deref().filter(|_| !to_stdout) {
            None => write(answers, tokio::io::stdout(), "standard output").await?,
            Some(name) => to_file(answers, name).await?,
        }
        Ok(0)
    }
}

type Pieces = futures::stream::BoxStream<'static, crate::api::Result<v1::ExportRepositoryResponse>>;

/// Writes beside the file and renames: what is there is whole.
async fn to_file(answers: Pieces, name: &str) -> Result<(), Failure> {
    let failed = |e: &dyn std::fmt::Display| Error::failed("WriteFailed", format!("{name}: {e}"));
    let dir = match Path::new(name).parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let temp = tempfile::NamedTempFile::new_in(dir).map_err(|e| failed(&e))?;
    let file = temp.as_file().try_clone().map_err(|e| failed(&e))?;
    write(answers, tokio::fs::File::from_std(file), name).await?;
    temp.persist(name).map_err(|e| failed(&e.error))?;
    Ok(())
}

async fn write(
    mut answers: Pieces,
    mut to: impl AsyncWrite + Unpin,
    name: &str,
) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Error::failed("WriteFailed", format!("{name}: {e}"));
    while let Some(piece) = answers.next().await {
        to.write_all(&piece?.data).await.map_err(failed)?;
    }
    Ok(to.flush().await.map_err(failed)?)
}

impl Import {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let (repository, tag) = split(&self.what);
        let (source, from) = open(&self.file).await?;
        let first = v1::ImportRepositoryRequest {
            repository: repository.clone(),
            tag: tag.unwrap_or_default(),
            dry_run: self.dry_run,
            ..Default::default()
        };
        let input = pieces(from, &source, first, |data| v1::ImportRepositoryRequest {
            data,
            ..Default::default()
        });
        let kukeon = context.kukeon().await?;
        let answer = kukeon.import_repository(input).await;
        let answer = answer.map_err(|e| e.context(&source))?;
        let out = &context.out;
        match self.output {
            Format::Table | Format::Wide => {}
            Format::Name => {
                for manifest in &answer.manifests {
                    let name = match manifest.name.as_str() {
                        "" => format!("{repository}@{}", manifest.digest),
                        tag => format!("{repository}:{tag}"),
                    };
                    out.line(name)?;
                }
                return Ok(0);
            }
            format => {
                out.structured(format, &answer)?;
                return Ok(0);
            }
        }
        let done = if self.dry_run {
            "would import"
        } else {
            "imported"
        };
        out.line(format_args!(
            "{done} {} manifest(s) into repository {repository:?}",
            answer.manifests.len()
        ))?;
        for manifest in &answer.manifests {
            match manifest.name.as_str() {
                "" => out.line(format_args!("  - {}", manifest.digest))?,
                tag => out.line(format_args!("  - {tag} {}", manifest.digest))?,
            }
        }
        Ok(0)
    }
}

/// A name and what stands after its colon.
fn split(text: &str) -> (String, Option<String>) {
    match text.rsplit_once(':') {
        Some((name, tag)) => (name.to_owned(), Some(tag.to_owned())),
        None => (text.to_owned(), None),
    }
}
