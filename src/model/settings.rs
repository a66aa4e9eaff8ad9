//! Effective settings of one instance, after flags, environment and files.

use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;

use super::{CellRef, Name, ObjectRef, Realm, RegistrySettings, WebSettings};

/// Settings of one instance. Two instances differ at least in `run_path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// State root, default `/opt/kukeon`.
    pub run_path: PathBuf,
    /// Pins, sockets, FIFOs: `/run/kukeon`, or `<run_path>/run` for another run path.
    pub runtime_dir: PathBuf,
    /// API socket, default `<runtime_dir>/kukeond.sock`.
    pub socket: PathBuf,
    /// Configured containerd endpoint.
    pub containerd_socket: PathBuf,
    /// Suffix of containerd namespaces, default `kukeon.io`.
    pub namespace_suffix: String,
    /// Root of the cgroup tree below the cgroup2 mount, default `/kukeon`.
    pub cgroup_root: String,
    /// Pool that spaces take a /24 from.
    pub pod_subnet: Ipv4Net,
    /// Memory limit for containers that state none.
    pub default_memory_bytes: Option<u64>,
    /// The registry that the daemon hosts.
    pub registry: RegistrySettings,
    /// The pages that the daemon serves.
    pub web: WebSettings,
    /// Program that roles are started from (log writer, containerd launcher).
    pub program: PathBuf,
}

impl Settings {
    /// Default state root.
    pub const RUN_PATH: &'static str = "/opt/kukeon";
    /// Runtime directory that goes with the default state root.
    pub const RUNTIME_DIR: &'static str = "/run/kukeon";
    /// Default containerd endpoint.
    pub const CONTAINERD_SOCKET: &'static str = "/run/containerd/containerd.sock";
    /// Default suffix of containerd namespaces.
    pub const NAMESPACE_SUFFIX: &'static str = "kukeon.io";
    /// Default root of the cgroup tree.
    pub const CGROUP_ROOT: &'static str = "/kukeon";
    /// Default pool; outside the defaults of docker (172.17-31), podman (10.88,
    /// 10.89), nerdctl (10.4), k3s (10.42, 10.43) and libvirt (192.168.122).
    pub const POD_SUBNET: &'static str = "10.117.0.0/16";

    /// The runtime directory that goes with a state root. Client, daemon and
    /// installer all derive it here.
    pub fn runtime_dir_for(run_path: &Path) -> PathBuf {
        if run_path == Path::new(Self::RUN_PATH) {
            PathBuf::from(Self::RUNTIME_DIR)
        } else {
            run_path.join("run")
        }
    }

    /// The API socket that goes with a state root.
    pub fn socket_for(run_path: &Path) -> PathBuf {
        Self::runtime_dir_for(run_path).join("kukeond.sock")
    }

    /// Lock that the daemon of this instance holds while it runs.
    pub fn daemon_lock(&self) -> PathBuf {
        self.runtime_dir.join("kukeond.lock")
    }

    /// File with the daemon's process id, beside the socket.
    pub fn pid_file(&self) -> PathBuf {
        self.socket.with_file_name("kukeond.pid")
    }

    /// Identity of this instance on host objects: its run path.
    pub fn instance(&self) -> String {
        self.run_path.display().to_string()
    }

    /// containerd namespace of a realm.
    pub fn namespace(&self, realm: &Realm) -> String {
        if realm.spec.namespace.is_empty() {
            format!("{}.{}", realm.at.realm, self.namespace_suffix)
        } else {
            realm.spec.namespace.clone()
        }
    }

    /// Cgroup of an object below the cgroup2 mount, with a leading slash.
    pub fn cgroup_path(&self, at: &ObjectRef) -> String {
        let mut path = self.cgroup_root.trim_end_matches('/').to_owned();
        for name in at.names() {
            path.push('/');
            path.push_str(name.as_str());
        }
        path
    }

    /// Cgroup of a container.
    pub fn container_cgroup_path(&self, at: &CellRef, container: &Name) -> String {
        format!("{}/{container}", self.cgroup_path(&at.clone().into()))
    }
}
