//! Rendering a Recipe as it stands in a file: no daemon, no store, no logins.

use std::path::Path;

use crate::delivery::failure::{Failure, Reason, Result};
use crate::delivery::source::oci::Repository;
use crate::delivery::source::{Content, local};
use crate::model::delivery::{Recipe, SourceFrom, SourceKind};
use crate::registry::client::Access;

use super::{Inputs, Plan, Rendered, run};

/// Renders a Recipe.
///
/// Refused: what only the daemon knows (templates, Pantries, the embedded
/// registry).
pub async fn render(recipe: &Recipe) -> Result<Rendered> {
    let spec = &recipe.spec;
    let daemon = |what: &str| {
        Failure::new(
            Reason::SourceNotFound,
            format!("{what} can only be found by the daemon"),
        )
        .hint("apply the Recipe, then look at its Preparation with `kuke manifest`")
    };
    let source = match (&spec.source, &spec.template) {
        (Some(source), None) => source,
        _ => return Err(daemon("a RecipeTemplate")),
    };
    let (kind, content) = match &source.from {
        SourceFrom::Path(path) => (SourceKind::Path, read(Path::new(path))?),
        SourceFrom::Oci(at) if at.is_local() => return Err(daemon("the embedded registry")),
        SourceFrom::Pantry(_) => return Err(daemon("a Pantry")),
        SourceFrom::Oci(at) => {
            let repository = Repository::new(&at.host, &at.repository, Access::default());
            let version = source.version.as_deref().unwrap_or("latest");
            let resolved = repository
                .resolve(version, source.digest.as_deref())
                .await?;
            (SourceKind::Oci, repository.fetch(&resolved).await?)
        }
    };
    if let Some(pin) = source
        .digest
        .as_deref()
        .filter(|pin| *pin != content.digest)
    {
        let message = format!(
            "the source has the digest {}, expected {pin}",
            content.digest
        );
        return Err(Failure::new(Reason::SourceDigestMismatch, message));
    }
    let target = spec.target.clone().unwrap_or_default();
    let inputs = Inputs {
        recipe: &recipe.meta.name,
        namespace: &recipe.meta.namespace,
        source_kind: kind,
        source_digest: &content.digest,
        sub_path: &source.sub_path,
        render: &spec.render,
        patches: &spec.patches,
        edits: &spec.edits,
        target: &target,
        allow_empty: spec.allow_empty,
    };
    run(&inputs, &Plan::of(&inputs)?, &content).await
}

/// Reads files of whoever calls: they may read what they name, but links must
/// not lead out of it.
fn read(path: &Path) -> Result<Content> {
    let root = match path.is_dir() {
        true => path.to_path_buf(),
        false => path.parent().unwrap_or(Path::new("/")).to_path_buf(),
    };
    Ok(Content::of_tree(local::read(&[root], path)?))
}
