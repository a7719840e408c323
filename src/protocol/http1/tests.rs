//! What the framers are held to. Here is what the tests share: a caller that keeps a buffer as a
//! proxy does, and writes down what it is told.

use std::collections::VecDeque;

use super::*;

mod connection;
mod framed;
mod generated;
mod refused;

/// What a caller was told. Runs of one nature are joined: how many there are is up to the reads.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Head(String),
    Content(Vec<u8>),
    Framing(Vec<u8>),
    End,
}

/// Everything that a caller was told of a stream, and where that stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trace {
    seen: Vec<Seen>,
    stop: Stop,
    /// What was not consumed.
    rest: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    More,
    Held,
    Tunnel,
    Refused(Refusal),
}

/// Both framers, with heads as words.
trait Watch {
    fn step(&mut self, input: &[u8]) -> Result<Event<String>, Refusal>;
    fn eof(&self, leftover: usize) -> Eof;
}

impl Watch for RequestFramer {
    fn step(&mut self, input: &[u8]) -> Result<Event<String>, Refusal> {
        Ok(worded(self.next(input, &mut scratch())?, |head| {
            format!("{} {} {:?}", head.method, head.target, head.body())
        }))
    }

    fn eof(&self, leftover: usize) -> Eof {
        self.eof(leftover)
    }
}

/// A response framer, and the requests whose answers it sees.
#[derive(Default)]
struct Answers {
    framer: ResponseFramer,
    asked: VecDeque<Asked>,
}

impl Watch for Answers {
    fn step(&mut self, input: &[u8]) -> Result<Event<String>, Refusal> {
        let mut scratch = scratch();
        let event = self
            .framer
            .next(input, &mut scratch, self.asked.front().copied())?;
        if let Event::End = event {
            self.asked.pop_front();
        }
        Ok(worded(event, |head| {
            format!("{} {:?}", head.status, head.body)
        }))
    }

    fn eof(&self, leftover: usize) -> Eof {
        self.framer.eof(leftover)
    }
}

fn worded<H>(event: Event<H>, words: impl FnOnce(H) -> String) -> Event<String> {
    match event {
        Event::Head { len, head } => Event::Head {
            len,
            head: words(head),
        },
        Event::Body { len, content } => Event::Body { len, content },
        Event::End => Event::End,
        Event::More => Event::More,
        Event::Held => Event::Held,
        Event::Tunnel => Event::Tunnel,
    }
}

const GET: Asked = Asked {
    head: false,
    connect: false,
    upgrade: false,
};
const HEAD: Asked = Asked { head: true, ..GET };
const CONNECT: Asked = Asked {
    connect: true,
    ..GET
};
const UPGRADE: Asked = Asked {
    upgrade: true,
    ..GET
};

fn answers(asked: &[Asked]) -> Answers {
    Answers {
        framer: ResponseFramer::default(),
        asked: asked.iter().copied().collect(),
    }
}

/// Gives the pieces one after the other, as reads would, and checks what holds for any input.
fn watch<'a>(watcher: &mut impl Watch, pieces: impl IntoIterator<Item = &'a [u8]>) -> Trace {
    let mut trace = Trace {
        seen: Vec::new(),
        stop: Stop::More,
        rest: Vec::new(),
    };
    for piece in pieces {
        trace.rest.extend_from_slice(piece);
        loop {
            let consumed = match watcher.step(&trace.rest) {
                Ok(Event::Head { len, head }) => {
                    trace.seen.push(Seen::Head(head));
                    len
                }
                Ok(Event::Body { len, content }) => {
                    note(&mut trace.seen, &trace.rest[..len], content);
                    len
                }
                Ok(Event::End) => {
                    trace.seen.push(Seen::End);
                    continue;
                }
                Ok(Event::More) => {
                    trace.stop = Stop::More;
                    break;
                }
                Ok(Event::Held) => {
                    assert!(!trace.rest.is_empty(), "nothing to hold");
                    trace.stop = Stop::Held;
                    break;
                }
                Ok(Event::Tunnel) => {
                    trace.stop = Stop::Tunnel;
                    break;
                }
                Err(refusal) => {
                    trace.stop = Stop::Refused(refusal);
                    break;
                }
            };
            assert!(consumed > 0, "an event without bytes");
            trace.rest.drain(..consumed);
        }
    }
    trace
}

fn note(seen: &mut Vec<Seen>, bytes: &[u8], content: bool) {
    match seen.last_mut() {
        Some(Seen::Content(run)) if content => run.extend_from_slice(bytes),
        Some(Seen::Framing(run)) if !content => run.extend_from_slice(bytes),
        _ if content => seen.push(Seen::Content(bytes.to_vec())),
        _ => seen.push(Seen::Framing(bytes.to_vec())),
    }
}

fn at_once(watcher: &mut impl Watch, bytes: &[u8]) -> Trace {
    watch(watcher, [bytes])
}

fn byte_by_byte(watcher: &mut impl Watch, bytes: &[u8]) -> Trace {
    watch(watcher, bytes.chunks(1))
}

fn head(words: &str) -> Seen {
    Seen::Head(words.to_owned())
}

fn content(bytes: &str) -> Seen {
    Seen::Content(bytes.as_bytes().to_vec())
}

fn framing(bytes: &str) -> Seen {
    Seen::Framing(bytes.as_bytes().to_vec())
}
