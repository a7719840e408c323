//! Laws over generated streams: how bytes are cut into reads changes nothing, and no bytes do harm.

use proptest::{collection::vec, prelude::*, sample};

use super::*;

/// The bytes of some messages, and what must be seen of them.
#[derive(Debug, Clone, Default)]
struct Stream {
    bytes: Vec<u8>,
    seen: Vec<Seen>,
    asked: Vec<Asked>,
}

#[derive(Debug, Clone)]
enum Shape {
    Empty,
    Length(Vec<u8>),
    Chunks(Vec<Chunk>, String),
}

#[derive(Debug, Clone)]
struct Chunk {
    extension: &'static str,
    data: Vec<u8>,
}

impl Stream {
    fn message(&mut self, start: &str, words: &str, fields: &str, shape: &Shape) {
        self.bytes
            .extend_from_slice(format!("{start}\r\n{fields}").as_bytes());
        match shape {
            Shape::Length(body) if !body.is_empty() => {
                let length = body.len();
                let field = format!("Content-Length: {length}\r\n\r\n");
                self.bytes.extend_from_slice(field.as_bytes());
                self.seen.push(head(&format!("{words} Length({length})")));
                self.body(body, true);
            }
            Shape::Empty | Shape::Length(_) => {
                self.bytes.extend_from_slice(b"Content-Length: 0\r\n\r\n");
                self.seen.push(head(&format!("{words} None")));
            }
            Shape::Chunks(chunks, trailers) => {
                self.bytes
                    .extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                self.seen.push(head(&format!("{words} Chunked")));
                for Chunk { extension, data } in chunks {
                    self.body(format!("{:x}{extension}\r\n", data.len()).as_bytes(), false);
                    self.body(data, true);
                    self.body(b"\r\n", false);
                }
                self.body(format!("0\r\n{trailers}\r\n").as_bytes(), false);
            }
        }
        self.seen.push(Seen::End);
    }

    fn body(&mut self, bytes: &[u8], content: bool) {
        self.bytes.extend_from_slice(bytes);
        note(&mut self.seen, bytes, content);
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    // Bodies that look like HTTP: a framer that loses count would take them for it.
    let data = || {
        prop_oneof![
            vec(any::<u8>(), 1..40),
            Just(b"\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n".to_vec()),
        ]
    };
    let extension = sample::select(vec!["", ";a", ";a=b", ";a=\"b;c\"", "; a = b "]);
    let chunk = (extension, data()).prop_map(|(extension, data)| Chunk { extension, data });
    prop_oneof![
        Just(Shape::Empty),
        data().prop_map(Shape::Length),
        (vec(chunk, 0..4), fields()).prop_map(|(chunks, trailers)| Shape::Chunks(chunks, trailers)),
    ]
}

fn fields() -> impl Strategy<Value = String> {
    vec(("[A-Za-z][a-z-]{0,6}", "[ -~]{0,10}"), 0..4).prop_map(|fields| {
        // A name that could not be one of framing.
        fields
            .iter()
            .map(|(name, value)| format!("X-{name}: {value}\r\n"))
            .collect()
    })
}

fn requests() -> impl Strategy<Value = Stream> {
    let request = (
        "(\r\n){0,2}",
        "[A-Z]{1,7}",
        "/[!-~]{0,12}",
        fields(),
        shape(),
    )
        .prop_filter("held", |(_, method, ..)| method != "CONNECT");
    vec(request, 1..5).prop_map(|requests| {
        let mut stream = Stream::default();
        for (lead, method, target, fields, shape) in requests {
            let start = format!("{lead}{method} {target} HTTP/1.1");
            stream.message(&start, &format!("{method} {target}"), &fields, &shape);
        }
        stream
    })
}

fn responses() -> impl Strategy<Value = Stream> {
    let interim = sample::select(vec![0, 0, 100, 103]);
    let status = sample::select(vec![200u16, 201, 302, 404, 500, 599]);
    let response = (interim, status, any::<bool>(), fields(), shape());
    vec(response, 1..5).prop_map(|responses| {
        let mut stream = Stream::default();
        for (interim, status, to_head, fields, shape) in responses {
            if interim > 0 {
                let head = format!("HTTP/1.1 {interim} Wait\r\n{fields}\r\n");
                stream.bytes.extend_from_slice(head.as_bytes());
                stream.seen.push(Seen::Head(format!("{interim} None")));
            }
            if to_head {
                let head = format!("HTTP/1.1 {status} OK\r\n{fields}Content-Length: 7\r\n\r\n");
                stream.bytes.extend_from_slice(head.as_bytes());
                stream
                    .seen
                    .extend([Seen::Head(format!("{status} None")), Seen::End]);
                stream.asked.push(HEAD);
            } else {
                let start = format!("HTTP/1.1 {status} OK");
                stream.message(&start, &status.to_string(), &fields, &shape);
                stream.asked.push(GET);
            }
        }
        stream
    })
}

/// Pieces that make and break messages: strung together they come further than noise does.
fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<&[u8]> = vec![
        b"GET / HTTP/1.1\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n",
        b"POST /a?b HTTP/1.0\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 204 No\r\n",
        b"HTTP/1.1 100 Continue\r\n",
        b"HTTP/1.1 101 Switch\r\n",
        b"Host: x\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Connection: close\r\n",
        b"Upgrade: x\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b"5;x=y\r\n",
        b"abc",
        b"\n",
        b"\r",
        b" ",
        b":",
        b"\0",
    ];
    let fragment = prop_oneof![
        8 => sample::select(known).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..6),
    ];
    prop_oneof![
        4 => vec(fragment, 0..16).prop_map(|fragments| fragments.concat()),
        1 => vec(any::<u8>(), 0..64),
    ]
}

fn cut<'a>(bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![Just(1), 1usize..8, 1usize..80], 1..8)
}

/// What was announced of framing before a refusal depends on the reads; nothing else may.
fn settled(mut trace: Trace) -> (Vec<Seen>, Stop, Option<Vec<u8>>) {
    if let Stop::Refused(_) = trace.stop {
        trace.seen.pop_if(|last| matches!(last, Seen::Framing(_)));
        return (trace.seen, trace.stop, None);
    }
    (trace.seen, trace.stop, Some(trace.rest))
}

/// Any cut of any bytes says the same as all at once.
fn same_however_cut<W: Watch>(
    new: impl Fn() -> W,
    bytes: &[u8],
    sizes: &[usize],
) -> Result<(), TestCaseError> {
    let whole = settled(at_once(&mut new(), bytes));
    prop_assert_eq!(&settled(watch(&mut new(), cut(bytes, sizes))), &whole);
    prop_assert_eq!(&settled(byte_by_byte(&mut new(), bytes)), &whole);
    Ok(())
}

proptest! {
    #[test]
    fn valid_requests_are_seen_as_they_were_made(stream in requests(), sizes in sizes()) {
        for sizes in [&sizes[..], &[1], &[usize::MAX]] {
            let trace = watch(&mut RequestFramer::default(), cut(&stream.bytes, sizes));
            prop_assert_eq!(&trace.seen, &stream.seen);
            prop_assert_eq!((trace.stop, trace.rest.len()), (Stop::More, 0));
        }
    }

    #[test]
    fn valid_answers_are_seen_as_they_were_made(stream in responses(), sizes in sizes()) {
        for sizes in [&sizes[..], &[1], &[usize::MAX]] {
            let trace = watch(&mut answers(&stream.asked), cut(&stream.bytes, sizes));
            prop_assert_eq!(&trace.seen, &stream.seen);
            prop_assert_eq!((trace.stop, trace.rest.len()), (Stop::More, 0));
        }
    }

    /// `watch` checks the lengths; what is left over is bounded, so a caller's buffer is too.
    #[test]
    fn no_request_bytes_do_harm(bytes in fragments(), sizes in sizes()) {
        same_however_cut(RequestFramer::default, &bytes, &sizes)?;
    }

    #[test]
    fn no_answer_bytes_do_harm(
        bytes in fragments(),
        sizes in sizes(),
        asked in vec(sample::select(vec![GET, HEAD, CONNECT, UPGRADE]), 0..6),
    ) {
        same_however_cut(|| answers(&asked), &bytes, &sizes)?;
    }

    /// One byte of a valid stream changed: read alike however cut, or refused alike.
    #[test]
    fn one_wrong_byte_does_no_harm(
        stream in requests(),
        at in any::<sample::Index>(),
        byte in any::<u8>(),
        sizes in sizes(),
    ) {
        let mut bytes = stream.bytes;
        let at = at.index(bytes.len());
        bytes[at] = byte;
        same_however_cut(RequestFramer::default, &bytes, &sizes)?;
    }

    /// A head that never ends is given up: more than `MAX_HEAD` bytes are never left over.
    #[test]
    fn what_is_left_over_is_bounded(extra in 0..1000usize, size in 500..9000usize) {
        let mut bytes = b"GET / HTTP/1.1\r\n".to_vec();
        bytes.resize(MAX_HEAD + extra, b'x');
        let mut framer = RequestFramer::default();
        let mut given = 0;
        let mut refused = false;
        for piece in bytes.chunks(size) {
            given += piece.len();
            refused = framer.next(&bytes[..given], &mut scratch()).is_err();
            prop_assert_eq!(refused, given >= MAX_HEAD);
        }
        prop_assert!(refused);
    }
}
