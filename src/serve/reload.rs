//! Reads the file again: when it is told to, by the API or SIGHUP, and when the file has changed.
//!
//! What the file says now is held against what it said before ([`super::plan`]); a file that does
//! not load changes nothing.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;

use super::Files;
use super::plan::{needs_restart, plan};
use crate::clock;
use crate::config::Config;
use crate::control::{self, Ask, NotReloaded};
use crate::proxy::Supervisor;
use crate::state::{By, Source, State, Who};
use crate::wire::Reloaded;

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
        let plan = plan(&self.config, &new, state);
        let generation = supervisor.rearrange(plan, by).await?;
        let restart = needs_restart(&self.config, &new);
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

/// Notices that files may have changed: themselves, the folders that they stand in, and where links
/// lead.
struct Watch {
    watcher: Option<RecommendedWatcher>,
    noticed: mpsc::Receiver<()>,
    files: Files,
    folders: HashSet<PathBuf>,
}

impl Watch {
    fn none() -> Self {
        Self {
            watcher: None,
            noticed: mpsc::channel(1).1,
            files: Files::default(),
            folders: HashSet::new(),
        }
    }

    fn start(files: &Files) -> Self {
        let (notice, noticed) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // That someone read it is no news; and one notice is as good as many.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                let _ = notice.try_send(());
            }
        });
        let mut watch = Self {
            watcher: watcher.inspect_err(warn).ok(),
            noticed,
            files: files.clone(),
            folders: HashSet::new(),
        };
        watch.follow();
        watch
    }

    /// Watches the folder that each file stands in, and the one where it really is: editors and
    /// Kubernetes put another file, or another link, in its place.
    fn follow(&mut self) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let folder = |file: &Path| match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let really = |file| std::fs::canonicalize(file).ok().map(|file| folder(&file));
        let both = |file| [Some(folder(file)), really(file)];
        let folders: HashSet<_> = self.files.paths().flat_map(both).flatten().collect();
        for left in self.folders.difference(&folders) {
            // It may be gone already.
            let _ = watcher.unwatch(left);
        }
        for new in folders.difference(&self.folders) {
            if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
                warn(&error);
            }
        }
        self.folders = folders;
    }

    /// Resolves when something happened to a file, and for a moment nothing more did. Cancel-safe.
    async fn changed(&mut self) {
        if self.noticed.recv().await.is_none() {
            return std::future::pending().await;
        }
        while let Some(Some(())) = clock::within(PAUSE, self.noticed.recv()).await {}
        self.follow();
    }
}

fn warn(error: &notify::Error) {
    tracing::warn!(%error, "the file can't be watched; SIGHUP and POST /v1/reload still read it");
}
