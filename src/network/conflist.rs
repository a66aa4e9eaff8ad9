//! Network configuration lists (CNI specification, section 1) and the
//! configuration each plugin gets from them (section 3).

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Error, Result, SpaceNetwork};

/// Larger files are no network configuration.
const MAX_BYTES: u64 = 1 << 20;

/// A version of the CNI specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Version(u8, u8, u8);

impl Version {
    /// CHECK, and `prevResult` for DEL, came with this one.
    pub const V0_4_0: Self = Self(0, 4, 0);
    /// GC and the negotiation by `cniVersions` came with this one.
    pub const V1_1_0: Self = Self(1, 1, 0);
    /// Chained plugins came with 0.3.0; older ones have another form of result.
    const SUPPORTED: [Self; 5] = [
        Self(0, 3, 0),
        Self(0, 3, 1),
        Self::V0_4_0,
        Self(1, 0, 0),
        Self::V1_1_0,
    ];

    /// A version that this runtime speaks.
    pub fn parse(text: &str) -> Option<Self> {
        Self::SUPPORTED
            .into_iter()
            .find(|version| version.to_string() == text)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A network configuration list.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Conflist {
    /// Network name.
    pub name: String,
    /// Versions it may be used in, the highest first; never empty.
    pub versions: Vec<Version>,
    /// CHECK must not be called.
    pub disable_check: bool,
    /// GC must not be called.
    pub disable_gc: bool,
    /// Plugin configurations in order; each has a `type`.
    plugins: Vec<Map<String, Value>>,
    /// The whole, as written.
    json: Value,
}

impl Conflist {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self> {
        let bad = |cause: String| Error::BadConfig {
            path: path.to_owned(),
            cause,
        };
        let mut text = String::new();
        let read = File::open(path).and_then(|f| f.take(MAX_BYTES + 1).read_to_string(&mut text));
        let bytes = read.map_err(|e| bad(e.to_string()))?;
        if bytes as u64 > MAX_BYTES {
            return Err(bad(format!("it has more than {MAX_BYTES} bytes")));
        }
        let json = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
        Self::from_json(json).map_err(bad)
    }

    /// Checks a parsed configuration; the error says what is wrong with it.
    pub fn from_json(json: Value) -> Result<Self, String> {
        let top = json.as_object().ok_or("it is not a JSON object")?;
        let text = |key: &str| top.get(key).and_then(Value::as_str);
        let name = text("name").ok_or("field name is missing")?;
        if !is_network_name(name) {
            return Err(format!(
                "name {name:?} must start with a letter or digit and continue with those, '_', '.' or '-'"
            ));
        }
        let plugins = match top.get("plugins") {
            Some(Value::Array(plugins)) if !plugins.is_empty() => plugins,
            Some(_) => return Err("field plugins must be a list with at least one plugin".into()),
            None if top.contains_key("type") => {
                return Err(
                    "it configures a single plugin; put that into a list \"plugins\"".into(),
                );
            }
            None => return Err("field plugins is missing".into()),
        };
        let plugins = plugins
            .iter()
            .enumerate()
            .map(|(i, plugin)| check_plugin(plugin).map_err(|e| format!("plugins[{i}]: {e}")))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            name: name.to_owned(),
            versions: versions(top)?,
            disable_check: is_true(top.get("disableCheck")),
            disable_gc: is_true(top.get("disableGC")),
            plugins,
            json,
        })
    }

    /// The configuration as written.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// Types of the plugins in order.
    pub fn plugin_types(&self) -> impl DoubleEndedIterator<Item = &str> + ExactSizeIterator {
        self.plugins
            .iter()
            .map(|p| p.get("type").and_then(Value::as_str).unwrap_or_default())
    }

    /// What the plugin at `index` reads: its own configuration with name,
    /// version and the earlier result put in. kukeon has nothing to offer for
    /// any capability yet, so no `runtimeConfig` is made, and the request for
    /// it is taken out, as the specification wants.
    pub fn plugin_config(
        &self,
        index: usize,
        version: Version,
        previous: Option<&Value>,
        extra: Option<(&str, Value)>,
    ) -> Value {
        let mut config = self.plugins.get(index).cloned().unwrap_or_default();
        config.remove("capabilities");
        config.insert("name".into(), json!(self.name));
        config.insert("cniVersion".into(), json!(version.to_string()));
        if let Some(result) = previous {
            config.insert("prevResult".into(), result.clone());
        }
        if let Some((key, value)) = extra {
            config.insert(key.into(), value);
        }
        Value::Object(config)
    }
}

/// Plugins that a generated chain executes.
pub(super) const GENERATED_PLUGINS: [&str; 2] = ["bridge", "host-local"];

/// The chain of a space that brings none: a bridge with addresses from
/// `host-local`. Address translation is kukeon's own (see `firewall`), because
/// the plugin's costs more than the rest of it and leaves chains behind.
pub(super) fn generate(network: &SpaceNetwork, leases: &Path) -> Result<String> {
    let subnet = network
        .subnet
        .ok_or_else(|| Error::NotFound(format!("subnet of {}", network.space)))?;
    let list = json!({
        "cniVersion": "1.0.0",
        "name": network.name(),
        "plugins": [{
            "type": "bridge",
            "bridge": network.bridge(),
            "isGateway": true,
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "dataDir": leases,
                "ranges": [[{ "subnet": subnet.trunc().to_string() }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    });
    let mut text = serde_json::to_string_pretty(&list)
        .map_err(|e| Error::host(format!("writing the network of {}", network.space), e))?;
    text.push('\n');
    Ok(text)
}

fn versions(top: &Map<String, Value>) -> Result<Vec<Version>, String> {
    let single = top.get("cniVersion").into_iter();
    let several = top.get("cniVersions").and_then(Value::as_array);
    let offered: Vec<&str> = single
        .chain(several.into_iter().flatten())
        .map(|v| v.as_str().ok_or("a version must be a string"))
        .collect::<Result<_, _>>()?;
    if offered.is_empty() {
        return Err("field cniVersion is missing".into());
    }
    let mut known: Vec<Version> = offered.iter().filter_map(|v| Version::parse(v)).collect();
    known.sort_unstable();
    known.dedup();
    known.reverse();
    if known.is_empty() {
        let ours = Version::SUPPORTED.map(|v| v.to_string()).join(", ");
        return Err(format!(
            "cniVersion {} is not supported (supported: {ours})",
            offered.join(", ")
        ));
    }
    Ok(known)
}

fn check_plugin(plugin: &Value) -> Result<Map<String, Value>, String> {
    let plugin = plugin.as_object().ok_or("not a JSON object")?;
    match plugin.get("type").and_then(Value::as_str) {
        None | Some("") => Err("field type is missing".into()),
        Some(kind) if kind.contains(['/', '\0']) || kind == "." || kind == ".." => {
            Err(format!("type {kind:?} is not the name of a program"))
        }
        Some(_) => Ok(plugin.clone()),
    }
}

/// Early configurations carry their switches as text.
fn is_true(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(b)) => *b,
        Some(Value::String(s)) => s.eq_ignore_ascii_case("true"),
        _ => false,
    }
}

fn is_network_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SpaceRef;

    fn list(json: Value) -> Result<Conflist, String> {
        Conflist::from_json(json)
    }

    #[test]
    fn takes_the_highest_version_both_sides_know() {
        let with = |version: Value, versions: Value| {
            list(
                json!({"name": "n", "cniVersion": version, "cniVersions": versions,
                        "plugins": [{"type": "a"}]}),
            )
        };
        let ok = with(json!("0.4.0"), json!(["1.1.0", "9.0.0"])).unwrap();
        assert_eq!(ok.versions, [Version::V1_1_0, Version::V0_4_0]);
        assert!(
            with(json!("0.2.0"), json!([]))
                .unwrap_err()
                .contains("0.2.0")
        );
        assert!(with(json!(1), json!([])).is_err());
    }

    #[test]
    fn refuses_what_is_no_list() {
        for (bad, part) in [
            (json!([]), "object"),
            (
                json!({"cniVersion": "1.0.0", "plugins": [{"type": "a"}]}),
                "name",
            ),
            (
                json!({"name": "../x", "cniVersion": "1.0.0", "plugins": [{"type": "a"}]}),
                "../x",
            ),
            (
                json!({"name": "n", "plugins": [{"type": "a"}]}),
                "cniVersion",
            ),
            (json!({"name": "n", "cniVersion": "1.0.0"}), "plugins"),
            (
                json!({"name": "n", "cniVersion": "1.0.0", "plugins": []}),
                "at least one",
            ),
            (
                json!({"name": "n", "cniVersion": "1.0.0", "type": "bridge"}),
                "single plugin",
            ),
            (
                json!({"name": "n", "cniVersion": "1.0.0", "plugins": [{}]}),
                "plugins[0]",
            ),
            (
                json!({"name": "n", "cniVersion": "1.0.0", "plugins": [{"type": "../sh"}]}),
                "../sh",
            ),
        ] {
            let error = list(bad).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn derives_what_a_plugin_reads() {
        let list = list(json!({"name": "n", "cniVersion": "1.0.0", "plugins": [
            {"type": "a", "mine": [1], "capabilities": {"portMappings": true}, "name": "other"}]}))
        .unwrap();
        let previous = json!({"ips": []});
        let config = list.plugin_config(0, Version::V0_4_0, Some(&previous), None);
        assert_eq!(
            config,
            json!({"type": "a", "mine": [1], "name": "n", "cniVersion": "0.4.0",
                   "prevResult": {"ips": []}})
        );
    }

    #[test]
    fn generates_a_valid_list() {
        let network = SpaceNetwork {
            space: SpaceRef {
                realm: "a-b".parse().unwrap(),
                space: "c".parse().unwrap(),
            },
            uid: "12345678-9abc".into(),
            generated: "/x".into(),
            own: None,
            subnet: "10.117.3.0/24".parse().ok(),
        };
        let text = generate(&network, Path::new("/run/x/.cni/networks")).unwrap();
        let list = list(serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(list.name, "a-b_c");
        assert_eq!(list.plugin_types().collect::<Vec<_>>(), ["bridge"]);
        let bridge = &list.json()["plugins"][0];
        assert_eq!(bridge["bridge"], "k-12345678");
        assert_eq!(bridge["ipam"]["ranges"][0][0]["subnet"], "10.117.3.0/24");
        assert_eq!(bridge["ipam"]["dataDir"], "/run/x/.cni/networks");
        let none = SpaceNetwork {
            subnet: None,
            ..network
        };
        assert!(generate(&none, Path::new("/")).is_err());
    }
}
