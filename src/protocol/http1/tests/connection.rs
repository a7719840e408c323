//! What outlives a message: switches of protocol, the end of the stream, the framer's own state.

use super::*;

#[test]
fn a_switch_of_protocols_opens_a_tunnel() {
    let cases = [
        (
            UPGRADE,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
            "101 Tunnel",
        ),
        (
            UPGRADE,
            "HTTP/1.1 101 Switching Protocols\r\nContent-Length: 0\r\n\r\n",
            "101 Tunnel",
        ),
        (CONNECT, "HTTP/1.1 200 Connected\r\n\r\n", "200 Tunnel"),
        (CONNECT, "HTTP/1.1 204 Connected\r\n\r\n", "204 Tunnel"),
    ];
    for (asked, answer, words) in cases {
        let text = format!("{answer}\x16\x03opaque");
        for trace in [
            at_once(&mut answers(&[asked]), text.as_bytes()),
            byte_by_byte(&mut answers(&[asked]), text.as_bytes()),
        ] {
            assert_eq!(trace.seen, [head(words), Seen::End]);
            assert_eq!(
                (trace.stop, &trace.rest[..]),
                (Stop::Tunnel, &b"\x16\x03opaque"[..])
            );
        }
    }
}

#[test]
fn what_follows_a_request_to_switch_is_held_until_the_answer_is_known() {
    for request in [
        "CONNECT x:1 HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "PUT / HTTP/1.1\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi",
    ] {
        let next = "GET /b HTTP/1.1\r\n\r\n";
        let text = format!("{request}{next}");
        let held = || {
            let mut framer = RequestFramer::default();
            let trace = byte_by_byte(&mut framer, text.as_bytes());
            assert_eq!(
                (trace.stop, trace.rest),
                (Stop::Held, next.as_bytes().to_vec())
            );
            assert_eq!(trace.seen.last(), Some(&Seen::End));
            assert_eq!(
                (framer.eof(0), framer.eof(next.len())),
                (Eof::Clean, Eof::Undecided)
            );
            assert!(!framer.is_idle());
            framer
        };

        let mut framer = held();
        framer.stay();
        assert!(framer.is_idle());
        assert_eq!(
            at_once(&mut framer, next.as_bytes()).seen,
            [head("GET /b None"), Seen::End]
        );

        let mut framer = held();
        framer.tunnel();
        let trace = at_once(&mut framer, next.as_bytes());
        assert_eq!(
            (trace.stop, trace.rest),
            (Stop::Tunnel, next.as_bytes().to_vec())
        );
        assert_eq!(framer.eof(next.len()), Eof::Clean);
    }
}

#[test]
fn an_answer_may_decide_before_the_request_is_whole() {
    let text = "PUT / HTTP/1.1\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\nab";

    let mut framer = RequestFramer::default();
    at_once(&mut framer, text.as_bytes());
    framer.tunnel();
    let trace = at_once(&mut framer, b"cdPRI");
    assert_eq!(trace.seen, [content("cd"), Seen::End]);
    assert_eq!((trace.stop, &trace.rest[..]), (Stop::Tunnel, &b"PRI"[..]));

    let mut framer = RequestFramer::default();
    at_once(&mut framer, text.as_bytes());
    framer.stay();
    let trace = at_once(&mut framer, b"cdGET / HTTP/1.1\r\n\r\n");
    assert_eq!(
        trace.seen,
        [content("cd"), Seen::End, head("GET / None"), Seen::End]
    );
}

#[test]
fn the_caller_has_the_last_word_on_a_switch() {
    let mut framer = RequestFramer::default();
    framer.stay();
    assert!(framer.is_idle());
    framer.tunnel();
    let trace = at_once(&mut framer, b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!((trace.seen, trace.stop), (vec![], Stop::Tunnel));
}

#[test]
fn the_end_of_the_stream_is_judged_by_what_is_missing() {
    let requests = [
        ("", Eof::Clean),
        ("\r\n", Eof::Clean),
        ("G", Eof::Truncated),
        ("GET / HTTP/1.1\r\n", Eof::Truncated),
        ("GET / HTTP/1.1\r\n\r\n", Eof::Clean),
        ("GET / HTTP/1.1\r\n\r\n\r\n", Eof::Clean),
        (
            "GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\n",
            Eof::Truncated,
        ),
        (
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            Eof::Truncated,
        ),
        (
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Eof::Clean,
        ),
        ("\0", Eof::Truncated),
    ];
    for (text, eof) in requests {
        let mut framer = RequestFramer::default();
        let rest = at_once(&mut framer, text.as_bytes()).rest;
        assert_eq!(framer.eof(rest.len()), eof, "{text:?}");
    }
    let responses = [
        ("", Eof::Clean),
        ("HTTP/1.1 2", Eof::Truncated),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n",
            Eof::Truncated,
        ),
        ("HTTP/1.1 200 OK\r\n\r\n", Eof::EndsMessage),
    ];
    for (text, eof) in responses {
        let mut watcher = answers(&[GET]);
        let rest = at_once(&mut watcher, text.as_bytes()).rest;
        assert_eq!(watcher.eof(rest.len()), eof, "{text:?}");
    }
}

#[test]
fn idle_means_between_messages() {
    let mut framer = RequestFramer::default();
    let text = b"GET / HTTP/1.1\r\n\r\n";
    assert!(framer.is_idle());
    at_once(&mut framer, &text[..3]);
    assert!(!framer.is_idle());
    at_once(&mut framer, text);
    assert!(framer.is_idle());
    at_once(&mut framer, b"\r\n");
    assert!(framer.is_idle(), "an empty line is no request");

    let mut watcher = answers(&[GET]);
    assert!(watcher.framer.is_idle());
    at_once(
        &mut watcher,
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n",
    );
    assert!(!watcher.framer.is_idle());
    at_once(&mut watcher, b"x");
    assert!(watcher.framer.is_idle());
}

#[test]
fn a_framer_is_small_and_owns_no_heap() {
    assert!(size_of::<RequestFramer>() <= 40);
    assert!(size_of::<ResponseFramer>() <= 40);
    assert!(!std::mem::needs_drop::<RequestFramer>());
    assert!(!std::mem::needs_drop::<ResponseFramer>());
}

#[test]
fn bytes_already_searched_are_not_searched_again() {
    let mut scan = Scan::default();
    let text = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(scan.find(&text[..20], Side::Request), Ok(None));
    // Line feeds that would be refused, if anyone looked at them.
    let mut changed = *text;
    changed[3..18].fill(b'\n');
    assert_eq!(scan.find(&changed, Side::Request), Ok(Some(0..text.len())));
}

#[test]
fn other_bytes_than_last_time_do_no_harm() {
    let mut framer = RequestFramer::default();
    at_once(&mut framer, b"GET / HTTP/1.1\r\nHost: a-long-name\r\n");
    let trace = at_once(&mut framer, b"GET /b HTTP/1.1\r\n\r\n");
    assert_eq!(trace.seen, [head("GET /b None"), Seen::End]);
}
