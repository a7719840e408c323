//! `overload`: the upstream acts as a server of small capacity.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::{Act, Answer, Args, Directions, Fault, Invalid, Kind, Param, Then, Type, Verdict};
use crate::operation::{Direction, Layer, Request};
use crate::seed::Draw;

pub(super) static KIND: Kind = Kind {
    name: "overload",
    summary: "the upstream acts as a server of that capacity: a queue forms, and who finds it full is refused",
    layers: &[Layer::Message],
    directions: Directions::Fixed(Direction::Upstream),
    params: &[
        Param {
            name: "concurrency",
            ty: Type::Count {
                min: 1,
                max: 100_000,
            },
            default: Some("1"),
            help: "how many are served at the same time",
        },
        Param {
            name: "queue",
            ty: Type::Count {
                min: 0,
                max: 1_000_000,
            },
            default: Some("100"),
            help: "how many may wait",
        },
        Param {
            name: "service_time",
            ty: Type::Duration,
            default: None,
            help: "how long each is served, before the upstream gets it",
        },
        Param {
            name: "full",
            ty: Type::Choice(&["answer", "close"]),
            default: Some("answer"),
            help: "what becomes of one too many: 503, or its connection is closed",
        },
    ],
    lifted: Some("queue flows"),
    build,
};

fn build(args: &Args) -> Result<Box<dyn Fault>, Invalid> {
    Ok(Box::new(Overload {
        concurrency: args.count("concurrency").unwrap_or(1) as usize,
        queue: args.count("queue").unwrap_or(100) as usize,
        service_time: args.duration("service_time").unwrap_or_default(),
        close: args.choice("full") == Some("close"),
        servers: Mutex::default(),
    }))
}

/// A queueing server (first come, first served) on a clock that is handed in.
#[derive(Debug, Default)]
struct Server {
    /// When those in service will be done.
    busy: BinaryHeap<Reverse<Duration>>,
    /// When those who wait will begin, in order.
    waiting: VecDeque<Duration>,
}

impl Server {
    /// Takes one that comes at `at`; answers when it will be done. `None`: the queue is full.
    fn take(
        &mut self,
        at: Duration,
        concurrency: usize,
        queue: usize,
        time: Duration,
    ) -> Option<Duration> {
        while self.waiting.front().is_some_and(|begin| *begin <= at) {
            self.waiting.pop_front();
        }
        while self.busy.peek().is_some_and(|Reverse(done)| *done <= at) {
            self.busy.pop();
        }
        let begin = if self.busy.len() < concurrency {
            at
        } else if self.waiting.len() >= queue {
            return None;
        } else {
            // Who is done first makes room for the first who waits.
            let Reverse(begin) = self.busy.pop()?;
            self.waiting.push_back(begin);
            begin
        };
        self.busy.push(Reverse(begin + time));
        Some(begin + time)
    }
}

#[derive(Debug)]
struct Overload {
    concurrency: usize,
    queue: usize,
    service_time: Duration,
    close: bool,
    /// By proxy.
    servers: Mutex<HashMap<String, Arc<Mutex<Server>>>>,
}

impl Fault for Overload {
    fn act(&self, _draw: Draw, proxy: &str) -> Box<dyn Act> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        Box::new(Queueing {
            concurrency: self.concurrency,
            queue: self.queue,
            service_time: self.service_time,
            close: self.close,
            server: Arc::clone(servers.entry(proxy.to_owned()).or_default()),
        })
    }
}

#[derive(Debug)]
struct Queueing {
    concurrency: usize,
    queue: usize,
    service_time: Duration,
    close: bool,
    server: Arc<Mutex<Server>>,
}

impl Act for Queueing {
    fn on_request(&mut self, _request: &Request<'_>, at: Duration) -> Verdict {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        match server.take(at, self.concurrency, self.queue, self.service_time) {
            Some(done) if done > at => Verdict::Hold(done - at),
            Some(_) => Verdict::Pass,
            None if self.close => Verdict::Discard(Then::Close),
            None => Verdict::Respond(Answer {
                status: 503,
                headers: Vec::new(),
                body: Bytes::new(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_forms_and_is_bounded_and_empties() {
        let mut server = Server::default();
        let ms = Duration::from_millis;
        let mut take = |at| server.take(ms(at), 2, 3, ms(100)).map(|d| d.as_millis());
        let all: Vec<_> = (0..6).map(|_| take(0)).collect();
        let done = [100, 100, 200, 200, 300].map(Some);
        assert_eq!(all[..5], done);
        assert_eq!(all[5], None, "three wait already");
        assert_eq!(take(100), Some(300), "two have begun");
        assert_eq!(take(1_000), Some(1_100), "all are done");
    }
}
