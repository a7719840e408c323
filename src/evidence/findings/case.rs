//! The records that one finding is judged from, put in order.

use std::collections::HashMap;
use std::rc::Rc;

use super::incoming::Incoming;
use crate::clock::Timestamp;
use crate::evidence::record::Caller;
use crate::evidence::{Record, Strength};

/// What crossed one edge: of one caller, or of all.
#[derive(Debug)]
pub struct Case<'r> {
    /// The service that calls.
    pub from: &'r str,
    /// The service that is called.
    pub to: &'r str,
    /// The host that calls; `None`: all of them.
    pub caller: Option<Caller>,
    /// Its messages, in the order in which they began.
    pub records: Vec<&'r Record>,
    /// The same, attempts at one thing together, in the order of the first attempts.
    pub logical: Vec<Logical<'r>>,
    /// What reaches the service that calls.
    pub incoming: Rc<Incoming<'r>>,
    /// All records there are, other edges' too, in the order in which they began.
    pub all: &'r [&'r Record],
    /// Until when there would have been records.
    pub now: Timestamp,
}

/// Attempts at one thing: requests of one proxy, method, path and identity. Never empty.
#[derive(Debug)]
pub struct Logical<'r> {
    /// In the order in which they began.
    pub attempts: Vec<&'r Record>,
}

impl<'r> Logical<'r> {
    /// The first of them.
    #[must_use]
    pub fn first(&self) -> &'r Record {
        self.attempts[0]
    }

    /// The last of them so far.
    #[must_use]
    pub fn last(&self) -> &'r Record {
        self.attempts[self.attempts.len() - 1]
    }
}

/// Every edge, once for each host that calls along it and once for all of them. `all`: in the order
/// in which they began. Connections without messages are in none.
pub(super) fn cases<'r>(all: &'r [&'r Record], now: Timestamp) -> Vec<Case<'r>> {
    type Key<'r> = (&'r str, &'r str, Option<Caller>);
    let mut order: Vec<Key<'_>> = Vec::new();
    let mut members: HashMap<Key<'_>, Vec<&Record>> = HashMap::new();
    let mut incoming: HashMap<&str, Incoming<'_>> = HashMap::new();
    for record in all {
        if record.request.method.is_none() {
            continue;
        }
        incoming.entry(&record.to).or_default().push(record);
        let host = record.client.address.map(Caller::host);
        let edge = (&*record.from, &*record.to, None);
        for key in [edge, (edge.0, edge.1, host)]
            .into_iter()
            .take(1 + usize::from(host.is_some()))
        {
            let records = members.entry(key).or_insert_with(|| {
                order.push(key);
                Vec::new()
            });
            records.push(record);
        }
    }
    let shared = |(service, incoming)| (service, Rc::new(incoming));
    let incoming: HashMap<_, _> = incoming.into_iter().map(shared).collect();
    let case = |key: Key<'r>| {
        let records = members.remove(&key).unwrap_or_default();
        let (from, to, caller) = key;
        let logical = logical(&records);
        Case {
            from,
            to,
            caller,
            records,
            logical,
            incoming: incoming.get(from).cloned().unwrap_or_default(),
            all,
            now,
        }
    };
    order.into_iter().map(case).collect()
}

/// Attempts at one thing together. A weak identity joins only what the record counts as a further
/// attempt.
fn logical<'r>(records: &[&'r Record]) -> Vec<Logical<'r>> {
    let mut groups: Vec<Logical<'r>> = Vec::new();
    let mut latest: HashMap<_, usize> = HashMap::new();
    for record in records {
        let request = &record.request;
        let key = record.identity.as_ref().map(|identity| {
            let value = (identity.by, &*identity.value);
            (&*record.proxy, &request.method, &request.path, value)
        });
        let weak = record
            .identity
            .as_ref()
            .is_some_and(|i| i.strength == Strength::Weak);
        let known = key.and_then(|key| latest.get(&key).copied());
        match known.filter(|_| !weak || record.attempt > 1) {
            Some(group) => groups[group].attempts.push(record),
            None => {
                if let Some(key) = key {
                    latest.insert(key, groups.len());
                }
                groups.push(Logical {
                    attempts: vec![record],
                });
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::record::tests::record;
    use crate::evidence::{By, Identity};

    fn request(n: u64, id: Option<(By, &str)>, attempt: u32, port: u16) -> Record {
        let mut r = record();
        r.id.n = n;
        r.started = Timestamp(n);
        r.attempt = attempt;
        r.request.method = Some("POST".into());
        r.request.path = Some("/pay".into());
        r.client.address = Some(Caller::At(([10, 0, 0, 1], port).into()));
        r.identity = id.map(|(by, value)| Identity {
            by,
            value: value.to_owned(),
            strength: match by {
                By::Fingerprint => Strength::Weak,
                _ => Strength::Strong,
            },
        });
        r
    }

    #[test]
    fn attempts_at_one_thing_are_together() {
        let (key, print) = (By::IdempotencyKey, By::Fingerprint);
        let mut records = [
            request(1, Some((key, "a")), 1, 1000),
            request(2, Some((key, "b")), 1, 1001),
            request(3, Some((key, "a")), 2, 1002),
            request(4, Some((print, "x")), 1, 1000),
            request(5, Some((print, "x")), 2, 1000),
            request(6, Some((print, "x")), 1, 1000),
            request(7, None, 1, 1000),
            request(8, None, 1, 1000),
        ];
        records[7].client.address = Some(Caller::At(([10, 0, 0, 2], 9).into()));
        let all: Vec<_> = records.iter().collect();
        let cases = cases(&all, Timestamp(9));
        let groups = |case: &Case<'_>| {
            let ids = |l: &Logical<'_>| l.attempts.iter().map(|r| r.id.n).collect::<Vec<_>>();
            case.logical.iter().map(ids).collect::<Vec<_>>()
        };
        let hosts: Vec<_> = cases
            .iter()
            .map(|c| c.caller.map(|h| h.to_string()))
            .collect();
        assert_eq!(
            hosts,
            [
                None,
                Some("10.0.0.1".to_owned()),
                Some("10.0.0.2".to_owned())
            ]
        );
        assert_eq!(
            groups(&cases[0]),
            [vec![1, 3], vec![2], vec![4, 5], vec![6], vec![7], vec![8]]
        );
        assert_eq!(groups(&cases[2]), [vec![8]]);
        assert_eq!(
            (
                cases[0].logical[0].first().id.n,
                cases[0].logical[0].last().id.n
            ),
            (1, 3)
        );
    }
}
