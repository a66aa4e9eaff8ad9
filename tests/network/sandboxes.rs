//! Namespaces: made, pinned, named, repaired, removed.

use std::fs;
use std::os::unix::fs::MetadataExt;

use kukeon::network::Network;
use kukeon::sys::mounts;

use crate::host::{cell, inside, on_own_host, run};

#[test]
fn a_sandbox_comes_and_goes_whole() {
    on_own_host("a_sandbox_comes_and_goes_whole", async |host| {
        let before = host.state();
        let at = cell("lab", "web");
        let seen = host.cni.observe_sandbox(&at, false).await.unwrap();
        assert!(!seen.pinned && !seen.exists && !seen.attached);

        host.cni.create_sandbox(&at, false).await.unwrap();
        let seen = host.cni.observe_sandbox(&at, false).await.unwrap();
        assert!(seen.pinned && seen.exists && !seen.attached);
        assert_eq!(
            host.cni.sandboxes().await.unwrap(),
            std::slice::from_ref(&at)
        );

        let pins = host.cni.sandbox_paths(&at);
        for (pin, own) in [(&pins.net, "net"), (&pins.ipc, "ipc"), (&pins.uts, "uts")] {
            let own = fs::metadata(format!("/proc/thread-self/ns/{own}")).unwrap();
            assert_ne!(fs::metadata(pin).unwrap().ino(), own.ino());
        }
        let uts = format!("--uts={}", pins.uts.display());
        assert_eq!(run("nsenter", &[&uts, "uname", "-n"]).trim(), "web");
        let read = |path: &str| inside(&pins.net, || fs::read_to_string(path).unwrap());
        assert_eq!(
            read("/proc/sys/net/ipv4/ip_unprivileged_port_start").trim(),
            "0"
        );
        let links = run(
            "ip",
            &["netns", "exec", "default.lab.s.web", "ip", "-o", "link"],
        );
        assert_eq!(links.lines().count(), 1);
        assert!(links.contains("LOOPBACK,UP"), "{links}");

        let inode = fs::metadata(&pins.net).unwrap().ino();
        host.cni.create_sandbox(&at, false).await.unwrap();
        assert_eq!(fs::metadata(&pins.net).unwrap().ino(), inode, "kept");

        host.cni.remove_sandbox(&at).await.unwrap();
        host.cni.remove_sandbox(&at).await.unwrap();
        assert!(!host.cni.observe_sandbox(&at, false).await.unwrap().exists);
        host.cni.remove_instance().await.unwrap();
        host.cni.remove_instance().await.unwrap();
        let mut after = host.state();
        // The run path itself is not the network manager's to remove.
        after.retain(|line| !line.ends_with("/opt") && !line.ends_with("/opt/run"));
        assert_eq!(after, before);
    });
}

#[test]
fn a_host_network_cell_keeps_the_hosts_network() {
    on_own_host(
        "a_host_network_cell_keeps_the_hosts_network",
        async |host| {
            let at = cell("lab", "node");
            host.cni.create_sandbox(&at, true).await.unwrap();
            let pins = host.cni.sandbox_paths(&at);
            assert!(!pins.net.exists() && pins.ipc.exists() && pins.uts.exists());
            assert!(host.cni.observe_sandbox(&at, true).await.unwrap().pinned);
            assert!(!host.cni.observe_sandbox(&at, false).await.unwrap().pinned);
            host.cni.remove_sandbox(&at).await.unwrap();
            assert!(!host.cni.observe_sandbox(&at, true).await.unwrap().exists);
        },
    );
}

#[test]
fn a_half_sandbox_is_made_anew() {
    on_own_host("a_half_sandbox_is_made_anew", async |host| {
        let at = cell("lab", "web");
        host.cni.create_sandbox(&at, false).await.unwrap();
        let pins = host.cni.sandbox_paths(&at);
        // A name set by someone would show that the old namespace is still there.
        let uts = format!("--uts={}", pins.uts.display());
        run("nsenter", &[&uts, "hostname", "old"]);
        assert!(mounts::unmount(&pins.ipc).unwrap());
        let seen = host.cni.observe_sandbox(&at, false).await.unwrap();
        assert!(!seen.pinned && seen.exists, "a plain file is no pin");
        host.cni.create_sandbox(&at, false).await.unwrap();
        assert!(host.cni.observe_sandbox(&at, false).await.unwrap().pinned);
        assert_eq!(run("nsenter", &[&uts, "hostname"]).trim(), "web");
        let below = mounts::mounts().unwrap();
        let ours = below
            .iter()
            .filter(|m| m.point.starts_with(&host.settings.runtime_dir));
        assert_eq!(ours.count(), 4, "the shared directory and three pins");
    });
}

#[test]
fn two_instances_do_not_touch_each_other() {
    on_own_host("two_instances_do_not_touch_each_other", async |host| {
        let other = host.instance("other");
        let at = cell("lab", "web");
        host.cni.create_sandbox(&at, false).await.unwrap();
        other.cni.create_sandbox(&at, false).await.unwrap();
        let named = run("ip", &["netns", "list"]);
        assert_eq!(named.lines().count(), 2, "{named}");
        other.cni.remove_instance().await.unwrap();
        assert!(host.cni.observe_sandbox(&at, false).await.unwrap().pinned);
        assert_eq!(run("ip", &["netns", "list"]).lines().count(), 1);
        host.cni.remove_sandbox(&at).await.unwrap();
        assert_eq!(run("ip", &["netns", "list"]).lines().count(), 0);
    });
}
