//! `prep verify`: an artifact is read again, and rendered again from the inputs
//! that were recorded with it.

use super::artifacts::{Place, Signatures};
use super::effective::Effective;
use super::fault::{Fault, Result};
use super::render::{self, Inputs, Plan};
use super::source::Content;
use super::{Delivery, namespace, not_found};
use crate::api::{self, Error, v1};
use crate::model::delivery::{
    OciRepository, Preparation, PreparationInputs, Recipe, ReleaseKind, ReleaseRef, SourceKind,
};
use crate::oci::signature::{PublicKey, Signature};

/// Reason of what the Kitchen wants signed.
pub(super) const SIGNATURE_REQUIRED: &str = "SignatureRequired";

/// As a check says it.
const OK: &str = "OK";
const DIFFERS: &str = "FAIL";
const UNKNOWN: &str = "WARN";

/// What one look came to.
type Seen = (&'static str, String, String);

impl Delivery {
    pub(super) async fn verify_preparation_of(
        &self,
        request: &v1::VerifyPreparationRequest,
    ) -> api::Result<v1::VerifyPreparationResponse> {
        let at = ReleaseRef::new(
            ReleaseKind::Preparation,
            &namespace(&request.namespace)?,
            &request.preparation.parse()?,
        );
        let preparation: Preparation = self.read(&at)?.ok_or_else(|| not_found(&at))?;
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

    /// Whose signatures count: the Kitchen's keys, or those that a caller asks for
    /// in their place.
    fn trust(&self, asked: &[String]) -> api::Result<Trust> {
        let own = self.kitchen()?.map(|kitchen| kitchen.spec.signatures);
        let own = own.unwrap_or_default();
        let read = |key: &String| {
            PublicKey::from_pem(key).map_err(|why| {
                Error::invalid("BadKey", why).hint("give a public key as PEM, such as cosign.pub")
            })
        };
        let keys = match asked.is_empty() {
            true => own.public_keys.iter().map(read),
            false => asked.iter().map(read),
        };
        Ok(Trust {
            keys: keys.collect::<api::Result<_>>()?,
            required: own.required || !asked.is_empty(),
        })
    }

    /// Whether somebody signed it, and who.
    async fn signature(
        &self,
        place: &Place,
        preparation: &Preparation,
        trust: &Trust,
    ) -> (&'static str, Seen) {
        let artifact = &preparation.spec.artifact;
        let signatures = match self.artifacts.signatures(place, artifact).await {
            Ok(signatures) => signatures,
            Err(fault) => return ("unknown", (UNKNOWN, fault.message, fault.hint)),
        };
        let types = signatures.types.join(", ");
        let says =
            |signature, status, detail: String, hint: String| (signature, (status, detail, hint));
        if let Some(key) = trust.signer(&signatures) {
            return says(
                "valid",
                OK,
                format!("signed with the key {key}"),
                String::new(),
            );
        }
        let hint = sign_it(preparation);
        if !signatures.found.is_empty() && !trust.keys.is_empty() {
            let known: Vec<_> = trust.keys.iter().map(ToString::to_string).collect();
            let detail = format!("{types}: not made with {}", known.join(" or "));
            return says("invalid", DIFFERS, detail, hint);
        }
        let status = if trust.required { DIFFERS } else { OK };
        if types.is_empty() {
            return says(
                "none",
                status,
                "none".to_owned(),
                match trust.required {
                    true => hint,
                    false => String::new(),
                },
            );
        }
        let hint = match (trust.required, trust.keys.is_empty()) {
            (true, _) => hint,
            (false, true) => {
                "--key FILE checks it, as do keys in the Kitchen's spec.signatures".to_owned()
            }
            (false, false) => String::new(),
        };
        says(
            "present",
            status,
            format!("present, not checked: {types}"),
            hint,
        )
    }

    /// Keeps a signature that was made elsewhere beside the artifact.
    pub(super) async fn sign_preparation_of(
        &self,
        request: &v1::SignPreparationRequest,
    ) -> api::Result<v1::SignPreparationResponse> {
        let at = ReleaseRef::new(
            ReleaseKind::Preparation,
            &namespace(&request.namespace)?,
            &request.preparation.parse()?,
        );
        let preparation: Preparation = self.read(&at)?.ok_or_else(|| not_found(&at))?;
        let artifact = &preparation.spec.artifact;
        let bad = |why: &str| {
            let message = format!("{why} {} of {at}", artifact.digest);
            Error::invalid("BadSignature", message)
                .hint("sign what `kuke prep sign --print-payload` prints")
        };
        let digest = artifact.digest.parse();
        let digest = digest.map_err(|_| bad("no signature can be about"))?;
        let payload = request.payload.clone();
        let signature = Signature::simple(payload, &request.signature, &digest)
            .ok_or_else(|| bad("it is no signature of the artifact"))?;
        let trust = self.trust(&[])?;
        let key = signature.made_with(&trust.keys);
        if key.is_none() && !trust.keys.is_empty() {
            let hint = "sign with one of them, or add the other to its spec.signatures";
            return Err(bad("none of the Kitchen's keys made this signature of").hint(hint));
        }
        let place = self.place_of(&at.namespace, artifact)?;
        let payload = request.payload.clone();
        let kept = self
            .artifacts
            .sign(&place, artifact, payload, &request.signature);
        let signature_digest = kept.await?;
        // It may be what the Recipe waits for.
        let recipe = &preparation.spec.recipe;
        self.enqueue(&ReleaseRef::new(ReleaseKind::Recipe, &at.namespace, recipe));
        Ok(v1::SignPreparationResponse {
            preparation: at.name.to_string(),
            digest: artifact.digest.clone(),
            signature_digest,
            key: key.map(ToString::to_string).unwrap_or_default(),
        })
    }

    /// As [`Delivery::whole`], and signed where the Kitchen wants that: what may be
    /// activated.
    ///
    /// # Errors
    /// `SignatureRequired` as well.
    pub(super) async fn acceptable(&self, preparation: &Preparation) -> Result<()> {
        self.whole(preparation).await?;
        self.signed(preparation).await
    }

    /// Whether the Kitchen wants no signature, or there is one that counts.
    ///
    /// # Errors
    /// `SignatureRequired`; that the registry does not answer.
    pub(super) async fn signed(&self, preparation: &Preparation) -> Result<()> {
        let trust = self.trust(&[])?;
        if !trust.required {
            return Ok(());
        }
        let artifact = &preparation.spec.artifact;
        let place = self.place_of(&preparation.meta.namespace, artifact)?;
        let signatures = self.artifacts.signatures(&place, artifact).await?;
        if trust.signer(&signatures).is_some() {
            return Ok(());
        }
        let message = format!(
            "{} has no signature of a key in the Kitchen's spec.signatures",
            preparation.at()
        );
        Err(Fault::new(SIGNATURE_REQUIRED, message).hint(sign_it(preparation)))
    }
}

fn sign_it(preparation: &Preparation) -> String {
    format!(
        "`kuke prep sign {} --key FILE` signs it with a private key",
        preparation.meta.name
    )
}

/// Whose signatures count.
struct Trust {
    keys: Vec<PublicKey>,
    /// There must be one.
    required: bool,
}

impl Trust {
    /// The first key of which there is a signature.
    fn signer(&self, signatures: &Signatures) -> Option<&PublicKey> {
        let mut found = signatures.found.iter();
        found.find_map(|signature| signature.made_with(&self.keys))
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
