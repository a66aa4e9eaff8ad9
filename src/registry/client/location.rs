//! Where a repository is, and how it may be reached.

use std::fmt;

use crate::model::RegistryCredential;

/// One repository of one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Registry host with port, as people write it.
    pub host: String,
    /// Repository.
    pub repository: String,
    /// What is wanted from there, for messages.
    pub shown: String,
}

impl Location {
    /// Host that serves the registry: Docker Hub's is not the one in the name.
    pub fn server(&self) -> &str {
        match self.host.as_str() {
            "docker.io" => "registry-1.docker.io",
            host => host,
        }
    }
}

/// How a registry may be used.
#[derive(Clone, Default)]
pub struct Access {
    /// Logins to choose from.
    pub credentials: Vec<RegistryCredential>,
    /// PEM certificates to trust beside the system's; empty for none.
    pub ca: String,
    /// Plain HTTP, also to other machines.
    pub plain_http: bool,
}

impl Access {
    /// Access with these logins.
    pub fn with(credentials: &[RegistryCredential]) -> Self {
        Self {
            credentials: credentials.to_vec(),
            ..Self::default()
        }
    }
}

/// Hides the logins.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("plain_http", &self.plain_http)
            .finish_non_exhaustive()
    }
}
