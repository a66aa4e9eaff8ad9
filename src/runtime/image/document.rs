//! The JSON documents of an image (OCI image spec; Docker image manifest v2
//! schema 2 has the same fields), as far as they matter here.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::digest;
use super::platform::Platform;

pub(crate) use crate::oci::media::{DOCKER_LIST, DOCKER_MANIFEST, INDEX, MANIFEST};
pub(crate) use crate::registry::client::MAX_DOCUMENT;

/// OCI image configuration.
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI layer, not compressed.
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Whether the media type is an index or manifest list.
pub(crate) fn is_index(media_type: &str) -> bool {
    matches!(media_type, INDEX | DOCKER_LIST)
}

/// Whether the media type is an image manifest.
pub(crate) fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, MANIFEST | DOCKER_MANIFEST)
}

/// Go writes `null` for an empty list or map.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

/// Points at a blob.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    /// What the blob is.
    #[serde(default)]
    pub(crate) media_type: String,
    /// Its digest.
    pub(crate) digest: String,
    /// Its bytes.
    pub(crate) size: u64,
    /// What an image in an index runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    /// Free-form; names in an OCI layout.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Describes bytes at hand.
    pub(crate) fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: digest::of(bytes),
            size: bytes.len() as u64,
            ..Self::default()
        }
    }

    /// The same for containerd's API.
    pub(crate) fn to_api(&self) -> containerd_client::types::Descriptor {
        containerd_client::types::Descriptor {
            media_type: self.media_type.clone(),
            digest: self.digest.clone(),
            // Sizes above 2^63 do not exist.
            size: i64::try_from(self.size).unwrap_or(i64::MAX),
            annotations: self.annotations.clone().into_iter().collect(),
        }
    }

    /// The same from containerd's API.
    pub(crate) fn from_api(from: &containerd_client::types::Descriptor) -> Self {
        Self {
            media_type: from.media_type.clone(),
            digest: from.digest.clone(),
            size: u64::try_from(from.size).unwrap_or(0),
            platform: None,
            annotations: from
                .annotations
                .iter()
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
        }
    }
}

/// Index or manifest list: one image for several platforms.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    /// Always 2.
    #[serde(default)]
    pub(crate) schema_version: u32,
    /// What it is.
    #[serde(default)]
    pub(crate) media_type: String,
    /// One for each platform.
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) manifests: Vec<Descriptor>,
}

/// Manifest: configuration and layers of an image.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    /// Always 2.
    #[serde(default)]
    pub(crate) schema_version: u32,
    /// What it is.
    #[serde(default)]
    pub(crate) media_type: String,
    /// Its configuration.
    pub(crate) config: Descriptor,
    /// Its layers, the lowest first.
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) layers: Vec<Descriptor>,
}

/// The part of an image configuration that unpacking needs.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Config {
    /// What it runs on.
    #[serde(flatten)]
    pub(crate) platform: Platform,
    /// Its layers.
    #[serde(default)]
    pub(crate) rootfs: RootFs,
}

/// Digests of the uncompressed layers.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct RootFs {
    /// The lowest first.
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) diff_ids: Vec<String>,
}

/// Reads an index.
pub(crate) fn parse_index(bytes: &[u8]) -> Result<Index, String> {
    let index: Index = parse("index", bytes)?;
    checked(&index.manifests)?;
    Ok(index)
}

/// Reads a manifest.
pub(crate) fn parse_manifest(bytes: &[u8]) -> Result<Manifest, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        #[serde(default)]
        schema_version: u32,
    }

    let Version { schema_version } = parse("manifest", bytes)?;
    if schema_version == 1 {
        return Err("it has a manifest of schema 1, which is obsolete; push it again".into());
    }
    let manifest: Manifest = parse("manifest", bytes)?;
    checked(std::slice::from_ref(&manifest.config))?;
    checked(&manifest.layers)?;
    Ok(manifest)
}

/// Reads a configuration that must go with a manifest.
pub(crate) fn parse_config(bytes: &[u8], manifest: &Manifest) -> Result<Config, String> {
    let config: Config = parse("configuration", bytes)?;
    let (layers, ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if layers != ids {
        return Err(format!(
            "its manifest has {layers} layers and its configuration {ids}; it is not an image \
             to run"
        ));
    }
    match config.rootfs.diff_ids.iter().find(|d| !digest::is_valid(d)) {
        Some(bad) => Err(format!("layer digest {bad:?} is malformed")),
        None => Ok(config),
    }
}

/// Reads a bounded JSON document.
pub(crate) fn parse<'a, T: Deserialize<'a>>(what: &str, bytes: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|e| format!("its {what} is not valid: {e}"))
}

fn checked(descriptors: &[Descriptor]) -> Result<(), String> {
    match descriptors.iter().find(|d| !digest::is_valid(&d.digest)) {
        Some(bad) => Err(format!(
            "digest {:?} is malformed or not of kind sha256",
            bad.digest
        )),
        None => Ok(()),
    }
}

/// The entries of an index that can run on `wanted`, the best first. Entries
/// that state no platform come last: their configuration will tell.
pub(crate) fn candidates<'a>(index: &'a Index, wanted: &Platform) -> Vec<&'a Descriptor> {
    let usable = |d: &Descriptor| {
        is_manifest(&d.media_type) || is_index(&d.media_type) || d.media_type.is_empty()
    };
    let mut ranked: Vec<(u32, &Descriptor)> = index
        .manifests
        .iter()
        .filter(|d| usable(d))
        .filter_map(|d| match &d.platform {
            Some(platform) => wanted.rank(platform).map(|rank| (rank, d)),
            None => Some((u32::MAX, d)),
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, d)| d).collect()
}

/// The platforms of an index, for a message.
pub(crate) fn offered(index: &Index) -> String {
    let names: Vec<String> = index
        .manifests
        .iter()
        .filter_map(|d| d.platform.as_ref())
        .filter(|p| p.os != "unknown")
        .map(ToString::to_string)
        .collect();
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(platform: &str) -> Descriptor {
        Descriptor {
            media_type: MANIFEST.into(),
            digest: digest::of(platform.as_bytes()),
            size: 1,
            platform: Platform::parse(platform).ok(),
            ..Descriptor::default()
        }
    }

    #[test]
    fn the_best_platform_comes_first() {
        let index = Index {
            manifests: vec![
                entry("linux/arm/v5"),
                entry("linux/amd64"),
                entry("linux/arm/v6"),
                entry("unknown/unknown"),
            ],
            ..Index::default()
        };
        let wanted = Platform::parse("linux/arm/v7").unwrap();
        let found: Vec<_> = candidates(&index, &wanted)
            .iter()
            .map(|d| d.platform.as_ref().unwrap().to_string())
            .collect();
        assert_eq!(found, ["linux/arm/v6", "linux/arm/v5"]);
        assert_eq!(offered(&index), "linux/arm/v5, linux/amd64, linux/arm/v6");
    }

    #[test]
    fn null_lists_and_bad_digests() {
        assert!(parse_index(br#"{"schemaVersion":2,"manifests":null}"#).is_ok());
        let bad = br#"{"manifests":[{"digest":"sha256:../../etc","size":1}]}"#;
        assert!(parse_index(bad).unwrap_err().contains("malformed"));
        let old = br#"{"schemaVersion":1,"fsLayers":[]}"#;
        assert!(parse_manifest(old).unwrap_err().contains("schema 1"));
        assert!(parse_manifest(b"{").unwrap_err().contains("manifest"));
    }

    #[test]
    fn layers_and_diff_ids_must_go_together() {
        let manifest = Manifest {
            layers: vec![entry("linux/amd64")],
            ..Manifest::default()
        };
        let bytes = br#"{"architecture":"amd64","os":"linux","rootfs":{"diff_ids":null}}"#;
        assert!(
            parse_config(bytes, &manifest)
                .unwrap_err()
                .contains("1 layers")
        );
    }
}
