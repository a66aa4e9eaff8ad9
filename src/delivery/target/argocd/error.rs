//! What can go wrong on a cluster, sorted by what follows from it.

use super::super::Reason;
use super::Cluster;

/// Result of the Argo CD target.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a cluster could not be asked or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No cluster of that name was connected.
    #[error("no cluster {0:?} is connected: run `kuke argocd connect {0} --kubeconfig FILE`")]
    NotConnected(String),
    /// The connection's document cannot be used.
    #[error("the connection to cluster {cluster:?} cannot be used: {detail}")]
    Connection {
        /// Name of the connection.
        cluster: String,
        /// Why.
        detail: String,
    },
    /// The API server does not answer, or does not know Applications.
    #[error("Argo CD on cluster {cluster:?} cannot be reached: {detail}")]
    Unavailable {
        /// Name of the connection.
        cluster: String,
        /// Why.
        detail: String,
    },
    /// The login may not do this.
    #[error("{at}: the login of the connection is not allowed to do this: {detail}")]
    Forbidden {
        /// What was worked on.
        at: String,
        /// What the server said.
        detail: String,
    },
    /// An object of somebody else stands there.
    #[error("{at} {}: to hand it over, annotate it with delivery.kokumi.dev/allowed-recipe={value}", owned(.owner))]
    OptInRequired {
        /// What was worked on.
        at: String,
        /// Who owns it; empty when nobody is named.
        owner: String,
        /// Value of the annotation that allows it.
        value: String,
    },
    /// Others keep writing to the object.
    #[error("{at} is being changed by others all the time; it will be tried again")]
    Busy {
        /// What was worked on.
        at: String,
    },
    /// The server refused the object.
    #[error("{at} was refused by the cluster: {detail}")]
    Rejected {
        /// What was worked on.
        at: String,
        /// What the server said.
        detail: String,
    },
}

fn owned(owner: &str) -> String {
    match owner {
        "" => "was not made by kukeon".to_owned(),
        owner => format!("belongs to {owner}"),
    }
}

impl Error {
    /// The stable reason on a Serving's conditions.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotConnected(_) | Self::Connection { .. } | Self::Unavailable { .. } => {
                Reason::ArgoCdUnavailable
            }
            Self::OptInRequired { .. } => Reason::OptInRequired,
            Self::Forbidden { .. } | Self::Busy { .. } | Self::Rejected { .. } => {
                Reason::ApplyFailed
            }
        }
    }

    /// Sorts what the client says of work on `at`.
    pub(super) fn of(cluster: &Cluster, at: String, error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if matches!(status.code, 401 | 403) => Self::Forbidden {
                at,
                detail: status.message.clone(),
            },
            // Throttled, or the server is coming up or going down.
            kube::Error::Api(status) if matches!(status.code, 429 | 500..) => Self::Unavailable {
                cluster: cluster.name().to_owned(),
                detail: status.message.clone(),
            },
            kube::Error::Api(status) => Self::Rejected {
                at,
                detail: status.message.clone(),
            },
            other => Self::Unavailable {
                cluster: cluster.name().to_owned(),
                detail: chain(&other),
            },
        }
    }
}

/// An error with its causes: a refused connection is three levels down.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
