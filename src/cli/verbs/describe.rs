//! `kuke describe`: an object with its conditions, its history and what it
//! belongs to.

mod releases;
mod runtime;

use clap::Args;
use serde::Serialize;

use crate::api::v1::{self, Object, object::Object as Any};
use crate::api::{Code, Error, Result};
use crate::cli::context::Context;
use crate::cli::failure::{Outcome, usage};
use crate::cli::kind::Kind;
use crate::cli::output::Format;
use crate::cli::output::page::Page;
use crate::cli::scope::PlaceFlags;
use crate::client::Kukeon;

/// Show everything about one object
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  kuke describe recipe web
  kuke describe serving web -n shop
  kuke describe cell web
  kuke describe container main --cell web
  kuke describe prep web-0123456789ab -o json"
)]
pub struct Describe {
    /// Kind
    #[arg(value_name = "KIND")]
    kind: Kind,
    /// Name
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    place: PlaceFlags,
    /// Cell of a container
    #[arg(long, value_name = "NAME", help_heading = "Scope")]
    cell: Option<String>,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// What `-o json|yaml` prints.
#[derive(Serialize)]
struct Described {
    object: Object,
    related: Vec<Object>,
}

impl Describe {
    /// Asks for the object and for what belongs to it, and prints.
    pub async fn run(self, context: &Context) -> Outcome {
        if self.kind == Kind::Image {
            let error = usage("images are described by `kuke get image NAME -o yaml`");
            return Err(error.into());
        }
        if self.kind == Kind::Container && self.cell.is_none() {
            return Err(usage("a container is found by its cell: add --cell").into());
        }
        let mut scope = self.place.scope().of(self.kind);
        scope.cell = self.cell.clone().unwrap_or_default();
        let kukeon = context.kukeon().await?;
        let request = v1::GetRequest {
            kind: self.kind.as_str().to_owned(),
            name: self.name.clone(),
            scope: Some(scope.clone()),
            usage: true,
            ..Default::default()
        };
        let found = kukeon.get(request).await?.objects.into_iter().next();
        let object = found.ok_or_else(|| {
            let (kind, name) = (self.kind.as_str(), &self.name);
            let message = format!("{} {name:?} not found", self.kind.singular());
            Error::new(Code::NotFound, format!("{kind}NotFound"), message)
        })?;
        if self.output == Format::Name {
            let kind = self.kind.singular();
            context.out.line(format_args!("{kind}/{}", self.name))?;
            return Ok(0);
        }
        let related = related(kukeon.as_ref(), self.kind, &self.name, &scope).await?;
        if self.output.is_structured() {
            let described = Described { object, related };
            context.out.structured(self.output, &described)?;
            return Ok(0);
        }
        page(&object, &related).print(&context.out)?;
        Ok(0)
    }
}

/// Kinds whose objects may belong to one of this kind.
fn kinds_around(kind: Kind) -> &'static [Kind] {
    match kind {
        Kind::Realm => &[Kind::Space],
        Kind::Space => &[Kind::Stack],
        Kind::Stack => &[Kind::Cell],
        Kind::Recipe => &[Kind::Preparation, Kind::Serving, Kind::Menu],
        Kind::Preparation => &[Kind::Recipe, Kind::Serving],
        Kind::Serving => &[Kind::Recipe, Kind::Menu],
        Kind::Menu => &[Kind::Recipe, Kind::Serving],
        Kind::Pantry | Kind::RecipeTemplate => &[Kind::Recipe],
        Kind::Cell
        | Kind::Container
        | Kind::Image
        | Kind::Kitchen
        | Kind::Volume
        | Kind::Secret => &[],
    }
}

/// What belongs to an object, or what it belongs to.
async fn related(
    kukeon: &dyn Kukeon,
    kind: Kind,
    name: &str,
    scope: &v1::Scope,
) -> Result<Vec<Object>> {
    let below = match kind {
        Kind::Realm => v1::Scope {
            realm: name.to_owned(),
            ..Default::default()
        },
        Kind::Space => v1::Scope {
            realm: scope.realm.clone(),
            space: name.to_owned(),
            ..Default::default()
        },
        Kind::Stack => v1::Scope {
            stack: name.to_owned(),
            ..scope.clone()
        },
        _ => v1::Scope {
            realm: scope.realm.clone(),
            ..Default::default()
        },
    };
    let mut out = Vec::new();
    for other in kinds_around(kind) {
        let request = v1::GetRequest {
            kind: other.as_str().to_owned(),
            scope: Some(below.clone()),
            ..Default::default()
        };
        let found = kukeon.get(request).await?.objects;
        out.extend(found.into_iter().filter(|o| match &o.object {
            Some(any) if kind.is_release() => releases::belongs(any, kind, name),
            other => other.is_some(),
        }));
    }
    Ok(out)
}

fn page(object: &Object, related: &[Object]) -> Page {
    let mut page = Page::default();
    let others: Vec<&Any> = related.iter().filter_map(|o| o.object.as_ref()).collect();
    match &object.object {
        Some(Any::Realm(o)) => runtime::realm(&mut page, o, &others),
        Some(Any::Space(o)) => runtime::space(&mut page, o, &others),
        Some(Any::Stack(o)) => runtime::stack(&mut page, o, &others),
        Some(Any::Cell(o)) => runtime::cell(&mut page, o),
        Some(Any::Container(o)) => runtime::container(&mut page, o),
        Some(Any::Volume(o)) => runtime::volume(&mut page, o),
        Some(Any::Secret(o)) => runtime::secret(&mut page, o),
        Some(release) => releases::page(&mut page, release, &others),
        None => {}
    }
    page
}

/// `a=b` each, in the order of their keys.
fn pairs(map: &std::collections::BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k}={v}")).collect();
    pairs.join("\n")
}

fn yes(on: bool) -> &'static str {
    if on { "yes" } else { "" }
}

#[cfg(test)]
mod tests;
