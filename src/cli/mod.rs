//! The command line: a file a command. Data goes to stdout, everything else to stderr.
//!
//! Owns what users type and read. Commands that ask a running Firedrill do so over its API, so they
//! work from anywhere; `output` is the only one that prints.

mod ca;
mod check;
mod complete;
mod completions;
mod demo;
mod drill;
mod events;
mod evidence;
mod failure;
mod findings;
mod heal;
mod health;
mod heartbeat;
mod inject;
pub mod logs;
mod man;
mod moment;
mod output;
mod partition;
mod reload;
mod rule;
mod schedule;
mod schema;
mod serve;
mod status;
mod story;
mod targets;
mod verbs;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

use crate::units;

pub use failure::Failure;
use output::Output;
use targets::Targets;

/// A proxy that breaks the network on purpose and shows what each side saw
#[derive(Debug, Parser)]
#[command(name = "firedrill", version, term_width = 80, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    whom: targets::Whom,

    /// Print one JSON object (of records: one a line)
    #[arg(long, global = true, display_order = 901)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  firedrill serve -c firedrill.yaml
  firedrill serve --proxy 'payment=127.0.0.1:7001->payment:8080?protocol=http'
  firedrill inject payment delay latency=300ms --for 30s
  firedrill inject payment response_loss --method POST --path '/authorize/*'
  firedrill partition checkout payment,orders --for 1m
  firedrill evidence --class unseen
  firedrill findings --since 5m
  firedrill heal

A token is taken from FIREDRILL_TOKEN or from the file that
FIREDRILL_TOKEN_FILE names, the level of logs from RUST_LOG.
Exit codes: 0 done, 1 failed, 2 bad file or usage; a drill's are its own.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxies of a file or of the command line, and the control port
    Serve(serve::Args),
    /// Say everything that is wrong with a file
    Check(check::Args),
    /// Make a local CA for proxies that speak TLS
    Ca(ca::Args),
    /// Drill on a small stack that comes with Firedrill
    Demo(demo::Args),
    /// Show proxies, rules and partitions, and how they stand
    Status(status::Args),
    /// Say by the exit code whether it takes traffic
    Health,
    /// Make something go wrong on a proxy: make a rule and enable it
    Inject(Box<inject::Args>),
    /// List rules, show one, switch it, delete it
    Rule(rule::Args),
    /// Cut services from each other
    Partition(Box<partition::Args>),
    /// Disable every rule and every partition, at once
    Heal,
    /// Read the file again, and apply what is different
    Reload,
    /// Show changes, and who made them
    Events(events::Args),
    /// Say that a controller is still there
    Heartbeat(heartbeat::Args),
    /// Show what each side of an operation saw
    Evidence(evidence::Args),
    /// Show what the records tell of callers and services
    Findings(findings::Args),
    /// Run a drill: an experiment in one file, with a verdict and a report
    Drill(drill::Args),
    /// Print the JSON Schema of a file, or the OpenAPI document of the API
    Schema(schema::Args),
    /// Print the completions of a shell
    Completions(completions::Args),
    /// Print a manual page, or write all of them
    Man(man::Args),
}

impl Cli {
    /// What is logged when `RUST_LOG` says nothing: a server tells of itself, a command does not.
    #[must_use]
    pub fn log_level(&self) -> &'static str {
        match self.command {
            Command::Serve(_) | Command::Demo(demo::Args { serve: true, .. }) => "info",
            // It breaks things on purpose, and says so itself.
            Command::Demo(_) => "error",
            _ => "warn",
        }
    }

    /// How it is written.
    #[must_use]
    pub fn log_format(&self) -> logs::Format {
        match &self.command {
            Command::Serve(args) => args.log_format,
            _ => logs::Format::Text,
        }
    }
}

/// Answers a shell that asks how a line could go on, if one does.
#[must_use]
pub fn complete() -> bool {
    complete::answer()
}

/// Does what was asked for.
///
/// # Errors
/// A [`Failure`], for [`exit`].
pub fn run(cli: Cli) -> Result<(), Failure> {
    let out = Output::new(cli.json);
    let targets = || Targets::new(&cli.whom);
    match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(&args, &out),
        Command::Ca(args) => ca::run(&args, &out),
        Command::Demo(args) => demo::run(&args, &out),
        Command::Drill(args) => drill::run(&args, &cli.whom, &out),
        Command::Schema(args) => schema::run(&args, &out),
        Command::Completions(args) => completions::run(&args, &out),
        Command::Man(args) => man::run(&args, &out),
        Command::Status(args) => ask(status::run(&args, &targets()?, &out)),
        Command::Health => ask(health::run(&targets()?, &out)),
        Command::Inject(args) => ask(inject::run(&args, &targets()?, &out)),
        Command::Rule(args) => ask(rule::run(&args, &targets()?, &out)),
        Command::Partition(args) => ask(partition::run(&args, &targets()?, &out)),
        Command::Heal => ask(heal::run(&targets()?, &out)),
        Command::Reload => ask(reload::run(&targets()?, &out)),
        Command::Events(args) => ask(events::run(&args, &targets()?, &out)),
        Command::Heartbeat(args) => {
            let named = cli.whom.controller.is_some();
            ask(heartbeat::run(&args, named, &targets()?, &out))
        }
        Command::Evidence(args) => ask(evidence::run(args, &targets()?, &out)),
        Command::Findings(findings::Args {
            explain: Some(name),
            ..
        }) => findings::explain(&name, &out),
        Command::Findings(args) => ask(findings::run(args, &targets()?, &out)),
    }
}

/// What clap has to say: help and the version are data, the rest is a usage error.
#[must_use]
pub fn usage(error: clap::Error) -> Failure {
    output::usage(&error)
}

/// Prints what went wrong, and answers the exit code.
#[must_use]
pub fn exit(ended: Result<(), Failure>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Does what a command asks of running proxies.
fn ask(asking: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    runtime()?.block_on(asking)
}

/// Does something that runs proxies.
fn run_proxies<T>(running: impl Future<Output = anyhow::Result<T>>) -> Result<T, Failure> {
    let ended = runtime()?.block_on(running);
    ended.map_err(|error| Failure::of_running(&error))
}

/// One thread: it waits for sockets and signals only. Proxies have threads of their own.
fn runtime() -> Result<Runtime, Failure> {
    let built = Builder::new_current_thread().enable_all().build();
    built.map_err(Failure::of_the_system)
}

/// A value of `--for`.
fn lifetime(text: &str) -> Result<String, String> {
    if text == "forever" {
        return Ok(text.to_owned());
    }
    let checked = units::parse_duration(text).map(|_| text.to_owned());
    checked.map_err(|_| "expected a duration such as `30s` or `1m30s`, or `forever`".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn commands_are_well_formed_and_examples_fit_80_columns() {
        let mut command = Cli::command();
        command.clone().debug_assert();
        command.build();
        let mut all: Vec<_> = command.get_subcommands_mut().collect();
        assert!(all.len() > 10);
        for command in &mut all {
            let help = command.render_help().to_string();
            let long = help.lines().find(|line| line.chars().count() > 80);
            assert_eq!(long, None, "{}", command.get_name());
        }
    }
}
