//! nf_tables: changes and lists by the `nft` program, questions that are asked
//! often straight to the kernel.

use std::io::{self, Write};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use serde_json::Value;

use super::{Error, Result};

/// How long one run may take; the kernel's side takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(30);

/// Runs nft and returns its JSON, or null.
pub(super) fn nft(arguments: &[&str], input: &str) -> Result<Value> {
    let failed = |e: String| Error::host(format!("nft {}", arguments.join(" ")), e);
    let child = Command::new("nft")
        .args(arguments)
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Error::ProgramNotFound {
            program: "nft".to_owned(),
            package: "nftables".to_owned(),
        },
        _ => failed(e.to_string()),
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A script is far smaller than a pipe; an early end is told by the status.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = wait(child).map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(said.trim().chars().take(500).collect()));
    }
    if output.stdout.trim_ascii().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&output.stdout).map_err(|e| failed(e.to_string()))
}

/// Waits for the end of a program, and ends it when it takes too long.
fn wait(child: std::process::Child) -> io::Result<Output> {
    // By descriptor, for the number may be another process's by then.
    let process = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .ok_or(io::ErrorKind::InvalidData)?;
    let process = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty())?;
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new()
        .name("nft".to_owned())
        .spawn(move || sender.send(child.wait_with_output()))?;
    receiver.recv_timeout(DEADLINE).unwrap_or_else(|_| {
        let _ = rustix::process::pidfd_send_signal(&process, rustix::process::Signal::KILL);
        let text = format!("it did not end within {} s", DEADLINE.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    })
}

/// `NFNL_SUBSYS_NFTABLES` in `linux/netfilter/nfnetlink.h`, as the high byte of a message type.
const NFTABLES: u16 = 10 << 8;
/// `NFT_MSG_GETTABLE` in `linux/netfilter/nf_tables.h`.
const GET_TABLE: u16 = 1;
/// `NFT_MSG_GETSETELEM`.
const GET_ELEMENT: u16 = 13;
/// `NLA_F_NESTED` in `linux/netlink.h`.
const NESTED: u16 = 1 << 15;

/// Whether a table of family `ip` exists.
pub(super) fn table_exists(table: &str) -> io::Result<bool> {
    // NFTA_TABLE_NAME = 1
    ask(GET_TABLE, &attribute(1, &text(table)))
}

/// Whether a set has an element (or an interval that starts) with this key.
pub(super) fn element_exists(table: &str, set: &str, key: [u8; 4]) -> io::Result<bool> {
    // NFTA_SET_ELEM_LIST_ELEMENTS = 3 { NFTA_LIST_ELEM = 1 { NFTA_SET_ELEM_KEY = 1
    // { NFTA_DATA_VALUE = 1 } } }
    let key = attribute(NESTED | 1, &attribute(1, &key));
    let elements = attribute(NESTED | 3, &attribute(NESTED | 1, &key));
    // NFTA_SET_ELEM_LIST_TABLE = 1, NFTA_SET_ELEM_LIST_SET = 2
    let names = [attribute(1, &text(table)), attribute(2, &text(set))].concat();
    ask(GET_ELEMENT, &[names, elements].concat())
}

/// Sends one nf_tables question about family `ip` and tells whether its object exists.
fn ask(message: u16, attributes: &[u8]) -> io::Result<bool> {
    // struct nlmsghdr, then struct nfgenmsg { AF_INET, NFNETLINK_V0, resource 0 }
    let mut packet = Vec::with_capacity(20 + attributes.len());
    packet.extend((20 + attributes.len() as u32).to_ne_bytes());
    packet.extend((NFTABLES | message).to_ne_bytes());
    packet.extend(1u16.to_ne_bytes()); // NLM_F_REQUEST
    packet.extend([0; 8]);
    packet.extend([2, 0, 0, 0]);
    packet.extend_from_slice(attributes);

    let socket = Socket::new(NETLINK_NETFILTER)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&packet, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let kind = answer.get(4..6).map(|b| u16::from_ne_bytes([b[0], b[1]]));
    let code = answer
        .get(16..20)
        .map(|b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    match (kind, code) {
        // NLMSG_ERROR = 2, with a negated errno
        (Some(2), Some(code)) if code == -rustix::io::Errno::NOENT.raw_os_error() => Ok(false),
        (Some(2), Some(code)) => Err(io::Error::from_raw_os_error(-code)),
        (Some(_), Some(_)) => Ok(true),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// One netlink attribute, padded to four bytes (netlink(7)).
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.len() + 8);
    bytes.extend((4 + value.len() as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn text(value: &str) -> Vec<u8> {
    [value.as_bytes(), &[0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded() {
        assert_eq!(attribute(1, b"abc\0"), [8, 0, 1, 0, b'a', b'b', b'c', 0]);
        assert_eq!(attribute(2, b"a\0").len(), 8);
    }
}
