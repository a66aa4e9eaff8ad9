//! A containerd of the test's own, and what to ask of it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use kukeon::model::Settings;
use kukeon::runtime::{Connection, Containerd};

/// Says why nothing was tested; the test runner counts these lines.
pub fn missing(test: &str, programs: &[&str]) -> bool {
    let lacking: Vec<&&str> = programs.iter().filter(|p| which(p).is_none()).collect();
    let reason = if !nix::unistd::geteuid().is_root() {
        "needs root".to_owned()
    } else if lacking.is_empty() {
        return false;
    } else {
        format!("needs {lacking:?}")
    };
    println!("SKIPPED {test}: {reason}");
    true
}

pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let places = path.split(':').chain(["/usr/sbin", "/sbin"]);
    places
        .map(|p| Path::new(p).join(program))
        .find(|p| p.exists())
}

/// A running containerd; ends with the value.
pub struct Host {
    dir: tempfile::TempDir,
    child: Child,
}

impl Host {
    pub fn start() -> Self {
        Self::prepared("true")
    }

    /// One whose disk has only so many MiB.
    pub fn with_small_disk(mib: u32) -> Self {
        Self::prepared(&format!(
            "mkdir root && mount -t tmpfs -o size={mib}m none root"
        ))
    }

    /// Runs `setup` in the directory and mount namespace of containerd first.
    fn prepared(setup: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().display();
        let config = format!(
            "version = 2\nroot = \"{at}/root\"\nstate = \"{at}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{at}/containerd.sock\"\n"
        );
        std::fs::write(dir.path().join("config.toml"), config).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new("unshare")
            .args(["-m", "--propagation", "private", "sh", "-c"])
            .arg(format!(
                "mount -t cgroup2 none /sys/fs/cgroup && {setup} && exec containerd -c config.toml"
            ))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let host = Self { dir, child };
        let start = Instant::now();
        while !host.ctr("default", &["version"]).status.success() {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "containerd does not come up"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        host
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn connection(&self) -> Connection {
        Connection::lazy(&self.path("containerd.sock"), "overlayfs")
    }

    pub fn runtime(&self) -> Containerd {
        let run_path = self.path("run");
        let settings = Settings {
            runtime_dir: run_path.join("run"),
            socket: run_path.join("run/kukeond.sock"),
            containerd_socket: self.path("containerd.sock"),
            namespace_suffix: "test".into(),
            cgroup_root: "/kukeon-test-image".into(),
            pod_subnet: Settings::POD_SUBNET.parse().unwrap(),
            default_memory_bytes: None,
            registry: kukeon::model::RegistrySettings::off(),
            web: kukeon::model::WebSettings::default(),
            program: PathBuf::from("/bin/false"),
            run_path,
        };
        Containerd::with_connection(settings, self.connection())
    }

    pub fn ctr(&self, namespace: &str, args: &[&str]) -> Output {
        Command::new("ctr")
            .arg("-a")
            .arg(self.path("containerd.sock"))
            .args(["-n", namespace])
            .args(args)
            .output()
            .unwrap()
    }

    /// Output of a `ctr` call that must succeed.
    pub fn ok(&self, namespace: &str, args: &[&str]) -> String {
        let output = self.ctr(namespace, args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ctr {args:?}: {text}{error}");
        text
    }

    /// Everything image work can leave in a namespace, a line each.
    pub fn left(&self, namespace: &str) -> Vec<String> {
        let mut left = vec![];
        for args in [
            &["images", "ls", "-q"][..],
            &["content", "ls", "-q"],
            &["content", "active"],
            &["snapshots", "ls"],
            &["leases", "ls", "-q"],
        ] {
            let text = self.ok(namespace, args);
            let rows = text
                .lines()
                .filter(|l| !l.starts_with("KEY") && !l.starts_with("REF"));
            left.extend(rows.map(str::to_owned));
        }
        left
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // `unshare` and the shell exec: this is containerd itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {error}");
}
