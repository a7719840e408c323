//! What is logged, and how it is written: to stderr, as text or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One object a line: `timestamp`, `level`, `message`, and what else there is.
    Json,
}

/// Starts logging. `default`: what is logged when `RUST_LOG` says nothing.
pub fn start(default: &str, format: Format) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter);
    match format {
        Format::Text => log
            .with_ansi(std::io::stderr().is_terminal() && !plain)
            .init(),
        Format::Json => log.json().flatten_event(true).init(),
    }
}
