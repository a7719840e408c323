//! The operations that the report tells.

use std::collections::BTreeSet;

use super::super::report;
use super::super::sample::micros;
use super::super::verdict::{Judgement, Verdict};
use super::Run;
use super::figures::ms;
use crate::evidence::story::{Story, Teller, Told, names};
use crate::evidence::{Class, Record};

/// The most operations that are told.
const STORIES: usize = 5;

impl Run<'_> {
    /// The worst operations, told twice: those that prove a broken promise, then those of which
    /// somebody could not know what became.
    pub(super) fn stories(&self, judged: &[Judgement], records: &[Record]) -> Vec<report::Stories> {
        let promises = self.job.drill.promises.iter().zip(judged);
        let broken = promises.filter(|(_, j)| j.verdict == Verdict::Broken);
        let proofs = broken.flat_map(|(promise, judged)| {
            let why = format!("broken: {}", promise.name);
            judged.proof.iter().map(move |(_, id)| (why.clone(), *id))
        });
        let doubtful = [
            Class::Unseen,
            Class::Unknown,
            Class::Late,
            Class::NeverDelivered,
        ];
        let doubtful = doubtful.into_iter().flat_map(|class| {
            let these = records.iter().filter(move |r| r.class == class);
            let injected = these.filter(|r| r.faults.iter().any(|f| f.injected));
            injected.map(move |r| (class.to_string(), r.id))
        });
        let mut told: BTreeSet<String> = BTreeSet::new();
        let mut stories = Vec::new();
        for (why, id) in proofs.chain(doubtful) {
            if stories.len() >= STORIES {
                break;
            }
            let Some(record) = records.iter().find(|r| r.id == id) else {
                continue;
            };
            let (name, all) = whole(record, records);
            if !told.insert(name.clone()) {
                continue;
            }
            if let Some(story) = Story::of(&name, &all) {
                stories.push(self.story(why, &story));
            }
        }
        stories
    }

    fn story(&self, why: String, story: &Story) -> report::Stories {
        let told = |told: &Told| report::Told {
            at_ms: ms(micros(self.start, told.at)),
            what: told.what.clone(),
        };
        let teller = |teller: &Teller| report::Teller {
            name: teller.name.clone(),
            facts: teller.facts.iter().map(told).collect(),
        };
        let unknown = story.unknown.iter().map(|unknown| match &unknown.to {
            Some(who) => format!("to {who}: {}", unknown.what),
            None => unknown.what.clone(),
        });
        report::Stories {
            id: story.id.clone(),
            why,
            customer: teller(&story.customer),
            participants: story.participants.iter().map(teller).collect(),
            faults: story.faults.iter().map(told).collect(),
            unknown: unknown.collect(),
        }
    }
}

/// All records that belong to the operation of one, and what it is called.
fn whole(record: &Record, records: &[Record]) -> (String, Vec<Record>) {
    let identity = record.identity.as_ref().map(|i| i.value.clone());
    let mut own = vec![record.clone()];
    let mut known = names(&own);
    known.extend(identity.clone());
    // By what those are known that are found, others are.
    loop {
        let belongs = |r: &&Record| {
            let own = r
                .identity
                .as_ref()
                .is_some_and(|i| known.contains(&i.value));
            own || r.trace.is_some_and(|t| known.contains(&t.id.to_string())) || r.id == record.id
        };
        let found: Vec<_> = records.iter().filter(belongs).take(200).cloned().collect();
        let more = names(&found);
        let grown = found.len() > own.len();
        own = found;
        if !grown || more.is_subset(&known) {
            break;
        }
        known.extend(more);
    }
    (identity.unwrap_or_else(|| record.id.to_string()), own)
}
