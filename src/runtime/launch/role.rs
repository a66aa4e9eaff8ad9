//! The launcher role: becomes a managed containerd.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{inherit, judge};
use crate::sys::mounts;

/// Role argument of the launcher.
pub const ROLE: &str = "containerd-launch";
/// Flag with which containerd takes its configuration; identifies it later.
pub const CONFIG_FLAG: &str = "--config";
/// Where programs are looked for beside the caller's own PATH.
const PATHS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// PATH for containerd, which finds shims and runc in it.
pub fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    if !path.is_empty() {
        path.push(":");
    }
    path.push(PATHS);
    path
}

/// A program in [`search_path`].
pub fn find(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&search_path())
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|path| {
            rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file()
        })
}

/// Main function of the launcher. Arguments: the containerd program, its
/// configuration file, and its cgroup below the cgroup2 mount. The process is
/// single-threaded here, which unshare(2) of a mount namespace does not need but
/// the meaning of "this process's mounts" does.
pub fn launcher_main(args: &[OsString]) -> ExitCode {
    let [program, config, cgroup] = args else {
        say("usage: containerd-launch CONTAINERD CONFIG CGROUP");
        return ExitCode::from(2);
    };
    let Err(error) = launch(program, config, cgroup);
    say(&format!("cannot start containerd: {error}"));
    ExitCode::FAILURE
}

fn launch(program: &OsStr, config: &OsStr, cgroup: &OsStr) -> Result<Infallible, io::Error> {
    // A session of its own: no terminal's hang-up or interrupt reaches it.
    rustix::process::setsid()?;
    inherit::close_others_on_exec()?;
    raise_file_limit();
    if let Err(error) = enter_cgroup(cgroup) {
        // It only decides what a service manager would take along.
        say(&format!("stays in its cgroup: {error}"));
    }
    if !judge::unified(Path::new("/")) {
        own_view()
            .map_err(|e| io::Error::other(format!("mount cgroup2 on {}: {e}", judge::CGROUP)))?;
    }
    // A clean environment: a notify socket or listen descriptors of the
    // daemon's unit are not meant for it.
    Err(Command::new(program)
        .arg(super::role::CONFIG_FLAG)
        .arg(config)
        .args(["--log-level", "warn"])
        .env_clear()
        .env("PATH", search_path())
        .current_dir("/")
        .exec())
}

/// Leaves the daemon's cgroup for one of its own.
fn enter_cgroup(cgroup: &OsStr) -> io::Result<()> {
    let top = mounts::mounts()?
        .into_iter()
        .find(|m| m.fs_type == "cgroup2")
        .ok_or_else(|| io::Error::other("no cgroup2 is mounted"))?
        .point;
    let path = top.join(cgroup);
    std::fs::create_dir_all(&path)?;
    std::fs::write(path.join("cgroup.procs"), "0")
}

/// A mount namespace that receives what is mounted outside later, and has
/// cgroup2 where low-level runtimes look for it.
fn own_view() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("cgroup2"), judge::CGROUP, Some("cgroup2"), flags, none)
}

/// Raises the soft limit of open files to the hard one; every shim costs a few.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        say(&format!("the limit of open files stays: {error}"));
    }
}

/// Writes to the log that is to be containerd's.
fn say(text: &str) {
    // Nobody could be told of a failure.
    let _ = writeln!(io::stderr(), "{ROLE}: {text}");
}
