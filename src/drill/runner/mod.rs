//! A drill from its beginning to its end.
//!
//! First all is prepared that could fail; then traffic flows and the system is looked at; then the
//! timeline; then everything is lifted, and looked at until it is well. Whatever ends a drill before
//! its time, what it turned on is turned off, and that is looked at.

mod asking;
mod faults;
mod figures;
mod look;
mod residue;
mod results;
mod stories;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use self::asking::Asking;
use self::faults::Faults;
use super::command::{Environment, Ran, Running};
use super::flow::{self, Flows};
use super::follow::{self, Inbox};
use super::load::{Generator, Zero};
use super::plan::Plan;
use super::probe::{self, Proxies as _};
use super::report::Report;
use super::sample::{Micros, Window, length};
use super::targets::{Refused, Targets};
use crate::client::Client;
use crate::clock::{self, Timestamp};
use crate::config::Drill;
use crate::config::drill::{Address, Source, Stop};
use crate::wire::DRILL;

/// A drill that is to be run.
#[derive(Debug)]
pub struct Job {
    /// What is to be done.
    pub drill: Drill,
    /// The file that says so.
    pub file: String,
    /// How it is run again.
    pub again: String,
    /// The instances that it works on, however they came to run.
    pub clients: Vec<Client>,
    /// What chance is drawn from.
    pub seed: u64,
}

/// What happens, as it happens.
#[derive(Debug, Clone)]
pub enum Event {
    /// A stretch begins, which lasts so long at most.
    Phase(&'static str, Duration),
    /// Something was done, so long after the drill began; or could not be, and why.
    Step(Duration, String, Option<String>),
    /// How it goes.
    Progress(Progress),
    /// Something to know.
    Note(String),
}

/// How it goes.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Since the drill began.
    pub elapsed: Duration,
    /// At most, until it is over.
    pub left: Duration,
    /// Asked for a second, over the last second.
    pub offered: f64,
    /// Good answers a second.
    pub good: f64,
}

/// Between one look and the next.
const LOOK: Duration = Duration::from_millis(100);
/// How long is waited for faults to be lifted, or for somebody to tell that they are.
const LIFT: Duration = Duration::from_secs(20);
/// How long operations may take to end once nothing more is sent.
const SETTLE: Duration = Duration::from_secs(5);

/// Why a drill ends before its time.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Halt {
    Interrupted,
    Condition(String),
    Lost(String),
    Failed(String),
}

impl Halt {
    fn in_words(&self) -> String {
        match self {
            Self::Interrupted => "it was interrupted".to_owned(),
            Self::Condition(what) => format!("a stop condition came true: {what}"),
            Self::Lost(url) => format!("{url} no longer answers"),
            Self::Failed(what) => what.clone(),
        }
    }
}

/// A drill that runs.
struct Run<'s> {
    job: Job,
    plan: Plan,
    /// What no other run has.
    id: String,
    zero: Zero,
    start: Timestamp,
    targets: Targets,
    entry: Vec<usize>,
    inbox: Arc<Inbox>,
    flows: Arc<Flows>,
    asking: Asking,
    faults: Faults,
    generator: Option<Generator>,
    external: Option<Running>,
    /// How the command that makes the load ended.
    ended: Option<Ran>,
    /// Since when each stop condition is true.
    true_since: Vec<Option<Micros>>,
    watching_stops: bool,
    /// When it will be over at the latest.
    latest: Micros,
    told: Micros,
    before: Window,
    during: Window,
    notes: Vec<String>,
    stop: watch::Receiver<bool>,
    say: &'s mut dyn FnMut(Event),
    _tasks: [JoinSet<()>; 2],
}

/// Runs a drill. `stop`: becomes true when it is to end before its time; `say`: is told what
/// happens.
///
/// # Errors
/// It can't begin; then nothing was turned on.
pub async fn run(
    job: Job,
    stop: watch::Receiver<bool>,
    say: &mut dyn FnMut(Event),
) -> Result<Report, Refused> {
    let mut run = prepare(job, stop, say).await?;
    let began = run.load().await;
    let halted = match began {
        Ok(()) => run.drill().await,
        Err(error) => Err(Halt::Failed(error)),
    };
    run.finish(halted).await
}

async fn prepare(
    job: Job,
    stop: watch::Receiver<bool>,
    say: &mut dyn FnMut(Event),
) -> Result<Run<'_>, Refused> {
    let plan = Plan::new(&job.drill.timeline, job.seed);
    let start = Timestamp::now();
    let zero = Zero(clock::now());
    let name = job.drill.name.clone().unwrap_or_default();
    let id = format!("{name}-{}", start.0 / 1_000);
    let mut targets = Targets::meet(&job.clients, &format!("{DRILL}{id}")).await?;
    let entry = entry(&job.drill, &targets)?;
    let environment = environment(&targets, job.seed, &job.clients);
    let asking = Asking::prepare(&job.drill, &targets, &environment, zero)?;
    if let Source::Http(load) = &job.drill.load.source {
        probe::host(&load.request.to, &targets).map_err(|what| {
            let known = targets.no_proxy("");
            Refused::new(what, known.hint)
        })?;
    }
    targets.prepare(&plan.faults).await.inspect_err(|_| {
        // What was made so far is off, and stays where it is until another drill takes its place.
    })?;
    let inbox = Arc::<Inbox>::default();
    let flows = Arc::<Flows>::default();
    let tasks = [
        follow::follow(&targets, &inbox, start),
        flow::watch(&targets, &flows, zero),
    ];
    let steady = &job.drill.steady_state;
    let times = [
        steady.warm_up,
        steady.lasts,
        plan.lasts,
        job.drill.recovery.within,
    ];
    let latest = times.iter().map(|time| length(*time)).sum();
    let nothing = Window { from: 0, to: 0 };
    Ok(Run {
        faults: Faults::new(plan.faults.clone(), environment),
        true_since: vec![None; job.drill.stop_when.len()],
        watching_stops: false,
        plan,
        id,
        zero,
        start,
        targets,
        entry,
        inbox,
        flows,
        asking,
        generator: None,
        external: None,
        ended: None,
        latest,
        told: 0,
        before: nothing,
        during: nothing,
        notes: Vec::new(),
        stop,
        say,
        _tasks: tasks,
        job,
    })
}

/// The edges at which the load comes in: those that are named; else the one that it is sent to;
/// else those that no other service leads to.
fn entry(drill: &Drill, targets: &Targets) -> Result<Vec<usize>, Refused> {
    let of = |name: &String| targets.edge(name).ok_or_else(|| targets.no_proxy(name));
    if !drill.load.proxies.is_empty() {
        return drill.load.proxies.iter().map(of).collect();
    }
    if let Source::Http(load) = &drill.load.source {
        match &load.request.to {
            Address::Proxy(name) => return Ok(vec![of(name)?]),
            Address::Host { authority, .. } => {
                let mut edges = targets.edges.iter();
                if let Some(edge) = edges.position(|edge| edge.address == *authority) {
                    return Ok(vec![edge]);
                }
            }
        }
    }
    let edges = &targets.edges;
    let called = |name: &str| edges.iter().any(|edge| edge.to == name);
    let first = (0..edges.len()).filter(|n| edges[*n].enabled && !called(&edges[*n].from));
    let first: Vec<_> = first.collect();
    // In a circle each leads to each.
    Ok(match first.is_empty() {
        true => (0..edges.len()).collect(),
        false => first,
    })
}

/// What commands are told of the drill.
fn environment(targets: &Targets, seed: u64, clients: &[Client]) -> Environment {
    let urls: Vec<_> = clients.iter().map(Client::url).collect();
    let mut environment = vec![
        ("FIREDRILL_URL".to_owned(), urls.join(",")),
        ("FIREDRILL_SEED".to_owned(), seed.to_string()),
    ];
    for edge in &targets.edges {
        let plain = |c: char| match c.is_ascii_alphanumeric() {
            true => c.to_ascii_uppercase(),
            false => '_',
        };
        let name: String = edge.proxy.chars().map(plain).collect();
        let address = targets.address(&edge.proxy).unwrap_or_default();
        environment.push((format!("FIREDRILL_PROXY_{name}"), address));
    }
    environment
}

impl Run<'_> {
    fn say(&mut self, event: Event) {
        (self.say)(event);
    }

    fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        self.say(Event::Note(text.clone()));
        self.notes.push(text);
    }

    /// Has the load begin.
    async fn load(&mut self) -> Result<(), String> {
        match &self.job.drill.load.source {
            Source::Traffic => {}
            Source::Http(load) => {
                let (secure, host) = probe::host(&load.request.to, &self.targets)?;
                let generator =
                    Generator::start(load, (secure, &host), &self.id, self.job.seed, self.zero);
                let generator = generator.map_err(|error| format!("no load: {error}"))?;
                self.generator = Some(generator);
            }
            Source::Command(line) => {
                self.external = Some(Running::start(line, self.faults.environment())?);
            }
        }
        Ok(())
    }

    /// All that is between the beginning of the load and the lifting of faults. An error is why it
    /// ended before its time; `Ok` with a reason: the system was not steady, and not drilled.
    async fn drill(&mut self) -> Result<Option<String>, Halt> {
        let steady = self.job.drill.steady_state.clone();
        self.say(Event::Phase("warm_up", steady.warm_up));
        self.pass(length(steady.warm_up)).await?;

        let from = self.zero.now();
        let to = from + length(steady.lasts);
        self.before = Window { from, to };
        self.asking.enter(asking::Phase::Before);
        self.say(Event::Phase("before", steady.lasts));
        self.pass(to).await?;
        self.wait_for_stragglers(to).await?;
        if let Some(why) = self.unsteady() {
            return Ok(Some(why));
        }

        let from = self.zero.now();
        let lasts = length(self.plan.lasts);
        self.during = Window {
            from,
            to: from + lasts,
        };
        self.latest = from + lasts + length(self.job.drill.recovery.within);
        self.watching_stops = true;
        self.asking.enter(asking::Phase::During);
        self.say(Event::Phase("during", self.plan.lasts));
        for turn in self.plan.turns.clone() {
            self.pass(from + length(turn.at)).await?;
            self.turn(&turn).await?;
        }
        Ok(None)
    }

    /// Waits until all has ended that should have begun before a moment, as far as it is known, for
    /// as long as an answer is waited for.
    async fn wait_for_stragglers(&mut self, due: Micros) -> Result<(), Halt> {
        let patience = match &self.job.drill.load.source {
            Source::Http(load) => load.timeout,
            _ => Duration::from_secs(1),
        };
        let until = due + length(patience);
        while self.known_until() < due && self.zero.now() < until {
            let next = self.zero.now() + 20_000;
            self.pass(next.min(until)).await?;
        }
        Ok(())
    }

    /// Until when it is known what came of what was asked for.
    fn known_until(&self) -> Micros {
        let now = self.zero.now();
        match &self.generator {
            Some(generator) => generator.log.earliest().unwrap_or(now),
            // What is open at a proxy is told when it is over.
            None => now - 1_000_000,
        }
    }

    /// Lets time pass, and looks on.
    async fn pass(&mut self, until: Micros) -> Result<(), Halt> {
        loop {
            let now = self.zero.now();
            if now >= until {
                return Ok(());
            }
            let next = until.min(now + length(LOOK));
            let wait = clock::sleep(super::sample::duration(next - now));
            tokio::select! {
                biased;
                stopped = self.stop.wait_for(|stop| *stop) => {
                    // An error means that nobody can interrupt any more.
                    if stopped.is_ok() {
                        return Err(Halt::Interrupted);
                    }
                    clock::sleep(LOOK).await;
                }
                () = wait => {}
            }
            self.look().await?;
        }
    }

    async fn look(&mut self) -> Result<(), Halt> {
        if let Some(lost) = self.inbox.lost() {
            let url = self
                .targets
                .list
                .get(lost)
                .map(|target| target.client.url());
            return Err(Halt::Lost(url.unwrap_or_default().to_owned()));
        }
        if let Some(running) = &mut self.external
            && let Some(ran) = running.is_over().await
        {
            let how = ran.in_words();
            self.ended = Some(ran);
            self.external = None;
            self.note(format!("the command that makes the load has ended: {how}"));
        }
        let now = self.zero.now();
        if now - self.told >= 500_000 {
            self.told = now;
            let (offered, good) = self.rates(now);
            let progress = Progress {
                elapsed: super::sample::duration(now),
                left: super::sample::duration(self.latest - now),
                offered,
                good,
            };
            self.say(Event::Progress(progress));
        }
        if self.watching_stops {
            let stops: Vec<Stop> = self.job.drill.stop_when.clone();
            for (n, stop) in stops.iter().enumerate() {
                let holds = self.stops(n, stop, now);
                let since = &mut self.true_since[n];
                match (holds, *since) {
                    (false, _) => *since = None,
                    (true, None) => *since = Some(now),
                    (true, Some(_)) => {}
                }
                if since.is_some_and(|since| now - since >= length(stop.lasts)) {
                    return Err(Halt::Condition(stop.condition.to_string()));
                }
            }
        }
        Ok(())
    }
}
