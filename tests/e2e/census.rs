//! Counts everything on the machine that belongs to one host of the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::command::system;
use crate::host::Host;
use crate::runner::quietly;
use crate::world::{self, names, world};

/// What there is, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census(pub BTreeMap<&'static str, BTreeSet<String>>);

impl Census {
    /// Counts now.
    pub fn take(host: &Host) -> Self {
        quietly(|| Self::count_all(host))
    }

    fn count_all(host: &Host) -> Self {
        let mut census = Self::default();
        census.containerd(host);
        census.network(host);
        census.mounts(host);
        let cgroup = host.cgroup_root.trim_start_matches('/');
        census.cgroups(&world::cgroup_mount().join(cgroup));
        for (pid, line) in world::processes(&host.dir, cgroup) {
            // The test's own containerd is no trace of kukeon.
            if host.engine.as_ref().is_none_or(|e| e.pid() as i32 != pid) {
                census.add("process", format!("{pid} {line}"));
            }
        }
        // Shims name the namespace, not the directory.
        for (pid, line) in world::processes(Path::new(&host.suffix), "no cgroup") {
            census.add("process", format!("{pid} {line}"));
        }
        for path in [
            host.run_path.as_path(),
            &host.dir.join("no-containerd.sock"),
        ] {
            if path.exists() {
                census.add("file", path.display().to_string());
            }
        }
        census
    }

    fn add(&mut self, kind: &'static str, what: impl Into<String>) {
        self.0.entry(kind).or_default().insert(what.into());
    }

    fn containerd(&mut self, host: &Host) {
        let Some(socket) = host.containerd_socket() else {
            return;
        };
        let socket = socket.display().to_string();
        let ctr = |arguments: &[&str]| {
            let mut all = vec!["-a", &socket, "--connect-timeout", "2s"];
            all.extend(arguments);
            let done = system("ctr", &all);
            if done.code == 0 {
                done.out
            } else {
                String::new()
            }
        };
        let spaces = ctr(&["namespaces", "ls", "-q"]);
        for space in spaces.lines().filter(|s| s.ends_with(&host.suffix)) {
            self.add("namespace", space);
            let kinds: [(&'static str, &[&str]); 6] = [
                ("container", &["containers", "ls", "-q"]),
                ("task", &["tasks", "ls", "-q"]),
                ("image", &["images", "ls", "-q"]),
                ("content", &["content", "ls", "-q"]),
                ("lease", &["leases", "ls", "-q"]),
                ("snapshot", &["snapshots", "ls"]),
            ];
            for (kind, arguments) in kinds {
                let mut all = vec!["-n", space];
                all.extend(arguments);
                for line in ctr(&all).lines() {
                    let first = line.split_whitespace().next().unwrap_or_default();
                    if !first.is_empty() && first != "KEY" {
                        self.add(kind, format!("{space}/{first}"));
                    }
                }
            }
        }
    }

    fn network(&mut self, host: &Host) {
        for line in host.inside("ip", &["-o", "link"]).out.lines() {
            self.add(
                "link",
                line.split(": ")
                    .nth(1)
                    .unwrap_or(line)
                    .split('@')
                    .next()
                    .unwrap_or(line),
            );
        }
        for line in host.inside("ip", &["-o", "route"]).out.lines() {
            // A bridge without cells has no carrier.
            self.add("route", line.trim().trim_end_matches(" linkdown"));
        }
        for line in host.inside("nft", &["list", "ruleset"]).out.lines() {
            self.add("nft", line.trim_end());
        }
        for line in host
            .inside("iptables-save", &[])
            .out
            .lines()
            .filter(|l| l.starts_with("-A"))
        {
            self.add("iptables", line);
        }
    }

    fn mounts(&mut self, host: &Host) {
        let dir = host.dir.display().to_string();
        let engine = host
            .engine
            .as_ref()
            .map_or(world().containerd_pid, |e| e.pid());
        for (whose, place) in [
            ("mount", "self".to_owned()),
            ("mount of containerd", engine.to_string()),
        ] {
            let table = fs::read_to_string(format!("/proc/{place}/mountinfo")).unwrap_or_default();
            for target in table.lines().filter_map(|l| l.split(' ').nth(4)) {
                if names(target, &dir) || target.contains(&host.suffix) {
                    self.add(whose, target);
                }
            }
        }
    }

    fn cgroups(&mut self, dir: &Path) {
        if dir.is_dir() {
            self.add("cgroup", dir.display().to_string());
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                self.cgroups(&entry.path());
            }
        }
    }

    /// How many there are of a kind.
    pub fn count(&self, kind: &str) -> usize {
        self.0.get(kind).map_or(0, BTreeSet::len)
    }

    /// Without some kinds, for comparisons that allow changes there.
    pub fn without(mut self, kinds: &[&str]) -> Self {
        self.0.retain(|kind, _| !kinds.contains(kind));
        self
    }

    /// What `later` has more (+) or less (-), one line each; empty when equal.
    pub fn difference(&self, later: &Self) -> String {
        let mut text = String::new();
        let empty = BTreeSet::new();
        let kinds: BTreeSet<_> = self.0.keys().chain(later.0.keys()).collect();
        for kind in kinds {
            let (old, new) = (
                self.0.get(kind).unwrap_or(&empty),
                later.0.get(kind).unwrap_or(&empty),
            );
            new.difference(old)
                .for_each(|w| writeln!(text, "+ {kind}: {w}").unwrap());
            old.difference(new)
                .for_each(|w| writeln!(text, "- {kind}: {w}").unwrap());
        }
        text
    }
}
