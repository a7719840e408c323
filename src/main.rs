//! The `firedrill` binary: parse, start logging, map the result to an exit code.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use firedrill::cli::{self, Cli};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let ended = Cli::try_parse().map_err(cli::usage).and_then(|cli| {
        start_logging(cli.log_level());
        cli::run(cli)
    });
    cli::exit(ended)
}

/// To stderr: stdout is for data. `RUST_LOG` chooses what.
fn start_logging(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && !plain)
        .with_env_filter(filter)
        .init();
}
