//! `stale`: a lagging replica: what the upstream said a while ago.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Act, Answer, Args, Directions, Fault, Invalid, Kind, Param, Type, Verdict};
use crate::operation::{Direction, Layer, Request};
use crate::seed::{self, Draw};

pub(super) static KIND: Kind = Kind {
    name: "stale",
    summary: "a GET reaches the upstream, and is answered with what the upstream said `age` ago",
    layers: &[Layer::Message],
    directions: Directions::Fixed(Direction::Downstream),
    params: &[Param {
        name: "age",
        ty: Type::Duration,
        default: None,
        help: "how far the replica lags; answers are captured since the rule was enabled, and until there is one that old nothing is injected",
    }],
    lifted: Some("goes at once"),
    build,
};

/// Bytes of bodies that are kept at the most; the oldest answers go first.
const MOST_BYTES: usize = 16 << 20;
/// Answers that are kept at the most.
const MOST_ANSWERS: usize = 10_000;

fn build(args: &Args) -> Result<Box<dyn Fault>, Invalid> {
    Ok(Box::new(Stale {
        age: args.duration("age").unwrap_or_default(),
        replica: Arc::default(),
    }))
}

/// What the upstream said, by what it was asked.
#[derive(Debug, Default)]
struct Replica {
    answers: HashMap<u64, VecDeque<(Duration, Answer)>>,
    /// In the order in which they came.
    order: VecDeque<u64>,
    bytes: usize,
}

impl Replica {
    /// The last that was said at `when` or before; what is older is of no use any more.
    fn at(&mut self, key: u64, when: Duration) -> Option<Answer> {
        let answers = self.answers.get(&key)?;
        let known = answers.iter().rev().find(|(said, _)| *said <= when);
        known.map(|(_, answer)| answer.clone())
    }

    fn keep(&mut self, key: u64, said: Duration, answer: &Answer) {
        if answer.body.len() > MOST_BYTES {
            return;
        }
        self.bytes += answer.body.len();
        self.order.push_back(key);
        let answers = self.answers.entry(key).or_default();
        answers.push_back((said, answer.clone()));
        while self.bytes > MOST_BYTES || self.order.len() > MOST_ANSWERS {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if let Some(answers) = self.answers.get_mut(&oldest) {
                let gone = answers.pop_front();
                self.bytes -= gone.map_or(0, |(_, answer)| answer.body.len());
                if answers.is_empty() {
                    self.answers.remove(&oldest);
                }
            }
        }
    }
}

#[derive(Debug)]
struct Stale {
    age: Duration,
    replica: Arc<Mutex<Replica>>,
}

impl Fault for Stale {
    fn act(&self, _draw: Draw, proxy: &str) -> Box<dyn Act> {
        Box::new(Reading {
            age: self.age,
            replica: Arc::clone(&self.replica),
            proxy: seed::key(&[proxy.as_bytes()]),
            key: 0,
        })
    }

    fn acts_on_answers(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct Reading {
    age: Duration,
    replica: Arc<Mutex<Replica>>,
    proxy: u64,
    key: u64,
}

impl Act for Reading {
    fn on_request(&mut self, request: &Request<'_>, _at: Duration) -> Verdict {
        if request.method != "GET" {
            return Verdict::Pass;
        }
        let host = request.header("host").unwrap_or_default();
        self.key = seed::key(&[
            &self.proxy.to_le_bytes(),
            host.as_bytes(),
            request.path.as_bytes(),
            request.query.unwrap_or_default().as_bytes(),
        ]);
        Verdict::Capture
    }

    fn on_answer(&mut self, answer: &Answer, at: Duration) -> Verdict {
        let mut replica = self.replica.lock().unwrap_or_else(PoisonError::into_inner);
        let stale = at
            .checked_sub(self.age)
            .and_then(|when| replica.at(self.key, when));
        if answer.status == 200 {
            replica.keep(self.key, at, answer);
        }
        stale.map_or(Verdict::Pass, Verdict::Respond)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn answer(body: &str) -> Answer {
        Answer {
            status: 200,
            headers: Vec::new(),
            body: Bytes::from(body.to_owned()),
        }
    }

    #[test]
    fn the_replica_says_what_was_said_then() {
        let mut replica = Replica::default();
        let s = Duration::from_secs;
        for (n, said) in [(1, 10), (2, 20), (3, 30)] {
            replica.keep(7, s(said), &answer(&n.to_string()));
        }
        let mut at = |when| replica.at(7, s(when)).map(|a| a.body);
        assert_eq!(at(9), None);
        assert_eq!(at(10).as_deref(), Some(&b"1"[..]));
        assert_eq!(at(29).as_deref(), Some(&b"2"[..]));
        assert_eq!(at(99).as_deref(), Some(&b"3"[..]));
        assert_eq!(replica.at(8, s(99)), None, "another question");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut replica = Replica::default();
        for n in 0..40 {
            let body = "x".repeat(1 << 20);
            replica.keep(n, Duration::from_secs(n), &answer(&body));
            assert!(replica.bytes <= MOST_BYTES);
        }
        assert_eq!(replica.order.len(), 16);
        assert_eq!(replica.answers.len(), 16);
        for n in 0..20_000 {
            replica.keep(n % 3, Duration::from_secs(n), &answer(""));
        }
        assert!(replica.order.len() <= MOST_ANSWERS);
    }
}
