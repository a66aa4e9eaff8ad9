//! Bridge of a generated network. The plugin would make it too, but only with
//! the first cell, without owner, and with a hardware address that changes.

use std::io;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::netlink::{self, Link};
use super::{Error, Result, SpaceNetwork, ids};

/// The gateway of a subnet: its first address, as `host-local` has it.
fn gateway(subnet: Ipv4Net) -> Ipv4Net {
    let first = Ipv4Addr::from(u32::from(subnet.network()).saturating_add(1));
    // The prefix length is that of a valid network.
    Ipv4Net::new(first, subnet.prefix_len()).unwrap_or(subnet)
}

/// Locally administered address (IEEE 802, second bit), made of the digits that
/// make the bridge's name unique.
fn hardware_address(bridge: &str) -> [u8; 6] {
    let digits = bridge.strip_prefix("k-").unwrap_or_default();
    let [a, b, c, d] = u32::from_str_radix(digits, 16)
        .unwrap_or_default()
        .to_be_bytes();
    [0x02, b'k', a, b, c, d]
}

/// The bridge is up with its address and owner.
pub(super) fn present(network: &SpaceNetwork, subnet: Ipv4Net, instance: &str) -> io::Result<bool> {
    let Some(link) = netlink::link(&network.bridge())? else {
        return Ok(false);
    };
    let owned = link.alias == ids::bridge_alias(instance, &network.space);
    Ok(owned
        && link.bridge
        && link.up
        && netlink::addresses()?.contains(&(link.index, gateway(subnet))))
}

/// Makes the bridge, or completes one that is there.
pub(super) fn ensure(network: &SpaceNetwork, subnet: Ipv4Net, instance: &str) -> Result<()> {
    let name = network.bridge();
    let failed = |e: io::Error| Error::host(format!("making bridge {name}"), e);
    let alias = ids::bridge_alias(instance, &network.space);
    let link = match netlink::link(&name).map_err(failed)? {
        Some(link) => link,
        None => {
            match netlink::add_bridge(&name, hardware_address(&name)) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                other => other.map_err(failed)?,
            }
            let gone = || failed(io::ErrorKind::NotFound.into());
            netlink::link(&name).map_err(failed)?.ok_or_else(gone)?
        }
    };
    if !link.bridge || (!link.alias.is_empty() && link.alias != alias) {
        let owner = if link.bridge {
            link.alias
        } else {
            "something else".to_owned()
        };
        return Err(Error::host(
            format!("making bridge {name}"),
            format!("the link belongs to {owner}"),
        ));
    }
    netlink::own_link(link.index, &alias).map_err(failed)?;
    let gateway = gateway(subnet);
    netlink::add_address(link.index, gateway.addr(), gateway.prefix_len()).map_err(failed)
}

/// Removes the bridge, unless it belongs to someone else.
pub(super) fn remove(network: &SpaceNetwork, instance: &str) -> Result<()> {
    let name = network.bridge();
    let failed = |e: io::Error| Error::host(format!("removing bridge {name}"), e);
    let alias = ids::bridge_alias(instance, &network.space);
    match netlink::link(&name).map_err(failed)? {
        Some(link) if link.bridge && (link.alias.is_empty() || link.alias == alias) => {
            netlink::remove_link(link.index).map_err(failed)
        }
        _ => Ok(()),
    }
}

/// Links whose alias says that they belong to an instance.
pub(super) fn of_instance(instance: &str) -> io::Result<Vec<Link>> {
    let prefix = ids::alias_prefix(instance);
    let ours = |link: &Link| {
        // Another instance's path may start with ours and a blank.
        let rest = link.alias.strip_prefix(&prefix);
        rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(' '))
    };
    Ok(netlink::links()?.into_iter().filter(ours).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_is_the_first_address() {
        let net = |text: &str| text.parse::<Ipv4Net>().unwrap();
        assert_eq!(gateway(net("10.117.3.0/24")), net("10.117.3.1/24"));
        assert_eq!(gateway(net("10.117.3.77/24")), net("10.117.3.1/24"));
    }

    #[test]
    fn hardware_addresses_follow_the_name() {
        assert_eq!(
            hardware_address("k-12345678"),
            [2, b'k', 0x12, 0x34, 0x56, 0x78]
        );
        assert_eq!(hardware_address("k-ab"), [2, b'k', 0, 0, 0, 0xab]);
    }
}
