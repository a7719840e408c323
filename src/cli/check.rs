//! `firedrill check`.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::failure::{Failure, USAGE};
use super::output::Output;
use crate::config::{self, AnyFile, Config, Drill, Problem};

/// What `check` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A drill's file is known by its words, and checked as one.

Problems go to stderr, a line each: FILE:LINE:COLUMN: PATH: MESSAGE
With --json they are data, and go to stdout. Exit code 2 if there are any.")]
pub(super) struct Args {
    /// The file
    file: PathBuf,
}

pub(super) fn run(args: &Args, out: &Output) -> Result<(), Failure> {
    let file = args.file.display().to_string();
    match config::load_any(&args.file) {
        Ok(AnyFile::Drill(drill)) if out.json => out.object(&drill_as_data(&file, &drill)),
        Ok(AnyFile::Drill(drill)) => out.text(&format!("{file}: {}: ok", drill_summary(&drill))),
        Ok(AnyFile::Config(config)) if out.json => out.object(&json!({
            "file": file,
            "ok": true,
            "proxies": config.proxies.len(),
            "rules": config.rules.len(),
            "partitions": config.partitions.len(),
            "problems": [],
        })),
        Ok(AnyFile::Config(config)) => out.text(&format!("{file}: {}: ok", summary(&config))),
        Err(problems) if out.json => {
            let list: Vec<_> = problems.list.iter().map(problem).collect();
            out.object(&json!({ "file": file, "ok": false, "problems": list }))?;
            Err(Failure::Said(USAGE))
        }
        Err(problems) => Err(problems.into()),
    }
}

pub(super) fn problem(problem: &Problem) -> Value {
    json!({
        "line": problem.line,
        "column": problem.column,
        "path": problem.path,
        "message": problem.message,
        "hint": problem.hint,
    })
}

fn drill_as_data(file: &str, drill: &Drill) -> Value {
    json!({
        "file": file,
        "ok": true,
        "drill": drill.name,
        "timeline": drill.timeline.len(),
        "promises": drill.promises.len(),
        "problems": [],
    })
}

/// `the drill lost-answer, 2 things go wrong, 3 promises`
fn drill_summary(drill: &Drill) -> String {
    let name = drill.name.as_deref().unwrap_or_default();
    let wrong = count(drill.timeline.len(), "thing goes wrong", "things go wrong");
    let promises = count(drill.promises.len(), "promise", "promises");
    format!("the drill {name}, {wrong}, {promises}")
}

pub(super) fn count(n: usize, one: &str, many: &str) -> String {
    match n {
        1 => format!("1 {one}"),
        n => format!("{n} {many}"),
    }
}

/// `4 proxies, 3 rules, 1 partition`
fn summary(config: &Config) -> String {
    [
        count(config.proxies.len(), "proxy", "proxies"),
        count(config.rules.len(), "rule", "rules"),
        count(config.partitions.len(), "partition", "partitions"),
    ]
    .join(", ")
}
