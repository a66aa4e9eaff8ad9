//! Further processes.

use std::time::Duration;

use kukeon::runtime::{Containerd, Error, ExecControl, ExecRequest, ExecSession, Runtime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::instance::{self, Instance, NAMESPACE, holds};

async fn running(instance: &Instance) -> Containerd {
    let runtime = instance.containerd().await;
    instance.start(&runtime, "a", "echo up; sleep 600").await;
    holds(&instance.log("a"), "up").await;
    runtime
}

fn request(command: &[&str]) -> ExecRequest {
    ExecRequest {
        namespace: NAMESPACE.into(),
        id: "a".into(),
        command: command.iter().map(|s| (*s).to_owned()).collect(),
        tty: None,
        stdin: false,
        env: Vec::new(),
        working_dir: None,
        user: None,
    }
}

fn shell(script: &str) -> ExecRequest {
    request(&["/bin/sh", "-c", script])
}

/// Output, errors and exit code.
async fn run(runtime: &Containerd, request: ExecRequest) -> (String, String, i32) {
    collect(runtime.exec(request).await.unwrap()).await
}

async fn collect(session: ExecSession) -> (String, String, i32) {
    let ExecSession {
        stdin,
        mut stdout,
        stderr,
        control,
        exit,
        ..
    } = session;
    drop(stdin);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let all = async {
        stdout.read_to_end(&mut out).await.unwrap();
        if let Some(mut stderr) = stderr {
            stderr.read_to_end(&mut err).await.unwrap();
        }
        exit.await.unwrap().unwrap().code
    };
    let code = tokio::time::timeout(Duration::from_secs(20), all)
        .await
        .expect("the exec does not end");
    drop(control);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(out), text(err), code)
}

#[tokio::test]
async fn output_input_and_exit_code() {
    let Some(instance) = instance::new("output_input_and_exit_code") else {
        return;
    };
    let runtime = running(&instance).await;
    let mut with = shell("echo out-$X; echo err >&2; id; cd .; pwd; exit 42");
    with.env = vec!["X=y".into()];
    with.user = Some("alice".into());
    with.working_dir = Some("/etc".into());
    let (out, err, code) = run(&runtime, with).await;
    assert_eq!(
        out,
        "out-y\nuid=1000(alice) gid=1001(alice) groups=1002(extra)\n/etc\n"
            .replace("groups=1002", "groups=1001(alice),1002")
            .as_str(),
    );
    assert_eq!((err.as_str(), code), ("err\n", 42));

    // Its input ends when the writer is dropped, after all has been read.
    let mut session = runtime
        .exec(ExecRequest {
            stdin: true,
            ..request(&["wc", "-c"])
        })
        .await
        .unwrap();
    let mut stdin = session.stdin.take().unwrap();
    tokio::spawn(async move {
        for _ in 0..64 {
            stdin.write_all(&[b'x'; 10_000]).await.unwrap();
        }
    });
    assert_eq!(
        collect(session).await,
        ("640000\n".into(), String::new(), 0)
    );

    // Far more than a pipe holds, and a reader that comes late.
    let session = runtime
        .exec(shell(
            "dd if=/dev/zero bs=1000 count=3000 2>/dev/null; echo end >&2",
        ))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (out, err, code) = collect(session).await;
    assert_eq!((out.len(), err.as_str(), code), (3_000_000, "end\n", 0));

    // A reader that comes seconds after the end still gets everything.
    let session = runtime.exec(shell("seq 1000")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let (out, _, code) = collect(session).await;
    assert_eq!((out.lines().count(), code), (1000, 0));

    // A grandchild that keeps the pipe does not keep the session.
    let (out, _, code) = run(&runtime, shell("sleep 300 & echo x")).await;
    assert_eq!((out.as_str(), code), ("x\n", 0));
    instance.end().await;
}

#[tokio::test]
async fn terminal_signals_and_failures() {
    let Some(instance) = instance::new("terminal_signals_and_failures") else {
        return;
    };
    let runtime = running(&instance).await;
    let mut with = shell(
        "stty size; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.02; done",
    );
    with.tty = Some((30, 100));
    let mut session = runtime.exec(with).await.unwrap();
    assert!(session.stderr.is_none());
    let mut text = String::new();
    while !text.contains("ready") {
        let mut buffer = [0; 100];
        let n = session.stdout.read(&mut buffer).await.unwrap();
        text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
    }
    assert!(text.starts_with("30 100"), "{text:?}");
    session
        .control
        .send(ExecControl::Resize(40, 120))
        .await
        .unwrap();
    let (out, _, code) = collect(session).await;
    assert_eq!((out.as_str(), code), ("40 120\r\n", 5));

    let session = runtime.exec(shell("sleep 300")).await.unwrap();
    session.control.send(ExecControl::Signal(9)).await.unwrap();
    assert_eq!(collect(session).await.2, 137);

    let error = runtime.exec(request(&["nope"])).await.err().unwrap();
    println!("{error}");
    assert!(matches!(error, Error::CommandNotFound { command, .. } if command == "nope"));
    let mut missing = request(&["true"]);
    missing.id = "zzz".into();
    let error = runtime.exec(missing).await.err().unwrap();
    assert!(matches!(error, Error::NotFound(_)), "{error}");

    let session = runtime.exec(shell("exec sleep 7654")).await.unwrap();
    let count = || instance::processes_with(std::path::Path::new("sleep 7654")).len();
    for _ in 0..200 {
        if count() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(count(), 1);
    drop(session);
    for _ in 0..500 {
        if count() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(count(), 0, "a dropped session leaves its process");
    runtime.remove_task(NAMESPACE, "a").await.unwrap();
    instance.end().await;
}
