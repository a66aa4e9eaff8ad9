//! Counts everything on the machine that belongs to one host of the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::command::{Done, system};
use crate::host::Host;
use crate::runner::quietly;
use crate::world::{self, names, world};

/// `<namespace>/<id>` of the shims that a containerd says it has started.
fn shim_bundles(log: &str, suffix: &str) -> BTreeSet<String> {
    let paths = log.split_whitespace().filter_map(|word| {
        let bundle = word
            .strip_prefix("path=")?
            .split("/io.containerd.runtime.v2.task/");
        bundle.skip(1).last()
    });
    let ours = paths.filter(|bundle| {
        let namespace = bundle.split('/').next().unwrap_or_default();
        namespace.ends_with(suffix)
    });
    ours.map(str::to_owned).collect()
}

/// What there is, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census(pub BTreeMap<&'static str, BTreeSet<String>>);

impl Census {
    /// Counts now.
    pub fn take(host: &Host) -> Self {
        quietly(|| Self::count_all(host))
    }

    /// Counts what an instance with the default settings, installed below
    /// `prefix`, has on the machine itself.
    pub fn of_machine(prefix: &Path) -> Self {
        quietly(|| {
            let mut census = Self::default();
            census.network(system, Path::new("/run/kukeon"));
            census.runc(".kukeon.io");
            let places = ["/opt/kukeon", "/run/kukeon"];
            census.mounts_of("mount", "self", |target| {
                places.iter().any(|place| names(target, place))
            });
            for name in ["kukeon", "kukeon.containerd"] {
                census.cgroups(&world::cgroup_mount().join(name));
            }
            for place in places.iter().map(Path::new).chain([prefix]) {
                for (pid, line) in world::processes(place, "kukeon/") {
                    census.add("process", format!("{pid} {line}"));
                }
            }
            let files = [
                "/etc/systemd/system/kukeond.service",
                "/var/log/kukeond.log",
                "/var/lib/cni",
                "/etc/cni",
            ];
            let placed = ["bin/kuke", "bin/kukeond", "share/kukeon"].map(|f| prefix.join(f));
            let fixed = files.iter().chain(&places).map(PathBuf::from);
            for path in fixed.chain(placed) {
                if path.exists() {
                    census.add("file", path.display().to_string());
                }
            }
            census
        })
    }

    fn count_all(host: &Host) -> Self {
        let mut census = Self::default();
        census.containerd(host);
        census.network(|program, words| host.inside(program, words), &host.dir);
        census.mounts(host);
        census.shims(host);
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
        // What cannot be asked must not look like nothing.
        let ctr = |arguments: &[&str]| {
            let mut all = vec!["-a", &socket, "--connect-timeout", "2s"];
            all.extend(arguments);
            system("ctr", &all)
        };
        let spaces = ctr(&["namespaces", "ls", "-q"]).ok().out;
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
                let done = ctr(&all);
                // A namespace may go between the two questions.
                if done.code != 0 && !ctr(&["namespaces", "ls", "-q"]).ok().out.contains(space) {
                    break;
                }
                for line in done.ok().out.lines() {
                    let first = line.split_whitespace().next().unwrap_or_default();
                    if !first.is_empty() && first != "KEY" {
                        self.add(kind, format!("{space}/{first}"));
                    }
                }
            }
        }
    }

    /// Links, routes, rules and switches of the network namespace that `run` runs
    /// programs in, and the names of namespaces that are pinned below `pins`.
    fn network(&mut self, run: impl Fn(&str, &[&str]) -> Done, pins: &Path) {
        for line in run("ip", &["-o", "link"]).ok().out.lines() {
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
        for line in run("ip", &["-o", "route"]).ok().out.lines() {
            // A bridge without cells has no carrier.
            self.add("route", line.trim().trim_end_matches(" linkdown"));
        }
        for line in run("nft", &["list", "ruleset"]).ok().out.lines() {
            self.add("nft", line.trim_end());
        }
        if world().iptables {
            let rules = run("iptables-save", &[]).ok().out;
            for line in rules.lines().filter(|l| l.starts_with("-A")) {
                self.add("iptables", line);
            }
        }
        let forwards = run("cat", &["/proc/sys/net/ipv4/ip_forward"]);
        self.add("ip_forward", forwards.ok().out.trim());
        for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
            if fs::read_link(entry.path()).is_ok_and(|to| to.starts_with(pins)) {
                self.add("ip netns", entry.path().display().to_string());
            }
        }
    }

    fn runc(&mut self, suffix: &str) {
        let namespaces = fs::read_dir("/run/containerd/runc").into_iter().flatten();
        for namespace in namespaces.flatten() {
            let name = namespace.file_name().to_string_lossy().into_owned();
            if name.ends_with(suffix) {
                // Made with a namespace's first container, and goes with the namespace.
                let lives = self.0.get("namespace").is_some_and(|n| n.contains(&name));
                if !lives {
                    self.add("runc state", &name);
                }
                for entry in fs::read_dir(namespace.path()).into_iter().flatten() {
                    let id = entry.unwrap().file_name().to_string_lossy().into_owned();
                    self.add("runc state", format!("{name}/{id}"));
                }
            }
        }
    }

    /// What shims and runc keep in places that all containerds of the host share.
    fn shims(&mut self, host: &Host) {
        self.runc(&host.suffix);
        let (dir, socket) = match (&host.engine, host.containerd_socket()) {
            (Some(own), _) => (host.dir.join("containerd"), own.socket.clone()),
            (None, Some(socket)) => (world().dir.join("containerd"), socket),
            (None, None) => return,
        };
        let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
        for bundle in shim_bundles(&log, &host.suffix) {
            // containerd 1.6, runtime/v2/shim/util_unix.go: the name of the
            // socket is a digest of endpoint, namespace and id.
            let name = Sha256::digest(socket.join(&bundle).as_os_str().as_bytes());
            let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
            if Path::new("/run/containerd/s").join(name).exists() {
                self.add("shim socket", bundle);
            }
        }
    }

    fn mounts(&mut self, host: &Host) {
        let engine = host
            .engine
            .as_ref()
            .map_or(world().containerd_pid, |e| e.pid());
        let dir = host.dir.display().to_string();
        let ours = |target: &str| names(target, &dir) || target.contains(&host.suffix);
        self.mounts_of("mount", "self", ours);
        self.mounts_of("mount of containerd", &engine.to_string(), ours);
    }

    fn mounts_of(&mut self, kind: &'static str, process: &str, ours: impl Fn(&str) -> bool) {
        let table = fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap_or_default();
        for target in table.lines().filter_map(|l| l.split(' ').nth(4)) {
            if ours(target) {
                self.add(kind, target);
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
