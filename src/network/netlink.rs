//! Links, addresses and routes through rtnetlink(7), one socket a question.
//!
//! Blocking on purpose: a request takes microseconds, and must run on the
//! thread that is in the network namespace it is about.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// Loopback has this index in every network namespace (`LOOPBACK_IFINDEX` in `net/flow.h`).
const LOOPBACK: u32 = 1;

/// A link, as far as kukeon looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// Index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Alias, empty when there is none.
    pub alias: String,
    /// It is a bridge.
    pub bridge: bool,
    /// It is administratively up.
    pub up: bool,
    /// Index of the bridge it is a port of.
    pub bridge_index: Option<u32>,
}

/// Sends one request and gathers the answers to it.
fn request(message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut packet = NetlinkMessage::from(message);
    packet.header.flags = NLM_F_REQUEST | flags;
    packet.header.sequence_number = 1;
    packet.finalize();
    let mut buffer = vec![0; packet.buffer_len()];
    packet.serialize(&mut buffer);
    socket.send(&buffer, 0)?;

    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while rest.len() >= 16 {
            let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            if length < 16 || length > rest.len() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let one = &rest[..length];
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            match NetlinkMessage::<RouteNetlinkMessage>::deserialize(one) {
                Ok(decoded) => match decoded.payload {
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            None => Ok(answers),
                            Some(_) => Err(error.to_io()),
                        };
                    }
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    _ => {}
                },
                // Another kind of link or route than this crate knows; none of ours.
                Err(error) => tracing::debug!(%error, "netlink message was not understood"),
            }
        }
    }
}

/// Brings loopback up in the calling thread's network namespace.
pub(super) fn loopback_up() -> io::Result<()> {
    set_up(LOOPBACK)
}

fn set_up(index: u32) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    request(RouteNetlinkMessage::SetLink(message), NLM_F_ACK).map(drop)
}

/// The link of a name; none when there is none.
pub(super) fn link(name: &str) -> io::Result<Option<Link>> {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(name.to_owned()));
    match request(RouteNetlinkMessage::GetLink(message), NLM_F_ACK) {
        Ok(answers) => Ok(answers.into_iter().find_map(into_link)),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Every link of the namespace.
pub(super) fn links() -> io::Result<Vec<Link>> {
    let answers = request(
        RouteNetlinkMessage::GetLink(LinkMessage::default()),
        NLM_F_DUMP,
    )?;
    Ok(answers.into_iter().filter_map(into_link).collect())
}

fn into_link(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else {
        return None;
    };
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        alias: String::new(),
        bridge: false,
        up: message.header.flags.contains(LinkFlags::Up),
        bridge_index: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::IfAlias(alias) => link.alias = alias,
            LinkAttribute::Controller(index) => link.bridge_index = Some(index),
            LinkAttribute::LinkInfo(infos) => {
                link.bridge = infos.contains(&LinkInfo::Kind(InfoKind::Bridge));
            }
            _ => {}
        }
    }
    Some(link)
}

/// Makes a bridge that is up. Its hardware address is fixed, for one that
/// follows its ports changes as cells come and go, and neighbours would be
/// stranded with the old one.
pub(super) fn add_bridge(name: &str, hardware: [u8; 6]) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Address(hardware.to_vec()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
    ];
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    request(RouteNetlinkMessage::NewLink(message), flags).map(drop)
}

/// Sets the alias of a link and brings it up.
pub(super) fn own_link(index: u32, alias: &str) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
        .attributes
        .push(LinkAttribute::IfAlias(alias.to_owned()));
    request(RouteNetlinkMessage::SetLink(message), NLM_F_ACK).map(drop)
}

/// Gives an address to a link; one that is there already is no error.
pub(super) fn add_address(index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.index = index;
    message.header.prefix_len = prefix;
    message.attributes = vec![
        AddressAttribute::Local(IpAddr::V4(address)),
        AddressAttribute::Address(IpAddr::V4(address)),
    ];
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    match request(RouteNetlinkMessage::NewAddress(message), flags) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map(drop),
    }
}

/// Removes a link; waits out a grace period of the kernel, some 20 ms.
pub(super) fn remove_link(index: u32) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    match request(RouteNetlinkMessage::DelLink(message), NLM_F_ACK) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => {
            Ok(())
        }
        other => other.map(drop),
    }
}

/// IPv4 networks that the host has an address in, with the index of the link.
pub(super) fn addresses() -> io::Result<Vec<(u32, Ipv4Net)>> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    let answers = request(RouteNetlinkMessage::GetAddress(message), NLM_F_DUMP)?;
    Ok(answers.into_iter().filter_map(into_address).collect())
}

fn into_address(message: RouteNetlinkMessage) -> Option<(u32, Ipv4Net)> {
    let RouteNetlinkMessage::NewAddress(message) = message else {
        return None;
    };
    let address = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Local(IpAddr::V4(ip)) => Some(*ip),
        _ => None,
    })?;
    let net = Ipv4Net::new(address, message.header.prefix_len).ok()?;
    Some((message.header.index, net))
}

/// IPv4 destinations in all routing tables, without the default routes.
pub(super) fn routes() -> io::Result<Vec<Ipv4Net>> {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    let answers = request(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)?;
    Ok(answers.into_iter().filter_map(into_route).collect())
}

fn into_route(message: RouteNetlinkMessage) -> Option<Ipv4Net> {
    let RouteNetlinkMessage::NewRoute(message) = message else {
        return None;
    };
    let destination = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(*ip),
        _ => None,
    })?;
    Ipv4Net::new(destination, message.header.destination_prefix_length).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_the_loopback_link() {
        let link = link("lo").unwrap().unwrap();
        assert_eq!((link.index, link.bridge), (LOOPBACK, false));
        assert!(links().unwrap().contains(&link));
        assert_eq!(super::link("no-such-link").unwrap(), None);
    }

    #[test]
    fn sees_the_loopback_network() {
        // Loopback is up wherever tests run; its route is in the table "local".
        let net: Ipv4Net = "127.0.0.1/8".parse().unwrap();
        assert!(addresses().unwrap().contains(&(LOOPBACK, net)));
        assert!(routes().unwrap().contains(&net.trunc()));
    }
}
