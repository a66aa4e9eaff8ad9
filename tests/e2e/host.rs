//! A host for one test: its own network namespace, run path, namespace suffix,
//! cgroup root and address pool. Nothing of it may be left when it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::census::Census;
use crate::command::{Done, Running, eventually, system};
use crate::runner::{note, quietly};
use crate::world::{self, Containerd, world};

/// Longest a verb may take before the test fails.
pub const LIMIT: Duration = Duration::from_secs(120);

/// How `kuke` reaches what it works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Through `kukeond`.
    Daemon,
    /// In its own process, with `KUKEON_NO_DAEMON=true`.
    InProcess,
}

/// Which containerd a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// The one that all tests of the run share.
    Shared,
    /// One of its own, started by the test; see [`Host::engine`].
    Private,
    /// None: kukeon has to bring one up.
    Managed,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A host for one test.
pub struct Host {
    /// Everything of the test, beside the run path.
    pub dir: PathBuf,
    /// State root of the instance.
    pub run_path: PathBuf,
    /// Suffix of its containerd namespaces.
    pub suffix: String,
    /// Root of its cgroups, with a leading slash.
    pub cgroup_root: String,
    /// Mode of [`Host::kuke`].
    pub mode: Mode,
    /// Where its programs look for others, [`world::path`] at first.
    pub path: String,
    /// The containerd of [`Engine::Private`].
    pub engine: Option<Containerd>,
    socket: PathBuf,
    netns: PathBuf,
    daemon: Option<Child>,
    before: Census,
    finished: bool,
}

impl Host {
    /// A host with a shared containerd on which `kuke init` was run, with the
    /// busybox image; in daemon mode `kukeond` runs.
    pub fn new(mode: Mode) -> Self {
        let mut host = Self::bare(mode, Engine::Shared);
        if mode == Mode::Daemon {
            host.start_daemon();
        }
        host.kuke(&["init"]).ok();
        host.load_busybox();
        host
    }

    /// A host on which nothing was done yet.
    pub fn bare(mode: Mode, engine: Engine) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = world().dir.join(format!("h{number:03}"));
        fs::create_dir_all(dir.join("home/.kuke")).unwrap();
        let engine_dir = dir.join("containerd");
        let private = (engine == Engine::Private).then(|| Containerd::start(&engine_dir));
        let socket = match (&private, engine) {
            (Some(own), _) => own.socket.clone(),
            (None, Engine::Shared) => world().containerd_socket.clone(),
            (None, _) => dir.join("no-containerd.sock"),
        };
        let netns = dir.join("netns");
        fs::write(&netns, "").unwrap();
        quietly(|| system("unshare", &[&format!("--net={}", netns.display()), "true"])).ok();
        let mut host = Self {
            run_path: dir.join("k"),
            suffix: format!("h{number:03}.e2e-{}", std::process::id()),
            cgroup_root: format!("/{}h{number:03}", world::cgroup_prefix(std::process::id())),
            mode,
            path: world::path(),
            engine: private,
            socket,
            netns,
            daemon: None,
            before: Census::default(),
            finished: false,
            dir,
        };
        quietly(|| host.inside("ip", &["link", "set", "lo", "up"])).ok();
        host.configure("10.200.0.0/16", "2s");
        host.before = Census::take(&host);
        host
    }

    /// Writes the configuration of client and daemon.
    pub fn configure(&self, pool: &str, reconcile: &str) {
        let common = format!(
            "  runPath: {}\n  containerdSocket: {}\n  containerdNamespaceSuffix: {}\n  cgroupRoot: {}\n  podSubnetCIDR: {pool}\n",
            self.run_path.display(),
            self.socket.display(),
            self.suffix,
            self.cgroup_root,
        );
        fs::write(
            self.dir.join("home/.kuke/kuke.yaml"),
            format!(
                "apiVersion: v1beta1\nkind: ClientConfiguration\nmetadata:\n  name: e2e\nspec:\n  host: unix://{}\n{common}",
                self.api_socket().display()
            ),
        )
        .unwrap();
        fs::write(
            self.server_configuration(),
            format!(
                "apiVersion: v1beta1\nkind: ServerConfiguration\nmetadata:\n  name: e2e\nspec:\n  reconcileInterval: {reconcile}\n{common}"
            ),
        )
        .unwrap();
    }

    /// Adds to the configuration of the daemon, which reads it when it starts.
    pub fn serve_with(&self, fields: &str) {
        let path = self.server_configuration();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text + fields).unwrap();
    }

    fn server_configuration(&self) -> PathBuf {
        self.dir.join("kukeond.yaml")
    }

    /// Socket of the daemon.
    pub fn api_socket(&self) -> PathBuf {
        self.run_path.join("run/kukeond.sock")
    }

    // --- programs on this host ----------------------------------------------

    fn enter(&self, program: &Path) -> Command {
        let mut command = Command::new("/usr/bin/nsenter");
        command
            .arg(format!("--net={}", self.netns.display()))
            .arg("--")
            .arg(program);
        command.env_clear();
        command.env("PATH", &self.path);
        command.env("HOME", self.dir.join("home"));
        // What somebody has edited is kept there when it is refused.
        command.env("TMPDIR", &self.dir);
        command.env("KUKEOND_CONFIGURATION", self.server_configuration());
        command.current_dir(&self.dir);
        command
    }

    /// Runs a program of the system in this host's network namespace.
    #[track_caller]
    pub fn inside(&self, program: &str, arguments: &[&str]) -> Done {
        let mut command = self.enter(Path::new(program));
        command.args(arguments);
        Running::start(command, format!("{program} {}", arguments.join(" ")), None).wait(LIMIT)
    }

    /// Starts a program of the system in this host's network namespace.
    pub fn start_inside(&self, program: &str, arguments: &[&str]) -> Running {
        let mut command = self.enter(Path::new(program));
        command.args(arguments);
        Running::start(
            command,
            format!("{program} {} &", arguments.join(" ")),
            None,
        )
    }

    /// A `kuke` that has not been started, in this mode.
    pub fn command(&self, mode: Mode, arguments: &[&str]) -> Command {
        let mut command = self.enter(&world().kuke);
        command.env(
            "KUKEON_NO_DAEMON",
            if mode == Mode::Daemon {
                "false"
            } else {
                "true"
            },
        );
        command.args(arguments);
        command
    }

    /// Starts `kuke` and goes on.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let line = format!("kuke {} ({:?})", arguments.join(" "), self.mode);
        Running::start(self.command(self.mode, arguments), line, None)
    }

    /// Runs `kuke` to its end.
    #[track_caller]
    pub fn kuke(&self, arguments: &[&str]) -> Done {
        self.start(arguments).wait(LIMIT)
    }

    /// Runs `kuke` in a given mode, whatever the host's is.
    #[track_caller]
    pub fn kuke_in(&self, mode: Mode, arguments: &[&str]) -> Done {
        let line = format!("kuke {} ({mode:?})", arguments.join(" "));
        Running::start(self.command(mode, arguments), line, None).wait(LIMIT)
    }

    /// Runs `kuke` with standard input.
    #[track_caller]
    pub fn kuke_with(&self, arguments: &[&str], input: impl Into<Vec<u8>>) -> Done {
        let line = format!("kuke {} < … ({:?})", arguments.join(" "), self.mode);
        Running::start(self.command(self.mode, arguments), line, Some(input.into())).wait(LIMIT)
    }

    /// `kuke apply -f -` of a manifest.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> Done {
        note(manifest);
        self.kuke_with(&["apply", "-f", "-"], manifest)
    }

    /// Loads the busybox image into the default realm.
    #[track_caller]
    pub fn load_busybox(&self) {
        self.kuke(&["image", "load", &world().busybox.display().to_string()])
            .ok();
    }

    /// Writes a file beside the run path and returns its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.dir.join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    // --- what the host says ---------------------------------------------------

    /// `kuke get <kind> <name> -o json`.
    #[track_caller]
    pub fn get(&self, kind: &str, name: &str) -> Value {
        self.kuke(&["get", kind, name, "-o", "json"]).ok().json()
    }

    /// State of a cell in the default stack; empty when there is none.
    pub fn state(&self, cell: &str) -> String {
        let done = self.kuke(&["get", "cell", cell, "-o", "json"]);
        if done.code != 0 {
            return String::new();
        }
        done.json()["status"]["state"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Waits until a cell is in a state.
    #[track_caller]
    pub fn await_state(&self, cell: &str, state: &str) {
        eventually(20.0, &format!("cell {cell} is {state}"), || {
            self.state(cell) == state
        });
    }

    /// Waits until a container of a cell is in a state.
    #[track_caller]
    pub fn await_container(&self, cell: &str, container: &str, state: &str) {
        let what = format!("container {container} of {cell} is {state}");
        eventually(20.0, &what, || {
            self.container(cell, container)["state"] == state
        });
    }

    /// Waits until a container has written a word to its log.
    #[track_caller]
    pub fn await_log(&self, cell: &str, word: &str) {
        eventually(10.0, &format!("{cell} says {word}"), || {
            self.kuke(&["log", cell]).out.contains(word)
        });
    }

    /// The cell's first address.
    #[track_caller]
    pub fn address(&self, cell: &str) -> String {
        let document = self.get("cell", cell);
        let address = document["status"]["network"]["addresses"][0].as_str();
        let address = address.unwrap_or_else(|| panic!("no address in {document:#}"));
        address.split('/').next().unwrap().to_owned()
    }

    /// Status of one container of a cell.
    #[track_caller]
    pub fn container(&self, cell: &str, container: &str) -> Value {
        let document = self.get("cell", cell);
        let found = document["status"]["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|c| c["name"] == container);
        found
            .cloned()
            .unwrap_or_else(|| panic!("no status of {container} in {document:#}"))
    }

    /// HTTP GET from this host.
    #[track_caller]
    pub fn fetch(&self, url: &str) -> Done {
        self.inside("curl", &["-sS", "--max-time", "5", url])
    }

    /// Whether the hello cell of this name answers on its address.
    pub fn answers(&self, cell: &str) -> bool {
        let document = self.kuke(&["get", "cell", cell, "-o", "json"]);
        if document.code != 0 {
            return false;
        }
        let document = document.json();
        let address = document["status"]["network"]["addresses"][0].as_str();
        address.is_some_and(|a| {
            let host = a.split('/').next().unwrap();
            self.fetch(&format!("http://{host}:8080/")).code == 0
        })
    }

    /// containerd namespace of a realm.
    pub fn namespace(&self, realm: &str) -> String {
        format!("{realm}.{}", self.suffix)
    }

    /// Socket of the containerd in use, wherever kukeon has put it.
    pub fn containerd_socket(&self) -> Option<PathBuf> {
        if self.socket.exists() {
            return Some(self.socket.clone());
        }
        let found = system(
            "find",
            &[
                &self.run_path.display().to_string(),
                "-name",
                "containerd.sock",
            ],
        );
        found.out.lines().next().map(PathBuf::from)
    }

    /// `ctr` on the realm's namespace.
    #[track_caller]
    pub fn ctr(&self, realm: &str, arguments: &[&str]) -> Done {
        let socket = self
            .containerd_socket()
            .expect("a containerd runs")
            .display()
            .to_string();
        let namespace = self.namespace(realm);
        let mut all = vec!["-a", socket.as_str(), "-n", namespace.as_str()];
        all.extend(arguments);
        system("ctr", &all)
    }

    /// Directory of a cgroup of this host.
    pub fn cgroup(&self, below: &str) -> PathBuf {
        world::cgroup_mount()
            .join(self.cgroup_root.trim_start_matches('/'))
            .join(below)
    }

    /// Where the host's network namespace is pinned.
    pub fn netns(&self) -> &Path {
        &self.netns
    }

    // --- the daemon ------------------------------------------------------------

    /// Starts `kukeond` and waits until it listens.
    #[track_caller]
    pub fn start_daemon(&mut self) {
        let mut child = self.spawn_daemon(&[]);
        let socket = self.api_socket();
        eventually(20.0, "kukeond listens", || {
            assert!(
                matches!(child.try_wait(), Ok(None)),
                "kukeond ended:\n{}",
                self.daemon_log()
            );
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
        self.daemon = Some(child);
    }

    fn spawn_daemon(&self, variables: &[(&str, String)]) -> Child {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("kukeond.log"))
            .unwrap();
        let mut command = self.enter(&world().kuke.with_file_name("kukeond"));
        command
            .args(["serve", "--configuration"])
            .arg(self.server_configuration())
            .envs(variables.iter().map(|(name, value)| (name, value)));
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command.spawn().unwrap()
    }

    /// Starts a `kukeond` that dies at the `step`-th hit of a failpoint. It may
    /// be dead before it listens; then this says false.
    pub fn start_mortal_daemon(&mut self, point: &str, step: usize) -> bool {
        let child = self.spawn_daemon(&[(point, step.to_string())]);
        self.daemon = Some(child);
        let socket = self.api_socket();
        let mut listens = false;
        eventually(20.0, "kukeond listens or dies", || {
            listens = std::os::unix::net::UnixStream::connect(&socket).is_ok();
            listens || !self.daemon_lives()
        });
        listens
    }

    /// Whether `kukeond` has not ended by itself.
    pub fn daemon_lives(&mut self) -> bool {
        let child = self.daemon.as_mut();
        child.is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Ends `kukeond` with SIGTERM.
    #[track_caller]
    pub fn stop_daemon(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).ok();
            eventually(20.0, "kukeond ends on SIGTERM", || {
                matches!(child.try_wait(), Ok(Some(_)))
            });
        }
    }

    /// Ends `kukeond` with SIGKILL.
    pub fn kill_daemon(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Process id of `kukeond`.
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon runs").id()
    }

    /// What `kukeond` wrote.
    pub fn daemon_log(&self) -> String {
        fs::read_to_string(self.dir.join("kukeond.log")).unwrap_or_default()
    }

    // --- the end ----------------------------------------------------------------

    /// What is on the host now.
    pub fn census(&self) -> Census {
        Census::take(self)
    }

    /// Uninstalls and checks that nothing is left. Every test ends with it.
    #[track_caller]
    pub fn finish(mut self) {
        self.kuke(&["uninstall", "--yes"]).ok();
        self.stop_daemon();
        self.assert_untouched();
        self.finished = true;
    }

    /// Checks that the host is as it was before the test began.
    #[track_caller]
    pub fn assert_untouched(&self) {
        self.assert_left(&self.before);
    }

    /// Checks that the host is as it was at an earlier count.
    #[track_caller]
    pub fn assert_left(&self, before: &Census) {
        let mut difference = String::new();
        // What was killed needs a moment to be gone.
        for _ in 0..100 {
            difference = before.difference(&Census::take(self));
            if difference.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("left on the host (+) or missing (-):\n{difference}");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.daemon_log();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            note(format!(
                "kukeond.log:\n{}",
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            ));
        } else if !self.finished {
            note("the test did not call finish()");
        }
        self.kill_daemon();
        self.engine = None;
        world::clear(&self.dir, self.cgroup_root.trim_start_matches('/'));
    }
}
