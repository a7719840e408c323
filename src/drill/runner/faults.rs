//! What goes wrong, turned on and off.

use super::super::command::{self, Environment, Guard};
use super::super::plan::{Fault, To, Turn, What};
use super::super::sample::Micros;
use super::{Event, Halt, LIFT, Run};
use crate::config::drill::Run as Command;

/// The faults of a drill, and how they stand.
pub(super) struct Faults {
    list: Vec<Fault>,
    environment: Environment,
    /// When each was on; the last without an end is on.
    pub(super) on: Vec<Vec<(Micros, Option<Micros>)>>,
    /// Who undoes a command when nobody else does.
    guards: Vec<Option<Guard>>,
    /// What was done, or not, and when.
    pub(super) steps: Vec<(Micros, String, Option<String>)>,
}

impl Faults {
    pub(super) fn new(list: Vec<Fault>, environment: Environment) -> Self {
        Self {
            on: vec![Vec::new(); list.len()],
            guards: list.iter().map(|_| None).collect(),
            steps: Vec::new(),
            list,
            environment,
        }
    }

    pub(super) fn environment(&self) -> &Environment {
        &self.environment
    }

    pub(super) fn list(&self) -> &[Fault] {
        &self.list
    }

    fn is_on(&self, fault: usize) -> bool {
        let last = self.on.get(fault).and_then(|on| on.last());
        last.is_some_and(|(_, to)| to.is_none())
    }
}

impl Run<'_> {
    fn step(&mut self, what: String, error: Option<String>) {
        let now = self.zero.now();
        let after = super::super::sample::duration(now);
        self.faults.steps.push((now, what.clone(), error.clone()));
        self.say(Event::Step(after, what, error));
    }

    /// Does what the timeline says.
    pub(super) async fn turn(&mut self, turn: &Turn) -> Result<(), Halt> {
        let Some(fault) = self.faults.list.get(turn.fault).cloned() else {
            return Ok(());
        };
        let name = &fault.name;
        let done = match (&fault.what, turn.to) {
            (What::Run(run), To::On(lasts)) => {
                self.run_command(turn.fault, run, lasts.is_some()).await
            }
            (What::Run(_), To::Off) => self.undo(turn.fault).await,
            (_, To::On(lasts)) => {
                let now = self.zero.now();
                // What it did in the moment before the answer came is its doing as well.
                self.faults.on[turn.fault].push((now, None));
                let done = self
                    .targets
                    .turn_on(turn.fault, lasts.unwrap_or_default())
                    .await;
                self.inbox.know_skews(&self.targets);
                done
            }
            (_, To::Off) => {
                let done = self.targets.turn_off(turn.fault).await;
                if done.is_ok() {
                    self.close(turn.fault);
                }
                done
            }
        };
        let what = match turn.to {
            To::On(Some(lasts)) => {
                let lasts = crate::units::format_duration(lasts);
                format!("{name}: {}, for {lasts}", fault.what.kind())
            }
            To::On(None) => format!("{name}: {}", fault.what.kind()),
            To::Off => format!("{name}: off"),
        };
        self.step(what, done.clone().err());
        done.map_err(|error| Halt::Failed(format!("`{name}`: {error}")))
    }

    fn close(&mut self, fault: usize) {
        let now = self.zero.now();
        if let Some((_, to @ None)) = self.faults.on.get_mut(fault).and_then(|on| on.last_mut()) {
            *to = Some(now);
        }
    }

    async fn run_command(
        &mut self,
        fault: usize,
        run: &Command,
        lasts: bool,
    ) -> Result<(), String> {
        let environment = self.faults.environment.clone();
        if let Some(undo) = run.undo.as_ref().filter(|_| lasts) {
            self.faults.guards[fault] = Some(Guard::start(undo, &environment)?);
        }
        let now = self.zero.now();
        self.faults.on[fault].push((now, None));
        let ran = command::run(&run.run, &environment).await;
        if !lasts {
            self.close(fault);
        }
        match ran? {
            ran if ran.is_done() => Ok(()),
            ran => Err(format!("`{}`: {}", run.run, ran.in_words())),
        }
    }

    /// Undoes a command that was run.
    async fn undo(&mut self, fault: usize) -> Result<(), String> {
        let Some(What::Run(run)) = self.faults.list.get(fault).map(|f| f.what.clone()) else {
            return Ok(());
        };
        let Some(undo) = run.undo.as_ref().filter(|_| self.faults.is_on(fault)) else {
            return Ok(());
        };
        let ran = command::run(undo, &self.faults.environment).await?;
        if !ran.is_done() {
            return Err(format!("`{undo}`: {}", ran.in_words()));
        }
        self.close(fault);
        if let Some(guard) = self.faults.guards.get_mut(fault).and_then(Option::take) {
            guard.release().await;
        }
        Ok(())
    }

    /// Lifts all that is on, and looks that it is. Answers what could not be, or of which nobody can
    /// tell.
    pub(super) async fn lift(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        for fault in 0..self.faults.list.len() {
            if !self.faults.is_on(fault) {
                continue;
            }
            if let What::Run(_) = self.faults.list[fault].what {
                let name = self.faults.list[fault].name.clone();
                let undone = self.undo(fault).await;
                self.step(format!("{name}: off"), undone.clone().err());
                left.extend(undone.err().map(|error| format!("`{name}`: {error}")));
            }
        }
        // An instance that is lost lifts by itself when the time is up; nobody could tell before.
        let longest = self.plan.turns.iter().filter_map(|turn| match turn.to {
            To::On(lasts) => lasts,
            To::Off => None,
        });
        let grace = super::super::targets::GRACE;
        let patience = longest
            .max()
            .unwrap_or_default()
            .saturating_add(grace)
            .min(LIFT);
        let still = self.targets.lift(patience).await;
        let on: Vec<_> = (0..self.faults.list.len())
            .filter(|n| self.faults.is_on(*n) && !matches!(self.faults.list[*n].what, What::Run(_)))
            .collect();
        for fault in on {
            let name = self.faults.list[fault].name.clone();
            if still.is_empty() {
                self.close(fault);
                self.step(format!("{name}: off"), None);
            }
        }
        left.extend(still);
        left
    }

    /// How long each was on, in the end.
    pub(super) fn spans(&self, fault: usize) -> Vec<(Micros, Micros)> {
        let now = self.zero.now();
        let on = self.faults.on.get(fault).into_iter().flatten();
        on.map(|(from, to)| (*from, to.unwrap_or(now))).collect()
    }
}
