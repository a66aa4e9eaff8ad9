//! hosts, hostname and resolv.conf of a cell.

use std::net::Ipv4Addr;

use crate::model::Name;

/// Their names in the cell's directory.
pub(super) const NAMES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// hosts(5): loopback and, once there is an address, the cell itself.
pub(super) fn hosts(cell: &Name, address: Option<Ipv4Addr>) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    if let Some(address) = address {
        text.push_str(&format!("{address}\t{cell}\n"));
    }
    text
}

/// resolv.conf(5) from the host's: name servers on loopback belong to the host
/// and cannot be reached from a cell's own network namespace. What the CNI
/// chain told comes first.
pub(super) fn resolv_conf(host: &str, from_cni: &[String]) -> String {
    let mut text = String::new();
    for server in from_cni {
        text.push_str(&format!("nameserver {server}\n"));
    }
    for line in host.lines() {
        let mut words = line.split_whitespace();
        let keep = match (words.next(), words.next()) {
            (Some("nameserver"), Some(server)) => from_cni.is_empty() && !is_loopback(server),
            (Some("search" | "domain" | "options"), _) => true,
            _ => false,
        };
        if keep {
            text.push_str(line.trim());
            text.push('\n');
        }
    }
    text
}

fn is_loopback(server: &str) -> bool {
    let bare = server.split('%').next().unwrap_or(server);
    bare.parse::<std::net::IpAddr>()
        .is_ok_and(|ip| ip.is_loopback())
}

/// The host's resolv.conf; where it names only a local stub (systemd-resolved),
/// the file that names the real servers.
pub(super) fn host_resolv_conf() -> String {
    const STUB_FREE: &str = "/run/systemd/resolve/resolv.conf";
    let main = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let usable = main.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some("nameserver") && words.next().is_some_and(|s| !is_loopback(s))
    });
    if usable {
        main
    } else {
        std::fs::read_to_string(STUB_FREE).unwrap_or(main)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_names_the_cell_once_it_has_an_address() {
        let name: Name = "web".parse().unwrap();
        assert!(!hosts(&name, None).contains("web"));
        let with = hosts(&name, Some(Ipv4Addr::new(10, 117, 0, 2)));
        assert!(with.ends_with("10.117.0.2\tweb\n"));
    }

    #[test]
    fn local_stubs_are_left_out() {
        let host = "# made by hand\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.1\nsearch example.org\n";
        assert_eq!(
            resolv_conf(host, &[]),
            "nameserver 192.0.2.1\nsearch example.org\n"
        );
        let cni = ["198.51.100.1".to_owned()];
        assert_eq!(
            resolv_conf(host, &cni),
            "nameserver 198.51.100.1\nsearch example.org\n"
        );
    }
}
