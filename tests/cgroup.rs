//! The cgroup manager on the real cgroup2 file system of this host. Needs root.
//! A test that cannot run here says `skipped: <test>: <reason>`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use kukeon::cgroup::{Cgroups, Error, V2, host_path};
use kukeon::model::Resources;

/// A tree of our own, gone after the test.
struct Tree {
    v2: V2,
    root: String,
    children: Vec<Child>,
}

impl Tree {
    fn new(name: &str, test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: {test}: needs root");
            return None;
        }
        let v2 = match V2::detect() {
            Ok(v2) => v2,
            Err(e) => {
                println!("skipped: {test}: {e}");
                return None;
            }
        };
        let root = format!("/kukeon-test-{}-{name}", std::process::id());
        if let Err(e) = v2.ensure(&root, false) {
            println!("skipped: {test}: no cgroup can be made here: {e}");
            return None;
        }
        Some(Self {
            v2,
            root,
            children: Vec::new(),
        })
    }

    fn path(&self, rest: &str) -> String {
        format!("{}{rest}", self.root)
    }

    fn host(&self, rest: &str) -> PathBuf {
        host_path(self.v2.mount_point(), &self.path(rest))
    }

    /// Starts a shell command in a cgroup, ignoring SIGTERM. The shell moves
    /// itself, so that nothing it starts is left outside.
    fn spawn(&mut self, rest: &str, script: &str) -> u32 {
        let procs = self.host(rest).join("cgroup.procs");
        let child = Command::new("sh")
            .args(["-c", "echo $$ > \"$0\"; trap '' TERM; eval \"$1\""])
            .arg(&procs)
            .arg(script)
            .process_group(0)
            .spawn()
            .unwrap();
        let pid = child.id();
        self.children.push(child);
        let begin = Instant::now();
        while !self.v2.processes(&self.path(rest)).unwrap().contains(&pid) {
            assert!(begin.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(2));
        }
        pid
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let removed = self.v2.remove(&self.root);
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}

#[test]
fn makes_and_removes_a_tree() {
    let Some(tree) = Tree::new("tree", "makes_and_removes_a_tree") else {
        return;
    };
    let v2 = &tree.v2;
    assert!(!v2.exists(&tree.path("/a")));
    v2.ensure(&tree.path("/a/b/c"), false).unwrap();
    v2.ensure(&tree.path("/a/b/c"), true).unwrap();
    v2.ensure(&tree.path("/a/d"), false).unwrap();
    assert!(tree.host("/a/b/c").is_dir());
    let children = v2.children(&tree.path("/a")).unwrap();
    assert_eq!(children.into_iter().collect::<Vec<_>>(), ["b", "d"]);
    assert!(v2.processes(&tree.path("/a")).unwrap().is_empty());
    v2.remove(&tree.path("/a")).unwrap();
    assert!(!tree.host("/a").exists());
    v2.remove(&tree.path("/a")).unwrap();
    assert!(matches!(
        v2.children(&tree.path("/a")),
        Err(Error::NotFound(_))
    ));
    assert!(matches!(
        v2.ensure(&tree.path("/cgroup.procs/x"), false),
        Err(Error::BadPath(..))
    ));
}

#[test]
fn removal_kills_everything_below() {
    let Some(mut tree) = Tree::new("kill", "removal_kills_everything_below") else {
        return;
    };
    tree.v2
        .ensure(&tree.path("/cell/one/nested"), false)
        .unwrap();
    tree.v2.ensure(&tree.path("/cell/two"), false).unwrap();
    let first = tree.spawn("/cell/one/nested", "while :; do sleep 60; done");
    let second = tree.spawn("/cell/two", "sleep 60 & sleep 60 & wait");
    let begin = Instant::now();
    while tree.v2.processes(&tree.path("/cell")).unwrap().len() < 4 {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(10));
    }
    let pids = tree.v2.processes(&tree.path("/cell")).unwrap();
    assert!(pids.contains(&first) && pids.contains(&second), "{pids:?}");
    let begin = Instant::now();
    tree.v2.remove(&tree.path("/cell")).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(!tree.host("/cell").exists());
    for child in &mut tree.children {
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }
}

#[test]
fn removal_gets_what_forks_meanwhile() {
    let Some(mut tree) = Tree::new("forks", "removal_gets_what_forks_meanwhile") else {
        return;
    };
    tree.v2.ensure(&tree.path("/busy"), false).unwrap();
    // Each shell starts short processes as fast as it can.
    for _ in 0..2 {
        tree.spawn("/busy", "while :; do sleep 0.01 & sleep 0.01; done");
    }
    std::thread::sleep(Duration::from_millis(200));
    tree.v2.remove(&tree.path("/busy")).unwrap();
    assert!(!tree.host("/busy").exists());
}

#[test]
fn statistics_count_processor_time() {
    let Some(mut tree) = Tree::new("stat", "statistics_count_processor_time") else {
        return;
    };
    tree.v2.ensure(&tree.path("/work"), false).unwrap();
    tree.spawn(
        "/work",
        "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done; sleep 60",
    );
    let begin = Instant::now();
    while tree.v2.statistics(&tree.path("/work")).unwrap().cpu_usec == 0 {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(20));
    }
    let found = tree.v2.statistics(&tree.path("/work")).unwrap();
    let offered = tree.v2.controllers().unwrap();
    if !offered.contains("memory") {
        assert_eq!((found.memory_bytes, found.oom_kills), (None, None));
    }
    if !offered.contains("pids") {
        assert_eq!(found.pids, None);
    }
}

#[test]
fn delegates_level_by_level() {
    let Some(mut tree) = Tree::new("delegate", "delegates_level_by_level") else {
        return;
    };
    let offered = tree.v2.controllers().unwrap();
    let Some(one) = offered.iter().next().cloned() else {
        println!("skipped: delegates_level_by_level: this host's cgroup2 offers no controller");
        return;
    };
    let root = tree.v2.mount_point().join("cgroup.subtree_control");
    let before = std::fs::read_to_string(&root).unwrap();
    let v2 = V2::detect().unwrap().delegating(&[&one, "nosuch"]);
    assert_eq!(v2.ensure(&tree.path("/a/b"), false).unwrap(), [""; 0]);
    assert_eq!(
        v2.ensure(&tree.path("/a/b"), true).unwrap(),
        std::slice::from_ref(&one)
    );
    let host = tree.host("");
    let read = |rest: &str, file| std::fs::read_to_string(host.join(rest).join(file)).unwrap();
    assert_eq!(read("a", "cgroup.subtree_control").trim(), one);
    assert!(read("a/b", "cgroup.controllers").contains(&one));
    // A cgroup with processes of its own cannot delegate, and the error says so.
    v2.ensure(&tree.path("/a/c"), false).unwrap();
    tree.spawn("/a/c", "sleep 60");
    let error = v2.ensure(&tree.path("/a/c/d"), false).unwrap_err();
    assert!(error.to_string().contains("holds processes"), "{error}");
    assert_eq!(read("a/c", "cgroup.type").trim(), "domain");
    assert!(!v2.exists(&tree.path("/a/c/d")));
    // The host's root is as it was.
    tree.v2.remove(&tree.root).unwrap();
    if !before.split_whitespace().any(|c| c == one) {
        // Refused while somebody else delegates it further.
        let _ = std::fs::write(&root, format!("-{one}"));
    }
}

#[test]
fn the_kernel_holds_a_cell_to_its_limits() {
    let test = "the_kernel_holds_a_cell_to_its_limits";
    let Some(mut tree) = Tree::new("held", test) else {
        return;
    };
    let offered = tree.v2.controllers().unwrap();
    if !["memory", "pids"].iter().all(|c| offered.contains(*c)) {
        println!("skipped: {test}: this host's cgroup2 does not offer memory and pids");
        return;
    }
    let path = tree.path("/box");
    tree.v2.ensure(&path, false).unwrap();
    let limits = Resources {
        memory_bytes: Some((16 << 20) + 1),
        cpu_shares: None,
        pids: Some(2),
    };
    tree.v2.set_limits(&path, &limits).unwrap();
    // Remembering all of an endless line needs more than that.
    tree.spawn("/box", "tail /dev/zero; sleep 60");
    let begin = Instant::now();
    let found = loop {
        let found = tree.v2.statistics(&path).unwrap();
        if found.oom_kills.unwrap() > 0 || begin.elapsed() > Duration::from_secs(60) {
            break found;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(found.oom_kills.unwrap() > 0, "{found:?}");
    assert_eq!(found.memory_limit, Some(16 << 20));
    assert!(found.memory_bytes.unwrap() <= 16 << 20, "{found:?}");
    assert!(found.pids.unwrap() <= 2, "{found:?}");
}

#[test]
fn limits_are_applied_or_refused() {
    let Some(tree) = Tree::new("limits", "limits_are_applied_or_refused") else {
        return;
    };
    let offered = tree.v2.controllers().unwrap();
    tree.v2.ensure(&tree.path("/box"), false).unwrap();
    let cases = [
        (
            "memory",
            "memory.max",
            "16777216",
            Resources {
                memory_bytes: Some(16 << 20),
                ..Resources::default()
            },
        ),
        (
            "cpu",
            "cpu.weight",
            "20",
            Resources {
                cpu_shares: Some(512),
                ..Resources::default()
            },
        ),
        (
            "pids",
            "pids.max",
            "33",
            Resources {
                pids: Some(33),
                ..Resources::default()
            },
        ),
    ];
    for (controller, file, expected, wanted) in cases {
        let path = tree.path("/box");
        if offered.contains(controller) {
            tree.v2.check(&wanted).unwrap();
            tree.v2.set_limits(&path, &wanted).unwrap();
            let now = std::fs::read_to_string(tree.host("/box").join(file)).unwrap();
            assert_eq!(now.trim(), expected);
            tree.v2.set_limits(&path, &Resources::default()).unwrap();
        } else {
            for error in [
                tree.v2.check(&wanted).unwrap_err(),
                tree.v2.set_limits(&path, &wanted).unwrap_err(),
            ] {
                assert!(
                    matches!(&error, Error::MissingController { controller: c, .. } if c == controller),
                    "{error}"
                );
            }
        }
    }
    tree.v2
        .set_limits(&tree.path("/box"), &Resources::default())
        .unwrap();
}

/// Runs once more, in a process of its own: moving the test process would move
/// what the other tests start.
#[test]
fn a_process_does_not_remove_its_own_cgroup() {
    const PATH: &str = "KUKEON_TEST_OWN_CGROUP";
    if let Ok(path) = std::env::var(PATH) {
        let v2 = V2::detect().unwrap();
        let procs = host_path(v2.mount_point(), &path).join("cgroup.procs");
        std::fs::write(procs, std::process::id().to_string()).unwrap();
        let result = v2.remove(&path);
        assert!(matches!(result, Err(Error::BadPath(..))), "{result:?}");
        return;
    }
    let name = "a_process_does_not_remove_its_own_cgroup";
    let Some(tree) = Tree::new("own", name) else {
        return;
    };
    tree.v2.ensure(&tree.path("/self"), false).unwrap();
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(PATH, tree.path("/self"))
        .output()
        .unwrap();
    assert!(run.status.success(), "{run:?}");
    assert!(tree.v2.exists(&tree.path("/self")));
}
