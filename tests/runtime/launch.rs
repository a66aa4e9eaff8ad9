//! Finding and bringing up.

use std::time::{Duration, Instant};

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
