//! Reads results of ADD (CNI specification, section 5; 0.3.0 to 1.1.0 agree on
//! all that is read here).

use serde::Deserialize;
use serde_json::Value;

use super::cache::Outcome;
use super::{ids, netlink};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    interfaces: Vec<Interface>,
    ips: Vec<Ip>,
    dns: Dns,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Interface {
    name: String,
    sandbox: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ip {
    address: String,
    interface: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Dns {
    nameservers: Vec<String>,
}

/// What a result says of the cell's own interface. `is_bridge` tells bridges
/// from other host links, which the result does not.
pub(super) fn outcome(
    result: Value,
    sandbox: String,
    is_bridge: impl Fn(&str) -> bool,
) -> Result<Outcome, serde_json::Error> {
    let answer = Answer::deserialize(&result)?;
    let inside = |index: usize| {
        answer
            .interfaces
            .get(index)
            .is_some_and(|i| !i.sandbox.is_empty() && i.name == ids::INTERFACE)
    };
    let addresses = answer
        .ips
        .iter()
        // An address without interface belongs to the only one there is.
        .filter(|ip| ip.interface.is_none_or(inside))
        .map(|ip| ip.address.clone())
        .collect();
    let (bridges, others): (Vec<&str>, Vec<&str>) = answer
        .interfaces
        .iter()
        .filter(|i| i.sandbox.is_empty() && !i.name.is_empty())
        .map(|i| i.name.as_str())
        .partition(|name| is_bridge(name));
    let first = |names: Vec<&str>| names.first().copied().unwrap_or_default().to_owned();
    Ok(Outcome {
        sandbox,
        host_interface: first(others),
        bridge: first(bridges),
        addresses,
        nameservers: answer.dns.nameservers,
        result,
        broken: false,
    })
}

/// Whether a link of the host is a bridge. Asked of the kernel: `/sys` shows the
/// links of the namespace it was mounted in, which may be another one.
pub(super) fn is_bridge(name: &str) -> bool {
    netlink::link(name).is_ok_and(|link| link.is_some_and(|link| link.bridge))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn finds_both_ends_and_the_addresses() {
        let result = json!({
            "cniVersion": "1.0.0",
            "interfaces": [
                {"name": "k-12345678", "mac": "02:00:00:00:00:01"},
                {"name": "veth1234"},
                {"name": "eth0", "sandbox": "/run/kukeon/ns/a.b.c.d/net"},
                {"name": "eth1", "sandbox": "/run/kukeon/ns/a.b.c.d/net"}
            ],
            "ips": [
                {"address": "10.117.3.2/24", "gateway": "10.117.3.1", "interface": 2},
                {"address": "fd00::2/64", "interface": 2},
                {"address": "10.9.9.9/24", "interface": 3},
                {"address": "10.117.3.1/24", "interface": 0}
            ],
            "dns": {"nameservers": ["10.117.3.1"]}
        });
        let outcome = outcome(result, "4".to_owned(), |name| name.starts_with("k-")).unwrap();
        assert_eq!(outcome.bridge, "k-12345678");
        assert_eq!(outcome.host_interface, "veth1234");
        assert_eq!(outcome.addresses, ["10.117.3.2/24", "fd00::2/64"]);
        assert_eq!(outcome.nameservers, ["10.117.3.1"]);
        assert_eq!(outcome.sandbox, "4");
    }

    #[test]
    fn a_chain_without_host_end_has_none() {
        let result = json!({"ips": [{"version": "4", "address": "192.0.2.7/24"}]});
        let outcome = outcome(result, "4".to_owned(), |_| false).unwrap();
        assert_eq!(
            (outcome.host_interface, outcome.bridge),
            (String::new(), String::new())
        );
        assert_eq!(outcome.addresses, ["192.0.2.7/24"]);
        assert!(super::outcome(json!({"ips": 3}), String::new(), |_| false).is_err());
    }
}
