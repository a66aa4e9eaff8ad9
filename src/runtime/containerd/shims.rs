//! Processes and sockets of shims, which outlive the calls that made them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest, Sha256};
use tokio::net::UnixStream;

use crate::runtime::Connection;

/// Where shims of every containerd of the host listen (containerd,
/// `defaults.DefaultStateDir` and `shim.SocketAddress`).
const SOCKETS: &str = "/run/containerd/s";
/// How long a shim may take to end after its task was removed, and after a SIGKILL.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(30);

/// The shim, and the helper that cleans up after one, that run for this task.
pub fn processes(namespace: &str, id: &str) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter_map(|p| p.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline"));
            line.is_ok_and(|line| is_shim(&line, namespace, id))
        })
        .filter_map(Pid::from_raw)
        .collect()
}

/// Ends shims that hang and whose task containerd knows no more.
pub fn kill(id: &str, shims: &[Pid]) {
    for pid in shims {
        let killed = kill_process(*pid, Signal::KILL).is_ok();
        tracing::warn!(id, pid = pid.as_raw_nonzero(), killed, "a shim hung");
    }
}

/// Removes the socket of a shim whose task is gone. The shim does so itself,
/// unless the client that had the task removed died at that moment: containerd
/// then gives up waiting and kills it.
pub async fn clear(c: &Connection, namespace: &str, id: &str) {
    let socket = socket(&c.socket, namespace, id);
    let began = Instant::now();
    let mut killed = false;
    // Nearly always there is none, and this is all.
    while socket.exists() {
        let shims = processes(namespace, id);
        if shims.is_empty() || began.elapsed() > PATIENCE * 2 {
            break;
        }
        if began.elapsed() > PATIENCE && !killed {
            kill(id, &shims);
            killed = true;
        }
        tokio::time::sleep(PAUSE).await;
    }
    let refused = |e: std::io::Error| e.kind() == std::io::ErrorKind::ConnectionRefused;
    if socket.exists() && UnixStream::connect(&socket).await.is_err_and(refused) {
        let removed = fs::remove_file(&socket).is_ok();
        tracing::warn!(id, socket = %socket.display(), removed, "left by a shim");
    }
}

/// Where the shim of a task listens: the name is a digest of the address of its
/// containerd, namespace and id.
fn socket(containerd: &Path, namespace: &str, id: &str) -> PathBuf {
    let key = containerd.join(namespace).join(id);
    let digest = Sha256::digest(key.as_os_str().as_encoded_bytes());
    let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Path::new(SOCKETS).join(name)
}

/// The command line of a shim: `containerd-shim-… -namespace NS -id ID …`, in
/// any order, one argument a NUL.
fn is_shim(line: &[u8], namespace: &str, id: &str) -> bool {
    let mut arguments = line.split(|b| *b == 0);
    let program = arguments.next().unwrap_or_default();
    let name = program.rsplit(|b| *b == b'/').next().unwrap_or_default();
    if !name.starts_with(b"containerd-shim") {
        return false;
    }
    let arguments: Vec<&[u8]> = arguments.collect();
    let has = |flag: &str, value: &str| {
        arguments
            .windows(2)
            .any(|pair| pair[0] == flag.as_bytes() && pair[1] == value.as_bytes())
    };
    has("-namespace", namespace) && has("-id", id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shims_are_told_by_their_whole_id() {
        let line =
            b"/usr/bin/containerd-shim-runc-v2\0-namespace\0a.io\0-address\0/s\0-id\0x_y\0delete\0";
        assert!(is_shim(line, "a.io", "x_y"));
        assert!(!is_shim(line, "a.io", "x"));
        assert!(!is_shim(line, "b.io", "x_y"));
        assert!(!is_shim(b"sh\0-namespace\0a.io\0-id\0x_y\0", "a.io", "x_y"));
        assert!(!is_shim(b"", "a.io", "x_y"));
    }

    #[test]
    fn the_socket_is_named_as_containerd_names_it() {
        // printf '/run/containerd/containerd.sock/a.io/x' | sha256sum
        let path = socket(Path::new("/run/containerd/containerd.sock"), "a.io", "x");
        assert_eq!(
            path,
            Path::new(SOCKETS)
                .join("2dbbc3b098a700f648069f9b0d3c5e4fab539e007d7d6fa6510c0509141ab1e1")
        );
    }
}
