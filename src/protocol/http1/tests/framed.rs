//! What passes: every way in which a message begins and ends.

use super::*;

/// Whole and byte by byte, requests must be seen like this, with nothing left over.
#[track_caller]
fn requests(bytes: &str, expected: &[Seen]) {
    let expected = Trace {
        seen: expected.to_vec(),
        stop: Stop::More,
        rest: Vec::new(),
    };
    assert_eq!(
        at_once(&mut RequestFramer::default(), bytes.as_bytes()),
        expected
    );
    assert_eq!(
        byte_by_byte(&mut RequestFramer::default(), bytes.as_bytes()),
        expected
    );
}

/// The same for answers to what was asked; `eof` is what the stream's end then means.
#[track_caller]
fn responses(asked: &[Asked], bytes: &str, expected: &[Seen], eof: Eof) {
    let expected = Trace {
        seen: expected.to_vec(),
        stop: Stop::More,
        rest: Vec::new(),
    };
    let mut watcher = answers(asked);
    assert_eq!(at_once(&mut watcher, bytes.as_bytes()), expected);
    assert_eq!(watcher.eof(0), eof);
    assert_eq!(
        byte_by_byte(&mut answers(asked), bytes.as_bytes()),
        expected
    );
}

/// Reads one request's head and looks at it.
fn look(bytes: &str, check: impl FnOnce(RequestHead<'_, '_>)) {
    match RequestFramer::default().next(bytes.as_bytes(), &mut scratch()) {
        Ok(Event::Head { head, .. }) => check(head),
        other => panic!("no head: {other:?}"),
    }
}

/// Reads one answer's head and looks at it.
fn look_at_answer(asked: Asked, bytes: &str, check: impl FnOnce(ResponseHead<'_, '_>)) {
    match ResponseFramer::default().next(bytes.as_bytes(), &mut scratch(), Some(asked)) {
        Ok(Event::Head { head, .. }) => check(head),
        other => panic!("no head: {other:?}"),
    }
}

#[test]
fn a_request_without_a_body_ends_with_its_head() {
    requests(
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &[head("GET / None"), Seen::End],
    );
    requests(
        "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        &[head("POST / None"), Seen::End],
    );
    // Whether a Host is missing is for the server to say (RFC 9112 section 3.2).
    requests("GET / HTTP/1.1\r\n\r\n", &[head("GET / None"), Seen::End]);
}

#[test]
fn a_length_counts_the_body_and_the_next_request_follows() {
    requests(
        "PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\n\r\n",
        &[
            head("PUT /a Length(5)"),
            content("hello"),
            Seen::End,
            head("GET /b None"),
            Seen::End,
        ],
    );
}

#[test]
fn a_length_may_have_leading_zeros_and_white_space_around_it() {
    requests(
        "PUT /a HTTP/1.1\r\nContent-Length: \t 0005 \t\r\n\r\nhello",
        &[head("PUT /a Length(5)"), content("hello"), Seen::End],
    );
}

#[test]
fn chunks_with_extensions_and_trailers_are_told_from_content() {
    requests(
        "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n\
         5;a=\"b;c\";d\r\nhello\r\n00A\r\n0123456789\r\n\
         0;last\r\nContent-Length: 3\r\nX-Sum:\t1\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
        &[
            head("POST / Chunked"),
            framing("5;a=\"b;c\";d\r\n"),
            content("hello"),
            framing("\r\n00A\r\n"),
            content("0123456789"),
            framing("\r\n0;last\r\nContent-Length: 3\r\nX-Sum:\t1\r\n\r\n"),
            Seen::End,
            head("GET /b None"),
            Seen::End,
        ],
    );
}

#[test]
fn an_extension_and_the_trailers_each_have_their_own_bound() {
    let extension = "x".repeat(MAX_CHUNK_LINE);
    let trailer = format!("X: {}", "x".repeat(MAX_HEAD - 6));
    let body = format!("0;{extension}\r\n{trailer}\r\n\r\n");
    requests(
        &format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
        &[head("POST / Chunked"), framing(&body), Seen::End],
    );
}

#[test]
fn empty_lines_before_a_request_are_part_of_its_head() {
    requests(
        "\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        &[head("GET / None"), Seen::End],
    );

    let mut framer = RequestFramer::default();
    let input = b"\r\nGET / HTTP/1.1\r\n\r\n";
    match framer.next(input, &mut scratch()) {
        Ok(Event::Head { len, .. }) => assert_eq!(len, input.len()),
        other => panic!("no head: {other:?}"),
    }
}

#[test]
fn targets_are_split_into_path_and_query() {
    let cases = [
        ("GET", "/a/b?c=d?e", "/a/b", Some("c=d?e")),
        ("GET", "/a?", "/a", Some("")),
        ("GET", "/go?to=http://x/y", "/go", Some("to=http://x/y")),
        ("GET", "http://x:80/a?b", "/a", Some("b")),
        ("GET", "http://x", "/", None),
        ("GET", "http://x?b", "/", Some("b")),
        ("OPTIONS", "*", "*", None),
        ("CONNECT", "x:443", "x:443", None),
        ("GET", "/caf\u{e9}", "/caf\u{e9}", None),
    ];
    for (method, target, path, query) in cases {
        look(
            &format!("{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n"),
            |head| {
                assert_eq!((head.method, head.target), (method, target));
                assert_eq!((head.path, head.query), (path, query), "{target}");
            },
        );
    }
}

#[test]
fn a_head_tells_what_the_fields_say() {
    look(
        "POST /a HTTP/1.1\r\nHOST: x\r\nconnection: foo , Close\r\nExpect: 100-Continue\r\n\
         X-Twice: 1\r\nx-twice:  2 \r\nContent-Length: 7\r\n\r\n",
        |head| {
            assert!(!head.keep_alive);
            assert!(head.expects_continue);
            assert!(head.has_body);
            assert!(!head.upgrade);
            assert_eq!(head.content_length, Some(7));
            assert_eq!(head.asked(), GET);
            assert_eq!(head.header("host"), Some(&b"x"[..]));
            assert_eq!(head.header("X-TWICE"), Some(&b"1"[..]));
            assert_eq!(head.header("absent"), None);
            assert_eq!(head.headers.len(), 6);
            assert_eq!(head.headers[4].value, b"2");
        },
    );
    look_at_answer(
        GET,
        "HTTP/1.1 404\r\nX: y\r\nContent-Length: 3\r\n\r\n",
        |head| {
            assert_eq!((head.status, head.reason, head.version_minor), (404, "", 1));
            assert_eq!(head.header("x"), Some(&b"y"[..]));
            assert_eq!((head.body, head.content_length), (Body::Length(3), Some(3)));
            assert!(head.keep_alive && !head.interim);
        },
    );
}

#[test]
fn keep_alive_is_the_default_of_http_1_1_and_a_choice_in_1_0() {
    let cases = [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        (
            "1.1",
            "Connection: keep-alive\r\nConnection: close\r\n",
            false,
        ),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ];
    for (version, fields, keep_alive) in cases {
        look(&format!("GET / HTTP/{version}\r\n{fields}\r\n"), |head| {
            assert_eq!(head.keep_alive, keep_alive, "{version} {fields}");
        });
        let answer = format!("HTTP/{version} 200 OK\r\n{fields}Content-Length: 0\r\n\r\n");
        look_at_answer(GET, &answer, |head| {
            assert_eq!(head.keep_alive, keep_alive, "{version} {fields}");
        });
    }
}

#[test]
fn http_1_0_knows_neither_upgrade_nor_continue() {
    look(
        "GET / HTTP/1.0\r\nUpgrade: x\r\nExpect: 100-continue\r\n\r\n",
        |head| {
            assert!(!head.upgrade && !head.expects_continue);
        },
    );
}

#[test]
fn answers_without_a_body_end_with_their_head_whatever_they_announce() {
    responses(
        &[HEAD, GET, GET, HEAD],
        "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n\
         HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n\
         HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n\
         HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        &[
            head("200 None"),
            Seen::End,
            head("304 None"),
            Seen::End,
            head("204 None"),
            Seen::End,
            head("200 None"),
            Seen::End,
        ],
        Eof::Clean,
    );
}

#[test]
fn answers_follow_each_other() {
    responses(
        &[GET, GET, GET],
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\
         HTTP/1.1 500 Oh\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n\
         HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        &[
            head("200 Length(2)"),
            content("ok"),
            Seen::End,
            head("500 Chunked"),
            framing("1\r\n"),
            content("x"),
            framing("\r\n0\r\n\r\n"),
            Seen::End,
            head("200 None"),
            Seen::End,
        ],
        Eof::Clean,
    );
}

#[test]
fn interim_answers_have_no_end_of_their_own() {
    responses(
        &[GET],
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        &[
            head("100 None"),
            head("103 None"),
            head("200 Length(2)"),
            content("ok"),
            Seen::End,
        ],
        Eof::Clean,
    );
    look_at_answer(GET, "HTTP/1.1 100 Continue\r\n\r\n", |head| {
        assert!(head.interim)
    });
}

#[test]
fn a_body_without_a_length_lasts_until_close() {
    for fields in ["", "Transfer-Encoding: gzip\r\n"] {
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\nHTTP/1.1 200 OK\r\n\r\n");
        responses(
            &[GET],
            &text,
            &[head("200 UntilClose"), content("HTTP/1.1 200 OK\r\n\r\n")],
            Eof::EndsMessage,
        );
        look_at_answer(GET, &text, |head| assert!(!head.keep_alive));
    }
}

#[test]
fn a_declined_switch_is_an_answer_like_any_other() {
    let text = "HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno";
    for asked in [CONNECT, UPGRADE] {
        responses(
            &[asked],
            text,
            &[head("407 Length(2)"), content("no"), Seen::End],
            Eof::Clean,
        );
    }
}

#[test]
fn many_requests_in_one_read_are_all_seen() {
    let one = "GET /index.html?a=b HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: wrk\r\n\
               Accept: */*\r\n\r\n";
    let many = one.repeat(20_000);
    let (mut framer, mut scratch) = (RequestFramer::default(), scratch());
    let (mut pos, mut heads, mut ends) = (0, 0, 0);
    loop {
        match framer.next(&many.as_bytes()[pos..], &mut scratch) {
            Ok(Event::Head { len, .. }) => {
                pos += len;
                heads += 1;
            }
            Ok(Event::End) => ends += 1,
            Ok(Event::More) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((pos, heads, ends), (many.len(), 20_000, 20_000));
}
