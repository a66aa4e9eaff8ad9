//! Takes a managed containerd away with everything it left.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::bring_up::lock;
use super::layout::Layout;
use super::process::{self, Held};
use super::role::CONFIG_FLAG;
use crate::model::Settings;
use crate::runtime::{Error, Result};
use crate::sys::{self, mounts};

/// Grace of containerd and of a shim after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);
/// Where shims of both containerd lines put their sockets and runc its state,
/// whatever the root and state of their containerd are.
const SHARED: &str = "/run/containerd";

/// Stops the instance's own containerd, ends shims that are left with their
/// containers, unmounts what is mounted below its directories, and removes
/// those. Returns what was done, a line each; nothing when there was none. A
/// containerd that is not ours is not touched.
pub async fn shut_down(settings: &Settings) -> Result<Vec<String>> {
    let layout = Layout::new(settings);
    if !layout.home.exists() && !layout.runtime.exists() {
        return Ok(Vec::new());
    }
    let failed = |e: io::Error| Error::Other {
        what: format!("removing the containerd in {}", layout.home.display()),
        cause: e.to_string(),
    };
    let _lock = lock(layout.clone()).await.map_err(failed)?;
    let work = layout.clone();
    match tokio::task::spawn_blocking(move || take_away(&work)).await {
        Ok(result) => result.map_err(failed),
        Err(panic) => Err(failed(io::Error::other(panic))),
    }
}

fn take_away(layout: &Layout) -> io::Result<Vec<String>> {
    let mut done = Vec::new();
    if let Some((pid, held)) = daemon(layout) {
        if !held.end(GRACE)? {
            return Err(io::Error::other(format!(
                "containerd (process {pid}) does not end"
            )));
        }
        done.push(format!("stopped containerd (process {pid})"));
    }
    let shims = end_shims(&layout.socket)?;
    remove_shim_sockets(&layout.state);
    if shims > 0 {
        done.push(format!("ended {shims} shims"));
    }
    let mut unmounted = 0;
    for path in [&layout.runtime, &layout.home] {
        unmounted += mounts::unmount_all_below(path)?;
    }
    unmounted += mounts::unmount_tree(&layout.pins)?;
    if unmounted > 0 {
        done.push(format!("unmounted {unmounted} mounts"));
    }
    for path in [&layout.pins, &layout.runtime, &layout.home] {
        match std::fs::remove_dir_all(path) {
            Ok(()) => done.push(format!("removed {}", path.display())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(io::Error::new(e.kind(), format!("{}: {e}", path.display()))),
        }
    }
    if let Some(cgroup) = cgroup(layout)
        && std::fs::remove_dir(&cgroup).is_ok()
    {
        done.push(format!("removed {}", cgroup.display()));
    }
    // Only when nobody else's is in there.
    for path in ["runc", "s", "fifo", ""] {
        let _ = std::fs::remove_dir(Path::new(SHARED).join(path));
    }
    Ok(done)
}

/// The running containerd: whoever listens on the socket, or was recorded, and
/// was started with our configuration.
fn daemon(layout: &Layout) -> Option<(u32, Held)> {
    let recorded = || {
        let text = std::fs::read_to_string(&layout.pid).ok()?;
        let (pid, start) = text.trim().split_once(' ')?;
        let (pid, start): (u32, u64) = (pid.parse().ok()?, start.parse().ok()?);
        (sys::process::stat(pid)?.start == start).then_some(pid)
    };
    let pid = process::listener(&layout.socket).or_else(recorded)?;
    let held = Held::take(pid, |pid| {
        process::has_argument(pid, CONFIG_FLAG, layout.config.as_os_str())
    })?;
    Some((pid, held))
}

/// Ends the shims that were started for this socket. Their containers' first
/// processes are killed before: nobody could end them afterwards.
fn end_shims(socket: &Path) -> io::Result<usize> {
    let ours = |pid: u32| process::has_argument(pid, "-address", socket.as_os_str());
    let everyone = sys::process::all();
    let mut count = 0;
    for &pid in &everyone {
        if !ours(pid) {
            continue;
        }
        let Some(shim) = Held::take(pid, ours) else {
            continue;
        };
        count += 1;
        for &child in &everyone {
            let is_child = |p| sys::process::stat(p).is_some_and(|stat| stat.parent == pid);
            if is_child(child)
                && let Some(held) = Held::take(child, is_child)
            {
                held.signal(Signal::KILL)?;
            }
        }
        let arguments = process::arguments(pid);
        shim.end(Duration::from_secs(1))?;
        forget(&arguments);
    }
    Ok(count)
}

/// Removes the sockets of killed shims; each bundle keeps its shim's address.
fn remove_shim_sockets(state: &Path) {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    for namespace in entries(&state.join("io.containerd.runtime.v2.task")) {
        for bundle in entries(&namespace.path()) {
            let address = std::fs::read_to_string(bundle.path().join("address"));
            let socket = address.as_deref().unwrap_or_default().trim();
            let socket = Path::new(socket.strip_prefix("unix://").unwrap_or(socket));
            if socket.parent() == Some(&Path::new(SHARED).join("s")) {
                // Gone already if its shim ended in order.
                let _ = std::fs::remove_file(socket);
            }
        }
    }
}

/// Removes the low-level runtime's state of a shim that could not do so itself.
fn forget(arguments: &[Vec<u8>]) {
    let value = |flag: &[u8]| {
        let at = arguments.iter().position(|a| a == flag)?;
        let name = String::from_utf8(arguments.get(at + 1)?.clone()).ok()?;
        // Both are single components; anything else is not what we think it is.
        (!name.is_empty() && !name.contains('/') && !name.starts_with('.')).then_some(name)
    };
    if let (Some(namespace), Some(id)) = (value(b"-namespace"), value(b"-id")) {
        let parent = Path::new(SHARED).join("runc").join(namespace);
        // Gone already, most of the time.
        let _ = std::fs::remove_dir_all(parent.join(id));
        let _ = std::fs::remove_dir(parent);
    }
}

fn cgroup(layout: &Layout) -> Option<PathBuf> {
    let top = mounts::mounts()
        .ok()?
        .into_iter()
        .find(|m| m.fs_type == "cgroup2")?
        .point;
    Some(top.join(&layout.cgroup))
}
