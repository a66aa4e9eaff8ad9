//! Further processes in a running task.

use std::path::Path;
use std::time::Duration;

use containerd_client::services::v1::{
    CloseIoRequest, DeleteProcessRequest, ExecProcessRequest, KillRequest, ResizePtyRequest,
    StartRequest, WaitRequest,
};
use prost_types::Any;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot};

use super::fifo::{Directory, Input, Output, Watch};
use super::{records, tasks};
use crate::model::{TaskExit, TaskState};
use crate::runtime::{Connection, Error, ExecControl, ExecRequest, ExecSession, Result, spec};

/// Type URL under which containerd takes a process.
const PROCESS_URL: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";
/// After the process's end: how long a reader may wait for output that does not
/// come (a grandchild keeps the pipe open) before the shim is told to close it;
/// this many looks at an empty pipe in a row, ...
const LINGER: u32 = 10;
/// ... this far apart.
const SAMPLE: Duration = Duration::from_millis(100);

/// One exec as containerd addresses it.
#[derive(Debug, Clone)]
struct Address {
    c: Connection,
    namespace: String,
    container: String,
    exec: String,
}

/// Starts a further process. FIFOs go below `directory`.
pub async fn start(c: &Connection, directory: &Path, request: ExecRequest) -> Result<ExecSession> {
    let (namespace, id) = (request.namespace.as_str(), request.id.as_str());
    let (record, task) =
        tokio::try_join!(records::get(c, namespace, id), tasks::get(c, namespace, id))?;
    let record = record.ok_or_else(|| Error::NotFound(format!("container {id}")))?;
    let task = task
        .filter(|t| t.state == TaskState::Running)
        .ok_or_else(|| Error::NotFound(format!("running task of container {id}")))?;
    let bad_spec = |e: serde_json::Error| Error::Spec {
        container: id.to_owned(),
        cause: format!("its runtime spec: {e}"),
    };
    let container = records::spec_of(id, record)?;
    let process = spec::exec_process(&container, task.pid, &request).await?;
    let process = serde_json::to_vec(&process).map_err(bad_spec)?;

    let at = Address {
        c: c.clone(),
        namespace: namespace.to_owned(),
        container: id.to_owned(),
        exec: format!("exec-{}", uuid::Uuid::new_v4().simple()),
    };
    let pipes = Pipes::open(directory, &at.exec, &request).map_err(|e| Error::Other {
        what: format!("making the pipes of an exec in {}", directory.display()),
        cause: e.to_string(),
    })?;
    at.create(process, &pipes, request.tty.is_some()).await?;
    if let Err(error) = at.start().await {
        // It never ran; the start's error is the one to tell.
        let _ = at.delete().await;
        return Err(error);
    }
    if let Some((rows, columns)) = request.tty {
        at.resize(rows, columns).await;
    }
    Ok(session(at, pipes))
}

/// All FIFOs of one exec, opened at our side.
struct Pipes {
    directory: Directory,
    stdin: Option<(Input, Receiver, oneshot::Receiver<()>)>,
    stdout: (Output, Watch),
    stderr: Option<(Output, Watch)>,
    paths: [String; 3],
}

impl Pipes {
    fn open(parent: &Path, unique: &str, request: &ExecRequest) -> std::io::Result<Self> {
        let directory = Directory::new(parent, unique)?;
        let mut paths = [String::new(), String::new(), String::new()];
        let mut make = |slot: usize, name: &str| {
            let path = directory.fifo(name)?;
            paths[slot] = path.display().to_string();
            std::io::Result::Ok(path)
        };
        let stdin = match request.stdin {
            true => Some(Input::open(&make(0, "stdin")?)?),
            false => None,
        };
        let stdout = Output::open(&make(1, "stdout")?)?;
        // A terminal has one output.
        let stderr = match request.tty {
            None => Some(Output::open(&make(2, "stderr")?)?),
            Some(_) => None,
        };
        Ok(Self {
            directory,
            stdin,
            stdout,
            stderr,
            paths,
        })
    }
}

/// Hands the pipes out and looks after the process until it is removed.
fn session(at: Address, pipes: Pipes) -> ExecSession {
    let (control, commands) = mpsc::channel(16);
    let (exit_tx, exit) = oneshot::channel();
    let Pipes {
        directory,
        stdin,
        stdout: (mut stdout, stdout_watch),
        stderr,
        ..
    } = pipes;
    stdout.release();
    let mut watches = vec![stdout_watch];
    let stderr = stderr.map(|(mut output, watch)| {
        output.release();
        watches.push(watch);
        Box::new(output) as Box<_>
    });
    let (stdin, stand_in, closed) = match stdin {
        Some((input, stand_in, closed)) => (Some(input), Some(stand_in), Some(closed)),
        None => (None, None, None),
    };
    let (removed_tx, removed) = oneshot::channel();
    tokio::spawn(async move {
        attend(&at, commands, closed, exit_tx, watches).await;
        drop((stand_in, directory));
        drop(removed_tx);
    });
    ExecSession {
        removed,
        stdin: stdin.map(|s| Box::new(s) as Box<_>),
        stdout: Box::new(stdout),
        stderr,
        control,
        exit,
    }
}

/// Serves controls until the process has ended, then waits for its output to be
/// read and removes it.
async fn attend(
    at: &Address,
    mut commands: mpsc::Receiver<ExecControl>,
    closed: Option<oneshot::Receiver<()>>,
    mut exit: oneshot::Sender<Result<TaskExit>>,
    watches: Vec<Watch>,
) {
    let stdin = async {
        match closed {
            // An error means that the writer was dropped: closed as well.
            Some(closed) => drop(closed.await),
            None => std::future::pending().await,
        }
        at.close_stdin().await;
        std::future::pending::<()>().await;
    };
    tokio::pin!(stdin);
    let ended = at.wait();
    tokio::pin!(ended);
    let (mut serving, mut wanted) = (true, true);
    let result = loop {
        tokio::select! {
            result = &mut ended => break result,
            () = &mut stdin => {}
            command = commands.recv(), if serving => match command {
                Some(ExecControl::Resize(rows, columns)) => at.resize(rows, columns).await,
                Some(ExecControl::Signal(signal)) => at.kill(signal).await,
                None => serving = false,
            },
            // Nobody waits for its end: the session was dropped.
            () = exit.closed(), if wanted => {
                wanted = false;
                at.kill(9).await;
            }
        }
    };
    // The receiver may be gone; there is nobody to tell then.
    let _ = exit.send(result);
    for watch in watches {
        drain(watch).await;
    }
    if let Err(error) = at.delete().await {
        tracing::debug!(container = at.container, exec = at.exec, %error, "removing an exec");
    }
}

/// Removing a process makes the shim close its pipes two seconds later, read or
/// not. So first wait for the reader: for as long as there is something to read,
/// and a moment when there is not.
async fn drain(mut watch: Watch) {
    let mut quiet = 0;
    while quiet < LINGER {
        tokio::select! {
            _ = &mut watch.drained => return,
            () = tokio::time::sleep(SAMPLE) => {}
        }
        quiet = if watch.empty() { quiet + 1 } else { 0 };
    }
}

impl Address {
    async fn create(&self, process: Vec<u8>, pipes: &Pipes, terminal: bool) -> Result<()> {
        let [stdin, stdout, stderr] = pipes.paths.clone();
        let request = ExecProcessRequest {
            container_id: self.container.clone(),
            exec_id: self.exec.clone(),
            stdin,
            stdout,
            stderr,
            terminal,
            spec: Some(Any {
                type_url: PROCESS_URL.into(),
                value: process,
            }),
        };
        tasks::client(&self.c)
            .exec(self.c.call(&self.namespace, request))
            .await
            .map(drop)
            .map_err(|s| tasks::failure(&self.c, "adding a process to", &self.container, &s))
    }

    async fn start(&self) -> Result<()> {
        let request = StartRequest {
            container_id: self.container.clone(),
            exec_id: self.exec.clone(),
        };
        tasks::client(&self.c)
            .start(self.c.call(&self.namespace, request))
            .await
            .map(drop)
            .map_err(|s| tasks::failure(&self.c, "starting a process in", &self.container, &s))
    }

    async fn wait(&self) -> Result<TaskExit> {
        let request = WaitRequest {
            container_id: self.container.clone(),
            exec_id: self.exec.clone(),
        };
        let what = || format!("waiting for a process in container {}", self.container);
        let object = format!("process {} in container {}", self.exec, self.container);
        let response = tasks::client(&self.c)
            .wait(self.c.request(&self.namespace, request))
            .await
            .map_err(|s| self.c.error_on(what(), &object, &s))?
            .into_inner();
        Ok(tasks::exit(response.exit_status, response.exited_at))
    }

    async fn kill(&self, signal: i32) {
        let Ok(signal) = u32::try_from(signal) else {
            return;
        };
        let request = KillRequest {
            container_id: self.container.clone(),
            exec_id: self.exec.clone(),
            signal,
            all: false,
        };
        let call = self.c.call(&self.namespace, request);
        self.log("signalling", tasks::client(&self.c).kill(call).await);
    }

    async fn resize(&self, rows: u16, columns: u16) {
        let request = ResizePtyRequest {
            container_id: self.container.clone(),
            exec_id: self.exec.clone(),
            width: columns.into(),
            height: rows.into(),
        };
        let call = self.c.call(&self.namespace, request);
        self.log("resizing", tasks::client(&self.c).resize_pty(call).await);
    }

    /// The shim keeps a writer of its own on the FIFO, so that a client may come
    /// and go; without this call the process would never see the end.
    async fn close_stdin(&self) {
        let request = CloseIoRequest {
            container_id: self.container.clone(),
            exec_id: self.exec.clone(),
            stdin: true,
        };
        let call = self.c.call(&self.namespace, request);
        self.log(
            "closing the input of",
            tasks::client(&self.c).close_io(call).await,
        );
    }

    async fn delete(&self) -> Result<()> {
        let request = DeleteProcessRequest {
            container_id: self.container.clone(),
            exec_id: self.exec.clone(),
        };
        tasks::client(&self.c)
            .delete_process(self.c.call(&self.namespace, request))
            .await
            .map(drop)
            .map_err(|s| self.c.error("removing a process", &s))
    }

    /// A control that misses because the process has just ended is no failure of
    /// the session; its end tells the outcome.
    fn log<T>(&self, doing: &str, result: Result<T, containerd_client::tonic::Status>) {
        if let Err(status) = result {
            tracing::debug!(
                container = self.container,
                exec = self.exec,
                cause = status.message(),
                "{doing} an exec"
            );
        }
    }
}
