//! `throttle`: refused past a rate.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::{Act, Answer, Args, Directions, Fault, Invalid, Kind, Param, Type, Verdict};
use crate::operation::{Direction, Layer, Request};
use crate::seed::Draw;

pub(super) static KIND: Kind = Kind {
    name: "throttle",
    summary: "requests past the rate are answered by the proxy; the upstream never sees them",
    layers: &[Layer::Message],
    directions: Directions::Fixed(Direction::Upstream),
    params: &[
        Param {
            name: "rate",
            ty: Type::Frequency,
            default: None,
            help: "how many pass, all of a proxy together",
        },
        Param {
            name: "burst",
            ty: Type::Count {
                min: 1,
                max: 1_000_000,
            },
            default: Some("1"),
            help: "how many may come at once",
        },
        Param {
            name: "status",
            ty: Type::Count { min: 400, max: 599 },
            default: Some("429"),
            help: "the answer's status",
        },
        Param {
            name: "retry_after",
            ty: Type::Duration,
            default: Some("null"),
            help: "what `Retry-After` says, in whole seconds; absent: when the next one passes",
        },
    ],
    lifted: None,
    build,
};

fn build(args: &Args) -> Result<Box<dyn Fault>, Invalid> {
    let (number, per) = args
        .frequency("rate")
        .unwrap_or((1, Duration::from_secs(1)));
    Ok(Box::new(Throttle {
        interval: per.div_f64(number as f64),
        burst: args.count("burst").unwrap_or(1) as u32,
        status: args.count("status").unwrap_or(429) as u16,
        retry_after: args.duration("retry_after"),
        due: Mutex::default(),
    }))
}

/// By proxy, when the next request is due.
type Due = Arc<Mutex<Duration>>;

#[derive(Debug)]
struct Throttle {
    interval: Duration,
    burst: u32,
    status: u16,
    retry_after: Option<Duration>,
    due: Mutex<HashMap<String, Due>>,
}

impl Fault for Throttle {
    fn act(&self, _draw: Draw, proxy: &str) -> Box<dyn Act> {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        Box::new(Throttling {
            interval: self.interval,
            burst: self.burst,
            status: self.status,
            retry_after: self.retry_after,
            due: Arc::clone(due.entry(proxy.to_owned()).or_default()),
        })
    }
}

#[derive(Debug)]
struct Throttling {
    interval: Duration,
    burst: u32,
    status: u16,
    retry_after: Option<Duration>,
    due: Due,
}

impl Act for Throttling {
    /// The generic cell rate algorithm (ITU-T I.371): a token bucket kept as one moment.
    fn on_request(&mut self, _request: &Request<'_>, at: Duration) -> Verdict {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = self.interval * (self.burst - 1);
        let earliest = due.saturating_sub(ahead);
        if at >= earliest {
            *due = (*due).max(at) + self.interval;
            return Verdict::Pass;
        }
        let wait = self.retry_after.unwrap_or(earliest - at);
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Verdict::Respond(Answer {
            status: self.status,
            headers: vec![("retry-after".to_owned(), seconds.to_string())],
            body: Bytes::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_pass_in_a_time_and_so_many_at_once() {
        let fault = Throttle {
            interval: Duration::from_millis(100),
            burst: 3,
            status: 429,
            retry_after: None,
            due: Mutex::default(),
        };
        let request = Request {
            authority: None,
            method: "GET",
            path: "/",
            query: None,
            headers: &[],
            http2: false,
        };
        let ask = |ms: u64| {
            let mut act = fault.act(Draw::new(1, "t", 1, 1), "p");
            match act.on_request(&request, Duration::from_millis(10_000 + ms)) {
                Verdict::Pass => None,
                Verdict::Respond(answer) => Some(answer.headers[0].1.clone()),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!([ask(0), ask(0), ask(0)], [None, None, None]);
        assert_eq!(ask(0).as_deref(), Some("1"), "the burst is over");
        assert_eq!(ask(99).as_deref(), Some("1"));
        assert_eq!(ask(100), None);
        assert!(ask(101).is_some());
        // Ten seconds later the burst is whole again, and no more than that.
        let passed = (0..10).filter(|_| ask(10_000).is_none()).count();
        assert_eq!(passed, 3);
    }
}
