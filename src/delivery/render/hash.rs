//! The configuration hash: everything the manifest's bytes depend on, and
//! nothing else (delivery spec, section 5).

use crate::convert::kubernetes;
use crate::delivery::canonical;
use crate::model::Value;
use crate::model::delivery::{OnMissing, Patch, SourceKind, TargetType};
use crate::oci::Digest;

use super::{Inputs, Plan};

/// Version of what is hashed.
const SCHEMA: u32 = 1;

/// `sha256:` and the hash of the inputs' canonical JSON.
///
/// What a user may write as any value goes in as JSON text: the order of its
/// keys and the digits of its numbers decide bytes, and RFC 8785 drops both.
pub(super) fn of(inputs: &Inputs<'_>, plan: &Plan) -> String {
    let kind = match inputs.source_kind {
        SourceKind::Oci | SourceKind::Pantry => "oci",
        SourceKind::Path => "path",
    };
    let target = match (inputs.target.kind, &plan.scope) {
        (TargetType::Kuke, scope) => object([
            ("type", "kuke".into()),
            ("realm", scope.realm.as_str().into()),
            ("space", scope.space.as_str().into()),
            ("stack", scope.stack.as_str().into()),
        ]),
        // Cells that become Kubernetes objects get their scope as well.
        (TargetType::ArgoCd, scope) if inputs.render.kubernetes => object([
            ("type", "argocd".into()),
            ("realm", scope.realm.as_str().into()),
            ("space", scope.space.as_str().into()),
            ("stack", scope.stack.as_str().into()),
        ]),
        (TargetType::ArgoCd, _) => object([("type", "argocd".into())]),
    };
    let value = object([
        ("schema", SCHEMA.into()),
        (
            "renderer",
            object([
                ("name", plan.name.into()),
                ("contract", plan.contract.into()),
                ("canonical", canonical::CONTRACT.into()),
                ("executable", plan.executable().into()),
            ]),
        ),
        (
            "source",
            object([
                ("kind", kind.into()),
                ("digest", inputs.source_digest.into()),
                ("subPath", sub_path(inputs.sub_path).into()),
            ]),
        ),
        ("options", plan.options()),
        ("kubernetes", converter(inputs.render.kubernetes)),
        ("patches", patches(inputs.patches)),
        ("edits", patches(inputs.edits)),
        ("target", target),
    ]);
    // Nothing in it but text, truth and small numbers, so this cannot fail.
    let text = value
        .to_canonical_json()
        .unwrap_or_else(|_| value.to_json());
    Digest::sha256(text.as_bytes()).to_string()
}

/// Contract of the conversion to Kubernetes objects, where it is wanted.
fn converter(wanted: bool) -> Value {
    match wanted {
        true => kubernetes::CONTRACT.into(),
        false => false.into(),
    }
}

/// One spelling of a relative path.
fn sub_path(path: &str) -> String {
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    parts.collect::<Vec<_>>().join("/")
}

fn patches(patches: &[Patch]) -> Value {
    Value::List(patches.iter().map(patch).collect())
}

fn patch(patch: &Patch) -> Value {
    let target = &patch.target;
    let optional = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
    let pair = |path: &str, value: String| Value::List(vec![path.into(), value.into()]);
    let set = patch
        .set
        .iter()
        .map(|(path, value)| pair(path, value.to_json()));
    let text = patch
        .set_string
        .iter()
        .map(|(path, text)| pair(path, text.clone()));
    let unset = patch.unset.iter().map(|path| path.as_str().into());
    let operations = patch.json_patch.iter().map(|value| value.to_json().into());
    let merge = patch
        .merge
        .as_ref()
        .map_or(Value::Null, |value| value.to_json().into());
    object([
        (
            "target",
            object([
                ("kind", target.kind.as_str().into()),
                ("name", target.name.as_str().into()),
                ("namespace", optional(&target.namespace)),
                ("apiVersion", optional(&target.api_version)),
                ("realm", optional(&target.realm)),
                ("space", optional(&target.space)),
                ("stack", optional(&target.stack)),
            ]),
        ),
        ("set", Value::List(set.collect())),
        ("setString", Value::List(text.collect())),
        ("unset", Value::List(unset.collect())),
        ("merge", merge),
        ("jsonPatch", Value::List(operations.collect())),
        (
            "ignoreMissing",
            (patch.on_missing == OnMissing::Ignore).into(),
        ),
    ])
}

fn object<const N: usize>(entries: [(&str, Value); N]) -> Value {
    entries.into_iter().collect()
}
