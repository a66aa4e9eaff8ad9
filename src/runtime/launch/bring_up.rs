//! Starts a containerd of the instance's own.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::FlockOperation;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::layout::Layout;
use super::{open_own, role};
use crate::model::Settings;
use crate::runtime::{Connection, Error, Result};
use crate::sys::{mounts, process};

/// How long a new containerd may take until it answers; with much to recover,
/// on a loaded machine, that is many seconds.
const START: Duration = Duration::from_secs(60);
/// How long another process's bring-up is waited for.
const LOCK: Duration = Duration::from_secs(90);
/// A log larger than this is set aside.
const LOG_BYTES: u64 = 8 << 20;
/// Longest path of a unix socket (unix(7)), without the final zero.
const SOCKET_PATH: usize = 107;

/// Starts containerd, unless another process does so meanwhile. `why` says why
/// no other containerd is used.
pub async fn bring_up(settings: &Settings, layout: &Layout, why: &str) -> Result<Connection> {
    let cannot = |cause: String| Error::Unreachable {
        socket: settings.containerd_socket.display().to_string(),
        cause,
    };
    if !rustix::process::geteuid().is_root() {
        return Err(cannot(format!("{why}; bringing one up needs root")));
    }
    let Some(program) = role::find("containerd") else {
        return Err(cannot(format!("{why}; and no containerd is installed")));
    };
    let failed = |e: io::Error| Error::Other {
        what: format!("bringing up containerd in {}", layout.home.display()),
        cause: e.to_string(),
    };
    // `.ttrpc` is the longer one.
    if layout.socket.as_os_str().len() + ".ttrpc".len() > SOCKET_PATH {
        return Err(failed(io::Error::other(format!(
            "socket path {} is too long; choose a shorter run path",
            layout.socket.display()
        ))));
    }
    std::fs::create_dir_all(&layout.home).map_err(failed)?;
    let _lock = lock(layout.clone()).await.map_err(failed)?;
    if let Ok(connection) = open_own(layout).await {
        return Ok(connection);
    }

    layout.create().map_err(failed)?;
    // Before the launcher makes its namespace: only then is it a slave of these.
    mounts::ensure_shared_dir(&layout.pins).map_err(failed)?;
    write_new(&layout.config, &layout.config_text()).map_err(failed)?;
    let log = open_log(&layout.log).map_err(failed)?;
    let begin = log.metadata().map_err(failed)?.len();
    tracing::info!(
        program = %program.display(),
        socket = %layout.socket.display(),
        why,
        "bringing up containerd"
    );
    let mut child = Command::new(&settings.program)
        .arg(role::ROLE)
        .args([
            program.as_os_str(),
            layout.config.as_os_str(),
            layout.cgroup.as_ref(),
        ])
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(failed)?)
        .stderr(log)
        .spawn()
        .map_err(failed)?;
    record(layout, &child).map_err(failed)?;
    match ready(layout, &mut child).await {
        Ok(connection) => Ok(connection),
        Err(cause) => {
            // Not ours to keep when nobody can talk to it. It may have ended already.
            let _ = child.start_kill();
            let _ = child.wait().await;
            let said = tail(&layout.log, begin);
            Err(failed(io::Error::other(match said.as_str() {
                "" => cause,
                said => format!("{cause}: {said}"),
            })))
        }
    }
}

/// Waits until the new containerd answers, or has ended.
async fn ready(layout: &Layout, child: &mut Child) -> Result<Connection, String> {
    let end = Instant::now() + START;
    loop {
        // It is there early, but answers only when all plugins are loaded.
        if layout.socket.exists()
            && let Ok(connection) = open_own(layout).await
        {
            return Ok(connection);
        }
        match child.try_wait() {
            Ok(Some(status)) => return Err(format!("it ended at once ({status})")),
            Ok(None) => {}
            Err(error) => return Err(error.to_string()),
        }
        if Instant::now() > end {
            return Err(format!("it did not answer within {} s", START.as_secs()));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Takes the lock of bring-up and shut-down. The file is gone after a shut-down;
/// a lock on a file that is no longer the one of that name guards nothing.
pub async fn lock(layout: Layout) -> io::Result<File> {
    let take = tokio::task::spawn_blocking(move || {
        loop {
            std::fs::create_dir_all(&layout.home)?;
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(&layout.lock)?;
            rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
            let (held, named) = (file.metadata()?, std::fs::metadata(&layout.lock));
            if named.is_ok_and(|n| (n.dev(), n.ino()) == (held.dev(), held.ino())) {
                return Ok(file);
            }
        }
    });
    match tokio::time::timeout(LOCK, take).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(io::Error::other(panic)),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "another process is bringing it up and does not come to an end",
        )),
    }
}

fn record(layout: &Layout, child: &Child) -> io::Result<()> {
    let Some(pid) = child.id() else {
        return Ok(());
    };
    let start = process::stat(pid).map_or(0, |stat| stat.start);
    write_new(&layout.pid, &format!("{pid} {start}\n"))
}

/// Replaces a file as a whole.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, path)
}

fn open_log(path: &Path) -> io::Result<File> {
    trim_log(path);
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

/// Empties a log that has grown too large, keeping its content beside it.
/// containerd has it open for appending and goes on at the new end.
pub fn trim_log(path: &Path) {
    let trim = || {
        if std::fs::metadata(path)?.len() > LOG_BYTES {
            std::fs::copy(path, path.with_extension("log.1"))?;
            OpenOptions::new().write(true).open(path)?.set_len(0)?;
        }
        io::Result::Ok(())
    };
    // A client that may not touch it leaves it to one that may.
    if let Err(error) = trim() {
        tracing::debug!(path = %path.display(), %error, "trimming the log");
    }
}

/// The last lines since `begin`, joined, for an error message.
fn tail(path: &Path, begin: u64) -> String {
    let read = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(begin))?;
        let mut bytes = Vec::new();
        file.take(1 << 20).read_to_end(&mut bytes)?;
        io::Result::Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_log_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.log");
        std::fs::write(&path, "short").unwrap();
        trim_log(&path);
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
        std::fs::write(&path, vec![b'x'; LOG_BYTES as usize + 1]).unwrap();
        trim_log(&path);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        let aside = dir.path().join("c.log.1");
        assert_eq!(std::fs::metadata(aside).unwrap().len(), LOG_BYTES + 1);
    }

    #[test]
    fn tail_starts_where_this_start_began() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "old\na\nb\nc\nd\n").unwrap();
        assert_eq!(tail(&path, 4), "b; c; d");
        assert_eq!(tail(&path, 10), "d");
        assert_eq!(tail(&dir.path().join("none"), 0), "");
    }
}
