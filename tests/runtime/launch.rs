//! Finding and bringing up.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use kukeon::model::Settings;
use kukeon::runtime::{Containerd, Error, Runtime, launch};

use crate::instance;

#[tokio::test]
async fn brings_one_up_adopts_it_and_takes_it_away() {
    let Some(instance) = instance::new("brings_one_up_adopts_it_and_takes_it_away") else {
        return;
    };
    let settings = &instance.settings;
    let begin = Instant::now();
    // Several at once: the daemon and in-process verbs.
    let all = futures::future::join_all((0..4).map(|_| launch::connect(settings))).await;
    println!("up after {:?}", begin.elapsed());
    for connection in &all {
        let connection = connection.as_ref().unwrap();
        assert_eq!(connection.socket, launch::managed_socket(settings));
        println!(
            "{} {}",
            connection.version().await.unwrap(),
            connection.snapshotter
        );
    }
    let daemons = instance::processes_with(&settings.run_path);
    assert_eq!(daemons.len(), 1, "{daemons:?}");

    let containerd = Containerd::open(settings.clone()).unwrap();
    let labels = [("a/b.c".to_owned(), "d e".to_owned())].into();
    assert!(containerd.ensure_namespace("x.rt", &labels).await.unwrap());
    assert!(!containerd.ensure_namespace("x.rt", &labels).await.unwrap());
    assert_eq!(containerd.namespaces().await.unwrap()["x.rt"], labels);

    // Gone without notice: the next call brings it up again, with its data.
    let pid = instance.pid();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match containerd.namespaces().await {
            Ok(all) => break assert_eq!(all["x.rt"], labels),
            Err(Error::Unreachable { .. }) if Instant::now() < end => {}
            Err(error) => panic!("{error}"),
        }
    }
    containerd.remove_namespace("x.rt").await.unwrap();
    containerd.remove_namespace("x.rt").await.unwrap();
    assert!(!containerd.namespaces().await.unwrap().contains_key("x.rt"));
    instance.end().await;
}

/// A containerd of somebody else's; ended when dropped.
struct Foreign(Child);

impl Foreign {
    /// Starts one below the run path, by a shell command that `exec`s it.
    fn start(settings: &Settings, unshare: bool) -> Self {
        let home = settings.run_path.join("foreign");
        std::fs::create_dir_all(&home).unwrap();
        let config = home.join("config.toml");
        let text = format!(
            "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
             [grpc]\n  address = \"{1}\"\n",
            home.display(),
            settings.containerd_socket.display()
        );
        std::fs::write(&config, text).unwrap();
        let script = match unshare {
            true => "mount -t cgroup2 none /sys/fs/cgroup && exec containerd -c \"$0\"",
            false => "exec containerd -c \"$0\"",
        };
        let mut command = match unshare {
            true => {
                let mut command = Command::new("unshare");
                command.args(["-m", "--propagation", "slave", "sh"]);
                command
            }
            false => Command::new("sh"),
        };
        let quiet = || std::fs::File::create(home.join("log")).unwrap();
        let child = command
            .args(["-c", script])
            .arg(&config)
            .stdout(quiet())
            .stderr(quiet())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        while std::os::unix::net::UnixStream::connect(&settings.containerd_socket).is_err() {
            assert!(
                Instant::now() < end,
                "the foreign containerd does not start"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Self(child)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_foreign_one_is_used_and_waited_for() {
    let Some(instance) = instance::new("a_foreign_one_is_used_and_waited_for") else {
        return;
    };
    let settings = &instance.settings;
    launch::ensure_shared_dir(&settings.runtime_dir.join("ns")).unwrap();
    let foreign = Foreign::start(settings, true);
    let connection = launch::connect(settings).await.unwrap();
    assert_eq!(connection.socket, settings.containerd_socket);

    // It holds the containers now: no other one takes its place.
    drop(foreign);
    let error = launch::connect(settings).await.unwrap_err();
    println!("{error}");
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(!settings.run_path.join(".containerd/root").exists());

    let foreign = Foreign::start(settings, true);
    let connection = launch::connect(settings).await.unwrap();
    assert_eq!(connection.socket, settings.containerd_socket);
    // Not ours to take away.
    let done = launch::shut_down(settings).await.unwrap();
    assert!(!done.iter().any(|l| l.contains("stopped")), "{done:?}");
    connection.version().await.unwrap();
    drop(foreign);
    instance.end().await;
}

#[tokio::test]
async fn a_foreign_one_that_cannot_do_the_work_is_left_alone() {
    let name = "a_foreign_one_that_cannot_do_the_work_is_left_alone";
    let Some(instance) = instance::new(name) else {
        return;
    };
    let settings = &instance.settings;
    let magic = nix::sys::statfs::statfs("/sys/fs/cgroup").unwrap();
    if magic.filesystem_type() == nix::sys::statfs::CGROUP2_SUPER_MAGIC {
        println!("SKIPPED {name}: every containerd sees cgroup v2 on this host");
    } else {
        let _foreign = Foreign::start(settings, false);
        let connection = launch::connect(settings).await.unwrap();
        assert_eq!(connection.socket, launch::managed_socket(settings));
    }
    instance.end().await;
}
