//! Where a Recipe is deployed.

use std::time::Duration;

use super::super::Name;

/// Where a Recipe is deployed, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Which of the two.
    pub kind: TargetType,
    /// Options of the local target; kept while another is chosen.
    pub kuke: KukeTarget,
    /// Options of the Argo CD target; kept while another is chosen.
    pub argocd: ArgoTarget,
    /// What becomes of the workload with the Serving.
    pub deletion_policy: DeletionPolicy,
}

/// Which target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetType {
    /// This machine.
    #[default]
    Kuke,
    /// A cluster, through Argo CD.
    ArgoCd,
}

impl TargetType {
    /// As written in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            TargetType::Kuke => "kuke",
            TargetType::ArgoCd => "argocd",
        }
    }
}

/// What becomes of the workload with the Serving.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// It is removed.
    #[default]
    Delete,
    /// It stays, without an owner.
    Orphan,
}

/// The local target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KukeTarget {
    /// None is the Recipe's namespace.
    pub realm: Option<Name>,
    /// None is `default`.
    pub space: Option<Name>,
    /// None is `default`.
    pub stack: Option<Name>,
    /// Remove what is no longer in the artifact.
    pub prune: bool,
    /// Put back what drifted.
    pub self_heal: bool,
    /// How long the cells may take to become healthy.
    pub health_timeout: Duration,
    /// How long they must stay healthy.
    pub min_healthy: Duration,
}

impl KukeTarget {
    /// Realm of kukeon's own workloads, which releases must not touch.
    pub const SYSTEM_REALM: &'static str = "kuke-system";
}

impl Default for KukeTarget {
    fn default() -> Self {
        Self {
            realm: None,
            space: None,
            stack: None,
            prune: true,
            self_heal: true,
            health_timeout: Duration::from_secs(120),
            min_healthy: Duration::from_secs(10),
        }
    }
}

/// The Argo CD target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgoTarget {
    /// Connection registered on the daemon.
    pub cluster: String,
    /// Namespace of the Application.
    pub namespace: String,
    /// None is the Serving's name.
    pub application_name: Option<String>,
    /// Argo CD project.
    pub project: String,
    /// Cluster the Application deploys to.
    pub destination_server: String,
    /// None is the Recipe's namespace.
    pub destination_namespace: Option<String>,
    /// Remove what is no longer in the artifact.
    pub prune: bool,
    /// Put back what drifted.
    pub self_heal: bool,
    /// Apply on the server's side.
    pub server_side_apply: bool,
    /// How long a sync may take.
    pub wait_timeout: Duration,
}

impl Default for ArgoTarget {
    fn default() -> Self {
        Self {
            cluster: "default".to_owned(),
            namespace: "argocd".to_owned(),
            application_name: None,
            project: "default".to_owned(),
            destination_server: "https://kubernetes.default.svc".to_owned(),
            destination_namespace: None,
            prune: true,
            self_heal: true,
            server_side_apply: true,
            wait_timeout: Duration::from_secs(300),
        }
    }
}
