//! The only printer. Colour where a terminal is read, and never for meaning alone.

mod line;
mod screen;

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::failure::{Failure, USAGE};

pub(super) use line::Line;
pub(super) use screen::Screen;

/// Where data goes, and in which form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    /// JSON is wanted.
    pub(super) json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Text to stdout, whole, with a line's end.
    pub(super) fn text(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = anstream::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        if !text.ends_with('\n') {
            stdout.write_all(b"\n")?;
        }
        stdout.flush()?;
        Ok(())
    }

    /// One object, for people's eyes too.
    pub(super) fn object(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(Failure::of_the_system)?;
        self.text(&text)
    }

    /// Items as JSON Lines.
    pub(super) fn lines<T: Serialize>(&self, items: &[T]) -> Result<(), Failure> {
        let mut stdout = io::BufWriter::new(io::stdout().lock());
        for item in items {
            serde_json::to_writer(&mut stdout, item).map_err(io::Error::from)?;
            stdout.write_all(b"\n")?;
        }
        stdout.flush()?;
        Ok(())
    }

    /// Something to know that is not the data: to stderr.
    pub(super) fn note(&self, text: &str) {
        // When stderr is gone, nobody is left to tell.
        let _ = writeln!(anstream::stderr(), "{text}");
    }
}

/// Prints a failure, the last line a hint.
pub(super) fn failure(failure: &Failure) {
    let bold = Style::new().bold();
    let (message, hint) = match failure {
        Failure::Say { message, hint, .. } => (message, hint),
        Failure::Problems(problems) => {
            let hinted = problems.list.last().is_some_and(|p| p.hint.is_some());
            let mut text = problems.to_string();
            if !hinted {
                text += &format!("\n{bold}hint:{bold:#} `firedrill schema` describes the file");
            }
            // When stderr is gone, nobody is left to tell.
            let _ = writeln!(anstream::stderr(), "{text}");
            return;
        }
        Failure::Said(_) => return,
    };
    let message: Vec<_> = message.lines().map(clean).collect();
    let (message, hint) = (message.join("\n"), clean(hint));
    let red = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
    // When stderr is gone, nobody is left to tell.
    let _ = writeln!(
        anstream::stderr(),
        "{red}error:{red:#} {message}\n{bold}hint:{bold:#} {hint}"
    );
}

/// Prints what clap says: help to stdout, errors to stderr with our sort of hint.
pub(super) fn usage(error: &clap::Error) -> Failure {
    let text = error.render().ansi().to_string();
    if !error.use_stderr() {
        return match (Output { json: false }).text(&text) {
            Ok(()) => Failure::Said(0),
            Err(failure) => failure,
        };
    }
    let text = match text.split_once("For more information") {
        Some((said, _)) => said.trim_end(),
        None => text.trim_end(),
    };
    let help = error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    let hint = if help {
        "choose a command; `firedrill COMMAND --help` says more".to_owned()
    } else {
        format!("`{} --help` says more", asked())
    };
    let bold = Style::new().bold();
    // When stderr is gone, nobody is left to tell.
    let _ = writeln!(anstream::stderr(), "{text}\n\n{bold}hint:{bold:#} {hint}");
    Failure::Said(USAGE)
}

/// The command whose usage it was, as far as the arguments tell.
fn asked() -> String {
    let command = <super::Cli as clap::CommandFactory>::command();
    let named = std::env::args().skip(1).find(|word| {
        let mut commands = command.get_subcommands();
        commands.any(|c| c.get_name() == word)
    });
    named.map_or("firedrill".to_owned(), |name| format!("firedrill {name}"))
}

/// A table without lines, for terminals and pipes alike: no cell is wrapped. Columns of the given
/// numbers are of numbers.
pub(super) fn table<const N: usize>(
    header: [&str; N],
    numbers: &[usize],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row.map(|cell| clean(&cell)));
    }
    for (n, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if numbers.contains(&n) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// Text from elsewhere, so that it can't steer a terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// Paragraphs as lines of at most 80 characters, but for words that are longer.
pub(super) fn wrapped(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut at = 0;
        for word in line.split(' ') {
            let len = word.chars().count();
            if at > 0 && at + 1 + len > 80 {
                out.push('\n');
                at = 0;
            } else if at > 0 {
                out.push(' ');
                at += 1;
            }
            out.push_str(word);
            at += len;
        }
        out.push('\n');
    }
    out
}

/// At most so many characters, the last of them an ellipsis if there were more.
pub(super) fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// Lines whose cells stand below each other, as they come: a column grows, and never shrinks.
#[derive(Debug, Default)]
pub(super) struct Aligned {
    widths: Vec<usize>,
}

impl Aligned {
    /// Makes room for a line that is yet to come.
    pub(super) fn fit(&mut self, cells: &[String]) {
        self.widths.resize(self.widths.len().max(cells.len()), 0);
        for (width, cell) in self.widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }

    /// A line.
    pub(super) fn line(&mut self, cells: &[String]) -> String {
        self.fit(cells);
        let mut line = String::new();
        for (width, cell) in self.widths.iter().zip(cells) {
            line.push_str(cell);
            let pad = width - cell.chars().count() + 2;
            line.extend(std::iter::repeat_n(' ', pad));
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_and_can_not_steer_a_terminal() {
        let rows = [
            ["slow".to_owned(), "7".to_owned()],
            ["a\x1b[31mlonger".to_owned(), "12".to_owned()],
        ];
        insta::assert_snapshot!(table(["RULE", "N"], &[1], rows), @r#"
        RULE           N
        slow           7
        a�[31mlonger  12
        "#);
    }

    #[test]
    fn paragraphs_are_wrapped_between_words() {
        let text = format!("{} b\n\nc", "a".repeat(79));
        assert_eq!(wrapped(&text), format!("{}\nb\n\nc\n", "a".repeat(79)));
        assert_eq!(wrapped("a b\n"), "a b\n");
    }

    #[test]
    fn columns_grow_and_never_shrink() {
        let mut aligned = Aligned::default();
        let cells = |a: &str| [a.to_owned(), "x".to_owned()];
        assert_eq!(aligned.line(&cells("ab")), "ab  x\n");
        assert_eq!(aligned.line(&cells("abcd")), "abcd  x\n");
        assert_eq!(aligned.line(&cells("é")), "é     x\n");
        assert_eq!(short("abcdef", 4), "abc…");
    }
}
