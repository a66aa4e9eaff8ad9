//! Programs that render: found, identified by their content, and run apart from
//! everything that could make their output differ.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use crate::delivery::failure::{Failure, Reason, Result};
use crate::oci::{Algorithm, Hasher};

/// Longest time a render may take.
const TIME: Duration = Duration::from_secs(120);
/// Most bytes a render may print.
const OUTPUT: u64 = 64 << 20;
/// Most bytes of messages that are kept.
const MESSAGES: u64 = 64 << 10;

/// An executable with its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// SHA-256 of its content, `sha256:…`.
    pub digest: String,
}

/// What tells whether a file is still the same.
type Stamp = (PathBuf, u64, SystemTime);

/// Hashes of programs, which are tens of megabytes.
static KNOWN: Mutex<Vec<(Stamp, String)>> = Mutex::new(Vec::new());

impl Program {
    /// The first of these names that is installed: an absolute path, or a name
    /// in one of the usual directories. `RendererUnavailable` where none is.
    pub fn find(names: &[&str], what: &str) -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs: Vec<PathBuf> = std::env::split_paths(&path)
            .chain(["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from))
            .filter(|dir| dir.is_absolute())
            .collect();
        for name in names {
            // An absolute name replaces the directory.
            let found = dirs.iter().map(|dir| dir.join(name)).find(|p| p.is_file());
            if let Some(path) = found {
                return Self::at(&path);
            }
        }
        let names = names.join(" or ");
        Err(
            unavailable(format!("{what} needs {names}, which is not installed"))
                .hint(format!("install {names} on this machine")),
        )
    }

    fn at(path: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| unavailable(format!("{}: {e}", path.display()));
        let path = path.canonicalize().map_err(failed)?;
        let mut file = std::fs::File::open(&path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        let stamp = (path.clone(), meta.len(), meta.modified().map_err(failed)?);
        let known = || {
            KNOWN
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
        };
        if let Some((_, digest)) = known().iter().find(|(s, _)| *s == stamp) {
            let digest = digest.clone();
            return Ok(Self { path, digest });
        }
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut piece = vec![0; 1 << 20];
        loop {
            match file.read(&mut piece).map_err(failed)? {
                0 => break,
                n => hasher.update(&piece[..n]),
            }
        }
        let digest = hasher.finish().to_string();
        let mut known = known();
        known.retain(|((p, _, _), _)| *p != path);
        known.push((stamp, digest.clone()));
        Ok(Self { path, digest })
    }

    /// Runs it in `dir` and returns what it prints: no network, nothing of our
    /// environment, no cluster, bounded time and output. `RenderFailed` with its
    /// messages where it fails.
    pub fn run(&self, args: &[String], dir: &Path) -> Result<Vec<u8>> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let child = self.spawn(args, dir).map_err(|e| {
            unavailable(format!("{name} cannot be run without a network: {e}"))
                .hint("run as root, or where user namespaces are allowed")
        })?;
        let output = wait(child).map_err(|failure| failure.about(&name))?;
        if output.success {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim();
        let said = if said.is_empty() {
            "it failed without a message"
        } else {
            said
        };
        Err(Failure::new(
            Reason::RenderFailed,
            format!("{name}: {said}"),
        ))
    }

    /// Starts it from a thread that has a network namespace of its own, which
    /// the child is born into.
    fn spawn(&self, args: &[String], dir: &Path) -> std::io::Result<Child> {
        let run = || -> std::io::Result<Child> {
            use nix::sched::{CloneFlags, unshare};
            // Without the capability a new user namespace would do, which a
            // process with threads cannot enter; the program unshare(1) can.
            let mut command = match unshare(CloneFlags::CLONE_NEWNET) {
                Ok(()) => Command::new(&self.path),
                Err(nix::errno::Errno::EPERM) => {
                    let mut command = Command::new("/usr/bin/unshare");
                    command.args(["--user", "--map-root-user", "--net", "--"]);
                    command.arg(&self.path);
                    command
                }
                Err(error) => return Err(error.into()),
            };
            let home = dir.join("home");
            std::fs::create_dir_all(&home)?;
            command
                .args(args)
                .env_clear()
                .env("HOME", &home)
                .env("TMPDIR", &home)
                .env("PATH", "/nonexistent")
                .env("LC_ALL", "C.UTF-8")
                .env("TZ", "UTC")
                .env("KUBECONFIG", home.join("none"))
                .env("HELM_CACHE_HOME", home.join("cache"))
                .env("HELM_CONFIG_HOME", home.join("config"))
                .env("HELM_DATA_HOME", home.join("data"))
                .current_dir(dir)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .process_group(0)
                .spawn()
        };
        std::thread::scope(|scope| match scope.spawn(run).join() {
            Ok(spawned) => spawned,
            Err(_) => Err(std::io::Error::other("the thread ended")),
        })
    }
}

struct Output {
    success: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Waits for the end, within the limits; what goes beyond them is killed.
fn wait(mut child: Child) -> Result<Output> {
    let failed = |why: String| Failure::new(Reason::RenderFailed, why);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let group = rustix::process::Pid::from_child(&child);
    let kill = || {
        // It may have ended by itself.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    };
    let read = |pipe: Option<Box<dyn Read + Send>>, limit: u64| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(pipe) = pipe {
                // What was read until an error is all there is.
                let _ = pipe.take(limit + 1).read_to_end(&mut bytes);
            }
            bytes
        })
    };
    let stdout = read(stdout.map(|p| Box::new(p) as Box<dyn Read + Send>), OUTPUT);
    let stderr = read(
        stderr.map(|p| Box::new(p) as Box<dyn Read + Send>),
        MESSAGES,
    );
    let deadline = Instant::now() + TIME;
    let mut printed = None;
    let mut stdout = Some(stdout);
    let status = loop {
        // Who has read enough leaves, and the program would wait for it.
        if let Some(reader) = stdout.take_if(|reader| reader.is_finished()) {
            let bytes = reader.join().unwrap_or_default();
            if bytes.len() as u64 > OUTPUT {
                break Err(format!("it printed more than {OUTPUT} bytes"));
            }
            printed = Some(bytes);
        }
        match child.try_wait() {
            Ok(Some(status)) => break Ok(status),
            Ok(None) if Instant::now() < deadline => {}
            Ok(None) => break Err(format!("it took longer than {} s", TIME.as_secs())),
            Err(error) => break Err(error.to_string()),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    // With whatever it left behind, which may hold the pipes open.
    kill();
    if status.is_err() {
        // Reaps it.
        let _ = child.wait();
    }
    let stderr = stderr.join().unwrap_or_default();
    let stdout = match (printed, stdout) {
        (Some(bytes), _) => bytes,
        (None, Some(reader)) => reader.join().unwrap_or_default(),
        (None, None) => Vec::new(),
    };
    if stdout.len() as u64 > OUTPUT {
        return Err(failed(format!("it printed more than {OUTPUT} bytes")));
    }
    let status = status.map_err(failed)?;
    Ok(Output {
        success: status.success(),
        stdout,
        stderr,
    })
}

fn unavailable(message: String) -> Failure {
    Failure::new(Reason::RendererUnavailable, message)
}
