//! `exec`: a further process in a running container, its streams relayed.

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Controller;
use super::stream::cell_ref;
use super::transition::pick;
use crate::api::v1::{self, exec_input, exec_output};
use crate::api::{Code, Error, Result};
use crate::runtime::{ExecControl, ExecRequest, ExecSession, container_id};

/// Messages on their way to the caller; a slow caller slows the process down.
const BUFFER: usize = 16;
/// Bytes of output in one message.
const CHUNK: usize = 32 * 1024;

type Output = mpsc::Sender<Result<v1::ExecOutput>>;

impl Controller {
    pub(super) async fn run_process(
        &self,
        mut input: BoxStream<'static, Result<v1::ExecInput>>,
    ) -> Result<BoxStream<'static, Result<v1::ExecOutput>>> {
        let start = match input.next().await {
            Some(Ok(v1::ExecInput {
                input: Some(exec_input::Input::Start(start)),
            })) => start,
            Some(Err(error)) => return Err(error),
            _ => {
                return Err(Error::invalid(
                    "BadRequest",
                    "exec: the first message must be start",
                ));
            }
        };
        if start.command.is_empty() {
            return Err(Error::invalid(
                "CommandRequired",
                "exec: no command was given",
            ));
        }
        let at = cell_ref(&start.name, start.scope.as_ref())?;
        let container = pick(&self.get_cell(&at)?, &start.container)?;
        let window = start.window.unwrap_or(v1::WindowSize {
            rows: 24,
            columns: 80,
        });
        let request = ExecRequest {
            namespace: self.parents(&at.clone().into())?.namespace,
            id: container_id(&at, &container),
            command: start.command,
            tty: start.tty.then(|| size(&window)),
            stdin: start.stdin,
            env: start.env,
            working_dir: Some(start.working_dir).filter(|s| !s.is_empty()),
            user: Some(start.user).filter(|s| !s.is_empty()),
        };
        let session = self
            .runtime
            .exec(request)
            .await
            .map_err(|error| match error {
                crate::runtime::Error::NotFound(_) => Error::new(
                    Code::Conflict,
                    "TaskNotRunning",
                    format!("container {container} of {at} is not running"),
                )
                .hint(format!("start it with `kuke start {}`", at.cell)),
                other => Error::from(other).context(format!("exec in {at}, container {container}")),
            })?;
        let (sender, receiver) = mpsc::channel(BUFFER);
        self.tasks.spawn(relay(session, input, sender));
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }
}

/// Relays until the process has ended and its output is drained, or the caller
/// is gone; the session then goes, and the process with it.
async fn relay(
    session: ExecSession,
    input: BoxStream<'static, Result<v1::ExecInput>>,
    sender: Output,
) {
    let ExecSession {
        stdin,
        stdout,
        stderr,
        control,
        exit,
        removed,
    } = session;
    let feed = tokio::spawn(feed(input, stdin, control));
    let drain = async {
        tokio::join!(pump(stdout, &sender, exec_output::Output::Stdout), async {
            if let Some(stderr) = stderr {
                pump(stderr, &sender, exec_output::Output::Stderr).await;
            }
        });
        match exit.await {
            Ok(Ok(exit)) => Ok(v1::ExecOutput {
                output: Some(exec_output::Output::ExitCode(exit.code)),
            }),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Error::failed("ExecLost", "exec: the process was lost")),
        }
    };
    tokio::select! {
        end = drain => {
            let _ = sender.send(end).await;
        }
        () = sender.closed() => {}
    }
    feed.abort();
    drop(sender);
    // Nobody waits for this but `settle`: a process that ends here leaves no FIFO.
    let _ = removed.await;
}

/// Passes input, window sizes and signals on.
async fn feed(
    mut input: BoxStream<'static, Result<v1::ExecInput>>,
    mut stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    control: mpsc::Sender<ExecControl>,
) {
    while let Some(Ok(message)) = input.next().await {
        match message.input {
            Some(exec_input::Input::Stdin(bytes)) => {
                if let Some(pipe) = &mut stdin
                    && (pipe.write_all(&bytes).await.is_err() || pipe.flush().await.is_err())
                {
                    stdin = None; // The process reads no more.
                }
            }
            Some(exec_input::Input::StdinClosed(_)) => stdin = None,
            Some(exec_input::Input::Resize(window)) => {
                let (rows, columns) = size(&window);
                let _ = control.send(ExecControl::Resize(rows, columns)).await;
            }
            Some(exec_input::Input::Signal(signal)) => {
                let _ = control.send(ExecControl::Signal(signal)).await;
            }
            Some(exec_input::Input::Start(_)) | None => {}
        }
    }
    // The caller has no more to send; the session stays until the process ends.
    drop(stdin);
    control.closed().await;
}

async fn pump(
    mut from: Box<dyn AsyncRead + Send + Unpin>,
    to: &Output,
    wrap: impl Fn(Vec<u8>) -> exec_output::Output,
) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let message = v1::ExecOutput {
            output: Some(wrap(buffer[..n].to_vec())),
        };
        if to.send(Ok(message)).await.is_err() {
            return;
        }
    }
}

fn size(window: &v1::WindowSize) -> (u16, u16) {
    let clamp = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    (clamp(window.rows), clamp(window.columns))
}
