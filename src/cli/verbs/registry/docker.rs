//! The file in which docker, and after it podman, skopeo, crane and oras, keep
//! logins.

use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::api::{Error, Result};

/// Where it is.
pub(super) fn file() -> Result<PathBuf> {
    let named = |variable| std::env::var_os(variable).filter(|v| !v.is_empty());
    if let Some(dir) = named("DOCKER_CONFIG") {
        return Ok(PathBuf::from(dir).join("config.json"));
    }
    let home = named("HOME").ok_or_else(|| {
        Error::failed("NoHome", "HOME is not set").hint("say where with --store, or take --print")
    })?;
    Ok(PathBuf::from(home).join(".docker/config.json"))
}

/// Puts a login into the file; everything else in it stays.
pub(super) fn store(file: &Path, address: &str, name: &str, password: &str) -> Result<()> {
    let failed = |what: &str, e: &dyn std::fmt::Display| {
        Error::failed("StoreLogin", format!("{what} {}: {e}", file.display()))
            .hint("the login was made; take --print to see a new password instead")
    };
    let mut config = match std::fs::read(file) {
        Ok(bytes) => serde_json::from_slice::<Map<String, Value>>(&bytes)
            .map_err(|e| failed("reading", &e))?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Map::new(),
        Err(e) => return Err(failed("reading", &e)),
    };
    let auths = config.entry("auths").or_insert_with(|| json!({}));
    let Some(auths) = auths.as_object_mut() else {
        return Err(failed("reading", &"its `auths` is no object"));
    };
    let pair = STANDARD.encode(format!("{name}:{password}"));
    auths.insert(address.to_owned(), json!({ "auth": pair }));
    let mut text = serde_json::to_vec_pretty(&config).map_err(|e| failed("writing", &e))?;
    text.push(b'\n');
    let dir = file.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| failed("writing", &e))?;
    // A file of its own (0600) that takes the old one's place.
    let mut new = tempfile::NamedTempFile::new_in(dir).map_err(|e| failed("writing", &e))?;
    new.write_all(&text).map_err(|e| failed("writing", &e))?;
    new.persist(file).map_err(|e| failed("writing", &e.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn other_logins_and_settings_stay() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("new/config.json");
        store(&file, "a:1", "me", "secret").unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&file).unwrap();
        let mut value: Value = serde_json::from_str(&text).unwrap();
        value["credsStore"] = json!("pass");
        std::fs::write(&file, value.to_string()).unwrap();
        store(&file, "b:2", "me", "other").unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["auths"]["a:1"]["auth"], STANDARD.encode("me:secret"));
        assert_eq!(value["auths"]["b:2"]["auth"], STANDARD.encode("me:other"));
        assert_eq!(value["credsStore"], "pass");
        std::fs::write(&file, "no json").unwrap();
        assert!(store(&file, "a:1", "me", "x").is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "no json");
    }
}
