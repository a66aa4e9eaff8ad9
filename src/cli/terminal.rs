//! The terminal in raw mode, and back.

use std::io;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

use crate::api::v1::WindowSize;

/// Standard input in raw mode. Dropping it gives the terminal back as it was,
/// however the verb ends.
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// Makes standard input raw: every key goes to the process, none is handled
    /// here (termios(3), cfmakeraw).
    ///
    /// # Errors
    /// When standard input is no terminal.
    pub fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Whatever was typed but not read was meant for the process: drop it.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}

/// Whether standard input is a terminal.
pub fn input_is_terminal() -> bool {
    isatty(io::stdin())
}

/// Size of the terminal behind standard output, else standard input.
pub fn size() -> Option<WindowSize> {
    let size = tcgetwinsize(io::stdout())
        .or_else(|_| tcgetwinsize(io::stdin()))
        .ok()?;
    Some(WindowSize {
        rows: size.ws_row.into(),
        columns: size.ws_col.into(),
    })
}
