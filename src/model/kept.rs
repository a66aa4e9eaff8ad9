//! Secrets and volumes: what outlives containers, and how containers name it.

use std::fmt;

use super::{CellRef, KeptKind, KeptRef, Meta, Name, ObjectRef};

/// A directory on the host that outlives the cells that mount it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Where it is kept.
    pub at: KeptRef,
    /// Labels and bookkeeping.
    pub meta: Meta,
    /// What becomes of the data when the scope goes.
    pub reclaim: Reclaim,
    /// Directory of the data on this host; empty when that is not known.
    pub path: String,
}

/// What becomes of a volume's data when its scope is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reclaim {
    /// It goes.
    #[default]
    Delete,
    /// It stays, and is found again by a scope of the same name.
    Retain,
}

/// A value that only containers see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Where it is kept.
    pub at: KeptRef,
    /// Labels and bookkeeping.
    pub meta: Meta,
    /// The value.
    pub data: SecretText,
}

impl Secret {
    /// Tells one value of a secret from the next, without telling the value.
    pub fn version(&self) -> String {
        format!("{}.{}", self.meta.uid, self.meta.generation)
    }
}

/// Text that is not shown: `Debug` hides it, and there is no `Display`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretText(pub String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

/// A secret or volume as a container names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSource {
    /// Its name.
    pub name: Name,
    /// Where it is kept; without that the nearest one counts, from the cell up.
    pub scope: Option<ObjectRef>,
}

impl KeptSource {
    /// Where to look, in this order.
    pub fn places(&self, kind: KeptKind, cell: &CellRef) -> Vec<KeptRef> {
        let scopes: Vec<ObjectRef> = match &self.scope {
            Some(scope) => vec![scope.clone()],
            None => std::iter::successors(Some(cell.clone().into()), ObjectRef::parent)
                .filter(|at| kind == KeptKind::Secret || !matches!(at, ObjectRef::Cell(_)))
                .collect(),
        };
        scopes
            .iter()
            .map(|scope| scope.keeps(kind, self.name.clone()))
            .collect()
    }
}

/// A secret that a container gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretUse {
    /// Environment variable, or name of the file for people.
    pub name: String,
    /// Which one.
    pub source: KeptSource,
    /// What it becomes.
    pub target: SecretTarget,
}

/// What a secret becomes in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretTarget {
    /// An environment variable.
    Env,
    /// A file.
    File {
        /// Absolute path in the container.
        path: String,
        /// Owner; the container's user when unset.
        uid: Option<u32>,
        /// Group; the container's when unset.
        gid: Option<u32>,
        /// Permission bits; 0400 when unset.
        mode: Option<u32>,
    },
}

/// A port that a container listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerPort {
    /// Number, not 0.
    pub port: u16,
    /// How it is spoken to.
    pub protocol: Protocol,
}

/// Protocol of a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

/// `80`, `53/udp`
impl fmt::Display for ContainerPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Protocol::Tcp => write!(f, "{}", self.port),
            other => write!(f, "{}/{}", self.port, other.as_str()),
        }
    }
}

impl std::str::FromStr for ContainerPort {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(()),
        };
        match port.bytes().all(|b| b.is_ascii_digit()) {
            true => match port.parse() {
                Ok(0) | Err(_) => Err(()),
                Ok(port) => Ok(Self { port, protocol }),
            },
            false => Err(()),
        }
    }
}
