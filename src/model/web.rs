//! Settings of the pages that the daemon serves.

use std::net::SocketAddr;

use super::registry::{listen, scheme};
use super::{RegistryScheme, Settings, SettingsError};

/// Where they are served unless it is said otherwise.
const LISTEN: &str = "127.0.0.1:5080";

/// The settings as they are given. `None` leaves the decision to the layer below.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebLayer {
    /// Address and port, or `off`.
    pub listen: Option<String>,
    /// `auto`, `tls` or `http`.
    pub scheme: Option<String>,
    /// Further names of the certificate.
    pub names: Option<Vec<String>>,
}

/// The pages of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebSettings {
    /// Where browsers connect; none serves no pages.
    pub listen: Option<SocketAddr>,
    /// How they connect.
    pub scheme: RegistryScheme,
    /// Further names and addresses of the certificate.
    pub names: Vec<String>,
}

impl WebSettings {
    /// Whether browsers have to speak TLS.
    pub fn uses_tls(&self) -> bool {
        match self.scheme {
            RegistryScheme::Auto => self.listen.is_some_and(|at| !at.ip().is_loopback()),
            RegistryScheme::Tls => true,
            RegistryScheme::Http => false,
        }
    }
}

impl WebLayer {
    /// The layer that environment variables make.
    pub fn from_env(env: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            listen: env("KUKEOND_WEB_LISTEN"),
            ..Self::default()
        }
    }

    /// This layer over a lower one.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        Self {
            listen: self.listen.or(lower.listen),
            scheme: self.scheme.or(lower.scheme),
            names: self.names.or(lower.names),
        }
    }

    /// Fills in the defaults and checks everything; as for the registry, only the
    /// default instance serves without being told.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn resolve(self, is_default: bool) -> Result<WebSettings, SettingsError> {
        Ok(WebSettings {
            listen: listen("web.listen", LISTEN, self.listen, is_default)?,
            scheme: scheme("web.scheme", self.scheme)?,
            names: self.names.unwrap_or_default(),
        })
    }
}

impl Settings {
    /// Directory of accounts and sessions of the pages. It has a dot, so no realm
    /// has this name.
    pub fn web_dir(&self) -> std::path::PathBuf {
        self.run_path.join(".web")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_instance_serves_on_loopback_and_others_where_they_are_told() {
        let none = WebLayer::default;
        assert_eq!(
            none().resolve(true).unwrap().listen,
            Some(LISTEN.parse().unwrap())
        );
        assert_eq!(none().resolve(false).unwrap(), WebSettings::default());
        let with = |listen: &str| WebLayer {
            listen: Some(listen.to_owned()),
            ..WebLayer::default()
        };
        assert_eq!(with("off").resolve(true).unwrap().listen, None);
        assert_eq!(
            with("5080").resolve(true).unwrap_err().setting,
            "web.listen"
        );
        let told = with("127.0.0.1:1").resolve(false).unwrap();
        assert_eq!(told.listen, Some("127.0.0.1:1".parse().unwrap()));
    }
}
