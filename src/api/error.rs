//! The one error type that crosses the edge: it has a gRPC code, a stable
//! reason and an exit code, and says what failed, on which object, and what to do.

use std::fmt;

use super::v1::ErrorDetail;

/// Result of everything that can be asked of kukeon.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Class of a failure; decides gRPC code and exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request itself is wrong: bad manifest, bad flag, bad name (exit 2).
    Invalid,
    /// The object does not exist (exit 3).
    NotFound,
    /// Refused or in conflict with what exists (exit 4).
    Conflict,
    /// Daemon or containerd cannot be reached (exit 5).
    Unavailable,
    /// Not allowed (exit 6).
    Permission,
    /// Took too long (exit 7).
    Timeout,
    /// The caller went away or pressed Ctrl-C (exit 1; 130 for a signal).
    Cancelled,
    /// Pool, disk or another resource is used up (exit 1).
    Exhausted,
    /// The host lacks something the request needs (exit 4).
    Unsupported,
    /// Anything else (exit 1).
    Failed,
}

impl Code {
    /// Process exit code of a verb that failed so.
    pub fn exit_code(self) -> u8 {
        match self {
            Code::Invalid => 2,
            Code::NotFound => 3,
            Code::Conflict | Code::Unsupported => 4,
            Code::Unavailable => 5,
            Code::Permission => 6,
            Code::Timeout => 7,
            Code::Cancelled | Code::Exhausted | Code::Failed => 1,
        }
    }

    /// The class as written on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::Invalid => "Invalid",
            Code::NotFound => "NotFound",
            Code::Conflict => "Conflict",
            Code::Unavailable => "Unavailable",
            Code::Permission => "Permission",
            Code::Timeout => "Timeout",
            Code::Cancelled => "Cancelled",
            Code::Exhausted => "Exhausted",
            Code::Unsupported => "Unsupported",
            Code::Failed => "Failed",
        }
    }

    /// Reads the class from the wire; what is not known is `Failed`.
    pub fn from_wire(text: &str) -> Self {
        const ALL: [Code; 9] = [
            Code::Invalid,
            Code::NotFound,
            Code::Conflict,
            Code::Unavailable,
            Code::Permission,
            Code::Timeout,
            Code::Cancelled,
            Code::Exhausted,
            Code::Unsupported,
        ];
        ALL.into_iter()
            .find(|c| c.as_str() == text)
            .unwrap_or(Code::Failed)
    }
}

impl Error {
    /// Somebody else changed an object that was expected in an earlier
    /// generation; or it is gone.
    pub fn changed(object: &impl fmt::Display) -> Self {
        let message = format!("{object} was changed meanwhile by somebody else");
        Self::new(Code::Conflict, Self::CHANGED, message)
            .hint("look at it again with `kuke get … -o yaml`, then repeat your change")
    }

    /// Reason of [`Error::changed`].
    pub const CHANGED: &'static str = "GenerationChanged";
}

impl From<&Error> for ErrorDetail {
    fn from(error: &Error) -> Self {
        Self {
            reason: error.reason.clone(),
            message: error.message.clone(),
            hint: error.hint.clone(),
            code: error.code.as_str().to_owned(),
        }
    }
}

impl From<ErrorDetail> for Error {
    fn from(detail: ErrorDetail) -> Self {
        Self {
            code: Code::from_wire(&detail.code),
            reason: detail.reason,
            message: detail.message,
            hint: detail.hint,
        }
    }
}

/// A failure with everything a person or a script needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Class of the failure.
    pub code: Code,
    /// Stable CamelCase token, for example `CellNotFound`.
    pub reason: String,
    /// What failed, on which object, where.
    pub message: String,
    /// What to do about it; empty when there is nothing to say.
    pub hint: String,
}

impl Error {
    /// An error of a class, with its stable reason and message.
    pub fn new(code: Code, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
            message: message.into(),
            hint: String::new(),
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Prefixes the message with what was being done.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// A failure without a class of its own.
    pub fn failed(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Code::Failed, reason, message)
    }

    /// A wrong request.
    pub fn invalid(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Code::Invalid, reason, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
