//! How a verb ends when it does not end well.

use std::io;

use crate::api::{Code, Error};

/// Why a verb did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// A failure to be told and turned into its exit code.
    Error(Error),
    /// All was said already; end with this code.
    Exit(u8),
    /// The reader of our output went away: nothing left to say, and no fault.
    ClosedPipe,
}

/// Exit code of a verb, or why it failed.
pub type Outcome = Result<u8, Failure>;

impl Failure {
    /// Tells the person on standard error; returns the exit code.
    pub fn report(self) -> u8 {
        match self {
            Failure::Error(error) => {
                tell(&error);
                error.code.exit_code()
            }
            Failure::Exit(code) => code,
            Failure::ClosedPipe => 0,
        }
    }
}

/// Writes a line for people to standard error, as `eprintln!` does; but one
/// that cannot be written to (a reader that went away) leaves nobody to tell,
/// and is no reason to panic.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(anstream::stderr().lock(), $($text)*);
    }};
}
pub(crate) use say;

/// Writes a failure to standard error.
pub fn tell(error: &Error) {
    say!("Error: {error}");
    if !error.hint.is_empty() {
        say!("{}", error.hint);
    }
}

/// A usage error that the argument parser cannot see.
pub fn usage(message: impl Into<String>) -> Error {
    Error::invalid("Usage", message)
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::ClosedPipe;
        }
        let code = match error.kind() {
            io::ErrorKind::StorageFull => Code::Exhausted,
            io::ErrorKind::PermissionDenied => Code::Permission,
            _ => Code::Failed,
        };
        Failure::Error(Error::new(
            code,
            "Output",
            format!("writing output: {error}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_fault() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.report(), 0);
        let failure = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(failure.report(), 1);
    }
}
