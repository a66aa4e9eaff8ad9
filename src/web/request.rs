//! Asking the capability in somebody's name.

use futures::StreamExt;
use http::HeaderMap;
use http::header::IF_MATCH;

use super::answer::Refusal;
use super::app::App;
use super::caller::Caller;
use super::object;
use crate::api::v1::{self, ResourceResult, event};
use crate::api::{self, Release};
use crate::client::{EventStream, actor};

/// Namespace of objects that name none.
pub const DEFAULT: &str = "default";

/// One object.
pub async fn one(
    app: &App,
    kind: &str,
    namespace: &str,
    name: &str,
) -> Result<v1::Object, Refusal> {
    let mut found = list(app, kind, namespace, name).await?;
    found.pop().ok_or_else(|| {
        let error = format!("{kind} {namespace}/{name} not found");
        api::Error::new(api::Code::NotFound, format!("{kind}NotFound"), error).into()
    })
}

/// Objects of a kind; an empty namespace or name means all.
pub async fn list(
    app: &App,
    kind: &str,
    namespace: &str,
    name: &str,
) -> Result<Vec<v1::Object>, Refusal> {
    let request = v1::GetRequest {
        kind: kind.to_owned(),
        name: name.to_owned(),
        scope: scope(namespace),
        ..Default::default()
    };
    Ok(app.kukeon().get(request).await?.objects)
}

/// A namespace as requests carry it.
pub fn scope(namespace: &str) -> Option<v1::Scope> {
    Some(v1::Scope {
        realm: namespace.to_owned(),
        ..Default::default()
    })
}

/// Makes a change in somebody's name, and gives what came of it. The first
/// result is about what was asked for: its failure is that of the request.
pub async fn change(
    caller: &Caller,
    what: &str,
    call: impl Future<Output = api::Result<EventStream>>,
) -> Result<Vec<ResourceResult>, Refusal> {
    tracing::info!(call = what, actor = caller.actor(), "asked");
    let mut events = actor::scope(caller.actor(), call).await?;
    let mut results = Vec::new();
    while let Some(told) = events.next().await {
        if let Some(event::Event::Result(result)) = told?.event {
            results.push(result);
        }
    }
    if let Some(error) = results.first().and_then(|r| r.error.clone()) {
        return Err(api::Error::from(error).into());
    }
    Ok(results)
}

/// Applies one document.
pub async fn apply(
    app: &App,
    caller: &Caller,
    document: &Document,
    request: v1::ApplyRequest,
) -> Result<Vec<ResourceResult>, Refusal> {
    let request = v1::ApplyRequest {
        files: vec![v1::ManifestFile {
            source: "request".to_owned(),
            text: document.text.clone(),
        }],
        ..request
    };
    let Document {
        kind,
        namespace,
        name,
        ..
    } = document;
    let what = format!("apply {kind} {namespace}/{name}");
    change(caller, &what, app.kukeon().apply(request)).await
}

/// The version that `If-Match` names; none when it is not there or `*`.
pub fn if_match(headers: &HeaderMap) -> Result<Option<i64>, Refusal> {
    let Some(value) = headers.get(IF_MATCH) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let number = text.trim_matches('"').parse();
    number
        .map(Some)
        .map_err(|_| Refusal::bad("BadIfMatch", "If-Match takes one ETag as answers carry it"))
}

/// Refuses when an object is not in the version that `If-Match` names. For
/// actions; what writes an object has this checked where it is written.
pub fn unchanged(headers: &HeaderMap, found: &v1::Object) -> Result<(), Refusal> {
    let (expected, now) = (if_match(headers)?, object::meta(found).resource_version);
    match expected {
        Some(expected) if expected != now => {
            let message = format!("the object is in version {now}, expected was {expected}");
            Err(api::Error::new(api::Code::Conflict, "VersionChanged", message).into())
        }
        _ => Ok(()),
    }
}

/// One document of a request, YAML or JSON.
#[derive(Debug)]
pub struct Document {
    /// Kind, as it is stored.
    pub kind: &'static str,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// As it came.
    pub text: Vec<u8>,
    /// As it was read.
    pub object: Box<Release>,
}

impl Document {
    /// Reads the one document of a body, of a kind.
    pub fn read(text: &[u8], kind: &str) -> Result<Self, Refusal> {
        let documents = api::decode("request", text)?;
        let mut documents = documents.into_iter();
        let (Some(document), None) = (documents.next(), documents.next()) else {
            return Err(Refusal::bad("NotOneDocument", "one document is needed"));
        };
        let api::Object::Release(object) = document.object else {
            return Err(Refusal::bad("WrongKind", format!("a {kind} is needed")));
        };
        let (found, meta) = match &*object {
            Release::Kitchen(o) => ("Kitchen", &o.metadata),
            Release::Pantry(o) => ("Pantry", &o.metadata),
            Release::RecipeTemplate(o) => ("RecipeTemplate", &o.metadata),
            Release::Recipe(o) => ("Recipe", &o.metadata),
            Release::Preparation(o) => ("Preparation", &o.metadata),
            Release::Serving(o) => ("Serving", &o.metadata),
            Release::Menu(o) => ("Menu", &o.metadata),
        };
        if found != kind {
            let message = format!("a {kind} is needed, this is a {found}");
            return Err(Refusal::bad("WrongKind", message));
        }
        let meta = meta.clone().unwrap_or_default();
        let namespace = match meta.namespace.as_str() {
            "" => DEFAULT.to_owned(),
            text => text.to_owned(),
        };
        Ok(Self {
            kind: found,
            namespace,
            name: meta.name,
            text: text.to_owned(),
            object,
        })
    }

    /// Refuses a document that is about another object than the address.
    pub fn is_about(&self, namespace: &str, name: &str) -> Result<(), Refusal> {
        if self.namespace == namespace && self.name == name {
            return Ok(());
        }
        let message = format!(
            "the document is about {}/{}, the address about {namespace}/{name}",
            self.namespace, self.name
        );
        Err(Refusal::bad("WrongObject", message))
    }
}
