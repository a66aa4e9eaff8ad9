//! Plugin programs: search and execution (CNI specification, section 2).

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, Command};
use tokio_util::task::TaskTracker;

use super::conflist::Version;
use super::{Error, Result};
use crate::sys::process;

/// Where plugins are, besides the directories in `CNI_PATH`: the customary
/// place, then those of distributions.
const DIRECTORIES: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];

/// Search path for what plugins start themselves (iptables, nft, sysctl).
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long one plugin may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// How long the end of plugins that were killed is waited for. A killed process
/// still finishes the system call it is in.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// Most that is read of a plugin's output; results have a few hundred bytes.
const MAX_OUTPUT: u64 = 1 << 20;

/// Most that is kept of a plugin's error output.
const MAX_STDERR: u64 = 64 << 10;

/// Code of failures that the plugin did not report itself; plugins' own codes
/// are told apart by being below 100 or chosen by them.
const NOT_REPORTED: u32 = 999;
/// Code of a plugin that gave no answer: it did not start, or was killed.
pub(super) const NO_ANSWER: u32 = 0;

/// What is asked of a plugin.
#[derive(Debug, Clone)]
pub(super) struct Call<'a> {
    /// ADD, DEL, CHECK, GC or VERSION.
    pub command: &'static str,
    /// Network name, for errors.
    pub network: &'a str,
    /// `CNI_CONTAINERID`.
    pub container_id: &'a str,
    /// `CNI_NETNS`; left out when the namespace is gone.
    pub netns: Option<&'a Path>,
    /// `CNI_IFNAME`.
    pub interface: &'a str,
    /// `CNI_ARGS`.
    pub arguments: &'a str,
}

/// File, length and time of change: another program has another key.
type ProgramKey = (PathBuf, u64, Option<SystemTime>);

/// The plugins of this host.
#[derive(Debug)]
pub(super) struct Plugins {
    directories: Vec<PathBuf>,
    deadline: Duration,
    versions: Mutex<HashMap<ProgramKey, Vec<Version>>>,
    /// Plugins that were killed and have not ended yet; closed, so that it can
    /// be waited for at any time.
    killed: TaskTracker,
}

impl Plugins {
    /// Searches `first`, then the usual directories.
    pub fn new(first: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut directories: Vec<PathBuf> = Vec::new();
        let usual = DIRECTORIES.iter().map(PathBuf::from);
        for dir in first.into_iter().chain(usual) {
            // A relative directory would depend on who started this process.
            if dir.is_absolute() && !directories.contains(&dir) {
                directories.push(dir);
            }
        }
        let killed = TaskTracker::new();
        killed.close();
        Self {
            directories,
            deadline: DEADLINE,
            versions: Mutex::default(),
            killed,
        }
    }

    /// Another deadline for each plugin.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The program of a plugin type.
    pub fn find(&self, plugin: &str) -> Result<PathBuf> {
        let program = self
            .directories
            .iter()
            .map(|dir| dir.join(plugin))
            .find(|path| {
                path.metadata()
                    .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
            });
        program.ok_or_else(|| Error::PluginNotFound {
            plugin: plugin.to_owned(),
            searched: self.search_path().to_string_lossy().into_owned(),
        })
    }

    /// The directories as plugins want them in `CNI_PATH`.
    fn search_path(&self) -> OsString {
        // Fails only for a directory with a colon in its name, which can not be said.
        let sayable = self
            .directories
            .iter()
            .filter(|d| !d.to_string_lossy().contains(':'));
        std::env::join_paths(sayable).unwrap_or_default()
    }

    /// Versions of the specification that a plugin speaks and we do too.
    pub async fn versions(&self, network: &str, plugin: &str) -> Result<Vec<Version>> {
        let program = self.find(plugin)?;
        let metadata = program.metadata();
        let size = metadata.as_ref().map_or(0, |m| m.size());
        let key = (program, size, metadata.and_then(|m| m.modified()).ok());
        {
            let known = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(versions) = known.get(&key) {
                return Ok(versions.clone());
            }
        }
        let call = Call {
            command: "VERSION",
            network,
            // Plugins check these before they look at the command.
            container_id: "version",
            netns: None,
            interface: super::ids::INTERFACE,
            arguments: "",
        };
        let input = json!({ "cniVersion": Version::V1_1_0.to_string() });
        let answer = self.run(&call, plugin, &input).await?;
        let versions: Vec<Version> = answer
            .as_ref()
            .and_then(|a| a.get("supportedVersions")?.as_array())
            .map(|all| {
                all.iter()
                    .filter_map(|v| Version::parse(v.as_str()?))
                    .collect()
            })
            .unwrap_or_default();
        let mut known = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(key, versions.clone());
        Ok(versions)
    }

    /// Runs a plugin to its end and returns what it printed, if anything.
    ///
    /// The plugin gets a bare environment: what is in ours is not its business.
    /// One that does not end in time is killed with its process group, and so is
    /// one whose caller gives up. The next run, of any plugin, waits for their
    /// end, five seconds at most.
    ///
    /// # Errors
    /// [`Error::PluginNotFound`]; [`Error::Plugin`] with what the plugin reported,
    /// or why it did not; [`Error::AddressesExhausted`].
    pub async fn run(
        &self,
        call: &Call<'_>,
        plugin: &str,
        config: &Value,
    ) -> Result<Option<Value>> {
        let fail = |code: u32, cause: String| Error::Plugin {
            command: call.command.to_owned(),
            plugin: plugin.to_owned(),
            network: call.network.to_owned(),
            code,
            cause,
        };
        let program = self.find(plugin)?;
        let input = serde_json::to_vec(config).map_err(|e| fail(NOT_REPORTED, e.to_string()))?;
        let _ = tokio::time::timeout(LAST_BREATH, self.killed.wait()).await;
        let child = self.command(&program, call).spawn().map_err(|e| {
            fail(
                NO_ANSWER,
                format!("{} did not start: {e}", program.display()),
            )
        })?;
        let mut running = Running::new(child, &self.killed);
        let done = tokio::time::timeout(self.deadline, running.talk(&input)).await;
        let output = match done {
            Ok(Ok(output)) => output,
            Ok(Err(e)) => return Err(fail(NO_ANSWER, e.to_string())),
            Err(_) => {
                let seconds = self.deadline.as_secs_f32();
                let cause = format!("it did not end within {seconds} s and was killed");
                return Err(fail(NO_ANSWER, cause));
            }
        };
        if output.success {
            if output.stdout.trim_ascii().is_empty() {
                return Ok(None);
            }
            return serde_json::from_slice(&output.stdout)
                .map(Some)
                .map_err(|e| fail(NOT_REPORTED, format!("its output is not JSON: {e}")));
        }
        let (code, cause) = reported(&output);
        if cause.contains("no IP addresses available in range set") {
            // What host-local says, whatever plugin passes it on.
            return Err(Error::AddressesExhausted {
                network: call.network.to_owned(),
                cause,
            });
        }
        Err(fail(code, cause))
    }

    fn command(&self, program: &Path, call: &Call<'_>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", PATH)
            .env("CNI_COMMAND", call.command)
            .env("CNI_CONTAINERID", call.container_id)
            .env("CNI_IFNAME", call.interface)
            .env("CNI_ARGS", call.arguments)
            .env("CNI_PATH", self.search_path())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(netns) = call.netns {
            command.env("CNI_NETNS", netns);
        }
        command
    }
}

struct Output {
    success: bool,
    status: String,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Reads to the end and keeps no more than `limit` bytes.
async fn bounded(mut from: impl AsyncRead + Unpin, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    (&mut from).take(limit).read_to_end(&mut bytes).await?;
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    Ok(bytes)
}

/// A plugin with what it has started (an address plugin, say). Dropped before
/// its end, because it took too long or its caller gave up, all of it is killed:
/// a half that works on would allocate what a following DEL does not see.
struct Running {
    /// None once the plugin was waited for: its number may be another's then.
    child: Option<Child>,
    stderr: Option<ChildStderr>,
    killed: TaskTracker,
}

impl Running {
    fn new(mut child: Child, killed: &TaskTracker) -> Self {
        Self {
            stderr: child.stderr.take(),
            child: Some(child),
            killed: killed.clone(),
        }
    }

    /// Writes the input and reads both outputs at once, so that neither side
    /// waits for the other with a full pipe; then waits for the end.
    async fn talk(&mut self, input: &[u8]) -> std::io::Result<Output> {
        let gone = || std::io::Error::other("its pipes are gone");
        let child = self.child.as_mut().ok_or_else(gone)?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or_else(gone)?;
        let stderr = self.stderr.as_mut().ok_or_else(gone)?;
        let write = async {
            if let Some(mut stdin) = stdin {
                // A plugin need not read what it does not want.
                let _ = stdin.write_all(input).await;
            }
        };
        let read = async {
            let mut bytes = Vec::new();
            let mut stdout = stdout.take(MAX_OUTPUT + 1);
            stdout.read_to_end(&mut bytes).await.map(|_| bytes)
        };
        let ((), stdout, stderr) = tokio::join!(write, read, bounded(stderr, MAX_STDERR));
        let (stdout, stderr) = (stdout?, stderr?);
        if stdout.len() as u64 > MAX_OUTPUT {
            return Err(std::io::Error::other("it printed more than 1 MiB"));
        }
        let status = child.wait().await?;
        self.child = None;
        Ok(Output {
            success: status.success(),
            status: status.to_string(),
            stdout,
            stderr,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let Some(group) = id.and_then(Pid::from_raw) else {
            return;
        };
        let _ = kill_process_group(group, Signal::KILL);
        let stderr = self.stderr.take();
        let end = async move {
            // What has left the group and still holds the error output.
            let rest = async {
                if let Some(stderr) = stderr {
                    let _ = bounded(stderr, 0).await;
                }
            };
            let all = async {
                let _ = tokio::join!(child.wait(), rest);
                // What the plugin has started is no child of ours.
                while lives(group) {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            if tokio::time::timeout(LAST_BREATH, all).await.is_err() {
                tracing::warn!(group = group.as_raw_pid(), "a killed plugin does not end");
            }
        };
        // Without a runtime, or with one that ends, so does this process; then
        // nobody waits.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.killed.spawn_on(end, &runtime);
        }
    }
}

/// Whether anything of a process group still runs. A process that has ended
/// counts no more, although who has to ask for its end did not yet.
fn lives(group: Pid) -> bool {
    if test_kill_process_group(group).is_err() {
        return false;
    }
    let of_group = |pid| process::stat(pid).filter(|stat| stat.group == group.as_raw_pid());
    process::all()
        .into_iter()
        .filter_map(of_group)
        .any(|stat| !stat.has_ended())
}

/// Code and words of a failure (CNI specification, section 5, error).
fn reported(output: &Output) -> (u32, String) {
    let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    if let Some(code) = json.get("code").and_then(Value::as_u64) {
        let text = |key| json.get(key).and_then(Value::as_str).unwrap_or_default();
        let cause = match (text("msg"), text("details")) {
            (msg, "") => msg.to_owned(),
            (msg, details) => format!("{msg}; {details}"),
        };
        return (u32::try_from(code).unwrap_or(NOT_REPORTED), cause);
    }
    let said = if output.stderr.is_empty() {
        &output.stdout
    } else {
        &output.stderr
    };
    let said: String = String::from_utf8_lossy(said)
        .trim()
        .chars()
        .take(500)
        .collect();
    (NOT_REPORTED, format!("{}: {said}", output.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_does_not_run() {
        let mut child = std::process::Command::new("sleep");
        let child = std::os::unix::process::CommandExt::process_group(&mut child, 0);
        let mut child = child.arg("60").spawn().unwrap();
        let group = Pid::from_child(&child);
        assert!(lives(group));
        kill_process_group(group, Signal::KILL).unwrap();
        // Until it is asked for its end it stays, as one that has ended.
        let ended = (0..10_000).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            !lives(group)
        });
        assert!(ended);
        assert!(test_kill_process_group(group).is_ok());
        child.wait().unwrap();
    }
}
