//! The log writer role.

use std::ffi::OsString;
use std::process::ExitCode;

/// Main function of the log writer.
pub fn writer_main(_args: &[OsString]) -> ExitCode {
    ExitCode::FAILURE
}
