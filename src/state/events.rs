//! What has changed, and who changed it: the last events, and those to come.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::broadcast;

use super::Source;
use crate::clock::Timestamp;

/// How many events are remembered, and how many a subscriber may lag behind.
pub const REMEMBERED: usize = 1000;

/// Who asks for a change, and with which rights and defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// As which a definition is made, and what lifetime is meant where none is said.
    pub source: Source,
    /// For the record.
    pub who: Who,
}

/// Who asked for a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// The operator's file, when it was read.
    File,
    /// Someone who used the API.
    Client {
        /// Where the request came from.
        peer: SocketAddr,
        /// The name that a controller gave itself.
        controller: Option<Arc<str>>,
    },
    /// A signal to the process.
    Signal(&'static str),
    /// A lifetime that ran out.
    Ttl,
    /// A window that opened or closed.
    Schedule,
    /// A controller that no longer sends its heartbeat.
    Silence(Arc<str>),
    /// The state file, at the start.
    StateFile,
    /// The process itself, as when it stops.
    Process,
}

impl By {
    /// The controller behind it, if it has a name.
    #[must_use]
    pub fn controller(&self) -> Option<&Arc<str>> {
        match &self.who {
            Who::Client { controller, .. } => controller.as_ref(),
            _ => None,
        }
    }
}

impl From<Source> for By {
    fn from(source: Source) -> Self {
        let who = match source {
            Source::File => Who::File,
            Source::Api => Who::Process,
        };
        Self { source, who }
    }
}

impl Who {
    /// One word for the way on which it came.
    #[must_use]
    pub fn via(&self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Client { .. } => "api",
            Self::Signal(_) => "signal",
            Self::Ttl => "ttl",
            Self::Schedule => "schedule",
            Self::Silence(_) => "heartbeat",
            Self::StateFile => "state_file",
            Self::Process => "process",
        }
    }
}

/// For people: `api 127.0.0.1:50312 (drill-7)`.
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.via())?;
        match self {
            Self::Client { peer, controller } => {
                write!(f, " {peer}")?;
                // `escape_debug`: a name can't forge a line.
                controller
                    .iter()
                    .try_for_each(|name| write!(f, " ({})", name.escape_debug()))
            }
            Self::Signal(name) => write!(f, " {name}"),
            Self::Silence(name) => write!(f, " of {} missed", name.escape_debug()),
            _ => Ok(()),
        }
    }
}

/// What became of one definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// It is new.
    Made,
    /// Another stands in its place.
    Replaced,
    /// It was switched on, or on again: its schedule and lifetime begin anew.
    Enabled,
    /// It was switched off.
    Disabled,
    /// A window of its schedule opened.
    Began,
    /// A window of its schedule closed.
    Paused,
    /// It is gone.
    Deleted,
}

impl What {
    /// The word of it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Replaced => "replaced",
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Began => "began",
            Self::Paused => "paused",
            Self::Deleted => "deleted",
        }
    }
}

/// One definition that a change touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// `rule`, `partition` or `proxy`.
    pub sort: &'static str,
    /// Of the definition.
    pub name: String,
    /// What became of it.
    pub what: What,
}

/// One change, as it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number.
    pub generation: u64,
    /// When it took hold.
    pub at: Timestamp,
    /// Who asked for it.
    pub who: Who,
    /// What it touched; a heal of nothing touches nothing.
    pub touched: Vec<Touched>,
}

impl Event {
    /// The audit line: one for each change, whoever made it.
    pub(super) fn log(&self) {
        let touched: Vec<_> = self.touched.iter().map(Touched::to_string).collect();
        let touched = match touched.is_empty() {
            true => "nothing to change".to_owned(),
            false => touched.join(", "),
        };
        tracing::info!(generation = self.generation, by = %self.who, "{touched}");
    }
}

impl fmt::Display for Touched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sort, name, what } = self;
        write!(f, "{sort} {} {}", name.escape_debug(), what.as_str())
    }
}

/// The last events, oldest first, and a channel for those to come.
#[derive(Debug)]
pub(super) struct Events {
    recent: VecDeque<Arc<Event>>,
    sender: broadcast::Sender<Arc<Event>>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            recent: VecDeque::new(),
            sender: broadcast::Sender::new(REMEMBERED),
        }
    }
}

impl Events {
    pub(super) fn push(&mut self, event: Event) {
        event.log();
        let event = Arc::new(event);
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(Arc::clone(&event));
        // Nobody may be listening.
        let _ = self.sender.send(event);
    }

    pub(super) fn subscribe(&self) -> Subscription {
        Subscription {
            past: self.recent.iter().cloned().collect(),
            to_come: self.sender.subscribe(),
        }
    }
}

/// All events from one point on, without a gap: those remembered, then those to come.
#[derive(Debug)]
pub struct Subscription {
    /// Oldest first.
    pub past: Vec<Arc<Event>>,
    /// Each as it happens; one who lags more than [`REMEMBERED`] behind is told how many he missed.
    pub to_come: broadcast::Receiver<Arc<Event>>,
}
