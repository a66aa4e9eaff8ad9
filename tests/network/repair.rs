//! What crashes, reboots and other people leave behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use kukeon::network::{Cni, Error, Network};
use kukeon::sys::mounts;

use crate::host::{cell, connect, on_own_host, run};

#[test]
fn a_crash_inside_add_leaks_nothing() {
    on_own_host("a_crash_inside_add_leaks_nothing", async |host| {
        let network = host.network("lab", "10.199.0.0/24");
        let at = cell("lab", "a");
        host.cni.create_sandbox(&at, false).await.unwrap();
        host.cni.attach(&at, &network).await.unwrap();
        // As if the process had died between the end of ADD and its note.
        let results = host.settings.run_path.join(".cni/results");
        fs::remove_dir_all(&results).unwrap();

        let seen = host.cni.observe_sandbox(&at, false).await.unwrap();
        assert!(!seen.attached);
        assert_eq!(
            seen.attachment.unwrap().network,
            "default_lab",
            "there is something to undo"
        );
        let attachment = host.cni.attach(&at, &network).await.unwrap();
        assert_eq!(host.leases(&network).len(), 1);
        let links = run("ip", &["-o", "link", "show", "master", &network.bridge()]);
        assert_eq!(links.lines().count(), 1, "{links}");
        let pin = host.cni.sandbox_paths(&at).net;
        let address = attachment.addresses[0].split('/').next().unwrap();
        assert!(connect(None, Some(&pin), address).is_some());

        fs::remove_dir_all(&results).unwrap();
        host.cni.detach(&at, &network).await.unwrap();
        assert!(host.leases(&network).is_empty());
        assert!(
            host.cni
                .observe_sandbox(&at, false)
                .await
                .unwrap()
                .attachment
                .is_none()
        );
    });
}

#[test]
fn giving_up_in_the_middle_converges() {
    on_own_host("giving_up_in_the_middle_converges", async |host| {
        let network = host.network("lab", "10.199.0.0/24");
        let at = cell("lab", "a");
        host.cni.ensure_network(&network).await.unwrap();
        host.cni.create_sandbox(&at, false).await.unwrap();
        for delay in 0..12 {
            let patience = Duration::from_millis(delay);
            // Given up at this point or, late in the row, done.
            let _ = tokio::time::timeout(patience, host.cni.attach(&at, &network)).await;
            let _ = tokio::time::timeout(patience, host.cni.detach(&at, &network)).await;
        }
        host.cni.attach(&at, &network).await.unwrap();
        assert!(host.cni.observe_sandbox(&at, false).await.unwrap().attached);
        assert_eq!(host.leases(&network).len(), 1);
        let ports = || run("ip", &["-o", "link", "show", "master", &network.bridge()]);
        assert_eq!(ports().lines().count(), 1, "{}", ports());
        host.cni.detach(&at, &network).await.unwrap();
        assert!(host.leases(&network).is_empty());
        assert_eq!(ports(), "");
    });
}

/// `host-local` as it is when it is killed between making a lease and writing
/// it, the first time; afterwards the real one.
const CUT_OFF: &str = r#"#!/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin
leases=@/.cni/networks/default_lab
if [ "$CNI_COMMAND" = ADD ] && mkdir -p "$leases" && [ ! -e "$leases/../cut" ]; then
    : > "$leases/10.199.0.2"
    : > "$leases/../cut"
    sleep 60
fi
for dir in /opt/cni/bin /usr/lib/cni /usr/libexec/cni; do
    [ -x "$dir/host-local" ] && exec "$dir/host-local"
done
exit 1
"#;

#[test]
fn a_lease_that_names_nobody_is_given_back() {
    on_own_host("a_lease_that_names_nobody_is_given_back", async |host| {
        let bin = host.dir.join("bin");
        fs::create_dir(&bin).unwrap();
        let run_path = host.settings.run_path.display().to_string();
        let plugin = bin.join("host-local");
        fs::write(&plugin, CUT_OFF.replace('@', &run_path)).unwrap();
        fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
        let patience = Duration::from_secs(30);
        let cni = Cni::with_plugin_directories(&host.settings, [bin], patience);
        let network = host.network("lab", "10.199.0.0/24");
        let at = cell("lab", "a");
        cni.ensure_network(&network).await.unwrap();
        cni.create_sandbox(&at, false).await.unwrap();

        let cut = host.settings.run_path.join(".cni/networks/cut");
        let began = async {
            while !cut.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            ended = cni.attach(&at, &network) => panic!("{ended:?}"),
            () = began => {}
        }
        assert_eq!(host.leases(&network), ["10.199.0.2"]);
        let attachment = cni.attach(&at, &network).await.unwrap();
        let leases = host.leases(&network);
        assert_eq!(leases.len(), 1);
        assert_eq!(attachment.addresses, [format!("{}/24", leases[0])]);
        cni.detach(&at, &network).await.unwrap();
        assert!(host.leases(&network).is_empty());
    });
}

#[test]
fn a_reboot_gives_leases_back_and_rebuilds() {
    on_own_host("a_reboot_gives_leases_back_and_rebuilds", async |host| {
        let network = host.network("lab", "10.199.0.0/24");
        let at = cell("lab", "a");
        host.cni.ensure_network(&network).await.unwrap();
        host.cni.create_sandbox(&at, false).await.unwrap();
        host.cni.attach(&at, &network).await.unwrap();

        // Links, rules and mounts go; the run path stays, with plain files as pins.
        mounts::unmount_tree(&host.settings.runtime_dir.join("ns")).unwrap();
        run("ip", &["link", "delete", &network.bridge()]);
        run("nft", &["flush ruleset"]);

        let seen = host.cni.observe_sandbox(&at, false).await.unwrap();
        assert!(!seen.pinned && seen.exists && !seen.attached && seen.attachment.is_some());
        assert!(!host.cni.observe_network(&network).await.unwrap().bridge);
        assert_eq!(
            host.cni.sandboxes().await.unwrap(),
            std::slice::from_ref(&at)
        );
        host.cni.detach(&at, &network).await.unwrap();
        assert!(host.leases(&network).is_empty());

        host.cni.create_sandbox(&at, false).await.unwrap();
        // ADD repairs the network by itself, whoever took it away.
        host.cni.attach(&at, &network).await.unwrap();
        assert!(host.cni.observe_network(&network).await.unwrap().bridge);
        assert!(host.cni.observe_sandbox(&at, false).await.unwrap().attached);
    });
}

#[test]
fn a_lease_whose_note_a_power_cut_took_is_freed() {
    on_own_host(
        "a_lease_whose_note_a_power_cut_took_is_freed",
        async |host| {
            let network = host.network("lab", "10.199.0.0/24");
            let at = cell("lab", "a");
            host.cni.create_sandbox(&at, false).await.unwrap();
            host.cni.attach(&at, &network).await.unwrap();
            host.cni.remove_sandbox(&at).await.unwrap();
            fs::remove_dir_all(host.settings.run_path.join(".cni/attachments")).unwrap();
            host.cni.create_sandbox(&at, false).await.unwrap();
            let error = host.cni.attach(&at, &network).await.unwrap_err();
            assert!(matches!(error, Error::Plugin { .. }), "{error}");
            assert!(host.leases(&network).is_empty());
            host.cni.attach(&at, &network).await.unwrap();
            assert_eq!(host.leases(&network).len(), 1);
        },
    );
}

#[test]
fn a_flushed_firewall_is_noticed() {
    on_own_host("a_flushed_firewall_is_noticed", async |host| {
        let network = host.network("lab", "10.199.0.0/24");
        host.cni.ensure_network(&network).await.unwrap();
        run("nft", &["flush ruleset"]);
        assert!(!host.cni.observe_network(&network).await.unwrap().bridge);
        host.cni.ensure_network(&network).await.unwrap();
        assert!(host.cni.observe_network(&network).await.unwrap().bridge);
    });
}

#[test]
fn forwarding_is_turned_off_by_who_turned_it_on() {
    on_own_host(
        "forwarding_is_turned_off_by_who_turned_it_on",
        async |host| {
            const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";
            let network = host.network("lab", "10.199.0.0/24");
            let after_all = async |before: &str| {
                fs::write(SWITCH, before).unwrap();
                host.cni.ensure_network(&network).await.unwrap();
                assert_eq!(fs::read_to_string(SWITCH).unwrap().trim(), "1");
                host.cni.remove_instance().await.unwrap();
                fs::read_to_string(SWITCH).unwrap().trim().to_owned()
            };
            assert_eq!(after_all("0").await, "0");
            assert_eq!(after_all("1").await, "1");
            // Somebody else's bridge may rely on it by now.
            run("ip", &["link", "add", "br-other", "type", "bridge"]);
            assert_eq!(after_all("0").await, "1");
        },
    );
}

#[test]
fn a_lost_interface_is_noticed() {
    on_own_host("a_lost_interface_is_noticed", async |host| {
        let network = host.network("lab", "10.199.0.0/24");
        let at = cell("lab", "a");
        host.cni.create_sandbox(&at, false).await.unwrap();
        let attachment = host.cni.attach(&at, &network).await.unwrap();
        run("ip", &["link", "delete", &attachment.host_interface]);
        assert!(!host.cni.observe_sandbox(&at, false).await.unwrap().attached);
        assert!(host.cni.check(&at, &network).await.is_err());
        let again = host.cni.attach(&at, &network).await.unwrap();
        assert_ne!(again.host_interface, attachment.host_interface);
        assert_eq!(host.leases(&network).len(), 1);

        // A sandbox made anew has no interface, though the old one's may linger.
        host.cni.remove_sandbox(&at).await.unwrap();
        host.cni.create_sandbox(&at, false).await.unwrap();
        host.cni.attach(&at, &network).await.unwrap();
        assert!(host.cni.observe_sandbox(&at, false).await.unwrap().attached);
        assert_eq!(host.leases(&network).len(), 1);
    });
}

#[test]
fn an_attachment_that_fails_its_check_is_made_anew_once() {
    on_own_host(
        "an_attachment_that_fails_its_check_is_made_anew_once",
        async |host| {
            let network = host.network("lab", "10.199.0.0/24");
            let at = cell("lab", "a");
            let attached = async || host.cni.observe_sandbox(&at, false).await.unwrap().attached;
            host.cni.create_sandbox(&at, false).await.unwrap();
            let net = host.cni.sandbox_paths(&at).net;
            let lose_the_address = || {
                let enter = format!("--net={}", net.display());
                run(
                    "nsenter",
                    &[&enter, "ip", "address", "flush", "dev", "eth0"],
                );
            };
            for _ in 0..2 {
                host.cni.attach(&at, &network).await.unwrap();
                host.cni.check(&at, &network).await.unwrap();
                lose_the_address();
                assert!(attached().await, "only CHECK sees it");
                assert!(host.cni.check(&at, &network).await.is_err());
                assert!(!attached().await);
            }
            // Not mended by being made anew: then it is left alone.
            host.cni.attach(&at, &network).await.unwrap();
            lose_the_address();
            assert!(host.cni.check(&at, &network).await.is_err());
            assert!(attached().await);
            assert_eq!(host.leases(&network).len(), 1);
        },
    );
}

#[test]
fn stray_leases_and_attachments_are_collected() {
    on_own_host("stray_leases_and_attachments_are_collected", async |host| {
        let network = host.network("lab", "10.199.0.0/24");
        let (a, b) = (cell("lab", "a"), cell("lab", "b"));
        for at in [&a, &b] {
            host.cni.create_sandbox(at, false).await.unwrap();
            host.cni.attach(at, &network).await.unwrap();
        }
        let leases = host.settings.run_path.join(".cni/networks/default_lab");
        fs::write(
            leases.join("10.199.0.77"),
            "kuke-00000000000000000000000000000000\r\neth0",
        )
        .unwrap();
        // What a killed plugin leaves.
        fs::write(leases.join("10.199.0.78"), "").unwrap();
        host.cni
            .collect(&network, std::slice::from_ref(&a))
            .await
            .unwrap();
        assert_eq!(host.leases(&network), ["10.199.0.2"]);
        assert!(host.cni.observe_sandbox(&a, false).await.unwrap().attached);
        assert!(
            host.cni
                .observe_sandbox(&b, false)
                .await
                .unwrap()
                .attachment
                .is_none()
        );
    });
}

#[test]
fn anothers_bridge_is_refused_and_kept() {
    on_own_host("anothers_bridge_is_refused_and_kept", async |host| {
        let network = host.network("lab", "10.199.0.0/24");
        let bridge = network.bridge();
        run("ip", &["link", "add", &bridge, "type", "bridge"]);
        run(
            "ip",
            &[
                "link",
                "set",
                &bridge,
                "alias",
                "kukeon /elsewhere default/lab",
            ],
        );
        let error = host.cni.ensure_network(&network).await.unwrap_err();
        assert!(error.to_string().contains("/elsewhere"), "{error}");
        host.cni.remove_network(&network).await.unwrap();
        host.cni.remove_instance().await.unwrap();
        run("ip", &["link", "show", &bridge]);
    });
}

#[test]
fn attaching_without_a_sandbox_is_refused() {
    on_own_host("attaching_without_a_sandbox_is_refused", async |host| {
        let network = host.network("lab", "10.199.0.0/24");
        let error = host
            .cni
            .attach(&cell("lab", "a"), &network)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::NotFound(_)), "{error}");
        assert!(host.leases(&network).is_empty());
        assert!(host.state_files("attachments/").is_empty());
    });
}

#[test]
fn uninstalling_takes_what_was_not_deleted() {
    on_own_host("uninstalling_takes_what_was_not_deleted", async |host| {
        let before = host.state();
        let other = host.instance("other");
        let theirs = other.network("lab", "10.199.9.0/24");
        other.cni.ensure_network(&theirs).await.unwrap();
        let network = host.network("lab", "10.199.0.0/24");
        for name in ["a", "b"] {
            let at = cell("lab", name);
            host.cni.create_sandbox(&at, false).await.unwrap();
            host.cni.attach(&at, &network).await.unwrap();
        }
        host.cni.remove_instance().await.unwrap();
        assert!(
            other.cni.observe_network(&theirs).await.unwrap().bridge,
            "not another's"
        );
        other.cni.remove_network(&theirs).await.unwrap();
        other.cni.remove_instance().await.unwrap();
        let mut after = host.state();
        after.retain(|line| !line.contains("/opt") && !line.contains("/other"));
        assert_eq!(after, before);
    });
}
