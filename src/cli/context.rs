//! What every verb is given: where it works, where its output goes, and what it
//! did so far.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::args::{Shape, Verb};
use super::config::{Config, Globals, Place};
use super::failure::{Failure, Outcome};
use super::output::Out;
use super::{InProcess, signals};
use crate::api::{Code, Error, Result};
use crate::client::{Kukeon, Remote};

/// How long interrupted work may take to become consistent.
const SETTLE: Duration = Duration::from_secs(10);

/// What every verb is given.
pub struct Context {
    /// Decided settings.
    pub config: Config,
    /// Standard output.
    pub out: Out,
    /// What was done, for people who interrupt.
    pub done: RefCell<Vec<String>>,
    /// What is recorded, and goes on without us where a daemon runs.
    pub recorded: RefCell<Vec<String>>,
    /// The capability in this process, once it was opened.
    opened: RefCell<Option<Arc<dyn Kukeon>>>,
    shape: Shape,
    in_process: InProcess,
}

impl Context {
    /// Decides the settings and starts logging.
    ///
    /// # Errors
    /// See [`Config::resolve`].
    pub fn new(globals: Globals, shape: Shape, in_process: InProcess) -> Result<Self> {
        let config = Config::resolve(&globals, |name| std::env::var(name).ok())?;
        for warning in &config.warnings {
            crate::cli::failure::say!("Warning: {warning}");
        }
        if config.verbose {
            log_to_stderr(config.resolved.log_level.as_str());
        }
        Ok(Self {
            config,
            out: Out::stdout(),
            done: RefCell::default(),
            recorded: RefCell::default(),
            opened: RefCell::default(),
            shape,
            in_process,
        })
    }

    /// The capability: the daemon, or this process.
    ///
    /// # Errors
    /// [`Code::Unavailable`] without a daemon; [`Code::Permission`] for work in
    /// this process by another user than root.
    pub async fn kukeon(&self) -> Result<Arc<dyn Kukeon>> {
        match &self.config.place {
            Place::Daemon(socket) => {
                Ok(Arc::new(Remote::connect(socket, self.config.limit).await?))
            }
            Place::Here => self.here().await,
        }
    }

    /// The capability in this process, whatever was decided.
    ///
    /// # Errors
    /// [`Code::Permission`] for another user than root.
    pub async fn here(&self) -> Result<Arc<dyn Kukeon>> {
        self.need_root()?;
        if let Some(opened) = self.opened.borrow().clone() {
            return Ok(opened);
        }
        let opened = (self.in_process)(self.config.resolved.settings.clone()).await?;
        *self.opened.borrow_mut() = Some(opened.clone());
        Ok(opened)
    }

    /// Refuses another user than root.
    ///
    /// # Errors
    /// [`Code::Permission`].
    pub fn need_root(&self) -> Result<()> {
        if nix::unistd::geteuid().is_root() {
            return Ok(());
        }
        let verb = self.shape.name;
        Err(Error::new(
            Code::Permission,
            "RootRequired",
            format!("command must run as root: `kuke {verb}` works on the host itself here"),
        )
        .hint(format!("run `sudo kuke {verb} …`")))
    }

    /// Whether verbs work in this process.
    pub fn works_here(&self) -> bool {
        self.config.place == Place::Here
    }

    /// Runs a verb to its exit code.
    pub fn run(self, verb: Verb) -> u8 {
        let runtime = match self.runtime() {
            Ok(runtime) => runtime,
            Err(error) => {
                return Failure::from(Error::failed("Runtime", error.to_string())).report();
            }
        };
        let outcome = runtime.block_on(async {
            let outcome = if self.shape.owns_signals {
                verb.run(&self).await
            } else {
                tokio::select! {
                    biased;
                    signal = signals::interrupted() => Err(self.interrupted(signal?)),
                    outcome = verb.run(&self) => outcome,
                }
            };
            self.settle().await;
            outcome
        });
        // What was printed comes out before what is told about a failure.
        let outcome: Outcome = outcome.and_then(|code| {
            self.out.flush()?;
            Ok(code)
        });
        let code = outcome.unwrap_or_else(|failure| {
            if !matches!(failure, Failure::ClosedPipe) {
                let _ = self.out.flush();
            }
            failure.report()
        });
        runtime.shutdown_background();
        code
    }

    /// One thread is enough to wait for a daemon; work in this process gets two.
    fn runtime(&self) -> std::io::Result<Runtime> {
        let mut builder = if self.works_here() || self.shape.in_process {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(2);
            builder
        } else {
            tokio::runtime::Builder::new_current_thread()
        };
        builder.enable_all().build()
    }

    /// Lets work in this process that lost its caller reach a consistent state.
    /// A signal ends the waiting: the next run then finishes it.
    async fn settle(&self) {
        let Some(kukeon) = self.opened.borrow_mut().take() else {
            return;
        };
        tokio::select! {
            () = kukeon.settle() => {}
            () = tokio::time::sleep(SETTLE) => {}
            _ = signals::interrupted() => {}
        }
    }

    /// Says what state things are in after Ctrl-C.
    fn interrupted(&self, signal: signals::Interrupt) -> Failure {
        let (done, recorded) = (self.done.borrow(), self.recorded.borrow());
        if !self.shape.changes {
            crate::cli::failure::say!("Interrupted.");
        } else if !recorded.is_empty() {
            let next = match self.works_here() {
                true => "run the same command again to see it through",
                false => "kukeond goes on with it, and `kuke kill` ends a grace at once",
            };
            crate::cli::failure::say!("Interrupted; recorded: {}. {next}.", recorded.join(", "));
        } else {
            let so_far = if done.is_empty() {
                "nothing is finished".to_owned()
            } else {
                format!("done so far: {}", done.join(", "))
            };
            crate::cli::failure::say!(
                "Interrupted; {so_far}. Work in hand stops at its next step and leaves nothing \
                 half-done that a second run does not finish: run the same command again to go on."
            );
        }
        Failure::Exit(signal.exit_code())
    }
}

fn log_to_stderr(level: &str) {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(format!(
            "warn,kukeon={level}"
        )))
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
}
