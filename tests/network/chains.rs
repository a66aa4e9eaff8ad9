//! A user's own chain, with plugins that write down what they are asked.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kukeon::network::{Cni, Error, Network, SpaceNetwork};
use serde_json::{Value, json};

use crate::host::{Host, cell, on_own_host};

/// Notes command, environment and input; adds a link when it is `first`. When
/// it lingers, something of it outlives the kill of its process group.
const PLUGIN: &str = r#"#!/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin
dir=$(dirname "$0"); name=$(basename "$0"); log="$dir/../log"
input=$(cat)
at="$log/$(ls "$log" | wc -l | xargs printf %03d).$CNI_COMMAND.$name"
printf '%s' "$input" > "$at"
env > "$dir/../env"
if [ -e "$dir/../fail.$CNI_COMMAND.$name" ]; then cat "$dir/../fail.$CNI_COMMAND.$name"; exit 1; fi
if [ -e "$dir/../hang.$CNI_COMMAND.$name" ]; then sleep 60; fi
if [ -e "$dir/../linger.$CNI_COMMAND.$name" ]; then
    setsid sh -c ': > "$0/../lingering"; sleep 1; : > "$0/../lingered"' "$dir" >&- <&- &
    sleep 60
fi
case $CNI_COMMAND in
VERSION) cat "$dir/../versions" ;;
ADD)
    [ "$name" = first ] && nsenter --net="$CNI_NETNS" ip link add "$CNI_IFNAME" type bridge
    printf '{"cniVersion":"1.0.0","by":"%s","interfaces":[{"name":"eth0","sandbox":"%s"}],"ips":[{"address":"192.0.2.7/24","interface":0}]}' "$name" "$CNI_NETNS" ;;
DEL)
    [ "$name" = first ] && [ -n "$CNI_NETNS" ] && nsenter --net="$CNI_NETNS" ip link delete "$CNI_IFNAME" ;;
esac
exit 0
"#;

struct Chain {
    dir: PathBuf,
    cni: Cni,
    network: SpaceNetwork,
}

impl Chain {
    fn new(host: &Host, versions: &[&str], list: Value) -> Self {
        let dir = host.dir.join("chain");
        for sub in ["bin", "log"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        for plugin in ["first", "second"] {
            let path = dir.join("bin").join(plugin);
            fs::write(&path, PLUGIN).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let answer = json!({"cniVersion": "1.0.0", "supportedVersions": versions});
        fs::write(dir.join("versions"), answer.to_string()).unwrap();
        let own = dir.join("own.conflist");
        fs::write(&own, list.to_string()).unwrap();
        let bin = [dir.join("bin")];
        let deadline = Duration::from_secs(2);
        Self {
            cni: Cni::with_plugin_directories(&host.settings, bin, deadline),
            network: SpaceNetwork {
                own: Some(own),
                subnet: None,
                ..host.network("lab", "")
            },
            dir,
        }
    }

    /// Commands and plugins since the last time, with what they read.
    fn calls(&self) -> Vec<(String, Value)> {
        let mut names: Vec<PathBuf> = fs::read_dir(self.dir.join("log"))
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        names.sort();
        let read =
            |path: &Path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap_or_default();
        let calls = names
            .iter()
            .map(|path| {
                (
                    path.file_name().unwrap().to_str().unwrap()[4..].to_owned(),
                    read(path),
                )
            })
            .collect();
        for name in names {
            fs::remove_file(name).unwrap();
        }
        calls
    }

    fn commands(&self) -> Vec<String> {
        self.calls()
            .into_iter()
            .map(|(command, _)| command)
            .collect()
    }

    fn set(&self, trigger: &str, content: &str) {
        fs::write(self.dir.join(trigger), content).unwrap();
    }

    fn unset(&self, trigger: &str) {
        fs::remove_file(self.dir.join(trigger)).unwrap();
    }
}

fn two(version: &str, more: Value) -> Value {
    let mut list = json!({"cniVersion": version, "name": "own", "plugins": [
        {"type": "first", "n": 1, "capabilities": {"portMappings": true}}, {"type": "second"}]});
    for (key, value) in more.as_object().unwrap() {
        list[key] = value.clone();
    }
    list
}

#[test]
fn a_chain_is_run_in_order_and_undone_in_reverse() {
    on_own_host(
        "a_chain_is_run_in_order_and_undone_in_reverse",
        async |host| {
            let chain = Chain::new(&host, &[], two("1.0.0", json!({})));
            let at = cell("lab", "a");
            chain.cni.ensure_network(&chain.network).await.unwrap();
            assert!(
                chain
                    .cni
                    .observe_network(&chain.network)
                    .await
                    .unwrap()
                    .bridge
            );
            chain.cni.create_sandbox(&at, false).await.unwrap();
            let attachment = chain.cni.attach(&at, &chain.network).await.unwrap();
            assert_eq!(attachment.network, "own");
            assert_eq!(attachment.addresses, ["192.0.2.7/24"]);
            assert_eq!(
                (
                    attachment.host_interface.as_str(),
                    attachment.bridge.as_str()
                ),
                ("", "")
            );
            assert!(
                chain
                    .cni
                    .observe_sandbox(&at, false)
                    .await
                    .unwrap()
                    .attached
            );

            let calls = chain.calls();
            assert_eq!(calls[0].0, "ADD.first");
            assert_eq!(
                calls[0].1,
                json!({"type": "first", "n": 1, "name": "own", "cniVersion": "1.0.0"})
            );
            assert_eq!(calls[1].0, "ADD.second");
            assert_eq!(calls[1].1["prevResult"]["by"], "first");
            assert_eq!(
                calls.len(),
                2,
                "nobody is asked for versions when there is one"
            );
            let env = fs::read_to_string(chain.dir.join("env")).unwrap();
            let pin = chain.cni.sandbox_paths(&at).net;
            for line in [
            "CNI_COMMAND=ADD".to_owned(),
            "CNI_IFNAME=eth0".to_owned(),
            format!("CNI_NETNS={}", pin.display()),
            "CNI_ARGS=IgnoreUnknown=1;KUKEON_REALM=default;KUKEON_SPACE=lab;KUKEON_STACK=s;KUKEON_CELL=a".to_owned(),
        ] {
            assert!(env.lines().any(|l| l == line), "{line} in {env}");
        }
            assert!(env.contains(&format!("CNI_PATH={}", chain.dir.join("bin").display())));
            assert!(
                !env.contains("CARGO"),
                "our environment is not the plugin's"
            );

            chain.cni.check(&at, &chain.network).await.unwrap();
            let calls = chain.calls();
            assert_eq!(
                (calls[0].0.as_str(), calls[1].0.as_str()),
                ("CHECK.first", "CHECK.second")
            );
            assert_eq!(calls[0].1["prevResult"]["by"], "second");

            // The configuration at hand now is not the one it was attached with.
            fs::write(chain.network.conflist(), "{").unwrap();
            chain.cni.detach(&at, &chain.network).await.unwrap();
            let calls = chain.calls();
            assert_eq!(
                (calls[0].0.as_str(), calls[1].0.as_str()),
                ("DEL.second", "DEL.first")
            );
            assert_eq!(calls[1].1["n"], 1);
            assert_eq!(calls[1].1["prevResult"]["by"], "second");
            assert!(host.state_files(".json").is_empty());
            assert!(matches!(
                chain.cni.ensure_network(&chain.network).await,
                Err(Error::BadConfig { .. })
            ));
        },
    );
}

#[test]
fn a_failed_add_is_undone_and_a_failed_del_is_kept() {
    on_own_host(
        "a_failed_add_is_undone_and_a_failed_del_is_kept",
        async |host| {
            let chain = Chain::new(&host, &[], two("0.4.0", json!({})));
            let at = cell("lab", "a");
            chain.cni.create_sandbox(&at, false).await.unwrap();
            chain.set(
                "fail.ADD.second",
                r#"{"cniVersion":"0.4.0","code":7,"msg":"no","details":"really"}"#,
            );
            let error = chain.cni.attach(&at, &chain.network).await.unwrap_err();
            assert!(
                matches!(&error, Error::Plugin { command, plugin, network, code: 7, cause }
                if command == "ADD" && plugin == "second" && network == "own" && cause == "no; really"),
                "{error:?}"
            );
            assert_eq!(
                chain.commands(),
                ["ADD.first", "ADD.second", "DEL.second", "DEL.first"]
            );
            assert!(host.state_files(".json").is_empty());
            chain.unset("fail.ADD.second");

            chain.cni.attach(&at, &chain.network).await.unwrap();
            chain.commands();
            chain.set("fail.DEL.second", "not json");
            let error = chain.cni.detach(&at, &chain.network).await.unwrap_err();
            assert!(error.to_string().contains("not json"), "{error}");
            assert_eq!(
                chain.commands(),
                ["DEL.second", "DEL.first"],
                "the rest is undone all the same"
            );
            assert!(
                chain
                    .cni
                    .observe_sandbox(&at, false)
                    .await
                    .unwrap()
                    .attachment
                    .is_some()
            );
            chain.unset("fail.DEL.second");

            // Without the namespace CNI_NETNS is left out.
            chain.cni.remove_sandbox(&at).await.unwrap();
            chain.cni.remove_network(&chain.network).await.unwrap();
            assert_eq!(chain.commands(), ["DEL.second", "DEL.first"]);
            let env = fs::read_to_string(chain.dir.join("env")).unwrap();
            assert!(!env.contains("CNI_NETNS"), "{env}");
            assert!(host.state_files(".json").is_empty());
            assert!(
                chain.network.conflist().exists(),
                "the user's own file is kept"
            );
        },
    );
}

#[test]
fn old_and_disabled_features_are_not_called() {
    on_own_host("old_and_disabled_features_are_not_called", async |host| {
        let at = cell("lab", "a");
        let old = Chain::new(&host, &[], two("0.3.1", json!({})));
        old.cni.create_sandbox(&at, false).await.unwrap();
        old.cni.attach(&at, &old.network).await.unwrap();
        old.cni.check(&at, &old.network).await.unwrap();
        old.cni
            .collect(&old.network, std::slice::from_ref(&at))
            .await
            .unwrap();
        assert_eq!(old.commands(), ["ADD.first", "ADD.second"]);
        old.cni.detach(&at, &old.network).await.unwrap();
        let calls = old.calls();
        assert_eq!(calls.len(), 2);
        assert_eq!(calls[0].1.get("prevResult"), None);

        let disabled = two(
            "1.0.0",
            json!({"disableCheck": true, "disableGC": true, "cniVersions": ["1.1.0"]}),
        );
        let disabled = Chain::new(&host, &["1.0.0", "1.1.0"], disabled);
        disabled.cni.attach(&at, &disabled.network).await.unwrap();
        disabled.cni.check(&at, &disabled.network).await.unwrap();
        disabled
            .cni
            .collect(&disabled.network, std::slice::from_ref(&at))
            .await
            .unwrap();
        let calls = disabled.commands();
        assert!(
            !calls
                .iter()
                .any(|c| c.starts_with("CHECK") || c.starts_with("GC")),
            "{calls:?}"
        );
    });
}

#[test]
fn versions_are_settled_and_garbage_is_collected() {
    on_own_host(
        "versions_are_settled_and_garbage_is_collected",
        async |host| {
            let list = two("1.0.0", json!({"cniVersions": ["0.4.0", "1.0.0", "1.1.0"]}));
            let at = cell("lab", "a");
            let chain = Chain::new(&host, &["0.4.0", "1.0.0"], list.clone());
            chain.cni.create_sandbox(&at, false).await.unwrap();
            chain.cni.attach(&at, &chain.network).await.unwrap();
            let calls = chain.calls();
            assert_eq!(calls[0].0, "VERSION.first");
            assert_eq!(calls[2].1["cniVersion"], "1.0.0", "the highest all know");
            chain
                .cni
                .collect(&chain.network, std::slice::from_ref(&at))
                .await
                .unwrap();
            assert!(
                chain.commands().is_empty(),
                "1.0.0 has no GC, and answers are kept"
            );
            chain.cni.detach(&at, &chain.network).await.unwrap();
            chain.commands();

            let chain = Chain::new(&host, &["1.0.0", "1.1.0"], list);
            chain.cni.attach(&at, &chain.network).await.unwrap();
            chain.commands();
            chain
                .cni
                .collect(&chain.network, std::slice::from_ref(&at))
                .await
                .unwrap();
            let calls = chain.calls();
            assert_eq!(
                (calls[0].0.as_str(), calls[1].0.as_str()),
                ("GC.first", "GC.second")
            );
            let valid = &calls[0].1["cni.dev/valid-attachments"];
            assert_eq!(valid.as_array().unwrap().len(), 1);
            assert_eq!(valid[0]["ifname"], "eth0");

            chain.cni.collect(&chain.network, &[]).await.unwrap();
            let calls = chain.calls();
            let commands: Vec<&str> = calls.iter().map(|(c, _)| c.as_str()).collect();
            assert_eq!(
                commands,
                ["DEL.second", "DEL.first", "GC.first", "GC.second"]
            );
            assert_eq!(calls[2].1["cni.dev/valid-attachments"], json!([]));
        },
    );
}

#[test]
fn missing_and_hanging_plugins_are_told() {
    on_own_host("missing_and_hanging_plugins_are_told", async |host| {
        let at = cell("lab", "a");
        let mut list = two("1.0.0", json!({}));
        list["plugins"][1]["type"] = json!("no-such-plugin");
        let chain = Chain::new(&host, &[], list);
        chain.cni.create_sandbox(&at, false).await.unwrap();
        for error in [
            chain.cni.ensure_network(&chain.network).await.unwrap_err(),
            chain.cni.attach(&at, &chain.network).await.unwrap_err(),
        ] {
            assert!(
                matches!(&error, Error::PluginNotFound { plugin, .. } if plugin == "no-such-plugin")
            );
        }
        assert!(chain.commands().is_empty() && host.state_files(".json").is_empty());

        let chain = Chain::new(&host, &[], two("1.0.0", json!({})));
        chain.set("hang.ADD.second", "");
        let started = Instant::now();
        let error = chain.cni.attach(&at, &chain.network).await.unwrap_err();
        assert!(
            error.to_string().contains("did not end within 2 s"),
            "{error}"
        );
        assert!(started.elapsed() < Duration::from_secs(10));
        assert_eq!(
            chain.commands(),
            ["ADD.first", "ADD.second", "DEL.second", "DEL.first"]
        );

        chain.unset("hang.ADD.second");
        chain.set("fail.ADD.first", &"x".repeat(3 << 20));
        let error = chain.cni.attach(&at, &chain.network).await.unwrap_err();
        assert!(error.to_string().contains("more than 1 MiB"), "{error}");
    });
}

#[test]
fn the_next_plugin_waits_for_the_end_of_one_given_up() {
    on_own_host(
        "the_next_plugin_waits_for_the_end_of_one_given_up",
        async |host| {
            let at = cell("lab", "a");
            let chain = Chain::new(&host, &[], two("1.0.0", json!({})));
            chain.cni.create_sandbox(&at, false).await.unwrap();
            chain.set("linger.ADD.first", "");
            let began = async {
                while !chain.dir.join("lingering").exists() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                ended = chain.cni.attach(&at, &chain.network) => panic!("{ended:?}"),
                () = began => {}
            }
            chain.cni.detach(&at, &chain.network).await.unwrap();
            assert!(chain.dir.join("lingered").exists());
            assert_eq!(chain.commands(), ["ADD.first", "DEL.second", "DEL.first"]);
            assert!(host.state_files(".json").is_empty());
        },
    );
}
