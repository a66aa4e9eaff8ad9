//! `kuke exec`.

use clap::Args;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::SignalKind;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::api::v1::{self, exec_input, exec_output};
use crate::api::{Error, Result};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome, tell, usage};
use crate::cli::scope::ScopeFlags;
use crate::cli::signals::on;
use crate::cli::terminal::{self, Raw};
use crate::cli::workload;

/// Bytes of standard input in one message.
const CHUNK: usize = 32 * 1024;

/// Run a further process in a container
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kuke exec web -- ls -l /
  kuke exec -it web -- sh
  tar c . | kuke exec -i web -- tar x -C /data

Exit code: that of the process; 125 when kukeon failed, 126 when the program cannot be
executed, 127 when it does not exist.")]
pub struct Exec {
    /// Cell
    #[arg(value_name = "CELL")]
    cell: String,
    #[command(flatten)]
    scope: ScopeFlags,
    /// Container [default: the root or only one]
    #[arg(long, short, value_name = "NAME")]
    container: Option<String>,
    /// Pass standard input on
    #[arg(long, short, visible_alias = "stdin")]
    interactive: bool,
    /// Give it a terminal
    #[arg(long, short)]
    tty: bool,
    /// Further variables; may be repeated
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = workload::variable)]
    env: Vec<String>,
    /// Working directory [default: the container's]
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<String>,
    /// uid, uid:gid, name or name:group [default: the container's]
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// Program and arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Exec {
    /// Runs it and gives its exit code.
    pub async fn run(self, context: &Context) -> Outcome {
        if self.tty && self.interactive && !terminal::input_is_terminal() {
            return Err(usage("-t needs a terminal, but standard input is none")
                .hint("leave -t out to pipe into the process")
                .into());
        }
        match self.attached(context).await {
            Ok(code) => Ok(code),
            Err(Failure::Error(error)) => {
                tell(&error);
                Err(Failure::Exit(workload::exit_code(&error)))
            }
            Err(other) => Err(other),
        }
    }

    async fn attached(self, context: &Context) -> Outcome {
        let kukeon = context.kukeon().await?;
        let raw = match self.tty && self.interactive {
            true => Some(Raw::enter(std::io::stdin())?),
            false => None,
        };
        let (send, receive) = mpsc::channel(16);
        let _ = send.send(Ok(self.start())).await;
        let forwarding = tokio::spawn(forward_signals(send.clone(), self.tty)?);
        if self.interactive {
            tokio::spawn(forward_input(send));
        }
        let input = ReceiverStream::new(receive).boxed();
        let output = kukeon.exec(input).await?;
        let ended = relay(context, output).await;
        forwarding.abort();
        // Before anything is told.
        drop(raw);
        ended
    }

    fn start(&self) -> v1::ExecInput {
        message(exec_input::Input::Start(v1::ExecStart {
            name: self.cell.clone(),
            scope: Some(self.scope.single()),
            container: self.container.clone().unwrap_or_default(),
            command: self.command.clone(),
            tty: self.tty,
            stdin: self.interactive,
            env: self.env.clone(),
            working_dir: self.workdir.clone().unwrap_or_default(),
            user: self.user.clone().unwrap_or_default(),
            window: if self.tty { terminal::size() } else { None },
        }))
    }
}

/// Writes what the process says until it ends.
async fn relay(
    context: &Context,
    mut output: BoxStream<'static, Result<v1::ExecOutput>>,
) -> Outcome {
    while let Some(message) = output.next().await {
        match message?.output {
            Some(exec_output::Output::Stdout(data)) => context.out.bytes(&data)?,
            Some(exec_output::Output::Stderr(data)) => workload::to_stderr(&data),
            Some(exec_output::Output::ExitCode(code)) => return Ok(workload::as_code(code)),
            None => {}
        }
    }
    Err(Error::failed("ExecLost", "the end of the process was not told").into())
}

type Sender = mpsc::Sender<Result<v1::ExecInput>>;

/// Passes standard input on to its end.
async fn forward_input(send: Sender) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; CHUNK];
    loop {
        let message = match stdin.read(&mut buffer).await {
            Ok(0) => message(exec_input::Input::StdinClosed(true)),
            Ok(n) => message(exec_input::Input::Stdin(buffer[..n].to_vec())),
            // A terminal that went away is an end like any other.
            Err(_) => message(exec_input::Input::StdinClosed(true)),
        };
        let last = matches!(message.input, Some(exec_input::Input::StdinClosed(_)));
        if send.send(Ok(message)).await.is_err() || last {
            return;
        }
    }
}

/// Passes signals and sizes on. They are taken over before the process is
/// started, so that none ends this program and leaves the terminal raw.
fn forward_signals(send: Sender, tty: bool) -> Result<impl Future<Output = ()>> {
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut quit = on(SignalKind::quit())?;
    let mut terminate = on(SignalKind::terminate())?;
    let mut hangup = on(SignalKind::hangup())?;
    let mut first = on(SignalKind::user_defined1())?;
    let mut second = on(SignalKind::user_defined2())?;
    let mut resized = on(SignalKind::window_change())?;
    Ok(async move {
        loop {
            let number = tokio::select! {
                _ = interrupt.recv() => SignalKind::interrupt(),
                _ = quit.recv() => SignalKind::quit(),
                _ = terminate.recv() => SignalKind::terminate(),
                _ = hangup.recv() => SignalKind::hangup(),
                _ = first.recv() => SignalKind::user_defined1(),
                _ = second.recv() => SignalKind::user_defined2(),
                _ = resized.recv() => SignalKind::window_change(),
            };
            let message = match number == SignalKind::window_change() {
                false => message(exec_input::Input::Signal(number.as_raw_value())),
                true => match terminal::size().filter(|_| tty) {
                    Some(size) => message(exec_input::Input::Resize(size)),
                    None => continue,
                },
            };
            if send.send(Ok(message)).await.is_err() {
                return;
            }
        }
    })
}

fn message(input: exec_input::Input) -> v1::ExecInput {
    v1::ExecInput { input: Some(input) }
}
