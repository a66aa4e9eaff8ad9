//! Preparation.

use super::super::Error;
use super::super::check::{Check, Words};
use super::patch::{patch_to_external, patches_to_model};
use super::source::{render_to_external, render_to_model};
use super::status::{
    conditions_to_external, conditions_to_model, lookup, resource_to_external, resource_to_model,
};
use super::target::{target_to_external, target_to_model};
use super::{MAX_MESSAGE, VERSION, digest, envelope, is_digest, longest, metadata, relative};
use super::{relative_text, some_text, text_of, word_of};
use crate::api::delivery::v1alpha1 as external;
use crate::model::delivery::{
    Artifact, GitSource, Preparation, PreparationInputs, PreparationPhase, PreparationSource,
    PreparationSpec, PreparationStatus, ReleaseKind, RenderType, Renderer, SourceKind,
};

const SOURCES: &Words<SourceKind> = &[
    ("OCI", SourceKind::Oci),
    ("Path", SourceKind::Path),
    ("Pantry", SourceKind::Pantry),
];

const RENDERS: &Words<RenderType> = &[
    ("Manifest", RenderType::Manifest),
    ("Helm", RenderType::Helm),
    ("Kustomize", RenderType::Kustomize),
];

const PHASES: &Words<PreparationPhase> = &[
    ("Pending", PreparationPhase::Pending),
    ("Ready", PreparationPhase::Ready),
    ("Failed", PreparationPhase::Failed),
];

/// Preparation from its document.
pub fn preparation_to_model(document: external::Preparation) -> Result<Preparation, Error> {
    let mut check = Check::default();
    let external::Preparation {
        api_version,
        kind,
        metadata,
        spec,
        status,
    } = document;
    let meta = envelope(
        &mut check,
        ReleaseKind::Preparation,
        &api_version,
        &kind,
        metadata,
    );
    let spec = spec_to_model(&mut check, spec.unwrap_or_default());
    let external::PreparationStatus {
        observed_generation,
        phase,
        conditions,
    } = status.unwrap_or_default();
    let status = PreparationStatus {
        observed_generation,
        phase: lookup(PHASES, &phase).unwrap_or_default(),
        conditions: conditions_to_model(conditions),
    };
    let preparation = meta
        .zip(spec)
        .map(|(meta, spec)| Preparation { meta, spec, status });
    check.finish(preparation)
}

fn spec_to_model(check: &mut Check, spec: external::PreparationSpec) -> Option<PreparationSpec> {
    let external::PreparationSpec {
        recipe_name,
        source,
        renderer,
        config_hash,
        artifact,
        commit_message,
        parent_digest,
        git_source,
        target,
        resources,
        revision,
        inputs,
    } = spec;
    let recipe = check.name("spec.recipeName", &recipe_name);
    let external::PreparationSource {
        kind,
        oci,
        version,
        base_digest,
    } = source.unwrap_or_default();
    digest(check, "spec.source.baseDigest", &base_digest);
    let source = PreparationSource {
        kind: check.word("spec.source.kind", &kind, SOURCES),
        reference: oci,
        version,
        base_digest,
    };
    let external::Renderer {
        name,
        version,
        digest: renderer_digest,
        render_type,
    } = renderer.unwrap_or_default();
    let renderer = Renderer {
        name,
        version,
        digest: renderer_digest,
        render_type: check.word("spec.renderer.renderType", &render_type, RENDERS),
    };
    digest(check, "spec.configHash", &config_hash);
    let external::Artifact {
        oci_ref,
        digest: artifact_digest,
        size,
    } = artifact.unwrap_or_default();
    digest(check, "spec.artifact.digest", &artifact_digest);
    let pinned = oci_ref.starts_with("oci://")
        && oci_ref.len() <= 2048
        && oci_ref.rsplit_once('@').is_some_and(|(_, d)| is_digest(d));
    if !pinned {
        let message = format!("{oci_ref:?} is not oci://…@sha256:…");
        check.bad("spec.artifact.ociRef", "BadReference", message);
    }
    longest(check, "spec.commitMessage", &commit_message, MAX_MESSAGE);
    if !parent_digest.is_empty() {
        digest(check, "spec.parentDigest", &parent_digest);
    }
    let external::GitSource {
        repo,
        tag,
        commit_hash,
    } = git_source.unwrap_or_default();
    longest(check, "spec.gitSource.repo", &repo, 2048);
    longest(check, "spec.gitSource.tag", &tag, 256);
    longest(check, "spec.gitSource.commitHash", &commit_hash, 64);
    let target = target_to_model(check, "spec.target", target.unwrap_or_default());
    Some(PreparationSpec {
        recipe: recipe?,
        source,
        renderer,
        config_hash,
        artifact: Artifact {
            oci_ref,
            digest: artifact_digest,
            size: u64::try_from(size).unwrap_or(0),
        },
        commit_message,
        parent_digest: some_text(parent_digest),
        git_source: GitSource {
            repo,
            tag,
            commit: commit_hash,
        },
        target,
        resources: resources.into_iter().map(resource_to_model).collect(),
        revision,
        inputs: inputs.map(|inputs| inputs_to_model(check, inputs)),
    })
}

fn inputs_to_model(check: &mut Check, inputs: external::PreparationInputs) -> PreparationInputs {
    let external::PreparationInputs {
        sub_path,
        render,
        patches,
        edits,
        allow_empty,
    } = inputs;
    PreparationInputs {
        sub_path: relative(check, "spec.inputs.subPath", &sub_path),
        render: render_to_model(check, "spec.inputs.render", render),
        patches: patches_to_model(check, "spec.inputs.patches", patches),
        edits: patches_to_model(check, "spec.inputs.edits", edits),
        allow_empty,
    }
}

fn inputs_to_external(inputs: &PreparationInputs) -> external::PreparationInputs {
    let PreparationInputs {
        sub_path,
        render,
        patches,
        edits,
        allow_empty,
    } = inputs;
    external::PreparationInputs {
        sub_path: relative_text(sub_path),
        render: render_to_external(render),
        patches: patches.iter().map(patch_to_external).collect(),
        edits: edits.iter().map(patch_to_external).collect(),
        allow_empty: *allow_empty,
    }
}

/// Document of a Preparation.
pub fn preparation_to_external(preparation: &Preparation) -> external::Preparation {
    let Preparation { meta, spec, status } = preparation;
    let PreparationSpec {
        recipe,
        source,
        renderer,
        config_hash,
        artifact,
        commit_message,
        parent_digest,
        git_source,
        target,
        resources,
        revision,
        inputs,
    } = spec;
    let git = external::GitSource {
        repo: git_source.repo.clone(),
        tag: git_source.tag.clone(),
        commit_hash: git_source.commit.clone(),
    };
    let PreparationStatus {
        observed_generation,
        phase,
        conditions,
    } = status;
    external::Preparation {
        api_version: VERSION.to_owned(),
        kind: "Preparation".to_owned(),
        metadata: metadata(meta),
        spec: Some(external::PreparationSpec {
            recipe_name: recipe.to_string(),
            source: Some(external::PreparationSource {
                kind: word_of(SOURCES, &source.kind),
                oci: source.reference.clone(),
                version: source.version.clone(),
                base_digest: source.base_digest.clone(),
            }),
            renderer: Some(external::Renderer {
                name: renderer.name.clone(),
                version: renderer.version.clone(),
                digest: renderer.digest.clone(),
                render_type: word_of(RENDERS, &renderer.render_type),
            }),
            config_hash: config_hash.clone(),
            artifact: Some(external::Artifact {
                oci_ref: artifact.oci_ref.clone(),
                digest: artifact.digest.clone(),
                size: i64::try_from(artifact.size).unwrap_or(i64::MAX),
            }),
            commit_message: commit_message.clone(),
            parent_digest: text_of(parent_digest),
            git_source: (git != external::GitSource::default()).then_some(git),
            target: Some(target_to_external(target)),
            resources: resources.iter().map(resource_to_external).collect(),
            revision: *revision,
            inputs: inputs.as_ref().map(inputs_to_external),
        }),
        status: Some(external::PreparationStatus {
            observed_generation: *observed_generation,
            phase: word_of(PHASES, phase),
            conditions: conditions_to_external(conditions),
        }),
    }
}
