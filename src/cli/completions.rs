//! `firedrill completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use super::output::Output;
use super::{Cli, Failure};

/// What `completions` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  source <(firedrill completions bash)
  firedrill completions fish > ~/.config/fish/completions/firedrill.fish")]
pub(super) struct Args {
    /// Whose
    shell: Shell,
}

pub(super) fn run(args: &Args, out: &Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "firedrill", &mut script);
    out.text(&String::from_utf8_lossy(&script))
}
