//! Entry point.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    kukeon::roles::dispatch(&args).unwrap_or(ExitCode::FAILURE)
}
