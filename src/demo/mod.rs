//! `firedrill demo`: the checkout story, told twice, in one process with real sockets.
//!
//! A customer orders from web, web calls inventory, payment and orders, orders calls e-mail. Every
//! edge is a proxy of an in-process Firedrill, which is asked over HTTP as any user would. Each of
//! the five things that one timeout can mean is an act, played by a naive web tier and by a
//! repaired one. What an act tells is read from the services' ledgers and from the evidence, and
//! held against what that act expects: if they differ, the demo fails.
//!
//! Prints nothing: text goes, line by line, to whoever called.

mod acts;
mod alone;
mod caller;
mod customer;
mod http;
mod ledger;
mod page;
mod patient;
mod payment;
mod service;
mod shop;
mod stack;
mod stand;
mod story;

use std::future::Future;
use std::pin::Pin;

pub use acts::{ACTS, Act, Caller, Trouble};
pub use alone::Service;
pub use customer::Told;
pub use ledger::{Fact, Ledger};
pub use page::WIDTH;
pub use payment::Payment;
pub use stack::{FILE, Ports, Stack};
pub use stand::{serve, serve_until};
pub use story::{Crossing, Expected, Promise, Story};

/// Acts behind the demo's back, once what is to go wrong in an act is set up and before its
/// customer orders.
pub type Meddle = Box<dyn for<'a> FnMut(&'a Act, &'a Stack) -> Meddling<'a>>;

/// A meddler at work.
pub type Meddling<'a> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>>;

/// How the demo is run.
#[derive(Default)]
pub struct Options {
    /// For the demo's own tests: proves that it tells what it sees.
    pub meddle: Option<Meddle>,
}

impl Options {
    /// With someone who meddles.
    pub fn meddling(
        meddle: impl for<'a> FnMut(&'a Act, &'a Stack) -> Meddling<'a> + 'static,
    ) -> Self {
        Self {
            meddle: Some(Box::new(meddle)),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Options(meddled with: {})", self.meddle.is_some())
    }
}

/// One act as it came out.
#[derive(Debug)]
pub struct Played {
    /// The act.
    pub act: Act,
    /// What became of the promise; `None`: it was not played to its end.
    pub promise: Option<Promise>,
    /// Where it was not as told; empty: it was.
    pub differences: Vec<String>,
}

/// How the demo came out.
#[derive(Debug)]
pub struct Ending {
    /// Every act was as told.
    pub held: bool,
    /// All ten.
    pub acts: Vec<Played>,
}

/// Plays the ten acts. `say` gets one line at a time, without its end.
///
/// # Errors
/// The stack can't start. An act that then can't be played to its end is one that is not as told.
pub async fn run(mut options: Options, say: &mut dyn FnMut(&str)) -> anyhow::Result<Ending> {
    page::OPENING.lines().for_each(&mut *say);
    let mut acts: Vec<Played> = Vec::new();
    for act in ACTS {
        say("");
        if acts.last().is_none_or(|last| last.act.caller != act.caller) {
            page::heading(act.caller).lines().for_each(&mut *say);
            say("");
        }
        // Each begins with a shop in which nothing has happened.
        let stack = Stack::start(Ports::Any).await?;
        let played = play(act, &stack, &mut options, say).await;
        stack.stop().await;
        acts.push(played);
    }
    say("");
    say(&last_line(&acts));
    let held = acts.iter().all(|played| played.differences.is_empty());
    Ok(Ending { held, acts })
}

async fn play(act: Act, stack: &Stack, options: &mut Options, say: &mut dyn FnMut(&str)) -> Played {
    let (promise, differences) = match act.play(stack, options.meddle.as_mut()).await {
        Ok(story) => {
            page::act(&act, &story).iter().for_each(|line| say(line));
            (Some(story.promise().0), story.differences(&act.expected))
        }
        Err(error) => {
            page::title(&act).iter().for_each(|line| say(line));
            (None, vec![format!("it could not be played: {error:#}")])
        }
    };
    if !differences.is_empty() {
        let lines = page::not_as_told(&differences);
        lines.iter().for_each(|line| say(line));
    }
    Played {
        act,
        promise,
        differences,
    }
}

fn last_line(acts: &[Played]) -> String {
    let astray = acts.iter().filter(|p| !p.differences.is_empty());
    let astray: Vec<_> = astray
        .map(|p| format!("{} {}", p.act.caller, p.act.number))
        .collect();
    if !astray.is_empty() {
        let (n, all) = (astray.len(), acts.len());
        return format!("{n} of {all} acts NOT as told: {}.", astray.join(", "));
    }
    let by = |caller| acts.iter().filter(move |p| p.act.caller == caller);
    let broke = |p: &&Played| p.promise == Some(Promise::Broken);
    let (naive, repaired) = (by(Caller::Naive), by(Caller::Repaired));
    format!(
        "{} acts as told: naive broke the promise in {} of {}, repaired kept it in {} of {}.",
        acts.len(),
        naive.clone().filter(broke).count(),
        naive.count(),
        repaired.clone().filter(|p| !broke(p)).count(),
        repaired.count(),
    )
}
