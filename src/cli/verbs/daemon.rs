//! `kuke daemon`: the systemd unit where systemd runs, else the process.

use std::ffi::OsString;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::api::{Code, Error, Result, v1};
use crate::cli::config::duration;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::process::{self, Stopped};
use crate::client::{Kukeon, Remote};
use crate::model::Settings;

/// Name of the unit that the installer makes.
const UNIT: &str = "kukeond.service";

/// Start, stop and look at the daemon
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Daemon {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start kukeond in the background and wait until it answers
    Start,
    /// Stop kukeond; cells go on running
    Stop(Grace),
    /// Stop and start kukeond; cells go on running
    Restart(Grace),
    /// End kukeond at once; cells go on running
    Kill,
    /// Show whether kukeond runs; exit code 5 when it does not
    Status,
    /// Show kukeond's log
    #[command(visible_alias = "log")]
    Logs(Logs),
    /// Serve in the foreground, as `kukeond serve` does
    Serve(Serve),
}

#[derive(Debug, Args)]
struct Grace {
    /// Time between SIGTERM and SIGKILL
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "35s")]
    timeout: Duration,
}

#[derive(Debug, Args)]
struct Logs {
    /// Go on until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Only the last lines
    #[arg(long, short = 'n', value_name = "LINES", default_value_t = 200)]
    tail: usize,
}

#[derive(Debug, Args)]
struct Serve {
    /// Flags of `kukeond serve`
    #[arg(
        value_name = "FLAGS",
        allow_hyphen_values = true,
        trailing_var_arg = true
    )]
    flags: Vec<OsString>,
}

impl Daemon {
    /// Runs the inner verb.
    pub async fn run(self, context: &Context) -> Outcome {
        if let Verb::Serve(serve) = self.verb {
            return Err(serve.become_daemon(context).into());
        }
        context.need_root()?;
        let settings = &context.config.resolved.settings;
        let unit = drives_unit(settings);
        match self.verb {
            Verb::Start if unit => start_unit(context).await,
            Verb::Start => start(context).await,
            Verb::Stop(grace) => stop(context, unit, grace.timeout).await,
            Verb::Restart(grace) => restart(context, unit, grace.timeout).await,
            Verb::Kill => kill(context, unit).await,
            Verb::Status => status(context).await,
            Verb::Logs(logs) if unit => Err(logs.journal().into()),
            Verb::Logs(logs) => logs.print(context, &process::log_file(settings)).await,
            Verb::Serve(_) => Ok(0),
        }
    }
}

/// Whether systemd runs the daemon of this instance: the unit is for the default
/// run path.
fn drives_unit(settings: &Settings) -> bool {
    settings.run_path == Path::new(Settings::RUN_PATH)
        && Path::new("/run/systemd/system").is_dir()
        && systemctl(&["cat"]).is_ok()
}

/// Runs systemctl on the unit; what it says on failure becomes the error.
fn systemctl(verb: &[&str]) -> Result<String> {
    let done = Command::new("systemctl")
        .args(verb)
        .arg(UNIT)
        .output()
        .map_err(|e| Error::failed("Systemctl", format!("systemctl: {e}")))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if done.status.success() {
        return Ok(text(&done.stdout));
    }
    Err(Error::failed(
        "Systemctl",
        format!(
            "systemctl {} {UNIT}: {}",
            verb.join(" "),
            text(&done.stderr)
        ),
    )
    .hint(format!("see `journalctl -u {UNIT}`")))
}

async fn start(context: &Context) -> Outcome {
    let settings = &context.config.resolved.settings;
    if let Some(daemon) = process::find(settings)? {
        if answers(settings).await.is_none() {
            crate::cli::failure::say!(
                "Warning: kukeond reports Ready but socket {} is unreachable: it is restarted",
                settings.socket.display()
            );
            process::stop(settings, process::GRACE).await?;
        } else {
            let pid = daemon.pid;
            context
                .out
                .line(format_args!("kukeond is already running (process {pid})"))?;
            return Ok(0);
        }
    }
    let pid = process::start(&context.config).await?;
    context
        .out
        .line(format_args!("kukeond started (process {pid})"))?;
    Ok(0)
}

async fn start_unit(context: &Context) -> Outcome {
    if systemctl(&["is-active", "--quiet"]).is_ok() {
        context
            .out
            .line(format_args!("kukeond is already running ({UNIT})"))?;
        return Ok(0);
    }
    systemctl(&["start"])?;
    context.out.line(format_args!("kukeond started ({UNIT})"))?;
    Ok(0)
}

async fn stop(context: &Context, unit: bool, grace: Duration) -> Outcome {
    let stopped = take_down(context, unit, grace).await?;
    let said = match stopped {
        Stopped::Already => "kukeond is already stopped".to_owned(),
        Stopped::Ended => "kukeond stopped".to_owned(),
        Stopped::Killed => format!(
            "kukeond force-killed after {} s grace period expired",
            grace.as_secs()
        ),
    };
    context.out.line(said)?;
    Ok(0)
}

/// Stops the unit when it runs, and a process that was started by hand.
async fn take_down(context: &Context, unit: bool, grace: Duration) -> Result<Stopped> {
    if unit && systemctl(&["is-active", "--quiet"]).is_ok() {
        systemctl(&["stop"])?;
        return Ok(Stopped::Ended);
    }
    process::stop(&context.config.resolved.settings, grace).await
}

async fn restart(context: &Context, unit: bool, grace: Duration) -> Outcome {
    if take_down(context, unit, grace).await? == Stopped::Already {
        context.out.line("kukeond was already stopped")?;
    }
    if unit {
        start_unit(context).await
    } else {
        start(context).await
    }
}

async fn kill(context: &Context, unit: bool) -> Outcome {
    let settings = &context.config.resolved.settings;
    if unit && systemctl(&["is-active", "--quiet"]).is_ok() {
        systemctl(&["kill", "--kill-whom=main", "--signal=KILL"])?;
        // Without this systemd would start it again.
        systemctl(&["stop"])?;
        context.out.line("kukeond force-killed")?;
        return Ok(0);
    }
    let said = match process::kill(settings).await? {
        Stopped::Already => "kukeond is already stopped",
        _ => "kukeond force-killed",
    };
    context.out.line(said)?;
    Ok(0)
}

/// Version of a daemon that answers.
async fn answers(settings: &Settings) -> Option<v1::VersionResponse> {
    let limit = Some(Duration::from_secs(2));
    let remote = Remote::connect(&settings.socket, limit).await.ok()?;
    remote.version(v1::VersionRequest {}).await.ok()
}

async fn status(context: &Context) -> Outcome {
    let settings = &context.config.resolved.settings;
    let socket = settings.socket.display();
    let daemon = process::find(settings)?;
    match (daemon, answers(settings).await) {
        (Some(daemon), Some(answer)) => {
            context.out.line(format_args!(
                "kukeond {} is running (process {}, unix://{socket})",
                answer.version, daemon.pid
            ))?;
            Ok(0)
        }
        (Some(daemon), None) => Err(down(format!(
            "kukeond (process {}) reports Ready but socket {socket} is unreachable",
            daemon.pid
        ))
        .hint("`kuke daemon restart` repairs that")
        .into()),
        (None, Some(answer)) => {
            // Its lock is not of this instance: another run path on this socket.
            context.out.line(format_args!(
                "kukeond {} answers at unix://{socket}, but none runs for {}",
                answer.version,
                settings.run_path.display()
            ))?;
            Ok(0)
        }
        (None, None) => Err(down(format!("kukeond is not running (unix://{socket})"))
            .hint("start it with `kuke daemon start`")
            .into()),
    }
}

fn down(message: String) -> Error {
    Error::new(Code::Unavailable, "DaemonDown", message)
}

impl Logs {
    /// Becomes journalctl; returns only when that fails.
    fn journal(&self) -> Error {
        let mut command = Command::new("journalctl");
        command.args(["--unit", UNIT, "--lines", &self.tail.to_string()]);
        if self.follow {
            command.arg("--follow");
        }
        let error = command.exec();
        Error::failed("Journal", format!("journalctl: {error}"))
    }

    /// Prints the log file, also of a daemon that has stopped.
    async fn print(&self, context: &Context, path: &Path) -> Outcome {
        let mut file = std::fs::File::open(path).map_err(|e| {
            Error::new(
                Code::NotFound,
                "NoLog",
                format!("kukeond has no log file: {}: {e}", path.display()),
            )
            .hint("a kukeond that runs in the foreground logs to its terminal")
        })?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(Failure::from)?;
        context.out.bytes(last_lines(&text, self.tail))?;
        let mut at = text.len() as u64;
        if !self.follow {
            return Ok(0);
        }
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let size = file.metadata().map_err(Failure::from)?.len();
            if size < at {
                at = 0; // Someone emptied it.
            }
            let mut more = Vec::new();
            file.seek(SeekFrom::Start(at)).map_err(Failure::from)?;
            file.read_to_end(&mut more).map_err(Failure::from)?;
            at += more.len() as u64;
            if !more.is_empty() {
                context.out.bytes(&more)?;
            }
        }
    }
}

/// The last lines of a text.
fn last_lines(text: &[u8], lines: usize) -> &[u8] {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let newlines = body.iter().enumerate().rev().filter(|(_, b)| **b == b'\n');
    if lines == 0 {
        return &[];
    }
    let start = newlines.map(|(at, _)| at + 1).nth(lines - 1).unwrap_or(0);
    &text[start..]
}

impl Serve {
    /// Becomes `kukeond serve`; returns only when that fails.
    fn become_daemon(self, context: &Context) -> Error {
        let program = &context.config.resolved.settings.program;
        let error = Command::new(program)
            .arg0("kukeond")
            .arg("serve")
            .args(context.config.daemon_flags())
            .args(self.flags)
            .exec();
        Error::failed("DaemonStart", format!("starting kukeond: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_a_log() {
        assert_eq!(last_lines(b"a\nb\nc\n", 2), b"b\nc\n");
        assert_eq!(last_lines(b"a\nb\nc\n", 9), b"a\nb\nc\n");
        assert_eq!(last_lines(b"a\nb", 1), b"b");
        assert_eq!(last_lines(b"a\nb\n", 0), b"");
        assert_eq!(last_lines(b"", 3), b"");
    }
}
