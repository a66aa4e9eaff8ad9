//! The one place that reads and writes YAML.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Error, Result};

/// Writes a value as one YAML document, without a document mark. Strings that
/// another reader could take for something else (`no`, `1`, `null`) are quoted.
pub fn to_string<T: Serialize>(value: &T) -> Result<String> {
    serde_saphyr::to_string(value)
        .map_err(|error| Error::failed("Encode", format!("cannot write YAML: {error}")))
}

/// Writes a value as indented JSON with a newline at the end.
pub fn to_json<T: Serialize>(value: &T) -> Result<String> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::failed("Encode", format!("cannot write JSON: {error}")))?;
    text.push('\n');
    Ok(text)
}

/// Reads one document into a known type, strictly. `source` is its name in errors.
pub fn from_str<T: DeserializeOwned>(source: &str, text: &str) -> Result<T> {
    serde_saphyr::from_str(text)
        .map_err(|error| Error::invalid("BadYaml", format!("{source}: {error}")))
}
