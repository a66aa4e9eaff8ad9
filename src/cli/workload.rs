//! What `run` and `exec` share: a workload's output and how it ended.

use std::io::Write;

use crate::api::{Code, Error};

/// kukeon itself failed.
const FAILED: u8 = 125;
/// The program cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// The program does not exist.
const NO_PROGRAM: u8 = 127;

/// Exit code for a failure to run a workload, as shells give them.
pub fn exit_code(error: &Error) -> u8 {
    match (error.reason.as_str(), error.code) {
        ("CommandNotFound", _) => {
            let why = error.message.to_ascii_lowercase();
            let there = ["not executable", "permission denied", "is a directory"];
            if there.iter().any(|words| why.contains(words)) {
                NOT_EXECUTABLE
            } else {
                NO_PROGRAM
            }
        }
        // Found before anything was tried.
        ("Usage", Code::Invalid) => Code::Invalid.exit_code(),
        _ => FAILED,
    }
}

/// An exit code as a process can give it: the low eight bits (wait(2)).
pub fn as_code(code: i32) -> u8 {
    u8::try_from(code & 0xff).unwrap_or(FAILED)
}

/// Passes a piece of the workload's standard error on.
pub fn to_stderr(data: &[u8]) {
    // A standard error that cannot be written to must not end the workload.
    let _ = std::io::stderr().lock().write_all(data);
}

/// Checks `NAME=value`.
pub fn variable(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() && !text.contains('\0') => Ok(text.to_owned()),
        _ => Err("NAME=VALUE is needed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_end_as_in_a_shell() {
        let missing = Error::failed("CommandNotFound", "exec: \"x\": no such file");
        let forbidden = Error::failed("CommandNotFound", "\"x\": it is not executable");
        let image = Error::new(Code::NotFound, "ImageNotFound", "no image");
        assert_eq!(exit_code(&missing), 127);
        assert_eq!(exit_code(&forbidden), 126);
        assert_eq!(exit_code(&image), 125);
    }

    #[test]
    fn codes_are_eight_bits() {
        assert_eq!(as_code(137), 137);
        assert_eq!(as_code(-1), 255);
        assert_eq!(as_code(256), 0);
    }

    #[test]
    fn variables_have_names() {
        assert!(variable("A=").is_ok());
        assert!(variable("A=b=c").is_ok());
        assert!(variable("=b").is_err());
        assert!(variable("A").is_err());
    }
}
