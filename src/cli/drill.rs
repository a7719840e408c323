//! `firedrill drill`: run one, check its file, set two runs side by side.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::check;
use super::failure::{Failure, USAGE};
use super::output::{Line, Output, clean, table};
use super::targets::{Targets, Whom};
use crate::client::{Client, DEFAULT_URL};
use crate::config::{self, Config, ControlConfig, Drill};
use crate::drill::plan::{Plan, To};
use crate::drill::report::{self, Report};
use crate::drill::{self, Event, Job, Refused};
use crate::seed;
use crate::serve::Instance;
use crate::units::format_duration;

/// What `drill` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run a drill
    Run(RunArgs),
    /// Say everything that is wrong with a drill's file, or what it will do
    Check(CheckArgs),
    /// Set two runs side by side
    Compare(CompareArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  firedrill drill run configs/drills/lost-answer.yaml
  firedrill drill run drill.yaml --report ./report --seed 42

Exit codes: 0 held, 1 a promise broke, 2 bad file or usage, 3 inconclusive (the
faults never bit, the load never ran, the system was not steady before),
4 halted, 5 faults could not be lifted.")]
struct RunArgs {
    /// The drill's file
    file: PathBuf,

    /// Write report.html, report.md, report.json and junit.xml to this folder
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,

    /// What chance is drawn from, instead of what the file says
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// The drill's file
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  firedrill drill compare before/report.json after/report.json")]
struct CompareArgs {
    /// The report.json of the first run
    first: PathBuf,

    /// The report.json of the second
    second: PathBuf,

    /// Also what reads alike in both
    #[arg(long)]
    all: bool,
}

pub(super) fn run(args: &Args, whom: &Whom, out: &Output) -> Result<(), Failure> {
    match &args.command {
        Command::Run(args) => run_drill(args, whom, out),
        Command::Check(args) => check_drill(args, out),
        Command::Compare(args) => compare(args, out),
    }
}

fn run_drill(args: &RunArgs, whom: &Whom, out: &Output) -> Result<(), Failure> {
    let drill = config::load_drill(&args.file)?;
    let seed = args.seed.or(drill.seed).unwrap_or_else(seed::choose);
    if let Some(folder) = &args.report {
        // Before anything goes wrong, not after.
        fs::create_dir_all(folder).map_err(|error| not_written(folder, &error))?;
    }
    let file = args.file.display().to_string();
    let again = again(args, &file, seed);
    let running = run_to_its_end(drill, file, again, seed, whom);
    let report = super::runtime()?.block_on(running)?;
    if let Some(folder) = &args.report {
        write(folder, &report)?;
        out.note(&format!(
            "the report is in {}",
            folder.join("report.html").display()
        ));
    }
    if out.json {
        out.object(&report)?;
    } else {
        let lines = report::summary(&report);
        let lines: Vec<_> = lines.lines().map(clean).collect();
        out.text(&lines.join("\n"))?;
    }
    match report.exit_code {
        0 => Ok(()),
        code => Err(Failure::Said(code)),
    }
}

/// How the same is done again.
fn again(args: &RunArgs, file: &str, seed: u64) -> String {
    let report = args.report.as_ref();
    let report = report.map_or(String::new(), |dir| format!(" --report {}", dir.display()));
    format!("firedrill drill run {file} --seed {seed}{report}")
}

async fn run_to_its_end(
    drill: Drill,
    file: String,
    again: String,
    seed: u64,
    whom: &Whom,
) -> Result<Report, Failure> {
    let own = match drill.proxies.is_empty() {
        true => None,
        false => Some(own_proxies(&drill, seed).await?),
    };
    let clients = match &own {
        Some((_, client)) => vec![client.clone()],
        None => {
            // Who says where on the command line means it.
            let unsaid = whom.url == [DEFAULT_URL];
            let urls = if unsaid && !drill.urls.is_empty() {
                &drill.urls
            } else {
                &whom.url
            };
            Targets::at(whom, urls)?.clients().to_vec()
        }
    };
    let (stop, stopped) = watch::channel(false);
    let mut signals = Vec::new();
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ] {
        signals.push(signal(kind).map_err(Failure::of_the_system)?);
    }
    let stopping = tokio::spawn(async move {
        let mut waiting: Vec<_> = signals.iter_mut().collect();
        let first = std::future::poll_fn(|cx| {
            let come = waiting.iter_mut().any(|s| s.poll_recv(cx).is_ready());
            if come {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        });
        first.await;
        stop.send_replace(true);
        // The channel stays open as long as the drill runs.
        std::future::pending::<()>().await;
    });
    let mut live = Live::new(&drill, seed);
    let job = Job {
        drill,
        file,
        again,
        clients,
        seed,
    };
    let ended = drill::run(job, stopped, &mut |event| live.tell(event)).await;
    drop(live);
    stopping.abort();
    if let Some((instance, _)) = own {
        instance.stop().await;
    }
    Ok(ended?)
}

/// Runs the proxies of the drill's own file in this process.
async fn own_proxies(drill: &Drill, seed: u64) -> Result<(Instance, Client), Failure> {
    let config = Config {
        seed: Some(seed),
        control: ControlConfig {
            listen: "127.0.0.1:0".to_owned(),
            ..ControlConfig::default()
        },
        identity: drill.identity.clone(),
        proxies: drill.proxies.clone(),
        ..Config::default()
    };
    let instance = Instance::start(config, None).await;
    let instance = instance.map_err(|error| Failure::of_running(&error))?;
    let client = Client::new(&format!("http://{}", instance.control), None)?;
    Ok((instance, client))
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Say {
            message: refused.message,
            hint: refused.hint,
            // The load never ran.
            exit: if refused.usage { USAGE } else { 3 },
        }
    }
}

/// What is shown while a drill runs.
struct Live {
    line: Line,
    phase: &'static str,
}

impl Live {
    fn new(drill: &Drill, seed: u64) -> Self {
        let mut line = Line::new();
        let name = drill.name.as_deref().unwrap_or_default();
        line.note(&format!(
            "drill {name}, seed {seed}: {}",
            drill.worksheet.promise
        ));
        Self { line, phase: "" }
    }

    fn tell(&mut self, event: Event) {
        match event {
            Event::Phase(phase, lasts) => {
                self.phase = phase;
                let lasts = format_duration(lasts);
                let what = match phase {
                    "warm_up" => format!("traffic flows for {lasts}"),
                    "before" => format!("is it steady? {lasts}"),
                    "during" => format!("the timeline: {lasts}"),
                    _ => format!("all is lifted; is it well again? {lasts} at most"),
                };
                self.line.note(&format!("{phase:8} {what}"));
            }
            Event::Step(after, what, error) => {
                let at = format!("{:.1}s", after.as_secs_f64());
                self.line.note(&match error {
                    None => format!("{at:>8} {what}"),
                    Some(error) => format!("{at:>8} {what}: FAILED: {error}"),
                });
            }
            Event::Progress(progress) => {
                let whole = |time: Duration| format_duration(Duration::from_secs(time.as_secs()));
                self.line.show(&format!(
                    "{} {}, {} left at most; {:.0}/s asked, {:.0}/s good",
                    self.phase,
                    whole(progress.elapsed),
                    whole(progress.left),
                    progress.offered,
                    progress.good
                ));
            }
            Event::Note(text) => self.line.note(&format!("note     {text}")),
        }
    }
}

fn write(folder: &Path, report: &Report) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(report).map_err(Failure::of_the_system)?;
    for (name, text) in [
        ("report.html", report::html(report)),
        ("report.md", report::markdown(report)),
        ("report.json", json + "\n"),
        ("junit.xml", report::junit(report)),
    ] {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| not_written(&path, &error))?;
    }
    Ok(())
}

fn not_written(path: &Path, error: &std::io::Error) -> Failure {
    let message = format!("can't write {}: {error}", path.display());
    Failure::usage(message, "name a folder that can be written to")
}

fn check_drill(args: &CheckArgs, out: &Output) -> Result<(), Failure> {
    let file = args.file.display().to_string();
    let drill = match config::load_drill(&args.file) {
        Ok(drill) => drill,
        Err(problems) if out.json => {
            let list: Vec<_> = problems.list.iter().map(check::problem).collect();
            out.object(&json!({ "file": file, "ok": false, "problems": list }))?;
            return Err(Failure::Said(USAGE));
        }
        Err(problems) => return Err(problems.into()),
    };
    let plan = Plan::new(&drill.timeline, drill.seed.unwrap_or_default());
    let drawn = plan.faults.iter().any(|fault| fault.drawn);
    if out.json {
        let turns: Vec<_> = plan
            .turns
            .iter()
            .map(|turn| {
                json!({
                    "at_ms": turn.at.as_secs_f64() * 1e3,
                    "fault": plan.faults[turn.fault].name,
                    "on": turn.to != To::Off,
                })
            })
            .collect();
        return out.object(&json!({
            "file": file,
            "ok": true,
            "drill": drill.name,
            "timeline": turns,
            "promises": drill.promises.iter().map(|p| &p.name).collect::<Vec<_>>(),
            "problems": [],
        }));
    }
    let mut text = format!(
        "{file}: the drill {}: ok\n",
        drill.name.as_deref().unwrap_or_default()
    );
    for turn in &plan.turns {
        let fault = &plan.faults[turn.fault];
        let at = format!("{:.1}s", turn.at.as_secs_f64());
        text += &match turn.to {
            To::Off => format!("{at:>8} {}: off\n", fault.name),
            To::On(Some(lasts)) => {
                let lasts = format_duration(lasts);
                format!(
                    "{at:>8} {}: {}, for {lasts}\n",
                    fault.name,
                    fault.what.kind()
                )
            }
            To::On(None) => format!("{at:>8} {}: {}\n", fault.name, fault.what.kind()),
        };
    }
    for promise in &drill.promises {
        text += &format!("promise  {} ({})\n", promise.name, promise.when.as_str());
    }
    if drawn && drill.seed.is_none() {
        text += "what chance draws is as with seed 0: the file has none\n";
    }
    out.text(&text)
}

fn compare(args: &CompareArgs, out: &Output) -> Result<(), Failure> {
    let (first, second) = (read(&args.first)?, read(&args.second)?);
    let all = report::compare(&first, &second);
    let shown: Vec<_> = all.iter().filter(|d| args.all || !d.same).collect();
    if out.json {
        return out.object(&json!({ "differences": shown }));
    }
    let cell = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let rows = shown.iter().map(|difference| {
        let mark = if difference.same { "" } else { "*" };
        [
            mark.to_owned(),
            difference.what.clone(),
            cell(&difference.first),
            cell(&difference.second),
        ]
    });
    out.text(&table(["", "WHAT", "FIRST", "SECOND"], &[], rows))?;
    let same = all.len() - shown.len();
    if same > 0 {
        out.note(&format!(
            "{} alike; --all shows them",
            check::count(same, "line reads", "lines read")
        ));
    }
    Ok(())
}

fn read(file: &Path) -> Result<Report, Failure> {
    let wrong = |what: String| {
        let message = format!("{}: {what}", file.display());
        Failure::usage(
            message,
            "name the report.json of a run: `firedrill schema report` describes it",
        )
    };
    let text =
        fs::read_to_string(file).map_err(|error| wrong(format!("can't be read: {error}")))?;
    let report: Report =
        serde_json::from_str(&text).map_err(|error| wrong(format!("is no report: {error}")))?;
    if report.shape != report::SHAPE {
        let (is, known) = (report.shape, report::SHAPE);
        return Err(wrong(format!(
            "is a report of shape {is}; this reads {known}"
        )));
    }
    Ok(report)
}
