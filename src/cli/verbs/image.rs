//! `kuke image`.

mod load;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::api::{Error, v1};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::follow::{follow, single_failure};
use crate::cli::output::{Format, images};

/// Work with images
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Image {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List images
    #[command(visible_alias = "ls")]
    List(List),
    /// Fetch an image from its registry
    #[command(
        after_help = "Examples:\n  kuke image pull nginx\n  kuke image pull --realm shop 127.0.0.1:5000/team/box:1"
    )]
    Pull(Pull),
    /// Send an image to a registry
    #[command(
        after_help = "Examples:\n  kuke image push 127.0.0.1:5050/team/app:v1\n  kuke image push app 127.0.0.1:5050/team/app:v1"
    )]
    Push(Push),
    /// Import an archive: OCI layout or docker save; plain, gzip or zstd
    #[command(
        after_help = "Examples:\n  kuke image load app.tar\n  docker save app | kuke image load -"
    )]
    Load(load::Load),
    /// List the tags a registry offers
    #[command(after_help = "Examples:\n  kuke image tags 127.0.0.1:5000/team/box")]
    Tags(Tags),
    /// Show everything known of an image
    Inspect(Inspect),
    /// Remove images
    #[command(visible_alias = "delete", alias = "remove")]
    Rm(Remove),
    /// Remove images that nothing uses, and stale leases
    Prune(Prune),
}

/// The realm an image verb works in.
#[derive(Debug, Clone, Args)]
struct Realm {
    /// Realm
    #[arg(long, value_name = "NAME", default_value = "default")]
    realm: String,
}

#[derive(Debug, Args)]
struct List {
    /// Realm [default: all]
    #[arg(long, value_name = "NAME")]
    realm: Option<String>,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    /// Leave the header out of tables
    #[arg(long)]
    no_headers: bool,
}

#[derive(Debug, Args)]
struct Pull {
    /// Reference; `nginx` means docker.io/library/nginx:latest
    #[arg(value_name = "REF")]
    reference: String,
    #[command(flatten)]
    realm: Realm,
    /// os/arch[/variant] [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
}

#[derive(Debug, Args)]
struct Push {
    /// Reference of the image
    #[arg(value_name = "REF")]
    reference: String,
    /// Reference to send it to [default: the same]
    #[arg(value_name = "TARGET")]
    target: Option<String>,
    #[command(flatten)]
    realm: Realm,
}

#[derive(Debug, Args)]
struct Inspect {
    /// Reference
    #[arg(value_name = "REF")]
    reference: String,
    #[command(flatten)]
    realm: Realm,
    /// Output format
    #[arg(long, short, value_enum, default_value = "json")]
    output: Format,
}

#[derive(Debug, Args)]
struct Tags {
    /// Repository; a tag or digest in it does not matter
    #[arg(value_name = "REF")]
    reference: String,
    #[command(flatten)]
    realm: Realm,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Args)]
struct Remove {
    /// References
    #[arg(value_name = "REF", required = true)]
    references: Vec<String>,
    #[command(flatten)]
    realm: Realm,
}

#[derive(Debug, Args)]
struct Prune {
    #[command(flatten)]
    realm: Realm,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

impl Image {
    /// The name of the inner verb, and whether it changes something.
    pub fn shape(&self) -> (&'static str, bool) {
        match &self.verb {
            Verb::List(_) => ("image list", false),
            Verb::Pull(_) => ("image pull", true),
            Verb::Push(_) => ("image push", true),
            Verb::Load(_) => ("image load", true),
            Verb::Tags(_) => ("image tags", false),
            Verb::Inspect(_) => ("image inspect", false),
            Verb::Rm(_) => ("image rm", true),
            Verb::Prune(_) => ("image prune", true),
        }
    }

    /// Runs the inner verb.
    pub async fn run(self, context: &Context) -> Outcome {
        match self.verb {
            Verb::List(verb) => verb.run(context).await,
            Verb::Pull(verb) => verb.run(context).await,
            Verb::Push(verb) => verb.run(context).await,
            Verb::Load(verb) => verb.run(context).await,
            Verb::Tags(verb) => verb.run(context).await,
            Verb::Inspect(verb) => verb.run(context).await,
            Verb::Rm(verb) => verb.run(context).await,
            Verb::Prune(verb) => verb.run(context).await,
        }
    }
}

impl List {
    async fn run(self, context: &Context) -> Outcome {
        let realm = self.realm.unwrap_or_default();
        let request = v1::ListImagesRequest { realm };
        let answer = context.kukeon().await?.list_images(request).await?;
        images::list(&context.out, self.output, &answer.images, !self.no_headers)?;
        Ok(0)
    }
}

impl Pull {
    async fn run(self, context: &Context) -> Outcome {
        let request = v1::PullImageRequest {
            realm: self.realm.realm.clone(),
            name: self.reference,
            platform: self.platform.unwrap_or_default(),
        };
        let events = context.kukeon().await?.pull_image(request).await?;
        let realm = &self.realm.realm;
        let results = follow(context, events, |result| match &result.error {
            Some(_) => Ok(()),
            None => context.out.line(format_args!(
                "pulled image {:?} into realm {realm:?}",
                result.name
            )),
        })
        .await?;
        ended(&results)
    }
}

impl Push {
    async fn run(self, context: &Context) -> Outcome {
        let request = v1::PushImageRequest {
            realm: self.realm.realm,
            name: self.reference.clone(),
            target: self.target.unwrap_or_default(),
        };
        let events = context.kukeon().await?.push_image(request).await?;
        let reference = &self.reference;
        let results = follow(context, events, |result| match &result.error {
            Some(_) => Ok(()),
            None => context.out.line(format_args!(
                "pushed image {reference:?} to {:?}",
                result.name
            )),
        })
        .await?;
        ended(&results)
    }
}

/// The exit code of one call on images.
fn ended(results: &[v1::ResourceResult]) -> Outcome {
    match single_failure(results) {
        Some(error) => Err(error.into()),
        None => Ok(0),
    }
}

/// An image with its documents as values, not as text in text.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    image: Option<v1::Image>,
    manifest: serde_json::Value,
    config: serde_json::Value,
    #[serde(skip_serializing_if = "String::is_empty")]
    chain_id: String,
}

impl Inspect {
    async fn run(self, context: &Context) -> Outcome {
        let request = v1::InspectImageRequest {
            realm: self.realm.realm,
            name: self.reference,
        };
        let answer = context.kukeon().await?.inspect_image(request).await?;
        if !self.output.is_structured() {
            let image = answer.image.unwrap_or_default();
            images::list(&context.out, self.output, &[image], true)?;
            return Ok(0);
        }
        let detail = Detail {
            manifest: document("manifest", &answer.manifest)?,
            config: document("configuration", &answer.config)?,
            image: answer.image,
            chain_id: answer.chain_id,
        };
        context.out.structured(self.output, &detail)?;
        Ok(0)
    }
}

fn document(what: &str, text: &str) -> Result<serde_json::Value, Failure> {
    if text.is_empty() {
        return Ok(serde_json::Value::Null);
    }
    serde_json::from_str(text)
        .map_err(|e| Error::failed("BadImage", format!("the image's {what}: {e}")).into())
}

impl Tags {
    async fn run(self, context: &Context) -> Outcome {
        let request = v1::ListTagsRequest {
            realm: self.realm.realm,
            name: self.reference,
        };
        let answer = context.kukeon().await?.list_tags(request).await?;
        if self.output.is_structured() {
            context.out.structured(self.output, &answer)?;
            return Ok(0);
        }
        for tag in &answer.tags {
            context.out.line(tag)?;
        }
        Ok(0)
    }
}

impl Remove {
    async fn run(self, context: &Context) -> Outcome {
        let kukeon = context.kukeon().await?;
        let realm = self.realm.realm;
        for name in self.references {
            let request = v1::DeleteImageRequest {
                realm: realm.clone(),
                name,
            };
            let answer = kukeon.delete_image(request).await?;
            let name = answer.name;
            context
                .done
                .borrow_mut()
                .push(format!("image {name} deleted"));
            context
                .out
                .line(format_args!("deleted image {name:?} from realm {realm:?}"))?;
        }
        Ok(0)
    }
}

impl Prune {
    async fn run(self, context: &Context) -> Outcome {
        let realm = self.realm.realm;
        let request = v1::PruneImagesRequest {
            realm: realm.clone(),
        };
        let answer = context.kukeon().await?.prune_images(request).await?;
        match self.output {
            Format::Json | Format::Yaml => context.out.structured(self.output, &answer)?,
            Format::Name => {
                for image in &answer.images {
                    context.out.line(format_args!("image/{image}"))?;
                }
            }
            Format::Table | Format::Wide => {
                context.out.line(format_args!(
                    "pruned realm {realm:?}: removed {} image(s), released {} lease(s), retained {}",
                    answer.images.len(),
                    answer.leases_released,
                    answer.leases_retained
                ))?;
                for image in &answer.images {
                    context.out.line(format_args!("  - {image}"))?;
                }
            }
        }
        Ok(0)
    }
}
