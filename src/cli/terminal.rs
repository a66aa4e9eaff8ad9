//! The terminal in raw mode, and back.

use std::io;
use std::os::fd::AsFd;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

use crate::api::v1::WindowSize;

/// A terminal in raw mode. Dropping it gives the terminal back as it was,
/// however the verb ends.
pub struct Raw<F: AsFd> {
    terminal: F,
    before: Termios,
}

impl<F: AsFd> Raw<F> {
    /// Makes a terminal raw: every key goes to the process, none is handled here
    /// (termios(3), cfmakeraw).
    ///
    /// # Errors
    /// When it is no terminal.
    pub fn enter(terminal: F) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl<F: AsFd> Drop for Raw<F> {
    fn drop(&mut self) {
        // Whatever was typed but not read was meant for the process: drop it.
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
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

#[cfg(test)]
mod tests {
    use nix::pty::openpty;
    use rustix::termios::LocalModes;

    use super::*;

    fn modes(terminal: impl AsFd) -> LocalModes {
        tcgetattr(terminal).expect("attributes").local_modes
    }

    #[test]
    fn the_terminal_comes_back_as_it_was_also_after_a_panic() {
        let pty = openpty(None, None).expect("a terminal");
        let before = modes(&pty.slave);
        assert!(before.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG));
        let raw = Raw::enter(&pty.slave).expect("raw");
        let inside = modes(&pty.slave);
        assert!(!inside.intersects(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG));
        drop(raw);
        assert_eq!(modes(&pty.slave), before);

        let slave = &pty.slave;
        let panicked = std::panic::catch_unwind(|| {
            let _raw = Raw::enter(slave).expect("raw");
            panic!("on purpose");
        });
        assert!(panicked.is_err());
        assert_eq!(modes(&pty.slave), before);
    }

    #[test]
    fn what_is_no_terminal_is_refused() {
        let file = tempfile::tempfile().expect("file");
        assert!(Raw::enter(&file).is_err());
    }
}
