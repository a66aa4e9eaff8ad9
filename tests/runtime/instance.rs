//! A throw-away instance.

use std::path::{Path, PathBuf};
use std::process::Command;

use kukeon::model::Settings;
use kukeon::runtime::launch;

/// A run path of its own with settings; [`Instance::end`] takes everything away.
pub struct Instance {
    pub settings: Settings,
    ended: bool,
    _directory: tempfile::TempDir,
}

/// A new instance, or none with the reason printed; the test runner counts these lines.
pub fn new(test: &str) -> Option<Instance> {
    let missing = ["containerd", "runc", "ctr"]
        .into_iter()
        .find(|p| !succeeds(Command::new("sh").args(["-c", &format!("command -v {p}")])));
    let reason = if !nix::unistd::geteuid().is_root() {
        Some("needs root".to_owned())
    } else {
        missing.map(|p| format!("needs {p}"))
    };
    if let Some(reason) = reason {
        println!("SKIPPED {test}: {reason}");
        return None;
    }
    // Short: socket paths are limited to 107 bytes.
    let directory = tempfile::Builder::new()
        .prefix("kukeon-rt-")
        .tempdir()
        .unwrap();
    let run_path = directory.path().to_owned();
    let unique = run_path
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_lowercase();
    let settings = Settings {
        runtime_dir: Settings::runtime_dir_for(&run_path),
        socket: Settings::socket_for(&run_path),
        containerd_socket: run_path.join("none.sock"),
        namespace_suffix: "rt.test".into(),
        cgroup_root: format!("/{unique}"),
        pod_subnet: Settings::POD_SUBNET.parse().unwrap(),
        default_memory_bytes: None,
        program: PathBuf::from(env!("CARGO_BIN_EXE_kuke")),
        run_path,
    };
    Some(Instance {
        settings,
        ended: false,
        _directory: directory,
    })
}

impl Instance {
    /// Shuts containerd down and checks that nothing is left.
    pub async fn end(mut self) {
        self.ended = true;
        let done = launch::shut_down(&self.settings).await.unwrap();
        println!("{done:?}");
        let run_path = &self.settings.run_path;
        let left = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let left: Vec<&str> = left
            .lines()
            .filter(|l| l.contains(run_path.to_str().unwrap()))
            .collect();
        assert!(left.is_empty(), "mounts left: {left:?}");
        let left = processes_with(run_path);
        assert!(left.is_empty(), "processes left: {left:?}");
        assert!(!run_path.join(".containerd").exists());
        assert!(!self.settings.runtime_dir.join("containerd").exists());
        assert!(!self.settings.runtime_dir.join("ns").exists());
    }
}

impl Drop for Instance {
    /// A failed test leaves nothing behind either.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let settings = self.settings.clone();
        let log = settings.run_path.join(".containerd/containerd.log");
        println!("{}", std::fs::read_to_string(log).unwrap_or_default());
        let clean = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(launch::shut_down(&settings))
        });
        println!("{:?}", clean.join());
    }
}

/// Command lines that mention a path.
pub fn processes_with(path: &Path) -> Vec<String> {
    let own = std::process::id().to_string();
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|e| e.file_name().to_str() != Some(&own))
        .filter_map(|e| std::fs::read(e.path().join("cmdline")).ok())
        .map(|b| String::from_utf8_lossy(&b).replace('\0', " "))
        .filter(|line| line.contains(path.to_str().unwrap()))
        .collect()
}

/// Runs a command to its end, quietly.
pub fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|o| o.status.success())
}
