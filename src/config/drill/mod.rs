//! A drill's file: an experiment in the words of an engineer's worksheet.
//!
//! What the file says, checked; what is done with it is the drill's. Rules, partitions and proxies
//! are those of the other file, read by the same decoders.

mod bounds;
mod conditions;
mod load;
mod probes;
mod read;
mod timeline;
mod words;

use std::fmt;
use std::time::Duration;

use crate::evidence::{Class, findings};
use crate::rules::{Edge, OwnId, Partition, Rule, Statuses};

pub use bounds::{Bounds, Comparison};
pub use words::percentile_name;

pub(super) use conditions::{KINDS, PERCENTILES, WHEN};
pub(super) use load::{ARRIVALS, PLACEHOLDERS};
pub(super) use read::{KEYS, drill};

/// What a drill's file says.
#[derive(Debug, Clone)]
pub struct Drill {
    /// What it is called; absent: after its file.
    pub name: Option<String>,
    /// What is at stake, in words.
    pub worksheet: Worksheet,
    /// Absent: to be chosen.
    pub seed: Option<u64>,
    /// Where this team's operation id stands, for proxies of the drill's own.
    pub identity: OwnId,
    /// Proxies that run in the drill's own process.
    pub proxies: Vec<Edge>,
    /// Instances that run elsewhere; none of both: the one that the command line names.
    pub urls: Vec<String>,
    /// Who makes the traffic.
    pub load: Load,
    /// What must be so before anything goes wrong.
    pub steady_state: SteadyState,
    /// What goes wrong, and when.
    pub timeline: Vec<Item>,
    /// What is to be true all the same.
    pub promises: Vec<Promise>,
    /// When all is well again.
    pub recovery: Recovery,
    /// What ends the drill at once.
    pub stop_when: Vec<Stop>,
    /// What is run in the end, come what may.
    pub cleanup: Vec<CommandLine>,
}

/// What is at stake, in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Worksheet {
    /// What users are promised.
    pub promise: String,
    /// Who can act, fail, and lag behind by himself.
    pub participants: Vec<String>,
    /// Who owns which fact.
    pub facts: Vec<(String, Vec<String>)>,
    /// What nobody can know for a while.
    pub unknowns: Vec<String>,
    /// How that is found out, and put right.
    pub repair: Vec<String>,
}

/// Who makes the traffic.
#[derive(Debug, Clone)]
pub struct Load {
    /// The proxies at which the offered load is measured; none: those that no other service leads to.
    pub proxies: Vec<String>,
    /// How it comes about.
    pub source: Source,
}

/// How traffic comes about.
#[derive(Debug, Clone)]
pub enum Source {
    /// It is there.
    Traffic,
    /// The drill sends requests, on time whether or not answers come.
    Http(Box<HttpLoad>),
    /// A command makes it, from the beginning to the end.
    Command(CommandLine),
}

/// Requests that are sent on time, whether or not answers come.
#[derive(Debug, Clone)]
pub struct HttpLoad {
    /// What is sent; path, headers and body may have placeholders.
    pub request: Request,
    /// How long an answer is awaited.
    pub timeout: Duration,
    /// At most so many at the same time; what would be more is not started, and counted.
    pub in_flight: usize,
    /// How the moments of sending are spread.
    pub arrivals: Arrivals,
    /// How many, from the beginning on; the last rate holds until the end.
    pub stages: Vec<Stage>,
    /// Which answers are good.
    pub good: Good,
}

/// How the moments of sending are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrivals {
    /// Evenly.
    Constant,
    /// As those of many who know nothing of each other.
    Poisson,
}

/// A stretch of load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stage {
    /// How long it lasts; `None`: to the end.
    pub lasts: Option<Duration>,
    /// Requests a second at its beginning.
    pub from: f64,
    /// And at its end.
    pub to: f64,
}

/// Which answers are good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Good {
    /// With one of these statuses.
    pub statuses: Vec<Statuses>,
    /// Within this time of when it should have been sent.
    pub within: Option<Duration>,
}

/// An HTTP request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Where to.
    pub to: Address,
    /// With the query.
    pub path: String,
    /// Such as `POST`.
    pub method: String,
    /// In order.
    pub headers: Vec<(String, String)>,
    /// Absent: none.
    pub body: Option<String>,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A host of its own.
    Host {
        /// Whether TLS is spoken.
        secure: bool,
        /// `host:port`, or the host alone.
        authority: String,
    },
    /// Wherever this proxy listens.
    Proxy(String),
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// The program and its arguments. Never empty.
    pub words: Vec<String>,
    /// How long it may take, where it is waited for.
    pub timeout: Duration,
}

impl CommandLine {
    /// Of a command that does not say.
    pub const TIMEOUT: Duration = Duration::from_secs(30);
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.words.as_slice() {
            [sh, c, text] if sh == "sh" && c == "-c" => f.write_str(text),
            words => f.write_str(&words.join(" ")),
        }
    }
}

/// What must be so before anything goes wrong.
#[derive(Debug, Clone)]
pub struct SteadyState {
    /// Traffic flows for so long before it is looked at.
    pub warm_up: Duration,
    /// For so long it is looked at.
    pub lasts: Duration,
    /// What must hold.
    pub checks: Vec<Condition>,
}

/// Something on the timeline.
#[derive(Debug, Clone)]
pub struct Item {
    /// From the beginning of the timeline.
    pub at: Duration,
    /// How long it lasts; `None`: it is done once, and not undone.
    pub lasts: Option<Duration>,
    /// From one beginning to the next.
    pub every: Option<Duration>,
    /// How many times in all.
    pub times: u32,
    /// What it is.
    pub action: Action,
}

/// What happens.
#[derive(Debug, Clone)]
pub enum Action {
    /// A rule is on.
    Rule(Box<Rule>),
    /// A partition is in force.
    Partition(Box<Partition>),
    /// A command is run, and another one undoes it.
    Run(Box<Run>),
    /// One of these is drawn again and again.
    Random(Random),
}

impl Action {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Rule(rule) => &rule.name,
            Self::Partition(partition) => &partition.name,
            Self::Run(run) => &run.name,
            Self::Random(_) => "random",
        }
    }
}

/// A command with its undo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What it is called.
    pub name: String,
    /// What is run.
    pub run: CommandLine,
    /// What undoes it.
    pub undo: Option<CommandLine>,
}

/// Faults by chance.
#[derive(Debug, Clone)]
pub struct Random {
    /// One is drawn for each such span.
    pub every: Duration,
    /// It lasts for at least, and at most, so long.
    pub lasts: (Duration, Duration),
    /// From these. Never empty; none is itself random.
    pub of: Vec<Action>,
}

/// Something that is to be true.
#[derive(Debug, Clone)]
pub struct Promise {
    /// What it is called.
    pub name: String,
    /// Over which stretch it is judged.
    pub when: When,
    /// What is to be true.
    pub condition: Condition,
}

/// A stretch of the drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum When {
    /// While the steady state is looked at.
    Before,
    /// From the first fault to the end of the timeline.
    During,
    /// From there to the end.
    After,
    /// Once, when all is over.
    End,
    /// From the beginning of the steady state to the end.
    Always,
}

impl When {
    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        let found = WHEN.iter().find(|(_, when)| *when == self);
        found.map_or("", |(word, _)| word)
    }
}

/// Something that can be true or not.
#[derive(Debug, Clone)]
pub struct Condition {
    /// Its contrary is meant.
    pub negated: bool,
    /// What it is about.
    pub check: Check,
}

/// What is measured, and what it is to be.
#[derive(Debug, Clone)]
pub enum Check {
    /// The share of good answers.
    SuccessRate {
        /// At this proxy; `None`: of the load.
        proxy: Option<String>,
        /// 0 to 1.
        is: Bounds,
    },
    /// Good answers a second.
    Goodput {
        /// At this proxy; `None`: of the load.
        proxy: Option<String>,
        /// A second; or, where `of_baseline`, as a share of what it was before.
        is: Bounds,
        /// Whether the bounds are shares of the steady state.
        of_baseline: bool,
    },
    /// How long answers took.
    Latency {
        /// At this proxy; `None`: of the load.
        proxy: Option<String>,
        /// By percentile; milliseconds.
        is: Vec<(f64, Bounds)>,
    },
    /// Nothing took effect twice.
    AtMostOnce {
        /// At this proxy; `None`: at each.
        proxy: Option<String>,
        /// What is counted.
        of: Once,
    },
    /// What a caller could not know was found out.
    Repaired {
        /// At this proxy; `None`: at each.
        proxy: Option<String>,
        /// Within this time.
        within: Duration,
        /// Of operations of these classes.
        classes: Vec<Class>,
    },
    /// Attempts beyond the first.
    Retries {
        /// At this proxy; `None`: at each.
        proxy: Option<String>,
        /// No operation has more.
        at_most: u64,
    },
    /// The caller stops calling.
    Breaker {
        /// At this proxy.
        proxy: String,
        /// Within this time of the first failure.
        opens_within: Duration,
    },
    /// What the evidence shows of a system.
    Finding {
        /// Its name.
        finding: String,
        /// What it must be.
        verdict: findings::Verdict,
        /// Of this caller; `None`: of each.
        from: Option<String>,
        /// Of this service; `None`: of each.
        to: Option<String>,
    },
    /// How many operations there were of some classes.
    Evidence {
        /// At this proxy; `None`: at all together.
        proxy: Option<String>,
        /// Of these classes.
        classes: Vec<Class>,
        /// So many.
        is: Bounds,
    },
    /// A request, and what is answered.
    Http(Box<HttpProbe>),
    /// Whether something listens.
    Tcp {
        /// `host:port`.
        address: String,
        /// How it is asked.
        asked: Asked,
    },
    /// A command, and how it ends.
    Command(Box<CommandProbe>),
    /// A Prometheus server is asked.
    Prometheus {
        /// `http://host:port`, where its API is.
        url: Request,
        /// PromQL.
        query: String,
        /// What each value must be.
        is: Bounds,
        /// How it is asked.
        asked: Asked,
    },
}

/// What may be at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Once {
    /// Successes that are not the same answer again.
    Effects,
    /// Deliveries to the service.
    Deliveries,
}

/// How something outside is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// From one time to the next.
    pub every: Duration,
    /// How long an answer is awaited.
    pub timeout: Duration,
    /// Of the times that it was asked, this share must be as it should.
    pub share: f64,
}

/// A request, and what is answered.
#[derive(Debug, Clone)]
pub struct HttpProbe {
    /// What is asked.
    pub request: Request,
    /// The answer has one of these statuses.
    pub statuses: Vec<Statuses>,
    /// It has this text.
    pub contains: Option<String>,
    /// It is JSON, and these values are so.
    pub json: Vec<JsonCheck>,
    /// How it is asked.
    pub asked: Asked,
}

/// A command, and how it ends.
#[derive(Debug, Clone)]
pub struct CommandProbe {
    /// What is run.
    pub run: CommandLine,
    /// Its exit code.
    pub exit: u8,
    /// What it prints is JSON, and these values are so.
    pub json: Vec<JsonCheck>,
    /// How it is asked.
    pub asked: Asked,
}

/// A value in a JSON document.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonCheck {
    /// A JSON Pointer (RFC 6901).
    pub pointer: String,
    /// What it must be.
    pub is: JsonIs,
}

/// What a JSON value must be.
#[derive(Debug, Clone, PartialEq)]
pub enum JsonIs {
    /// This one.
    Equal(serde_json::Value),
    /// A number within bounds.
    Number(Bounds),
    /// A list, a map or a text of such a length.
    Length(Bounds),
}

/// What ends the drill at once.
#[derive(Debug, Clone)]
pub struct Stop {
    /// When it is true.
    pub condition: Condition,
    /// What is measured is measured over so long.
    pub over: Duration,
    /// And it has been true for so long.
    pub lasts: Duration,
}

/// When all is well again.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovery {
    /// It is watched for so long at most.
    pub within: Duration,
    /// It must stay well for so long.
    pub hold: Duration,
    /// Goodput at least this share of what it was before.
    pub goodput: f64,
}
