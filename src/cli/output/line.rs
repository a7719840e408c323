//! A last line on a terminal's stderr that is written anew in place, below what stays.

use std::io::{self, IsTerminal, Write};

/// The line. Where stderr is no terminal there is none, and only what stays is written.
#[derive(Debug)]
pub(in crate::cli) struct Line {
    terminal: bool,
    shown: bool,
}

impl Line {
    pub(in crate::cli) fn new() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        Self {
            terminal: io::stderr().is_terminal() && !dumb,
            shown: false,
        }
    }

    /// Writes the line anew.
    pub(in crate::cli) fn show(&mut self, text: &str) {
        if !self.terminal {
            return;
        }
        let size = rustix::termios::tcgetwinsize(io::stderr()).ok();
        let width = size.map(|size| size.ws_col).filter(|width| *width > 0);
        let text = super::short(&super::clean(text), width.unwrap_or(80).into());
        self.shown = true;
        // When stderr is gone, nobody is left to tell.
        let _ = write!(io::stderr(), "\r{text}\x1b[K");
    }

    /// Writes something that stays.
    pub(in crate::cli) fn note(&mut self, text: &str) {
        self.clear();
        let text: Vec<_> = text.lines().map(super::clean).collect();
        // When stderr is gone, nobody is left to tell.
        let _ = writeln!(anstream::stderr(), "{}", text.join("\n"));
    }

    /// Takes the line away.
    pub(in crate::cli) fn clear(&mut self) {
        if self.shown {
            self.shown = false;
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.clear();
    }
}
