//! The `firedrill` binary: parse, start logging, map the result to an exit code.

use std::process::ExitCode;

use clap::Parser;
use firedrill::cli::{self, Cli};

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
        // Data has stdout for itself.
        cli::logs::start(cli.log_level(), cli.log_format());
        cli::run(cli)
    });
    cli::exit(ended)
}
