//! A throw-away instance.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kukeon::model::{
    CellRef, ContainerSpec, Labels, ProgressSink, Settings, TaskExit, TaskState, label,
};
use kukeon::runtime::{
    ContainerRequest, Containerd, Runtime, SandboxNamespaces, TaskRequest, launch,
};

/// containerd namespace of the tests.
pub const NAMESPACE: &str = "t.rt.test";
/// The image of [`Instance::containerd`].
pub const IMAGE: &str = "docker.io/library/rt-busybox:latest";

/// A run path of its own with settings; [`Instance::end`] takes everything away.
pub struct Instance {
    pub settings: Settings,
    ended: bool,
    directory: tempfile::TempDir,
}

/// A new instance, or none with the reason printed; the test runner counts these lines.
pub fn new(test: &str) -> Option<Instance> {
    let missing = ["containerd", "runc", "ctr", "busybox"]
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
        registry: kukeon::model::RegistrySettings::off(),
        web: kukeon::model::WebSettings::default(),
        program: PathBuf::from(env!("CARGO_BIN_EXE_kuke")),
        run_path,
    };
    Some(Instance {
        settings,
        ended: false,
        directory,
    })
}

impl Instance {
    /// A manager whose namespace has the image.
    pub async fn containerd(&self) -> Containerd {
        let containerd = Containerd::open(self.settings.clone()).unwrap();
        containerd
            .ensure_namespace(NAMESPACE, &Labels::new())
            .await
            .unwrap();
        let archive = image(self.directory.path());
        let archive = tokio::fs::File::open(archive).await.unwrap();
        let names = containerd
            .load_image(NAMESPACE, Box::new(archive), ProgressSink::none())
            .await
            .unwrap();
        assert_eq!(names, [IMAGE]);
        containerd
    }

    /// A container that runs a shell script.
    pub fn request(&self, id: &str, script: &str) -> ContainerRequest {
        let mut spec = ContainerSpec::new(id.parse().unwrap(), IMAGE);
        spec.command = Some("/bin/sh".into());
        spec.args = vec!["-c".into(), script.into()];
        ContainerRequest {
            namespace: NAMESPACE.into(),
            id: id.into(),
            cell: CellRef {
                realm: "t".parse().unwrap(),
                space: "s".parse().unwrap(),
                stack: "k".parse().unwrap(),
                cell: "c".parse().unwrap(),
            },
            labels: Labels::from([
                (label::INSTANCE.into(), self.settings.instance()),
                (label::CELL.into(), format!("cell-of-{id}")),
                (label::SPEC_HASH.into(), "1".into()),
            ]),
            spec,
            image: IMAGE.into(),
            sandbox: SandboxNamespaces::default(),
            cgroup_path: format!("{}/{id}", self.settings.cgroup_root),
            files: Vec::new(),
            secrets: Vec::new(),
        }
    }

    /// Log file of a container.
    pub fn log(&self, id: &str) -> PathBuf {
        self.settings.run_path.join("logs").join(id)
    }

    /// Makes container and task and starts it.
    pub async fn start(&self, containerd: &Containerd, id: &str, script: &str) {
        containerd
            .create_container(&self.request(id, script))
            .await
            .unwrap();
        containerd.create_task(&self.task(id)).await.unwrap();
        containerd.start_task(NAMESPACE, id).await.unwrap();
    }

    /// The request for a container's task.
    pub fn task(&self, id: &str) -> TaskRequest {
        TaskRequest {
            namespace: NAMESPACE.into(),
            id: id.into(),
            log: self.log(id),
        }
    }

    /// `ctr` on the instance's containerd, in the namespace of the tests.
    pub fn ctr(&self, args: &[&str]) -> String {
        let output = Command::new("ctr")
            .arg("-a")
            .arg(launch::managed_socket(&self.settings))
            .args(["-n", NAMESPACE])
            .args(args)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Process id of the instance's containerd.
    pub fn pid(&self) -> i32 {
        let text = std::fs::read_to_string(self.settings.runtime_dir.join("containerd/pid"));
        text.unwrap().split(' ').next().unwrap().parse().unwrap()
    }

    /// Drains the namespace, shuts containerd down and checks that nothing is left.
    pub async fn end(mut self) {
        let containerd = Containerd::open(self.settings.clone()).unwrap();
        containerd.remove_namespace(NAMESPACE).await.unwrap();
        assert!(
            !containerd
                .namespaces()
                .await
                .unwrap()
                .contains_key(NAMESPACE)
        );
        let socket = launch::managed_socket(&self.settings);
        let shims = processes_with(Path::new(&format!("-address {}", socket.display())));
        assert!(shims.is_empty(), "shims left: {shims:?}");
        let snapshots = self
            .settings
            .run_path
            .join(".containerd/root/io.containerd.snapshotter.v1.overlayfs/snapshots");
        let left = std::fs::read_dir(snapshots).map_or(0, Iterator::count);
        assert_eq!(left, 0, "snapshot directories left");
        let blobs = self
            .settings
            .run_path
            .join(".containerd/root/io.containerd.content.v1.content/blobs/sha256");
        let left = std::fs::read_dir(blobs).map_or(0, Iterator::count);
        assert_eq!(left, 0, "blobs left");

        self.ended = true;
        let done = launch::shut_down(&self.settings).await.unwrap();
        println!("{done:?}");
        self.remove_cgroups();
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
        let exec = self.settings.runtime_dir.join("exec");
        let left = std::fs::read_dir(exec).map_or(0, Iterator::count);
        assert_eq!(left, 0, "exec directories left");
    }

    /// runc makes them; the cgroup manager, which is not under test, removes them.
    fn remove_cgroups(&self) {
        let name = self.settings.cgroup_root.trim_start_matches('/').to_owned();
        for top in ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"] {
            let path = Path::new(top).join(&name);
            for child in std::fs::read_dir(&path).into_iter().flatten().flatten() {
                let _ = std::fs::remove_dir(child.path());
            }
            let _ = std::fs::remove_dir(&path);
        }
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
        self.remove_cgroups();
    }
}

/// A `docker save` archive of one layer with busybox.
fn image(directory: &Path) -> PathBuf {
    let script = r#"
        set -e
        mkdir -p rootfs/bin rootfs/etc rootfs/tmp rootfs/proc rootfs/sys rootfs/dev
        cp "$(command -v busybox)" rootfs/bin/busybox
        for a in sh cat echo sleep id ls head stty true false kill seq dd wc hostname; do
            ln -sf busybox rootfs/bin/$a
        done
        printf 'root:x:0:0:r:/:/bin/sh\nalice:x:1000:1001:a:/:/bin/sh\n' > rootfs/etc/passwd
        printf 'root:x:0:\nalice:x:1001:\nextra:x:1002:alice\n' > rootfs/etc/group
        echo text > rootfs/etc/plain
        tar -C rootfs -cf layer.tar .
        sum=$(sha256sum layer.tar | cut -d' ' -f1)
        printf '{"architecture":"%s","os":"linux","config":{"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{}]}' \
            "$ARCH" "$sum" > config.json
        printf '[{"Config":"config.json","RepoTags":["rt-busybox:latest"],"Layers":["layer.tar"]}]' > manifest.json
        tar -cf image.tar manifest.json config.json layer.tar
    "#;
    let work = directory.join("image");
    std::fs::create_dir_all(&work).unwrap();
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let made = Command::new("sh")
        .args(["-c", script])
        .current_dir(&work)
        .env("ARCH", arch)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    work.join("image.tar")
}

/// Exit of a container that has ended, waiting for it up to 20 s.
pub async fn ended(containerd: &Containerd, id: &str) -> TaskExit {
    let wait = containerd.wait_task(NAMESPACE, id);
    let exit = tokio::time::timeout(Duration::from_secs(20), wait).await;
    exit.expect("the task does not end").unwrap()
}

/// State of a container's task.
pub async fn state(containerd: &Containerd, id: &str) -> Option<TaskState> {
    let all = containerd
        .containers(NAMESPACE, &Labels::new())
        .await
        .unwrap();
    let found = all.into_iter().find(|c| c.id == id);
    found.expect("no such container").task.map(|t| t.state)
}

/// Waits up to 20 s for a file to hold a text.
pub async fn holds(path: &Path, text: &str) -> String {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let have = std::fs::read_to_string(path).unwrap_or_default();
        if have.contains(text) {
            return have;
        }
        assert!(
            Instant::now() < end,
            "{} holds only {have:?}",
            path.display()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
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
