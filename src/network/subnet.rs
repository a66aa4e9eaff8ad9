//! Choice of a space's subnet.

use ipnet::Ipv4Net;

use super::{Error, Result, netlink};

/// Every space gets a network of this size.
const PREFIX: u8 = 24;

/// Routes as wide as this are another way to write the default route (VPN
/// clients set `0.0.0.0/1` and `128.0.0.0/1`) and claim nothing for themselves.
const DEFAULT_LIKE: u8 = 1;

/// Lowest /24 of `pool` that overlaps none of `taken`.
fn lowest_free(pool: Ipv4Net, taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    let overlaps = |a: &Ipv4Net, b: &Ipv4Net| a.contains(b) || b.contains(a);
    pool.subnets(PREFIX)
        .ok()?
        .find(|candidate| !taken.iter().any(|net| overlaps(net, candidate)))
}

/// Lowest free /24 of the pool; looks at the addresses and routes of the host.
pub(super) fn allocate(pool: Ipv4Net, used: &[Ipv4Net]) -> Result<Ipv4Net> {
    let failed = |e| Error::host("reading the host's addresses and routes", e);
    let mut taken = used.to_vec();
    taken.extend(
        netlink::addresses()
            .map_err(failed)?
            .into_iter()
            .map(|(_, net)| net),
    );
    let routes = netlink::routes().map_err(failed)?;
    taken.extend(routes.iter().filter(|r| r.prefix_len() > DEFAULT_LIKE));
    for net in &mut taken {
        *net = net.trunc();
    }
    lowest_free(pool.trunc(), &taken).ok_or(Error::PoolExhausted { pool })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn takes_the_lowest_gap() {
        let pool = net("10.117.0.0/16");
        let used = [net("10.117.0.0/24"), net("10.117.2.0/24")];
        assert_eq!(lowest_free(pool, &used), Some(net("10.117.1.0/24")));
        assert_eq!(
            lowest_free(pool, &[net("10.117.0.128/25"), net("10.117.1.7/32")]),
            Some(net("10.117.2.0/24")),
            "a part of a subnet takes all of it"
        );
        assert_eq!(lowest_free(pool, &[net("10.0.0.0/8")]), None);
        assert_eq!(lowest_free(net("10.117.0.0/25"), &[]), None, "no /24 fits");
        assert_eq!(
            lowest_free(net("10.117.9.0/24"), &[]),
            Some(net("10.117.9.0/24"))
        );
    }

    #[test]
    fn avoids_what_the_host_uses() {
        let loopback = net("127.0.0.0/16");
        assert!(matches!(
            allocate(loopback, &[]),
            Err(Error::PoolExhausted { pool }) if pool == loopback
        ));
    }

    prop_compose! {
        fn any_net()(bits in 0x0a75_0000_u32..0x0a75_1000, prefix in 20_u8..=32) -> Ipv4Net {
            Ipv4Net::new(Ipv4Addr::from(bits), prefix).unwrap().trunc()
        }
    }

    proptest! {
        #[test]
        fn is_free_lowest_and_in_the_pool(taken in prop::collection::vec(any_net(), 0..20)) {
            let pool = net("10.117.0.0/20");
            let clash = |c: &Ipv4Net| taken.iter().any(|t| {
                t.network() <= c.broadcast() && c.network() <= t.broadcast()
            });
            match lowest_free(pool, &taken) {
                Some(found) => {
                    prop_assert!(pool.contains(&found) && found.prefix_len() == 24);
                    prop_assert!(!clash(&found));
                    for lower in pool.subnets(24).unwrap().take_while(|c| c < &found) {
                        prop_assert!(clash(&lower));
                    }
                }
                None => prop_assert!(pool.subnets(24).unwrap().all(|c| clash(&c))),
            }
        }
    }
}
