//! The client: command line, output and terminal work. What it asks for goes
//! through [`Kukeon`](crate::client::Kukeon), so every verb works the same with
//! and without a daemon.

mod age;
mod args;
mod complete;
mod config;
mod context;
mod failure;
mod follow;
mod kind;
mod manifest;
mod output;
mod process;
mod progress;
#[cfg(test)]
mod reference;
mod scope;
mod signals;
mod terminal;
mod upload;
mod verbs;
mod workload;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::api::Result;
use crate::client::Kukeon;
use crate::model::Settings;
use context::Context;
use failure::Failure;

/// Opens the capability in this process. `main` passes it in, because this room
/// does not know the controller.
pub type InProcess = fn(Settings) -> BoxFuture<'static, Result<Arc<dyn Kukeon>>>;

/// Which program is meant: `kuke` or `kukeond`. The name the executable was
/// called by decides, then `KUKEON_DEBUG_MODE`.
///
/// # Errors
/// The exit code, after the failure was said on standard error.
pub fn entry(
    argv: &[OsString],
    env: impl Fn(&str) -> Option<OsString>,
) -> std::result::Result<String, ExitCode> {
    let called = argv.first().cloned().unwrap_or_default();
    let name = Path::new(&called)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let known = |name: &str| matches!(name, "kuke" | "kukeond");
    if known(&name) {
        return Ok(name);
    }
    match env("KUKEON_DEBUG_MODE").and_then(|mode| mode.into_string().ok()) {
        Some(mode) if known(&mode) => Ok(mode),
        _ => {
            crate::cli::failure::say!("unknown entry command: {name}");
            Err(ExitCode::FAILURE)
        }
    }
}

/// Entry of `kuke`; `argv` is with the program's name.
pub fn main(argv: Vec<OsString>, in_process: InProcess) -> ExitCode {
    if complete::answer(&argv, in_process) {
        return ExitCode::SUCCESS;
    }
    let arguments = match args::parse(argv) {
        Ok(arguments) => arguments,
        Err(shown) => return ExitCode::from(args::show(&shown)),
    };
    let shape = arguments.verb.shape();
    let code = match Context::new(arguments.globals, shape, in_process) {
        Ok(context) => context.run(arguments.verb),
        Err(error) => Failure::from(error).report(),
    };
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entered(argv0: &str, mode: Option<&str>) -> Option<String> {
        let argv = [OsString::from(argv0)];
        entry(&argv, |_| mode.map(OsString::from)).ok()
    }

    #[test]
    fn the_name_decides_then_the_debug_mode() {
        assert_eq!(
            entered("/usr/local/bin/kuke", None).as_deref(),
            Some("kuke")
        );
        assert_eq!(entered("kukeond", Some("kuke")).as_deref(), Some("kukeond"));
        assert_eq!(
            entered("./kukeon-debug", Some("kukeond")).as_deref(),
            Some("kukeond")
        );
        assert_eq!(entered("other", None), None);
        assert_eq!(entered("other", Some("sh")), None);
    }
}
