//! Laws that every registered kind obeys.

use super::{Arg, Args, Chunk, Directions, Fault, KINDS, Kind, Param, Type, Verdict};
use crate::operation::{Direction, Layer, Request, Response};
use crate::seed::Draw;

/// The least that must be said for a fault of this kind.
fn example(kind: &Kind) -> Args {
    let least = arguments(kind, |p| p.default.is_none());
    match (kind.build)(&least) {
        Ok(_) => least,
        // One of several must be given.
        Err(_) => arguments(kind, |_| true),
    }
}

fn arguments(kind: &Kind, given: impl Fn(&Param) -> bool) -> Args {
    let given = kind.params.iter().filter(|p| given(p));
    Args(
        given
            .map(|p| {
                let arg = match p.ty {
                    Type::Duration => Arg::Duration(std::time::Duration::from_millis(10)),
                    Type::Count { min, .. } => Arg::Count(min),
                    Type::Choice(words)
                    | Type::ChoiceOrStatus(words)
                    | Type::ChoiceOrDuration(words) => Arg::Choice(words[0]),
                    Type::Text => Arg::Text("x".to_owned()),
                    Type::Map => Arg::Map(vec![("x-name".to_owned(), "text".to_owned())]),
                    Type::Size => Arg::Size(10),
                    Type::Rate => Arg::Rate(1000),
                    Type::Ratio => Arg::Ratio(1.0),
                    Type::DurationOrSize | Type::RatioOrSize => Arg::Size(10),
                    Type::Names => Arg::Names(vec!["x-other".to_owned()]),
                    Type::Frequency => Arg::Frequency(1, std::time::Duration::from_secs(3600)),
                    Type::Offset => Arg::Offset(-60),
                };
                (p.name, arg)
            })
            .collect(),
    )
}

fn build(kind: &Kind) -> Box<dyn Fault> {
    (kind.build)(&example(kind)).unwrap()
}

/// Every verdict of one operation on a layer.
fn verdicts(kind: &Kind, layer: Layer) -> Vec<Verdict> {
    let mut act = build(kind).act(Draw::new(1, "rule", 2, 3), "proxy");
    let at = std::time::Duration::from_secs(1);
    let chunk = |direction| Chunk {
        direction,
        len: 100,
        at,
    };
    let request = Request {
        authority: None,
        method: "GET",
        path: "/",
        query: None,
        headers: &[],
        http2: true,
    };
    let response = Response {
        status: 200,
        headers: &[],
        length: Some(100),
    };
    match layer {
        Layer::Connection => vec![act.on_connect()],
        Layer::Handshake => vec![act.on_handshake()],
        Layer::Message => {
            let mut all = vec![act.on_request(&request, at), act.on_response(&response)];
            if kind.name == "throttle" {
                // The first passes.
                all.push(act.on_request(&request, at));
            }
            all
        }
        Layer::Body => {
            let _ = act.on_response(&response);
            Direction::ALL.map(|d| act.on_body(&chunk(d))).into()
        }
        Layer::Stream => {
            let mut all = vec![act.on_stream()];
            for direction in Direction::ALL {
                all.extend([act.on_chunk(&chunk(direction)), act.on_eof(direction)]);
            }
            all
        }
    }
}

/// A rule that waits for the answer has a fault that still can act on it.
#[test]
fn what_acts_on_answers_needs_no_request_before() {
    let mut some = 0;
    for kind in KINDS {
        let on_messages = kind.acts_on(Layer::Message) || kind.acts_on(Layer::Body);
        let upstream = kind.directions == Directions::Fixed(Direction::Upstream);
        let fault = build(kind);
        if !on_messages || upstream || !fault.acts_on_answers() {
            continue;
        }
        let mut act = fault.act(Draw::new(1, "rule", 2, 3), "proxy");
        let response = Response {
            status: 200,
            headers: &[],
            length: Some(100),
        };
        let chunk = Chunk {
            direction: Direction::Downstream,
            len: 100,
            at: std::time::Duration::from_secs(1),
        };
        let verdicts = [act.on_response(&response), act.on_body(&chunk)];
        let acted = verdicts.iter().any(|verdict| *verdict != Verdict::Pass);
        assert!(acted, "{}: `acts_on_answers` is not true", kind.name);
        some += 1;
    }
    assert!(some >= 8, "{some}");
}

#[test]
fn the_registry_is_not_empty_and_names_are_unique_words() {
    assert!(KINDS.len() >= 5);
    for (n, kind) in KINDS.iter().enumerate() {
        assert!(!kind.name.is_empty());
        assert!(
            kind.name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b"_0123456789".contains(&b))
        );
        assert!(
            KINDS[..n].iter().all(|other| other.name != kind.name),
            "{}",
            kind.name
        );
        assert!(!kind.summary.is_empty() && !kind.summary.ends_with('.'));
        assert!(kind.lifted != Some(""));
        for (n, param) in kind.params.iter().enumerate() {
            assert!(
                kind.params[..n]
                    .iter()
                    .all(|other| other.name != param.name)
            );
            assert!(!param.help.is_empty());
        }
    }
}

#[test]
fn every_kind_acts_where_it_says_and_nowhere_else() {
    for kind in KINDS {
        for layer in Layer::ALL {
            if layer == Layer::Body && kind.acts_on(Layer::Message) {
                // Which of both depends on how it is given: see the tests of the kind.
                continue;
            }
            let acts = verdicts(kind, layer).iter().any(|v| *v != Verdict::Pass);
            assert_eq!(acts, kind.acts_on(layer), "{} on {layer:?}", kind.name);
        }
    }
}

#[test]
fn the_same_draw_gives_the_same_verdicts() {
    for kind in KINDS {
        for layer in Layer::ALL {
            assert_eq!(
                verdicts(kind, layer),
                verdicts(kind, layer),
                "{}",
                kind.name
            );
        }
    }
}

#[test]
fn a_kind_that_can_make_something_wait_says_what_lifting_does() {
    for kind in KINDS {
        let waits = Layer::ALL.iter().flat_map(|l| verdicts(kind, *l)).any(|v| {
            matches!(
                v,
                Verdict::Hold(_)
                    | Verdict::Pace(_)
                    | Verdict::Await(..)
                    | Verdict::Capture
                    | Verdict::Discard(super::Then::Hang)
                    | Verdict::Again(_)
                    | Verdict::Handshake(super::Handshake::Stall)
            )
        });
        assert_eq!(waits, kind.lifted.is_some(), "{}", kind.name);
    }
}

#[test]
fn a_kind_with_directions_acts_in_both() {
    for kind in KINDS
        .iter()
        .filter(|k| !matches!(k.directions, Directions::Fixed(_)))
    {
        if !kind.acts_on(Layer::Stream) {
            let message = verdicts(kind, Layer::Message);
            assert!(!message.contains(&Verdict::Pass), "{}", kind.name);
            continue;
        }
        let stream = verdicts(kind, Layer::Stream);
        assert!(
            stream[1..3] != [Verdict::Pass, Verdict::Pass]
                && stream[3..5] != [Verdict::Pass, Verdict::Pass],
            "{}",
            kind.name
        );
    }
}

#[test]
fn arguments_survive_printing() {
    for kind in KINDS {
        for (name, arg) in &example(kind).0 {
            assert!(kind.param(name).is_some());
            assert!(!arg.to_json().is_null());
        }
    }
}
