//! The HTTP server of the built-in image.

use std::ffi::OsString;
use std::process::ExitCode;

/// Role argument.
pub const ROLE: &str = "hello";

/// Main function of the hello server.
pub fn main(_args: &[OsString]) -> ExitCode {
    ExitCode::FAILURE
}
