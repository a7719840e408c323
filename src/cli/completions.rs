//! `firedrill completions`: what makes a shell ask `complete` how a line could go on.

use clap_complete::Shell;

use super::Failure;
use super::complete::{ASKED, SHELLS};
use super::output::Output;

/// What `completions` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  source <(firedrill completions bash)
  source <(firedrill completions zsh)      (after compinit)
  firedrill completions fish > ~/.config/fish/completions/firedrill.fish

The shell asks `firedrill`, which asks the instance of --url or FIREDRILL_URL:
its proxies, rules, partitions and services are completed.")]
pub(super) struct Args {
    /// Whose
    shell: Shell,
}

pub(super) fn run(args: &Args, out: &Output) -> Result<(), Failure> {
    let name = args.shell.to_string();
    let shell = SHELLS
        .completer(&name)
        .ok_or_else(|| Failure::usage(format!("nothing is known of {name}"), "see `--help`"))?;
    let mut script = Vec::new();
    let written =
        shell.write_registration(ASKED, "firedrill", "firedrill", "firedrill", &mut script);
    written.map_err(Failure::of_the_system)?;
    out.text(&String::from_utf8_lossy(&script))
}
