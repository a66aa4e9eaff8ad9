//! The listening socket: made aside with its final owner and mode, then renamed
//! into place. A connection can therefore never be made with other permissions,
//! and what an earlier daemon left behind is replaced in one step.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::activation;
use super::instance::storage;
use crate::api::{Error, Result};
use crate::model::Settings;

/// A socket that accepts, and what has to be removed when it ends.
#[derive(Debug)]
pub struct Socket {
    /// Non-blocking, for the runtime.
    pub listener: UnixListener,
    /// Group that may connect besides root.
    pub group: Option<u32>,
    made: Option<Made>,
}

#[derive(Debug)]
struct Made {
    path: PathBuf,
    /// Device and inode: a later daemon's socket at the same path is not ours.
    identity: (u64, u64),
    link: Option<PathBuf>,
}

impl Socket {
    /// Takes the socket that systemd passed, or makes one. With a group the
    /// mode is 0660, else 0600.
    ///
    /// # Errors
    /// Files that cannot be made, a passed descriptor that is no unix socket.
    pub fn open(settings: &Settings, group: Option<u32>) -> Result<Self> {
        let passed = activation::listener()
            .map_err(|e| Error::failed("SocketPassed", format!("socket activation: {e}")))?;
        if let Some(listener) = passed {
            let group = passed_group(&listener);
            listener
                .set_nonblocking(true)
                .map_err(|e| storage(&settings.socket, &e))?;
            return Ok(Self {
                listener,
                group,
                made: None,
            });
        }
        let (listener, identity) =
            make(&settings.socket, group).map_err(|e| storage(&settings.socket, &e))?;
        Ok(Self {
            listener,
            group,
            made: Some(Made {
                path: settings.socket.clone(),
                identity,
                link: link(settings),
            }),
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let Some(made) = &self.made else { return };
        let ours = fs::symlink_metadata(&made.path)
            .is_ok_and(|now| (now.dev(), now.ino()) == made.identity);
        if ours {
            let _ = fs::remove_file(&made.path);
            if let Some(link) = &made.link {
                let _ = fs::remove_file(link);
            }
        }
    }
}

fn make(path: &Path, group: Option<u32>) -> io::Result<(UnixListener, (u64, u64))> {
    let aside = path.with_file_name(format!(".k{}", std::process::id()));
    let _ = fs::remove_file(&aside);
    let listener = UnixListener::bind(&aside)?;
    let placed: io::Result<(u64, u64)> = (|| {
        chown(&aside, None, group)?;
        let mode = if group.is_some() { 0o660 } else { 0o600 };
        fs::set_permissions(&aside, Permissions::from_mode(mode))?;
        let made = fs::symlink_metadata(&aside)?;
        fs::rename(&aside, path)?;
        Ok((made.dev(), made.ino()))
    })();
    if placed.is_err() {
        let _ = fs::remove_file(&aside);
    }
    listener.set_nonblocking(true)?;
    Ok((listener, placed?))
}

/// With the default run path the live socket is below `/run`, and
/// `<run_path>/run/kukeond.sock` leads to it. Only a convenience: what stands in
/// the way stays.
fn link(settings: &Settings) -> Option<PathBuf> {
    let link = settings.run_path.join("run/kukeond.sock");
    if link == settings.socket || settings.socket.starts_with(&settings.run_path) {
        return None;
    }
    let _ = fs::create_dir_all(link.parent()?);
    match fs::read_link(&link) {
        Ok(target) if target == settings.socket => return Some(link),
        Ok(_) => fs::remove_file(&link).ok()?,
        Err(_) => {}
    }
    symlink(&settings.socket, &link).ok()?;
    Some(link)
}

/// Group of a passed socket that its file grants writing to.
fn passed_group(listener: &UnixListener) -> Option<u32> {
    let address = listener.local_addr().ok()?;
    let file = fs::metadata(address.as_pathname()?).ok()?;
    (file.mode() & 0o020 != 0).then(|| file.gid())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::model::testing::settings;

    #[test]
    fn a_stale_socket_is_replaced_and_only_our_own_is_removed() {
        let dir = tempfile::tempdir().expect("directory");
        let settings = settings(dir.path());
        drop(UnixListener::bind(&settings.socket).expect("stale"));
        let socket = Socket::open(&settings, None).expect("socket");
        let mode = fs::metadata(&settings.socket).expect("file").mode();
        assert_eq!(mode & 0o777, 0o600);
        UnixStream::connect(&settings.socket).expect("accepts");
        let newer = Socket::open(&settings, None).expect("newer");
        drop(socket);
        UnixStream::connect(&settings.socket).expect("the newer one stays");
        drop(newer);
        assert!(!settings.socket.exists());
        assert_eq!(
            fs::read_dir(&settings.runtime_dir).expect("list").count(),
            0
        );
    }

    #[test]
    fn a_group_may_write() {
        let dir = tempfile::tempdir().expect("directory");
        let settings = settings(dir.path());
        let gid = nix::unistd::getegid().as_raw();
        let _socket = Socket::open(&settings, Some(gid)).expect("socket");
        let file = fs::metadata(&settings.socket).expect("file");
        assert_eq!((file.mode() & 0o777, file.gid()), (0o660, gid));
    }
}
