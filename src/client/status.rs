//! [`Error`] ⇄ gRPC status, the one place where the two meet. Everything of an
//! error survives the way there and back.
//!
//! The details carry `google.rpc.ErrorInfo`: the stable reason, the domain
//! [`DOMAIN`], and the class and the hint as metadata.

use std::collections::HashMap;

use tonic::{Code as Grpc, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::api::{Code, Error};

/// Domain of our reasons in `ErrorInfo`.
pub const DOMAIN: &str = "kukeon.io";

/// Longest message that travels, in bytes. A status is sent in HTTP/2 trailers,
/// whose size both ends bound (see `HEADER_LIST_SIZE`).
const MESSAGE_LIMIT: usize = 32 * 1024;

/// Bound for the headers and trailers of one message, in bytes. Twice base64
/// and percent-encoding of [`MESSAGE_LIMIT`] fit.
pub const HEADER_LIST_SIZE: u32 = 512 * 1024;

const CODE: &str = "code";
const HINT: &str = "hint";

/// What a failed call puts on the wire.
pub fn to_status(error: Error) -> Status {
    let mut metadata = HashMap::from([(CODE.to_owned(), error.code.as_str().to_owned())]);
    if !error.hint.is_empty() {
        metadata.insert(HINT.to_owned(), clip(error.hint));
    }
    let details = ErrorDetails::with_error_info(error.reason, DOMAIN, metadata);
    Status::with_error_details(grpc_code(error.code), clip(error.message), details)
}

/// What a client makes of a failed call. A status that is not ours (the
/// connection broke, the server is something else) gets a class of its own.
pub fn from_status(status: Status) -> Error {
    if let Some(info) = status.get_details_error_info()
        && info.domain == DOMAIN
    {
        let mut metadata = info.metadata;
        return Error {
            code: metadata
                .get(CODE)
                .map_or_else(|| code_of(status.code()), |name| Code::from_wire(name)),
            reason: info.reason,
            message: status.message().to_owned(),
            hint: metadata.remove(HINT).unwrap_or_default(),
        };
    }
    foreign(&status)
}

/// A status without our details.
fn foreign(status: &Status) -> Error {
    if std::error::Error::source(status).is_some() || status.code() == Grpc::Unavailable {
        return Error::new(
            Code::Unavailable,
            "ConnectionLost",
            format!(
                "the connection to kukeond broke off: {}",
                deepest(status).unwrap_or_else(|| status.message().to_owned())
            ),
        )
        .hint("see `kuke daemon status` and `kuke daemon logs`; what was asked for may have been done");
    }
    match status.code() {
        Grpc::Unimplemented => Error::new(
            Code::Unsupported,
            "NotOffered",
            "this kukeond does not know the call",
        )
        .hint("client and daemon differ in version: compare with `kuke version`, then `kuke daemon restart`"),
        Grpc::OutOfRange | Grpc::ResourceExhausted => {
            Error::new(Code::Exhausted, "MessageTooLarge", status.message())
        }
        code => Error::new(code_of(code), format!("{code:?}"), status.message()),
    }
}

/// The innermost cause; the outer ones only say "transport error".
fn deepest(status: &Status) -> Option<String> {
    let mut cause = std::error::Error::source(status)?;
    while let Some(next) = cause.source() {
        cause = next;
    }
    Some(cause.to_string())
}

fn grpc_code(code: Code) -> Grpc {
    match code {
        Code::Invalid => Grpc::InvalidArgument,
        Code::NotFound => Grpc::NotFound,
        Code::Conflict => Grpc::FailedPrecondition,
        Code::Unavailable => Grpc::Unavailable,
        Code::Permission => Grpc::PermissionDenied,
        Code::Timeout => Grpc::DeadlineExceeded,
        Code::Cancelled => Grpc::Cancelled,
        Code::Exhausted => Grpc::ResourceExhausted,
        Code::Unsupported => Grpc::Unimplemented,
        Code::Failed => Grpc::Internal,
    }
}

fn code_of(code: Grpc) -> Code {
    match code {
        Grpc::InvalidArgument => Code::Invalid,
        Grpc::NotFound => Code::NotFound,
        Grpc::FailedPrecondition | Grpc::AlreadyExists | Grpc::Aborted => Code::Conflict,
        Grpc::Unavailable => Code::Unavailable,
        Grpc::PermissionDenied | Grpc::Unauthenticated => Code::Permission,
        Grpc::DeadlineExceeded => Code::Timeout,
        Grpc::Cancelled => Code::Cancelled,
        Grpc::ResourceExhausted | Grpc::OutOfRange => Code::Exhausted,
        Grpc::Unimplemented => Code::Unsupported,
        Grpc::Ok | Grpc::Unknown | Grpc::Internal | Grpc::DataLoss => Code::Failed,
    }
}

/// Cuts at a character boundary.
fn clip(mut text: String) -> String {
    if text.len() > MESSAGE_LIMIT {
        let mut end = MESSAGE_LIMIT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Code; 10] = [
        Code::Invalid,
        Code::NotFound,
        Code::Conflict,
        Code::Unavailable,
        Code::Permission,
        Code::Timeout,
        Code::Cancelled,
        Code::Exhausted,
        Code::Unsupported,
        Code::Failed,
    ];

    proptest! {
        #[test]
        fn nothing_is_lost_on_the_wire(
            code in prop::sample::select(ALL.to_vec()),
            reason in "[A-Z][A-Za-z]{0,40}",
            message in any::<String>(),
            hint in any::<String>(),
        ) {
            let error = Error { code, reason, message, hint };
            // Through the header form, as a real call sends it.
            let headers = to_status(error.clone()).into_http::<()>().into_parts().0.headers;
            let status = Status::from_header_map(&headers).expect("a status");
            prop_assert_eq!(from_status(status), error);
        }
    }

    #[test]
    fn a_huge_message_is_cut_at_a_character() {
        let sent = to_status(Error::failed("Big", "ä".repeat(MESSAGE_LIMIT)));
        let got = from_status(sent);
        assert!(got.message.len() <= MESSAGE_LIMIT + '…'.len_utf8());
        assert!(got.message.ends_with('…'));
    }

    #[test]
    fn statuses_of_others_keep_their_class() {
        let error = from_status(Status::deadline_exceeded("too slow"));
        assert_eq!(
            (error.code, error.reason.as_str()),
            (Code::Timeout, "DeadlineExceeded")
        );
        let error = from_status(Status::unimplemented("?"));
        assert_eq!(error.code, Code::Unsupported);
        let error = from_status(Status::unavailable("gone"));
        assert_eq!(error.code, Code::Unavailable);
    }
}
