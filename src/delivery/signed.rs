//! Signatures of Preparations: looked for, checked against keys, demanded of what
//! is activated, and kept beside the artifact.

use super::Delivery;
use super::artifacts::{Place, Signatures};
use super::fault::{Fault, Result};
use super::verify::{DIFFERS, OK, Seen, UNKNOWN};
use crate::api::{self, Error, v1};
use crate::model::delivery::{Preparation, ReleaseKind, ReleaseRef};
use crate::oci::signature::{PublicKey, Signature};

/// Reason of what the Kitchen wants signed.
pub(super) const SIGNATURE_REQUIRED: &str = "SignatureRequired";

impl Delivery {
    /// Whose signatures count: the Kitchen's keys, or those that a caller asks for
    /// in their place.
    pub(super) fn trust(&self, asked: &[String]) -> api::Result<Trust> {
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
    pub(super) async fn signature(
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
        if let Some(key) = trust.signer(&signatures) {
            let detail = format!("signed with the key {key}");
            return ("valid", (OK, detail, String::new()));
        }
        let (word, detail) = if !signatures.found.is_empty() && !trust.keys.is_empty() {
            let known: Vec<_> = trust.keys.iter().map(ToString::to_string).collect();
            (
                "invalid",
                format!("{types}: not made with {}", known.join(" or ")),
            )
        } else if types.is_empty() {
            ("none", "none".to_owned())
        } else {
            ("present", format!("present, not checked: {types}"))
        };
        let differs = trust.required || word == "invalid";
        let status = if differs { DIFFERS } else { OK };
        let hint = match word {
            _ if differs => sign_it(preparation),
            "present" if trust.keys.is_empty() => {
                "--key FILE checks it, as do keys in the Kitchen's spec.signatures".to_owned()
            }
            _ => String::new(),
        };
        (word, (status, detail, hint))
    }

    /// Keeps a signature that was made elsewhere beside the artifact.
    pub(super) async fn sign_preparation_of(
        &self,
        request: &v1::SignPreparationRequest,
    ) -> api::Result<v1::SignPreparationResponse> {
        let preparation = self.preparation_named(&request.namespace, &request.preparation)?;
        let at = preparation.at();
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
        let answer = v1::SignPreparationResponse {
            preparation: at.name.to_string(),
            digest: artifact.digest.clone(),
            key: key.map(ToString::to_string).unwrap_or_default(),
            ..Default::default()
        };
        let place = self.place_of(&at.namespace, artifact)?;
        if request.dry_run {
            // What is lost cannot be signed.
            self.artifacts.manifest(&place, artifact).await?;
            return Ok(answer);
        }
        let payload = request.payload.clone();
        let kept = self
            .artifacts
            .sign(&place, artifact, payload, &request.signature);
        let signature_digest = kept.await?;
        // It may be what the Recipe waits for.
        let recipe = &preparation.spec.recipe;
        self.enqueue(&ReleaseRef::new(ReleaseKind::Recipe, &at.namespace, recipe));
        Ok(v1::SignPreparationResponse {
            signature_digest,
            ..answer
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
pub(super) struct Trust {
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
