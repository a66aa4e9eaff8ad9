//! `prep verify`: an artifact is read again, and rendered again from the inputs
//! that were recorded with it.

use super::effective::Effective;
use super::fault::{Fault, Result};
use super::render::{self, Inputs, Plan};
use super::source::Content;
use super::{Delivery, namespace, not_found};
use crate::api::{self, v1};
use crate::model::delivery::{
    OciRepository, Preparation, PreparationInputs, Recipe, ReleaseKind, ReleaseRef, SourceKind,
};

/// As a check says it.
pub(super) const OK: &str = "OK";
pub(super) const DIFFERS: &str = "FAIL";
pub(super) const UNKNOWN: &str = "WARN";

/// What one look came to.
pub(super) type Seen = (&'static str, String, String);

impl Delivery {
    pub(super) async fn verify_preparation_of(
        &self,
        request: &v1::VerifyPreparationRequest,
    ) -> api::Result<v1::VerifyPreparationResponse> {
        let preparation = self.preparation_named(&request.namespace, &request.preparation)?;
        let at = preparation.at();
        let artifact = &preparation.spec.artifact;
        let place = self.place_of(&at.namespace, artifact)?;
        let trust = self.trust(&request.public_keys)?;
        let (signature, signed) = self.signature(&place, &preparation, &trust).await;
        let mut verified = signed.0 == OK;
        let mut checks = Vec::new();
        let check = |section: &str, name: &str, (status, detail, remediation): Seen| v1::Check {
            section: section.to_owned(),
            name: name.to_owned(),
            status: status.to_owned(),
            detail,
            remediation,
        };
        if !request.signature_only {
            let stored = self.stored(&preparation).await;
            let rendered = self.rendered_again(&preparation).await;
            verified &= stored.0 == OK && rendered.0 == OK;
            checks.push(check("artifact", "content", stored));
            checks.push(check("render", "digest", rendered));
        }
        checks.push(check("signature", "referrers", signed));
        Ok(v1::VerifyPreparationResponse {
            preparation: at.name.to_string(),
            digest: artifact.digest.clone(),
            verified,
            signature: signature.to_owned(),
            checks,
        })
    }

    /// The Preparation that a request means.
    pub(super) fn preparation_named(&self, space: &str, name: &str) -> api::Result<Preparation> {
        let at = ReleaseRef::new(ReleaseKind::Preparation, &namespace(space)?, &name.parse()?);
        self.read(&at)?.ok_or_else(|| not_found(&at))
    }

    /// Reads an artifact from where it is kept, with nothing of it in memory.
    ///
    /// # Errors
    /// `ArtifactUnavailable`: manifest, configuration or layer is not there, or
    /// has another digest. Transient when its registry did not answer.
    pub(super) async fn whole(&self, preparation: &Preparation) -> Result<()> {
        let artifact = &preparation.spec.artifact;
        let place = self.place_of(&preparation.meta.namespace, artifact)?;
        let content = self.artifacts.afresh();
        content.manifest(&place, artifact).await?;
        let config = content.config(&place, artifact).await;
        config.map(drop).map_err(|fault| Fault {
            reason: "ArtifactUnavailable".to_owned(),
            // The content store is there: what it cannot give is lost.
            transient: fault.transient && !place.at.is_local(),
            ..fault
        })
    }

    /// Whether manifest, configuration and layer have their digests.
    async fn stored(&self, preparation: &Preparation) -> Seen {
        let artifact = &preparation.spec.artifact;
        match self.whole(preparation).await {
            Ok(()) => {
                let detail = format!(
                    "manifest, configuration and layer of {} have their digests",
                    artifact.oci_ref
                );
                (OK, detail, String::new())
            }
            Err(fault) if fault.transient => (UNKNOWN, fault.message, fault.hint),
            Err(fault) => (DIFFERS, fault.message, fault.hint),
        }
    }

    /// Whether the recorded inputs give the same artifact again.
    async fn rendered_again(&self, preparation: &Preparation) -> Seen {
        match self.render_again(preparation).await {
            Ok(seen) => seen,
            Err(fault) => (UNKNOWN, fault.message, fault.hint),
        }
    }

    async fn render_again(&self, preparation: &Preparation) -> Result<Seen> {
        let spec = &preparation.spec;
        let recorded = match &spec.inputs {
            Some(inputs) => Some(inputs.clone()),
            None => self.inputs_of_recipe(preparation)?,
        };
        let Some(recorded) = recorded else {
            let detail = format!("{} was made before inputs were recorded", preparation.at());
            let hint = "refresh its Recipe with the old inputs to compare";
            return Ok((UNKNOWN, detail, hint.to_owned()));
        };
        let inputs = Inputs {
            recipe: &spec.recipe,
            namespace: &preparation.meta.namespace,
            source_kind: spec.source.kind,
            source_digest: &spec.source.base_digest,
            sub_path: &recorded.sub_path,
            render: &recorded.render,
            patches: &recorded.patches,
            edits: &recorded.edits,
            target: &spec.target,
            allow_empty: recorded.allow_empty,
        };
        let plan = Plan::of(&inputs)?;
        if plan.config_hash() != spec.config_hash {
            let (was, is) = (&spec.renderer, plan.renderer());
            if *was != is {
                let shown = |r: &crate::model::delivery::Renderer| {
                    format!("{} {} {}", r.name, r.version, r.digest)
                };
                let detail = format!(
                    "it was rendered with {}, here is {}",
                    shown(was).trim_end(),
                    shown(&is).trim_end()
                );
                let hint = "install the renderer it was made with".to_owned();
                return Ok((UNKNOWN, detail, hint));
            }
            let detail = format!(
                "its inputs have the hash {}, recorded is {}",
                plan.config_hash(),
                spec.config_hash
            );
            return Ok((DIFFERS, detail, String::new()));
        }
        let content = match self.source_again(preparation).await {
            Ok(content) => content,
            Err(fault) => return Ok(source_gone(preparation, fault)),
        };
        if content.digest != spec.source.base_digest {
            let now = format!("it is {} now", content.digest);
            return Ok(source_gone(preparation, Fault::new("SourceNotFound", now)));
        }
        let rendered = render::run(&inputs, &plan, &content).await?;
        let digest = rendered.artifact.digest();
        Ok(match digest == spec.artifact.digest {
            true => (
                OK,
                format!("rendered again, the digest is {digest}"),
                String::new(),
            ),
            false => (
                DIFFERS,
                format!(
                    "rendered again, the digest is {digest}, recorded is {}",
                    spec.artifact.digest
                ),
                "the artifact is not what its inputs give: promote another preparation".to_owned(),
            ),
        })
    }

    /// The inputs of the Recipe as it is now, where they are those of the Preparation.
    fn inputs_of_recipe(&self, preparation: &Preparation) -> Result<Option<PreparationInputs>> {
        let namespace = &preparation.meta.namespace;
        let at = ReleaseRef::new(ReleaseKind::Recipe, namespace, &preparation.spec.recipe);
        let Some(recipe) = self.read::<Recipe>(&at)? else {
            return Ok(None);
        };
        let current = recipe.status.latest_config_hash.as_ref();
        if current != Some(&preparation.spec.config_hash) {
            return Ok(None);
        }
        let effective = self.effective(&recipe)?;
        Ok(Some(recorded(&recipe, &effective)))
    }

    /// The source at exactly the recorded digest.
    async fn source_again(&self, preparation: &Preparation) -> Result<Content> {
        let source = &preparation.spec.source;
        if source.kind == SourceKind::Path {
            return self.read_path(&source.reference).await;
        }
        let digest = &source.base_digest;
        let at = repository(&source.reference)?;
        let place = self.place_at(&preparation.meta.namespace, &at)?;
        self.read_repository(&at, place.access, digest, Some(digest))
            .await
    }
}

/// What is recorded of a Recipe's inputs.
pub(super) fn recorded(recipe: &Recipe, effective: &Effective) -> PreparationInputs {
    PreparationInputs {
        sub_path: effective.source.sub_path.clone(),
        render: effective.render.clone(),
        patches: effective.patches.clone(),
        edits: recipe.spec.edits.clone(),
        allow_empty: recipe.spec.allow_empty,
    }
}

fn source_gone(preparation: &Preparation, fault: Fault) -> Seen {
    let source = &preparation.spec.source;
    let detail = match fault.transient {
        true => format!(
            "the source {} does not answer: {}",
            source.reference, fault.message
        ),
        false => format!(
            "the source is gone: {} had {}; {}",
            source.reference, source.base_digest, fault.message
        ),
    };
    let hint = match fault.transient {
        true => fault.hint,
        false => "bring the source back as it was; the artifact itself can be used all the same"
            .to_owned(),
    };
    (UNKNOWN, detail, hint)
}

fn repository(reference: &str) -> Result<OciRepository> {
    let parts = reference
        .strip_prefix("oci://")
        .and_then(|rest| rest.split_once('/'));
    let (host, repository) = parts.ok_or_else(|| {
        let message = format!("{reference:?} is no repository");
        Fault::new("SourceNotFound", message)
    })?;
    Ok(OciRepository {
        host: host.to_owned(),
        repository: repository.to_owned(),
    })
}
