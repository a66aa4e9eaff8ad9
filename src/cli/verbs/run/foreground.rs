//! Following a cell to its end.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use super::{Run, Up, now, source};
use crate::api::{Code, v1};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::follow::{follow, single_failure};
use crate::cli::signals::Signals;
use crate::cli::workload;
use crate::client::Kukeon;

/// How long the rest of the output may take to come after the end.
const REST: Duration = Duration::from_secs(5);

/// Brings the cell up, shows its output and gives its exit code.
pub async fn run(run: &Run, context: &Context) -> Outcome {
    let mut signals = Signals::take()?;
    let since = now();
    let up = tokio::select! {
        biased;
        signal = signals.next() => {
            crate::cli::failure::say!(
                "Interrupted while the cell was brought up; see `kuke get cells` for what is there."
            );
            return Err(Failure::Exit(signal.exit_code()));
        }
        up = source::bring_up(run, context) => up?,
    };
    // Standard output belongs to the workload.
    if context.config.verbose {
        crate::cli::failure::say!("{}", up.text());
    }
    let kukeon = context.kukeon().await?;
    let container = run
        .container
        .clone()
        .or_else(|| up.containers.first().cloned())
        .unwrap_or_default();
    let since = if up.created || !up.started {
        String::new()
    } else {
        since
    };
    let work = Work {
        context,
        kukeon,
        up,
        container,
        since,
    };
    let (ended, interrupted) = work.follow_to_end(&mut signals).await;
    let cleaned = work.clean_up(run, &ended, interrupted).await;
    // How the work ended is the more important news.
    ended.and_then(|code| cleaned.map(|()| code))
}

struct Work<'a> {
    context: &'a Context,
    kukeon: Arc<dyn Kukeon>,
    up: Up,
    container: String,
    /// Output of earlier runs is left out.
    since: String,
}

impl Work<'_> {
    /// Shows the output until the end; a first signal stops the cell, a second
    /// one kills it. Also says whether a signal came.
    async fn follow_to_end(&self, signals: &mut Signals) -> (Outcome, bool) {
        let mut ending = Box::pin(self.output_and_code());
        let mut changing = None;
        let mut interrupted = false;
        loop {
            let changed = async {
                match &mut changing {
                    Some(change) => change.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                outcome = &mut ending => return (outcome, interrupted),
                done = changed => {
                    changing = None;
                    if let Err(failure) = done {
                        return (Err(failure), true);
                    }
                }
                _ = signals.next() => {
                    let action = if interrupted { "kill" } else { "stop" };
                    if !interrupted {
                        crate::cli::failure::say!("Stopping cell {:?}; once more kills it.", self.up.name);
                    }
                    interrupted = true;
                    // A stop that waits for its grace is dropped for the kill.
                    changing = Some(Box::pin(self.change(action)));
                }
            }
        }
    }

    /// Shows the output and waits for the code, both from the start: after the
    /// end the code may be gone with the task.
    async fn output_and_code(&self) -> Outcome {
        let output = self.output();
        let code = self.code();
        tokio::pin!(output, code);
        tokio::select! {
            done = &mut output => {
                done?;
                code.await
            }
            code = &mut code => {
                let code = code?;
                match tokio::time::timeout(REST, output).await {
                    Ok(done) => done?,
                    Err(_) => crate::cli::failure::say!("Warning: the end of the output did not come"),
                }
                Ok(code)
            }
        }
    }

    async fn output(&self) -> Result<(), Failure> {
        let request = v1::LogsRequest {
            name: self.up.name.clone(),
            scope: Some(self.up.scope.clone()),
            container: self.container.clone(),
            follow: true,
            tail: None,
            since: self.since.clone(),
        };
        let mut chunks = self.kukeon.logs(request).await?.ready_chunks(64);
        while let Some(ready) = chunks.next().await {
            for chunk in ready {
                let chunk = chunk?;
                if chunk.stream == "stderr" {
                    workload::to_stderr(&chunk.data);
                } else {
                    self.context.out.buffer(&chunk.data)?;
                }
            }
            self.context.out.flush()?;
        }
        Ok(())
    }

    async fn code(&self) -> Outcome {
        let request = v1::WaitRequest {
            name: self.up.name.clone(),
            scope: Some(self.up.scope.clone()),
            container: self.container.clone(),
        };
        let ended = self.kukeon.wait(request).await?;
        Ok(workload::as_code(ended.exit_code))
    }

    async fn change(&self, action: &str) -> Result<(), Failure> {
        let request = v1::TransitionRequest {
            name: self.up.name.clone(),
            scope: Some(self.up.scope.clone()),
            action: action.to_owned(),
            grace_seconds: None,
        };
        let events = self.kukeon.transition(request).await?;
        let results = follow(self.context, events, |_| Ok(())).await?;
        match single_failure(&results) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// `--rm`: gone however it ended. Without it a cell whose output nobody
    /// reads any more is stopped.
    async fn clean_up(&self, run: &Run, ended: &Outcome, interrupted: bool) -> Result<(), Failure> {
        let unread = matches!(ended, Err(Failure::ClosedPipe));
        if !run.rm {
            return if unread {
                self.change("stop").await
            } else {
                Ok(())
            };
        }
        let request = v1::DeleteRequest {
            kind: "Cell".to_owned(),
            name: self.up.name.clone(),
            scope: Some(self.up.scope.clone()),
            ignore_not_found: true,
            grace_seconds: (interrupted || unread).then_some(0),
            ..Default::default()
        };
        let events = self.kukeon.delete(request).await?;
        let results = follow(self.context, events, |_| Ok(())).await?;
        match single_failure(&results) {
            Some(error) if error.code != Code::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}
