//! From a Recipe's inputs to canonical bytes, their hash and a packed artifact
//! (delivery spec, sections 3 to 5). Nothing here knows a store, a controller or
//! a clock.

mod actions;
mod bundle;
mod clock;
mod hash;
mod helm;
pub mod identity;
mod kustomize;
pub mod offline;
mod order;
mod program;
mod validate;

use crate::convert;
use crate::delivery::artifact::{self, Packed, Parts};
use crate::delivery::canonical::{self, Document, Octal, Origin};
use crate::delivery::failure::{Failure, Reason, Result};
use crate::delivery::patch;
use crate::delivery::source::{Content, clean};
use crate::model::delivery::{
    Patch, Render, RenderMethod, RenderType, Renderer, Resource, SourceKind, Target, TargetType,
};
use crate::model::{AnyObject, Name, Value};
use crate::oci::Digest;

pub use helm::KUBE_VERSION;
pub use program::Program;
pub use validate::Scope;

/// Everything that a render depends on, besides the files of the source. All of
/// it is effective: templates merged, defaults of the target chosen.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// Recipe; only for defaults.
    pub recipe: &'a Name,
    /// Its namespace; only for defaults.
    pub namespace: &'a Name,
    /// Kind of the source.
    pub source_kind: SourceKind,
    /// Content digest the source resolved to, `sha256:…`.
    pub source_digest: &'a str,
    /// Directory inside the source.
    pub sub_path: &'a str,
    /// How it is rendered.
    pub render: &'a Render,
    /// Changes, in order.
    pub patches: &'a [Patch],
    /// Further changes, in order.
    pub edits: &'a [Patch],
    /// Where it goes.
    pub target: &'a Target,
    /// Whether a manifest without documents is allowed.
    pub allow_empty: bool,
}

/// What a render will do: its hash is known before the source is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    name: &'static str,
    contract: u32,
    program: Option<Program>,
    method: Method,
    scope: Scope,
    config_hash: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Method {
    Bundle,
    Helm(helm::Options),
    Kustomize(String),
}

/// A rendered manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The canonical manifest.
    pub manifest: String,
    /// Hash of all inputs, `sha256:…`.
    pub config_hash: String,
    /// What rendered it.
    pub renderer: Renderer,
    /// The documents inside, each with the hash of its canonical text.
    pub resources: Vec<Resource>,
    /// Files that documents came from, in order, with how many each.
    pub files: Vec<(String, usize)>,
    /// The artifact.
    pub artifact: Packed,
}

impl Plan {
    /// Plans a render: finds the renderer (`RendererUnavailable`), fills in the
    /// defaults, and computes the configuration hash.
    pub fn of(inputs: &Inputs<'_>) -> Result<Self> {
        clean(inputs.sub_path)?;
        let (name, contract, program, method) = match &inputs.render.method {
            RenderMethod::Manifest => ("manifest", bundle::CONTRACT, None, Method::Bundle),
            RenderMethod::Helm(render) => {
                let options = helm::Options::of(render, inputs.recipe, inputs.namespace)?;
                let program = Program::find(&["helm"], "a Helm chart")?;
                ("helm", helm::CONTRACT, Some(program), Method::Helm(options))
            }
            RenderMethod::Kustomize(path) => {
                let path = clean(path)?;
                let program = Program::find(&["kustomize", "kubectl"], "a Kustomize directory")?;
                (
                    "kustomize",
                    kustomize::CONTRACT,
                    Some(program),
                    Method::Kustomize(path),
                )
            }
        };
        let mut plan = Self {
            name,
            contract,
            program,
            method,
            scope: scope(inputs)?,
            config_hash: String::new(),
        };
        plan.config_hash = hash::of(inputs, &plan);
        Ok(plan)
    }

    /// Hash of all inputs, `sha256:…`.
    pub fn config_hash(&self) -> &str {
        &self.config_hash
    }

    /// What will render.
    pub fn renderer(&self) -> Renderer {
        Renderer {
            name: self.name.to_owned(),
            version: self.contract.to_string(),
            digest: self.executable().to_owned(),
            render_type: match self.method {
                Method::Bundle => RenderType::Manifest,
                Method::Helm(_) => RenderType::Helm,
                Method::Kustomize(_) => RenderType::Kustomize,
            },
        }
    }

    /// Digest of the executable; empty for what is built in.
    fn executable(&self) -> &str {
        self.program.as_ref().map_or("", |program| &program.digest)
    }

    /// The effective options, for the hash.
    fn options(&self) -> Value {
        match &self.method {
            Method::Bundle => Value::map(),
            Method::Helm(options) => options.hashed(),
            Method::Kustomize(path) => [("path", path.as_str())].into_iter().collect(),
        }
    }
}

/// The scope of documents that name none.
fn scope(inputs: &Inputs<'_>) -> Result<Scope> {
    let kuke = &inputs.target.kuke;
    let default = || {
        "default"
            .parse::<Name>()
            .map_err(|e| Failure::invalid(e.to_string()))
    };
    Ok(Scope {
        realm: kuke
            .realm
            .clone()
            .unwrap_or_else(|| inputs.namespace.clone()),
        space: kuke.space.clone().map_or_else(default, Ok)?,
        stack: kuke.stack.clone().map_or_else(default, Ok)?,
    })
}

/// Renders: source, patches, edits, canonical form, validation, artifact. The
/// same plan and content give the same bytes, on every host, at any time.
pub async fn run(inputs: &Inputs<'_>, plan: &Plan, content: &Content) -> Result<Rendered> {
    if content.digest != inputs.source_digest {
        let message = format!(
            "the source has the digest {}, planned was {}",
            content.digest, inputs.source_digest
        );
        return Err(Failure::new(Reason::SourceDigestMismatch, message));
    }
    let local = inputs.target.kind == TargetType::Kuke;
    let ours = local || inputs.render.kubernetes;
    let tree = content.tree.below(inputs.sub_path)?;
    let mut documents = match (&plan.method, &plan.program) {
        (Method::Helm(options), Some(program)) => helm::render(&tree, options, program).await?,
        (Method::Kustomize(path), Some(program)) => kustomize::render(&tree, path, program).await?,
        // Text fields of our kinds take numbers as they are written.
        _ => bundle::read(&tree, if ours { Octal::Refuse } else { Octal::Read })?,
    };
    if ours {
        validate::fill(&mut documents, &plan.scope);
    }
    patch::apply(&mut documents, inputs.patches, "patches")?;
    patch::apply(&mut documents, inputs.edits, "edits")?;
    if ours {
        // Patches may have brought documents, or taken fields away.
        validate::fill(&mut documents, &plan.scope);
        let objects = validate::local(&documents, &plan.scope)?;
        if !local {
            // After the patches: those for this machine hold for both targets.
            documents = kubernetes(&objects)?;
        }
    }
    let mut resources = validate::identities(&documents, inputs.allow_empty)?;
    let manifest = canonical::manifest(&documents);
    for (resource, document) in resources.iter_mut().zip(&documents) {
        let text = canonical::to_yaml(&document.value);
        resource.hash = Digest::sha256(text.as_bytes()).to_string();
    }
    let parts = Parts {
        config_hash: plan.config_hash.clone(),
        renderer: plan.name.to_owned(),
        contract: plan.contract,
        source_digest: content.digest.clone(),
        target: inputs.target.kind,
        base: content.annotations.clone(),
    };
    Ok(Rendered {
        artifact: artifact::pack(&manifest, &parts),
        manifest,
        config_hash: plan.config_hash.clone(),
        renderer: plan.renderer(),
        resources,
        files: files(&documents),
    })
}

/// Our objects as objects of Kubernetes.
fn kubernetes(objects: &[AnyObject]) -> Result<Vec<Document>> {
    let converted = convert::to_kubernetes(objects, crate::scheme::Secrets::Hide)
        .map_err(|error| Failure::invalid(error.to_string()))?;
    let document = |(index, value): (usize, serde_json::Value)| {
        let value = Value::from_json(&value.to_string());
        let value = value.map_err(|error| Failure::invalid(error.to_string()))?;
        let origin = Origin {
            file: "converted".to_owned(),
            index: index + 1,
            line: 1,
        };
        Ok(Document { value, origin })
    };
    converted.into_iter().enumerate().map(document).collect()
}

/// Files in the order of the documents, with how many each gave.
fn files(documents: &[Document]) -> Vec<(String, usize)> {
    let mut out: Vec<(String, usize)> = Vec::new();
    for document in documents {
        match out.last_mut() {
            Some((file, count)) if *file == document.origin.file => *count += 1,
            _ => out.push((document.origin.file.clone(), 1)),
        }
    }
    out
}

/// Compares two runs; `NondeterministicRender` lists where they differ.
fn same(first: &[Document], second: &[Document]) -> Result<()> {
    let mut paths = Vec::new();
    for (one, other) in first.iter().zip(second) {
        let what = format!("{} {:?}", one.field("kind"), one.metadata("name"));
        differences(&one.value, &other.value, &what, &mut paths);
    }
    if first.len() != second.len() {
        paths.push(format!("{} documents, then {}", first.len(), second.len()));
    }
    // The order of keys decides bytes as well.
    if paths.is_empty() && canonical::manifest(first) != canonical::manifest(second) {
        paths.push("the order of keys".to_owned());
    }
    if paths.is_empty() {
        return Ok(());
    }
    let more = paths.len().saturating_sub(10);
    paths.truncate(10);
    let mut list = paths.join(", ");
    if more > 0 {
        list.push_str(&format!(" and {more} more"));
    }
    let message = format!("two runs with the same inputs differ in {list}");
    Err(Failure::new(Reason::NondeterministicRender, message).hint(
        "give these values in render.helm.values, so that nothing is random or depends on the time",
    ))
}

fn differences(one: &Value, other: &Value, at: &str, out: &mut Vec<String>) {
    match (one, other) {
        (Value::Map(a), Value::Map(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let inner = format!("{at}.{key}");
                let null = Value::Null;
                let (a, b) = (a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null));
                differences(a, b, &inner, out);
            }
        }
        (Value::List(a), Value::List(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                differences(a, b, &format!("{at}[{i}]"), out);
            }
        }
        (a, b) if a == b => {}
        _ => out.push(at.to_owned()),
    }
}

/// A directory of our own, removed when dropped.
fn scratch() -> Result<tempfile::TempDir> {
    let made = tempfile::Builder::new().prefix("kukeon-render-").tempdir();
    made.map_err(|e| Failure::new(Reason::RenderFailed, format!("a temporary directory: {e}")))
}

/// Work that blocks, off the threads that serve others.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| {
        Err(Failure::new(
            Reason::RenderFailed,
            format!("the renderer broke off: {e}"),
        ))
    })
}

#[cfg(test)]
mod tests;
