//! Connections to clusters: `.clusters/<name>.yaml` below the run path, readable
//! by root only, because each holds a login.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::argocd::{self, Cluster};
use crate::api::{self, yaml};
use crate::model::Name;
use crate::store;
use crate::sys::beneath::{Root, Sync};

/// Directory of the connections. It has a dot, so no realm has this name.
const DIR: &str = ".clusters";
const MODE: u32 = 0o600;

/// The connections of one instance. A clone is the same.
#[derive(Debug, Clone)]
pub struct Clusters {
    root: Arc<Root>,
}

/// One connection. Its login is part of the document.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Connection {
    /// A self-contained kubeconfig.
    pub kubeconfig: String,
    /// Context to use; empty is the current one.
    pub context: String,
    /// Namespace of Argo CD.
    pub namespace: String,
    /// Where the cluster fetches artifacts; empty when it was not told.
    pub registry: String,
}

/// Says nothing of the login.
impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("context", &self.context)
            .field("namespace", &self.namespace)
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

impl Clusters {
    /// The connections below a run path.
    ///
    /// # Errors
    /// A run path that cannot be used.
    pub fn open(run_path: &Path) -> api::Result<Self> {
        let root = Root::open(run_path).map_err(store::Error::from)?;
        Ok(Self {
            root: Arc::new(root),
        })
    }

    /// Keeps a connection, in place of one of the same name.
    pub fn put(&self, name: &Name, connection: &Connection) -> api::Result<()> {
        let text = yaml::to_string(connection)?;
        self.root
            .replace(&path(name), text.as_bytes(), MODE, Sync::Full)
            .map_err(store::Error::from)?;
        Ok(())
    }

    /// The names of all connections, in order.
    pub fn names(&self) -> api::Result<Vec<Name>> {
        let found = self.root.list(DIR).map_err(store::Error::from)?;
        let name = |name: &str| name.strip_suffix(".yaml")?.parse().ok();
        let entries = found.unwrap_or_default();
        Ok(entries.iter().filter_map(|e| name(&e.name)).collect())
    }

    /// A connection.
    ///
    /// [`argocd::Error::NotConnected`] when there is none of that name.
    pub fn get(&self, name: &str) -> argocd::Result<Connection> {
        let broken = |detail: String| argocd::Error::Connection {
            cluster: name.to_owned(),
            detail,
        };
        let Ok(valid) = name.parse::<Name>() else {
            return Err(argocd::Error::NotConnected(name.to_owned()));
        };
        let path = path(&valid);
        let found = self.root.read(&path).map_err(|e| broken(e.to_string()))?;
        let Some((_, bytes)) = found else {
            return Err(argocd::Error::NotConnected(name.to_owned()));
        };
        let text = std::str::from_utf8(&bytes).map_err(|e| broken(e.to_string()))?;
        // A parse error would show what stands there.
        yaml::from_str(&path, text)
            .map_err(|_| broken(format!("{} is damaged", self.root.join(&path).display())))
    }

    /// A connection, ready for use.
    pub async fn cluster(&self, name: &str) -> argocd::Result<Cluster> {
        let Connection {
            kubeconfig,
            context,
            ..
        } = self.get(name)?;
        Cluster::from_kubeconfig(name, &kubeconfig, &context).await
    }
}

fn path(name: &Name) -> String {
    format!("{DIR}/{name}.yaml")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_connection_is_kept_for_root_only() {
        let dir = tempfile::tempdir().unwrap();
        let clusters = Clusters::open(dir.path()).unwrap();
        assert!(clusters.names().unwrap().is_empty());
        let missing = clusters.get("prod").unwrap_err();
        assert!(matches!(missing, argocd::Error::NotConnected(_)));
        let kept = Connection {
            kubeconfig: "users: [{token: s3cret}]\n".into(),
            context: "a".into(),
            namespace: "argocd".into(),
            registry: String::new(),
        };
        let name = "prod".parse().unwrap();
        clusters.put(&name, &kept).unwrap();
        assert_eq!(clusters.names().unwrap(), [name]);
        assert_eq!(clusters.get("prod").unwrap().kubeconfig, kept.kubeconfig);
        let file = dir.path().join(".clusters/prod.yaml");
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{kept:?}").contains("s3cret"));

        std::fs::write(&file, "kubeconfig: {token: s3cret").unwrap();
        let damaged = clusters.get("prod").unwrap_err().to_string();
        assert!(damaged.contains("damaged") && !damaged.contains("s3cret"));
        assert!(clusters.get("../prod").is_err());
    }
}
