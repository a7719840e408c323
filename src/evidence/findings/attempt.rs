//! What one attempt was to its caller: when the caller was told or gave up, and whether it had
//! reason to try again.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::evidence::{Class, Outcome, Record};

/// A client that ends its side sooner has said that it will say no more, and waits on: nobody gives
/// up so soon.
const HALF_CLOSE: Duration = Duration::from_millis(10);

/// When the caller stopped waiting, without an answer.
pub(super) fn gave_up(record: &Record) -> Option<Timestamp> {
    let client = &record.client;
    let ended = client
        .ended_at
        .filter(|at| at.since(record.started) >= HALF_CLOSE);
    match client.outcome {
        Outcome::Answered if record.class == Class::Acknowledged => None,
        Outcome::Left => ended.or(client.at),
        _ => ended,
    }
}

/// When the caller was told how it ended, or gave up; `None`: it still waits.
pub(super) fn told(record: &Record) -> Option<Timestamp> {
    gave_up(record).or(record.client.at)
}

/// Whether the caller had reason to try again: it was told of a failure of the other side, or nothing.
/// Not while it waits, and not after an answer that says that the request was wrong.
pub(super) fn failed(record: &Record) -> bool {
    if told(record).is_none() {
        return false;
    }
    let whole = match record.client.outcome {
        Outcome::Answered => matches!(record.class, Class::Acknowledged | Class::Open),
        Outcome::Substituted => true,
        _ => false,
    };
    if !whole || gave_up(record).is_some() {
        return true;
    }
    let status = record.client.status;
    status.is_none_or(|status| status >= 500 || matches!(status, 408 | 425 | 429))
}

/// Whether the caller can't know if it was done: it was sent, and no answer came back to it whole.
pub(super) fn is_in_doubt(record: &Record) -> bool {
    match record.class {
        Class::Unknown | Class::Unseen | Class::Late => true,
        // What may still become of it, its caller does not wait for.
        Class::Open => {
            gave_up(record).is_some() && record.upstream.iter().any(|d| d.sent_at.is_some())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::record::tests::record;

    #[test]
    fn a_caller_gives_up_is_told_or_waits() {
        let mut r = record();
        let at = |ms: u64| Some(Timestamp(ms * 1000));
        assert_eq!((told(&r), failed(&r)), (None, false));
        r.client.ended_at = at(500);
        assert_eq!((gave_up(&r), failed(&r)), (at(500), true), "still open");
        r.client.outcome = Outcome::Left;
        r.client.at = at(700);
        assert_eq!(
            told(&r),
            at(500),
            "what is seen of it later is no news to it"
        );
        r.client.ended_at = None;
        assert_eq!(told(&r), at(700));

        // A half-close.
        r.client.ended_at = at(1);
        r.client.outcome = Outcome::Answered;
        r.client.status = Some(200);
        r.class = Class::Acknowledged;
        assert_eq!((gave_up(&r), told(&r), failed(&r)), (None, at(700), false));
        r.client.outcome = Outcome::Substituted;
        r.class = Class::Substituted;
        assert_eq!((gave_up(&r), told(&r)), (None, at(700)));
    }

    #[test]
    fn an_answer_that_blames_the_request_is_no_reason_to_try_again() {
        let mut r = record();
        r.client.at = Some(Timestamp(1));
        let statuses = [200, 404, 409, 429, 503].map(Some);
        for (outcome, class, expected) in [
            (
                Outcome::Answered,
                Class::Acknowledged,
                [false, false, false, true, true],
            ),
            (
                Outcome::Substituted,
                Class::Substituted,
                [false, false, false, true, true],
            ),
            (Outcome::Answered, Class::Unseen, [true; 5]),
            (Outcome::Partial, Class::Unseen, [true; 5]),
            (Outcome::Reset, Class::Unknown, [true; 5]),
        ] {
            (r.client.outcome, r.class) = (outcome, class);
            let seen = statuses.map(|status| {
                r.client.status = status;
                failed(&r)
            });
            assert_eq!(seen, expected, "{outcome:?}");
        }
    }
}
