//! `kuke recipe apply --upload`: a directory of this machine becomes the source
//! of a Recipe, by digest.

use std::io::Cursor;

use clap::Args;

use crate::api::delivery::v1alpha1 as external;
use crate::api::v1::{self, object};
use crate::api::{self, Code, Error, Release};
use crate::cli::context::Context;
use crate::cli::failure::{Outcome, usage};
use crate::cli::manifest;
use crate::cli::upload::pieces;
use crate::cli::verbs::release::{Common, Patience, finish_ready};
use crate::delivery::source::{local, pack};
use crate::model::delivery::keys;

/// Where uploaded directories are kept: `sources/<namespace>/<recipe>`.
const SOURCES: &str = "sources";

/// Pack a directory of this machine, and make it the source of a Recipe
#[derive(Debug, Args)]
pub(super) struct Apply {
    /// Recipe; default the name of the directory. One that is not there is made
    #[arg(value_name = "NAME", conflicts_with = "file")]
    object: Option<String>,
    /// The rest of the Recipe, from a file or - for standard input
    #[arg(long, short, value_name = "FILE|-")]
    file: Option<String>,
    /// Directory with the manifests
    #[arg(long, value_name = "DIR", required = true)]
    upload: String,
    /// Message for the history
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    /// Pack only, and show what would change
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    common: Common,
}

impl Apply {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let what = format!("the source {}", self.upload);
        let patience = self.patience;
        patience.within(&what, self.apply(context)).await
    }

    async fn apply(self, context: &Context) -> Outcome {
        let packed = pack_directory(&self.upload).await?;
        let mut recipe = match &self.file {
            Some(file) => from_file(file)?,
            None => self.existing(context).await?,
        };
        let metadata = recipe.metadata.get_or_insert_default();
        if metadata.namespace.is_empty() {
            metadata.namespace.clone_from(&self.common.namespace);
        }
        let repository = format!("{SOURCES}/{}/{}", metadata.namespace, metadata.name);
        if let Some(message) = &self.message {
            let notes = &mut metadata.annotations;
            notes.insert(keys::COMMIT_MESSAGE.to_owned(), message.clone());
        }
        let spec = recipe.spec.get_or_insert_default();
        let before = spec.source.take().unwrap_or_default();
        spec.template_ref = None;
        spec.source = Some(external::Source {
            oci: format!("oci://local/{repository}"),
            version: packed.digest().to_owned(),
            sub_path: before.sub_path,
            ..Default::default()
        });
        recipe.status = None;
        let text = api::yaml::to_string(&recipe)?.into_bytes();
        let kukeon = context.kukeon().await?;
        if !self.dry_run {
            let short: String = packed.digest().chars().skip(7).take(12).collect();
            let first = v1::ImportRepositoryRequest {
                repository: repository.clone(),
                tag: short,
                ..Default::default()
            };
            let from = Cursor::new(packed.layout());
            let input = pieces(from, &self.upload, first, |data| {
                v1::ImportRepositoryRequest {
                    data,
                    ..Default::default()
                }
            });
            let sent = kukeon.import_repository(input).await;
            sent.map_err(|e| e.context(format!("uploading {} to {repository}", self.upload)))?;
        }
        let request = v1::ApplyRequest {
            files: vec![v1::ManifestFile {
                source: self.file.unwrap_or_else(|| "recipe".to_owned()),
                text,
            }],
            dry_run: self.dry_run,
            progress: true,
            ..Default::default()
        };
        let events = kukeon.apply(request).await?;
        finish_ready(context, self.common.output, events, self.patience.waits()).await
    }

    /// The Recipe as it is, or a new one of that name.
    async fn existing(&self, context: &Context) -> api::Result<external::Recipe> {
        let name = match &self.object {
            Some(name) => name.clone(),
            None => directory_name(&self.upload)?,
        };
        let request = v1::GetRequest {
            kind: "Recipe".to_owned(),
            name: name.clone(),
            scope: Some(v1::Scope {
                realm: self.common.namespace.clone(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let found = match context.kukeon().await?.get(request).await {
            Ok(found) => found.objects.into_iter().next(),
            Err(error) if error.code == Code::NotFound => None,
            Err(error) => return Err(error),
        };
        if let Some(object::Object::Recipe(recipe)) = found.and_then(|o| o.object) {
            return Ok(recipe);
        }
        Ok(external::Recipe {
            api_version: "delivery.kokumi.dev/v1alpha1".to_owned(),
            kind: "Recipe".to_owned(),
            metadata: Some(external::Metadata {
                name,
                ..Default::default()
            }),
            ..Default::default()
        })
    }
}

/// Reads and packs a directory, within the limits of sources.
async fn pack_directory(dir: &str) -> api::Result<pack::Source> {
    let shown = dir.to_owned();
    let work = move || {
        let root = std::path::absolute(&shown).map_err(|e| unreadable(&shown, &e))?;
        let found = std::fs::metadata(&root).map_err(|e| unreadable(&shown, &e))?;
        if !found.is_dir() {
            let message = format!("{shown} is no directory");
            return Err(usage(message).hint("name the directory that holds the manifests"));
        }
        let tree = local::read(std::slice::from_ref(&root), &root);
        let tree =
            tree.map_err(|failure| Error::from(failure.about(format!("packing {shown}"))))?;
        if tree.is_empty() {
            return Err(usage(format!("{shown} holds no files"))
                .hint("put the manifests there, then repeat"));
        }
        Ok(pack::pack(&tree))
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(Error::failed("PackFailed", e.to_string())))
}

fn unreadable(dir: &str, error: &std::io::Error) -> Error {
    let code = match error.kind() {
        std::io::ErrorKind::NotFound => Code::NotFound,
        std::io::ErrorKind::PermissionDenied => Code::Permission,
        _ => Code::Failed,
    };
    Error::new(
        code,
        "FileUnreadable",
        format!("failed to open directory {dir}: {error}"),
    )
}

/// The last part of a path, which has to do as a name.
fn directory_name(dir: &str) -> api::Result<String> {
    let whole = std::path::absolute(dir).map_err(|e| unreadable(dir, &e))?;
    let name = whole.file_name().and_then(|name| name.to_str());
    let name = name.filter(|name| name.parse::<crate::model::Name>().is_ok());
    name.map(str::to_owned).ok_or_else(|| {
        usage(format!(
            "the name of {} is none for a Recipe",
            whole.display()
        ))
        .hint("name the Recipe: `kuke recipe apply NAME --upload DIR`")
    })
}

/// The one Recipe of a file; its source may be missing.
fn from_file(file: &str) -> api::Result<external::Recipe> {
    let read = manifest::read_all(&[file.to_owned()])?;
    let mut recipes = Vec::new();
    for file in &read {
        for document in api::decode(&file.source, &file.text)? {
            recipes.push(match document.object {
                api::Object::Release(release) => match *release {
                    Release::Recipe(recipe) => Some(recipe),
                    _ => None,
                },
                api::Object::V1beta1(_) => None,
            });
        }
    }
    let mut recipes = recipes.into_iter();
    match (recipes.next().flatten(), recipes.next()) {
        (Some(recipe), None) => Ok(recipe),
        _ => Err(usage(format!("{file} has to hold one Recipe"))
            .hint("apply other documents with `kuke apply -f`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_a_source_is_refused() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().display().to_string();
        let error = pack_directory(&path).await.expect_err("empty");
        assert!(error.message.contains("holds no files"), "{error}");
        std::fs::write(dir.path().join("a.yaml"), "a").expect("write");
        let first = pack_directory(&path).await.expect("a source");
        // Times and owners are no part of it.
        let file = std::fs::File::options()
            .append(true)
            .open(dir.path().join("a.yaml"))
            .expect("open");
        file.set_modified(std::time::UNIX_EPOCH).expect("time");
        let again = pack_directory(&path).await.expect("a source");
        assert_eq!(first.digest(), again.digest());
        let fifo = dir.path().join("pipe");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let error = pack_directory(&path).await.expect_err("a pipe");
        assert!(error.message.contains("no regular file"), "{error}");
        let error = pack_directory("/no/such").await.expect_err("missing");
        assert_eq!(error.code, Code::NotFound);
    }

    #[test]
    fn a_file_holds_one_recipe() {
        let dir = tempfile::tempdir().expect("directory");
        let write = |text: &str| {
            let path = dir.path().join("r.yaml");
            std::fs::write(&path, text).expect("write");
            from_file(&path.display().to_string())
        };
        let head = "apiVersion: delivery.kokumi.dev/v1alpha1\nkind: Recipe\n";
        let one = format!("{head}metadata: {{name: a}}\n");
        assert_eq!(write(&one).expect("one").metadata.expect("meta").name, "a");
        assert!(write(&format!("{one}---\n{one}")).is_err());
        assert!(write("kind: Realm\nmetadata: {name: a}\n").is_err());
    }
}
