//! Failures of the CNI manager.

use std::path::PathBuf;

use ipnet::Ipv4Net;

/// Result of the CNI manager.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with namespaces, plugins and addresses.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No free subnet.
    #[error("address pool {pool} is exhausted: every /24 is in use or routed on this host")]
    PoolExhausted {
        /// The pool.
        pool: Ipv4Net,
    },
    /// No free address in a space.
    #[error("subnet of network {network} is exhausted: {cause}")]
    AddressesExhausted {
        /// CNI network name.
        network: String,
        /// What the plugin said.
        cause: String,
    },
    /// A plugin program is missing.
    #[error("CNI plugin {plugin:?} not found in {searched}")]
    PluginNotFound {
        /// Plugin type.
        plugin: String,
        /// Directories that were searched.
        searched: String,
    },
    /// A plugin failed.
    #[error(
        "CNI {command} by plugin {plugin:?} on network {network} failed (code {code}): {cause}"
    )]
    Plugin {
        /// ADD, DEL, CHECK or GC.
        command: String,
        /// Plugin type.
        plugin: String,
        /// CNI network name.
        network: String,
        /// CNI error code.
        code: u32,
        /// What the plugin said.
        cause: String,
    },
    /// A conflist cannot be used.
    #[error("CNI configuration {path} is invalid: {cause}")]
    BadConfig {
        /// File.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// A program of the host is missing.
    #[error("program {program:?} not found: install package {package}")]
    ProgramNotFound {
        /// Program.
        program: String,
        /// Debian package that has it.
        package: String,
    },
    /// Something is missing.
    #[error("{0} not found")]
    NotFound(String),
    /// Several things failed during a removal.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Many(Vec<Error>),
    /// Anything else the host said.
    #[error("{what}: {cause}")]
    Host {
        /// What was being done.
        what: String,
        /// What went wrong.
        cause: String,
    },
}

impl Error {
    /// Something the host said while `what` was being done.
    pub(super) fn host(what: impl Into<String>, cause: impl std::fmt::Display) -> Self {
        Self::Host {
            what: what.into(),
            cause: cause.to_string(),
        }
    }

    /// The outcome of a removal that went on after errors.
    pub(super) fn all(mut errors: Vec<Self>) -> Result<()> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Many(errors)),
        }
    }
}
