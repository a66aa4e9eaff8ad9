//! Kustomize directories, built by the installed `kustomize` or `kubectl`.

use std::collections::HashSet;

use crate::delivery::canonical::{self, Document, Octal};
use crate::delivery::failure::{Failure, Reason, Result};
use crate::delivery::source::Tree;
use crate::model::Value;

use super::program::Program;

/// Raised whenever the same directory could give other documents.
pub(super) const CONTRACT: u32 = 1;
/// Names that a kustomization file may have.
pub(super) const FILES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
/// Fields that name files and directories.
const REFERENCES: [&str; 8] = [
    "resources",
    "bases",
    "components",
    "crds",
    "configurations",
    "generators",
    "transformers",
    "validators",
];

/// The kustomization file of a directory.
fn file_of(tree: &Tree, dir: &str) -> Option<String> {
    let names = FILES.iter().map(|name| match dir {
        "" => (*name).to_owned(),
        dir => format!("{dir}/{name}"),
    });
    names.into_iter().find(|path| tree.get(path).is_some())
}

/// Builds a directory, twice.
pub(super) async fn render(tree: &Tree, path: &str, program: &Program) -> Result<Vec<Document>> {
    let dir = crate::delivery::source::clean(path)?;
    if file_of(tree, &dir).is_none() {
        let message = format!("{path:?} in the source has no kustomization.yaml");
        return Err(Failure::new(Reason::SourceKindMismatch, message)
            .hint("set render.kustomize.path, or leave out render.kustomize"));
    }
    local_only(tree, &dir)?;
    let (tree, program) = (tree.clone(), program.clone());
    let work = move || -> Result<Vec<Document>> {
        let first = run(&tree, &dir, &program)?;
        let second = run(&tree, &dir, &program)?;
        super::same(&first, &second)?;
        Ok(first)
    };
    super::blocking(work).await
}

fn run(tree: &Tree, dir: &str, program: &Program) -> Result<Vec<Document>> {
    let scratch = super::scratch()?;
    let write = tree.write_to(&scratch.path().join("source"));
    write.map_err(|e| Failure::new(Reason::RenderFailed, format!("a temporary directory: {e}")))?;
    let verb = match program.path.file_name() {
        Some(name) if name.to_string_lossy().starts_with("kubectl") => "kustomize",
        _ => "build",
    };
    let args = [verb.to_owned(), format!("source/{dir}")];
    let printed = program.run(&args, scratch.path())?;
    canonical::read("kustomization", &printed, Octal::Read)
}

/// Refuses what is not in the source, following directories.
fn local_only(tree: &Tree, start: &str) -> Result<()> {
    let mut seen = HashSet::new();
    let mut open = vec![start.to_owned()];
    while let Some(dir) = open.pop() {
        let Some(path) = file_of(tree, &dir) else {
            continue;
        };
        if !seen.insert(path.clone()) {
            continue;
        }
        let bytes = tree
            .get(&path)
            .map(|file| file.bytes.as_slice())
            .unwrap_or_default();
        for document in canonical::read(&path, bytes, Octal::Read)? {
            if document.value.get("helmCharts").is_some()
                || document.value.get("helmChartInflationGenerator").is_some()
            {
                let message =
                    format!("{path}: charts are not fetched while a Kustomize directory is built");
                return Err(Failure::new(Reason::RenderFailed, message)
                    .hint("put the rendered chart into the source"));
            }
            let names = REFERENCES
                .iter()
                .filter_map(|field| document.value.get(field));
            let names = names
                .filter_map(Value::as_list)
                .flatten()
                .filter_map(Value::as_str);
            for name in names {
                if is_remote(name) {
                    let message = format!("{path}: {name:?} is not in the source");
                    return Err(Failure::new(Reason::RenderFailed, message)
                        .hint("remote bases are not fetched: put a copy into the source"));
                }
                open.extend(beside(&dir, name));
            }
        }
    }
    Ok(())
}

/// Whether kustomize would fetch this. Text over several lines is a document.
fn is_remote(name: &str) -> bool {
    let name = name.trim();
    if name.contains('\n') {
        return false;
    }
    let hosts = ["github.com", "gitlab.com", "bitbucket.org"];
    name.contains("://")
        || name.contains("?ref=")
        || name.contains("?version=")
        || name.starts_with("git@")
        || name.starts_with("git::")
        || name.starts_with("gh:")
        || hosts.iter().any(|host| name.starts_with(host))
}

/// A path relative to a directory; none where it leaves the source, which
/// kustomize refuses itself.
fn beside(dir: &str, name: &str) -> Option<String> {
    let mut parts: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::source::File;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::default();
        for (path, text) in files {
            let bytes = text.as_bytes().to_vec();
            tree.insert(
                path,
                File {
                    bytes,
                    executable: false,
                },
            )
            .unwrap();
        }
        tree
    }

    #[test]
    fn remote_bases_are_refused_wherever_they_are_named() {
        let local = tree(&[
            ("over/kustomization.yaml", "resources: [../base, a.yaml]\n"),
            ("base/Kustomization", "resources: [b.yaml]\n"),
            (
                "unused/kustomization.yml",
                "resources: ['https://example.com/x']\n",
            ),
        ]);
        assert_eq!(local_only(&local, "over"), Ok(()));
        for name in [
            "https://example.com/x",
            "github.com/a/b//c?ref=v1",
            "git@example.com:a/b",
            "a/b?ref=v1",
        ] {
            let base = format!("components: ['{name}']\n");
            let remote = tree(&[
                ("over/kustomization.yaml", "resources: [../base]\n"),
                ("base/kustomization.yaml", &base),
            ]);
            let failure = local_only(&remote, "over").unwrap_err();
            assert_eq!(failure.reason, Reason::RenderFailed);
            assert!(
                failure.message.contains("base/kustomization.yaml"),
                "{failure}"
            );
        }
        let charts = tree(&[("kustomization.yaml", "helmCharts: [{name: x}]\n")]);
        assert!(local_only(&charts, "").is_err());
    }
}
