//! The signals that ask a verb to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::api::{Error, Result};

/// Which signal asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// Ctrl-C.
    CtrlC,
    /// A polite request.
    Terminate,
    /// The terminal is gone.
    Hangup,
}

impl Interrupt {
    /// As shells report an end by signal: 128 and its number.
    pub fn exit_code(self) -> u8 {
        128 + self.number()
    }

    /// Number of the signal (signal(7)).
    pub fn number(self) -> u8 {
        match self {
            Interrupt::Hangup => 1,
            Interrupt::CtrlC => 2,
            Interrupt::Terminate => 15,
        }
    }
}

/// A source of such signals. From its making on they no longer end the process.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Takes the signals over.
    ///
    /// # Errors
    /// When the kernel refuses the handlers.
    pub fn take() -> Result<Self> {
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hangup: on(SignalKind::hangup())?,
        })
    }

    /// The next one.
    pub async fn next(&mut self) -> Interrupt {
        tokio::select! {
            _ = self.interrupt.recv() => Interrupt::CtrlC,
            _ = self.terminate.recv() => Interrupt::Terminate,
            _ = self.hangup.recv() => Interrupt::Hangup,
        }
    }
}

/// Waits for one of the signals.
///
/// # Errors
/// When the kernel refuses the handlers.
pub async fn interrupted() -> Result<Interrupt> {
    Ok(Signals::take()?.next().await)
}

/// A handler for one kind.
///
/// # Errors
/// When the kernel refuses it.
pub fn on(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|e| Error::failed("Signals", format!("taking over a signal: {e}")))
}
