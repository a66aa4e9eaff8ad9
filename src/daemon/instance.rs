//! One daemon per instance: a lock that lives as long as the process, and the
//! pid file that tells scripts which process that is.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::api::{Code, Error, Result};
use crate::model::Settings;

/// The right to be the daemon of an instance. Ends with the process.
#[derive(Debug)]
pub struct Instance {
    _lock: File,
    pid_file: PathBuf,
}

impl Instance {
    /// Takes the lock and writes the pid file.
    ///
    /// # Errors
    /// [`Code::Conflict`] when another kukeond holds the lock.
    pub fn acquire(settings: &Settings) -> Result<Self> {
        make_dir(&settings.runtime_dir)?;
        if let Some(parent) = settings.socket.parent() {
            make_dir(parent)?;
        }
        let path = settings.daemon_lock();
        // The file is never removed: a lock on a removed file guards nothing.
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| storage(&path, &e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(
                    Code::Conflict,
                    "AlreadyRunning",
                    format!(
                        "another kukeond serves {} at {}: it holds {}",
                        settings.run_path.display(),
                        settings.socket.display(),
                        path.display()
                    ),
                )
                .hint("see `kuke daemon status`; stop it with `kuke daemon stop`"));
            }
            Err(TryLockError::Error(error)) => return Err(storage(&path, &error)),
        }
        let pid_file = settings.pid_file();
        write_pid(&pid_file).map_err(|e| storage(&pid_file, &e))?;
        Ok(Self {
            _lock: lock,
            pid_file,
        })
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.pid_file);
    }
}

/// Written aside and renamed, so that a reader never sees half a number.
fn write_pid(path: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(directory)?;
    writeln!(file, "{}", std::process::id())?;
    file.persist(path)?;
    Ok(())
}

/// Members of the socket's group have to pass through, nobody has to list.
fn make_dir(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
        .map_err(|e| storage(path, &e))
}

/// A file of the daemon that cannot be made.
pub fn storage(path: &Path, error: &io::Error) -> Error {
    let code = match error.kind() {
        io::ErrorKind::PermissionDenied => Code::Permission,
        io::ErrorKind::StorageFull => Code::Exhausted,
        _ => Code::Failed,
    };
    Error::new(code, "DaemonFiles", format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use crate::model::SettingsLayer;

    use super::*;

    #[test]
    fn there_is_one_daemon_per_run_path() {
        let dir = tempfile::tempdir().expect("directory");
        let layer = SettingsLayer {
            run_path: Some(dir.path().display().to_string()),
            ..Default::default()
        };
        let settings = layer
            .resolve("/bin/true".into())
            .expect("settings")
            .settings;
        let first = Instance::acquire(&settings).expect("first");
        let pid = std::fs::read_to_string(settings.pid_file()).expect("pid file");
        assert_eq!(pid.trim(), std::process::id().to_string());
        let second = Instance::acquire(&settings).expect_err("second");
        assert_eq!(
            (second.code, second.reason.as_str()),
            (Code::Conflict, "AlreadyRunning")
        );
        drop(first);
        assert!(!settings.pid_file().exists());
        Instance::acquire(&settings).expect("after the first ended");
    }
}
