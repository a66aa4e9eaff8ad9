//! Shared directories against the real kernel. Needs root (CAP_SYS_ADMIN).
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use kukeon::sys::mounts;
use nix::sched::CloneFlags;
use rustix::mount::MountPropagationFlags;

/// Runs a test in a mount namespace of its own, which takes everything along
/// that a failure leaves; without root it says why nothing was tested.
fn on_own_mounts(test: &str, body: impl FnOnce() + Send) {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: mounts::{test}: needs root");
        return;
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            rustix::mount::mount_change("/", private).unwrap();
            body();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn bind(from: &Path, to: &Path) {
    fs::write(to, "").unwrap();
    rustix::mount::mount_bind(from, to).unwrap();
}

#[test]
fn pins_reach_a_slave_mount_namespace_and_leave_it_again() {
    on_own_mounts(
        "pins_reach_a_slave_mount_namespace_and_leave_it_again",
        || {
            let dir = tempfile::tempdir().unwrap();
            let shared = dir.path().join("a b/ns");
            mounts::ensure_shared_dir(&shared).unwrap();
            mounts::ensure_shared_dir(&shared).unwrap();
            let table = mounts::mounts().unwrap();
            let at = table.iter().filter(|m| m.point == shared);
            assert_eq!(at.count(), 1, "made twice is made once");
            assert!(mounts::is_mount_point(&shared).unwrap());

            let mut slave = Command::new("unshare")
                .args(["-m", "--propagation", "slave", "sh", "-c"])
                .arg("echo ready; read stop")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(slave.stdout.take().unwrap())
                .read_line(&mut line)
                .unwrap();
            let inside = || {
                let table = fs::read(format!("/proc/{}/mountinfo", slave.id())).unwrap();
                mounts::parse(&table)
                    .into_iter()
                    .filter(|m| m.point == shared.join("net"))
                    .count()
            };

            bind(Path::new("/proc/self/ns/net"), &shared.join("net"));
            let outside = mounts::mounts().unwrap();
            let seen = outside.iter().filter(|m| m.point == shared.join("net"));
            assert_eq!(seen.count(), 1, "not doubled on the host");
            assert_eq!(inside(), 1, "shows in the slave");

            assert_eq!(mounts::unmount_all_below(&shared).unwrap(), 1);
            assert_eq!(inside(), 0, "gone in the slave");
            assert!(mounts::is_mount_point(&shared).unwrap());
            assert_eq!(mounts::unmount_tree(&shared).unwrap(), 1);
            assert!(!mounts::is_mount_point(&shared).unwrap());

            drop(slave.stdin.take());
            slave.wait().unwrap();
        },
    );
}

#[test]
fn a_directory_below_a_shared_mount_gets_a_group_of_its_own() {
    on_own_mounts(
        "a_directory_below_a_shared_mount_gets_a_group_of_its_own",
        || {
            let dir = tempfile::tempdir().unwrap();
            let outer = dir.path().join("outer");
            mounts::ensure_shared_dir(&outer).unwrap();
            let inner = outer.join("inner");
            mounts::ensure_shared_dir(&inner).unwrap();
            bind(Path::new("/proc/self/ns/net"), &inner.join("net"));

            let table = mounts::mounts().unwrap();
            let group = |p: &Path| table.iter().find(|m| m.point == p).unwrap().peer_group;
            assert!(group(&inner).is_some());
            assert_ne!(group(&inner), group(&outer));
            assert_eq!(
                table
                    .iter()
                    .filter(|m| m.point == inner.join("net"))
                    .count(),
                1
            );
            assert_eq!(mounts::unmount_tree(&outer).unwrap(), 3);
        },
    );
}
