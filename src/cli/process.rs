//! The daemon as a process: found, started, stopped.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::config::Config;
use crate::api::{Code, Error, Result};
use crate::client::{Kukeon, Remote};
use crate::model::Settings;

/// How long a daemon may take to end before it is killed: it drains its calls.
pub const GRACE: Duration = Duration::from_secs(35);
/// How long a daemon that begins or ends may hold its lock without a pid file.
const UNNAMED: Duration = Duration::from_secs(1);
/// How long a daemon may take to answer after its start.
const READY: Duration = Duration::from_secs(30);
/// Between two looks at it.
const PAUSE: Duration = Duration::from_millis(20);
/// How often a start is tried again that met a daemon on its way out.
const TRIES: u32 = 3;

/// A kukeond that serves this instance. The descriptor is of that very process:
/// a signal cannot hit another one that got its number later (pidfd_open(2)).
pub struct Daemon {
    /// Process id.
    pub pid: i32,
    pidfd: OwnedFd,
}

/// How stopping went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// None ran.
    Already,
    /// It ended by itself.
    Ended,
    /// It had to be killed.
    Killed,
}

/// The running daemon of an instance. The pid file only hints at it: the proof
/// is the instance's lock, held open by that process.
///
/// # Errors
/// A lock that is held by a process that cannot be found.
pub fn find(settings: &Settings) -> Result<Option<Daemon>> {
    let path = settings.daemon_lock();
    let deadline = Instant::now() + UNNAMED;
    loop {
        if !is_locked(&path)? {
            return Ok(None);
        }
        match holder(settings, &path) {
            // It takes the lock first and gives it back last.
            Err(_) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            found => return found.map(Some),
        }
    }
}

/// The process of the pid file, if it has the lock open.
fn holder(settings: &Settings, path: &Path) -> Result<Daemon> {
    let Some(pid) = read_pid(&settings.pid_file()) else {
        return Err(lost(path, "its pid file is missing"));
    };
    let pidfd = Pid::from_raw(pid)
        .ok_or(rustix::io::Errno::SRCH)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK))
        .map_err(|e| lost(path, &format!("process {pid}: {e}")))?;
    if !holds(pid, path) {
        return Err(lost(path, &format!("process {pid} is another program")));
    }
    Ok(Daemon { pid, pidfd })
}

fn lost(lock: &Path, why: &str) -> Error {
    Error::failed(
        "DaemonUnknown",
        format!("a kukeond runs, for it holds {}, but {why}", lock.display()),
    )
    .hint(format!("`fuser {}` names the process", lock.display()))
}

fn is_locked(path: &Path) -> Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(unusable(path, &error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(unusable(path, &error)),
    }
}

fn unusable(path: &Path, error: &io::Error) -> Error {
    let code = match error.kind() {
        io::ErrorKind::PermissionDenied => Code::Permission,
        _ => Code::Failed,
    };
    Error::new(code, "DaemonFiles", format!("{}: {error}", path.display()))
}

fn read_pid(path: &Path) -> Option<i32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Whether a process has a file open (proc_pid_fd(5)).
fn holds(pid: i32, path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else {
        return false;
    };
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| target == path)
}

impl Daemon {
    fn signal(&self, signal: Signal) -> Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(Error::failed(
                "Signal",
                format!("signalling kukeond (process {}): {error}", self.pid),
            )),
        }
    }

    /// Waits until it answers; false when it ends or takes too long.
    async fn serves(&self, settings: &Settings) -> Result<bool> {
        let deadline = Instant::now() + READY;
        while Instant::now() < deadline {
            if self.ended(PAUSE).await? {
                return Ok(false);
            }
            if is_served(settings).await {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Waits for its end; false when it took too long.
    async fn ended(&self, limit: Duration) -> Result<bool> {
        let failed = |error: io::Error| {
            Error::failed(
                "Signal",
                format!("watching kukeond (process {}): {error}", self.pid),
            )
        };
        let pidfd = self.pidfd.try_clone().map_err(failed)?;
        let waited = tokio::task::spawn_blocking(move || wait(&pidfd, Instant::now() + limit));
        waited
            .await
            .unwrap_or_else(|e| Err(io::Error::other(e)))
            .map_err(failed)
    }
}

/// A pidfd becomes readable when its process ends (pidfd_open(2)).
fn wait(pidfd: &OwnedFd, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// SIGTERM, and SIGKILL after the grace.
///
/// # Errors
/// A daemon that cannot be found or signalled.
pub async fn stop(settings: &Settings, grace: Duration) -> Result<Stopped> {
    let Some(daemon) = find(settings)? else {
        return Ok(Stopped::Already);
    };
    daemon.signal(Signal::TERM)?;
    if daemon.ended(grace).await? {
        return Ok(Stopped::Ended);
    }
    kill(settings).await?;
    Ok(Stopped::Killed)
}

/// SIGKILL. The files it leaves are of no harm: the lock ended with it.
///
/// # Errors
/// A daemon that cannot be found or signalled.
pub async fn kill(settings: &Settings) -> Result<Stopped> {
    let Some(daemon) = find(settings)? else {
        return Ok(Stopped::Already);
    };
    daemon.signal(Signal::KILL)?;
    if !daemon.ended(Duration::from_secs(10)).await? {
        return Err(Error::new(
            Code::Timeout,
            "KillTimeout",
            format!("kukeond (process {}) does not die", daemon.pid),
        ));
    }
    let _ = fs::remove_file(settings.pid_file());
    let _ = fs::remove_file(&settings.socket);
    Ok(Stopped::Killed)
}

/// Removes what a daemon leaves behind when it ends: for the end of the instance.
///
/// # Errors
/// A daemon that runs, or a file that cannot be removed.
pub fn remove_files(settings: &Settings) -> Result<()> {
    if find(settings)?.is_some() {
        return Err(Error::new(
            Code::Conflict,
            "DaemonRuns",
            "kukeond runs: it still needs its files",
        ));
    }
    for path in [
        settings.pid_file(),
        settings.socket.clone(),
        settings.daemon_lock(),
        log_file(settings),
    ] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(unusable(&path, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Where a daemon that no service manager runs writes its log.
pub fn log_file(settings: &Settings) -> PathBuf {
    if settings.run_path == Path::new(Settings::RUN_PATH) {
        PathBuf::from("/var/log/kukeond.log")
    } else {
        settings.run_path.join(".kukeond.log")
    }
}

/// Starts a daemon in a session of its own and waits until it answers; returns
/// its process id. Where another start was faster it is that daemon's.
///
/// # Errors
/// With the daemon's last words, when it ends instead.
pub async fn start(config: &Config) -> Result<i32> {
    let settings = &config.resolved.settings;
    let log = log_file(settings);
    let mut tries = 0;
    loop {
        let (mut child, from) = spawn(config, &log)?;
        let pid = i32::try_from(child.id()).unwrap_or_default();
        let refused = match answer(&mut child, settings, &log, from).await {
            Ok(()) => return Ok(pid),
            Err(error) => error,
        };
        let conflict = i32::from(Code::Conflict.exit_code());
        let is_conflict = matches!(child.try_wait(), Ok(Some(s)) if s.code() == Some(conflict));
        tries += 1;
        if !is_conflict || tries == TRIES {
            return Err(refused);
        }
        if let Some(other) = find(settings)?
            && other.serves(settings).await?
        {
            return Ok(other.pid);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn spawn(config: &Config, log: &Path) -> Result<(Child, u64)> {
    let settings = &config.resolved.settings;
    if let Some(directory) = log.parent() {
        fs::create_dir_all(directory).map_err(|e| unusable(directory, &e))?;
    }
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .map_err(|e| unusable(log, &e))?;
    let from = file.metadata().map(|m| m.len()).unwrap_or_default();
    let errors = file.try_clone().map_err(|e| unusable(log, &e))?;
    let mut command = Command::new(&settings.program);
    command
        .arg0("kukeond")
        .args(["serve", "--background"])
        .args(config.daemon_flags())
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .current_dir("/");
    let child = command
        .spawn()
        .map_err(|e| Error::failed("DaemonStart", format!("starting kukeond: {e}")))?;
    Ok((child, from))
}

async fn answer(child: &mut Child, settings: &Settings, log: &Path, from: u64) -> Result<()> {
    let began = Instant::now();
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            let words = said_since(log, from);
            return Err(Error::failed(
                "DaemonStart",
                format!("kukeond ended at once ({status}):\n{words}"),
            )
            .hint(format!("its whole log is in {}", log.display())));
        }
        if is_served(settings).await {
            return Ok(());
        }
        if began.elapsed() > READY {
            return Err(Error::new(
                Code::Timeout,
                "DaemonStart",
                format!("kukeond (process {}) does not answer", child.id()),
            )
            .hint(format!("see its log in {}", log.display())));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether a daemon answers at the socket.
async fn is_served(settings: &Settings) -> bool {
    match Remote::connect(&settings.socket, Some(Duration::from_secs(5))).await {
        Ok(remote) => answered(&remote.version(Default::default()).await),
        Err(_) => false,
    }
}

/// Whether somebody answered, be it with a failure of its own.
fn answered<T>(answer: &Result<T>) -> bool {
    !matches!(
        answer,
        Err(Error {
            code: Code::Unavailable | Code::Timeout,
            ..
        })
    )
}

/// The end of what a daemon wrote after a position.
fn said_since(log: &Path, from: u64) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let start = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
    let text = String::from_utf8_lossy(&bytes[start..]);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::settings;

    #[test]
    fn a_stale_pid_file_is_no_daemon() {
        let dir = tempfile::tempdir().expect("directory");
        let settings = settings(dir.path());
        fs::write(settings.pid_file(), "1\n").expect("pid file");
        assert!(find(&settings).expect("found").is_none());
        // Not even with a lock file that nobody holds.
        fs::write(settings.daemon_lock(), "").expect("lock file");
        assert!(find(&settings).expect("found").is_none());
    }

    #[test]
    fn the_holder_of_the_lock_is_the_daemon_and_nobody_else() {
        let dir = tempfile::tempdir().expect("directory");
        let settings = settings(dir.path());
        let lock = File::create(settings.daemon_lock()).expect("lock file");
        lock.lock().expect("lock");
        fs::write(settings.pid_file(), std::process::id().to_string()).expect("pid file");
        let found = find(&settings).expect("found").expect("a daemon");
        assert_eq!(found.pid.unsigned_abs(), std::process::id());
        // A recycled number: process 1 does not hold the lock.
        fs::write(settings.pid_file(), "1").expect("pid file");
        let error = find(&settings).err().expect("refused");
        assert_eq!(error.reason, "DaemonUnknown");
    }
}
