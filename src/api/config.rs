//! Configuration files: one document of a fixed kind, read as strictly as manifests.

use serde::de::DeserializeOwned;

use super::document::{Placed, field, is_version, text, unknown_version};
use super::problem::{Located, report};
use super::yaml::{self, Tree};
use super::{Problem, Result, v1beta1};

/// A configuration file: one document of a fixed kind.
pub trait Configuration: DeserializeOwned + Default {
    /// What `kind` must say.
    const KIND: &'static str;
}

impl Configuration for v1beta1::ClientConfiguration {
    const KIND: &'static str = "ClientConfiguration";
}

impl Configuration for v1beta1::ServerConfiguration {
    const KIND: &'static str = "ServerConfiguration";
}

/// Decodes a configuration file. A file without content (comments only) gives
/// the defaults.
pub fn decode_config<T: Configuration>(source: &str, bytes: &[u8]) -> Result<T> {
    let text = text(source, bytes)?;
    let (trees, fault) = yaml::read(text);
    let document = String::new;
    let placed = match (fault, trees.as_slice()) {
        (Some(fault), _) => fault.located(),
        (None, []) => return Ok(T::default()),
        (None, [tree]) => match config(tree, text) {
            Ok(value) => return Ok(value),
            Err(placed) => placed,
        },
        (None, [_, second, ..]) => (
            Problem::new("", "BadYaml", "a configuration file holds one document"),
            Some(second.root.at),
        ),
    };
    let (problem, at) = placed;
    let document = document();
    report(
        source,
        text,
        &[Located {
            problem,
            at,
            document,
        }],
    )
}

fn config<T: Configuration>(tree: &Tree<'_>, text: &str) -> std::result::Result<T, Placed> {
    let version = field(tree, "apiVersion")?;
    if !version.is_empty() && !is_version(version) {
        return Err((
            unknown_version(version),
            Some(tree.root.locate("apiVersion")),
        ));
    }
    let kind = field(tree, "kind")?;
    if kind != T::KIND {
        let found = if kind.is_empty() {
            "nothing".to_owned()
        } else {
            format!("{kind:?}")
        };
        let message = format!("expected {:?}, found {found}", T::KIND);
        let problem = Problem::new("kind", "UnknownKind", message);
        return Err((problem, Some(tree.root.locate("kind"))));
    }
    yaml::typed(&text[tree.bytes.clone()])
        .map_err(|error| yaml::explain(&error, tree, tree.first_line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_files() {
        let text = b"apiVersion: v1beta1\nkind: ClientConfiguration\nspec:\n  logLevel: debug\n";
        let config: v1beta1::ClientConfiguration = decode_config("c", text).unwrap();
        assert_eq!(config.spec.unwrap().log_level, "debug");
        let read = |text: &str| decode_config::<v1beta1::ServerConfiguration>("c", text.as_bytes());
        assert_eq!(read("# all defaults\n").unwrap(), Default::default());
        for (text, reason) in [
            ("kind: ClientConfiguration\n", "UnknownKind"),
            (
                "kind: ServerConfiguration\nspec: {logLevl: x}\n",
                "UnknownField",
            ),
            (
                "kind: ServerConfiguration\napiVersion: v9\n",
                "UnsupportedVersion",
            ),
            (
                "kind: ServerConfiguration\n---\nkind: ServerConfiguration\n",
                "BadYaml",
            ),
            ("spec: {}\n", "UnknownKind"),
        ] {
            assert_eq!(read(text).unwrap_err().reason, reason, "{text:?}");
        }
    }
}
