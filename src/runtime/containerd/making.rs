//! Tasks that a client which has died since was making.
//!
//! containerd 1.6 does not exclude its own clean-up of a creation whose client
//! went away from a new creation under the same id: the clean-up (`shim delete`)
//! then takes the new task's files and socket, and one of the two hangs. Whoever
//! starts anew waits until the old attempt is over.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::{shims, tasks};
use crate::model::TaskState;
use crate::runtime::{Connection, Result};

/// How long another attempt may go on before it is no longer waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a process looks out: an attempt of its predecessor is over by then.
const YOUTH: Duration = Duration::from_secs(30);
/// What is between the end of the last helper and the end of the clean-up.
const AFTERWARDS: Duration = Duration::from_millis(150);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(30);

/// Waits for attempts of a predecessor; true when one of them succeeded, so that
/// the task is there.
pub async fn settled(c: &Connection, namespace: &str, id: &str) -> Result<bool> {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    if FIRST.get_or_init(Instant::now).elapsed() > YOUTH {
        return Ok(false);
    }
    wait(c, namespace, id).await
}

async fn wait(c: &Connection, namespace: &str, id: &str) -> Result<bool> {
    let began = Instant::now();
    let mut seen = false;
    loop {
        let helpers = shims::processes(namespace, id);
        if helpers.is_empty() {
            break;
        }
        seen = true;
        match tasks::get(c, namespace, id).await?.map(|t| t.state) {
            Some(TaskState::Created | TaskState::Running | TaskState::Paused) => return Ok(true),
            Some(_) => return Ok(false),
            None if began.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
            // It hangs, containerd knows nothing of it, and its socket would be
            // taken for the new task's.
            None => {
                shims::kill(id, &helpers);
                break;
            }
        }
    }
    if seen {
        tokio::time::sleep(AFTERWARDS).await;
    }
    Ok(false)
}

/// Waits after containerd said that the directory of a task is there, until it
/// is gone, and with it the other attempt. True when that one succeeded.
pub async fn gone(c: &Connection, namespace: &str, id: &str, cause: &str) -> Result<bool> {
    let directory = directory(cause, namespace, id);
    let began = Instant::now();
    while directory.as_ref().is_some_and(|d| d.exists()) && began.elapsed() < PATIENCE {
        if wait(c, namespace, id).await? {
            return Ok(true);
        }
        tokio::time::sleep(PAUSE).await;
    }
    if let Some(left) = directory.filter(|d| d.exists()) {
        // Nobody works on it and containerd does not know the task.
        clear(&left);
    }
    tokio::time::sleep(AFTERWARDS).await;
    Ok(false)
}

/// Whether containerd said that the directory of a task is there already.
pub fn is_taken(cause: &str) -> bool {
    cause.contains("mkdir ") && cause.contains("file exists")
}

/// The directory in `… mkdir /…/<namespace>/<id>: file exists`.
fn directory(cause: &str, namespace: &str, id: &str) -> Option<PathBuf> {
    let (_, rest) = cause.rsplit_once("mkdir ")?;
    let (path, _) = rest.split_once(": file exists")?;
    let path = PathBuf::from(path);
    let ours = path.is_absolute() && path.ends_with(Path::new(namespace).join(id));
    ours.then_some(path)
}

/// Removes what a shim writes into its directory, and the directory if nothing
/// else is in it: never what is mounted there.
fn clear(directory: &Path) {
    for name in [
        "address",
        "config.json",
        "init.pid",
        "log",
        "log.json",
        "options.json",
        "runtime",
        "shim-binary-path",
        "work",
    ] {
        let _ = fs::remove_file(directory.join(name));
    }
    let _ = fs::remove_dir(directory.join("rootfs"));
    let done = fs::remove_dir(directory);
    tracing::warn!(directory = %directory.display(), removed = done.is_ok(), "left by a creation that broke off");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_only_the_tasks_own() {
        let cause = "failed to start shim: mkdir /run/x/a.io/x_y: file exists: unknown";
        assert!(is_taken(cause));
        let found = directory(cause, "a.io", "x_y");
        assert_eq!(found, Some(PathBuf::from("/run/x/a.io/x_y")));
        assert_eq!(directory(cause, "a.io", "y"), None);
        assert_eq!(
            directory("mkdir relative/a.io/x_y: file exists", "a.io", "x_y"),
            None
        );
        assert!(!is_taken("permission denied"));
    }

    #[test]
    fn only_a_shims_files_are_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let task = dir.path().join("task");
        fs::create_dir_all(task.join("rootfs")).unwrap();
        fs::write(task.join("config.json"), "{}").unwrap();
        fs::write(task.join("rootfs/kept"), "").unwrap();
        clear(&task);
        assert!(task.join("rootfs/kept").exists());
        fs::remove_file(task.join("rootfs/kept")).unwrap();
        clear(&task);
        assert!(!task.exists());
    }
}
