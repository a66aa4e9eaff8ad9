//! `kuke convert`.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, ValueEnum};

use crate::api::v1::ManifestFile;
use crate::api::{Code, Error};
use crate::cli::context::Context;
use crate::cli::failure::{Outcome, usage};
use crate::cli::manifest;
use crate::convert::{self, Converted, Scope, compose};
use crate::model::Name;

/// Translate manifests to and from Kubernetes and compose files
///
/// Reads files and writes YAML; no daemon is asked and nothing is changed. What has no
/// equivalent is an error that names document, field and remedy.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("direction").required(true).args(["to", "from"]),
    after_help = "Examples:
  kuke convert --to kubernetes -f manifests/ | kubectl apply -f -
  kuke convert --from compose compose.yaml -o cells.yaml
  kuke convert --from kubernetes deployment.yaml service.yaml --stack shop
  kubectl get deployment web -o yaml | kuke convert --from kubernetes -
  kuke convert --from compose compose.yaml --allow-partial   say on standard error what is left out"
)]
pub struct Convert {
    /// What our manifests are written as
    #[arg(long, value_enum)]
    to: Option<Target>,
    /// What is read and written as our manifests
    #[arg(long, value_enum)]
    from: Option<Origin>,
    /// File, directory, or - for standard input; may be repeated
    #[arg(long, short, value_name = "FILE|DIR|-")]
    file: Vec<String>,
    /// Files, as with -f
    #[arg(value_name = "FILE|DIR|-")]
    files: Vec<String>,
    /// Write to this file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Leave out what has no equivalent, and say each of it on standard error
    #[arg(long)]
    allow_partial: bool,
    /// Realm of what is read; default is the namespace, or default
    #[arg(long, value_name = "NAME", conflicts_with = "to")]
    realm: Option<Name>,
    /// Space of what is read; default is default
    #[arg(long, value_name = "NAME", conflicts_with = "to")]
    space: Option<Name>,
    /// Stack of what is read; default is the project, or default
    #[arg(long, value_name = "NAME", conflicts_with = "to")]
    stack: Option<Name>,
    /// Variables of a compose file; default is .env beside it
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    env_file: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// Objects of Kubernetes.
    #[value(alias = "k8s")]
    Kubernetes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Origin {
    /// A compose file.
    Compose,
    /// Objects of Kubernetes.
    #[value(alias = "k8s")]
    Kubernetes,
}

impl Convert {
    /// Converts and prints.
    pub async fn run(self, context: &Context) -> Outcome {
        let files: Vec<String> = self.file.iter().chain(&self.files).cloned().collect();
        if files.is_empty() {
            return Err(usage("no files given: name them with -f, or - for standard input").into());
        }
        if !self.env_file.is_empty() && self.from != Some(Origin::Compose) {
            return Err(usage("--env-file is for --from compose").into());
        }
        let inputs = manifest::read_all(&files)?;
        let sources: Vec<convert::Source<'_>> = inputs
            .iter()
            .map(|file| (file.source.as_str(), file.text.as_slice()))
            .collect();
        let scope = Scope {
            realm: self.realm.clone(),
            space: self.space.clone(),
            stack: self.stack.clone(),
        };
        let partial = self.allow_partial;
        let converted = match self.from {
            None => convert::kubernetes::from_sources(&sources, partial),
            Some(Origin::Kubernetes) => {
                convert::kubernetes::from_kubernetes(&sources, &scope, partial)
            }
            Some(Origin::Compose) => self.compose(&inputs, &scope),
        };
        let Converted {
            text,
            losses,
            notes,
        } = converted.map_err(|error| self.with_remedy(error))?;
        for loss in &losses {
            crate::cli::failure::say!("Left out: {}", loss.line());
        }
        for note in &notes {
            crate::cli::failure::say!("Note: {note}");
        }
        match &self.output {
            None => context.out.bytes(text.as_bytes())?,
            Some(path) => write(path, &text).map_err(|e| {
                let what = format!("failed to write {}: {e}", path.display());
                Error::failed("Output", what)
            })?,
        }
        Ok(0)
    }

    fn with_remedy(&self, error: convert::Error) -> Error {
        let error = Error::from(error);
        match error.reason.as_str() {
            "NoEquivalent" if error.hint.is_empty() => error
                .hint("nothing was converted; --allow-partial leaves out what has no equivalent"),
            _ => error,
        }
    }

    fn compose(&self, inputs: &[ManifestFile], scope: &Scope) -> convert::Result<Converted> {
        let [input] = inputs else {
            return Err(usage("--from compose takes one file").into());
        };
        let directory = match (input.source.as_str(), Path::new(&input.source).parent()) {
            ("standard input", _) | (_, None) => Path::new("."),
            // A bare file name has an empty parent.
            (_, Some(parent)) if parent.as_os_str().is_empty() => Path::new("."),
            (_, Some(parent)) => parent,
        };
        let directory = std::path::absolute(directory).map_err(|e| {
            Error::failed(
                "FileUnreadable",
                format!("the directory of {}: {e}", input.source),
            )
        })?;
        let mut variables: BTreeMap<String, String> = BTreeMap::new();
        let mut files = self.env_file.clone();
        if files.is_empty() && directory.join(".env").is_file() {
            files.push(directory.join(".env"));
        }
        for file in &files {
            let text = read(file)?;
            let found = compose::env_file(&file.display().to_string(), &text, &variables)?;
            variables.extend(found);
        }
        // The environment of the caller wins.
        variables.extend(std::env::vars());
        let read_beside = |path: &str| read(&directory.join(path));
        let project = compose::Project {
            source: (&input.source, &input.text),
            directory: &directory.to_string_lossy(),
            variables: &variables,
            read: &read_beside,
        };
        compose::from_compose(&project, scope, self.allow_partial)
    }
}

/// Variables and logins may be secrets: a new file is its owner's.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)?.write_all(text.as_bytes())
}

fn read(path: &Path) -> crate::api::Result<String> {
    std::fs::read_to_string(path).map_err(|e| {
        let code = match e.kind() {
            std::io::ErrorKind::NotFound => Code::NotFound,
            std::io::ErrorKind::PermissionDenied => Code::Permission,
            _ => Code::Failed,
        };
        Error::new(
            code,
            "FileUnreadable",
            format!("failed to open file {}: {e}", path.display()),
        )
    })
}
