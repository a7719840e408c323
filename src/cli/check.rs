//! `firedrill check`.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::failure::{Failure, USAGE};
use super::output::Output;
use crate::config::{self, Config, Problem};

/// What `check` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Problems go to stderr, a line each: FILE:LINE:COLUMN: PATH: MESSAGE
With --json they are data, and go to stdout. Exit code 2 if there are any.")]
pub(super) struct Args {
    /// The file
    file: PathBuf,
}

pub(super) fn run(args: &Args, out: &Output) -> Result<(), Failure> {
    let file = args.file.display().to_string();
    match config::load(&args.file) {
        Ok(config) if out.json => out.object(&json!({
            "file": file,
            "ok": true,
            "proxies": config.proxies.len(),
            "rules": config.rules.len(),
            "partitions": config.partitions.len(),
            "problems": [],
        })),
        Ok(config) => out.text(&format!("{file}: {}: ok", summary(&config))),
        Err(problems) if out.json => {
            let list: Vec<_> = problems.list.iter().map(problem).collect();
            out.object(&json!({ "file": file, "ok": false, "problems": list }))?;
            Err(Failure::Said(USAGE))
        }
        Err(problems) => Err(problems.into()),
    }
}

fn problem(problem: &Problem) -> Value {
    json!({
        "line": problem.line,
        "column": problem.column,
        "path": problem.path,
        "message": problem.message,
        "hint": problem.hint,
    })
}

/// `4 proxies, 3 rules, 1 partition`
fn summary(config: &Config) -> String {
    let count = |n: usize, one: &str, many: &str| match n {
        1 => format!("1 {one}"),
        n => format!("{n} {many}"),
    };
    [
        count(config.proxies.len(), "proxy", "proxies"),
        count(config.rules.len(), "rule", "rules"),
        count(config.partitions.len(), "partition", "partitions"),
    ]
    .join(", ")
}
