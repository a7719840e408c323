//! A terminal that is drawn anew in place, and left as it was.

use std::io::{self, IsTerminal, Write};

/// A screen of its own, and no cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// The terminal, as long as this lives.
#[derive(Debug)]
pub(in crate::cli) struct Screen(());

impl Screen {
    /// `None`: stdout is no terminal, or none that can be drawn on.
    pub(in crate::cli) fn open() -> io::Result<Option<Self>> {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        if dumb || !io::stdout().is_terminal() {
            return Ok(None);
        }
        let screen = Self(());
        write(ENTER)?;
        Ok(Some(screen))
    }

    /// Shows a text from the top, as much of it as there is room for.
    pub(in crate::cli) fn show(&self, text: &str) -> io::Result<()> {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
        let (columns, rows) = match size {
            Some(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col, size.ws_row),
            _ => (80, 24),
        };
        write(&frame(text, columns.into(), rows.into()))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // When the terminal is gone, nothing is left to restore.
        let _ = write(LEAVE);
    }
}

/// In one write, so that nobody sees half of it.
fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn frame(text: &str, columns: usize, rows: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    let room = if lines.len() > rows { rows - 1 } else { rows };
    let mut frame = "\x1b[H".to_owned();
    let mut shown: Vec<_> = lines
        .iter()
        .take(room)
        .map(|line| super::short(line, columns))
        .collect();
    if lines.len() > rows {
        let more = format!("… {} more lines", lines.len() - room);
        shown.push(super::short(&more, columns));
    }
    for (n, line) in shown.iter().enumerate() {
        if n > 0 {
            frame += "\r\n";
        }
        frame += line;
        frame += "\x1b[K";
    }
    frame + "\x1b[J"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_room_in_its_terminal() {
        assert_eq!(frame("a\nb", 80, 24), "\x1b[Ha\x1b[K\r\nb\x1b[K\x1b[J");
        let small = frame("12345\nb\nc\nd", 4, 3);
        assert_eq!(small, "\x1b[H123…\x1b[K\r\nb\x1b[K\r\n… 2…\x1b[K\x1b[J");
        assert_eq!(frame("abc", 1, 1), "\x1b[H…\x1b[K\x1b[J");
    }
}
