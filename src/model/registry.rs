//! Settings of the registry that the daemon hosts.

use std::net::SocketAddr;

use super::{Settings, SettingsError};

/// The settings as they are given. `None` leaves the decision to the layer below.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryLayer {
    /// Address and port, or `off`.
    pub listen: Option<String>,
    /// `auto`, `tls` or `http`.
    pub scheme: Option<String>,
    /// Whether everybody may pull.
    pub anonymous_pull: Option<bool>,
    /// Bytes of content; 0 is no limit.
    pub quota_bytes: Option<i64>,
    /// Bytes that stay free on the disk.
    pub min_free_bytes: Option<i64>,
    /// Requests per second and client; 0 is no limit.
    pub requests_per_second: Option<i64>,
    /// Further names of the certificate.
    pub names: Option<Vec<String>>,
}

/// The registry of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrySettings {
    /// Where clients connect; none serves no registry.
    pub listen: Option<SocketAddr>,
    /// How they connect.
    pub scheme: RegistryScheme,
    /// Whether everybody may pull.
    pub anonymous_pull: bool,
    /// Bytes of content; none is no limit.
    pub quota_bytes: Option<u64>,
    /// Bytes that stay free on the disk.
    pub min_free_bytes: u64,
    /// Requests per second and client; none is no limit.
    pub requests_per_second: Option<u32>,
    /// Further names and addresses of the certificate.
    pub names: Vec<String>,
}

/// How clients of the registry, and of the pages, connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RegistryScheme {
    /// Plain HTTP on loopback, TLS elsewhere.
    #[default]
    Auto,
    /// TLS.
    Tls,
    /// Plain HTTP, also to other machines.
    Http,
}

/// Where it listens unless it is said otherwise.
const LISTEN: &str = "127.0.0.1:5050";
const MIN_FREE: u64 = 1 << 30;

impl RegistryLayer {
    /// The layer that environment variables make.
    pub fn from_env(env: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            listen: env("KUKEOND_REGISTRY_LISTEN"),
            ..Self::default()
        }
    }

    /// This layer over a lower one.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        Self {
            listen: self.listen.or(lower.listen),
            scheme: self.scheme.or(lower.scheme),
            anonymous_pull: self.anonymous_pull.or(lower.anonymous_pull),
            quota_bytes: self.quota_bytes.or(lower.quota_bytes),
            min_free_bytes: self.min_free_bytes.or(lower.min_free_bytes),
            requests_per_second: self.requests_per_second.or(lower.requests_per_second),
            names: self.names.or(lower.names),
        }
    }

    /// Fills in the defaults and checks everything. The default instance serves
    /// on its well-known port; others only where they are told to, because two
    /// cannot share it.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn resolve(self, is_default: bool) -> Result<RegistrySettings, SettingsError> {
        let number = |setting, value: Option<i64>| match value {
            None => Ok(None),
            Some(n) => u64::try_from(n).map(Some).map_err(|_| SettingsError {
                setting,
                value: n.to_string(),
                why: "it must not be negative".to_owned(),
            }),
        };
        let per_second = number("registry.requestsPerSecond", self.requests_per_second)?;
        Ok(RegistrySettings {
            listen: listen("registry.listen", LISTEN, self.listen, is_default)?,
            scheme: scheme("registry.scheme", self.scheme)?,
            anonymous_pull: self.anonymous_pull.unwrap_or(false),
            quota_bytes: number("registry.quotaBytes", self.quota_bytes)?.filter(|&n| n > 0),
            min_free_bytes: number("registry.minFreeBytes", self.min_free_bytes)?
                .unwrap_or(MIN_FREE),
            requests_per_second: per_second
                .filter(|&n| n > 0)
                .map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
            names: self.names.unwrap_or_default(),
        })
    }
}

/// Where a server of the daemon listens: `default` on the default instance, and
/// nowhere on others unless they are told.
pub(super) fn listen(
    setting: &'static str,
    default: &str,
    value: Option<String>,
    is_default: bool,
) -> Result<Option<SocketAddr>, SettingsError> {
    let value = match value {
        Some(value) => value,
        None if is_default => default.to_owned(),
        None => return Ok(None),
    };
    if value == "off" {
        return Ok(None);
    }
    value.parse().map(Some).map_err(|_| SettingsError {
        setting,
        value,
        why: format!("an address with a port such as {default} is needed, or off"),
    })
}

pub(super) fn scheme(
    setting: &'static str,
    value: Option<String>,
) -> Result<RegistryScheme, SettingsError> {
    match value.as_deref() {
        None | Some("auto") => Ok(RegistryScheme::Auto),
        Some("tls") => Ok(RegistryScheme::Tls),
        Some("http") => Ok(RegistryScheme::Http),
        Some(other) => Err(SettingsError {
            setting,
            value: other.to_owned(),
            why: "it is one of auto, tls, http".to_owned(),
        }),
    }
}

impl RegistrySettings {
    /// The registry of an instance that says nothing about it.
    pub fn off() -> Self {
        Self {
            listen: None,
            scheme: RegistryScheme::default(),
            anonymous_pull: false,
            quota_bytes: None,
            min_free_bytes: MIN_FREE,
            requests_per_second: None,
            names: Vec::new(),
        }
    }
}

impl Settings {
    /// Directory of the registry's content and accounts.
    pub fn registry_dir(&self) -> std::path::PathBuf {
        self.run_path.join("registry")
    }

    /// Socket of the registry for processes of this machine.
    pub fn registry_socket(&self) -> std::path::PathBuf {
        self.runtime_dir.join("registry.sock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_instance_serves_on_loopback_and_others_where_they_are_told() {
        let none = RegistryLayer::default;
        let default = none().resolve(true).unwrap();
        assert_eq!(default.listen, Some(LISTEN.parse().unwrap()));
        assert!(!default.anonymous_pull);
        assert_eq!(none().resolve(false).unwrap(), RegistrySettings::off());
        let with = |listen: &str| RegistryLayer {
            listen: Some(listen.to_owned()),
            ..RegistryLayer::default()
        };
        assert_eq!(with("off").resolve(true).unwrap().listen, None);
        let told = with("0.0.0.0:1").resolve(false).unwrap();
        assert_eq!(told.listen, Some("0.0.0.0:1".parse().unwrap()));
        for bad in ["", "5050", "localhost:5050", "127.0.0.1"] {
            let error = with(bad).resolve(true).unwrap_err();
            assert_eq!(error.setting, "registry.listen");
        }
    }

    #[test]
    fn numbers_and_words_are_checked() {
        let odd = RegistryLayer {
            quota_bytes: Some(-1),
            ..RegistryLayer::default()
        };
        assert_eq!(
            odd.resolve(true).unwrap_err().setting,
            "registry.quotaBytes"
        );
        let odd = RegistryLayer {
            scheme: Some("https".into()),
            ..RegistryLayer::default()
        };
        assert_eq!(odd.resolve(true).unwrap_err().setting, "registry.scheme");
        let none = RegistryLayer {
            quota_bytes: Some(0),
            min_free_bytes: Some(0),
            ..RegistryLayer::default()
        };
        let none = none.resolve(true).unwrap();
        assert_eq!((none.quota_bytes, none.min_free_bytes), (None, 0));
    }
}
