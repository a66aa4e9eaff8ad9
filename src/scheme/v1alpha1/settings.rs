//! Pantry, RecipeTemplate, Kitchen.

use super::super::check::{Check, Words};
use super::super::{Error, Secrets};
use super::patch::{patch_to_external, patches_to_model};
use super::source::{
    render_to_external, render_to_model, repository, source_to_external, source_to_model,
};
use super::status::{conditions_to_external, conditions_to_model, lookup};
use super::target::{target_to_external, target_to_model};
use super::{VERSION, envelope, metadata, word_of};
use crate::api::delivery::v1alpha1 as external;
use crate::model::delivery::{
    Kitchen, KitchenSpec, OverridePolicy, Overrides, Pantry, PantryPhase, PantrySpec, PantryStatus,
    RecipeTemplate, RecipeTemplateSpec, ReleaseKind, Signatures,
};
use crate::oci::signature::PublicKey;

const PHASES: &Words<PantryPhase> = &[
    ("Pending", PantryPhase::Pending),
    ("Ready", PantryPhase::Ready),
    ("Failed", PantryPhase::Failed),
];

/// Which part of a policy is meant, before its list is read.
#[derive(Clone, Copy, Default, PartialEq)]
enum Policy {
    #[default]
    All,
    Restricted,
    None,
}

const POLICIES: &Words<Policy> = &[
    ("All", Policy::All),
    ("Restricted", Policy::Restricted),
    ("None", Policy::None),
];

/// Pantry from its document.
pub fn pantry_to_model(document: external::Pantry) -> Result<Pantry, Error> {
    let mut check = Check::default();
    let external::Pantry {
        api_version,
        kind,
        metadata,
        spec,
        status,
    } = document;
    let meta = envelope(
        &mut check,
        ReleaseKind::Pantry,
        &api_version,
        &kind,
        metadata,
    );
    let external::PantrySpec {
        oci,
        username,
        password,
        ca,
        plain_http,
    } = spec.unwrap_or_default();
    let oci = repository(&mut check, "spec.oci", &oci);
    if username.is_empty() && !password.is_empty() {
        let what = "is required with a password";
        check.bad("spec.username", "MissingField", what);
    }
    if !ca.is_empty() && !ca.contains("-----BEGIN CERTIFICATE-----") {
        check.bad("spec.ca", "BadValue", "holds no PEM certificate");
    }
    let external::PantryStatus {
        observed_generation,
        phase,
        conditions,
    } = status.unwrap_or_default();
    let pantry = meta.zip(oci).map(|(meta, oci)| Pantry {
        meta,
        spec: PantrySpec {
            oci,
            username,
            password,
            ca,
            plain_http,
        },
        status: PantryStatus {
            observed_generation,
            phase: lookup(PHASES, &phase).unwrap_or_default(),
            conditions: conditions_to_model(conditions),
        },
    });
    check.finish(pantry)
}

/// Document of a Pantry.
pub fn pantry_to_external(pantry: &Pantry, secrets: Secrets) -> external::Pantry {
    let Pantry { meta, spec, status } = pantry;
    external::Pantry {
        api_version: VERSION.to_owned(),
        kind: "Pantry".to_owned(),
        metadata: metadata(meta),
        spec: Some(external::PantrySpec {
            oci: spec.oci.to_string(),
            username: spec.username.clone(),
            password: match secrets {
                Secrets::Keep => spec.password.clone(),
                Secrets::Hide => String::new(),
            },
            ca: spec.ca.clone(),
            plain_http: spec.plain_http,
        }),
        status: Some(external::PantryStatus {
            observed_generation: status.observed_generation,
            phase: word_of(PHASES, &status.phase),
            conditions: conditions_to_external(&status.conditions),
        }),
    }
}

/// RecipeTemplate from its document.
pub fn template_to_model(document: external::RecipeTemplate) -> Result<RecipeTemplate, Error> {
    let mut check = Check::default();
    let external::RecipeTemplate {
        api_version,
        kind,
        metadata,
        spec,
    } = document;
    let meta = envelope(
        &mut check,
        ReleaseKind::RecipeTemplate,
        &api_version,
        &kind,
        metadata,
    );
    let external::RecipeTemplateSpec {
        source,
        render,
        patches,
        overrides,
        defaults,
    } = spec.unwrap_or_default();
    if source.is_none() {
        check.bad("spec.source", "MissingField", "is required");
    }
    let source = source.and_then(|source| source_to_model(&mut check, "spec.source", source));
    let render = render_to_model(&mut check, "spec.render", render);
    let patches = patches_to_model(&mut check, "spec.patches", patches);
    let external::Overrides {
        values,
        patches: over_patches,
    } = overrides.unwrap_or_default();
    let overrides = Overrides {
        values: policy_to_model(&mut check, "spec.overrides.values", values),
        patches: policy_to_model(&mut check, "spec.overrides.patches", over_patches),
    };
    let template = meta.zip(source).map(|(meta, source)| RecipeTemplate {
        meta,
        spec: RecipeTemplateSpec {
            source,
            render,
            patches,
            overrides,
            auto_deploy: defaults.unwrap_or_default().auto_deploy,
        },
    });
    check.finish(template)
}

fn policy_to_model(
    check: &mut Check,
    path: &str,
    policy: Option<external::OverridePolicy>,
) -> OverridePolicy {
    let external::OverridePolicy { policy, allowed } = policy.unwrap_or_default();
    let word = check.word(&format!("{path}.policy"), &policy, POLICIES);
    if word != Policy::Restricted && !allowed.is_empty() {
        check.bad(
            format!("{path}.allowed"),
            "BadValue",
            "is only for Restricted",
        );
    }
    match word {
        Policy::All => OverridePolicy::All,
        Policy::Restricted => OverridePolicy::Restricted(allowed),
        Policy::None => OverridePolicy::None,
    }
}

fn policy_to_external(policy: &OverridePolicy) -> Option<external::OverridePolicy> {
    let (word, allowed) = match policy {
        OverridePolicy::All => return None,
        OverridePolicy::Restricted(allowed) => (Policy::Restricted, allowed.clone()),
        OverridePolicy::None => (Policy::None, Vec::new()),
    };
    Some(external::OverridePolicy {
        policy: word_of(POLICIES, &word),
        allowed,
    })
}

/// Document of a RecipeTemplate.
pub fn template_to_external(template: &RecipeTemplate) -> external::RecipeTemplate {
    let RecipeTemplate { meta, spec } = template;
    let RecipeTemplateSpec {
        source,
        render,
        patches,
        overrides,
        auto_deploy,
    } = spec;
    external::RecipeTemplate {
        api_version: VERSION.to_owned(),
        kind: "RecipeTemplate".to_owned(),
        metadata: metadata(meta),
        spec: Some(external::RecipeTemplateSpec {
            source: Some(source_to_external(source)),
            render: render_to_external(render),
            patches: patches.iter().map(patch_to_external).collect(),
            overrides: (*overrides != Overrides::default()).then(|| external::Overrides {
                values: policy_to_external(&overrides.values),
                patches: policy_to_external(&overrides.patches),
            }),
            defaults: auto_deploy.map(|on| external::TemplateDefaults {
                auto_deploy: Some(on),
            }),
        }),
    }
}

/// Kitchen from its document.
pub fn kitchen_to_model(document: external::Kitchen) -> Result<Kitchen, Error> {
    let mut check = Check::default();
    let external::Kitchen {
        api_version,
        kind,
        metadata,
        spec,
    } = document;
    let meta = envelope(
        &mut check,
        ReleaseKind::Kitchen,
        &api_version,
        &kind,
        metadata,
    );
    if let Some(meta) = &meta
        && !(Kitchen::is_named(&meta.name) && Kitchen::is_named(&meta.namespace))
    {
        let what = "there is one Kitchen, named default, in the namespace default";
        check.bad("metadata.name", "BadName", what);
    }
    let external::KitchenSpec {
        argocd_url,
        default_target,
        registry_url,
        source_roots,
        signatures,
    } = spec.unwrap_or_default();
    for (i, root) in source_roots.iter().enumerate() {
        check.absolute(&format!("spec.sourceRoots[{i}]"), root);
    }
    let default_target =
        default_target.map(|target| target_to_model(&mut check, "spec.defaultTarget", target));
    let signatures = signatures_to_model(&mut check, signatures.unwrap_or_default());
    let kitchen = meta.map(|meta| Kitchen {
        meta,
        spec: KitchenSpec {
            argocd_url,
            default_target,
            registry_url,
            source_roots,
            signatures,
        },
    });
    check.finish(kitchen)
}

fn signatures_to_model(check: &mut Check, signatures: external::Signatures) -> Signatures {
    let external::Signatures {
        required,
        public_keys,
    } = signatures;
    for (i, key) in public_keys.iter().enumerate() {
        if let Err(why) = PublicKey::from_pem(key) {
            let field = format!("spec.signatures.publicKeys[{i}]");
            check.bad(&field, "BadKey", why);
        }
    }
    if required && public_keys.is_empty() {
        let what = "no signature could ever count; add the public keys of who signs";
        check.bad("spec.signatures.publicKeys", "MissingField", what);
    }
    Signatures {
        required,
        public_keys,
    }
}

/// Document of a Kitchen.
pub fn kitchen_to_external(kitchen: &Kitchen) -> external::Kitchen {
    let Kitchen { meta, spec } = kitchen;
    let KitchenSpec {
        argocd_url,
        default_target,
        registry_url,
        source_roots,
        signatures,
    } = spec;
    external::Kitchen {
        api_version: VERSION.to_owned(),
        kind: "Kitchen".to_owned(),
        metadata: metadata(meta),
        spec: Some(external::KitchenSpec {
            argocd_url: argocd_url.clone(),
            default_target: default_target.as_ref().map(target_to_external),
            registry_url: registry_url.clone(),
            source_roots: source_roots.clone(),
            signatures: (*signatures != Signatures::default()).then(|| external::Signatures {
                required: signatures.required,
                public_keys: signatures.public_keys.clone(),
            }),
        }),
    }
}
