//! What the registry reads of a manifest. The bytes themselves are stored as
//! they came.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::oci::Digest;

/// Image manifest (OCI image spec).
pub(super) const IMAGE_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Image index (OCI image spec).
pub const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_IMAGE_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST_TYPE: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Media types are compared, logged and returned: they have to be short.
const LONGEST_TYPE: usize = 255;

/// A descriptor, as it stands in indexes and referrers lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Type of the content.
    pub media_type: String,
    /// Its digest.
    pub digest: String,
    /// Its bytes.
    pub size: u64,
    /// Type of the artifact, for manifests.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub artifact_type: Option<String>,
    /// Annotations, for referrers those of the manifest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// Content that a manifest needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Needed {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) media_type: String,
    /// For images without one, the type of the configuration.
    pub(super) artifact_type: Option<String>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
    pub(super) subject: Option<Digest>,
    /// Configuration and layers.
    pub(super) blobs: Vec<Needed>,
    /// Manifests of an index.
    pub(super) children: Vec<Needed>,
}

impl Document {
    /// Reads a manifest that came with this `Content-Type`.
    pub(super) fn read(content_type: Option<&str>, bytes: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|e| format!("no JSON: {e}"))?;
        let object = value.as_object().ok_or("it is no object")?;
        if object.get("schemaVersion").and_then(Value::as_u64) != Some(2) {
            return Err("schemaVersion is not 2".to_owned());
        }
        let inner = text(object.get("mediaType"), "mediaType")?;
        // Parameters (charset) are no part of the type.
        let outer = content_type.map(|t| t.split(';').next().unwrap_or(t).trim());
        let media_type = match (outer, inner) {
            (Some(outer), Some(inner)) if outer != inner => {
                return Err(format!("it is sent as {outer:?} but says {inner:?}"));
            }
            (Some(media_type), _) | (None, Some(media_type)) => media_type.to_owned(),
            (None, None) => return Err("it has no media type".to_owned()),
        };
        if media_type.len() > LONGEST_TYPE {
            return Err("its media type is too long".to_owned());
        }
        let is_index = match media_type.as_str() {
            IMAGE_TYPE | DOCKER_IMAGE_TYPE => false,
            INDEX_TYPE | DOCKER_LIST_TYPE => true,
            other => return Err(format!("manifests of type {other:?} are not supported")),
        };
        // CVE-2021-41190: a document must not be read as both.
        let (own, other) = if is_index {
            (["manifests"].as_slice(), ["config", "layers"].as_slice())
        } else {
            (["config", "layers"].as_slice(), ["manifests"].as_slice())
        };
        for field in own {
            if !object.contains_key(*field) {
                return Err(format!("{field} is missing"));
            }
        }
        if let Some(field) = other.iter().find(|f| object.contains_key(**f)) {
            return Err(format!("a {media_type} has no {field}"));
        }
        let mut blobs = Vec::new();
        let mut artifact_type = text(object.get("artifactType"), "artifactType")?;
        if !is_index {
            let config = &object["config"];
            blobs.push(needed(config, "config")?);
            let config_type = text(config.get("mediaType"), "config.mediaType")?;
            artifact_type = artifact_type.filter(|t| !t.is_empty()).or(config_type);
            for layer in list(&object["layers"], "layers")? {
                if !is_foreign(layer) {
                    blobs.push(needed(layer, "layers")?);
                }
            }
        }
        let children = match object.get("manifests") {
            Some(manifests) => list(manifests, "manifests")?
                .iter()
                .map(|child| needed(child, "manifests"))
                .collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        let subject = match object.get("subject") {
            None | Some(Value::Null) => None,
            Some(subject) => Some(needed(subject, "subject")?.digest),
        };
        let annotations = match object.get("annotations") {
            None | Some(Value::Null) => None,
            Some(map) => Some(
                serde_json::from_value(map.clone())
                    .map_err(|_| "annotations is no map of text".to_owned())?,
            ),
        };
        Ok(Self {
            artifact_type: artifact_type.filter(|t| !t.is_empty()).map(str::to_owned),
            annotations,
            subject,
            blobs,
            children,
            media_type,
        })
    }
}

/// Every digest that stands anywhere in a document: whatever a manifest of a
/// kind that is not known may refer to is found.
pub(super) fn mentioned(bytes: &[u8], found: &mut impl FnMut(Digest)) -> Result<(), String> {
    fn walk(value: &Value, found: &mut impl FnMut(Digest)) {
        match value {
            Value::String(text) => {
                if let Ok(digest) = text.parse() {
                    found(digest);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            Value::Object(fields) => fields.values().for_each(|field| walk(field, found)),
            _ => {}
        }
    }

    let value: Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    walk(&value, found);
    Ok(())
}

/// Layers that are had elsewhere need not be here.
fn is_foreign(layer: &Value) -> bool {
    let kind = layer.get("mediaType").and_then(Value::as_str).unwrap_or("");
    let urls = layer.get("urls").and_then(Value::as_array);
    kind.contains(".nondistributable.")
        || kind.contains(".foreign.")
        || urls.is_some_and(|urls| !urls.is_empty())
}

fn needed(descriptor: &Value, field: &str) -> Result<Needed, String> {
    let digest = descriptor
        .get("digest")
        .and_then(Value::as_str)
        .ok_or_else(|| format!("{field}: a descriptor has no digest"))?
        .parse()
        .map_err(|e| format!("{field}: {e}"))?;
    let size = descriptor
        .get("size")
        .and_then(Value::as_u64)
        .ok_or_else(|| format!("{field}: the descriptor of {digest} has no size"))?;
    Ok(Needed { digest, size })
}

fn list<'a>(value: &'a Value, field: &str) -> Result<&'a Vec<Value>, String> {
    value
        .as_array()
        .ok_or_else(|| format!("{field} is no list"))
}

fn text<'a>(value: Option<&'a Value>, field: &str) -> Result<Option<&'a str>, String> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{field} is no text")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn descriptor(n: u8) -> Value {
        json!({"mediaType": "t/x", "digest": Digest::sha256(&[n]).as_str(), "size": 1})
    }

    fn image() -> Value {
        json!({"schemaVersion": 2, "mediaType": IMAGE_TYPE,
            "config": descriptor(1), "layers": [descriptor(2), descriptor(3)]})
    }

    fn read(value: &Value) -> Result<Document, String> {
        Document::read(None, value.to_string().as_bytes())
    }

    #[test]
    fn images_and_indexes() {
        let mut value = image();
        value["subject"] = descriptor(9);
        value["annotations"] = json!({"a": "b"});
        let document = read(&value).unwrap();
        assert_eq!(document.blobs.len(), 3);
        assert_eq!(document.artifact_type.as_deref(), Some("t/x"));
        assert_eq!(document.subject, Some(Digest::sha256(&[9])));
        value["artifactType"] = json!("own/type");
        assert_eq!(
            read(&value).unwrap().artifact_type.as_deref(),
            Some("own/type")
        );
        let index = json!({"schemaVersion": 2, "manifests": [descriptor(1)]});
        let bytes = index.to_string();
        let document = Document::read(Some(INDEX_TYPE), bytes.as_bytes()).unwrap();
        assert_eq!(document.children.len(), 1);
        assert!(document.blobs.is_empty());
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let broken = |change: fn(&mut Value)| {
            let mut value = image();
            change(&mut value);
            read(&value).unwrap_err()
        };
        broken(|v| v["schemaVersion"] = json!(1));
        broken(|v| v["mediaType"] = json!("text/plain"));
        broken(|v| v["mediaType"] = json!(7));
        broken(|v| v["config"] = json!({}));
        broken(|v| v["config"]["digest"] = json!("sha256:1"));
        broken(|v| v["config"]["size"] = json!(-1));
        broken(|v| v["layers"] = json!("x"));
        broken(|v| v["manifests"] = json!([]));
        broken(|v| v["annotations"] = json!({"a": 1}));
        broken(|v| v["subject"] = json!({}));
        broken(|v| *v = json!([]));
        assert!(Document::read(None, b"").is_err());
        assert!(Document::read(None, &image().to_string().as_bytes()[..40]).is_err());
        let other = Document::read(Some(INDEX_TYPE), image().to_string().as_bytes());
        assert!(other.unwrap_err().contains("but says"));
    }

    #[test]
    fn foreign_layers_are_not_needed() {
        let mut value = image();
        value["layers"][0]["mediaType"] =
            json!("application/vnd.oci.image.layer.nondistributable.v1.tar");
        value["layers"][1]["urls"] = json!(["https://elsewhere.example/x"]);
        assert_eq!(read(&value).unwrap().blobs.len(), 1);
    }

    #[test]
    fn every_digest_is_found() {
        let mut found = Vec::new();
        let text = json!({"a": [{"b": Digest::sha256(b"1").as_str()}], "c": "sha256:x",
            "d": Digest::sha256(b"2").as_str()});
        mentioned(text.to_string().as_bytes(), &mut |d| found.push(d)).unwrap();
        assert_eq!(found, [Digest::sha256(b"1"), Digest::sha256(b"2")]);
    }
}
