//! Bundles of plain manifests.

use crate::delivery::canonical::{self, Document, Octal};
use crate::delivery::failure::{Failure, Reason, Result};
use crate::delivery::source::{File, Tree};

use super::kustomize;

/// Raised whenever the same bundle could give other documents.
pub(super) const CONTRACT: u32 = 1;

/// The documents of `manifest.yaml`, or else those of all YAML files at the
/// root, in byte order of their names. A source of one file is that file.
pub(super) fn read(tree: &Tree, octal: Octal) -> Result<Vec<Document>> {
    let mut files: Vec<(&str, &File)> = match tree.get("manifest.yaml") {
        Some(file) => vec![("manifest.yaml", file)],
        None => {
            let yaml = |name: &str| name.ends_with(".yaml") || name.ends_with(".yml");
            tree.files()
                .filter(|(path, _)| !path.contains('/') && yaml(path))
                .collect()
        }
    };
    let mismatch = |message: &str| Failure::new(Reason::SourceKindMismatch, message);
    if tree.get("manifest.yaml").is_none() {
        if tree.get("Chart.yaml").is_some() {
            return Err(mismatch("the source is a Helm chart").hint("set render.helm"));
        }
        if kustomize::FILES.iter().any(|name| tree.get(name).is_some()) {
            return Err(
                mismatch("the source is a Kustomize directory").hint("set render.kustomize")
            );
        }
    }
    if files.is_empty() {
        let mut all = tree.files();
        match (all.next(), all.next()) {
            (Some(only), None) => files.push(only),
            _ => {
                return Err(mismatch("the source has no manifests at its root")
                    .hint("set source.subPath to their directory"));
            }
        }
    }
    let mut documents = Vec::new();
    for (path, file) in files {
        documents.extend(canonical::read(path, &file.bytes, octal)?);
    }
    Ok(documents)
}
