//! `kuke argocd`.

use std::io::Read;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::api::{Code, Error, v1};
use crate::cli::config::duration;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::{Format, table};
use crate::cli::verbs::release::Patience;

/// Most bytes a kubeconfig, password or certificate may have.
const LIMIT: u64 = 1 << 20;

/// Told where Argo CD cannot be told more.
const NO_ADDRESS: &str =
    "Argo CD is not told how to fetch artifacts: the address of the registry is not known";

/// Link clusters with Argo CD
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct ArgoCd {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Connect a cluster: Recipes with the target argocd deploy to it
    #[command(
        after_help = "Examples:\n  kubectl config view --raw --flatten --minify | kuke argocd connect --kubeconfig -\n  kuke argocd connect prod --kubeconfig prod.yaml --registry-url registry.example:5050"
    )]
    Connect(Connect),
    /// Show whether connected clusters and their Argo CD can be reached
    #[command(after_help = "Exit code: 0 when all can be reached, else 1.")]
    Status(Status),
}

#[derive(Debug, Args)]
struct Connect {
    /// Name of the connection, as in spec.target.argocd.cluster of a Recipe
    #[arg(value_name = "NAME", default_value = "default")]
    name: String,
    /// Self-contained kubeconfig; - is standard input
    #[arg(long, value_name = "FILE")]
    kubeconfig: String,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Namespace of Argo CD
    #[arg(long, short, value_name = "NAME", default_value = "argocd")]
    namespace: String,
    /// Address under which the cluster reaches the registry [default: the Kitchen's]
    #[arg(long, value_name = "HOST[:PORT]")]
    registry_url: Option<String>,
    /// Account that Argo CD fetches artifacts with
    #[arg(long, value_name = "NAME", requires = "registry_password_file")]
    registry_username: Option<String>,
    /// File with its password
    #[arg(long, value_name = "FILE", requires = "registry_username")]
    registry_password_file: Option<String>,
    /// Certificate authority of the registry, in PEM
    #[arg(long, value_name = "FILE", conflicts_with = "registry_plain_http")]
    registry_ca: Option<String>,
    /// The registry has no TLS
    #[arg(long)]
    registry_plain_http: bool,
    /// Only ask the cluster, and say what would be done
    #[arg(long)]
    dry_run: bool,
    /// How long the cluster may take, five minutes at most
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1m")]
    timeout: Duration,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Args)]
struct Status {
    /// Name of the connection [default: all]
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

impl ArgoCd {
    /// Name as typed, and whether it changes something.
    pub fn shape(&self) -> (&'static str, bool) {
        match &self.verb {
            Verb::Connect(_) => ("argocd connect", true),
            Verb::Status(_) => ("argocd status", false),
        }
    }

    /// Runs it.
    pub async fn run(self, context: &Context) -> Outcome {
        match self.verb {
            Verb::Connect(verb) => verb.run(context).await,
            Verb::Status(verb) => verb.run(context).await,
        }
    }
}

impl Connect {
    async fn run(self, context: &Context) -> Outcome {
        let what = format!("the connection to cluster {:?}", self.name);
        let patience = Patience::new(true, Some(self.timeout));
        let done = patience.within(&what, self.connect(context)).await;
        done.map_err(|failure| match failure {
            // Unlike what others wait for, it ends with whoever asked.
            Failure::Error(error) if error.reason == "WaitTimeout" => {
                let hint = "`kuke argocd status` tells whether it is kept; see whether the cluster answers, then repeat";
                error.hint(hint).into()
            }
            other => other,
        })
    }

    async fn connect(self, context: &Context) -> Outcome {
        let read_some = |path: Option<String>| path.map(|p| read(&p)).transpose();
        let password = read_some(self.registry_password_file)?.unwrap_or_default();
        let request = v1::ConnectClusterRequest {
            name: self.name,
            kubeconfig: read(&self.kubeconfig)?,
            context: self.context.unwrap_or_default(),
            namespace: self.namespace,
            registry_url: self.registry_url.unwrap_or_default(),
            registry_username: self.registry_username.unwrap_or_default(),
            registry_password: password.trim_end_matches(['\r', '\n']).to_owned(),
            registry_ca: read_some(self.registry_ca)?.unwrap_or_default(),
            registry_plain_http: self.registry_plain_http,
            dry_run: self.dry_run,
        };
        let answer = context.kukeon().await?.connect_cluster(request).await?;
        if self.output.is_structured() {
            context.out.structured(self.output, &answer)?;
            return Ok(0);
        }
        let v1::ConnectClusterResponse {
            name,
            server,
            kubernetes,
            registry,
            secret,
        } = answer;
        let out = &context.out;
        if self.output == Format::Name {
            out.line(format_args!("cluster/{name}"))?;
            return Ok(0);
        }
        let (connected, fetches) = match self.dry_run {
            true => ("would connect", "would fetch"),
            false => ("connected", "fetches"),
        };
        out.line(format_args!(
            "{connected} cluster {name:?} at {server} (Kubernetes {kubernetes}, Argo CD is there)"
        ))?;
        match secret.as_str() {
            "" => out.line(NO_ADDRESS)?,
            secret => out.line(format_args!(
                "Argo CD {fetches} artifacts from {registry} with Secret {secret}"
            ))?,
        }
        Ok(0)
    }
}

impl Status {
    async fn run(self, context: &Context) -> Outcome {
        let request = v1::ListClustersRequest {
            name: self.name.unwrap_or_default(),
        };
        let answer = context.kukeon().await?.list_clusters(request).await?;
        let ready = answer.clusters.iter().all(|c| c.ready);
        match self.output {
            Format::Json | Format::Yaml => context.out.structured(self.output, &answer)?,
            Format::Name => {
                for cluster in &answer.clusters {
                    context.out.line(format_args!("cluster/{}", cluster.name))?;
                }
            }
            Format::Table | Format::Wide => show(context, &answer.clusters)?,
        }
        Ok(u8::from(!ready))
    }
}

fn show(context: &Context, clusters: &[v1::ClusterStatus]) -> Result<(), Failure> {
    if clusters.is_empty() {
        return context.out.line("no cluster is connected");
    }
    let row = |c: &v1::ClusterStatus| {
        let dash = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
        let state = match &c.error {
            None => "Ready".to_owned(),
            Some(error) => error.reason.clone(),
        };
        vec![
            c.name.clone(),
            state,
            dash(&c.server),
            dash(&c.kubernetes),
            dash(&c.namespace),
            dash(&c.registry),
        ]
    };
    let rows: Vec<_> = clusters.iter().map(row).collect();
    let header = [
        "NAME",
        "STATE",
        "SERVER",
        "KUBERNETES",
        "ARGO CD",
        "REGISTRY",
    ];
    table::print(&context.out, &header, &rows, true)?;
    for cluster in clusters {
        if let Some(error) = &cluster.error {
            context
                .out
                .line(format_args!("{}: {}", cluster.name, error.message))?;
        }
    }
    Ok(())
}

/// Text of a file, or of standard input. An error never holds it.
fn read(path: &str) -> crate::api::Result<String> {
    let failed = |e: std::io::Error| {
        let code = match e.kind() {
            std::io::ErrorKind::NotFound => Code::NotFound,
            std::io::ErrorKind::PermissionDenied => Code::Permission,
            std::io::ErrorKind::InvalidData => Code::Invalid,
            _ => Code::Failed,
        };
        Error::new(
            code,
            "FileUnreadable",
            format!("failed to read {path}: {e}"),
        )
    };
    let mut text = String::new();
    let mut take = |from: &mut dyn Read| from.take(LIMIT + 1).read_to_string(&mut text);
    match path {
        "-" => take(&mut std::io::stdin().lock()),
        path => std::fs::File::open(path).and_then(|mut file| take(&mut file)),
    }
    .map_err(failed)?;
    match text.len() as u64 > LIMIT {
        true => Err(Error::invalid(
            "FileTooLarge",
            format!("{path} is larger than {} MiB", LIMIT >> 20),
        )),
        false => Ok(text),
    }
}
