//! Who is at the other end of a connection (SO_PEERCRED, unix(7)).

use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Status};

use crate::api::{Code, Error};
use crate::client::status::to_status;

/// Who may use the API: root, the user the daemon runs as, and one group.
#[derive(Debug, Clone, Copy)]
pub struct Peers {
    /// Group besides root.
    pub group: Option<u32>,
}

/// A checked peer.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// User id.
    pub uid: u32,
    /// Process id; 0 when the kernel did not say.
    pub pid: i32,
}

impl Peers {
    /// The peer of a request, if it may use the API. The socket's mode is the
    /// first guard; this one holds even if someone loosened that.
    pub fn check<T>(&self, request: &Request<T>) -> Result<Peer, Status> {
        let credentials = request
            .extensions()
            .get::<UdsConnectInfo>()
            .and_then(|info| info.peer_cred)
            .ok_or_else(|| refused("an unknown process"))?;
        let (uid, gid) = (credentials.uid(), credentials.gid());
        let pid = credentials.pid().unwrap_or_default();
        let own = nix::unistd::geteuid().as_raw();
        let member = || {
            self.group
                .is_some_and(|group| group == gid || groups_of(pid).contains(&group))
        };
        if uid == 0 || uid == own || member() {
            return Ok(Peer { uid, pid });
        }
        tracing::warn!(uid, gid, pid, "refused a connection");
        Err(refused(&format!("user {uid} (process {pid})")))
    }
}

fn refused(who: &str) -> Status {
    let error = Error::new(
        Code::Permission,
        "PeerRefused",
        format!("{who} may not use kukeond"),
    );
    to_status(error.hint("run as root, or join the socket's group and log in again"))
}

/// Supplementary groups of a process (proc_pid_status(5)).
fn groups_of(pid: i32) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    parse_groups(&status)
}

fn parse_groups(status: &str) -> Vec<u32> {
    status
        .lines()
        .find_map(|line| line.strip_prefix("Groups:"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|gid| gid.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_credentials_is_refused() {
        let peers = Peers { group: None };
        let status = peers.check(&Request::new(())).expect_err("refused");
        assert_eq!(status.code(), tonic::Code::PermissionDenied);
    }

    #[test]
    fn supplementary_groups_are_read() {
        let status = "Name:\tx\nGroups:\t4 24 1000 \nNgid:\t0\n";
        assert_eq!(parse_groups(status), [4, 24, 1000]);
        assert!(parse_groups("Name:\tx\n").is_empty());
    }
}
