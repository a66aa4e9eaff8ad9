//! Who is at the other end of a connection (SO_PEERCRED, unix(7); SO_PEERGROUPS).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::UCred;
use tonic::transport::server::Connected;
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
        let (credentials, groups) = request
            .extensions()
            .get::<Caller>()
            .and_then(|caller| Some((caller.credentials?, &caller.groups)))
            .ok_or_else(|| refused("an unknown process"))?;
        let (uid, gid) = (credentials.uid(), credentials.gid());
        let pid = credentials.pid().unwrap_or_default();
        let own = nix::unistd::geteuid().as_raw();
        let member = || {
            self.group
                .is_some_and(|group| group == gid || groups.contains(&group))
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

/// A connection to the socket, and who made it.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    caller: Caller,
}

/// Who made a connection, as the kernel knew it then.
#[derive(Debug, Clone)]
pub struct Caller {
    credentials: Option<UCred>,
    groups: Vec<u32>,
}

impl From<UnixStream> for Connection {
    fn from(stream: UnixStream) -> Self {
        let groups = crate::sys::peer::groups(&stream).unwrap_or_else(|error| {
            tracing::warn!(%error, "the groups of a caller are not known");
            Vec::new()
        });
        let caller = Caller {
            credentials: stream.peer_cred().ok(),
            groups,
        };
        Self { stream, caller }
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
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
}
