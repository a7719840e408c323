//! Which records are asked for.

use super::{Class, Hashing, Record, RecordId};
use crate::clock::Timestamp;
use crate::rules::Statuses;

/// Which records are asked for; absent conditions hold for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// An operation's identity, its trace, or a record's own id.
    pub id: Option<String>,
    /// A class.
    pub class: Option<Class>,
    /// A proxy.
    pub proxy: Option<String>,
    /// The service that calls.
    pub from: Option<String>,
    /// The service that is called.
    pub to: Option<String>,
    /// A rule or partition that chose the operation.
    pub rule: Option<String>,
    /// The status of an upstream's answer, or of the client's.
    pub status: Option<Statuses>,
    /// Only those that began at this moment or later.
    pub since: Option<Timestamp>,
    /// Only those that began before this moment.
    pub until: Option<Timestamp>,
    /// Only those that began before this one: the page before one that begins with it.
    pub before: Option<RecordId>,
    /// At most so many, the newest.
    pub limit: Option<usize>,
    /// The id as it is kept, where that is another one than what is asked for.
    pub hashed: Option<String>,
}

impl Filter {
    /// Finds by its own text what is kept as a hash.
    #[must_use]
    pub fn under(mut self, hashing: &Hashing) -> Self {
        self.hashed = self.id.as_deref().map(|id| hashing.text(id));
        self
    }

    /// Whether every condition holds.
    #[must_use]
    pub fn passes(&self, record: &Record) -> bool {
        let same = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
        let named = |wanted: &Option<String>| {
            let identity = record.identity.as_ref();
            wanted.is_some() && identity.is_some_and(|i| same(wanted, &i.value))
        };
        let identified = |id: &str| {
            named(&self.id)
                || named(&self.hashed)
                || record.id.to_string() == id
                || record
                    .trace
                    .is_some_and(|t| id.len() == 32 && t.id.to_string() == id)
        };
        let answered = |wanted: Statuses| {
            let statuses = record.upstream.iter().filter_map(|d| d.status);
            let mut statuses = statuses.chain(record.client.status);
            statuses.any(|status| wanted.contains(status))
        };
        let earlier = |before: RecordId| (record.id.run, record.id.n) < (before.run, before.n);
        let by = |rule: &str| record.faults.iter().any(|f| &*f.rule == rule);
        self.before.is_none_or(earlier)
            && self.since.is_none_or(|since| since <= record.started)
            && self.until.is_none_or(|until| record.started < until)
            && self.class.is_none_or(|class| record.class == class)
            && same(&self.proxy, &record.proxy)
            && same(&self.from, &record.from)
            && same(&self.to, &record.to)
            && self.status.is_none_or(answered)
            && self.rule.as_deref().is_none_or(by)
            && self.id.as_deref().is_none_or(identified)
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::super::{By, Delivery, Identity, Ledger, Room, Strength, Trace};
    use super::*;

    #[test]
    fn filters_are_joined_and_the_limit_takes_the_newest() {
        let ledger = Ledger::new(Some(Room {
            records: 10,
            bytes: usize::MAX,
        }));
        for proxy in ["a", "b", "a", "a"] {
            let mut r = record();
            r.id = ledger.next_id();
            r.proxy = proxy.into();
            let _ = ledger.begin(r);
        }
        let filter = Filter {
            proxy: Some("a".to_owned()),
            class: Some(Class::Open),
            limit: Some(2),
            ..Filter::default()
        };
        let ids: Vec<_> = ledger.list(&filter).iter().map(|r| r.id.n).collect();
        assert_eq!(ids, [3, 4]);
    }

    #[test]
    fn each_condition_holds_or_does_not() {
        let mut r = record();
        r.started = Timestamp(50);
        r.upstream.push(Delivery {
            status: Some(201),
            ..Delivery::default()
        });
        r.client.status = Some(504);
        let trace = "0af7651916cd43dd8448eb211c80319c";
        r.trace = Trace::parse(&format!("00-{trace}-b7ad6b7169203331-01"));
        let hashing = Hashing {
            identities: true,
            ..Hashing::default()
        };
        let identity = Identity {
            by: By::IdempotencyKey,
            value: "pay-42".to_owned(),
            strength: Strength::Strong,
        };
        r.identity = Some(hashing.identity(identity, None));
        let id = |id: &str| Filter {
            id: Some(id.to_owned()),
            ..Filter::default()
        };
        assert!(!id("pay-42").passes(&r));
        assert!(id("pay-42").under(&hashing).passes(&r));
        assert!(!id("pay-43").under(&hashing).passes(&r));
        assert!(id(trace).passes(&r) && id("00000001-1").passes(&r));
        let status = |text| Filter {
            status: Statuses::parse(text).ok(),
            ..Filter::default()
        };
        for (text, holds) in [("201", true), ("5xx", true), ("4xx", false)] {
            assert_eq!(status(text).passes(&r), holds, "{text}");
        }
        let between = |since, until| Filter {
            since: Some(Timestamp(since)),
            until: Some(Timestamp(until)),
            ..Filter::default()
        };
        for (since, until, holds) in [(50, 51, true), (51, 60, false), (40, 50, false)] {
            assert_eq!(between(since, until).passes(&r), holds, "{since}..{until}");
        }
        let service = |from: &str, to: &str| Filter {
            from: Some(from.to_owned()),
            to: Some(to.to_owned()),
            ..Filter::default()
        };
        assert!(service("web", "payment").passes(&r) && !service("web", "web").passes(&r));
    }
}
