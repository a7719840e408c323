//! The `firedrill` binary: parse, start logging, map the result to an exit code.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use firedrill::cli::{self, Cli};
use tracing_subscriber::EnvFilter;

/// It keeps things of one size together, so that the memory of connections that are gone can be
/// given back although their records stay.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What is free goes back to the system a second later, by a thread that it has for that (musl
/// knows none: there it goes back when more is asked for).
#[cfg(not(target_env = "musl"))]
#[allow(unsafe_code)]
// SAFETY: jemalloc reads a pointer to a C string under this name, and nothing else has the name.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_CONF: &[u8; 60] =
    b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0\0";

fn main() -> ExitCode {
    if cli::complete() {
        return ExitCode::SUCCESS;
    }
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
