//! What a Preparation is stored as: an OCI artifact whose digest is a function
//! of the configuration hash and the canonical manifest alone, and the records
//! that refer to it (delivery spec, section 5).

pub(in crate::delivery) mod gzip;
pub(in crate::delivery) mod tar;

use std::collections::BTreeMap;

use crate::delivery::failure::{Failure, Reason, Result};
use crate::delivery::source::{Tree, archive};
use crate::model::Value;
use crate::model::delivery::TargetType;
use crate::oci::Digest;
use crate::oci::signature::{SIMPLE_ANNOTATION, SIMPLE_LAYER, SIMPLE_TYPE};

/// `mediaType` of the manifests.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// `artifactType` of a Preparation.
pub const ARTIFACT_TYPE: &str = "application/vnd.kokumi.preparation.v1";
/// `mediaType` of its configuration.
pub const CONFIG_TYPE: &str = "application/vnd.kokumi.preparation.config.v1+json";
/// `mediaType` of its one layer.
pub const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// `artifactType` of a revision's record, and `mediaType` of its layer.
pub const RECORD_TYPE: &str = "application/vnd.kokumi.preparation.record.v1+json";
/// `mediaType` of a configuration that says nothing (OCI image spec).
pub const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// Name of the file in the layer.
pub const FILE: &str = "manifest.yaml";
/// Largest layer that is read, in bytes.
const MAX_LAYER: usize = 65 << 20;

const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";
const SOURCE: &str = "org.opencontainers.image.source";
const URL: &str = "org.opencontainers.image.url";
const VERSION: &str = "org.opencontainers.image.version";
const REVISION: &str = "org.opencontainers.image.revision";
const CREATED: &str = "org.opencontainers.image.created";

/// What goes into an artifact besides the documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// Hash of all inputs, `sha256:…`.
    pub config_hash: String,
    /// Renderer, for example `helm`.
    pub renderer: String,
    /// Its contract number.
    pub contract: u32,
    /// Content digest of the source, `sha256:…`.
    pub source_digest: String,
    /// Which target it was rendered for.
    pub target: TargetType,
    /// Annotations of the source's manifest; only those about its origin are used.
    pub base: BTreeMap<String, String>,
}

/// A blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Content.
    pub bytes: Vec<u8>,
    /// Its digest.
    pub digest: String,
}

impl Blob {
    pub(in crate::delivery) fn of(bytes: Vec<u8>) -> Self {
        let digest = Digest::sha256(&bytes).to_string();
        Self { bytes, digest }
    }
}

/// An artifact, ready to be pushed: the blobs first, then the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The manifest; its digest is the artifact's.
    pub manifest: Blob,
    /// The configuration.
    pub config: Blob,
    /// The one layer.
    pub layer: Blob,
}

impl Packed {
    /// The artifact's digest.
    pub fn digest(&self) -> &str {
        &self.manifest.digest
    }

    /// Bytes of manifest, configuration and layer.
    pub fn size(&self) -> u64 {
        [&self.manifest, &self.config, &self.layer]
            .iter()
            .map(|blob| blob.bytes.len() as u64)
            .sum()
    }
}

/// Packs a canonical manifest.
pub fn pack(manifest: &str, parts: &Parts) -> Packed {
    let tar = tar::single(FILE, manifest.as_bytes());
    let content = Digest::sha256(&tar).to_string();
    let layer = Blob::of(gzip::wrap(&tar));
    let config = object([
        ("configHash", parts.config_hash.as_str().into()),
        (
            "renderer",
            object([
                ("contract", parts.contract.into()),
                ("name", parts.renderer.as_str().into()),
            ]),
        ),
        ("sourceDigest", parts.source_digest.as_str().into()),
        ("targetType", parts.target.as_str().into()),
    ]);
    let config = Blob::of(json(&config));
    let mut described = descriptor(LAYER_TYPE, &layer);
    let annotations = object([
        ("org.opencontainers.image.title", ".".into()),
        ("io.deis.oras.content.unpack", "true".into()),
        ("io.deis.oras.content.digest", content.into()),
    ]);
    described.extend([("annotations", annotations)]);
    let manifest = object([
        ("schemaVersion", 2.into()),
        ("mediaType", MANIFEST_TYPE.into()),
        ("artifactType", ARTIFACT_TYPE.into()),
        ("config", object(descriptor(CONFIG_TYPE, &config))),
        ("layers", vec![object(described)].into()),
        ("annotations", annotations_of(parts)),
    ]);
    Packed {
        manifest: Blob::of(json(&manifest)),
        config,
        layer,
    }
}

/// Annotations about the origin, taken over from the base.
fn annotations_of(parts: &Parts) -> Value {
    let base = |key: &str| parts.base.get(key).filter(|text| !text.is_empty());
    let mut out: Vec<(&str, Value)> = vec![(BASE_DIGEST, parts.source_digest.as_str().into())];
    if let Some(source) = base(SOURCE).or_else(|| base(URL)) {
        out.push((SOURCE, source.as_str().into()));
    }
    if let Some(version) = base(VERSION) {
        out.push((VERSION, version.as_str().into()));
    }
    if let Some(revision) = base(REVISION) {
        let revision = revision.split('@').next().unwrap_or_default();
        out.push((REVISION, revision.into()));
    }
    object(out)
}

/// What is remembered of one revision, apart from the artifact: it would make
/// equal artifacts differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Recipe, `<namespace>/<name>`.
    pub recipe: String,
    /// Number of the revision.
    pub revision: i64,
    /// Commit message.
    pub message: String,
    /// Artifact that was the latest before.
    pub parent: Option<String>,
    /// Reference of the source.
    pub base_name: String,
    /// Who.
    pub actor: String,
    /// When, RFC 3339.
    pub time: String,
    /// Files of the source that documents came from, with how many each.
    pub files: Vec<(String, usize)>,
}

/// A record as an artifact that refers to the Preparation's
/// (`subject`): its manifest, its layer, and the empty configuration.
pub fn record(record: &Record, subject: &Blob) -> Packed {
    let mut body = vec![
        ("recipe", record.recipe.as_str().into()),
        ("revision", record.revision.into()),
        ("message", record.message.as_str().into()),
        ("baseName", record.base_name.as_str().into()),
        ("actor", record.actor.as_str().into()),
        ("time", record.time.as_str().into()),
    ];
    let mut annotations = vec![
        (
            "org.opencontainers.image.description",
            record.message.as_str().into(),
        ),
        (
            "org.opencontainers.image.base.name",
            record.base_name.as_str().into(),
        ),
        (CREATED, record.time.as_str().into()),
    ];
    if let Some(parent) = &record.parent {
        body.push(("parent", parent.as_str().into()));
        annotations.push(("kokumi.dev/parent", parent.as_str().into()));
    }
    if !record.files.is_empty() {
        let files = record.files.iter().map(|(file, documents)| {
            object([
                ("documents", (*documents).into()),
                ("file", file.as_str().into()),
            ])
        });
        body.push(("files", files.collect::<Vec<Value>>().into()));
    }
    let layer = Blob::of(json(&object(body)));
    let config = Blob::of(b"{}".to_vec());
    let manifest = object([
        ("schemaVersion", 2.into()),
        ("mediaType", MANIFEST_TYPE.into()),
        ("artifactType", RECORD_TYPE.into()),
        ("config", object(descriptor(EMPTY_TYPE, &config))),
        (
            "layers",
            vec![object(descriptor(RECORD_TYPE, &layer))].into(),
        ),
        ("subject", object(descriptor(MANIFEST_TYPE, subject))),
        ("annotations", object(annotations)),
    ]);
    Packed {
        manifest: Blob::of(json(&manifest)),
        config,
        layer,
    }
}

/// A simple signature of a Preparation's artifact (`subject`), as cosign keeps it.
pub fn signed(payload: Vec<u8>, signature: &str, subject: &Blob) -> Packed {
    let layer = Blob::of(payload);
    let config = Blob::of(b"{}".to_vec());
    let annotations = object([(SIMPLE_ANNOTATION, signature.into())]);
    let layers = descriptor(SIMPLE_LAYER, &layer)
        .into_iter()
        .chain([("annotations", annotations)]);
    let manifest = object([
        ("schemaVersion", 2.into()),
        ("mediaType", MANIFEST_TYPE.into()),
        ("artifactType", SIMPLE_TYPE.into()),
        ("config", object(descriptor(SIMPLE_TYPE, &config))),
        ("layers", vec![object(layers)].into()),
        ("subject", object(descriptor(MANIFEST_TYPE, subject))),
    ]);
    Packed {
        manifest: Blob::of(json(&manifest)),
        config,
        layer,
    }
}

/// Whether annotations are those of a record of this time: no two revisions of a
/// Recipe have the same one.
pub fn is_of(annotations: &BTreeMap<String, String>, time: &str) -> bool {
    annotations.get(CREATED).map(String::as_str) == Some(time)
}

/// What an artifact says of itself, before its layer is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Digest of the configuration.
    pub config: String,
    /// Digest of the layer.
    pub layer: String,
    /// Bytes of the layer.
    pub layer_size: u64,
}

/// Reads an artifact's manifest, which must have this digest.
pub fn describe(manifest: &[u8], digest: &str) -> Result<Described> {
    expect("the manifest", manifest, digest)?;
    let wrong =
        |why: &str| Failure::new(Reason::ArtifactInvalid, format!("artifact {digest}: {why}"));
    let value = std::str::from_utf8(manifest)
        .ok()
        .and_then(|text| Value::from_json(text).ok())
        .ok_or_else(|| wrong("its manifest is no JSON"))?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    if text(value.get("artifactType")) != ARTIFACT_TYPE {
        return Err(wrong("it is no Preparation"));
    }
    let [layer] = value
        .get("layers")
        .and_then(Value::as_list)
        .unwrap_or_default()
    else {
        return Err(wrong("it must have exactly one layer"));
    };
    let size = layer.get("size").and_then(Value::as_i64).unwrap_or(-1);
    let size = usize::try_from(size).ok().filter(|size| *size <= MAX_LAYER);
    let found = Described {
        config: text(value.at(&["config", "digest"])),
        layer: text(layer.get("digest")),
        layer_size: size.ok_or_else(|| wrong("its layer is too large"))? as u64,
    };
    if found.config.is_empty() || found.layer.is_empty() {
        return Err(wrong("its manifest names no content"));
    }
    Ok(found)
}

/// The manifest in a layer, which must have this digest.
pub async fn unpack(layer: &[u8], digest: &str) -> Result<String> {
    expect("the layer", layer, digest)?;
    let wrong =
        |why: String| Failure::new(Reason::ArtifactInvalid, format!("layer {digest}: {why}"));
    let mut tree = Tree::default();
    archive::extract(layer, "", &mut tree)
        .await
        .map_err(|failure| wrong(failure.message))?;
    let mut files = tree.into_files();
    match (files.remove(FILE), files.is_empty()) {
        (Some(file), true) => {
            String::from_utf8(file.bytes).map_err(|_| wrong(format!("{FILE} is not UTF-8 text")))
        }
        _ => Err(wrong(format!("expected {FILE} and nothing else"))),
    }
}

/// Compares content with what it should be.
fn expect(what: &str, bytes: &[u8], digest: &str) -> Result<()> {
    let found = Digest::sha256(bytes).to_string();
    match found == digest {
        true => Ok(()),
        false => Err(Failure::new(
            Reason::ArtifactInvalid,
            format!("{what} has the digest {found}, expected {digest}"),
        )),
    }
}

fn descriptor(media_type: &'static str, blob: &Blob) -> Vec<(&'static str, Value)> {
    vec![
        ("mediaType", media_type.into()),
        ("digest", blob.digest.as_str().into()),
        ("size", blob.bytes.len().into()),
    ]
}

fn object<'k>(entries: impl IntoIterator<Item = (&'k str, Value)>) -> Value {
    entries.into_iter().collect()
}

/// Canonical JSON. Its numbers are sizes and counters, which a double holds; if
/// one ever did not, its own digits are as good.
fn json(value: &Value) -> Vec<u8> {
    let text = value.to_canonical_json();
    text.unwrap_or_else(|_| value.to_json()).into_bytes()
}

#[cfg(test)]
mod tests;
