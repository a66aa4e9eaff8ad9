//! `kuke get`.

mod watch;

use clap::Args;

use crate::api::v1::{self, Object};
use crate::api::{Code, Error};
use crate::cli::context::Context;
use crate::cli::failure::{Outcome, usage};
use crate::cli::kind::Kind;
use crate::cli::output::{Format, images, objects};
use crate::cli::scope::ScopeFlags;

/// Show objects
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Kinds: realm (r), space (sp), stack (st), cell (ce), container (co), volume (vol),
secret (sec), image (img),
recipe (rc), preparation (prep), serving (sv), menu, pantry, template, kitchen, and their plurals.

Examples:
  kuke get cells
  kuke get cell web -o yaml
  kuke get cells -l app=shop,tier!=db -o wide
  kuke get containers --cell web
  kuke get preps -n shop -o wide
  kuke get recipes --watch"
)]
pub struct Get {
    /// Kind
    #[arg(value_name = "KIND")]
    kind: Kind,
    /// Name; without it all in scope are listed
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    scope: ScopeFlags,
    /// Namespace of a release
    #[arg(
        long,
        short,
        value_name = "NAME",
        help_heading = "Scope",
        conflicts_with = "realm"
    )]
    namespace: Option<String>,
    /// Cell of a container or secret
    #[arg(long, value_name = "NAME", help_heading = "Scope")]
    cell: Option<String>,
    /// Everywhere, whatever scope the environment sets
    #[arg(long, short = 'A', help_heading = "Scope", conflicts_with_all = ["realm", "namespace", "space", "stack", "cell"])]
    all: bool,
    /// Labels: k=v, k!=v, k, !k; a comma means and
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    selector: Option<String>,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    /// Leave the header out of tables
    #[arg(long)]
    no_headers: bool,
    /// Go on, and show what changes, until Ctrl-C
    #[arg(long, short)]
    watch: bool,
}

impl Get {
    /// Asks and prints.
    pub async fn run(mut self, context: &Context) -> Outcome {
        self.scope = self
            .scope
            .or_env("get", self.kind.singular(), |name| std::env::var(name).ok());
        self.scope.realm = self.namespace.take().or(self.scope.realm);
        if self.name.is_some() && self.selector.is_some() {
            return Err(usage("--selector cannot be combined with a resource name").into());
        }
        if self.watch {
            return self.follow(context).await;
        }
        match (self.kind, self.name.clone()) {
            (Kind::Image, name) => self.image(context, name).await,
            (_, Some(name)) => self.single(context, name).await,
            (_, None) => self.list(context).await,
        }
    }

    fn request(&self) -> v1::GetRequest {
        let mut scope = if self.all {
            v1::Scope::default()
        } else {
            self.scope.filter()
        };
        scope.cell = self.cell.clone().unwrap_or_default();
        v1::GetRequest {
            kind: self.kind.as_str().to_owned(),
            name: String::new(),
            scope: Some(scope),
            selector: self.selector.clone().unwrap_or_default(),
            usage: self.output.is_structured() || self.output == Format::Wide,
        }
    }

    async fn list(&self, context: &Context) -> Outcome {
        let answer = context.kukeon().await?.get(self.request()).await?;
        let headers = !self.no_headers;
        objects::list(
            &context.out,
            self.output,
            self.kind,
            &answer.objects,
            headers,
        )?;
        Ok(0)
    }

    /// Looks again when something changed, where that is told, or else again and
    /// again; prints what is another than before.
    async fn follow(&self, context: &Context) -> Outcome {
        if self.kind == Kind::Image {
            return Err(usage("--watch is not offered for images").into());
        }
        let mut request = self.request();
        // How much a cell uses changes all the time: that is no news.
        request.usage = false;
        let kukeon = context.kukeon().await?;
        let mut watched = watch::Watched::new(self.kind, self.output, !self.no_headers);
        let mut changes = match self.kind.is_release() {
            true => watch::Changes::of(kukeon.as_ref(), self.kind).await,
            false => None,
        };
        loop {
            let mut found = kukeon.get(request.clone()).await?.objects;
            if let Some(name) = &self.name {
                found.retain(|object| objects::name(object) == name);
            }
            watched.look(&context.out, &found)?;
            context.out.flush()?;
            if let Some(told) = &mut changes
                && told.next().await
            {
                continue;
            }
            // Nobody tells, or not any more.
            changes = None;
            tokio::time::sleep(watch::PAUSE).await;
        }
    }

    async fn single(&self, context: &Context, name: String) -> Outcome {
        if self.kind == Kind::Container && self.cell.is_none() && !self.all {
            return Err(usage("get container NAME needs --cell (or --all)").into());
        }
        let headers = !self.no_headers;
        if self.all {
            let answer = context.kukeon().await?.get(self.request()).await?;
            let named = |object: &Object| objects::name(object) == name;
            let found: Vec<_> = answer.objects.into_iter().filter(named).collect();
            if found.is_empty() {
                return Err(not_found(self.kind, &name).into());
            }
            objects::list(&context.out, self.output, self.kind, &found, headers)?;
            return Ok(0);
        }
        let mut scope = match self.kind.is_kept() {
            true => self.scope.kept(),
            false => self.scope.single(),
        };
        scope.cell = self.cell.clone().unwrap_or_default();
        let request = v1::GetRequest {
            scope: Some(scope),
            name: name.clone(),
            ..self.request()
        };
        let answer = context.kukeon().await?.get(request).await?;
        let object = answer
            .objects
            .first()
            .ok_or_else(|| not_found(self.kind, &name))?;
        objects::single(&context.out, self.output, self.kind, object, headers)?;
        Ok(0)
    }

    async fn image(&self, context: &Context, name: Option<String>) -> Outcome {
        if self.selector.is_some() {
            return Err(usage("--selector is not offered for images").into());
        }
        let realm = self.scope.realm.clone();
        let kukeon = context.kukeon().await?;
        let Some(name) = name else {
            let realm = realm.unwrap_or_default();
            let answer = kukeon.list_images(v1::ListImagesRequest { realm }).await?;
            images::list(&context.out, self.output, &answer.images, !self.no_headers)?;
            return Ok(0);
        };
        let realm = realm.unwrap_or_else(|| "default".to_owned());
        let request = v1::InspectImageRequest {
            realm,
            name: name.clone(),
        };
        let answer = kukeon.inspect_image(request).await?;
        let image = answer.image.ok_or_else(|| not_found(Kind::Image, &name))?;
        if self.output.is_structured() {
            context.out.structured(self.output, &image)?;
        } else {
            images::list(&context.out, self.output, &[image], !self.no_headers)?;
        }
        Ok(0)
    }
}

fn not_found(kind: Kind, name: &str) -> Error {
    let reason = format!("{}NotFound", kind.as_str());
    Error::new(
        Code::NotFound,
        reason,
        format!("{} {name:?} not found", kind.singular()),
    )
    .hint(format!(
        "`kuke get {}s --all` lists what there is",
        kind.singular()
    ))
}
