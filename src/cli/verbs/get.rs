//! `kuke get`.

mod watch;

use std::collections::BTreeSet;

use clap::Args;

use crate::api::v1::{self, Object};
use crate::api::{Code, Error};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome, tell, usage};
use crate::cli::kind::Kind;
use crate::cli::output::{Format, images, objects};
use crate::cli::scope::PlaceFlags;
use crate::cli::verbs::lifecycle::distinct;

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
  kuke get cells web api
  kuke get cells -l app=shop,tier!=db -o wide
  kuke get containers --cell web
  kuke get preps -n shop -o wide
  kuke get recipes --watch"
)]
pub struct Get {
    /// Kind
    #[arg(value_name = "KIND")]
    kind: Kind,
    /// Names; without one all in scope are listed
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    place: PlaceFlags,
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
        self.place.flags = self
            .place
            .flags
            .or_env("get", self.kind.singular(), |name| std::env::var(name).ok());
        if !self.names.is_empty() && self.selector.is_some() {
            return Err(usage("--selector cannot be combined with a resource name").into());
        }
        if self.watch {
            return self.follow(context).await;
        }
        match (self.kind, &self.names[..]) {
            (Kind::Image, names) => self.images(context, names).await,
            (_, []) => self.list(context).await,
            (_, [name]) => {
                let object = self.find(context, name).await?;
                let headers = !self.no_headers;
                match self.all {
                    true => objects::list(&context.out, self.output, self.kind, &object, headers)?,
                    false => {
                        let object = object.first().ok_or_else(|| not_found(self.kind, name))?;
                        objects::single(&context.out, self.output, self.kind, object, headers)?;
                    }
                }
                Ok(0)
            }
            (_, names) => self.several(context, names).await,
        }
    }

    fn request(&self) -> v1::GetRequest {
        let mut scope = if self.all {
            v1::Scope::default()
        } else {
            self.place.scope().filter()
        };
        scope.cell = self.cell.clone().unwrap_or_default();
        v1::GetRequest {
            kind: self.kind.as_str().to_owned(),
            name: String::new(),
            scope: Some(scope),
            selector: self.selector.clone().unwrap_or_default(),
            usage: self.output.is_structured() || self.output == Format::Wide,
            brief: matches!(self.output, Format::Table | Format::Name),
        }
    }

    fn watch_request(&self) -> v1::GetRequest {
        v1::GetRequest {
            // How much a cell uses changes all the time: that is no news.
            usage: false,
            // What a table does not show is news.
            brief: false,
            ..self.request()
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
        let mut told = BTreeSet::new();
        tell_damaged(context, &answer.damaged, &mut told)?;
        Ok(u8::from(!told.is_empty()))
    }

    /// Looks again when something changed, where that is told, or else again and
    /// again; prints what is another than before.
    async fn follow(&self, context: &Context) -> Outcome {
        if self.kind == Kind::Image {
            return Err(usage("--watch is not offered for images").into());
        }
        let request = self.watch_request();
        let kukeon = context.kukeon().await?;
        let mut watched = watch::Watched::new(self.kind, self.output, !self.no_headers);
        let mut damaged = BTreeSet::new();
        let mut changes = match self.kind.is_release() {
            true => watch::Changes::of(kukeon.as_ref(), self.kind).await,
            false => None,
        };
        loop {
            let answer = kukeon.get(request.clone()).await?;
            let mut found = answer.objects;
            if !self.names.is_empty() {
                found.retain(|object| self.names.iter().any(|n| objects::name(object) == n));
            }
            watched.look(&context.out, &found)?;
            tell_damaged(context, &answer.damaged, &mut damaged)?;
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

    /// Those of several names that are there; the others are told, each by itself.
    async fn several(&self, context: &Context, names: &[String]) -> Outcome {
        let mut found = Vec::new();
        let mut missing = Vec::new();
        for name in distinct(names) {
            match self.find(context, name).await {
                Ok(objects) => found.extend(objects),
                Err(Failure::Error(error)) => missing.push(error),
                Err(other) => return Err(other),
            }
        }
        let headers = !self.no_headers;
        objects::list(&context.out, self.output, self.kind, &found, headers)?;
        tell_missing(context, &missing)
    }

    /// The object of a name; with `--all` those of every scope.
    async fn find(&self, context: &Context, name: &str) -> Result<Vec<Object>, Failure> {
        if self.kind == Kind::Container && self.cell.is_none() && !self.all {
            return Err(usage("get container NAME needs --cell (or --all)").into());
        }
        if self.all {
            let answer = context.kukeon().await?.get(self.request()).await?;
            let named = |object: &Object| objects::name(object) == name;
            let found: Vec<_> = answer.objects.into_iter().filter(named).collect();
            if found.is_empty() {
                let damaged = answer.damaged.into_iter().find(|o| o.name == name);
                return Err(match damaged.and_then(|o| o.error) {
                    Some(error) => Error::from(error).into(),
                    None => not_found(self.kind, name).into(),
                });
            }
            return Ok(found);
        }
        let mut scope = self.place.scope().of(self.kind);
        scope.cell = self.cell.clone().unwrap_or_default();
        let request = v1::GetRequest {
            scope: Some(scope),
            name: name.to_owned(),
            ..self.request()
        };
        let found = context.kukeon().await?.get(request).await?.objects;
        if found.is_empty() {
            return Err(not_found(self.kind, name).into());
        }
        Ok(found)
    }

    async fn images(&self, context: &Context, names: &[String]) -> Outcome {
        if self.selector.is_some() {
            return Err(usage("--selector is not offered for images").into());
        }
        let realm = self.place.scope().realm;
        let kukeon = context.kukeon().await?;
        if names.is_empty() {
            let realm = realm.unwrap_or_default();
            let answer = kukeon.list_images(v1::ListImagesRequest { realm }).await?;
            images::list(&context.out, self.output, &answer.images, !self.no_headers)?;
            return Ok(0);
        }
        let realm = realm.unwrap_or_else(|| "default".to_owned());
        let mut found = Vec::new();
        let mut missing = Vec::new();
        for name in distinct(names) {
            let request = v1::InspectImageRequest {
                realm: realm.clone(),
                name: name.clone(),
            };
            match kukeon.inspect_image(request).await {
                Ok(answer) => match answer.image {
                    Some(image) => found.push(image),
                    None => missing.push(not_found(Kind::Image, name)),
                },
                Err(error) => missing.push(error),
            }
        }
        match (&found[..], names.len()) {
            ([image], 1) if self.output.is_structured() => {
                context.out.structured(self.output, image)?;
            }
            ([], 1) => {}
            _ => images::list(&context.out, self.output, &found, !self.no_headers)?,
        }
        tell_missing(context, &missing)
    }
}

/// Tells what was not found; the class that all have decides the exit code.
fn tell_missing(context: &Context, missing: &[Error]) -> Outcome {
    let Some(first) = missing.first() else {
        return Ok(0);
    };
    context.out.flush()?;
    missing.iter().for_each(tell);
    let code = match missing.iter().all(|error| error.code == first.code) {
        true => first.code,
        false => Code::Failed,
    };
    Ok(code.exit_code())
}

/// Tells, once each, the objects of a list that cannot be shown.
fn tell_damaged(
    context: &Context,
    damaged: &[v1::ResourceResult],
    told: &mut BTreeSet<String>,
) -> Result<(), Failure> {
    context.out.flush()?;
    for error in damaged.iter().filter_map(|o| o.error.clone()) {
        if told.insert(error.message.clone()) {
            tell(&error.into());
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        get: Get,
    }

    #[test]
    fn only_a_table_and_names_are_brief() {
        for (output, brief, usage) in [
            ("table", true, false),
            ("name", true, false),
            ("wide", false, true),
            ("json", false, true),
            ("yaml", false, true),
        ] {
            let line = Line::try_parse_from(["get", "cells", "-o", output]).expect("line");
            let request = line.get.request();
            assert_eq!((request.brief, request.usage), (brief, usage), "{output}");
            let watched = line.get.watch_request();
            assert_eq!((watched.brief, watched.usage), (false, false), "{output}");
        }
    }
}
