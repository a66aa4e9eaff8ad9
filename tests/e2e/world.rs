//! What all tests of one run share: a directory, the programs under test, a
//! containerd and images. Leftovers of runs that were killed are swept first.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use crate::command::{eventually, system};
use crate::image;
use crate::runner::{Skip, Verdict, quietly};

const PARENT: &str = "/var/tmp";
const PREFIX: &str = "kuke-e2e-";

static WORLD: OnceLock<World> = OnceLock::new();

/// Shared by all tests of one run.
pub struct World {
    /// A shared bind mount, so that namespace pins below it show in the mount
    /// namespace of a containerd that was started before.
    pub dir: PathBuf,
    /// The `kuke` under test; `kukeond` beside it is a hard link.
    pub kuke: PathBuf,
    /// Archive of `docker.io/library/busybox:latest`.
    pub busybox: PathBuf,
    containerd: Mutex<Option<Containerd>>,
    /// Its socket.
    pub containerd_socket: PathBuf,
    /// Its process.
    pub containerd_pid: u32,
    /// Whether there is an iptables to ask for rules.
    pub iptables: bool,
}

/// The shared things; only valid after [`prepare`].
pub fn world() -> &'static World {
    WORLD.get().expect("prepared before the first test")
}

/// Where programs are looked for: as in [`system_path`], then where this program
/// finds its own, which is where `run.sh` has put those that it built.
pub fn path() -> String {
    match std::env::var("PATH") {
        Ok(last) => format!("{}:{last}", system_path()),
        Err(_) => system_path(),
    }
}

/// Where the system's programs are; before it the directory `KUKE_CONTAINERD`, if
/// there is one, so that another containerd or runc than the system's is used.
pub fn system_path() -> String {
    let usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    match std::env::var("KUKE_CONTAINERD") {
        Ok(first) => format!("{first}:{usual}"),
        Err(_) => usual.to_owned(),
    }
}

/// Whether there is such a program.
pub fn installed(program: &str) -> Result<(), Skip> {
    match system("sh", &["-c", &format!("command -v {program}")]).code {
        0 => Ok(()),
        _ => Err(Skip(format!("{program} is not installed"))),
    }
}

/// A containerd of our own.
pub struct Containerd {
    child: Child,
    /// Its API socket.
    pub socket: PathBuf,
}

impl Containerd {
    /// Starts one with root, state and socket below `dir`. On a hybrid host it
    /// gets a mount namespace in which cgroup2 is at `/sys/fs/cgroup`.
    pub fn start(dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        let socket = dir.join("containerd.sock");
        let config = dir.join("config.toml");
        fs::write(
            &config,
            format!(
                "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\n\
                 disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{1}\"\n",
                dir.display(),
                socket.display()
            ),
        )
        .unwrap();
        let mut command = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            let mut command = Command::new("env");
            command.arg("containerd");
            command
        } else {
            let mut command = Command::new("unshare");
            command.args(["-m", "--propagation", "slave", "sh", "-c"]);
            command.arg("mount -t cgroup2 none /sys/fs/cgroup && exec containerd \"$@\"");
            command.arg("containerd");
            command
        };
        let log = fs::File::create(dir.join("log")).unwrap();
        command.env("PATH", path());
        command.arg("-c").arg(&config).args(["--log-level", "info"]);
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let address = socket.display().to_string();
        eventually(20.0, "containerd answers", || {
            socket.exists() && system("ctr", &["-a", &address, "version"]).code == 0
        });
        Self { child, socket }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.kill();
    }
}

fn lacking() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("end-to-end tests need root".to_owned());
    }
    for program in [
        "containerd",
        "ctr",
        "runc",
        "nft",
        "ip",
        "nsenter",
        "unshare",
        "tar",
        "curl",
    ] {
        if system("sh", &["-c", &format!("command -v {program}")]).code != 0 {
            return Some(format!("{program} is not installed"));
        }
    }
    if !["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"]
        .iter()
        .any(|d| Path::new(d).join("bridge").exists())
    {
        return Some("the CNI plugins are not installed".to_owned());
    }
    if !fs::read_to_string("/proc/mounts")
        .unwrap_or_default()
        .contains(" cgroup2 ")
    {
        return Some("cgroup2 is not mounted".to_owned());
    }
    if system("/bin/busybox", &["--list"]).code != 0 {
        return Some("busybox-static is not installed".to_owned());
    }
    None
}

/// The binary under test: `KUKE_BIN`, or the release build, or cargo's own.
fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("KUKE_BIN") {
        return path.into();
    }
    let release = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/kuke");
    if release.exists() {
        release
    } else {
        env!("CARGO_BIN_EXE_kuke").into()
    }
}

/// Makes what all tests share, or says why none can run here.
pub fn prepare() -> Verdict {
    if let Some(reason) = lacking() {
        return Err(Skip(reason));
    }
    sweep();
    let dir = Path::new(PARENT).join(format!("{PREFIX}{}", std::process::id()));
    let bin = dir.join("bin");
    fs::create_dir_all(&bin).unwrap();
    let text = dir.display().to_string();
    system("mount", &["--bind", &text, &text]).ok();
    system("mount", &["--make-shared", &text]).ok();
    let kuke = bin.join("kuke");
    fs::copy(program(), &kuke).unwrap();
    fs::hard_link(&kuke, bin.join("kukeond")).unwrap();
    let busybox = image::busybox(&dir.join("images"), "docker.io/library/busybox:latest");
    for (program, flag) in [("containerd", "--version"), ("runc", "--version")] {
        let said = quietly(|| system(program, &[flag])).ok().out;
        println!("with {}", said.lines().next().unwrap_or(program));
    }
    let containerd = Containerd::start(&dir.join("containerd"));
    let world = World {
        dir,
        kuke,
        busybox,
        containerd_socket: containerd.socket.clone(),
        containerd_pid: containerd.pid(),
        containerd: Mutex::new(Some(containerd)),
        iptables: system("sh", &["-c", "command -v iptables-save"]).code == 0,
    };
    assert!(WORLD.set(world).is_ok());
    Ok(())
}

/// Removes what [`prepare`] made.
pub fn clean() {
    if let Some(world) = WORLD.get() {
        drop(world.containerd.lock().unwrap().take());
        clear(&world.dir, &cgroup_prefix(std::process::id()));
    }
}

/// Every test host of this run has a cgroup root that starts so.
pub fn cgroup_prefix(pid: u32) -> String {
    format!("{PREFIX}{pid}-")
}

/// Removes what runs that were killed have left.
fn sweep() {
    for entry in fs::read_dir(PARENT).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name
            .strip_prefix(PREFIX)
            .and_then(|p| p.parse::<u32>().ok());
        if let Some(pid) = pid.filter(|p| !Path::new(&format!("/proc/{p}")).exists()) {
            clear(&entry.path(), &cgroup_prefix(pid));
        }
    }
}

/// Where cgroup2 is mounted; on a hybrid host not at `/sys/fs/cgroup`.
pub fn cgroup_mount() -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let found = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let place = fields.next()?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(place))
    });
    found.expect("checked in prepare")
}

/// Processes that name `dir` on their command line or live in a cgroup of ours:
/// pid and command line.
pub fn processes(dir: &Path, cgroup: &str) -> Vec<(i32, String)> {
    let dir = dir.display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let groups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        let zombie = fs::read_to_string(entry.path().join("status"))
            .is_ok_and(|s| s.lines().any(|l| l.starts_with("State:\tZ")));
        if !zombie && (names(&line, &dir) || groups.contains(&format!("/{cgroup}"))) {
            found.push((pid, line));
        }
    }
    found
}

/// Whether `text` names `dir` or something below it (and not `dir` followed by more of a name).
pub fn names(text: &str, dir: &str) -> bool {
    text.match_indices(dir).any(|(at, _)| {
        !text[at + dir.len()..]
            .starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.')
    })
}

/// Ends the processes, unmounts and removes everything of one directory and
/// the cgroups whose name starts with `cgroup`.
pub fn clear(dir: &Path, cgroup: &str) {
    use nix::sys::signal::{Signal, kill};
    for _ in 0..50 {
        let left = processes(dir, cgroup);
        if left.is_empty() {
            break;
        }
        for (pid, _) in left {
            kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
        std::thread::sleep(Duration::from_millis(40));
    }
    let text = dir.display().to_string();
    for _ in 0..5 {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let ours: Vec<&str> = mounts
            .lines()
            .filter_map(|l| l.split(' ').nth(1))
            .filter(|p| *p == text || p.starts_with(&format!("{text}/")))
            .collect();
        for place in ours.iter().rev() {
            nix::mount::umount2(*place, nix::mount::MntFlags::MNT_DETACH).ok();
        }
        if ours.is_empty() {
            break;
        }
    }
    let root = cgroup_mount();
    for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(cgroup) {
            remove_cgroup(&entry.path());
        }
    }
    fs::remove_dir_all(dir).ok();
}

fn remove_cgroup(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroup(&entry.path());
        }
    }
    fs::remove_dir(path).ok();
}
