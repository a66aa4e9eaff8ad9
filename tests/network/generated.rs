//! The generated network: reachable, masqueraded, exhaustible, removable.

use kukeon::network::{Error, Network};

use crate::host::{cell, connect, on_own_host, outside, run};

#[test]
fn cells_reach_each_other_the_host_and_the_world() {
    on_own_host(
        "cells_reach_each_other_the_host_and_the_world",
        async |host| {
            let world = outside();
            let before = host.state();
            let lab = host.network("lab", "10.199.0.0/24");
            let ops = host.network("ops", "10.199.1.0/24");
            assert!(!host.cni.observe_network(&lab).await.unwrap().bridge);
            for network in [&lab, &ops] {
                host.cni.ensure_network(network).await.unwrap();
                let first = (
                    host.state(),
                    host.cni.observe_network(network).await.unwrap(),
                );
                assert!(first.1.bridge && first.1.conflist.is_some());
                host.cni.ensure_network(network).await.unwrap();
                let again = (
                    host.state(),
                    host.cni.observe_network(network).await.unwrap(),
                );
                assert_eq!(first, again, "made twice is made once");
            }

            let cells = [cell("lab", "a"), cell("lab", "b"), cell("ops", "c")];
            for (at, network) in cells.iter().zip([&lab, &lab, &ops]) {
                host.cni.create_sandbox(at, false).await.unwrap();
                let attachment = host.cni.attach(at, network).await.unwrap();
                assert_eq!(attachment.bridge, network.bridge());
                assert_eq!(attachment.interface, "eth0");
                let link = run("ip", &["-d", "link", "show", &attachment.host_interface]);
                let alias = format!(
                    "kukeon {} default/{}/s/{}",
                    host.settings.instance(),
                    at.space,
                    at.cell
                );
                assert!(link.contains(&alias), "{link}");
                assert_eq!(
                    host.cni.attach(at, network).await.unwrap(),
                    attachment,
                    "kept"
                );
                let seen = host.cni.observe_sandbox(at, false).await.unwrap();
                assert!(seen.attached);
                assert_eq!(seen.attachment, Some(attachment));
                host.cni.check(at, network).await.unwrap();
            }
            let address = async |at| {
                let seen = host.cni.observe_sandbox(at, false).await.unwrap();
                let addresses = seen.attachment.unwrap().addresses;
                assert_eq!(addresses.len(), 1);
                addresses[0].strip_suffix("/24").unwrap().to_owned()
            };
            let (a, b, c) = (
                address(&cells[0]).await,
                address(&cells[1]).await,
                address(&cells[2]).await,
            );
            assert_eq!(
                (a.as_str(), b.as_str(), c.as_str()),
                ("10.199.0.2", "10.199.0.3", "10.199.1.2")
            );

            let pins = cells.clone().map(|at| host.cni.sandbox_paths(&at).net);
            let saw = |address: &str| Some(address.parse().unwrap());
            assert_eq!(
                connect(None, Some(&pins[0]), &a),
                saw("10.199.0.1"),
                "from the host"
            );
            assert_eq!(
                connect(Some(&pins[0]), None, "10.199.0.1"),
                saw(&a),
                "to the host"
            );
            assert_eq!(
                connect(Some(&pins[0]), Some(&pins[1]), &b),
                saw(&a),
                "in the space"
            );
            assert_eq!(
                connect(Some(&pins[0]), Some(&pins[0]), &a),
                saw(&a),
                "to itself"
            );
            assert_eq!(
                connect(Some(&pins[0]), Some(&pins[2]), &c),
                saw(&a),
                "between spaces"
            );
            assert_eq!(
                connect(Some(&pins[2]), Some(&world), "203.0.113.2"),
                saw("203.0.113.1")
            );

            for (at, network) in cells.iter().zip([&lab, &lab, &ops]) {
                host.cni.detach(at, network).await.unwrap();
                host.cni.detach(at, network).await.unwrap();
                assert!(host.cni.check(at, network).await.is_err());
                let seen = host.cni.observe_sandbox(at, false).await.unwrap();
                assert!(seen.pinned && !seen.attached && seen.attachment.is_none());
                host.cni.remove_sandbox(at).await.unwrap();
            }
            assert!(host.leases(&lab).is_empty() && host.leases(&ops).is_empty());
            host.cni.remove_network(&lab).await.unwrap();
            assert!(!host.cni.observe_network(&lab).await.unwrap().bridge);
            assert!(
                host.cni.observe_network(&ops).await.unwrap().bridge,
                "the other is untouched"
            );
            host.cni.remove_network(&ops).await.unwrap();
            host.cni.remove_network(&ops).await.unwrap();
            let rules = |state: &std::collections::BTreeSet<String>| {
                state
                    .iter()
                    .filter(|l| l.starts_with("nft") || l.starts_with("link"))
                    .cloned()
                    .collect::<Vec<_>>()
            };
            assert_eq!(rules(&host.state()), rules(&before), "without uninstalling");
            host.cni.remove_instance().await.unwrap();
            let mut after = host.state();
            after.retain(|line| !line.contains("/opt"));
            assert_eq!(after, before);
        },
    );
}

#[test]
fn many_cells_at_once_get_an_address_each() {
    on_own_host("many_cells_at_once_get_an_address_each", async |host| {
        let network = host.network("lab", "10.199.0.0/24");
        let cells: Vec<_> = (0..20).map(|i| cell("lab", &format!("c{i}"))).collect();
        let up = cells.iter().map(async |at| {
            host.cni.create_sandbox(at, false).await.unwrap();
            // The network is made by whoever comes first.
            host.cni.attach(at, &network).await.unwrap().addresses
        });
        let mut addresses = futures::future::join_all(up).await.concat();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 20);
        assert_eq!(host.leases(&network).len(), 20);
        let down = cells.iter().map(async |at| {
            host.cni.detach(at, &network).await.unwrap();
            host.cni.remove_sandbox(at).await.unwrap();
        });
        futures::future::join_all(down).await;
        assert!(host.leases(&network).is_empty());
        assert!(host.cni.sandboxes().await.unwrap().is_empty());
    });
}

#[test]
fn an_exhausted_subnet_is_told_and_leaves_nothing() {
    on_own_host(
        "an_exhausted_subnet_is_told_and_leaves_nothing",
        async |host| {
            // Of four addresses one is the gateway's and one is left.
            let network = host.network("lab", "10.199.7.0/30");
            host.cni.ensure_network(&network).await.unwrap();
            let (a, b) = (cell("lab", "a"), cell("lab", "b"));
            for at in [&a, &b] {
                host.cni.create_sandbox(at, false).await.unwrap();
            }
            host.cni.attach(&a, &network).await.unwrap();
            let before = host.state();
            let error = host.cni.attach(&b, &network).await.unwrap_err();
            assert!(matches!(error, Error::AddressesExhausted { .. }), "{error}");
            assert_eq!(host.state(), before);
            host.cni.detach(&a, &network).await.unwrap();
            host.cni.attach(&b, &network).await.unwrap();
        },
    );
}

#[test]
fn a_used_subnet_is_not_allocated() {
    on_own_host("a_used_subnet_is_not_allocated", async |host| {
        let net = |text: &str| text.parse().unwrap();
        let pool = net("10.199.0.0/16");
        assert_eq!(
            host.cni.allocate_subnet(pool, &[]).await.unwrap(),
            net("10.199.0.0/24")
        );
        run("ip", &["link", "add", "d0", "type", "bridge"]);
        run("ip", &["address", "add", "10.199.0.9/32", "dev", "d0"]);
        run("ip", &["link", "set", "d0", "up"]);
        run(
            "ip",
            &["route", "add", "10.199.2.0/23", "dev", "d0", "table", "77"],
        );
        run("ip", &["route", "add", "0.0.0.0/1", "dev", "d0"]);
        let used = [net("10.199.1.0/24")];
        assert_eq!(
            host.cni.allocate_subnet(pool, &used).await.unwrap(),
            net("10.199.4.0/24")
        );
        let error = host
            .cni
            .allocate_subnet(net("10.199.2.0/23"), &[])
            .await
            .unwrap_err();
        assert!(matches!(error, Error::PoolExhausted { .. }), "{error}");
    });
}

#[test]
fn a_forward_chain_that_drops_is_opened_and_closed_again() {
    on_own_host(
        "a_forward_chain_that_drops_is_opened_and_closed_again",
        async |host| {
            let world = outside();
            run("nft", &["add table ip filter"]);
            run(
                "nft",
                &[
                    "add chain ip filter FORWARD { type filter hook forward priority 0 ; policy drop ; }",
                ],
            );
            run(
                "nft",
                &["add rule ip filter FORWARD iifname \"docker0\" accept"],
            );
            let before = host.state();
            let network = host.network("lab", "10.199.0.0/24");
            let at = cell("lab", "a");
            host.cni.ensure_network(&network).await.unwrap();
            host.cni.ensure_network(&network).await.unwrap();
            let chain = run("nft", &["list chain ip filter FORWARD"]);
            assert_eq!(
                chain.matches(&network.bridge()).count(),
                4,
                "rule and comment twice: {chain}"
            );
            host.cni.create_sandbox(&at, false).await.unwrap();
            host.cni.attach(&at, &network).await.unwrap();
            let pin = host.cni.sandbox_paths(&at).net;
            assert!(connect(Some(&pin), Some(&world), "203.0.113.2").is_some());
            // The detachment is left to the removal of the network.
            host.cni.remove_network(&network).await.unwrap();
            host.cni.remove_instance().await.unwrap();
            let mut after = host.state();
            after.retain(|line| !line.contains("/opt"));
            assert_eq!(after, before);
        },
    );
}
