//! A host for one test, and what can be asked of it.

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kukeon::model::{CellRef, Settings, SpaceRef};
use kukeon::network::{Cni, SpaceNetwork};
use kukeon::sys::mounts;
use nix::sched::CloneFlags;
use rustix::mount::{MountFlags, MountPropagationFlags};

/// One instance on a host of its own.
pub struct Host {
    pub cni: Cni,
    pub settings: Settings,
    pub dir: PathBuf,
}

/// Says why nothing was tested; the test runner counts these lines.
fn skipped(test: &str) -> bool {
    let mut missing = Vec::new();
    if !nix::unistd::geteuid().is_root() {
        missing.push("root".to_owned());
    }
    let found =
        |dirs: &[&str], program: &str| dirs.iter().any(|d| Path::new(d).join(program).exists());
    for plugin in ["bridge", "host-local"] {
        if !found(
            &["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"],
            plugin,
        ) {
            missing.push(format!("CNI plugin {plugin}"));
        }
    }
    for program in ["nft", "ip", "nsenter"] {
        if !found(&["/usr/sbin", "/usr/bin", "/sbin", "/bin"], program) {
            missing.push(format!("program {program}"));
        }
    }
    if !missing.is_empty() {
        println!("skipped: network::{test}: needs {}", missing.join(", "));
    }
    !missing.is_empty()
}

/// Runs a test on a host of its own, unless this machine cannot give one.
pub fn on_own_host<F: Future<Output = ()>>(test: &str, body: impl FnOnce(Host) -> F + Send) {
    if skipped(test) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).unwrap();
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            rustix::mount::mount_change("/", private).unwrap();
            rustix::mount::mount("none", "/run", "tmpfs", MountFlags::empty(), None).unwrap();
            // /sys shows the network namespace it was mounted in.
            rustix::mount::mount("none", "/sys", "sysfs", MountFlags::empty(), None).unwrap();
            run("ip", &["link", "set", "lo", "up"]);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let host = Host::new(dir.path(), &dir.path().join("opt"));
            runtime.unwrap().block_on(body(host));
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

impl Host {
    fn new(dir: &Path, run_path: &Path) -> Self {
        let settings = settings(run_path);
        Self {
            cni: Cni::new(&settings),
            settings,
            dir: dir.to_owned(),
        }
    }

    /// A further instance on the same host.
    pub fn instance(&self, name: &str) -> Self {
        Self::new(&self.dir, &self.dir.join(name))
    }

    /// Everything kukeon could leave: links, rules, mounts, names, files.
    pub fn state(&self) -> BTreeSet<String> {
        let mut state = BTreeSet::new();
        let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
        for line in lines(run("ip", &["-o", "link"])) {
            // Without indices and peers' indices, which only ever grow.
            let name = line.split(':').nth(1).unwrap_or_default().trim().to_owned();
            state.insert(format!("link {name}"));
        }
        for line in lines(run("nft", &["list", "ruleset"])) {
            state.insert(format!("nft {}", line.trim()));
        }
        for mount in mounts::mounts().unwrap() {
            // Others' mounts, of which this namespace has copies, come and go.
            if mount.point.starts_with("/run") || mount.point.starts_with(&self.dir) {
                state.insert(format!("mount {}", mount.point.display()));
            }
        }
        for dir in [Path::new("/run"), &self.dir] {
            files(dir, &mut state);
        }
        state
    }

    /// Files below the state directory whose path contains `part`.
    pub fn state_files(&self, part: &str) -> Vec<String> {
        let mut all = BTreeSet::new();
        files(&self.settings.run_path.join(".cni"), &mut all);
        all.into_iter().filter(|f| f.contains(part)).collect()
    }

    /// Addresses that `host-local` has given away.
    pub fn leases(&self, network: &SpaceNetwork) -> Vec<String> {
        let dir = self
            .settings
            .run_path
            .join(".cni/networks")
            .join(network.name());
        let names = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut leases: Vec<String> = names
            .map(|e| e.file_name().into_string().unwrap())
            .filter(|name| name.parse::<IpAddr>().is_ok())
            .collect();
        leases.sort();
        leases
    }

    pub fn network(&self, space: &str, subnet: &str) -> SpaceNetwork {
        let generated = self
            .settings
            .run_path
            .join(format!("default/{space}/network.conflist"));
        // Eight digits that differ by instance and space.
        let path = generated.display().to_string();
        let sum = path.bytes().fold(7u32, |sum, b| {
            sum.wrapping_mul(31).wrapping_add(u32::from(b))
        });
        SpaceNetwork {
            space: SpaceRef {
                realm: "default".parse().unwrap(),
                space: space.parse().unwrap(),
            },
            uid: format!("{sum:08x}-0000-4000-8000-000000000000"),
            generated,
            own: None,
            subnet: subnet.parse().ok(),
        }
    }
}

fn settings(run_path: &Path) -> Settings {
    Settings {
        run_path: run_path.to_owned(),
        runtime_dir: Settings::runtime_dir_for(run_path),
        socket: Settings::socket_for(run_path),
        containerd_socket: Settings::CONTAINERD_SOCKET.into(),
        namespace_suffix: Settings::NAMESPACE_SUFFIX.into(),
        cgroup_root: Settings::CGROUP_ROOT.into(),
        pod_subnet: "10.199.0.0/16".parse().unwrap(),
        default_memory_bytes: None,
        registry: kukeon::model::RegistrySettings::off(),
        web: kukeon::model::WebSettings::default(),
        program: "/bin/false".into(),
    }
}

fn files(dir: &Path, into: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        into.insert(format!("file {}", entry.path().display()));
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            files(&entry.path(), into);
        }
    }
}

pub fn cell(space: &str, name: &str) -> CellRef {
    CellRef {
        realm: "default".parse().unwrap(),
        space: space.parse().unwrap(),
        stack: "s".parse().unwrap(),
        cell: name.parse().unwrap(),
    }
}

/// Runs a program that has to succeed.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `work` in the network namespace at `path`.
pub fn inside<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> T {
    let namespace = fs::File::open(path).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

/// Connects from one place to a listener in another (none is the host) and
/// returns the address the listener saw.
pub fn connect(from: Option<&Path>, to: Option<&Path>, address: &str) -> Option<IpAddr> {
    let listen = || TcpListener::bind("0.0.0.0:8080").unwrap();
    let listener = match to {
        Some(path) => inside(path, listen),
        None => listen(),
    };
    let target = SocketAddr::new(address.parse().unwrap(), 8080);
    let dial = || TcpStream::connect_timeout(&target, Duration::from_secs(2)).is_ok();
    let reached = match from {
        Some(path) => inside(path, dial),
        None => dial(),
    };
    reached.then(|| listener.accept().unwrap().1.ip())
}

/// A place outside of the host that knows no way back to the cells:
/// 203.0.113.2, the host being 203.0.113.1.
pub fn outside() -> PathBuf {
    run("ip", &["netns", "add", "outside"]);
    run(
        "ip",
        &[
            "link", "add", "up0", "type", "veth", "peer", "name", "out0", "netns", "outside",
        ],
    );
    run("ip", &["address", "add", "203.0.113.1/24", "dev", "up0"]);
    run("ip", &["link", "set", "up0", "up"]);
    run(
        "ip",
        &[
            "-n",
            "outside",
            "address",
            "add",
            "203.0.113.2/24",
            "dev",
            "out0",
        ],
    );
    run("ip", &["-n", "outside", "link", "set", "out0", "up"]);
    PathBuf::from("/run/netns/outside")
}
