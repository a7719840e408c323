//! Probes of a drill: which there are, when they ask, and what they were answered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::super::command::Environment;
use super::super::load::Zero;
use super::super::probe::{self, Probe};
use super::super::sample::Asked;
use super::super::targets::{Refused, Targets};
use crate::clock;
use crate::config::Drill;
use crate::config::drill::{Condition, When};

/// Where a drill is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Waiting,
    Before,
    During,
    After,
    Over,
}

/// Whose condition it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Steady(usize),
    Promise(usize),
    Stop(usize),
}

/// One that asks.
struct Asker {
    whose: Whose,
    when: When,
    probe: Probe,
}

/// All probes.
pub(super) struct Asking {
    askers: Vec<Asker>,
    phase: watch::Sender<Phase>,
    answers: Arc<Mutex<Vec<Vec<Asked>>>>,
    zero: Zero,
    _tasks: JoinSet<()>,
}

impl Asking {
    /// Those of a drill; they ask from the first phase on.
    pub(super) fn prepare(
        drill: &Drill,
        targets: &Targets,
        environment: &Environment,
        zero: Zero,
    ) -> Result<Self, Refused> {
        let steady = drill.steady_state.checks.iter().enumerate();
        let steady = steady.map(|(n, check)| (Whose::Steady(n), When::Before, check));
        let promises = drill.promises.iter().enumerate();
        let promises = promises.map(|(n, p)| (Whose::Promise(n), p.when, &p.condition));
        let stops = drill.stop_when.iter().enumerate();
        let stops = stops.map(|(n, stop)| (Whose::Stop(n), When::Always, &stop.condition));
        let mut askers = Vec::new();
        let all: Vec<(Whose, When, &Condition)> = steady.chain(promises).chain(stops).collect();
        for (whose, when, condition) in all {
            let probe = Probe::new(&condition.check, targets, environment);
            let probe = probe.map_err(|what| Refused::new(what, targets.no_proxy("").hint))?;
            askers.extend(probe.map(|probe| Asker { whose, when, probe }));
        }
        let (phase, entered) = watch::channel(Phase::Waiting);
        let answers = Arc::new(Mutex::new(vec![Vec::new(); askers.len()]));
        let mut tasks = JoinSet::new();
        for (n, asker) in askers.iter().enumerate() {
            if asker.when != When::End {
                let (probe, when) = (asker.probe.clone(), asker.when);
                let (entered, answers) = (entered.clone(), Arc::clone(&answers));
                tasks.spawn(ask(n, probe, when, entered, answers, zero));
            }
        }
        Ok(Self {
            askers,
            phase,
            answers,
            zero,
            _tasks: tasks,
        })
    }

    /// Another phase begins.
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// The place of a condition's answers, if it asks.
    pub(super) fn place(&self, whose: Whose) -> Option<usize> {
        self.askers.iter().position(|asker| asker.whose == whose)
    }

    /// All answers so far.
    pub(super) fn answers(&self) -> MutexGuard<'_, Vec<Vec<Asked>>> {
        lock(&self.answers)
    }

    /// Asks what is asked once, when all is over.
    pub(super) async fn ask_in_the_end(&self) {
        for (n, asker) in self.askers.iter().enumerate() {
            if asker.when == When::End {
                let answer = asker.probe.ask(self.zero).await;
                lock(&self.answers)[n].push(answer);
            }
        }
    }
}

fn lock(answers: &Mutex<Vec<Vec<Asked>>>) -> MutexGuard<'_, Vec<Vec<Asked>>> {
    // Each change is one push.
    answers.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn ask(
    n: usize,
    probe: Probe,
    when: When,
    mut phase: watch::Receiver<Phase>,
    answers: Arc<Mutex<Vec<Vec<Asked>>>>,
    zero: Zero,
) {
    let due = |phase: &Phase| match when {
        When::Before => *phase == Phase::Before,
        When::During => *phase == Phase::During,
        When::After => *phase == Phase::After,
        When::End => false,
        When::Always => !matches!(phase, Phase::Waiting | Phase::Over),
    };
    // An error means that the drill is gone.
    while phase.wait_for(due).await.is_ok() {
        let began = clock::now();
        loop {
            let answer = probe.ask(zero).await;
            if let Some(list) = lock(&answers).get_mut(n) {
                list.push(answer);
            }
            tokio::select! {
                () = probe::wait(probe.every, began) => {}
                _ = phase.changed() => {}
            }
            if !due(&phase.borrow()) {
                break;
            }
        }
    }
}
