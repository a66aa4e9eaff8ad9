//! Files of a containerd that the instance brings up itself.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::model::Settings;

/// Where everything of a managed containerd is. `.containerd` is a name that no
/// realm can take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// `<run_path>/.containerd`, 0700.
    pub home: PathBuf,
    /// Persistent data; its existence says that the instance's containerd is its own.
    pub root: PathBuf,
    /// Configuration, written before every start.
    pub config: PathBuf,
    /// What containerd and its shims say.
    pub log: PathBuf,
    /// Held during bring-up and shut-down.
    pub lock: PathBuf,
    /// Names the socket of a containerd that is not ours and holds the instance's containers.
    pub external: PathBuf,
    /// `<runtime_dir>/containerd`, 0711.
    pub runtime: PathBuf,
    /// Volatile data.
    pub state: PathBuf,
    /// State of runc.
    pub runc: PathBuf,
    /// gRPC endpoint.
    pub socket: PathBuf,
    /// `<pid> <start time>` of the last one started.
    pub pid: PathBuf,
    /// Namespace pins; a shared mount.
    pub pins: PathBuf,
    /// Cgroup of containerd and its shims, below the cgroup2 mount: beside the
    /// instance's tree, so that neither the daemon's unit nor a removal of the
    /// tree takes it along.
    pub cgroup: String,
}

impl Layout {
    /// The files of an instance.
    pub fn new(settings: &Settings) -> Self {
        let home = settings.run_path.join(".containerd");
        let runtime = settings.runtime_dir.join("containerd");
        Self {
            root: home.join("root"),
            config: home.join("config.toml"),
            log: home.join("containerd.log"),
            lock: home.join("lock"),
            external: home.join("external"),
            home,
            state: runtime.join("state"),
            runc: runtime.join("runc"),
            socket: runtime.join("containerd.sock"),
            pid: runtime.join("pid"),
            runtime,
            pins: settings.runtime_dir.join("ns"),
            cgroup: format!("{}.containerd", settings.cgroup_root.trim_matches('/')),
        }
    }

    /// Makes the directories.
    pub fn create(&self) -> io::Result<()> {
        for (path, mode) in [
            (&self.home, 0o700),
            (&self.root, 0o711),
            (&self.runtime, 0o711),
            (&self.state, 0o711),
        ] {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(path)?;
        }
        Ok(())
    }

    /// Configuration in the form that 1.6 reads and 2.x still migrates. Left out
    /// is what we do not use and what would write outside the two directories
    /// (`opt` makes `/opt/containerd`, nri a socket) or only complains in the log.
    pub fn config_text(&self) -> String {
        let disabled: Vec<String> = [
            "io.containerd.grpc.v1.cri",
            "io.containerd.cri.v1.images",
            "io.containerd.cri.v1.runtime",
            "io.containerd.podsandbox.controller.v1.podsandbox",
            "io.containerd.nri.v1.nri",
            "io.containerd.internal.v1.opt",
            "io.containerd.internal.v1.restart",
            "io.containerd.internal.v1.tracing",
            "io.containerd.tracing.processor.v1.otlp",
            "io.containerd.snapshotter.v1.aufs",
            "io.containerd.snapshotter.v1.btrfs",
            "io.containerd.snapshotter.v1.devmapper",
            "io.containerd.snapshotter.v1.zfs",
        ]
        .iter()
        .map(|id| toml_string(id))
        .collect();
        format!(
            "# Written by kukeon before every start.\n\
             version = 2\n\
             root = {root}\n\
             state = {state}\n\
             disabled_plugins = [{disabled}]\n\
             [grpc]\n  address = {socket}\n\
             [ttrpc]\n  address = {ttrpc}\n",
            root = toml_string(&self.root.display().to_string()),
            state = toml_string(&self.state.display().to_string()),
            disabled = disabled.join(", "),
            socket = toml_string(&self.socket.display().to_string()),
            ttrpc = toml_string(&format!("{}.ttrpc", self.socket.display())),
        )
    }

    /// Whether the containerd on `socket` holds the instance's containers.
    pub fn holds_external(&self, socket: &Path) -> bool {
        std::fs::read_to_string(&self.external)
            .is_ok_and(|held| Path::new(held.trim_end()) == socket)
    }

    /// Keeps that the containerd on `socket` holds the instance's containers.
    pub fn record_external(&self, socket: &Path) {
        let record = || {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.home)?;
            std::fs::write(&self.external, format!("{}\n", socket.display()))
        };
        if let Err(error) = record() {
            tracing::warn!(path = %self.external.display(), %error, "cannot record the containerd in use");
        }
    }
}

/// A TOML basic string.
fn toml_string(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        let run_path = PathBuf::from("/srv/a \"b\"");
        Layout::new(&Settings {
            runtime_dir: run_path.join("run"),
            socket: run_path.join("run/kukeond.sock"),
            run_path,
            containerd_socket: Settings::CONTAINERD_SOCKET.into(),
            namespace_suffix: Settings::NAMESPACE_SUFFIX.into(),
            cgroup_root: "/kukeon/x".into(),
            pod_subnet: Settings::POD_SUBNET.parse().unwrap(),
            default_memory_bytes: None,
            registry: crate::model::RegistrySettings::off(),
            web: crate::model::WebSettings::default(),
            program: "/usr/local/bin/kuke".into(),
        })
    }

    #[test]
    fn configuration_quotes_paths() {
        let text = layout().config_text();
        assert!(
            text.contains(r#"root = "/srv/a \"b\"/.containerd/root""#),
            "{text}"
        );
        assert!(text.contains(r#"address = "/srv/a \"b\"/run/containerd/containerd.sock""#));
        assert!(text.contains("version = 2\n"));
    }

    #[test]
    fn the_cgroup_stands_beside_the_tree() {
        assert_eq!(layout().cgroup, "kukeon/x.containerd");
    }
}
