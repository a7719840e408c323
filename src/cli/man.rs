//! `firedrill man`: manual pages, made of what the commands say of themselves.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_complete::engine::ArgValueCompleter;
use clap_mangen::Man;
use serde_json::json;

use super::complete;
use super::output::Output;
use super::{Cli, Failure};

/// What `man` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  firedrill man | man -l -
  firedrill man inject | man -l -
  firedrill man --out ~/.local/share/man/man1")]
pub(super) struct Args {
    /// The command that is described [default: the whole]
    #[arg(add = ArgValueCompleter::new(complete::commands))]
    command: Vec<String>,

    /// Write all pages to this folder
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &Args, out: &Output) -> Result<(), Failure> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    if let Some(dir) = &args.out {
        let mut written = Vec::new();
        let done = fs::create_dir_all(dir).and_then(|()| write(&root, dir, &mut written));
        done.map_err(|error| Failure::Say {
            message: format!("can't write to {}: {error}", dir.display()),
            hint: "may this user write there?".to_owned(),
            exit: 1,
        })?;
        if out.json {
            return out.object(&json!({ "written": written }));
        }
        return out.text(&written.join("\n"));
    }
    let mut command = &root;
    for word in &args.command {
        command = command.find_subcommand(word).ok_or_else(|| {
            Failure::usage(
                format!("there is no command `{word}`"),
                "`firedrill --help` lists them",
            )
        })?;
    }
    let page = page(command).map_err(Failure::of_the_system)?;
    if out.json {
        return out.object(&json!({ "page": page }));
    }
    out.text(&page)
}

/// The page of a command, and those of its own commands.
fn write(command: &Command, dir: &Path, written: &mut Vec<String>) -> io::Result<()> {
    let file = dir.join(format!("{}.1", name(command)));
    fs::write(&file, page(command)?)?;
    written.push(file.display().to_string());
    let mut commands = command.get_subcommands().filter(|c| c.get_name() != "help");
    commands.try_for_each(|command| write(command, dir, written))
}

/// `firedrill-rule-ls`
fn name(command: &Command) -> String {
    let name = command.get_display_name();
    name.unwrap_or_else(|| command.get_name()).to_owned()
}

fn page(command: &Command) -> io::Result<String> {
    let mut page = Vec::new();
    let version = env!("CARGO_PKG_VERSION");
    Man::new(command.clone().version(version)).render(&mut page)?;
    let page = String::from_utf8_lossy(&page);
    let lines = page.lines().map(|line| match line.starts_with(".TH ") {
        // An argument that is empty would be taken for the one behind it.
        true => format!(
            ".TH {} 1 \"\" \"firedrill {version}\" Firedrill",
            name(command).to_uppercase()
        ),
        false => line.to_owned(),
    });
    let page: Vec<_> = lines.collect();
    // An empty line is a paragraph of its own, which no line's end can stand beside.
    Ok(page.join("\n").replace("\n.br\n\n.br\n", "\n.br\n") + "\n")
}
