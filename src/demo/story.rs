//! What is the case after an act, read from ledgers and evidence and nothing else, and what that
//! means for the promise.

use std::fmt;

use super::customer::Told;
use super::stack::Stack;
use crate::evidence::{By, Cause, Class, Record};
use crate::wire::RuleItem;

/// One crossing of the edge to payment, as Firedrill recorded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crossing {
    /// `POST`: a charge was asked for. `GET`: what became of one.
    pub method: String,
    /// The operation that the caller named.
    pub operation: Option<String>,
    /// What the upstream answered.
    pub status: Option<u16>,
    /// As recorded.
    pub class: Class,
    /// As recorded.
    pub cause: Cause,
    /// The kind of the fault that was injected.
    pub kind: Option<String>,
    /// As recorded.
    pub deliveries: u32,
}

impl Crossing {
    fn read(record: &Record) -> Self {
        let path = record.request.path.as_deref().unwrap_or_default();
        let asked = path.strip_prefix("/authorizations/").map(str::to_owned);
        let named = record.identity.as_ref();
        let named = named.filter(|i| i.by == By::IdempotencyKey);
        let injected = record.faults.iter().find(|fault| fault.injected);
        Self {
            method: record.request.method.as_deref().unwrap_or("?").to_owned(),
            operation: asked.or_else(|| named.map(|i| i.value.clone())),
            status: record.upstream.iter().find_map(|d| d.status),
            class: record.class,
            cause: record.cause.clone(),
            kind: injected.map(|fault| fault.kind.to_string()),
            deliveries: record.deliveries,
        }
    }

    /// Whether it asked for a charge.
    pub fn is_charge(&self) -> bool {
        self.method == "POST"
    }

    /// `1 delivery`.
    pub fn deliveries(&self) -> String {
        match self.deliveries {
            1 => "1 delivery".to_owned(),
            n => format!("{n} deliveries"),
        }
    }
}

impl fmt::Display for Crossing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.class)?;
        if self.cause != Cause::None {
            write!(f, " by {}", self.cause)?;
        }
        write!(f, ", {}", self.deliveries())
    }
}

/// What became of the promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// It held.
    Kept,
    /// It held, but whoever spoke to the customer could not know.
    Luck,
    /// It did not hold.
    Broken,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kept => "kept",
            Self::Luck => "kept by luck",
            Self::Broken => "BROKEN",
        })
    }
}

/// What everyone says after an act.
#[derive(Debug, Clone)]
pub struct Story {
    /// To the customer, in order: the word, and how it was put.
    pub told: Vec<(Told, String)>,
    /// What each participant knows.
    pub known: Vec<(&'static str, Vec<String>)>,
    /// What crossed the edge to payment.
    pub crossings: Vec<Crossing>,
    /// What did not go as it should on any other edge.
    pub elsewhere: Vec<String>,
    /// How often each rule was injected, by Firedrill's own count.
    pub injected: Vec<(String, u64)>,
}

impl Story {
    pub(super) fn read(
        told: &[(Told, String)],
        stack: &Stack,
        records: &[Record],
        rules: &[RuleItem],
    ) -> Self {
        let known = stack.ledgers().map(|(name, ledger)| {
            let facts = ledger.facts();
            (name, facts.iter().map(ToString::to_string).collect())
        });
        let (payment, others): (Vec<_>, Vec<_>) =
            records.iter().partition(|r| &*r.proxy == "payment");
        let elsewhere = others
            .into_iter()
            .filter(|r| r.class != Class::Acknowledged);
        let injected = rules.iter().filter(|rule| rule.standing.injected > 0);
        Self {
            told: told.to_vec(),
            known: known.to_vec(),
            crossings: payment.into_iter().map(Crossing::read).collect(),
            elsewhere: elsewhere
                .map(|r| format!("{}: {} by {}", r.proxy, r.class, r.cause))
                .collect(),
            injected: injected
                .map(|r| (r.name.clone(), r.standing.injected))
                .collect(),
        }
    }

    /// What a participant knows.
    pub fn known(&self, participant: &str) -> &[String] {
        let mut known = self.known.iter();
        let found = known.find(|(name, _)| *name == participant);
        found.map_or(&[], |(_, facts)| facts)
    }

    /// Whether one order has one clear result and was charged at most once, and no customer was
    /// told what the ledgers contradict. With the reason.
    pub fn promise(&self) -> (Promise, String) {
        let charges = self.known("payment");
        let mut broken = Vec::new();
        if charges.len() > 1 {
            broken.push(format!("charged {} times", charges.len()));
        }
        let told = self.told.last().map_or(&Told::Nothing, |(told, _)| told);
        match told {
            Told::Failed if !charges.is_empty() => {
                broken.push("told \"failed\", and the money is taken".to_owned());
            }
            Told::Confirmed if charges.is_empty() => {
                broken.push("told \"confirmed\", and nothing was charged".to_owned());
            }
            Told::Confirmed if self.known("orders").is_empty() => {
                broken.push("told \"confirmed\", and there is no receipt".to_owned());
            }
            Told::Pending | Told::Nothing => broken.push("no clear result".to_owned()),
            Told::Failed | Told::Confirmed => {}
        }
        if !broken.is_empty() {
            return (Promise::Broken, format!("{}.", broken.join(", ")));
        }
        if *told == Told::Confirmed {
            let reason = "charged once, and told the truth.";
            return (Promise::Kept, reason.to_owned());
        }
        let answered = |c: &Crossing| c.is_charge() && c.class == Class::Acknowledged;
        if self.crossings.iter().any(answered) {
            (Promise::Kept, "not charged, and told so.".to_owned())
        } else {
            let reason = "not charged, but web could not know.";
            (Promise::Luck, reason.to_owned())
        }
    }

    fn charges(&self) -> String {
        let charges = self.crossings.iter().filter(|c| c.is_charge());
        listed(charges.map(ToString::to_string), "; ")
    }

    /// Where this is not what was expected: what, and both.
    pub(super) fn differences(&self, expected: &Expected) -> Vec<String> {
        let known = |participant| listed(self.known(participant).iter().cloned(), ", ");
        let told = self.told.iter().map(|(told, _)| told.to_string());
        let injected = self.injected.iter().map(|(rule, n)| format!("{rule} {n}"));
        let seen = [
            ("told to the customer", expected.told, listed(told, ", ")),
            ("web's ledger", expected.web, known("web")),
            ("inventory's ledger", expected.inventory, known("inventory")),
            ("payment's ledger", expected.payment, known("payment")),
            ("orders' ledger", expected.orders, known("orders")),
            ("e-mail's ledger", expected.email, known("e-mail")),
            ("evidence of charges", expected.charges, self.charges()),
            (
                "other evidence",
                "nothing",
                listed(self.elsewhere.iter().cloned(), ", "),
            ),
            (
                "injected by rules",
                expected.injected,
                listed(injected, ", "),
            ),
            (
                "the promise",
                expected.promise,
                self.promise().0.to_string(),
            ),
        ];
        let different = seen
            .into_iter()
            .filter(|(_, expected, seen)| expected != seen);
        different
            .map(|(what, expected, seen)| format!("{what}: expected {expected}; saw {seen}"))
            .collect()
    }
}

fn listed(items: impl Iterator<Item = String>, between: &str) -> String {
    let items: Vec<_> = items.collect();
    if items.is_empty() {
        "nothing".to_owned()
    } else {
        items.join(between)
    }
}

/// What is to be seen after an act, as [`Story`] puts it.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Expected {
    pub told: &'static str,
    pub web: &'static str,
    pub inventory: &'static str,
    pub payment: &'static str,
    pub orders: &'static str,
    pub email: &'static str,
    pub charges: &'static str,
    pub injected: &'static str,
    pub promise: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story(told: &[Told], charges: usize, receipts: usize, class: Class) -> Story {
        let facts = |n: usize| (0..n).map(|n| format!("fact-{n}")).collect();
        Story {
            told: told.iter().map(|t| (t.clone(), String::new())).collect(),
            known: vec![("payment", facts(charges)), ("orders", facts(receipts))],
            crossings: vec![Crossing {
                method: "POST".to_owned(),
                operation: None,
                status: None,
                class,
                cause: Cause::None,
                kind: None,
                deliveries: 1,
            }],
            elsewhere: Vec::new(),
            injected: Vec::new(),
        }
    }

    #[test]
    fn the_promise_is_judged_by_what_is_known() {
        use Told::{Confirmed, Failed, Pending};
        let (seen, unseen) = (Class::Acknowledged, Class::Unseen);
        let (kept, luck, broken) = (Promise::Kept, Promise::Luck, Promise::Broken);
        for (told, charges, receipts, class, promise) in [
            (&[Confirmed][..], 1, 1, seen, kept),
            (&[Pending, Confirmed], 1, 1, unseen, kept),
            (&[Confirmed], 2, 1, seen, broken),
            (&[Confirmed], 1, 0, seen, broken),
            (&[Confirmed], 0, 1, seen, broken),
            (&[Failed], 0, 0, seen, kept),
            (&[Failed], 0, 0, unseen, luck),
            (&[Failed], 1, 0, unseen, broken),
            (&[Pending], 0, 0, unseen, broken),
            (&[Pending], 1, 1, unseen, broken),
            (&[], 0, 0, unseen, broken),
        ] {
            let judged = story(told, charges, receipts, class).promise();
            assert_eq!(
                judged.0, promise,
                "{told:?} {charges} {receipts}: {judged:?}"
            );
        }
    }
}
