//! Reads the file again: when it is told to, by the API or SIGHUP, and when the file has changed.
//!
//! What the file says now is held against what it said before (`plan`); a file that does
//! not load changes nothing.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::Signal;
use tokio::sync::mpsc;

use super::Files;
use super::plan;
use crate::clock;
use crate::config::Config;
use crate::control::{self, Ask, NotReloaded};
use crate::proxy::Supervisor;
use crate::state::{By, Draft, Source, State, Who};
use crate::wire::Reloaded;

/// Between two looks at the files.
const LOOK: Duration = Duration::from_millis(500);

/// Who writes a file does so in several steps; after the last of them comes such a pause.
const PAUSE: Duration = Duration::from_millis(100);

/// Keeps what runs in line with its files.
pub(super) struct Reloader {
    files: Files,
    /// As they were last applied.
    config: Config,
    /// Their texts when they were last looked at, applied or not.
    texts: Option<Vec<Vec<u8>>>,
    watch: Watch,
}

impl Reloader {
    /// Begins to watch the files. `config`: what they say, which is about to be in force.
    pub(super) fn new(files: Files, config: Config) -> Self {
        let watch = match config.control.watch {
            true => Watch::start(&files),
            false => Watch::none(),
        };
        Self {
            texts: texts(&files),
            files,
            config,
            watch,
        }
    }

    /// Reloads whenever there is a reason to, for ever. Cancel-safe but for a reload under way,
    /// which is whole or not at all.
    pub(super) async fn run(
        mut self,
        supervisor: Arc<Supervisor>,
        state: Arc<State>,
        mut asked: mpsc::Receiver<Ask>,
        mut hangup: Signal,
    ) {
        loop {
            tokio::select! {
                Some(ask) = asked.recv() => {
                    let reloaded = self.reload(&supervisor, &state, ask.by).await;
                    // Who asked may have gone.
                    let _ = ask.answer.send(reloaded);
                }
                _ = hangup.recv() => {
                    let by = by_file(Who::Signal("SIGHUP"));
                    // What became of it has been logged.
                    let _ = self.reload(&supervisor, &state, by).await;
                }
                () = self.watch.changed() => {
                    let texts = texts(&self.files);
                    if texts.is_some() && texts != self.texts {
                        // As above.
                        let _ = self.reload(&supervisor, &state, by_file(Who::File)).await;
                    }
                }
            }
        }
    }

    async fn reload(
        &mut self,
        supervisor: &Supervisor,
        state: &State,
        by: By,
    ) -> Result<Reloaded, NotReloaded> {
        let reloaded = self.apply(supervisor, state, by).await;
        match &reloaded {
            Ok(Reloaded {
                generation,
                restart,
                ..
            }) => {
                tracing::info!(generation, "the file is read again");
                if !restart.is_empty() {
                    let sections = restart.join(", ");
                    tracing::warn!("what changed in {sections} is read at the next start");
                }
            }
            Err(error) => {
                tracing::error!("the file is read again, and nothing was changed:\n{error}")
            }
        }
        reloaded
    }

    async fn apply(
        &mut self,
        supervisor: &Supervisor,
        state: &State,
        by: By,
    ) -> Result<Reloaded, NotReloaded> {
        self.texts = texts(&self.files);
        let new = self.files.load()?;
        let turn = supervisor.turn().await;
        let proxies = plan::proxies(&self.config, &new, &state.edges());
        let also = |draft: &mut Draft| plan::definitions(&self.config, &new, draft);
        let generation = turn.rearrange_with(proxies, by, also).await?;
        let restart = plan::needs_restart(&self.config, &new);
        self.config = new;
        let past = state.subscribe().past;
        let event = past.into_iter().find(|e| e.generation == generation);
        let touched = event.iter().flat_map(|event| &event.touched);
        Ok(Reloaded {
            generation,
            changed: touched.map(control::touched).collect(),
            restart,
        })
    }
}

/// `None`: one of them is not there, as while another takes its place.
fn texts(files: &Files) -> Option<Vec<Vec<u8>>> {
    files.paths().map(|file| std::fs::read(file).ok()).collect()
}

fn by_file(who: Who) -> By {
    By {
        source: Source::File,
        who,
    }
}

/// Notices that files have changed, by what the system says of them: which file a path leads to,
/// through whatever links, when it was written and how long it is. Asked now and then, which works on
/// every filesystem, and costs nothing where files beside them are written all the time.
struct Watch {
    /// `None`: it never notices anything.
    files: Option<Files>,
    seen: Vec<Stamp>,
}

/// Device, inode, length, and when it was written; `None`: it is not there.
type Stamp = Option<(u64, u64, u64, Option<SystemTime>)>;

impl Watch {
    fn none() -> Self {
        Self {
            files: None,
            seen: Vec::new(),
        }
    }

    fn start(files: &Files) -> Self {
        Self {
            seen: stamps(files),
            files: Some(files.clone()),
        }
    }

    /// Resolves when a file has changed, and for a moment did not change any more. Cancel-safe.
    async fn changed(&mut self) {
        let Some(files) = &self.files else {
            return std::future::pending().await;
        };
        loop {
            clock::sleep(LOOK).await;
            let mut now = stamps(files);
            if now == self.seen {
                continue;
            }
            loop {
                clock::sleep(PAUSE).await;
                let later = stamps(files);
                if later == now {
                    self.seen = now;
                    return;
                }
                now = later;
            }
        }
    }
}

fn stamps(files: &Files) -> Vec<Stamp> {
    let stamp = |file| {
        let found = std::fs::metadata(file).ok()?;
        Some((found.dev(), found.ino(), found.len(), found.modified().ok()))
    };
    files.paths().map(stamp).collect()
}
