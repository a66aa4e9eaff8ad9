//! Where the cell of a run comes from, and bringing it up.

use std::sync::Arc;

use serde_json::json;

use super::{Run, Up, path_of};
use crate::api::v1::{self, ResourceResult, Scope, object};
use crate::api::v1beta1::Cell;
use crate::api::{Code, Error};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, usage};
use crate::cli::follow::{follow, single_failure};
use crate::cli::manifest;
use crate::client::Kukeon;
use crate::model::Name;

/// How often another generated name is tried.
const ATTEMPTS: usize = 64;

/// Makes or finds the cell and starts it.
pub async fn bring_up(run: &Run, context: &Context) -> Result<Up, Failure> {
    let kukeon = context.kukeon().await?;
    if let Some(image) = &run.image {
        return from_image(run, context, &kukeon, image).await;
    }
    if let Some(file) = &run.file {
        return from_file(run, context, &kukeon, file).await;
    }
    let name = run.cell.clone().unwrap_or_default();
    if name.contains(['/', ':']) {
        return Err(
            usage(format!("{name:?} is an image, not the name of a cell"))
                .hint(format!("say `kuke run --image {name}`"))
                .into(),
        );
    }
    let known = start(context, &kukeon, name.clone(), run.scope.single()).await;
    known.map_err(|failure| match failure {
        Failure::Error(error) if error.code == Code::NotFound && error.hint.is_empty() => error
            .hint(format!(
                "to make a cell of an image say `kuke run --image {name}`"
            ))
            .into(),
        other => other,
    })
}

async fn from_image(
    run: &Run,
    context: &Context,
    kukeon: &Arc<dyn Kukeon>,
    image: &str,
) -> Result<Up, Failure> {
    if let Some(name) = &run.name {
        // Else the document is blamed, which nobody wrote.
        name.parse::<Name>()
            .map_err(|e| Error::invalid("BadName", format!("--name: {e}")))?;
    }
    let scope = run.scope.single();
    for _ in 0..ATTEMPTS {
        let name = run.name.clone().unwrap_or_else(|| generated(image));
        let request = v1::ApplyRequest {
            files: vec![v1::ManifestFile {
                source: format!("--image {image}"),
                text: cell_document(run, image, &name, &scope),
            }],
            create_only: true,
            progress: true,
            detach: true,
            ..Default::default()
        };
        let events = kukeon.apply(request).await?;
        let results = follow(context, events, |_| Ok(())).await?;
        match single_failure(&results) {
            None => return up_from(&results),
            // Somebody has that name: try another, if it was ours to choose.
            Some(error) if error.reason == "CellExists" && run.name.is_none() => {}
            Some(error) => return Err(error.into()),
        }
    }
    Err(Error::new(
        Code::Conflict,
        "NoFreeName",
        format!("{ATTEMPTS} generated names are taken"),
    )
    .hint("choose one with --name")
    .into())
}

/// The document that stands behind `--image`.
fn cell_document(run: &Run, image: &str, name: &str, scope: &Scope) -> Vec<u8> {
    let mut container = json!({
        "id": "main",
        "image": image,
        "args": run.args,
        "env": run.env,
    });
    if let Some(command) = &run.command {
        container["command"] = json!(command);
    }
    let document = json!({
        "apiVersion": "v1beta1",
        "kind": "Cell",
        "metadata": { "name": name },
        "spec": {
            "realmId": scope.realm,
            "spaceId": scope.space,
            "stackId": scope.stack,
            // In the foreground the end is awaited and the cell deleted here:
            // by itself it could be gone before its output and code were read.
            "autoDelete": run.rm && run.detach,
            "containers": [container],
        },
    });
    document.to_string().into_bytes()
}

/// `<short image name>-<6 hex digits>`.
fn generated(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or_default();
    let short = last.split(['@', ':']).next().unwrap_or_default();
    let clean: String = short
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(50)
        .collect();
    let clean = clean.trim_matches('-');
    let prefix = if clean.is_empty() { "cell" } else { clean };
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("{prefix}-{}", &random[..6])
}

/// A document makes the cell, or names the live one, which is used as it is.
async fn from_file(
    run: &Run,
    context: &Context,
    kukeon: &Arc<dyn Kukeon>,
    file: &str,
) -> Result<Up, Failure> {
    if path_of(file).is_some_and(|path| path.is_dir()) {
        return Err(usage("run -f takes a file with one Cell document, not a directory").into());
    }
    let files = manifest::read_all(&[file.to_owned()])?;
    let source = files[0].source.clone();
    let request = v1::ApplyRequest {
        files,
        dry_run: true,
        progress: true,
        detach: true,
        ..Default::default()
    };
    let planned = follow(context, kukeon.apply(request.clone()).await?, |_| Ok(())).await?;
    if let Some(error) = single_failure(&planned) {
        return Err(error.into());
    }
    let cell = the_cell(&planned)?;
    let (name, scope) = (cell.name.clone(), cell.scope.clone().unwrap_or_default());
    if cell.action == "created" {
        let request = v1::ApplyRequest {
            dry_run: false,
            ..request
        };
        context.done.borrow_mut().clear();
        let results = follow(context, kukeon.apply(request).await?, |_| Ok(())).await?;
        return match single_failure(&results) {
            None => up_from(&results),
            Some(error) => Err(error.into()),
        };
    }
    if !cell.changes.is_empty() {
        let differs = format!("cell {name:?} is OutOfSync with {source}");
        if run.require_synced {
            return Err(Error::new(
                Code::Conflict,
                "OutOfSync",
                format!(
                    "{differs}: refusing to attach ({})",
                    cell.changes.join("; ")
                ),
            )
            .hint("bring it in line with `kuke apply -f`")
            .into());
        }
        crate::cli::failure::say!("notice: {differs}; the live cell is used as it is");
    }
    start(context, kukeon, name, scope).await
}

/// The one Cell among the results; parents that were made along do not count.
fn the_cell(results: &[ResourceResult]) -> Result<&ResourceResult, Failure> {
    let mut cells = results.iter().filter(|result| result.kind == "Cell");
    match (cells.next(), cells.next()) {
        (Some(cell), None) => Ok(cell),
        _ => Err(usage("expected a single Cell document")
            .hint("use `kuke apply -f` for several objects")
            .into()),
    }
}

fn up_from(results: &[ResourceResult]) -> Result<Up, Failure> {
    let cell = the_cell(results)?;
    Ok(Up {
        name: cell.name.clone(),
        scope: cell.scope.clone().unwrap_or_default(),
        created: cell.action == "created",
        started: true,
        containers: cell.object.as_ref().map(containers).unwrap_or_default(),
    })
}

/// Starts a cell that exists; a running one is left as it is.
async fn start(
    context: &Context,
    kukeon: &Arc<dyn Kukeon>,
    name: String,
    scope: Scope,
) -> Result<Up, Failure> {
    let request = v1::TransitionRequest {
        name: name.clone(),
        scope: Some(scope.clone()),
        action: "start".to_owned(),
        grace_seconds: None,
    };
    let results = follow(context, kukeon.transition(request).await?, |_| Ok(())).await?;
    if let Some(error) = single_failure(&results) {
        return Err(error.into());
    }
    let done = results.last();
    Ok(Up {
        name,
        scope,
        created: false,
        started: done.is_some_and(|result| result.action != "unchanged"),
        containers: done
            .and_then(|result| result.object.as_ref())
            .map(containers)
            .unwrap_or_default(),
    })
}

/// Ids of a cell's containers: the root first, then in the order of the document.
fn containers(object: &v1::Object) -> Vec<String> {
    let Some(object::Object::Cell(Cell {
        spec: Some(spec), ..
    })) = &object.object
    else {
        return Vec::new();
    };
    let is_root = |id: &str, root: bool| root || id == spec.root_container_id;
    let mut all: Vec<_> = spec.containers.iter().collect();
    all.sort_by_key(|c| !is_root(&c.id, c.root));
    all.into_iter().map(|c| c.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1beta1::{CellSpec, ContainerSpec};

    #[test]
    fn generated_names_are_names() {
        for (image, prefix) in [
            ("docker.io/library/nginx:1.2", "nginx-"),
            ("Some_Thing@sha256:00", "some-thing-"),
            ("localhost:5000/a/b", "b-"),
            ("...", "cell-"),
        ] {
            let name = generated(image);
            assert!(name.starts_with(prefix), "{name}");
            assert_eq!(name.len(), prefix.len() + 6);
            assert!(name.parse::<crate::model::Name>().is_ok(), "{name}");
        }
        assert!(
            generated(&"x".repeat(200))
                .parse::<crate::model::Name>()
                .is_ok()
        );
    }

    #[test]
    fn the_root_container_comes_first() {
        let container = |id: &str, root| ContainerSpec {
            id: id.into(),
            root,
            ..Default::default()
        };
        let object = v1::Object {
            object: Some(object::Object::Cell(Cell {
                spec: Some(CellSpec {
                    containers: vec![container("a", false), container("b", true)],
                    ..Default::default()
                }),
                ..Default::default()
            })),
        };
        assert_eq!(containers(&object), ["b", "a"]);
    }

    #[test]
    fn exactly_one_cell_is_expected() {
        let result = |kind: &str| ResourceResult {
            kind: kind.into(),
            ..Default::default()
        };
        assert!(the_cell(&[result("Realm"), result("Cell")]).is_ok());
        assert!(the_cell(&[result("Realm")]).is_err());
        assert!(the_cell(&[result("Cell"), result("Cell")]).is_err());
    }
}
