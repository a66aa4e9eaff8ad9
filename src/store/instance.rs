//! The settings that host objects are named by, pinned at first use.

use serde::{Deserialize, Serialize};

use super::{Error, Result, Store};
use crate::sys::beneath::Sync;

const FILE: &str = ".instance.yaml";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Instance {
    containerd_namespace_suffix: String,
    cgroup_root: String,
}

impl Store {
    /// Remembers, at first use, and then compares the settings that names of
    /// containerd namespaces and cgroups are made from. [`Error::InstanceMismatch`]
    /// when they are others than those this run path was set up with.
    pub fn check_instance(&self, namespace_suffix: &str, cgroup_root: &str) -> Result<()> {
        let root = &self.inner.root;
        let path = root.join(FILE);
        let corrupt = |cause: String| Error::Corrupt {
            path: path.clone(),
            cause,
        };
        let given = Instance {
            containerd_namespace_suffix: namespace_suffix.to_owned(),
            cgroup_root: cgroup_root.to_owned(),
        };
        // It never changes once it is there, so reading it takes no lock, which
        // could not be had on a read-only disk.
        let bytes = match root.read(FILE)? {
            Some((_, bytes)) => bytes,
            None => {
                // Two first starts at once must not both win.
                let lock = root.lock_file(".locks/.instance")?;
                rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
                    .map_err(|e| Error::io(&path, "lock", e))?;
                match root.read(FILE)? {
                    Some((_, bytes)) => bytes,
                    None => {
                        let text =
                            serde_saphyr::to_string(&given).map_err(|e| corrupt(e.to_string()))?;
                        return Ok(root.replace(FILE, text.as_bytes(), 0o640, Sync::Full)?);
                    }
                }
            }
        };
        let text = String::from_utf8(bytes).map_err(|_| corrupt("it is not UTF-8".to_owned()))?;
        let stored: Instance = serde_saphyr::from_str(&text).map_err(|e| corrupt(e.to_string()))?;
        let mismatch = |setting, stored: &str, given: &str| Error::InstanceMismatch {
            path: path.clone(),
            setting,
            stored: stored.to_owned(),
            given: given.to_owned(),
        };
        if stored.containerd_namespace_suffix != given.containerd_namespace_suffix {
            return Err(mismatch(
                "containerdNamespaceSuffix",
                &stored.containerd_namespace_suffix,
                &given.containerd_namespace_suffix,
            ));
        }
        if stored.cgroup_root != given.cgroup_root {
            return Err(mismatch(
                "cgroupRoot",
                &stored.cgroup_root,
                &given.cgroup_root,
            ));
        }
        Ok(())
    }
}
