//! Follows the events of a call: progress to standard error, results to the verb.

use futures::StreamExt;

use super::context::Context;
use super::failure::Failure;
use super::progress::Show;
use crate::api::v1::ResourceResult;
use crate::api::{Code, Error, v1};
use crate::client::EventStream;

/// Follows to the end; `each` sees every result as it comes.
///
/// # Errors
/// A failure of the call itself; failed results are not one.
pub async fn follow(
    context: &Context,
    mut events: EventStream,
    mut each: impl FnMut(&ResourceResult) -> Result<(), Failure>,
) -> Result<Vec<ResourceResult>, Failure> {
    let mut show = Show::new();
    let mut results = Vec::new();
    while let Some(event) = events.next().await {
        match event?.event {
            Some(v1::event::Event::Progress(message)) if message.recorded => {
                context.recorded.borrow_mut().push(message.text);
            }
            Some(v1::event::Event::Progress(message)) => show.update(&message),
            Some(v1::event::Event::Result(result)) => {
                if result.error.is_none() {
                    let kind = result.kind.to_ascii_lowercase();
                    let note = format!("{kind}/{} {}", result.name, result.action);
                    context.done.borrow_mut().push(note);
                }
                show.aside(|| -> Result<(), Failure> {
                    each(&result)?;
                    context.out.flush()
                })?;
                results.push(result);
            }
            None => {}
        }
    }
    Ok(results)
}

/// The failure of a call on several objects: none when all went well. With one
/// class among the failures that class decides the exit code.
pub fn failures(results: &[ResourceResult], message: &str) -> Option<Error> {
    let mut codes = results
        .iter()
        .filter(|result| result.action == "failed" || result.error.is_some())
        .map(|result| match &result.error {
            Some(error) => Code::from_wire(&error.code),
            None => Code::Failed,
        });
    let first = codes.next()?;
    let code = if codes.all(|code| code == first) {
        first
    } else {
        Code::Failed
    };
    Some(Error::new(code, "SomeFailed", message))
}

/// The failure of a call on one object, in its own words.
pub fn single_failure(results: &[ResourceResult]) -> Option<Error> {
    let failed = results
        .iter()
        .find(|result| result.action == "failed" || result.error.is_some())?;
    Some(match &failed.error {
        Some(error) => error.clone().into(),
        None => Error::failed(
            "Failed",
            format!(
                "{} {:?} failed",
                failed.kind.to_ascii_lowercase(),
                failed.name
            ),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: Code) -> ResourceResult {
        ResourceResult {
            action: "failed".into(),
            error: Some((&Error::new(code, "R", "m")).into()),
            ..Default::default()
        }
    }

    #[test]
    fn the_common_class_decides_the_exit_code() {
        let fine = ResourceResult {
            action: "created".into(),
            ..Default::default()
        };
        let code = |results: &[ResourceResult]| failures(results, "x").map(|e| e.code);
        assert_eq!(code(std::slice::from_ref(&fine)), None);
        assert_eq!(code(&[fine, failed(Code::NotFound)]), Some(Code::NotFound));
        let mixed = [failed(Code::NotFound), failed(Code::Conflict)];
        assert_eq!(code(&mixed), Some(Code::Failed));
        let own = single_failure(&[failed(Code::Conflict)]).expect("failure");
        assert_eq!((own.code, own.reason.as_str()), (Code::Conflict, "R"));
    }
}
