//! Records, snapshots, tasks and events.

use std::time::{Duration, Instant};

use futures::StreamExt;
use kukeon::model::{Labels, TaskState, label};
use kukeon::runtime::{Error, Runtime, RuntimeEventKind};

use crate::instance::{self, NAMESPACE, ended, holds, state};

const SIGTERM: i32 = 15;

#[tokio::test]
async fn lives_from_record_to_removal() {
    let Some(instance) = instance::new("lives_from_record_to_removal") else {
        return;
    };
    let runtime = instance.containerd().await;
    let mut events = runtime.events().await.unwrap();

    let script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done";
    let request = instance.request("a", script);
    runtime.create_container(&request).await.unwrap();
    runtime.create_container(&request).await.unwrap();
    let mut other = request.clone();
    other.labels.insert(label::SPEC_HASH.into(), "2".into());
    assert!(matches!(
        runtime.create_container(&other).await,
        Err(Error::Exists(_))
    ));
    let more = Labels::from([(label::RUN.into(), "7".into())]);
    runtime.set_labels(NAMESPACE, "a", &more).await.unwrap();
    let wanted = Labels::from([(label::CELL.into(), "cell-of-a".into())]);
    let found = runtime.containers(NAMESPACE, &wanted).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].labels[label::RUN], "7");
    assert_eq!(found[0].labels[label::SPEC_HASH], "1");
    assert!(found[0].snapshot && found[0].task.is_none());
    let nobody = Labels::from([(label::CELL.into(), "x".into())]);
    assert!(
        runtime
            .containers(NAMESPACE, &nobody)
            .await
            .unwrap()
            .is_empty()
    );

    runtime.create_task(&instance.task("a")).await.unwrap();
    assert_eq!(state(&runtime, "a").await, Some(TaskState::Created));
    runtime.create_task(&instance.task("a")).await.unwrap();
    runtime.start_task(NAMESPACE, "a").await.unwrap();
    runtime.start_task(NAMESPACE, "a").await.unwrap();
    assert_eq!(state(&runtime, "a").await, Some(TaskState::Running));
    assert!(matches!(
        runtime.remove_container(NAMESPACE, "a").await,
        Err(Error::InUse(_))
    ));
    holds(&instance.log("a"), "up").await;

    runtime
        .signal_task(NAMESPACE, "a", SIGTERM, false)
        .await
        .unwrap();
    assert_eq!(ended(&runtime, "a").await.code, 3);
    holds(&instance.log("a"), "bye").await;
    let Some(TaskState::Stopped(exit)) = state(&runtime, "a").await else {
        panic!();
    };
    assert_eq!(exit.code, 3);
    let removed = runtime.remove_task(NAMESPACE, "a").await.unwrap();
    assert_eq!(removed.unwrap().code, 3);
    assert_eq!(runtime.remove_task(NAMESPACE, "a").await.unwrap(), None);
    runtime
        .signal_task(NAMESPACE, "a", SIGTERM, false)
        .await
        .unwrap();
    assert!(matches!(
        runtime.wait_task(NAMESPACE, "a").await,
        Err(Error::NotFound(_))
    ));

    // Made anew on the same record.
    runtime.create_task(&instance.task("a")).await.unwrap();
    runtime.start_task(NAMESPACE, "a").await.unwrap();
    let killed = runtime.remove_task(NAMESPACE, "a").await.unwrap();
    assert_eq!(killed.unwrap().code, 137);
    runtime.remove_container(NAMESPACE, "a").await.unwrap();
    runtime.remove_container(NAMESPACE, "a").await.unwrap();
    assert!(
        runtime
            .containers(NAMESPACE, &Labels::new())
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        !instance
            .ctr(&["snapshot", "ls"])
            .lines()
            .any(|l| l.starts_with("a "))
    );

    let mut seen = Vec::new();
    while let Ok(Some(event)) =
        tokio::time::timeout(Duration::from_millis(300), events.next()).await
    {
        let event = event.unwrap();
        assert_eq!(
            (event.namespace.as_str(), event.container.as_str()),
            (NAMESPACE, "a")
        );
        seen.push(event.kind);
    }
    let count = |kind| seen.iter().filter(|k| **k == kind).count();
    assert_eq!(count(RuntimeEventKind::Exit), 2, "{seen:?}");
    assert_eq!(count(RuntimeEventKind::TaskChanged), 4, "{seen:?}");
    assert_eq!(count(RuntimeEventKind::ContainerChanged), 3, "{seen:?}");
    instance.end().await;
}

#[tokio::test]
async fn says_when_the_command_cannot_be_run() {
    let Some(instance) = instance::new("says_when_the_command_cannot_be_run") else {
        return;
    };
    let runtime = instance.containerd().await;
    for (id, program) in [
        ("a", "nope"),
        ("b", "/bin/nope"),
        ("c", "/etc/plain"),
        ("d", "/etc"),
    ] {
        let mut request = instance.request(id, "");
        request.spec.command = Some(program.into());
        runtime.create_container(&request).await.unwrap();
        let error = runtime.create_task(&instance.task(id)).await.unwrap_err();
        println!("{error}");
        assert!(
            matches!(&error, Error::CommandNotFound { container, command, .. }
                if container == id && command == program),
            "{error:?}"
        );
        assert_eq!(runtime.remove_task(NAMESPACE, id).await.unwrap(), None);
        runtime.remove_container(NAMESPACE, id).await.unwrap();
    }
    instance.end().await;
}

#[tokio::test]
async fn removes_what_never_started_and_what_is_paused() {
    let Some(instance) = instance::new("removes_what_never_started_and_what_is_paused") else {
        return;
    };
    let runtime = instance.containerd().await;
    runtime
        .create_container(&instance.request("a", "sleep 60"))
        .await
        .unwrap();
    runtime.create_task(&instance.task("a")).await.unwrap();
    assert!(runtime.remove_task(NAMESPACE, "a").await.unwrap().is_some());
    assert_eq!(state(&runtime, "a").await, None);

    instance.start(&runtime, "b", "sleep 60").await;
    instance.ctr(&["task", "pause", "b"]);
    assert_eq!(state(&runtime, "b").await, Some(TaskState::Paused));
    assert_eq!(
        runtime
            .remove_task(NAMESPACE, "b")
            .await
            .unwrap()
            .unwrap()
            .code,
        137
    );
    instance.end().await;
}

#[tokio::test]
async fn a_snapshot_or_record_alone_is_completed() {
    let Some(instance) = instance::new("a_snapshot_or_record_alone_is_completed") else {
        return;
    };
    let runtime = instance.containerd().await;
    let request = instance.request("a", "exit 0");
    runtime.create_container(&request).await.unwrap();
    instance.ctr(&["snapshot", "rm", "a"]);
    let found = runtime.containers(NAMESPACE, &Labels::new()).await.unwrap();
    assert!(!found[0].snapshot);
    runtime.create_container(&request).await.unwrap();
    assert!(runtime.containers(NAMESPACE, &Labels::new()).await.unwrap()[0].snapshot);

    // A crash between snapshot and record leaves this.
    instance.ctr(&["container", "rm", "--keep-snapshot", "a"]);
    assert!(
        runtime
            .containers(NAMESPACE, &Labels::new())
            .await
            .unwrap()
            .is_empty()
    );
    runtime.create_container(&request).await.unwrap();
    runtime.create_task(&instance.task("a")).await.unwrap();
    runtime.start_task(NAMESPACE, "a").await.unwrap();
    assert_eq!(ended(&runtime, "a").await.code, 0);
    instance.end().await;
}

#[tokio::test]
async fn tasks_outlive_containerd() {
    let Some(instance) = instance::new("tasks_outlive_containerd") else {
        return;
    };
    let runtime = instance.containerd().await;
    let script = "i=0; while :; do echo line-$i; i=$((i+1)); sleep 0.05; done";
    instance.start(&runtime, "a", script).await;
    instance.start(&runtime, "b", "sleep 0.5; exit 9").await;
    holds(&instance.log("a"), "line-1").await;

    let pid = nix::unistd::Pid::from_raw(instance.pid());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).unwrap();
    let written = holds(&instance.log("a"), "line-20").await;
    assert!(written.contains("line-19"));
    let end = Instant::now() + Duration::from_secs(30);
    while runtime.server_version().await.is_err() {
        assert!(Instant::now() < end, "containerd does not come back");
    }
    assert_ne!(pid.as_raw(), instance.pid());
    assert_eq!(state(&runtime, "a").await, Some(TaskState::Running));
    assert_eq!(ended(&runtime, "b").await.code, 9);
    assert_eq!(
        runtime
            .remove_task(NAMESPACE, "a")
            .await
            .unwrap()
            .unwrap()
            .code,
        137
    );
    instance.end().await;
}

#[tokio::test]
async fn uninstall_ends_what_still_runs() {
    let Some(instance) = instance::new("uninstall_ends_what_still_runs") else {
        return;
    };
    let runtime = instance.containerd().await;
    instance
        .start(&runtime, "a", "echo up; exec sleep 4321")
        .await;
    holds(&instance.log("a"), "up").await;
    let running = || !instance::processes_with(std::path::Path::new("sleep 4321")).is_empty();
    for _ in 0..100 {
        if running() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(running());
    let bundle = instance
        .settings
        .runtime_dir
        .join("containerd/state/io.containerd.runtime.v2.task/t.rt.test/a/address");
    let address = std::fs::read_to_string(bundle).unwrap();
    let shim = std::path::PathBuf::from(address.trim_start_matches("unix://"));
    assert!(shim.exists());
    let done = kukeon::runtime::launch::shut_down(&instance.settings)
        .await
        .unwrap();
    assert!(done.iter().any(|l| l == "ended 1 shims"), "{done:?}");
    assert!(!running());
    assert!(!shim.exists());
    // Brings up an empty one to be drained, and so checks that it can.
    instance.end().await;
}
